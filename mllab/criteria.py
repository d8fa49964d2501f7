"""Criteria: what models are chosen by and compared on. One row each; see `Criterion`.

A criterion is a mean over rows, so that means over folds, and paired differences row by row, are all of one kind.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mllab.errors import unknown
from mllab.tasks import CLASSIFICATION, REGRESSION
from mllab.types import Array, Outputs
from mllab.validation import accuracy

LEAST_LOG_PROBABILITY = -20.0  # of a class that a model rules out: one wrong row must not make a mean infinite
Inverse = Callable[[Array], Array]  # from standardised, perhaps transformed, targets to their own unit


class Criterion(NamedTuple):
    """A score that is a mean over rows."""

    name: str
    label: str  # in tables and on axes
    task: str  # a name in `tasks.TASKS`
    by_row: Callable[[Outputs, Array, Inverse | None], Array]  # (outputs, targets, inverse) -> [M], greater is better
    shown: Callable[[np.ndarray], np.ndarray] = np.asarray  # mean of `by_row` -> the value that is reported
    greater_is_better: bool = True  # of reported values
    in_target_unit: bool = False
    points: str = ""  # unit of 100 times a difference of two values

    def score(self, inverse: Inverse | None = None) -> Callable[[Outputs, Array], Array]:
        """Return the `validation.Score` of this criterion: the same function for the same inverse."""
        key = self.name, inverse
        if key not in _SCORES:
            _SCORES[key] = lambda outputs, targets: self.by_row(outputs, targets, inverse)
        return _SCORES[key]

    def utility(self, means: np.ndarray) -> np.ndarray:
        """Return reported values with a sign such that greater is better, from means of `by_row`."""
        values = np.asarray(self.shown(means), np.float64)
        return values if self.greater_is_better else -values


_SCORES: dict[tuple[str, Inverse | None], Callable[[Outputs, Array], Array]] = {}  # one function, one compilation


def log_probability(outputs: Outputs, targets: Array, inverse: Inverse | None = None) -> Array:
    """Return the log-probability of each row's class, [M], not below LEAST_LOG_PROBABILITY; outputs are [M, C]."""
    del inverse
    logits = jnp.where(jnp.isnan(outputs), -jnp.inf, outputs)
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits, axis=-1), targets[:, None], axis=-1)[:, 0]
    return jnp.maximum(jnp.where(jnp.isnan(chosen), -jnp.inf, chosen), LEAST_LOG_PROBABILITY)


def brier(outputs: Outputs, targets: Array, inverse: Inverse | None = None) -> Array:
    """Return minus the Brier score of each row, the squared distance of probabilities and classes, [M], 0 to -2.

    Source: Brier, *Verification of forecasts expressed in terms of probability*, Monthly Weather Review 78 (1950).
    """
    del inverse
    probabilities = jax.nn.softmax(outputs, axis=-1)
    truth = jax.nn.one_hot(targets, outputs.shape[-1], dtype=probabilities.dtype)
    distance = ((probabilities - truth) ** 2).sum(axis=-1)
    return -jnp.where(jnp.isnan(distance), 2.0, distance)


def squared_error(outputs: Outputs, targets: Array, inverse: Inverse | None = None) -> Array:
    """Return minus the squared error of each row, [M]."""
    return -(_difference(outputs, targets, inverse) ** 2)


def absolute_error(outputs: Outputs, targets: Array, inverse: Inverse | None = None) -> Array:
    """Return minus the absolute error of each row, [M]."""
    return -jnp.abs(_difference(outputs, targets, inverse))


def _difference(outputs: Array, targets: Array, inverse: Inverse | None) -> Array:
    outputs = outputs.reshape(targets.shape)
    return outputs - targets if inverse is None else inverse(outputs) - inverse(targets)


CRITERIA: Mapping[str, Criterion] = {
    row.name: row
    for row in (
        Criterion(
            "accuracy", "accuracy", CLASSIFICATION.name, lambda outputs, targets, _: accuracy(outputs, targets),
            points="points",
        ),
        Criterion("log_loss", "log loss (nats)", CLASSIFICATION.name, log_probability, np.negative, False),
        Criterion("brier", "Brier score", CLASSIFICATION.name, brier, np.negative, False),
        Criterion(
            "rmse", "RMSE", REGRESSION.name, squared_error, lambda means: np.sqrt(-np.minimum(means, 0)), False, True
        ),
        Criterion("mae", "mean absolute error", REGRESSION.name, absolute_error, np.negative, False, True),
    )
}  # fmt: skip


def named(name: str | None, task: str) -> Criterion:
    """Return the criterion of this name, by default the first one of the task.

    Raises:
        UserError: an unknown name, or a criterion of another task.
    """
    rows = {row.name: row for row in CRITERIA.values() if row.task == task}
    if name is None:
        return next(iter(rows.values()))
    if name not in rows:
        raise unknown(f"criterion of {task}", name, rows)
    return rows[name]
