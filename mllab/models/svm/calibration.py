r"""Probabilities from per-class scores: a softmax with one slope, fitted by maximum likelihood.

    $$ P(c \mid x) = \mathrm{softmax}(a\, s(x))_c, \quad
       a = \arg\max_{a > 0} \sum_i \omega_i \sum_c t_{ic} \log \mathrm{softmax}(a\, s(x_i))_c $$

One slope for all classes keeps the class of the greatest score the most probable one. Targets t are Platt's: the true
class of a row has (n + 1) / (n + 2), where n is the number of rows of that class, so that the slope stays finite for
classes that the scores separate. For two classes with scores -f / 2 and f / 2 this is Platt's sigmoid without its
offset, which would move the boundary. On rows that the model was fitted to, scores are larger than on new ones, and a
slope fitted to them is overconfident.

Source: Platt, *Probabilistic outputs for support vector machines* (1999), section 2.2.
"""

import jax
import jax.numpy as jnp

from mllab.types import Array

STEPS = 30  # of Newton's method, each of which at most doubles or halves the slope
MIN_SLOPE = 1e-3  # for scores that are uninformative or worse: it keeps the order of the classes


def log_probabilities(scores: Array, slope: Array) -> Array:
    """Return log-probabilities [..., C] of scores [..., C]."""
    return jax.nn.log_softmax(slope * scores)


def slope(scores: Array, targets: Array, weight: Array) -> Array:
    """Return the slope [], by Newton's method on a convex function of one variable.

    Args:
        scores: [N, C].
        targets: labels [N].
        weight: of each row, [N].
    """
    classes = scores.shape[1]
    one_hot = (targets[:, None] == jnp.arange(classes)[None]).astype(scores.dtype)
    count = weight @ one_hot
    right = ((count + 1) / (count + 2))[targets][:, None]
    smoothed = one_hot * right + (1 - one_hot) * (1 - right) / (classes - 1)
    scores = scores - jnp.mean(scores, axis=1, keepdims=True)
    expected = jnp.sum(smoothed * scores, axis=1)

    def step(slope: Array, _: None) -> tuple[Array, None]:
        p = jax.nn.softmax(slope * scores)
        mean = jnp.sum(p * scores, axis=1)
        variance = jnp.sum(p * (scores - mean[:, None]) ** 2, axis=1)
        newton = slope - weight @ (mean - expected) / jnp.maximum(weight @ variance, jnp.finfo(scores.dtype).tiny)
        return jnp.clip(newton, slope / 2, 2 * slope), None

    return jnp.maximum(jax.lax.scan(step, jnp.ones((), scores.dtype), None, STEPS)[0], MIN_SLOPE)
