"""The layers of a net as plain values, each with two pure functions: `init` and `apply`.

What they compute stands in `mllab.models.convolution`. Images are [B, height, width, C]; a shape is that of one image,
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
from mllab.models import convolution, initializers
from mllab.models.initializers import Deviation
from mllab.models.mlp import ACTIVATIONS, DEVIATIONS
from mllab.types import Array, Key

Shape = tuple[int, ...]
Draw: TypeAlias = Callable[[Shape, Deviation], Array]  # weights of this shape, by this rule


@struct.dataclass
class Affine:
    """Weights and, unless what follows brings its own, biases."""

    w: Array  # [window height, window width, C_in / groups, C_out], or [D_in, D_out]
    b: Array | None  # [C_out] or [D_out]


@struct.dataclass
class Scale:
    """What a normalised value is multiplied by, and what is added."""

    scale: Array  # [C]
    b: Array  # [C]


@struct.dataclass
class Statistics:
    """Running statistics of a batch normalisation."""

    mean: Array  # [C]
    variance: Array  # [C]


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer as a plain value. This one, and every layer that says nothing else, has no params and keeps nothing."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type is int and not (isinstance(value, int) and value > 0):
                raise UserError(f"{type(self).__name__}: {field.name} = {value!r} is no whole number of 1 or more")

    def __str__(self) -> str:
        """Name the layer with the fields that are not as usual: Conv(channels=16, stride=2)."""
        fields = [(field, getattr(self, field.name)) for field in dataclasses.fields(self)]
        unusual = [f"{field.name}={value}" for field, value in fields if value != field.default]
        return f"{type(self).__name__}({', '.join(unusual)})"

    def init(self, draw: Draw, rule: Deviation, shape: Shape) -> tuple[Any, Any]:
        """Return the params and what is kept beside them, for inputs of this shape; `rule` suits what follows."""
        return None, None

    def apply(self, params: Any, extra: Any, x: Array, key: Key | None) -> tuple[Array, Any]:
        """Return outputs and what is kept; a key when training, None when scoring."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Conv(Layer):
    """A convolution to so many channels; see `convolution.convolution`."""

    channels: int
    window: int = 3
    stride: int = 1
    padding: str = "SAME"
    dilation: int = 1
    groups: int = 1
    bias: bool = True  # what a normalisation or a `Bias` follows needs none

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
    """Biases alone: after a maximum as good as before it, at a quarter of the cost, for max(x) + b = max(x + b)."""

    def init(self, draw, rule, shape):
        return jnp.zeros(shape[-1]), None

    def apply(self, params, extra, x, key):
        return x + _channels(params, x), extra


@dataclasses.dataclass(frozen=True)
class Dense(Layer):
    """An affine map of all that there is, flattened, to so many units."""

    units: int

    def init(self, draw, rule, shape):
        return Affine(draw((math.prod(shape), self.units), rule), jnp.zeros(self.units)), None

    def apply(self, params, extra, x, key):
        x = x.reshape(x.shape[0], -1)
        if x.shape[1] != params.w.shape[0]:
            raise UserError(f"it takes {params.w.shape[0]} values an image, not {x.shape[1]}")
        return x @ params.w + params.b[None], extra


@dataclasses.dataclass(frozen=True)
class Activation(Layer):
    """An activation of `mlp.ACTIVATIONS`, by name."""

    name: str = "relu"

    def __post_init__(self) -> None:
        if self.name not in ACTIVATIONS:
            raise unknown("activation", self.name, ACTIVATIONS)

    def apply(self, params, extra, x, key):
        return ACTIVATIONS[self.name](x), extra


@dataclasses.dataclass(frozen=True)
class MaxPool(Layer):
    """The greatest of each window; see `convolution.max_pool`."""

    window: int = 2
    stride: int | None = None

    def apply(self, params, extra, x, key):
        return convolution.max_pool(x, self.window, self.stride), extra


@dataclasses.dataclass(frozen=True)
class AveragePool(Layer):
    """The mean of each window; see `convolution.average_pool`."""

    window: int = 2
    stride: int | None = None

    def apply(self, params, extra, x, key):
        return convolution.average_pool(x, self.window, self.stride), extra


@dataclasses.dataclass(frozen=True)
class GlobalAverage(Layer):
    """The mean of each channel over all places (Lin et al. 2014, section 3.2)."""

    def apply(self, params, extra, x, key):
        if x.ndim != 4:
            raise UserError(f"it averages images [B, height, width, C], not {list(x.shape)}")
        return x.mean((1, 2)), extra


@dataclasses.dataclass(frozen=True)
class Dropout(Layer):
    """In training, each value is 0 with this probability; see `convolution.dropout`."""

    rate: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.rate < 1:
            raise UserError(f"dropout = {self.rate}: give a probability from 0 up to, not including, 1")

    def apply(self, params, extra, x, key):
        return (x if key is None else convolution.dropout(key, x, self.rate)), extra


