"""k-means and Gaussian mixtures as learners."""

import dataclasses

import jax
import jax.numpy as jnp

from mllab import checks
from mllab.errors import unknown
from mllab.learners.common import check_hyper, checked_learner, fold_by_fold, points_of
from mllab.models import kmeans as clusters
from mllab.models import mixture as mixtures
from mllab.models.trees import LEAST_LOG_PROBABILITY
from mllab.rows import gather
from mllab.types import Array, Examples, Hyper, Inputs, Key, Outputs, Rows
from mllab.validation import Axes, Learner


def kmeans(most: int, restarts: int = 10) -> Learner:
    """Return k-means; it reads `k`, 1 to `most`, and predicts minus the squared distance to the nearest centre.

    Its `grid` fits every k of a fold from the same starts, with shared products. Outputs for a k beyond `most` are NaN.

    Args:
        most: the greatest k, a static size.
        restarts: starts of each fit, of which the best is kept.
    """
    checks.check_whole(1, most=most, restarts=restarts)

    def fit(hyper: Hyper, key: Key, examples: Examples, rows: Rows) -> clusters.KMeans:
        check_hyper(hyper, ["k"])
        points = points_of(examples, rows.ids)
        return clusters.fit(key, points, hyper["k"], restarts=restarts, weight=rows.weight, most=most)

    def predict(params: clusters.KMeans, inputs: Inputs) -> Outputs:
        return -clusters.assign(params, inputs.reshape(len(inputs), -1))[1]

    @jax.jit
    def grid(axes: Axes, key: Key, examples: Examples, train: Rows, held_out: Rows) -> Outputs:
        check_hyper(axes, ["k"])

        def fold(rows: Rows, queries: Array) -> Outputs:
            points = points_of(examples, rows.ids)
            swept = clusters.sweep(key, points, axes["k"], restarts=restarts, weight=rows.weight, most=most)
            outputs = predict(swept, points_of(examples, queries))
            return jnp.where(jnp.asarray(axes["k"])[:, None] <= most, outputs, jnp.nan)

        return fold_by_fold(fold, train, held_out)

    return checked_learner(fit, predict, grid)


def mixture(classes: int, covariance: str = "full", components: int = 1, restarts: int = 10) -> Learner:
    """Return the classifier by Gaussian mixtures; it reads `floor`. See `mixture.fit`.

    Targets of -1 are rows without a label, which it learns from too. A class without a labelled row has the
    log-probability `LEAST_LOG_PROBABILITY`, wherever its Gaussians were left.

    Args:
        classes: C.
        covariance: a name in `mixture.COVARIANCES`.
        components: of each class.
        restarts: starts of each fit, of which the best is kept.
    """
    checks.check_whole(1, classes=classes, components=components, restarts=restarts)
    if covariance not in mixtures.COVARIANCES:
        raise unknown("covariance", covariance, mixtures.COVARIANCES)

    def fit(hyper: Hyper, key: Key, examples: Examples, rows: Rows) -> mixtures.Mixture:
        check_hyper(hyper, ["floor"])
        chosen = gather(examples, rows.ids)
        labelled = jnp.zeros(classes).at[chosen["targets"]].add(rows.weight * (chosen["targets"] >= 0))
        params = mixtures.fit(
            key,
            points_of(chosen),
            classes * components,
            covariance=covariance,
            labels=chosen["targets"],
            classes=classes,
            weight=jnp.asarray(rows.weight),
            restarts=restarts,
            floor=hyper["floor"],
        ).params
        present = jnp.repeat(labelled > 0, components)
        return dataclasses.replace(params, log_weights=jnp.where(present, params.log_weights, -jnp.inf))

    def predict(params: mixtures.Mixture, inputs: Inputs) -> Outputs:
        outputs = mixtures.apply(params, inputs.reshape(len(inputs), -1), classes)
        return jnp.where(jnp.isneginf(outputs), LEAST_LOG_PROBABILITY, outputs)

    return checked_learner(fit, predict, classes=classes, unlabelled=True)
