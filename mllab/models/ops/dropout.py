"""Dropout (Srivastava et al. 2014, section 10), scaled in training so that scoring needs no change."""

from typing import Any

import jax
import jax.numpy as jnp

from mllab.types import Array, Key


def dropout(key: Key, x: Array, rate: float) -> Array:
    """Return `x` with each value set to 0 with probability `rate`, and the others divided by 1 - rate."""
    kept = jax.random.bernoulli(key, 1 - rate, x.shape)
    return jnp.where(kept, x / jnp.asarray(1 - rate, x.dtype), jnp.zeros((), x.dtype))


def is_zero(rate: Any) -> bool:
    """Return whether a rate is known to be 0, so that no draw is needed."""
    return isinstance(rate, int | float) and rate == 0
