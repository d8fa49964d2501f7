r"""The conv net beside PyTorch: training images a second of one run, or of many lanes.

  python -m experiments.bench.convnet
  python -m experiments.bench.convnet --learning_rates=3e-4,1e-3,3e-3,1e-2 --seeds=2

The reference net: 3 x 3 convolution to 32 channels, pooling, another to 64, pooling, 128 units, the classes; trained by
Adam on minibatches gathered from the whole training set. Lanes are learning rates × seeds: mllab trains them in one
program, PyTorch one after another. Every program starts from the same weights, sees the same minibatches, and is a
process of its own, in turn with the others; compiling and warming up are left out. Equal losses are shown before any
rate. Whatever JAX computes on, a GPU too, PyTorch computes on.
"""

import math
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from experiments import flags as shared
from experiments.bench import convnet_prepare, timing
from experiments.bench.timing import Sample
from experiments.workdir import launch
from mllab import devices
from mllab.report import console


class Peer(NamedTuple):
    """A form of PyTorch (see `torch_convnet`), and the least ratio of mllab's rate to its own; None: no target."""

    label: str
    alone: float | None  # of one run
    goal: float | None  # what one run would rather reach
    lanes: float | None  # of many lanes


PEERS = {
    "plain": Peer("PyTorch as a user writes it", None, None, 1.3),
    "best": Peer("PyTorch at its best: channels-last, fused Adam", 1.0, 1.3, 1.05),
    "compiled": Peer("the same under torch.compile", None, None, None),
}
CHECKED = 10  # steps after which losses are compared: rounding has not yet grown into a difference of its own
CLOSE = {"float32": 1e-3, "bf16": 3e-2}  # nats that count as equal, by precision

for flag in (
    *(timing.REPEATS, shared.DATASET, shared.DATA_DIR, shared.LEARNING_RATES, shared.SEEDS, shared.BATCH_SIZE),
    *(convnet_prepare.TIMED_STEPS, shared.PRECISION),
):
    flags.declare_key_flag(flag.name)


def main(argv: Sequence[str]) -> None:
    """Read the flags and run."""
    run(
        repeats=timing.REPEATS.value,
        dataset=shared.DATASET.value or "mnist",
        data_dir=shared.DATA_DIR.value,
        rates=shared.numbers(shared.LEARNING_RATES.value, "learning_rates"),
        seeds=shared.SEEDS.value,
        batch_size=shared.BATCH_SIZE.value,
        timed_steps=convnet_prepare.TIMED_STEPS.value,
        precision=shared.PRECISION.value,
    )


def run(
    *,
    repeats: int,
    dataset: str,
    data_dir: str | None,
    rates: Sequence[float],
    seeds: int,
    batch_size: int,
    timed_steps: int,
    precision: str,
) -> None:
    """Measure mllab, the peers that work here and the machine in turn; print losses, rates and the arithmetic floor."""
    timing.require("torch", "")
    lanes = len(rates) * seeds
    given = {"dataset": dataset, "seeds": seeds, "batch_size": batch_size, "timed_steps": timed_steps}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        data, report = folder / "convnet.npz", folder / "report.json"
        where = {"data_dir": Path(data_dir).resolve()} if data_dir else {}
        timing.process(timing.command("bench.convnet_prepare", output=data, **given, **where))
        options = {"data": data, "learning_rates": rates, "precision": precision}
        measures = {"mllab": timing.program(report, "bench.convnet_once", **options)}
        measures |= peers(report, options, lanes)
        samples = timing.in_turn(measures | {"ceiling": timing.program(report, "bench.ceiling")}, repeats)
        with np.load(data) as file:
            shape = file["images"].shape[1:]
            weights = [file[name].shape[1:] for name in sorted(file.files) if name[0] == "w"]

    console.table(*agreement(samples, CLOSE[precision]))
    print()
    console.table(*speeds(samples, lanes))
    if precision == "float32":  # the ceiling's
        print()
        console.table(*floor(samples, operations(shape, weights)))


