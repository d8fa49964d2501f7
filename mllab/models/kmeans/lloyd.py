r"""Lloyd's algorithm for many restarts at once, on points in blocks: the array functions behind `kmeans`.

Squared distances come from one product of a block of points with the centres of all restarts, as scores
$\lVert c \rVert^2 - 2 c^\top x$; the norm of x is left out, since it does not change the order. Points are centred
first: the rounding of the product is relative to the norms, not to the distances.

Axis letters: S restarts (times the values of k in a sweep), K centres of each, B points of a block. Where the points
are split over devices, `axis` names the mapped axis, and each function sees the part of one device.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from mllab.row_blocks import even_size, split_rows
from mllab.types import Array

BLOCK_BYTES = 128 * 2**20  # limit for a block of points and its scores
CACHE_BYTES = 2**20  # target for the same: the sums then read points that are still in cache
MIN_BLOCK_ROWS = 128  # points of a block, within `BLOCK_BYTES`: a thinner product is slow
RESOLUTION = 16  # squared distances below this many roundings of a squared norm count as 0


Sums = tuple[Array, Array, Array, Array]  # of a step: points, weights, greatest distance and its point


class Blocks(NamedTuple):
    """The points of one device in blocks; padding has weight 0."""

    rows: Array  # [blocks, B, D] less the origin
    weight: Array  # [blocks, B]
    norms: Array  # [blocks, B] squared


def in_blocks(points: Array, weight: Array, origin: Array, numbers: int, block_rows: int | None = None) -> Blocks:
    """Return points [N, D] less the origin [D] in equal blocks.

    Args:
        points: [N, D].
        weight: [N].
        origin: [D].
        numbers: how many numbers a block's work takes for each point: the centres of all restarts.
        block_rows: the most points of a block (default: what fits the cache).
    """
    count, features = points.shape
    if block_rows is None:
        size = points.dtype.itemsize * (features + 2 * numbers)
        block_rows = min(max(CACHE_BYTES // size, MIN_BLOCK_ROWS), BLOCK_BYTES // size)
    size = even_size(count, block_rows)
    rows = split_rows(points - origin[None], size)
    return Blocks(rows, split_rows(weight, size), jnp.sum(rows**2, axis=2))


def across(value: Array, axis: str | None) -> Array:
    """Return the sum over all devices."""
    return value if axis is None else jax.lax.psum(value, axis)


def present(centres: Array, ks: Array) -> Array:
    """Return which of the centres [S, K, D] are in use, [S, K]: the first k [S]."""
    return jnp.arange(centres.shape[1])[None] < ks[:, None]


def scores(rows: Array, centres: Array, used: Array) -> Array:
    """Return squared distances less the squared norms of the points, [S, K, B]; infinite for unused centres."""
    norms = jnp.where(used, jnp.sum(centres**2, axis=2), jnp.inf)
    product = jnp.matmul(centres.reshape(-1, rows.shape[1]), rows.T, precision="highest")
    return norms[..., None] - 2 * product.reshape(*used.shape, len(rows))


def least(scores: Array) -> tuple[Array, Array]:
    """Return the label of the least score [S, K, B], the first of equal ones, and that score, both [S, B].

    Two minima, since both are vectorised on a CPU and an argmin is not.
    """
    value = jnp.min(scores, axis=1, keepdims=True)
    rank = jnp.arange(scores.shape[1], dtype=jnp.int32)[None, :, None]
    return jnp.min(jnp.where(scores == value, rank, scores.shape[1]), axis=1), value[:, 0]


def run(
    points: Blocks, centres: Array, ks: Array, least_move: Array, steps: int, axis: str | None = None
) -> tuple[Array, Array]:
    """Return the final centres [S, K, D] and the steps that each restart took, [S].

    A restart has converged when the squared moves of its centres sum to `least_move` or less. The others are gathered
    in a series of loops, each half as wide, so that one slow restart does not cost as much as all of them.
    """
    moving, taken = jnp.full(len(centres), steps > 0), jnp.zeros(len(centres), jnp.int32)
    width = len(centres)
    while width:
        lanes = jnp.argsort(~moving, stable=True)[:width]

        def going(state: tuple[Array, Array, Array], fewer: int = width // 2) -> Array:
            return jnp.sum(state[1]) > fewer

        def advance(state: tuple[Array, Array, Array], ks: Array = ks[lanes]) -> tuple[Array, Array, Array]:
            centres, moving, taken = state
            moved = jnp.where(moving[:, None, None], move(points, centres, ks, axis), centres)
            taken = taken + moving
            shift = jnp.sum((moved - centres) ** 2, axis=(1, 2))
            return moved, moving & (shift > least_move) & (taken < steps), taken

        state = jax.lax.while_loop(going, advance, (centres[lanes], moving[lanes], taken[lanes]))
        centres, moving, taken = (
            centres.at[lanes].set(state[0]),
            moving.at[lanes].set(state[1]),
            taken.at[lanes].set(state[2]),
        )
        width //= 2
    return centres, taken


def move(points: Blocks, centres: Array, ks: Array, axis: str | None = None) -> Array:
    """Return the centres [S, K, D] after one step.

    The first empty cluster of each restart moves to the point farthest from its nearest centre; the others stay.
    """
    lanes, limit, features = centres.shape
    used = present(centres, ks)

    def add(sums: Sums, block: tuple[Blocks, Array]) -> tuple[Sums, None]:
        total, mass, farthest, place = sums
        (rows, weight, norms), number = block
        labels, score = least(scores(rows, centres, used))
        cluster = labels + limit * jnp.arange(lanes, dtype=jnp.int32)[:, None]
        weighted = rows * weight[:, None]
        total = jax.lax.fori_loop(0, lanes, lambda s, t: t.at[cluster[s]].add(weighted), total)
        mass = mass.at[cluster.reshape(-1)].add(jnp.tile(weight, lanes))
        distance = norms[None] + score
        resolved = distance > RESOLUTION * jnp.finfo(rows.dtype).eps * norms[None]
        distance = jnp.where(resolved & (weight[None] > 0), distance, 0)
        greatest = jnp.max(distance, axis=1)
        here = jnp.argmax(distance, axis=1).astype(place.dtype)
        place = jnp.where(greatest > farthest, number * len(rows) + here, place)
        return (total, mass, jnp.maximum(farthest, greatest), place), None

    total = jnp.zeros((lanes * limit, features), centres.dtype)
    start = total, total[:, 0], jnp.zeros(lanes, centres.dtype), jnp.zeros(lanes, jnp.int32)
    numbers = jnp.arange(len(points.rows), dtype=jnp.int32)
    (total, mass, farthest, place), _ = jax.lax.scan(add, start, (points, numbers))
    total, mass = across(total, axis).reshape(centres.shape), across(mass, axis).reshape(used.shape)
    far = points.rows.reshape(-1, features)[place]  # [S, D]
    if axis is not None:
        distances, rows = jax.lax.all_gather((farthest, far), axis)  # [devices, S], [devices, S, D]
        farthest, far = jnp.max(distances, axis=0), rows[jnp.argmax(distances, axis=0), jnp.arange(lanes)]

    filled = mass > 0
    empty = used & ~filled
    first = empty & (jnp.cumsum(empty, axis=1) == 1) & (farthest > 0)[:, None]
    mean = total / jnp.where(filled, mass, 1)[..., None]
    return jnp.where(first[..., None], far[:, None], jnp.where(filled[..., None], mean, centres))


def nearest(points: Blocks, centres: Array, ks: Array) -> tuple[Array, Array]:
    """Return labels and squared distances of all rows, padding included, [S, blocks * B] each.

    The distances to the nearest centres are summed directly, so that they are free of the product's rounding.
    """
    used = present(centres, ks)

    def near(block: Blocks) -> tuple[Array, Array]:
        labels, _ = least(scores(block.rows, centres, used))
        squared = jax.lax.map(lambda lane: jnp.sum((block.rows - lane[0][lane[1]]) ** 2, axis=1), (centres, labels))
        return labels, squared

    by_block = jax.lax.map(near, points)
    return jax.tree.map(lambda each: jnp.moveaxis(each, 0, 1).reshape(len(centres), -1), by_block)
