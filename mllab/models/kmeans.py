r"""K-means: Lloyd's steps from greedy k-means++ starts, many restarts and several k in one program.

Centres and labels that make the inertia small, $\omega_i$ the weights of the points:

    $$ J = \sum_i \omega_i \lVert x_i - c_{l_i} \rVert^2, \quad l_i = \arg\min_k \lVert x_i - c_k \rVert^2 $$

A step gives each point to its nearest centre (of equally near ones the first), then moves each centre to the mean of
its points. Neither makes J greater. Nor does what becomes of centres without points: in each step the first of them
moves to the point that is farthest from its own centre, which is one choice more for every point.

Distances are reckoned block by block with the centres of all restarts, see `mllab.models.lloyd`; the final inertia is
summed directly. Memory: a centred copy of the points, a few numbers a point and restart, and a block.

Sources: Lloyd, *Least squares quantization in PCM*, IEEE Trans. Information Theory 28 (1982); Arthur and Vassilvitskii,
*k-means++: the advantages of careful seeding*, SODA 2007, which also names the greedy choice.
"""

import math
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mllab.errors import UserError
from mllab.models import lloyd, seeding
from mllab.types import Array, Key, known


@struct.dataclass
class KMeans:
    """Clusters; those of a sweep have a leading axis [L], one entry a k."""

    centres: Array  # [K, D]; rows from k on are unused, and 0
    k: Array  # [] int32, how many clusters there are
    origin: Array  # [D] what points are centred by, for the sake of rounding
    labels: Array  # [N] int32, of the points that were fitted
    inertia: Array  # [] of the best restart
    inertias: Array  # [S] of each restart
    steps: Array  # [S] int32, that each restart took


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
    mesh: Mesh | None = None,
) -> KMeans:
    """Return the clusters of least inertia among several restarts, all in one program.

    More clusters than distinct points leave some clusters without points, and an inertia of 0.

    Args:
        key: of the starts; restart s begins from `plus_plus(jax.random.split(key, restarts)[s], ...)`.
        points: [N, D].
        count: k, the clusters; may be traced where `most` is given.
        restarts: how many starts.
        steps: the most that a restart takes.
        tolerance: a restart ends when the squared moves of its centres sum to no more than this much of the mean
            variance of the columns (as in scikit-learn).
        weight: how much each point counts, [N], at least 0; 1 by default. Points of 0 are as if absent.
        start: centres [K, D] to begin from instead, or [S, K, D] for S restarts.
        most: the greatest k that may come: K, where k is less.
        mesh: devices to spread the points over; one device by default.

    Raises:
        UserError: shapes that do not fit, numbers that are not finite, negative weights, or k not in 1..N (points of
            weight 0 left out), as far as these are known while tracing.
    """
    if start is not None:
        start = jnp.asarray(start)
        most = most or (start.shape[-2] if known(count) and start.ndim > 1 else most)
        if start.ndim not in (2, 3) or start.shape[-2:] != (most, jnp.shape(points)[-1]):
            raise UserError(f"start has shape {list(start.shape)}: give [{most}, {jnp.shape(points)[-1]}] or [S, ...]")
        if known(start) and not _finite(start):
            raise UserError("start holds NaN or an infinity: give finite centres")
        start = start[None] if start.ndim == 2 else start
    swept = _run(key, points, jnp.asarray(count)[None], restarts, steps, tolerance, weight, start, most, mesh)
    return jax.tree.map(lambda array: array[0], swept)


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
    mesh: Mesh | None = None,
) -> KMeans:
    """Return the clusters for each of several k [L], the best of its restarts, in one program.

    Restart s begins for every k from the first k centres of one and the same start.

    Args:
        key: see `fit`, as for all that is not told here.
        points: [N, D].
        counts: k of each, [L]; may be traced where `most` is given.
        restarts: how many starts.
        steps: the most that a restart takes.
        tolerance: on the moves of the centres.
        weight: of the points, [N].
        most: the greatest k that may come, K; by default the greatest of `counts`.
        mesh: devices to spread the points over.

    Raises:
        UserError: see `fit`.
    """
    return _run(key, points, jnp.asarray(counts), restarts, steps, tolerance, weight, None, most, mesh)


