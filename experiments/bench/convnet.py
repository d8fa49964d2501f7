r"""The conv net beside PyTorch: training images per second of one run, or of many lanes.

  python -m experiments.bench.convnet
  python -m experiments.bench.convnet --learning_rates=3e-4,1e-3,3e-3,1e-2 --seeds=2

The reference net: a 3 × 3 convolution to 32 channels, pooling, another to 64, pooling, 128 units, the classes; trained
by Adam on minibatches gathered from the whole training set. Lanes are learning rates × seeds: mllab trains them in one
program, PyTorch one after another. Every program starts from the same weights, sees the same minibatches, and is a
process of its own, in turn with the others; compilation and warm-up are not timed. Losses are compared before rates.
PyTorch computes on a GPU where JAX does.
"""

import math
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments import frame
from experiments.bench import convnet_mllab, harness
from experiments.bench.harness import Sample, Samples
from mllab import devices
from mllab.report.report import Report
from mllab.report.table import Table


class Peer(NamedTuple):
    """A form of PyTorch (see `convnet_torch`), and the least ratio of mllab's rate to its own; None: no target."""

    label: str
    alone: float | None  # of one run
    goal: float | None  # of one run, beyond the target
    lanes: float | None  # of many lanes


PEERS = {
    "plain": Peer("PyTorch as usually written", None, None, 1.3),
    "best": Peer("PyTorch at its best: channels-last, fused Adam", 1.0, 1.3, 1.05),
    "compiled": Peer("the same under torch.compile", None, None, None),
}
CHECKED_STEP = 10  # at which losses are compared, before rounding errors have grown
LOSS_TOLERANCE = {"float32": 1e-3, "bf16": 3e-2}  # nats, by precision


@dataclass(frozen=True, kw_only=True)
class Settings(harness.DataSettings, frame.Seeds):
    """What to train."""

    dataset: str = frame.text("mnist", help="Data set of images with classes.")
    learning_rates: tuple[float, ...] = frame.grid("0.001", help="Learning rates; lanes are rates × seeds.")
    seeds: int = frame.Seeds.with_default("seeds", 1)
    batch_size: int = frame.Training.with_default("batch_size", 128)
    timed_steps: int = frame.whole(60, help="Steps that are timed, after as many to warm up.", low=1)
    precision: str = frame.Training.with_default("precision", "float32")


@dataclass(frozen=True)
class Measurement:
    """The samples of all programs, and the shapes of an image and of the weights."""

    samples: Samples
    shape: Sequence[int]
    weights: Sequence[Sequence[int]]


def measure(run: frame.Context, settings: Settings) -> Measurement:
    """Measure mllab, the peers that work on this machine, and its matrix product in turn."""
    del run
    harness.require("torch")
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        data, report = folder / "convnet.npz", folder / "report.json"
        problem = {name: getattr(settings, name) for name in ("dataset", "seeds", "batch_size", "timed_steps")}
        data_dir = settings.data_dir and str(Path(settings.data_dir).resolve())
        words = harness.role_command("convnet", "prepare", output=data, data_dir=data_dir, **problem)
        shapes = harness.program(report, words)().report
        options = {"data": data, "learning_rates": settings.learning_rates, "precision": settings.precision}
        programs = {"mllab": harness.program(report, harness.role_command("convnet", "mllab", **options))}
        programs |= peers(report, options, len(settings.learning_rates) * settings.seeds)
        programs["ceiling"] = harness.program(report, harness.role_command("ceiling", "rate"))
        return Measurement(harness.in_turn(programs, settings.repeats), **shapes)


def report(run: frame.Context, settings: Settings, measured: Measurement) -> Report:
    """Report losses, rates and the arithmetic floor."""
    del run
    lanes = len(settings.learning_rates) * settings.seeds
    tables = [
        agreement(measured.samples, LOSS_TOLERANCE[settings.precision]),
        speeds(measured.samples, lanes),
    ]
    if settings.precision == "float32":  # as the ceiling
        tables.append(floor(measured.samples, operations(measured.shape, measured.weights)))
    return harness.report("convnet", tables)


