"""Scores of agents over seeds and environments against SciPy and brute force."""

import itertools

import numpy as np
import pytest
from scipy import stats

from mllab import metrics
from support.mistakes import refused_in_one_line

DRAW = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (1, 4), (1, 10), (3, 5), (2, 16)])
def test_the_interquartile_mean_is_scipys_trimmed_mean_of_all_runs(shape):
    scores = DRAW.normal(size=(4, *shape))
    expected = [stats.trim_mean(each, 0.25, axis=None) for each in scores]
    np.testing.assert_allclose(metrics.interquartile_mean(scores), expected, rtol=1e-12)
    if shape[0] == 1:
        np.testing.assert_allclose(metrics.interquartile_mean(scores[0, 0]), expected[0])


def test_bootstrap_intervals_are_the_percentiles_over_all_samples_of_three_seeds():
    scores = np.array([[1.0, 4.0, 9.0], [0.0, 100.0, 300.0]])
    samples = [list(itertools.product(row, repeat=3)) for row in scores]
    means = [np.mean(pair) for pair in itertools.product(*samples)]  # strata are drawn apart
    expected = np.percentile(means, [2.5, 97.5])
    found = metrics.stratified_bootstrap(scores, lambda each: each.mean(axis=(-2, -1)), seed=0, draws=50_000)
    assert (found.mean, found.seeds) == (scores.mean(), 3)
    np.testing.assert_allclose(found[1:3], expected, rtol=0.03)
    assert found == metrics.stratified_bootstrap(scores, lambda each: each.mean(axis=(-2, -1)), seed=0, draws=50_000)


def test_intervals_of_the_interquartile_mean_are_near_those_of_scipys_bootstrap():
    scores = DRAW.normal(size=20)
    statistic = lambda each, axis: metrics.interquartile_mean(each[..., None, :])  # noqa: E731
    expected = stats.bootstrap((scores,), statistic, method="percentile", n_resamples=20_000, rng=0).confidence_interval
    found = metrics.stratified_bootstrap(scores, seed=0, draws=20_000)
    np.testing.assert_allclose(found[1:3], expected, atol=0.02)
    assert found != metrics.stratified_bootstrap(scores, seed=1, draws=20_000)


def test_the_interval_of_a_difference_is_near_that_of_scipys_bootstrap():
    first, second = DRAW.normal(size=(1, 12)), DRAW.normal(size=(1, 9)) - 1
    statistic = lambda x, y, axis: x.mean(axis=axis) - y.mean(axis=axis)  # noqa: E731
    expected = stats.bootstrap(
        (first[0], second[0]), statistic, method="percentile", n_resamples=20_000, rng=0
    ).confidence_interval
    found = metrics.bootstrap_difference(first, second, lambda each: each.mean(axis=(-2, -1)), seed=0, draws=20_000)
    np.testing.assert_allclose(found.mean, first.mean() - second.mean())
    np.testing.assert_allclose(found[1:3], expected, atol=0.03)
    same = metrics.bootstrap_difference(np.full(5, 500.0), np.full(5, 500.0), seed=0)
    assert (same[:3], same.sign) == ((0, 0, 0), 0)


def test_the_probability_of_improvement_is_the_mann_whitney_statistic():
    first, second = DRAW.integers(0, 6, (3, 8)), DRAW.integers(0, 5, (3, 5))  # with ties
    expected = [stats.mannwhitneyu(x, y).statistic / (8 * 5) for x, y in zip(first, second, strict=True)]
    found = metrics.probability_of_improvement(first, second, seed=0)
    np.testing.assert_allclose(found.mean, np.mean(expected))
    assert 0 <= found.low <= found.mean <= found.high <= 1
    reverse = metrics.probability_of_improvement(second, first, seed=0)
    np.testing.assert_allclose(reverse.mean, 1 - found.mean)
    always = metrics.probability_of_improvement(first[0] + 10, first[0], seed=0)
    assert always[:3] == (1, 1, 1)


def test_a_performance_profile_is_the_share_of_runs_above():
    scores, thresholds = DRAW.integers(0, 9, (2, 7)), np.arange(-1, 10)
    found = metrics.performance_profile(scores, thresholds, seed=0)
    counts = [sum(score > bound for score in scores.ravel()) for bound in thresholds]
    np.testing.assert_allclose(found[:, 0], np.array(counts) / 14)
    assert (found[:, 1] <= found[:, 0]).all()
    assert (found[:, 0] <= found[:, 2]).all()
    assert found[0].tolist() == [1, 1, 1]
    assert found[-1].tolist() == [0, 0, 0]


def test_one_seed_has_no_interval():
    alone = [metrics.stratified_bootstrap(np.array([3.0]), seed=0)]
    alone += [metrics.probability_of_improvement(np.array([3.0]), np.array([1.0, 2.0]), seed=0)]
    assert [each.mean for each in alone] == [3, 1]
    assert np.isnan([each[1:3] for each in alone]).all()
    profile = metrics.performance_profile(np.array([3.0]), np.array([1.0, 5.0]), seed=0)
    assert profile[:, 0].tolist() == [1, 0]
    assert np.isnan(profile[:, 1:]).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.stratified_bootstrap(np.zeros(0), seed=0), "one run or more"),
        (lambda: metrics.stratified_bootstrap(np.array([1.0, np.nan]), seed=0), "nan"),
        (lambda: metrics.stratified_bootstrap(np.zeros(3), seed=0, draws=0), "draws"),
        (lambda: metrics.performance_profile(np.zeros(3), np.zeros(0), seed=0), "thresholds"),
        (lambda: metrics.probability_of_improvement(np.zeros((2, 3)), np.zeros(3), seed=0), "environments"),
    ],
)
def test_mistakes_are_refused(call, message):
    with refused_in_one_line(message):
        call()
