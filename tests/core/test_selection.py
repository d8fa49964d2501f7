"""Choices, nested cross-validation and comparisons, against scikit-learn, double loops in NumPy and counting."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_iris
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from mllab import learners, selection, validation
from mllab.models import linear
from mllab.selection import Candidate, Choice, choose, simplest
from mllab.types import Rows
from mllab.validation import Learner, accuracy, cross_validate
from support.mistakes import refused_in_one_line

KEY = jax.random.key(0)
INPUTS, TARGETS = load_iris(return_X_y=True)
INPUTS, TARGETS = INPUTS.astype(np.float32), TARGETS.astype(np.int32)
IRIS = {"inputs": INPUTS, "targets": TARGETS}
FOLDS = validation.folds(np.arange(150), 3, 0, TARGETS)
ALPHA = (0.01, 1.0, 100.0)


def splits(folds):
    """(train, held out) ids of each fold without the padding, as scikit-learn's `cv` takes them."""
    return [tuple(rows.ids[k][rows.weight[k] > 0] for rows in folds) for k in range(len(folds.train.ids))]


def ridge():
    """Ridge regression, with the default grid."""

    def fit(hyper, key, examples, rows):
        inputs, targets = (jnp.asarray(examples[name])[rows.ids] for name in ("inputs", "targets"))
        return linear.fit(inputs, targets, weight=rows.weight, method="normal", ridge=hyper["ridge"])

    return Learner(fit, linear.values)


def negative_error(outputs, targets):
    return -((outputs - targets) ** 2)


# ── Rules ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=50, deadline=None)
@given(
    shape=st.lists(st.integers(1, 4), max_size=3), folds=st.integers(1, 4), levels=st.integers(1, 4), seed=st.integers()
)
def test_the_best_setting_is_the_first_of_greatest_mean(shape, folds, levels, seed):
    draw = np.random.default_rng(abs(seed))
    scores = draw.integers(0, levels, (*shape, folds)) / 4  # exact sums, many ties
    expected = None
    for index in product(*map(range, shape)):
        if expected is None or sum(scores[index]) > sum(scores[expected]):
            expected = index
    assert selection.best(scores) == expected
    assert selection.best(1e-6 * scores - 1e-7) == expected  # whatever the unit of the score


@pytest.mark.parametrize(
    ("means", "index"),
    [
        ([[0.5, 0.9], [0.9, 0.5]], (0, 1)),  # the first axis first
        ([[0.9, 0.9], [0.9, 0.9]], (0, 0)),
        ([[0.5, 0.9], [0.5, 0.9]], (0, 1)),
        ([[0.5, 0.8], [0.6, 0.81]], (1, 1)),
    ],
)
def test_ties_go_to_the_first_in_the_order_of_the_axes(means, index):
    assert selection.best(np.array(means)[..., None]) == index


def test_rounding_errors_do_not_break_ties():
    assert selection.best(np.array([[0.3, 0.2, 0.1], [0.1, 0.2, 0.3]])) == (0,)  # sums: 0.6 and 0.6000000000000001


def test_settings_with_non_finite_scores_are_not_chosen():
    scores = np.array([[np.nan, 1.0], [np.inf, 1.0], [0.2, 0.3], [0.1, 0.9]])
    assert selection.best(scores) == (3,)
    assert simplest(np.arange(4), lambda scores: 1.0)(scores) == (2,)


@settings(max_examples=50, deadline=None)
@given(count=st.integers(1, 6), rows=st.integers(5, 200), seed=st.integers(0, 10**6))
def test_within_a_standard_error_the_least_complex_is_chosen(count, rows, seed):
    draw = np.random.default_rng(seed)
    scores, complexity = draw.uniform(0.6, 0.9, (count, 3)), draw.normal(size=count)
    means = [sum(each) / 3 for each in scores.tolist()]
    top = max(means)
    near = [place for place in range(count) if means[place] >= top - (top * (1 - top) / rows) ** 0.5]
    expected = min(near, key=lambda place: complexity[place])
    assert simplest(complexity, selection.proportion_error(rows))(scores) == (expected,)
    best = scores[means.index(top)]
    error = np.sqrt(np.sum((best - best.mean()) ** 2) / 2 / 3)
    near = [place for place in range(count) if means[place] >= top - error]
    assert simplest(complexity)(scores) == (min(near, key=lambda place: complexity[place]),)


