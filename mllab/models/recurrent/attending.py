r"""A GRU that attends to a memory in every step, along target sentences: the decoder of `seq2seq` in its fast form.

The letters are those of `seq2seq`. Two identities move work out of the scan into one product over all steps:

- $C c_i = \sum_j \alpha_{ij} \, C h_j$: the gates read the weighted mean of projected annotations $C h_j$;
- $W E y_{i-1}$ does not depend on the state.

The backward pass is written by hand. Its scan yields the gradients of the gates and of $W_a s_{i-1}$; those of the
weights are products over all steps. $\tanh(W_a s_{i-1} + U_a h_j)$, [T, B, S, A], is computed again instead of saved.
With $\tau_{ij}$ for it and $\epsilon_{ij} = \partial L / \partial e_{ij}$, which sums to 0 over $j$ as every gradient
through a softmax does,

    $$ \partial L / \partial \alpha_{ij} = (C h_j) \cdot \partial p_i + \dots, \qquad
       \epsilon_{ij} = \alpha_{ij} \big(\partial \alpha_{ij} - \textstyle\sum_k \alpha_{ik} \partial \alpha_{ik}\big) $$
    $$ \partial L / \partial (W_a s_{i-1}) = - v_a \odot \sum_j \epsilon_{ij} \tau_{ij}^2, \qquad
       \partial L / \partial (U_a h_j) = v_a \odot \sum_i \epsilon_{ij} (1 - \tau_{ij}^2), \qquad
       \partial L / \partial v_a = \sum_{ij} \epsilon_{ij} \tau_{ij}. $$
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax

from mllab.models.ops import attention
from mllab.types import Array


@struct.dataclass
class Weights:
    """Weights of the products of a state."""

    w_a: Array  # [H, A] W_a
    v_a: Array  # [A] v_a
    u_gates: Array  # [H, 2H] U_r, U_z
    u: Array  # [H, H] U


class Attended(NamedTuple):
    """What `unroll` returns."""

    before: Array  # [T, B, H] s_{i-1}
    alpha: Array  # [T, B, S]


class _Saved(NamedTuple):
    r: Array
    z: Array
    n: Array


@jax.custom_vjp
def unroll(weights: Weights, s_0: Array, inputs: Array, keys: Array, projected: Array, mask: Array) -> Attended:
    """Return the states and the attention along target sentences.

    Args:
        weights: of the products of a state.
        s_0: [B, H].
        inputs: W E y_{i-1} + b of the gates r, z and the candidate, [T, B, 3H].
        keys: U_a h_j, [B, S, A].
        projected: C h_j of the gates, [B, S, 3H].
        mask: [B, S], False at padding.
    """
    return _forward(weights, s_0, inputs, keys, projected, mask)[0]


def _forward(weights, s_0, inputs, keys, projected, mask):
    width = weights.w_a.shape[1]
    w_s = jnp.concatenate([weights.w_a, weights.u_gates], axis=1)

    def step(s, p):
        q, u_r, u_z = jnp.split(s @ w_s, (width, width + s.shape[1]), axis=-1)
        alpha = attention.additive(q, keys, weights.v_a, mask)
        p_r, p_z, p_n = jnp.split(p + jnp.einsum("bs,bsk->bk", alpha, projected), 3, axis=-1)
        r, z = jax.nn.sigmoid(p_r + u_r), jax.nn.sigmoid(p_z + u_z)
        n = jnp.tanh(p_n + (r * s) @ weights.u)
        return s + z * (n - s), (s, alpha, _Saved(r, z, n))

    _, (before, alpha, saved) = lax.scan(step, s_0, inputs)
    return Attended(before, alpha), (weights, before, alpha, saved, keys, projected)


def _backward(residuals, gradients):
    weights, before, alpha, saved, keys, projected = residuals
    width, hidden = weights.w_a.shape[1], before.shape[-1]
    w_s = jnp.concatenate([weights.w_a, weights.u_gates], axis=1)
    queries = _flat(before) @ weights.w_a

    def step(carry, each):
        d_s, d_keys, d_v = carry
        s, q, alpha, (r, z, n), d_before, d_alpha = each
        d_n = d_s * z * (1 - n * n)
        d_z = d_s * (n - s) * z * (1 - z)
        d_reset = d_n @ weights.u.T
        d_r = d_reset * s * r * (1 - r)
        d_p = jnp.concatenate([d_r, d_z, d_n], axis=-1)
        d_alpha = d_alpha + jnp.einsum("bsk,bk->bs", projected, d_p)
        d_e = alpha * (d_alpha - (alpha * d_alpha).sum(-1, keepdims=True))
        tau = jnp.tanh(q[:, None] + keys)
        d_keys = d_keys + d_e[..., None] * (1 - tau * tau)
        d_v = d_v + (d_e[..., None] * tau).sum(1)
        d_q = -weights.v_a[None] * (d_e[..., None] * tau * tau).sum(1)
        d_u = jnp.concatenate([d_q, d_r, d_z], axis=-1)
        d_s = d_before + d_s * (1 - z) + d_reset * r + d_u @ w_s.T
        return (d_s, d_keys, d_v), (d_p, d_q)

    start = (jnp.zeros_like(before[0]), jnp.zeros_like(keys), jnp.zeros_like(keys[:, 0]))
    queries = queries.reshape(*before.shape[:2], width)
    steps = (before, queries, alpha, saved, gradients.before, gradients.alpha)
    (d_s_0, d_keys, d_v), (d_p, d_q) = lax.scan(step, start, steps, reverse=True)
    d_u = _flat(before).T @ jnp.concatenate([_flat(d_q), _flat(d_p)[:, : 2 * hidden]], axis=1)
    d_weights = Weights(
        w_a=d_u[:, :width],
        v_a=d_v.sum(0),
        u_gates=d_u[:, width:],
        u=_flat(saved.r * before).T @ _flat(d_p)[:, 2 * hidden :],
    )
    d_projected = jnp.einsum("tbs,tbk->bsk", alpha, d_p)
    return d_weights, d_s_0, d_p, weights.v_a[None, None] * d_keys, d_projected, None


def _flat(a: Array) -> Array:
    """Return [T, B, ...] as a matrix of T B rows; see `Cell.project` for why."""
    return a.reshape(-1, a.shape[-1])


unroll.defvjp(_forward, _backward)
