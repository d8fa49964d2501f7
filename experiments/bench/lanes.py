r"""A thousand lanes: the cost of a lane among 100 and among 1,000, and the price of 1,000 lanes in PyTorch runs.

  python -m experiments.bench.lanes

Adam on the digits. Running phases are compared: imports and compilation are left out on both sides, and mllab's
compilation is shown separately. Each sweep and each PyTorch loop is a process of its own, in turn with the others.
"""

import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from experiments import frame
from experiments.bench import harness, race_problem
from experiments.bench.harness import Sample, Samples
from mllab import devices, optimizers, racing, sweep, training
from mllab.data import catalog
from mllab.report.report import Report
from mllab.report.table import Table
from mllab.rows import blocks, minibatches
from mllab.tasks import CLASSIFICATION

FEW, MANY = 100, 1000
LANE_RATIO = 1.2  # greatest ratio of the cost of a lane among many to that among few
SEEDS = 10  # lanes are rates × seeds: their number changes the rates only
TORCH_RATES, TORCH_SEEDS = (0.001, 0.003), 3  # runs of the loop, of which the median is the price of a run


class Net(NamedTuple):
    """A model, and the number of PyTorch runs that many lanes must cost less than."""

    sizes: tuple[int, ...]
    torch_runs: int


MODELS = {
    "softmax regression 64-10": Net((64, 10), 10),
    "MLP 64-32-10": Net((64, 32, 10), 20),
    "MLP 64-128-128-10": Net((64, 128, 128, 10), 100),
}


@dataclass(frozen=True, kw_only=True)
class Settings(harness.Settings):
    """What to measure."""

    epochs: int = frame.Training.with_default("epochs", 20)
    batch_size: int = frame.Training.with_default("batch_size", 32)


def measure(run: frame.Context, settings: Settings) -> dict[str, list[Sample]]:
    """Measure the sweeps and the PyTorch loop of every model in turn."""
    del run
    harness.require("torch")
    training = {"epochs": settings.epochs, "batch_size": settings.batch_size}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        report = folder / "report.json"
        measures: dict[str, Callable[[], Sample]] = {}
        for name, (sizes, _) in MODELS.items():
            data = folder / f"{'-'.join(map(str, sizes))}.npz"
            harness.process(
                harness.role_command("race", "prepare", output=data, sizes=sizes, seeds=TORCH_SEEDS, **training)
            )
            for count in (FEW, MANY):
                words = harness.role_command("lanes", "sweep", sizes=sizes, lanes=count, **training)
                measures[f"{name}, {count} lanes"] = harness.program(report, words)
            loop = {"data": data, "optimizers": "adam", "learning_rates": TORCH_RATES}
            threads = harness.best_threads(report, "bench.race_torch", **loop)
            words = harness.command("bench.race_torch", threads=threads, **loop)
            measures[f"{name}, torch"] = harness.program(report, words)
        return harness.in_turn(measures, settings.repeats)


def report(run: frame.Context, settings: Settings, measured: Samples) -> Report:
    """Report the cost of a lane, and the price of many."""
    del run, settings
    return harness.report("lanes", [lane_costs(measured), prices(measured)])


def sweep_of(sizes: Sequence[int], lanes: int, epochs: int, batch_size: int) -> dict[str, Any]:
    """Return the seconds of compiling, the seconds of running `lanes` runs, and the peak memory of the process."""
    data = catalog.load("digits", split_seed=0)
    mesh = devices.mesh()
    grid = sweep.grid({"learning_rate": np.logspace(-4, -1, lanes // SEEDS)}, range(SEEDS))
    make = racing.problem(race_problem.build(sizes), CLASSIFICATION)
    run = sweep.lanes(make(lambda hyper: optimizers.build("adam", hyper["learning_rate"])), grid.schedule, mesh=mesh)
    inputs = data.inputs.reshape(len(data.inputs), -1)
    examples = devices.replicate(mesh, {"inputs": inputs, "targets": data.targets})
    schedule = minibatches(data.split.train, batch_size, epochs, range(SEEDS))
    steps = schedule.ids.shape[1] // epochs
    validation = blocks(data.split.validation, len(data.split.validation))

    def seconds(steps_taken: int) -> float:
        began = time.perf_counter()
        rows = training.Rows(*(array[:, :steps_taken] for array in schedule))
        training.drive(run, grid.hyper, grid.key, examples, rows, held_out=validation, segment=steps)
        return time.perf_counter() - began

    first_epoch = seconds(steps)  # compiles every program of the whole run, whose segments are epochs, too
    running = seconds(steps * epochs)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"compile_seconds": first_epoch - running / epochs, "running_seconds": running, "peak_bytes": peak}


def sweep_on_all_cores(**arguments: Any) -> dict[str, Any]:
    """Return `sweep_of` on as many CPU devices as cores, in a process of its own."""
    devices.use_cores()
    return sweep_of(**arguments)


def lane_costs(samples: Samples) -> Table:
    """Return the table of the cost of a lane, among few and among many."""
    rows = []
    for name in MODELS:
        cost = {
            count: harness.figure(samples[f"{name}, {count} lanes"], "running_seconds") / count for count in (FEW, MANY)
        }
        ratio = cost[MANY] / cost[FEW]
        for count in (FEW, MANY):
            each = samples[f"{name}, {count} lanes"]
            row = [
                name,
                count,
                f"{1e3 * cost[count]:.2f}",
                harness.spread([1e3 * sample.report["running_seconds"] / count for sample in each]),
                f"{harness.figure(each, 'compile_seconds'):.2f}",
                f"{harness.figure(each, 'peak_bytes') / 2**20:.0f}",
            ]
            judged = [f"{ratio:.2f}", LANE_RATIO, harness.verdict(ratio <= LANE_RATIO)]
            rows.append([*row, *(judged if count == MANY else [None] * 3)])
    columns = ["model", "lanes", "ms a lane", "least – greatest ms", "compile s", "peak memory MiB"]
    return Table([*columns, f"× at {FEW}", "target", "met"], rows)


def prices(samples: Samples) -> Table:
    """Return the table of the price of many lanes, in PyTorch runs."""
    rows = []
    for name, (_, target) in MODELS.items():
        many, torch = samples[f"{name}, {MANY} lanes"], samples[f"{name}, torch"]
        torch_run = [median(run["seconds"] for run in sample.report["runs"]) for sample in torch]
        running = harness.figure(many, "running_seconds")
        price = running / median(torch_run)
        rows.append(
            [
                name,
                f"{running:.2f}",
                f"{harness.figure(many, 'compile_seconds'):.2f}",
                f"{median(torch_run):.3f}",
                harness.spread(torch_run),
                torch[0].report["threads"],
                f"{price:.1f}",
                target,
                harness.verdict(price < target),
            ]
        )
    columns = ["model", f"{MANY} runs s", "compile s", "a PyTorch run s", "least – greatest s", "threads"]
    return Table([*columns, "price in PyTorch runs", "target", "met"], rows)


main, run = frame.program(Settings, measure, report)

if __name__ == "__main__":
    harness.start(main, sweep=sweep_on_all_cores)
