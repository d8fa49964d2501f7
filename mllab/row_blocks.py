"""Blocks of rows small enough for the cache or for a memory budget, and the sampled median."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mllab.types import Array

MEDIAN_ROWS = 15  # rows whose median centres the points


def even_size(count: int, limit: int) -> int:
    """Return the rows of a block: `count` rows in as few blocks of at most `limit` as possible, evenly filled."""
    blocks = -(-count // max(1, limit))
    return -(-count // blocks)


def divisor(count: int, limit: int) -> int:
    """Return the greatest divisor of `count` up to `limit`: with groups of one size, one program is compiled."""
    return max(size for size in range(1, min(count, max(1, limit)) + 1) if count % size == 0)


def split_rows(rows: Array, size: int) -> Array:
    """Return rows [N, ...] as blocks [N / size, size, ...], the last one padded with zeros."""
    padded = jnp.pad(rows, ((0, -len(rows) % size), *((0, 0) for _ in rows.shape[1:])))
    return padded.reshape(-1, size, *rows.shape[1:])


def map_rows(function: Callable[[Array], Array], rows: Array, size: int) -> Array:
    """Return `function(rows)` computed on blocks of `size` rows; `function` treats each row independently."""
    outputs = jax.lax.map(function, split_rows(rows, size))
    return outputs.reshape(-1, *outputs.shape[2:])[: len(rows)]


def sampled_median(points: Array, present: Array | None = None) -> Array:
    """Return the median [D] of each column over `MEDIAN_ROWS` evenly spaced rows, the first and the last included.

    Unlike the mean, it is not moved by a few distant rows. It is an entry of its column, so that integers centred by it
    stay integers, whose products are exact.

    Args:
        points: [N, D].
        present: rows to choose from, [N]; all by default.
    """
    if present is None:
        ids = jnp.linspace(0, len(points) - 1, MEDIAN_ROWS).astype(int)
    else:
        place = jnp.cumsum(present)
        ids = jnp.searchsorted(place, 1 + jnp.arange(MEDIAN_ROWS) * (place[-1] - 1) // (MEDIAN_ROWS - 1))
    return jnp.sort(points[ids], axis=0)[MEDIAN_ROWS // 2]
