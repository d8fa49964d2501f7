r"""Gaussian mixtures by expectation and maximisation (EM), from points with labels, without, or both.

    $$ p(x) = \sum_k \pi_k \mathcal{N}(x; \mu_k, \Sigma_k), \quad
       r_{ik} = \frac{\pi_k \mathcal{N}(x_i; \mu_k, \Sigma_k)}{\sum_j \pi_j \mathcal{N}(x_i; \mu_j, \Sigma_j)} $$

A step finds the responsibilities r (E), and with weights of the points $\omega_i$ that sum to 1 (M)

    $$ \pi_k = \sum_i \omega_i r_{ik}, \quad \mu_k = \sum_i \omega_i r_{ik} x_i / \pi_k, \quad
       \Sigma_k = \sum_i \omega_i r_{ik} (x_i - \mu_k) (x_i - \mu_k)^\top / \pi_k + \varepsilon V. $$

A labelled point belongs to the components of its class alone: its other responsibilities are 0, and its likelihood is
that of point and label together.

The floor $\varepsilon V$, V the variances of the columns of all points, keeps every covariance invertible. It is what
each point would add if it were blurred by Gaussian noise of that covariance, and the E step takes it so too: $\ln
\mathcal{N}$ loses $\varepsilon\, \mathrm{tr}(V \Sigma_k^{-1}) / 2$. What is then climbed is the mean log-likelihood of
the blurred points; it never decreases, and differs from `score` only where a component is nearly as narrow as the
floor.

Each covariance is held as its Cholesky factor, $\Sigma = L L^\top$. Density and moments are taken of $z = L^{-1} (x -
\mu)$, and the next factor is L times that of the covariance of z: near the end that is the identity, so that no digits
are lost, however long and thin the component.

Sources: Dempster, Laird and Rubin, J. Royal Statistical Society B 39 (1977); Bishop, *Pattern Recognition and Machine
Learning* (2006), section 9.2.2; Nigam et al., *Text classification from labeled and unlabeled documents using EM*,
Machine Learning 39 (2000), for the labels; Arthur and Vassilvitskii, *k-means++* (2007), for the starts.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.scipy.linalg import solve_triangular
from jax.scipy.special import logsumexp

from mllab.errors import UserError, unknown
from mllab.types import Array, Key

COVARIANCES = ("full", "tied", "diagonal", "spherical")
BLOCK_BYTES = 2**20  # of z that is held at once: in cache it is read several times faster
BLOCK_ROWS = 256  # or so many rows, where that is more
LEAST_VARIANCE = 1e-6  # of a start, in units
LEAST_SHARE = 1e-25  # of all points: a component with less is left where it is


@struct.dataclass
class Mixture:
    """Gaussians and their shares. A component of log-weight -inf is as if absent."""

    log_weights: Array  # [K]
    means: Array  # [K, D]
    # L of the covariance L Lᵀ: full [K, D, D], tied [D, D]; standard deviations: diagonal [K, D], spherical [K].
    cholesky: Array
    covariance: str = struct.field(pytree_node=False)  # one of COVARIANCES


class Fit(NamedTuple):
    """The best of some restarts."""

    params: Mixture
    log_likelihood: Array  # [] mean of the blurred points' (see above); labelled ones' with their labels
    history: Array  # [S] the same after each step; that of the last one from there on
    steps: Array  # [] int32, taken
    converged: Array  # [] the last step gained less than the tolerance


def fit(
    key: Key,
    points: Array,
    count: int,
    *,
    covariance: str = "full",
    labels: Array | None = None,
    classes: int | None = None,
    weight: Array | None = None,
    restarts: int = 10,
    steps: int = 100,
    tolerance: Array | float = 1e-3,
    floor: Array | float = 1e-6,
) -> Fit:
    """Return the likeliest mixture of some restarts of EM, all in one program.

    Args:
        key: of the starts.
        points: [N, D].
        count: components, K.
        covariance: `"full"`, `"tied"` (one for all), `"diagonal"` or `"spherical"`.
        labels: class of each point, [N] integers, -1 where it has none; by default none has. Components come in order
            of classes, as many for each; see `owners`.
        classes: C, of which count is a multiple; by default each component is a class of its own.
        weight: how much each point counts, [N], at least 0; 1 by default. Points of weight 0 are as if absent.
        restarts: starts, each from other points (see `init`).
        steps: the most that each start may take.
        tolerance: EM ends when a step raises the mean log-likelihood by less.
        floor: added to each variance, in units of the variance of its column (of all columns, where spherical).

    Raises:
        UserError: shapes that do not fit, an unknown covariance, more components than points, labels out of range,
            numbers that are not finite. What is traced is taken as it comes.
    """
    points, labels, weight = _checked(points, labels, weight, [count], covariance, classes, floor, restarts, steps)
    counts, settings = jnp.array([count]), (covariance, count, classes, restarts, steps)
    with jax.default_matmul_precision("highest"):
        return jax.tree.map(lambda a: a[0], _fit(key, points, labels, weight, counts, tolerance, floor, *settings))


def sweep(
    key: Key,
    points: Array,
    counts: Sequence[int],
    *,
    covariance: str = "full",
    weight: Array | None = None,
    restarts: int = 10,
    steps: int = 100,
    tolerance: Array | float = 1e-3,
    floor: Array | float = 1e-6,
) -> Fit:
    """Return the fit of each number of components, [len(counts)] leading, in one program; for the rest see `fit`.

    All have as many components as the greatest count; those beyond a fit's own are absent. So
    `jax.vmap(bic, (0, None))(fits.params, points)` has one number a fit.
    """
    points, _, weight = _checked(points, None, weight, counts, covariance, None, floor, restarts, steps)
    settings = covariance, max(counts), None, restarts, steps
    with jax.default_matmul_precision("highest"):
        return _fit(key, points, None, weight, jnp.array(counts), tolerance, floor, *settings)


def em(
    start: Mixture,
    points: Array,
    *,
    labels: Array | None = None,
    classes: int | None = None,
    weight: Array | None = None,
    steps: int = 100,
    tolerance: Array | float = 1e-3,
    floor: Array | float = 1e-6,
) -> Fit:
    """Return the mixture that EM climbs to from this one; for the rest see `fit`.

    A tolerance of -inf takes all steps.
    """
    count = len(start.log_weights)
    points, labels, weight = _checked(points, labels, weight, [count], start.covariance, classes, floor, 1, steps)
    with jax.default_matmul_precision("highest"):
        return _em(start, points, labels, weight, tolerance, floor, classes, steps)


def step(
    params: Mixture,
    points: Array,
    *,
    labels: Array | None = None,
    classes: int | None = None,
    weight: Array | None = None,
    floor: Array | float = 1e-6,
) -> tuple[Mixture, Array]:
    """Return the mixture after one step of EM, and its mean log-likelihood; see `fit`."""
    found = em(params, points, labels=labels, classes=classes, weight=weight, steps=1, floor=floor)
    return found.params, found.log_likelihood


def init(
    key: Key,
    points: Array,
    count: int,
    covariance: str = "full",
    *,
    labels: Array | None = None,
    classes: int | None = None,
    weight: Array | None = None,
) -> Mixture:
    """Return a start: equal shares, round covariances, and means drawn from the points as k-means++ draws them.

    Each next mean is a point drawn in proportion to its squared distance from the nearest one so far. A class that has
    labelled points draws its means from these alone, far from each other; one that has none draws from the unlabelled.
    """
    points, labels, weight = _checked(points, labels, weight, [count], covariance, classes, 1, 1, 1)
    units = _units(points, weight, covariance)
    start = _start(
        key, (points - units.centre[None]) / units.scale[None], labels, weight, count, covariance, count, classes
    )
    return _in_points(start, units)


def log_density(params: Mixture, points: Array) -> Array:
    """Return the log of each component's density at each point, [N, K], shares left out."""
    points = _checked_points(points, params.means.shape[1])
    with jax.default_matmul_precision("highest"):
        return _log_density(params, points)