def assign(params: KMeans, points: Array) -> tuple[Array, Array]:
    """Return the nearest centre's label and squared distance of points [M, D], [M] each; of a sweep's, [L, M].

    Raises:
        UserError: points of another shape, or not finite.
    """
    points, features = _points(points), params.centres.shape[-1]
    if points.shape[1] != features:
        raise UserError(f"points have {points.shape[1]} columns, the centres {features}: give as many")
    if params.centres.ndim == 3:
        return _assign(points, params.centres, params.k, params.origin[0])
    labels, squared = _assign(points, params.centres[None], params.k[None], params.origin)
    return labels[0], squared[0]


def step(points: Array, centres: Array, weight: Array | np.ndarray | None = None) -> tuple[Array, Array, Array]:
    """Return Lloyd's next centres [K, D], and labels [N] and inertia [] of the centres that were given.

    Raises:
        UserError: shapes that do not fit, or numbers that are not finite.
    """
    points = _points(points)
    centres = jnp.asarray(centres, points.dtype)
    if centres.ndim != 2 or centres.shape[1] != points.shape[1]:
        raise UserError(f"centres have shape {list(centres.shape)}: give [K, {points.shape[1]}]")
    return _step(points, centres, _weight(weight, points))


def plus_plus(key: Key, points: Array, count: int, weight: Array | np.ndarray | None = None) -> Array:
    r"""Return start centres [K, D]: points, each drawn in proportion to the squared distance to its nearest centre.

    Greedy: of $2 + \lfloor \ln K \rfloor$ draws the one is kept that leaves the least inertia.

    Raises:
        UserError: shapes that do not fit, numbers that are not finite, or more centres than points.
    """
    points = _points(points)
    weight = _weight(weight, points)
    _check_counts(np.asarray([count]), weight)
    return _plus_plus(key, points, weight, count)


def _points(points: Array) -> Array:
    if jnp.ndim(points) != 2 or 0 in jnp.shape(points):
        raise UserError(f"points have shape {list(jnp.shape(points))}: give [N, D], one row a point")
    points = jnp.asarray(points, jnp.result_type(points, float))
    if known(points) and not _finite(points):
        row, column = np.argwhere(~np.isfinite(np.asarray(points)))[0]
        raise UserError(f"points: row {row}, column {column} is {points[row, column]}: give finite numbers")
    return points


@jax.jit
def _finite(points: Array) -> Array:
    return jnp.all(jnp.isfinite(points))


def _weight(weight: Array | np.ndarray | None, points: Array) -> Array:
    if weight is None:
        return jnp.ones(len(points), points.dtype)
    if jnp.shape(weight) != (len(points),):
        raise UserError(f"weight has shape {jnp.shape(weight)}: pass one number a point, [{len(points)}]")
    if known(weight):
        wrong = np.flatnonzero(~(np.isfinite(weight) & (np.asarray(weight) >= 0)))
        if wrong.size:
            raise UserError(f"weight of row {wrong[0]} is {weight[wrong[0]]}: give finite numbers of 0 or more")
    return jnp.asarray(weight, points.dtype)


def _check_counts(counts: np.ndarray, weight: Array) -> None:
    there = int(np.sum(np.asarray(weight) > 0)) if known(weight) else len(weight)
    if counts.ndim != 1 or counts.size == 0 or not np.issubdtype(counts.dtype, np.integer):
        raise UserError(f"k = {counts.tolist()}: give whole numbers")
    for k in counts:
        if not 1 <= k <= there:
            raise UserError(f"k = {k} clusters of {there} points: give 1 to {there}")


