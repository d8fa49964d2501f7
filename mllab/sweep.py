"""Sweeps: many runs in one program.

`lanes(run)` is the same `Run` with a leading lane axis; `batches(run)` runs lane after lane and splits each batch over
the devices. Each lane has its own hyper, key and state. Examples are shared; rows are shared too, or selected from a
few schedules (one per seed or fold).
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mllab import checks, devices, hosts, memory
from mllab.devices import AXIS, BATCH
from mllab.errors import UserError
from mllab.rows import seed_list
from mllab.training import Run, State
from mllab.types import Array, Examples, Hyper, Key, Rows, is_concrete

MIN_SHARED_LANES = 16  # fewest lanes for which a group shares the gather of a batch; measured, see BUILD_NOTES.md


class Grid(NamedTuple):
    """The lanes of a sweep: every combination of hypers with every seed, seed by seed."""

    hyper: dict[str, np.ndarray]  # each [L]
    key: Key  # [L]
    schedule: np.ndarray  # [L] index of the schedule that a lane reads: the position of its seed
    seed: np.ndarray  # [L]
    axes: dict[str, np.ndarray]  # the values of each hyper, in order
    folds: int = 1  # of which each has all the lanes; see `repeated`

    def by_axis(self, values: Any, axis: int = 0) -> np.ndarray:
        """Return values of the lanes by axis: the lane axis [L] becomes [*axes, seeds], one axis for each hyper.

            sweep = grid({"learning_rate": rates, "weight_decay": decays}, seeds=3)
            sweep.by_axis(result.kept_loss)[i, j, k]  # of rates[i], decays[j] and seed k

        Args:
            values: of each lane, on the host or on a device.
            axis: where the lane axis is: 0, or -1 for a history [E, L].

        Raises:
            UserError: values with another number of lanes.
        """
        values = np.moveaxis(np.asarray(hosts.fetch(values)), axis, 0)
        if len(values) != len(self.seed):
            raise UserError(f"values of {len(values)} lanes, and the grid has {len(self.seed)}: give one of each lane")
        sizes = tuple(len(each) for each in self.axes.values())
        by_seed = values.reshape(-1, *sizes, *values.shape[1:])  # lanes are ordered seed by seed
        first = np.moveaxis(by_seed, 0, len(sizes))
        place = axis if axis >= 0 else values.ndim + axis
        return np.moveaxis(first, range(len(sizes) + 1), range(place, place + len(sizes) + 1))


_keys = jax.jit(jax.vmap(jax.random.key))  # a module constant, so that it compiles once


def grid(hyper: Mapping[str, float | Sequence[float] | np.ndarray], seeds: int | Sequence[int]) -> Grid:
    """Return the lanes of all combinations of `hyper` and `seeds`: L is the product of their lengths.

    Args:
        hyper: the values of each hyper; a single number is an axis of one value.
        seeds: a list, or how many: n stands for the seeds 0 to n - 1.

    Raises:
        UserError: an axis that is empty, not one-dimensional or not finite, or a seed that is repeated or no whole
            number of 0 or more.
    """
    if not isinstance(hyper, Mapping):
        raise UserError(f"hyper: {type(hyper).__name__}, expected the values by name: {{'learning_rate': [0.1, 0.2]}}")
    axes = {name: np.asarray(checks.as_numbers(values, name), np.float64) for name, values in hyper.items()}
    axes = {name: values[None] if values.ndim == 0 else values for name, values in axes.items()}
    for name, values in axes.items():
        if values.ndim != 1 or values.size == 0 or not np.isfinite(values).all():
            raise UserError(f"{name} = {values.tolist()}: give one or more finite numbers")
    seeds = seed_list(seeds)
    if len(set(seeds)) != len(seeds):
        raise UserError(f"seeds: {', '.join(map(str, seeds))}; give each once")
    combined = np.meshgrid(*axes.values(), indexing="ij")
    flat = {name: np.tile(values.ravel(), len(seeds)) for name, values in zip(axes, combined, strict=True)}
    combinations = math.prod(values.size for values in axes.values())
    schedule = np.repeat(np.arange(len(seeds), dtype=np.int32), combinations)
    seed = np.asarray(seeds)[schedule]
    return Grid(flat, _keys(seed), schedule, seed, axes)


def repeated(lanes: Grid, count: int) -> Grid:
    """Return the lanes of a grid once for each of `count` folds, fold by fold; each fold has schedules of its own.

    `by_axis` then returns [*axes, count * seeds].
    """
    fold = np.repeat(np.arange(count, dtype=np.int32), len(lanes.seed))
    return Grid(
        {name: np.tile(values, count) for name, values in lanes.hyper.items()},
        jnp.tile(lanes.key, count),
        np.tile(lanes.schedule, count) + fold * (lanes.schedule.max() + 1),
        np.tile(lanes.seed, count),
        lanes.axes,
        count,
    )


def spread(function: Callable, mesh: Mesh, in_axes: Any, out_axes: Any = 0) -> Callable:
    """Return `function` spread over the devices of a mesh: each computes on its part of the arguments.

    The parts lie along the mesh's axis `devices.AXIS`, which collectives inside `function` (`psum`, `all_gather`) name.

    Args:
        function: takes positional arguments.
        mesh: the devices.
        in_axes: as in `jax.vmap`, but the axis is divided into one equal part per device instead of being mapped over;
            None passes the whole argument to every device.
        out_axes: the axis along which the parts of an output are joined; None for an output that is the same on all
            devices.
    """

    def specs(axes: Any) -> Any:
        return jax.tree.map(
            lambda axis: PartitionSpec() if axis is None else PartitionSpec(*[None] * axis, AXIS),
            axes,
            is_leaf=lambda axis: axis is None,
        )

    manual = set(mesh.axis_names) if mesh.shape[BATCH] == 1 else {AXIS}  # XLA's partitioner sees to `BATCH`
    return jax.shard_map(
        function, mesh=mesh, in_specs=specs(in_axes), out_specs=specs(out_axes), check_vma=False, axis_names=manual
    )


def over_points(function: Callable, mesh: Mesh | None, out_axes: Any) -> Callable:
    """Return `function` of points that are split over the devices of a mesh, compiled once.

    Points are padded to equal parts with weight 0; outputs that lie along the points are cut to their number again.

    Args:
        function: `(points=[n, D], weight=[n], axis=name, **arguments) -> outputs`, where points and weights are those
            of one device and collectives name the axis, such as `kmeans.fit` with its static options bound by
            `functools.partial`.
        mesh: the devices; None calls the function as it is.
        out_axes: for each output the axis along which the points lie, None for one that all devices compute alike,
            such as `kmeans.POINT_AXES`.

    Returns:
        `(points [N, D], weight [N] = None, **arguments) -> outputs`; arguments are arrays, whole on every device.

    Raises:
        UserError: points that are not finite or weights that are negative, when the result is called.
    """

    def local(points: Array, weight: Array, arguments: Mapping[str, Any]) -> Any:
        return function(points=points, weight=weight, axis=AXIS, **arguments)

    if mesh is None:
        return lambda points, weight=None, **arguments: function(points=points, weight=weight, **arguments)
    mesh = devices.flat(mesh)
    compiled = jax.jit(spread(local, mesh, (0, 0, None), out_axes))

    def call(points: Array, weight: Array | np.ndarray | None = None, **arguments: Any) -> Any:
        points = checks.check_array(points, ("N", "D"), "points")
        weight = checks.check_weight(weight, len(points), points.dtype)
        count = len(points)
        padding = -count % mesh.size
        if padding:
            points, weight = jnp.pad(points, ((0, padding), (0, 0))), jnp.pad(weight, (0, padding))
        # CPU devices read their parts of a host array in place; parts of another device's array would be copied.
        host = mesh.devices.flat[0].platform == "cpu" and is_concrete(points)
        parts = NamedSharding(mesh, PartitionSpec(AXIS))
        points = jax.device_put(np.asarray(points) if host else points, parts)
        outputs = compiled(points, jax.device_put(weight, parts), arguments)

        def cut(axis: int | None, output: Any) -> Any:
            if axis is None or not padding:
                return output
            return jax.tree.map(lambda a: jax.lax.slice_in_dim(a, 0, count, axis=axis), output)

        return jax.tree.map(cut, out_axes, outputs, is_leaf=lambda axis: axis is None)

    return call


@functools.cache  # one function for the same arguments, so that what is compiled for it is compiled once
def over_tasks(function: Callable, mesh: Mesh) -> Callable:
    """Return `function` of independent tasks that are dealt out to the devices of a mesh.

    Consecutive tasks, which tend to cost alike, go to different devices. All devices get equally many, for which some
    tasks are done twice.

    Args:
        function: `(tasks [t, ...], *arguments, axis=name) -> outputs [t, ...]`, where the tasks are those of one
            device and collectives name the axis, such as `svm.solve_tasks`.
        mesh: the devices.

    Returns:
        `(tasks [T, ...], *arguments) -> outputs [T, ...]`; arguments are whole on every device.
    """
    mesh = devices.flat(mesh)

    def call(tasks: Array, *arguments: Any) -> Any:
        count = len(tasks)
        share = -(-count // mesh.size)
        dealt = np.arange(mesh.size * share).reshape(share, mesh.size).T.ravel()
        local = functools.partial(function, axis=AXIS)
        outputs = spread(local, mesh, (0, *[None] * len(arguments)))(tasks[dealt % count], *arguments)
        return jax.tree.map(lambda a: a[np.argsort(dealt)[:count]], outputs)

    return call


def over_lanes(function: Callable, mesh: Mesh, lane_bytes: int) -> Callable:
    """Return `function` of one lane mapped over many that are spread over the devices of a mesh.

    On each device lanes run group after group, so that a group's state stays in cache; see `arrange`.

    Args:
        function: `(lane, *arguments) -> outputs`, a lane any tree of arrays.
        mesh: the devices.
        lane_bytes: state of a lane while it runs.

    Returns:
        `(lanes, *arguments) -> outputs`, lanes and outputs with a leading axis [L]; arguments are shared by all lanes.
    """
    mesh = devices.flat(mesh)

    def call(lanes: Any, *arguments: Any) -> Any:
        count = len(jax.tree.leaves(lanes)[0])
        total, size, _ = arrange(np.arange(count), mesh.size, devices.lanes_in_cache(mesh, lane_bytes) or count)

        def local(lanes: Any, arguments: Any) -> Any:
            return _by_group(lambda group: jax.vmap(lambda lane: function(lane, *arguments))(group), lanes, size)

        outputs = jax.jit(spread(local, mesh, (0, None)))(_padded(lanes, total), arguments)
        return jax.tree.map(lambda a: a[:count], outputs)

    return call


def _padded(lanes: Any, total: int) -> Any:
    """Return `total` lanes, of which those past the given ones repeat the last."""
    return jax.tree.map(lambda a: jnp.asarray(a)[np.minimum(np.arange(total), len(a) - 1)], lanes)


def _by_group(function: Callable, lanes: Any, size: int) -> Any:
    """Return the outputs of `function` of `size` lanes, called for one group of lanes after another."""
    outputs = jax.lax.map(function, jax.tree.map(lambda a: a.reshape(-1, size, *a.shape[1:]), lanes))
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), outputs)


def lanes(
    run: Run,
    schedule: np.ndarray,
    *,
    mesh: Mesh | None = None,
    group: int | None = None,
    min_shared_lanes: int = MIN_SHARED_LANES,
) -> Run:
    """Return the same three functions over L lanes.

    Hyper and key gain a leading [L]; losses are returned as [L, S] and metrics as [L]. Rows [S, B] are shared by all
    lanes, so that a batch is gathered once; rows [P, S, B] hold P schedules, of which lane l reads `schedule[l]`.

    Lanes are spread over the mesh's devices along `devices.AXIS`, and the rows of each batch along `devices.BATCH`, as
    by `batches`. On each device lanes run group after group, so that a group's state stays in cache. Where
    the number of devices times the group size does not divide L, padding lanes repeat the last one.
    They exist in the *state* only, whose leading axis is then longer than L.

    Args:
        run: the run of one lane.
        schedule: index of the schedule that each lane reads, [L].
        mesh: the devices (default: the first one alone).
        group: the most lanes that one device runs at once (default: as many as its cache holds).
        min_shared_lanes: see `arrange`.
    """
    mesh = mesh or devices.mesh(1)
    count = len(schedule)

    def pad(tree: Any, total: int) -> Any:
        _check_lanes(tree, count)
        return _padded(tree, total)

    def layout(hyper: Hyper, key: Key) -> Layout:
        lane = jax.eval_shape(run.start, *jax.tree.map(lambda a: a[0], (hyper, key)))
        most = group or devices.lanes_in_cache(mesh, memory.tree_bytes(lane)) or count
        return arrange(schedule, mesh.shape[AXIS], most, min_shared_lanes)

    def map_lanes(function: Callable, hyper: Hyper, state: State, examples: Examples, rows: Rows) -> Any:
        """Apply `function(hyper, state, examples, rows)` to all lanes, group after group."""
        total, size, shared = layout(hyper, state.key)
        per_lane = rows.ids.ndim == 3  # [P, S, B]: each lane, or each group, reads its schedule
        batch = rows.ids.shape[-1]

        def local(lane: Any, common: Any) -> Any:
            examples, rows = common
            if mesh.shape[BATCH] > 1:  # of the axes, only this one is XLA's to partition in here
                rows = _split(rows, mesh.shape[BATCH], lambda axes: PartitionSpec(*axes, BATCH))

            def one_group(lane: Any) -> Any:
                hyper, state, index = lane
                lane_rows = rows
                if per_lane:
                    lane_rows = jax.tree.map(lambda a: jnp.asarray(a)[index[0] if shared else index], rows)
                lane_rows = jax.tree.map(lambda a: a[..., :batch], lane_rows)
                axes = (0, 0, None, 0 if per_lane and not shared else None)
                return jax.vmap(function, axes)(hyper, state, examples, lane_rows)

            return _by_group(one_group, lane, size)

        hyper, index = pad((hyper, schedule), total)
        return spread(local, mesh, (0, None))((hyper, state, index), (examples, rows))

    def start(hyper, key):
        # One lane at a time: the run time is negligible, and random draws compile faster unbatched.
        one_by_one = lambda lane, _: jax.lax.map(lambda each: run.start(*each), lane)  # noqa: E731
        return spread(one_by_one, mesh, (0, None))(pad((hyper, key), layout(hyper, key).total), ())

    def advance(hyper, state, examples, rows):
        state, losses = map_lanes(run.advance, hyper, state, examples, rows)
        return state, losses[:count]

    def score(hyper, state, examples, rows):
        metrics = map_lanes(run.score, hyper, state, examples, rows)
        return {name: value[:count] for name, value in metrics.items()}

    return Run(start, advance, score)


def leaves_idle(lanes: int, mesh: Mesh, *, uneven: bool = False) -> bool:
    """Return whether lanes leave devices idle, so that `batches` is to be preferred; a mesh with a batch axis decides.

    Args:
        lanes: L.
        mesh: the devices.
        uneven: whether some are idle, too, where the devices do not divide the lanes.
    """
    idle = lanes % mesh.size != 0 if uneven else lanes < mesh.size
    return idle and mesh.shape[BATCH] == 1


def batches(run: Run, schedule: np.ndarray, *, mesh: Mesh) -> Run:
    """Return the same three functions over L lanes, one lane after another, each batch split over the devices.

    Use it for few lanes (fewer than devices) or large ones. Arguments and results are those of `lanes`. Nothing but a
    sharding constraint on the batch axis refers to devices: XLA's partitioner splits what is computed from a batch and
    sums over the devices, and every random draw and batch statistic remains that of the whole batch.

    Args:
        run: the run of one lane.
        schedule: index of the schedule that each lane reads, [L].
        mesh: the devices.
    """
    replicated = NamedSharding(mesh, PartitionSpec())

    def constrain(tree: Any, sharding: NamedSharding) -> Any:
        return jax.lax.with_sharding_constraint(tree, sharding)

    def map_lanes(function: Callable, hyper: Hyper, state: State, examples: Examples, rows: Rows) -> Any:
        size = rows.ids.shape[-1]
        split = _split(rows, mesh.size, lambda axes: NamedSharding(mesh, PartitionSpec(*axes, (AXIS, BATCH))))

        def one_lane(lane: Any) -> Any:
            hyper, state, index = lane
            lane_rows = jax.tree.map(lambda a: a[index], split) if split.ids.ndim == 3 else split
            return function(hyper, state, examples, jax.tree.map(lambda a: a[:, :size], lane_rows))

        return constrain(jax.lax.map(one_lane, (hyper, state, jnp.asarray(schedule))), replicated)

    def start(hyper, key):
        _check_lanes((hyper, key), len(schedule))
        return constrain(jax.lax.map(lambda lane: run.start(*lane), (hyper, key)), replicated)

    return Run(start, functools.partial(map_lanes, run.advance), functools.partial(map_lanes, run.score))


def _split(rows: Rows, parts: int, sharding: Callable[[tuple[None, ...]], Any]) -> Rows:
    """Return rows [..., B] whose last axis is spread over the devices; `sharding` is made from the axes before.

    JAX splits only axes that the devices divide evenly, so rows are padded. The caller cuts them to their size again:
    XLA leaves every part in place, and nothing that is computed from a batch depends on the padding.
    """
    size = rows.ids.shape[-1]
    even = np.arange(-(-size // parts) * parts) % size
    padded = rows if len(even) == size else jax.tree.map(lambda a: jnp.asarray(a)[..., even], rows)
    return jax.lax.with_sharding_constraint(padded, sharding((None,) * (rows.ids.ndim - 1)))


def _check_lanes(tree: Any, count: int) -> None:
    for leaf in jax.tree.leaves(tree):
        if leaf.shape[:1] != (count,):
            raise UserError(f"a hyper or key of shape {leaf.shape} for {count} lanes: its first axis must be the lanes")


class Layout(NamedTuple):
    """How lanes are arranged on the devices."""

    total: int  # lanes in all, padding included
    size: int  # lanes per group
    shared: bool  # whether all lanes of a group read one schedule, so that the group gathers a batch once


def arrange(schedule: np.ndarray, device_count: int, most: int, min_shared_lanes: int = MIN_SHARED_LANES) -> Layout:
    """Return equal groups of at most `most` lanes, with little padding: one program serves all groups.

    Args:
        schedule: index of the schedule that each lane reads, [L].
        device_count: number of devices that share the lanes.
        most: the most lanes in a group.
        min_shared_lanes: groups of at least this many lanes are made of lanes that share one schedule, where that needs
            no more padding.
    """

    def total(size: int) -> int:
        return -(-len(schedule) // (size * device_count)) * size * device_count

    local = -(-len(schedule) // device_count)
    groups = -(-local // min(most, local))
    size = -(-local // groups)
    ends = np.flatnonzero(np.diff(schedule)) + 1
    stretch = math.gcd(*np.diff([0, *ends, len(schedule)]).tolist())  # lanes in a row with one schedule
    sizes = range(min_shared_lanes, min(most, local) + 1)
    shared = [each for each in sizes if stretch % each == 0 and total(each) <= total(size)]
    return Layout(total(shared[-1]), shared[-1], True) if shared else Layout(total(size), size, False)
