"""Tables of a classifier's errors: the scores of each class, and the pairs of classes that are confused most often."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mllab.report.table import Table, legible, share

MAX_CLASSES = 50  # in the table of classes
MAX_PAIRS = 10


@dataclass(frozen=True)
class ClassRow:
    """Scores of one class on some rows; NaN where undefined."""

    name: str
    rows: int
    recall: float
    precision: float
    f1: float
    confused_with: str | None  # the wrong class predicted most often for rows of the class
    times: int  # how often


def class_table(scores: Sequence[ClassRow]) -> Table:
    """Return one row per class, in ascending order of recall."""
    order = sorted(scores, key=lambda one: -1.0 if np.isnan(one.recall) else one.recall)
    rows = [
        [
            legible(one.name),
            f"{one.rows:,}",
            *map(share, (one.recall, one.precision, one.f1)),
            None if one.confused_with is None else f"{legible(one.confused_with)} ({one.times:,}×)",
        ]
        for one in order[:MAX_CLASSES]
    ]
    caption = (
        "recall: share of the test rows of the class that are predicted as the class; precision: share of the test "
        "rows predicted as the class that belong to it; F1: their harmonic mean"
    )
    if len(order) > MAX_CLASSES:
        caption += f"; the {MAX_CLASSES} classes of least recall, of {len(order)}: summary.json has all"
    return Table(["class", "test rows", "recall", "precision", "F1", "most often confused with"], rows, caption=caption)


def pair_table(confusion: np.ndarray, classes: Sequence[str]) -> Table:
    """Return the pairs of true and predicted class with the most errors, from a confusion matrix [C, C]."""
    errors = np.where(np.eye(len(classes), dtype=bool), 0, confusion)
    order = np.argsort(-errors, axis=None, kind="stable")[:MAX_PAIRS]
    rows = [
        [legible(classes[true]), legible(classes[predicted]), int(count), share(count / errors.sum())]
        for true, predicted in (divmod(int(index), len(classes)) for index in order)
        if (count := errors[true, predicted])
    ]
    return Table(["true class", "predicted as", "test rows", "share of all errors"], rows)
