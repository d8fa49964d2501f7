"""The folder that one run of an experiment writes: one process at a time, whole files, resumed by the same settings."""

import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout

from experiments.frame.summary import to_json
from mllab.errors import UserError
from mllab.folders import expand
from mllab.report.atomic import write_bytes
from mllab.report.report import Environment

FIRST_FILES = (".lock", "flags.cfg.partial")  # what a kill may leave before flags.cfg stands,
HEADER_FILES = (*FIRST_FILES, "flags.cfg", "environment.json", "environment.json.partial")  # and before any result
MOST_BYTES = 2**26  # of flags.cfg, environment.json and summary.json, far above what the longest lists need


def default_path(experiment: str) -> Path:
    """Return `runs/<experiment>/<UTC time>`."""
    return Path("runs") / experiment / datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")


class Workdir:
    """A folder that one process at a time writes; the same settings on it resume, others are refused.

    Nothing is written before `claim`. A folder without results belongs to nobody: what a kill leaves of it may be begun
    again with other settings. A run that ends by a mistake removes what it wrote, unless it can be resumed from there.
    """

    def __init__(self, path: Path | str, experiment: str, flagfile: str, same: Callable[[str], list[str]]):
        """Name the folder.

        Args:
            path: the folder, which need not exist.
            experiment: as in `python -m experiments.<experiment>`.
            flagfile: the settings, as flags.cfg holds them.
            same: text of another flags.cfg -> how its settings differ from these, a phrase each; [] where a run with
                these may resume one with those.
        """
        self.path = expand(path)
        self.experiment = experiment
        self.flagfile = flagfile
        self._same = same
        self._lock: FileLock | None = None
        self._lock_id: tuple[int, int] | None = None  # device and inode of the lock's file
        self._created: list[Path] = []  # folders that `claim` created, the innermost first
        self._began = False  # whether `claim` found no results

    @property
    def command(self) -> str:
        """The command that repeats the run."""
        return (
            f"python -m experiments.{self.experiment} --flagfile={shlex.quote(str(self.path / 'flags.cfg'))} "
            "--workdir=NEW_FOLDER"
        )

    def check(self) -> None:
        """Refuse, before anything is computed or written, a folder that `claim` would refuse.

        Raises:
            UserError: it was made with other settings, holds other files, is a file, or cannot be written.
        """
        with self.writing():
            self._check_access()
            if not self.held and (self.path / ".lock").exists():
                self._acquire().release()
            if not (self.path / "flags.cfg").exists():
                if self.path.exists() and any(entry.name not in FIRST_FILES for entry in self.path.iterdir()):
                    raise UserError(f"workdir {self.path} holds other files and no flags.cfg: name a new folder")
                return
            if not self._has_results():
                return
            try:
                recorded = read_text(self.path / "flags.cfg")
            except ValueError as error:
                raise UserError(
                    f"{self.path / 'flags.cfg'} is damaged ({error}): restore it, or name another --workdir"
                ) from None
            if differ := self._same(recorded):
                raise UserError(
                    f"workdir {self.path} was made with other flags: {', '.join(differ)}; name another --workdir"
                )

    def claim(self, environment: Environment) -> None:
        """Lock the folder, and write flags.cfg and environment.json, or compare with those that it holds.

        Raises:
            UserError: see `check`; or another process holds the folder, it cannot be written, or it was begun with
                other data.
        """
        with self.writing():
            self._created = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = self._acquire()
            self._lock_id = _identity(self.path / ".lock")
            self.check()
            self._began = not self._has_results()
            if self._began:
                self.write("flags.cfg", self.flagfile)
            recorded = None if self._began else self._recorded_environment()
            if recorded is None:
                self.write_json("environment.json", environment)
                return
            now = to_json(environment)
            if recorded.get("data") != now["data"]:
                raise UserError(f"workdir {self.path} was begun with other data (see environment.json): name another")
            if recorded.get("devices") != now["devices"] or recorded.get("versions") != now["versions"]:
                _note(f"{self.path} was begun on other devices or versions: its bits may differ")

    @property
    def held(self) -> bool:
        """Whether this process has claimed the folder."""
        return self._lock is not None

    def release(self, *, failed: bool = False, mistaken: bool = False) -> None:
        """Let go of the folder; a kill does so too.

        Args:
            failed: the run ended by an error: it removes what it wrote, if that holds no results.
            mistaken: the error was a mistake of the user: records are not results, for the mended run makes them anew.
        """
        if self._lock:
            with suppress(OSError):
                if failed and self._began and self._is_ours() and not self._has_results(records=not mistaken):
                    self._remove()
            self._lock.release()
            self._lock = None

    def write(self, name: str, content: str | bytes) -> Path:
        """Write a file whole: aside, flushed, then renamed."""
        return write_bytes(self.path / name, content.encode() if isinstance(content, str) else content, durable=True)

    def write_json(self, name: str, value: Any) -> Path:
        """Write a JSON file whole; numbers that are not finite become null."""
        return self.write(name, json.dumps(to_json(value), indent=1, allow_nan=False) + "\n")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Turn an error of the file system into one line."""
        try:
            yield
        except OSError as error:
            where = error.filename or self.path
            raise UserError(f"cannot write {where}: {os.strerror(error.errno) if error.errno else error}") from error

    def verify(self) -> None:
        """Check that the folder that was claimed still stands.

        Raises:
            UserError: it was removed or replaced.
        """
        if not self._is_ours():
            raise UserError(f"workdir {self.path} was removed or replaced during the run: start the run again")

    def _is_ours(self) -> bool:
        return (self.path / "flags.cfg").exists() and _identity(self.path / ".lock") == self._lock_id

    def _check_access(self) -> None:
        """Raise UserError where the folder cannot be written, or created in the nearest folder that exists."""
        nearest = next(folder for folder in (self.path, *self.path.absolute().parents) if os.path.lexists(folder))
        if not nearest.is_dir():
            raise UserError(f"cannot write workdir {self.path}: {nearest} is not a folder; name another --workdir")
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise UserError(f"cannot write workdir {self.path}: {nearest} is not writable; name another --workdir")

    def _has_results(self, *, records: bool = True) -> bool:
        """Return whether the folder holds more than a run writes before its first result, counting records or not."""
        ignored = HEADER_FILES if records else (*HEADER_FILES, "metrics.jsonl")
        return any(_is_result(entry) for entry in self.path.iterdir() if entry.name not in ignored)

    def _recorded_environment(self) -> dict[str, Any] | None:
        """Return environment.json, or None if it is missing or damaged: checkpoints check their data by themselves."""
        path = self.path / "environment.json"
        if not path.exists():
            return None
        try:
            recorded = json.loads(read_text(path))
        except (ValueError, RecursionError):
            recorded = None
        if isinstance(recorded, dict):
            return recorded
        _note(f"{path} was damaged and is written anew")
        return None

    def _remove(self) -> None:
        """Remove all that is in the folder, which holds no results, and the folders that `claim` created."""
        for path in self.path.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        for folder in self._created:
            folder.rmdir()

    def _acquire(self) -> FileLock:
        lock = FileLock(self.path / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise UserError(f"workdir {self.path} is in use by another process: wait, or name another") from None
        return lock


class Lines:
    """A file of JSON records, one a line, that is only ever appended to; a context manager.

    A resumed run repeats the records of what is restored: those already in the file are skipped, and the file is
    cut where one first differs.
    """

    def __init__(self, path: Path):
        """Name the file."""
        self.path = path

    def __enter__(self) -> Self:
        """Open the file, at its first record."""
        self.standing = self.path.read_bytes().splitlines(keepends=True)[::-1] if self.path.exists() else []
        self.file = self.path.open("ab")
        self.position = 0
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Cut off records that were not repeated, unless the run broke off, and close."""
        if kind is None:
            self._cut()
        self.file.close()

    def add(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Append records, but for those that stand there already, and hand them to the system."""
        for record in records:
            line = (json.dumps(to_json(record), allow_nan=False) + "\n").encode()
            if self.standing and self.standing[-1] == line:
                self.position += len(self.standing.pop())
            else:
                self._cut()
                self.file.write(line)
        self.file.flush()

    def _cut(self) -> None:
        if self.standing:
            self.file.truncate(self.position)
            self.standing = []


def environment(data: Mapping[str, str], device_count: int) -> Environment:
    """Return what a run depends on beside its settings.

    Args:
        data: sha256 of each file read, by name.
        device_count: devices that the run computes on.
    """
    import jax

    packages = ("mllab", "jax", "jaxlib", "flax", "optax", "numpy")
    device = jax.devices()[0]
    return Environment(
        versions={"python": platform.python_version()} | {name: _version(name) for name in packages},
        devices={"count": device_count, "kind": device.device_kind, "platform": device.platform},
        machine=platform.platform(),
        cpu=_cpu(),
        xla_flags=os.environ.get("XLA_FLAGS", ""),
        git_commit=_commit(),
        data=dict(data),
    )


def _is_result(path: Path) -> bool:
    """Return whether an entry of a workdir, other than its header, may hold results.

    Empty folders and records, and checkpoints that are not sealed yet, are none: a kill may leave them.
    """
    if path.name == "checkpoints":
        return any(entry.name.isdigit() for entry in path.glob("*/*"))
    if path.is_dir():
        return any(not entry.is_dir() for entry in path.rglob("*"))
    return path.name != "metrics.jsonl" or path.stat().st_size > 0


def read_text(path: Path) -> str:
    """Return the text of a small file.

    Raises:
        ValueError: it is too long, empty, or not UTF-8.
    """
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError("too long")
    if not content.strip():
        raise ValueError("empty")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("not text in UTF-8") from None


def _identity(path: Path) -> tuple[int, int] | None:
    """Return the device and inode of a file; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _note(line: str) -> None:
    with suppress(OSError):
        print(f"note: {line}", file=sys.stderr)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "source"


def _cpu() -> str:
    """Return the processor's name: the same bits hold on one type of CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _commit() -> str | None:
    """Return the commit of the code that runs, with a `+` where it was changed since; None outside a checkout."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        command = ["git", "-C", str(here), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None
