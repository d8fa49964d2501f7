"""Support vector machines against scikit-learn's (LIBSVM), and the optimality conditions in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import SVC

from mllab import devices, learners, metrics, sweep, validation
from mllab.errors import UserError
from mllab.models import svm
from mllab.models.svm import calibration, kernels, smo
from mllab.types import Rows

KEY = jax.random.key(0)
STEPS = 1_000_000
SKLEARN = {"linear": "linear", "polynomial": "poly", "rbf": "rbf"}


def problem(n=60, classes=2, features=3, seed=0):
    """Return points of overlapping classes, some of them twice with independent labels."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, features)).astype(np.float32)
    labels = np.argmax(x @ rng.standard_normal((features, classes)) + rng.gumbel(size=(n, classes)), axis=1)
    labels[:classes] = np.arange(classes)
    x[-5:] = x[5:10]
    return x, labels.astype(np.int32)


def signs_of(labels):
    return np.where(labels == 1, 1.0, -1.0).astype(np.float32)


def dual_objective(kernel, beta):
    return np.abs(beta).sum() - beta @ np.asarray(kernel, float) @ beta / 2


def check_optimum(kernel, signs, upper, dual, tolerance):
    """Check the optimality conditions and all fields of the solution in float64; return its objective."""
    kernel, alpha = np.asarray(kernel, float), np.asarray(dual.alpha, float)
    beta, scale = alpha * signs, max(1, upper.max())
    assert (alpha >= 0).all()
    assert (alpha <= upper * (1 + 1e-6)).all()
    assert abs(beta.sum()) < 1e-5 * scale * len(beta)
    gradient = signs - kernel @ beta
    may_rise = beta < np.maximum(0, upper * signs)
    may_fall = beta > np.minimum(0, upper * signs)
    if may_rise.any() and may_fall.any():
        assert gradient[may_rise].max() - gradient[may_fall].min() <= tolerance + 2e-5 * scale
    scores = kernel @ beta + float(dual.bias)
    np.testing.assert_allclose(dual.scores, scores, atol=2e-5 * scale)
    objective = dual_objective(kernel, beta)
    np.testing.assert_allclose(dual.objective, objective, rtol=1e-4, atol=1e-5)
    primal = beta @ kernel @ beta / 2 + upper @ np.maximum(0, 1 - signs * scores)
    np.testing.assert_allclose(dual.gap, (primal - objective) / max(primal, 1e-30), atol=2e-4)
    return objective


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    name=st.sampled_from(list(kernels.KERNELS)),
    c=st.sampled_from([1e-3, 1.0, 30.0]),
    weighted=st.booleans(),
)
def test_the_dual_matches_libsvm_and_satisfies_the_optimality_conditions(seed, name, c, weighted):
    x, labels = problem(seed=seed)
    rng = np.random.default_rng(seed)
    weight = rng.choice([0.5, 1.0, 2.0], len(x)) if weighted else np.ones(len(x))
    kernel = kernels.KERNELS[name](x, x, {"gamma": 0.5, "degree": 2.0, "coef0": 1.0})
    dual = smo.solve(kernel, signs_of(labels), c, weight, 1e-4, STEPS)
    objective = check_optimum(kernel, signs_of(labels), c * weight, dual, 1e-4)
    peer = SVC(C=c, kernel="precomputed", tol=1e-6).fit(np.asarray(kernel, float), labels, sample_weight=weight)
    theirs = np.zeros(len(x))
    theirs[peer.support_] = peer.dual_coef_[0]
    np.testing.assert_allclose(objective, dual_objective(kernel, theirs), rtol=1e-4)
    free = ((np.abs(theirs) > 1e-6 * c) & (np.abs(theirs) < c * weight * (1 - 1e-6))).any()
    if free:  # otherwise the bias is not unique
        values = peer.decision_function(np.asarray(kernel, float))
        np.testing.assert_allclose(dual.scores, values, atol=2e-3 * max(1, np.abs(values).max()))


