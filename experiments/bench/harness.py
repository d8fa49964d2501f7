"""The harness of all benchmarks: programs as separate processes, measured in turn, and tables of their medians.

NumPy's, PyTorch's and JAX's thread pools slow each other several-fold inside one process, so every measurement is a
process of its own, started after the previous one has ended.

The file of a case holds all of it: `python -m experiments.bench.CASE` measures and prints, and
`python -m experiments.bench.CASE ROLE --name=value ...` is one of the processes that it measures (see `start`).
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from experiments import frame
from mllab import devices
from mllab.errors import UserError
from mllab.folders import expand
from mllab.report.report import Report
from mllab.report.table import Table

REPOSITORY = Path(__file__).parents[2]

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Settings(frame.settings.Base):
    """How often to measure."""

    repeats: int = frame.whole(5, help="Number of measurements of each program; tables show medians.", low=1)


@dataclass(frozen=True, kw_only=True)
class DataSettings(Settings):
    """Where the data are."""

    data_dir: str | None = frame.Data.with_default("data_dir", None)


class Sample(NamedTuple):
    """One measurement of a program."""

    seconds: float  # wall time of the process
    report: dict[str, Any]  # written by the program


Samples = Mapping[str, Sequence[Sample]]  # of each program, by name


class Solver(NamedTuple):
    """A way to solve a problem whose data are in memory."""

    solve: Callable[[], Any]  # timed; returns when the result is computed
    report: Callable[[Any], dict[str, Any]]  # result -> figures and arrays to compare
    warm_up: Callable[[], Any] | None = None  # called before, not timed: compiles, starts threads; default `solve`
    calls: int = 1  # timed calls, of which the median counts
    share: float = 1.0  # of the problem that `solve` computes; the seconds are extrapolated


def solver_program(
    case: str,
    settings_class: type[Settings],
    problems: Callable[[Any], Iterable[tuple[str, Arrays]]],
    solvers: Mapping[str, Callable[[Arrays], Solver]],
    table: Callable[[str, Samples], Table],
) -> tuple[Callable[..., None], Callable[..., Any]]:
    """Return `main` and `run` of a case that measures all solvers on all problems; see `frame.program`.

    Args:
        case: its module's name, such as "kmeans".
        settings_class: the settings.
        problems: (settings) -> names and arrays of the problems, made one after another.
        solvers: by name, "mllab" among them; they are roles of the case (see `solving`).
        table: (name of a problem, samples by solver) -> the table of that problem.
    """

    def measure(run: frame.Context, settings: Settings) -> Mapping[str, Samples]:
        del run
        require("sklearn")
        return solve_in_turn(case, problems(settings), solvers, settings.repeats)

    def tables(run: frame.Context, settings: Settings, measured: Mapping[str, Samples]) -> Report:
        del run, settings
        return report(case, [table(name, samples) for name, samples in measured.items()])

    measure.__module__ = problems.__module__  # whose docstring is the help text
    return frame.program(settings_class, measure, tables)


# ── Processes ───────────────────────────────────────────────────────────────────────────────────────────────────────


def start(main: Callable[[], None], **roles: Callable[..., dict[str, Any]]) -> None:
    """Run a case from the command line: the benchmark itself, or one of its roles.

    A role is a function of keyword arguments, written as `--name=JSON`, that returns a report. The report is written to
    the file that `--report` names, or printed.
    """
    if len(sys.argv) < 2 or sys.argv[1] not in roles:
        main()
        return
    _, name, *words = sys.argv
    pairs = (word.removeprefix("--").partition("=") for word in words)
    arguments = {key: _from_json(value) for key, _, value in pairs}
    path = arguments.pop("report", None)
    text = json.dumps(roles[name](**arguments))
    if path:
        Path(path).write_text(text)
    else:
        print(text)


def solving(
    solvers: Mapping[str, Callable[[Arrays], Solver]], *, all_cores: bool = False
) -> dict[str, Callable[..., dict[str, Any]]]:
    """Return the roles of a case's solvers, by name; their argument `data` is the .npz file of the problem.

    Args:
        solvers: (arrays of the problem) -> the solver.
        all_cores: ask JAX for one CPU device a core.
    """

    def role(make: Callable[[Arrays], Solver]) -> Callable[..., dict[str, Any]]:
        def run(data: str) -> dict[str, Any]:
            if all_cores:
                devices.use_cores()
            devices.cache_compilations()
            with np.load(data) as file:
                return solved(make(dict(file)))

        return run

    return {name: role(make) for name, make in solvers.items()}


def solved(solver: Solver) -> dict[str, Any]:
    """Return the report of a solver, with the median `seconds` of its calls and the `first_seconds` of its warm-up."""
    first, _ = _timed(solver.warm_up or solver.solve)
    times = []
    for _ in range(solver.calls):
        seconds, result = _timed(solver.solve)
        times.append(seconds)
    return {**solver.report(result), "first_seconds": first, "seconds": median(times) / solver.share}


def require(package: str, hint: str = "") -> None:
    """Raise UserError, with a further hint, if the package of a peer is not installed."""
    if find_spec(package) is None:
        raise UserError(f"{package} is not installed: pip install 'mllab[bench]'{hint}")


def data_folder(data_dir: str | None, name: str) -> Path:
    """Return the folder of tables `name` in `data_dir`, by default in $MLLAB_DATA.

    Raises:
        UserError: there is none.
    """
    place = data_dir or os.environ.get("MLLAB_DATA")
    if not place:
        raise UserError(f"where is the folder {name}? give --data_dir, or set $MLLAB_DATA")
    folder = expand(place) / name
    if not folder.is_dir():
        raise UserError(f"no folder {folder}: give its parent as --data_dir, or as $MLLAB_DATA")
    return folder


def command(module: str, **flags: Any) -> list[str]:
    """Return `python -m experiments.<module> --name=value ...`; lists are joined by commas."""
    joined = {name: ",".join(map(str, v)) if isinstance(v, list | tuple) else v for name, v in flags.items()}
    return [sys.executable, "-m", f"experiments.{module}", *(f"--{name}={value}" for name, value in joined.items())]


def role_command(case: str, role: str, **arguments: Any) -> list[str]:
    """Return `python -m experiments.bench.<case> ROLE --name=JSON ...`; see `start`."""
    pairs = [f"--{name}={json.dumps(value, default=str)}" for name, value in arguments.items()]
    return [sys.executable, "-m", f"experiments.bench.{case}", role, *pairs]


def process(*commands: Sequence[str], cache: Path | None = None) -> float:
    """Run commands side by side, each as a process; return the wall seconds until the last one has ended.

    Args:
        commands: see `command`.
        cache: the folder of JAX's persistent compilation cache, instead of the user's.

    Raises:
        RuntimeError: a command failed; the message has the end of its standard error.
    """
    environment = os.environ | ({"JAX_COMPILATION_CACHE_DIR": str(cache)} if cache else {})
    began = time.perf_counter()
    processes = [
        subprocess.Popen(
            words, cwd=REPOSITORY, env=environment, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        for words in commands
    ]
    errors = [running.communicate()[1] for running in processes]
    seconds = time.perf_counter() - began
    for words, ended, error in zip(commands, processes, errors, strict=True):
        if ended.returncode:
            raise RuntimeError(f"{' '.join(words)} ended with {ended.returncode}:\n{error[-2000:]}")
    return seconds


def read(path: Path) -> dict[str, Any]:
    """Return the report that a program wrote."""
    return json.loads(path.read_text())


def program(path: Path, words: Sequence[str]) -> Callable[[], Sample]:
    """Return the measurement of a command that writes its report to `path`, which is added as `--report`."""
    return lambda: Sample(process([*words, f"--report={path}"]), read(path))


def in_turn(programs: Mapping[str, Callable[[], Sample]], repeats: int) -> dict[str, list[Sample]]:
    """Measure all programs once, then all again, `repeats` times: a slow phase of the machine slows all alike."""
    samples: dict[str, list[Sample]] = {name: [] for name in programs}
    for turn in range(repeats):
        for name, measure in programs.items():
            samples[name].append(measure())
            print(f"{turn + 1}/{repeats}  {name}: {samples[name][-1].seconds:.2f} s", file=sys.stderr, flush=True)
    return samples


def solve_in_turn(
    case: str, problems: Iterable[tuple[str, Arrays]], solvers: Iterable[str], repeats: int
) -> dict[str, dict[str, list[Sample]]]:
    """Return the samples of every solver on every problem, each a process of its own, in turn.

    Args:
        case: the module's name, whose roles the solvers are, such as "kmeans".
        problems: names and arrays, made one after another.
        solvers: names.
        repeats: number of measurements.
    """
    samples, names = {}, list(solvers)
    with tempfile.TemporaryDirectory() as folder:
        data, report = Path(folder) / "problem.npz", Path(folder) / "report.json"
        for problem, arrays in problems:
            np.savez(data, allow_pickle=False, **arrays)
            print(f"{problem}:", file=sys.stderr)
            commands = {name: role_command(case, name, data=data) for name in names}
            samples[problem] = in_turn({name: program(report, words) for name, words in commands.items()}, repeats)
    return samples


def best_threads(path: Path, module: str, **flags: Any) -> int:
    """Return the number of threads, 1 or one a core, with which a PyTorch program trains faster: best of two runs."""
    counts = sorted({1, devices.cores()})
    print(f"threads of {module}:", file=sys.stderr)
    samples = in_turn({str(n): program(path, command(module, threads=n, **flags)) for n in counts}, 2)
    return min(counts, key=lambda count: min(sample.report["seconds"] for sample in samples[str(count)]))


# ── Tables ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def report(title: str, tables: Sequence[Table]) -> Report:
    """Return the report of a benchmark, which is its tables."""
    return Report(title=title, question="", answer="", table=tables[0], tables=tables[1:])


def seconds(samples: Sequence[Sample]) -> float:
    """Return the median wall time of the processes."""
    return median(sample.seconds for sample in samples)


def figure(samples: Sequence[Sample], name: str) -> float:
    """Return the median of a figure that the programs reported."""
    return median(sample.report[name] for sample in samples)


def spread(values: Sequence[float]) -> str:
    """Return `least – greatest`."""
    return f"{min(values):.3g} – {max(values):.3g}"


def verdict(*met: bool) -> str:
    """Return whether all of the targets are met."""
    return "yes" if all(met) else "no"


def comparison(
    problem: str,
    samples: Samples,
    targets: Mapping[str, float],
    figures: Mapping[str, Callable[[str], str | None]],
    agrees: Callable[[str], bool],
) -> Table:
    """Return the table of a problem: one row per solver, with the seconds of its calls and their ratio to mllab's.

    Args:
        problem: its name, the first column's.
        samples: by solver, "mllab" among them.
        targets: least ratio of a solver's seconds to mllab's, for solvers that have a target.
        figures: further columns: the cell of a solver.
        agrees: whether mllab's result is as good as a solver's; required for a target to be met.
    """
    ours = figure(samples["mllab"], "seconds")
    rows: list[list[Any]] = []
    for name, each in samples.items():
        ratio, target = figure(each, "seconds") / ours, targets.get(name)
        met = None if target is None else verdict(ratio >= target, agrees(name))
        rows.append(
            [
                name,
                f"{figure(each, 'seconds'):.3f}",
                spread([sample.report["seconds"] for sample in each]),
                *(cell(name) for cell in figures.values()),
                *([None] * 3 if name == "mllab" else [f"{ratio:.2f}", target, met]),
            ]
        )
    return Table([problem, "median s", "least – greatest s", *figures, "× mllab", "target", "met"], rows)


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = call()
    return time.perf_counter() - began, result


def _from_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:  # a word without quotes, such as a path
        return text
