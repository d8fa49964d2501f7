"""Kernel ridge and support vector regression: optimality, weights and mistakes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.kernel_ridge import KernelRidge
from sklearn.svm import SVR

from mllab import devices, sweep
from mllab.models import kernel_ridge
from mllab.models.svm import regression
from support.mistakes import refused_in_one_line

DRAW = np.random.default_rng(1)
X = DRAW.normal(size=(50, 3)).astype(np.float32)
T = (np.cos(2 * X[:, 0]) + X[:, 1] + 3 + 0.2 * DRAW.normal(size=50)).astype(np.float32)
W = DRAW.integers(0, 3, 50).astype(np.float32)
GAMMA, C, EPSILON = 0.3, 5.0, 0.1


def primal(coefficients, bias, weight):
    """The objective of support vector regression, in float64."""
    x = X.astype(float)
    matrix = np.exp(-GAMMA * ((x[:, None] - x[None]) ** 2).sum(axis=2))
    values = matrix @ coefficients + bias
    losses = np.maximum(0, np.abs(T - values) - EPSILON)
    return coefficients @ matrix @ coefficients / 2 + C * weight @ losses


@pytest.mark.parametrize("weighted", [False, True])
def test_the_objective_of_support_vector_regression_is_that_of_libsvm(weighted):
    weight = W if weighted else np.ones(50, np.float32)
    params = regression.fit(X, T, c=C, epsilon=EPSILON, gamma=GAMMA, weight=weight, tolerance=1e-4)
    used = np.flatnonzero(weight)
    peer = SVR(C=C, epsilon=EPSILON, gamma=GAMMA, tol=1e-8).fit(X[used], T[used], sample_weight=weight[used])
    dense = np.zeros(50)
    dense[used[peer.support_]] = peer.dual_coef_[0]
    least = primal(dense, peer.intercept_[0], weight)
    np.testing.assert_allclose(
        primal(np.asarray(params.coefficients, float), float(params.bias), weight), least, rtol=1e-4
    )
    np.testing.assert_allclose(params.objective, least, rtol=1e-4)
    assert abs(params.gap) < 1e-3
    np.testing.assert_allclose(regression.apply(params, X), peer.predict(X), atol=1e-3)
    assert (np.asarray(params.coefficients)[weight == 0] == 0).all()


def test_kernel_ridge_weights_rows_as_scikit_learn_does():
    params = kernel_ridge.fit(X, T, l2=0.1, gamma=GAMMA, weight=W)
    mean = np.average(T, weights=W)
    peer = KernelRidge(0.1, kernel="rbf", gamma=GAMMA).fit(X, T - mean, sample_weight=W)
    np.testing.assert_allclose(kernel_ridge.apply(params, X), peer.predict(X) + mean, atol=1e-4)
    assert (np.asarray(params.coefficients)[W == 0] == 0).all()


@pytest.mark.parametrize("count", [pytest.param(None, marks=pytest.mark.slow), 2])
def test_a_grid_of_some_rows_equals_scikit_learn(count):
    weight, hyper = (np.arange(50) % 2).astype(np.float32)[None], {"gamma": [0.5, 2.0, 1.0]}
    solve = sweep.over_tasks(regression.solve_tasks, devices.mesh(count)) if count else regression.solve_tasks
    targets = np.where(weight[0] > 0, T, 1e3).astype(np.float32)  # whatever those of the others are
    limits = {"c": [0.3, C], "epsilon": [0.05, 0.2], "tolerance": 1e-5}
    values = regression.grid(X, targets, weight, hyper=hyper, solve=solve, **limits)
    assert values.shape == (3, 2, 2, 1, 50)
    for g, a, e in [(0, 0, 0), (1, 1, 0), (2, 1, 1)]:
        settings = {"C": limits["c"][a], "epsilon": limits["epsilon"][e], "gamma": hyper["gamma"][g]}
        peer = SVR(tol=1e-6, **settings).fit(X[1::2], T[1::2])
        np.testing.assert_allclose(values[g, a, e, 0], peer.predict(X), atol=2e-3)


def test_targets_within_epsilon_of_a_constant_have_no_support_vectors():
    params = regression.fit(X, 1 + 0.01 * T, c=C, epsilon=1.0, gamma=GAMMA)
    assert (np.asarray(params.coefficients) == 0).all()
    assert np.abs(np.asarray(regression.apply(params, X)) - 1 - 0.01 * T).max() <= 1


@pytest.mark.parametrize("l2", [0.0, 1e-6])
def test_equal_rows_and_no_penalty_leave_kernel_ridge_finite(l2):
    repeated, targets = np.repeat(X[:10], 5, axis=0), np.repeat(T[:10], 5)
    params = kernel_ridge.fit(repeated, targets, l2=l2, gamma=GAMMA)
    np.testing.assert_allclose(kernel_ridge.apply(params, X[:10]), T[:10], atol=0.01)


def test_kernel_regression_lowers_to_every_platform():
    x, number = jax.ShapeDtypeStruct((40, 3), jnp.float32), jax.ShapeDtypeStruct((), jnp.float32)
    for fit in (
        lambda x, value: kernel_ridge.fit(x, x[:, 0], l2=value, gamma=value),
        lambda x, value: regression.fit(x, x[:, 0], c=value, gamma=value),
    ):
        platforms = ("cpu", "cuda", "tpu")
        assert jax.export.export(jax.jit(fit), platforms=platforms)(x, number).platforms == platforms


MISTAKES = {
    "c": (lambda: regression.fit(X, T, c=0), "c = 0: expected a finite number above 0"),
    "epsilon": (lambda: regression.fit(X, T, epsilon=-1.0), "epsilon = -1.0: expected 0 or more"),
    "gamma": (lambda: regression.fit(X, T, gamma=-1.0), "gamma = -1.0: expected a finite number above 0"),
    "degree": (lambda: kernel_ridge.fit(X, T, l2=1.0, kernel="polynomial", degree=1.5), "degree = 1.5: expected whole"),
    "kernel": (lambda: kernel_ridge.fit(X, T, l2=1.0, kernel="rbff"), "unknown kernel 'rbff': did you mean 'rbf'"),
    "penalty": (lambda: kernel_ridge.fit(X, T, l2=-1.0), "l2 = -1.0: expected 0 or more"),
    "targets": (lambda: kernel_ridge.fit(X, T[:9], l2=1.0), r"targets: shape \[9\], expected \[50\]"),
    "descending": (
        lambda: regression.grid(X, T, np.ones((1, 50)), c=[2.0, 1.0], epsilon=[0.1], hyper={"gamma": [1.0]}),
        r"c = \[2.0, 1.0\]: expected ascending",
    ),
}


@pytest.mark.parametrize(("call", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_raise_one_line(call, message):
    with refused_in_one_line(message):
        call()
