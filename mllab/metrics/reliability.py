"""Calibration: whether predicted probabilities are the frequencies that are observed."""

from typing import NamedTuple

import numpy as np

from mllab import checks
from mllab.errors import UserError
from mllab.metrics.intervals import Interval, proportion


class Bin(NamedTuple):
    """Rows of similar predicted probability."""

    predicted: float  # mean probability
    observed: Interval  # share of rows of which the prediction is true, with its Wilson interval


class Calibration(NamedTuple):
    """A reliability curve."""

    bins: list[Bin]  # in ascending order of the probability
    error: float  # expected calibration error: mean over rows of |predicted - observed| by bin


def calibration(probabilities: np.ndarray, correct: np.ndarray, bins: int = 10) -> Calibration:
    """Return the calibration curve in bins of equally many rows; rows of equal probability share a bin.

    Args:
        probabilities: predicted that the statement about each row is true, [M]; of a class, or that the greatest
            probability's class is the right one.
        correct: whether it is, [M].
        bins: at most.

    Raises:
        UserError: no rows, or numbers that are no probabilities.

    Source: Guo, Pleiss, Sun and Weinberger, *On calibration of modern neural networks*, ICML (2017).
    """
    probabilities = np.asarray(checks.as_numbers(probabilities, "probabilities"), np.float64)
    correct = np.asarray(checks.as_numbers(correct, "correct"))
    checks.check_whole(1, bins=bins)
    if probabilities.ndim != 1 or probabilities.size == 0 or correct.shape != probabilities.shape:
        raise UserError(
            f"probabilities {list(probabilities.shape)} and correct {list(correct.shape)}: expected [M] of both"
        )
    if not (np.isfinite(probabilities).all() and probabilities.min() >= 0 and probabilities.max() <= 1 + 1e-6):
        raise UserError("probabilities: expected numbers from 0 to 1")
    edges = np.unique(np.quantile(probabilities, np.linspace(0, 1, bins + 1)[1:-1], method="inverted_cdf"))
    place = np.searchsorted(edges, probabilities, side="left")
    made = [
        Bin(float(probabilities[place == b].mean()), proportion(correct[place == b])) for b in np.unique(place)
    ]  # fmt: skip
    gaps = [each.observed.seeds * abs(each.predicted - each.observed.mean) for each in made]
    return Calibration(made, float(sum(gaps) / len(probabilities)))
