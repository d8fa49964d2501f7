"""Tasks: what a model's outputs mean and how they are judged. One row per task; see `Task`.

Nothing outside this module branches on the name of a task: what depends on it is a column of its row.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mllab import losses, metrics
from mllab.errors import UserError, unknown
from mllab.metrics import Interval, interval
from mllab.types import Array, Outputs


class Score(NamedTuple):
    """A score derived from mean metrics over some rows; larger or smaller is better as its name implies."""

    name: str  # key in records and summaries
    label: str  # in tables and on axes
    # (mean metrics [...] by name, targets of the rows [M], scale of the target) -> the score [...]
    value: Callable[[Mapping[str, np.ndarray], np.ndarray, float], np.ndarray]
    lowest: float = -math.inf  # the least possible value
    points: str = ""  # unit of 100 times a difference of two such scores
    in_target_unit: bool = False

    def label_in(self, unit: str, target: str = "") -> str:
        """Return the label with the unit of the target, or with the target's name, where the score has that unit."""
        unit = unit or (f"units of {target}" if target else "")
        return f"{self.label} ({unit})" if self.in_target_unit and unit else self.label


@dataclass(frozen=True)
class Baseline:
    """The scores of the best constant prediction, which a model has to beat."""

    name: str  # what is predicted
    scores: Mapping[str, float]  # the reported ones, by name


class Task(NamedTuple):
    """What outputs mean and how they are judged."""

    name: str
    loss: Callable[[Outputs, Array], Array]  # (outputs, targets) -> [B]: what training minimises
    loss_unit: str
    metrics: Callable[[Outputs, Array], dict[str, Array]]  # (outputs, targets) -> {"loss": [B], ...}
    headline: Score  # what settings are chosen by, on validation rows; at most 1, larger is better
    reported: tuple[Score, ...]  # what is reported on test rows
    # (targets [N], training ids, ids of the rows to score) -> metrics [M] of the best constant prediction
    constant: Callable[[np.ndarray, np.ndarray, np.ndarray], dict[str, np.ndarray]]
    constant_name: str  # what that predicts
    check: Callable[[np.ndarray, tuple[int, ...]], None]  # (targets [N], shape of the outputs for one row)

    def report(
        self, mean_metrics: Mapping[str, np.ndarray], targets: np.ndarray, target_scale: float = 1.0
    ) -> dict[str, np.ndarray]:
        """Return the reported scores by name.

        Args:
            mean_metrics: each [...], as `Run.score` returns them.
            targets: of the rows that were scored, [M].
            target_scale: what a standardised target is multiplied by to have its unit.
        """
        return {score.name: score.value(mean_metrics, targets, target_scale) for score in self.reported}

    def chance(self, targets: np.ndarray, train: np.ndarray, rows: np.ndarray) -> float:
        """Return the loss of the best constant prediction, which is fitted to the training rows, on other rows.

        Args:
            targets: of all rows, [N].
            train: ids of the training rows.
            rows: ids of the rows to score, [M].
        """
        return float(self.constant(targets, train, rows)["loss"].mean())

    def baseline(self, targets: np.ndarray, train: np.ndarray, rows: np.ndarray, target_scale: float = 1.0) -> Baseline:
        """Return the reported scores of the best constant prediction; see `chance` and `report`."""
        means = {name: values.mean() for name, values in self.constant(targets, train, rows).items()}
        scores = self.report(means, targets[rows], target_scale)
        return Baseline(self.constant_name, {name: float(value) for name, value in scores.items()})

    def beats_baseline(
        self,
        row_metrics: Mapping[str, np.ndarray],
        targets: np.ndarray,
        train: np.ndarray,
        rows: np.ndarray,
        over: Callable[[np.ndarray], Interval] = interval,
    ) -> bool:
        """Return whether a model's headline score is clearly above that of the best constant prediction.

        See `metrics.is_clear`: the intervals of the difference over rows and over seeds must both exclude 0.

        Args:
            row_metrics: of the model on the rows, [G, M] each for G seeds.
            targets: of all rows, [N].
            train: ids of the training rows.
            rows: ids of the rows that were scored, [M].
            over: returns the interval of differences by seed, or by fold, [G].
        """
        model = self.by_row(row_metrics, targets[rows])
        constant = self.by_row(self.constant(targets, train, rows), targets[rows])
        return metrics.is_clear(metrics.paired(model, constant), over)

    def by_row(self, row_metrics: Mapping[str, np.ndarray], targets: np.ndarray) -> np.ndarray:
        """Return the headline score row by row, [..., M]: it is linear in the metrics, so the mean is the score.

        Args:
            row_metrics: of single rows, [..., M] each.
            targets: of the rows, [M].
        """
        return np.asarray(self.headline.value(row_metrics, targets, 1.0), np.float64)


