r"""Train an image classifier, score it on test rows, and inspect it.

  python -m experiments.image_classifier --dataset=mnist --model=convnet
  python -m experiments.image_classifier --dataset=photos/ --model=residual --augment=flip,crop --seeds=3

The images are digits, clothes, or your own: a folder with one subfolder per class, or an NPZ or IDX file. The report
shows the confusion matrix, the most confident errors, filters, feature maps and saliency maps; `experiments.predict`
applies the published params. Optimizer, learning rate, schedule, batch size, epochs, augmentation and label smoothing
are tuned for the data set where no flag sets them; the report lists them.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from experiments import frame, inspection
from experiments.frame import observers, publish_params
from experiments.image_training import AUGMENTATIONS, Measurement, Recipe, Scores, train
from mllab import optimizers, racing
from mllab.data.readers.image_file import border_means
from mllab.metrics import interval
from mllab.models import table as models
from mllab.report import learning, table
from mllab.report.report import Bullets, Report, Section

TUNED: Mapping[str, Mapping[str, Any]] = {  # on validation rows; see BUILD_NOTES.md
    "digits": {"batch_size": 32, "epochs": 40},
    "mnist": {"epochs": 3},
    "fashion_mnist": {"epochs": 5, "learning_rate": 0.005, "augment": ("flip",)},
}
TRAIN_SAMPLE = 5000  # training rows to score, for the gap to the test rows


def _tuned(name: str) -> Any:
    """Return a field of `frame.Training` whose default is that of the recipe."""
    about = frame.Training.table()[name].help
    return frame.Training.with_default(name, None, help=f"{about} Default: as tuned for the data set.")


@dataclass(frozen=True, kw_only=True)
class Settings(frame.Data, frame.Network, frame.Training):
    """The data set, the net, and how it is trained."""

    dataset: str = frame.dataset("mnist", images=True)
    size: tuple[int, int] | None = frame.size(
        None, help="Size of your own images, HEIGHTxWIDTH. Default: theirs, at most 64x64."
    )
    model: str = frame.Network.with_default("model", "convnet")
    optimizer: str | None = frame.choice(
        optimizers.OPTIMIZERS, None, help="Optimizer. Default: as tuned for the data set, or adam.", kind="optimizer"
    )
    learning_rate: float | None = frame.number(None, help="Peak learning rate. Default: as tuned.", low=0)
    schedule: str | None = _tuned("schedule")
    batch_size: int | None = _tuned("batch_size")
    epochs: int | None = _tuned("epochs")
    augment: tuple[str, ...] | None = frame.choices(
        (*AUGMENTATIONS, "none"),
        None,
        help=f"Random augmentations of training images: {', '.join(AUGMENTATIONS)}, or none. Default: as tuned.",
        kind="augmentation",
    )
    label_smoothing: float | None = frame.number(
        None, help="Share of each label that is spread over all classes. Default: as tuned.", low=0, high=0.9
    )
    seeds: int = frame.Training.with_default("seeds", 1)
    first_seed: int = frame.whole(0, help="The first seed.", low=0, high=2**31 - 10_001)

    def recipe(self) -> Recipe:
        """Return how to train: as the flags say, else as tuned for the data set."""
        flags = {field.name: getattr(self, field.name) for field in dataclasses.fields(Recipe)}
        chosen = {**TUNED.get(self.dataset, {}), **{name: value for name, value in flags.items() if value is not None}}
        return Recipe(**chosen | {"augment": tuple(name for name in chosen.get("augment", ()) if name != "none")})


def measure(run: frame.Context, settings: Settings) -> Measurement:
    """Train every seed, score it, inspect the best one and publish its params."""
    recipe, seeds = settings.recipe(), range(settings.first_seed, settings.first_seed + settings.seeds)
    with run.timed("data"):
        data = run.load(size=settings.size)
    facts, train_rows = frame.DatasetFacts.of(data), data.split.train
    plan = models.plan(settings.model, facts.shape, len(facts.classes), **settings.options())
    trained = train(run, data, plan, recipe, seeds, settings.checkpoint_seconds)
    validation, test = trained.scores(facts.rows)
    nonfinite, failed = trained.diverged()
    augment = ", ".join(recipe.augment) or None
    measured = Measurement(
        dataset=facts,
        model=models.describe(plan),
        settings=dataclasses.asdict(recipe) | {"augment": augment, "split_seed": settings.split_seed},
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        steps=recipe.steps(len(train_rows)),
        seeds=list(seeds),
        chance_loss=trained.race.chance_loss,
        nonfinite=nonfinite,
        failed=failed,
        validation=validation,
        test=test,
        test_by_seed={"accuracy": trained.test["accuracy"]},
        images_per_second=trained.images_per_second,
        curves=trained.curves(),
    )
    if trained.entry.best is None:
        return measured
    with run.timed("inspection"):
        sample = np.random.default_rng(0).permutation(train_rows)[:TRAIN_SAMPLE]
        accuracy, loss = trained.scores_on(data.inputs[sample], data.targets[sample])
        params, extra = racing.published(trained.entry)
        inspected = inspection.inspect(trained.model, params, extra, data)
    with run.timed("events and params"):
        observers.write_events(trained.race, run.path / "events")
        flags = [flag for flag in settings.result_flags() if not flag.startswith("--dataset=")]  # which may be a path
        border = float(border_means(data.inputs[sample]).mean())
        header = {"border": border, "settings": measured.settings, "flags": flags, "test_accuracy": test.accuracy}
        publish_params.winner(run, trained.race, plan, data, **header, licence=data.licence, citation=data.citation)
    return dataclasses.replace(
        measured,
        train=Scores(interval(accuracy), interval(loss), len(sample)),
        gap=interval(100 * (accuracy - trained.test["accuracy"])),
        parameters=sum(leaf.size for leaf in jax.tree.leaves(params)),
        confusion=inspected.confusion,
        per_class=inspected.per_class,
        inspected=inspected,
    )


def report(run: frame.Context, settings: Settings, measured: Measurement) -> Report:
    """Report scores, learning curves, errors, and what the net responds to."""
    del run, settings
    data, seeds, name = measured.dataset, len(measured.seeds), measured.model.partition(":")[0]
    over = f"± 95% interval over {seeds} seeds, one split" if seeds > 1 else "one seed: no interval"
    rows = [
        [part, f"{scores.rows:,}", table.percent(scores.accuracy), table.interval(scores.loss)]
        for part, scores in (("test", measured.test), ("validation", measured.validation), ("train", measured.train))
        if scores
    ]
    caption = f"{over}; {'each seed' if seeds > 1 else 'scored'} with the params of its least validation loss"
    diverged = [f"seed {one.seed}: non-finite from step {one.step:,}" for one in measured.nonfinite]
    diverged += [
        f"seed {one.seed}: failed, its validation loss of {one.kept_loss:.3g} no better than chance "
        f"({measured.chance_loss:.3g})"
        for one in measured.failed
    ]
    speed, by_seed = measured.images_per_second, measured.test_by_seed["accuracy"]
    return Report(
        title=f"Image classifier: {name} on {data.name}",
        question=f"How well does {name} distinguish the {len(data.classes)} classes of {data.name}, and which pixels "
        "do its predictions depend on?",
        answer=answer(measured),
        table=table.Table(["rows", "number", "accuracy", "loss (nats)"], rows, caption=caption),
        sections=[
            Section("Training", learning.drawings(measured.curves)),
            *(inspection.sections(measured.inspected, seeds) if measured.inspected else ()),
            Section("Diverged seeds", [Bullets(diverged)] if diverged else []),
        ],
        facts={
            "data set": data.described(),
            "rows": "{train:,} to train, {validation:,} to choose, {test:,} to report".format(**data.rows),
            "model": f"{measured.model}; {measured.parameters:,} parameters",
            "training": f"{measured.epochs} epochs, batch {measured.batch_size}: {measured.steps:,} steps a seed",
            "speed": f"{speed:,.0f} images a second in training, without compilation" if speed else "",
            "seeds": table.listed(measured.seeds),
            "test accuracy by seed": table.listed(by_seed[np.isfinite(by_seed)], ".2%"),
            "settings": [f"{name} = {value}" for name, value in measured.settings.items() if value is not None],
            "kept params": "those of each seed's least validation loss",
            "chance": f"a validation loss of {measured.chance_loss:.3g}: a seed that keeps no better has failed",
        },
    )


def answer(measured: Measurement) -> str:
    """Return the test accuracy in a sentence, and the gap to the training rows in another."""
    seeds, test, name = len(measured.seeds), measured.test, measured.dataset.name
    if measured.train is None or measured.gap is None:
        lost = f"{len(measured.nonfinite)} of {seeds} seeds" if seeds > 1 else "The run"
        return f"{lost} went non-finite, so nothing is reported or published: try a smaller learning rate."
    over = f"mean of {seeds} seeds, 95% interval" if seeds > 1 else "one seed: no interval"
    text = f"{table.percent(test.accuracy)} of the {test.rows:,} test rows of {name} are classified correctly ({over})."
    if measured.failed:
        text += f" {len(measured.failed)} of {seeds} seeds failed: no better than chance."
    size, half = abs(measured.gap.mean), measured.gap.high - measured.gap.mean
    return (
        f"{text} Accuracy on training rows is {table.percent(measured.train.accuracy)}: "
        f"{table.number(size, size - half, size + half)} points {'higher' if measured.gap.mean >= 0 else 'lower'}."
    )


main, run = frame.program(Settings, measure, report, all_cores=True, show_seconds=True)

if __name__ == "__main__":
    main()
