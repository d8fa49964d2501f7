"""Attention: weights over the positions of a memory, and the mean of the memory under them."""

import jax.numpy as jnp

from mllab.types import Array


def additive(query: Array, keys: Array, v: Array, mask: Array) -> Array:
    r"""Return the weights [..., S] of additive attention (Bahdanau et al. 2015, arXiv:1409.0473, appendix A.1.2).

    $$ e_j = v_a^\top \tanh(W_a s + U_a h_j), \qquad \alpha_j = \exp(e_j) / \textstyle\sum_k \exp(e_k) $$

    Args:
        query: $W_a s$, [..., A].
        keys: $U_a h_j$, [..., S, A]; they depend on the memory alone and are computed once for all queries.
        v: $v_a$, [A].
        mask: [..., S], False at padding, where weights are 0; all are where no position counts.
    """
    return masked_softmax(jnp.tanh(query[..., None, :] + keys) @ v, mask)


def masked_softmax(logits: Array, mask: Array) -> Array:
    """Return the softmax over the last axis of the entries where `mask` is true, and 0 elsewhere.

    Where no entry counts all are 0, and so are their gradients.
    """
    lowest = jnp.finfo(logits.dtype).min
    logits = jnp.where(mask, logits, lowest)
    weights = jnp.where(mask, jnp.exp(logits - logits.max(-1, keepdims=True)), jnp.zeros((), logits.dtype))
    total = weights.sum(-1, keepdims=True)
    return weights / jnp.where(total > 0, total, jnp.ones((), total.dtype))
