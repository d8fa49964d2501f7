"""The optimum of softmax regression against scikit-learn and against Newton's method with the exact Hessian."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from mllab import learners, metrics, validation
from mllab.errors import UserError
from mllab.models import linear, softmax
from mllab.types import Rows

KEY = jax.random.key(0)


def problem(n=120, features=4, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, features))
    labels = np.argmax(x @ rng.standard_normal((features, classes)) + rng.gumbel(size=(n, classes)), axis=1)
    return x, labels


def objective(params, x, labels, l2, weight=None):
    """Return F in float64."""
    w, b = np.asarray(params.w, np.float64), np.asarray(params.b, np.float64)
    logits = np.asarray(x, np.float64) @ w + b
    top = logits.max(1, keepdims=True)
    each = np.log(np.exp(logits - top).sum(1)) + top[:, 0] - logits[np.arange(len(labels)), labels]
    return np.average(each, weights=weight) * (len(x) if weight is None else weight.sum()) + l2 / 2 * (w**2).sum()


def newton(x, labels, classes, l2):
    """Return the optimum by Newton's method with the exact Hessian, for standardised columns in float64."""
    mean, scale = x.mean(0), np.where(x.std(0) > 0, x.std(0), 1)
    design = np.column_stack([(x - mean) / scale, np.ones(len(x))])
    penalty = np.append(l2 / scale**2, 0)[:, None] * np.ones(classes)
    v = np.zeros((design.shape[1], classes))

    def of(v):
        return objective(linear.Linear(v[:-1], v[-1]), design[:, :-1], labels, 0) + (penalty * v**2).sum() / 2

    for _ in range(50):
        logits = design @ v
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        gradient = design.T @ (p - np.eye(classes)[labels]) + penalty * v
        if np.abs(gradient).max() < 1e-9 * len(x):
            break
        middle = np.eye(classes) * p[:, :, None] - p[:, :, None] * p[:, None]
        hessian = np.einsum("nd,nck,ne->dcek", design, middle, design).reshape(v.size, v.size)
        hessian += np.diag(penalty.ravel()) + np.kron(
            np.eye(len(v)), np.ones((classes, classes))
        )  # fixes the common shift
        move = np.linalg.solve(hessian, gradient.ravel()).reshape(v.shape)
        t = 1.0
        while of(v - t * move) > of(v) and t > 1e-9:
            t /= 2
        v = v - t * move
    w = v[:-1] / scale[:, None]
    return linear.Linear(w, v[-1] - mean @ w)


