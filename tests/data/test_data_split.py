"""Splits: disjoint, covering, repeatable, every class in proportion."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mllab.data.scaling import standardise
from mllab.data.split import shuffled, stratified
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
def test_stratified(counts, fractions, seed, data_seed):
    classes = np.repeat(np.arange(len(counts)) * 2, counts)  # class numbers may have gaps
    targets = np.random.default_rng(data_seed).permutation(classes)
    split = stratified(targets, seed, fractions)
    parts = parts_of(split)
    everything = np.concatenate(list(parts.values()))
    assert sorted(everything.tolist()) == list(range(len(targets)))
    for name, part in parts_of(stratified(targets, seed, fractions)).items():
        np.testing.assert_array_equal(part, parts[name])
        assert part.dtype == np.int32
        assert np.all(np.diff(part) > 0)
    for name, fraction, slack in zip(parts, fractions, (2, 1, 1), strict=True):
        for label, count in enumerate(counts):
            found = np.count_nonzero(targets[parts[name]] == label * 2)
            assert abs(found - fraction * count) < slack, (name, label)
            assert found >= 1 or fraction == 0
    if min(counts) * min(f for f in fractions if f) >= 1:
        assert [len(part) for part in parts.values()][1:] == [
            round(sum(count * fraction for count in counts)) for fraction in fractions[1:]
        ]


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(3, 200), seed=st.integers(0, 9))
def test_shuffled(rows, seed):
    parts = parts_of(shuffled(rows, seed))
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(rows))
    assert all(len(part) for part in parts.values())
    assert abs(len(parts["test"]) - rows / 5) < 1


def test_seeds_differ_and_rows_are_mixed():
    targets = np.arange(300) % 3
    first, second = stratified(targets, 0), stratified(targets, 1)
    assert not np.array_equal(first.test, second.test)
    assert first.test.min() < 30  # not one end of the file
    assert first.test.max() > 270
    assert abs(np.mean(shuffled(1000, 0).test) - 500) < 60


def test_too_few():
    with pytest.raises(UserError, match=r"class 'cat' has too few rows \(2\)"):
        stratified(np.array([0, 0, 0, 1, 1]), 0, classes=("dog", "cat"))
    with pytest.raises(UserError, match=r"class '7' has too few rows \(1\)"):
        stratified(np.array([0, 0, 0, 7]), 0)
    with pytest.raises(UserError, match=r"too few rows \(2\)"):
        shuffled(2, 0)


@pytest.mark.parametrize("size", [1e-200, 1e-3, 1.0, 1e5, 1e200])
def test_standardise_by_training_rows(size):
    values = np.random.default_rng(0).normal(3.0, 2.0, (50, 2)) * size
    train = np.arange(0, 50, 2)
    columns, mean, scale = standardise(values, train)
    assert columns.dtype == np.float32
    np.testing.assert_allclose(columns[train].mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(columns[train].std(axis=0), 1, rtol=1e-5)
    np.testing.assert_allclose(columns * scale + mean, values, rtol=1e-5, atol=1e-6 * size)
