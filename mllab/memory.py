"""Memory: how much is free, and the refusal of sizes that cannot fit, before anything is computed.

The sizes that callers estimate are lower bounds, the largest arrays alone: what is refused would not have run.
"""

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax

from mllab.errors import UserError

GIGABYTE = 10**9


def check(needed: float, what: str, remedy: str, devices: Iterable[Any] = ()) -> None:
    """Raise UserError if more bytes are needed than are free.

    Args:
        needed: bytes, a lower bound.
        what: takes them, in the plural, for the message.
        remedy: what to lower.
        devices: that hold the arrays; see `available`.
    """
    free = available(devices)
    if needed > free:
        raise UserError(f"{what} take about {_shown(needed)}, and {_shown(free)} of memory are free: {remedy}")


def tree_bytes(tree: Any) -> int:
    """Return the bytes of all arrays of a tree, or of their shapes (`jax.eval_shape`)."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree) if hasattr(leaf, "dtype"))


def available(devices: Iterable[Any] = ()) -> float:
    """Return the bytes that this process may still allocate; infinity if unknown.

    Args:
        devices: JAX devices. If these have memory of their own, as a GPU has, the limit is what they have together.
    """
    pools = [device.memory_stats() for device in devices if device.platform != "cpu"]
    limits = [stats["bytes_limit"] for stats in pools if stats and "bytes_limit" in stats]
    if limits:
        return float(sum(limits))
    return max(0.0, min(_physical(), _of_address_space(), *map(_of_cgroup, _cgroups())))


def resident() -> int:
    """Return the bytes of this process that are in memory; 0 where the system does not tell."""
    pages = next(iter(_lines("/proc/self/statm")), "0 0").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE") if pages != "0" else 0


def maps() -> tuple[int, float]:
    """Return the number of memory maps of this process and the most that Linux allows it; 0 and infinity elsewhere."""
    limit = next(iter(_lines("/proc/sys/vm/max_map_count")), "")
    return sum(1 for _ in _lines("/proc/self/maps")), float(limit) if limit else math.inf


def _physical() -> float:
    """Return the free memory of the machine; all of its memory where the system does not tell the free part."""
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            return 1024.0 * int(line.split()[1])
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return math.inf


def _of_address_space() -> float:
    """Return what is left of the limit on the address space (`ulimit -v`)."""
    try:
        import resource  # not on Windows
    except ImportError:
        return math.inf
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    pages = next(iter(_lines("/proc/self/statm")), "0").split()[0]
    return math.inf if limit == resource.RLIM_INFINITY else float(limit - int(pages) * os.sysconf("SC_PAGE_SIZE"))


def _cgroups() -> list[Path]:
    """Return the folders of the control groups of this process, and of those above them."""
    folders = {Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/memory")}
    for line in _lines("/proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            inner = Path(f"/sys/fs/cgroup/{controllers}") / path.strip("/")
            folders |= {inner, *inner.parents[: len(Path(path).parts) - 1]}
    return sorted(folders)


def _of_cgroup(folder: Path) -> float:
    """Return what is left of a control group's limit; the cache of files in it can be freed."""
    limit = next((text for name in ("memory.max", "memory.limit_in_bytes") for text in _lines(folder / name)), "max")
    if not limit.strip().isdigit():
        return math.inf
    held = dict(line.split()[:2] for line in _lines(folder / "memory.stat") if len(line.split()) > 1)
    return float(int(limit) - int(held.get("anon", held.get("total_rss", 0))))


def _lines(path: str | Path) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _shown(size: float) -> str:
    gigabytes = size / GIGABYTE
    return f"{gigabytes:,.0f} GB" if 10 <= gigabytes < 1e6 else f"{gigabytes:.2g} GB"
