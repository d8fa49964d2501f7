"""Convolutional nets (LeCun et al. 1998; Goodfellow et al. 2016, chapter 9) as sequences of layers.

An architecture is a plain value, a tuple of layers:

    layers = (Conv(16), MaxPool(2), Activation("relu"), Dense(10))

`init` draws its params, which hold it as static data, and `apply` maps images [B, height, width, C_in] to logits
[B, C]. The batch statistics of layers that have any are `extra`. `convnet`, `lenet` and `residual` return the
architectures that are known by name (`mllab.models.table`). The layers are in `mllab.models.layers`, their operations
in `mllab.models.ops`.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from flax import struct

from mllab import checks
from mllab.errors import UserError, shortened, unknown
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
    """The params of every layer, None where it has none, and their architecture."""

    layers: tuple[Any, ...]
    architecture: tuple[Layer, ...] = struct.field(pytree_node=False)


def init(key: Key, architecture: Sequence[Layer], shape: Shape) -> tuple[Params, tuple[Any, ...]]:
    """Return (params, extra) for images of this shape: weights drawn for the activation that follows, biases 0.

    Args:
        key: for the weights.
        architecture: the layers.
        shape: (height, width, C_in) of an image.

    Raises:
        UserError: a layer that does not take the output of the one before, by its number.
    """
    layers = tuple(architecture)
    requests: list[tuple[Shape, float]] = []  # shape and deviation of each layer's weights

    def request(shape: Shape, rule: Deviation) -> Array:
        requests.append((shape, rule(shape)))
        return jnp.zeros(shape)

    # Two passes, to draw all weights at once: XLA's CPU backend compiles every draw separately, and slowly.
    init_all(layers, request, shape)
    drawn = iter(initializers.normal(key, *zip(*requests, strict=True)) if requests else ())
    params, extra, _ = init_all(layers, lambda shape, rule: next(drawn), shape)
    return Params(params, layers), extra


def forward(params: Params, extra: tuple[Any, ...], images: Array, key: Key | None) -> tuple[Array, tuple[Any, ...]]:
    """Return logits [B, C] of images [B, height, width, C_in], and extra; training mode with a key, else evaluation."""
    outputs, extra = apply_all(params.architecture, params.layers, extra, images, key)
    return outputs[-1], extra


def apply(params: Params, images: Array, extra: tuple[Any, ...] | None = None) -> Array:
    """Return logits [B, C] of images [B, height, width, C_in], in evaluation mode.

    Args:
        params: of `init` or of a training run.
        images: of the size and channels that the params were made for.
        extra: the batch statistics, of nets that have any.

    Raises:
        UserError: images of another size, or missing batch statistics.
    """
    return activations(params, images, extra)[-1]


def features(params: Params, images: Array, extra: tuple[Any, ...] | None = None) -> Array:
    """Return the inputs of the last layer, [B, D]; arguments and errors as in `apply`."""
    inputs = activations(params, images, extra)[-2]
    return inputs.reshape(inputs.shape[0], -1)


def activations(params: Params, images: Array, extra: tuple[Any, ...] | None = None) -> list[Array]:
    """Return the images and the output of each layer of the architecture; arguments and errors as in `apply`."""
    images = checks.check_inputs(images, ("B", "..."), "images")
    return apply_all(params.architecture, params.layers, extra, images, None)[0]


def model(architecture: Sequence[Layer], shape: Shape) -> Model:
    """Return the model of an architecture for images of this shape (height, width, C_in)."""
    return Model(functools.partial(init, architecture=architecture, shape=shape), forward)


def named(architecture: Callable[..., tuple[Layer, ...]]) -> Callable[..., Model]:
    """Return `(shape, outputs, **options) -> Model` for a function `(classes, **options) -> architecture`."""

    @functools.wraps(architecture)
    def make(shape: Shape, outputs: int, **options: Any) -> Model:
        return model(architecture(outputs, **options), tuple(shape))

    return make


def describe(architecture: Sequence[Layer]) -> list[dict[str, Any]]:
    """Return the architecture as plain values for JSON: a list of {"layer": name, **fields}."""

    def plain(layer: Layer) -> dict[str, Any]:
        fields = {field.name: getattr(layer, field.name) for field in dataclasses.fields(layer)}
        if isinstance(layer, Residual):
            fields["layers"] = describe(layer.layers)
        return {"layer": type(layer).__name__, **fields}

    return [plain(layer) for layer in architecture]


def build(described: Sequence[dict[str, Any]]) -> tuple[Layer, ...]:
    """Return the architecture from the plain values of `describe`.

    Raises:
        UserError: an unknown layer, or fields that it does not have.
    """

    def layer(fields: dict[str, Any]) -> Layer:
        if not isinstance(fields, dict):
            raise UserError(f"layer {shortened(str(fields))}: expected its name and fields")
        name, rest = fields.get("layer", ""), {key: value for key, value in fields.items() if key != "layer"}
        if not isinstance(name, str) or name not in LAYERS:
            raise unknown("layer", str(name), LAYERS)
        if name == "Residual" and "layers" in rest:
            if not isinstance(rest["layers"], list | tuple):
                raise UserError(f"layer {name}: layers = {shortened(str(rest['layers']))}, expected a list")
            rest["layers"] = build(rest["layers"])
        try:
            return LAYERS[name](**rest)
        except TypeError as error:
            raise UserError(f"layer {name}: {error}") from None

    return tuple(map(layer, described))


def convnet(
    classes: int, *, channels: Sequence[int] = (16, 32), hidden: Sequence[int] = (128,), dropout: float = 0.0
) -> tuple[Layer, ...]:
    """Return blocks of a 3 x 3 convolution, 2 x 2 max pooling and ReLU, then dense hidden layers."""
    blocks = [layer for c in channels for layer in (Conv(c, bias=False), MaxPool(), Bias(), Activation("relu"))]
    drop = (Dropout(dropout),) if dropout else ()
    dense = [layer for units in hidden for layer in (Dense(units), Activation("relu"), *drop)]
    return (*blocks, *dense, Dense(classes))


def lenet(classes: int) -> tuple[Layer, ...]:
    """Return LeNet-5 (LeCun et al. 1998, section II.B), with all maps of a layer connected to all of the next.

    Padding "SAME" stands in for the margin of 2 pixels that the paper's images have. The second convolution has it
    too, unlike the paper's, so that small images do not vanish. Activations are tanh; the last layer returns logits.
    """
    tanh = Activation("tanh")
    return (
        *(Conv(6, window=5), tanh, AveragePool(), Conv(16, window=5), tanh, AveragePool()),
        *(Dense(120), tanh, Dense(84), tanh, Dense(classes)),
    )


def residual(classes: int, *, channels: Sequence[int] = (16, 32, 64), blocks: int = 1) -> tuple[Layer, ...]:
    """Return a small residual net: a stage of `blocks` blocks for each of `channels`, with 2 x 2 max pooling between.

    Blocks have full pre-activation (He et al. 2016b, figure 4e) and batch normalisation.
    """
    if not channels:
        raise UserError("channels: none, expected those of one stage or more")
    relu = Activation("relu")
    layers: list[Layer] = [Conv(channels[0], bias=False)]
    for stage, width in enumerate(channels):
        layers += [MaxPool()] if stage else []
        for _ in range(blocks):
            inner = (BatchNorm(), relu, Conv(width, bias=False)) * 2
            layers.append(Residual(inner))
    return (*layers, BatchNorm(), relu, GlobalAverage(), Dense(classes))
