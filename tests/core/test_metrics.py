"""Intervals, confusion matrices and per-class scores against SciPy and scikit-learn."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as peer

from mllab import metrics
from mllab.errors import UserError


@settings(max_examples=50)
@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=9).filter(lambda values: np.std(values) > 1e-6))
def test_the_interval_of_a_mean_is_students_t(values):
    interval = metrics.interval(np.array(values))
    low, high = scipy.stats.t.interval(
        0.95, len(values) - 1, np.mean(values), np.std(values, ddof=1) / np.sqrt(len(values))
    )
    np.testing.assert_allclose(interval[:3], [np.mean(values), low, high], rtol=1e-6, atol=1e-6)
    assert np.isnan(metrics.interval(np.array(values[:1]))[1:3]).all()


@pytest.mark.parametrize(("correct", "rows"), [(0, 7), (7, 7), (3, 10), (480, 500)])
def test_the_interval_of_a_proportion_is_wilsons(correct, rows):
    theirs = scipy.stats.binomtest(correct, rows).proportion_ci(0.95, method="wilson")
    ours = metrics.proportion(np.arange(rows) < correct)
    np.testing.assert_allclose(ours, (correct / rows, theirs.low, theirs.high, rows), atol=1e-12)


def test_r_squared_equals_scikit_learns():
    draw = np.random.default_rng(0)
    targets, values = draw.normal(size=(2, 50))
    ours = metrics.r_squared(np.mean((values - targets) ** 2), targets)
    np.testing.assert_allclose(ours, peer.r2_score(targets, values))
    assert np.isfinite(metrics.r_squared(0.5, np.ones(3)))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 5), st.integers(1, 40))
def test_confusion_and_class_scores_equal_scikit_learns(seed, classes, rows):
    """Random predictions: some classes have no row, some no prediction."""
    draw = np.random.default_rng(seed)
    targets, predicted = draw.integers(classes, size=(2, rows))
    matrix = metrics.confusion_matrix(targets, predicted, classes)
    every = np.arange(classes)
    np.testing.assert_array_equal(matrix, peer.confusion_matrix(targets, predicted, labels=every))
    scores = metrics.per_class(matrix)
    precision, recall, f1, support = peer.precision_recall_fscore_support(
        targets, predicted, labels=every, zero_division=np.nan
    )
    np.testing.assert_array_equal(scores.rows, support)
    np.testing.assert_allclose(scores.precision, precision)
    np.testing.assert_allclose(scores.recall, recall)
    np.testing.assert_allclose(scores.f1, f1)
    for true in range(classes):
        errors = [int(np.sum((targets == true) & (predicted == other))) * (other != true) for other in range(classes)]
        assert scores.confusions[true] == max(errors)
        assert scores.confused_with[true] == (errors.index(max(errors)) if max(errors) else -1)


@pytest.mark.parametrize(
    ("targets", "predicted", "message"),
    [
        ([0, 1], [0], r"targets \[2\] and predictions \[1\]"),
        ([0, 3], [0, 1], "targets from 0 to 3: classes are 0 to 2"),
        ([0, 1], [-1, 1], "predictions from -1 to 1: classes are 0 to 2"),
    ],
)
def test_labels_that_do_not_fit_are_refused(targets, predicted, message):
    with pytest.raises(UserError, match=message):
        metrics.confusion_matrix(np.array(targets), np.array(predicted), 3)