@pytest.mark.parametrize("c", [1e-6, 1e6])
def test_extreme_values_of_c(c):
    x, _ = problem(40)
    separable = np.where(x[:, 0] > 0, 1.0, -1.0).astype(np.float32)
    x[:, 0] += separable
    kernel = kernels.linear(x, x, {})
    dual = smo.solve(kernel, separable, c, np.ones(40), 1e-3, STEPS)
    objective = check_optimum(kernel, separable, np.full(40, np.float32(c)), dual, 1e-3)
    peer = SVC(C=c, kernel="linear", tol=1e-6).fit(x.astype(float), separable)
    np.testing.assert_allclose(
        objective, dual_objective(x[peer.support_] @ x[peer.support_].T, peer.dual_coef_[0]), rtol=1e-3
    )


@pytest.mark.slow
def test_rows_of_weight_0_are_ignored_and_order_does_not_matter():
    x, labels = problem(80)
    signs, rng = signs_of(labels), np.random.default_rng(1)
    weight = (rng.random(80) > 0.3).astype(np.float32)
    kernel = np.asarray(kernels.rbf(x, x, {"gamma": 0.5}))
    dual = smo.solve(kernel, signs, 2.0, weight, 1e-5, STEPS)
    kept = weight > 0
    alone = smo.solve(kernel[np.ix_(kept, kept)], signs[kept], 2.0, weight[kept], 1e-5, STEPS)
    np.testing.assert_array_equal(np.asarray(dual.alpha)[~kept], 0)
    np.testing.assert_allclose(np.asarray(dual.scores)[kept], alone.scores, atol=1e-4)
    flipped = np.where(kept, signs, -signs)
    np.testing.assert_array_equal(smo.solve(kernel, flipped, 2.0, weight, 1e-5, STEPS).alpha, dual.alpha)
    order = rng.permutation(80)
    permuted = smo.solve(kernel[np.ix_(order, order)], signs[order], 2.0, weight[order], 1e-5, STEPS)
    np.testing.assert_allclose(permuted.scores, np.asarray(dual.scores)[order], atol=1e-4)


def test_a_start_at_the_optimum_takes_no_step_and_steps_are_limited():
    x, labels = problem(80)
    kernel = kernels.rbf(x, x, {"gamma": 0.5})
    cold = smo.solve(kernel, signs_of(labels), 2.0, np.ones(80), 1e-3, STEPS)
    warm = smo.solve(kernel, signs_of(labels), 2.0, np.ones(80), 1e-3, STEPS, cold.alpha)
    assert (int(cold.steps) > 10, int(warm.steps)) == (True, 0)
    np.testing.assert_allclose(warm.scores, cold.scores, atol=1e-5)
    short = smo.solve(kernel, signs_of(labels), 2.0, np.ones(80), 1e-3, 5)
    assert int(short.steps) == 5
    assert short.gap > cold.gap


@pytest.mark.parametrize("sign", [1, -1])
def test_the_bias_alone_classifies_a_single_class(sign):
    x, _ = problem(20)
    dual = smo.solve(kernels.linear(x, x, {}), np.full(20, sign), 1.0, np.ones(20), 1e-3, STEPS)
    assert int(dual.steps) == 0
    np.testing.assert_array_equal(dual.scores, np.full(20, sign))
    assert dual.gap == 0


