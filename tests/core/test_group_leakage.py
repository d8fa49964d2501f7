"""Columns that name a group: found where random folds flatter a model, and only there."""

import jax
import numpy as np
import pytest

from mllab import criteria
from mllab.group_leakage import flattered, suspects
from mllab.models.preprocessing import Columns, Layout

LAYOUT = Layout(4)


def visits(leaks, seed=0):
    """Forty patients with six visits each, whose measurements are alike; the label belongs to the patient."""
    draw = np.random.default_rng(seed)
    patient = np.repeat(np.arange(40), 6)
    centres = draw.normal(size=(40, 3))[patient] if leaks else draw.normal(size=(240, 3))
    numbers = np.column_stack([1000 + patient, centres + 0.1 * draw.normal(size=(240, 3))]).astype(np.float32)
    labels = draw.integers(0, 2, 40)[patient] if leaks else draw.integers(0, 2, 240)
    return Columns(numbers, np.zeros((240, 0), np.int32)), labels.astype(np.int32)


def found(columns, targets, classes=2):
    score = criteria.named(None, "classification" if classes else "regression").score()
    return flattered(columns, targets, LAYOUT, score, jax.random.key(0), classes=classes, seed=0)


@pytest.mark.parametrize("classes", [2, None])
def test_a_group_whose_rows_are_alike_is_found(classes):
    columns, targets = visits(leaks=True)
    (one,) = found(columns, targets if classes else targets.astype(np.float32), classes)
    assert (one.column, one.groups) == (0, 40)
    assert one.random > one.grouped
    assert one.difference.low > 0


def test_a_group_whose_rows_are_not_alike_is_not():
    assert found(*visits(leaks=False)) == []


def test_suspects_are_whole_numbers_and_categories_that_several_rows_share():
    draw = np.random.default_rng(0)
    numbers = np.column_stack([
        np.repeat(np.arange(20), 10), draw.normal(size=200), np.arange(200), np.repeat([0, 1], 100)
    ]).astype(np.float32)  # fmt: skip
    codes = np.column_stack([np.tile(np.arange(25), 8), np.tile([0, 1], 100)]).astype(np.int32)
    assert suspects(Columns(numbers, codes), Layout(4, (), (25, 2))) == [0, 4]
    numbers[:, 0] /= 2  # a scale is no matter; a missing value is
    assert suspects(Columns(numbers, codes), Layout(4, (), (25, 2))) == [0, 4]
    numbers[0, 0] = np.nan
    assert suspects(Columns(numbers, codes), Layout(4, (0,), (25, 2))) == [4]