def responsibilities(params: Mixture, points: Array) -> Array:
    """Return how probable each component is for each point, [N, K]."""
    return jax.nn.softmax(log_density(params, points) + params.log_weights[None])


def score(params: Mixture, points: Array, weight: Array | None = None) -> Array:
    """Return the mean log-likelihood [] of points [N, D], by their weights [N]."""
    each = logsumexp(log_density(params, points) + params.log_weights[None], axis=1)
    return jnp.average(each, weights=weight)


def apply(params: Mixture, points: Array, classes: int) -> Array:
    """Return log-probabilities [N, C] of the classes, by the components that each owns; see `owners`."""
    owners(params, classes)  # refuses what does not fit
    joint = log_density(params, points) + params.log_weights[None]
    return jax.nn.log_softmax(logsumexp(joint.reshape(len(joint), classes, -1), axis=2))


def owners(params: Mixture, classes: int) -> Array:
    """Return the class of each component, [K]: 0 0 1 1 2 2 for six components and three classes."""
    return _owners(len(params.log_weights), classes)


def covariances(params: Mixture) -> Array:
    """Return the covariance of each component, [K, D, D]."""
    count, features = params.means.shape
    if params.covariance in ("full", "tied"):
        matrices = params.cholesky @ jnp.swapaxes(params.cholesky, -1, -2)
        return jnp.broadcast_to(matrices, (count, features, features))
    variances = params.cholesky.reshape(count, -1, 1) ** 2
    return variances * jnp.eye(features, dtype=variances.dtype)[None]


