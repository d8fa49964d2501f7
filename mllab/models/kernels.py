r"""Kernels: inner products of inputs that were mapped to a space of more dimensions, without going there.

    $$ k_\mathrm{linear}(x, y) = x^\top y, \quad
       k_\mathrm{polynomial}(x, y) = (\gamma\, x^\top y + c_0)^d, \quad
       k_\mathrm{rbf}(x, y) = \exp(-\gamma \lVert x - y \rVert^2) $$

Each is a function `shape` of one `product` of two sets of points, so that kernels which differ only in their hypers
share the product. Hypers are `gamma`, `degree` and `coef0` ($d$ and $c_0$), as far as a kernel reads them; all may be
traced.

For more rows than a kernel matrix has memory for, `nystroem` approximates the map itself: with landmarks z,
$\phi(x) = K_{zz}^{-1/2} k_z(x)$, and $\phi(x)^\top \phi(y) \approx k(x, y)$, exact where x or y is a landmark. A linear
model of these features is a kernel model of the inputs.

Sources: Schölkopf and Smola, *Learning with Kernels* (2002), chapter 2; Williams and Seeger, *Using the Nyström method
to speed up kernel machines* (2001), equations 7 to 9.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from mllab.errors import UserError, unknown
from mllab.types import Array, Hyper, Key

BYTES = 2 * 2**30  # the greatest kernel matrix that is formed whole
BLOCK_BYTES = 64 * 2**20  # what a block of rows may take where the matrix is not formed whole
SAMPLE = 15  # rows whose median the points are centred by


def linear(x: Array, y: Array, hyper: Hyper) -> Array:
    """Return the inner products [M, N] of points x [M, D] and y [N, D]; no hyper is read."""
    return _shaped("linear", x, y, hyper)


def polynomial(x: Array, y: Array, hyper: Hyper) -> Array:
    """Return (gamma x.y + coef0)^degree [M, N] of points x [M, D] and y [N, D]; `degree` is a whole number."""
    return _shaped("polynomial", x, y, hyper)


def rbf(x: Array, y: Array, hyper: Hyper) -> Array:
    """Return exp(-gamma |x - y|²) [M, N] of points x [M, D] and y [N, D]."""
    return _shaped("rbf", x, y, hyper)


KERNELS: Mapping[str, Callable[[Array, Array, Hyper], Array]] = {
    "linear": linear,
    "polynomial": polynomial,
    "rbf": rbf,
}


def inner_products(x: Array, y: Array) -> Array:
    """Return x.y [M, N]."""
    # A TPU's and a GPU's default product keeps 8 to 11 bits.
    return jnp.matmul(x, y.T, precision="highest")


def square_distances(x: Array, y: Array) -> Array:
    """Return |x - y|² [M, N].

    Points are centred for the product: its rounding is relative to the norms, not to the distances, and an offset
    common to all would drown them. The centre is a median, which a few points far away do not move.
    """
    sample = y[jnp.linspace(0, len(y) - 1, SAMPLE).astype(int)]
    centre = jnp.sort(sample, axis=0)[SAMPLE // 2][None]
    x, y = x - centre, y - centre
    squares = jnp.sum(x**2, axis=1)[:, None] + jnp.sum(y**2, axis=1)[None] - 2 * inner_products(x, y)
    return jnp.maximum(squares, 0)


class Parts(NamedTuple):
    """A kernel in two steps: `shape(product(x, y), hyper)`."""

    product: Callable[[Array, Array], Array]  # [M, N] of points [M, D] and [N, D]; the costly step
    shape: Callable[[Array, Hyper], Array]  # entry by entry
    reads: tuple[str, ...]  # the hypers


PARTS: Mapping[str, Parts] = {
    "linear": Parts(inner_products, lambda product, hyper: product, ()),
    "polynomial": Parts(
        inner_products,
        lambda product, hyper: (hyper["gamma"] * product + hyper["coef0"]) ** hyper["degree"],
        ("gamma", "degree", "coef0"),
    ),
    "rbf": Parts(square_distances, lambda product, hyper: jnp.exp(-hyper["gamma"] * product), ("gamma",)),
}


def parts(kernel: str) -> Parts:
    """Return the steps of the kernel of that name.

    Raises:
        UserError: there is none of that name.
    """
    if kernel not in PARTS:
        raise unknown("kernel", kernel, PARTS)
    return PARTS[kernel]


def _shaped(kernel: str, x: Array, y: Array, hyper: Hyper) -> Array:
    return PARTS[kernel].shape(PARTS[kernel].product(x, y), hyper)


def gamma_scale(inputs: Array, weight: Array | None = None) -> Array:
    """Return 1 / (D × variance of all entries of inputs [N, D]): scikit-learn's `gamma="scale"`, for a start.

    Rows of weight 0 are as if absent; inputs that do not vary give 1.
    """
    present = jnp.ones(len(inputs), bool) if weight is None else weight > 0
    where = present[:, None] & jnp.ones(inputs.shape, bool)
    variance = jnp.var(inputs, where=where)
    return jnp.where(variance > 0, 1 / (inputs.shape[1] * variance), 1)


def check_memory(rows: int, itemsize: int = 4) -> None:
    """Raise where the kernel matrix of so many rows is greater than `BYTES`.

    Raises:
        UserError: it is.
    """
    if rows * rows * itemsize > BYTES:
        raise UserError(
            f"the kernel matrix of {rows} rows takes {rows * rows * itemsize / 2**30:.1f} GiB of {BYTES / 2**30:.1f}: "
            f"give {int((BYTES / itemsize) ** 0.5)} rows or fewer, or fit a linear model to kernels.nystroem's features"
        )


def blocks_of(rows: int, row_bytes: int) -> int:
    """Return how many rows at once stay within `BLOCK_BYTES`: blocks filled alike, of one row at least."""
    count = -(-rows * row_bytes // BLOCK_BYTES)
    return max(1, -(-rows // max(1, count)))


@struct.dataclass
class Nystroem:
    """The map of a kernel, as far as the landmarks span its space."""

    landmarks: Array  # [H, D]
    root: Array  # [H, H] inverse square root of their kernel matrix
    hyper: dict[str, Array]
    kernel: str = struct.field(pytree_node=False)


def nystroem(key: Key, inputs: Array, kernel: str, hyper: Hyper, count: int) -> Nystroem:
    """Return the map whose landmarks are `count` of the rows, drawn without replacement.

    Directions in which the landmarks do not vary, as far as rounding tells, are left out: duplicates do no harm.

    Args:
        key: of the draw.
        inputs: [N, D].
        kernel: a name in `KERNELS`.
        hyper: what the kernel reads.
        count: how many features H; more are closer to the kernel.

    Raises:
        UserError: an unknown kernel, or a count that is not in 1..N.
    """
    product, shape, _ = parts(kernel)
    if not 1 <= count <= len(inputs):
        raise UserError(f"count = {count} landmarks of {len(inputs)} rows: give 1 to {len(inputs)}")
    check_memory(count)
    inputs = jnp.asarray(inputs, jnp.result_type(inputs, float))
    landmarks = jax.random.choice(key, inputs, (count,), replace=False)
    return Nystroem(landmarks, _inverse_root(shape(product(landmarks, landmarks), hyper)), dict(hyper), kernel)


def features(params: Nystroem, inputs: Array) -> Array:
    """Return features [M, H] of inputs [M, D], a block of rows at a time."""
    inputs = jnp.asarray(inputs, params.landmarks.dtype)
    return _features(params, inputs, blocks_of(len(inputs), params.landmarks.nbytes // params.landmarks.shape[1]))


@partial(jax.jit, static_argnames="block")
def _features(params: Nystroem, inputs: Array, block: int) -> Array:
    def of(rows: Array) -> Array:
        values = KERNELS[params.kernel](rows, params.landmarks, params.hyper)
        return jnp.matmul(values, params.root, precision="highest")

    return in_blocks(of, inputs, block)


def in_blocks(function: Callable[[Array], Array], rows: Array, size: int) -> Array:
    """Return `function(rows [M, ...])`, which works row by row, computed on `size` rows at a time."""
    padded = jnp.pad(rows, ((0, -len(rows) % size), *((0, 0) for _ in rows.shape[1:])))
    out = jax.lax.map(function, padded.reshape(-1, size, *rows.shape[1:]))
    return out.reshape(-1, *out.shape[2:])[: len(rows)]


def _inverse_root(matrix: Array) -> Array:
    """Return the inverse square root of a symmetric, positive semidefinite matrix [H, H], on the space it spans."""
    values, vectors = jnp.linalg.eigh(matrix)
    least = len(matrix) * jnp.finfo(matrix.dtype).eps * values[-1]
    scale = jnp.where(values > least, 1 / jnp.sqrt(jnp.maximum(values, least)), 0)
    return jnp.matmul(vectors * scale[None], vectors.T, precision="highest")