@pytest.mark.parametrize("l2", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_fit_matches_scikit_learn(l2, weighted):
    x, labels = problem()
    weight = np.random.default_rng(1).integers(0, 4, len(x)).astype(float) if weighted else None
    peer = LogisticRegression(C=1 / l2, tol=1e-12, max_iter=10_000).fit(x, labels, sample_weight=weight)
    with jax.enable_x64(True):
        fit = softmax.fit(x, labels, 3, l2=l2, weight=weight, tolerance=1e-10)
        assert fit.params.w.dtype == jnp.float64
        assert fit.gradient <= 1e-10
    w, b = np.asarray(fit.params.w), np.asarray(fit.params.b)
    np.testing.assert_allclose(w.T, peer.coef_, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(b - b.mean(), peer.intercept_ - peer.intercept_.mean(), rtol=1e-4)


@pytest.mark.slow
def test_two_classes_match_scikit_learn_at_twice_the_c():
    x, labels = problem(classes=2)
    fit = softmax.fit(x, labels, 2, l2=0.5, tolerance=1e-6)
    peer = LogisticRegression(C=2 / 0.5, tol=1e-10, max_iter=1000).fit(x, labels)
    np.testing.assert_allclose(fit.params.w[:, 1] - fit.params.w[:, 0], peer.coef_[0], rtol=1e-4)


UNITS = np.array([1e-6, 1.0, 1e4, 1e9])


@pytest.mark.slow
@pytest.mark.parametrize("l2", [1e-6, 1.0])
@pytest.mark.parametrize(
    ("change", "classes"),
    [
        (lambda x: x, 3),
        (lambda x: x * UNITS, 3),
        (lambda x: x + 1000, 5),
        (lambda x: np.column_stack([x, np.full(len(x), 0.1), np.zeros(len(x))]), 3),
        (lambda x: np.column_stack([x, x[:, 0], x[:, 0] + 1e-4 * x[:, 1]]), 3),
        (lambda x: x[:, :1] + np.random.default_rng(0).standard_normal((len(x), 130)), 3),
        (lambda x: np.column_stack([x, 20 * np.eye(3)[problem()[1]]]), 3),
    ],
    ids=["plain", "units", "offset", "constant columns", "dependent columns", "more columns than rows", "separable"],
)
def test_float32_reaches_the_optimum(change, classes, l2):
    x, labels = problem(classes=classes)
    x = change(x).astype(np.float32).astype(np.float64)
    fit = softmax.fit(x, labels, classes, l2=l2, tolerance=1e-5)
    assert fit.gradient <= 1e-5
    assert fit.steps < 200
    best = objective(newton(x, labels, classes, l2), x, labels, l2)
    assert objective(fit.params, x, labels, l2) - best < 2e-5 * len(x)


def test_the_reported_gradient_is_correct():
    x, labels = problem()
    x = x * [1, 2, 3, 4] + 5
    fit = softmax.fit(x, labels, 3, l2=1.0, steps=3)
    assert fit.steps == 3
    logits = x @ np.asarray(fit.params.w) + np.asarray(fit.params.b)
    excess = np.exp(logits) / np.exp(logits).sum(1, keepdims=True) - np.eye(3)[labels]
    standardised = (x - x.mean(0)) / x.std(0)
    w = standardised.T @ excess + np.asarray(fit.params.w) / x.std(0)[:, None]
    expected = max(np.abs(w).max(), np.abs(excess.sum(0)).max()) / len(x)
    assert expected > 1e-4
    np.testing.assert_allclose(fit.gradient, expected, rtol=1e-3)


@pytest.mark.slow
def test_rows_of_weight_zero_are_ignored():
    x, labels = problem()
    present = np.arange(120) % 3 > 0
    junk = np.where(present[:, None], x, 50 * x)
    all_rows = softmax.fit(junk, labels, 3, l2=0.1, weight=present.astype(np.float32), tolerance=1e-6)
    alone = softmax.fit(x[present], labels[present], 3, l2=0.1, tolerance=1e-6)
    np.testing.assert_allclose(all_rows.params.w, alone.params.w, atol=2e-5)
    np.testing.assert_allclose(all_rows.params.b, alone.params.b, atol=2e-5)


@pytest.mark.slow
def test_vmap_over_folds_and_penalties():
    x, labels = problem()
    folds = np.stack([np.arange(120) % 3 != k for k in range(3)]).astype(np.float32)
    penalties = np.array([0.01, 1.0], np.float32)

    def one(weight, l2):
        return softmax.fit(x, labels, 3, l2=l2, weight=weight, tolerance=1e-6)

    grid = jax.jit(jax.vmap(jax.vmap(one, (None, 0)), (0, None)))(folds, penalties)
    for k, weight in enumerate(folds):
        for position, l2 in enumerate(penalties):
            np.testing.assert_allclose(grid.params.w[k, position], one(weight, l2).params.w, atol=2e-5)


def test_a_class_without_rows_is_improbable():
    x, labels = problem()
    fit = softmax.fit(x, labels, 4, l2=1.0)
    probabilities = jax.nn.softmax(linear.apply(fit.params, x))
    assert fit.gradient <= 1e-4
    assert probabilities[:, 3].max() < 0.02
    best = objective(newton(x, labels, 3, 1.0), x, labels, 1.0)
    assert objective(fit.params, x, labels, 1.0) < best + 120 * 1e-3


@pytest.mark.slow
def test_a_sample_of_the_rows_is_enough_for_the_model_of_the_hessian():
    x, labels = problem(n=5000, features=6)
    whole = softmax.fit(x, labels, 3, l2=0.1, tolerance=1e-6)
    sampled = softmax.fit(x, labels, 3, l2=0.1, tolerance=1e-6, hessian_rows=150, block_rows=64)
    np.testing.assert_allclose(sampled.params.w, whole.params.w, atol=2e-5)
    assert not np.array_equal(sampled.params.w, whole.params.w)  # the sample was taken
    assert sampled.steps <= whole.steps + 10


@pytest.mark.slow
def test_the_learner_equals_a_fit_of_few_or_most_rows():
    x, labels = problem(n=90)
    learner = learners.softmax_regression(3, tolerance=1e-6)
    examples = {"inputs": x.astype(np.float32), "targets": labels}
    for count in (30, 60):
        rows = Rows(np.append(np.arange(count), 0), np.append(np.ones(count), 0).astype(np.float32))
        params = learner.fit({"l2": 0.1}, KEY, examples, rows)
        alone = softmax.fit(x[:count], labels[:count], 3, l2=0.1, tolerance=1e-6).params
        np.testing.assert_allclose(params.w, alone.w, atol=2e-5)


@pytest.mark.slow
def test_the_learner_matches_scikit_learn_on_every_fold():
    inputs, labels = load_digits(return_X_y=True)
    inputs, labels = inputs[:150], labels[:150].astype(np.int32)
    examples = {"inputs": inputs.reshape(-1, 8, 8, 1).astype(np.float32), "targets": labels}
    folds = validation.folds(np.arange(150), 3, seed=0)

    def accuracy(outputs, targets):
        return metrics.classification(outputs, targets)["accuracy"]

    penalties = jnp.array([10.0, 1000.0])
    learner = learners.softmax_regression(10, tolerance=1e-4)
    scores = validation.cross_validate(learner, {"l2": penalties}, KEY, examples, folds, accuracy)
    for fold in range(3):
        train, held = (part.ids[fold][part.weight[fold] > 0] for part in folds)
        for position, l2 in enumerate(penalties):
            peer = LogisticRegression(C=1 / float(l2), tol=1e-6, max_iter=5000).fit(inputs[train], labels[train])
            np.testing.assert_allclose(scores[position, fold], peer.score(inputs[held], labels[held]), atol=0.021)


@pytest.mark.slow
def test_vmap_over_penalties_with_wide_inputs():
    """With hundreds of rows and columns jaxlib 0.10.2 made NaN of the first logits on CPUs, and no step was taken."""
    draw = np.random.default_rng(0)
    x, labels = draw.normal(size=(500, 200)).astype(np.float32), draw.integers(0, 10, 500).astype(np.int32)
    penalties = jnp.array([10.0, 100.0])
    mapped = jax.vmap(lambda l2: softmax.fit(x, labels, 10, l2=l2, tolerance=1e-5))(penalties)
    assert ((mapped.gradient >= 0) & (mapped.gradient <= 1e-5)).all()
    for place, l2 in enumerate(penalties):
        peer = LogisticRegression(C=1 / float(l2), tol=1e-6, max_iter=5000).fit(x, labels)
        np.testing.assert_allclose(mapped.params.w[place], peer.coef_.T, atol=2e-3)


def test_fit_lowers_to_every_platform():
    x, y = jax.ShapeDtypeStruct((20, 3), jnp.float32), jax.ShapeDtypeStruct((20,), jnp.int32)
    fit = jax.jit(lambda x, y, l2: softmax.fit(x, y, 3, l2=l2))
    exported = jax.export.export(fit, platforms=("cpu", "cuda", "tpu"))(x, y, jax.ShapeDtypeStruct((), jnp.float32))
    assert exported.platforms == ("cpu", "cuda", "tpu")


X, Y = np.ones((6, 2)), np.array([0, 1, 2, 0, 1, 2])
MISTAKES = {
    "flat inputs": ((X[0], Y, 3), {}, r"inputs: shape \[2\], expected \[N, D\]"),
    "other length": ((X, Y[:5], 3), {}, r"targets: int64\[5\], expected 6 integers"),
    "values": ((X, Y * 0.5, 3), {}, r"targets: float64\[6\]"),
    "a label too great": ((X, Y, 2), {}, "targets: row 2 has label 2, expected 0 to 1"),
    "a label below 0": ((X, Y - 1, 3), {}, "row 0 has label -1"),
    "weight": ((X, Y, 3), {"weight": np.ones(5)}, r"weight: shape \[5\], expected \[6\]"),
    "NaN": ((X * np.nan, Y, 3), {}, "inputs: row 0, column 0 is nan"),
    "negative weight": ((X, Y, 3), {"weight": -np.ones(6)}, "weight: row 0 is -1.0"),
    "one class": ((X, 0 * Y, 1), {}, "classes = 1: expected 2 or more"),
    "negative penalty": ((X, Y, 3), {"l2": -1.0}, "l2 = -1.0: expected 0 or more"),
}


@pytest.mark.parametrize(("arguments", "options", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_raise_one_line(arguments, options, message):
    with pytest.raises(UserError, match=message):
        softmax.fit(*arguments, **{"l2": 1.0} | options)
