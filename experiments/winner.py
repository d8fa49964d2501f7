"""A model of a table's columns on rows that it has not seen: scores, importances, calibration, its worst errors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import frame, inspection
from mllab import explanation, metrics
from mllab.criteria import CRITERIA, Criterion, Inverse, log_probability
from mllab.explanation import CODE, NUMBER, Column
from mllab.metrics import Calibration, Interval
from mllab.models.preprocessing import Columns
from mllab.report.class_tables import ClassRow
from mllab.report.table import legible, short
from mllab.types import Outputs

MAX_RESPONSES = 4  # columns whose partial dependence is computed
MAX_VALUES = 3  # columns whose values are shown of the worst rows
MAX_WRONG = 10
MAX_CLASSES = 6  # curves of partial dependence, of the most frequent classes
DAYS_PER_YEAR = 365.2425


@dataclass(frozen=True)
class InputColumn:
    """A column of a file, and where `Columns` hold it."""

    name: str
    numbers: tuple[int, ...] = ()  # places in `numbers`: the value, then other parts, such as the month of a date
    codes: tuple[int, ...] = ()  # places in `codes`
    offset: float = 0.0  # a number x stands for offset + scale * x
    scale: float = 1.0
    categories: tuple[str, ...] = ()  # of a code
    is_date: bool = False  # numbers are days since 1970

    @property
    def group(self) -> tuple[Column, ...]:
        """The columns of `Columns` that it consists of."""
        numbers = [Column(NUMBER, place) for place in self.numbers]
        return (*numbers, *(Column(CODE, place) for place in self.codes))

    def text(self, columns: Columns, row: int) -> str:
        """Return its value in a row in its own unit; "missing" where there is none that the model knows."""
        if self.codes:
            code = int(columns.codes[row, self.codes[0]])
            return self.categories[code] if code >= 0 else "missing"
        value = self.in_unit(np.asarray(columns.numbers)[row, self.numbers[0]])
        if np.isnan(value):
            return "missing"
        return str(np.datetime64(int(np.floor(value)), "D")) if self.is_date else short(float(value), 4)

    def in_unit(self, numbers: np.ndarray) -> np.ndarray:
        """Return stored numbers in their own unit; of a date, days since 1970."""
        return self.offset + self.scale * np.asarray(numbers, np.float64)


@dataclass(frozen=True)
class Target:
    """What is predicted."""

    name: str
    classes: tuple[str, ...] = ()  # none for a quantity
    unit: str = ""  # of a quantity
    inverse: Inverse | None = None  # from standardised values to the unit, by JAX's functions

    @property
    def in_unit(self) -> str:
        """The unit in words: "dollars", or "units of price"."""
        return self.unit or f"units of {self.name}"

    def with_unit(self, what: str) -> str:
        """Return what is measured in the target's unit, with the unit where it has a name."""
        return f"{what} ({legible(self.unit)})" if self.unit else what


class HeldOut(NamedTuple):
    """Rows that the model has not seen."""

    columns: Columns  # [M]
    targets: np.ndarray  # [M] classes, or standardised values
    file_rows: np.ndarray  # [M] their numbers in the file


@dataclass(frozen=True)
class Scored:
    """The scores of predictions by one rule, means over rows with their intervals."""

    name: str
    scores: Mapping[str, Interval]  # by criterion


@dataclass(frozen=True)
class ColumnImportance:
    """How much the score drops with one column of the file shuffled."""

    column: str
    drop: Interval  # positive: the score is worse without the column


@dataclass(frozen=True)
class WrongRow:
    """One of the rows with the largest errors."""

    file_row: int
    truth: str | float
    prediction: str | float
    probability: float | None  # of the predicted class
    values: list[str]  # of the most important columns


@dataclass(frozen=True)
class Response:
    """The partial dependence of the predictions on a column of the file."""

    column: str
    x: list[float] | list[str]  # numbers in their unit (a date in years), or categories
    unit: str
    mean: np.ndarray  # [G, C]
    low: np.ndarray  # [G, C]
    high: np.ndarray  # [G, C]


