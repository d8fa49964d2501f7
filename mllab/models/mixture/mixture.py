r"""Gaussian mixtures by expectation-maximisation (EM), from labelled points, unlabelled points, or both.

    $$ p(x) = \sum_k \pi_k \mathcal{N}(x; \mu_k, \Sigma_k), \quad
       r_{ik} = \frac{\pi_k \mathcal{N}(x_i; \mu_k, \Sigma_k)}{\sum_j \pi_j \mathcal{N}(x_i; \mu_j, \Sigma_j)} $$

A step computes the responsibilities r (E), and with weights of the points $\omega_i$ that sum to 1 (M)

    $$ \pi_k = \sum_i \omega_i r_{ik}, \quad \mu_k = \sum_i \omega_i r_{ik} x_i / \pi_k, \quad
       \Sigma_k = \sum_i \omega_i r_{ik} (x_i - \mu_k) (x_i - \mu_k)^\top / \pi_k + \varepsilon V. $$

A labelled point belongs only to the components of its class: its other responsibilities are 0, and its likelihood is
the joint one of point and label.

The floor $\varepsilon V$, V the diagonal matrix of the variances of the columns, keeps every covariance invertible. It
amounts to blurring each point by Gaussian noise of that covariance, which the E step accounts for too:
$\ln \mathcal{N}$ loses $\varepsilon\, \mathrm{tr}(V \Sigma_k^{-1}) / 2$. The objective is then the mean log-likelihood
of the blurred points; it never decreases, and differs from `score` only where a component is nearly as narrow as the
floor.

Each covariance is stored as its Cholesky factor, $\Sigma = L L^\top$. Densities and moments are those of
$z = L^{-1} (x - \mu)$, and the next factor is L times that of the covariance of z. Near convergence the latter is the
identity, so that elongated components lose no digits.

Sources: Dempster, Laird and Rubin, J. Royal Statistical Society B 39 (1977); Bishop, *Pattern Recognition and Machine
Learning* (2006), section 9.2.2; Nigam et al., *Text classification from labeled and unlabeled documents using EM*,
Machine Learning 39 (2000), for the labels; Arthur and Vassilvitskii, *k-means++* (2007), for the starts.
"""

import math
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp

from mllab import checks
from mllab.errors import UserError, unknown
from mllab.models.mixture import expectation, gaussians
from mllab.models.mixture.expectation import Fit
from mllab.models.mixture.gaussians import COVARIANCES, Mixture, free_parameters
from mllab.types import Array, Key


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
    """Return the mixture of greatest likelihood among several restarts of EM, all in one program.

    Args:
        key: for the starts.
        points: [N, D].
        count: K, the number of components.
        covariance: `"full"`, `"tied"` (one for all), `"diagonal"` or `"spherical"`.
        labels: class of each point, [N] integers, -1 for none; by default no point has one. Components are ordered by
            class, equally many for each; see `owners`.
        classes: C, a divisor of count; by default each component is a class.
        weight: of each point, [N], at least 0; 1 by default. Points of weight 0 are ignored.
        restarts: number of starts, each with other means (see `init`).
        steps: maximum of steps for a start.
        tolerance: EM has converged when a step raises the mean log-likelihood by less.
        floor: added to each variance, relative to the variance of its column (spherical: the mean of all columns).

    Raises:
        UserError: shapes that do not match, an unknown covariance, more components than points, labels out of range,
            entries that are not finite. Values of traced arguments are not checked.
    """
    points, labels, weight = _checked(points, labels, weight, [count], covariance, classes, floor, restarts, steps)
    checks.check_key(key)
    checks.check_at_least(-math.inf, tolerance=tolerance)
    counts, settings = jnp.array([count]), (covariance, count, classes, restarts, steps)
    with jax.default_matmul_precision("highest"):
        fits = _fit(key, points, labels, weight, counts, tolerance, floor, *settings)
    return _finite(jax.tree.map(lambda a: a[0], fits))


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
    """Return the fits for several numbers of components, with leading axis [len(counts)]; see `fit` for the arguments.

    All have as many components as the greatest count; the surplus ones are absent. The criteria of all fits are
    `jax.vmap(bic, (0, None))(fits.params, points)`.
    """
    points, _, weight = _checked(points, None, weight, counts, covariance, None, floor, restarts, steps)
    checks.check_key(key)
    checks.check_at_least(-math.inf, tolerance=tolerance)
    settings = covariance, max(counts), None, restarts, steps
    with jax.default_matmul_precision("highest"):
        return _finite(_fit(key, points, None, weight, jnp.array(counts), tolerance, floor, *settings))


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
    block_rows: int | None = None,
) -> Fit:
    """Return the result of EM from this start; see `fit` for the arguments.

    A tolerance of -inf takes all steps. `block_rows` points are processed at once (default: what fits the cache).
    """
    count = len(start.log_weights)
    points, labels, weight = _checked(points, labels, weight, [count], start.covariance, classes, floor, 1, steps)
    with jax.default_matmul_precision("highest"):
        return _em(start, points, labels, weight, tolerance, floor, classes, steps, block_rows)


