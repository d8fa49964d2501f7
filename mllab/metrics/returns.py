r"""Scores of runs over seeds in one or several environments: statistics that few runs support, with 95% intervals.

Scores [M, G] are those of G runs, one a seed, in each of M environments; [G] are those of a single one. Intervals are
percentiles of a stratified bootstrap: seeds are drawn with replacement within each environment.

Source: Agarwal, Schwarzer, Castro, Courville and Bellemare, *Deep reinforcement learning at the edge of the statistical
precipice*, NeurIPS 2021, arXiv:2108.13264.
"""

from collections.abc import Callable

import numpy as np

from mllab import checks
from mllab.errors import UserError
from mllab.metrics.intervals import Interval

BOOTSTRAP_CELLS = 2**22  # scores drawn at once
TAIL = 0.25  # share of the runs that the interquartile mean leaves out at each end


def interquartile_mean(scores: np.ndarray) -> np.ndarray:
    """Return the mean of the middle half of the runs of all environments, [...] of scores [..., M, G]; of [G], [].

    Of n scores the ⌊n / 4⌋ least and the ⌊n / 4⌋ greatest are left out, as `scipy.stats.trim_mean` and rliable do.
    """
    runs = scores.reshape(*scores.shape[:-2], -1)
    cut = int(TAIL * runs.shape[-1])
    return np.sort(runs, axis=-1)[..., cut : runs.shape[-1] - cut].mean(axis=-1)


def stratified_bootstrap(
    scores: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray] = interquartile_mean,
    *,
    seed: int,
    draws: int = 2000,
) -> Interval:
    """Return a statistic of runs and its 95% interval over samples of the seeds within each environment.

    Args:
        scores: [G] or [M, G], finite.
        statistic: scores [..., M, G] -> [...].
        seed: of the samples.
        draws: samples.

    Raises:
        UserError: no scores, or scores that are not finite.
    """
    checked = _scores(scores, "scores")
    point = float(statistic(checked))
    if checked.shape[1] < 2:
        return Interval(point, float("nan"), float("nan"), checked.shape[1])
    low, high = _percentiles(lambda sample: statistic(sample[0]), [checked], seed, draws)
    return Interval(point, float(low), float(high), checked.shape[1])


def bootstrap_difference(
    first: np.ndarray,
    second: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray] = interquartile_mean,
    *,
    seed: int,
    draws: int = 2000,
) -> Interval:
    """Return a statistic of the runs of one algorithm less that of another's, and its 95% interval.

    Args:
        first: scores [G] or [M, G], finite.
        second: scores [K] or [M, K] in the same environments; seeds are drawn apart from those of `first`.
        statistic: scores [..., M, G] -> [...].
        seed: of the samples.
        draws: samples.

    Raises:
        UserError: no scores, others than finite ones, or different numbers of environments.
    """
    one, other = _pair(first, second)
    point, least = float(statistic(one) - statistic(other)), min(one.shape[1], other.shape[1])
    if least < 2:
        return Interval(point, float("nan"), float("nan"), least)
    low, high = _percentiles(lambda samples: statistic(samples[0]) - statistic(samples[1]), [one, other], seed, draws)
    return Interval(point, float(low), float(high), least)


def probability_of_improvement(first: np.ndarray, second: np.ndarray, *, seed: int, draws: int = 2000) -> Interval:
    r"""Return the probability that a run of the first algorithm scores more than one of the second, with its interval.

    $$ P(X > Y) = \frac{1}{M} \sum_m \frac{1}{G K} \sum_{i, j} S(x_{mi}, y_{mj}) $$

    where $S$ is 1 for $x > y$, 1/2 for $x = y$ and 0 otherwise: the Mann-Whitney statistic of each environment.

    Args:
        first: scores [G] or [M, G], finite.
        second: scores [K] or [M, K] in the same environments.
        seed: of the samples.
        draws: samples.

    Raises:
        UserError: no scores, others than finite ones, or different numbers of environments.
    """
    one, other = _pair(first, second)
    point, least = float(_improvement(one, other)), min(one.shape[1], other.shape[1])
    if least < 2:
        return Interval(point, float("nan"), float("nan"), least)
    low, high = _percentiles(lambda samples: _improvement(*samples), [one, other], seed, draws, one.size * other.size)
    return Interval(point, float(low), float(high), least)


