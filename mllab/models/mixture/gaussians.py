r"""Gaussians with Cholesky factors for covariances: the params of a mixture, and their densities.

    $$ \ln \mathcal{N}(x; \mu, L L^\top) = -\tfrac{D}{2} \ln 2 \pi - \sum_d \ln L_{dd}
       - \tfrac{1}{2} \lVert z \rVert^2, \quad z = L^{-1} (x - \mu) $$

Source: Bishop, *Pattern Recognition and Machine Learning* (2006), section 2.3.
"""

import math
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from mllab.models.ops import factorization
from mllab.row_blocks import even_size, split_rows
from mllab.types import Array

COVARIANCES = ("full", "tied", "diagonal", "spherical")
BLOCK_BYTES = 2**20  # of z that is held at once: in cache it is read several times faster
MIN_BLOCK_ROWS = 256  # points of a block, even where they take more


@struct.dataclass
class Mixture:
    """Gaussians and their mixing weights. A component of log-weight -inf is absent."""

    log_weights: Array  # [K]
    means: Array  # [K, D]
    # L of the covariance L Lᵀ: full [K, D, D], tied [D, D]; standard deviations: diagonal [K, D], spherical [K].
    cholesky: Array
    covariance: str = struct.field(pytree_node=False)  # one of COVARIANCES


def covariances(params: Mixture) -> Array:
    """Return the covariance of each component, [K, D, D]."""
    count, features = params.means.shape
    if params.covariance in ("full", "tied"):
        matrices = params.cholesky @ jnp.swapaxes(params.cholesky, -1, -2)
        return jnp.broadcast_to(matrices, (count, features, features))
    variances = params.cholesky.reshape(count, -1, 1) ** 2
    return variances * jnp.eye(features, dtype=variances.dtype)[None]


def free_parameters(params: Mixture) -> Array:
    """Return the number of free parameters, []: weights, means and covariances of the components that are present."""
    features = params.means.shape[1]
    count = jnp.sum(jnp.isfinite(params.log_weights))
    matrix = features * (features + 1) // 2
    each = {"full": matrix, "tied": 0, "diagonal": features, "spherical": 1}[params.covariance]
    return count * (1 + features + each) - 1 + (matrix if params.covariance == "tied" else 0)


@partial(jax.jit, static_argnames="block_rows")
def log_density(params: Mixture, points: Array, block_rows: int | None = None) -> Array:
    """Return the log density of each component at each point, [N, K], without mixing weights.

    Args:
        params: the mixture.
        points: [N, D].
        block_rows: points that are processed at once (default: what fits the cache).
    """
    share = jnp.exp(params.log_weights)
    centre = share @ params.means / jnp.sum(share)  # a common offset would cost digits
    params = replace(params, means=params.means - centre[None])
    data = in_blocks(points - centre[None], None, jnp.ones(len(points), points.dtype), len(share), block_rows)
    inverse, constant = inverse_factor(params), log_normaliser(params)

    def block(columns: Array) -> Array:
        return (constant[:, None] - half_squares(whitened(params, inverse, columns))).T

    return jax.lax.map(block, data.points).reshape(-1, len(share))[: len(points)]


class Blocks(NamedTuple):
    """Points in blocks, features first, so that sums over points run along contiguous memory."""

    points: Array  # [blocks, D, B], standardised
    labels: Array | None  # [blocks, B]
    weight: Array  # [blocks, B] sums to 1; padding has 0


def in_blocks(rows: Array, labels: Array | None, weight: Array, count: int, block_rows: int | None = None) -> Blocks:
    """Return rows [N, D] in blocks; by default as large as fit the cache with z of `count` components."""
    n, features = rows.shape
    if block_rows is None:
        block_rows = max(MIN_BLOCK_ROWS, BLOCK_BYTES // (rows.dtype.itemsize * count * features))
    size = even_size(n, block_rows)
    share = weight / jnp.maximum(jnp.sum(weight), jnp.finfo(weight.dtype).tiny)
    return Blocks(
        jnp.swapaxes(split_rows(rows, size), 1, 2),
        None if labels is None else split_rows(labels, size),
        split_rows(share, size),
    )


def inverse_factor(params: Mixture) -> Array:
    """Return the inverse of the Cholesky factors, in their shape."""
    if params.covariance in ("diagonal", "spherical"):
        return 1 / params.cholesky
    return factorization.inverse_lower(params.cholesky)


def precision_trace(params: Mixture, inverse: Array) -> Array:
    """Return the trace of each component's inverse covariance, [K]; tied: [1]."""
    count, features = params.means.shape
    squares = jnp.sum(inverse.reshape(1 if params.covariance == "tied" else count, -1) ** 2, axis=1)
    return features * squares if params.covariance == "spherical" else squares


def whitened(params: Mixture, inverse: Array, points: Array) -> Array:
    """Return z = L⁻¹ (x - μ), [K, D, B], of points [D, B]."""
    count, features = params.means.shape
    if params.covariance == "full":
        projected = (inverse.reshape(-1, features) @ points).reshape(count, features, -1)
        return projected - jnp.einsum("kde,ke->kd", inverse, params.means)[:, :, None]
    if params.covariance == "tied":
        return (inverse @ points)[None] - (params.means @ inverse.T)[:, :, None]
    return inverse.reshape(count, -1, 1) * (points[None] - params.means[:, :, None])


def half_squares(z: Array) -> Array:
    """Return half of the squared distance from the mean, [K, B], clipped below overflow."""
    return jnp.minimum(jnp.sum(z**2, axis=1) / 2, jnp.finfo(z.dtype).max / 8)


def log_normaliser(params: Mixture) -> Array:
    """Return the log density of each component at its mean, [K]; tied: [1]."""
    features = params.means.shape[1]
    if params.covariance in ("full", "tied"):
        diagonal = jnp.diagonal(params.cholesky, axis1=-2, axis2=-1).reshape(-1, features)
    else:
        diagonal = jnp.broadcast_to(params.cholesky.reshape(len(params.means), -1), params.means.shape)
    return -features / 2 * math.log(2 * math.pi) - jnp.sum(jnp.log(diagonal), axis=1)
