"""Greedy k-means++ for many restarts at once, on points in blocks: the start of `kmeans`.

Axis letters: S restarts, T candidates for one centre, B points of a block; see `mllab.models.kmeans.lloyd`.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from mllab.models.kmeans.lloyd import Blocks, across, scores
from mllab.types import Array, Key

MASS = 2**30  # the sum of the integers that stand in for the probabilities of a draw


def seed(keys: Key, points: Blocks, count: int, axis: str | None = None) -> Array:
    """Return starts [S, K, D], one for each key [S]; all share each product with the points.

    Distances to the chosen candidate are computed twice, to choose it and to update the nearest distances: storing
    those of all candidates would take T numbers for each point and restart instead of one.
    """
    lanes, trials = len(keys), 2 + int(math.log(count))
    folded = jax.vmap(jax.random.fold_in, (0, None))

    def each_block(function: Callable, carry: Any, closest: Array, candidates: Array) -> tuple[Any, Any]:
        """Scan `function(carry, closest [S, B], squared distances [S, T, B], weight [B])` over the blocks."""
        used = jnp.ones(candidates.shape[:2], bool)

        def one(carry: Any, block: tuple[Blocks, Array]) -> tuple[Any, Any]:
            (rows, weight, norms), closest = block
            return function(carry, closest, jnp.maximum(norms[None, None] + scores(rows, candidates, used), 0), weight)

        return jax.lax.scan(one, carry, (points, closest))

    def nearer(carry: None, closest: Array, squared: Array, weight: Array) -> tuple[None, Array]:
        return carry, jnp.minimum(closest, squared[:, 0])

    def inertia(carry: Array, closest: Array, squared: Array, weight: Array) -> tuple[Array, None]:
        return carry + jnp.sum(jnp.minimum(closest[:, None], squared) * weight[None, None], axis=2), None

    def choose(i: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        centres, closest = state
        mass = jnp.moveaxis(closest * points.weight[:, None], 1, 0).reshape(lanes, -1)
        candidates = draw(folded(keys, i), mass, trials, points, axis)
        left, _ = each_block(inertia, jnp.zeros((lanes, trials), mass.dtype), closest, candidates)
        best = candidates[jnp.arange(lanes), jnp.argmin(across(left, axis), axis=1)]
        _, closest = each_block(nearer, None, closest, best[:, None])
        return centres.at[:, i].set(best), closest

    blocks, size, features = points.rows.shape
    mass = jnp.tile(points.weight.reshape(1, -1), (lanes, 1))
    first = draw(folded(keys, 0), mass, 1, points, axis)
    _, closest = each_block(nearer, None, jnp.full((blocks, lanes, size), jnp.inf, mass.dtype), first)
    centres = jnp.zeros((lanes, count, features), mass.dtype).at[:, 0].set(first[:, 0])
    return jax.lax.fori_loop(1, count, choose, (centres, closest))[0]


def draw(keys: Key, mass: Array, count: int, points: Blocks, axis: str | None = None) -> Array:
    """Return rows [S, count, D], drawn with probabilities proportional to mass [S, blocks * B].

    Masses are rounded to integers, whose sums are exact, so that no row of mass 0 is ever drawn.
    """
    total = across(jnp.sum(mass, axis=1, keepdims=True), axis)
    whole = (mass * (MASS / jnp.where(total > 0, total, 1))).astype(jnp.int32)
    whole = jnp.where(total > 0, whole, points.weight.reshape(1, -1) > 0)  # every point is a centre: uniform
    if axis is not None:
        whole = jax.lax.all_gather(whole, axis, axis=1, tiled=True)
    upto = jnp.cumsum(whole, axis=1)
    drawn = jax.vmap(lambda key, end: jax.random.randint(key, (count,), 0, end))(keys, upto[:, -1])
    place = jax.vmap(partial(jnp.searchsorted, side="right"))(upto, drawn)
    rows = points.rows.reshape(-1, points.rows.shape[2])
    if axis is None:
        return rows[place]
    place -= jax.lax.axis_index(axis) * len(rows)
    local = (place >= 0) & (place < len(rows))
    return jax.lax.psum(jnp.where(local[..., None], rows[jnp.clip(place, 0, len(rows) - 1)], 0), axis)
