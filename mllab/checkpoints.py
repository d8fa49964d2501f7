"""Atomic checkpoints: complete or absent.

Orbax writes each to a temporary folder, which is sealed with the SHA-256 of its files and then renamed, so that a kill
at any moment leaves the previous checkpoint. A checkpoint that does not match its seal is skipped with a notice.
"""

import gc
import hashlib
import json
import logging
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mllab import hosts
from mllab.errors import UserError

LATE_WRITES_S = 10.0  # to wait for the threads of a failed save
KEEP = 2  # checkpoints kept: the newest, and one to fall back to
SEAL = "seal.json"


class Checkpoints:
    """The checkpoints `<folder>/<step>/` of one drive."""

    def __init__(self, folder: Path, inputs: Any):
        """Create an accessor; nothing is read or written yet.

        Args:
            folder: holds one subfolder per checkpoint.
            inputs: a pytree of all that determines the drive; it must be the same when a checkpoint is restored.
        """
        self.folder = Path(folder)
        self._inputs = inputs

    @cached_property
    def identity(self) -> str:
        """The SHA-256 of the drive's inputs."""
        digest = hashlib.sha256()
        paths = jax.tree_util.tree_flatten_with_path(_on_host(self._inputs))[0]
        for path, leaf in paths:
            array = np.asarray(leaf)
            digest.update(f"{jax.tree_util.keystr(path)}{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def steps(self) -> list[int]:
        """Return the steps that have a checkpoint, ascending."""
        if not self.folder.is_dir():
            return []
        return sorted(int(path.name) for path in self.folder.iterdir() if path.name.isdigit())

    def save(self, step: int, tree: Any) -> None:
        """Write `tree` as the checkpoint of `step`, and delete all but the newest `KEEP`.

        Raises:
            UserError: it could not be written; earlier checkpoints are unchanged.
        """
        partial, final = self.folder / f"{step}.partial", self.folder / str(step)
        try:
            self._clear_partial()
            self.folder.mkdir(parents=True, exist_ok=True)
            _write(partial.absolute(), _numbered(jax.tree.leaves(_on_host(tree))))
            seal = {"identity": self.identity, "tree": _describe(tree), "files": _digests(partial)}
            (partial / SEAL).write_text(json.dumps(seal))
            _flush(partial / SEAL)
            shutil.rmtree(final, ignore_errors=True)  # exists only if it is damaged
            partial.rename(final)
            _flush(self.folder)
        except (OSError, ValueError) as error:
            self._clear_partial()
            raise UserError(f"cannot write checkpoint {final}: {_reason(error)}") from error
        sound = [other for other in self.steps() if other <= step]  # later ones are damaged: they were skipped
        for other in set(self.steps()) - set(sound[-KEEP:]):
            shutil.rmtree(self.folder / str(other), ignore_errors=True)

    def _clear_partial(self) -> None:
        for _ in range(100):  # after a failure, writes in flight may still create files for a moment
            remaining = list(self.folder.glob("*.partial*"))  # Orbax has temporary folders of its own
            if not remaining:
                break
            for path in remaining:
                shutil.rmtree(path, ignore_errors=True)
            time.sleep(0.02)

    def restore(self, template: Any, notify: Callable[[str], None]) -> Any:
        """Return the newest sound checkpoint, or the template itself if there is none.

        Args:
            template: has the tree structure, shapes, dtypes and shardings to restore to.
            notify: called with one line for each damaged checkpoint.

        Raises:
            UserError: the checkpoint was made by another drive or by other code.
        """
        for step in reversed(self.steps()):
            path = self.folder / str(step)
            seal = _valid_seal(path)
            if seal is None:
                earlier = any(other < step for other in self.steps())
                notify(f"checkpoint {path} is damaged: {'trying the one before' if earlier else 'starting over'}")
                continue
            if seal["identity"] != self.identity:
                raise UserError(f"checkpoint {path} has other settings, data or rows: name another workdir")
            if seal["tree"] != _describe(template):
                raise UserError(f"checkpoint {path} was made by other code: name another workdir")
            with _orbax() as orbax:
                stored = orbax.restore(path.absolute())
            leaves = [_placed(stored[name], like) for name, like in _numbered(jax.tree.leaves(template)).items()]
            return jax.tree.unflatten(jax.tree.structure(template), leaves)
        return template


def _write(path: Path, leaves: dict[str, Any]) -> None:
    """Write leaves by Orbax.

    At the first write that fails Orbax raises and closes its event loop. Its other threads and tasks log their own
    failures when they end, so they are made to end while nothing is logged; TensorStore's threads, which cannot be
    waited for, report to the closed loop.

    Raises:
        OSError: a write failed.
    """
    before, hook, failure = set(threading.enumerate()), sys.unraisablehook, ""

    def without_closed_loop(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            hook(unraisable)

    sys.unraisablehook = without_closed_loop
    with _orbax() as orbax:
        try:
            orbax.save(path, leaves)
        except Exception as error:  # OSError, or TensorStore's wrapper of one
            failure = _reason(error)  # not the error itself, which refers to the tasks
        if failure:
            for thread in set(threading.enumerate()) - before:
                thread.join(LATE_WRITES_S)
            gc.collect()  # tasks log when they are deleted
    if failure:
        raise OSError(failure)  # the hook stays
    sys.unraisablehook = hook


@contextmanager
def _orbax() -> Iterator[Any]:
    """Yield an Orbax checkpointer whose errors are raised and not logged as well."""
    import orbax.checkpoint  # deferred: many runs end before their first checkpoint is due

    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        options: Any = {}
        if hosts.several():  # without, Orbax waits for the other processes to write as well
            process = jax.process_index()
            options["multiprocessing_options"] = orbax.checkpoint.options.MultiprocessingOptions(
                primary_host=process, active_processes={process}, barrier_sync_key_prefix=f"process{process}"
            )
        handler = orbax.checkpoint.PyTreeCheckpointHandler(**options)
        with orbax.checkpoint.Checkpointer(handler, **options) as checkpointer:
            yield checkpointer
    finally:
        logging.disable(level)


def _on_host(tree: Any) -> Any:
    """Return the tree on the host, with typed keys as their data."""
    return jax.device_get(jax.tree.map(lambda leaf: jax.random.key_data(leaf) if hosts.is_key(leaf) else leaf, tree))


def _numbered(leaves: list[Any]) -> dict[str, Any]:
    """Return leaves by number, a tree that every version of Orbax stores in the same way."""
    return {f"{number:05d}": leaf for number, leaf in enumerate(leaves)}


def _describe(tree: Any) -> list[str]:
    """Return one line per leaf: its path, dtype and shape."""
    paths = jax.tree_util.tree_flatten_with_path(tree)[0]
    return [f"{jax.tree_util.keystr(path)} {leaf.dtype}{list(leaf.shape)}" for path, leaf in paths]


def _placed(stored: Any, like: Any) -> Any:
    """Return a stored leaf where the template's leaf is: on the host, or with its sharding."""
    if not isinstance(like, jax.Array):
        return np.array(stored, like.dtype)
    if hosts.is_key(like):
        stored = jax.random.wrap_key_data(stored, impl=jax.random.key_impl(like))
    return jax.device_put(stored, like.sharding)


def _digests(folder: Path) -> dict[str, str]:
    """Flush each file below the folder to disk; return SHA-256 digests by relative path."""
    digests = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SEAL):
        _flush(file)
        digests[file.relative_to(folder).as_posix()] = hashlib.sha256(file.read_bytes()).hexdigest()
    return digests


def _valid_seal(path: Path) -> dict[str, Any] | None:
    """Return the checkpoint's seal, or None if its files do not match it."""
    try:
        seal = json.loads((path / SEAL).read_text())
        return seal if seal["files"] == _digests(path) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: Exception) -> str:
    """Return the cause of a failed write in one line."""
    code = re.search(r"os_error_code='(\d+)'", str(error))  # in TensorStore's messages
    number = error.errno if isinstance(error, OSError) else int(code[1]) if code else None
    return os.strerror(number) if number else (str(error).splitlines() or [type(error).__name__])[0]
