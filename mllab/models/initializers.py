r"""Initial weights: normal, with a standard deviation for the activation that follows.

For weights [..., D_in, D_out]:

- He (He et al. 2015, eq. 10), for the ReLU family: $\sigma = \sqrt{2 / D_{in}}$.
- Glorot (Glorot & Bengio 2010, eq. 12 as a normal), for tanh and sigmoid: $\sigma = \sqrt{2 / (D_{in} + D_{out})}$.
- LeCun (LeCun et al. 1998, eq. 16), for linear and self-normalising units: $\sigma = \sqrt{1 / D_{in}}$.

Leading axes (a convolution's window) multiply both D_in and D_out.
"""

import itertools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from mllab.models.ops import factorization
from mllab.types import Array, Key

Deviation = Callable[[Sequence[int]], float]  # shape of weights -> their standard deviation


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
    """Return normal weights of these shapes with these standard deviations."""
    # One flat draw that is split: XLA's CPU backend compiles every draw separately, shaped ones the slowest.
    sizes = [math.prod(shape) for shape in shapes]
    flat = jax.random.normal(key, (sum(sizes),))
    ends = itertools.accumulate(sizes)
    return [
        deviation * flat[end - size : end].reshape(shape)
        for shape, size, end, deviation in zip(shapes, sizes, ends, deviations, strict=True)
    ]


def orthogonal(key: Key, shape: Sequence[int]) -> Array:
    """Return random orthogonal matrices [..., H, H], uniformly distributed (Saxe et al. 2014, arXiv:1312.6120).

    Q of the QR factorisation of a normal matrix, with the signs that make R's diagonal positive (Mezzadri 2007).
    """
    matrices = jax.random.normal(key, (math.prod(shape),)).reshape(-1, *shape[-2:])
    q, r = jax.vmap(factorization.qr)(matrices)
    signs = jnp.where(jnp.diagonal(r, axis1=-2, axis2=-1) < 0, -1, 1).astype(q.dtype)
    return (q * signs[:, None, :]).reshape(shape)
