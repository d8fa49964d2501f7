"""Learners over grids: against their own fits one by one, their invariants, and scikit-learn on the same folds."""

from itertools import permutations, product
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.datasets import load_iris
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from mllab import devices, learners, validation
from mllab.errors import UserError
from mllab.types import Rows
from mllab.validation import Folds, Learner, accuracy, cross_validate
from support.mistakes import refused_in_one_line

KEY = jax.random.key(0)
INPUTS, TARGETS = load_iris(return_X_y=True)
INPUTS = (INPUTS - INPUTS.mean(axis=0)) / INPUTS.std(axis=0)
INPUTS = (INPUTS + np.random.default_rng(0).normal(0, 0.01, INPUTS.shape)).astype(np.float32)  # no equal distances
TARGETS = TARGETS.astype(np.int32)
IRIS = {"inputs": INPUTS.reshape(150, 2, 2), "targets": TARGETS}


def padded(rows, count):
    """The rows with at least `count` padding rows in each fold, which repeat the fold's first id."""
    ids = np.append(rows.ids, np.repeat(rows.ids[:, :1], count, axis=1), axis=1)
    return Rows(ids, np.append(rows.weight, np.zeros((len(ids), count), np.float32), axis=1))


FOLDS = Folds(*(padded(rows, 2) for rows in validation.folds(np.arange(150), 4, 0, TARGETS)))


class Case(NamedTuple):
    learner: Learner
    axes: dict[str, Any]
    atol: float  # of mean outputs, between a grid and fits one by one


CASES = {
    "most_frequent": Case(learners.most_frequent(3), {}, 1e-6),
    "nearest_neighbors": Case(learners.nearest_neighbors(3, most=15), {"k": [1, 4, 15]}, 1e-6),
    "softmax_regression": Case(learners.softmax_regression(3, tolerance=1e-6), {"l2": [0.1, 10.0]}, 1e-3),
    "svm": Case(learners.svm(3, tolerance=1e-5), {"gamma": [0.01, 5.0], "c": [0.1, 1.0, 10.0]}, 0.02),
    "svm_scale": Case(learners.svm(3, tolerance=1e-5), {"c": [0.1, 10.0]}, 0.02),
    "svm_linear": Case(learners.svm(3, "linear", "one_vs_rest", tolerance=1e-5), {"c": [1.0, 0.1]}, 0.02),
    "svm_polynomial": Case(
        learners.svm(3, "polynomial", coef0=1.0, tolerance=1e-5),
        {"degree": [1, 3], "c": [0.5, 5.0], "gamma": [0.1, 0.3]},
        0.02,
    ),
    "svm_on_two_devices": Case(
        learners.svm(3, calibrated=False, tolerance=1e-5, mesh=devices.mesh(2)), {"gamma": [0.1], "c": [1.0, 5.0]}, 0.02
    ),
    "kmeans": Case(learners.kmeans(most=3, restarts=3), {"k": [1, 2, 3]}, 1e-3),
    "mixture": Case(learners.mixture(3, covariance="tied", restarts=1), {"floor": [1e-3, 1e-1]}, 1e-3),
}
CLASSIFIERS = [name for name in CASES if name != "kmeans"]
CLOSED = {"rtol": 1e-5, "atol": 1e-5}


def own_output(outputs, targets):
    """The output for the row's class, so that a score reads more than the most probable class."""
    return jnp.take_along_axis(outputs, targets[:, None], axis=1)[:, 0] if outputs.ndim == 2 else outputs


def splits(folds):
    """(train, held out) ids of each fold without the padding, as scikit-learn's `cv` takes them."""
    return [tuple(rows.ids[k][rows.weight[k] > 0] for rows in folds) for k in range(len(folds.train.ids))]


def scored(name, axes=None, examples=IRIS, folds=FOLDS, learner=None, score=own_output):
    case = CASES[name]
    return cross_validate(learner or case.learner, case.axes if axes is None else axes, KEY, examples, folds, score)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.slow
def test_a_grid_equals_single_fits(name):
    learner, axes, atol = CASES[name]
    scores = scored(name)
    assert scores.shape == (*map(len, axes.values()), 4)
    for index in product(*(range(len(values)) for values in axes.values())):
        hyper = {axis: axes[axis][place] for axis, place in zip(axes, index, strict=True)}
        for fold in range(4):
            train, out = (jax.tree.map(lambda a, fold=fold: a[fold], part) for part in FOLDS)
            outputs = learner.predict(learner.fit(hyper, KEY, IRIS, train), IRIS["inputs"][out.ids])
            alone = np.mean(own_output(outputs, TARGETS[out.ids])[out.weight > 0])
            np.testing.assert_allclose(scores[(*index, fold)], alone, rtol=1e-3, atol=atol)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if len(case.axes) > 1])
