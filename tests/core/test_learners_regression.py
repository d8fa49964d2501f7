"""Learners of regression: against scikit-learn on the same folds, and their grids against their own fits."""

from itertools import product
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.dummy import DummyRegressor
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.svm import SVR

from mllab import learners, validation
from mllab.types import Rows
from mllab.validation import Folds, Learner
from support.mistakes import refused_in_one_line

KEY = jax.random.key(0)
DRAW = np.random.default_rng(0)
INPUTS = DRAW.normal(size=(60, 4)).astype(np.float32)
TARGETS = (np.sin(2 * INPUTS[:, 0]) + INPUTS[:, 1] + 0.1 * DRAW.normal(size=60)).astype(np.float32)
TABLE = {"inputs": INPUTS, "targets": TARGETS}
FOLDS = validation.folds(np.arange(60), 3, seed=0)


def padded(rows, count):
    """The rows with padding rows in each fold, which repeat the fold's first id."""
    ids = np.append(rows.ids, np.repeat(rows.ids[:, :1], count, axis=1), axis=1)
    return Rows(ids, np.append(rows.weight, np.zeros((len(ids), count), np.float32), axis=1))


PADDED = Folds(padded(FOLDS.train, 3), padded(FOLDS.held_out, 3))


class Case(NamedTuple):
    learner: Learner
    axes: dict[str, Any]
    peer: Any  # from a setting, scikit-learn's estimator
    atol: float = 1e-4


class CentredKernelRidge(KernelRidge):
    """Kernel ridge of centred targets."""

    def fit(self, X, y):
        self.mean_ = y.mean()
        return super().fit(X, y - self.mean_)

    def predict(self, X):
        return super().predict(X) + self.mean_


CASES = {
    "mean": Case(learners.mean(), {}, lambda: DummyRegressor(), 1e-6),
    "linear": Case(learners.linear(), {}, lambda: LinearRegression(), 1e-5),
    "ridge": Case(learners.ridge(), {"l2": [0.0, 0.1, 100.0]}, lambda l2: Ridge(l2), 1e-5),
    "nearest_neighbors": Case(
        learners.nearest_neighbors(None, most=9), {"k": [9, 1, 4]}, lambda k: KNeighborsRegressor(k), 1e-5
    ),
    "kernel_ridge": Case(
        learners.kernel_ridge(),
        {"gamma": [0.1, 0.5], "l2": [0.01, 1.0]},
        lambda gamma, l2: CentredKernelRidge(l2, kernel="rbf", gamma=gamma),
    ),
    "kernel_ridge_polynomial": Case(
        learners.kernel_ridge("polynomial", degree=2, coef0=1.0),
        {"l2": [1.0], "gamma": [0.1]},
        lambda gamma, l2: CentredKernelRidge(l2, kernel="poly", gamma=gamma, degree=2),
    ),
    "svr": Case(
        learners.support_vector_regression(tolerance=1e-5),
        {"c": [10.0, 0.1], "gamma": [0.1, 0.5], "epsilon": [0.01, 0.2]},
        lambda c, gamma, epsilon: SVR(C=c, gamma=gamma, epsilon=epsilon, tol=1e-6),
        5e-4,
    ),
    "svr_scale": Case(
        learners.support_vector_regression(tolerance=1e-5), {"c": [1.0]}, lambda c: SVR(C=c, tol=1e-6), 5e-4
    ),
    "svr_linear": Case(
        learners.support_vector_regression("linear", tolerance=1e-5),
        {"c": [1.0]},
        lambda c: SVR(kernel="linear", C=c, tol=1e-6),
        5e-4,
    ),
}

ALIKE = "svr_scale", "svr_linear", "kernel_ridge_polynomial"  # as the others of their family


def held_out(name, examples=TABLE, folds=PADDED):
    return np.asarray(validation.held_out_outputs(CASES[name].learner, CASES[name].axes, KEY, examples, folds))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in ALIKE else []) for name in CASES]
)
def test_held_out_values_are_those_of_scikit_learn(name):
    case, outputs = CASES[name], held_out(name)
    assert outputs.shape == (*map(len, case.axes.values()), *PADDED.held_out.ids.shape)
    for index in product(*(range(len(values)) for values in case.axes.values())):
        setting = {axis: case.axes[axis][place] for axis, place in zip(case.axes, index, strict=True)}
        for k in range(3):
            train, out = (rows.ids[k][rows.weight[k] > 0] for rows in PADDED)
            peer = case.peer(**setting).fit(INPUTS[train].astype(float), TARGETS[train])
            np.testing.assert_allclose(outputs[(*index, k)][: len(out)], peer.predict(INPUTS[out]), atol=case.atol)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_fit_gives_the_values_of_the_grid(name):
    case = CASES[name]
    last = tuple(len(values) - 1 for values in case.axes.values())
    setting = {axis: values[-1] for axis, values in case.axes.items()}
    train, out = (jax.tree.map(lambda a: a[1], rows) for rows in PADDED)
    values = case.learner.predict(case.learner.fit(setting, KEY, TABLE, train), INPUTS[out.ids])
    np.testing.assert_allclose(values, held_out(name)[(*last, 1)], atol=case.atol)


def test_least_squares_of_more_columns_than_rows_has_the_least_norm():
    wide = DRAW.normal(size=(8, 20)).astype(np.float32)
    rows = Rows(np.arange(8), np.ones(8, np.float32))
    params = learners.linear().fit({}, KEY, {"inputs": wide, "targets": TARGETS[:8]}, rows)
    peer = LinearRegression().fit(wide.astype(float), TARGETS[:8])
    np.testing.assert_allclose(params.w[:, 0], peer.coef_, atol=1e-5)


MISTAKES = {
    "labels of ridge": (lambda: learners.ridge(3), "classes = 3: ridge is for regression, give softmax_regression"),
    "a negative penalty": (
        lambda: validation.held_out_outputs(learners.ridge(), {"l2": [1.0, -1.0]}, KEY, TABLE, FOLDS),
        r"l2\[1\] = -1.0: expected 0 or more",
    ),
    "two targets": (
        lambda: validation.held_out_outputs(
            learners.mean(), {}, KEY, {"inputs": INPUTS, "targets": jnp.ones((60, 2))}, FOLDS
        ),
        r"targets: shape \[60, 2\], expected \[N\]",
    ),
}


@pytest.mark.parametrize(("call", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_errors_are_one_line(call, message):
    with refused_in_one_line(message):
        call()
