r"""Losses of each example; the mean is taken once, by the caller, with weights.

Cross entropy of logits $z$ and a label $y$:  $\ell = \log \sum_c e^{z_c} - z_y$, whose gradient is $P - Y$
($P$ the softmax of $z$, $Y$ the one-hot label).

Squared error of a value $\hat y$ and a target $y$:  $\ell = (\hat y - y)^2$.
"""

import jax
import jax.numpy as jnp

from mllab.types import Array


def cross_entropy(logits: Array, labels: Array) -> Array:
    """Return the cross entropy in nats, [B], of logits [B, C] and labels [B] in 0..C-1 (Bishop 2006, eq. 4.108)."""
    # A select, not a gather: the gather's gradient is a scatter, which XLA's CPU backend runs serially.
    own = labels[:, None] == jnp.arange(logits.shape[-1])[None]
    return jax.nn.logsumexp(logits, axis=-1) - jnp.sum(jnp.where(own, logits, 0), axis=-1)


def squared_error(values: Array, targets: Array) -> Array:
    """Return the squared error, [B], of values [B] or [B, 1] and targets [B]."""
    return jnp.square(values.reshape(targets.shape) - targets)
