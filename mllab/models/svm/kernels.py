r"""Kernels: inner products in feature spaces, computed from the inputs.

    $$ k_\mathrm{linear}(x, y) = x^\top y, \quad
       k_\mathrm{polynomial}(x, y) = (\gamma\, x^\top y + c_0)^d, \quad
       k_\mathrm{rbf}(x, y) = \exp(-\gamma \lVert x - y \rVert^2) $$

Each is an elementwise function `shape` of one `product` of two sets of points, so that kernels which differ only in
their hyperparameters share the product. These are `gamma`, `degree` and `coef0` ($d$ and $c_0$); all may be traced.

Where a kernel matrix would not fit in memory, `nystroem` approximates the feature map: with landmarks z,
$\phi(x) = K_{zz}^{-1/2} k_z(x)$, and $\phi(x)^\top \phi(y) \approx k(x, y)$, exact where x or y is a landmark. A linear
model of these features approximates a kernel model of the inputs.

Sources: Schölkopf and Smola, *Learning with Kernels* (2002), chapter 2; Williams and Seeger, *Using the Nyström method
to speed up kernel machines* (2001), equations 7 to 9.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from mllab import checks
from mllab.errors import UserError, unknown
from mllab.models.ops import factorization
from mllab.row_blocks import even_size, map_rows, sampled_median
from mllab.types import Array, Hyper, Key, is_concrete

MAX_BYTES = 2 * 2**30  # of a whole kernel matrix
BLOCK_BYTES = 64 * 2**20  # of a block of its rows, where the whole matrix is not needed


def inner_products(x: Array, y: Array) -> Array:
    """Return x.y [M, N]."""
    # A TPU's and a GPU's default product keeps 8 to 11 bits.
    return jnp.matmul(x, y.T, precision="highest")


def square_distances(x: Array, y: Array) -> Array:
    """Return |x - y|² [M, N].

    Points are centred first: the rounding of the product is relative to the norms, not to the distances. The centre is
    a median, which a few distant points do not move.
    """
    centre = sampled_median(y)[None]
    x, y = x - centre, y - centre
    squares = jnp.sum(x**2, axis=1)[:, None] + jnp.sum(y**2, axis=1)[None] - 2 * inner_products(x, y)
    return jnp.maximum(squares, 0)


@dataclass(frozen=True)
class Kernel:
    """A kernel in two steps, `shape(product(x, y), hyper)`: [M, N] of points x [M, D] and y [N, D]."""

    product: Callable[[Array, Array], Array]  # [M, N]; the expensive step
    shape: Callable[[Array, Hyper], Array]  # elementwise
    reads: tuple[str, ...]  # names of the hyperparameters

    def __call__(self, x: Array, y: Array, hyper: Hyper) -> Array:
        """Return the matrix [M, N]."""
        return self.shape(self.product(x, y), hyper)


KERNELS: Mapping[str, Kernel] = {
    "linear": Kernel(inner_products, lambda product, hyper: product, ()),
    "polynomial": Kernel(  # (gamma x.y + coef0)^degree, whose degree is a whole number
        inner_products,
        lambda product, hyper: (hyper["gamma"] * product + hyper["coef0"]) ** hyper["degree"],
        ("gamma", "degree", "coef0"),
    ),
    "rbf": Kernel(square_distances, lambda product, hyper: jnp.exp(-hyper["gamma"] * product), ("gamma",)),
}
linear, polynomial, rbf = KERNELS["linear"], KERNELS["polynomial"], KERNELS["rbf"]


def named(kernel: str) -> Kernel:
    """Return the kernel of this name.

    Raises:
        UserError: an unknown kernel.
    """
    if kernel not in KERNELS:
        raise unknown("kernel", kernel, KERNELS)
    return KERNELS[kernel]


def origin(inputs: Array, kernel: str) -> Array:
    """Return what is subtracted from inputs [N, D] before products, [D]: the mean for the linear kernel, else 0.

    In a support vector machine the coefficients sum to 0, so an origin leaves the linear kernel's dual as it is and
    only reduces rounding. The RBF kernel centres its own product; the polynomial kernel depends on the origin.
    """
    return jnp.mean(inputs, axis=0) if kernel == "linear" else jnp.zeros(inputs.shape[1], inputs.dtype)


def gamma_scale(inputs: Array, weight: Array | None = None) -> Array:
    """Return 1 / (D × variance of all entries of inputs [N, D]), the default of scikit-learn (`gamma="scale"`).

    Rows of weight 0 are ignored; constant inputs give 1.

    Raises:
        UserError: inputs of another shape or not finite, or weights that do not match or are negative.
    """
    inputs = checks.check_array(inputs, ("N", "D"), "inputs")
    present = checks.check_weight(weight, len(inputs), inputs.dtype) > 0
    where = present[:, None] & jnp.ones(inputs.shape, bool)
    variance = jnp.var(inputs, where=where)
    return jnp.where(variance > 0, 1 / (inputs.shape[1] * variance), 1)


def hyper_of(kernel: str, numbers: Hyper, inputs: Array, weight: Array | None = None) -> dict[str, Array]:
    """Return those of the numbers that the kernel reads, as arrays; a gamma of None becomes `gamma_scale`.

    Args:
        kernel: a name in `KERNELS`.
        numbers: gamma, degree and coef0.
        inputs: [N, D].
        weight: [N]; rows of weight 0 are ignored.

    Raises:
        UserError: an unknown kernel, or a number out of range.
    """
    reads = named(kernel).reads
    hyper = {name: numbers[name] for name in reads}
    for name, value in hyper.items():
        if value is not None:
            checks.check_shape(value, (), name)
    if hyper.get("gamma") is not None:
        checks.check_positive(gamma=hyper["gamma"])
    elif "gamma" in reads:
        hyper["gamma"] = gamma_scale(inputs, weight)
    if "degree" in reads:
        checks.check_at_least(1, degree=hyper["degree"])
        if is_concrete(hyper["degree"]) and np.any(np.asarray(hyper["degree"]) % 1):
            raise UserError(f"degree = {hyper['degree']}: expected whole numbers")
    return {name: jnp.asarray(value, inputs.dtype) for name, value in hyper.items()}


def check_memory(rows: int, itemsize: int = 4) -> None:
    """Raise UserError if the kernel matrix of `rows` rows takes more than `MAX_BYTES`."""
    size, limit = rows * rows * itemsize, int((MAX_BYTES / itemsize) ** 0.5)
    if size > MAX_BYTES:
        raise UserError(
            f"the kernel matrix of {rows} rows takes {size / 2**30:.1f} GiB of {MAX_BYTES / 2**30:.1f}: give {limit} "
            "rows or fewer, or fit a linear model to the features of kernels.nystroem"
        )


@partial(jax.jit, static_argnames=("kernel", "block_rows"))
def expansion(
    kernel: str,
    hyper: Hyper,
    inputs: Array,
    coefficients: Array,
    bias: Array,
    queries: Array,
    origin: Array | None = None,
    block_rows: int | None = None,
) -> Array:
    r"""Return the values [M, P] of functions $\sum_i a_i k(x_i, q) + b$ at the queries.

    Args:
        kernel: a name in `KERNELS`.
        hyper: hyperparameters of the kernel.
        inputs: x less the origin, [N, D].
        coefficients: a of each function, [P, N].
        bias: b, [P].
        queries: q, [M, D].
        origin: subtracted from the queries, [D].
        block_rows: queries that are processed at once (default: what `BLOCK_BYTES` holds).
    """
    block_rows = block_rows or even_size(len(queries), BLOCK_BYTES // (4 * inputs.dtype.itemsize * len(inputs)))

    def block(rows: Array) -> Array:
        values = KERNELS[kernel](rows if origin is None else rows - origin[None], inputs, hyper)
        return jnp.matmul(values, coefficients.T, precision="highest") + bias[None]

    return map_rows(block, queries, block_rows)


@struct.dataclass
class Nystroem:
    """The feature map of a kernel, projected onto the span of the landmarks."""

    landmarks: Array  # [H, D]
    root: Array  # [H, H] inverse square root of their kernel matrix
    hyper: dict[str, Array]
    kernel: str = struct.field(pytree_node=False)


def nystroem(key: Key, inputs: Array, kernel: str, hyper: Hyper, count: int) -> Nystroem:
    """Return the feature map whose landmarks are `count` of the rows, drawn without replacement.

    Directions in which the landmarks do not vary beyond rounding are dropped, so duplicate rows do no harm.

    Args:
        key: for the draw.
        inputs: [N, D].
        kernel: a name in `KERNELS`.
        hyper: hyperparameters of the kernel.
        count: H, the number of features; the more, the closer to the kernel.

    Raises:
        UserError: an unknown kernel, inputs of another shape or not finite, or a count that is not in 1..N.
    """
    of_points = named(kernel)
    inputs = checks.check_array(inputs, ("N", "D"), "inputs")
    checks.check_count("count", count, np.ones(len(inputs)), "rows")
    checks.check_key(key)
    for name in of_points.reads:
        if name not in hyper:
            raise UserError(f"hyper {name!r} is missing: the {kernel} kernel reads {', '.join(of_points.reads)}")
    check_memory(count)
    landmarks = jax.random.choice(key, inputs, (count,), replace=False)
    fitted = Nystroem(landmarks, _inverse_root(of_points(landmarks, landmarks, hyper)), dict(hyper), kernel)
    return checks.finite_fit(fitted, "rescale the inputs, or lower gamma or degree", fitted.root)


def features(params: Nystroem, inputs: Array, block_rows: int | None = None) -> Array:
    """Return features [M, H] of inputs [M, D].

    Args:
        params: see `nystroem`.
        inputs: [M, D].
        block_rows: rows that are processed at once (default: what `BLOCK_BYTES` holds).

    Raises:
        UserError: inputs of another shape, or not finite.
    """
    inputs = checks.check_array(inputs, ("M", params.landmarks.shape[1]), "inputs").astype(params.landmarks.dtype)
    row_bytes = params.landmarks.nbytes // params.landmarks.shape[1]
    return _features(params, inputs, block_rows or even_size(len(inputs), BLOCK_BYTES // row_bytes))


@partial(jax.jit, static_argnames="block_rows")
def _features(params: Nystroem, inputs: Array, block_rows: int) -> Array:
    def block(rows: Array) -> Array:
        values = KERNELS[params.kernel](rows, params.landmarks, params.hyper)
        return jnp.matmul(values, params.root, precision="highest")

    return map_rows(block, inputs, block_rows)


def _inverse_root(matrix: Array) -> Array:
    """Return the inverse square root of a symmetric, positive semidefinite matrix [H, H], on its range."""
    values, vectors = factorization.eigh(matrix)
    least = len(matrix) * jnp.finfo(matrix.dtype).eps * values[-1]
    scale = jnp.where(values > least, 1 / jnp.sqrt(jnp.maximum(values, least)), 0)
    return jnp.matmul(vectors * scale[None], vectors.T, precision="highest")
