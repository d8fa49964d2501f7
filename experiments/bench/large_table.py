r"""A CSV file of a million rows and 30 columns: read, encoded, and a ridge regression and an MLP trained on it.

  python -m experiments.bench.large_table
  python -m experiments.bench.large_table --rows=100000

Both programs train the same learners of mllab, the MLP for one epoch, on the training rows of a 60/20/20 split. `mllab`
reads the file as experiments do: kinds of columns inferred, missing values imputed, warnings looked for. `polars` reads
it by polars and does the arithmetic alone: means for missing numbers, one-hot categories, standardised columns.
Imports are not timed; what compiles is read from the user's cache from the second measurement on.
"""

import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments import frame
from experiments.bench import harness
from experiments.bench.harness import Samples
from mllab.report.report import Report
from mllab.report.table import Table

NUMBERS, CATEGORIES, LEVELS = 25, 4, 5  # columns, and the values of a category
TARGET = "y"
MOST_SECONDS, MOST_MEMORY = 3.0, 4.0  # times polars' seconds; times the bytes of the encoded inputs
TOLERANCE = 0.05  # relative, of the RMSE on validation rows


@dataclass(frozen=True, kw_only=True)
class Settings(harness.Settings):
    """What to measure."""

    rows: int = frame.whole(1_000_000, help="Rows of the file.", low=1000)


def measure(run: frame.Context, settings: Settings) -> Samples:
    """Measure both programs in turn."""
    del run
    harness.require("polars")
    with tempfile.TemporaryDirectory() as folder:
        path, report = Path(folder) / "table.csv", Path(folder) / "report.json"
        write(path, settings.rows)
        print(f"{path.stat().st_size / 1e6:,.0f} MB", file=sys.stderr)
        programs = {name: harness.role_command("large_table", name, path=path) for name in ROLES}
        return harness.in_turn(
            {name: harness.program(report, words) for name, words in programs.items()}, settings.repeats
        )


def write(path: Path, rows: int) -> None:
    """Write the file: numbers of which 1% are missing, categories, and a target that depends on both."""
    import polars

    draw = np.random.default_rng(0)
    numbers = draw.normal(size=(rows, NUMBERS)).round(4)
    codes = draw.integers(0, LEVELS, (rows, CATEGORIES))
    target = numbers[:, :5].sum(axis=1) + numbers[:, 5] * numbers[:, 6] + codes[:, 0] + draw.normal(size=rows)
    numbers[draw.random(numbers.shape) < 0.01] = np.nan
    columns: dict[str, Any] = {f"x{place}": polars.Series(numbers[:, place]).fill_nan(None) for place in range(NUMBERS)}
    names = np.array([f"level {level}" for level in range(LEVELS)])
    columns |= {f"c{place}": names[codes[:, place]] for place in range(CATEGORIES)}
    polars.DataFrame(columns | {TARGET: target.round(4)}).write_csv(path)


def mllab(path: str) -> dict[str, Any]:
    """Read, encode and train by mllab alone."""
    from mllab.data import catalog

    def read() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        data = catalog.load(path, target=TARGET)
        return data.inputs, data.targets * data.target_scale, data.split.train, data.split.validation

    return timed(read)


def polars(path: str) -> dict[str, Any]:
    """Read the file by polars, do the arithmetic of encoding, and train."""
    import polars as frames

    def read() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        table = frames.read_csv(path)
        train, validation, _ = np.split(
            np.random.default_rng(0).permutation(len(table)), [len(table) * 6 // 10, len(table) * 8 // 10]
        )
        targets = table[TARGET].to_numpy().astype(np.float32)
        names = [name for name in table.columns if name.startswith("x")]
        numbers = table.select(frames.col(names).fill_null(strategy="mean").cast(frames.Float32)).to_numpy()
        codes = table.select(name for name in table.columns if name.startswith("c")).to_dummies().to_numpy()
        inputs = np.concatenate([numbers, codes.astype(np.float32)], axis=1)
        of_train = inputs[train]
        inputs -= of_train.mean(axis=0)
        inputs /= of_train.std(axis=0)
        return inputs, targets - targets[train].mean(), train, validation

    return timed(read)


def timed(read: Callable[[], tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]) -> dict[str, Any]:
    """Return the seconds of reading and of each training, the RMSE of both, and the memory that reading took."""
    import jax

    from mllab import devices, learners, rows

    devices.cache_compilations()
    jax.block_until_ready(jax.numpy.zeros(1))
    before = _peak_bytes()
    began = time.perf_counter()
    inputs, targets, train, validation = read()
    seconds = {"read": time.perf_counter() - began}
    peak = _peak_bytes() - before
    examples, rmse = {"inputs": inputs, "targets": targets}, {}
    training = rows.Rows(train.astype(np.int32), np.ones(len(train), np.float32))
    for name, learner, hyper in (
        ("ridge", learners.ridge(), {"l2": 1.0}),
        ("MLP", learners.mlp(hidden=(64,), batch_size=1024, epochs=1), {"learning_rate": 0.003}),
    ):
        began = time.perf_counter()
        params = jax.block_until_ready(learner.fit(hyper, jax.random.key(0), examples, training))
        seconds[name] = time.perf_counter() - began
        errors = np.asarray(learner.predict(params, inputs[validation])) - targets[validation]
        rmse[name] = float(np.sqrt(np.mean(errors**2)))
    return {
        **{f"{name} seconds": value for name, value in seconds.items()}, "seconds": sum(seconds.values()),
        "rmse": rmse, "peak": peak / inputs.nbytes, "megabytes": inputs.nbytes / 1e6,
    }  # fmt: skip


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


ROLES = {"mllab": mllab, "polars": polars}


def report(run: frame.Context, settings: Settings, measured: Samples) -> Report:
    """Report the seconds of each part and in all, and the memory that reading takes."""
    del run, settings
    parts = ("read", "ridge", "MLP")
    ours, theirs = (harness.figure(measured[name], "seconds") for name in ROLES)
    errors = {name: each[0].report["rmse"] for name, each in measured.items()}
    agree = all(abs(errors["mllab"][model] / errors["polars"][model] - 1) <= TOLERANCE for model in errors["mllab"])
    memory = harness.figure(measured["mllab"], "peak")
    rows = [
        [
            name,
            *(f"{harness.figure(each, f'{part} seconds'):.2f}" for part in parts),
            f"{harness.figure(each, 'seconds'):.2f}",
            harness.spread([sample.report["seconds"] for sample in each]),
            *(f"{value:.3f}" for value in errors[name].values()),
            f"{harness.figure(each, 'peak'):.1f}",
        ]
        for name, each in measured.items()
    ]
    columns = ["program", *(f"{part} s" for part in parts), "all s", "least – greatest s", "ridge RMSE", "MLP RMSE"]
    targets = [
        [
            "seconds, times polars'",
            f"{ours / theirs:.2f}",
            MOST_SECONDS,
            harness.verdict(ours / theirs <= MOST_SECONDS, agree),
        ],
        [
            "peak memory of reading, times the inputs",
            f"{memory:.2f}",
            MOST_MEMORY,
            harness.verdict(memory < MOST_MEMORY),
        ],
    ]
    return harness.report(
        "large_table",
        [Table([*columns, "peak × inputs"], rows), Table(["mllab", "measured", "target", "met"], targets)],
    )


main, run = frame.program(Settings, measure, report)

if __name__ == "__main__":
    harness.start(main, **ROLES)