def bic(params: Mixture, points: Array, weight: Array | None = None) -> Array:
    """Return Bayes' information criterion [], the lesser the better: parameters ln N - 2 ln likelihood."""
    total = jnp.asarray(len(points) if weight is None else jnp.sum(weight), params.means.dtype)
    return free_parameters(params) * jnp.log(total) - 2 * total * score(params, points, weight)


def aic(params: Mixture, points: Array, weight: Array | None = None) -> Array:
    """Return Akaike's information criterion [], the lesser the better: 2 parameters - 2 ln likelihood."""
    total = jnp.asarray(len(points) if weight is None else jnp.sum(weight), params.means.dtype)
    return 2 * free_parameters(params) - 2 * total * score(params, points, weight)


def free_parameters(params: Mixture) -> Array:
    """Return how many numbers are free, []: shares, means and covariances of the components that are present."""
    features = params.means.shape[1]
    count = jnp.sum(jnp.isfinite(params.log_weights))
    matrix = features * (features + 1) // 2
    own = {"full": matrix, "tied": 0, "diagonal": features, "spherical": 1}[params.covariance]
    return count * (1 + features + own) - 1 + (matrix if params.covariance == "tied" else 0)


class _Units(NamedTuple):
    """Points are centred and scaled for EM: rounding is relative to the spread then, not to an offset."""

    centre: Array  # [D]
    scale: Array  # [D] standard deviations; spherical: that of all columns together


class _Data(NamedTuple):
    """Points in blocks, columns first, so that sums over rows and components run along the rows."""

    points: Array  # [blocks, D, B] in units
    labels: Array | None  # [blocks, B]
    weight: Array  # [blocks, B] sums to 1; padding has 0


class _Moments(NamedTuple):
    """What the E step knows of the points, as means over all of them; z is the point as its component sees it."""

    share: Array  # [K] of r
    first: Array  # [K, D] of r z
    second: Array  # of r z zᵀ: full [K, D, D]; tied, of all components, [D, D]; its diagonal [K, D]; its trace [K]
    log_likelihood: Array  # []


@partial(jax.jit, static_argnames=("covariance", "most", "classes", "restarts", "steps"))
def _fit(
    key: Key,
    points: Array,
    labels: Array | None,
    weight: Array,
    counts: Array,
    tolerance: Array | float,
    floor: Array | float,
    covariance: str,
    most: int,
    classes: int | None,
    restarts: int,
    steps: int,
) -> Fit:
    """Return the best of the restarts for each of the counts, each at most `most`."""
    units = _units(points, weight, covariance)
    rows = (points - units.centre[None]) / units.scale[None]
    data = _in_blocks(rows, labels, weight, most)

    def one(lane: tuple[Array, Key]) -> Fit:
        count, key = lane
        return _climb(
            _start(key, rows, labels, weight, count, covariance, most, classes), data, tolerance, floor, classes, steps
        )

    lanes = jnp.repeat(counts, restarts), jnp.tile(jax.random.split(key, restarts), len(counts))
    found = jax.lax.map(one, lanes, batch_size=_together(len(lanes[0]), rows.nbytes * most))
    best = jnp.argmax(found.log_likelihood.reshape(-1, restarts), axis=1)
    found = jax.tree.map(lambda a: a[restarts * jnp.arange(len(counts)) + best], found)
    return jax.vmap(_fit_in_points, (0, None))(found, units)


