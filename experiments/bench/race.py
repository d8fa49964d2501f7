r"""The optimizer race beside its peers: the same 96 runs in PyTorch, `torch.func` and scikit-learn.

  python -m experiments.bench.race
  python -m experiments.bench.race --peers=torch_loop --repeats=3

Every peer gets the same split, minibatches and initial weights (scikit-learn draws its own), and is timed as a whole
process, from its start to its written report, in turn with the others. mllab's first start has an empty compilation
cache, its second start that of the first; both have Matplotlib's list of fonts. Accuracies are compared before times.
"""

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments import frame
from experiments.bench import harness, race_problem
from experiments.bench.harness import Sample, Samples
from mllab import devices
from mllab.metrics import interval
from mllab.racing import CLASSIC
from mllab.report.report import Report
from mllab.report.table import Table, number


class Peer(NamedTuple):
    """A program beside mllab."""

    label: str
    first: float | None = None  # least ratio of its seconds a run to those of mllab's first start; None: no target
    second: float | None = None  # and of its second start


PEERS = {
    "torch_loop": Peer("PyTorch, a loop over runs", 4.0, 5.5),
    "torch_fused": Peer("PyTorch, the loop with fused optimizers"),
    "torch_two": Peer("PyTorch, the loop split over two processes", 2.0, 2.5),
    "torch_func": Peer("PyTorch, torch.func vmapped", 2.0, 2.5),
    "sklearn": Peer("scikit-learn, MLPClassifier by joblib, no RMSProp"),
}
FLOOR_RATIO = 1.6  # greatest ratio of the running phase to the arithmetic floor
SIZES = (64, 128, 128, 10)
MAX_POINTS_APART = 1.0  # percentage points of validation accuracy


@dataclass(frozen=True, kw_only=True)
class Settings(harness.Settings, frame.Seeds):
    """What to race, and beside which peers."""

    peers: tuple[str, ...] = frame.choices(PEERS, help="Peers to measure beside mllab.", kind="peer")
    learning_rates: tuple[float, ...] = frame.grid("1e-4:1:8", help="Learning rates of every optimizer.")
    epochs: int = frame.Training.with_default("epochs", 20)
    batch_size: int = frame.Training.with_default("batch_size", 32)

    def race(self) -> dict[str, int]:
        """Return the settings that mllab and its peers share."""
        return {"seeds": self.seeds, "epochs": self.epochs, "batch_size": self.batch_size}


@dataclass(frozen=True)
class Measurement:
    """The samples of all programs, and what they computed."""

    samples: Samples
    train_rows: int
    validation_rows: int


def measure(run: frame.Context, settings: Settings) -> Measurement:
    """Measure mllab, the peers and the machine's matrix product in turn."""
    del run
    for name in settings.peers:
        harness.require(name.split("_")[0], f", or leave {name} out of --peers")
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        data = folder / "race.npz"
        words = harness.role_command("race", "prepare", output=data, sizes=SIZES, **settings.race())
        rows = harness.program(folder / "rows.json", words)().report
        return Measurement(harness.in_turn(programs(folder, data, settings), settings.repeats), **rows)


def report(run: frame.Context, settings: Settings, measured: Measurement) -> Report:
    """Report accuracies, times and the arithmetic floor."""
    del run
    rates, samples = settings.learning_rates, measured.samples
    runs = dict.fromkeys(samples, len(CLASSIC) * len(rates) * settings.seeds)
    if "sklearn" in samples:
        runs["sklearn"] = len(samples["sklearn"][0].report["runs"])
    scored = {
        name: scores(samples[name][0].report, rates, settings.seeds) for name in ("mllab second", *settings.peers)
    }
    work = operations(SIZES, measured.train_rows, measured.validation_rows) * settings.epochs * runs["mllab second"]
    return harness.report("race", [accuracies(scored, rates), times(samples, runs), floor(samples, work)])


def programs(folder: Path, data: Path, settings: Settings) -> dict[str, Callable[[], Sample]]:
    """Return the measurement of each program by name, in the order of a turn."""
    cache, workdir, report = folder / "compiled", folder / "workdir", folder / "report.json"
    shared = {"data": data, "learning_rates": settings.learning_rates}

    def mllab() -> Sample:
        shutil.rmtree(workdir, ignore_errors=True)
        words = harness.command(
            "optimizer_race", workdir=workdir, learning_rates=settings.learning_rates, **settings.race()
        )
        seconds = harness.process(words, cache=cache)
        return Sample(seconds, harness.read(workdir / "summary.json"))

    def mllab_first() -> Sample:
        shutil.rmtree(cache, ignore_errors=True)
        return mllab()

    def torch_two() -> Sample:
        reports = [folder / f"report{part}.json" for part in (0, 1)]
        parts = [
            harness.command("bench.race_torch", report=reports[part], threads=1, part=part, parts=2, **shared)
            for part in (0, 1)
        ]
        seconds = harness.process(*parts)
        return Sample(seconds, {"runs": [run for path in reports for run in harness.read(path)["runs"]]})

    measures: dict[str, Callable[[], Sample]] = {"mllab first": mllab_first, "mllab second": mllab}
    for name in settings.peers:
        if name == "torch_two":
            measures[name] = torch_two
        elif name == "sklearn":
            words = harness.command("bench.race_sklearn", jobs=devices.cores(), **shared)
            measures[name] = harness.program(report, words)
        else:
            options = {**shared, "form": name.removeprefix("torch_")}
            threads = harness.best_threads(report, "bench.race_torch", epochs=min(2, settings.epochs), **options)
            measures[name] = harness.program(report, harness.command("bench.race_torch", threads=threads, **options))
    return measures | {"ceiling": harness.program(report, harness.role_command("ceiling", "rate"))}