@pytest.mark.slow
@pytest.mark.parametrize(("kernel", "classes"), [("linear", 2), ("polynomial", 4), ("rbf", 2), ("rbf", 4)])
def test_one_vs_one_matches_scikit_learn(kernel, classes):
    x, labels = problem(120, classes)
    peer = SVC(
        C=2, kernel=SKLEARN[kernel], gamma=0.4, degree=2, coef0=1, tol=1e-6, break_ties=classes > 2,
        decision_function_shape="ovr" if classes > 2 else "ovo",
    ).fit(x.astype(float), labels)  # fmt: skip
    params = svm.fit(x, labels, classes, kernel=kernel, c=2, gamma=0.4, degree=2, coef0=1, tolerance=1e-5)
    queries = np.random.default_rng(5).standard_normal((50, 3)).astype(np.float32)
    expected = peer.decision_function(queries.astype(float))
    values = svm.decision(params, queries)
    scores = values[:, 0] if classes == 2 else svm.class_scores(values, classes, "one_vs_one")
    np.testing.assert_allclose(scores, expected, atol=2e-3)
    outputs = np.asarray(svm.apply(params, queries))
    np.testing.assert_array_equal(outputs.argmax(1), peer.predict(queries.astype(float)))
    np.testing.assert_allclose(np.exp(outputs).sum(1), 1, rtol=1e-5)
    if kernel == "rbf":  # the others have fewer dimensions than rows, and more than one solution
        np.testing.assert_array_equal(np.flatnonzero(svm.support(params)), np.sort(peer.support_))


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_one_vs_rest_matches_scikit_learn(kernel):
    x, labels = problem(120, 4)
    machine = SVC(C=2, kernel=SKLEARN[kernel], gamma=0.4, degree=2, coef0=1, tol=1e-6)
    peer = OneVsRestClassifier(machine).fit(x.astype(float), labels)
    params = svm.fit(
        x, labels, 4, kernel=kernel, c=2, gamma=0.4, degree=2, coef0=1, scheme="one_vs_rest", tolerance=1e-5
    )
    scores = peer.decision_function(x.astype(float))
    np.testing.assert_allclose(svm.decision(params, x), scores, atol=2e-3)
    least, greatest = np.sort(scores, axis=1)[:, -2:].T
    clear = greatest - least > 5e-3  # rounding decides the others
    assert clear.mean() > 0.9
    decided = np.asarray(svm.apply(params, x)).argmax(1)
    np.testing.assert_array_equal(decided[clear], peer.predict(x.astype(float))[clear])


@pytest.mark.slow
@pytest.mark.parametrize("scheme", svm.SCHEMES)
def test_one_vs_one_never_predicts_an_absent_class(scheme):
    x, labels = problem(60, 3)
    weight = (labels != 1).astype(np.float32)
    params = svm.fit(x, labels, 3, scheme=scheme, weight=weight)
    assert np.isfinite(svm.apply(params, x)).all()
    predicted = np.asarray(svm.apply(params, x)).argmax(1)[weight > 0]
    peer = SVC().fit(x[weight > 0], labels[weight > 0])
    np.testing.assert_array_equal(predicted, peer.predict(x[weight > 0]))


@pytest.mark.slow
def test_constant_columns_and_the_default_gamma():
    x, labels = problem(60)
    wider = np.column_stack([x, np.full(60, 7.0, np.float32)])
    gamma = 0.4
    plain, other = (svm.decision(svm.fit(each, labels, 2, gamma=gamma), each) for each in (x, wider))
    np.testing.assert_allclose(plain, other, atol=2e-3)
    np.testing.assert_allclose(svm.fit(x, labels, 2).hyper["gamma"], 1 / (3 * x.var()), rtol=1e-5)
    constant = svm.fit(np.ones((6, 2), np.float32), np.array([0, 1, 1, 1, 0, 1]), 2)
    assert np.asarray(svm.apply(constant, np.ones((1, 2), np.float32))).argmax(1) == 1


@pytest.mark.slow
def test_the_slope_matches_a_logistic_regression_on_platts_targets():
    x, labels = problem(400, seed=3)
    scores = np.asarray(svm.decision(svm.fit(x, labels, 2), x))
    slope = float(calibration.slope(svm.class_scores(scores, 2, "one_vs_one"), labels, np.ones(400, np.float32)))
    # Platt's targets as weights of both labels of each row.
    right = np.where(labels == 1, *((n + 1) / (n + 2) for n in np.bincount(labels)[::-1]))
    peer = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10).fit(
        np.concatenate([scores, scores]), np.concatenate([labels, 1 - labels]), np.concatenate([right, 1 - right])
    )
    np.testing.assert_allclose(slope, peer.coef_[0, 0], rtol=1e-3)
    always_wrong = calibration.slope(np.float32([[1, -1], [1, -1]]), np.array([1, 1]), np.ones(2, np.float32))
    assert always_wrong > 0


