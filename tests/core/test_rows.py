"""Blocks of rows: every row once, in order; padding repeats many rows and counts for nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mllab.errors import UserError
from mllab.rows import blocks


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 50), st.integers(1, 12), st.integers(0, 3))
def test_blocks_hold_each_row_once_in_order_and_padding_wraps_around(rows, size, spare):
    ids = np.random.default_rng(rows).permutation(100)[:rows]
    count = -(-rows // size)
    for made in (blocks(ids, size), blocks(ids, size, count + spare)):
        assert made.ids.shape == made.weight.shape == (len(made.ids), size)
        flat, weight = made.ids.ravel(), made.weight.ravel()
        np.testing.assert_array_equal(flat[:rows], ids)
        np.testing.assert_array_equal(weight, [1] * rows + [0] * (len(flat) - rows))
        for place in range(rows, len(flat)):
            assert flat[place] == ids[place % rows]
    assert len(blocks(ids, size).ids) == count
    assert len(blocks(ids, size, count + spare).ids) == count + spare


def test_no_rows_are_refused():
    with pytest.raises(UserError, match="no rows"):
        blocks(np.array([], np.int32), 4)
