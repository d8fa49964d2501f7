r"""Softmax regression beside scikit-learn's, on Fashion-MNIST's 60,000 training rows of 784 pixels.

  python -m experiments.bench.softmax

Both make the same objective small: the sum of cross entropies and half the squared weights (C = 1). scikit-learn takes
lbfgs's 100 iterations, its default; mllab must come at least as low. The fit alone is timed, data in memory; compiling
and imports are left out. Every program is a process of its own, in turn with the other.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from experiments import flags as shared
from experiments.bench import timing
from experiments.bench.timing import Sample
from experiments.workdir import launch
from mllab.data import catalog
from mllab.report import console

TARGET = 2  # scikit-learn's time over mllab's, at least

for flag in (timing.REPEATS, shared.DATA_DIR):
    flags.declare_key_flag(flag.name)


def main(argv: Sequence[str]) -> None:
    """Read the flags and run."""
    run(repeats=timing.REPEATS.value, data_dir=shared.DATA_DIR.value)


def run(*, repeats: int, data_dir: str | None) -> None:
    """Measure both and print the table."""
    timing.require("sklearn", "")
    clothes = catalog.load("fashion_mnist", data_dir=data_dir)
    train = np.concatenate([clothes.split.train, clothes.split.validation])
    inputs = clothes.inputs[train].reshape(len(train), -1)
    with tempfile.TemporaryDirectory() as made:
        data, report = Path(made) / "rows.npz", Path(made) / "report.json"
        np.savez(data, inputs=inputs, labels=clothes.targets[train])
        measures = {
            solver: timing.program(report, "bench.softmax_once", solver=solver, data=data)
            for solver in ("mllab", "sklearn")
        }
        console.table(*judged(timing.in_turn(measures, repeats)))


def judged(samples: Mapping[str, Sequence[Sample]]) -> tuple[list[str], list[list]]:
    """Return the columns and rows of the table; the ratio is of medians of all repeats."""
    ours = {name: timing.figure(samples["mllab"], name) for name in ("seconds", "objective")}
    rows = []
    for solver, each in samples.items():
        taken, objective = timing.figure(each, "seconds"), timing.figure(each, "objective")
        row: list[Any] = [
            solver,
            f"{taken:.2f}",
            timing.spread([sample.report["seconds"] for sample in each]),
            f"{objective:.5f}",
        ]
        ratio, as_low = taken / ours["seconds"], ours["objective"] <= objective
        row += [None] * 3 if solver == "mllab" else [f"{ratio:.2f}", TARGET, timing.verdict(ratio >= TARGET, as_low)]
        rows.append(row)
    return ["solver", "median s", "least – greatest s", "objective a row", "× mllab", "target", "met"], rows


if __name__ == "__main__":
    launch(main)
