r"""The image classifier: a net trained on pictures, and looked into.

  python -m experiments.image_classifier --dataset=mnist --model=convnet
  python -m experiments.image_classifier --dataset=photos/ --model=residual --augment=flip,crop --seeds=3

Digits, clothes, or your own: a folder of images with one subfolder a class, or an NPZ or IDX file. The page that it
writes shows what the net confuses, its most confident mistakes, and what it looks at; `python -m experiments.predict`
applies the published params. Everything is written to --workdir; the same workdir again resumes.

Optimizer, learning rate, schedule, batch size, epochs, augmentation, label smoothing and average are as tuned for the
data set where no flag says otherwise; the page and summary.json tell what they were.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from experiments import flags as shared
from experiments import looking, watch
from experiments.workdir import Lines, Workdir, default_path, finite, flagfile, launch, process_seconds
from mllab import augmentation, devices, losses, racing, sweep, training, weights
from mllab.data import catalog
from mllab.data.dataset import Dataset
from mllab.errors import UserError, unknown
from mllab.models import table as models
from mllab.models.base import Model, in_bfloat16
from mllab.report import classifier, console

for name in (
    *("dataset", "model", "hidden", "activation", "channels", "dropout", "schedule", "clip_norm", "weight_decay"),
    *("average", "batch_size", "epochs", "seeds", "split_seed", "workdir", "data_dir", "precision", "devices"),
    "checkpoint_seconds",
):
    flags.declare_key_flag(name)
OPTIMIZER = flags.DEFINE_string(
    "optimizer", None, "The optimizer by name. Default: as tuned for the data set, or adam."
)
LEARNING_RATE = flags.DEFINE_float(
    "learning_rate", None, "What the learning rate peaks at. Default: as tuned.", lower_bound=0
)
AUGMENT = flags.DEFINE_list(
    "augment",
    None,
    f"What is done to training images at random: {', '.join(augmentation.AUGMENTATIONS)}, mixup or none.",
)
LABEL_SMOOTHING = flags.DEFINE_float(
    "label_smoothing", None, "Share of each label that is spread over all classes.", lower_bound=0, upper_bound=0.9
)
SIZE = flags.DEFINE_string("size", None, "Size of your own images, HEIGHTxWIDTH. Default: theirs, 64x64 at most.")
FIRST_SEED = flags.DEFINE_integer("first_seed", 0, "Seeds count up from here.", lower_bound=0)

# What a data set's own settings stand in for where a flag says nothing.
SETTINGS = (
    *("optimizer", "learning_rate", "schedule", "batch_size", "epochs", "augment", "label_smoothing", "average"),
    *("clip_norm", "weight_decay"),
)
MIXUP_ALPHA = 0.2  # Zhang et al. 2018, section 3: 0.1 to 0.4 do well


def settings_of(dataset: str) -> dict[str, Any]:
    """Return what the flags leave open, chosen on validation rows (see BUILD_NOTES.md), by data set."""
    usual = {
        "optimizer": "adam",
        "learning_rate": 0.003,
        "schedule": "one_cycle",
        "batch_size": 64,
        "epochs": 20,
        "augment": (),
        "label_smoothing": 0.0,
        "average": None,
    }
    tuned: Mapping[str, dict[str, Any]] = {
        "digits": {"batch_size": 32, "epochs": 40},
        "mnist": {"epochs": 3},
        "fashion_mnist": {"epochs": 5, "learning_rate": 0.005, "augment": ("flip",)},
    }
    return usual | tuned.get(dataset, {})


def main(argv: Sequence[str]) -> None:
    """Read the flags and run."""
    devices.use_cores(shared.DEVICES.value)
    devices.cache_compilations()
    path = Path(shared.WORKDIR.value) if shared.WORKDIR.value else default_path("image_classifier")
    settings = {name: flags.FLAGS[name].value for name in SETTINGS}
    run(
        Workdir(path, "image_classifier", flagfile("__main__")),
        dataset=shared.DATASET.value or "mnist",
        data_dir=shared.DATA_DIR.value,
        split_seed=shared.SPLIT_SEED.value,
        size=image_size(SIZE.value),
        model=shared.MODEL.value or "convnet",
        options=shared.model_options(),
        settings={name: value for name, value in settings.items() if value is not None},
        seeds=range(FIRST_SEED.value, FIRST_SEED.value + shared.SEEDS.value),
        precision=shared.PRECISION.value,
        device_count=shared.DEVICES.value,
        checkpoint_seconds=shared.CHECKPOINT_SECONDS.value,
    )


def image_size(text: str | None) -> tuple[int, int] | None:
    """Return (height, width) of HEIGHTxWIDTH."""
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise UserError(f"--size={text}: give HEIGHTxWIDTH in pixels, such as 32x32")
    return int(parts[0]), int(parts[1])


def run(
    workdir: Workdir,
    *,
    dataset: str = "mnist",
    data_dir: str | None = None,
    split_seed: int = 0,
    size: tuple[int, int] | None = None,
    model: str = "convnet",
    options: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    seeds: Sequence[int] = (0,),
    precision: str = "float32",
    device_count: int | None = None,
    checkpoint_seconds: float = 10.0,
) -> dict[str, Any]:
    """Train, look into what was trained, write the workdir; return the summary that summary.json holds."""
    seconds = {"start and imports": process_seconds()}
    began = time.perf_counter()
    settings = settings_of(dataset) | dict(settings or {})
    augment = tuple(name for name in settings["augment"] if name != "none")
    data = load(dataset, data_dir=data_dir, split_seed=split_seed, size=size)
    plan = models.plan(model, data.inputs.shape[1:], len(data.classes), **options or {})
    built = models.build(plan)
    if precision == "bf16":
        built = in_bfloat16(built)
    objective = objective_of(built, augment, settings["label_smoothing"], len(data.classes))
    mesh = devices.mesh(device_count)
    epochs, batch_size, rate = settings["epochs"], settings["batch_size"], settings["learning_rate"]
    steps = epochs * -(-len(data.split.train) // batch_size)
    of_optimizer = {name: settings.get(name) for name in ("schedule", "average", "clip_norm", "weight_decay")}

    # Before anything is written: what the race itself would refuse.
    racing.check([rate], [settings["optimizer"]], batch_size, len(data.split.train), of_optimizer)
    racing.check_examples(built, data.examples, data.split, data.task)
    seconds["data"] = time.perf_counter() - began

    with workdir.opened():
        environment = workdir.write_environment(data.sha256, mesh.size)
        began = time.perf_counter()
        with Lines(workdir.path / "metrics.jsonl") as lines, console.Progress() as progress:
            took: list[float] = []  # seconds of each epoch that this process ran, not one that it goes on from

            def timed(event: training.Segment | training.Notice) -> None:
                if isinstance(event, training.Segment) and not event.restored:
                    took.append(event.seconds)

            def observe(name: str, grid: sweep.Grid):
                title = f"{model}, {name}"
                accuracy = lambda held_out: held_out["accuracy"]  # noqa: E731
                return [timed, watch.observer(name, grid, steps, accuracy, lines, progress, title=title)]

            raced = racing.race(
                built,
                data.examples,
                data.split,
                names=[settings["optimizer"]],
                learning_rates=[rate],
                seeds=seeds,
                epochs=epochs,
                batch_size=batch_size,
                settings=of_optimizer,
                objective=objective,
                mesh=mesh,
                group=1,  # what a step makes of a batch of images, not a lane's state, is what fills the cache
                split_batches=len(seeds) % mesh.size != 0,
                observe=observe,
                workdir=workdir.path,
                checkpoint_seconds=checkpoint_seconds,
            )
        trained = sum(took)
        seconds |= {"compiling and test scores": time.perf_counter() - began - trained, "training": trained}
        began = time.perf_counter()
        summary, arrays = looking.inspect(raced, built, plan, data)
        seconds["looking into the net"] = time.perf_counter() - began
        summary |= {
            "settings": settings
            | {"augment": ", ".join(augment) or None, "precision": precision, "split_seed": split_seed},
            "epochs": epochs,
            "batch_size": batch_size,
            "steps": steps,
            "images_per_second": len(seeds) * len(data.split.train) * len(took) / trained if took else None,
        }
        began = time.perf_counter()
        drawn = classifier.figures(summary, arrays, workdir.path / "figures")
        watch.write_events(raced, workdir.path / "events")
        publish(workdir, raced, plan, data, summary)
        seconds["figures and events"] = time.perf_counter() - began
        write_page(workdir, summary | {"seconds": seconds | {"total": process_seconds()}}, arrays, drawn, environment)
        summary["seconds"] = seconds | {"total": process_seconds()}
        workdir.write_json("summary.json", summary)
    console.show(classifier.classifier_table(summary))
    print()
    console.show(classifier.seconds_table(summary))
    print(f"\n{classifier.answer(summary)}\nReport: {workdir.path / 'report.html'}")
    return summary


def load(dataset: str, **options: Any) -> Dataset:
    """Return a data set of pictures; options as `catalog.load` takes them.

    Raises:
        UserError: a data set of something else, or one that cannot be read.
    """
    table = dataset.lower().endswith(catalog.TABLE_ENDINGS)
    data = None if table else catalog.load(dataset, **options)
    if data is None or data.task != "classification" or data.inputs.ndim != 4:
        raise UserError(f"{dataset} holds no pictures with classes: try digits, mnist, fashion_mnist or a folder")
    return data


def objective_of(model: Model, augment: Sequence[str], smoothing: float, classes: int) -> training.Objective:
    """Return what is trained on: the loss with smoothed labels, of augmented images."""
    for name in augment:
        if name not in (*augmentation.AUGMENTATIONS, "mixup"):
            raise unknown("augmentation", name, [*augmentation.AUGMENTATIONS, "mixup", "none"])
    if len(set(augment)) != len(augment):
        raise UserError(f"--augment={','.join(augment)}: name each once")
    objective = training.objective(model, losses.smoothed(smoothing) if smoothing else losses.cross_entropy)
    if "mixup" in augment:
        objective = augmentation.mixed(objective, MIXUP_ALPHA, classes)
    keep = [name for name in augment if name != "mixup"]
    return augmentation.augmented(objective, augmentation.compose(keep)) if keep else objective


def publish(
    workdir: Workdir, raced: racing.Race, plan: Mapping[str, Any], data: Dataset, summary: Mapping[str, Any]
) -> None:
    """Write params.safetensors: the best seed's params, with all that `experiments.predict` needs to apply them."""
    if not raced.winner:
        return
    params, extra = racing.published(raced.winner)
    untold = shared.ELSEWHERE | {"dataset"}  # which may be a path of the user's: its name is told
    about = {
        "plan": plan,
        "dataset": data.name,
        "classes": list(data.classes),
        "border": float(looking.borders(data.inputs[looking.sampled(data.split.train)]).mean()),
        "settings": summary["settings"],
        "flags": [line for line in workdir.settings.splitlines() if line.strip("-").partition("=")[0] not in untold],
        "test_accuracy": summary["test"]["accuracy"],
        "licence": data.licence,
        "citation": data.citation,
    }
    workdir.write("params.safetensors", weights.encode(params, finite(about), extra))


def write_page(
    workdir: Workdir,
    summary: Mapping[str, Any],
    arrays: Mapping[str, Any],
    drawn: Mapping[str, Path],
    environment: Mapping[str, Any],
) -> None:
    """Write report.html."""
    from mllab.report import page

    page.write(
        workdir.path / "report.html", classifier.page(finite(summary), arrays, drawn, environment, workdir.command)
    )


if __name__ == "__main__":
    flags.set_default(shared.DATASET, "mnist")  # here: importing an experiment changes nothing for another
    flags.set_default(shared.MODEL, "convnet")
    flags.set_default(shared.SEEDS, 1)
    for setting in SETTINGS:
        flags.FLAGS.set_default(setting, None)
    launch(main)
