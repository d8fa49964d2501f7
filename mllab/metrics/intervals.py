"""Means and proportions with 95% intervals."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from mllab import checks
from mllab.errors import UserError


class Interval(NamedTuple):
    """A mean with its 95% interval; the bounds are NaN for a single value."""

    mean: float
    low: float
    high: float
    seeds: int  # number of values: seeds, folds or rows

    @property
    def sign(self) -> int:
        """1 if the interval is above 0, -1 if it is below 0, and 0 if it includes 0 or has no bounds."""
        return int(self.low > 0) - int(self.high < 0)


def interval(values: np.ndarray) -> Interval:
    """Return the mean of values over seeds, [G], and its 95% interval by Student's t (Student 1908).

    The interval covers the spread over seeds on one split, not over splits or data sets. A NaN makes it NaN.

    Raises:
        UserError: no values, or no one-dimensional array of numbers.
    """
    values = np.asarray(checks.as_numbers(values, "values"), np.float64)
    if values.ndim != 1 or values.size == 0:
        raise UserError(f"values: shape {list(values.shape)}, expected [G], one or more")
    mean = float(values.mean())
    if values.size < 2:
        return Interval(mean, float("nan"), float("nan"), values.size)
    from scipy.special import stdtrit  # deferred: it would slow down `import mllab`

    half = float(stdtrit(values.size - 1, 0.975) * values.std(ddof=1) / np.sqrt(values.size))
    return Interval(mean, mean - half, mean + half, values.size)


def bands(values: Iterable[np.ndarray]) -> np.ndarray:
    """Return mean, low and high of each row [G] of values, [E, 3]; see `interval`."""
    return np.stack([interval(row)[:3] for row in values])


def proportion(correct: np.ndarray) -> Interval:
    """Return the proportion of correct rows, [M] of True and False, and its 95% Wilson interval over draws of the rows.

    Raises:
        UserError: no rows, or entries other than 0 and 1.

    Source: Wilson, *Probable inference, the law of succession, and statistical inference*, JASA 22 (1927).
    """
    from scipy.special import ndtri  # deferred: as above

    correct = np.asarray(checks.as_numbers(correct, "correct"))
    if correct.ndim != 1 or correct.size == 0 or not np.isin(correct, (0, 1)).all():
        raise UserError(f"correct: {correct.dtype}{list(correct.shape)}, expected True or False for one row or more")
    rows, share, z = len(correct), float(np.mean(correct)), float(ndtri(0.975))
    middle = (share + z**2 / (2 * rows)) / (1 + z**2 / rows)
    half = z / (1 + z**2 / rows) * np.sqrt(share * (1 - share) / rows + z**2 / (4 * rows**2))
    return Interval(share, float(middle - half), float(middle + half), rows)
