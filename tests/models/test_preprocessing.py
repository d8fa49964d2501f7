"""Preprocessing of columns: scikit-learn's own steps, by the statistics of the training rows alone."""

import jax
import numpy as np
import pytest
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, QuantileTransformer, StandardScaler

from mllab.errors import UserError
from mllab.models import preprocessing
from mllab.models.preprocessing import Columns, Layout

DRAW = np.random.default_rng(0)
NUMBERS = DRAW.normal(5, 3, (300, 4)).astype(np.float32)
NUMBERS[:, 1] = np.round(NUMBERS[:, 1])  # ties
NUMBERS[:, 3] = np.exp(NUMBERS[:, 3])
NUMBERS[:, :3][DRAW.random((300, 3)) < 0.1] = np.nan
CODES = DRAW.integers(0, 4, (300, 2)).astype(np.int32)
LAYOUT = Layout(4, (0, 1, 2), (4, 5))
WEIGHT = (DRAW.random(300) < 0.7).astype(np.float32)
fit = jax.jit(preprocessing.fit, static_argnames=("layout", "transform"))


COLUMNS = Columns(NUMBERS, CODES)


def inputs(transform="standard", columns=COLUMNS, weight=WEIGHT, layout=LAYOUT):
    params = fit(columns, weight, layout=layout, transform=transform)
    return np.asarray(preprocessing.apply(params, columns))


@pytest.mark.slow
def test_standard_inputs_are_those_of_a_scikit_learn_pipeline():
    train = WEIGHT > 0
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler()).fit(NUMBERS[train])
    missing = MissingIndicator().fit(NUMBERS[train])
    hot = OneHotEncoder(categories=[range(4), range(5)], handle_unknown="ignore", sparse_output=False).fit(CODES[train])
    expected = [numbers.transform(NUMBERS), missing.transform(NUMBERS), hot.transform(CODES)]
    np.testing.assert_allclose(inputs(), np.concatenate(expected, axis=1), atol=2e-6)


@pytest.mark.slow
def test_quantile_inputs_are_those_of_scikit_learn():
    imputer = SimpleImputer(strategy="median").fit(NUMBERS[WEIGHT > 0])
    count = int(np.sum(WEIGHT > 0))
    transform = QuantileTransformer(n_quantiles=count, output_distribution="normal", subsample=None)
    transform.fit(imputer.transform(NUMBERS[WEIGHT > 0]))
    expected = np.clip(transform.transform(imputer.transform(NUMBERS)), -5, 5)
    ordinary = np.abs(expected) < 1.9  # the tails depend on the number of reference points
    np.testing.assert_allclose(inputs("quantile")[:, :4][ordinary], expected[ordinary], atol=0.05)


def test_clipped_inputs_are_within_three_and_linear_in_the_middle():
    numbers = inputs("clipped")[:, 3]
    low, median, high = np.percentile(NUMBERS[WEIGHT > 0, 3], [25, 50, 75])
    z = (NUMBERS[:, 3] - median) / (high - low)
    np.testing.assert_allclose(numbers, z / np.sqrt(1 + (z / 3) ** 2), rtol=1e-4, atol=1e-5)
    assert np.abs(numbers).max() < 3


@pytest.mark.parametrize("transform", preprocessing.TRANSFORMS)
def test_rows_without_weight_have_no_influence(transform):
    before = inputs(transform)
    train = WEIGHT > 0
    numbers = np.where(train[:, None], NUMBERS, 1e9).astype(np.float32)
    codes = np.where(train[:, None], CODES, 0).astype(np.int32)
    np.testing.assert_array_equal(inputs(transform, Columns(numbers, codes))[train], before[train])


@pytest.mark.parametrize("transform", preprocessing.TRANSFORMS)
def test_affine_changes_of_a_column_change_nothing(transform):
    changed = Columns(NUMBERS * np.float32(4) + np.float32(32), CODES)
    np.testing.assert_allclose(inputs(transform, changed), inputs(transform), atol=2e-4)


@pytest.mark.slow
def test_constant_columns_and_unseen_categories_are_zero_and_all_is_finite():
    numbers = np.full((6, 2), np.nan, np.float32)
    numbers[:, 0] = 7
    numbers[5, 0] = 9  # not a training row
    codes = np.array([[0], [0], [0], [-1], [0], [1]], np.int32)
    weight = np.array([1, 1, 1, 1, 1, 0], np.float32)
    for transform in preprocessing.TRANSFORMS:
        made = inputs(transform, Columns(numbers, codes), weight, Layout(2, (1,), (2,)))
        np.testing.assert_array_equal(made[:, :2], 0)
        np.testing.assert_array_equal(made[:, 2], 1)
        np.testing.assert_array_equal(made[:, 3:], [[1, 0]] * 3 + [[0, 0]] + [[1, 0], [0, 0]])


def test_no_numbers_or_no_categories():
    assert inputs(columns=Columns(NUMBERS[:, :0], CODES), layout=Layout(0, (), (4, 5))).shape == (300, 9)
    assert inputs(columns=Columns(NUMBERS, CODES[:, :0]), layout=Layout(4, (0, 1, 2), ())).shape == (300, 7)


def test_an_unknown_transform_is_one_line():
    with pytest.raises(UserError, match="unknown transform 'quantiles': did you mean 'quantile'"):
        preprocessing.fit(Columns(NUMBERS, CODES), layout=LAYOUT, transform="quantiles")