def performance_profile(scores: np.ndarray, thresholds: np.ndarray, *, seed: int, draws: int = 2000) -> np.ndarray:
    """Return the share of runs that score more than each threshold, [T, 3]: the share, and its 95% interval.

    Args:
        scores: [G] or [M, G], finite.
        thresholds: [T], finite.
        seed: of the samples.
        draws: samples.

    Raises:
        UserError: no scores or thresholds, or others than finite ones.
    """
    checked, bounds = _scores(scores, "scores"), np.asarray(checks.as_numbers(thresholds, "thresholds"), np.float64)
    if bounds.ndim != 1 or bounds.size == 0:
        raise UserError(f"thresholds: shape {list(bounds.shape)}, expected [T], one or more")
    checks.check_finite(bounds, "thresholds")

    def share(sample: np.ndarray) -> np.ndarray:
        above = sample[..., None, :, :] > bounds[:, None, None]
        return above.mean(axis=(-2, -1))

    point = share(checked)
    if checked.shape[1] < 2:
        return np.stack([point, *[np.full_like(point, np.nan)] * 2], axis=-1)
    percentiles = _percentiles(lambda samples: share(samples[0]), [checked], seed, draws, checked.size * bounds.size)
    return np.stack([point, *percentiles], axis=-1)


def _improvement(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return P(X > Y) + P(X = Y) / 2, [...] of scores [..., M, G] and [..., M, K]."""
    one, other = first[..., :, None], second[..., None, :]
    return ((one > other) + 0.5 * (one == other)).mean(axis=(-3, -2, -1))


def _percentiles(
    statistic: Callable[[list[np.ndarray]], np.ndarray], scores: list[np.ndarray], seed: int, draws: int, cells: int = 0
) -> np.ndarray:
    """Return the 2.5th and 97.5th percentile of a statistic of samples of the seeds, [2, ...].

    Args:
        statistic: samples [D, M, G] of each of the scores -> [D, ...].
        scores: [M, G] each.
        seed: of the samples.
        draws: samples, D in all.
        cells: numbers that the statistic of one sample computes at once; those of a sample if there are more of these.
    """
    checks.check_whole(1, draws=draws)
    draw, values = np.random.default_rng(seed), []
    block = max(1, BOOTSTRAP_CELLS // max(cells, *(each.size for each in scores)))
    for start in range(0, draws, block):
        count = min(block, draws - start)
        ids = [draw.integers(0, each.shape[1], (count, *each.shape)) for each in scores]
        samples = [np.take_along_axis(each[None], rows, axis=-1) for each, rows in zip(scores, ids, strict=True)]
        values.append(statistic(samples))
    return np.percentile(np.concatenate(values), [2.5, 97.5], axis=0)


def _pair(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores of two algorithms in the same environments, [M, G] and [M, K], checked."""
    one, other = _scores(first, "first"), _scores(second, "second")
    if len(one) != len(other):
        raise UserError(f"scores in {len(one)} and in {len(other)} environments: give those of the same ones")
    return one, other


def _scores(values: np.ndarray, name: str) -> np.ndarray:
    """Return scores as [M, G], checked."""
    scores = np.asarray(checks.as_numbers(values, name), np.float64)
    if scores.ndim not in (1, 2) or scores.size == 0:
        raise UserError(f"{name}: shape {list(scores.shape)}, expected [G] or [M, G], one run or more")
    checks.check_finite(scores, name)
    return np.atleast_2d(scores)
