"""Folds, cross-validated scores and their interval, against scikit-learn, NumPy and counting."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import GroupKFold, RepeatedStratifiedKFold, StratifiedGroupKFold

from mllab import learners, validation
from mllab.types import Rows
from support.mistakes import refused_in_one_line

KEY = jax.random.key(0)


def parts(made):
    """Ids of each fold, (train, held out), without the padding."""
    return [tuple(rows.ids[k][rows.weight[k] > 0] for rows in made) for k in range(len(made.train.ids))]


@st.composite
def problems(draw):
    """Row ids out of order, classes, groups and a number of folds that both allow."""
    count = draw(st.integers(2, 6))
    rows = draw(st.integers(3 * count, 80))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    ids = rng.permutation(100)[:rows]
    targets, groups = rng.integers(0, draw(st.integers(1, 3)), 100), rng.integers(0, draw(st.integers(count, 90)), 100)
    groups[ids[:count]] = np.arange(count)
    return ids, count, targets, groups


@settings(max_examples=60, deadline=None)
@given(problem=problems(), seed=st.integers(0, 99), rounds=st.integers(1, 3), by=st.sampled_from(["", "t", "g", "tg"]))
def test_every_round_holds_every_row_out_once(problem, seed, rounds, by):
    ids, count, targets, groups = problem
    options = {"targets": targets if "t" in by else None, "groups": groups if "g" in by else None}
    made = parts(validation.folds(ids, count, seed, **options, rounds=rounds))
    assert len(made) == rounds * count
    for begin in range(0, len(made), count):
        held = np.concatenate([out for _, out in made[begin : begin + count]])
        np.testing.assert_array_equal(np.sort(held), np.sort(ids))
    for train, out in made:
        np.testing.assert_array_equal(np.sort(np.concatenate([train, out])), np.sort(ids))
        assert len(out)
        if "g" in by:
            assert not set(groups[train]) & set(groups[out])
        if by == "t":  # to a row in proportion, as StratifiedKFold's are
            for label in np.unique(targets[ids]):
                assert abs((targets[out] == label).sum() - (targets[ids] == label).sum() / count) < 1
        if "g" not in by:
            assert abs(len(out) - len(ids) / count) < 1


@settings(max_examples=40, deadline=None)
@given(problem=problems(), seed=st.integers(0, 99))
def test_folds_of_groups_have_the_sizes_of_scikit_learns(problem, seed):
    ids, count, _, groups = problem
    ours = sorted(len(out) for _, out in parts(validation.folds(ids, count, seed, groups=groups)))
    assert ours == sorted(len(out) for _, out in GroupKFold(count).split(ids, groups=groups[ids]))


def test_classes_in_groups_are_as_evenly_distributed_as_by_scikit_learn():
    rng = np.random.default_rng(0)

    def unevenness(targets, folds):
        shares = np.array([np.bincount(targets[out], minlength=3) for out in folds]) / np.bincount(targets)
        return np.std(shares, axis=0).mean()

    ours, theirs, blind = [], [], []
    for seed in range(20):
        groups = rng.integers(0, 40, 300)
        targets = (groups + rng.integers(0, 2, 300)) % 3  # a group has two of the three classes
        peer = StratifiedGroupKFold(5, shuffle=True, random_state=seed).split(targets, targets, groups)
        theirs.append(unevenness(targets, [out for _, out in peer]))
        for unevennesses, labels in ((ours, targets), (blind, None)):
            made = parts(validation.folds(np.arange(300), 5, seed, labels, groups))
            unevennesses.append(unevenness(targets, [out for _, out in made]))
    assert np.mean(ours) < 1.1 * np.mean(theirs)
    assert np.mean(ours) < 0.6 * np.mean(blind)


def test_rounds_differ_and_the_first_do_not_depend_on_their_number():
    targets = np.repeat([0, 1, 2], [20, 10, 7])
    made = parts(validation.folds(np.arange(37), 5, 0, targets, rounds=3))
    once = parts(validation.folds(np.arange(37), 5, 0, targets))
    assert len(made) == RepeatedStratifiedKFold(n_splits=5, n_repeats=3).get_n_splits()
    for (train, out), (first_train, first_out) in zip(made, once, strict=False):
        np.testing.assert_array_equal(train, first_train)
        np.testing.assert_array_equal(out, first_out)
    assert len({frozenset(out) for _, out in made}) == 15
    other = parts(validation.folds(np.arange(37), 5, 1, targets))
    assert {frozenset(out) for _, out in other} != {frozenset(out) for _, out in once}


def test_groups_and_classes_may_be_strings():
    groups, targets = np.array(["b", "a", "c", "a", "b", "c"]), np.array(["x", "y", "x", "x", "y", "y"])
    for train, out in parts(validation.folds(np.arange(6), 3, 0, targets, groups)):
        assert len(set(groups[out])) == 1
        assert not set(groups[train]) & set(groups[out])


def test_a_fold_with_one_class_among_its_training_rows_is_scored():
    inputs, targets = np.float32([[0], [1], [2], [10]]), np.array([0, 0, 0, 1])
    made = validation.folds(np.arange(4), 2, 0, groups=np.array([0, 0, 0, 1]))
    learner = learners.nearest_neighbors(2, most=1)
    examples = {"inputs": inputs, "targets": targets}
    scores = validation.cross_validate(learner, {"k": [1]}, KEY, examples, made, validation.accuracy)
    np.testing.assert_array_equal(scores, [[0, 0]])  # the other class is never among the neighbours


@pytest.mark.parametrize(("count", "rounds"), [(2, 1), (5, 1), (10, 3)])
def test_the_interval_over_folds_is_that_of_nadeau_and_bengio(count, rounds):
    scores = np.random.default_rng(0).normal(0.9, 0.02, count * rounds)
    size = len(scores)
    half = {2: 12.7062, 5: 2.7764, 30: 2.0452}[size]  # Student's t at 97.5%, from a printed table
    half *= np.sqrt((1 / size + 1 / (count - 1)) * scores.var(ddof=1))
    mean, low, high, folds = validation.interval(scores, count)
    np.testing.assert_allclose([mean, low, high], scores.mean() + np.array([0, -half, half]), rtol=1e-4)
    assert folds == size


def nearest_mean():
    """The class of the nearest mean, shifted by a hyper; hypers that it does not read are ignored."""

    def fit(hyper, key, examples, rows):
        chosen = jax.tree.map(lambda array: jnp.asarray(array)[rows.ids], examples)
        member = jax.nn.one_hot(chosen["targets"], 3) * jnp.asarray(rows.weight)[:, None]
        means = member.T @ chosen["inputs"] / jnp.sum(member, axis=0)[:, None]
        return means + hyper.get("shift", 0.0)

    def predict(params, inputs):
        return -jnp.sum((inputs[:, None] - params[None]) ** 2, axis=-1)

    return validation.Learner(fit, predict)


def own_output(outputs, targets):
    return jnp.take_along_axis(outputs, targets[:, None], axis=1)[:, 0]


def examples_of(count=40):
    draw = np.random.default_rng(0)
    targets = np.arange(count, dtype=np.int32) % 3
    return {"inputs": (draw.normal(size=(count, 2)) + targets[:, None]).astype(np.float32), "targets": targets}


def by_loops(examples, shift, made, weight=None):
    """Scores of `nearest_mean` by `own_output`, [K], in NumPy."""
    inputs, targets = (np.asarray(examples[name]) for name in ("inputs", "targets"))
    scores = []
    for train, out in parts(made):
        means = np.stack([inputs[train][targets[train] == label].mean(axis=0) for label in range(3)]) + shift
        values = -((inputs[out] - means[targets[out]]) ** 2).sum(axis=1)
        scores.append(np.average(values, weights=None if weight is None else weight[out]))
    return np.array(scores)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 99), shifts=st.lists(st.sampled_from([0.0, 0.5, -1.0]), min_size=3, max_size=3))
def test_scores_equal_a_loop_over_settings_and_folds(seed, shifts):
    examples = examples_of()
    made = validation.folds(np.arange(40), 3, seed, examples["targets"])
    axes = {"unread": [7, 8], "shift": shifts}
    scores = validation.cross_validate(nearest_mean(), axes, KEY, examples, made, own_output)
    assert scores.shape == (2, 3, 3)
    assert scores.dtype == np.float64
    for place, shift in enumerate(shifts):  # duplicates too
        np.testing.assert_allclose(scores[:, place], np.tile(by_loops(examples, shift, made), (2, 1)), rtol=1e-4)
    swapped = validation.cross_validate(nearest_mean(), dict(reversed(axes.items())), KEY, examples, made, own_output)
    np.testing.assert_array_equal(swapped, scores.transpose(1, 0, 2))


def test_without_axes_there_is_one_setting():
    examples, made = examples_of(), validation.folds(np.arange(40), 4, 0)
    scores = validation.cross_validate(nearest_mean(), {}, KEY, examples, made, own_output)
    np.testing.assert_allclose(scores, by_loops(examples, 0.0, made), rtol=1e-5)


def test_means_are_weighted_by_the_held_out_rows():
    examples, made = examples_of(), validation.folds(np.arange(40), 3, 0)
    weight = np.random.default_rng(1).uniform(0.1, 2, 40).astype(np.float32)
    held_out = Rows(made.held_out.ids, made.held_out.weight * weight[made.held_out.ids])
    scores = validation.cross_validate(nearest_mean(), {}, KEY, examples, made._replace(held_out=held_out), own_output)
    np.testing.assert_allclose(scores, by_loops(examples, 0.0, made, weight), rtol=1e-5)


def test_equal_numbers_of_correct_rows_give_equal_scores_to_the_bit():
    """In float32 the mean of 1/7 and 6/7 is not that of 3/7 and 4/7."""
    hits = {0: [1, 6], 1: [3, 4]}
    targets = np.array([[place < hits[lane][fold] for fold in range(2) for place in range(7)] for lane in range(2)])

    def grid(axes, key, examples, train, held_out):
        return jnp.asarray(targets)[:, held_out.ids][axes["lane"]]

    made = validation.Folds(
        *(Rows(np.arange(14).reshape(2, 7)[::step], np.ones((2, 7), np.float32)) for step in (-1, 1))
    )
    learner = validation.Learner(None, None, grid)
    examples = {"inputs": np.zeros(14), "targets": np.zeros(14)}
    scores = validation.cross_validate(learner, {"lane": [0, 1]}, KEY, examples, made, lambda outputs, targets: outputs)
    np.testing.assert_array_equal(scores, np.array([hits[0], hits[1]]) / 7)


def test_one_fold_of_explicit_rows():
    train, validation_rows = np.array([5, 3, 9]), np.array([4, 8])
    made = validation.holdout(train, validation_rows)
    ((kept, out),) = parts(made)
    np.testing.assert_array_equal(kept, train)
    np.testing.assert_array_equal(out, validation_rows)
    assert made.per_round == 1 + 3 / 2


@pytest.mark.parametrize(("count", "rounds"), [(2, 1), (3, 2), (7, 3)])
def test_the_number_of_folds_per_round_follows_from_the_rows(count, rounds):
    assert validation.folds(np.arange(23), count, 0, rounds=rounds).per_round == count


def test_nan_outputs_count_as_errors():
    outputs = np.float32([[np.nan, 0, 0], [2, 1, 0], [0, np.nan, 9], [-np.inf, -1, -np.inf], [0, 1, 0], [np.inf, 0, 0]])
    correct = validation.accuracy(outputs, np.array([0, 0, 2, 1, 0, 0]))
    np.testing.assert_array_equal(correct, [0, 1, 0, 1, 0, 1])


IDS = np.arange(6)


def scored(axes=None, score=own_output, made=None):
    made = made or validation.folds(np.arange(40), 2, 0)
    return validation.cross_validate(nearest_mean(), axes or {}, KEY, examples_of(), made, score)


MISTAKES = {
    "one fold": (lambda: validation.folds(IDS, 1, 0), "1 folds of 6 rows: give at least 2 folds"),
    "more folds than rows": (lambda: validation.folds(IDS, 7, 0), "7 folds of 6 rows"),
    "no round": (lambda: validation.folds(IDS, 2, 0, rounds=0), "rounds = 0: expected 1 or more"),
    "a row twice": (lambda: validation.folds(IDS // 2, 2, 0), "the rows have duplicates"),
    "too few groups": (lambda: validation.folds(IDS, 3, 0, groups=IDS // 3), "3 folds of 2 groups: give at most one"),
    "classes too small": (lambda: validation.folds(IDS, 3, 0, IDS // 2 * 2 + IDS % 2), "none of the classes has 3"),
    "too few targets": (lambda: validation.folds(IDS, 2, 0, IDS[:5] * 0), "targets has 5 values, and the rows go up"),
    "groups too few": (lambda: validation.folds(IDS, 2, 0, groups=IDS[:3]), "groups has 3 values, and the rows go up"),
    "no validation rows": (lambda: validation.holdout(IDS, IDS[:0]), "no validation rows"),
    "a row on both sides": (lambda: validation.holdout(IDS, IDS[:1]), "a row appears twice"),
    "an empty axis": (lambda: scored({"shift": []}), r"axis shift = \[\]: give a list of one or more numbers"),
    "a number for an axis": (lambda: scored({"shift": 1.0}), "axis shift = 1.0: give a list"),
    "NaN in an axis": (lambda: scored({"shift": [1.0, np.nan]}), r"axis shift = \[1.0, nan\]"),
    "words in an axis": (lambda: scored({"shift": ["a"]}), "axis shift: text, expected numbers"),
    "a row beyond the examples": (
        lambda: scored(made=validation.folds(np.arange(41), 2, 0)),
        "the folds have rows 0 to 40, and there are 40 examples, 0 to 39",
    ),
    "an empty fold": (
        lambda: scored(made=validation.Folds(*(Rows(np.zeros((1, 2), int), np.zeros((1, 2))),) * 2)),
        "a fold without training rows or without held-out rows",
    ),
    "a score that is a mean": (
        lambda: scored(score=lambda outputs, targets: jnp.mean(outputs)),
        r"a score of shape \(\) for 20 examples: return one number each",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("call", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_errors_are_one_line(call, message):
    with refused_in_one_line(message):
        call()
