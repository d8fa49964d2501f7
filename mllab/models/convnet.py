"""Convolutional nets (LeCun et al. 1998; Goodfellow et al. 2016, chapter 9): layers one after another.

An architecture is a plain value, a tuple of layers:

    layers = (Conv(16), MaxPool(2), Activation("relu"), Dense(10))

`init` draws its params, which carry it along (as static data, so `jit` compiles for it), and `apply` takes images
[B, height, width, C_in] to logits [B, C]. What a layer keeps beside its params, batch statistics, is `extra`.
`lenet`, `convnet` and `residual` make the architectures that the experiments know by name. The layers stand in
`mllab.models.layers`, and what they compute in `mllab.models.convolution`.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import struct

from mllab.errors import UserError, unknown
from mllab.models import initializers
from mllab.models.base import Model
from mllab.models.initializers import Deviation
from mllab.models.layers import (
    LAYERS,
    Activation,
    AveragePool,
    BatchNorm,
    Bias,
    Conv,
    Dense,
    Dropout,
    GlobalAverage,
    Layer,
    MaxPool,
    Residual,
    Shape,
    apply_all,
    init_all,
)
from mllab.types import Array, Key


@struct.dataclass
class Params:
    """The params of every layer, None where it has none, and the architecture that they are of."""

    layers: tuple[Any, ...]
    architecture: tuple[Layer, ...] = struct.field(pytree_node=False)


def init(key: Key, architecture: Sequence[Layer], shape: Shape) -> tuple[Params, tuple[Any, ...]]:
    """Return (params, extra) for images of this shape: weights drawn for the activation that follows, biases 0.

    Args:
        key: for the weights.
        architecture: the layers.
        shape: (height, width, C_in) of an image.

    Raises:
        UserError: a layer that the image has become too small or otherwise unfit for, by its number.
    """
    layers = tuple(architecture)
    asked: list[tuple[Shape, float]] = []  # shape and deviation of each layer's weights

    def ask(shape: Shape, rule: Deviation) -> Array:
        asked.append((shape, rule(shape)))
        return jnp.zeros(shape)

    # Twice: what is asked for is drawn at once, for XLA's CPU backend compiles each draw anew, and slowly.
    init_all(layers, ask, shape)
    drawn = iter(initializers.normal(key, *zip(*asked, strict=True)) if asked else ())
    params, extra, _ = init_all(layers, lambda shape, rule: next(drawn), shape)
    return Params(params, layers), extra


def forward(params: Params, extra: tuple[Any, ...], images: Array, key: Key | None) -> tuple[Array, tuple[Any, ...]]:
    """Return logits [B, C] of images [B, height, width, C_in], and what is kept; a key in training, None in scoring."""
    seen, kept = apply_all(params.architecture, params.layers, extra, images, key)
    return seen[-1], kept


def apply(params: Params, images: Array, extra: tuple[Any, ...] | None = None) -> Array:
    """Return logits [B, C] of images [B, height, width, C_in], as published.

    Args:
        params: of `init` or of a training run.
        images: as large as those that the params were made for, and with as many channels.
        extra: the batch statistics, of nets that have any.

    Raises:
        UserError: images that do not fit, or batch statistics missing.
    """
    return activations(params, images, extra)[-1]


def features(params: Params, images: Array, extra: tuple[Any, ...] | None = None) -> Array:
    """Return what the last layer sees of each image, [B, D]; arguments and errors as in `apply`."""
    seen = activations(params, images, extra)[-2]
    return seen.reshape(seen.shape[0], -1)


def activations(params: Params, images: Array, extra: tuple[Any, ...] | None = None) -> list[Array]:
    """Return the images, then what comes out of each layer of the architecture; arguments and errors as in `apply`."""
    return apply_all(params.architecture, params.layers, extra, images, None)[0]


def model(architecture: Sequence[Layer], shape: Shape) -> Model:
    """Return the model of an architecture for images of this shape (height, width, C_in)."""
    return Model(functools.partial(init, architecture=architecture, shape=shape), forward)


def describe(architecture: Sequence[Layer]) -> list[dict[str, Any]]:
    """Return the architecture as JSON has it: a list of {"layer": its name, and its fields}."""

    def plain(layer: Layer) -> dict[str, Any]:
        fields = {field.name: getattr(layer, field.name) for field in dataclasses.fields(layer)}
        if isinstance(layer, Residual):
            fields["layers"] = describe(layer.layers)
        return {"layer": type(layer).__name__, **fields}

    return [plain(layer) for layer in architecture]


def build(described: Sequence[dict[str, Any]]) -> tuple[Layer, ...]:
    """Return the architecture that `describe` made plain.

    Raises:
        UserError: no such layer, or fields that are not its own.
    """

    def layer(fields: dict[str, Any]) -> Layer:
        name, rest = fields.get("layer", ""), {key: value for key, value in fields.items() if key != "layer"}
        if name not in LAYERS:
            raise unknown("layer", str(name), LAYERS)
        if name == "Residual" and "layers" in rest:
            rest["layers"] = build(rest["layers"])
        try:
            return LAYERS[name](**rest)
        except TypeError as error:
            raise UserError(f"layer {name}: {error}") from None

    return tuple(map(layer, described))


def convnet(
    classes: int, *, channels: Sequence[int] = (16, 32), hidden: Sequence[int] = (128,), dropout: float = 0.0
) -> tuple[Layer, ...]:
    """Return blocks of a 3 x 3 convolution, pooling by 2 and ReLU, then hidden layers: the course's conv net."""
    blocks = [layer for c in channels for layer in (Conv(c, bias=False), MaxPool(), Bias(), Activation("relu"))]
    drop = (Dropout(dropout),) if dropout else ()
    dense = [layer for units in hidden for layer in (Dense(units), Activation("relu"), *drop)]
    return (*blocks, *dense, Dense(classes))


def lenet(classes: int) -> tuple[Layer, ...]:
    """Return LeNet-5 (LeCun et al. 1998, section II.B), with every map connected to every other.

    The paper's images have a margin of 2 pixels, which "SAME" adds to MNIST's here; at the second convolution, where
    the paper adds none, it keeps small images from vanishing. Units are tanh, and the last layer gives plain logits.
    """
    tanh = Activation("tanh")
    return (
        *(Conv(6, window=5), tanh, AveragePool(), Conv(16, window=5), tanh, AveragePool()),
        *(Dense(120), tanh, Dense(84), tanh, Dense(classes)),
    )


def residual(classes: int, *, channels: Sequence[int] = (16, 32, 64), blocks: int = 1) -> tuple[Layer, ...]:
    """Return a small residual net: stages of so many channels, pooled by 2 between, with `blocks` blocks each.

    Blocks are of the full pre-activation kind (He et al. 2016b, figure 4e), batch-normalised.
    """
    relu = Activation("relu")
    layers: list[Layer] = [Conv(channels[0], bias=False)]
    for stage, width in enumerate(channels):
        layers += [MaxPool()] if stage else []
        for _ in range(blocks):
            inner = (BatchNorm(), relu, Conv(width, bias=False)) * 2
            layers.append(Residual(inner))
    return (*layers, BatchNorm(), relu, GlobalAverage(), Dense(classes))
