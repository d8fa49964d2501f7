r"""Cholesky factors, triangular systems, QR, SVD and eigenvectors of many small matrices at once, safe on CPUs.

jaxlib before 0.11 spreads a *batch* of LAPACK calls over XLA's pool of CPU threads: the call runs on a thread of the
pool and waits there for tasks that it has put into the same pool. Where as many calls wait as the pool has threads (one
per core), none of the tasks ever runs, and the program hangs. Independent calls in one program suffice, and so do
lanes that are spread over devices. The functions here never make such a call:

- `cholesky`, `solve_lower` and `inverse_lower` are loops over the columns or rows, vectorised over the batch. Each step
  is a matrix-vector product (left-looking):

    $$ L_{:j} = \bigl(A_{:j} - L L_{j:}^\top\bigr) / \sqrt{A_{jj} - L_{j:} L_{j:}^\top}, \qquad
       X_{j:} = (B_{j:} - L_{j:} X) / L_{jj} $$

  Matrices of more than `BLOCK` columns are processed in blocks of columns, so that most of the work is products of
  matrices. On CPUs this is as fast as LAPACK, or faster (see BUILD_NOTES.md).
- `triangle`, `qr`, `svd` and `eigh` call LAPACK for one matrix after another, also under `vmap`: one matrix is not
  spread.

Other platforms use JAX's own batched functions.

Source: Golub and Van Loan, *Matrix Computations*, 4th ed., algorithms 3.1.3, 4.2.1 and section 4.2.8.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from mllab.types import Array

BLOCK = 64  # columns; measured, see BUILD_NOTES.md


def cholesky(matrices: Array) -> Array:
    """Return the lower Cholesky factors [..., D, D] of symmetric matrices, of which the lower triangle is read.

    The factor of a matrix that is not positive definite has entries that are not finite.
    """
    return lax.platform_dependent(matrices, cpu=_over_batch(_cholesky), default=jnp.linalg.cholesky)


def solve_lower(factors: Array, right: Array) -> Array:
    """Return X [..., D, M] of L X = B, for lower triangular L [..., D, D] and B [..., D, M]."""
    solve = partial(jax.scipy.linalg.solve_triangular, lower=True)
    return lax.platform_dependent(factors, right, cpu=_over_batch(_solve_lower), default=solve)


def inverse_lower(factors: Array) -> Array:
    """Return the inverses of lower triangular matrices [..., D, D]."""
    return solve_lower(factors, _identities(factors))


def solve_upper(factors: Array, right: Array) -> Array:
    """Return X [..., D, M] of U X = B, for upper triangular U [..., D, D] and B [..., D, M]."""
    return solve_lower(factors[..., ::-1, ::-1], right[..., ::-1, :])[..., ::-1, :]


def solve_positive(matrices: Array, right: Array) -> Array:
    """Return X [..., D, M] of A X = B, for symmetric positive definite A [..., D, D] and B [..., D, M]."""
    factors = cholesky(matrices)
    return solve_upper(jnp.swapaxes(factors, -1, -2), solve_lower(factors, right))


def triangle(matrix: Array) -> Array:
    """Return R [min(N, D), D] of the QR factorisation of a matrix [N, D]."""
    return _one_by_one(partial(jnp.linalg.qr, mode="r"))(matrix)


def qr(matrix: Array) -> tuple[Array, Array]:
    """Return Q [N, R] and R [R, D], R = min(N, D), of the QR factorisation of a matrix [N, D]."""
    return tuple(_one_by_one(jnp.linalg.qr)(matrix))


def svd(matrix: Array) -> tuple[Array, Array, Array]:
    """Return the thin singular value decomposition U [N, R], S [R], V^T [R, D] of a matrix [N, D]."""
    return tuple(_one_by_one(partial(jnp.linalg.svd, full_matrices=False))(matrix))


def eigh(matrix: Array) -> tuple[Array, Array]:
    """Return the eigenvalues [D], ascending, and eigenvectors [D, D] of a symmetric matrix [D, D]."""
    return tuple(_one_by_one(jnp.linalg.eigh)(matrix))


def _one_by_one(function: Callable[[Array], Any]) -> Callable[[Array], Any]:
    """Return `function` of a matrix which a CPU applies to one matrix after another under `vmap`.

    Derivatives are those of `function`, and under `vmap` as that computes them.
    """

    @jax.custom_batching.custom_vmap
    def single(matrix: Array) -> Any:
        return function(matrix)

    @single.def_vmap
    def _(size: int, batched: tuple[bool], matrices: Array) -> tuple[Any, Any]:
        del size, batched  # of one argument, which is then batched
        outputs = lax.platform_dependent(
            matrices, cpu=lambda each: lax.map(single, each), default=lambda each: jax.vmap(function)(each)
        )
        return outputs, jax.tree.map(lambda _: True, outputs)

    differentiable = jax.custom_jvp(single)
    differentiable.defjvp(lambda primals, tangents: jax.jvp(function, primals, tangents))
    return differentiable


def _over_batch(function: Callable[..., Array]) -> Callable[..., Array]:
    """Return `function` of batches [B, D, M], [B', D', M'] for arguments with any number of leading axes."""

    def call(*arguments: Array) -> Array:
        outputs = function(*[each.reshape(-1, *each.shape[-2:]) for each in arguments])
        return outputs.reshape(arguments[-1].shape)

    return call


def _identities(matrices: Array) -> Array:
    return jnp.broadcast_to(jnp.eye(matrices.shape[-1], dtype=matrices.dtype), matrices.shape)


def _padded(matrices: Array, more: int) -> Array:
    """Return matrices [B, D, D] enlarged by `more` rows and columns of the identity."""
    added = jnp.pad(jnp.zeros(matrices.shape[-1], matrices.dtype), (0, more), constant_values=1)
    return jnp.pad(matrices, ((0, 0), (0, more), (0, more))) + jnp.diag(added)[None]


def _cholesky(matrices: Array) -> Array:
    """Return the factors [B, D, D]."""
    size = matrices.shape[-1]
    if size <= BLOCK:
        return _cholesky_by_column(matrices)
    blocks = -(-size // BLOCK)
    more = blocks * BLOCK - size
    padded = _padded(matrices, more)

    def step(block: Array, factors: Array) -> Array:
        first = block * BLOCK
        rows = lax.dynamic_slice_in_dim(factors, first, BLOCK, axis=1)
        panel = lax.dynamic_slice_in_dim(padded, first, BLOCK, axis=2) - factors @ jnp.swapaxes(rows, 1, 2)
        corner = _cholesky_by_column(lax.dynamic_slice_in_dim(panel, first, BLOCK, axis=1))
        columns = panel @ jnp.swapaxes(_solve_by_row(corner, _identities(corner)), 1, 2)
        below = (jnp.arange(size + more) >= first + BLOCK)[None, :, None]
        columns = jnp.where(below, columns, 0)
        columns = lax.dynamic_update_slice_in_dim(columns, corner, first, axis=1)
        return lax.dynamic_update_slice_in_dim(factors, columns, first, axis=2)

    return lax.fori_loop(0, blocks, step, jnp.zeros_like(padded))[:, :size, :size]


def _cholesky_by_column(matrices: Array) -> Array:
    place = jnp.arange(matrices.shape[-1])[None]

    def step(j: Array, factors: Array) -> Array:
        column = matrices[:, :, j] - jnp.einsum("bde,be->bd", factors, factors[:, j])
        column = jnp.where(place >= j, column / jnp.sqrt(column[:, j])[:, None], 0)
        return factors.at[:, :, j].set(column)

    return lax.fori_loop(0, matrices.shape[-1], step, jnp.zeros_like(matrices))


def _solve_lower(factors: Array, right: Array) -> Array:
    """Return X [B, D, M]."""
    size = factors.shape[-1]
    if size <= BLOCK:
        return _solve_by_row(factors, right)
    blocks = -(-size // BLOCK)
    more = blocks * BLOCK - size
    padded = _padded(factors, more)
    right = jnp.pad(right, ((0, 0), (0, more), (0, 0)))

    def step(block: Array, solved: Array) -> Array:
        first = block * BLOCK
        rows = lax.dynamic_slice_in_dim(padded, first, BLOCK, axis=1)
        corner = lax.dynamic_slice_in_dim(rows, first, BLOCK, axis=2)
        rest = lax.dynamic_slice_in_dim(right, first, BLOCK, axis=1) - rows @ solved
        return lax.dynamic_update_slice_in_dim(solved, _solve_by_row(corner, rest), first, axis=1)

    return lax.fori_loop(0, blocks, step, jnp.zeros_like(right))[:, :size]


def _solve_by_row(factors: Array, right: Array) -> Array:
    def step(j: Array, solved: Array) -> Array:
        row = factors[:, j]
        rest = right[:, j] - jnp.einsum("bd,bdm->bm", row, solved)
        return solved.at[:, j].set(rest / row[:, j][:, None])

    return lax.fori_loop(0, factors.shape[-1], step, jnp.zeros_like(right))
