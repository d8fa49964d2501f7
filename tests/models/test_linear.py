"""Linear models against the solvers of NumPy and scikit-learn, and gradients against their formulas."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.preprocessing import PolynomialFeatures

from mllab.errors import UserError
from mllab.models import linear
from support.mistakes import refused_in_one_line

KEY = jax.random.key(0)


@pytest.fixture(params=[False, True], ids=["float32", "float64"])
def x64(request):
    with jax.enable_x64(request.param):
        yield request.param


def problem(n=60, features=4, outputs=None, condition=10.0, offset=0.0, seed=0):
    """Return inputs with singular values from 1 down to 1 / condition, shifted by the offset, and noisy targets."""
    rng = np.random.default_rng(seed)
    u, _ = np.linalg.qr(rng.standard_normal((n, features)))
    v, _ = np.linalg.qr(rng.standard_normal((features, features)))
    x = np.sqrt(n) * u * np.geomspace(1, 1 / condition, features) @ v.T + offset
    shape = (n,) if outputs is None else (n, outputs)
    y = x @ rng.standard_normal((features, *shape[1:])) + 3 + 0.01 * rng.standard_normal(shape)
    return x, y


def relative_error(params, x, y):
    """Return the error of the weights against `numpy.linalg.lstsq` in float64 on centred columns."""
    expected = np.linalg.lstsq(x - x.mean(0), y - y.mean(0), rcond=None)[0]
    return np.linalg.norm(params.w[:, 0] - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("method", linear.METHODS)
@pytest.mark.parametrize("outputs", [None, 3])
def test_fit_matches_scikit_learn(method, outputs, x64):
    x, y = problem(outputs=outputs)
    tolerance = 1e-10 if x64 else 2e-4
    for weight in (np.ones(60), np.random.default_rng(1).integers(0, 3, 60).astype(float)):
        for ridge in (0.0, 0.7):
            peer = Ridge(alpha=ridge, solver="svd") if ridge else LinearRegression()
            peer.fit(x, y, sample_weight=weight)
            params = linear.fit(x, y, weight=weight, method=method, ridge=ridge)
            assert params.w.shape == (4, outputs or 1)
            assert params.w.dtype == params.b.dtype == (jnp.float64 if x64 else jnp.float32)
            np.testing.assert_allclose(params.w.T, np.atleast_2d(peer.coef_), rtol=tolerance, atol=tolerance)
            np.testing.assert_allclose(params.b, np.atleast_1d(peer.intercept_), rtol=tolerance)
            predicted = (linear.apply if outputs else linear.values)(params, x)
            np.testing.assert_allclose(predicted, peer.predict(x), atol=20 * tolerance)


@pytest.mark.slow
def test_errors_are_within_the_bounds_of_the_docstring(x64):
    eps = np.finfo(np.float64 if x64 else np.float32).eps
    for condition in (10.0, 0.03 / np.sqrt(eps), 0.02 / eps**0.8, 0.1 / eps):
        x, y = problem(condition=condition, n=200)
        x = x.astype(np.float64 if x64 else np.float32).astype(np.float64)  # the same numbers for both solvers
        y = y.astype(x.dtype if x64 else np.float32).astype(np.float64)
        fits = {m: jax.jit(partial(linear.fit, method=m))(x, y) for m in linear.METHODS}  # NaN passes
        error = {m: relative_error(fit, x, y) for m, fit in fits.items()}
        residual = 0.01
        assert error["qr"] < 10 * (condition + residual * condition**2) * eps
        if condition < 0.03 / eps**0.8:
            assert error["cholesky_qr"] < 10 * (condition + residual * condition**2) * eps
        if condition**2 * eps < 0.01:
            assert error["normal"] < 10 * condition**2 * eps
        elif condition**2 * eps > 100:
            assert not error["normal"] < 0.1  # noise, or NaN without a Cholesky factor, which is refused:
            if not np.isfinite(fits["normal"].w).all():
                with refused_in_one_line("the fit is not finite: for dependent columns"):
                    linear.fit(x, y, method="normal")


@pytest.mark.parametrize("method", linear.METHODS)
def test_an_offset_does_not_reduce_the_precision(method):
    x, y = problem()
    x = np.round(x * 2**10) / 2**10  # so that x + 4096 is exact in float32, and both problems are the same
    near = linear.fit(x, y, method=method)
    far = linear.fit(x + 4096, y, method=method)
    np.testing.assert_allclose(far.w, near.w, rtol=2e-5)


@pytest.mark.parametrize("method", ["qr", "cholesky_qr"])
def test_qr_does_not_depend_on_the_units_of_a_column(method):
    x, y = problem()
    units = np.array([1e-6, 1.0, 1e4, 1e9])
    scaled = linear.fit(x * units, y, method=method).w[:, 0] * units
    np.testing.assert_allclose(scaled, linear.fit(x, y).w[:, 0], rtol=1e-4)


@pytest.mark.parametrize(("n", "features", "copies"), [(60, 3, 2), (5, 8, 0)])
def test_pinv_has_the_least_norm_of_all_solutions(n, features, copies, x64):
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((n, features)), rng.standard_normal(n)
    x = np.concatenate([x, *[x[:, :1] + i for i in range(copies)]], axis=1)
    expected = np.linalg.pinv(x - x.mean(0), rcond=1e-6) @ (y - y.mean())
    np.testing.assert_allclose(linear.fit(x, y, method="pinv").w[:, 0], expected, atol=1e-9 if x64 else 2e-5)


def test_pinv_finds_the_rank_of_tall_data_in_float32():
    rng = np.random.default_rng(3)
    x = rng.standard_normal((200_000, 3)).astype(np.float32)
    x = np.concatenate([x, x @ np.ones((3, 1), np.float32)], axis=1)
    y = x @ np.arange(4.0)
    expected = np.linalg.pinv(x.astype(float), rcond=1e-4) @ y
    np.testing.assert_allclose(linear.fit(x, y, method="pinv").w[:, 0], expected, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("method", linear.METHODS)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), padding=st.integers(0, 12))
def test_rows_of_weight_zero_are_ignored(method, seed, padding):
    x, y = problem(n=30, features=3, seed=seed)
    ids = np.concatenate([np.arange(30), np.full(12, padding)])
    weight = np.concatenate([np.ones(30), np.zeros(12)])
    padded = linear.fit(x[ids], y[ids], weight=weight, method=method)
    alone = linear.fit(x, y, method=method)
    np.testing.assert_allclose(padded.w, alone.w, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(padded.b, alone.b, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("method", linear.METHODS)
def test_vmap_over_ridges_and_folds(method):
    with jax.enable_x64(True):
        x, y = problem()
        ridges = np.array([0.0, 0.1, 10.0])
        folds = np.stack([np.arange(60) % 3 != k for k in range(3)]).astype(float)

        def one(weight, ridge):
            return linear.fit(x, y, weight=weight, method=method, ridge=ridge)

        grid = jax.jit(jax.vmap(jax.vmap(one, (None, 0)), (0, None)))(folds, ridges)
        for k, weight in enumerate(folds):
            for r, ridge in enumerate(ridges):
                peer = Ridge(alpha=ridge, solver="svd").fit(x[weight > 0], y[weight > 0])
                np.testing.assert_allclose(grid.w[k, r, :, 0], peer.coef_, rtol=1e-9)
                np.testing.assert_allclose(grid.b[k, r, 0], peer.intercept_, rtol=1e-9)


@pytest.mark.parametrize("method", linear.METHODS)
def test_fit_lowers_to_every_platform(method):
    x = jax.ShapeDtypeStruct((20, 3), jnp.float32)
    y = weight = jax.ShapeDtypeStruct((20,), jnp.float32)
    ridge = jax.ShapeDtypeStruct((), jnp.float32)
    fit = jax.jit(lambda x, y, weight, ridge: linear.fit(x, y, weight=weight, method=method, ridge=ridge))
    exported = jax.export.export(fit, platforms=("cpu", "cuda", "tpu"))(x, y, weight, ridge)
    assert exported.platforms == ("cpu", "cuda", "tpu")


@pytest.mark.parametrize("features", [1, 2, 4])
@pytest.mark.parametrize("degree", [1, 2, 3, 5])
def test_polynomial_columns_match_scikit_learn(features, degree):
    x = np.random.default_rng(0).uniform(-2, 2, (7, features)).astype(np.float32)
    expected = PolynomialFeatures(degree, include_bias=False).fit_transform(x)
    features_of_x = jax.jit(linear.polynomial, static_argnums=1)(x, degree)
    np.testing.assert_allclose(features_of_x, expected, rtol=1e-5)


def test_polynomial_regression_recovers_the_polynomial():
    with jax.enable_x64(True):
        x = np.linspace(-1, 1, 50)[:, None]
        params = linear.fit(linear.polynomial(x, 3), 4 - x[:, 0] + 2 * x[:, 0] ** 3)
        np.testing.assert_allclose(params.w[:, 0], [-1, 0, 2], atol=1e-12)
        np.testing.assert_allclose(params.b, [4], atol=1e-12)


def softmax_loss(params, x, labels):
    logits = linear.apply(params, x)
    chosen = jnp.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
    return jnp.mean(jax.nn.logsumexp(logits, axis=1) - chosen)


def line_loss(params, x, y):
    return jnp.mean((linear.values(params, x) - y) ** 2)


def example(outputs, seed=0):
    rng = np.random.default_rng(seed)
    x, labels = rng.standard_normal((12, 5)), rng.integers(0, 3, 12)
    return linear.Linear(w=rng.standard_normal((5, outputs)), b=rng.standard_normal(outputs)), x, labels


def test_the_softmax_gradient_is_p_minus_y():
    with jax.enable_x64(True):
        params, x, labels = example(outputs=3)
        scores = np.exp(x @ params.w + params.b)
        p_minus_y = scores / scores.sum(1, keepdims=True) - np.eye(3)[labels]
        gradient = jax.grad(softmax_loss)(params, x, labels)
        np.testing.assert_allclose(gradient.w, x.T @ p_minus_y / len(x), rtol=1e-12)
        np.testing.assert_allclose(gradient.b, p_minus_y.mean(0), rtol=1e-12)


def test_the_gradient_of_a_line_is_its_formula():
    with jax.enable_x64(True):
        x = np.linspace(-20, 20, 30)
        y, a, b = 2 * x + 25 + np.sin(x), 8.0, 75.0
        params = linear.Linear(w=jnp.array([[a]]), b=jnp.array([b]))
        gradient = jax.grad(line_loss)(params, x[:, None], y)
        residual = a * x + b - y
        np.testing.assert_allclose(gradient.w[0, 0], 2 / len(x) * np.sum(residual * x), rtol=1e-12)
        np.testing.assert_allclose(gradient.b[0], 2 / len(x) * np.sum(residual), rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "outputs"), [(softmax_loss, 3), (line_loss, 1)])
def test_gradients_match_finite_differences(loss, outputs):
    with jax.enable_x64(True):
        params, x, labels = example(outputs)
        gradient = jax.grad(loss)(params, x, labels)
        flat, unflatten = jax.flatten_util.ravel_pytree(params)
        step = 1e-5 * np.eye(flat.size)
        at = jax.vmap(lambda delta: loss(unflatten(flat + delta), x, labels))
        np.testing.assert_allclose(
            jax.flatten_util.ravel_pytree(gradient)[0], (at(step) - at(-step)) / 2e-5, rtol=1e-7, atol=1e-9
        )


def test_softmax_regression_descends_to_scikit_learns_minimum():
    with jax.enable_x64(True):
        rng = np.random.default_rng(4)
        x, labels = rng.standard_normal((90, 3)), rng.integers(0, 3, 90)

        def penalised(params):
            return softmax_loss(params, x, labels) + jnp.sum(params.w**2) / (2 * len(x))

        def descend(params, _):
            return jax.tree.map(lambda v, g: v - g, params, jax.grad(penalised)(params)), None

        params, _ = jax.lax.scan(descend, linear.init(KEY, 3, 3), length=500)
        peer = LogisticRegression(C=1.0, tol=1e-10, max_iter=1000).fit(x, labels)
        np.testing.assert_allclose(params.w.T, peer.coef_, atol=1e-6)


def test_init_gives_every_class_the_same_probability():
    params = linear.init(KEY, 5, 4)
    assert params.w.shape == (5, 4)
    probability = jax.nn.softmax(linear.apply(params, jnp.ones((2, 5))))
    np.testing.assert_array_equal(probability, np.full((2, 4), 0.25))


MISTAKES = {
    "unknown method": (partial(linear.fit, method="qt"), (6, 2), (6,), "unknown method 'qt': did you mean 'qr'"),
    "flat inputs": (linear.fit, (6,), (6,), r"inputs: shape \[6\], expected \[N, D\]"),
    "other length": (linear.fit, (6, 2), (5,), r"targets: shape \[5\], expected \[6\]"),
    "weight": (partial(linear.fit, weight=np.ones((6, 1))), (6, 2), (6,), r"weight: shape \[6, 1\]"),
    "negative ridge": (partial(linear.fit, ridge=-1.0), (6, 2), (6,), "ridge = -1.0: expected 0 or more"),
}


def test_nan_in_inputs_or_targets_is_refused():
    x, y = np.ones((6, 2)), np.ones(6)
    for inputs, targets, message in (
        (x * np.nan, y, "inputs: row 0, column 0 is nan"),
        (x, y * np.inf, r"targets: index \[0\] is inf"),
    ):
        with pytest.raises(UserError, match=message):
            linear.fit(inputs, targets)


@pytest.mark.parametrize(("fit", "x", "y", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_raise_one_line(fit, x, y, message):
    with pytest.raises(UserError, match=message):
        fit(np.ones(x), np.ones(y))


def test_degree_below_one_is_refused():
    with pytest.raises(UserError, match="degree = 0: expected 1 or more"):
        linear.polynomial(np.ones((2, 2)), 0)
