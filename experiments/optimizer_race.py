r"""The optimizer race: optimizers × learning rates × seeds of one model on one data set, side by side.

  python -m experiments.optimizer_race
  python -m experiments.optimizer_race --dataset=table.csv --target=price --optimizers=adam,adamw,lion --seeds=5

Learning rates are chosen on validation rows; the test figure comes from rows that nothing has looked at. Everything
is written to --workdir; the same workdir again resumes.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from experiments import flags as shared
from experiments import watch
from experiments.workdir import Lines, Workdir, default_path, finite, flagfile, launch
from mllab import devices, optimizers, racing, sweep, weights
from mllab.data import catalog
from mllab.data.dataset import Dataset
from mllab.errors import UserError
from mllab.metrics import interval, r_squared
from mllab.models import table as models
from mllab.models.base import in_bfloat16
from mllab.report import console
from mllab.report import race as race_report

flags.adopt_module_key_flags(shared)
PATIENCE = flags.DEFINE_integer(
    "patience", None, "Stop when no lane's validation loss improved for so many epochs. Default: never.", lower_bound=1
)
TARGET_SCORE = flags.DEFINE_float(
    "target_score", None, "Validation score to count the steps to. Default: two points below the best reached."
)
SHARED_BATCHES = flags.DEFINE_boolean("shared_batches", False, "All seeds see the same minibatches.")


def main(argv: Sequence[str]) -> None:
    """Read the flags and run."""
    devices.use_cores(shared.DEVICES.value)
    devices.cache_compilations()
    path = Path(shared.WORKDIR.value) if shared.WORKDIR.value else default_path("optimizer_race")
    names = shared.OPTIMIZERS.value
    model = shared.MODEL.value or "mlp"
    run(
        Workdir(path, "optimizer_race", flagfile("__main__")),
        dataset=shared.DATASET.value or "digits",
        data_dir=shared.DATA_DIR.value,
        target=shared.TARGET.value,
        task=shared.TASK.value,
        split_seed=shared.SPLIT_SEED.value,
        model=model,
        options=shared.model_options(),
        names=list(optimizers.OPTIMIZERS) if names == ["all"] else names,
        learning_rates=shared.numbers(shared.LEARNING_RATES.value, "learning_rates"),
        batch_size=shared.BATCH_SIZE.value,
        epochs=shared.EPOCHS.value,
        seeds=range(shared.SEEDS.value),
        shared_batches=SHARED_BATCHES.value,
        settings={
            "schedule": shared.SCHEDULE.value,
            "clip_norm": shared.CLIP_NORM.value,
            "weight_decay": shared.WEIGHT_DECAY.value,
            "average": shared.AVERAGE.value,
        },
        patience=PATIENCE.value,
        target_score=TARGET_SCORE.value,
        precision=shared.PRECISION.value,
        device_count=shared.DEVICES.value,
        checkpoint_seconds=shared.CHECKPOINT_SECONDS.value,
    )


def run(
    workdir: Workdir,
    *,
    dataset: str = "digits",
    data_dir: str | None = None,
    target: str | None = None,
    task: str | None = None,
    split_seed: int = 0,
    model: str = "mlp",
    options: Mapping[str, Any] | None = None,
    names: Sequence[str] = racing.CLASSIC,
    learning_rates: Sequence[float] = tuple(np.logspace(-4, 0, 8)),
    batch_size: int = 32,
    epochs: int = 20,
    seeds: Sequence[int] = (0, 1, 2),
    shared_batches: bool = False,
    settings: dict[str, Any] | None = None,
    patience: int | None = None,
    target_score: float | None = None,
    precision: str = "float32",
    device_count: int | None = None,
    checkpoint_seconds: float = 10.0,
) -> dict[str, Any]:
    """Race, write the workdir, show the table; return the summary that summary.json holds."""
    began = time.perf_counter()
    if target_score is not None and not target_score <= 1:
        raise UserError(f"--target_score={target_score}: accuracy and R² are at most 1")
    data = catalog.load(dataset, data_dir=data_dir, split_seed=split_seed, target=target, task=task)
    plan = models.plan(model, data.inputs.shape[1:], len(data.classes), **options or {})
    built = models.build(plan)
    if precision == "bf16":
        built = in_bfloat16(built)
    mesh = devices.mesh(device_count)
    steps = epochs * -(-len(data.split.train) // batch_size)

    # Before anything is written: what the race itself would refuse.
    settings = settings or {}
    racing.check(learning_rates, names, batch_size, len(data.split.train), settings)
    racing.check_examples(built, data.examples, data.split, data.task)

    with workdir.opened():
        environment = workdir.write_environment(data.sha256, mesh.size)
        loaded = time.perf_counter()

        def observe(name: str, grid: sweep.Grid):
            return [watch.observer(name, grid, steps, score, lines, progress)]

        def score(held_out: dict[str, np.ndarray]) -> np.ndarray:
            return racing.score(held_out, data.targets[data.split.validation], data.task)

        with Lines(workdir.path / "metrics.jsonl") as lines, console.Progress() as progress:
            raced = racing.race(
                built,
                data.examples,
                data.split,
                task=data.task,
                names=names,
                learning_rates=learning_rates,
                seeds=seeds,
                epochs=epochs,
                batch_size=batch_size,
                shared_batches=shared_batches,
                settings=settings,
                mesh=mesh,
                observe=observe,
                patience=patience,
                workdir=workdir.path,
                checkpoint_seconds=checkpoint_seconds,
            )
        trained = time.perf_counter()
        how = {
            "split_seed": split_seed,
            "shared_batches": shared_batches,
            "patience": patience,
            "precision": precision,
            **({"activation": plan["activation"]} if model == "mlp" else {}),
            **settings,
        }
        summary = summarise(raced, data, models.describe(plan), epochs, batch_size, steps, target_score)
        summary["settings"] = {name: value for name, value in how.items() if value is not None and value is not False}
        write_report(workdir, summary, raced, data, plan, environment)
        summary["seconds"] = {
            "data": loaded - began,
            "race": trained - loaded,
            "segments": float(sum(np.nansum(entry.result.history.seconds) for entry in raced.entries)),
            "report": time.perf_counter() - trained,
        }
        workdir.write_json("summary.json", summary)
    console.show(race_report.race_table(summary))
    for line in race_report.lost_lanes(summary):
        print(f"  {line}")
    print(f"\n{race_report.answer(summary)}\nReport: {workdir.path / 'report.html'}")
    return summary


def summarise(
    raced: racing.Race, data: Dataset, model: str, epochs: int, batch_size: int, steps: int, target: float | None
) -> dict[str, Any]:
    """Return the final figures as plain values, ready for JSON."""
    winner = raced.winner
    if target is None and winner:
        target = round(float(winner.score[winner.best].mean()) - 0.02, 2)
    classification = data.task == "classification"
    reported = (
        [{"name": "accuracy", "label": "accuracy"}]
        if classification
        else [
            {"name": "rmse", "label": "RMSE" + (f" ({data.unit})" if data.unit else "")},
            {"name": "r2", "label": "R²"},
        ]
    )
    return {
        "experiment": "optimizer_race",
        "dataset": {
            "name": data.name,
            "task": data.task,
            "target": data.target,
            "rows": {part: len(getattr(data.split, part)) for part in ("train", "validation", "test")},
            "classes": list(data.classes),
            "licence": data.licence,
            "citation": data.citation,
            "notes": list(data.notes),
        },
        "model": model,
        "score": {
            "label": "accuracy" if classification else "R²",
            "loss_unit": "nats" if classification else "squared error, standardised target",
            "reported": reported,
        },
        "learning_rates": raced.learning_rates,
        "seeds": raced.seeds,
        "epochs": epochs,
        "batch_size": batch_size,
        "steps": steps,
        "lanes_each": raced.learning_rates.size * raced.seeds.size,
        "chance_loss": raced.chance_loss,
        "target": target,
        "winner": winner.optimizer if winner else None,
        "ahead": ahead(raced, data),
        "optimizers": [entry_summary(entry, raced, data, target) for entry in raced.entries],
    }


def entry_summary(entry: racing.Entry, raced: racing.Race, data: Dataset, target: float | None) -> dict[str, Any]:
    """Return one optimizer's figures."""

    def lanes(where: np.ndarray):
        for rate, seed in np.argwhere(where):
            lane = {"learning_rate": raced.learning_rates[rate].item(), "seed": raced.seeds[seed].item()}
            step = int(entry.nonfinite_step[rate, seed])
            yield lane | ({"step": step} if step >= 0 else {"kept_loss": float(entry.kept_loss[rate, seed])})

    width = racing.width(entry, raced.learning_rates)
    ended = np.flatnonzero(np.isfinite(entry.result.history.seconds))
    return {
        "steps": int(raced.steps[ended[-1]]),
        "optimizer": entry.optimizer,
        "learning_rate": None if entry.best is None else raced.learning_rates[entry.best].item(),
        "validation": None if entry.best is None else interval(entry.score[entry.best]),
        "test": {name: interval(values) for name, values in tested(entry, data).items()},
        "test_by_seed": tested(entry, data),
        "steps_to_target": [] if target is None else racing.steps_to(entry, raced.steps, target).tolist(),
        "width": width and width._asdict(),
        "nonfinite": list(lanes(entry.nonfinite_step >= 0)),
        "failed": list(lanes(entry.failed)),
        "validation_by_rate": entry.score,
    }


