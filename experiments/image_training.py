"""Train an image classifier by a recipe: one optimizer and learning rate, several seeds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from experiments import frame
from experiments.frame import observers
from mllab import augmentation, losses, racing, sweep, training
from mllab.data.dataset import Dataset
from mllab.models import architecture
from mllab.models.base import Model, in_bfloat16

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
        """Return the number of steps of a run over so many training rows."""
        return self.epochs * -(-rows // self.batch_size)

    @property
    def optimizer_settings(self) -> dict[str, Any]:
        """The settings that `optimizers.build` takes."""
        return {name: getattr(self, name) for name in ("schedule", "average", "clip_norm", "weight_decay")}


class Trained(NamedTuple):
    """A classifier trained with several seeds."""

    model: Model
    race: racing.Race  # of one optimizer at one learning rate
    images_per_second: float | None  # in training; None if all epochs were restored from a checkpoint


def train(
    run: frame.Context, data: Dataset, plan: Mapping[str, Any], recipe: Recipe, seeds: range, checkpoint_seconds: float
) -> Trained:
    """Train the net of a plan with each seed.

    Raises:
        UserError: a recipe or examples that cannot be trained on, before anything is written.
    """
    model = architecture.model(plan)
    model = in_bfloat16(model) if recipe.precision == "bf16" else model
    train_rows, mesh = len(data.split.train), run.mesh()
    rates, optimizers = [recipe.learning_rate], [recipe.optimizer]
    racing.check(rates, optimizers, recipe.batch_size, train_rows, recipe.optimizer_settings)
    racing.check_examples(model, data.examples, data.split, data.task)
    epoch_seconds: list[float] = []

    def time_epoch(event: training.Segment | training.Notice) -> None:
        if isinstance(event, training.Segment) and not event.restored:
            epoch_seconds.append(event.seconds)

    def observe(name: str, grid: sweep.Grid) -> list:
        title = f"{plan['model']}, {name}"
        shown = observers.observer(run, name, grid, recipe.steps(train_rows), lambda held: held["accuracy"], title)
        return [time_epoch, shown]

    with run.timed("compiling and test scores"):
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
            split_batches=len(seeds) % mesh.size != 0,
            observe=observe,
            workdir=run.path,
            checkpoint_seconds=checkpoint_seconds,
        )
    seconds = sum(epoch_seconds)
    run.seconds["compiling and test scores"] -= seconds
    run.seconds["training"] = seconds
    images = len(seeds) * train_rows * len(epoch_seconds)
    return Trained(model, race, images / seconds if seconds else None)


def objective(model: Model, augment: tuple[str, ...], smoothing: float, classes: int) -> training.Objective:
    """Return the loss with smoothed labels on augmented images; `augment` names some of AUGMENTATIONS, each once."""
    loss = training.objective(model, losses.smoothed(smoothing) if smoothing else losses.cross_entropy)
    if "mixup" in augment:
        loss = augmentation.mixed(loss, MIXUP_ALPHA, classes)
    of_images = [name for name in augment if name != "mixup"]
    return augmentation.augmented(loss, augmentation.compose(of_images)) if of_images else loss
