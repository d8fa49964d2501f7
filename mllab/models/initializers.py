r"""Random starting weights [D_in, D_out], one flat draw each.

He (He et al. 2015, eq. 10), for the ReLU family: $\sigma = \sqrt{2 / D_{in}}$.
Glorot (Glorot & Bengio 2010, eq. 12 as a normal), for tanh and sigmoid: $\sigma = \sqrt{2 / (D_{in} + D_{out})}$.
LeCun (LeCun et al. 1998, eq. 16), for linear and self-normalising units: $\sigma = \sqrt{1 / D_{in}}$.
"""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from mllab.types import Array, Key


def _normal(key: Key, shape: Sequence[int], variance: float) -> Array:
    # Drawn flat and reshaped: the same bits, but XLA's CPU backend compiles it several times faster.
    return math.sqrt(variance) * jax.random.normal(key, (math.prod(shape),), jnp.float32).reshape(shape)


def he(key: Key, shape: Sequence[int]) -> Array:
    """Return weights [..., D_in, D_out] for units of the ReLU family."""
    return _normal(key, shape, 2 / math.prod(shape[:-1]))


def glorot(key: Key, shape: Sequence[int]) -> Array:
    """Return weights [..., D_in, D_out] for sigmoid and tanh units."""
    return _normal(key, shape, 2 / (math.prod(shape[:-1]) + math.prod(shape[:-2]) * shape[-1]))


def lecun(key: Key, shape: Sequence[int]) -> Array:
    """Return weights [..., D_in, D_out] for linear and self-normalising units."""
    return _normal(key, shape, 1 / math.prod(shape[:-1]))


Initializer = Callable[[Key, Sequence[int]], Array]
