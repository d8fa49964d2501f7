"""CV+ intervals: the definition, and their coverage on simulated data."""

import math

import numpy as np
import pytest

from mllab.conformal import cv_plus
from mllab.errors import UserError


def fitted(x, y, folds):
    """Least squares on each fold's complement: coefficients [K, 2], and the residuals of the rows left out."""
    inputs = np.stack([np.ones_like(x), x], axis=1)
    weights = [np.linalg.lstsq(inputs[folds != k], y[folds != k], rcond=None)[0] for k in range(folds.max() + 1)]
    return np.array(weights), np.abs(y - np.einsum("ij,ij->i", inputs, np.array(weights)[folds]))


def test_bounds_are_the_ranks_of_the_definition():
    draw = np.random.default_rng(0)
    predictions, residuals, fold = draw.normal(size=(3, 4)), np.abs(draw.normal(size=25)), draw.integers(0, 3, 25)
    low, high = cv_plus(predictions, residuals, fold, 0.9)
    for m in range(4):
        sums = sorted(predictions[fold[i], m] + residuals[i] for i in range(25))
        differences = sorted(predictions[fold[i], m] - residuals[i] for i in range(25))
        assert high[m] == pytest.approx(sums[math.ceil(0.9 * 26) - 1])
        assert low[m] == pytest.approx(differences[math.floor(0.1 * 26) - 1])


@pytest.mark.parametrize("skewed", [False, True])
def test_intervals_hold_the_truth_about_as_often_as_promised(skewed):
    draw, hits = np.random.default_rng(1), 0
    for _ in range(500):
        x = draw.normal(size=121)
        noise = draw.exponential(size=121) - 1 if skewed else draw.normal(size=121)
        y = 2 * x + noise * 3
        folds = np.arange(120) % 5
        weights, residuals = fitted(x[:120], y[:120], folds)
        low, high = cv_plus((weights[:, 0] + weights[:, 1] * x[120])[:, None], residuals, folds)
        hits += low[0] <= y[120] <= high[0]
    assert 0.92 <= hits / 500 <= 0.98


def test_too_few_rows_have_no_bounds():
    low, high = cv_plus(np.zeros((2, 1)), np.ones(10), np.arange(10) % 2)
    assert low[0] == -np.inf
    assert high[0] == np.inf


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"predictions": np.zeros(3)}, "expected \\[K, M\\]"),
        ({"residuals": np.array([1.0, -1.0])}, "residuals"),
        ({"residuals": np.array([1.0, np.nan])}, "residuals"),
        ({"fold": np.array([0, 2])}, "fold"),
        ({"coverage": 1.0}, "coverage"),
    ],
)
def test_mistakes_are_one_line(changes, match):
    arguments = {"predictions": np.zeros((2, 3)), "residuals": np.ones(2), "fold": np.array([0, 1])}
    with pytest.raises(UserError, match=match):
        cv_plus(**{**arguments, **changes})
