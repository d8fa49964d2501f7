r"""Predict: what a published classifier says of pictures.

  python -m experiments.predict mllab/pretrained/seven.png
  python -m experiments.predict --params=runs/image_classifier/TIME/params.safetensors photo.png other.jpg

Pictures are resized to what the net was trained on. Ink on paper is inverted for a net trained on light strokes on a dark
ground, and the other way round: where a picture's border is nearer to the opposite of the training images' border.
"""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

from experiments import flags as shared
from experiments.looking import border
from experiments.workdir import launch
from mllab import devices, weights
from mllab.errors import UserError
from mllab.models.base import predict
from mllab.report import console
from mllab.report.table import Table

del shared  # its flags are known, so that one given here is named as meaningless
PARAMS = flags.DEFINE_string(
    "params", None, "params.safetensors that an image classifier published. Default: a small net trained on MNIST."
)
TOP = flags.DEFINE_integer("top", 3, "How many classes to tell of each picture.", lower_bound=1)


def main(argv: Sequence[str]) -> None:
    """Read the flags and predict."""
    devices.cache_compilations()
    if len(argv) < 2:
        raise UserError("name one picture or more: python -m experiments.predict [--params=FILE] PICTURE ...")
    run(argv[1:], params=PARAMS.value, top=TOP.value)


def run(pictures: Sequence[str | Path], *, params: str | Path | None = None, top: int = 3) -> list[dict[str, Any]]:
    """Show and return each picture's classes, the most probable first.

    Args:
        pictures: paths of images.
        params: what an image classifier published (default: the small net that comes with mllab).
        top: classes to tell.

    Raises:
        UserError: a file that is no picture, or no params of an image classifier.
    """
    from mllab.data import picture

    published = weights.load_model(params or pretrained())
    shape, about = published.about["plan"]["shape"], published.about
    if len(shape) != 3 or not about.get("classes"):
        raise UserError(f"{params} is of a model that takes no pictures: give params of an image classifier")
    height, width, channels = shape
    images = np.stack([picture.read(path, (height, width), channels) for path in pictures])
    inverted = np.array([abs(1 - border(image[None]) - about["border"]) < abs(border(image[None]) - about["border"])
                         for image in images])  # fmt: skip
    images = np.where(inverted[:, None, None, None], 1 - images, images)
    logits = predict(published.model, published.params, published.extra, images)
    probabilities = np.asarray(jax.nn.softmax(logits))
    told = [
        {
            "picture": str(path),
            "classes": [(about["classes"][index], float(row[index])) for index in np.argsort(-row)[:top]],
            "inverted": bool(turned),
        }
        for path, row, turned in zip(pictures, probabilities, inverted, strict=True)
    ]
    rows = [
        [one["picture"], "yes" if one["inverted"] else "no", *(f"{name} {share:.1%}" for name, share in one["classes"])]
        for one in told
    ]
    ordinal = ["class", *(f"or {number}" for number in range(2, len(told[0]["classes"]) + 1))]
    console.show(
        Table(["picture", "inverted", *ordinal], rows, caption=f"net: {about['plan']['model']} of {about['dataset']}")
    )
    return told


def pretrained() -> Path:
    """Return the params of the small net that comes with mllab."""
    return Path(str(resources.files("mllab") / "pretrained" / "mnist.safetensors"))


if __name__ == "__main__":
    launch(main, arguments=True)
