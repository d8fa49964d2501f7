r"""What a start costs: importing mllab, and what a second start of the race still compiles.

python -m experiments.bench.startup
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from experiments.bench import timing
from experiments.bench.timing import Sample
from experiments.workdir import launch
from mllab.report import console

IMPORT_SECONDS = 0.3  # what `import mllab` may add to jax and optax
PROGRAMS = {"python alone": "pass", "import jax, optax": "import jax, optax", "and mllab": "import jax, optax, mllab"}

flags.declare_key_flag(timing.REPEATS.name)


def main(argv: Sequence[str]) -> None:
    """Measure, and print both tables."""
    console.table(*imports(timing.REPEATS.value))
    print()
    console.table(*starts())


def imports(repeats: int) -> tuple[list[str], list[list]]:
    """Return the columns and rows of what each import takes, whole process."""
    measures = {
        name: lambda code=code: Sample(timing.process([sys.executable, "-c", code]), {})
        for name, code in PROGRAMS.items()
    }
    samples = timing.in_turn(measures, repeats)
    rows: list[list] = []
    before = None
    for name, each in samples.items():
        adds = None if before is None else timing.seconds(each) - before
        before = timing.seconds(each)
        spread = timing.spread([sample.seconds for sample in each])
        judged = [IMPORT_SECONDS, timing.verdict(adds < IMPORT_SECONDS)] if adds and name == "and mllab" else [None] * 2
        rows.append([name, f"{before:.3f}", spread, adds and f"{adds:.3f}", *judged])
    return ["program", "median s", "least – greatest s", "adds s", "target", "met"], rows


def starts() -> tuple[list[str], list[list]]:
    """Return the columns and rows of what the first and the second start of the same race compile."""
    rows = []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for start in ("first", "second"):
            seconds, counts = counted(folder, start, epochs=2)
            files = sum(path.name.endswith("-cache") for path in (folder / "compiled").iterdir())
            judged = [0, timing.verdict(counts["compiled"] == 0)] if start == "second" else [None] * 2
            rows.append([start, f"{seconds:.2f}", counts["from_cache"], files, counts["compiled"], *judged])
    return ["start", "whole process s", "programs from cache", "files in cache", "compiled", "target", "met"], rows


def counted(folder: Path, start: str, **race: Any) -> Sample:
    """Start a race with the compilation cache of `folder`; return its time, and what was compiled and what was not."""
    report = folder / f"{start}.json"
    python, module, race_module, *arguments = timing.command("optimizer_race", workdir=folder / start, **race)
    counting = [python, module, "experiments.bench.compilations", str(report), race_module, *arguments]
    return Sample(timing.process(counting, cache=folder / "compiled"), timing.read(report))


if __name__ == "__main__":
    launch(main)
