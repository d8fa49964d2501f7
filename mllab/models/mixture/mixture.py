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

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp

from mllab.errors import UserError, unknown
from mllab.models import expectation, gaussians
from mllab.models.expectation import Fit
from mllab.models.gaussians import COVARIANCES, Mixture, covariances, free_parameters
from mllab.types import Array, Key, known

__all__ = [
    "COVARIANCES", "Fit", "Mixture", "aic", "apply", "bic", "covariances", "em", "fit", "free_parameters", "init",
    "log_density", "owners", "responsibilities", "score", "step", "sweep",
]  # fmt: skip


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
    return _init(key, points, labels, weight, covariance, count, classes)


def log_density(params: Mixture, points: Array) -> Array:
    """Return the log of each component's density at each point, [N, K], shares left out."""
    points = _checked_points(points, params.means.shape[1])
    with jax.default_matmul_precision("highest"):
        return gaussians.log_density(params, points)


def responsibilities(params: Mixture, points: Array) -> Array:
    """Return how probable each component is for each point, [N, K]."""
    return jax.nn.softmax(log_density(params, points) + params.log_weights[None])


def score(params: Mixture, points: Array, weight: Array | None = None) -> Array:
    """Return the mean log-likelihood [] of points [N, D], by their weights [N]."""
    return _score(params, log_density(params, points), weight)


def apply(params: Mixture, points: Array, classes: int) -> Array:
    """Return log-probabilities [N, C] of the classes, by the components that each owns; see `owners`."""
    owners(params, classes)  # refuses what does not fit
    return _by_class(params, log_density(params, points), classes)


def owners(params: Mixture, classes: int) -> Array:
    """Return the class of each component, [K]: 0 0 1 1 2 2 for six components and three classes."""
    return expectation.owners(len(params.log_weights), classes)


def bic(params: Mixture, points: Array, weight: Array | None = None) -> Array:
    """Return Bayes' information criterion [], the lesser the better: parameters ln N - 2 ln likelihood."""
    total = jnp.asarray(len(points) if weight is None else jnp.sum(weight), params.means.dtype)
    return free_parameters(params) * jnp.log(total) - 2 * total * score(params, points, weight)


def aic(params: Mixture, points: Array, weight: Array | None = None) -> Array:
    """Return Akaike's information criterion [], the lesser the better: 2 parameters - 2 ln likelihood."""
    total = jnp.asarray(len(points) if weight is None else jnp.sum(weight), params.means.dtype)
    return 2 * free_parameters(params) - 2 * total * score(params, points, weight)


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
    rows, units = expectation.standardised(points, weight, covariance)
    data = gaussians.in_blocks(rows, labels, weight, most)

    def one(lane: tuple[Array, Key]) -> Fit:
        count, key = lane
        return expectation.climb(
            expectation.drawn_start(key, rows, labels, weight, count, covariance, most, classes),
            data,
            tolerance,
            floor,
            classes,
            steps,
        )

    lanes = jnp.repeat(counts, restarts), jnp.tile(jax.random.split(key, restarts), len(counts))
    found = jax.lax.map(one, lanes, batch_size=expectation.together(len(lanes[0]), rows.nbytes * most))
    best = jnp.argmax(found.log_likelihood.reshape(-1, restarts), axis=1)
    found = jax.tree.map(lambda a: a[restarts * jnp.arange(len(counts)) + best], found)
    return jax.vmap(expectation.fit_in_points, (0, None))(found, units)


@partial(jax.jit, static_argnames=("covariance", "count", "classes"))
def _init(
    key: Key, points: Array, labels: Array | None, weight: Array, covariance: str, count: int, classes: int | None
) -> Mixture:
    rows, units = expectation.standardised(points, weight, covariance)
    start = expectation.drawn_start(key, rows, labels, weight, count, covariance, count, classes)
    return expectation.in_points(start, units)


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
    rows, units = expectation.standardised(points, weight, start.covariance)
    data = gaussians.in_blocks(rows, labels, weight, len(start.log_weights))
    start = jax.tree.map(lambda a: a.astype(rows.dtype), start)
    return expectation.fit_in_points(
        expectation.climb(expectation.in_units(start, units), data, tolerance, floor, classes, steps), units
    )


@jax.jit
def _score(params: Mixture, densities: Array, weight: Array | None) -> Array:
    return jnp.average(logsumexp(densities + params.log_weights[None], axis=1), weights=weight)


@partial(jax.jit, static_argnames="classes")
def _by_class(params: Mixture, densities: Array, classes: int) -> Array:
    joint = densities + params.log_weights[None]
    return jax.nn.log_softmax(logsumexp(joint.reshape(len(joint), classes, -1), axis=2))


@jax.jit
def _is_finite(points: Array) -> Array:
    """Return whether no number is NaN or infinite: a sum of squares tells, in one pass that writes nothing."""
    return jnp.isfinite(jnp.vdot(points, points))


def _checked_points(points: Array, features: int | None = None) -> Array:
    points = jnp.asarray(points, jnp.result_type(points, float))
    if points.ndim != 2 or len(points) == 0 or (features is not None and points.shape[1] != features):
        raise UserError(f"points have shape {points.shape}: pass [points, {features or 'features'}]")
    if known(points) and not _is_finite(points):
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
    if known(weight) and not np.all((np.asarray(weight) >= 0) & np.isfinite(np.asarray(weight))):
        raise UserError("weight: some are negative or not finite; give numbers of 0 or more")
    there = int(np.sum(np.asarray(weight) > 0)) if known(weight) else n
    if not len(counts):
        raise UserError("counts is empty: give one number of components or more")
    for count in counts:
        if not 1 <= count <= there:
            raise UserError(f"count = {count} components of {there} points: ask for 1 to {there}")
        expectation.owners(count, classes or count)
    if restarts < 1 or steps < 1:
        raise UserError(f"restarts = {restarts}, steps = {steps}: both must be 1 or more")
    if known(floor) and not floor > 0:
        raise UserError(f"floor = {floor}: it must be above 0, or a component could shrink to a point")
    if labels is None:
        return points, None, weight
    labels = jnp.asarray(labels)
    if labels.shape != (n,) or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise UserError(f"labels are {labels.dtype}{list(labels.shape)}: pass {n} integers, -1 where there is none")
    if known(labels):
        given, most = np.asarray(labels), classes or max(counts)
        wrong = np.flatnonzero((given < -1) | (given >= most))
        if wrong.size:
            raise UserError(
                f"row {wrong[0]} has label {given[wrong[0]]}: {most} classes are 0 to {most - 1}, -1 is none"
            )
    return points, labels, weight