def peers(report: Path, options: Mapping[str, Any], lanes: int) -> dict[str, Callable[[], Sample]]:
    """Return how each peer is measured, by name; a peer that fails at a first, short try is left out, saying why."""
    found = {}
    for form in PEERS:
        if lanes > 1 and PEERS[form].lanes is None:
            continue
        program = {"module": "bench.torch_convnet", "form": form, "threads": devices.cores(), **options}
        try:
            timing.program(report, **program, steps=2)()
        except RuntimeError as error:
            print(f"left out: {PEERS[form].label}: {str(error).splitlines()[-1]}", file=sys.stderr)
        else:
            found[form] = timing.program(report, **program)
    return found


def agreement(samples: Mapping[str, Sequence[Sample]], close: float) -> tuple[list[str], list[list]]:
    """Return the columns and rows of the losses on the same minibatches: at the start, and some steps on."""
    losses = {name: np.asarray(each[0].report["losses"]) for name, each in samples.items() if name != "ceiling"}
    step = min(CHECKED, losses["mllab"].shape[1] - 1)
    rows: list[list] = []
    for name, each in losses.items():
        seen = each[:, [0, step]]  # [L, 2]
        row = [label_of(name), *(f"{loss:.4f}" for loss in seen.mean(axis=0))]
        if name == "mllab":
            rows.append([*row, None, None, None])
        else:
            apart = float(abs(seen - losses["mllab"][:, [0, step]]).max())
            rows.append([*row, f"{apart:.1e}", close, timing.verdict(apart <= close)])
    return ["training loss", "first step", f"after {step} steps", "farthest apart", "target", "met"], rows


def speeds(samples: Mapping[str, Sequence[Sample]], lanes: int) -> tuple[list[str], list[list]]:
    """Return the columns and rows of the training rates, medians of all repeats."""
    ours = timing.figure(samples["mllab"], "images_per_second")
    rows = []
    for name, each in samples.items():
        if name == "ceiling":
            continue
        rates = [sample.report["images_per_second"] for sample in each]
        rate = timing.figure(each, "images_per_second")
        compiled = each[0].report["compile_seconds"] is not None
        seconds = f"{timing.figure(each, 'compile_seconds'):.2f}" if compiled else None
        row = [label_of(name), lanes, f"{rate:.0f}", f"{min(rates):.0f} – {max(rates):.0f}", seconds]
        if name == "mllab":
            rows.append([*row, None, None, None, None])
        else:
            peer = PEERS[name]
            target, goal = (peer.alone, peer.goal) if lanes == 1 else (peer.lanes, None)
            met = None if target is None else timing.verdict(ours / rate >= target)
            rows.append([*row, f"{ours / rate:.2f}", target, goal, met])
    columns = ["training", "runs", "images/s", "least – greatest", "compile s", "mllab's ×", "target", "goal", "met"]
    return columns, rows


def label_of(name: str) -> str:
    """Return what a row is called."""
    return PEERS[name].label if name in PEERS else name


def operations(shape: Sequence[int], weights: Sequence[Sequence[int]]) -> int:
    """Return the floating-point operations of the products that training on one image takes.

    Three products a layer (outputs, gradient of the weights, gradient of the inputs), the first layer two. What is not
    a product is not counted.

    Args:
        shape: (height, width, C) of an image; pooling halves it after each convolution.
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


def floor(samples: Mapping[str, Sequence[Sample]], each: int) -> tuple[list[str], list[list]]:
    """Return the columns and rows of the arithmetic floor: `each` operations an image at this machine's rate."""
    rate = timing.figure(samples["ceiling"], "flops_per_second")
    ours = timing.figure(samples["mllab"], "images_per_second")
    row = [f"{each / 1e6:.1f}", f"{rate / 1e9:.0f}", f"{rate / each:.0f}", f"{ours:.0f}", f"{rate / each / ours:.2f}"]
    return ["MFLOP an image", "GFLOP/s", "images/s at that", "mllab's images/s", "× floor"], [row]


if __name__ == "__main__":
    flags.set_default(shared.DATASET, "mnist")
    flags.set_default(shared.LEARNING_RATES, "0.001")
    flags.set_default(shared.SEEDS, 1)
    flags.set_default(shared.BATCH_SIZE, 128)
    launch(main)
