r"""The optimizer race: optimizers × learning rates × seeds of one model on one data set, side by side.

  python -m experiments.optimizer_race
  python -m experiments.optimizer_race --dataset=table.csv --target=price --optimizers=adam,adamw,lion --seeds=5

Learning rates are chosen on validation rows; the test figure comes from rows that nothing has looked at. Everything
is written to --workdir; the same workdir again resumes.
"""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from experiments import flags as shared
from experiments.workdir import Lines, Workdir, default_path, finite, flagfile, launch
from mllab import devices, optimizers, racing, sweep, training, weights
from mllab.data import catalog
from mllab.data.dataset import Dataset
from mllab.errors import UserError, unknown
from mllab.metrics import interval, r_squared
from mllab.models import linear, mlp
from mllab.models.base import Model, in_bfloat16, plain
from mllab.report import console
from mllab.report import race as race_report

flags.adopt_module_key_flags(shared)
HIDDEN = flags.DEFINE_list("hidden", ["128", "128"], "Units of each hidden layer of the MLP.")
ACTIVATION = flags.DEFINE_enum("activation", "relu", list(mlp.ACTIVATIONS), "Activation of the MLP's hidden layers.")
SCHEDULE = flags.DEFINE_enum(
    "schedule",
    "constant",
    list(optimizers.SCHEDULES),
    "How the learning rate goes from step to step; it peaks at the rate.",
)
CLIP_NORM = flags.DEFINE_float("clip_norm", None, "Clip gradients to this global norm. Default: never.", lower_bound=0)
WEIGHT_DECAY = flags.DEFINE_float("weight_decay", None, "Weight decay. Default: the optimizer's own.", lower_bound=0)
PATIENCE = flags.DEFINE_integer(
    "patience", None, "Stop when no lane's validation loss improved for so many epochs. Default: never.", lower_bound=1
)
TARGET_SCORE = flags.DEFINE_float(
    "target_score", None, "Validation score to count the steps to. Default: two points below the best reached."
)
SHARED_BATCHES = flags.DEFINE_boolean("shared_batches", False, "All seeds see the same minibatches.")
CHECKPOINT_SECONDS = flags.DEFINE_float("checkpoint_seconds", 10.0, "Seconds between checkpoints.", lower_bound=0)

MODELS = ("linear", "softmax", "mlp")
EVENT_LANES = 32  # TensorBoard shows no more at once; all lanes are in metrics.jsonl


def main(argv: Sequence[str]) -> None:
    """Read the flags and run."""
    devices.use_cores(shared.DEVICES.value)
    devices.cache_compilations()
    path = Path(shared.WORKDIR.value) if shared.WORKDIR.value else default_path("optimizer_race")
    names = shared.OPTIMIZERS.value
    model = shared.MODEL.value or "mlp"
    for flag in (HIDDEN, ACTIVATION):
        if flag.present and model != "mlp":
            raise UserError(f"--{flag.name} is for --model=mlp, not for {model}")
    run(
        Workdir(path, "optimizer_race", flagfile("__main__")),
        dataset=shared.DATASET.value or "digits",
        data_dir=shared.DATA_DIR.value,
        target=shared.TARGET.value,
        task=shared.TASK.value,
        split_seed=shared.SPLIT_SEED.value,
        model=model,
        hidden=whole_numbers(HIDDEN.value, "hidden"),
        activation=ACTIVATION.value,
        names=list(optimizers.OPTIMIZERS) if names == ["all"] else names,
        learning_rates=shared.numbers(shared.LEARNING_RATES.value, "learning_rates"),
        batch_size=shared.BATCH_SIZE.value,
        epochs=shared.EPOCHS.value,
        seeds=range(shared.SEEDS.value),
        shared_batches=SHARED_BATCHES.value,
        settings={"schedule": SCHEDULE.value, "clip_norm": CLIP_NORM.value, "weight_decay": WEIGHT_DECAY.value},
        patience=PATIENCE.value,
        target_score=TARGET_SCORE.value,
        precision=shared.PRECISION.value,
        device_count=shared.DEVICES.value,
        checkpoint_seconds=CHECKPOINT_SECONDS.value,
    )


def whole_numbers(texts: Sequence[str], flag: str) -> tuple[int, ...]:
    """Return the positive whole numbers of a flag's list."""
    if not all(text.strip().isdecimal() and int(text) > 0 for text in texts):
        raise UserError(f"--{flag}={','.join(texts)}: give positive whole numbers, such as 128,128")
    return tuple(int(text) for text in texts)


