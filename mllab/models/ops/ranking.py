"""Exact selection of the least values of wide rows: by blocks, since a minimum is fast and a wide `top_k` is slow."""

import math

import jax
import jax.numpy as jnp

from mllab.types import Array


def block_width(size: int, count: int) -> int:
    """Return the width of the blocks of a row of `size` values, a power of two near the square root of size / count."""
    return 2 ** max(4, min(7, round(math.log2(max(1, size / count)) / 2)))


def least(values: Array, count: int, width: int) -> Array:
    """Return the ids [count] of the least values [N], the first of equal ones; N is a multiple of `width`.

    The `count` blocks of least minimum are selected first, then the least values within them. This is exact: every
    block ranked ahead of a value's own (by minimum, then by place) holds a value ahead of it (less, or equal and
    earlier), so a value outside the selected blocks has `count` values ahead of it.
    """
    blocks = values.reshape(-1, width)
    if len(blocks) <= count:
        return jax.lax.top_k(-values, count)[1]
    chosen = jnp.sort(jax.lax.top_k(-jnp.min(blocks, axis=1), count)[1])  # sorted, so that places follow ids
    place = jax.lax.top_k(-blocks[chosen].reshape(-1), count)[1]
    return chosen[place // width] * width + place % width


def greatest(values: Array, count: int) -> tuple[Array, Array]:
    """Return the greatest values of rows [N, V], in descending order, and their ids, [N, count] each.

    Of equal values the first comes first. Rows with fewer than `count` values are filled up with minus infinity.
    """
    size = values.shape[1]
    width = block_width(size, count)
    total = -(-max(size, count) // width) * width
    values = jnp.pad(values, ((0, 0), (0, total - size)), constant_values=-jnp.inf)
    ids = jax.vmap(lambda row: least(-row, count, width))(values)
    return jnp.take_along_axis(values, ids, axis=1), ids
