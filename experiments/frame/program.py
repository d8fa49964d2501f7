"""A program: settings, a measurement and a report become `main` for the command line and `run` for Python.

`program` does what every experiment needs and none should repeat: flags, devices, compilation cache, workdir,
environment, progress, metrics.jsonl, timing of each part, figures, page, summary.json, the closing table and answer,
and one line for a mistake.
"""

import hashlib
import io
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn, TextIO, TypeVar

from experiments import process
from experiments.frame import layout, notebook, profile, settings, shared_flags
from experiments.frame.datasets import DatasetSetting, Needs
from experiments.frame.precision import matmul_precision
from experiments.frame.profile import Observer, Profile, Profiled
from experiments.frame.summary import to_json
from experiments.frame.watchdog import Watchdog
from experiments.frame.workdir import Lines, Workdir, default_path, environment
from mllab import devices, hosts
from mllab.data import catalog
from mllab.data.dataset import Dataset
from mllab.errors import UserError, shortened
from mllab.report import console
from mllab.report.report import Environment, Provenance, Report
from mllab.report.table import Table

LOST = (
    "error: another process of this run has ended, so this one ends, too: see its output, and start all of them again; "
    "with the same --workdir they resume"
)
_STARTED = time.perf_counter()


class Context:
    """One run of an experiment: its data, devices, progress, records and files."""

    def __init__(self, experiment: str, chosen: settings.Base, progress: console.Progress, stack: ExitStack):
        """See `program`, which makes one a run."""
        self.experiment = experiment
        self.progress = progress
        self.seconds: dict[str, float] = {}  # wall time of each part
        self.sources: list[str] = []  # citation and licence of the data
        self._sha256: dict[str, str] = {}
        self._device_count = 1
        self._settings = chosen
        self._stack = stack
        self._lines: Lines | None = None
        self._environment: Environment | None = None
        self._workdir: Workdir | None = None
        self._profile: Profile | None = None
        if "workdir" in chosen.table():
            path = getattr(chosen, "workdir") or default_path(experiment)  # noqa: B009 - not all settings have one
            if not hosts.is_first():  # whose files are the run's
                path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "workdir"
            differences = partial(chosen.differences, others=shared_flags.SHARED)
            self._workdir = Workdir(path, experiment, chosen.flagfile(), differences)
            self._workdir.check()

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Add the wall time of a block to a part's seconds, as the report lists them."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - began

    def load(self, *, extra: Sequence[str] = (), transforms: bool = False, **options: Any) -> Dataset:
        """Load the data set that the settings name (`frame.dataset`), and record its source.

        Args:
            extra: columns of a table to return raw (`Dataset.extra_columns`), which are not inputs then.
            transforms: whether the experiment scores by `Dataset.inverse`, which a transformed target needs.
            **options: `dataset` or `size`, where they are not the settings' own.

        Raises:
            UserError: see `catalog.load`; or the data set lacks what the experiment needs.
        """
        names = ("data_dir", "split_seed", "target")
        if isinstance(self._settings, shared_flags.Table):
            options["table_options"] = chosen = self._settings.table_options(extra)
            if chosen.target_transform != "none" and not transforms:
                raise UserError(
                    f"--target_transform={chosen.target_transform}: {self.experiment} scores on the scale that is "
                    "learned; leave it out"
                )
        given = {name: getattr(self._settings, name) for name in names if hasattr(self._settings, name)}
        name = options.pop("dataset", None) or getattr(self._settings, "dataset")  # noqa: B009
        setting = self._settings.table()["dataset"]
        needs = setting.needs if isinstance(setting, DatasetSetting) else Needs()
        needs.check_name(name)
        data = catalog.load(name, needs_target=needs.target, **given, **options)
        needs.check(name, data)
        self.read(data.sha256)
        licence = f"licence: {data.licence}" if data.licence else ""
        self.sources += [line for line in (data.citation, licence) if line]
        return data

    def read(self, sha256: Mapping[str, str]) -> None:
        """Record files that were read, by name, for environment.json; before the first result."""
        self._sha256 |= sha256

    def mesh(self, lanes: int | None = None, *, all_hosts: bool = False) -> Any:
        """Return the mesh of the devices that the settings ask for (all by default), to spread a computation over.

        Args:
            lanes: runs that are spread; more devices are not taken, unless the mesh splits batches.
            all_hosts: the devices of all processes, for `training.drive`; otherwise those of this one.
        """
        chosen = self._settings
        count, batch = chosen.mesh_sizes() if isinstance(chosen, shared_flags.Devices) else (None, 1)
        mesh = devices.mesh(None if hosts.several() else count, batch)
        if hosts.several() and (sizes := getattr(chosen, "mesh", None)) and count not in (None, mesh.size):
            raise UserError(f"--mesh={sizes}: the processes have {mesh.size} devices together")
        if hosts.several() and not all_hosts:
            mesh = devices.flat(mesh)
        elif not hosts.several() and lanes is not None and batch == 1 and lanes < mesh.size:
            mesh = devices.mesh(lanes)
        self._device_count = mesh.size
        return mesh

    def profiled(self, observer: Observer) -> Observer:
        """Return an observer of a drive that makes a profile, too, where the settings ask for one."""
        chosen = self._settings
        if not isinstance(chosen, shared_flags.Steps) or chosen.profile is None:
            return observer
        if self._profile is None:
            folder = self.path / profile.FOLDER
            made = Profile(folder, self.progress.say, chosen.precision, self._device_count)
            self._stack.push(lambda kind, error, trace: made.close(failed=kind is not None))
            self._profile = made
        return Profiled(observer, self._profile)

    @property
    def folder(self) -> Path | None:
        """The workdir's folder, claimed or not; None for an experiment without a workdir."""
        return self._workdir.path if self._workdir else None

    @property
    def path(self) -> Path:
        """The workdir's folder, claimed for this run."""
        return self._claimed().path

    @property
    def environment(self) -> Environment:
        """What the run depends on beside its settings; final once the workdir is claimed."""
        if self._environment is None:
            self._environment = environment(self._sha256, self._device_count)
        return self._environment

    def record(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Append records to metrics.jsonl."""
        with self._claimed().writing():
            if self._lines is None:
                self._lines = self._stack.enter_context(Lines(self.path / "metrics.jsonl"))
            self._lines.add(records)

    def write(self, name: str, content: str | bytes) -> Path:
        """Write a file of the workdir whole."""
        with self._claimed().writing():
            return self._claimed().write(name, content)

    def finish(self, report: Report, found: Any, began: float) -> Path | None:
        """Write figures, page and summary.json; return the page's path, or None for an experiment without a workdir."""
        if self._workdir is None:
            return None
        from mllab.report import page

        folder = self._claimed()
        with folder.writing():
            with self.timed("figures"):
                drawn = page.save_drawings(report, folder.path / "figures")
            self.seconds["total"] = time.perf_counter() - began  # the figures included
            provenance = Provenance(folder.command, self.environment, self.seconds, tuple(self.sources))
            page.write(folder.path / "report.html", report, drawn, provenance)
            names = [name for name, setting in self._settings.table().items() if setting.affects_result]
            chosen = {name: getattr(self._settings, name) for name in names}
            summary = {"experiment": self.experiment, "flags": chosen, **to_json(found), "seconds": self.seconds}
            folder.write_json("summary.json", summary)
        folder.verify()
        return folder.path / "report.html"

    def _claimed(self) -> Workdir:
        if self._workdir is None:
            raise RuntimeError(f"{self.experiment} has no workdir: its settings lack shared_flags.Output")
        if self._workdir.held:
            self._workdir.verify()
        else:
            self._stack.push(self._release)
            self._workdir.claim(self.environment)
        return self._workdir

    def _release(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if self._workdir:
            is_mistake = isinstance(error, UserError | OSError) or _is_out_of_memory(error)
            self._workdir.release(failed=kind is not None, mistaken=is_mistake)


S = TypeVar("S", bound=settings.Base)
F = TypeVar("F")  # a measurement


def program(
    settings_class: type[S],
    measure: Callable[[Context, S], F],
    report: Callable[[Context, S, F], Report],
    *,
    all_cores: bool = False,
    show_seconds: bool = False,
    words: str = "",
    instead: str = "",
    failed: Callable[[F], bool] = lambda found: False,
    needs_words: bool = True,
) -> tuple[Callable[..., None], Callable[..., F]]:
    """Return an experiment's `main`, for the command line, and `run`, for Python.

    `run(**settings)` writes the workdir, shows the table and the answer (in a notebook, the page), and returns the
    measurement.

    Args:
        settings_class: what can be set.
        measure: makes the measurement, a dataclass; see `summary`.
        report: makes the report from it.
        all_cores: ask JAX for one CPU device a core (or as many as the setting `devices` says), to spread runs over.
        show_seconds: end with the table of where the time went, as the page has it.
        words: the setting that takes the command line's words that are not flags; none where empty.
        instead: a setting that may be given in place of words.
        failed: whether `main` is to exit with code 1 after a measurement, which is shown all the same.
        needs_words: whether one of the two must be given.
    """
    module = sys.modules[measure.__module__]
    name = _name(module)

    def run(**overrides: Any) -> F:
        began = time.perf_counter()
        with notebook.brief_errors():
            found = _execute(name, settings_class.make(overrides), measure, report, began, show_seconds, _warn)
        notebook.abbreviate(found)
        return found

    def main(argv: Sequence[str] | None = None) -> None:
        """Read the flags and run; a mistake ends the program with one line and exit code 1."""
        argv = sys.argv if argv is None else argv
        if module.__name__ == "__main__":
            process.begin()
        with process.interruptible(), _one_line(settings_class):
            if any(word.lstrip("-") in ("help", "helpfull", "helpshort", "h") for word in argv[1:] if word[:1] == "-"):
                usage = f"[--flag=value ...] {words.upper()} ..." if words else "[--flag=value ...]"
                width = layout.text_width()
                about = layout.fill(module.__doc__ or "", width)
                print(settings.help_text(settings_class, f"experiments.{name}", about, usage, width), end="")
                sys.stdout.flush()
                return
            values, rest = settings.parse(settings_class, argv[1:], shared_flags.SHARED)
            if words and needs_words and not rest and words not in values and instead not in values:
                raise UserError(f"name one or more {words}: python -m experiments.{name} {words.upper()} ...")
            if rest and not words:
                raise UserError(f"unexpected argument {shortened(rest[0])!r}: flags are written --name=value")
            chosen = settings_class.make(values | ({words: tuple(rest)} if rest else {}))
            devices.check_xla_flags()
            if all_cores:
                devices.use_cores(_own_devices(chosen))
            devices.cache_compilations()
            _join(name, chosen)
            devices.available()
            began = time.perf_counter() - process_seconds()
            found = _execute(name, chosen, measure, report, began, show_seconds, _end_stuck)
            sys.stdout.flush()
            hosts.leave()
            if failed(found):
                process.end(1)
        if module.__name__ == "__main__":  # a caller goes on
            process.finish()

    run.__doc__ = f"{(module.__doc__ or name).strip().splitlines()[0]}\n\nSettings, as keywords:\n" + "\n".join(
        f"    {key}: {setting.help}" for key, setting in settings_class.table().items()
    )
    return main, run


def _own_devices(chosen: settings.Base) -> int | None:
    """Return how many devices this process is to have; None for one a core."""
    if not isinstance(chosen, shared_flags.Devices):
        return None
    count, _ = chosen.mesh_sizes()
    processes = chosen.num_processes or 1
    if count is None or chosen.mesh is None:
        return count
    if count % processes:
        raise UserError(f"--mesh={chosen.mesh}: {processes} processes cannot share {count} devices equally")
    return count // processes


def _join(name: str, chosen: settings.Base) -> None:
    """Join the other processes of this run, if there are any.

    Raises:
        UserError: see `hosts.start`; or a process was started with other settings.
    """
    if not isinstance(chosen, shared_flags.Devices):
        return
    asked = (chosen.coordinator, chosen.num_processes, chosen.process_id)
    if asked == (None, None, None) and not hosts.in_cluster():
        return
    process.report_lost(LOST, hosts.SIGNS_OF_LOSS)
    hosts.start(*asked)
    if not hosts.is_first():
        process.silence(1)  # the first process shows the results
    flags = "\n".join([name, *chosen.result_flags()])
    hosts.check_alike("flags", hashlib.sha256(flags.encode()).hexdigest())


def _execute(
    name: str,
    chosen: settings.Base,
    measure: Callable[[Context, Any], Any],
    report: Callable[[Context, Any, Any], Report],
    began: float,
    show_seconds: bool,
    report_stuck: Callable[[str], None],
) -> Any:
    """Measure, report, write and show; return the measurement."""
    devices.release_programs()  # of earlier runs in a notebook
    with _files_in_one_line(), ExitStack() as stack:
        board = notebook.board()
        shown = sys.stdout if board else sys.stderr
        stream = shown if hosts.is_first() else stack.enter_context(open(os.devnull, "w"))
        progress = stack.enter_context(console.Progress(stream, board=board))
        stack.enter_context(Watchdog(lambda: progress.description or name, report_stuck))
        context = Context(name, chosen, progress, stack)
        stack.enter_context(notebook.brief_interruption(context.folder))
        if (imports := time.perf_counter() - began) >= 0.05:
            context.seconds["start and imports"] = imports
        with matmul_precision(chosen, progress.say):
            found = measure(context, chosen)
        with context.timed("figures"):
            made = report(context, chosen, found)
        page = context.finish(made, found, began)
    tables = [*made.tables]
    if show_seconds:
        from mllab.report.page import seconds_table  # brings jinja2

        tables.append(seconds_table(context.seconds))
    if board:
        closing = io.StringIO()
        _write_closing(made, tables, page, closing)
        notebook.show_closing(page, closing.getvalue())
    else:
        _write_closing(made, tables, page, sys.stdout)
    return found


def _write_closing(made: Report, tables: Sequence[Table], page: Path | None, stream: TextIO) -> None:
    """Write what a run ends with: the table, remarks, further tables, the answer and the page's path."""
    console.show(made.table, stream=stream)
    console.show_remarks(made.remarks, page.name if page else "", stream=stream)
    for table in tables:
        print(file=stream)
        console.show(table, stream=stream)
    if made.answer:
        print(file=stream)
        console.show_line(made.answer, stream=stream)
    if page:
        print(f"Report: {page}", file=stream)


@contextmanager
def _files_in_one_line() -> Iterator[None]:
    """Turn an error of a file into one line: a data file that vanished, a folder that cannot be written."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise UserError(f"{error.filename or 'a file'}: {reason}") from error


@contextmanager
def _one_line(settings_class: type[settings.Base]) -> Iterator[None]:
    """End the program with one line where the user made a mistake, or the machine ran out of memory."""
    try:
        yield
    except KeyboardInterrupt:
        _end("interrupted", 130)
    except UserError as error:
        _end(f"error: {error}")
    except BrokenPipeError:
        process.silence(1)  # the reader of standard output, such as `head`, asks for no more
    except OSError as error:  # standard output is full
        process.silence(1)
        _end(f"error: standard output: {os.strerror(error.errno) if error.errno else error}")
    except (RuntimeError, MemoryError) as error:
        if hosts.several() and hosts.is_loss(error):
            _end(LOST)
        if not _is_out_of_memory(error):
            raise
        sizes = ("seeds", "hidden", "batch_size", "rows", "restarts")
        less = ", ".join(f"--{name}" for name in sizes if name in settings_class.table())
        _end(f"error: out of memory: lower {less or 'the number of rows'}")


def _is_out_of_memory(error: BaseException | None) -> bool:
    if isinstance(error, RuntimeError):  # of XLA
        return any(sign in str(error) for sign in ("RESOURCE_EXHAUSTED", "Out of memory"))
    return isinstance(error, MemoryError)


def _end(line: str, code: int = 1) -> NoReturn:
    with suppress(OSError):  # standard error may be full
        print(line, file=sys.stderr)
    process.end(code)


def _warn(line: str) -> None:
    print(f"warning: {line}", file=sys.stderr, flush=True)


def _end_stuck(line: str) -> None:
    """End the process from another thread; its main thread will never return. The workdir can be resumed."""
    _end(f"error: {line}")


def _name(module: ModuleType) -> str:
    """Return an experiment's name: its module's below `experiments`, also where that runs as `__main__`."""
    spec = module.__spec__
    name = spec.name if spec else Path(module.__file__ or "experiment").stem
    package, _, rest = name.partition(".")
    return rest if package == "experiments" else name.rpartition(".")[2]


def process_seconds() -> float:
    """Return the wall time since this process (where unknown, Python) began."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, IndexError, ValueError):
        return time.perf_counter() - _STARTED