def step(
    params: Mixture,
    points: Array,
    *,
    labels: Array | None = None,
    classes: int | None = None,
    weight: Array | None = None,
    floor: Array | float = 1e-6,
) -> tuple[Mixture, Array]:
    """Return the mixture after one step of EM, and its mean log-likelihood; see `fit` for the arguments."""
    stepped = em(params, points, labels=labels, classes=classes, weight=weight, steps=1, floor=floor)
    return stepped.params, stepped.log_likelihood


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
    """Return a start: equal weights, spherical covariances, and means drawn from the points by k-means++.

    Each mean is a point drawn in proportion to its squared distance from the nearest mean so far. A class with labelled
    points draws its means from these, by their distances to the means of the same class; one without draws from the
    unlabelled points.
    """
    points, labels, weight = _checked(points, labels, weight, [count], covariance, classes, 1, 1, 1)
    checks.check_key(key)
    return _init(key, points, labels, weight, covariance, count, classes)


def log_density(params: Mixture, points: Array, block_rows: int | None = None) -> Array:
    """Return the log density of each component at each point, [N, K], without mixing weights.

    Args:
        params: the mixture.
        points: [N, D].
        block_rows: points that are processed at once (default: what fits the cache).
    """
    points = checks.check_array(points, ("N", params.means.shape[1]), "points")
    with jax.default_matmul_precision("highest"):
        return gaussians.log_density(params, points, block_rows)


def responsibilities(params: Mixture, points: Array) -> Array:
    """Return the responsibilities: the probability of each component given each point, [N, K]."""
    return jax.nn.softmax(log_density(params, points) + params.log_weights[None])


def score(params: Mixture, points: Array, weight: Array | None = None) -> Array:
    """Return the mean log-likelihood [] of points [N, D], weighted by `weight` [N]."""
    return _scored(params, points, weight)[1]


def apply(params: Mixture, points: Array, classes: int) -> Array:
    """Return log-probabilities [N, C] of the classes, each the sum over its components; see `owners`."""
    expectation.per_class(len(params.log_weights), classes)  # raises for a number that does not fit
    return _by_class(params, log_density(params, points), classes)


def owners(params: Mixture, classes: int) -> Array:
    """Return the class of each component, [K]: 0 0 1 1 2 2 for six components and three classes."""
    return expectation.owners(len(params.log_weights), classes)


def bic(params: Mixture, points: Array, weight: Array | None = None) -> Array:
    """Return the Bayesian information criterion [], lower is better: parameters ln N - 2 ln likelihood."""
    total, mean = _scored(params, points, weight)
    return free_parameters(params) * jnp.log(total) - 2 * total * mean