def test_the_slope_maximises_the_likelihood():
    """A grid of slopes, whose likelihoods are computed from the definition."""
    rng = np.random.default_rng(0)
    scores, labels = rng.standard_normal((50, 3)), rng.integers(0, 3, 50)
    scores[np.arange(50), labels] += 1
    weight = rng.integers(0, 3, 50)
    slope = float(calibration.slope(jnp.asarray(scores, jnp.float32), labels, jnp.asarray(weight, jnp.float32)))
    right = (np.bincount(labels, weight, 3) + 1) / (np.bincount(labels, weight, 3) + 2)
    targets = np.where(np.eye(3)[labels] == 1, right[labels, None], (1 - right[labels, None]) / 2)

    def likelihood(a):
        p = np.exp(a * scores) / np.exp(a * scores).sum(1, keepdims=True)
        return np.sum(weight[:, None] * targets * np.log(p))

    assert likelihood(slope) >= max(likelihood(0.99 * slope), likelihood(1.01 * slope))


@pytest.mark.slow
@pytest.mark.parametrize("block_rows", [1, 7, 100])
def test_the_size_of_blocks_does_not_matter(block_rows):
    x, labels = problem(60, 3)
    params = svm.fit(x, labels, 3)
    np.testing.assert_allclose(svm.decision(params, x, block_rows), svm.decision(params, x), atol=1e-5)
    other = svm.fit(x, labels, 3, batch_rows=block_rows)
    np.testing.assert_allclose(svm.decision(other, x), svm.decision(params, x), atol=2e-3)


@pytest.fixture(scope="module")
def digits():
    inputs, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))[:300]
    return inputs[order].astype(np.float32), labels[order].astype(np.int32)


@pytest.mark.parametrize(
    ("scheme", "count", "fold_rows", "batch_rows"),
    [("one_vs_one", None, 10**6, 2**14), ("one_vs_one", 3, 1, 200), ("one_vs_rest", 3, 1, 2**14)],
)
@pytest.mark.slow
def test_a_grid_equals_fits_one_by_one(digits, scheme, count, fold_rows, batch_rows):
    inputs, labels = digits
    folds = validation.folds(np.arange(300), 4, 0, labels)
    weight = np.ones((4, 300), np.float32)
    for fold in range(4):
        weight[fold, folds.held_out.ids[fold][folds.held_out.weight[fold] > 0]] = 0
    c, gamma = np.array([0.1, 10.0]), np.array([3e-4, 1e-3, 3e-3])
    solve = sweep.over_tasks(svm.solve_tasks, devices.mesh(count)) if count else svm.solve_tasks
    scores = svm.grid(
        inputs, labels, 10, weight, c=c, gamma=gamma, scheme=scheme, tolerance=1e-5, fold_rows=fold_rows,
        batch_rows=batch_rows, solve=solve,
    )  # fmt: skip
    assert scores.shape == (3, 2, 4, 300, 10)
    for g, a, fold in [(0, 0, 0), (1, 1, 3), (2, 1, 2), (2, 0, 1)]:
        setting = {"c": c[a], "gamma": gamma[g], "scheme": scheme, "tolerance": 1e-5}
        params = svm.fit(inputs, labels, 10, weight=weight[fold], **setting)
        alone = svm.class_scores(svm.decision(params, inputs), 10, scheme)
        agree = np.isclose(scores[g, a, fold], alone, atol=2e-3).all(1).mean()
        assert agree > 0.99  # a decision value near 0 may be a vote for either class
    if scheme == "one_vs_one":
        train = weight[3] > 0
        peer = SVC(C=10, gamma=1e-3, break_ties=True).fit(inputs[train], labels[train])
        assert (np.asarray(scores[1, 1, 3]).argmax(1) == peer.predict(inputs)).mean() > 0.995


@pytest.mark.parametrize(
    ("classes", "scheme"),
    [
        (2, "one_vs_one"),
        pytest.param(3, "one_vs_one", marks=pytest.mark.slow),
        pytest.param(3, "one_vs_rest", marks=pytest.mark.slow),
    ],
)
def test_rows_that_no_fold_trains_on_are_scored_and_change_nothing(digits, classes, scheme):
    few = np.flatnonzero(digits[1] < classes)[:50]
    inputs, labels, weight = digits[0][few], digits[1][few], np.arange(50) % 2 == 0
    shuffled = np.where(weight, labels, 0)  # whatever the labels of the others are
    scores = svm.grid(
        inputs,
        shuffled,
        classes,
        weight[None].astype(np.float32),
        c=[0.1, 10.0],
        gamma=[1e-3],
        scheme=scheme,
        tolerance=1e-5,
    )[0, 1, 0]
    peer = SVC(C=10, gamma=1e-3, tol=1e-5, break_ties=True)
    peer = (peer if scheme == "one_vs_one" else OneVsRestClassifier(peer)).fit(inputs[weight], labels[weight])
    if classes == 2:
        np.testing.assert_allclose(2 * scores[:, 1], peer.decision_function(inputs), atol=1e-3)
    np.testing.assert_array_equal(np.argmax(scores, axis=1), peer.predict(inputs))


