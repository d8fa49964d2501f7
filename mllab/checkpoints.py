"""Checkpoints: whole or absent, never half of one.

Each is written to the side by Orbax, sealed with the SHA-256 of its files and renamed, so that a kill at any moment
leaves the one before. A checkpoint whose seal does not hold is passed over, aloud.
"""

import hashlib
import json
import logging
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mllab.errors import UserError

KEEP = 2  # checkpoints that stay: the newest, and one to fall back to
SEAL = "seal.json"


class Checkpoints:
    """The checkpoints `<folder>/<step>/` of one drive."""

    def __init__(self, folder: Path, of: Any):
        """Name the folder, and what the checkpoints are of: a pytree that must be the same when they are restored."""
        self.folder = Path(folder)
        self._of = of

    @cached_property
    def identity(self) -> str:
        """The SHA-256 of what the checkpoints are of."""
        digest = hashlib.sha256()
        paths = jax.tree_util.tree_flatten_with_path(_plain(self._of))[0]
        for path, leaf in paths:
            array = np.asarray(leaf)
            digest.update(f"{jax.tree_util.keystr(path)}{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def steps(self) -> list[int]:
        """Return the steps that have a checkpoint, ascending."""
        if not self.folder.is_dir():
            return []
        return sorted(int(entry.name) for entry in self.folder.iterdir() if entry.name.isdigit())

    def save(self, step: int, tree: Any) -> None:
        """Write `tree` as the checkpoint of `step`, and drop all but the newest few.

        Raises:
            UserError: it could not be written; what stood before stands.
        """
        aside, final = self.folder / f"{step}.partial", self.folder / str(step)
        try:
            self._clear_partial()
            self.folder.mkdir(parents=True, exist_ok=True)
            with _orbax() as orbax:
                orbax.save(aside.absolute(), _numbered(tree))
            seal = {"identity": self.identity, "tree": _describe(tree), "files": _digests(aside)}
            (aside / SEAL).write_text(json.dumps(seal))
            _flush(aside / SEAL)
            shutil.rmtree(final, ignore_errors=True)  # there only if it was damaged
            aside.rename(final)
            _flush(self.folder)
        except Exception as error:  # OSError, or what TensorStore makes of one
            self._clear_partial()
            raise UserError(f"cannot write checkpoint {final}: {_reason(error)}") from error
        sound = [other for other in self.steps() if other <= step]  # those beyond were damaged, and passed over
        for other in set(self.steps()) - set(sound[-KEEP:]):
            shutil.rmtree(self.folder / str(other), ignore_errors=True)

    def _clear_partial(self) -> None:
        for _ in range(100):  # after a failure, writes that were under way may put files back for a moment
            left = list(self.folder.glob("*.partial*"))  # Orbax, too, writes to the side
            if not left:
                break
            for path in left:
                shutil.rmtree(path, ignore_errors=True)
            time.sleep(0.02)

    def restore(self, template: Any, notify: Callable[[str], None]) -> Any:
        """Return the newest sound checkpoint, placed as the template is; the template itself where there is none.

        Raises:
            UserError: the checkpoint was made by another drive or by other code.
        """
        for step in reversed(self.steps()):
            path = self.folder / str(step)
            seal = _sound(path)
            if seal is None:
                before = any(other < step for other in self.steps())
                notify(f"checkpoint {path} is damaged: {'trying the one before' if before else 'beginning anew'}")
                continue
            if seal["identity"] != self.identity:
                raise UserError(f"checkpoint {path} is of other settings, data or rows: name another workdir")
            if seal["tree"] != _describe(template):
                raise UserError(f"checkpoint {path} was made by other code: name another workdir")
            with _orbax() as orbax:
                stored = orbax.restore(path.absolute())
            leaves = [_placed(stored[name], like) for name, like in _numbered(template, plain=False).items()]
            return jax.tree.unflatten(jax.tree.structure(template), leaves)
        return template


@contextmanager
def _orbax() -> Iterator[Any]:
    import orbax.checkpoint  # here: many a run ends before its first checkpoint is due

    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # what goes wrong is raised, and told in one line
    unraisable = sys.unraisablehook

    def hook(caught: Any) -> None:
        # Orbax closes its event loop at the first write that fails; the others still report to it when they end.
        if str(caught.exc_value) != "Event loop is closed":
            unraisable(caught)

    sys.unraisablehook = hook
    try:
        with orbax.checkpoint.PyTreeCheckpointer() as checkpointer:
            yield checkpointer
        sys.unraisablehook = unraisable  # not after a failure, whose last writes may end later than this
    finally:
        logging.disable(level)


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _plain(tree: Any) -> Any:
    """Return the tree on the host, typed keys as their data."""
    return jax.device_get(jax.tree.map(lambda leaf: jax.random.key_data(leaf) if _is_key(leaf) else leaf, tree))


def _numbered(tree: Any, plain: bool = True) -> dict[str, Any]:
    """Return the leaves by number, which any version of Orbax stores alike."""
    leaves = jax.tree.leaves(_plain(tree) if plain else tree)
    return {f"{number:05d}": leaf for number, leaf in enumerate(leaves)}


def _describe(tree: Any) -> list[str]:
    """Return a line a leaf: where it hangs, its dtype and shape."""
    paths = jax.tree_util.tree_flatten_with_path(tree)[0]
    return [f"{jax.tree_util.keystr(path)} {leaf.dtype}{list(leaf.shape)}" for path, leaf in paths]


def _placed(stored: Any, like: Any) -> Any:
    """Return a stored leaf as the template's: on the host, or on the same devices."""
    if not isinstance(like, jax.Array):
        return np.array(stored, like.dtype)
    if _is_key(like):
        stored = jax.random.wrap_key_data(stored, impl=jax.random.key_impl(like))
    return jax.device_put(stored, like.sharding)


def _digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file below the folder, flushed to the disk, by its path there."""
    digests = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SEAL):
        _flush(file)
        digests[file.relative_to(folder).as_posix()] = hashlib.sha256(file.read_bytes()).hexdigest()
    return digests


def _sound(path: Path) -> dict[str, Any] | None:
    """Return the checkpoint's seal where it holds."""
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
    told = re.search(r"os_error_code='(\d+)'", str(error))  # TensorStore's way to say it
    number = error.errno if isinstance(error, OSError) else int(told[1]) if told else None
    return os.strerror(number) if number else (str(error).splitlines() or [type(error).__name__])[0]
