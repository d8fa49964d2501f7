"""EM for Gaussian mixtures: the array functions of the start, the E step, the M step and their iteration.

The equations are in `mllab.models.mixture.mixture`.
"""

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp

from mllab import checks
from mllab.errors import UserError
from mllab.models.mixture.gaussians import (
    BLOCK_BYTES,
    Blocks,
    Mixture,
    half_squares,
    inverse_factor,
    log_normaliser,
    precision_trace,
    whitened,
)
from mllab.models.ops import factorization
from mllab.row_blocks import divisor
from mllab.types import Array, Key

MIN_VARIANCE = 1e-6  # of a start, of standardised points
MIN_SHARE = 1e-25  # of all points: a component with less keeps its mean and covariance


class Fit(NamedTuple):
    """The best of the restarts."""

    params: Mixture
    log_likelihood: Array  # [] mean over the blurred points; of labelled points with their labels
    history: Array  # [S] the log-likelihood after each step; after the last step its final value
    steps: Array  # [] int32, taken
    converged: Array  # [] whether the last step gained less than the tolerance


class Units(NamedTuple):
    """Centre and scale that standardise the points, so that rounding is relative to their spread, not to an offset."""

    centre: Array  # [D]
    scale: Array  # [D] standard deviations; spherical: that of all columns together


class Moments(NamedTuple):
    """Result of the E step: weighted means over all points; z is a point whitened by its component."""

    share: Array  # [K] of r
    first: Array  # [K, D] of r z
    second: Array  # of r z zᵀ: full [K, D, D]; tied, of all components, [D, D]; its diagonal [K, D]; its trace [K]
    log_likelihood: Array  # []


def iterate(
    start: Mixture, data: Blocks, tolerance: Array | float, floor: Array | float, classes: int | None, steps: int
) -> Fit:
    """Return the result of EM from this start, for standardised points."""

    class State(NamedTuple):
        params: Mixture
        moments: Moments
        history: Array
        step: Array
        gain: Array

    def unfinished(state: State) -> Array:
        return (state.step < steps) & (state.gain >= tolerance)

    def step(state: State) -> State:
        # The first iteration is an E step alone, so that the program has one of each; its history entry is overwritten.
        moved = _m_step(state.params, state.moments, floor)
        params = jax.tree.map(lambda new, old: jnp.where(state.step < 0, old, new), moved, state.params)
        moments = _e_step(params, data, floor, classes)
        gain = jnp.where(state.step < 0, jnp.inf, moments.log_likelihood - state.moments.log_likelihood)
        return State(params, moments, state.history.at[state.step].set(moments.log_likelihood), state.step + 1, gain)

    infinite = jnp.array(jnp.inf, start.means.dtype)
    state = State(start, _no_moments(start), jnp.zeros(steps, infinite.dtype), jnp.array(-1, jnp.int32), infinite)
    end = jax.lax.while_loop(unfinished, step, state)
    likelihood = end.moments.log_likelihood
    history = jnp.where(jnp.arange(steps) < end.step, end.history, likelihood)
    return Fit(end.params, likelihood, history, end.step, end.gain < tolerance)


def _e_step(params: Mixture, data: Blocks, floor: Array | float, classes: int | None) -> Moments:
    """Return the moments of the points under these params, block by block: the E step."""
    count = len(params.log_weights)
    inverse = inverse_factor(params)
    constant = params.log_weights + log_normaliser(params) - floor * precision_trace(params, inverse) / 2
    owner = owners(count, classes or count)

    def add(total: Moments, block: Blocks) -> tuple[Moments, None]:
        z = whitened(params, inverse, block.points)
        joint = constant[:, None] - half_squares(z)
        if block.labels is not None:
            allowed = (block.labels[None] < 0) | (block.labels[None] == owner[:, None])
            joint = jnp.where(allowed, joint, -jnp.inf)
        likelihood = logsumexp(joint, axis=0)
        share = block.weight[None] * jnp.exp(joint - likelihood[None])
        part = share[:, None] * z
        second = {
            "full": lambda: jnp.einsum("kdb,keb->kde", part, z),
            "tied": lambda: jnp.einsum("kdb,keb->de", part, z),
            "diagonal": lambda: jnp.sum(part * z, axis=2),
            "spherical": lambda: jnp.sum(part * z, axis=(1, 2)),
        }[params.covariance]()
        moments = Moments(jnp.sum(share, 1), jnp.sum(part, 2), second, jnp.vdot(block.weight, likelihood))
        return jax.tree.map(jnp.add, total, moments), None

    return jax.lax.scan(add, _no_moments(params), data)[0]


