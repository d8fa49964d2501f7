"""McNemar's test, bootstrap intervals, calibration and the expected best of n settings, against other sources."""

import itertools

import numpy as np
import pytest
from scipy import stats
from sklearn.calibration import calibration_curve

from mllab import metrics
from mllab.errors import UserError
from mllab.metrics import bootstrap, calibration, expected_best, mcnemar

DRAW = np.random.default_rng(0)


def test_mcnemar_is_the_binomial_test_of_the_rows_that_differ():
    first, second = DRAW.random(60) < 0.8, DRAW.random(60) < 0.6
    test = mcnemar(first, second)
    assert (test.only_first, test.only_second) == (np.sum(first & ~second), np.sum(second & ~first))
    expected = stats.binomtest(test.only_first, test.only_first + test.only_second).pvalue
    assert test.p_value == pytest.approx(expected)
    assert mcnemar(first, first).p_value == 1


def test_mcnemar_of_equal_classifiers_rejects_one_in_twenty_at_most():
    truths = DRAW.random((400, 2, 80)) < 0.7
    assert np.mean([mcnemar(*pair).p_value < 0.05 for pair in truths]) <= 0.06


def test_bootstrap_is_that_of_scipy_and_covers():
    squares = DRAW.exponential(size=80)
    ours = bootstrap(np.sqrt, squares, draws=4000)
    other = stats.bootstrap(
        (squares,), lambda a, axis: np.sqrt(a.mean(axis=axis)), n_resamples=4000, method="percentile"
    )
    np.testing.assert_allclose(ours[1:3], other.confidence_interval, atol=0.03)
    covered = [
        (low <= 1 <= high)
        for _ in range(500)
        for _, low, high, _ in [bootstrap(np.sqrt, DRAW.normal(size=200) ** 2, draws=300)]
    ]
    assert 0.92 <= np.mean(covered) <= 0.98


def test_calibration_is_that_of_scikit_learn():
    probabilities = DRAW.random(500)
    correct = DRAW.random(500) < probabilities**2
    curve = calibration(probabilities, correct)
    observed, predicted = calibration_curve(correct, probabilities, n_bins=10, strategy="quantile")
    np.testing.assert_allclose([each.predicted for each in curve.bins], predicted, atol=2e-3)
    np.testing.assert_allclose([each.observed.mean for each in curve.bins], observed, atol=0.02)
    assert 0.1 < curve.error < 0.25
    assert calibration(np.ones(4), np.array([1, 1, 0, 1])).error == pytest.approx(0.25)


def test_the_expected_best_is_the_mean_over_all_draws():
    scores, reported = np.array([0.3, 0.9, 0.5, 0.5]), np.array([1.0, 2.0, 3.0, 5.0])
    for n in range(1, 5):
        best = []
        for draws in itertools.product(range(4), repeat=n):
            top = max(scores[list(draws)])
            best.append(reported[scores == top].mean())
        assert expected_best(scores, reported)[n - 1] == pytest.approx(np.mean(best))
    assert expected_best(np.array([-np.inf, 1.0]), np.array([np.nan, 2.0])).shape == (2,)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: mcnemar(np.ones(3), np.ones(4)), "same rows"),
        (lambda: mcnemar(np.array([0.5]), np.array([1.0])), "True or False"),
        (lambda: bootstrap(np.sqrt, np.array([])), "rows"),
        (lambda: bootstrap(np.sqrt, np.array([np.nan])), "values"),
        (lambda: calibration(np.array([2.0]), np.array([1])), "0 to 1"),
        (lambda: calibration(np.ones(2), np.ones(3)), "expected"),
        (lambda: expected_best(np.array([])), "expected"),
        (lambda: expected_best(np.array([np.nan])), "no NaN"),
    ],
)
def test_mistakes_are_one_line(call, match):
    with pytest.raises(UserError, match=match):
        call()


def test_one_row_has_no_bootstrap_interval():
    assert isinstance(bootstrap(np.sqrt, np.array([4.0])), metrics.Interval)
    assert np.isnan(bootstrap(np.sqrt, np.array([4.0])).low)
