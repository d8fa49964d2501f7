"""The devices: how many, what they can hold in cache, and what goes where."""

import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from mllab.errors import UserError

CPU_CACHE = 4 * 2**20  # bytes of lane state that one CPU device keeps close; measured, see BUILD_NOTES.md
PATIENCE = (  # seconds that a CPU device may wait for the others
    "--xla_cpu_collective_call_warn_stuck_timeout_seconds=86400",
    "--xla_cpu_collective_call_terminate_timeout_seconds=86400",
)


def cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_cores(count: int | None = None) -> None:
    """Ask JAX for as many CPU devices as cores (or `count`); before JAX starts, or it raises RuntimeError.

    XLA's CPU backend runs one small program on about one core: lanes spread over devices use them all. Where they meet
    again, XLA would end the process if one waited for another for 40 seconds; lanes may well differ by more.
    """
    jax.config.update("jax_num_cpu_devices", count or cores())
    given = os.environ.get("XLA_FLAGS", "")
    patience = " ".join(flag for flag in PATIENCE if flag.split("=")[0] not in given)  # the user's own choice stands
    os.environ["XLA_FLAGS"] = f"{given} {patience}".strip()


def user_cache() -> Path:
    """Return the folder in which mllab keeps what can be made or fetched again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mllab"


def cache_compilations() -> None:
    """Keep compiled programs in the user's cache folder, so that a second start compiles nothing again."""
    if not jax.config.values["jax_compilation_cache_dir"]:  # the user's own choice stands
        jax.config.update("jax_compilation_cache_dir", str(user_cache() / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def mesh(count: int | None = None) -> Mesh:
    """Return a mesh of the first `count` devices (default: all) with the one axis `lanes`.

    Raises:
        UserError: there are fewer devices than that.
    """
    devices = jax.devices()
    if count is not None and not 1 <= count <= len(devices):
        raise UserError(f"--devices={count}: this machine has {len(devices)} {devices[0].platform} device(s)")
    return Mesh(np.asarray(devices[:count]), ("lanes",), axis_types=(AxisType.Auto,))


def replicate(mesh: Mesh, tree: Any) -> Any:
    """Return the tree with a whole copy of every array on each device of the mesh."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def lanes_in_cache(mesh: Mesh, lane_bytes: int) -> int | None:
    """Return how many lanes of that size a device should run at once; None where all of them may run."""
    return max(1, CPU_CACHE // max(1, lane_bytes)) if mesh.devices.flat[0].platform == "cpu" else None
