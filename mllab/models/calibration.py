r"""Probabilities from scores that are none: one slope, found by maximum likelihood.

    $$ P(c \mid x) = \mathrm{softmax}(a\, s(x))_c, \quad
       a = \arg\max_{a > 0} \sum_i \omega_i \sum_c t_{ic} \log \mathrm{softmax}(a\, s(x_i))_c $$

One slope for all classes keeps the class of the greatest score first. Targets are Platt's: a class of n rows is told to
be right in (n + 1) of (n + 2) cases, or classes that the scores part would have a slope without end. For two classes
with scores -f / 2 and f / 2 this is Platt's sigmoid, less its offset, which would move the boundary. Scores of rows
that a model was fitted to are greater than those of others: a slope found on them is too sure of itself.

Source: Platt, *Probabilistic outputs for support vector machines* (1999), section 2.2.
"""

import jax
import jax.numpy as jnp

from mllab.types import Array

STEPS = 30  # each at most doubles the slope, or halves it
LEAST = 1e-3  # where scores say nothing, or the opposite, the order of the classes stays


def log_probabilities(scores: Array, slope: Array) -> Array:
    """Return log-probabilities [..., C] of scores [..., C]."""
    return jax.nn.log_softmax(slope * scores)


def slope(scores: Array, targets: Array, weight: Array) -> Array:
    """Return the slope [] by Newton's method on a convex function of one number.

    Args:
        scores: [N, C].
        targets: labels [N].
        weight: how much each row counts, [N].
    """
    classes = scores.shape[1]
    own = (targets[:, None] == jnp.arange(classes)[None]).astype(scores.dtype)
    count = weight @ own
    right = ((count + 1) / (count + 2))[targets][:, None]
    wanted = own * right + (1 - own) * (1 - right) / (classes - 1)
    scores = scores - jnp.mean(scores, axis=1, keepdims=True)
    towards = jnp.sum(wanted * scores, axis=1)

    def step(slope: Array, _: None) -> tuple[Array, None]:
        p = jax.nn.softmax(slope * scores)
        mean = jnp.sum(p * scores, axis=1)
        variance = jnp.sum(p * (scores - mean[:, None]) ** 2, axis=1)
        newton = slope - weight @ (mean - towards) / jnp.maximum(weight @ variance, jnp.finfo(scores.dtype).tiny)
        return jnp.clip(newton, slope / 2, 2 * slope), None

    return jnp.maximum(jax.lax.scan(step, jnp.ones((), scores.dtype), None, STEPS)[0], LEAST)
