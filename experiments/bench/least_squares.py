r"""Least squares beside scikit-learn's LinearRegression and NumPy's lstsq: 1,000,000 rows of 32 columns, float32.

  python -m experiments.bench.least_squares

Condition numbers of 10 and 10,000. The fit alone is timed, data in memory; compiling and imports are left out. The
error is that of the weights, relative, against lstsq of the same numbers in float64. Every program is a process of its
own.
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

ROWS, FEATURES = 1_000_000, 32
CONDITIONS = (10.0, 1e4)
TARGET = 10  # LinearRegression's time over mllab's, at least

flags.declare_key_flag(timing.REPEATS.name)


def main(argv: Sequence[str]) -> None:
    """Read the flags and run."""
    run(repeats=timing.REPEATS.value)


def run(*, repeats: int) -> None:
    """Measure each condition number; print a table of each."""
    timing.require("sklearn", "")
    with tempfile.TemporaryDirectory() as made:
        data, report = Path(made) / "rows.npz", Path(made) / "report.json"
        for condition in CONDITIONS:
            np.savez(data, **problem(ROWS, condition))
            measures = {
                solver: timing.program(report, "bench.least_squares_once", solver=solver, data=data)
                for solver in ("mllab", "sklearn", "numpy")
            }
            console.table(*judged(condition, timing.in_turn(measures, repeats)))
            print()


def problem(rows: int, condition: float) -> dict[str, Any]:
    """Return inputs [N, D] off centre, targets [N], and the weights [D] that lstsq finds in float64."""
    rng = np.random.default_rng(0)
    turn, _ = np.linalg.qr(rng.standard_normal((FEATURES, FEATURES)))
    x = rng.standard_normal((rows, FEATURES)) * np.geomspace(1, 1 / condition, FEATURES) @ turn.T + 3
    x = x.astype(np.float32)
    y = (x @ rng.standard_normal(FEATURES) + 3 + 0.01 * rng.standard_normal(rows)).astype(np.float32)
    wide, t = x.astype(float), y.astype(float)
    weights = np.linalg.lstsq(wide - wide.mean(0), t - t.mean(), rcond=None)[0]
    return {"x": x, "y": y, "weights": weights}


def judged(condition: float, samples: Mapping[str, Sequence[Sample]]) -> tuple[list[str], list[list]]:
    """Return the columns and rows of one condition number's table; ratios are of medians of all repeats."""
    ours = {name: timing.figure(samples["mllab"], name) for name in ("seconds", "error")}
    rows = []
    for solver, each in samples.items():
        taken, error = timing.figure(each, "seconds"), timing.figure(each, "error")
        row: list[Any] = [
            solver,
            f"{taken:.3f}",
            timing.spread([sample.report["seconds"] for sample in each]),
            f"{error:.1e}",
        ]
        ratio = taken / ours["seconds"]
        row.append(None if solver == "mllab" else f"{ratio:.2f}")
        judge = solver == "sklearn"
        rows.append(
            [*row, *([TARGET, timing.verdict(ratio >= TARGET, ours["error"] <= error)] if judge else [None] * 2)]
        )
    return [f"condition {condition:g}", "median s", "least – greatest s", "error", "× mllab", "target", "met"], rows


if __name__ == "__main__":
    launch(main)