def _together(lanes: int, lane_bytes: int) -> int:
    """Return how many starts climb at once: what fits the cache, and divides them all.

    Small ones together, since an operation costs more than its numbers do; large ones in turn, since each uses all
    cores and stops by itself.
    """
    return max(
        size for size in range(1, lanes + 1) if lanes % size == 0 and (size == 1 or size * lane_bytes <= BLOCK_BYTES)
    )


@partial(jax.jit, static_argnames=("classes", "steps"))
def _em(
    start: Mixture,
    points: Array,
    labels: Array | None,
    weight: Array,
    tolerance: Array | float,
    floor: Array | float,
    classes: int | None,
    steps: int,
) -> Fit:
    units = _units(points, weight, start.covariance)
    rows = (points - units.centre[None]) / units.scale[None]
    data = _in_blocks(rows, labels, weight, len(start.log_weights))
    start = jax.tree.map(lambda a: a.astype(rows.dtype), start)
    return _fit_in_points(_climb(_in_units(start, units), data, tolerance, floor, classes, steps), units)


def _climb(
    start: Mixture, data: _Data, tolerance: Array | float, floor: Array | float, classes: int | None, steps: int
) -> Fit:
    class State(NamedTuple):
        params: Mixture
        moments: _Moments
        history: Array
        step: Array
        gain: Array

    def going(state: State) -> Array:
        return (state.step < steps) & (state.gain >= tolerance)

    def climb(state: State) -> State:
        params = _maximised(state.params, state.moments, floor)
        moments = _expected(params, data, floor, classes)
        history = state.history.at[state.step].set(moments.log_likelihood)
        return State(params, moments, history, state.step + 1, moments.log_likelihood - state.moments.log_likelihood)

    moments = _expected(start, data, floor, classes)
    dtype = moments.log_likelihood.dtype
    state = State(start, moments, jnp.zeros(steps, dtype), jnp.zeros((), jnp.int32), jnp.array(jnp.inf, dtype))
    end = jax.lax.while_loop(going, climb, state)
    likelihood = end.moments.log_likelihood
    history = jnp.where(jnp.arange(steps) < end.step, end.history, likelihood)
    return Fit(end.params, likelihood, history, end.step, end.gain < tolerance)


def _expected(params: Mixture, data: _Data, floor: Array | float, classes: int | None) -> _Moments:
    """Return the moments of the points under these params: the E step, block after block."""
    count = len(params.log_weights)
    inverse = _inverse(params)
    constant = params.log_weights + _log_normaliser(params) - floor * _precision(params, inverse) / 2
    owner = _owners(count, classes or count)

    def add(total: _Moments, block: _Data) -> tuple[_Moments, None]:
        z = _whitened(params, inverse, block.points)
        joint = constant[:, None] - _half_squares(z)
        if block.labels is not None:
            own = (block.labels[None] < 0) | (block.labels[None] == owner[:, None])
            joint = jnp.where(own, joint, -jnp.inf)
        likelihood = logsumexp(joint, axis=0)
        share = block.weight[None] * jnp.exp(joint - likelihood[None])
        part = share[:, None] * z
        second = {
            "full": lambda: jnp.einsum("kdb,keb->kde", part, z),
            "tied": lambda: jnp.einsum("kdb,keb->de", part, z),
            "diagonal": lambda: jnp.sum(part * z, axis=2),
            "spherical": lambda: jnp.sum(part * z, axis=(1, 2)),
        }[params.covariance]()
        found = _Moments(jnp.sum(share, 1), jnp.sum(part, 2), second, jnp.vdot(block.weight, likelihood))
        return jax.tree.map(jnp.add, total, found), None

    zeros = _Moments(
        jnp.zeros_like(params.log_weights),
        jnp.zeros_like(params.means),
        jnp.zeros_like(params.cholesky),
        jnp.zeros((), params.means.dtype),
    )
    return jax.lax.scan(add, zeros, data)[0]


