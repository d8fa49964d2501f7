r"""Losses of each example; the mean is taken once, by the caller, with weights.

Cross entropy of logits $z$ and target probabilities $q$:  $\ell = \log \sum_c e^{z_c} - \sum_c q_c z_c$, whose gradient
is $P - q$ ($P$ the softmax of $z$). A label $y$ is the $q$ that is 1 at $y$ and 0 elsewhere.

Label smoothing (Szegedy et al. 2016, arXiv:1512.00567, §7) mixes the uniform distribution over the $C$ classes into
the target:  $q'_c = (1 - \epsilon) q_c + \epsilon / C$. It is for training: metrics stay unsmoothed.

Squared error of a value $\hat y$ and a target $y$:  $\ell = (\hat y - y)^2$.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mllab.errors import UserError
from mllab.types import Array


def cross_entropy(logits: Array, targets: Array) -> Array:
    """Return the cross entropy in nats, [B] (Bishop 2006, eq. 4.108).

    Args:
        logits: [B, C].
        targets: labels [B] in 0..C-1, or probabilities [B, C] that sum to 1, as `augmentation.mixup` makes them.
    """
    return jax.nn.logsumexp(logits, axis=-1) - _expected(logits, targets)


def smoothed(smoothing: float | Array) -> Callable[[Array, Array], Array]:
    """Return the cross entropy of smoothed targets, with the arguments of `cross_entropy`.

    Args:
        smoothing: epsilon, 0.1 in the paper; may be traced.

    Raises:
        UserError: smoothing below 0, or 1 and above.
    """
    if isinstance(smoothing, int | float) and not 0 <= smoothing < 1:
        raise UserError(f"label smoothing = {smoothing}: give a number from 0 up to, not including, 1")

    def loss(logits: Array, targets: Array) -> Array:
        target = (1 - smoothing) * _expected(logits, targets) + smoothing * jnp.mean(logits, axis=-1)
        return jax.nn.logsumexp(logits, axis=-1) - target

    return loss


def squared_error(values: Array, targets: Array) -> Array:
    """Return the squared error, [B], of values [B] or [B, 1] and targets [B]."""
    return jnp.square(values.reshape(targets.shape) - targets)


def _expected(logits: Array, targets: Array) -> Array:
    """Return the mean logit under the targets, [B]: the label's own, where they are labels."""
    if targets.ndim == logits.ndim:
        return jnp.sum(targets * logits, axis=-1)
    # A select, not a gather: the gather's gradient is a scatter, which XLA's CPU backend runs serially.
    own = targets[:, None] == jnp.arange(logits.shape[-1])[None]
    return jnp.sum(jnp.where(own, logits, 0), axis=-1)
