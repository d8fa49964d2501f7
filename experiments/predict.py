r"""Classify pictures with a published image classifier.

  python -m experiments.predict [--params=FILE] PICTURE ...

  python -m experiments.predict mllab/pretrained/seven.png
  python -m experiments.predict --params=runs/image_classifier/TIME/params.safetensors photo.png other.jpg

Pictures are resized to the size of the training images. Where these are grey and have a plain background, black or
white, a picture with the opposite background is inverted: ink on paper, for a net trained on light strokes on black.
"""

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import jax
import numpy as np

from experiments import frame
from mllab import weights
from mllab.data.readers import image_file
from mllab.errors import UserError
from mllab.models import base
from mllab.report.report import Report
from mllab.report.table import Table, share


@dataclass(frozen=True, kw_only=True)
class Settings(frame.settings.Base):
    """Pictures and the net that classifies them."""

    params: str | None = frame.path(
        None,
        help="params.safetensors that experiments.image_classifier or optimizer_race published. Default: a small net "
        "trained on MNIST.",
    )
    pictures: tuple[str, ...] = frame.paths(help="Image files, given as plain arguments or with this flag.")
    top: int = frame.whole(3, help="Classes to show for each picture, the most probable first.", low=1, high=1_000_000)


@dataclass(frozen=True)
class Prediction:
    """The prediction for one picture."""

    picture: str
    classes: list[tuple[str, float]]  # the most probable classes with their probabilities, in descending order
    inverted: bool


@dataclass(frozen=True)
class Measurement:
    """The predictions, and the net that made them."""

    model: str
    dataset: str
    predictions: list[Prediction]


def measure(run: frame.Context, settings: Settings) -> Measurement:
    """Predict the classes of each picture.

    Raises:
        UserError: a file that is not an image, or params of something other than an image classifier.
    """
    params_file = settings.params or pretrained()
    published = weights.load_model(params_file)
    header, shape = published.about, published.about["plan"].get("shape", ())
    if len(shape) != 3 or not header.get("classes"):
        raise UserError(
            f"{params_file} holds a model that takes no images or names no classes: give params of an image classifier"
        )
    height, width, channels = shape
    images = np.stack([image_file.read(path, (height, width), channels) for path in settings.pictures])
    inverted = image_file.has_opposite_background(images, header.get("border"))
    images = np.where(inverted[:, None, None, None], 1 - images, images)
    with run.timed("prediction"):
        logits = base.predict(published.model, published.params, published.extra, images)
    probabilities = np.asarray(jax.nn.softmax(logits))
    ranked = np.argsort(-probabilities, axis=1)[:, : settings.top]
    predictions = [
        Prediction(path, [(header["classes"][index], float(row[index])) for index in top], bool(opposite))
        for path, row, top, opposite in zip(settings.pictures, probabilities, ranked, inverted, strict=True)
    ]
    return Measurement(header["plan"]["model"], header["dataset"], predictions)


def report(run: frame.Context, settings: Settings, measured: Measurement) -> Report:
    """Report one row per picture."""
    del run, settings
    rows = []
    for each in measured.predictions:
        classes = [f"{name} {share(probability)}" for name, probability in each.classes]
        rows.append([each.picture, *classes, "yes" if each.inverted else "no"])
    ranks = [f"no. {rank}" for rank in range(2, len(measured.predictions[0].classes) + 1)]
    caption = f"net: {measured.model}, trained on {measured.dataset}"
    return Report(
        title="Predictions",
        question="Which class is each picture of?",
        answer="",
        table=Table(["picture", "prediction", *ranks, "inverted"], rows, caption=caption),
    )


def pretrained() -> Path:
    """Return the params of the small net that comes with mllab."""
    return Path(str(resources.files("mllab") / "pretrained" / "mnist.safetensors"))


main, run = frame.program(Settings, measure, report, words="pictures")

if __name__ == "__main__":
    main()
