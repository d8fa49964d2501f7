"""Support vector machines against scikit-learn's (LIBSVM), and the optimum's conditions checked in float64."""

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

from experiments.bench import svm as bench
from experiments.bench import svm_once, svm_peers
from experiments.bench.timing import Sample
from mllab import devices, learners, metrics, validation
from mllab.errors import UserError
from mllab.models import calibration, kernels, smo, svm
from mllab.types import Rows

KEY = jax.random.key(0)
STEPS = 100_000
SKLEARN = {"linear": "linear", "polynomial": "poly", "rbf": "rbf"}


def problem(n=60, classes=2, features=3, seed=0):
    """Points of overlapping classes; some of them twice, with whatever labels."""
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


def check_optimum(kernel, signs, upper, found, tolerance):
    """The optimum's conditions, and all that is told of it, in float64."""
    kernel, alpha = np.asarray(kernel, float), np.asarray(found.alpha, float)
    beta, scale = alpha * signs, max(1, upper.max())
    assert (alpha >= 0).all()
    assert (alpha <= upper * (1 + 1e-6)).all()
    assert abs(beta.sum()) < 1e-5 * scale * len(beta)
    gradient = signs - kernel @ beta
    may_rise = beta < np.maximum(0, upper * signs)
    may_fall = beta > np.minimum(0, upper * signs)
    if may_rise.any() and may_fall.any():
        assert gradient[may_rise].max() - gradient[may_fall].min() <= tolerance + 2e-5 * scale
    scores = kernel @ beta + float(found.bias)
    np.testing.assert_allclose(found.scores, scores, atol=2e-5 * scale)
    objective = dual_objective(kernel, beta)
    np.testing.assert_allclose(found.objective, objective, rtol=1e-4, atol=1e-5)
    primal = beta @ kernel @ beta / 2 + upper @ np.maximum(0, 1 - signs * scores)
    np.testing.assert_allclose(found.gap, (primal - objective) / max(primal, 1e-30), atol=2e-4)
    return objective


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    name=st.sampled_from(list(kernels.KERNELS)),
    c=st.sampled_from([1e-3, 1.0, 30.0]),
    weighted=st.booleans(),
)
def test_the_dual_is_libsvms_and_at_its_optimum(seed, name, c, weighted):
    x, labels = problem(seed=seed)
    rng = np.random.default_rng(seed)
    weight = rng.choice([0.5, 1.0, 2.0], len(x)) if weighted else np.ones(len(x))
    kernel = kernels.KERNELS[name](x, x, {"gamma": 0.5, "degree": 2.0, "coef0": 1.0})
    found = smo.solve(kernel, signs_of(labels), c, weight, 1e-4, STEPS)
    objective = check_optimum(kernel, signs_of(labels), c * weight, found, 1e-4)
    peer = SVC(C=c, kernel="precomputed", tol=1e-6).fit(np.asarray(kernel, float), labels, sample_weight=weight)
    theirs = np.zeros(len(x))
    theirs[peer.support_] = peer.dual_coef_[0]
    np.testing.assert_allclose(objective, dual_objective(kernel, theirs), rtol=1e-4)
    free = ((np.abs(theirs) > 1e-6 * c) & (np.abs(theirs) < c * weight * (1 - 1e-6))).any()
    if free:  # without, the bias is a matter of taste
        values = peer.decision_function(np.asarray(kernel, float))
        np.testing.assert_allclose(found.scores, values, atol=2e-3 * max(1, np.abs(values).max()))


@pytest.mark.parametrize("c", [1e-6, 1e6])
def test_the_least_and_the_greatest_c(c):
    x, _ = problem(40)
    separable = np.where(x[:, 0] > 0, 1.0, -1.0).astype(np.float32)
    x[:, 0] += separable
    kernel = kernels.linear(x, x, {})
    found = smo.solve(kernel, separable, c, np.ones(40), 1e-3, STEPS)
    objective = check_optimum(kernel, separable, np.full(40, np.float32(c)), found, 1e-3)
    peer = SVC(C=c, kernel="linear", tol=1e-6).fit(x.astype(float), separable)
    np.testing.assert_allclose(
        objective, dual_objective(x[peer.support_] @ x[peer.support_].T, peer.dual_coef_[0]), rtol=1e-3
    )


