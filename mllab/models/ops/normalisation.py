"""Normalisation of activations; statistics are computed in float32 at least."""

import functools

import jax
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
    scaled = _standardised(x, epsilon) * scale.reshape((1,) * (x.ndim - 1) + (-1,))
    return scaled if shift is None else scaled + shift.reshape((1,) * (x.ndim - 1) + (-1,))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _standardised(x: Array, epsilon: float) -> Array:
    return _standardised_forward(x, epsilon)[0]


def _standardised_forward(x: Array, epsilon: float) -> tuple[Array, tuple[Array, Array]]:
    wide = widened(x)
    centred = wide - wide.mean(-1, keepdims=True)
    inverse = lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + jnp.asarray(epsilon, wide.dtype))
    y = (centred * inverse).astype(x.dtype)
    return y, (y, inverse)


def _standardised_backward(epsilon: float, residuals: tuple[Array, Array], g: Array) -> tuple[Array]:
    # By the rows y that were returned: fewer passes over memory than the gradient of each step.
    y, inverse = residuals
    g, y = widened(g), widened(y)
    x_gradient = inverse * (g - g.mean(-1, keepdims=True) - y * (g * y).mean(-1, keepdims=True))
    return (x_gradient.astype(residuals[0].dtype),)


_standardised.defvjp(_standardised_forward, _standardised_backward)


def group_norm(x: Array, groups: int, epsilon: float = 1e-5) -> Array:
    """Return images [B, ..., C], each group of channels of each image normalised (Wu & He 2018, eq. 1-3)."""
    parts = widened(x).reshape(x.shape[0], -1, groups, x.shape[-1] // groups)
    mean = parts.mean((1, 3), keepdims=True)
    variance = jnp.square(parts - mean).mean((1, 3), keepdims=True)
    return normalise(parts, mean, variance, epsilon).reshape(x.shape).astype(x.dtype)
