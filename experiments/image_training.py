"""Train an image classifier with several seeds, and score it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from experiments import frame
from experiments.frame import observers
from experiments.inspection import Inspection
from mllab import augmentation, losses, metrics, racing, sweep, training
from mllab.data.dataset import Dataset
from mllab.metrics import Interval, bands, interval
from mllab.models import table as models
from mllab.models.base import Model, in_precision, predict
from mllab.race_results import Lane, lanes
from mllab.report.class_tables import ClassRow
from mllab.report.learning import LearningCurves
from mllab.tasks import CLASSIFICATION, Baseline

AUGMENTATIONS = (*augmentation.AUGMENTATIONS, "mixup")
MIXUP_ALPHA = 0.2  # Zhang et al. 2018, section 3: 0.1 to 0.4 do well


@dataclass(frozen=True)
class Recipe:
    """How a net is trained."""

    optimizer: str = "adam"
    learning_rate: float = 0.003
    schedule: str = "one_cycle"
    batch_size: int = 64
    epochs: int = 20
    augment: tuple[str, ...] = ()
    label_smoothing: float = 0.0
    average: float | None = None
    clip_norm: float | None = None
    weight_decay: float | None = None
    precision: str = "float32"

    def steps(self, rows: int) -> int:
        """Return the number of steps of a run with this number of training rows."""
        return self.epochs * -(-rows // self.batch_size)

    @property
    def optimizer_settings(self) -> dict[str, Any]:
        """The settings that `optimizers.build` takes."""
        return {name: getattr(self, name) for name in ("schedule", "average", "clip_norm", "weight_decay")}


@dataclass(frozen=True)
class Scores:
    """Scores on some rows, over seeds."""

    accuracy: Interval
    loss: Interval  # nats
    rows: int


@dataclass(frozen=True)
class Measurement:
    """Scores over all seeds, and the errors of the seed with the best validation accuracy."""

    dataset: frame.DatasetFacts
    model: str
    settings: Mapping[str, Any]
    epochs: int
    batch_size: int
    steps: int
    seeds: list[int]
    chance_loss: float
    baseline: Baseline  # on test rows
    nonfinite: list[Lane]
    failed: list[Lane]
    validation: Scores
    test: Scores
    test_by_seed: Mapping[str, np.ndarray]
    images_per_second: float | None
    curves: LearningCurves = frame.unsaved()
    # Empty if a seed went non-finite:
    beats_baseline: bool | None = None  # whether the test accuracy is clearly above the baseline's
    train: Scores | None = None
    gap: Interval | None = None  # accuracy on training rows less that on test rows, in points
    parameters: int = 0
    confusion: np.ndarray | None = None
    per_class: Sequence[ClassRow] = ()
    inspected: Inspection | None = frame.unsaved(default=None)


class Trained(NamedTuple):
    """A classifier trained with several seeds."""

    model: Model
    race: racing.Race  # of one optimizer at one learning rate
    images_per_second: float | None  # in training; None if all epochs were restored from a checkpoint

    @property
    def entry(self) -> racing.Entry:
        """The only entry of the race."""
        return self.race.entries[0]

    @property
    def test(self) -> dict[str, np.ndarray]:
        """Accuracy and loss of each seed on the test rows, [G]; NaN where a seed went non-finite."""
        return self.entry.test or dict.fromkeys(("accuracy", "loss"), np.full(self.race.seeds.size, np.nan))

    def scores(self, rows: Mapping[str, int]) -> tuple[Scores, Scores]:
        """Return the scores on the validation and the test rows, whose numbers are given."""
        kept_loss = np.where(np.isfinite(self.entry.kept_loss[0]), self.entry.kept_loss[0], np.nan)
        validation = Scores(interval(self.entry.score[0]), interval(kept_loss), rows["validation"])
        return validation, Scores(interval(self.test["accuracy"]), interval(self.test["loss"]), rows["test"])

    def diverged(self) -> tuple[list[Lane], list[Lane]]:
        """Return the seeds that went non-finite, and those that failed."""
        entry = self.entry
        return lanes(self.race, entry, entry.nonfinite_step >= 0), lanes(self.race, entry, entry.failed)

    def curves(self) -> LearningCurves:
        """Return the curves over epochs."""
        train, validation, accuracy = (
            bands(values[:, 0]) for values in (self.entry.train_loss, self.entry.loss, self.entry.curve)
        )
        return LearningCurves(np.arange(1, len(train) + 1), train, validation, accuracy, self.race.seeds.size)

    def beats_baseline(self, data: Dataset, predicted: np.ndarray) -> bool:
        """Return whether the test accuracy is clearly above the baseline's, over seeds and over rows.

        Args:
            data: the data set.
            predicted: classes of the test rows by the published seed, [M].
        """
        targets, (train_rows, _, test) = data.targets, (data.split.train, data.split.validation, data.split.test)
        correct = {"accuracy": (predicted == targets[test])[None]}
        constant = CLASSIFICATION.baseline(targets, train_rows, test).scores["accuracy"]
        by_seed = metrics.is_clear(metrics.paired(self.test["accuracy"], constant))
        return by_seed and CLASSIFICATION.beats_baseline(correct, targets, train_rows, test)

    def scores_on(self, inputs: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return accuracy and loss of each seed's kept params on further rows, [G] and [G]."""
        scores = []
        for seed in range(self.race.seeds.size):
            logits = predict(self.model, *racing.published(self.entry, seed), inputs)
            values = metrics.classification(jnp.asarray(logits), jnp.asarray(targets))
            scores.append((float(values["accuracy"].mean()), float(values["loss"].mean())))
        accuracy, loss = np.transpose(scores)
        return accuracy, loss


