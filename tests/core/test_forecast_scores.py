"""Intervals over forecast origins and the test of Diebold and Mariano, against sums written out and against SciPy."""

import math

import numpy as np
import pytest
from scipy import stats

from mllab import metrics
from mllab.errors import UserError
from mllab.metrics.forecasts import long_run_variance


def written_out(difference, horizon):
    """The corrected statistic by loops, as in equations 8 and 9 of Harvey, Leybourne and Newbold."""
    n, mean = len(difference), sum(difference) / len(difference)
    total = 0.0
    for k in range(horizon):
        covariance = sum((difference[t] - mean) * (difference[t - k] - mean) for t in range(k, n)) / n
        total += covariance * (1 if k == 0 else 2)
    statistic = mean / math.sqrt(total / n)
    return statistic * math.sqrt((n + 1 - 2 * horizon + horizon * (horizon - 1) / n) / n)


def correlated(count, lags, draw):
    """Moving averages of order `lags`."""
    noise = draw.normal(size=count + lags)
    return np.convolve(noise, np.ones(lags + 1), "valid")


@pytest.mark.parametrize(("count", "horizon"), [(30, 1), (30, 2), (80, 5)])
def test_the_statistic_is_that_of_harvey_leybourne_and_newbold(count, horizon):
    draw = np.random.default_rng(count + horizon)
    second = np.abs(correlated(count, horizon - 1, draw))
    first = second + 0.3 + correlated(count, horizon - 1, draw)
    found = metrics.diebold_mariano(first, second, horizon)
    expected = written_out(first - second, horizon)
    assert found.statistic == pytest.approx(expected)
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(expected), count - 1))
    assert found.difference.mean == pytest.approx(np.mean(first - second))
    low, high = found.difference.low, found.difference.high
    assert (found.p_value < 0.05) == (low > 0 or high < 0)
    swapped = metrics.diebold_mariano(second, first, horizon)
    assert (swapped.statistic, swapped.p_value) == pytest.approx((-expected, found.p_value))


def test_one_step_ahead_it_is_the_paired_t_test():
    draw = np.random.default_rng(0)
    first, second = draw.normal(size=25), draw.normal(0.4, 2, 25)
    peer = stats.ttest_rel(first, second)
    found = metrics.diebold_mariano(first, second, 1)
    assert (found.statistic, found.p_value) == pytest.approx((peer.statistic, peer.pvalue))
    bounds = peer.confidence_interval()
    assert found.difference[1:3] == pytest.approx((bounds.low, bounds.high))
    np.testing.assert_allclose(metrics.over_origins(first, 1)[:3], metrics.interval(first)[:3])


def test_intervals_over_correlated_origins_cover_where_those_of_independent_ones_do_not():
    draw, horizon = np.random.default_rng(0), 6
    samples = [correlated(120, horizon - 1, draw) for _ in range(500)]

    def coverage(interval):
        return np.mean([low <= 0 <= high for _, low, high, _ in map(interval, samples)])

    assert 0.91 <= coverage(lambda values: metrics.over_origins(values, horizon)) <= 0.98
    assert coverage(metrics.interval) < 0.7


def test_where_the_variance_would_be_negative_weights_make_it_positive():
    alternating = np.array([1.0, -1.0] * 20) + 0.01 * np.arange(40)
    assert long_run_variance(alternating, 1) > 0
    assert np.isfinite(metrics.diebold_mariano(alternating, np.zeros(40), 2).p_value)


@pytest.mark.parametrize(("first", "horizon"), [([1.0, 2.0, 4.0], 3), ([2.0] * 9, 2)])
def test_without_a_variance_there_is_no_test(first, horizon):
    found = metrics.diebold_mariano(np.array(first), np.zeros(len(first)), horizon)
    assert math.isnan(found.p_value)
    assert found.difference.mean == pytest.approx(np.mean(first))


def test_adjusted_p_values_are_holm_s():
    np.testing.assert_allclose(metrics.holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(metrics.holm(np.array([0.6, np.nan])), [1, 1])


@pytest.mark.parametrize(
    ("first", "second", "horizon", "words"),
    [
        ([1.0], [1.0, 2.0], 1, "1 origins of one forecast and 2"),
        ([1.0, np.nan], [1.0, 2.0], 1, "losses"),
        ([1.0, 2.0], [1.0, 3.0], 0, "horizon = 0"),
        ([[1.0]], [[1.0]], 1, "expected \\[n\\]"),
    ],
)
def test_other_losses_are_refused(first, second, horizon, words):
    with pytest.raises(UserError, match=words):
        metrics.diebold_mariano(np.array(first), np.array(second), horizon)