def _maximised(params: Mixture, moments: _Moments, floor: Array | float) -> Mixture:
    """Return the params that these moments make likeliest: the M step."""
    features = params.means.shape[1]
    inverse = _inverse(params)
    alive = moments.share > LEAST_SHARE
    share = jnp.where(alive, moments.share, 1)
    shift = jnp.where(alive[:, None], moments.first / share[:, None], 0)  # [K, D] of the mean, as z
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
    else:  # rounding may leave less than 0 of a variance that is 0
        if params.covariance == "diagonal":
            spread = jnp.maximum(moments.second / share[:, None] - shift**2, 0) + floor * inverse**2
            alone, each = alive[:, None], params.cholesky
        else:
            spread = jnp.maximum(moments.second / share - jnp.sum(shift**2, 1), 0) / features + floor * inverse**2
            alone, each = alive, params.cholesky[:, None]
        factor = params.cholesky * jnp.sqrt(jnp.where(alone, spread, 1))
        move = each * shift
    log_share = jnp.log(jnp.maximum(moments.share, LEAST_SHARE))
    log_weights = jnp.where(jnp.isfinite(params.log_weights), log_share, -jnp.inf)
    return replace(params, log_weights=log_weights, means=params.means + move, cholesky=factor)


def _cholesky(matrices: Array) -> Array:
    """Return lower factors; of matrices that rounding has robbed of definiteness, with more on the diagonal."""
    identity = jnp.broadcast_to(jnp.eye(matrices.shape[-1], dtype=matrices.dtype), matrices.shape)
    size = jnp.trace(matrices, axis1=-2, axis2=-1)[..., None, None]
    more = 10 * matrices.shape[-1] * jnp.finfo(matrices.dtype).eps * size
    mended = jnp.linalg.cholesky(matrices + more * identity)
    factor = jnp.linalg.cholesky(matrices)
    definite = jnp.all(jnp.isfinite(factor), axis=(-2, -1), keepdims=True)
    return jnp.where(definite, factor, mended)


def _inverse(params: Mixture) -> Array:
    """Return the inverse of the Cholesky factors, in their shape."""
    if params.covariance in ("diagonal", "spherical"):
        return 1 / params.cholesky
    identity = jnp.broadcast_to(jnp.eye(params.cholesky.shape[-1], dtype=params.cholesky.dtype), params.cholesky.shape)
    return solve_triangular(params.cholesky, identity, lower=True)


def _whitened(params: Mixture, inverse: Array, points: Array) -> Array:
    """Return z = L⁻¹ (x - μ), [K, D, B], of points [D, B]."""
    count, features = params.means.shape
    if params.covariance == "full":
        seen = (inverse.reshape(-1, features) @ points).reshape(count, features, -1)
        return seen - jnp.einsum("kde,ke->kd", inverse, params.means)[:, :, None]
    if params.covariance == "tied":
        return (inverse @ points)[None] - (params.means @ inverse.T)[:, :, None]
    return inverse.reshape(count, -1, 1) * (points[None] - params.means[:, :, None])


def _half_squares(z: Array) -> Array:
    """Return half of the squared distance from the mean, [K, B]; of points too far to square it, a great number."""
    return jnp.minimum(jnp.sum(z**2, axis=1) / 2, jnp.finfo(z.dtype).max / 8)


def _log_normaliser(params: Mixture) -> Array:
    """Return the log density of each component at its mean, [K]; tied: [1]."""
    features = params.means.shape[1]
    if params.covariance in ("full", "tied"):
        diagonal = jnp.diagonal(params.cholesky, axis1=-2, axis2=-1).reshape(-1, features)
    else:
        diagonal = jnp.broadcast_to(params.cholesky.reshape(len(params.means), -1), params.means.shape)
    return -features / 2 * math.log(2 * math.pi) - jnp.sum(jnp.log(diagonal), axis=1)


def _precision(params: Mixture, inverse: Array) -> Array:
    """Return the trace of each component's inverse covariance, [K]; tied: [1]."""
    count, features = params.means.shape
    squares = jnp.sum(inverse.reshape(1 if params.covariance == "tied" else count, -1) ** 2, axis=1)
    return features * squares if params.covariance == "spherical" else squares