def test_permuted_axes_permute_the_scores(name):
    axes, scores = CASES[name].axes, scored(name)
    for order in permutations(range(len(axes))):
        permuted = {list(axes)[place]: list(axes.values())[place] for place in order}
        np.testing.assert_allclose(scored(name, permuted), scores.transpose(*order, -1), **CLOSED)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.axes and name != "svm_scale"])
def test_the_order_and_repetition_of_values_do_not_change_their_scores(name):
    axes = CASES[name].axes
    last, values = list(axes.items())[-1]
    order = [len(values) - 1, *[0] * (len(values) - 1)]
    again = scored(name, {**axes, last: [values[place] for place in order]})
    expected = np.take(scored(name), order, axis=len(axes) - 1)
    np.testing.assert_allclose(again, expected, rtol=1e-3, atol=CASES[name].atol)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_padding_does_not_change_the_scores(name):
    def other(rows, ids):
        return Rows(np.where(rows.weight > 0, rows.ids, np.resize(ids, rows.ids.shape)).astype(np.int32), rows.weight)

    folds = Folds(other(FOLDS.train, [100, 7, 30]), other(FOLDS.held_out, [4, 5, 149]))
    np.testing.assert_allclose(scored(name, folds=folds), scored(name), rtol=1e-3, atol=max(CASES[name].atol, 1e-5))


ALIKE = "svm_scale", "svm_polynomial", "svm_on_two_devices", "kmeans"  # as the others of their family


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in ALIKE else []) for name in CASES]
)
def test_examples_in_no_fold_are_not_read(name):
    poisoned = {"inputs": np.full((300, 2, 2), np.nan, np.float32), "targets": np.full(300, 99, np.int32)}
    for part, array in IRIS.items():
        poisoned[part][::2] = array
    folds = Folds(*(Rows(2 * rows.ids, rows.weight) for rows in FOLDS))
    np.testing.assert_array_equal(scored(name, folds=folds, examples=poisoned), scored(name))


@pytest.mark.slow
def test_examples_outside_of_the_folds_take_no_part_in_the_kernel_matrix():
    """More than a kernel matrix has memory for."""
    many = {"inputs": np.zeros((30_000, 2, 2), np.float32), "targets": np.zeros(30_000, np.int32)}
    for part, array in IRIS.items():
        many[part][:150] = array
    np.testing.assert_array_equal(scored("svm", examples=many), scored("svm"))


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 99), ks=st.permutations([1, 2, 5]), count=st.sampled_from([2, 3]))
def test_the_order_of_rows_does_not_change_the_scores(seed, ks, count):
    folds = validation.folds(np.arange(150), count, seed, TARGETS)
    order = np.random.default_rng(seed).permutation(150)
    place = np.argsort(order)  # of each row after the shuffle
    moved = Folds(*(Rows(place[rows.ids].astype(np.int32), rows.weight) for rows in folds))
    shuffled = {part: array[order] for part, array in IRIS.items()}
    for learner, axes in [(CASES["nearest_neighbors"].learner, {"k": ks}), (CASES["most_frequent"].learner, {})]:
        scores = [
            cross_validate(learner, axes, KEY, *given_, accuracy) for given_ in ((IRIS, folds), (shuffled, moved))
        ]
        np.testing.assert_array_equal(*scores)