@pytest.mark.slow
def test_the_scores_of_the_learner_match_scikit_learn(digits):
    examples = {"inputs": digits[0], "targets": digits[1]}
    folds = validation.folds(np.arange(300), 3, 0, digits[1])
    learner = learners.svm(10, pair_rows=80)

    def accuracy(outputs, targets):
        return metrics.classification(outputs, targets)["accuracy"]

    hyper = {"c": np.array([1.0, 5.0])}
    scores = validation.cross_validate(learner, hyper, KEY, examples, folds, accuracy)
    train, held = (np.asarray(part.ids[1])[part.weight[1] > 0] for part in folds)
    for place, c in enumerate(hyper["c"]):
        peer = SVC(C=c, gamma="scale").fit(digits[0][train], digits[1][train])
        np.testing.assert_allclose(scores[place, 1], peer.score(digits[0][held], digits[1][held]), atol=0.011)


@pytest.mark.slow
def test_examples_outside_of_the_folds_do_not_matter(digits):
    """Not even to the default of gamma; and there may be more of them than fit a kernel matrix."""
    inputs, labels = digits[0][:60], digits[1][:60] % 2
    folds = validation.folds(np.arange(60), 3, 0, labels)
    learner, hyper = learners.svm(2), {"c": np.array([1.0])}

    def likelihood(outputs, targets):
        return jnp.take_along_axis(outputs, targets[:, None], axis=1)[:, 0]

    def scores(others):
        examples = {"inputs": np.concatenate([inputs, others]), "targets": np.resize(labels, 60 + len(others))}
        return validation.cross_validate(learner, hyper, KEY, examples, folds, likelihood)

    few = scores(inputs[:10])
    np.testing.assert_allclose(scores(50 * inputs[:10]), few, rtol=1e-6)
    np.testing.assert_allclose(scores(np.ones((30_000, 64), np.float32)), few, rtol=1e-6)
    alone = validation.cross_validate(
        learner._replace(grid=None), hyper, KEY, {"inputs": inputs, "targets": labels}, folds, likelihood
    )
    np.testing.assert_allclose(few, alone, atol=0.02)


@pytest.mark.slow
def test_an_offset_does_not_change_a_linear_machine():
    inputs, labels = problem()
    inputs = np.round(inputs * 64) / 64  # the offset adds no rounding
    near, far = (svm.fit(inputs + offset, labels, 2, kernel="linear") for offset in (0, 1e4))
    np.testing.assert_allclose(svm.decision(far, inputs + np.float32(1e4)), svm.decision(near, inputs), atol=5e-3)
    scores = svm.grid(inputs + 1e4, labels, 2, np.ones((1, 60)), kernel="linear", c=[1.0], gamma=[1.0])
    np.testing.assert_allclose(scores[0, 0, 0, :, 1:] * 2, svm.decision(near, inputs), atol=5e-3)


