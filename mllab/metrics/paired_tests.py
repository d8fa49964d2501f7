"""Comparisons of two models on the same test rows: McNemar's test, and bootstrap intervals of any statistic."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mllab import checks
from mllab.errors import UserError
from mllab.metrics.intervals import Interval

BOOTSTRAP_CELLS = 2**24  # row ids drawn at once


class McNemar(NamedTuple):
    """Rows that only one of two classifiers gets right, and the p-value of their being equally accurate."""

    only_first: int
    only_second: int
    p_value: float


def mcnemar(first: np.ndarray, second: np.ndarray) -> McNemar:
    r"""Return McNemar's exact test of two classifiers on the same rows.

    Under equal accuracy the rows that only one of them gets right fall to either by the toss of a coin, so the p-value
    is that of a two-sided binomial test: $\min(1, 2 P(X \le \min(b, c)))$ with $X \sim B(b + c, 1/2)$.

    Args:
        first: whether the first classifier is right, [M] of True and False.
        second: the same of the second.

    Raises:
        UserError: no rows, other entries, or different numbers of rows.

    Source: McNemar, *Note on the sampling error of the difference between correlated proportions or percentages*,
    Psychometrika 12 (1947); Dietterich, *Approximate statistical tests for comparing supervised classification learning
    algorithms*, Neural Computation 10 (1998).
    """
    from scipy.special import bdtr  # deferred: it would slow down `import mllab`

    one, other = (np.asarray(checks.as_numbers(each, "correct")) for each in (first, second))
    if one.shape != other.shape or one.ndim != 1 or one.size == 0:
        raise UserError(
            f"correct: shapes {list(one.shape)} and {list(other.shape)}, expected the same rows [M] of both"
        )
    if not (np.isin(one, (0, 1)).all() and np.isin(other, (0, 1)).all()):
        raise UserError("correct: expected True or False for each row")
    only_first, only_second = int(np.sum((one == 1) & (other == 0))), int(np.sum((one == 0) & (other == 1)))
    total, less = only_first + only_second, min(only_first, only_second)
    return McNemar(only_first, only_second, 1.0 if total == 0 else min(1.0, 2 * float(bdtr(less, total, 0.5))))


def bootstrap(
    statistic: Callable[[np.ndarray], np.ndarray], values: np.ndarray, *, draws: int = 2000, seed: int = 0
) -> Interval:
    """Return a statistic of rows and its 95% percentile interval over samples of the rows with replacement.

    Args:
        statistic: from values [..., M, *] the statistic [...], a function of their mean over rows, such as the RMSE
            from squared errors; it is given means [draws, *].
        values: of each row, [M] or [M, T].
        draws: samples.
        seed: of the samples.

    Raises:
        UserError: no rows, or values that are not finite.

    Source: Efron, *Bootstrap methods: another look at the jackknife*, Annals of Statistics 7 (1979).
    """
    values = np.asarray(checks.as_numbers(values, "values"), np.float64)
    if values.ndim < 1 or len(values) == 0:
        raise UserError(f"values: shape {list(values.shape)}, expected one or more rows")
    checks.check_finite(values, "values")
    checks.check_whole(1, draws=draws)
    point, rows = float(statistic(values.mean(axis=0))), len(values)
    if rows == 1:
        return Interval(point, float("nan"), float("nan"), 1)
    draw, means = np.random.default_rng(seed), []
    for start in range(0, draws, block := max(1, BOOTSTRAP_CELLS // rows)):
        ids = draw.integers(0, rows, (min(block, draws - start), rows))
        means.append(values[ids].mean(axis=1))
    low, high = np.percentile(statistic(np.concatenate(means)), [2.5, 97.5])
    return Interval(point, float(low), float(high), rows)
