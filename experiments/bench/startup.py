r"""The cost of a start: importing mllab, and what a second start of the race still compiles.

python -m experiments.bench.startup
"""

import importlib
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from experiments import frame
from experiments.bench import harness
from experiments.bench.harness import Sample, Samples
from mllab.report.report import Report
from mllab.report.table import Table

MAX_IMPORT_SECONDS = 0.3  # that `import mllab` adds to jax and optax
IMPORTS = {"python alone": "pass", "import jax, optax": "import jax, optax", "and mllab": "import jax, optax, mllab"}
EVENT = "/jax/compilation_cache/"  # of jax.monitoring


@dataclass(frozen=True, kw_only=True)
class Settings(harness.Settings):
    """How often to measure the imports."""


@dataclass(frozen=True)
class Measurement:
    """The samples of the imports, and of a first and a second start of the same race."""

    imports: Samples
    starts: dict[str, Sample]


def measure(run: frame.Context, settings: Settings) -> Measurement:
    """Measure imports and starts."""
    del run
    programs = {
        name: lambda code=code: Sample(harness.process([sys.executable, "-c", code]), {})
        for name, code in IMPORTS.items()
    }
    imports = harness.in_turn(programs, settings.repeats)
    with tempfile.TemporaryDirectory() as folder:
        starts = {start: counted(Path(folder), start, epochs=2) for start in ("first", "second")}
    return Measurement(imports, starts)


def report(run: frame.Context, settings: Settings, measured: Measurement) -> Report:
    """Report the seconds of the imports, and the compilations of the starts."""
    del run, settings
    return harness.report("startup", [import_table(measured.imports), start_table(measured.starts)])


def import_table(samples: Samples) -> Table:
    """Return the table of the imports, whole processes."""
    rows: list[list[Any]] = []
    before = None
    for name, each in samples.items():
        added = None if before is None else harness.seconds(each) - before
        before = harness.seconds(each)
        spread = harness.spread([sample.seconds for sample in each])
        judged: list[Any] = [None, None]
        if added is not None and name == "and mllab":
            judged = [MAX_IMPORT_SECONDS, harness.verdict(added < MAX_IMPORT_SECONDS)]
        rows.append([name, f"{before:.3f}", spread, None if added is None else f"{added:.3f}", *judged])
    return Table(["program", "median s", "least – greatest s", "adds s", "target", "met"], rows)


def start_table(starts: dict[str, Sample]) -> Table:
    """Return the table of the starts."""
    rows = []
    for start, (seconds, counts) in starts.items():
        judged = [0, harness.verdict(counts["compiled"] == 0)] if start == "second" else [None, None]
        rows.append([start, f"{seconds:.2f}", counts["from_cache"], counts["compiled"], *judged])
    return Table(["start", "whole process s", "programs from cache", "compiled", "target", "met"], rows)


def counted(folder: Path, start: str, **race: Any) -> Sample:
    """Return the measurement of a race that uses the compilation cache in `folder`, with its compilations."""
    words = harness.command("optimizer_race", workdir=folder / start, **race)[3:]
    count = harness.role_command("startup", "count", module="experiments.optimizer_race", words=words)
    path = folder / f"{start}.json"
    seconds = harness.process([*count, f"--report={path}"], cache=folder / "compiled")
    return Sample(seconds, harness.read(path))


def count(module: str, words: Sequence[str]) -> dict[str, int]:
    """Run a program in this process; return how many XLA programs it compiled, and how many came from the cache."""
    seen: Counter[str] = Counter()
    jax.monitoring.register_event_listener(lambda event, **details: seen.update([event]))
    importlib.import_module(module).main([module, *words])  # run as `__main__` it would end this process
    hits = seen[f"{EVENT}cache_hits"]
    return {"compiled": seen[f"{EVENT}compile_requests_use_cache"] - hits, "from_cache": hits}


main, run = frame.program(Settings, measure, report)

if __name__ == "__main__":
    harness.start(main, count=count)