@dataclass(frozen=True)
class Winner:
    """A model, and what looking into it shows."""

    model: str
    target: Target = frame.unsaved()
    criterion: Criterion = frame.unsaved()
    rows: int = 0
    explained_rows: int = 0  # of these, for importance and partial dependence
    repeats: int = 0
    scored: Sequence[Scored] = ()  # of the model, and of the baseline
    importance: Sequence[ColumnImportance] = ()  # the greatest first
    calibration: Calibration | None = None  # of the second of two classes, or of the predicted one of several
    per_class: Sequence[ClassRow] = ()
    most_wrong: Sequence[WrongRow] = ()
    responses: Sequence[Response] = frame.unsaved(default=())
    curves: tuple[str, ...] = frame.unsaved(default=())  # classes of the responses; none for a single curve
    confusion: np.ndarray | None = frame.unsaved(default=None)  # [C, C]
    truths: np.ndarray | None = frame.unsaved(default=None)  # [M] in their unit
    predictions: np.ndarray | None = frame.unsaved(default=None)  # [M] in their unit


def look(
    model: str, predict: explanation.Predict, held_out: HeldOut, inputs: Sequence[InputColumn], target: Target,
    criterion: Criterion, train_targets: np.ndarray, *, max_rows: int = 2000, repeats: int = 10, seed: int = 0,
) -> Winner:  # fmt: skip
    """Look into a fitted model on held-out rows.

    Args:
        model: its name.
        predict: log-probabilities [M, C] or standardised values [M] of `Columns`.
        held_out: rows that it has not seen.
        inputs: the columns of the file.
        target: what is predicted.
        criterion: what importance is measured by.
        train_targets: of the training rows, for the baseline: class frequencies or the mean.
        max_rows: for importance and partial dependence; of more, a sample is drawn.
        repeats: shuffles of each column.
        seed: of the sample and the shuffles.
    """
    columns, targets, _ = held_out
    outputs = np.asarray(predict(columns))
    count = len(targets)
    chosen = np.sort(np.random.default_rng(seed).permutation(count)[:max_rows])
    sample = Columns(*(np.asarray(part)[chosen] for part in columns))
    measured = explanation.permutation_importance(
        predict, sample, targets[chosen], criterion.score(target.inverse), [each.group for each in inputs],
        repeats=repeats, seed=seed, utility=criterion.utility,
    ) if len(chosen) > 1 else []  # fmt: skip
    by_drop = sorted(zip(inputs, measured, strict=False), key=lambda pair: -pair[1].drop.mean)
    shown = [each for each, _ in by_drop]
    curves = _curves(targets, target)
    made = Winner(
        model=model, target=target, criterion=criterion, rows=count, explained_rows=len(chosen), repeats=repeats,
        scored=_scored(model, outputs, targets, train_targets, criterion.task, target),
        importance=[ColumnImportance(each.name, of.drop) for each, of in by_drop],
        most_wrong=_most_wrong(outputs, held_out, shown[:MAX_VALUES], target),
        responses=_responses(predict, sample, shown, target, curves),
        curves=tuple(target.classes[c] for c in curves) if len(curves) > 1 else (),
    )  # fmt: skip
    return replace(made, **_by_task(outputs, targets, target))


def _by_task(outputs: np.ndarray, targets: np.ndarray, target: Target) -> dict[str, Any]:
    if not target.classes:
        return {"truths": _in_unit(targets, target), "predictions": _in_unit(outputs.reshape(len(targets)), target)}
    probabilities = np.clip(np.asarray(jax.nn.softmax(outputs, axis=-1), np.float64), 0, 1)
    predicted = outputs.argmax(axis=-1)
    confusion = metrics.confusion_matrix(targets, predicted, len(target.classes))
    binary = len(target.classes) == 2
    calibration = metrics.calibration(
        probabilities[:, 1] if binary else probabilities.max(axis=-1), targets == 1 if binary else targets == predicted
    )
    return {
        "confusion": confusion,
        "per_class": inspection.class_rows(confusion, target.classes),
        "calibration": calibration,
    }


