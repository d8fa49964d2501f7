r"""EM for Gaussian mixtures beside scikit-learn's.

  python -m experiments.bench.mixture

50,000 points in 16 dimensions, 8 full covariances, 20 iterations from the same start; compiling, imports and the start
are left out. Every program is a process of its own, in turn with the other.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from experiments.bench import timing
from experiments.bench.timing import Sample
from experiments.workdir import launch
from mllab.report import console

POINTS, FEATURES, COMPONENTS, STEPS = 50_000, 16, 8, 20
TARGET = 5  # scikit-learn's time over mllab's, at least
CLOSE = 1e-4  # mean log-likelihoods may be so far apart

flags.declare_key_flag(timing.REPEATS.name)


def main(argv: Sequence[str]) -> None:
    """Read the flags and run."""
    run(repeats=timing.REPEATS.value)


def run(*, repeats: int) -> None:
    """Measure both and print the table."""
    timing.require("sklearn", "")
    with tempfile.TemporaryDirectory() as made:
        data, report = Path(made) / "points.npz", Path(made) / "report.json"
        np.savez(data, **problem(POINTS))
        measures = {
            name: timing.program(report, f"bench.{program}", data=data, steps=STEPS)
            for name, program in (("mllab", "mixture_once"), ("sklearn", "mixture_peers"))
        }
        console.table(*judged(timing.in_turn(measures, repeats)))


def problem(count: int) -> dict[str, Any]:
    """Return points [N, D] of overlapping Gaussians, and means [K, D] to start from."""
    rng = np.random.default_rng(0)
    shapes = rng.standard_normal((COMPONENTS, FEATURES, FEATURES)) / np.sqrt(FEATURES)
    own = rng.integers(0, COMPONENTS, count)
    centres = rng.standard_normal((COMPONENTS, FEATURES))
    points = np.einsum("nd,nde->ne", rng.standard_normal((count, FEATURES)), shapes[own]) + centres[own]
    return {"points": points.astype(np.float32), "means": points[rng.choice(count, COMPONENTS, replace=False)]}


def judged(samples: Mapping[str, Sequence[Sample]]) -> tuple[list[str], list[list]]:
    """Return the columns and rows of the table; the ratio is of medians of all repeats."""
    ours = {name: timing.figure(samples["mllab"], name) for name in ("seconds", "log_likelihood")}
    rows = []
    for name, each in samples.items():
        taken, likelihood = (timing.figure(each, figure) for figure in ("seconds", "log_likelihood"))
        row: list[Any] = [
            name,
            f"{taken:.3f}",
            timing.spread([sample.report["seconds"] for sample in each]),
            f"{likelihood:.5f}",
        ]
        ratio, same = taken / ours["seconds"], abs(likelihood - ours["log_likelihood"]) < CLOSE
        row += [None] * 3 if name == "mllab" else [f"{ratio:.2f}", TARGET, timing.verdict(ratio >= TARGET, same)]
        rows.append(row)
    return ["20 iterations", "median s", "least – greatest s", "log-likelihood", "× mllab", "target", "met"], rows


if __name__ == "__main__":
    launch(main)
