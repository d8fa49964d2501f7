"""Layers of a net as plain values, each with two pure functions `init` and `apply`.

The operations are in `mllab.models.ops`. Images are [B, height, width, C]; a shape is that of one image,
(height, width, C), or of one row of units, (D,).
"""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from flax import struct

from mllab.errors import UserError, unknown
from mllab.models import initializers
from mllab.models.initializers import Deviation
from mllab.models.mlp import ACTIVATIONS, DEVIATIONS
from mllab.models.ops import convolution, dropout, normalisation
from mllab.types import Array, Key

Shape = tuple[int, ...]
Draw: TypeAlias = Callable[[Shape, Deviation], Array]  # (shape, rule of the deviation) -> weights


@struct.dataclass
class Affine:
    """Weights and, optionally, biases."""

    w: Array  # [window height, window width, C_in / groups, C_out], or [D_in, D_out]
    b: Array | None  # [C_out] or [D_out]


@struct.dataclass
class Scale:
    """Scale and bias of normalised values."""

    scale: Array  # [C]
    b: Array  # [C]


@struct.dataclass
class Statistics:
    """Running statistics of a batch normalisation."""

    mean: Array  # [C]
    variance: Array  # [C]


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer as a plain value, by default without params and extra state."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, what = getattr(self, field.name), f"{type(self).__name__}: {field.name}"
            if field.type is int or (field.type == int | None and value is not None):
                if isinstance(value, bool) or not (isinstance(value, int) and value > 0):
                    raise UserError(f"{what} = {value!r}, expected a whole number of 1 or more")
            elif field.type is float and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise UserError(f"{what} = {value!r}, expected a number")
            elif field.type is bool and not isinstance(value, bool):
                raise UserError(f"{what} = {value!r}, expected true or false")

    def __str__(self) -> str:
        """Return the name with the fields that differ from their default: Conv(channels=16, stride=2)."""
        fields = [(field, getattr(self, field.name)) for field in dataclasses.fields(self)]
        changed = [f"{field.name}={value}" for field, value in fields if value != field.default]
        return f"{type(self).__name__}({', '.join(changed)})"

    def init(self, draw: Draw, rule: Deviation, shape: Shape) -> tuple[Any, Any]:
        """Return (params, extra) for inputs of this shape; `rule` is the deviation for the activation that follows."""
        return None, None

    def apply(self, params: Any, extra: Any, x: Array, key: Key | None) -> tuple[Array, Any]:
        """Return (outputs, extra), in training mode with a key, in evaluation mode with None."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Conv(Layer):
    """A convolution with `channels` outputs; see `ops.convolution.convolution`."""

    channels: int
    window: int = 3
    stride: int = 1
    padding: str = "SAME"
    dilation: int = 1
    groups: int = 1
    bias: bool = True  # unnecessary before a normalisation or a `Bias`

    def init(self, draw, rule, shape):
        w = draw((self.window, self.window, shape[-1] // self.groups, self.channels), rule)
        return Affine(w, jnp.zeros(self.channels) if self.bias else None), None

    def apply(self, params, extra, x, key):
        y = convolution.convolution(
            x, params.w, stride=self.stride, padding=self.padding, dilation=self.dilation, groups=self.groups
        )
        return (y if params.b is None else y + _channels(params.b, y)), extra


@dataclasses.dataclass(frozen=True)
class Bias(Layer):
    """Biases alone, for use after max pooling: max(x) + b = max(x + b), at a quarter of the cost."""

    def init(self, draw, rule, shape):
        return jnp.zeros(shape[-1]), None

    def apply(self, params, extra, x, key):
        return x + _channels(params, x), extra


@dataclasses.dataclass(frozen=True)
class Dense(Layer):
    """An affine map of the flattened inputs to `units` outputs."""

    units: int

    def init(self, draw, rule, shape):
        return Affine(draw((math.prod(shape), self.units), rule), jnp.zeros(self.units)), None

    def apply(self, params, extra, x, key):
        x = x.reshape(x.shape[0], -1)
        if x.shape[1] != params.w.shape[0]:
            raise UserError(f"takes {params.w.shape[0]} values per image, not {x.shape[1]}")
        return x @ params.w + params.b[None], extra


@dataclasses.dataclass(frozen=True)
class Activation(Layer):
    """An activation, by its name in `mlp.ACTIVATIONS`."""

    name: str = "relu"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or self.name not in ACTIVATIONS:
            raise unknown("activation", str(self.name), ACTIVATIONS)

    def apply(self, params, extra, x, key):
        return ACTIVATIONS[self.name](x), extra


@dataclasses.dataclass(frozen=True)
class MaxPool(Layer):
    """The maximum of each window; see `ops.convolution.max_pool`."""

    window: int = 2
    stride: int | None = None

    def apply(self, params, extra, x, key):
        return convolution.max_pool(x, self.window, self.stride), extra


@dataclasses.dataclass(frozen=True)
class AveragePool(Layer):
    """The mean of each window; see `ops.convolution.average_pool`."""

    window: int = 2
    stride: int | None = None

    def apply(self, params, extra, x, key):
        return convolution.average_pool(x, self.window, self.stride), extra


@dataclasses.dataclass(frozen=True)
class GlobalAverage(Layer):
    """The mean of each channel over the image (Lin et al. 2014, section 3.2)."""

    def apply(self, params, extra, x, key):
        if x.ndim != 4:
            raise UserError(f"takes images [B, height, width, C], not {list(x.shape)}")
        return x.mean((1, 2)), extra


@dataclasses.dataclass(frozen=True)
class Dropout(Layer):
    """Each value is 0 with probability `rate` in training; see `ops.dropout.dropout`."""

    rate: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.rate < 1:
            raise UserError(f"dropout = {self.rate}: expected a probability of at least 0 and less than 1")

    def apply(self, params, extra, x, key):
        return (x if key is None else dropout.dropout(key, x, self.rate)), extra


@dataclasses.dataclass(frozen=True)
class BatchNorm(Layer):
    """Channels normalised over the batch in training, by running statistics in evaluation (Ioffe & Szegedy 2015).

    Each step moves the running statistics by `1 - momentum`; the variance is always the biased one, as in Flax.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5

    def init(self, draw, rule, shape):
        zeros, ones = jnp.zeros(shape[-1]), jnp.ones(shape[-1])
        return Scale(ones, zeros), Statistics(zeros, ones)

    def apply(self, params, extra, x, key):
        if extra is None:
            raise UserError("needs its running statistics beside the params: give extra, too")
        used, values = extra, normalisation.widened(x)
        if key is not None:
            mean = values.mean(range(x.ndim - 1))
            variance = jnp.square(values - _channels(mean, x)).mean(range(x.ndim - 1))
            used = Statistics(mean, variance)
            move = lambda old, new: self.momentum * old + (1 - self.momentum) * new.astype(old.dtype)  # noqa: E731
            extra = jax.tree.map(move, extra, used)
        mean, variance = (_channels(each, x) for each in (used.mean, used.variance))
        y = normalisation.normalise(values, mean, variance, self.epsilon)
        return (y * _channels(params.scale, y) + _channels(params.b, y)).astype(x.dtype), extra


