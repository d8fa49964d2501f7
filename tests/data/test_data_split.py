"""Splits are disjoint, complete, repeatable and stratified; standardisation uses the training rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mllab.data.scaling import standardise
from mllab.data.split import sample, shuffled, stratified, stratified_order, with_own_test_rows
from mllab.errors import UserError

FRACTIONS = st.sampled_from([(0.6, 0.2, 0.2), (5 / 6, 1 / 6, 0.0), (0.5, 0.25, 0.25), (0.8, 0.1, 0.1)])


def parts_of(split):
    return {"train": split.train, "validation": split.validation, "test": split.test}


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(3, 60), min_size=1, max_size=6),
    fractions=FRACTIONS,
    seed=st.integers(0, 9),
    data_seed=st.integers(0, 9),
)
def test_a_stratified_split_takes_its_fractions_of_every_class(counts, fractions, seed, data_seed):
    classes = np.repeat(np.arange(len(counts)) * 2, counts)  # class numbers may have gaps
    targets = np.random.default_rng(data_seed).permutation(classes)
    split = stratified(targets, seed, fractions)
    parts = parts_of(split)
    ids = np.concatenate(list(parts.values()))
    assert sorted(ids.tolist()) == list(range(len(targets)))
    for name, part in parts_of(stratified(targets, seed, fractions)).items():
        np.testing.assert_array_equal(part, parts[name])
        assert part.dtype == np.int32
        assert np.all(np.diff(part) > 0)
    for name, fraction, slack in zip(parts, fractions, (2, 1, 1), strict=True):
        for label, count in enumerate(counts):
            taken = np.count_nonzero(targets[parts[name]] == label * 2)
            assert abs(taken - fraction * count) < slack, (name, label)
            assert taken >= 1 or fraction == 0
    if min(counts) * min(f for f in fractions if f) >= 1:
        assert [len(part) for part in parts.values()][1:] == [
            round(sum(count * fraction for count in counts)) for fraction in fractions[1:]
        ]


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(3, 200), seed=st.integers(0, 9))
def test_a_shuffled_split_takes_its_fractions(rows, seed):
    parts = parts_of(shuffled(rows, seed))
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(rows))
    assert all(len(part) for part in parts.values())
    assert abs(len(parts["test"]) - rows / 5) < 1


def test_seeds_differ_and_rows_are_mixed():
    targets = np.arange(300) % 3
    first, second = stratified(targets, 0), stratified(targets, 1)
    assert not np.array_equal(first.test, second.test)
    assert first.test.min() < 30  # spread over the whole file
    assert first.test.max() > 270
    assert abs(np.mean(shuffled(1000, 0).test) - 500) < 60


def test_too_few_rows_are_refused():
    with pytest.raises(UserError, match=r"class 'cat' has too few rows \(2\): expected 3 or more"):
        stratified(np.array([0, 0, 0, 1, 1]), 0, classes=("dog", "cat"))
    with pytest.raises(UserError, match=r"class '7' has too few rows \(1\)"):
        stratified(np.array([0, 0, 0, 7]), 0)
    with pytest.raises(UserError, match=r"^too few rows \(2\): expected 3 or more"):
        shuffled(2, 0)


def test_a_sets_own_test_rows_are_kept_and_a_sixth_of_the_others_validates():
    targets = np.arange(48) % 3
    split = with_own_test_rows(targets, 36, seed=4)
    np.testing.assert_array_equal(split.test, np.arange(36, 48))
    np.testing.assert_array_equal(np.sort(np.r_[split.train, split.validation]), np.arange(36))
    assert np.bincount(targets[split.validation]).tolist() == [2, 2, 2]
    assert not np.array_equal(with_own_test_rows(targets, 36, seed=5).validation, split.validation)


def test_samples_are_stratified_and_nested():
    targets, ids = np.arange(400) % 4, np.arange(100, 300)
    small, large = (sample(ids, targets, share, seed=3) for share in (0.1, 0.5))
    assert np.bincount(targets[small]).tolist() == [5] * 4
    assert np.bincount(targets[large]).tolist() == [25] * 4
    assert set(small) < set(large) < set(ids)
    np.testing.assert_array_equal(sample(ids, targets, 1.0, seed=3), ids)
    assert np.bincount(targets[sample(ids, targets, 1e-6, seed=3)]).tolist() == [1] * 4


@given(st.data())
def test_every_beginning_of_a_stratified_order_is_stratified_and_has_every_class(data):
    sizes = data.draw(st.lists(st.integers(1, 40), min_size=2, max_size=6))
    targets = np.random.default_rng(data.draw(st.integers(0, 9))).permutation(np.repeat(np.arange(len(sizes)), sizes))
    order = stratified_order(targets, data.draw(st.integers(0, 99)))
    assert sorted(order.tolist()) == list(range(len(targets)))
    count = data.draw(st.integers(len(sizes), sum(sizes)))
    taken = np.bincount(targets[order[:count]], minlength=len(sizes))
    assert (taken >= 1).all()
    exact = count * np.array(sizes) / sum(sizes)
    assert (taken - exact < 1.5).all()  # the one row of each small class comes off the others


@pytest.mark.parametrize("size", [1e-200, 1e-3, 1.0, 1e5, 1e200])
def test_standardise_by_training_rows(size):
    values = np.random.default_rng(0).normal(3.0, 2.0, (50, 2)) * size
    train = np.arange(0, 50, 2)
    columns, mean, scale = standardise(values, train)
    assert columns.dtype == np.float32
    np.testing.assert_allclose(columns[train].mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(columns[train].std(axis=0), 1, rtol=1e-5)
    np.testing.assert_allclose(columns * scale + mean, values, rtol=1e-5, atol=1e-6 * size)