@jax.jit
def _log_density(params: Mixture, points: Array) -> Array:
    share = jnp.exp(params.log_weights)
    centre = share @ params.means / jnp.sum(share)  # an offset common to all would cost digits
    params = replace(params, means=params.means - centre[None])
    data = _in_blocks(points - centre[None], None, jnp.ones(len(points), points.dtype), len(share))
    inverse, constant = _inverse(params), _log_normaliser(params)

    def block(columns: Array) -> Array:
        return (constant[:, None] - _half_squares(_whitened(params, inverse, columns))).T

    return jax.lax.map(block, data.points).reshape(-1, len(share))[: len(points)]


def _start(
    key: Key,
    rows: Array,
    labels: Array | None,
    weight: Array,
    count: Array | int,
    covariance: str,
    most: int,
    classes: int | None,
) -> Mixture:
    """Return the start of `init` from rows in units; of `most` components the first `count` are present."""
    features, each = rows.shape[1], most // (classes or most)
    owner = _owners(most, classes or most)

    def draw(carry: tuple[Array, Array], place: tuple[Array, Array, Key]) -> tuple[tuple[Array, Array], Array]:
        nearest, of_class = carry
        component, owner, key = place
        away, candidates = nearest, weight
        if labels is not None:
            of_class = jnp.where(component % each == 0, jnp.inf, of_class)
            own, free = weight * (labels == owner), weight * (labels < 0)
            told = jnp.any(own > 0)
            away = jnp.where(told, of_class, nearest)
            candidates = jnp.where(told, own, jnp.where(jnp.any(free > 0), free, weight))
        chances = candidates * jnp.where(jnp.isfinite(away), away, 1)
        chances = jnp.where(jnp.any(chances > 0), chances, candidates)  # all candidates are means already
        mean = rows[jax.random.choice(key, len(rows), p=chances)]
        distance = jnp.sum((rows - mean[None]) ** 2, axis=1)
        nearest = jnp.where(component < count, jnp.minimum(nearest, distance), nearest)
        return (nearest, jnp.minimum(of_class, distance)), mean

    unknown_yet = jnp.full(len(rows), jnp.inf, rows.dtype)
    places = jnp.arange(most), owner, jax.random.split(key, most)
    (nearest, _), means = jax.lax.scan(draw, (unknown_yet, unknown_yet), places)
    # As round and wide as the points around the means; points that are all means would leave nothing to begin with.
    width = jnp.sqrt(jnp.maximum(jnp.vdot(weight, nearest) / (features * jnp.sum(weight)), LEAST_VARIANCE))
    shapes = {"full": (most, features, features), "tied": (features,) * 2, "diagonal": (most, features)}
    round_one = jnp.eye(features, dtype=rows.dtype) if covariance in ("full", "tied") else jnp.ones((), rows.dtype)
    factor = jnp.broadcast_to(width * round_one, shapes.get(covariance, (most,)))
    log_weights = jnp.where(jnp.arange(most) < count, -jnp.log(jnp.asarray(count, rows.dtype)), -jnp.inf)
    return Mixture(log_weights, means, factor, covariance)


def _owners(count: int, classes: int) -> Array:
    if classes < 1 or count % classes:
        raise UserError(f"{count} components for {classes} classes: give each class as many")
    return jnp.arange(count) // (count // classes)


def _units(points: Array, weight: Array, covariance: str) -> _Units:
    share = weight / jnp.maximum(jnp.sum(weight), jnp.finfo(weight.dtype).tiny)
    rough = share @ points
    centre = rough + share @ (points - rough[None])  # the first mean is rounded to an offset's digits
    variance = share @ (points - centre[None]) ** 2
    if covariance == "spherical":
        variance = jnp.full_like(variance, jnp.mean(variance))
    rounding = 4 * jnp.finfo(points.dtype).eps * jnp.max(jnp.abs(points), axis=0)
    return _Units(centre, jnp.where(jnp.sqrt(variance) > rounding, jnp.sqrt(variance), 1))


def _in_units(params: Mixture, units: _Units) -> Mixture:
    means = (params.means - units.centre[None]) / units.scale[None]
    return replace(params, means=means, cholesky=params.cholesky / _rows_of_factor(params, units.scale))


def _in_points(params: Mixture, units: _Units) -> Mixture:
    means = params.means * units.scale[None] + units.centre[None]
    return replace(params, means=means, cholesky=params.cholesky * _rows_of_factor(params, units.scale))


