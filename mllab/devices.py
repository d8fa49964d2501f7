"""Devices: how many to use, what their caches hold, and where arrays are placed."""

import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from mllab.errors import UserError

AXIS = "lanes"  # the one axis of every mesh
CPU_CACHE_BYTES = 4 * 2**20  # lane state that one CPU device keeps in cache; measured, see BUILD_NOTES.md
MAX_CPU_DEVICES = 64  # each has threads of its own; a machine with more cores may have as many
COLLECTIVE_TIMEOUT_S = 86400  # how long a CPU device may wait for the others
TIMEOUT_FLAGS = (
    "--xla_cpu_collective_call_warn_stuck_timeout_seconds",
    "--xla_cpu_collective_call_terminate_timeout_seconds",
)


def cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_cores(count: int | None = None) -> None:
    """Make JAX use as many CPU devices as cores, or `count`.

    XLA's CPU backend runs one small program on about one core; lanes spread over devices use all cores. XLA ends the
    process when a device waits 40 seconds for another at a collective, and the run times of lanes may differ by more,
    so the limit is raised to `COLLECTIVE_TIMEOUT_S`. Flags that the user set in XLA_FLAGS are kept.

    Raises:
        UserError: far more devices than cores.
        RuntimeError: JAX has started already.
    """
    most = max(MAX_CPU_DEVICES, cores())
    if count and count > most:
        raise UserError(f"--devices={count}: this machine has {cores()} cores: give up to {most}")
    jax.config.update("jax_num_cpu_devices", count or cores())
    flags = os.environ.get("XLA_FLAGS", "")
    missing = " ".join(f"{name}={COLLECTIVE_TIMEOUT_S}" for name in TIMEOUT_FLAGS if name not in flags)
    os.environ["XLA_FLAGS"] = f"{flags} {missing}".strip()


def user_cache() -> Path:
    """Return the user's cache folder for mllab: compiled programs and downloads."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mllab"


def cache_compilations() -> None:
    """Keep compiled programs in the user's cache folder, so that a second start compiles nothing."""
    if not jax.config.values["jax_compilation_cache_dir"]:  # keep the user's choice
        jax.config.update("jax_compilation_cache_dir", str(user_cache() / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def mesh(count: int | None = None) -> Mesh:
    """Return a mesh of the first `count` devices (default: all) with the one axis `AXIS`.

    Raises:
        UserError: fewer than `count` devices, or `count` below 1.
    """
    devices = jax.devices()
    if count is not None and not 1 <= count <= len(devices):
        raise UserError(f"--devices={count}: this machine has {len(devices)} {devices[0].platform} device(s)")
    return Mesh(np.asarray(devices[:count]), (AXIS,), axis_types=(AxisType.Auto,))


def replicate(mesh: Mesh, tree: Any) -> Any:
    """Return the tree with every array replicated on each device of the mesh."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def lanes_in_cache(mesh: Mesh, lane_bytes: int) -> int | None:
    """Return how many lanes with `lane_bytes` of state a device should run at once; None for no limit."""
    return max(1, CPU_CACHE_BYTES // max(1, lane_bytes)) if mesh.devices.flat[0].platform == "cpu" else None
