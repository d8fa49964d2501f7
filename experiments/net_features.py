"""The features of a published conv net: the inputs of its last layer."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments import frame
from mllab import weights
from mllab.data import catalog
from mllab.data.dataset import Dataset
from mllab.errors import UserError
from mllab.models import convnet
from mllab.models import table as models
from mllab.models.base import predict
from mllab.types import Array, Key, Params
from mllab.weights import Published

PIXELS, TRAINED, UNTRAINED = "pixels", "trained net", "untrained net"  # representations


@dataclass(frozen=True)
class Net:
    """The net, as summary.json describes it."""

    params: str  # its file
    model: str
    dataset: str | None  # the data set that it was trained on
    at_home: bool  # whether its features are taken of that data set
    features: int
    accuracy: float | None  # of the net itself on the test rows, at home

    @classmethod
    def of(cls, published: Published, path: Path, data: Dataset) -> "Net":
        """Return the facts about a net and a data set."""
        home, test = published.about.get("dataset"), data.split.test
        at_home = home == data.name and published.about.get("classes") == list(data.classes)
        accuracy = None
        if at_home:
            logits = predict(published.model, published.params, published.extra, data.inputs[test])
            accuracy = float(np.mean(logits.argmax(axis=1) == data.targets[test]))
        size = jax.eval_shape(convnet.features, published.params, data.inputs[:1], published.extra).shape[1]
        return cls(str(path), models.describe(published.about["plan"]), home, at_home, size, accuracy)


def load_net(path: Path) -> Published:
    """Return the conv net in a file.

    Raises:
        UserError: see `weights.load_model`; or the model is not a conv net.
    """
    published = weights.load_model(path)
    if not isinstance(published.params, convnet.Params):
        raise UserError(
            f"{path} is of the model {published.about['plan']['model']}, which has no features: give params that the "
            "image classifier published with --model=convnet, lenet or residual"
        )
    return published


def load_images(run: frame.Context, dataset: str | None, published: Published, path: Path) -> Dataset:
    """Return images with classes, by default those that the net was trained on; your own are resized to fit the net.

    Raises:
        UserError: see `Context.load`; or the net takes images of another shape.
    """
    dataset = dataset or published.about.get("dataset")
    if not dataset:
        raise UserError(f"{path} does not record what it was trained on: name images with --dataset")
    expected = tuple(published.about["plan"]["shape"])
    data = run.load(dataset=dataset, size=None if dataset in catalog.CATALOG else expected[:2])
    shape = data.inputs.shape[1:]
    if shape != expected:
        ours, theirs = (" × ".join(map(str, each)) for each in (expected, shape))
        raise UserError(
            f"{path} takes images of {ours}, and those of {dataset} are {theirs}: give --params of a net for such "
            "images, or another --dataset"
        )
    return data


def representations(published: Published, images: np.ndarray) -> dict[str, Callable[[int], np.ndarray]]:
    """Return, by name, functions from a seed to the representation [N, D] of images [N, H, W, C]."""

    def features(params: Params, extra: Any, inputs: Array, key: Key | None) -> tuple[Array, Any]:
        del key
        return convnet.features(params, inputs, extra), extra

    model = published.model._replace(apply=features)
    return {
        PIXELS: lambda seed: images.reshape(len(images), -1),
        TRAINED: lambda seed: predict(model, published.params, published.extra, images),
        UNTRAINED: lambda seed: predict(model, *published.model.init(jax.random.key(seed)), images),
    }