def train(
    run: frame.Context, data: Dataset, plan: Mapping[str, Any], recipe: Recipe, seeds: range, checkpoint_seconds: float
) -> Trained:
    """Train the net of a plan with each seed.

    Raises:
        UserError: a recipe or examples that cannot be trained on, before anything is written.
    """
    model = in_precision(models.build(plan), recipe.precision)
    train_rows, mesh = len(data.split.train), run.mesh(all_hosts=True)
    rates, optimizers = [recipe.learning_rate], [recipe.optimizer]
    racing.check(rates, optimizers, recipe.batch_size, train_rows, recipe.optimizer_settings)
    racing.check_memory(
        model, data.examples, optimizers, rates=1, seeds=len(seeds), epochs=recipe.epochs,
        batch_size=recipe.batch_size, count=train_rows, settings=recipe.optimizer_settings, mesh=mesh,
    )  # fmt: skip
    racing.check_examples(model, data.examples, data.split, data.task)
    epochs = 0  # that are trained now, not restored from a checkpoint

    def count(event: training.Segment | training.Notice) -> None:
        nonlocal epochs
        epochs += isinstance(event, training.Segment) and not event.restored

    def observe(name: str, grid: sweep.Grid) -> list:
        title = f"{plan['model']}, {name}"
        shown = observers.observer(run, name, grid, recipe.steps(train_rows), lambda held: held["accuracy"], title)
        return [count, shown]

    with observers.timed_race(run):
        race = racing.race(
            model,
            data.examples,
            data.split,
            names=optimizers,
            learning_rates=rates,
            seeds=seeds,
            epochs=recipe.epochs,
            batch_size=recipe.batch_size,
            settings=recipe.optimizer_settings,
            objective=objective(model, recipe.augment, recipe.label_smoothing, len(data.classes)),
            mesh=mesh,
            group=1,  # the activations of a batch of images, not a lane's state, fill the cache
            split_batches=sweep.leaves_idle(len(seeds), mesh, uneven=True),
            observe=observe,
            workdir=run.path,
            checkpoint_seconds=checkpoint_seconds,
        )
    speed = len(seeds) * train_rows * epochs / run.seconds["training"] if epochs else None
    return Trained(model, race, speed)


def objective(model: Model, augment: tuple[str, ...], smoothing: float, classes: int) -> training.Objective:
    """Return the loss with smoothed labels on augmented images; `augment` names some of AUGMENTATIONS, each once."""
    loss = training.objective(model, losses.smoothed(smoothing) if smoothing else losses.cross_entropy)
    if "mixup" in augment:
        loss = augmentation.mixed(loss, MIXUP_ALPHA, classes)
    of_images = [name for name in augment if name != "mixup"]
    return augmentation.augmented(loss, augmentation.compose(of_images)) if of_images else loss