def _scored(
    model: str, outputs: Outputs, targets: np.ndarray, train: np.ndarray, task: str, target: Target
) -> list[Scored]:
    if target.classes:
        counts = np.bincount(train, minlength=len(target.classes)) + 1.0  # no class is impossible
        constant = np.broadcast_to(np.log(counts / counts.sum()).astype(np.float32), outputs.shape)
    else:
        constant = np.full(len(targets), np.mean(train), np.float32)
    rules = {model: outputs, "class frequencies" if target.classes else "mean": constant}
    return [
        Scored(
            name,
            {row.name: _mean(row, values, targets, target.inverse) for row in CRITERIA.values() if row.task == task},
        )
        for name, values in rules.items()
    ]


def _mean(criterion: Criterion, outputs: Outputs, targets: np.ndarray, inverse: Inverse | None) -> Interval:
    """Return the reported score and its interval over rows."""
    mean, *bounds, rows = metrics.interval(
        np.asarray(criterion.by_row(outputs, jnp.asarray(targets), inverse), np.float64)
    )
    low, high = np.sort(criterion.shown(np.array(bounds)))
    return Interval(float(criterion.shown(np.array(mean))), float(low), float(high), rows)


def _most_wrong(outputs: np.ndarray, held_out: HeldOut, shown: Sequence[InputColumn], target: Target) -> list[WrongRow]:
    columns, targets, file_rows = held_out
    if target.classes:
        probabilities = np.asarray(jax.nn.softmax(outputs, axis=-1))
        scores = np.where(
            outputs.argmax(axis=-1) == targets, 0.0, np.asarray(log_probability(outputs, jnp.asarray(targets)))
        )
    else:
        truths, predictions = (_in_unit(each.reshape(len(targets)), target) for each in (targets, outputs))
        scores = -np.abs(truths - predictions)
    made = []
    for row in (int(row) for row in explanation.most_wrong(scores, MAX_WRONG) if scores[row] != 0):
        values = [each.text(columns, row) for each in shown]
        if target.classes:
            best = int(outputs[row].argmax())
            truth, prediction = target.classes[targets[row]], target.classes[best]
            made.append(WrongRow(int(file_rows[row]), truth, prediction, float(probabilities[row, best]), values))
        else:
            made.append(WrongRow(int(file_rows[row]), float(truths[row]), float(predictions[row]), None, values))
    return made


def _curves(targets: np.ndarray, target: Target) -> list[int]:
    """Return the classes whose probabilities are shown: the second of two, or the most frequent ones."""
    if len(target.classes) < 3:
        return [1] if target.classes else []
    counts = np.bincount(targets, minlength=len(target.classes))
    return np.sort(np.argsort(-counts, kind="stable")[:MAX_CLASSES]).tolist()


def _responses(
    predict: explanation.Predict, sample: Columns, shown: Sequence[InputColumn], target: Target, curves: Sequence[int]
) -> list[Response]:
    """Return the partial dependence of the first columns that have one part and more than one value."""

    def value(outputs: Outputs) -> np.ndarray:
        if curves:
            return np.asarray(jax.nn.softmax(outputs, axis=-1))[:, list(curves)]
        return _in_unit(np.asarray(outputs).reshape(-1, 1), target)

    made: list[Response] = []
    for each in shown:
        part = each.group[0]
        values = (sample.numbers if part.kind == NUMBER else sample.codes)[:, part.place]
        if len(made) == MAX_RESPONSES:
            break
        if len(each.group) > 1 or len(np.unique(values[values >= 0] if each.codes else values[~np.isnan(values)])) < 2:
            continue
        found = explanation.partial_dependence(predict, sample, part, value=value)
        x: Any
        if each.codes:
            x = [each.categories[code] for code in found.grid]
        else:
            x = each.in_unit(found.grid)
            x = (1970 + x / DAYS_PER_YEAR if each.is_date else x).tolist()
        unit = "year" if each.is_date else ""
        made.append(Response(each.name, x, unit, found.mean, found.low, found.high))
    return made


def _in_unit(values: np.ndarray, target: Target) -> np.ndarray:
    return np.asarray(values if target.inverse is None else target.inverse(jnp.asarray(values)), np.float64)
