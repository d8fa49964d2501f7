"""Scores of clusterings against scikit-learn, including degenerate clusterings."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as peer

from mllab.errors import UserError
from mllab.metrics import clustering

CASES = {
    "as one": ([0, 0, 1, 1], [5, 5, 2, 2]),
    "one cluster": ([0, 0, 1, 1], [0, 0, 0, 0]),
    "one class": ([0, 0, 0], [0, 1, 2]),
    "one of each": ([3, 3, 3], [1, 1, 1]),
    "each alone": ([0, 1, 2, 0], [0, 1, 2, 3]),
    "both alone": ([0, 1, 2], [4, 2, 9]),
    "apart": ([0, 0, 1, 1], [0, 1, 0, 1]),
    "names": (["b", "a", "a"], [-1, 7, 7]),
    "a row": ([0], [0]),
}


def purity(classes, labels):
    """By counting."""
    return sum(max(list(classes[labels == k]).count(c) for c in set(classes)) for k in set(labels)) / len(classes)


def check(classes, labels):
    classes, labels = np.asarray(classes), np.asarray(labels)
    ours = [score(classes, labels) for score in (clustering.v_measure, clustering.adjusted_rand, clustering.purity)]
    theirs = [peer.v_measure_score(classes, labels), peer.adjusted_rand_score(classes, labels), purity(classes, labels)]
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


@pytest.mark.parametrize(("classes", "labels"), CASES.values(), ids=CASES.keys())
def test_degenerate_clusterings_score_as_scikit_learns(classes, labels):
    check(classes, labels)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31), rows=st.integers(2, 60), classes=st.integers(1, 6), clusters=st.integers(1, 9))
def test_random_clusterings_score_as_scikit_learns(seed, rows, classes, clusters):
    rng = np.random.default_rng(seed)
    check(rng.integers(classes, size=rows), rng.integers(clusters, size=rows))


@pytest.mark.parametrize("offset", [0, 1e4])
@pytest.mark.parametrize(("rows", "clusters"), [(9, 8), (150, 2), (150, 5)])
def test_silhouettes_are_scikit_learns(rows, clusters, offset):
    rng = np.random.default_rng(rows + clusters)
    labels = np.concatenate([np.arange(clusters), rng.integers(clusters, size=rows - clusters)])
    points = (rng.standard_normal((rows, 3)) + labels[:, None] + offset).astype(np.float32)
    ours = clustering.silhouette(points, labels * 3 - 1)
    np.testing.assert_allclose(ours, peer.silhouette_score(points.astype(float), labels), atol=1e-5)


def test_an_outlier_does_not_reduce_the_precision():
    rng = np.random.default_rng(0)
    points, labels = rng.standard_normal((61, 3)).astype(np.float32), np.arange(61) % 2
    points[-1] = 1e6, 0, 0
    ours = clustering.silhouette(points, labels)
    np.testing.assert_allclose(ours, peer.silhouette_score(points.astype(float), labels), atol=1e-5)


def test_duplicate_points_have_a_silhouette():
    points, labels = np.repeat([[0.0, 1.0], [5.0, 1.0]], [3, 4], axis=0), np.repeat([0, 1], [3, 4])
    np.testing.assert_allclose(clustering.silhouette(points, labels), peer.silhouette_score(points, labels), atol=1e-3)
    np.testing.assert_allclose(clustering.silhouette(points * 0, labels), 0)


def test_a_sample_of_rows_is_scored_as_a_data_set_of_its_own():
    rng = np.random.default_rng(0)
    points, labels, rows = rng.random((80, 2)), rng.integers(3, size=80), rng.permutation(80)[:30]
    ours = clustering.silhouette(points, labels, rows=rows)
    np.testing.assert_allclose(ours, peer.silhouette_score(points[rows], labels[rows]), atol=1e-5)
    assert abs(ours - clustering.silhouette(points, labels)) > 1e-3


@pytest.mark.slow
def test_the_block_size_does_not_change_the_silhouette():
    rng = np.random.default_rng(0)
    points, labels = rng.random((73, 2)), rng.integers(3, size=73)
    whole = clustering.silhouette(points, labels)
    for block_rows in (1, 10, 72):
        in_blocks = clustering.silhouette(points, labels, block_bytes=3 * 4 * 73 * block_rows)
        np.testing.assert_allclose(in_blocks, whole, rtol=1e-5)


MISTAKES = {
    "lengths": (lambda: clustering.purity(np.zeros(3), np.zeros(4)), r"classes \[3\] and labels \[4\]"),
    "no row": (lambda: clustering.v_measure(np.zeros(0), np.zeros(0)), r"classes \[0\]"),
    "one cluster": (lambda: clustering.silhouette(np.zeros((4, 2)), np.zeros(4)), "1 clusters of 4 rows"),
    "all alone": (lambda: clustering.silhouette(np.zeros((4, 2)), np.arange(4)), "4 clusters of 4 rows"),
    "shapes": (lambda: clustering.silhouette(np.zeros(4), np.arange(4)), r"points \[4\] and labels \[4\]"),
}


@pytest.mark.parametrize(("call", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_errors_name_what_is_wrong(call, message):
    with pytest.raises(UserError, match=message):
        call()
