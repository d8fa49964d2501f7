"""Baselines: the best constant prediction."""

import jax
import jax.numpy as jnp

from mllab import checks
from mllab.learners.common import check_hyper, checked_learner, values_of
from mllab.rows import gather
from mllab.types import Array, Examples, Hyper, Inputs, Key, Outputs, Rows
from mllab.validation import Learner


def most_frequent(classes: int) -> Learner:
    """Return the baseline that predicts the class frequencies of its training rows; it reads no hyperparameters."""
    checks.check_whole(1, classes=classes)

    def fit(hyper: Hyper, key: Key, examples: Examples, rows: Rows) -> Array:
        del key
        check_hyper(hyper, ())
        counts = jnp.zeros(classes).at[gather(examples["targets"], rows.ids)].add(rows.weight)
        return jnp.log(counts + 1) - jnp.log(jnp.sum(counts) + classes)  # + 1: a class without rows is not impossible

    def predict(params: Array, inputs: Inputs) -> Outputs:
        return jnp.broadcast_to(params, (len(jax.tree.leaves(inputs)[0]), classes))

    return checked_learner(fit, predict, classes=classes)


def mean() -> Learner:
    """Return the baseline of regression: the mean target of its training rows; it reads no hyperparameters."""

    def fit(hyper: Hyper, key: Key, examples: Examples, rows: Rows) -> Array:
        del key
        check_hyper(hyper, ())
        return jnp.average(values_of(examples, rows.ids), weights=jnp.asarray(rows.weight))

    def predict(params: Array, inputs: Inputs) -> Outputs:
        return jnp.broadcast_to(params, (len(jax.tree.leaves(inputs)[0]),))

    return checked_learner(fit, predict, regression=True)