def test_rows_of_weight_0_are_as_if_absent_and_order_does_not_matter():
    x, labels = problem(80)
    signs, rng = signs_of(labels), np.random.default_rng(1)
    weight = (rng.random(80) > 0.3).astype(np.float32)
    kernel = np.asarray(kernels.rbf(x, x, {"gamma": 0.5}))
    found = smo.solve(kernel, signs, 2.0, weight, 1e-5, STEPS)
    kept = weight > 0
    alone = smo.solve(kernel[np.ix_(kept, kept)], signs[kept], 2.0, weight[kept], 1e-5, STEPS)
    np.testing.assert_array_equal(np.asarray(found.alpha)[~kept], 0)
    np.testing.assert_allclose(np.asarray(found.scores)[kept], alone.scores, atol=1e-4)
    flipped = np.where(kept, signs, -signs)
    np.testing.assert_array_equal(smo.solve(kernel, flipped, 2.0, weight, 1e-5, STEPS).alpha, found.alpha)
    order = rng.permutation(80)
    permuted = smo.solve(kernel[np.ix_(order, order)], signs[order], 2.0, weight[order], 1e-5, STEPS)
    np.testing.assert_allclose(permuted.scores, np.asarray(found.scores)[order], atol=1e-4)


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
def test_a_class_alone_is_right_by_the_bias(sign):
    x, _ = problem(20)
    found = smo.solve(kernels.linear(x, x, {}), np.full(20, sign), 1.0, np.ones(20), 1e-3, STEPS)
    assert int(found.steps) == 0
    np.testing.assert_array_equal(found.scores, np.full(20, sign))
    assert found.gap == 0


@pytest.mark.parametrize(("kernel", "classes"), [("linear", 2), ("polynomial", 4), ("rbf", 2), ("rbf", 4)])
def test_one_vs_one_is_scikit_learns(kernel, classes):
    x, labels = problem(120, classes)
    peer = SVC(
        C=2, kernel=SKLEARN[kernel], gamma=0.4, degree=2, coef0=1, tol=1e-6, break_ties=classes > 2,
        decision_function_shape="ovr" if classes > 2 else "ovo",
    ).fit(x.astype(float), labels)  # fmt: skip
    params = svm.fit(x, labels, classes, kernel=kernel, c=2, gamma=0.4, degree=2, coef0=1, tolerance=1e-5)
    queries = np.random.default_rng(5).standard_normal((50, 3)).astype(np.float32)
    wanted = peer.decision_function(queries.astype(float))
    values = svm.decision(params, queries)
    scores = values[:, 0] if classes == 2 else svm.class_scores(values, classes, "one_vs_one")
    np.testing.assert_allclose(scores, wanted, atol=2e-3)
    outputs = np.asarray(svm.apply(params, queries))
    np.testing.assert_array_equal(outputs.argmax(1), peer.predict(queries.astype(float)))
    np.testing.assert_allclose(np.exp(outputs).sum(1), 1, rtol=1e-5)
    if kernel == "rbf":  # of fewer dimensions than rows, the others have more than one solution
        np.testing.assert_array_equal(np.flatnonzero(svm.support(params)), np.sort(peer.support_))


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_one_vs_rest_is_scikit_learns(kernel):
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


@pytest.mark.parametrize("scheme", svm.SCHEMES)
def test_a_class_that_is_absent_is_never_predicted_one_vs_one(scheme):
    x, labels = problem(60, 3)
    weight = (labels != 1).astype(np.float32)
    params = svm.fit(x, labels, 3, scheme=scheme, weight=weight)
    assert np.isfinite(svm.apply(params, x)).all()
    predicted = np.asarray(svm.apply(params, x)).argmax(1)[weight > 0]
    peer = SVC().fit(x[weight > 0], labels[weight > 0])
    np.testing.assert_array_equal(predicted, peer.predict(x[weight > 0]))


