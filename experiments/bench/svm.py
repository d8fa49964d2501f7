r"""Kernel support vector machines beside scikit-learn's, which are LIBSVM's.

  python -m experiments.bench.svm

One problem of two classes (10,000 images of Fashion-MNIST, classes 0 to 4 against 5 to 9; RBF, gamma as `scale`) at
C = 1 and 10; and grids of 5 C × 5 gamma × 5 folds, on 5,000 of these images and on all digits (45 pairs of classes).
Fitting alone is timed, data in memory; compiling and imports are left out. Every program is a process of its own, in
turn with the others.
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
from mllab import validation
from mllab.data import catalog
from mllab.report import console

FOLDS = 5
COSTS = np.logspace(-1, 3, 5)  # of the grids
WIDTHS = np.logspace(-1, 1, 5)  # gamma, in multiples of `scale`
EXACT = 1e-5  # the dual objective may differ by so much, of itself
SAME = 0.002  # the held-out accuracy of any setting may differ by so much
CASES: Mapping[
    str, tuple[np.ndarray, float]
] = {  # name: C (a grid where there are several), and what mllab's time must go into scikit-learn's so often
    "10,000 images, C = 1": (np.ones(1), 5.0),
    "10,000 images, C = 10": (np.full(1, 10.0), 5.0),
    "5,000 images, grid": (COSTS, 8.0),
    "digits, grid": (COSTS, 1.0),
}

for flag in (timing.REPEATS, shared.DATA_DIR):
    flags.declare_key_flag(flag.name)


def main(argv: Sequence[str]) -> None:
    """Read the flags and run."""
    run(repeats=timing.REPEATS.value, data_dir=shared.DATA_DIR.value)


def run(*, repeats: int, data_dir: str | None) -> None:
    """Measure all cases; print a table."""
    timing.require("sklearn", "")
    rows = []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for name, path in prepare(folder, data_dir).items():
            found = {peer: folder / f"{peer}.npz" for peer in ("once", "peers")}
            measures = {
                peer: timing.program(folder / "report.json", f"bench.svm_{peer}", data=path, found=found[peer])
                for peer in found
            }
            rows.append(judged(name, timing.in_turn(measures, repeats), *differences(path, *found.values())))
    console.table(["case", "mllab s", "scikit-learn s", "×", "target", "objective off", "accuracy off", "met"], rows)


def prepare(folder: Path, data_dir: str | None) -> dict[str, Path]:
    """Write what each case learns from; see `svm_once`."""
    clothes, digits = catalog.load("fashion_mnist", data_dir=data_dir), catalog.load("digits")
    files = {}
    for place, (name, (c, _)) in enumerate(CASES.items()):
        data = digits if name.startswith("digits") else clothes
        count = len(digits.inputs) if data is digits else int(name.split()[0].replace(",", ""))
        inputs = data.inputs[:count].reshape(count, -1)
        labels = data.targets[:count] if data is digits else (data.targets[:count] >= 5)
        scale = 1 / (inputs.shape[1] * inputs.var(dtype=np.float64))
        held_out = folds_of(labels) if len(c) > 1 else np.zeros((0, count), bool)
        gamma = scale * WIDTHS if len(c) > 1 else np.array([scale])
        files[name] = folder / f"case{place}.npz"
        np.savez(files[name], inputs=inputs, labels=labels.astype(np.int32), c=c, gamma=gamma, held_out=held_out)
    return files


def folds_of(labels: np.ndarray) -> np.ndarray:
    """Return which rows each fold holds out, [K, N]."""
    rows = validation.folds(np.arange(len(labels)), FOLDS, 0, labels).held_out
    held_out = np.zeros((FOLDS, len(labels)), bool)
    for own, ids, weight in zip(held_out, np.asarray(rows.ids), np.asarray(rows.weight), strict=True):
        own[ids[weight > 0]] = True
    return held_out


def differences(data: Path, ours: Path, theirs: Path) -> tuple[float | None, float | None]:
    """Return how far the dual objectives are apart, of themselves; or, of a grid, a setting's accuracies at most."""
    with np.load(data) as file, np.load(ours) as one, np.load(theirs) as other:
        if "accuracy" in one:
            return None, float(np.abs(one["accuracy"] - other["accuracy"]).mean(axis=2).max())
        kernel = np.asarray(file["inputs"], np.float64)
        squares = np.sum(kernel**2, axis=1)
        kernel = np.exp(-file["gamma"][0] * np.maximum(squares[:, None] + squares[None] - 2 * kernel @ kernel.T, 0))
        mine, peers = (objective(kernel, each["coefficients"]) for each in (one, other))
    return abs(mine / peers - 1), None


def objective(kernel: np.ndarray, coefficients: np.ndarray) -> float:
    """Return the dual objective of coefficients [N], alpha × sign."""
    beta = coefficients.astype(np.float64)
    return float(np.abs(beta).sum() - beta @ kernel @ beta / 2)


def judged(
    name: str, samples: Mapping[str, Sequence[Sample]], objective_off: float | None, accuracy_off: float | None
) -> list:
    """Return the row of a case; the ratio is of medians of all repeats."""
    ours, theirs = (timing.figure(samples[peer], "seconds") for peer in ("once", "peers"))
    target = CASES[name][1]
    right = (objective_off is None or objective_off <= EXACT, accuracy_off is None or accuracy_off <= SAME)
    return [
        name, f"{ours:.2f}", f"{theirs:.2f}", f"{theirs / ours:.1f}", target,
        None if objective_off is None else f"{objective_off:.1e}",
        None if accuracy_off is None else f"{100 * accuracy_off:.2f}%",
        timing.verdict(theirs / ours >= target, *right),
    ]  # fmt: skip


if __name__ == "__main__":
    launch(main)
