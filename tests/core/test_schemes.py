"""Which rows are held out: random, grouped, forward in time, published."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from sklearn.model_selection import TimeSeriesSplit

from mllab import schemes
from mllab.errors import UserError
from mllab.schemes import Scheme


def sides(folds):
    for k in range(len(folds.train.ids)):
        yield tuple(np.sort(rows.ids[k][rows.weight[k] > 0]) for rows in folds)


def test_forward_folds_of_distinct_times_are_those_of_scikit_learn():
    rows = 60
    times = np.random.default_rng(0).permutation(rows).astype(float)
    order = np.argsort(times)
    expected = list(TimeSeriesSplit(5).split(order))
    for (train, held_out), (first, second) in zip(
        sides(schemes.forward(np.arange(rows), 5, times)), expected, strict=True
    ):
        np.testing.assert_array_equal(train, np.sort(order[first]))
        np.testing.assert_array_equal(held_out, np.sort(order[second]))


@examples(max_examples=60, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 5), st.integers(6, 40), st.booleans(), st.integers(0, 3))
def test_forward_folds_are_forward_in_time_and_of_disjoint_groups(seed, count, spread, grouped, gap):
    draw = np.random.default_rng(seed)
    times = draw.integers(0, spread, 80).astype(float)
    groups = draw.integers(0, 30, 80) if grouped else None
    ids = draw.permutation(80)[:70]
    try:
        folds = schemes.forward(ids, count, times, groups, gap)
    except UserError as error:
        assert "forward in time" in str(error)  # noqa: PT017
        return
    seen = []
    for train, held_out in sides(folds):
        assert times[train].max() + gap < times[held_out].min()
        assert not grouped or not set(groups[train]) & set(groups[held_out])
        seen.extend(held_out)
    assert len(seen) == len(set(seen))
    assert set(seen) <= set(ids)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("timed", [False, True])
def test_test_rows_are_late_and_of_other_groups(grouped, timed):
    draw = np.random.default_rng(1)
    times = draw.normal(size=200) if timed else None
    groups = draw.integers(0, 60, 200) if grouped else None
    choosing, test = Scheme(0, None, groups, times).holdout(np.arange(200), 0.2)
    assert not set(choosing) & set(test)
    assert 30 <= len(test) <= 50
    if timed:
        assert times[choosing].max() < times[test].min()
    if grouped:
        assert not set(groups[choosing]) & set(groups[test])
    if not timed:
        assert len(choosing) + len(test) == 200


def test_published_splits_train_on_all_other_rows():
    folds = schemes.published([np.array([0, 3]), np.array([1])], 5)
    assert [(list(train), list(held)) for train, held in sides(folds)] == [([1, 2, 4], [0, 3]), ([0, 2, 3, 4], [1])]


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: schemes.published([], 5), "no splits"),
        (lambda: schemes.published([np.array([1, 1])], 5), "twice"),
        (lambda: schemes.published([np.array([5])], 5), "split 1"),
        (lambda: schemes.published([np.arange(5)], 5), "all 5 rows"),
        (lambda: schemes.forward(np.arange(9), 5, np.zeros(9)), "1 distinct times"),
        (lambda: Scheme(0, gap=1.0), "without times"),
        (lambda: Scheme(0, times=np.array([0.0, np.nan])), "times"),
        (lambda: Scheme(0, times=np.arange(9.0)).folds(np.arange(9), 3, rounds=2), "would be the same"),
        (lambda: Scheme(0, times=np.arange(9.0), gap=20).folds(np.arange(9), 3), "no training row"),
        (lambda: Scheme(0, times=np.arange(9.0), gap=20).holdout(np.arange(9), 0.2), "the gap is too long"),
    ],
)
def test_mistakes_are_one_line(call, match):
    with pytest.raises(UserError, match=match):
        call()