def test_columns_that_are_constant_and_a_default_gamma():
    x, labels = problem(60)
    wider = np.column_stack([x, np.full(60, 7.0, np.float32)])
    gamma = 0.4
    plain, other = (svm.decision(svm.fit(each, labels, 2, gamma=gamma), each) for each in (x, wider))
    np.testing.assert_allclose(plain, other, atol=2e-3)
    np.testing.assert_allclose(svm.fit(x, labels, 2).hyper["gamma"], 1 / (3 * x.var()), rtol=1e-5)
    constant = svm.fit(np.ones((6, 2), np.float32), np.array([0, 1, 1, 1, 0, 1]), 2)
    assert np.asarray(svm.apply(constant, np.ones((1, 2), np.float32))).argmax(1) == 1


def test_the_slope_is_of_greatest_likelihood():
    x, labels = problem(400, seed=3)
    scores = np.asarray(svm.decision(svm.fit(x, labels, 2), x))
    found = float(calibration.slope(svm.class_scores(scores, 2, "one_vs_one"), labels, np.ones(400, np.float32)))
    # Platt's targets are weights of either label.
    right = np.where(labels == 1, *((n + 1) / (n + 2) for n in np.bincount(labels)[::-1]))
    peer = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10).fit(
        np.concatenate([scores, scores]), np.concatenate([labels, 1 - labels]), np.concatenate([right, 1 - right])
    )
    np.testing.assert_allclose(found, peer.coef_[0, 0], rtol=1e-3)
    nonsense = calibration.slope(np.float32([[1, -1], [1, -1]]), np.array([1, 1]), np.ones(2, np.float32))
    assert nonsense > 0


def test_predictions_come_in_blocks(monkeypatch):
    x, labels = problem(60, 3)
    params = svm.fit(x, labels, 3)
    whole = svm.decision(params, x)
    monkeypatch.setattr(kernels, "BLOCK_BYTES", 60 * 16 * 7)
    np.testing.assert_allclose(svm.decision(params, x), whole, atol=1e-5)


@pytest.fixture(scope="module")
def digits():
    inputs, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))[:300]
    return inputs[order].astype(np.float32), labels[order].astype(np.int32)


@pytest.mark.parametrize(("scheme", "count"), [("one_vs_one", None), ("one_vs_one", 3), ("one_vs_rest", 3)])
def test_a_grid_is_fits_one_by_one(digits, scheme, count, monkeypatch):
    monkeypatch.setattr(svm, "SMALL", 100 if count else 10**6)  # folds apart, and together
    inputs, labels = digits
    folds = validation.folds(np.arange(300), 4, 0, labels)
    weight = np.ones((4, 300), np.float32)
    for fold in range(4):
        weight[fold, folds.held_out.ids[fold][folds.held_out.weight[fold] > 0]] = 0
    c, gamma = np.array([0.1, 10.0]), np.array([3e-4, 1e-3, 3e-3])
    mesh = devices.mesh(count) if count else None
    svm._grid.clear_cache()
    scores = svm.grid(inputs, labels, 10, weight, c=c, gamma=gamma, scheme=scheme, tolerance=1e-5, mesh=mesh)
    assert scores.shape == (3, 2, 4, 300, 10)
    for g, a, fold in [(0, 0, 0), (1, 1, 3), (2, 1, 2), (2, 0, 1)]:
        given = {"c": c[a], "gamma": gamma[g], "scheme": scheme, "tolerance": 1e-5}
        params = svm.fit(inputs, labels, 10, weight=weight[fold], **given)
        alone = svm.class_scores(svm.decision(params, inputs), 10, scheme)
        agree = np.isclose(scores[g, a, fold], alone, atol=2e-3).all(1).mean()
        assert agree > 0.99  # a decision value of nearly 0 may be a vote for either
    if scheme == "one_vs_one":
        train = weight[3] > 0
        peer = SVC(C=10, gamma=1e-3, break_ties=True).fit(inputs[train], labels[train])
        assert (np.asarray(scores[1, 1, 3]).argmax(1) == peer.predict(inputs)).mean() > 0.995


