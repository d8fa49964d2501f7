"""A sweep: many runs in one program.

`lanes(run)` is the same `Run` with leading axes. Each lane has its own hyper, key and state; examples are shared, and
rows are shared or chosen from a few schedules (one a seed or a fold).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from mllab import devices
from mllab.errors import UserError
from mllab.training import Run
from mllab.types import Hyper, Key, Rows


class Grid(NamedTuple):
    """The lanes of a sweep: every combination of hypers with every seed, seed by seed."""

    hyper: dict[str, np.ndarray]  # each [L]
    key: Key  # [L]
    schedule: np.ndarray  # [L] which schedule a lane reads: its seed's position
    seed: np.ndarray  # [L]


def grid(hyper: Mapping[str, Sequence[float] | np.ndarray], seeds: Sequence[int]) -> Grid:
    """Return the lanes of all combinations of `hyper` and `seeds`: L = product of their lengths.

    Raises:
        UserError: an empty axis, a seed given twice, or a hyper that is not finite.
    """
    axes = {name: np.asarray(values, np.float64) for name, values in hyper.items()}
    for name, values in axes.items():
        if values.size == 0 or not np.isfinite(values).all():
            raise UserError(f"{name} = {list(values)}: give one or more finite numbers")
    if len(seeds) == 0 or len(set(seeds)) != len(seeds):
        raise UserError(f"seeds = {list(seeds)}: give one or more, each once")
    combined = np.meshgrid(*axes.values(), indexing="ij")
    flat = {name: np.tile(values.ravel(), len(seeds)) for name, values in zip(axes, combined, strict=True)}
    each = math.prod(values.size for values in axes.values())
    schedule = np.repeat(np.arange(len(seeds), dtype=np.int32), each)
    seed = np.asarray(seeds)[schedule]
    return Grid(flat, jax.jit(jax.vmap(jax.random.key))(seed), schedule, seed)


def lanes(run: Run, schedule: np.ndarray, *, mesh: Mesh | None = None, group: int | None = None) -> Run:
    """Return the same three functions over L lanes.

    Hyper and key gain a leading [L]; losses come back as [L, S] and metrics as [L]. Rows [S, B] are shared by all
    lanes, so that a batch is gathered once; rows [P, S, B] hold P schedules, of which lane l reads `schedule[l]`.

    Lanes are spread over the mesh's devices and, on each, run group after group, so that a group's state stays in
    cache. Device count times group size may exceed L: padding lanes repeat the last one inside the *state*, whose
    leading axis is then longer than L; nothing else shows them.

    Args:
        run: the run of one lane.
        schedule: [L] the schedule that each lane reads.
        mesh: the devices (default: the first one alone).
        group: lanes that one device runs at once (default: what its cache holds).
    """
    mesh = mesh or devices.mesh(1)
    count = len(schedule)

    def layout(hyper: Hyper, key: Key) -> tuple[int, int]:
        """Return (lanes in all, lanes in a group); equal groups, so that there is one program and little padding."""
        lane = jax.eval_shape(run.start, *jax.tree.map(lambda a: a[0], (hyper, key)))
        size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(lane))
        local = -(-count // mesh.size)
        most = min(group or devices.lanes_in_cache(mesh, size) or local, local)
        groups = -(-local // most)
        return mesh.size * groups * -(-local // groups), -(-local // groups)

    def pad(tree: Any, total: int) -> Any:
        return jax.tree.map(lambda a: jnp.asarray(a)[np.minimum(np.arange(total), count - 1)], tree)

    def spread(function: Callable, lane: Any, shared: Any, size: int) -> Any:
        """Apply `function(lane, shared)` to all lanes: over the devices, over groups on each, vmapped in each."""

        def local(lane, shared):
            if size == 1:
                return jax.lax.map(lambda one: function(one, shared), lane)
            groups = jax.tree.map(lambda a: a.reshape(-1, size, *a.shape[1:]), lane)
            out = jax.lax.map(lambda each: jax.vmap(function, (0, None))(each, shared), groups)
            return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), out)

        over, whole = PartitionSpec("lanes"), PartitionSpec()
        mapped = jax.shard_map(local, mesh=mesh, in_specs=(over, whole), out_specs=over, check_vma=False)
        return mapped(lane, shared)

    def reads(rows: Rows, index: Any) -> Rows:
        return rows if rows.ids.ndim == 2 else jax.tree.map(lambda a: jnp.asarray(a)[index], rows)

    def over_lanes(function: Callable) -> Callable:
        """Return `function(hyper, state, examples, rows)` of one lane as the same of all lanes, padding included."""

        def one(lane, shared):
            hyper, state, index = lane
            examples, rows = shared
            return function(hyper, state, examples, reads(rows, index))

        def every(hyper, state, examples, rows):
            total, size = layout(hyper, state.key)
            hyper, index = pad((hyper, schedule), total)
            return spread(one, (hyper, state, index), (examples, rows), size)

        return every

    def start(hyper, key):
        total, _ = layout(hyper, key)
        # One lane at a time: it takes no time to run, and random draws compile faster unbatched.
        return spread(lambda lane, _: run.start(*lane), pad((hyper, key), total), (), size=1)

    def advance(hyper, state, examples, rows):
        state, losses = over_lanes(run.advance)(hyper, state, examples, rows)
        return state, losses[:count]

    def score(hyper, state, examples, rows):
        metrics = over_lanes(run.score)(hyper, state, examples, rows)
        return {name: value[:count] for name, value in metrics.items()}

    return Run(start, advance, score)
