"""Blocks of rows hold every row once, within their limit; the sampled median is a robust entry of its column."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mllab import row_blocks


@given(count=st.integers(1, 10_000), limit=st.integers(0, 12_000))
def test_blocks_are_within_the_limit_as_few_as_possible_and_even(count, limit):
    size = row_blocks.even_size(count, limit)
    assert 1 <= size <= max(1, limit)
    number = -(-count // size)
    assert number == -(-count // max(1, limit))
    assert number * size - count < number  # less than one row of padding per block


@pytest.mark.parametrize("size", [1, 4, 7, 20])
def test_a_function_of_rows_is_the_same_in_blocks(size):
    rows = jnp.arange(21.0).reshape(7, 3)
    split = row_blocks.split_rows(rows, size)
    assert split.shape == (-(-7 // size), size, 3)
    np.testing.assert_array_equal(split.reshape(-1, 3)[:7], rows)
    assert not split.reshape(-1, 3)[7:].any()
    outputs = jax.jit(lambda rows: row_blocks.map_rows(lambda block: block[:, :2] ** 2, rows, size))(rows)
    np.testing.assert_array_equal(outputs, rows[:, :2] ** 2)


@pytest.mark.parametrize("rows", [1, 14, 15, 100])
def test_the_sampled_median_is_an_entry_near_the_median_that_outliers_do_not_move(rows):
    points = np.random.default_rng(0).permutation(rows)[:, None].astype(np.float32) + np.float32([[0, 1000]])
    median = np.asarray(row_blocks.sampled_median(points))
    assert all(value in column for value, column in zip(median, points.T, strict=True))
    assert abs(median[0] - np.median(points[:, 0])) <= 0.35 * rows
    if rows > 15:
        points[::5] += 1e9
        assert abs(np.asarray(row_blocks.sampled_median(points))[0]) <= rows


def test_the_sampled_median_ignores_absent_rows():
    present = np.arange(60) % 4 == 1
    points = np.where(present, np.arange(60.0), 1e9)[:, None].astype(np.float32)
    assert float(row_blocks.sampled_median(points, jnp.asarray(present))[0]) in np.arange(60)[present]
    everywhere = row_blocks.sampled_median(points, jnp.ones(60, bool))
    np.testing.assert_array_equal(everywhere, row_blocks.sampled_median(points))