def _no_moments(params: Mixture) -> Moments:
    zeros = jax.tree.map(jnp.zeros_like, params)
    return Moments(zeros.log_weights, zeros.means, zeros.cholesky, jnp.zeros((), zeros.means.dtype))


def _m_step(params: Mixture, moments: Moments, floor: Array | float) -> Mixture:
    """Return the params that maximise the expected likelihood for these moments: the M step."""
    features = params.means.shape[1]
    inverse = inverse_factor(params)
    alive = moments.share > MIN_SHARE
    share = jnp.where(alive, moments.share, 1)
    shift = jnp.where(alive[:, None], moments.first / share[:, None], 0)  # [K, D] of the mean, in units of z
    if params.covariance == "full":
        moved = shift[:, :, None] * shift[:, None]
        spread = moments.second / share[:, None, None] - moved + floor * inverse @ jnp.swapaxes(inverse, 1, 2)
        identity = jnp.eye(features, dtype=spread.dtype)[None]
        factor = params.cholesky @ _cholesky(jnp.where(alive[:, None, None], spread, identity))
        move = jnp.einsum("kde,ke->kd", params.cholesky, shift)
    elif params.covariance == "tied":
        moved = (moments.share[:, None] * shift).T @ shift
        factor = params.cholesky @ _cholesky(moments.second - moved + floor * inverse @ inverse.T)
        move = shift @ params.cholesky.T
    else:  # rounding may make a variance of 0 negative
        if params.covariance == "diagonal":
            spread = jnp.maximum(moments.second / share[:, None] - shift**2, 0) + floor * inverse**2
            alone, each = alive[:, None], params.cholesky
        else:
            spread = jnp.maximum(moments.second / share - jnp.sum(shift**2, 1), 0) / features + floor * inverse**2
            alone, each = alive, params.cholesky[:, None]
        factor = params.cholesky * jnp.sqrt(jnp.where(alone, spread, 1))
        move = each * shift
    log_share = jnp.log(jnp.maximum(moments.share, MIN_SHARE))
    log_weights = jnp.where(jnp.isfinite(params.log_weights), log_share, -jnp.inf)
    return replace(params, log_weights=log_weights, means=params.means + move, cholesky=factor)


def _cholesky(matrices: Array) -> Array:
    """Return lower factors, with a larger diagonal for matrices that rounding has made indefinite."""
    identity = jnp.broadcast_to(jnp.eye(matrices.shape[-1], dtype=matrices.dtype), matrices.shape)
    size = jnp.trace(matrices, axis1=-2, axis2=-1)[..., None, None]
    jitter = 10 * matrices.shape[-1] * jnp.finfo(matrices.dtype).eps * size
    jittered = factorization.cholesky(matrices + jitter * identity)
    factor = factorization.cholesky(matrices)
    definite = jnp.all(jnp.isfinite(factor), axis=(-2, -1), keepdims=True)
    return jnp.where(definite, factor, jittered)