# ── scikit-learn on the same folds ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "peer", "names"),
    [
        ("nearest_neighbors", KNeighborsClassifier(algorithm="brute"), {"k": "n_neighbors"}),
        ("svm", SVC(break_ties=True, tol=1e-5), {"gamma": "gamma", "c": "C"}),
        pytest.param("svm_scale", SVC(gamma="scale", tol=1e-5, break_ties=True), {"c": "C"}, marks=pytest.mark.slow),
        ("svm_linear", OneVsRestClassifier(SVC(kernel="linear", tol=1e-5)), {"c": "estimator__C"}),
        pytest.param(
            "svm_polynomial",
            SVC(kernel="poly", coef0=1.0, tol=1e-5, break_ties=True),
            {"degree": "degree", "c": "C", "gamma": "gamma"},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_accuracies_match_a_grid_search_of_scikit_learn(name, peer, names):
    axes, scores = CASES[name].axes, scored(name, score=accuracy)
    grid = {names[axis]: list(values) for axis, values in axes.items()}
    results = GridSearchCV(peer, grid, cv=splits(FOLDS), refit=False).fit(INPUTS, TARGETS).cv_results_
    for row, params in enumerate(results["params"]):
        index = tuple(list(values).index(params[names[axis]]) for axis, values in axes.items())
        theirs = [results[f"split{fold}_test_score"][row] for fold in range(4)]
        np.testing.assert_allclose(scores[index], theirs, atol=0.03)  # a row on the boundary
    assert np.ptp(scores) > 0.03


@pytest.mark.slow
def test_likelihoods_match_scikit_learn():
    for l2, scores in zip(CASES["softmax_regression"].axes["l2"], scored("softmax_regression"), strict=True):
        peer = LogisticRegression(C=1 / l2, tol=1e-8, max_iter=5000)
        theirs = cross_val_score(peer, INPUTS, TARGETS, cv=splits(FOLDS), scoring="neg_log_loss")
        np.testing.assert_allclose(scores, theirs, atol=1e-3)
    full = learners.mixture(3, covariance="full")
    scores = scored("mixture", {"floor": [1e-6]}, learner=full, score=accuracy)[0]
    peer = QuadraticDiscriminantAnalysis()
    np.testing.assert_allclose(scores, cross_val_score(peer, INPUTS, TARGETS, cv=splits(FOLDS)), atol=0.03)
    for k, scores in zip(CASES["kmeans"].axes["k"], scored("kmeans"), strict=True):
        for fold, (train, out) in enumerate(splits(FOLDS)):
            peer = KMeans(k, n_init=10, random_state=0).fit(INPUTS[train])
            np.testing.assert_allclose(scores[fold], peer.score(INPUTS[out]) / len(out), rtol=0.03)


def test_the_baseline_matches_scikit_learn():
    draw = np.random.default_rng(0)
    targets = draw.choice(3, 150, p=[0.2, 0.5, 0.3]).astype(np.int32)
    folds = validation.folds(np.arange(150), 4, 0)
    scores = scored("most_frequent", examples={**IRIS, "targets": targets}, folds=folds, score=accuracy)
    peer = DummyClassifier(strategy="prior")
    np.testing.assert_array_equal(scores, cross_val_score(peer, INPUTS, targets, cv=splits(folds)))
    learner = CASES["most_frequent"].learner
    params = learner.fit({}, KEY, {**IRIS, "targets": targets}, Rows(np.arange(150), np.ones(150, np.float32)))
    expected = (np.bincount(targets) + 1) / 153
    np.testing.assert_allclose(np.exp(learner.predict(params, INPUTS)), np.tile(expected, (150, 1)), rtol=1e-5)


# ── Support vector machines ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["one_vs_one", "one_vs_rest"])
def test_class_scores_and_log_probabilities_have_the_same_winner(scheme):
    axes = CASES["svm"].axes
    with_, without = (
        scored("svm", learner=learners.svm(3, scheme=scheme, calibrated=each), score=accuracy) for each in (True, False)
    )
    np.testing.assert_array_equal(with_, without)
    learner = learners.svm(3, scheme=scheme)
    rows = Rows(np.arange(150), np.ones(150, np.float32))
    params = learner.fit({"gamma": axes["gamma"][0], "c": 1.0}, KEY, IRIS, rows)
    np.testing.assert_allclose(np.exp(learner.predict(params, IRIS["inputs"])).sum(axis=1), 1, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("calibrated", [True, False])
def test_overflowing_kernel_values_give_nan_and_an_accuracy_of_zero(calibrated):
    learner = learners.svm(3, "polynomial", degree=60, calibrated=calibrated, steps=50)
    axes = {"gamma": [0.001, 1000.0], "c": [1.0]}
    assert np.isnan(scored("svm", axes, learner=learner)[1]).all()
    scores = scored("svm", axes, learner=learner, score=accuracy)
    assert (scores[1] == 0).all()
    assert (scores[0] > 0).all()
    rows = Rows(np.arange(150), np.ones(150, np.float32))
    with refused_in_one_line("the fit is not finite: the values of the polynomial kernel, .* are beyond float32"):
        learner.fit({"gamma": 1000.0, "c": 1.0}, KEY, IRIS, rows)
    one_vs_rest = learners.svm(3, scheme="one_vs_rest", calibrated=calibrated)
    params = one_vs_rest.fit({"c": 1.0}, KEY, IRIS, rows)
    infinite = params.replace(bias=params.bias.at[0].set(jnp.inf))  # the scores of one class alone
    assert np.isnan(one_vs_rest.predict(infinite, IRIS["inputs"])).all()


@pytest.mark.slow
def test_the_default_gamma_is_that_of_the_training_rows():
    inputs = INPUTS.copy()
    inputs[1::3] *= 30
    folds = validation.holdout(np.arange(0, 150, 3), np.arange(1, 150, 3))
    examples = {"inputs": inputs, "targets": TARGETS}
    learner, axes, atol = CASES["svm_scale"]
    scores = cross_validate(learner, axes, KEY, examples, folds, own_output)
    train = {name: array[::3] for name, array in examples.items()}
    for place, c in enumerate(axes["c"]):
        params = learner.fit({"c": c}, KEY, train, Rows(np.arange(50), np.ones(50, np.float32)))
        np.testing.assert_allclose(params.hyper["gamma"], 1 / (4 * train["inputs"].var()), rtol=1e-4)
        alone = np.mean(own_output(learner.predict(params, inputs[1::3]), TARGETS[1::3]))
        np.testing.assert_allclose(scores[place, 0], alone, atol=atol)


@pytest.mark.slow
def test_a_setting_of_the_factory_equals_an_axis_of_one_value():
    as_axes = learners.svm(3, "polynomial", tolerance=1e-5)
    fixed = learners.svm(3, "polynomial", degree=2, coef0=0.5, tolerance=1e-5)
    axes = {"c": [0.1, 1.0], "gamma": [0.1]}
    one = scored("svm", {**axes, "degree": [2], "coef0": [0.5]}, learner=as_axes)
    np.testing.assert_allclose(one[..., 0, 0, :], scored("svm", axes, learner=fixed), atol=1e-3)


@pytest.mark.slow
def test_rows_may_be_traced_if_pair_rows_is_given():
    rows, held_out = (jax.tree.map(lambda a: a[0], part) for part in FOLDS)
    hyper = {"gamma": 0.1, "c": 1.0}
    queries = IRIS["inputs"][held_out.ids]
    params = CASES["svm"].learner.fit(hyper, KEY, IRIS, rows)
    for pair_rows in (80, 50):
        learner = learners.svm(3, tolerance=1e-5, pair_rows=pair_rows)
        outputs = learner.predict(jax.jit(learner.fit)(hyper, KEY, IRIS, rows), queries)
        # 50 are too few for two classes.
        expected = learner.predict(params, queries) if pair_rows == 80 else np.full(outputs.shape, np.nan)
        np.testing.assert_allclose(outputs, expected, atol=0.02)


def test_steps_are_limited():
    few = learners.svm(3, steps=1)
    params = few.fit({"c": 10.0}, KEY, IRIS, Rows(np.arange(150), np.ones(150, np.float32)))
    assert (np.asarray(params.steps) <= 1).all()
    assert not np.allclose(scored("svm", learner=few), scored("svm"), atol=0.05)


# ── Mistakes ────────────────────────────────────────────────────────────────────────────────────────────────────────

MISTAKES = {
    "unknown axis": (lambda: scored("svm", {"C": [1.0], "gamma": [1.0]}), "unknown hyper 'C' .known: c, gamma."),
    "an axis of another kernel": (
        lambda: scored("svm_linear", {"c": [1.0], "gamma": [1.0]}),
        "unknown hyper 'gamma' .known: c.",
    ),
    "missing axis": (lambda: scored("nearest_neighbors", {}), "hyper 'k' is missing: add it to the axes"),
    "an axis of the baseline": (lambda: scored("most_frequent", {"k": [1]}), "unknown hyper 'k'"),
    "missing setting": (
        lambda: CASES["svm"].learner.fit({}, KEY, IRIS, Rows(np.arange(150), np.ones(150))),
        "hyper 'c' is missing",
    ),
    "most": (lambda: learners.nearest_neighbors(2, most=0), "most = 0: expected 1 or more"),
    "clusters": (lambda: learners.kmeans(most=0), "most = 0: expected 1 or more"),
    "components": (lambda: learners.mixture(2, components=0), "components = 0: expected 1 or more"),
    "kernel": (lambda: learners.svm(2, "rbff"), "unknown kernel 'rbff': did you mean 'rbf'"),
    "scheme": (lambda: learners.svm(2, scheme="one_vs_on"), "unknown scheme 'one_vs_on': did you mean 'one_vs_one'"),
    "a cost of 0": (lambda: scored("svm", {"c": [0.0]}), r"c\[0\] = .*above 0"),
}


@pytest.mark.parametrize(("call", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_errors_are_one_line(call, message):
    with refused_in_one_line(message):
        call()


@pytest.mark.parametrize("name", CASES)
def test_fit_refuses_a_setting_that_it_does_not_read(name):
    learner, axes, _ = CASES[name]
    hyper = {axis: values[0] for axis, values in axes.items()}
    with pytest.raises(UserError, match="unknown hyper 'sigma'"):
        learner.fit({**hyper, "sigma": 1.0}, KEY, IRIS, Rows(np.arange(150), np.ones(150, np.float32)))