def build(name: str, dataset: Dataset, hidden: Sequence[int], activation: str) -> tuple[Model, str]:
    """Return a model for the data set, and what it is called.

    Raises:
        UserError: no such model, or one that is not for the data set's task.
    """
    features, classes = math.prod(dataset.inputs.shape[1:]), len(dataset.classes)
    for model, task, instead in (("softmax", "classification", "linear"), ("linear", "regression", "softmax")):
        if name == model and dataset.task != task:
            raise UserError(
                f"--model={name} is for {task}, and {dataset.name} is {dataset.task}: try --model={instead}"
            )
    if name == "mlp":
        sizes = (features, *hidden, classes or 1)
        act = mlp.ACTIVATIONS[activation]
        pair = plain(lambda key: mlp.init(key, sizes, activation), lambda params, x: mlp.apply(params, x, act))
        return pair, f"mlp {'-'.join(map(str, sizes))}"
    if name in MODELS:
        pair = plain(lambda key: linear.init(key, features, classes or 1), linear.apply)
        return pair, f"{name} {features}-{classes or 1}"
    raise unknown("model", name, MODELS)


def run(
    workdir: Workdir,
    *,
    dataset: str = "digits",
    data_dir: str | None = None,
    target: str | None = None,
    task: str | None = None,
    split_seed: int = 0,
    model: str = "mlp",
    hidden: Sequence[int] = (128, 128),
    activation: str = "relu",
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
    built, described = build(model, data, hidden, activation)
    if precision == "bf16":
        built = in_bfloat16(built)
    mesh = devices.mesh(device_count)
    examples = {"inputs": data.inputs.reshape(len(data.inputs), -1), "targets": data.targets}
    steps = epochs * -(-len(data.split.train) // batch_size)

    # Before anything is written: what the race itself would refuse.
    settings = settings or {}
    racing.check(learning_rates, names, batch_size, len(data.split.train), settings)
    racing.check_examples(built, examples, data.split, data.task)

    with workdir.opened():
        environment = workdir.write_environment(data.sha256, mesh.size)
        loaded = time.perf_counter()

        def observe(name: str, grid: sweep.Grid):
            progress.task(name, steps, lanes=len(grid.seed))
            best, done, restored = -math.inf, 0, False

            def seen(event: training.Segment | training.Notice) -> None:
                nonlocal best, done, restored
                if isinstance(event, training.Notice):
                    progress.say(event.text)
                    return
                lines.add(records(name, grid, event))
                best = max(best, float(np.nanmax(score(event.held_out), initial=-math.inf)))
                if (restored and not event.restored) or (event.restored and event.step == event.steps):
                    progress.resume(event.step if event.restored else done)
                if not event.restored:
                    progress.advance(event.step - done, best=best)
                done, restored = event.step, event.restored

            return [seen]

        def score(held_out: dict[str, np.ndarray]) -> np.ndarray:
            return racing.score(held_out, data.targets[data.split.validation], data.task)

        with Lines(workdir.path / "metrics.jsonl") as lines, console.Progress() as progress:
            raced = racing.race(
                built,
                examples,
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
            **({"activation": activation} if model == "mlp" else {}),
            **settings,
        }
        summary = summarise(raced, data, described, epochs, batch_size, steps, target_score)
        summary["settings"] = {name: value for name, value in how.items() if value is not None and value is not False}
        write_report(workdir, summary, raced, data, environment)
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


def records(name: str, grid: sweep.Grid, event: training.Segment):
    """Yield a record a lane for metrics.jsonl."""
    for lane, seed in enumerate(grid.seed):
        yield {
            "optimizer": name,
            "learning_rate": float(grid.hyper["learning_rate"][lane]),
            "seed": int(seed),
            "step": event.step,
            "train_loss": float(event.train_loss[lane]),
            **{f"validation_{metric}": float(values[lane]) for metric, values in event.held_out.items()},
            "seconds": event.seconds,
        }


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
    workdir: Workdir, summary: dict[str, Any], raced: racing.Race, data: Dataset, environment: dict[str, Any]
) -> None:
    """Write figures, TensorBoard events, the winner's params and the page."""
    from mllab.report import events, page

    curves = {entry.optimizer: curve(entry, raced) for entry in raced.entries}
    figures = race_report.figures(summary, curves, workdir.path / "figures")
    metric = "accuracy" if data.task == "classification" else "r2"
    lanes = [(entry, position) for entry in raced.ranked for position in range(raced.seeds.size)]
    for entry, position in lanes[:EVENT_LANES]:  # the best optimizers' first
        done = np.isfinite(entry.result.history.seconds)
        lane = f"{entry.optimizer} rate {raced.learning_rates[entry.best]:.3g} seed {raced.seeds[position]}"
        tags = {
            "loss/train": entry.train_loss,
            "loss/validation": entry.loss,
            f"{metric}/validation": entry.curve,
        }
        shown = {tag: (raced.steps[done], values[done, entry.best, position]) for tag, values in tags.items()}
        events.write(workdir.path / "events" / lane, shown)
    if raced.winner:
        about = {
            "model": summary["model"],
            "settings": summary["settings"],
            "dataset": data.name,
            "features": list(data.features),
            "classes": list(data.classes),
            "target": {"name": data.target, "mean": data.target_mean, "scale": data.target_scale},
            "optimizer": raced.winner.optimizer,
            "learning_rate": raced.learning_rates[raced.winner.best],
        }
        encoded = weights.encode(racing.published(raced.winner)[0], finite(about))
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