def aic(params: Mixture, points: Array, weight: Array | None = None) -> Array:
    """Return the Akaike information criterion [], lower is better: 2 parameters - 2 ln likelihood."""
    total, mean = _scored(params, points, weight)
    return 2 * free_parameters(params) - 2 * total * mean


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
    """Return the best of the restarts for each of the counts, which are at most `most`."""
    rows, units = expectation.standardised(points, weight, covariance)
    data = gaussians.in_blocks(rows, labels, weight, most)

    def one(lane: tuple[Array, Key]) -> Fit:
        count, key = lane
        return expectation.iterate(
            expectation.drawn_start(key, rows, labels, weight, count, covariance, most, classes),
            data,
            tolerance,
            floor,
            classes,
            steps,
        )

    lanes = jnp.repeat(counts, restarts), jnp.tile(jax.random.split(key, restarts), len(counts))
    fits = jax.lax.map(one, lanes, batch_size=expectation.restarts_in_cache(len(lanes[0]), rows.nbytes * most))
    best = jnp.argmax(fits.log_likelihood.reshape(-1, restarts), axis=1)
    fits = jax.tree.map(lambda a: a[restarts * jnp.arange(len(counts)) + best], fits)
    return jax.vmap(expectation.fit_in_points, (0, None))(fits, units)


@partial(jax.jit, static_argnames=("covariance", "count", "classes"))
def _init(
    key: Key, points: Array, labels: Array | None, weight: Array, covariance: str, count: int, classes: int | None
) -> Mixture:
    rows, units = expectation.standardised(points, weight, covariance)
    start = expectation.drawn_start(key, rows, labels, weight, count, covariance, count, classes)
    return expectation.in_points(start, units)


@partial(jax.jit, static_argnames=("classes", "steps", "block_rows"))
def _em(
    start: Mixture,
    points: Array,
    labels: Array | None,
    weight: Array,
    tolerance: Array | float,
    floor: Array | float,
    classes: int | None,
    steps: int,
    block_rows: int | None,
) -> Fit:
    rows, units = expectation.standardised(points, weight, start.covariance)
    data = gaussians.in_blocks(rows, labels, weight, len(start.log_weights), block_rows)
    start = jax.tree.map(lambda a: a.astype(rows.dtype), start)
    return expectation.fit_in_points(
        expectation.iterate(expectation.in_units(start, units), data, tolerance, floor, classes, steps), units
    )


@jax.jit
def _score(params: Mixture, densities: Array, weight: Array | None) -> Array:
    return jnp.average(logsumexp(densities + params.log_weights[None], axis=1), weights=weight)


@partial(jax.jit, static_argnames="classes")
def _by_class(params: Mixture, densities: Array, classes: int) -> Array:
    joint = densities + params.log_weights[None]
    return jax.nn.log_softmax(logsumexp(joint.reshape(len(joint), classes, -1), axis=2))


def _scored(params: Mixture, points: Array, weight: Array | None) -> tuple[Array, Array]:
    """Return the sum of the weights [] and the mean log-likelihood []."""
    densities = log_density(params, points)
    weight = checks.check_weight(weight, len(densities), densities.dtype)
    return jnp.sum(weight), _score(params, densities, weight)


def _finite(fit: Fit) -> Fit:
    params = fit.params
    mend = "rescale the points, raise the floor, or use fewer components"
    return checks.finite_fit(fit, mend, params.means, params.cholesky, fit.log_likelihood)


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
    """Return points, labels and weight as arrays.

    Raises:
        UserError: see `fit`.
    """
    if covariance not in COVARIANCES:
        raise unknown("covariance", covariance, COVARIANCES)
    points = checks.check_array(points, ("N", "D"), "points")
    weight = checks.check_weight(weight, len(points), points.dtype)
    if not len(counts):
        raise UserError("counts is empty: give one number of components or more")
    for count in counts:
        checks.check_count("count", count, weight, "points")
        expectation.per_class(count, classes or count)
    checks.check_whole(1, restarts=restarts, steps=steps)
    checks.check_positive(floor=floor)  # without a floor a component could shrink to a point
    if labels is not None:
        labels = checks.check_labels(labels, len(points), classes or max(counts), "labels", unlabelled=True)
    return points, labels, weight
