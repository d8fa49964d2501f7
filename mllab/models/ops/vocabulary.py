r"""Log-probabilities of words under a softmax over a vocabulary whose logits never sit in memory whole.

With $z = s W + b$ for a state $s$ and a target word $y$,

    $$ \log P(y) = z_y - \log \sum_v e^{z_v}, \qquad
       \frac1V \sum_v \log P(v) = \frac1V \sum_v z_v - \log \sum_v e^{z_v}, $$

whose gradients by $z$ are $1_y - P$ and $1/V - P$. So for gradients $g$ and $m$ of a loss by the two,

    $$ \partial L / \partial s = g W_y + m \bar W - (g + m) \, P W^\top, \qquad
       \partial L / \partial W = g s^\top 1_y + m \, s^\top 1/V - (g + m) s^\top P. $$

$P W^\top$ needs neither $g$ nor $m$, and where $g + m$ is the same for all words, as in the mean over the words of a
batch, neither does $\sum s^\top P$ but for that factor. So the forward pass of a gradient computes both from the logits
at hand, and the backward pass needs no logits: three products of [N, V] in all. Where $g + m$ differs, as with weights
of sentences, the backward pass computes the logits again.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax

from mllab.errors import UserError
from mllab.types import Array

BLOCK = 256  # rows whose logits are in memory at once; of 64 to 640 the fastest for 8,000 words


def token_scores(
    states: Array, w: Array, b: Array, targets: Array, mask: Array | None = None, *, block: int = BLOCK
) -> tuple[Array, Array]:
    """Return the log-probability of each target and its mean over the vocabulary, in nats, [N] each; 0 where masked.

    Under `vmap` over lanes of weights both ways of the backward pass are computed, which takes twice the time.

    Args:
        states: [N, H]; or [T, N, H], of which blocks are whole rows of the first axis, so that N may be split over
            devices.
        w: [H, V]. It is computed with as `w.T`, so the transpose of [V, H] costs nothing.
        b: [V].
        targets: int [N], or [T, N].
        mask: of the shape of targets, False at padding; None counts all.
        block: rows whose logits are in memory at once.

    Raises:
        UserError: shapes that do not match, or a block below 1.
    """
    mask = jnp.ones(targets.shape, bool) if mask is None else mask
    if states.ndim < 2 or states.shape[:-1] != targets.shape or mask.shape != targets.shape:
        shapes = f"{list(states.shape)}, {list(targets.shape)} and {list(mask.shape)}"
        raise UserError(f"states, targets and mask of shapes {shapes}: expected [N, H], [N] and [N]")
    if w.shape != (states.shape[-1], *b.shape):
        raise UserError(f"w: shape {list(w.shape)}, expected {[states.shape[-1], *b.shape]}, [H, V]")
    if isinstance(block, bool) or not isinstance(block, int) or block < 1:
        raise UserError(f"block = {block!r}: give a whole number of rows, 1 or more")
    steps, rest = targets.shape[0], math.prod(targets.shape[1:])
    count = -(-steps // max(1, block // rest))
    size = -(-steps // count)  # equal blocks, with as little padding as there can be

    def parts(a: Array) -> Array:
        """Return an array in blocks, [count, size, ...]."""
        padded = jnp.pad(a, [(0, count * size - steps)] + [(0, 0)] * (a.ndim - 1))
        return padded.reshape(count, size, *a.shape[1:])

    scores = _scores(parts(states), w.T, b, parts(targets), parts(mask))
    return tuple(a.reshape(count * size, *a.shape[2:])[:steps] for a in scores)  # type: ignore[return-value]


@jax.custom_vjp
def _scores(states, rows, b, targets, mask):
    """Return (log-probabilities, means) of blocks: states [K, M, ..., H], rows [V, H], targets and mask [K, M, ...]."""

    def one(each):
        states, targets, mask = each
        z = _logits(states, rows, b)
        return _at(z, targets, mask), jnp.where(mask, jax.nn.logsumexp(z, axis=-1), jnp.zeros((), z.dtype))

    z_target, log_total = lax.map(one, (states, targets, mask))
    return _results(states, rows, b, mask, z_target, log_total)


def _forward(states, rows, b, targets, mask):
    def one(sums, each):
        states, targets, mask = each
        z = _logits(states, rows, b)
        highest = z.max(-1, keepdims=True)
        e = jnp.exp(z - highest)
        total = e.sum(-1, keepdims=True)
        log_total = jnp.where(mask, (highest + jnp.log(total))[..., 0], jnp.zeros((), z.dtype))
        share = jnp.where(mask[..., None], 1 / total, jnp.zeros((), z.dtype))  # P = e / total, 0 at padding
        low = e.astype(states.dtype)
        p_w = _product(low, rows, 0) * share
        d_rows, d_b = sums
        d_rows = d_rows + _summed((states * share).astype(states.dtype), low)
        d_b = d_b + _summed(share, e)[0]
        return (d_rows, d_b), (_at(z, targets, mask), log_total, p_w.astype(states.dtype))

    wide = _wide(states)
    sums = jnp.zeros(rows.shape[::-1], wide), jnp.zeros(b.shape, wide)
    sums, (z_target, log_total, p_w) = lax.scan(one, sums, (states, targets, mask))
    results = _results(states, rows, b, mask, z_target, log_total)
    return results, (states, rows, b, targets, mask, log_total, p_w, sums)


def _backward(residuals, gradients):
    states, rows, b, targets, mask, log_total, p_w, sums = residuals
    g, m = (jnp.where(mask, a, jnp.zeros((), a.dtype)) for a in gradients)
    both = g + m
    least, most = jnp.where(mask, both, jnp.inf).min(), jnp.where(mask, both, -jnp.inf).max()
    d_rows, d_b = lax.cond(
        (least == most) | ~mask.any(),
        lambda: jax.tree.map(lambda a: jnp.where(mask.any(), most, jnp.zeros((), most.dtype)) * a, sums),
        lambda: _weighted_sums(states, rows, b, log_total, both),
    )
    d_states = (
        g[..., None] * jnp.take(rows, targets, axis=0, mode="clip")
        + m[..., None] * rows.mean(0).reshape((1,) * g.ndim + (-1,))
        - both[..., None] * p_w
    )
    flat_targets, flat_states = targets.ravel(), states.reshape(-1, states.shape[-1])
    d_rows = (flat_states.T @ m.ravel() / rows.shape[0])[None] - d_rows.T
    d_rows = d_rows.at[flat_targets].add(g.reshape(-1, 1) * flat_states, mode="drop")
    d_b = (m.sum() / rows.shape[0] - d_b).at[flat_targets].add(g.ravel(), mode="drop")
    return d_states.astype(states.dtype), d_rows.astype(rows.dtype), d_b.astype(b.dtype), None, None


_scores.defvjp(_forward, _backward)


def _weighted_sums(states, rows, b, log_total, weights):
    """Return the sums over all rows of weights · states P^T [H, V], and of weights · P [V]; logits computed again."""

    def one(sums, each):
        states, log_total, weights = each
        p = jnp.exp(_logits(states, rows, b) - log_total[..., None]) * weights[..., None]
        p_sum = p.sum(tuple(range(p.ndim - 1)))
        return (sums[0] + _summed(states, p.astype(states.dtype)), sums[1] + p_sum), None

    wide = _wide(states)
    sums = jnp.zeros(rows.shape[::-1], wide), jnp.zeros(b.shape, wide)
    return lax.scan(one, sums, (states, log_total, weights))[0]


def _results(states, rows, b, mask, z_target, log_total):
    z_mean = _product(states, rows.mean(0), 0) + b.mean()
    return z_target - log_total, jnp.where(mask, z_mean, jnp.zeros((), z_mean.dtype)) - log_total


def _logits(states, rows, b):
    return _product(states, rows, 1) + b.reshape((1,) * (states.ndim - 1) + (-1,))


def _at(z, targets, mask):
    """Return the logit of each target, 0 at padding."""
    picked = jnp.take_along_axis(z, targets[..., None], axis=-1, mode="clip")[..., 0]
    return jnp.where(mask, picked, jnp.zeros((), z.dtype))


def _summed(a, b):
    """Return the sum over all leading axes of the outer products of a [..., M] and b [..., N], [M, N]."""
    leading = tuple(range(a.ndim - 1))
    return lax.dot_general(a, b, ((leading, leading), ((), ())), preferred_element_type=_wide(a))


def _product(a, b, axis):
    """Return a [..., H] times b, whose `axis` has the size H."""
    return lax.dot_general(a, b, (((a.ndim - 1,), (axis,)), ((), ())), preferred_element_type=_wide(a))


def _wide(a):
    """Return the dtype to sum in."""
    return jnp.promote_types(a.dtype, jnp.float32)
