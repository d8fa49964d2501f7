"""Fits of drawn numbers, dtypes and weights: refused in one line, or finite.

Shape and settings are those of `test_argument_table`, so that little compiles.
"""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mllab.errors import UserError
from mllab.metrics import clustering
from mllab.models import kmeans, linear, mixture, neighbors, softmax, svm

KEY = jax.random.key(0)
SHAPE = (12, 3)
DTYPES = [np.float32, np.float64, np.float16, np.int32, np.int64, np.uint8, bool]
NUMBERS = st.one_of(
    st.sampled_from([0.0, 1.0, -1.0, 1e-38, 1e-30, 1e-12, 1e4, 1e9, 1e15, -1e15, 1e30, 3e38, np.nan, np.inf]),
    st.floats(-3, 3, width=16),
    st.floats(-3, 3, width=16),
    st.floats(-(2.0**50), 2.0**50, width=32),
)
WEIGHTS = st.sampled_from([0.0, 1.0, 1.0, 0.5, 3.0, 1e-30, 1e-12, 1e9, 1e15, -1.0, np.nan])


@st.composite
def problems(draw):
    """Draw points, labels and weights; few distinct numbers, so that rows and columns repeat."""
    numbers = draw(st.lists(NUMBERS, min_size=1, max_size=4))
    entries = draw(st.lists(st.sampled_from(numbers), min_size=36, max_size=36))
    with np.errstate(all="ignore"):
        points = np.array(entries).reshape(SHAPE).astype(draw(st.sampled_from(DTYPES)))
    points = points.tolist() if draw(st.booleans()) else points
    labels = np.array(draw(st.lists(st.integers(0, 2), min_size=12, max_size=12)), np.int32)
    weight = draw(st.none() | st.lists(WEIGHTS, min_size=12, max_size=12))
    return points, labels, weight


def values(points, labels):
    """Return targets in the range of the points' first column."""
    return np.asarray(points, np.float64)[:, 0] * 2 - labels


def mixture_fit(covariance):
    def fit(x, y, w):
        fitted = mixture.fit(KEY, x, 3, covariance=covariance, labels=y, weight=w, restarts=2, steps=5)
        return fitted, mixture.score(fitted.params, x), mixture.bic(fitted.params, x)

    return fit


FITS = {
    **{
        f"linear {method}": lambda x, y, w, method=method: linear.fit(x, values(x, y), weight=w, method=method)
        for method in linear.METHODS
    },
    "ridge": lambda x, y, w: linear.fit(x, values(x, y), weight=w, ridge=0.1),
    "softmax": lambda x, y, w: softmax.fit(x, y, 3, l2=1.0, weight=w),
    "kmeans": lambda x, y, w: kmeans.fit(KEY, x, 2, weight=w, restarts=2, steps=5),
    **{f"mixture {covariance}": mixture_fit(covariance) for covariance in mixture.COVARIANCES},
    **{
        f"svm {kernel}": lambda x, y, w, kernel=kernel: svm.apply(svm.fit(x, y, 3, kernel=kernel, weight=w), x)
        for kernel in ("linear", "rbf", "polynomial")
    },
    "neighbors": lambda x, y, w: neighbors.apply(neighbors.fit(x, y, 2, w), x, 3, 2),
    "nearest": lambda x, y, w: neighbors.nearest(x, x, 2, w),
    "silhouette": lambda x, y, w: clustering.silhouette(x, y),
}


SLOW = {"mixture full", "mixture tied", "mixture diagonal", "svm linear", "svm polynomial"}  # programs of their own


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in FITS])
@settings(max_examples=10, deadline=None)
@given(problems())
def test_a_fit_is_refused_in_one_line_or_finite(name, problem):
    message = ""
    try:
        with np.errstate(all="ignore"):  # of `values`
            fitted = FITS[name](*problem)
    except UserError as error:
        fitted, message = None, str(error)
    assert len(message.splitlines()) <= 1
    for leaf in jax.tree.leaves(fitted):
        assert np.isfinite(np.asarray(leaf, np.float64)).all(), fitted