def peers(report: Path, options: Mapping[str, Any], lanes: int) -> dict[str, Callable[[], Sample]]:
    """Return the measurement of each peer by name; a peer that fails in a short trial is left out, with a message."""
    working = {}
    for form in PEERS:
        if lanes > 1 and PEERS[form].lanes is None:
            continue
        flags = {"form": form, "threads": devices.cores(), **options}
        try:
            harness.program(report, harness.command("bench.convnet_torch", steps=2, **flags))()
        except RuntimeError as error:
            print(f"left out: {PEERS[form].label}: {str(error).splitlines()[-1]}", file=sys.stderr)
        else:
            working[form] = harness.program(report, harness.command("bench.convnet_torch", **flags))
    return working


def agreement(samples: Samples, tolerance: float) -> Table:
    """Return the table of the losses on the same minibatches: in the first step, and some steps later."""
    losses = {name: np.asarray(each[0].report["losses"]) for name, each in samples.items() if name != "ceiling"}
    step = min(CHECKED_STEP, losses["mllab"].shape[1] - 1)
    rows: list[list] = []
    for name, each in losses.items():
        compared = each[:, [0, step]]  # [L, 2]
        row = [label_of(name), *(f"{loss:.4f}" for loss in compared.mean(axis=0))]
        if name == "mllab":
            rows.append([*row, None, None, None])
        else:
            apart = float(abs(compared - losses["mllab"][:, [0, step]]).max())
            rows.append([*row, f"{apart:.1e}", tolerance, harness.verdict(apart <= tolerance)])
    return Table(["training loss", "first step", f"after {step} steps", "farthest apart", "target", "met"], rows)


def speeds(samples: Samples, lanes: int) -> Table:
    """Return the table of the training rates, medians of all repeats."""
    ours = harness.figure(samples["mllab"], "images_per_second")
    rows = []
    for name, each in samples.items():
        if name == "ceiling":
            continue
        rates = [sample.report["images_per_second"] for sample in each]
        rate = harness.figure(each, "images_per_second")
        compiled = each[0].report["compile_seconds"] is not None
        seconds = f"{harness.figure(each, 'compile_seconds'):.2f}" if compiled else None
        row = [label_of(name), lanes, f"{rate:.0f}", f"{min(rates):.0f} – {max(rates):.0f}", seconds]
        if name == "mllab":
            rows.append([*row, None, None, None, None])
        else:
            peer = PEERS[name]
            target, goal = (peer.alone, peer.goal) if lanes == 1 else (peer.lanes, None)
            met = None if target is None else harness.verdict(ours / rate >= target)
            rows.append([*row, f"{ours / rate:.2f}", target, goal, met])
    columns = ["training", "runs", "images/s", "least – greatest", "compile s", "mllab's ×", "target", "goal", "met"]
    return Table(columns, rows)


def label_of(name: str) -> str:
    """Return the label of a program's row."""
    return PEERS[name].label if name in PEERS else name


def operations(shape: Sequence[int], weights: Sequence[Sequence[int]]) -> int:
    """Return the floating-point operations of the products in training on one image.

    There are three products a layer (outputs, weight gradients, input gradients), but two in the first; everything else
    is not counted.

    Args:
        shape: (height, width, C) of an image; pooling halves height and width after each convolution.
        weights: shapes of the layers' weights, [window, window, C_in, C_out] or [D_in, D_out].
    """
    height, width, _ = shape
    products = []
    for weight in weights:
        convolves = len(weight) == 4
        products.append(2 * math.prod(weight) * (height * width if convolves else 1))
        if convolves:
            height, width = height // 2, width // 2
    return 3 * sum(products) - products[0]


def floor(samples: Samples, each: int) -> Table:
    """Return the table of the arithmetic floor: `each` operations an image at the rate of the matrix product."""
    rate = harness.figure(samples["ceiling"], "flops_per_second")
    ours = harness.figure(samples["mllab"], "images_per_second")
    row = [f"{each / 1e6:.1f}", f"{rate / 1e9:.0f}", f"{rate / each:.0f}", f"{ours:.0f}", f"{rate / each / ours:.2f}"]
    return Table(["MFLOP an image", "GFLOP/s", "images/s at that", "mllab's images/s", "× floor"], [row])


main, run = frame.program(Settings, measure, report)

if __name__ == "__main__":
    harness.start(main, prepare=convnet_mllab.write, mllab=convnet_mllab.train_on_all_cores)