def scores(report: Mapping[str, Any], rates: Sequence[float], seeds: int) -> dict[str, np.ndarray]:
    """Return each optimizer's validation accuracy [R, G] after the epoch of least validation loss; NaN if diverged.

    mllab's summary has these figures; from the curves of a peer they are computed in the same way. A peer that reports
    a single accuracy has that one.
    """
    if "optimizers" in report:
        return {each["optimizer"]: np.asarray(each["validation_by_rate"], np.float64) for each in report["optimizers"]}
    by_optimizer: dict[str, np.ndarray] = {}
    for run in report["runs"]:
        score = by_optimizer.setdefault(run["optimizer"], np.full((len(rates), seeds), np.nan))
        accuracy = np.asarray(run["validation_accuracy"], np.float64)
        loss = np.asarray(run.get("validation_loss", [0.0]), np.float64)
        if np.isfinite(loss).all():
            score[list(rates).index(run["learning_rate"]), run["seed"]] = accuracy[loss.argmin()]
    return by_optimizer


def best(score: np.ndarray) -> int:
    """Return the index of the rate with the greatest mean of scores [R, G], among those without a diverged seed."""
    return int(np.nanargmax(score.mean(axis=1)))


def accuracies(scored: Mapping[str, Mapping[str, np.ndarray]], rates: Sequence[float]) -> Table:
    """Return the table of accuracies: each optimizer at its best rate, in every program.

    The points apart are between mllab and the PyTorch peer that differs most; scikit-learn, whose initial weights
    differ, is not judged.
    """

    def cell(score: np.ndarray | None) -> str | None:
        if score is None:
            return None
        rate = best(score)
        return f"{number(*interval(score[rate])[:3])} ({rates[rate]:.2g})"

    rows = []
    for name in scored["mllab second"]:
        means = [score[name][best(score[name])].mean() for peer, score in scored.items() if peer != "sklearn"]
        apart = 100 * max(abs(mean - means[0]) for mean in means)
        cells = [cell(score.get(name)) for score in scored.values()]
        rows.append([name, *cells, f"{apart:.2f}", MAX_POINTS_APART, harness.verdict(apart <= MAX_POINTS_APART)])
    columns = ["validation accuracy (best rate)", "mllab", *list(scored)[1:], "points apart", "target", "met"]
    return Table(columns, rows)


def times(samples: Samples, runs: Mapping[str, int]) -> Table:
    """Return the table of times; ratios are of the median seconds a run."""
    cost = {name: harness.seconds(each) / runs[name] for name, each in samples.items() if name != "ceiling"}
    labels = {"mllab first": "mllab, first start", "mllab second": "mllab, second start"}
    rows = []
    for name in cost:
        seconds = [sample.seconds for sample in samples[name]]
        row = [labels.get(name), runs[name], f"{harness.seconds(samples[name]):.2f}", harness.spread(seconds)]
        if name in PEERS:
            label, first, second = PEERS[name]
            threads = samples[name][0].report.get("threads")
            row[0] = f"{label} ({threads} thread{'s' * (threads > 1)})" if threads else label
            ratios = cost[name] / cost["mllab first"], cost[name] / cost["mllab second"]
            met = None if first is None or second is None else harness.verdict(ratios[0] >= first, ratios[1] >= second)
            rows.append([*row, f"{ratios[0]:.2f}", first, f"{ratios[1]:.2f}", second, met])
        else:
            rows.append([*row, None, None, None, None, None])
    columns = ["whole process", "runs", "median s", "least – greatest s", "× first start", "target"]
    return Table([*columns, "× second start", "target", "met"], rows)


def operations(sizes: Sequence[int], train_rows: int, validation_rows: int) -> int:
    """Return the floating-point operations of the matrix products of one run's epoch.

    Training takes three products a layer (outputs, weight gradients, input gradients), but two in the first; scoring a
    validation row takes one. Padding and everything but products are not counted.
    """
    products = [2 * inputs * outputs for inputs, outputs in pairwise(sizes)]
    return train_rows * (3 * sum(products) - products[0]) + validation_rows * sum(products)


def floor(samples: Samples, total: int) -> Table:
    """Return the table of the arithmetic floor: `total` operations at the rate of the machine's matrix product."""
    rate = harness.figure(samples["ceiling"], "flops_per_second")
    running = [sample.report["seconds"]["training"] for sample in samples["mllab second"]]
    ratio = float(np.median(running)) / (total / rate)
    row = [
        f"{total / 1e9:.0f}",
        f"{rate / 1e9:.0f}",
        f"{total / rate:.2f}",
        f"{np.median(running):.2f}",
        harness.spread(running),
        f"{ratio:.2f}",
        FLOOR_RATIO,
        harness.verdict(ratio <= FLOOR_RATIO),
    ]
    columns = ["GFLOP", "GFLOP/s", "floor s", "running phase s", "least – greatest s", "× floor", "target", "met"]
    return Table(columns, [row])


main, run = frame.program(Settings, measure, report)

if __name__ == "__main__":
    harness.start(main, prepare=race_problem.write)
