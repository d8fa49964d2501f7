r"""Predict: what a published classifier says of pictures.

  python -m experiments.predict [--params=FILE] PICTURE ...

  python -m experiments.predict mllab/pretrained/seven.png
  python -m experiments.predict --params=runs/image_classifier/TIME/params.safetensors photo.png other.jpg

Pictures are resized to what the net was trained on. Where that was grey and on a plain ground, black or white, a
picture on the opposite ground is inverted: ink on paper, for a net trained on light strokes in the dark.
"""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

from experiments import flags as shared
from experiments.looking import borders
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

PLAIN = 0.25  # a ground is plain whose mean is this near to black or white


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

    params = params or pretrained()
    published = weights.load_model(params)
    about, shape = published.about, published.about["plan"].get("shape", ())
    if len(shape) != 3 or not about.get("classes"):
        raise UserError(
            f"{params} is of a model that takes no pictures or knows no classes: give params of an image classifier"
        )
    height, width, channels = shape
    images = np.stack([picture.read(path, (height, width), channels) for path in pictures])
    opposite = on_the_opposite_ground(images, about.get("border"))
    images = np.where(opposite[:, None, None, None], 1 - images, images)
    logits = predict(published.model, published.params, published.extra, images)
    told: list[dict[str, Any]] = [
        {
            "picture": str(path),
            "classes": [(about["classes"][index], float(row[index])) for index in np.argsort(-row)[:top]],
            "inverted": bool(inverted),
        }
        for path, row, inverted in zip(pictures, np.asarray(jax.nn.softmax(logits)), opposite, strict=True)
    ]
    rows = [
        [one["picture"], *(f"{name} {share:.1%}" for name, share in one["classes"]), "yes" if one["inverted"] else "no"]
        for one in told
    ]
    ranks = ["prediction", *(f"no. {rank}" for rank in range(2, len(told[0]["classes"]) + 1))]
    net = f"net: {about['plan']['model']}, trained on {about['dataset']}"
    console.show(Table(["picture", *ranks, "inverted"], rows, caption=net))
    return told


def on_the_opposite_ground(images: np.ndarray, ground: float | None) -> np.ndarray:
    """Return which images [N, H, W, C] are to be inverted, [N].

    Args:
        images: in [0, 1].
        ground: mean border of the images that the net was trained on; None where that is not told.
    """
    if ground is None or images.shape[-1] != 1 or PLAIN < ground < 1 - PLAIN:
        return np.zeros(len(images), bool)
    return (borders(images) > 0.5) != (ground > 0.5)


def pretrained() -> Path:
    """Return the params of the small net that comes with mllab."""
    return Path(str(resources.files("mllab") / "pretrained" / "mnist.safetensors"))


if __name__ == "__main__":
    launch(main, arguments=True)
