"""Comparisons of scores that were measured on the same seeds or folds: the best, its ties, and leads.

Two rules hold wherever a best one is named. It is *tied* with every other whose paired difference from it has a 95%
interval that includes 0. With one seed or fold there is no interval, and nothing is compared.

Scores that choose (of validation rows, or of the rows that folds hold out) decide ties too: test rows are only
reported.
"""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from mllab.metrics.intervals import Interval, interval

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
    """Return the ranking of scores by name, [G] each, on the same G seeds or folds; greater is better.

    Args:
        scores: finite.
        over: returns the interval of paired differences [G]: over seeds, or `validation.interval` over folds.
    """
    names, remaining = [], dict(scores)
    while remaining:
        means = {name: float(np.mean(values, dtype=np.float64)) for name, values in remaining.items()}
        top = max(means.values())
        names.append(next(name for name, mean in means.items() if mean >= top - 10.0**-DIGITS * abs(top)))
        del remaining[names[-1]]
    best = names[0]
    tied = [name for name in scores if name == best or over(paired(scores[best], scores[name])).sign <= 0]
    return Ranking(names, tied, np.size(scores[best]))


def paired(first: np.ndarray, second: np.ndarray | float) -> np.ndarray:
    """Return first [G] less second [G], with 0 where they are equal up to rounding."""
    first, second = np.broadcast_arrays(np.asarray(first, np.float64), np.asarray(second, np.float64))
    with np.errstate(invalid="ignore"):  # infinity less infinity
        difference = first - second
    size = np.maximum(np.abs(first), np.abs(second))
    return np.where(np.abs(difference) <= 10.0**-DIGITS * size, 0.0, difference)


def is_better(scores: np.ndarray, baseline: np.ndarray | float) -> bool:
    """Return whether scores [G] are better than a baseline's: the interval of their difference is above 0.

    A single score is better if it is greater.

    Args:
        scores: of seeds, folds or rows.
        baseline: its score on the same, [G], or one for all.
    """
    by = interval(paired(scores, baseline))
    return by.sign > 0 if by.seeds > 1 else by.mean > 0
