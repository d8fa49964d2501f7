r"""The optimizer race beside its peers: the same 96 runs in PyTorch, `torch.func` and scikit-learn.

  python -m experiments.bench.race
  python -m experiments.bench.race --peers=torch_loop --repeats=3

Every peer gets the same split, order of minibatches and starting weights (scikit-learn draws its own), and is timed
whole, from its start to its written report, in a process of its own, in turn with the others. mllab's first start has
an empty compilation cache, its second start the first one's; Matplotlib's list of fonts is there for both. Equal
accuracy is shown before any time.
"""

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from experiments import flags as shared
from experiments.bench import timing
from experiments.bench.timing import Sample
from experiments.workdir import launch
from mllab import devices
from mllab.errors import unknown
from mllab.metrics import interval
from mllab.racing import CLASSIC
from mllab.report import console


class Peer(NamedTuple):
    """What mllab is measured beside."""

    label: str
    first: float | None = None  # least ratio of its time to that of mllab's first start; None where there is no target
    second: float | None = None  # and of its second start


PEERS = {
    "torch_loop": Peer("PyTorch, a loop over runs", 4.0, 5.5),
    "torch_fused": Peer("PyTorch, the loop with fused optimizers"),
    "torch_two": Peer("PyTorch, the loop split over two processes", 2.0, 2.5),
    "torch_func": Peer("PyTorch, torch.func vmapped", 2.0, 2.5),
    "sklearn": Peer("scikit-learn, MLPClassifier by joblib, no RMSProp"),
}
FLOOR_RATIO = 1.6  # the running phase may take this many times the arithmetic floor
SIZES = (64, 128, 128, 10)
CLOSE = 1.0  # percentage points of validation accuracy that count as equal

for flag in (timing.REPEATS, shared.LEARNING_RATES, shared.SEEDS, shared.EPOCHS, shared.BATCH_SIZE):
    flags.declare_key_flag(flag.name)
PEER_NAMES = flags.DEFINE_list("peers", list(PEERS), "Peers to measure beside mllab, separated by commas.")


def main(argv: Sequence[str]) -> None:
    """Read the flags and run."""
    run(
        peers=PEER_NAMES.value,
        repeats=timing.REPEATS.value,
        rates=shared.numbers(shared.LEARNING_RATES.value, "learning_rates"),
        seeds=shared.SEEDS.value,
        epochs=shared.EPOCHS.value,
        batch_size=shared.BATCH_SIZE.value,
    )


def run(
    *, peers: Sequence[str], repeats: int, rates: Sequence[float], seeds: int, epochs: int, batch_size: int
) -> None:
    """Measure mllab, the peers and the machine in turn; print accuracies, times and the arithmetic floor."""
    for name in peers:
        if name not in PEERS:
            raise unknown("peer", name, PEERS)
        timing.require(name.split("_")[0], f", or leave {name} out of --peers")
    race = {"seeds": seeds, "epochs": epochs, "batch_size": batch_size}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        data = folder / "race.npz"
        timing.process(timing.command("bench.prepare", sizes=SIZES, output=data, **race))
        measures = programs(folder, data, rates, race, peers)
        samples = timing.in_turn(measures, repeats)
        with np.load(data) as file:
            rows = len(file["train_y"]), len(file["validation_y"])

    runs = {name: len(CLASSIC) * len(rates) * seeds for name in samples}
    if "sklearn" in samples:
        runs["sklearn"] = len(samples["sklearn"][0].report["runs"])
    scored = {name: scores(samples[name][0].report, rates, seeds) for name in ("mllab second", *peers)}
    console.table(*accuracies(scored, rates))
    print()
    console.table(*times(samples, runs))
    print()
    console.table(*floor(samples, operations(SIZES, *rows) * epochs * runs["mllab second"]))


def programs(
    folder: Path, data: Path, rates: Sequence[float], race: Mapping[str, int], peers: Sequence[str]
) -> dict[str, Callable[[], Sample]]:
    """Return how each is measured, by name, in the order of a turn."""
    cache, workdir, report = folder / "compiled", folder / "workdir", folder / "report.json"
    given = {"data": data, "learning_rates": rates}

    def mllab() -> Sample:
        shutil.rmtree(workdir, ignore_errors=True)
        words = timing.command("optimizer_race", workdir=workdir, learning_rates=rates, **race)
        seconds = timing.process(words, cache=cache)
        return Sample(seconds, timing.read(workdir / "summary.json"))

    def mllab_first() -> Sample:
        shutil.rmtree(cache, ignore_errors=True)
        return mllab()

    def torch_two() -> Sample:
        reports = [folder / f"report{part}.json" for part in (0, 1)]
        parts = [
            timing.command("bench.torch_loop", report=reports[part], threads=1, part=part, parts=2, **given)
            for part in (0, 1)
        ]
        seconds = timing.process(*parts)
        return Sample(seconds, {"runs": [run for path in reports for run in timing.read(path)["runs"]]})

    made: dict[str, Callable[[], Sample]] = {"mllab first": mllab_first, "mllab second": mllab}
    for name in peers:
        if name == "torch_two":
            made[name] = torch_two
        elif name == "sklearn":
            made[name] = timing.program(report, "bench.sklearn_mlp", jobs=devices.cores(), **given)
        else:
            module = "bench.torch_func" if name == "torch_func" else "bench.torch_loop"
            options = given | ({"fused": 1} if name == "torch_fused" else {})
            threads = timing.best_threads(report, module, epochs=min(2, race["epochs"]), **options)
            made[name] = timing.program(report, module, threads=threads, **options)
    made["ceiling"] = timing.program(report, "bench.ceiling")
    return made