def _fit_in_points(fit: Fit, units: _Units) -> Fit:
    shift = jnp.sum(jnp.log(units.scale))
    return fit._replace(
        params=_in_points(fit.params, units), log_likelihood=fit.log_likelihood - shift, history=fit.history - shift
    )


def _rows_of_factor(params: Mixture, scale: Array) -> Array:
    """Return the scale [D] as it multiplies the rows of the Cholesky factors."""
    return {
        "full": scale[None, :, None], "tied": scale[:, None], "diagonal": scale[None], "spherical": scale[:1],
    }[params.covariance]  # fmt: skip


def _in_blocks(rows: Array, labels: Array | None, weight: Array, count: int) -> _Data:
    n, features = rows.shape
    most = max(BLOCK_ROWS, BLOCK_BYTES // (rows.dtype.itemsize * count * features))
    blocks = -(-n // most)
    size = -(-n // blocks)

    def split(array: Array) -> Array:
        padding = ((0, blocks * size - n), *((0, 0) for _ in array.shape[1:]))
        return jnp.pad(array, padding).reshape(blocks, size, *array.shape[1:])

    share = weight / jnp.maximum(jnp.sum(weight), jnp.finfo(weight.dtype).tiny)
    return _Data(jnp.swapaxes(split(rows), 1, 2), None if labels is None else split(labels), split(share))


def _known(value: object) -> bool:
    """Return whether this is a value now, not one that a compiled program will be given."""
    return not isinstance(value, jax.core.Tracer)


def _checked_points(points: Array, features: int | None = None) -> Array:
    points = jnp.asarray(points, jnp.result_type(points, float))
    if points.ndim != 2 or len(points) == 0 or (features is not None and points.shape[1] != features):
        raise UserError(f"points have shape {points.shape}: pass [points, {features or 'features'}]")
    if _known(points) and not bool(jnp.isfinite(jnp.sum(points**2))):
        wrong = np.argwhere(~np.isfinite(np.asarray(points)))
        if len(wrong):
            row, column = wrong[0]
            raise UserError(
                f"points: row {row}, column {column} is {points[row, column]}: a density needs finite numbers, so fill "
                "it in or leave the row out"
            )
    return points


def _checked(
    points: Array,
    labels: Array | None,
    weight: Array | None,
    counts: Sequence[int],
    covariance: str,
    classes: int | None,
    floor: Array | float,
    restarts: int,
    steps: int,
) -> tuple[Array, Array | None, Array]:
    """Return points, labels and weight as arrays; raise what `fit` says."""
    if covariance not in COVARIANCES:
        raise unknown("covariance", covariance, COVARIANCES)
    points = _checked_points(points)
    n = len(points)
    if weight is not None and jnp.shape(weight) != (n,):
        raise UserError(f"weight has shape {jnp.shape(weight)}: pass one number a point, [{n}]")
    weight = jnp.ones(n, points.dtype) if weight is None else jnp.asarray(weight, points.dtype)
    if _known(weight) and not bool(jnp.all((weight >= 0) & jnp.isfinite(weight))):
        raise UserError("weight: some are negative or not finite; give numbers of 0 or more")
    there = int(jnp.sum(weight > 0)) if _known(weight) else n
    for count in counts:
        if not 1 <= count <= there:
            raise UserError(f"count = {count} components of {there} points: ask for 1 to {there}")
        _owners(count, classes or count)
    if restarts < 1 or steps < 1:
        raise UserError(f"restarts = {restarts}, steps = {steps}: both must be 1 or more")
    if _known(floor) and not floor > 0:
        raise UserError(f"floor = {floor}: it must be above 0, or a component could shrink to a point")
    if labels is None:
        return points, None, weight
    labels = jnp.asarray(labels)
    if labels.shape != (n,) or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise UserError(f"labels are {labels.dtype}{list(labels.shape)}: pass {n} integers, -1 where there is none")
    if _known(labels):
        known, most = np.asarray(labels), classes or max(counts)
        wrong = np.flatnonzero((known < -1) | (known >= most))
        if wrong.size:
            raise UserError(
                f"row {wrong[0]} has label {known[wrong[0]]}: {most} classes are 0 to {most - 1}, -1 is none"
            )
    return points, labels, weight
