"""Several processes that compute as one program, each with the devices of its host (`jax.distributed`).

Every process runs the same program on the same data. Training that is spread over the devices of all hosts is computed
once; everything else is computed by each process for itself, with equal results. The first process alone writes files.

In a single process `fetch` and `place` are `jax.device_get` and `jax.device_put`, and the others do nothing.
"""

import itertools
import os
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding

from mllab.errors import UserError

HEARTBEAT_S = 10  # without a sign of life until a process counts as lost; the others then end
SIGNS_OF_LOSS = (  # in errors of JAX and on standard error
    "Gloo ", "Connection closed by peer", "Connection reset by peer", "coordination service",
    "JAX distributed service detected fatal errors",
)  # fmt: skip
START_S = 120  # to wait for the other processes at the start
_sync_points = itertools.count(1)  # JAX wants numbers that rise in the same way in all processes, over all drives
T = TypeVar("T")


def start(coordinator: str | None = None, count: int | None = None, process: int | None = None) -> None:
    """Join the other processes, before anything is computed; see `jax.distributed.initialize`.

    Args:
        coordinator: "host:port" of the first process.
        count: number of processes.
        process: number of this one, from 0; each of the three is None where JAX finds the cluster by itself, as on
            Cloud TPU and under Slurm.

    Raises:
        UserError: some but not all are given, a number out of range, a malformed address, or the others cannot be
            reached.
    """
    given = {"--coordinator": coordinator, "--num_processes": count, "--process_id": process}
    missing = [name for name, value in given.items() if value is None]
    if missing and len(missing) < len(given):
        raise UserError(f"{' and '.join(missing)}: give all three of {', '.join(given)}, or none")
    if coordinator is not None and count is not None and process is not None:
        host, _, port = coordinator.rpartition(":")
        if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 2**16:
            raise UserError(f"--coordinator={coordinator}: give host:port of the first process, such as node0:1234")
        if not 0 <= process < count:
            raise UserError(f"--process_id={process}: with --num_processes={count} give 0 to {count - 1}")
    jax.config.update("jax_cpu_collectives_implementation", "gloo")  # of CPU devices; the others have their own
    try:
        jax.distributed.initialize(
            coordinator, count, process, initialization_timeout=START_S, heartbeat_timeout_seconds=HEARTBEAT_S
        )
    except (RuntimeError, ValueError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        where = f"--coordinator={coordinator}" if coordinator else "no cluster was found"
        raise UserError(f"{where}: the processes cannot join ({reason})") from error


def in_cluster() -> bool:
    """Return whether this process is one of several that a cluster started, in which JAX finds the others itself.

    That is so under Slurm, Open MPI and on the hosts of a Cloud TPU, by their environment variables.
    """
    counts = (os.environ.get(name, "1") for name in ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE"))
    started = "SLURM_PROCID" in os.environ or "OMPI_COMM_WORLD_RANK" in os.environ
    tpu_hosts = os.environ.get("TPU_WORKER_HOSTNAMES", "").split(",")
    return len(tpu_hosts) > 1 or (started and any(count.isdigit() and int(count) > 1 for count in counts))


def leave() -> None:
    """Wait for the other processes and disconnect; a process that ends without doing so counts as lost."""
    if several():
        jax.distributed.shutdown()


def is_loss(error: BaseException) -> bool:
    """Return whether an error of JAX means that another process was lost."""
    return any(sign in str(error) for sign in SIGNS_OF_LOSS)


def is_first() -> bool:
    """Return whether this is the process that writes."""
    return jax.process_index() == 0


def several() -> bool:
    """Return whether more than one process computes."""
    return jax.process_count() > 1


def fetch(tree: T) -> T:
    """Return a tree of arrays on the host, also where their parts lie on devices of other hosts.

    Typed keys remain such, on this process's devices.
    """
    for leaf in jax.tree.leaves(tree):  # all copies begin before the first one is waited for
        if isinstance(leaf, jax.Array) and not is_key(leaf) and leaf.is_fully_addressable:
            leaf.copy_to_host_async()
    return jax.tree.map(_fetched, tree)


def is_key(leaf: Any) -> bool:
    """Return whether a leaf is a typed key."""
    return isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _fetched(leaf: Any) -> Any:
    if not isinstance(leaf, jax.Array):
        return leaf
    if is_key(leaf):
        if not several():
            return leaf
        return jax.random.wrap_key_data(_fetched(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
    if leaf.is_fully_addressable or leaf.is_fully_replicated:
        return np.asarray(leaf)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))


def place(leaf: Any, sharding: Sharding) -> jax.Array:
    """Return an array that every process holds whole, an array of the host or a typed key, with a sharding."""
    if not several():
        return jax.device_put(leaf, sharding)
    if is_key(leaf):
        # A key has no layout of its own on several hosts: a program lays it out.
        data, impl = np.asarray(jax.random.key_data(leaf)), jax.random.key_impl(leaf)
        return jax.jit(lambda data: jax.random.wrap_key_data(data, impl=impl), out_shardings=sharding)(data)
    host = np.asarray(leaf)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def from_first(value: T) -> T:
    """Return a tree of host arrays and typed keys that the first process has; the others give its shapes and dtypes."""
    if not several():
        return value
    from jax.experimental import multihost_utils

    def sent(leaf: Any) -> Any:
        if is_key(leaf):
            data = np.asarray(jax.random.key_data(leaf))
            return jax.random.wrap_key_data(sent(data), impl=jax.random.key_impl(leaf))
        return np.array(multihost_utils.broadcast_one_to_all(np.asarray(leaf)))

    return jax.tree.map(sent, value)


def check_alike(what: str, digest: str) -> None:
    """Check that every process has the same SHA-256 of something.

    Raises:
        UserError: they differ, in every process.
    """
    if not several():
        return
    from jax.experimental import multihost_utils

    mine = np.frombuffer(bytes.fromhex(digest), np.uint8)
    everyones = np.asarray(multihost_utils.process_allgather(mine)).reshape(jax.process_count(), -1)
    if different := np.flatnonzero((everyones != everyones[0]).any(axis=1)).tolist():
        raise UserError(f"process {different[0]} has other {what} than process 0: start all with the same")


def preempted() -> bool:
    """Return whether a host is about to be taken away; every process learns of it at the same call."""
    if not several():
        return False
    from jax.experimental import multihost_utils

    return bool(multihost_utils.reached_preemption_sync_point(next(_sync_points)))


def everywhere() -> Sharding:
    """Return the sharding of an array that every device of every host holds whole."""
    return NamedSharding(Mesh(np.asarray(jax.devices()), ("devices",)), PartitionSpec())
