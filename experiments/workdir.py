"""The folder that one run of an experiment writes, and the way its program ends."""

import fcntl
import json
import math
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Self

from absl import app, flags, logging

from experiments.flags import ELSEWHERE
from mllab.errors import UserError
from mllab.report.atomic import write_bytes

_STARTED = time.perf_counter()


def process_seconds() -> float:
    """Return the wall time since this process began: from the kernel's clock where it tells, else since Python did."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, IndexError, ValueError):
        return time.perf_counter() - _STARTED


def launch(main: Callable[[Sequence[str]], None], *, arguments: bool = False) -> None:
    """Run an experiment's `main`: a mistake of the user's ends it with one line and exit code 1, no traceback.

    Args:
        main: takes the command line's words that are no flags, the program's name first.
        arguments: whether there may be such words.
    """

    def guarded(argv: Sequence[str]) -> None:
        try:
            if len(argv) > 1 and not arguments:
                raise UserError(f"unexpected argument {argv[1]!r}: flags are written --name=value")
            own = {flag.name for flag in flags.FLAGS.get_key_flags_for_module("__main__")}
            for flag in flags.FLAGS.flags_by_module_dict()["experiments.flags"]:
                if flag.present and flag.name not in own:
                    raise UserError(f"--{flag.name} means nothing to this experiment: see --help for its flags")
            main(argv)
            sys.stdout.flush()
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(130)
        except UserError as error:
            _end(str(error))
        except OSError as error:  # standard output closed or full, a data file that vanished
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nothing more can be said there
            _end(f"{error.filename or 'standard output'}: {os.strerror(error.errno) if error.errno else error}")
        except RuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error) and "Out of memory" not in str(error):
                raise
            has = {flag.name for flag in flags.FLAGS.get_key_flags_for_module("__main__")}
            less = ", ".join(
                f"--{name}" for name in ("seeds", "hidden", "batch_size", "rows", "restarts") if name in has
            )
            _end(f"out of memory: lower {less or 'the number of rows'}")

    logging.set_verbosity(logging.WARNING)  # absl's default tells of every backend that is not there
    app.run(guarded)


def _end(line: str) -> None:
    print(f"error: {line}", file=sys.stderr)
    sys.exit(1)


def flagfile(module: str) -> str:
    """Return the module's flags and those it adopted as an absl flagfile, but for --workdir."""
    settings = []
    for flag in sorted(flags.FLAGS.get_key_flags_for_module(module), key=lambda flag: flag.name):
        if flag.value is not None and flag.name != "workdir":
            value = ",".join(flag.value) if isinstance(flag.value, list) else flag.value
            settings.append(f"--{flag.name}={str(value).lower() if isinstance(value, bool) else value}\n")
    return "".join(settings)


def default_path(experiment: str) -> Path:
    """Return `runs/<experiment>/<UTC time>`."""
    return Path("runs") / experiment / datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")


class Workdir:
    """A folder that one process at a time writes; the same flags on it resume, other flags are refused."""

    def __init__(self, path: Path, experiment: str, settings: str):
        """Name the folder, the experiment (`python -m experiments.<it>`) and its flagfile."""
        self.path = Path(path).expanduser()
        self.experiment = experiment
        self.settings = settings

    @contextmanager
    def opened(self) -> Iterator["Workdir"]:
        """Hold the folder's lock; turn what the file system refuses into one line.

        Raises:
            UserError: another process holds it, it was made with other flags, or it cannot be written.
        """
        with _written(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
            try:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise UserError(
                        f"workdir {self.path} is in use by another process: wait, or name another"
                    ) from None
                self._claim()
                yield self
            finally:
                os.close(lock)  # and with it the lock; a kill lets go of it too

    def _claim(self) -> None:
        recorded = self.path / "flags.cfg"
        if not recorded.exists():
            ours = (".lock", "flags.cfg.partial")  # a kill may have come before the rename
            if any(entry.name not in ours for entry in self.path.iterdir()):
                raise UserError(f"workdir {self.path} holds other files and no flags.cfg: name a new folder")
            self.write("flags.cfg", self.settings)
            return
        before, now = (_parsed(text) for text in (recorded.read_text(), self.settings))
        differ = sorted(
            name for name in before.keys() | now.keys() if before.get(name) != now.get(name) and name not in ELSEWHERE
        )
        if differ:
            was = ", ".join(f"--{name} ({before.get(name, 'unset')}, now {now.get(name, 'unset')})" for name in differ)
            raise UserError(f"workdir {self.path} was made with other flags: {was}; name another --workdir")

    @property
    def command(self) -> str:
        """The command that repeats the run; a comment where it was called from Python, without flags."""
        if not self.settings:
            return f"# called from Python: experiments.{self.experiment}.run(...)"
        settings = shlex.quote(str(self.path / "flags.cfg"))
        return f"python -m experiments.{self.experiment} --flagfile={settings} --workdir=NEW_FOLDER"

    def write(self, name: str, content: str | bytes) -> Path:
        """Write a file whole: aside, flushed, then renamed."""
        return write_bytes(self.path / name, content.encode() if isinstance(content, str) else content, durable=True)

    def write_json(self, name: str, value: Any) -> Path:
        """Write a JSON file whole; what is not finite becomes null."""
        return self.write(name, json.dumps(finite(value), indent=1, allow_nan=False) + "\n")

    def write_environment(self, data: Mapping[str, str], count: int) -> dict[str, Any]:
        """Write environment.json: versions, `count` devices, XLA flags, git commit, sha256 of the data read.

        Raises:
            UserError: the folder was begun with other data, so that resuming would mix two.
        """
        environment = _environment(data, count)
        recorded = self.path / "environment.json"
        if recorded.exists():
            before = json.loads(recorded.read_text())
            if before.get("data") != environment["data"]:
                raise UserError(f"workdir {self.path} was begun with other data (see environment.json): name another")
            if before.get("devices") != environment["devices"] or before.get("versions") != environment["versions"]:
                print(f"note: {self.path} was begun on other devices or versions: its bits may differ", file=sys.stderr)
        else:
            self.write_json("environment.json", environment)
        return environment


class Lines:
    """A file of JSON records, one a line, that is only ever appended to; a context manager.

    After a resume the records that stand are told again; the file is cut back where one first differs.
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
        """Cut off what was not told again, unless the run broke off, and close."""
        if kind is None:
            self._cut()
        self.file.close()

    def add(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Append records, but for those that stand there already, and hand them to the system."""
        for record in records:
            line = (json.dumps(finite(record), allow_nan=False) + "\n").encode()
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


def finite(value: Any) -> Any:
    """Return the value as JSON has it: tuples and arrays as lists, what is not finite as null."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def _written(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = error.filename or path
        raise UserError(f"cannot write {where}: {os.strerror(error.errno) if error.errno else error}") from error


def _parsed(text: str) -> dict[str, str]:
    """Return the flags of a flagfile by name."""
    pairs = (line.lstrip("-").partition("=") for line in text.splitlines() if line.startswith("-"))
    return {name: value for name, _, value in pairs}


def _environment(data: Mapping[str, str], count: int) -> dict[str, Any]:
    import jax

    packages = ("mllab", "jax", "jaxlib", "flax", "optax", "numpy")
    return {
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in packages},
        "devices": {"count": count, "kind": jax.devices()[0].device_kind, "platform": jax.devices()[0].platform},
        "machine": platform.platform(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "git_commit": _commit(),
        "data": dict(data),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "source"


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
