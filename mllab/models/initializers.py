r"""Random starting weights: one draw for all the layers of a model, scaled to each.

The standard deviation for weights [..., D_in, D_out] by the units that they feed:
He (He et al. 2015, eq. 10), for the ReLU family: $\sigma = \sqrt{2 / D_{in}}$.
Glorot (Glorot & Bengio 2010, eq. 12 as a normal), for tanh and sigmoid: $\sigma = \sqrt{2 / (D_{in} + D_{out})}$.
LeCun (LeCun et al. 1998, eq. 16), for linear and self-normalising units: $\sigma = \sqrt{1 / D_{in}}$.
Leading axes (a convolution's window) multiply both.
"""

import math
from collections.abc import Callable, Sequence

import jax

from mllab.types import Array, Key

Deviation = Callable[[Sequence[int]], float]  # of weights of this shape


def he(shape: Sequence[int]) -> float:
    """Return the standard deviation for units of the ReLU family."""
    return math.sqrt(2 / math.prod(shape[:-1]))


def glorot(shape: Sequence[int]) -> float:
    """Return the standard deviation for sigmoid and tanh units."""
    return math.sqrt(2 / (math.prod(shape[:-1]) + math.prod(shape[:-2]) * shape[-1]))


def lecun(shape: Sequence[int]) -> float:
    """Return the standard deviation for linear and self-normalising units."""
    return math.sqrt(1 / math.prod(shape[:-1]))


def normal(key: Key, shapes: Sequence[Sequence[int]], deviations: Sequence[float]) -> list[Array]:
    """Return normal weights of these shapes, each with its standard deviation."""
    # One flat draw, cut up: XLA's CPU backend compiles each draw anew, and shaped ones slowest.
    sizes = [math.prod(shape) for shape in shapes]
    flat = jax.random.normal(key, (sum(sizes),))
    ends = [sum(sizes[: position + 1]) for position in range(len(sizes))]
    return [
        deviation * flat[end - size : end].reshape(shape)
        for shape, size, end, deviation in zip(shapes, sizes, ends, deviations, strict=True)
    ]
