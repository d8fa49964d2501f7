"""Principal components against scikit-learn's, and their invariances."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from mllab.errors import UserError
from mllab.models import pca

SHAPES = [(200, 5, 2), (30, 50, 10), (40, 1, 1), (60, 4, 4), (24, 64 * 64 * 3, 16), (8, 10_000, 8)]


@pytest.mark.parametrize(("rows", "features", "count"), SHAPES)
@pytest.mark.parametrize("offset", [0, 1000])
def test_axes_and_components_match_scikit_learn(rows, features, count, offset):
    rng = np.random.default_rng(0)
    points = (rng.normal(size=(rows, features)) * np.arange(1, features + 1) + offset).astype(np.float32)
    params, peer = pca.fit(points, count), PCA(count, svd_solver="full").fit(points.astype(np.float64))
    signs = np.sign(np.sum(params.axes * peer.components_.T, axis=0))
    some = min(count, rows - 1)  # centred rows vary along no further axis, which may be any then
    np.testing.assert_allclose((params.axes * signs)[:, :some], peer.components_.T[:, :some], atol=1e-6)
    np.testing.assert_allclose(params.variances.sum(), np.var(points.astype(np.float64), axis=0).sum(), rtol=1e-9)
    assert params.variances.shape == (features,)
    assert (np.diff(params.variances) <= 0).all()
    np.testing.assert_allclose(params.variances[:some], peer.explained_variance_[:some] * (rows - 1) / rows, rtol=1e-9)
    assert (params.variances[rows - 1 :] <= 1e-9 * params.variances[0]).all()
    queries = points[:7] + 1
    components = pca.transform(params, queries)
    expected = peer.transform(queries.astype(np.float64))[:, :some]
    np.testing.assert_allclose((components * signs)[:, :some], expected, atol=1e-5)


def test_all_components_keep_distances_and_variances_are_in_order():
    points = load_digits().data[:300]
    params = pca.fit(points, 64)
    components = pca.transform(params, points)
    np.testing.assert_allclose(components @ params.axes.T + params.mean, points, atol=1e-9)
    np.testing.assert_allclose(components.var(axis=0), params.variances, atol=1e-9)
    assert (np.diff(params.variances) <= 0).all()
    assert (params.variances >= 0).all()  # three columns are constant
    peak = np.abs(params.axes).argmax(axis=0)
    assert (params.axes[peak, np.arange(64)] > 0).all()


@pytest.mark.parametrize("count", [1, 4, 5, 30])
def test_axes_beyond_the_rank_complete_the_basis(count):
    points = np.random.default_rng(0).normal(size=(5, 30))
    params = pca.fit(points, count)
    np.testing.assert_allclose(params.axes.T @ params.axes, np.eye(count), atol=1e-12)
    np.testing.assert_allclose(params.variances[4:], 0, atol=1e-12)
    np.testing.assert_allclose(pca.transform(params, points).var(axis=0), params.variances[:count], atol=1e-12)


@pytest.mark.parametrize("shape", [(130, 110), (110, 130)])
def test_the_first_axes_of_many_are_those_of_the_whole_factorisation(shape):
    points = np.random.default_rng(0).normal(size=shape) * np.geomspace(1, 1e-3, shape[1])
    few, every = pca.fit(points, 4, wide=100), pca.fit(points, 4)
    np.testing.assert_allclose(few.axes, every.axes, atol=1e-9)
    np.testing.assert_allclose(few.variances[:4], every.variances[:4], rtol=1e-9)
    np.testing.assert_allclose(few.variances.sum(), every.variances.sum(), rtol=1e-9)
    same = pca.fit(np.full(shape, 3.0), 2, wide=100)
    np.testing.assert_array_equal(same.variances, 0)
    np.testing.assert_allclose(same.axes.T @ same.axes, np.eye(2), atol=1e-12)


def test_reduced_columns_are_scikit_learns_in_one_unit():
    points, train = load_digits().data.astype(np.float32), np.arange(0, 1797, 2)
    columns, reduction = pca.reduced(points, 16, train)
    peer = PCA(16).fit(points[train])
    expected = peer.transform(points)
    expected /= np.sqrt(np.mean(expected[train] ** 2))
    np.testing.assert_allclose(np.abs(columns), np.abs(expected), atol=2e-4)
    assert columns.dtype == np.float32
    assert (reduction.given, reduction.kept) == (64, 16)
    assert reduction.variance == pytest.approx(peer.explained_variance_ratio_.sum(), rel=1e-4)
    columns, reduction = pca.reduced(points, None, train)
    assert columns is points
    assert reduction == pca.Reduction(64, 64, 1.0)


def test_the_order_of_rows_does_not_matter():
    points = np.random.default_rng(1).normal(size=(50, 6))
    params, other = pca.fit(points, 3), pca.fit(points[::-1], 3)
    np.testing.assert_allclose(params.axes, other.axes, atol=1e-9)


POINTS = np.eye(4, 3)
MISTAKES = {
    "count": (lambda: pca.fit(POINTS, 4), "count = 4: expected 1 to 3, the number of columns"),
    "no component": (lambda: pca.fit(POINTS, 0), "count = 0"),
    "axes": (lambda: pca.fit(POINTS[0], 1), r"points: shape \[3\], expected \[N, D\]"),
    "NaN": (lambda: pca.fit(np.where(POINTS == 0, np.nan, 1), 1), "points: row 0, column 1 is nan"),
    "columns": (lambda: pca.transform(pca.fit(POINTS, 1), POINTS[:, :2]), r"points: shape \[4, 2\], expected \[M, 3\]"),
}


@pytest.mark.parametrize(("call", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_raise_one_line(call, message):
    with pytest.raises(UserError, match=message):
        call()
