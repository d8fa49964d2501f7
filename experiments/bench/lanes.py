r"""A thousand lanes: what a lane costs at 100 and at 1,000, and how many PyTorch runs a thousand lanes cost.

  python -m experiments.bench.lanes

Adam on the digits. Running phase against running phase: imports and compiling are left out on both sides, and mllab's
compiling is shown apart. Each sweep and each PyTorch loop is a process of its own, in turn with the others.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median

from absl import flags

from experiments import flags as shared
from experiments.bench import timing
from experiments.bench.timing import Sample
from experiments.workdir import launch
from mllab.report import console

FEW, MANY = 100, 1000
LANE_RATIO = 1.2  # a lane among many may cost so much more than among few
MODELS = {  # name: layer sizes, PyTorch runs whose price many lanes must not reach
    "softmax regression 64-10": ((64, 10), 10),
    "MLP 64-32-10": ((64, 32, 10), 20),
    "MLP 64-128-128-10": ((64, 128, 128, 10), 100),
}
TORCH_RATES, TORCH_SEEDS = (0.001, 0.003), 3  # runs of the loop from which a run's price is taken

for flag in (timing.REPEATS, shared.EPOCHS, shared.BATCH_SIZE):
    flags.declare_key_flag(flag.name)


def main(argv: Sequence[str]) -> None:
    """Read the flags and run."""
    run(repeats=timing.REPEATS.value, epochs=shared.EPOCHS.value, batch_size=shared.BATCH_SIZE.value)


def run(*, repeats: int, epochs: int, batch_size: int) -> None:
    """Measure every model's sweeps and its PyTorch loop in turn; print both tables."""
    timing.require("torch", "")
    race = {"epochs": epochs, "batch_size": batch_size}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        measures: dict[str, Callable[[], Sample]] = {}
        for name, (sizes, _) in MODELS.items():
            data, report = folder / f"{'-'.join(map(str, sizes))}.npz", folder / "report.json"
            timing.process(timing.command("bench.prepare", sizes=sizes, seeds=TORCH_SEEDS, output=data, **race))
            for lanes in (FEW, MANY):
                measures[f"{name}, {lanes} lanes"] = timing.program(
                    report, "bench.sweep_once", sizes=sizes, lanes=lanes, **race
                )
            loop = {"data": data, "optimizers": "adam", "learning_rates": TORCH_RATES}
            threads = timing.best_threads(report, "bench.torch_loop", **loop)
            measures[f"{name}, torch"] = timing.program(report, "bench.torch_loop", threads=threads, **loop)
        samples = timing.in_turn(measures, repeats)
    console.table(*lane_costs(samples))
    print()
    console.table(*prices(samples))


def lane_costs(samples: Mapping[str, Sequence[Sample]]) -> tuple[list[str], list[list]]:
    """Return the columns and rows of what a lane costs, few and many at once."""
    rows = []
    for name in MODELS:
        cost = {
            lanes: timing.figure(samples[f"{name}, {lanes} lanes"], "running_seconds") / lanes for lanes in (FEW, MANY)
        }
        ratio = cost[MANY] / cost[FEW]
        for lanes in (FEW, MANY):
            each = samples[f"{name}, {lanes} lanes"]
            row = [
                name,
                lanes,
                f"{1e3 * cost[lanes]:.2f}",
                timing.spread([1e3 * sample.report["running_seconds"] / lanes for sample in each]),
                f"{timing.figure(each, 'compile_seconds'):.2f}",
                f"{timing.figure(each, 'peak_bytes') / 2**20:.0f}",
            ]
            judged = [f"{ratio:.2f}", LANE_RATIO, timing.verdict(ratio <= LANE_RATIO)]
            rows.append([*row, *(judged if lanes == MANY else [None] * 3)])
    columns = ["model", "lanes", "ms a lane", "least – greatest ms", "compile s", "peak memory MiB"]
    return [*columns, f"× at {FEW}", "target", "met"], rows


def prices(samples: Mapping[str, Sequence[Sample]]) -> tuple[list[str], list[list]]:
    """Return the columns and rows of what many lanes cost, in PyTorch runs."""
    rows = []
    for name, (_, target) in MODELS.items():
        many, torch = samples[f"{name}, {MANY} lanes"], samples[f"{name}, torch"]
        a_run = [median(run["seconds"] for run in sample.report["runs"]) for sample in torch]
        running = timing.figure(many, "running_seconds")
        price = running / median(a_run)
        rows.append(
            [
                name,
                f"{running:.2f}",
                f"{timing.figure(many, 'compile_seconds'):.2f}",
                f"{median(a_run):.3f}",
                timing.spread(a_run),
                torch[0].report["threads"],
                f"{price:.1f}",
                target,
                timing.verdict(price < target),
            ]
        )
    columns = ["model", f"{MANY} runs s", "compile s", "a PyTorch run s", "least – greatest s", "threads"]
    return [*columns, "price in PyTorch runs", "target", "met"], rows


if __name__ == "__main__":
    launch(main)
