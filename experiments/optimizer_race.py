r"""The optimizer race: optimizers × learning rates × seeds of one model on one data set.

  python -m experiments.optimizer_race
  python -m experiments.optimizer_race --dataset=table.csv --target=price --optimizers=adam,adamw,lion --seeds=5

Learning rates are chosen on validation rows; the reported scores come from held-out test rows.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments import answers, frame
from experiments.frame import observers, publish_params
from experiments.race_answer import answer, result_table
from experiments.race_measurement import Measurement, diverged_lanes
from mllab import racing
from mllab.metrics import interval
from mllab.models import table as models
from mllab.models.base import in_bfloat16
from mllab.race_results import lanes_by_rate
from mllab.report import draw, table
from mllab.report.report import Bullets, Drawing, Report, Section
from mllab.tasks import TASKS


@dataclass(frozen=True, kw_only=True)
class Settings(frame.Table, frame.Optimizers, frame.LearningRates, frame.Training, frame.Network):
    """The data, the model, and what is raced."""

    dataset: str = frame.dataset("digits")
    model: str = frame.Network.with_default("model", "mlp")
    patience: int | None = frame.whole(
        None, help="Epochs without a better validation loss in any lane after which to stop. Default: never.", low=1
    )
    target_score: float | None = frame.number(
        None, help="Validation score to count the steps to. Default: two points below the best reached.", high=1
    )
    shared_batches: bool = frame.switch(help="Use the same minibatches for all seeds.")
    batch_size: int = frame.Training.with_default("batch_size", 32)
    epochs: int = frame.Training.with_default("epochs", 20)

    def values(self, *names: str) -> dict[str, Any]:
        """Return settings by name."""
        return {name: getattr(self, name) for name in names}


def measure(run: frame.Context, settings: Settings) -> Measurement:
    """Race the optimizers; write the winner's params and TensorBoard events."""
    with run.timed("data"):
        data = run.load()
    task, split = TASKS[data.task], data.split
    plan = models.plan(settings.model, data.inputs.shape[1:], len(data.classes), **settings.options())
    model = in_bfloat16(models.build(plan)) if settings.precision == "bf16" else models.build(plan)
    steps, mesh = settings.epochs * -(-len(split.train) // settings.batch_size), run.mesh()
    of_optimizers = settings.values("schedule", "clip_norm", "weight_decay", "average")
    rates, names, batch_size = settings.learning_rates, settings.optimizers, settings.batch_size
    racing.check(rates, names, batch_size, len(split.train), of_optimizers)  # before anything is written
    racing.check_memory(
        model, data.examples, names, rates=len(rates), count=len(split.train), settings=of_optimizers, mesh=mesh,
        **settings.values("epochs", "batch_size", "seeds", "shared_batches"),
    )  # fmt: skip
    racing.check_examples(model, data.examples, split, task)

    def score(held_out: dict[str, np.ndarray]) -> np.ndarray:
        return task.headline.value(held_out, data.targets[split.validation], 1.0)

    with observers.timed_race(run):
        raced = racing.race(
            model, data.examples, split, task=task, names=names, learning_rates=rates, seeds=range(settings.seeds),
            settings=of_optimizers, mesh=mesh, workdir=run.path,
            observe=lambda name, grid: [observers.observer(run, name, grid, steps, score)],
            **settings.values("epochs", "batch_size", "shared_batches", "patience", "checkpoint_seconds"),
        )  # fmt: skip
    conditions = settings.values("split_seed", "shared_batches", "patience", "precision") | of_optimizers
    conditions["activation"] = plan.get("activation")
    conditions = {name: value for name, value in conditions.items() if value is not None and value is not False}
    with run.timed("ties and baseline"):
        measured = Measurement.of(
            raced, data, model, settings.target_score, model_name=models.describe(plan), epochs=settings.epochs,
            batch_size=batch_size, steps=steps, settings=conditions,
        )  # fmt: skip
    with run.timed("events and params"):
        observers.write_events(raced, run.path / "events")
        if raced.winner:
            publish_params.winner(
                run, raced, plan, data, model=measured.model, settings=conditions, features=data.features,
                target={"name": data.target, "mean": data.target_mean, "scale": data.target_scale},
                optimizer=measured.winner, learning_rate=raced.learning_rates[raced.winner.best],
            )  # fmt: skip
    return measured


def report(run: frame.Context, settings: Settings, measured: Measurement) -> Report:
    """Report who won and by how much, how much the rate matters, the training curves, and diverged lanes."""
    del run, settings
    name, rows, rates = measured.dataset.name, measured.dataset.rows, measured.learning_rates
    diverged = diverged_lanes(measured.optimizers, rates, len(measured.seeds))
    grid = f"{answers.counted(len(rates), 'learning rate')} ({table.short(rates[0], 2)} to {table.short(rates[-1], 2)})"
    stopped = [each for each in measured.optimizers if each.steps < measured.steps]
    return Report(
        title=f"Optimizer race: {measured.model} on {name}",
        question=f"Which optimizer, at which learning rate, trains {measured.model} best on {name}, and how much does "
        "the rate matter?",
        answer=answer(measured),
        table=result_table(measured),
        sections=[
            Section("Learning rates", [score_by_rate(measured)]),
            Section("Training", [loss_by_step(measured)]),
            Section("What tuning buys", [score_by_trials(measured)] if measured.lanes_each > 1 else []),
            Section("Diverged lanes", [Bullets(diverged) if diverged else "None: all stayed finite and learned."]),
        ],
        facts={
            "data set": measured.dataset.described(),
            "rows": f"{rows['train']:,} to train, {rows['validation']:,} to choose, {rows['test']:,} to report",
            "model": measured.model,
            "training": f"{answers.counted(measured.epochs, 'epoch')}, batch size {measured.batch_size}: "
            f"{answers.counted(measured.steps, 'step')} a lane",
            "lanes": f"{answers.counted(len(measured.optimizers), 'optimizer')} × {grid} × "
            f"{answers.counted(len(measured.seeds), 'seed')}",
            "settings": [f"{key} = {value}" for key, value in measured.settings.items()],
            "stopped early": [f"{each.optimizer} after {each.steps:,} steps" for each in stopped],
            "chosen by": f"mean validation {measured.score.label} over seeds, of rates without a non-finite lane",
            "kept params": "those of each lane's least validation loss",
            "published params": f"of {measured.winner}: of tied optimizers the highest mean, of its seeds the best one"
            if measured.winner
            else "",
            "baseline": f"predicting {measured.baseline.name} of the training rows",
            "chance": f"a validation loss of {table.short(measured.chance_loss)}: a lane that does no better fails",
        },
        remarks=diverged,
    )


def score_by_rate(measured: Measurement) -> Drawing:
    """Draw the validation score against the learning rate."""
    rates, label = measured.learning_rates, f"validation {measured.score.label}"
    limits = measured.race.task.headline.lowest, 1.0
    series = [
        draw.Series.of_intervals(
            each.optimizer, rates, map(interval, each.validation_by_rate), limits=limits, best=each.learning_rate,
            nonfinite=lanes_by_rate(each.nonfinite, rates), failed=lanes_by_rate(each.failed, rates),
        )
        for each in measured.optimizers
    ]  # fmt: skip
    title = f"Which learning rates work? {measured.model} on {measured.dataset.name}"
    figure = draw.against_rate(series, title=title, y_label=label, over=f"{len(measured.seeds)} seeds")
    alt = f"{label.capitalize()} against learning rate, one curve an optimizer"
    caption = "A wide plateau tolerates a rate that is off; a peak does not."
    return Drawing("score_by_learning_rate", figure, alt, caption)


def loss_by_step(measured: Measurement) -> Drawing:
    """Draw the validation loss against the step, at each optimizer's chosen rate."""
    steps, chosen = measured.race.steps, [entry for entry in measured.race.entries if entry.best is not None]
    figure = draw.curves(
        [draw.Series.of_intervals(each.optimizer, steps, map(interval, each.loss[:, each.best])) for each in chosen],
        title=f"Validation loss of {measured.model} on {measured.dataset.name}, each at its best learning rate",
        x_label="step", y_label=f"validation loss ({measured.score.loss_unit}, log scale)", log_y=True,
        over=f"{len(measured.seeds)} seeds",
    )  # fmt: skip
    return Drawing("loss_by_step", figure, "Validation loss against the step, one curve an optimizer at its best rate")


def score_by_trials(measured: Measurement) -> Drawing | None:
    """Draw the expected test score of the best of n lanes against n, the trials that one can afford."""
    curves = {name: scores for name, scores in measured.expected_test.items() if scores.size}
    if not curves:
        return None
    label = f"test {measured.score.label}"
    figure = draw.curves(
        [draw.Series(name, np.arange(1.0, scores.size + 1), scores) for name, scores in curves.items()],
        title="Which optimizer is best depends on how many trials one can afford",
        x_label="n, lanes that are tried: rates and seeds at random", y_label=f"expected {label} of the best of n",
        log_x=True, markers=False, note="The best of n by validation score; exact over all lanes (Dodge et al. 2019).",
    )  # fmt: skip
    return Drawing("score_by_trials", figure, f"Expected {label} against the number of trials, one curve an optimizer")


main, run = frame.program(Settings, measure, report, all_cores=True)

if __name__ == "__main__":
    main()
