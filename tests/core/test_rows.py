"""Schedules and blocks: every row or token once, padding with weight 0; weighted means; windows of a long array."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mllab import rows
from mllab.errors import UserError
from mllab.types import Losses


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 50), st.integers(1, 12), st.integers(0, 3))
def test_blocks_hold_each_row_once_in_order_and_padding_wraps_around(length, size, spare):
    ids = np.random.default_rng(length).permutation(100)[:length]
    count = -(-length // size)
    for made in (rows.blocks(ids, size), rows.blocks(ids, size, count + spare)):
        assert made.ids.shape == made.weight.shape == (len(made.ids), size)
        flat, weight = made.ids.ravel(), made.weight.ravel()
        np.testing.assert_array_equal(flat[:length], ids)
        np.testing.assert_array_equal(weight, [1] * length + [0] * (len(flat) - length))
        for place in range(length, len(flat)):
            assert flat[place] == ids[place % length]
    assert len(rows.blocks(ids, size).ids) == count
    assert len(rows.blocks(ids, size, count + spare).ids) == count + spare


def test_no_rows_are_refused():
    with pytest.raises(UserError, match="no rows"):
        rows.blocks(np.array([], np.int32), 4)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 300), st.integers(1, 9), st.integers(1, 20), st.integers(0, 1000))
def test_streams_cover_every_token_once_and_each_row_is_consecutive(length, batch, window, first):
    made = rows.streams(length, batch, window, first)
    assert made.ids.shape == made.weight.shape
    assert made.ids.shape[1] == batch
    starts = made.ids[made.weight == 1]
    tokens = (starts[:, None] + np.arange(window)).ravel()
    end = first + length
    assert sorted(tokens[tokens < end]) == list(range(first, end))
    np.testing.assert_array_equal(np.diff(made.ids, axis=0), window)
    # Padding is confined to the last step, at most one window per row, and stays inside the sequence.
    assert (made.weight[:-1] == 1).all()
    assert ((made.ids >= first) & (made.ids < end)).all()
    # Row b + 1 begins where the windows of row b end.
    np.testing.assert_array_equal(made.ids[0, 1:] - made.ids[0, :-1], window * made.weight.sum(axis=0)[:-1])


@pytest.mark.parametrize("sizes", [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_streams_of_sizes_that_are_not_positive_are_refused(sizes):
    with pytest.raises(UserError, match=r"expected (1 or more|whole numbers)"):
        rows.streams(*sizes)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=60), st.integers(1, 8), st.integers(1, 6))
def test_buckets_hold_each_sequence_once_in_few_shapes(lengths, batch, count):
    lengths = np.array(lengths)
    made = rows.buckets(lengths, batch, count)
    assert len(made) <= count
    held = np.concatenate([bucket.rows.ids[bucket.rows.weight == 1] for bucket in made])
    np.testing.assert_array_equal(np.sort(held), np.arange(len(lengths)))
    shorter = 0
    for bucket in made:
        ids = bucket.rows.ids
        assert ids.shape[1] == batch
        assert lengths[ids].max() == bucket.length  # padding included
        assert lengths[ids].min() > shorter
        shorter = bucket.length
    padded = sum(bucket.length * int(bucket.rows.weight.sum()) for bucket in made)
    assert padded <= lengths.max() * len(lengths)  # that of one shape for all


def test_buckets_of_uniform_lengths_are_equally_full_and_pad_a_quarter_at_most():
    made = rows.buckets(np.arange(1, 401), 10, count=4)
    assert [(bucket.length, bucket.rows.ids.shape) for bucket in made] == [
        (100, (10, 10)), (200, (10, 10)), (300, (10, 10)), (400, (10, 10)),
    ]  # fmt: skip


@pytest.mark.parametrize("arguments", [([], 1, 1), ([3], 0, 1), ([3], 1, 0)])
def test_buckets_without_sequences_or_sizes_are_refused(arguments):
    with pytest.raises(UserError, match=r"expected (1 or more|whole numbers)"):
        rows.buckets(*arguments)


def test_windows_are_slices_of_each_array_and_read_0_past_the_end():
    text = np.arange(1, 24)
    examples = {"text": text, "vectors": np.stack([text, -text], axis=1), "weight": np.ones(23, bool)}
    ids = np.array([0, 7, 20], np.int32)
    made = rows.windows(examples, ids, 5)
    padded = np.concatenate([text, np.zeros(5, int)])
    for row, first in enumerate(ids):
        np.testing.assert_array_equal(made["text"][row], padded[first : first + 5])
    np.testing.assert_array_equal(made["vectors"], np.stack([made["text"], -made["text"]], axis=-1))
    np.testing.assert_array_equal(made["weight"], made["text"] > 0)


def test_a_mean_over_tokens_weights_tokens_and_rows():
    draw = np.random.default_rng(0)
    values, weights = draw.normal(size=(3, 4)), draw.integers(0, 2, (3, 4)).astype(float)
    row_weight = np.array([1.0, 0.0, 0.5])
    total = count = 0.0
    for row, token in itertools.product(range(3), range(4)):
        total += values[row, token] * weights[row, token] * row_weight[row]
        count += weights[row, token] * row_weight[row]
    losses = Losses(jnp.asarray(values), jnp.asarray(weights))
    np.testing.assert_allclose(rows.mean(losses, row_weight), total / count, rtol=1e-6)
    per_example = jnp.asarray(values[:, 0])
    np.testing.assert_allclose(
        rows.mean(per_example, row_weight), np.average(values[:, 0], weights=row_weight), rtol=1e-6
    )
    assert rows.mean(losses, np.zeros(3)) == 0


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        (jnp.ones((3, 1)), r"of shape \(3, 1\) for \(3,\) examples: return one number per example"),
        (Losses(jnp.ones((3, 4)), jnp.ones(3)), r"of shape \(3, 4\) with weights \(3,\) for \(3,\) examples"),
        (Losses(jnp.ones((4, 3)), jnp.ones((4, 3))), r"of shape \(4, 3\) with weights \(4, 3\) for \(3,\) examples"),
    ],
)
def test_losses_that_do_not_fit_the_rows_are_refused(losses, message):
    with pytest.raises(UserError, match=message):
        rows.mean(losses, np.ones(3))
