"""Folds that are grouped, stratified and repeated, against counting and scikit-learn's; the interval over folds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import GroupKFold, RepeatedStratifiedKFold, StratifiedGroupKFold

from mllab import learners, validation
from mllab.errors import UserError

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
def test_whatever_is_asked_for_each_round_holds_every_row_out_once(problem, seed, rounds, by):
    ids, count, targets, groups = problem
    given_ = {"targets": targets if "t" in by else None, "groups": groups if "g" in by else None}
    made = parts(validation.folds(ids, count, seed, **given_, rounds=rounds))
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
def test_folds_of_groups_are_as_large_as_scikit_learns(problem, seed):
    ids, count, _, groups = problem
    ours = sorted(len(out) for _, out in parts(validation.folds(ids, count, seed, groups=groups)))
    assert ours == sorted(len(out) for _, out in GroupKFold(count).split(ids, groups=groups[ids]))


def test_classes_in_groups_are_spread_as_evenly_as_scikit_learn_spreads_them():
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
        for into, given_ in ((ours, targets), (blind, None)):
            made = parts(validation.folds(np.arange(300), 5, seed, given_, groups))
            into.append(unevenness(targets, [out for _, out in made]))
    assert np.mean(ours) < 1.1 * np.mean(theirs)
    assert np.mean(ours) < 0.6 * np.mean(blind)


def test_rounds_are_dealt_anew_and_begin_alike():
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


def test_groups_and_classes_may_be_named():
    groups, targets = np.array(["b", "a", "c", "a", "b", "c"]), np.array(["x", "y", "x", "x", "y", "y"])
    for train, out in parts(validation.folds(np.arange(6), 3, 0, targets, groups)):
        assert len(set(groups[out])) == 1
        assert not set(groups[train]) & set(groups[out])


def test_a_fold_whose_training_rows_have_one_class_is_scored_like_any_other():
    inputs, targets = np.float32([[0], [1], [2], [10]]), np.array([0, 0, 0, 1])
    made = validation.folds(np.arange(4), 2, 0, groups=np.array([0, 0, 0, 1]))
    learner = learners.nearest_neighbors(2, most=1)
    hit = lambda outputs, targets: (jnp.argmax(outputs, axis=-1) == targets).astype(jnp.float32)  # noqa: E731
    examples = {"inputs": inputs, "targets": targets}
    scores = validation.cross_validate(learner, {"k": jnp.array([1])}, KEY, examples, made, hit)
    np.testing.assert_array_equal(scores, [[0, 0]])  # the other class is never among the neighbours


@pytest.mark.parametrize(("count", "rounds"), [(2, 1), (5, 1), (10, 3)])
def test_an_interval_over_folds_is_nadeaus_and_bengios(count, rounds):
    scores = np.random.default_rng(0).normal(0.9, 0.02, count * rounds)
    size = len(scores)
    half = {2: 12.7062, 5: 2.7764, 30: 2.0452}[size]  # Student's t at 97.5%, from a printed table
    half *= np.sqrt((1 / size + 1 / (count - 1)) * scores.var(ddof=1))
    mean, low, high, told = validation.interval(scores, count)
    np.testing.assert_allclose([mean, low, high], scores.mean() + np.array([0, -half, half]), rtol=1e-4)
    assert told == size


IDS = np.arange(6)
MISTAKES = {
    "one fold": (lambda: validation.folds(IDS, 1, 0), "1 folds of 6 rows: give 2 folds or more"),
    "more folds than rows": (lambda: validation.folds(IDS, 7, 0), "7 folds of 6 rows"),
    "no round": (lambda: validation.folds(IDS, 2, 0, rounds=0), "rounds = 0: deal the rows once or more"),
    "a row twice": (lambda: validation.folds(IDS // 2, 2, 0), "some are given twice"),
    "too few groups": (lambda: validation.folds(IDS, 3, 0, groups=IDS // 3), "3 folds of 2 groups: give no more"),
    "classes too small": (lambda: validation.folds(IDS, 3, 0, IDS // 2 * 2 + IDS % 2), "none of the classes has 3"),
    "too few targets": (lambda: validation.folds(IDS, 2, 0, IDS[:5] * 0), "targets of 5 examples, and row 5 is"),
    "groups too few": (lambda: validation.folds(IDS, 2, 0, groups=IDS[:3]), "groups of 3 examples, and row 5 is"),
}


@pytest.mark.parametrize(("call", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_are_told_in_one_line(call, message):
    with pytest.raises(UserError, match=message):
        call()
