"""Criteria: means over rows, against scikit-learn."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics

from mllab import criteria
from mllab.errors import UserError

DRAW = np.random.default_rng(0)
LABELS, LOGITS = DRAW.integers(0, 3, 50), DRAW.normal(size=(50, 3)).astype(np.float32)
PROBABILITIES = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
VALUES, PREDICTED = DRAW.normal(size=50).astype(np.float32), DRAW.normal(size=50).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("accuracy", metrics.accuracy_score(LABELS, LOGITS.argmax(axis=1))),
        ("log_loss", metrics.log_loss(LABELS, PROBABILITIES)),
        ("brier", ((PROBABILITIES - np.eye(3)[LABELS]) ** 2).sum(axis=1).mean()),
        ("rmse", metrics.root_mean_squared_error(np.exp(VALUES), np.exp(PREDICTED))),
        ("mae", metrics.mean_absolute_error(np.exp(VALUES), np.exp(PREDICTED))),
    ],
)
def test_criteria_are_those_of_scikit_learn(name, expected):
    row = criteria.CRITERIA[name]
    is_classes = row.task == "classification"
    arguments = (LOGITS, jnp.asarray(LABELS)) if is_classes else (PREDICTED, jnp.asarray(VALUES))
    by_row = row.score(None if is_classes else jnp.exp)(*arguments)
    assert row.shown(np.mean(by_row)) == pytest.approx(expected, rel=1e-5)
    assert row.utility(np.mean(by_row)) == pytest.approx(expected if row.greater_is_better else -expected, rel=1e-5)


def test_a_row_that_is_ruled_out_or_not_finite_counts_as_very_wrong_but_finite():
    outputs = np.array([[0.0, -np.inf], [np.nan, 0.0]], np.float32)
    labels = jnp.array([1, 0])
    for name in ("accuracy", "log_loss", "brier"):
        assert np.isfinite(criteria.CRITERIA[name].score()(outputs, labels)).all(), name


def test_an_unknown_criterion_is_one_line():
    assert criteria.named(None, "regression").name == "rmse"
    with pytest.raises(UserError, match="unknown criterion of regression 'accuracy'"):
        criteria.named("accuracy", "regression")