def drawn_start(
    key: Key,
    rows: Array,
    labels: Array | None,
    weight: Array,
    count: Array | int,
    covariance: str,
    most: int,
    classes: int | None,
) -> Mixture:
    """Return the start of `init` from standardised rows; of `most` components the first `count` are present."""
    features, each = rows.shape[1], per_class(most, classes or most)
    owner = owners(most, classes or most)

    def draw(carry: tuple[Array, Array], place: tuple[Array, Array, Key]) -> tuple[tuple[Array, Array], Array]:
        nearest, of_class = carry
        component, owner, key = place
        away, candidates = nearest, weight
        if labels is not None:
            of_class = jnp.where(component % each == 0, jnp.inf, of_class)
            labelled, unlabelled = weight * (labels == owner), weight * (labels < 0)
            has_labels = jnp.any(labelled > 0)
            away = jnp.where(has_labels, of_class, nearest)
            candidates = jnp.where(has_labels, labelled, jnp.where(jnp.any(unlabelled > 0), unlabelled, weight))
        chances = candidates * jnp.where(jnp.isfinite(away), away, 1)
        chances = jnp.where(jnp.any(chances > 0), chances, candidates)  # all candidates are means already
        mean = rows[jax.random.choice(key, len(rows), p=chances)]
        distance = jnp.sum((rows - mean[None]) ** 2, axis=1)
        nearest = jnp.where(component < count, jnp.minimum(nearest, distance), nearest)
        return (nearest, jnp.minimum(of_class, distance)), mean

    infinite = jnp.full(len(rows), jnp.inf, rows.dtype)
    places = jnp.arange(most), owner, jax.random.split(key, most)
    (nearest, _), means = jax.lax.scan(draw, (infinite, infinite), places)
    # The mean squared distance to the nearest mean; bounded below, in case every point is a mean.
    width = jnp.sqrt(jnp.maximum(jnp.vdot(weight, nearest) / (features * jnp.sum(weight)), MIN_VARIANCE))
    shapes = {"full": (most, features, features), "tied": (features,) * 2, "diagonal": (most, features)}
    round_one = jnp.eye(features, dtype=rows.dtype) if covariance in ("full", "tied") else jnp.ones((), rows.dtype)
    factor = jnp.broadcast_to(width * round_one, shapes.get(covariance, (most,)))
    log_weights = jnp.where(jnp.arange(most) < count, -jnp.log(jnp.asarray(count, rows.dtype)), -jnp.inf)
    return Mixture(log_weights, means, factor, covariance)


def per_class(count: int, classes: int) -> int:
    """Return the number of components of each class.

    Raises:
        UserError: the components cannot be divided evenly among the classes.
    """
    checks.check_whole(1, classes=classes)
    if count % classes:
        raise UserError(f"{count} components for {classes} classes: expected a multiple of the classes")
    return count // classes


def owners(count: int, classes: int) -> Array:
    """Return the class of each component, [K]; raises as `per_class` does."""
    return jnp.arange(count) // per_class(count, classes)


def restarts_in_cache(lanes: int, lane_bytes: int) -> int:
    """Return how many restarts run at once: a divisor of their number that fits the cache.

    Small problems are batched, since the overhead of an operation outweighs its arithmetic; large ones run one by one,
    since each uses all cores and stops when it has converged.
    """
    return divisor(lanes, BLOCK_BYTES // lane_bytes)


def standardised(points: Array, weight: Array, covariance: str) -> tuple[Array, Units]:
    """Return rows of mean 0 and variance 1, [N, D], and their units; constant columns are only centred."""
    share = weight / jnp.maximum(jnp.sum(weight), jnp.finfo(weight.dtype).tiny)
    rough = share @ points
    centre = rough + share @ (points - rough[None])  # the first mean has the rounding error of an offset
    variance = share @ (points - centre[None]) ** 2
    if covariance == "spherical":
        variance = jnp.full_like(variance, jnp.mean(variance))
    rounding = 4 * jnp.finfo(points.dtype).eps * jnp.max(jnp.abs(points), axis=0)
    units = Units(centre, jnp.where(jnp.sqrt(variance) > rounding, jnp.sqrt(variance), 1))
    return (points - centre[None]) / units.scale[None], units


def in_units(params: Mixture, units: Units) -> Mixture:
    """Return params for the points as params for the standardised rows."""
    means = (params.means - units.centre[None]) / units.scale[None]
    return replace(params, means=means, cholesky=params.cholesky / _rows_of_factor(params, units.scale))


def in_points(params: Mixture, units: Units) -> Mixture:
    """Return params for the standardised rows as params for the points."""
    means = params.means * units.scale[None] + units.centre[None]
    return replace(params, means=means, cholesky=params.cholesky * _rows_of_factor(params, units.scale))


def fit_in_points(fit: Fit, units: Units) -> Fit:
    """Return a fit of the standardised rows as a fit of the points; log densities lose the log of the scale."""
    shift = jnp.sum(jnp.log(units.scale))
    return fit._replace(
        params=in_points(fit.params, units), log_likelihood=fit.log_likelihood - shift, history=fit.history - shift
    )


def _rows_of_factor(params: Mixture, scale: Array) -> Array:
    """Return the scale [D] broadcast to the rows of the Cholesky factors."""
    return {
        "full": scale[None, :, None], "tied": scale[:, None], "diagonal": scale[None], "spherical": scale[:1],
    }[params.covariance]  # fmt: skip
