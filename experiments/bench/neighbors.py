r"""Nearest neighbours beside scikit-learn, faiss and two loops in NumPy.

  python -m experiments.bench.neighbors

The lecture's case (5,000 training rows, 500 queries, 3,072 features; random) and MNIST (60,000 × 10,000 × 784). The
search alone is timed, data in memory; compiling and imports are left out. Then what votes for every k of 1 to 100 on 5
folds cost, against one k. Every program is a process of its own, in turn with the others.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from absl import flags

from experiments import flags as shared
from experiments.bench import timing
from experiments.bench.timing import Sample
from experiments.workdir import launch
from mllab.data import catalog
from mllab.report import console

CLASSES = 10
MOST = 100  # the greatest k of the grid
GRID_RATIO = 3  # all k may cost so much of one
CASES = {  # name: neighbours, searches a process, and what mllab's time must go into at least so often
    "5,000 × 500 × 3,072": (10, 3, {"sklearn": 2.0, "faiss": 1.0, "loops": 150.0}),
    "60,000 × 10,000 × 784": (5, 1, {"sklearn": 1.7, "faiss": 1.0}),
}

for flag in (timing.REPEATS, shared.DATA_DIR):
    flags.declare_key_flag(flag.name)


def main(argv: Sequence[str]) -> None:
    """Read the flags and run."""
    run(repeats=timing.REPEATS.value, data_dir=shared.DATA_DIR.value)


def run(*, repeats: int, data_dir: str | None) -> None:
    """Measure both cases and the grid; print a table of each."""
    timing.require("sklearn", "")
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        report = folder / "report.json"
        files = prepare(folder, data_dir)
        for name, (count, calls, targets) in CASES.items():
            given = {"data": files[name], "count": count, "calls": calls}
            found = {peer: folder / f"{peer}.npz" for peer in ("mllab", *targets)}
            measures: dict[str, Callable[[], Sample]] = {
                "mllab": timing.program(report, "bench.neighbors_once", neighbors=found["mllab"], **given)
            }
            for peer in targets:
                if peer != "faiss" or find_spec("faiss"):  # a peer that few have installed
                    measures[peer] = timing.program(
                        report, "bench.neighbors_peers", peer=peer, neighbors=found[peer], **given
                    )
            samples = timing.in_turn(measures, repeats)
            console.table(*times(name, samples, {peer: agreement(found["mllab"], found[peer]) for peer in measures}))
            print()
        lecture = files[next(iter(CASES))]
        measures = {
            str(most): timing.program(report, "bench.neighbors_once", data=lecture, grid=most) for most in (1, MOST)
        }
        console.table(*grids(timing.in_turn(measures, repeats)))


def prepare(folder: Path, data_dir: str | None) -> dict[str, Path]:
    """Write the points of each case: train [N, D], labels [N] and queries [M, D]."""
    rng = np.random.default_rng(0)
    mnist = catalog.load("mnist", data_dir=data_dir)
    inputs = mnist.inputs.reshape(len(mnist.inputs), -1)
    train = np.concatenate([mnist.split.train, mnist.split.validation])
    points = [
        {
            "train": rng.random((5000, 3072), np.float32),
            "labels": rng.integers(0, CLASSES, 5000),
            "queries": rng.random((500, 3072), np.float32),
        },
        {"train": inputs[train], "labels": mnist.targets[train], "queries": inputs[mnist.split.test]},
    ]
    files = {name: folder / f"case{place}.npz" for place, name in enumerate(CASES)}
    for path, arrays in zip(files.values(), points, strict=True):
        np.savez(path, **arrays)
    return files


def agreement(ours: Path, theirs: Path) -> float:
    """Return the share of places at which both found a row equally near, to 1 in 10,000."""
    with np.load(ours) as one, np.load(theirs) as other:
        mine, peers = one["distances"][: len(other["distances"])], other["distances"]
    return float(np.mean(np.abs(mine - peers) <= 1e-4 * np.maximum(peers, 1)))


def times(
    case: str, samples: Mapping[str, Sequence[Sample]], agreements: Mapping[str, float]
) -> tuple[list[str], list[list]]:
    """Return the columns and rows of one case's table; ratios are of medians of all repeats."""
    targets = CASES[case][2]
    ours = timing.figure(samples["mllab"], "seconds")
    rows = []
    for peer, each in samples.items():
        taken = timing.figure(each, "seconds")
        row = [peer, f"{taken:.3f}", timing.spread([sample.report["seconds"] for sample in each])]
        row.append(f"{100 * agreements[peer]:.3f}")
        target = targets.get(peer)
        judged = [f"{taken / ours:.2f}", target, timing.verdict(taken / ours >= target)] if target else [None] * 3
        rows.append([*row, *judged])
    return [case, "median s", "least – greatest s", "neighbours as mllab's %", "× mllab", "target", "met"], rows


def grids(samples: Mapping[str, Sequence[Sample]]) -> tuple[list[str], list[list]]:
    """Return the columns and the row of what every k costs against one."""
    one, every = (timing.figure(samples[str(most)], "seconds") for most in (1, MOST))
    ratio = every / one
    row = [f"{one:.2f}", f"{every:.2f}", f"{ratio:.2f}", GRID_RATIO, timing.verdict(ratio < GRID_RATIO)]
    return ["k = 1 s", f"k = 1 to {MOST} s", "×", "target", "met"], [row]


if __name__ == "__main__":
    launch(main)
