r"""K-means: Lloyd's algorithm from greedy k-means++ starts, many restarts and several k in one program.

Centres and labels minimise the inertia, $\omega_i$ the weights of the points:

    $$ J = \sum_i \omega_i \lVert x_i - c_{l_i} \rVert^2, \quad l_i = \arg\min_k \lVert x_i - c_k \rVert^2 $$

A step assigns each point to its nearest centre (the first of equally near ones), then moves each centre to the mean of
its points. Neither increases J. Nor does the treatment of empty clusters: in each step the first of them moves to the
point that is farthest from its own centre, which only adds a choice for every point.

Distances are computed block by block with the centres of all restarts, see `mllab.models.kmeans.lloyd`; the final
inertia is summed directly. Memory: a centred copy of the points, a few numbers for each point and restart, and a block.

Sources: Lloyd, *Least squares quantization in PCM*, IEEE Trans. Information Theory 28 (1982); Arthur and Vassilvitskii,
*k-means++: the advantages of careful seeding*, SODA 2007, for the starts and their greedy variant.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from mllab import checks
from mllab.errors import UserError
from mllab.models.kmeans import lloyd, seeding
from mllab.types import Array, Key, is_concrete


@struct.dataclass
class KMeans:
    """Clusters; those of a sweep have a leading axis [L], one entry for each k."""

    centres: Array  # [K, D]; rows from k on are unused, and 0
    k: Array  # [] int32, the number of clusters
    origin: Array  # [D] subtracted from points and centres before products, against rounding
    labels: Array  # [N] int32, of the points that were fitted
    inertia: Array  # [] of the best restart
    inertias: Array  # [S] of each restart
    steps: Array  # [S] int32, taken by each restart


def _axes(labels: Any, others: Any = None) -> KMeans:
    return KMeans(others, others, others, labels, others, others, others)


# The axis of each field along which the points lie, as `mllab.sweep.over_points` takes it: of a fit, and of a sweep.
POINT_AXES, SWEEP_POINT_AXES = _axes(0), _axes(1)


def fit(
    key: Key,
    points: Array,
    count: Array | int,
    *,
    restarts: int = 10,
    steps: int = 300,
    tolerance: Array | float = 1e-4,
    weight: Array | np.ndarray | None = None,
    start: Array | None = None,
    most: int | None = None,
    axis: str | None = None,
    block_rows: int | None = None,
) -> KMeans:
    """Return the clusters of least inertia among several restarts, all in one program.

    With more clusters than distinct points, some clusters are empty and the inertia is 0.

    Args:
        key: for the starts; restart s begins from `plus_plus(jax.random.split(key, restarts)[s], ...)`.
        points: [N, D].
        count: k, the number of clusters; may be traced if `most` is given.
        restarts: number of starts.
        steps: maximum of steps for a restart.
        tolerance: a restart has converged when the squared moves of its centres sum to at most this fraction of the
            mean variance of the columns (as in scikit-learn).
        weight: of each point, [N], at least 0; 1 by default. Points of weight 0 are ignored.
        start: centres [K, D] to begin from instead, or [S, K, D] for S restarts.
        most: K, an upper bound of k; by default k itself.
        axis: the mapped axis over which the points are split, as by `mllab.sweep.over_points`.
        block_rows: points that are processed at once (default: what fits the cache).

    Raises:
        UserError: shapes that do not match, entries that are not finite, negative weights, or k not in 1..N (without
            points of weight 0), as far as these are concrete. The limit N is not checked where `axis` is given.
    """
    if start is not None:
        start = jnp.asarray(checks.as_numbers(start, "start"))
        points = checks.check_array(points, ("N", "D"), "points")
        if most is None and is_concrete(count) and start.ndim > 1:
            most = start.shape[-2]
        expected = ("K" if most is None else most, jnp.shape(points)[-1])
        checks.check_shape(start, expected if start.ndim < 3 else ("S", *expected), "start")
        checks.check_finite(start, "start")
        start = start[None] if start.ndim == 2 else start
    counts = np.asarray(count)[None] if is_concrete(count) else jnp.asarray(count)[None]
    fits = _run(key, points, counts, restarts, steps, tolerance, weight, start, most, axis, block_rows)
    return jax.tree.map(lambda array: array[0], fits)


def sweep(
    key: Key,
    points: Array,
    counts: Sequence[int] | Array,
    *,
    restarts: int = 10,
    steps: int = 300,
    tolerance: Array | float = 1e-4,
    weight: Array | np.ndarray | None = None,
    most: int | None = None,
    axis: str | None = None,
    block_rows: int | None = None,
) -> KMeans:
    """Return the clusters for each of several k [L], the best of its restarts, in one program.

    Restart s has one start of K centres, of which each k uses the first k. For the other arguments see `fit`.

    Args:
        key: for the starts.
        points: [N, D].
        counts: the values of k, [L]; may be traced if `most` is given.
        restarts: number of starts.
        steps: maximum of steps for a restart.
        tolerance: on the moves of the centres.
        weight: of the points, [N].
        most: K, an upper bound of every k; by default the greatest of `counts`.
        axis: the mapped axis over which the points are split.
        block_rows: points that are processed at once.

    Raises:
        UserError: see `fit`.
    """
    ks = np.asarray(counts) if is_concrete(counts) else jnp.asarray(counts)
    return _run(key, points, ks, restarts, steps, tolerance, weight, None, most, axis, block_rows)


def assign(params: KMeans, points: Array) -> tuple[Array, Array]:
    """Return the nearest centre's label and squared distance for points [M, D], [M] each; of a sweep [L, M].

    Raises:
        UserError: points of another shape, or not finite.
    """
    points = checks.check_array(points, ("M", params.centres.shape[-1]), "points")
    if params.centres.ndim == 3:
        return _assign(points, params.centres, params.k, params.origin[0])
    labels, squared = _assign(points, params.centres[None], params.k[None], params.origin)
    return labels[0], squared[0]


def step(points: Array, centres: Array, weight: Array | np.ndarray | None = None) -> tuple[Array, Array, Array]:
    """Return the next centres [K, D] of Lloyd's algorithm, and labels [N] and inertia [] of the present centres.

    Raises:
        UserError: shapes that do not match, or entries that are not finite.
    """
    points = checks.check_array(points, ("N", "D"), "points")
    centres = checks.check_array(centres, ("K", points.shape[1]), "centres").astype(points.dtype)
    return _step(points, centres, checks.check_weight(weight, len(points), points.dtype))


def plus_plus(key: Key, points: Array, count: int, weight: Array | np.ndarray | None = None) -> Array:
    r"""Return start centres [K, D]: points drawn in proportion to the squared distance to the nearest centre so far.

    Greedy: of $2 + \lfloor \ln K \rfloor$ candidates for each centre, the one that leaves the least inertia is kept.

    Raises:
        UserError: shapes that do not match, entries that are not finite, or more centres than points.
    """
    checks.check_key(key)
    points = checks.check_array(points, ("N", "D"), "points")
    weight = checks.check_weight(weight, len(points), points.dtype)
    checks.check_count("k", count, weight, "points")
    return _plus_plus(key, points, weight, count)


def _run(
    key: Key,
    points: Array,
    counts: Array | np.ndarray,
    restarts: int,
    steps: int,
    tolerance: Array | float,
    weight: Array | np.ndarray | None,
    start: Array | None,
    most: int | None,
    axis: str | None,
    block_rows: int | None,
) -> KMeans:
    """Check the arguments and fit: the common part of `fit` and `sweep`."""
    checks.check_key(key)
    points = checks.check_array(points, ("N", "D"), "points")
    weight = checks.check_weight(weight, len(points), points.dtype)
    checks.check_whole(1, restarts=restarts, **({} if most is None else {"most": most}))
    checks.check_whole(0, steps=steps)
    checks.check_at_least(0, tolerance=tolerance)
    if isinstance(counts, np.ndarray):
        if counts.ndim != 1 or counts.size == 0 or not np.issubdtype(counts.dtype, np.integer):
            raise UserError(f"k = {counts.tolist()}: expected whole numbers")
        for k in counts if axis is None else ():  # with an axis, N is the number of one device's points
            checks.check_count("k", k, weight, "points")
        most = int(np.max(counts)) if most is None else most
        if np.max(counts) > most:
            raise UserError(f"k = {np.max(counts)} is greater than most = {most}: raise most")
    if most is None:
        raise UserError("k is traced: give most, an upper bound of it")
    keys = jax.random.split(key, restarts)
    start = None if start is None else start.astype(points.dtype)
    tolerance = jnp.asarray(tolerance, points.dtype)
    ks = jnp.asarray(counts, jnp.int32)
    fits = _fit(keys, points, weight, ks, start, tolerance, steps, most, axis, block_rows)
    return checks.finite_fit(fits, "rescale the points or the weights", fits.centres, fits.inertias)


@partial(jax.jit, static_argnames=("steps", "most", "axis", "block_rows"))
def _fit(
    keys: Key,
    points: Array,
    weight: Array,
    counts: Array,
    start: Array | None,
    tolerance: Array,
    steps: int,
    most: int,
    axis: str | None,
    block_rows: int | None,
) -> KMeans:
    """Return the best of S restarts for each of `counts` [L], from `start` [S, K, D] or from S keys."""
    restarts = len(keys) if start is None else len(start)
    total, origin = _origin(points, weight, axis)
    blocks = lloyd.in_blocks(points, weight, origin, len(counts) * restarts * most, block_rows)
    start = seeding.seed(keys, blocks, most, axis) if start is None else start - origin[None, None]
    centres, ks = jnp.tile(start, (len(counts), 1, 1)), jnp.repeat(counts, restarts)  # [L S, K, D] and [L S]
    variance = lloyd.across(jnp.sum(blocks.weight * blocks.norms), axis) / total / points.shape[1]
    centres, taken = lloyd.run(blocks, centres, ks, tolerance * variance, steps, axis)

    outside = jnp.where(lloyd.present(centres, ks)[..., None], centres + origin[None, None], 0)
    # Labels and inertia are those of the centres that are returned, which adding the origin has rounded.
    labels, squared = lloyd.nearest(blocks, outside - origin[None, None], ks)
    inertias = lloyd.across(jnp.sum(squared * blocks.weight.reshape(1, -1), axis=1), axis).reshape(-1, restarts)
    best = jnp.arange(len(counts)) * restarts + jnp.argmin(inertias, axis=1)
    origins = jnp.tile(origin, (len(counts), 1))
    return KMeans(
        outside[best],
        counts,
        origins,
        labels[best, : len(points)],
        jnp.min(inertias, axis=1),
        inertias,
        taken.reshape(-1, restarts),
    )


@jax.jit
def _assign(points: Array, centres: Array, ks: Array, origin: Array) -> tuple[Array, Array]:
    blocks = lloyd.in_blocks(points, jnp.ones(len(points), points.dtype), origin, math.prod(centres.shape[:2]))
    labels, squared = lloyd.nearest(blocks, centres - origin[None, None], ks)
    return labels[:, : len(points)], squared[:, : len(points)]


@jax.jit
def _step(points: Array, centres: Array, weight: Array) -> tuple[Array, Array, Array]:
    _, origin = _origin(points, weight, None)
    blocks = lloyd.in_blocks(points, weight, origin, len(centres))
    centred, ks = (centres - origin[None])[None], jnp.asarray([len(centres)])
    labels, squared = lloyd.nearest(blocks, centred, ks)
    moved = lloyd.move(blocks, centred, ks)[0] + origin[None]
    return moved, labels[0, : len(points)], jnp.sum(squared[0] * blocks.weight.reshape(-1))


@partial(jax.jit, static_argnames="count")
def _plus_plus(key: Key, points: Array, weight: Array, count: int) -> Array:
    _, origin = _origin(points, weight, None)
    blocks = lloyd.in_blocks(points, weight, origin, count)
    return seeding.seed(key[None], blocks, count)[0] + origin[None]


def _origin(points: Array, weight: Array, axis: str | None) -> tuple[Array, Array]:
    """Return the sum of the weights, and the mean of the points [D]."""
    total = jnp.maximum(lloyd.across(jnp.sum(weight), axis), jnp.finfo(weight.dtype).tiny)
    return total, lloyd.across(weight @ points, axis) / total
