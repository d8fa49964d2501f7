"""The confusion matrix of a classifier, and the scores of each class that follow from it."""

from typing import NamedTuple

import numpy as np

from mllab import checks
from mllab.errors import UserError


class ClassScores(NamedTuple):
    """Scores of each class, [C]; NaN where undefined (no row of the class, or no prediction of it)."""

    rows: np.ndarray  # rows of the class
    precision: np.ndarray  # correct share of the rows predicted as the class
    recall: np.ndarray  # correctly classified share of the rows of the class
    f1: np.ndarray  # harmonic mean of precision and recall; 0 if one of them is undefined, NaN if both are
    confused_with: np.ndarray  # the wrong class predicted most often for rows of the class; -1 if there are no errors
    confusions: np.ndarray  # how often that class was predicted


def confusion_matrix(targets: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Return the number of rows of each true class (matrix rows) predicted as each class (columns), [C, C].

    Args:
        targets: true classes in 0..C-1, [M].
        predicted: predicted classes, [M].
        classes: C.

    Raises:
        UserError: shapes that differ, or classes out of range.
    """
    checks.check_whole(1, classes=classes)
    targets, predicted = _labels(targets, "targets"), _labels(predicted, "predictions")
    if targets.shape != predicted.shape:
        raise UserError(f"targets {list(targets.shape)} and predictions {list(predicted.shape)}: give [M] and [M]")
    for name, values in (("targets", targets), ("predictions", predicted)):
        if values.size and not 0 <= values.min() <= values.max() < classes:
            raise UserError(f"{name} from {values.min()} to {values.max()}: classes are 0 to {classes - 1}")
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (targets, predicted), 1)
    return counts


def per_class(matrix: np.ndarray) -> ClassScores:
    """Return the scores of each class from a confusion matrix [C, C].

    Raises:
        UserError: another shape, or entries that are no counts.
    """
    matrix = np.asarray(checks.as_numbers(matrix, "matrix"))
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not (matrix >= 0).all():
        raise UserError(f"matrix: shape {list(matrix.shape)}, expected the counts of a confusion matrix, [C, C]")
    correct, rows, predictions = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    errors = matrix - np.diag(correct)
    confusions = errors.max(axis=1)

    def share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
        return np.divide(part, whole, out=np.full(len(matrix), np.nan), where=whole > 0)

    return ClassScores(
        rows=rows,
        precision=share(correct, predictions),
        recall=share(correct, rows),
        f1=share(2 * correct, rows + predictions),
        confused_with=np.where(confusions > 0, errors.argmax(axis=1), -1),
        confusions=confusions,
    )


def _labels(values: np.ndarray, name: str) -> np.ndarray:
    array = np.asarray(checks.as_numbers(values, name))
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise UserError(f"{name}: {array.dtype}{list(array.shape)}, expected whole numbers [M]")
    return array.astype(int)


def example_rows(targets: np.ndarray, predicted: np.ndarray, probability: np.ndarray) -> dict[str, np.ndarray]:
    """Return which rows to look at: `mistakes`, the most confident first, and `hits`, the first correct one of a class.

    Args:
        targets: true classes, [M].
        predicted: predicted classes, [M].
        probability: of the predicted classes, or its logarithm, [M].

    Raises:
        UserError: shapes that differ.
    """
    targets, predicted = _labels(targets, "targets"), _labels(predicted, "predictions")
    probability = np.asarray(checks.as_numbers(probability, "probability"))
    if not targets.shape == predicted.shape == probability.shape:
        shapes = ", ".join(str(list(each.shape)) for each in (targets, predicted, probability))
        raise UserError(f"targets, predictions and probabilities of shapes {shapes}: give one of each per row")
    wrong, right = np.flatnonzero(predicted != targets), np.flatnonzero(predicted == targets)
    return {
        "mistakes": wrong[np.argsort(-probability[wrong], kind="stable")],
        "hits": right[np.sort(np.unique(targets[right], return_index=True)[1])],
    }
