r"""Predict with a published model: the classes of pictures, or the target of the rows of a table.

  python -m experiments.predict [--params=FILE] PICTURE ...
  python -m experiments.predict --params=FILE --input=new.csv --output=predictions.csv

  python -m experiments.predict mllab/pretrained/seven.png
  python -m experiments.predict --params=runs/image_classifier/TIME/params.safetensors photo.png other.jpg

Pictures are resized to the size of the training images. Where these are grey and have a plain background, black or
white, a picture with the opposite background is inverted: ink on paper, for a net trained on light strokes on black.

Of a table, CSV or Parquet, the columns that the model was trained on are read and the others ignored. The predictions
have one line for each row: its number in the file, the prediction, the probabilities of the classes or the bounds of
an interval, and the reason where a row could not be read.
"""

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from experiments import frame, table_prediction
from experiments.table_prediction import TablePrediction
from mllab import weights
from mllab.data import names
from mllab.data.readers import image_file
from mllab.data.readers.image_memory import check_memory
from mllab.errors import UserError, shortened
from mllab.models import base
from mllab.report.report import Report
from mllab.report.table import Table, share


@dataclass(frozen=True, kw_only=True)
class Settings(frame.settings.Base):
    """Pictures or a table, and the model that predicts them."""

    params: str | None = frame.path(
        None,
        help="params.safetensors that experiments.image_classifier, optimizer_race or model_selection published. "
        "Default: a small net trained on MNIST.",
    )
    pictures: tuple[str, ...] = frame.paths(
        help="Image files, given as plain arguments or with this flag.", optional=True
    )
    top: int = frame.whole(3, help="Classes to show for each picture, the most probable first.", low=1, high=1_000_000)
    input: str | None = frame.path(None, help="Table whose rows are predicted, .csv or .parquet, instead of pictures.")
    output: str | None = frame.path(
        None, help="File to write the predictions of a table to, .csv or .parquet. Default: the first rows are shown."
    )
    coverage: float = frame.number(
        0.95, help="Probability with which an interval of a table's regression holds the truth.", low=0.5, high=0.999
    )


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


def measure(run: frame.Context, settings: Settings) -> Measurement | TablePrediction:
    """Predict the classes of each picture, or the rows of a table.

    Raises:
        UserError: a file that is not an image, or params of something other than an image classifier; for a table see
            `table_prediction.predict`.
    """
    if settings.input is not None:
        if settings.pictures:
            raise UserError("pictures and --input: give one of the two")
        return table_prediction.predict(run, settings.params, settings.input, settings.output, settings.coverage)
    if settings.output is not None:
        raise UserError("--output is for the predictions of a table: give --input, too")
    if not settings.pictures:
        raise UserError("pictures: name one or more, or a table with --input")
    params_file = settings.params or pretrained()
    published = weights.load_model(params_file)
    classifier = described(params_file, published)
    height, width, channels = classifier.shape
    check_memory(str(params_file), len(settings.pictures), (height, width), channels=channels)
    images = np.stack([image_file.read(path, (height, width), channels) for path in settings.pictures])
    inverted = image_file.has_opposite_background(images, classifier.border)
    images = np.where(inverted[:, None, None, None], 1 - images, images)
    with run.timed("prediction"):
        logits = base.predict(published.model, published.params, published.extra, images)
    if not np.isfinite(logits).all():
        raise UserError(f"{params_file}: the model's outputs are not finite: its params are too large, or damaged")
    probabilities = np.asarray(jax.nn.softmax(logits))
    ranked = np.argsort(-probabilities, axis=1)[:, : settings.top]
    predictions = [
        Prediction(
            names.printable(path), [(classifier.classes[index], float(row[index])) for index in top], bool(opposite)
        )
        for path, row, top, opposite in zip(settings.pictures, probabilities, ranked, inverted, strict=True)
    ]
    return Measurement(classifier.model, classifier.dataset, predictions)


class Classifier(NamedTuple):
    """What the header of a params file says of an image classifier."""

    model: str
    dataset: str
    shape: tuple[int, int, int]  # height, width and channels of its images
    classes: tuple[str, ...]
    border: float | None  # mean of the border pixels of its training images


def described(path: str | Path, published: weights.Published) -> Classifier:
    """Return what the header of a params file says of an image classifier.

    Raises:
        UserError: the model takes no images or names no classes, or a value of the header is of another kind.
    """
    header, shape = published.about, tuple(published.about["plan"].get("shape", ()))
    classes, border, dataset = header.get("classes"), header.get("border"), header.get("dataset") or "unnamed data"
    if len(shape) != 3 or shape[2] not in (1, 3) or not classes:
        raise UserError(
            f"{path} holds a model that takes no images or names no classes: give params of an image classifier"
        )
    inputs = jax.ShapeDtypeStruct((1, *shape), np.float32)
    try:
        outputs, _ = jax.eval_shape(
            lambda inputs: published.model.apply(published.params, published.extra, inputs, None), inputs
        )
    except UserError as error:
        raise UserError(f"{path} does not take images of its own shape {list(shape)}: {error}") from None
    if outputs.shape != (1, len(classes)):
        raise UserError(f"{path} names {len(classes)} classes, and its model has {outputs.shape[-1]} outputs")
    is_number = isinstance(border, int | float) and not isinstance(border, bool)
    if border is not None and not (is_number and 0 <= border <= 1):
        raise UserError(f"{path}: border = {shortened(str(border))} in its header, expected a number from 0 to 1")
    model = published.about["plan"]["model"]
    return Classifier(model, names.printable(dataset), shape, tuple(map(names.printable, classes)), border)


def report(run: frame.Context, settings: Settings, measured: Measurement | TablePrediction) -> Report:
    """Report one row per picture, or the first rows of a table."""
    del run, settings
    if isinstance(measured, TablePrediction):
        return table_prediction.report(measured)
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


main, run = frame.program(Settings, measure, report, words="pictures", instead="input")

if __name__ == "__main__":
    main()
