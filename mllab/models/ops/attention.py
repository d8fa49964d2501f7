"""Attention: weights over the positions of a memory, and the mean of the memory under them."""

from collections.abc import Callable

import jax
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


@jax.custom_vjp
def masked_softmax(logits: Array, mask: Array) -> Array:
    """Return the softmax over the last axis of the entries where `mask` is true, and 0 elsewhere.

    Where no entry counts all are 0, and so are their gradients.
    """
    lowest = jnp.finfo(logits.dtype).min
    logits = jnp.where(mask, logits, lowest)
    weights = jnp.where(mask, jnp.exp(logits - logits.max(-1, keepdims=True)), jnp.zeros((), logits.dtype))
    total = weights.sum(-1, keepdims=True)
    return weights / jnp.where(total > 0, total, jnp.ones((), total.dtype))


def _softmax_forward(logits: Array, mask: Array) -> tuple[Array, Array]:
    weights = masked_softmax(logits, mask)
    return weights, weights


def _softmax_backward(weights: Array, gradient: Array) -> tuple[Array, None]:
    # Weights alone are kept: where they are 0, so is the gradient.
    return weights * (gradient - (gradient * weights).sum(-1, keepdims=True)), None


masked_softmax.defvjp(_softmax_forward, _softmax_backward)


def scaled_dot_product(
    query: Array,
    keys: Array,
    values: Array,
    mask: Array | None = None,
    *,
    dropped: Callable[[Array], Array] | None = None,
) -> tuple[Array, Array]:
    r"""Return what each head reads of the values, [..., N, T, D], and its weights [..., N, T, S].

    $$ \mathrm{Attention}(Q, K, V) = \mathrm{softmax}\big(Q K^\top / \sqrt{D}\big) V $$

    for each of N heads of D features (Vaswani et al. 2017, arXiv:1706.03762, equation 1 and section 3.2.2).

    Args:
        query: [..., N, T, D]. Heads come first: with positions first, products of small matrices are slow on CPU.
        keys: [..., N, S, D].
        values: [..., N, S, D].
        mask: [..., T, S] or [..., 1, S], False where a query must not look: `causal_mask`, padding, or both. A query
            that may look nowhere reads zeros. None lets all look everywhere.
        dropped: dropout of the weights; those that are returned are without it.
    """
    logits = jnp.einsum("...td,...sd->...ts", query * query.shape[-1] ** -0.5, keys)
    if mask is None:
        weights = jax.nn.softmax(logits)
    else:
        mask = mask[..., None, :, :]  # alike for all heads
        weights = masked_softmax(logits, mask.reshape((1,) * (logits.ndim - mask.ndim) + mask.shape))
    read = weights if dropped is None else dropped(weights)
    return jnp.einsum("...ts,...sd->...td", read, values), weights


def causal_mask(queries: int, keys: int, first: int | Array = 0) -> Array:
    """Return where queries at positions first, first + 1, ... may look among keys at 0, 1, ...: not ahead, [T, S]."""
    return jnp.arange(keys)[None, :] <= first + jnp.arange(queries)[:, None]
