"""The folder that one run of an experiment writes: one process at a time, whole files, resumed by the same settings."""

import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout

from experiments.frame.summary import to_json
from mllab.errors import UserError
from mllab.report.atomic import write_bytes
from mllab.report.report import Environment

OWN_FILES = (".lock", "flags.cfg.partial")  # what a kill may leave before flags.cfg stands


def default_path(experiment: str) -> Path:
    """Return `runs/<experiment>/<UTC time>`."""
    return Path("runs") / experiment / datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")


class Workdir:
    """A folder that one process at a time writes; the same settings on it resume, others are refused.

    Nothing is written before `claim`, which a run calls with its first result.
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
        self.path = Path(path).expanduser()
        self.experiment = experiment
        self.flagfile = flagfile
        self._same = same
        self._lock: FileLock | None = None

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
            UserError: it was made with other settings, holds other files, or is a file.
        """
        with self.writing():
            if not self.held and (self.path / ".lock").exists():
                self._acquire().release()
            recorded = self.path / "flags.cfg"
            if recorded.exists():
                if differ := self._same(recorded.read_text()):
                    raise UserError(
                        f"workdir {self.path} was made with other flags: {', '.join(differ)}; name another --workdir"
                    )
            elif self.path.exists() and any(entry.name not in OWN_FILES for entry in self.path.iterdir()):
                raise UserError(f"workdir {self.path} holds other files and no flags.cfg: name a new folder")

    def claim(self, environment: Environment) -> None:
        """Lock the folder, and write flags.cfg and environment.json, or compare with those that it holds.

        Raises:
            UserError: see `check`; or another process holds the folder, it cannot be written, or it was begun with
                other data.
        """
        with self.writing():
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = self._acquire()
            self.check()
            if not (self.path / "flags.cfg").exists():
                self.write("flags.cfg", self.flagfile)
            recorded = self.path / "environment.json"
            if not recorded.exists():
                self.write_json("environment.json", environment)
                return
            before, now = json.loads(recorded.read_text()), to_json(environment)
            if before.get("data") != now["data"]:
                raise UserError(f"workdir {self.path} was begun with other data (see environment.json): name another")
            if before.get("devices") != now["devices"] or before.get("versions") != now["versions"]:
                print(f"note: {self.path} was begun on other devices or versions: its bits may differ", file=sys.stderr)

    @property
    def held(self) -> bool:
        """Whether this process has claimed the folder."""
        return self._lock is not None

    def release(self) -> None:
        """Let go of the folder; a kill does so too."""
        if self._lock:
            self._lock.release()
            self._lock = None

    def write(self, name: str, content: str | bytes) -> Path:
        """Write a file whole: aside, flushed, then renamed."""
        return write_bytes(self.path / name, content.encode() if isinstance(content, str) else content, durable=True)

    def write_json(self, name: str, value: Any) -> Path:
        """Write a JSON file whole; numbers that are not finite become null."""
        return self.write(name, json.dumps(to_json(value), indent=1, allow_nan=False) + "\n")

    def _acquire(self) -> FileLock:
        lock = FileLock(self.path / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise UserError(f"workdir {self.path} is in use by another process: wait, or name another") from None
        return lock

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Turn an error of the file system into one line."""
        try:
            yield
        except OSError as error:
            where = error.filename or self.path
            raise UserError(f"cannot write {where}: {os.strerror(error.errno) if error.errno else error}") from error


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