def tested(entry: racing.Entry, data: Dataset) -> dict[str, np.ndarray]:
    """Return the reported test figures of each seed [G]; RMSE in the target's own unit."""
    if not entry.test or data.task == "classification":
        return {name: values for name, values in entry.test.items() if name == "accuracy"}
    squared = entry.test["loss"]
    return {
        "rmse": np.sqrt(squared) * data.target_scale,
        "r2": r_squared(squared, data.targets[data.split.test]),
    }


def ahead(raced: racing.Race, data: Dataset) -> dict[str, Any] | None:
    """Return by how much the winner's test score leads the next one's, paired by seed."""
    if len(raced.ranked) < 2:
        return None
    name = "accuracy" if data.task == "classification" else "r2"
    first, second = (tested(entry, data)[name] for entry in raced.ranked[:2])
    points = 100 * (first - second)
    return {
        "of": raced.ranked[1].optimizer,
        "by": interval(points),
        "unit": "points" if name == "accuracy" else "points of R²",
    }


def write_report(
    workdir: Workdir,
    summary: dict[str, Any],
    raced: racing.Race,
    data: Dataset,
    plan: dict[str, Any],
    environment: dict[str, Any],
) -> None:
    """Write figures, TensorBoard events, the winner's params and the page."""
    from mllab.report import page

    curves = {entry.optimizer: curve(entry, raced) for entry in raced.entries}
    figures = race_report.figures(summary, curves, workdir.path / "figures")
    watch.write_events(raced, workdir.path / "events")
    if raced.winner:
        about = {
            "model": summary["model"],
            "plan": plan,
            "settings": summary["settings"],
            "dataset": data.name,
            "features": list(data.features),
            "classes": list(data.classes),
            "target": {"name": data.target, "mean": data.target_mean, "scale": data.target_scale},
            "optimizer": raced.winner.optimizer,
            "learning_rate": raced.learning_rates[raced.winner.best],
        }
        params, extra = racing.published(raced.winner)
        encoded = weights.encode(params, finite(about), extra)
        workdir.write("params.safetensors", encoded)
    page.write(workdir.path / "report.html", race_report.page(summary, figures, environment, workdir.command))


def curve(entry: racing.Entry, raced: racing.Race) -> dict[str, Any]:
    """Return what the figures draw of one optimizer: means and 95% bounds over seeds."""

    def band(values: np.ndarray) -> np.ndarray:  # [..., G] -> [3, ...]
        return np.stack([interval(row)[:3] for row in values], axis=-1)

    best = 0 if entry.best is None else entry.best
    return {
        "steps": raced.steps,
        "loss": band(entry.loss[:, best]),
        "score": np.clip(band(entry.score), 0 if raced.task == "classification" else None, 1),  # no score exceeds 1
        "diverged": ((entry.nonfinite_step >= 0) | entry.failed).sum(axis=1),
    }


if __name__ == "__main__":
    flags.set_default(shared.DATASET, "digits")  # here: importing an experiment changes nothing for another
    flags.set_default(shared.MODEL, "mlp")
    launch(main)
