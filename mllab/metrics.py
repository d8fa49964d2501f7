"""What a model is scored by: values of each example, and summaries over seeds.

A metrics function gives a dict of `[B]` values from outputs and targets; the weighted means over the rows are taken
by `Run.score`. What is not a mean (RMSE, R²) is derived from means afterwards, on the host.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from mllab import losses
from mllab.types import Array, Outputs


def classification(outputs: Outputs, targets: Array) -> dict[str, Array]:
    """Return `loss` (cross entropy, nats) and `accuracy` (0 or 1) of each example, [B]."""
    hit = jnp.argmax(outputs, axis=-1) == targets
    return {"loss": losses.cross_entropy(outputs, targets), "accuracy": hit.astype(jnp.float32)}


def regression(outputs: Outputs, targets: Array) -> dict[str, Array]:
    """Return `loss` (squared error) of each example, [B]."""
    return {"loss": losses.squared_error(outputs, targets)}


class Interval(NamedTuple):
    """A mean over seeds (or folds, or rows) and its 95% interval; the bounds are NaN below two seeds."""

    mean: float
    low: float
    high: float
    seeds: int


def interval(values: np.ndarray) -> Interval:
    """Return the mean of values [seeds] and its 95% interval by Student's t (Student 1908).

    It speaks of the spread over seeds on one split, and of nothing else.
    """
    values = np.asarray(values, np.float64)
    mean = float(values.mean())
    if values.size < 2:
        return Interval(mean, float("nan"), float("nan"), values.size)
    from scipy.special import stdtrit  # here: jax needs SciPy anyway, but nobody else does at import

    half = float(stdtrit(values.size - 1, 0.975) * values.std(ddof=1) / np.sqrt(values.size))
    return Interval(mean, mean - half, mean + half, values.size)


def proportion(right: np.ndarray) -> Interval:
    """Return the share of rows that are right, [M], and its 95% interval over which rows were drawn.

    Source: Wilson, *Probable inference, the law of succession, and statistical inference*, JASA 22 (1927).
    """
    from scipy.special import ndtri  # here: as above

    rows, share, z = len(right), float(np.mean(right)), float(ndtri(0.975))
    middle = (share + z**2 / (2 * rows)) / (1 + z**2 / rows)
    half = z / (1 + z**2 / rows) * np.sqrt(share * (1 - share) / rows + z**2 / (4 * rows**2))
    return Interval(share, float(middle - half), float(middle + half), rows)


def most_frequent(targets: np.ndarray) -> int:
    """Return the most frequent class, of equal ones the first: what a model must do better than."""
    return int(np.bincount(targets).argmax())


def chance_loss(targets: np.ndarray, train: np.ndarray, rows: np.ndarray, task: str) -> float:
    """Return the loss over `rows` of predicting the training rows' class frequencies, or their mean.

    A run that does no better than this has failed. A class without a training row counts as if it had one.
    """
    if task == "regression":
        return float(np.mean((targets[rows] - targets[train].mean()) ** 2))
    counts = np.maximum(np.bincount(targets[train], minlength=int(targets.max()) + 1), 1)
    return float(-np.log(counts / counts.sum())[targets[rows]].mean())


def r_squared(squared_error: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return R² of a mean squared error over rows whose targets are these [M]; constant targets count as variance 1."""
    return 1 - squared_error / (float(targets.var()) or 1.0)
