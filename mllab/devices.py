"""Devices: how many to use, what their caches hold, and where arrays are placed."""

import gc
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from mllab import memory
from mllab.errors import UserError
from mllab.folders import user_cache

AXIS = "lanes"  # the axis of a mesh over which runs, points and tasks are spread
BATCH = "batch"  # the axis over which the rows of each batch are spread
CPU_CACHE_BYTES = 4 * 2**20  # lane state that one CPU device keeps in cache; measured, see BUILD_NOTES.md
MAX_CPU_DEVICES = 64  # each has threads of its own; a machine with more cores may have as many
MAPS_SHARE = 0.3  # of the memory maps that a process may have; the rest is left to what is compiled next
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


def cache_compilations() -> None:
    """Keep compiled programs in the user's cache folder, so that a second start compiles nothing.

    A cache that cannot be read or written, or whose disk is full, costs time and is otherwise ignored.
    """
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache entry")
    if not jax.config.values["jax_compilation_cache_dir"]:  # keep the user's choice
        try:
            folder = user_cache() / "compiled"
        except UserError:
            return
        if not _is_writable(folder):
            return
        jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def release_programs() -> bool:
    """Drop the compiled programs that JAX keeps in memory if they are very many; return whether it did.

    XLA maps each program into memory in several parts. Linux ends a process by a segmentation fault when it exceeds
    `vm.max_map_count` maps, 65,530 by default, which a process of hundreds of experiments does. Programs that are
    needed again are read from the cache of `cache_compilations`.
    """
    count, limit = memory.maps()
    if count < MAPS_SHARE * limit:
        return False
    jax.clear_caches()
    gc.collect()  # programs in cycles of references
    return True


def _is_writable(folder: Path) -> bool:
    """Return whether files can be created in a folder, which is created."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def available() -> list[jax.Device]:
    """Return JAX's devices.

    Raises:
        UserError: JAX_PLATFORMS names a platform that JAX does not find on this machine.
    """
    try:
        return jax.devices()
    except (RuntimeError, AssertionError) as error:
        if platforms := os.environ.get("JAX_PLATFORMS"):
            raise UserError(f"JAX_PLATFORMS={platforms}: JAX finds no such device: unset it, or set cpu") from error
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"JAX finds no device ({reason}): set JAX_PLATFORMS=cpu to compute on the CPU") from error


def check_xla_flags() -> None:
    """Check XLA_FLAGS in another process, since XLA ends the process that reads malformed ones.

    Raises:
        UserError: a flag that XLA does not know, or a malformed value.
    """
    words = [word for word in os.environ.get("XLA_FLAGS", "").split() if not word.startswith(TIMEOUT_FLAGS)]
    if flags := " ".join(words):  # beside those of `use_cores`
        command = [sys.executable, "-c", "import jax; jax.devices('cpu')"]
        environment = os.environ | {"JAX_PLATFORMS": "cpu"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if "XLA_FLAGS" in line or "flag" in line.lower()]
            reason = (lines or done.stderr.splitlines() or ["XLA does not start"])[0].rpartition("] ")[2]
            raise UserError(f"XLA_FLAGS={flags}: {reason}: unset it, or correct it")


def mesh(count: int | None = None, batch: int = 1) -> Mesh:
    """Return a mesh of the first `count` devices (default: all) with the axes `AXIS` and `BATCH`.

    Args:
        count: number of devices.
        batch: devices along `BATCH`, a divisor of their number; the others are along `AXIS`.

    Raises:
        UserError: fewer than `count` devices, `count` below 1, or `batch` no divisor; or see `available`.
    """
    devices = available()
    if count is not None and not 1 <= count <= len(devices):
        raise UserError(f"--devices={count}: this machine has {len(devices)} {devices[0].platform} device(s)")
    chosen = np.asarray(devices[:count])
    if batch < 1 or len(chosen) % batch:
        raise UserError(f"--mesh: {len(chosen)} devices cannot be {batch} along {BATCH}: give a divisor")
    return Mesh(chosen.reshape(-1, batch), (AXIS, BATCH), axis_types=(AxisType.Auto, AxisType.Auto))


def flat(mesh: Mesh) -> Mesh:
    """Return the mesh with all of its devices along `AXIS`, for what has no batches; of several hosts, this one's."""
    local = [device for device in mesh.devices.flat if device.process_index == jax.process_index()]
    if mesh.shape[BATCH] == 1 and len(local) == mesh.size:
        return mesh
    return Mesh(np.asarray(local).reshape(-1, 1), (AXIS, BATCH), axis_types=mesh.axis_types)


def replicate(mesh: Mesh, tree: Any) -> Any:
    """Return the tree with every array replicated on each device of the mesh."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def lanes_of_long_steps(mesh: Mesh) -> int | None:
    """Return how many lanes a device should run at once where a step's activations fill the cache; None for no limit.

    One on a CPU. A GPU or TPU is idle for most of a small step, so it runs all lanes at once.
    """
    return lanes_in_cache(mesh, CPU_CACHE_BYTES)


def lanes_in_cache(mesh: Mesh, lane_bytes: int) -> int | None:
    """Return how many lanes with `lane_bytes` of state a device should run at once; None for no limit."""
    return max(1, CPU_CACHE_BYTES // max(1, lane_bytes)) if mesh.devices.flat[0].platform == "cpu" else None
