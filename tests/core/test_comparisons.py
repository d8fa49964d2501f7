"""Rankings, ties and leads against SciPy's paired t-test, and what rounding must not decide."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from mllab import metrics


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 5), st.integers(2, 6))
def test_tied_is_whose_paired_t_interval_includes_0(seed, names, seeds):
    draw = np.random.default_rng(seed)
    scores = {f"model {i}": draw.normal(0.02 * draw.integers(3), 0.02, seeds) for i in range(names)}
    ranking = metrics.ranking(scores)
    means = {name: values.mean() for name, values in scores.items()}
    assert ranking.best == max(means, key=means.get)
    assert [means[name] for name in ranking.names] == sorted(means.values(), reverse=True)
    for name, values in scores.items():
        if name != ranking.best:
            low = scipy.stats.ttest_rel(scores[ranking.best], values).confidence_interval(0.95).low
            assert (name in ranking.tied) == (not low > 0) or abs(low) < 1e-6
    assert ranking.tied == [name for name in scores if name in ranking.tied]
    assert ranking.marked == ranking.tied


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_means_go_to_the_first_whatever_the_rounding(dtype):
    exact = np.array([0.9, 0.8, 0.7], dtype)
    for first, second in ((exact, np.nextafter(exact, dtype(1))), (exact, exact[::-1])):
        assert metrics.ranking({"a": first, "b": second}).names == ["a", "b"]
        assert metrics.ranking({"b": second, "a": first}).names == ["b", "a"]
    assert metrics.greatest(np.array([np.nan, 0.5, np.nextafter(dtype(0.5), dtype(1))], dtype)) == 1


def test_a_difference_that_is_equal_on_all_seeds_has_no_width_of_rounding():
    first, second = np.array([353, 354, 352], np.float32) / 359, np.array([351, 352, 350], np.float32) / 359
    by = metrics.interval(metrics.paired(first, second))
    assert by.low == pytest.approx(by.high, abs=1e-12)
    np.testing.assert_array_equal(metrics.paired(first, first + np.float32(1e-8)), 0)
    np.testing.assert_array_equal(metrics.paired([0.0, 0.0], 0.0), 0)


def test_one_seed_is_no_comparison():
    ranking = metrics.ranking({"a": np.array([0.5]), "b": np.array([0.9])})
    assert ranking.tied == ["a", "b"]
    assert not ranking.is_compared
    assert (ranking.best, ranking.marked) == ("b", ["b"])
    alone = metrics.ranking({"a": np.array([0.5, 0.6])})
    assert (alone.tied, alone.marked, alone.is_compared) == (["a"], [], False)


def test_a_few_rows_are_no_clear_difference_though_every_seed_has_them():
    """Three of 359 rows on each of three seeds: the interval over seeds has width 0, that over rows includes 0."""
    best = np.ones((3, 359))
    best[:, :7] = 0
    for rows, is_tied in ((3, True), (60, False)):
        other = np.ones((3, 359))
        other[:, 5 : 12 + rows] = 0
        ranking = metrics.ranking({"best": best, "other": other})
        assert ("other" in ranking.tied) == is_tied, rows
    assert metrics.is_clear(metrics.paired(best, other).mean(axis=1))


@pytest.mark.parametrize(
    ("differences", "expected"),
    [([0.1, 0.2, 0.15], True), ([0.1, -0.1, 0.0], False), ([0.0, 0.0], False), ([0.1], True), ([0.0], False)],
)
def test_what_is_clear(differences, expected):
    assert metrics.is_clear(np.array(differences)) == expected


@pytest.mark.parametrize(
    ("low", "high", "sign"), [(0.1, 2.0, 1), (-2.0, -0.1, -1), (-0.1, 2.0, 0), (0.0, 0.0, 0), (math.nan, math.nan, 0)]
)
def test_the_sign_of_an_interval(low, high, sign):
    assert metrics.Interval(1.0, low, high, 3).sign == sign
