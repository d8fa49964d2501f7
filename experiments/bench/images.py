r"""The image classifier as a user starts it: wall time of the whole process, and accuracy on test rows.

  python -m experiments.bench.images
  python -m experiments.bench.images --data_dir=data --seeds=5

Each data set, seed and start is a process of its own, with the settings that the experiment has for the data set. A
first start has an empty compilation cache, a second start that of the first; both have Matplotlib's list of fonts.
"""

import math
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import numpy as np

from experiments import frame
from experiments.bench import harness
from experiments.bench.harness import Sample, Samples
from mllab.metrics import interval
from mllab.report.report import Report
from mllab.report.table import Table, number


class Target(NamedTuple):
    """Bounds of the means over seeds."""

    accuracy: float  # least, percent of the test rows
    seconds: float  # greatest, of the whole process


TARGETS = {"mnist": Target(99.0, 45.0), "fashion_mnist": Target(91.0, 60.0)}


@dataclass(frozen=True, kw_only=True)
class Settings(frame.Seeds):
    """What to measure."""

    data_dir: str | None = frame.Data.with_default("data_dir", None)


def measure(run: frame.Context, settings: Settings) -> dict[str, list[Sample]]:
    """Measure all data sets once, then all again with the next seed."""
    del run
    samples: dict[str, list[Sample]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(settings.seeds):
            for name, (sample,) in harness.in_turn(programs(Path(folder), seed, settings.data_dir), 1).items():
                samples.setdefault(name, []).append(sample)
    return samples


def report(run: frame.Context, settings: Settings, measured: Samples) -> Report:
    """Report accuracies, times, and where the time went."""
    del run, settings
    return harness.report("images", [scores(measured), parts(measured)])


def programs(folder: Path, seed: int, data_dir: str | None) -> dict[str, Callable[[], Sample]]:
    """Return the measurements of each data set's first and second start with a seed, in the order of a turn."""
    cache, workdir = folder / "compiled", folder / "workdir"
    where = {"data_dir": Path(data_dir).resolve()} if data_dir else {}

    def start(dataset: str) -> Sample:
        shutil.rmtree(workdir, ignore_errors=True)
        words = harness.command(
            "image_classifier", dataset=dataset, model="convnet", seeds=1, first_seed=seed, workdir=workdir, **where
        )
        seconds = harness.process(words, cache=cache)
        return Sample(seconds, harness.read(workdir / "summary.json"))

    def first_start(dataset: str) -> Sample:
        shutil.rmtree(cache, ignore_errors=True)
        return start(dataset)

    starts: dict[str, Callable[[], Sample]] = {}
    for dataset in TARGETS:
        starts[f"{dataset}, first start"] = partial(first_start, dataset)
        starts[f"{dataset}, second start"] = partial(start, dataset)
    return starts


def scores(samples: Samples) -> Table:
    """Return the table of accuracies and times, means over seeds."""
    rows = []
    for name, each in samples.items():
        target = TARGETS[name.split(",")[0]]
        accuracy = 100 * np.array([sample.report["test_by_seed"]["accuracy"] for sample in each]).ravel()
        seconds = [sample.seconds for sample in each]
        accurate = harness.verdict(bool(accuracy.mean() >= target.accuracy))
        in_time = harness.verdict(mean(seconds) <= target.seconds)
        row = [name, len(each), number(*interval(accuracy)[:3]), target.accuracy, accurate]
        rows.append([*row, f"{mean(seconds):.1f}", harness.spread(seconds), target.seconds, in_time])
    columns = ["convnet, whole process", "seeds", "test accuracy %", "target %", "met"]
    return Table([*columns, "mean s", "least – greatest s", "target s", "in time"], rows)


def parts(samples: Samples) -> Table:
    """Return the table of the seconds of each part of the experiment, means over seeds."""
    by_start = {name: [sample.report["seconds"] for sample in each] for name, each in samples.items()}
    names = list(next(iter(by_start.values()))[0])

    def cell(summaries: Sequence[Mapping[str, float | None]], part: str) -> str:
        values = [seconds for summary in summaries if (seconds := summary[part]) is not None]
        return number(mean(values) if values else math.nan)

    rows = [[name, *(cell(each, part) for part in names)] for name, each in by_start.items()]
    return Table(["seconds", *names], rows)


main, run = frame.program(Settings, measure, report)

if __name__ == "__main__":
    harness.start(main)
