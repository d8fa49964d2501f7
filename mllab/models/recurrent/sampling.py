r"""Sampling from a language model: one scan, of which each step draws a token and feeds it back.

With temperature $\tau$ a token is drawn from $\mathrm{softmax}(z / \tau)$ of the logits $z$; $\tau = 0$ takes the
greatest logit (greedy). Before the draw, `top_k` keeps the k most probable tokens (Fan et al. 2018, arXiv:1805.04833),
and `top_p` the fewest tokens whose probabilities, at this temperature, add up to p or more (nucleus sampling: Holtzman
et al. 2020, arXiv:1904.09751).
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from mllab import checks
from mllab.errors import UserError
from mllab.models.base import Model
from mllab.types import Array, Key, Params, is_concrete


def sample(
    model: Model,
    params: Params,
    extra: Any,
    key: Key,
    prime: Array,
    *,
    length: int,
    temperature: float | Array = 1.0,
    top_k: int | None = None,
    top_p: float | Array | None = None,
) -> Array:
    """Return `length` tokens after each of B texts, int [B, length]; the same key draws the same tokens.

    Args:
        model: tokens [B, T] -> logits [B, T, V], with its carry in `extra`, such as `language.model`.
        params: of the model.
        extra: the carry before `prime`, of B texts: `language.initial_carry` where they begin there.
        key: of the draws.
        prime: tokens that come before, int [B, P], P of 1 or more.
        length: tokens to draw.
        temperature: 0 or more.
        top_k: keep the k most probable tokens, 1 or more; None keeps all.
        top_p: keep the most probable tokens up to this probability, above 0 and up to 1; None keeps all.

    Raises:
        UserError: an argument out of range.
    """
    checks.check_key(key)
    checks.check_whole(1, length=length, **({} if top_k is None else {"top_k": top_k}))
    if is_concrete(temperature) and not 0 <= float(temperature) < float("inf"):
        raise UserError(f"temperature = {temperature}: give a number of 0 or more")
    if top_p is not None and is_concrete(top_p) and not 0 < float(top_p) <= 1:
        raise UserError(f"top_p = {top_p}: give a probability above 0 and up to 1")
    prime = jnp.asarray(checks.as_numbers(prime, "prime"))
    if prime.ndim != 2 or 0 in prime.shape:
        raise UserError(f"prime: shape {list(prime.shape)}, expected tokens [B, P], one or more of each text")
    logits, _ = jax.eval_shape(model.apply, params, extra, prime, None)
    checks.check_labels(prime.ravel(), prime.size, logits.shape[-1], "prime")
    return _sample(model, length, top_k, params, extra, key, prime, jnp.asarray(temperature, jnp.float32), top_p)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _sample(model, length, top_k, params, extra, key, prime, temperature, top_p):
    logits, extra = model.apply(params, extra, prime, None)

    def step(state, key):
        extra, logits = state
        tokens = draw(key, logits, temperature, top_k, top_p).astype(prime.dtype)
        logits, extra = model.apply(params, extra, tokens[:, None], None)
        return (extra, logits[:, -1]), tokens

    _, tokens = jax.lax.scan(step, (extra, logits[:, -1]), jax.random.split(key, length))
    return tokens.T


def draw(
    key: Key, logits: Array, temperature: Array, top_k: int | None = None, top_p: float | Array | None = None
) -> Array:
    """Return one token for each row of logits [B, V]; see `sample`."""
    scaled = logits / jnp.maximum(temperature, jnp.finfo(logits.dtype).tiny)
    scaled = jnp.where(temperature > 0, scaled, logits)  # greedy: nothing overflows
    drawn = jax.random.categorical(key, filtered(scaled, top_k, top_p))
    return jnp.where(temperature > 0, drawn, jnp.argmax(logits, axis=-1))


def filtered(logits: Array, top_k: int | None = None, top_p: float | Array | None = None) -> Array:
    """Return logits [B, V] with minus infinity at the tokens that `top_k` and `top_p` leave out."""
    if top_k is not None and top_k < logits.shape[-1]:
        # By rank, not by value: of equal logits just k are kept.
        logits = jnp.where(_rank(logits) < top_k, logits, -jnp.inf)
    if top_p is not None:
        descending = jnp.argsort(-logits, axis=-1)
        probabilities = jax.nn.softmax(jnp.take_along_axis(logits, descending, axis=-1), axis=-1)
        before = jnp.cumsum(probabilities, axis=-1) - probabilities  # of more probable tokens; 0 for the first
        kept = jnp.take_along_axis(before < top_p, jnp.argsort(descending, axis=-1), axis=-1)
        logits = jnp.where(kept, logits, -jnp.inf)
    return logits


def _rank(logits: Array) -> Array:
    """Return the place of each logit in descending order, [B, V]; of equal ones the first comes first."""
    return jnp.argsort(jnp.argsort(-logits, axis=-1), axis=-1)