def test_the_learners_grid_is_its_fits(digits):
    kernel = "polynomial"
    inputs, labels = digits[0][:90], digits[1][:90] % 3
    examples = {"inputs": inputs.reshape(-1, 8, 8, 1) / 16, "targets": labels}
    folds = validation.folds(np.arange(90), 3, 0, labels)
    hyper = {"c": np.array([1.0, 10, 1, 10]), "gamma": np.array([0.01, 0.01, 0.1, 0.1])}
    hyper |= {"degree": np.full(4, 2.0), "coef0": np.full(4, 1.0)}
    pair_rows = int(np.sort(np.bincount(labels))[-2:].sum())
    learner = learners.svm(3, kernel, pair_rows=pair_rows, tolerance=1e-4)

    def likelihood(outputs, targets):
        return jnp.take_along_axis(outputs, targets[:, None], axis=1)[:, 0]

    found = {
        name: validation.cross_validate(each, hyper, KEY, examples, folds, likelihood)
        for name, each in {
            "grid": learner,
            "alone": learner._replace(grid=None),
            "masked": learners.svm(3, kernel, tolerance=1e-4, mesh=devices.mesh(2)),
        }.items()
    }
    np.testing.assert_allclose(found["grid"], found["alone"], atol=0.02)
    np.testing.assert_allclose(found["grid"], found["masked"], atol=0.02)
    short = learners.svm(3, kernel, pair_rows=pair_rows - 20)
    assert np.isnan(validation.cross_validate(short, hyper, KEY, examples, folds, likelihood)).all()


def test_a_learner_chooses_as_its_peer(digits):
    examples = {"inputs": digits[0], "targets": digits[1]}
    folds = validation.folds(np.arange(300), 3, 0, digits[1])
    learner = learners.svm(10, pair_rows=80)

    def accuracy(outputs, targets):
        return metrics.classification(outputs, targets)["accuracy"]

    hyper = {"c": np.array([1.0, 5.0])}
    found = validation.cross_validate(learner, hyper, KEY, examples, folds, accuracy)
    train, held = (np.asarray(part.ids[1])[part.weight[1] > 0] for part in folds)
    for place, c in enumerate(hyper["c"]):
        peer = SVC(C=c, gamma="scale").fit(digits[0][train], digits[1][train])
        np.testing.assert_allclose(found[place, 1], peer.score(digits[0][held], digits[1][held]), atol=0.011)


def test_examples_outside_of_the_folds_have_no_say(digits):
    """Not even in the default of gamma; and they may be more than a kernel matrix has memory for."""
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


def test_an_offset_common_to_all_changes_no_linear_machine():
    inputs, labels = problem()
    inputs = np.round(inputs * 64) / 64  # which the offset rounds no further
    near, far = (svm.fit(inputs + offset, labels, 2, kernel="linear") for offset in (0, 1e4))
    np.testing.assert_allclose(svm.decision(far, inputs + np.float32(1e4)), svm.decision(near, inputs), atol=5e-3)
    scores = svm.grid(inputs + 1e4, labels, 2, np.ones((1, 60)), kernel="linear", c=[1.0], gamma=[1.0])
    np.testing.assert_allclose(scores[0, 0, 0, :, 1:] * 2, svm.decision(near, inputs), atol=5e-3)