def scores(report: Mapping[str, Any], rates: Sequence[float], seeds: int) -> dict[str, np.ndarray]:
    """Return each optimizer's validation accuracy [R, G]: after the epoch of least validation loss; NaN if non-finite.

    mllab's summary has these figures; from a peer's curves they are computed in the same way. Where a peer tells but
    one accuracy, its last, that one is taken.
    """
    if "optimizers" in report:
        return {each["optimizer"]: np.asarray(each["validation_by_rate"], np.float64) for each in report["optimizers"]}
    made: dict[str, np.ndarray] = {}
    for run in report["runs"]:
        score = made.setdefault(run["optimizer"], np.full((len(rates), seeds), np.nan))
        accuracy = np.asarray(run["validation_accuracy"], np.float64)
        loss = np.asarray(run.get("validation_loss", [0.0]), np.float64)
        if np.isfinite(loss).all():
            score[list(rates).index(run["learning_rate"]), run["seed"]] = accuracy[loss.argmin()]
    return made


def best(score: np.ndarray) -> int:
    """Return the index of the rate whose mean of scores [R, G] is greatest, among those that lost no seed."""
    return int(np.nanargmax(score.mean(axis=1)))


def accuracies(scored: Mapping[str, Mapping[str, np.ndarray]], rates: Sequence[float]) -> tuple[list[str], list[list]]:
    """Return the columns and rows of the table of accuracies: each optimizer at its best rate, everywhere.

    Points are between mllab and the farthest PyTorch peer; scikit-learn, which starts elsewhere, is not judged.
    """

    def cell(score: np.ndarray | None) -> str | None:
        if score is None:
            return None
        rate = best(score)
        return f"{console.number(*interval(score[rate])[:3])} ({rates[rate]:.2g})"

    rows = []
    for name in scored["mllab second"]:
        means = [score[name][best(score[name])].mean() for who, score in scored.items() if who != "sklearn"]
        apart = 100 * max(abs(mean - means[0]) for mean in means)
        cells = [cell(score.get(name)) for score in scored.values()]
        rows.append([name, *cells, f"{apart:.2f}", CLOSE, timing.verdict(apart <= CLOSE)])
    return ["validation accuracy (best rate)", "mllab", *list(scored)[1:], "points apart", "target", "met"], rows


def times(samples: Mapping[str, Sequence[Sample]], runs: Mapping[str, int]) -> tuple[list[str], list[list]]:
    """Return the columns and rows of the table of times; ratios are of the times a run, medians of all repeats."""
    cost = {name: timing.seconds(each) / runs[name] for name, each in samples.items() if name != "ceiling"}
    labels = {"mllab first": "mllab, first start", "mllab second": "mllab, second start"}
    rows = []
    for name in cost:
        seconds = [sample.seconds for sample in samples[name]]
        row = [labels.get(name), runs[name], f"{timing.seconds(samples[name]):.2f}", timing.spread(seconds)]
        if name in PEERS:
            label, first, second = PEERS[name]
            threads = samples[name][0].report.get("threads")
            row[0] = f"{label} ({threads} thread{'s' * (threads > 1)})" if threads else label
            ratios = cost[name] / cost["mllab first"], cost[name] / cost["mllab second"]
            met = None if first is None or second is None else timing.verdict(ratios[0] >= first, ratios[1] >= second)
            rows.append([*row, f"{ratios[0]:.2f}", first, f"{ratios[1]:.2f}", second, met])
        else:
            rows.append([*row, None, None, None, None, None])
    columns = ["whole process", "runs", "median s", "least – greatest s", "× first start", "target"]
    return [*columns, "× second start", "target", "met"], rows


def operations(sizes: Sequence[int], train_rows: int, validation_rows: int) -> int:
    """Return the floating-point operations of the matrix products of one run's epoch.

    Training takes three products a layer (outputs, gradient of the weights, gradient of the inputs), the first layer
    two; scoring the validation rows one. Padding is not work, and what is not a product is not counted.
    """
    products = [2 * wide * high for wide, high in pairwise(sizes)]
    return train_rows * (3 * sum(products) - products[0]) + validation_rows * sum(products)


def floor(samples: Mapping[str, Sequence[Sample]], total: int) -> tuple[list[str], list[list]]:
    """Return the columns and rows of the arithmetic floor: `total` operations at this machine's matrix product."""
    rate = timing.figure(samples["ceiling"], "flops_per_second")
    running = [sample.report["seconds"]["training"] for sample in samples["mllab second"]]
    ratio = float(np.median(running)) / (total / rate)
    row = [
        f"{total / 1e9:.0f}",
        f"{rate / 1e9:.0f}",
        f"{total / rate:.2f}",
        f"{np.median(running):.2f}",
        timing.spread(running),
        f"{ratio:.2f}",
        FLOOR_RATIO,
        timing.verdict(ratio <= FLOOR_RATIO),
    ]
    columns = ["GFLOP", "GFLOP/s", "floor s", "running phase s", "least – greatest s", "× floor", "target", "met"]
    return columns, [row]


if __name__ == "__main__":
    launch(main)