@pytest.mark.slow
@pytest.mark.parametrize("x64", [False, True])
def test_dtypes_are_kept(x64):
    x, labels = problem(60, 3)
    with jax.enable_x64(x64):
        params = svm.fit(x.astype(float), labels, 3, tolerance=1e-8 if x64 else 1e-3)
        values = np.asarray(svm.decision(params, x.astype(float)))
        assert params.coefficients.dtype == params.inputs.dtype == (np.float64 if x64 else np.float32)
    peer = SVC(tol=1e-10, decision_function_shape="ovo").fit(x.astype(float), labels)
    np.testing.assert_allclose(-values, peer.decision_function(x.astype(float)), atol=1e-6 if x64 else 2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", svm.SCHEMES)
def test_it_lowers_to_every_platform(scheme):
    inputs, labels = jax.ShapeDtypeStruct((40, 3), jnp.float32), jax.ShapeDtypeStruct((40,), jnp.int32)
    number, several = jax.ShapeDtypeStruct((), jnp.float32), jax.ShapeDtypeStruct((2,), jnp.float32)
    fit = jax.jit(lambda x, y, c, gamma: svm.fit(x, y, 3, c=c, gamma=gamma, scheme=scheme, pair_rows=30))
    grid = jax.jit(lambda x, y, c, gamma: svm.grid(x, y, 3, jnp.ones((2, 40)), c=c, gamma=gamma, scheme=scheme))
    for function, hyper in ((fit, number), (grid, several)):
        exported = jax.export.export(function, platforms=("cpu", "cuda", "tpu"))(inputs, labels, hyper, hyper)
        assert exported.platforms == ("cpu", "cuda", "tpu")


X, Y = np.eye(6, 2, dtype=np.float32), np.arange(6) % 2
BROKEN = np.where(np.arange(6)[:, None] == 4, np.nan, X)
W = np.ones((2, 6))
MISTAKES = {
    "kernel": (lambda: svm.fit(X, Y, 2, kernel="gaussian"), r"unknown kernel 'gaussian'.*known: linear, polynomial"),
    "scheme": (lambda: svm.fit(X, Y, 2, scheme="one_vs_al"), "unknown scheme 'one_vs_al': did you mean 'one_vs_"),
    "one class": (lambda: svm.fit(X, Y * 0, 1), "classes = 1: expected 2 or more"),
    "label": (lambda: svm.fit(X, Y + 1, 2), "targets: row 1 has label 2, expected 0 to 1"),
    "labels that are values": (lambda: svm.fit(X, Y * 0.5, 2), r"targets: float64\[6\], expected 6 integers"),
    "not a number": (lambda: svm.fit(BROKEN, Y, 2), "inputs: row 4, column 0 is nan"),
    "images": (lambda: svm.fit(X[:, :, None], Y, 2), r"inputs: shape \[6, 2, 1\], expected \[N, D\]"),
    "c": (lambda: svm.fit(X, Y, 2, c=0), "c = 0: expected a finite number above 0"),
    "gamma": (lambda: svm.fit(X, Y, 2, gamma=-1.0), "gamma = -1.0: expected a finite number above 0"),
    "weight": (lambda: svm.fit(X, Y, 2, weight=np.ones(5)), r"weight: shape \[5\], expected \[6\]"),
    "columns": (lambda: svm.decision(svm.fit(X, Y, 2), X[:, :1]), r"inputs: shape \[6, 1\], expected \[M, 2\]"),
    "negative weight": (lambda: svm.fit(X, Y, 2, weight=-np.ones(6)), "weight: row 0 is -1.0, expected"),
    "descending": (lambda: svm.grid(X, Y, 2, W, c=[2.0, 1.0], gamma=[1.0]), r"c = \[2.0, 1.0\]: expected ascending"),
    "folds": (lambda: svm.grid(X, Y, 2, W[0], c=[1.0], gamma=[1.0]), r"train_weight: shape \[6\], expected \[K, 6\]"),
    "grid": (lambda: svm.grid(X, Y, 2, W, c=[1.0], gamma=1.0), r"gamma and c: shapes \[\] and \[1\]"),
    "learner": (lambda: learners.svm(2, "rbff"), "unknown kernel 'rbff': did you mean 'rbf'"),
    "memory": (
        lambda: svm.fit(np.zeros((30_000, 1), np.float32), np.zeros(30_000, int), 2),
        "30000 rows takes 3.4 GiB of 2.0.* kernels.nystroem",
    ),
}


@pytest.mark.parametrize(("call", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_raise_one_line(call, message):
    with pytest.raises(UserError, match=message):
        call()


def test_a_kernel_without_gamma_ignores_it():
    params = svm.fit(X, Y, 2, kernel="linear", gamma=np.nan)
    assert params.hyper == {}
    assert np.isfinite(svm.apply(params, X)).all()
    rows = Rows(np.arange(6), np.ones(6))
    assert learners.svm(2, "linear").fit({"c": 1.0}, KEY, {"inputs": X, "targets": Y}, rows).hyper == {}
