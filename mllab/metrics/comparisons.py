"""Comparisons of scores that were measured on the same seeds or folds: the best, its ties, and leads.

Two rules hold wherever a best one is named. It is *tied* with every other whose paired difference from it has a 95%
interval that includes 0: over seeds or folds, and where scores of single rows are at hand over rows too, since a few
seeds may agree on a difference of a few rows. With one seed or fold nothing is compared.

Scores that choose (of validation rows, or of the rows that folds hold out) decide ties too: test rows are only
reported.
"""

import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from mllab import checks
from mllab.errors import UserError
from mllab.metrics.intervals import Interval, interval

FLOAT32_DIGITS = 6
DIGITS = 9  # significant digits of a score: sums of the same numbers in another order differ by rounding

N = TypeVar("N", bound=Hashable)  # a name, or a setting


@dataclass(frozen=True)
class Lead:
    """The difference in score between the best of several and the next, paired by seed or by fold."""

    of: str  # the next
    by: Interval  # the best less the next
    unit: str = "points"

    @property
    def verdict(self) -> str:
        """Whether the best is "ahead of" or "behind" the next; "not clearly ahead of" it if the interval includes 0."""
        return {1: "ahead of", -1: "behind", 0: "not clearly ahead of"}[self.by.sign]


@dataclass(frozen=True)
class Ranking(Generic[N]):
    """Names by their mean score over the same seeds or folds, and which of them are tied with the best."""

    names: list[N]  # the greatest mean first; of means that are equal up to rounding, in the order of the scores
    tied: list[N]  # the best, and all others that are not clearly below it; in the order of the scores
    seeds: int  # or folds

    @property
    def best(self) -> N:
        """The name with the greatest mean: a deterministic choice among the tied."""
        return self.names[0]

    @property
    def is_compared(self) -> bool:
        """Whether there are several names, and the seeds or folds to compare them on."""
        return len(self.names) > 1 and self.seeds > 1

    @property
    def marked(self) -> list[N]:
        """What a table marks: the tied; only the greatest mean with one seed; nothing where there is only one name."""
        return [] if len(self.names) < 2 else self.tied if self.is_compared else self.names[:1]


def ranking(scores: Mapping[N, np.ndarray], over: Callable[[np.ndarray], Interval] = interval) -> Ranking[N]:
    """Return the ranking of scores by name on the same G seeds or folds; greater is better.

    Args:
        scores: finite, [G] each; or [G, M] for scores of single rows, whose mean is the score.
        over: returns the interval of paired differences [G]: over seeds, or `validation.interval` over folds.
    """
    names, remaining = [], dict(scores)
    while remaining:
        names.append(list(remaining)[greatest(np.array([values.mean() for values in remaining.values()]))])
        del remaining[names[-1]]
    return Ranking(names, tied(names[0], scores, over), len(scores[names[0]]))


def tied(best: N, scores: Mapping[N, np.ndarray], over: Callable[[np.ndarray], Interval] = interval) -> list[N]:
    """Return the names that are tied with the best, itself included; all of them with one seed. See `ranking`."""
    if len(scores[best]) < 2:
        return list(scores)
    return [name for name in scores if name == best or not is_clear(paired(scores[best], scores[name]), over)]


def greatest(scores: np.ndarray) -> int:
    """Return the index of the greatest of scores [N], of those that are equal up to rounding the first; NaN is least.

    Scores are compared to as many digits as their type supports, at most DIGITS.

    Raises:
        UserError: another shape, or no score.
    """
    scores = np.asarray(checks.as_numbers(scores, "scores"))
    if scores.ndim != 1 or not len(scores):
        raise UserError(f"scores: shape {list(scores.shape)}, expected [N], one or more")
    scores = scores if np.issubdtype(scores.dtype, np.floating) else scores.astype(np.float64)
    top = float(np.nanmax(scores))
    digits = min(DIGITS, np.finfo(scores.dtype).precision)
    return int(np.flatnonzero(scores >= top - 10.0**-digits * abs(top))[0])


def is_clear(differences: np.ndarray, over: Callable[[np.ndarray], Interval] = interval) -> bool:
    """Return whether differences are above 0: their 95% interval over seeds, and that over rows where there are any.

    One seed or one row has no interval, and the other then decides; a single difference is clear if it is positive.

    Args:
        differences: by seed or by fold, [G], or by seed and row, [G, M].
        over: returns the interval of differences by seed or by fold, [G].
    """
    by_seed = differences.reshape(len(differences), -1)
    intervals = [over(by_seed.mean(axis=1))] if len(by_seed) > 1 else []
    intervals += [interval(by_seed.mean(axis=0))] if by_seed.shape[1] > 1 else []
    return all(each.sign > 0 for each in intervals) if intervals else bool(by_seed.mean() > 0)


def paired(first: ArrayLike, second: ArrayLike) -> np.ndarray:
    """Return first [G] less second [G], rounded to the digits that float32 scores of their size have.

    So equal scores differ by 0, and differences that are equal over all seeds have an interval of width 0.
    """
    first, second = np.broadcast_arrays(np.asarray(first, np.float64), np.asarray(second, np.float64))
    with np.errstate(invalid="ignore"):  # infinity less infinity
        difference = first - second
    sizes = np.abs([first, second])
    largest = np.max(sizes, where=np.isfinite(sizes), initial=0.0)
    return difference if largest == 0 else np.round(difference, FLOAT32_DIGITS - math.ceil(math.log10(largest)))
