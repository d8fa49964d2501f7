r"""K-means beside scikit-learn, on MNIST's 60,000 training images of 784 pixels.

  python -m experiments.bench.kmeans

One start each of k = 10 and k = 100, the same number of Lloyd's steps; and 10 restarts of k = 10, each to its end. Both
begin from the same images, in memory; compiling and imports are left out. Every program is a process of its own, in
turn with the other.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from absl import flags

from experiments import flags as shared
from experiments.bench import timing
from experiments.bench.timing import Sample
from experiments.workdir import launch
from mllab.data import catalog
from mllab.report import console

CASES = {  # name: restarts, k, steps and tolerance, and what mllab's time must go into scikit-learn's
    "k = 10, 20 steps": (1, 10, 20, 0.0, 1.0),
    "k = 100, 20 steps": (1, 100, 20, 0.0, 1.0),
    "k = 10, 10 restarts": (10, 10, 300, 1e-4, 1.5),
}
CLOSE = 1e-3  # inertias may differ by so much: rounding sends a point between two centres either way

for flag in (timing.REPEATS, shared.DATA_DIR):
    flags.declare_key_flag(flag.name)


def main(argv: Sequence[str]) -> None:
    """Read the flags and run."""
    run(repeats=timing.REPEATS.value, data_dir=shared.DATA_DIR.value)


def run(*, repeats: int, data_dir: str | None) -> None:
    """Measure all cases; print a table of each."""
    timing.require("sklearn", "")
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        files = prepare(folder, data_dir)
        for name, (_, _, steps, tolerance, _) in CASES.items():
            given = {"data": files[name], "steps": steps, "tolerance": tolerance}
            measures = {
                peer: timing.program(folder / "report.json", f"bench.{module}", **given)
                for peer, module in (("mllab", "kmeans_once"), ("sklearn", "kmeans_peers"))
            }
            console.table(*times(name, timing.in_turn(measures, repeats)))
            print()


def prepare(folder: Path, data_dir: str | None) -> dict[str, Path]:
    """Write points [N, D] and starts [S, K, D] of each case."""
    mnist = catalog.load("mnist", data_dir=data_dir)
    train = np.concatenate([mnist.split.train, mnist.split.validation])
    points = mnist.inputs[train].reshape(len(train), -1)
    rng = np.random.default_rng(0)
    files = {}
    for place, (name, (restarts, k, *_)) in enumerate(CASES.items()):
        starts = np.stack([points[rng.choice(len(points), k, replace=False)] for _ in range(restarts)])
        files[name] = folder / f"case{place}.npz"
        np.savez(files[name], points=points, starts=starts)
    return files


def times(case: str, samples: Mapping[str, Sequence[Sample]]) -> tuple[list[str], list[list]]:
    """Return the columns and rows of one case's table; ratios are of medians of all repeats."""
    target = CASES[case][-1]
    ours, inertia = (timing.figure(samples["mllab"], name) for name in ("seconds", "inertia"))
    rows = []
    for peer, each in samples.items():
        taken, theirs = timing.figure(each, "seconds"), timing.figure(each, "inertia")
        row = [peer, f"{taken:.3f}", timing.spread([sample.report["seconds"] for sample in each])]
        row += [f"{theirs:.6g}", f"{timing.figure(each, 'steps'):.0f}"]
        met = timing.verdict(taken / ours >= target, inertia <= theirs * (1 + CLOSE))
        rows.append([*row, *([None] * 3 if peer == "mllab" else [f"{taken / ours:.2f}", target, met])])
    return [case, "median s", "least – greatest s", "inertia", "steps", "× mllab", "target", "met"], rows


if __name__ == "__main__":
    launch(main)
