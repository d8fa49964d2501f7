r"""The image classifier as a user starts it: wall time of the whole process, and accuracy on test rows.

  python -m experiments.bench.images
  python -m experiments.bench.images --data_dir=data --seeds=5

Each data set, each seed and each start is a process of its own, with the settings that the experiment has for the data
set. A first start has an empty compilation cache, a second start the first one's; Matplotlib's list of fonts is there
for both.
"""

import math
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import numpy as np
from absl import flags

from experiments import flags as shared
from experiments.bench import timing
from experiments.bench.timing import Sample
from experiments.workdir import launch
from mllab.metrics import interval
from mllab.report import console


class Target(NamedTuple):
    """What the mean over seeds must reach."""

    accuracy: float  # percent of the test rows, at least
    seconds: float  # of the whole process, at most


TARGETS = {"mnist": Target(99.0, 45.0), "fashion_mnist": Target(91.0, 60.0)}

for flag in (shared.SEEDS, shared.DATA_DIR):
    flags.declare_key_flag(flag.name)


def main(argv: Sequence[str]) -> None:
    """Read the flags and run."""
    run(seeds=shared.SEEDS.value, data_dir=shared.DATA_DIR.value)


def run(*, seeds: int, data_dir: str | None) -> None:
    """Measure all data sets once, then all again with the next seed; print times, accuracies, and where time went."""
    samples: dict[str, list[Sample]] = {}
    with tempfile.TemporaryDirectory() as made:
        for seed in range(seeds):
            for name, (sample,) in timing.in_turn(programs(Path(made), seed, data_dir), 1).items():
                samples.setdefault(name, []).append(sample)
    console.table(*scores(samples))
    print()
    console.table(*parts(samples))


def programs(folder: Path, seed: int, data_dir: str | None) -> dict[str, Callable[[], Sample]]:
    """Return how each data set's first and second start with this seed are measured, in the order of a turn."""
    cache, workdir = folder / "compiled", folder / "workdir"
    where = {"data_dir": Path(data_dir).resolve()} if data_dir else {}

    def start(dataset: str) -> Sample:
        shutil.rmtree(workdir, ignore_errors=True)
        words = timing.command(
            "image_classifier", dataset=dataset, model="convnet", seeds=1, first_seed=seed, workdir=workdir, **where
        )
        seconds = timing.process(words, cache=cache)
        return Sample(seconds, timing.read(workdir / "summary.json"))

    def first_start(dataset: str) -> Sample:
        shutil.rmtree(cache, ignore_errors=True)
        return start(dataset)

    made: dict[str, Callable[[], Sample]] = {}
    for dataset in TARGETS:
        made[f"{dataset}, first start"] = partial(first_start, dataset)
        made[f"{dataset}, second start"] = partial(start, dataset)
    return made


def scores(samples: Mapping[str, Sequence[Sample]]) -> tuple[list[str], list[list]]:
    """Return the columns and rows of accuracies and times, means over seeds."""
    rows = []
    for name, each in samples.items():
        target = TARGETS[name.split(",")[0]]
        accuracy = 100 * np.array([sample.report["test_by_seed"]["accuracy"] for sample in each]).ravel()
        seconds = [sample.seconds for sample in each]
        right = timing.verdict(bool(accuracy.mean() >= target.accuracy))
        soon = timing.verdict(mean(seconds) <= target.seconds)
        row = [name, len(each), console.number(*interval(accuracy)[:3]), target.accuracy, right]
        rows.append([*row, f"{mean(seconds):.1f}", timing.spread(seconds), target.seconds, soon])
    columns = ["convnet, whole process", "seeds", "test accuracy %", "target %", "met"]
    return [*columns, "mean s", "least – greatest s", "target s", "in time"], rows


def parts(samples: Mapping[str, Sequence[Sample]]) -> tuple[list[str], list[list]]:
    """Return the columns and rows of where the seconds went, means over seeds, as the experiment tells."""
    told = {name: [sample.report["seconds"] for sample in each] for name, each in samples.items()}
    names = list(next(iter(told.values()))[0])

    def shown(each: Sequence[Mapping[str, float | None]], part: str) -> str:
        known = [seconds for every in each if (seconds := every[part]) is not None]
        return console.number(mean(known) if known else math.nan)

    rows = [[name, *(shown(each, part) for part in names)] for name, each in told.items()]
    return ["seconds", *names], rows


if __name__ == "__main__":
    launch(main)
