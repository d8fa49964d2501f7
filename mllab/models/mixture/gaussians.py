r"""Gaussians side by side, each covariance held as its Cholesky factor: the params of a mixture, and their densities.

    $$ \ln \mathcal{N}(x; \mu, L L^\top) = -\tfrac{D}{2} \ln 2 \pi - \sum_d \ln L_{dd}
       - \tfrac{1}{2} \lVert z \rVert^2, \quad z = L^{-1} (x - \mu) $$

Source: Bishop, *Pattern Recognition and Machine Learning* (2006), section 2.3.
"""

import math
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jax.scipy.linalg import solve_triangular

from mllab.types import Array

COVARIANCES = ("full", "tied", "diagonal", "spherical")
BLOCK_BYTES = 2**20  # of z that is held at once: in cache it is read several times faster
BLOCK_ROWS = 256  # or so many rows, where that is more


@struct.dataclass
class Mixture:
    """Gaussians and their shares. A component of log-weight -inf is as if absent."""

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
    """Return how many numbers are free, []: shares, means and covariances of the components that are present."""
    features = params.means.shape[1]
    count = jnp.sum(jnp.isfinite(params.log_weights))
    matrix = features * (features + 1) // 2
    own = {"full": matrix, "tied": 0, "diagonal": features, "spherical": 1}[params.covariance]
    return count * (1 + features + own) - 1 + (matrix if params.covariance == "tied" else 0)


@jax.jit
def log_density(params: Mixture, points: Array) -> Array:
    """Return the log of each component's density at each point, [N, K], shares left out; block after block."""
    share = jnp.exp(params.log_weights)
    centre = share @ params.means / jnp.sum(share)  # an offset common to all would cost digits
    params = replace(params, means=params.means - centre[None])
    data = in_blocks(points - centre[None], None, jnp.ones(len(points), points.dtype), len(share))
    inverse, constant = inverse_factor(params), log_normaliser(params)

    def block(columns: Array) -> Array:
        return (constant[:, None] - half_squares(whitened(params, inverse, columns))).T

    return jax.lax.map(block, data.points).reshape(-1, len(share))[: len(points)]


class Blocks(NamedTuple):
    """Points in blocks, columns first, so that sums over rows and components run along the rows."""

    points: Array  # [blocks, D, B] in units
    labels: Array | None  # [blocks, B]
    weight: Array  # [blocks, B] sums to 1; padding has 0


def in_blocks(rows: Array, labels: Array | None, weight: Array, count: int) -> Blocks:
    """Return rows [N, D] in blocks that fit the cache with z of `count` components."""
    n, features = rows.shape
    most = max(BLOCK_ROWS, BLOCK_BYTES // (rows.dtype.itemsize * count * features))
    blocks = -(-n // most)
    size = -(-n // blocks)

    def split(array: Array) -> Array:
        padding = ((0, blocks * size - n), *((0, 0) for _ in array.shape[1:]))
        return jnp.pad(array, padding).reshape(blocks, size, *array.shape[1:])

    share = weight / jnp.maximum(jnp.sum(weight), jnp.finfo(weight.dtype).tiny)
    return Blocks(jnp.swapaxes(split(rows), 1, 2), None if labels is None else split(labels), split(share))


def inverse_factor(params: Mixture) -> Array:
    """Return the inverse of the Cholesky factors, in their shape."""
    if params.covariance in ("diagonal", "spherical"):
        return 1 / params.cholesky
    identity = jnp.broadcast_to(jnp.eye(params.cholesky.shape[-1], dtype=params.cholesky.dtype), params.cholesky.shape)
    return solve_triangular(params.cholesky, identity, lower=True)


def precision_trace(params: Mixture, inverse: Array) -> Array:
    """Return the trace of each component's inverse covariance, [K]; tied: [1]."""
    count, features = params.means.shape
    squares = jnp.sum(inverse.reshape(1 if params.covariance == "tied" else count, -1) ** 2, axis=1)
    return features * squares if params.covariance == "spherical" else squares


def whitened(params: Mixture, inverse: Array, points: Array) -> Array:
    """Return z = L⁻¹ (x - μ), [K, D, B], of points [D, B]."""
    count, features = params.means.shape
    if params.covariance == "full":
        seen = (inverse.reshape(-1, features) @ points).reshape(count, features, -1)
        return seen - jnp.einsum("kde,ke->kd", inverse, params.means)[:, :, None]
    if params.covariance == "tied":
        return (inverse @ points)[None] - (params.means @ inverse.T)[:, :, None]
    return inverse.reshape(count, -1, 1) * (points[None] - params.means[:, :, None])


def half_squares(z: Array) -> Array:
    """Return half of the squared distance from the mean, [K, B]; of points too far to square it, a great number."""
    return jnp.minimum(jnp.sum(z**2, axis=1) / 2, jnp.finfo(z.dtype).max / 8)


def log_normaliser(params: Mixture) -> Array:
    """Return the log density of each component at its mean, [K]; tied: [1]."""
    features = params.means.shape[1]
    if params.covariance in ("full", "tied"):
        diagonal = jnp.diagonal(params.cholesky, axis1=-2, axis2=-1).reshape(-1, features)
    else:
        diagonal = jnp.broadcast_to(params.cholesky.reshape(len(params.means), -1), params.means.shape)
    return -features / 2 * math.log(2 * math.pi) - jnp.sum(jnp.log(diagonal), axis=1)