@dataclasses.dataclass(frozen=True)
class GroupNorm(Layer):
    """Channels normalised in groups within each image; see `ops.normalisation.group_norm`."""

    groups: int = 8
    epsilon: float = 1e-5

    def init(self, draw, rule, shape):
        if shape[-1] % self.groups:
            raise UserError(f"{shape[-1]} channels cannot be divided into {self.groups} groups")
        return Scale(jnp.ones(shape[-1]), jnp.zeros(shape[-1])), None

    def apply(self, params, extra, x, key):
        y = normalisation.group_norm(x, self.groups, self.epsilon)
        return y * _channels(params.scale, y) + _channels(params.b, y), extra


@dataclasses.dataclass(frozen=True)
class Residual(Layer):
    """x + f(x) for layers f (He et al. 2016a, eq. 1-2); where f changes the channels, x has a 1 x 1 convolution."""

    layers: tuple[Layer, ...]

    def __str__(self) -> str:
        """Return the name with the layers of the block."""
        return f"Residual({', '.join(map(str, self.layers))})"

    def init(self, draw, rule, shape):
        params, extra, after = init_all(self.layers, draw, shape)
        if after[:-1] != shape[:-1]:
            raise UserError(f"a residual block must keep the size of images, and this one returns {after} for {shape}")
        skip = draw((1, 1, shape[-1], after[-1]), initializers.glorot) if after != shape else None
        return (params, skip), extra

    def apply(self, params, extra, x, key):
        inner, skip = params
        outputs, extra = apply_all(self.layers, inner, extra, x, key)
        return outputs[-1] + (x if skip is None else convolution.convolution(x, skip)), extra


LAYERS = {
    layer.__name__: layer
    for layer in (
        Conv, Bias, Dense, Activation, MaxPool, AveragePool, GlobalAverage, Dropout, BatchNorm, GroupNorm, Residual,
    )
}  # fmt: skip


def init_all(layers: Sequence[Layer], draw: Draw, shape: Shape) -> tuple[tuple, tuple, Shape]:
    """Return the params and extra state of layers in sequence, and the shape of their output.

    Raises:
        UserError: a layer that does not take the output of the one before, by its number.
    """
    params, extra = [], []
    for number, layer in enumerate(layers):
        activation = next((each.name for each in layers[number:] if isinstance(each, Activation)), None)
        # Weights with no activation after them, the last ones, use Glorot's rule, as in `mlp`.
        rule = initializers.glorot if activation is None else DEVIATIONS.get(activation, initializers.he)
        with naming(number, layer, shape):
            layer_params, layer_extra = layer.init(draw, rule, shape)
            evaluate = functools.partial(layer.apply, layer_params, layer_extra, key=None)
            after = jax.eval_shape(evaluate, jax.ShapeDtypeStruct((1, *shape), jnp.result_type(float)))[0].shape[1:]
        params.append(layer_params)
        extra.append(layer_extra)
        shape = after
    return tuple(params), tuple(extra), shape


def apply_all(
    layers: Sequence[Layer], params: tuple, extra: tuple | None, x: Array, key: Key | None
) -> tuple[list[Array], tuple]:
    """Return the images and the output of each layer in sequence, and their new extra state.

    Raises:
        UserError: images that a layer does not take, or missing batch statistics, by the number of the layer.
    """
    x = jnp.asarray(x)
    outputs, updated = [x], []
    states = extra or (None,) * len(layers)
    for number, (layer, layer_params, state) in enumerate(zip(layers, params, states, strict=True)):
        with naming(number, layer, x.shape[1:]):
            x, after = layer.apply(layer_params, state, x, None if key is None else jax.random.fold_in(key, number))
        outputs.append(x)
        updated.append(after)
    return outputs, tuple(updated)


@contextlib.contextmanager
def naming(number: int, layer: Layer, shape: Shape) -> Iterator[None]:
    """Prefix a UserError with the layer and the shape of its inputs."""
    try:
        yield
    except UserError as error:
        raise UserError(f"layer {number + 1}, {layer}, of images {shape}: {error}") from None


def _channels(values: Array, like: Array) -> Array:
    """Return values [C] with as many axes as `like`, to broadcast against it."""
    return values.reshape((1,) * (like.ndim - 1) + (-1,))