def _frequencies(targets: np.ndarray, train: np.ndarray, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return the metrics of the training rows' class frequencies; a class counts as one row at least."""
    counts = np.maximum(np.bincount(targets[train], minlength=int(targets.max()) + 1), 1)
    correct = targets[rows] == metrics.most_frequent(targets[train])
    return {"loss": -np.log(counts / counts.sum())[targets[rows]], "accuracy": correct.astype(np.float64)}


def _mean(targets: np.ndarray, train: np.ndarray, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return the metrics of the training rows' mean; see `metrics.regression`."""
    squares = _columns((targets[rows] - targets[train].mean(axis=0)) ** 2)
    return {"loss": squares.mean(axis=0), **metrics.named_by_output(squares)}


def _check_classes(targets: np.ndarray, output_shape: tuple[int, ...]) -> None:
    """Raise UserError unless targets are classes that the logits cover."""
    if not np.issubdtype(targets.dtype, np.integer) or targets.ndim != 1:
        raise UserError(f"classes are whole numbers [N] from 0 up, not {targets.dtype}{list(targets.shape)}")
    if len(output_shape) != 2 or targets.min() < 0 or targets.max() >= output_shape[1]:
        raise UserError(
            f"targets are classes {targets.min()} to {targets.max()}; the model returns outputs of shape "
            f"{list(output_shape[1:])} per row, and classification needs one logit for each class from 0 up"
        )


def _check_values(targets: np.ndarray, output_shape: tuple[int, ...]) -> None:
    """Raise UserError unless every row has as many outputs as targets."""
    outputs = targets.shape[1:] or (1,)
    if targets.ndim not in (1, 2) or (output_shape[1:] or (1,)) != outputs:
        raise UserError(
            f"regression needs targets [N] and one output per row, or [N, T] and T outputs, not targets "
            f"{list(targets.shape)} and outputs of shape {list(output_shape[1:])} per row"
        )


def _columns(targets: np.ndarray) -> np.ndarray:
    """Return the targets of each output, [T, M]."""
    targets = np.asarray(targets)
    return targets[None] if targets.ndim == 1 else targets.T


def _r_squared(mean_metrics: Mapping[str, np.ndarray], targets: np.ndarray, scale: float) -> np.ndarray:
    """Return R², for T outputs the mean over them, as scikit-learn's `r2_score` does."""
    del scale
    columns = _columns(targets)
    errors = metrics.by_output(mean_metrics, len(columns))
    return np.mean([metrics.r_squared(*pair) for pair in zip(errors, columns, strict=True)], axis=0)


def _rmse(mean_metrics: Mapping[str, np.ndarray], targets: np.ndarray, scale: float) -> np.ndarray:
    """Return the RMSE, for T outputs the mean over them, as scikit-learn's `root_mean_squared_error` does."""
    errors = metrics.by_output(mean_metrics, len(_columns(targets)))
    return np.sqrt(errors).mean(axis=0) * scale


ACCURACY = Score(
    "accuracy", "accuracy", lambda mean_metrics, targets, scale: mean_metrics["accuracy"], lowest=0.0, points="points"
)
R_SQUARED = Score(
    "r2",
    "R²",
    _r_squared,
    points="points of R²",
)
RMSE = Score(
    "rmse",
    "RMSE",
    _rmse,
    lowest=0.0,
    in_target_unit=True,
)

CLASSIFICATION = Task(
    name="classification",
    loss=losses.cross_entropy,
    loss_unit="nats",
    metrics=metrics.classification,
    headline=ACCURACY,
    reported=(ACCURACY,),
    constant=_frequencies,
    constant_name="the most frequent class",
    check=_check_classes,
)
REGRESSION = Task(
    name="regression",
    loss=losses.squared_error,
    loss_unit="squared error, standardised target",
    metrics=metrics.regression,
    headline=R_SQUARED,
    reported=(RMSE, R_SQUARED),
    constant=_mean,
    constant_name="the mean",
    check=_check_values,
)
TASKS: Mapping[str, Task] = {task.name: task for task in (CLASSIFICATION, REGRESSION)}


def named(task: str | Task) -> Task:
    """Return the task of this name; a `Task` is returned unchanged.

    Raises:
        UserError: an unknown name.
    """
    if isinstance(task, Task):
        return task
    if task not in TASKS:
        raise unknown("task", task, TASKS)
    return TASKS[task]
