r"""The optimizer race: optimizers × learning rates × seeds of one model on one data set.

  python -m experiments.optimizer_race
  python -m experiments.optimizer_race --dataset=table.csv --target=price --optimizers=adam,adamw,lion --seeds=5
  python -m experiments.optimizer_race --dataset=table.csv --target=price --folds=5 --refit

Learning rates are chosen on validation rows, or by cross-validation (--folds); the reported scores come from held-out
test rows. With --refit, each optimizer is then trained on all training and validation rows.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments import answers, frame, race_training
from experiments.frame import observers, publish_params
from experiments.race_answer import (
    answer,
    chosen_over,
    compared_over,
    lanes_of_rate,
    published,
    refit_facts,
    result_table,
)  # fmt: skip
from experiments.race_measurement import Measurement, diverged_lanes, nonfinite_refits
from mllab.models import table as models
from mllab.race_results import lanes_by_rate
from mllab.report import draw, table
from mllab.report.report import Bullets, Drawing, Report, Section


@dataclass(frozen=True, kw_only=True)
class Settings(frame.Separation, frame.Optimizers, frame.LearningRates, frame.Training, frame.Network):
    """The data, the model, and what is raced."""

    dataset: str = frame.dataset("digits")
    model: str = frame.Network.with_default("model", "mlp")
    patience: int | None = frame.whole(
        None, help="Epochs without a better validation loss in any lane after which to stop. Default: never.", low=1
    )
    target_score: float | None = frame.number(
        None, help="Validation score to count the steps to. Default: two points below the best reached.", high=1
    )
    folds: int | None = frame.whole(
        None,
        help="Folds of the training and validation rows, over which the learning rate is chosen. Default: none; it is "
        "chosen on the validation rows of one split.",
        low=2,
        high=1000,
    )
    refit: bool = frame.switch(
        help="Train each optimizer once more at its chosen rate, on all training and validation rows; test and publish "
        "that."
    )
    shared_batches: bool = frame.switch(help="Use the same minibatches for all seeds.")
    batch_size: int = frame.Training.with_default("batch_size", 32)
    epochs: int = frame.Training.with_default("epochs", 20)

    def values(self, *names: str) -> dict[str, Any]:
        """Return settings by name."""
        return {name: getattr(self, name) for name in names}


def measure(run: frame.Context, settings: Settings) -> Measurement:
    """Race the optimizers; write the winner's params and TensorBoard events."""
    posed = race_training.problem(run, settings)
    data, plan, of_optimizers = posed.data, posed.plan, posed.optimizer_settings
    raced = race_training.train(run, settings, posed)
    conditions = settings.values("split_seed", "shared_batches", "patience", "precision") | of_optimizers
    conditions["activation"] = plan.get("activation")
    conditions = {name: value for name, value in conditions.items() if value is not None and value is not False}
    with run.timed("ties and baseline"):
        measured = Measurement.of(
            raced, posed, settings.target_score, model_name=models.describe(plan), epochs=settings.epochs,
            batch_size=settings.batch_size, steps=int(raced.steps[-1]), settings=conditions,
        )  # fmt: skip
    with run.timed("events and params"):
        observers.write_events(raced, run.path / "events")
        if raced.winner and measured.is_published:
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
    diverged = diverged_lanes(measured.optimizers, rates, measured.lanes_per_rate)
    diverged += nonfinite_refits(measured)
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
            "rows": f"{rows['choosing']:,} to train and to choose, {rows['test']:,} to report"
            if measured.folds > 1
            else f"{rows['train']:,} to train, {rows['validation']:,} to choose, {rows['test']:,} to report",
            "folds": measured.folds_described,
            "model": measured.model,
            "training": f"{answers.counted(measured.epochs, 'epoch')}, batch size {measured.batch_size}: "
            f"{answers.counted(measured.steps, 'step')} a lane",
            "lanes": f"{answers.counted(len(measured.optimizers), 'optimizer')} × {grid} × "
            f"{answers.counted(len(measured.seeds), 'seed')}"
            + (f" × {measured.folds} folds" if measured.folds > 1 else ""),
            "settings": [f"{key} = {value}" for key, value in measured.settings.items()],
            "stopped early": [f"{each.optimizer} after {each.steps:,} steps" for each in stopped],
            "chosen by": f"mean validation {measured.score.label} over {chosen_over(measured)}, of rates without a "
            "non-finite lane",
            "kept params": "those of each lane's least validation loss",
            "refit": refit_facts(measured),
            "published params": published(measured),
            "baseline": f"predicting {measured.baseline.name} of the training rows",
            "chance": f"a validation loss of {table.short(measured.chance_loss)}: a lane that does no better fails",
        },
        remarks=diverged,
    )


def score_by_rate(measured: Measurement) -> Drawing:
    """Draw the validation score against the learning rate."""
    rates, label = measured.learning_rates, f"validation {measured.score.label}"
    limits = measured.race.task.headline.lowest, 1.0
    over = measured.race.interval
    series = [
        draw.Series.of_intervals(
            each.optimizer, rates, map(over, each.validation_by_rate), limits=limits, best=each.learning_rate,
            nonfinite=lanes_by_rate(each.nonfinite, rates), failed=lanes_by_rate(each.failed, rates),
        )
        for each in measured.optimizers
    ]  # fmt: skip
    title = f"Which learning rates work? {measured.model} on {measured.dataset.name}"
    figure = draw.against_rate(series, title=title, y_label=label, over=lanes_of_rate(measured))
    alt = f"{label.capitalize()} against learning rate, one curve an optimizer"
    caption = "A wide plateau tolerates a rate that is off; a peak does not."
    return Drawing("score_by_learning_rate", figure, alt, caption)


def loss_by_step(measured: Measurement) -> Drawing:
    """Draw the validation loss against the step, at each optimizer's chosen rate."""
    steps, chosen = measured.race.steps, [entry for entry in measured.race.entries if entry.best is not None]
    over = measured.race.interval
    figure = draw.curves(
        [draw.Series.of_intervals(each.optimizer, steps, map(over, each.loss[:, each.best])) for each in chosen],
        title=f"Validation loss of {measured.model} on {measured.dataset.name}, each at its best learning rate",
        x_label="step", y_label=f"validation loss ({measured.score.loss_unit}, log scale)", log_y=True,
        over=compared_over(measured),
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
