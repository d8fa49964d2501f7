"""Learners where a fold's training rows lack a class, or have one row of one, or inputs are degenerate."""

import jax
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from mllab import learners, validation

KEY = jax.random.key(0)
DRAW = np.random.default_rng(0)
LABELS = np.repeat([0, 1, 2, 3], [12, 9, 2, 1]).astype(np.int32)
TRAIN = np.r_[0:8, 12:19, 22]  # one row of class 2, none of class 3
FOLDS = validation.holdout(TRAIN, np.setdiff1d(np.arange(24), TRAIN))
NORMAL = DRAW.normal(size=(24, 3)).astype(np.float32) + LABELS[:, None]
INPUTS = {
    "few columns": NORMAL,
    "constant": np.zeros((24, 3), np.float32),
    "more columns than rows": np.concatenate([NORMAL, DRAW.normal(size=(24, 37))], axis=1).astype(np.float32),
}
CLASSIFIERS = {
    "boosted_trees": (learners.boosted_trees(4, iterations=3), {"l2": [0.0]}),
    "mixture": (learners.mixture(4, restarts=1), {"floor": [0.1]}),
    "most_frequent": (learners.most_frequent(4), {}),
    "nearest_neighbors": (learners.nearest_neighbors(4, 5), {"k": [5]}),
    "of_sklearn": (learners.of_sklearn(LogisticRegression(), 4), {}),
    "softmax_regression": (learners.softmax_regression(4), {"l2": [1.0]}),
    "svm": (learners.svm(4), {"c": [1.0], "gamma": [0.1]}),
}
REGRESSIONS = {
    "boosted_trees": (learners.boosted_trees(None, iterations=3), {}),
    "kernel_ridge": (learners.kernel_ridge(), {"l2": [0.1], "gamma": [0.1]}),
    "linear": (learners.linear(), {}),
    "nearest_neighbors": (learners.nearest_neighbors(None, 5), {"k": [5]}),
    "ridge": (learners.ridge(), {"l2": [0.0]}),
    "support_vector_regression": (learners.support_vector_regression(), {"c": [1.0], "gamma": [0.1]}),
}
SLOW = {"kernel_ridge", "mixture", "softmax_regression", "support_vector_regression", "svm"}  # to compile


def each(names):
    return [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in names]


@pytest.mark.parametrize("name", each(CLASSIFIERS))
def test_a_fold_without_a_class_gives_finite_log_probabilities(name):
    learner, axes = CLASSIFIERS[name]
    for what, inputs in INPUTS.items():
        examples = {"inputs": inputs, "targets": LABELS}
        outputs = np.asarray(validation.held_out_outputs(learner, axes, KEY, examples, FOLDS)).reshape(-1, 4)
        assert np.isfinite(outputs).all(), what
        np.testing.assert_allclose(np.exp(outputs).sum(axis=1), 1, atol=1e-4, err_msg=what)
        assert np.exp(outputs[:, 3]).max() < 0.2, what
        assert (outputs.argmax(axis=1) != 3).all(), what


@pytest.mark.parametrize("name", each(REGRESSIONS))
def test_degenerate_inputs_give_finite_values(name):
    learner, axes = REGRESSIONS[name]
    targets = NORMAL[:, 0] + 5
    for what, inputs in INPUTS.items():
        examples = {"inputs": inputs, "targets": targets}
        values = np.asarray(validation.held_out_outputs(learner, axes, KEY, examples, FOLDS))
        assert np.isfinite(values).all(), what
        if what == "constant" and name in ("kernel_ridge", "linear", "ridge"):
            np.testing.assert_allclose(values, targets[TRAIN].mean(), rtol=1e-4)


@pytest.mark.parametrize("name", ["boosted_trees", "of_sklearn"])
def test_one_class_alone_is_certain(name):
    learner, axes = CLASSIFIERS[name]
    folds = validation.holdout(np.arange(8), np.arange(8, 24))
    outputs = validation.held_out_outputs(learner, axes, KEY, {"inputs": NORMAL, "targets": LABELS}, folds)
    assert (np.asarray(outputs)[..., 0] == 0).all()
    assert np.isfinite(outputs).all()