def _run(
    key: Key,
    points: Array,
    counts: Array,
    restarts: int,
    steps: int,
    tolerance: Array | float,
    weight: Array | np.ndarray | None,
    start: Array | None,
    most: int | None,
    mesh: Mesh | None,
) -> KMeans:
    """Check, spread and fit: what `fit` and `sweep` share."""
    points = _points(points)
    weight = _weight(weight, points)
    if restarts < 1 or steps < 0:
        raise UserError(f"restarts = {restarts}, steps = {steps}: give 1 restart or more, and 0 steps or more")
    if known(counts):
        _check_counts(np.asarray(counts), weight)
        most = most or int(np.max(counts))
        if np.max(counts) > most:
            raise UserError(f"k = {np.max(counts)} is more than most = {most}: raise most")
    if most is None:
        raise UserError("k is traced: give most, the greatest that may come")
    rows = len(points)
    if mesh is not None:
        points, weight = _spread(points, weight, mesh)
    keys = jax.random.split(key, restarts)
    start = None if start is None else start.astype(points.dtype)
    tolerance = jnp.asarray(tolerance, points.dtype)
    fitted = _fit(keys, points, weight, counts.astype(jnp.int32), start, tolerance, steps, most, mesh)
    return fitted.replace(labels=fitted.labels[:, :rows])


def _spread(points: Array, weight: Array, mesh: Mesh) -> tuple[Array, Array]:
    """Return points and weights, a part on each device, padded with weight 0 to equal parts."""
    padding = -len(points) % mesh.size
    if padding:
        points, weight = jnp.pad(points, ((0, padding), (0, 0))), jnp.pad(weight, (0, padding))
    # CPU devices read their parts of a host array in place; parts of another device's array would be copied.
    host = mesh.devices.flat[0].platform == "cpu" and known(points)
    parts = NamedSharding(mesh, PartitionSpec(mesh.axis_names[0]))
    return jax.device_put(np.asarray(points) if host else points, parts), jax.device_put(weight, parts)


@partial(jax.jit, static_argnames=("steps", "most", "mesh"))
def _fit(
    keys: Key,
    points: Array,
    weight: Array,
    counts: Array,
    start: Array | None,
    tolerance: Array,
    steps: int,
    most: int,
    mesh: Mesh | None,
) -> KMeans:
    """Return the best of S restarts for each of `counts` [L], from `start` [S, K, D] or from S keys."""
    restarts = len(keys) if start is None else len(start)
    axis = None if mesh is None else mesh.axis_names[0]

    def local(keys: Key, points: Array, weight: Array, counts: Array, start: Array | None, least: Array):
        total, origin = _origin(points, weight, axis)
        blocks = lloyd.in_blocks(points, weight, origin, len(counts) * restarts * most)
        start = seeding.seed(keys, blocks, most, axis) if start is None else start - origin[None, None]
        centres, ks = jnp.tile(start, (len(counts), 1, 1)), jnp.repeat(counts, restarts)  # [L S, K, D] and [L S]
        variance = lloyd.across(jnp.sum(blocks.weight * blocks.norms), axis) / total / points.shape[1]
        centres, taken = lloyd.run(blocks, centres, ks, least * variance, steps, axis)

        outside = jnp.where(lloyd.present(centres, ks)[..., None], centres + origin[None, None], 0)
        # Labels and inertia are those of the centres that are handed out, which adding the origin has rounded.
        labels, squared = lloyd.nearest(blocks, outside - origin[None, None], ks)
        inertias = lloyd.across(jnp.sum(squared * blocks.weight.reshape(1, -1), axis=1), axis).reshape(-1, restarts)
        best = jnp.arange(len(counts)) * restarts + jnp.argmin(inertias, axis=1)
        return labels[best, : len(points)], (outside[best], origin, inertias, taken.reshape(-1, restarts))

    if mesh is not None:
        rows, whole = PartitionSpec(axis), PartitionSpec()
        given, found = (whole, rows, rows, whole, whole, whole), (PartitionSpec(None, axis), whole)
        local = jax.shard_map(local, mesh=mesh, in_specs=given, out_specs=found, check_vma=False)
    labels, (centres, origin, inertias, taken) = local(keys, points, weight, counts, start, tolerance)
    origin = jnp.tile(origin, (len(counts), 1))
    return KMeans(centres, counts, origin, labels, jnp.min(inertias, axis=1), inertias, taken)


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
