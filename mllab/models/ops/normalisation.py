"""Normalisation of activations; statistics are computed in float32 at least."""

import jax.numpy as jnp
from jax import lax

from mllab.types import Array


def widened(x: Array) -> Array:
    """Return `x` in float32 at least, the dtype in which means and variances are computed."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def normalise(x: Array, mean: Array, variance: Array, epsilon: float) -> Array:
    r"""Return $(x - \mu) / \sqrt{\sigma^2 + \epsilon}$; mean and variance have as many axes as x."""
    return (x - mean) * lax.rsqrt(variance + jnp.asarray(epsilon, variance.dtype))


def layer_norm(x: Array, scale: Array, shift: Array | None = None, epsilon: float = 1e-5) -> Array:
    """Return rows x [..., H], normalised over their features, times a scale [H], plus a shift [H] (Ba et al. 2016)."""
    ones = (1,) * (x.ndim - 1)
    wide = widened(x)
    mean = wide.mean(-1, keepdims=True)
    variance = jnp.square(wide - mean).mean(-1, keepdims=True)
    scaled = normalise(wide, mean, variance, epsilon).astype(x.dtype) * scale.reshape(*ones, -1)
    return scaled if shift is None else scaled + shift.reshape(*ones, -1)


def group_norm(x: Array, groups: int, epsilon: float = 1e-5) -> Array:
    """Return images [B, ..., C], each group of channels of each image normalised (Wu & He 2018, eq. 1-3)."""
    parts = widened(x).reshape(x.shape[0], -1, groups, x.shape[-1] // groups)
    mean = parts.mean((1, 3), keepdims=True)
    variance = jnp.square(parts - mean).mean((1, 3), keepdims=True)
    return normalise(parts, mean, variance, epsilon).reshape(x.shape).astype(x.dtype)