@pytest.mark.parametrize("x64", [False, True])
def test_numbers_keep_their_width(x64):
    x, labels = problem(60, 3)
    with jax.enable_x64(x64):
        params = svm.fit(x.astype(float), labels, 3, tolerance=1e-8 if x64 else 1e-3)
        values = np.asarray(svm.decision(params, x.astype(float)))
        assert params.coefficients.dtype == params.inputs.dtype == (np.float64 if x64 else np.float32)
    peer = SVC(tol=1e-10, decision_function_shape="ovo").fit(x.astype(float), labels)
    np.testing.assert_allclose(-values, peer.decision_function(x.astype(float)), atol=1e-6 if x64 else 2e-3)


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
    "one class": (lambda: svm.fit(X, Y * 0, 1), "classes = 1: there must be 2 or more"),
    "label": (lambda: svm.fit(X, Y + 1, 2), "row 1 has label 2: 2 classes are 0 to 1"),
    "labels that are values": (lambda: svm.fit(X, Y * 0.5, 2), r"targets are float64\[6\]: pass 6 integers"),
    "not a number": (lambda: svm.fit(BROKEN, Y, 2), "row 4 of the inputs has a number that is not finite"),
    "images": (lambda: svm.fit(X[:, :, None], Y, 2), r"inputs have shape \[6, 2, 1\]"),
    "c": (lambda: svm.fit(X, Y, 2, c=0), "c = 0: it must be above 0"),
    "gamma": (lambda: svm.fit(X, Y, 2, gamma=-1.0), "gamma = -1.0: it must be above 0"),
    "weight": (lambda: svm.fit(X, Y, 2, weight=np.ones(5)), r"weight has shape \(5,\)"),
    "columns": (lambda: svm.decision(svm.fit(X, Y, 2), X[:, :1]), r"inputs have shape .*: pass \[M, 2\]"),
    "negative weight": (lambda: svm.fit(X, Y, 2, weight=-np.ones(6)), "weight: some are negative or not finite"),
    "descending": (lambda: svm.grid(X, Y, 2, W, c=[2.0, 1.0], gamma=[1.0]), r"c = \[2.0, 1.0\]: give them ascending"),
    "folds": (lambda: svm.grid(X, Y, 2, W[0], c=[1.0], gamma=[1.0]), r"train_weight has shape \(6,\)"),
    "grid": (lambda: svm.grid(X, Y, 2, W, c=[1.0], gamma=1.0), r"gamma and c have shapes \(\) and \(1,\)"),
    "learner": (lambda: learners.svm(2, "rbff"), "unknown kernel 'rbff': did you mean 'rbf'"),
    "memory": (
        lambda: svm.fit(np.zeros((30_000, 1), np.float32), np.zeros(30_000, int), 2),
        "30000 rows takes 3.4 GiB of 2.0.* kernels.nystroem",
    ),
}


@pytest.mark.parametrize(("call", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_are_told_in_one_line(call, message):
    with pytest.raises(UserError, match=message):
        call()


def test_a_kernel_without_gamma_does_not_ask_for_one():
    params = svm.fit(X, Y, 2, kernel="linear", gamma=np.nan)
    assert params.hyper == {}
    assert np.isfinite(svm.apply(params, X)).all()
    rows = Rows(np.arange(6), np.ones(6))
    assert learners.svm(2, "linear").fit({"c": 1.0}, KEY, {"inputs": X, "targets": Y}, rows).hyper == {}


@pytest.mark.parametrize("folds", [0, 2])
def test_the_benchmark_compares_what_both_found(digits, folds, tmp_path):
    inputs, labels = digits[0][:120], digits[1][:120] % 2
    held_out = np.arange(120)[None] % 2 == np.arange(folds)[:, None]
    grid = (
        {"c": np.array([0.01, 1.0]), "gamma": np.array([1e-4, 1e-3])}
        if folds
        else {"c": np.ones(1), "gamma": np.full(1, 1e-3)}
    )
    data = {"inputs": inputs, "labels": labels, "held_out": held_out, **grid}
    paths = [tmp_path / f"{name}.npz" for name in ("data", "ours", "theirs")]
    found = (
        data,
        svm_once.solved(jax.tree.map(jnp.asarray, data)),
        (svm_peers.grid if folds else svm_peers.fit)(data)[1],
    )
    for path, arrays in zip(paths, found, strict=True):
        np.savez(path, **arrays)
    objective_off, accuracy_off = bench.differences(*paths)
    if folds:
        assert objective_off is None
        assert accuracy_off <= 1 / 60
        assert np.ptp(found[2]["accuracy"]) > 0.05
    else:
        assert (objective_off < bench.EXACT, accuracy_off) == (True, None)
        np.savez(paths[1], coefficients=0.9 * np.asarray(found[1]["coefficients"]))
        assert bench.differences(*paths)[0] > 10 * bench.EXACT


def test_the_benchmark_judges_speed_and_agreement():
    samples = {"once": [Sample(0, {"seconds": 2.0})], "peers": [Sample(0, {"seconds": 11.0})]}
    for name, off, met in [
        ("10,000 images, C = 1", (1e-6, None), "yes"),
        ("10,000 images, C = 1", (1e-4, None), "no"),
        ("5,000 images, grid", (None, 0.0), "no"),
        ("digits, grid", (None, 0.001), "yes"),
        ("digits, grid", (None, 0.01), "no"),
    ]:
        assert bench.judged(name, samples, *off)[-1] == met