@dataclasses.dataclass(frozen=True)
class BatchNorm(Layer):
    """Channels normalised over the batch in training, by running statistics in scoring (Ioffe & Szegedy 2015).

    The running statistics move by `1 - momentum` a step; the variance is the biased one throughout, as in Flax.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5

    def init(self, draw, rule, shape):
        zeros, ones = jnp.zeros(shape[-1]), jnp.ones(shape[-1])
        return Scale(ones, zeros), Statistics(zeros, ones)

    def apply(self, params, extra, x, key):
        if extra is None:
            raise UserError("a batch normalisation has running statistics beside its params: give extra, too")
        used, values = extra, convolution.widened(x)
        if key is not None:
            mean = values.mean(range(x.ndim - 1))
            variance = jnp.square(values - _channels(mean, x)).mean(range(x.ndim - 1))
            used = Statistics(mean, variance)
            move = lambda old, new: self.momentum * old + (1 - self.momentum) * new.astype(old.dtype)  # noqa: E731
            extra = jax.tree.map(move, extra, used)
        mean, variance = (_channels(each, x) for each in (used.mean, used.variance))
        y = convolution.normalise(values, mean, variance, self.epsilon)
        return (y * _channels(params.scale, y) + _channels(params.b, y)).astype(x.dtype), extra


@dataclasses.dataclass(frozen=True)
class GroupNorm(Layer):
    """Each image's channels normalised in so many groups: no batch, and nothing kept; see `convolution.group_norm`."""

    groups: int = 8
    epsilon: float = 1e-5

    def init(self, draw, rule, shape):
        if shape[-1] % self.groups:
            raise UserError(f"{shape[-1]} channels do not part into {self.groups} groups")
        return Scale(jnp.ones(shape[-1]), jnp.zeros(shape[-1])), None

    def apply(self, params, extra, x, key):
        y = convolution.group_norm(x, self.groups, self.epsilon)
        return y * _channels(params.scale, y) + _channels(params.b, y), extra


@dataclasses.dataclass(frozen=True)
class Residual(Layer):
    """x + f(x) of the layers f (He et al. 2016a, eq. 1-2); f may change the channels, and x is then convolved 1 x 1."""

    layers: tuple[Layer, ...]

    def __str__(self) -> str:
        """Name the block with the layers in it."""
        return f"Residual({', '.join(map(str, self.layers))})"

    def init(self, draw, rule, shape):
        params, extra, after = init_all(self.layers, draw, shape)
        if after[:-1] != shape[:-1]:
            raise UserError(f"a residual block keeps the image's size, and this one makes {after} of {shape}")
        skip = draw((1, 1, shape[-1], after[-1]), initializers.glorot) if after != shape else None
        return (params, skip), extra

    def apply(self, params, extra, x, key):
        inner, skip = params
        seen, extra = apply_all(self.layers, inner, extra, x, key)
        return seen[-1] + (x if skip is None else convolution.convolution(x, skip)), extra


LAYERS = {
    layer.__name__: layer
    for layer in (
        Conv, Bias, Dense, Activation, MaxPool, AveragePool, GlobalAverage, Dropout, BatchNorm, GroupNorm, Residual,
    )
}  # fmt: skip


def init_all(layers: Sequence[Layer], draw: Draw, shape: Shape) -> tuple[tuple, tuple, Shape]:
    """Return the params of layers one after another, what they keep, and the shape that comes out.

    Raises:
        UserError: a layer that the image has become too small or is otherwise unfit for, by its number.
    """
    params, extra = [], []
    for number, layer in enumerate(layers):
        activation = next((each.name for each in layers[number:] if isinstance(each, Activation)), None)
        # Weights that feed no activation, the last ones, are Glorot's; so it is in `mlp`.
        rule = initializers.glorot if activation is None else DEVIATIONS.get(activation, initializers.he)
        with naming(number, layer, shape):
            own, kept = layer.init(draw, rule, shape)
            through = functools.partial(layer.apply, own, kept, key=None)
            after = jax.eval_shape(through, jax.ShapeDtypeStruct((1, *shape), jnp.result_type(float)))[0].shape[1:]
        params.append(own)
        extra.append(kept)
        shape = after
    return tuple(params), tuple(extra), shape


def apply_all(
    layers: Sequence[Layer], params: tuple, extra: tuple | None, x: Array, key: Key | None
) -> tuple[list[Array], tuple]:
    """Return the images, then what comes out of each layer, one after another; and what they keep.

    Raises:
        UserError: images that a layer is unfit for, or batch statistics missing, by the layer's number.
    """
    x = jnp.asarray(x)
    seen, kept = [x], []
    for number, (layer, own, before) in enumerate(zip(layers, params, extra or (None,) * len(layers), strict=True)):
        with naming(number, layer, x.shape[1:]):
            x, after = layer.apply(own, before, x, None if key is None else jax.random.fold_in(key, number))
        seen.append(x)
        kept.append(after)
    return seen, tuple(kept)


@contextlib.contextmanager
def naming(number: int, layer: Layer, shape: Shape) -> Iterator[None]:
    """Say of a mistake which layer met it, and what of."""
    try:
        yield
    except UserError as error:
        raise UserError(f"layer {number + 1}, {layer}, of images {shape}: {error}") from None


def _channels(values: Array, like: Array) -> Array:
    """Return values [C] with as many axes as `like`, for sums and products with it."""
    return values.reshape((1,) * (like.ndim - 1) + (-1,))