def test_a_rule_chooses_the_setting():
    axes = {"k": [1, 3, 5, 9, 15, 25]}
    plain = choose(learners.nearest_neighbors(3, 25), axes, KEY, IRIS, FOLDS, accuracy)
    smooth = choose(
        learners.nearest_neighbors(3, 25), axes, KEY, IRIS, FOLDS, accuracy, select=simplest(-np.array(axes["k"]))
    )
    np.testing.assert_array_equal(smooth.scores, plain.scores)
    error = plain.by_fold.std(ddof=1) / np.sqrt(3)
    within = [k for k, mean in zip(axes["k"], plain.means, strict=True) if mean >= plain.means.max() - error]
    assert smooth.setting == {"k": max(within)}
    assert len(within) > 1


# ── Choices ─────────────────────────────────────────────────────────────────────────────────────────────────────────

PEERS = {
    "neighbours": (
        learners.nearest_neighbors(3, 15),
        accuracy,
        {"k": [1, 4, 15]},
        KNeighborsClassifier(algorithm="brute"),
        {"k": "n_neighbors"},
    ),
    "svm": (
        learners.svm(3, calibrated=False),
        accuracy,
        {"c": [0.1, 1.0, 10.0], "gamma": [0.02, 0.5]},
        SVC(break_ties=True),
        {"c": "C", "gamma": "gamma"},
    ),
    "ridge": (ridge(), negative_error, {"ridge": ALPHA}, Ridge(), {"ridge": "alpha"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", PEERS)
def test_a_choice_matches_a_grid_search_of_scikit_learn(case):
    learner, score, axes, peer, names = PEERS[case]
    choice = choose(learner, axes, KEY, IRIS, FOLDS, score)
    search = GridSearchCV(
        peer,
        {names[name]: list(values) for name, values in axes.items()},
        cv=splits(FOLDS),
        scoring="accuracy" if score is accuracy else "neg_mean_squared_error",
    ).fit(INPUTS, TARGETS)
    theirs = np.full(choice.scores.shape, np.nan)
    for row, params in enumerate(search.cv_results_["params"]):
        index = tuple(list(values).index(params[names[name]]) for name, values in axes.items())
        theirs[index] = [search.cv_results_[f"split{k}_test_score"][row] for k in range(3)]
    atol = 0.03 if score is accuracy else 1e-4  # a row or so in doubt
    np.testing.assert_allclose(choice.scores, theirs, atol=atol)
    assert abs(theirs[choice.index].mean() - search.best_score_) < atol / 2
    assert choice.setting == {
        name: values[place] for (name, values), place in zip(axes.items(), choice.index, strict=True)
    }
    np.testing.assert_allclose(choice.interval.mean, choice.means.max())


def test_a_single_set_of_validation_rows_is_one_fold():
    train, rest = np.arange(0, 150, 3), np.setdiff1d(np.arange(150), np.arange(0, 150, 3))
    choice = choose(PEERS["neighbours"][0], {"k": [1, 4, 15]}, KEY, IRIS, validation.holdout(train, rest), accuracy)
    for row, k in enumerate([1, 4, 15]):
        peer = KNeighborsClassifier(k, algorithm="brute").fit(INPUTS[train], TARGETS[train])
        assert abs(choice.scores[row, 0] - peer.score(INPUTS[rest], TARGETS[rest])) < 1.5 / len(rest)
    assert choice.scores.shape == (3, 1)
    assert np.isnan(choice.interval.low)


def test_observing_the_folds_does_not_change_the_choice():
    seen = []
    observe = lambda fold, scores: seen.append((fold, scores))  # noqa: E731
    learner, score, axes, *_ = PEERS["neighbours"]
    choice = choose(learner, axes, KEY, IRIS, FOLDS, score, observe=observe)
    np.testing.assert_array_equal(choice.scores, choose(learner, axes, KEY, IRIS, FOLDS, score).scores)
    assert [fold for fold, _ in seen] == [0, 1, 2]
    np.testing.assert_array_equal(np.stack([scores for _, scores in seen], axis=-1), choice.scores)


def made(means, index=None, **axes):
    scores = np.asarray(means, float)[..., None]
    return Choice({name: np.array(v) for name, v in axes.items()}, scores, index or selection.best(scores), 5.0)


def test_edges_are_the_ends_of_axes_towards_which_the_score_rises():
    rising = made([[0.5, 0.6, 0.7], [0.5, 0.8, 0.9]], gamma=[1.0, 2.0], c=[0.1, 1.0, 10.0])
    edges = rising.edges(0.005)
    assert [(edge.axis, edge.value, edge.end) for edge in edges] == [
        ("gamma", 2.0, "greatest"),
        ("c", 10.0, "greatest"),
    ]
    np.testing.assert_allclose([edge.rise for edge in edges], [0.2, 0.1])
    assert [edge.axis for edge in rising.edges(0.15)] == ["gamma"]
    assert made([0.9, 0.8, 0.7], k=[1, 2, 3]).edges(0.05)[0][:3] == ("k", 1, "least")
    assert made([0.9, 0.8, 0.7], k=[3, 2, 1]).edges(0.05)[0][:3] == ("k", 3, "greatest")  # by value, not by place
    assert made([0.8, 0.7, 0.9], k=[5, 1, 9]).edges(0.05)[0][:3] == ("k", 9, "greatest")
    np.testing.assert_allclose(made([0.8, 0.7, 0.9], k=[5, 1, 9]).edges(0.05)[0].rise, 0.1)  # from 5, its neighbour
    assert made([0.7, 0.9, 0.7], k=[1, 2, 3]).edges(0.0) == []
    assert made([0.899, 0.9], k=[1, 2]).edges(0.005) == []
    assert made([0.9], k=[1]).edges(0.0) == []


# ── Nested cross-validation ─────────────────────────────────────────────────────────────────────────────────────────


def inner(examples, count=4):
    return validation.folds(np.arange(len(examples["targets"])), count, 7, examples["targets"])


def inner_of_values(examples):
    return validation.folds(np.arange(len(examples["targets"])), 4, 7)


@pytest.mark.slow
@pytest.mark.parametrize("case", PEERS)
def test_nested_cross_validation_is_a_double_loop(case):
    learner, score, axes, peer, names = PEERS[case]
    deal = inner_of_values if case == "ridge" else inner
    choices = []
    learner = selection.tuned(learner, axes, deal, score, observe=choices.append)
    ours = cross_validate(learner, {}, KEY, IRIS, FOLDS, score)
    assert ours.shape == (3,)
    scoring = "accuracy" if score is accuracy else "neg_mean_squared_error"
    for fold, (train, out) in enumerate(splits(FOLDS)):
        train = np.sort(train)
        folds = splits(deal({"targets": TARGETS[train]}))
        grid = {names[name]: list(values) for name, values in axes.items()}
        search = GridSearchCV(peer, grid, cv=folds, scoring=scoring, refit=False).fit(INPUTS[train], TARGETS[train])
        choice = choices[fold]
        at_choice = [
            dict(zip(names.values(), choice.setting.values(), strict=True)) == p for p in search.cv_results_["params"]
        ]
        tolerance = 0.02 if score is accuracy else 1e-4
        assert search.cv_results_["mean_test_score"][at_choice] >= search.best_score_ - tolerance
        fitted = peer.set_params(**dict(zip(names.values(), choice.setting.values(), strict=True)))
        outputs = fitted.fit(INPUTS[train], TARGETS[train]).predict(INPUTS[out])
        theirs = np.mean(outputs == TARGETS[out]) if score is accuracy else -np.mean((outputs - TARGETS[out]) ** 2)
        np.testing.assert_allclose(ours[fold], theirs, atol=0.03 if score is accuracy else 1e-4)


def numpy_ridge(inputs, targets, alpha):
    """Intercept and weights by the normal equations, in float64."""
    mean = inputs.mean(axis=0)
    x = (inputs - mean).astype(np.float64)
    w = np.linalg.solve(x.T @ x + alpha * np.eye(x.shape[1]), x.T @ (targets - targets.mean()))
    return lambda queries: (queries - mean) @ w + targets.mean()


@pytest.mark.slow
def test_nested_cross_validation_is_a_double_loop_in_numpy():
    draw = np.random.default_rng(0)
    inputs = draw.normal(size=(41, 12)).astype(np.float32)
    targets = (inputs[:, 0] + draw.normal(size=41)).astype(np.float32)
    outer = validation.folds(np.arange(41), 3, 0)
    alphas = np.logspace(-1, 3, 9)
    chosen = []
    learner = selection.tuned(ridge(), {"ridge": alphas}, inner_of_values, negative_error, observe=chosen.append)
    ours = cross_validate(learner, {}, KEY, {"inputs": inputs, "targets": targets}, outer, negative_error)
    for fold, (train, out) in enumerate(splits(outer)):
        train = np.sort(train)
        losses = np.zeros(9)
        for fit_to, held_out in splits(inner_of_values({"targets": train})):
            for place, alpha in enumerate(alphas):
                values = numpy_ridge(inputs[train[fit_to]], targets[train[fit_to]], alpha)(inputs[train[held_out]])
                losses[place] += np.mean((values - targets[train[held_out]]) ** 2)
        assert chosen[fold].index == (losses.argmin(),)
        values = numpy_ridge(inputs[train], targets[train], alphas[losses.argmin()])(inputs[out])
        np.testing.assert_allclose(ours[fold], -np.mean((values - targets[out]) ** 2), rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("case", PEERS)
def test_inner_choices_do_not_depend_on_held_out_rows(case):
    learner, score, axes, *_ = PEERS[case]
    learner = selection.tuned(learner, axes, inner_of_values if case == "ridge" else inner, score)
    rows = Rows(FOLDS.train.ids[0], FOLDS.train.weight[0])
    clean = learner.fit({}, KEY, IRIS, rows)
    poisoned = {name: array.copy() for name, array in IRIS.items()}
    poisoned["inputs"][splits(FOLDS)[0][1]] = np.nan
    poisoned["targets"][splits(FOLDS)[0][1]] = 99
    again = learner.fit({}, KEY, poisoned, rows)
    assert again.choice.index == clean.choice.index
    np.testing.assert_array_equal(again.choice.scores, clean.choice.scores)
    jax.tree.map(np.testing.assert_array_equal, again.params, clean.params)


@pytest.mark.slow
def test_tuning_ignores_padding_and_uses_weights():
    learner = selection.tuned(ridge(), {"ridge": ALPHA}, inner_of_values, negative_error)
    ids = np.arange(0, 150, 2)
    plain = learner.fit({}, KEY, IRIS, Rows(ids, np.ones(75, np.float32)))
    padded = Rows(np.append(ids, [1, 3, 0]), np.append(np.ones(75), [0, 0, 0]).astype(np.float32))
    jax.tree.map(np.testing.assert_array_equal, learner.fit({}, KEY, IRIS, padded).params, plain.params)
    weight = np.random.default_rng(0).uniform(0.2, 3, 75).astype(np.float32)
    weighted = learner.fit({}, KEY, IRIS, Rows(ids, weight))
    inputs, targets = INPUTS[ids], TARGETS[ids]
    for row, alpha in enumerate(ALPHA):
        for fold, (train, out) in enumerate(splits(inner_of_values({"targets": ids}))):
            peer = Ridge(alpha=alpha).fit(inputs[train], targets[train], sample_weight=weight[train])
            theirs = np.average((peer.predict(inputs[out]) - targets[out]) ** 2, weights=weight[out])
            np.testing.assert_allclose(weighted.choice.scores[row, fold], -theirs, rtol=1e-3)
    twice = learner.fit({}, KEY, IRIS, Rows(np.append(ids, ids), np.append(weight, weight) / 2))
    jax.tree.map(np.testing.assert_array_equal, twice.params, weighted.params)


def test_outer_axes_are_passed_on_to_the_tuned_learner():
    """A constant a·b: the inner folds choose b for each a of the outer axis."""
    learner = Learner(
        fit=lambda hyper, key, examples, rows: jnp.asarray(hyper["a"] * hyper["b"]),
        predict=lambda params, inputs: jnp.broadcast_to(params, len(inputs)),
    )
    choices = []
    learner = selection.tuned(learner, {"b": [0.0, 0.5, 1.0]}, inner_of_values, negative_error, observe=choices.append)
    examples = {"inputs": INPUTS, "targets": np.ones(150, np.float32)}
    scores = cross_validate(learner, {"a": [1.0, 2.0], "unread": [5, 6, 7]}, KEY, examples, FOLDS, negative_error)
    np.testing.assert_array_equal(scores, np.zeros((2, 3, 3)))
    assert [choice.setting["b"] for choice in choices] == [1.0] * 9 + [0.5] * 9
    assert [choice.setting["unread"] for choice in choices[::3]] == [5, 6, 7] * 2


# ── Comparisons ─────────────────────────────────────────────────────────────────────────────────────────────────────

POOL = {
    "most frequent": Candidate(learners.most_frequent(3), {}),
    "neighbours": Candidate(PEERS["neighbours"][0], {"k": [1, 4, 15]}),
    "svm": Candidate(learners.svm(3), {"c": [1.0, 10.0], "gamma": [0.1]}),
    "rough svm": Candidate(learners.svm(3), {"c": [0.001], "gamma": [100.0]}),
}


@pytest.mark.slow
def test_a_comparison_ranks_the_learners_and_names_ties():
    events = []
    comparison = selection.compare(POOL, KEY, IRIS, FOLDS, accuracy, observe=lambda *event: events.append(event))
    assert [name for name, choice in events if choice is None] == list(POOL)
    assert [choice for _, choice in events if choice] == list(comparison.choices.values())
    means = {name: choice.by_fold.mean() for name, choice in comparison.choices.items()}
    assert comparison.ranking == sorted(means, key=lambda name: -round(means[name], 9))
    assert set(comparison.ranking[:2]) == {"neighbours", "svm"}
    assert comparison.ties == comparison.ranking[1:2]
    scores = comparison.choices["svm"].by_fold - comparison.choices["most frequent"].by_fold
    half = 4.3027 * np.sqrt((1 / 3 + 1 / 2) * scores.var(ddof=1))  # Student's t at 97.5% for 3 folds, printed table
    mean, low, high, count = comparison.difference("svm", "most frequent")
    np.testing.assert_allclose([mean, low, high], scores.mean() + np.array([0, -half, half]), rtol=1e-4)
    assert count == 3
    assert comparison.difference("most frequent", "svm").mean == -mean


@pytest.mark.slow
def test_a_comparison_makes_the_same_choices_as_choose():
    comparison = selection.compare(POOL, KEY, IRIS, FOLDS, accuracy)
    for name, (learner, axes, _) in POOL.items():
        alone = choose(learner, axes, KEY, IRIS, FOLDS, accuracy)
        np.testing.assert_array_equal(comparison.choices[name].scores, alone.scores)
        assert comparison.choices[name].index == alone.index


def test_equal_learners_tie_in_the_order_of_the_pool():
    by = {"a": [0.1, 0.2, 0.3], "b": [0.3, 0.2, 0.1], "c": [0.1, 0.1, 0.1]}
    comparison = selection.Comparison({name: Choice({}, np.array(scores), (), 3.0) for name, scores in by.items()})
    assert comparison.ranking == ["a", "b", "c"]
    assert comparison.ties == ["b", "c"]


def test_a_choice_names_the_settings_that_are_tied_with_it():
    scores = np.array([[0.90, 0.91, 0.92], [0.91, 0.90, 0.90], [0.50, 0.51, 0.52], [np.nan, 0.9, 0.9]])
    choice = Choice({"k": np.arange(4)}, scores, selection.best(scores), 3.0)
    assert choice.tied.tolist() == [True, True, False, False]
    one_fold = scores[:, :1]
    choice = Choice({"k": np.arange(4)}, one_fold, selection.best(one_fold), 2.0)
    assert choice.tied.tolist() == [True, True, True, False]


def test_with_one_fold_everything_ties():
    comparison = selection.Comparison(
        {"a": made([0.5, 0.4], k=[1, 2]), "b": made([0.9], k=[1]), "c": made([0.1], k=[1])}
    )
    assert comparison.ranking == ["b", "a", "c"]
    assert comparison.ties == ["a", "c"]


@pytest.mark.slow
def test_scores_of_tuned_learners_are_not_optimistic():
    """On labels that are noise the best of many settings seems better than it is; nested scores do not."""
    draw = np.random.default_rng(0)
    examples = {
        "inputs": draw.normal(size=(90, 5)).astype(np.float32),
        "targets": draw.integers(0, 2, 90).astype(np.int32),
    }
    learner, axes = learners.nearest_neighbors(2, 30), {"k": np.arange(1, 31)}
    pool = {
        "chosen": Candidate(learner, axes),
        "tuned": Candidate(selection.tuned(learner, axes, inner, accuracy), {}),
    }
    gaps = []
    for seed in range(3):
        folds = validation.folds(np.arange(90), 3, seed, examples["targets"])
        gaps.append(selection.compare(pool, KEY, examples, folds, accuracy).difference("chosen", "tuned").mean)
    assert np.mean(gaps) > 0.02


# ── Mistakes ────────────────────────────────────────────────────────────────────────────────────────────────────────

NAN = np.full((2, 3), np.nan)
MISTAKES = {
    "no finite score": (lambda: selection.best(NAN), "every setting has scores that are not finite"),
    "complexities": (
        lambda: simplest([1.0])(np.zeros((2, 3))),
        r"complexity of shape \(1,\) for settings \(2,\): give each a number",
    ),
    "a complexity of NaN": (lambda: simplest([1.0, np.nan])(np.zeros((2, 3))), "give each a number"),
    "no standard error": (lambda: simplest([1.0])(np.zeros((1, 1))), "one fold has no standard error"),
    "empty pool": (lambda: selection.compare({}, KEY, IRIS, FOLDS, accuracy), "an empty pool"),
    "unknown name": (
        lambda: selection.Comparison({"svm": made([0.5], k=[1])}).difference("svm", "svn"),
        "unknown learner 'svn': did you mean 'svm'",
    ),
    "tuned twice": (
        lambda: cross_validate(
            selection.tuned(ridge(), {"ridge": ALPHA}, inner_of_values, negative_error),
            {"ridge": [1.0]}, KEY, IRIS, FOLDS, negative_error,
        ),
        "ridge is tuned inside: leave it out of the outer axes",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("call", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_errors_are_one_line(call, message):
    with refused_in_one_line(message):
        call()
