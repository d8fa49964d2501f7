r"""Beam search: the most probable token sequences of a model that predicts one token after another.

A beam holds the W most probable unfinished sequences of a sentence. Each step extends all of them by every token and
ranks the W² + W best extensions by $\log P$ (Sutskever et al. 2014, arXiv:1409.3215, section 3.2). Among the W best,
those that end with `END` are finished; the W best of the others are the next beam. Finished sequences are ranked by

    $$ \mathrm{score}(y) = \frac{\log P(y)}{|y|^{\alpha}} , \qquad |y| \text{ counts } \mathrm{END} $$

(Jean et al. 2015; $\alpha$ is the `penalty`). The search of a sentence ends with its W-th finished sequence, at
`length` tokens, or as soon as no unfinished sequence can still be among the `n_best`: $\log P$ only falls with further
tokens, so $\log P / \mathrm{length}^{\alpha}$ bounds what an unfinished one can reach. The bound does not change the
result.

One `lax.while_loop` over a batch of sentences. Only the model's cache is moved when beams are reordered: tokens and
attention are kept by step with the beam that each came from, and read backwards at the end.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mllab import checks
from mllab.errors import UserError
from mllab.models.ops import ranking
from mllab.special_tokens import BEGIN, END, PADDING
from mllab.types import Array, is_concrete

# (cache, tokens int [B * W], position int []) -> (log_probabilities [B * W, V], cache, attention [B * W, S])
Step = Callable[[Any, Array, Array], tuple[Array, Any, Array]]


class Hypotheses(NamedTuple):
    """The N best sequences of each sentence, best first: finished ones by score, then those cut at `length`, by score.

    Places without a sequence have length 0 and a score of minus infinity.
    """

    tokens: Array  # int32 [B, N, T]: tokens, END, PADDING; without END where `finished` is False
    scores: Array  # [B, N]
    lengths: Array  # int32 [B, N] of tokens, END included
    attention: Array  # [B, N, T, S]: weights that each token was predicted with; zeros at PADDING
    finished: Array  # bool [B, N]: whether END was reached before the sequence was cut


class _Beam(NamedTuple):
    """State of the loop over positions."""

    position: Array  # []
    cache: Any  # leaves [B * W, ...]
    totals: Array  # [B, W] log P of the unfinished sequences; minus infinity where there is none
    last: Array  # [B, W] the last token of each
    tokens: Array  # [T, B, W] that each step appended
    parents: Array  # [T, B, W] the slot of the beam before that each sequence continues
    attention: Array  # [T, B, W, S], by the slot of the beam before
    scores: Array  # [B, N] of the finished sequences, best first
    ends: Array  # [B, N] the position of END
    slots: Array  # [B, N] the slot of the beam before END
    ended: Array  # [B] finished sequences, also those no longer among the N best
    done: Array  # [B]


def repeat(tree: Any, width: int) -> Any:
    """Return a tree of arrays [B, ...] with each sentence `width` times in a row, [B * W, ...]: a beam's memory."""
    return jax.tree.map(lambda leaf: jnp.repeat(leaf, width, axis=0), tree)


def search(
    step: Step,
    cache: Any,
    *,
    batch: int,
    width: int,
    length: int,
    penalty: float | Array = 1.0,
    n_best: int = 1,
    early_stop: bool = True,
) -> Hypotheses:
    """Return the `n_best` hypotheses of each of B sentences.

    Call it within `jax.jit`, with the params that `step` uses as arguments of the jitted function.

    Args:
        step: predicts the token at `position` from the token before, which is BEGIN at position 0; the cache is the
            model's own memory of earlier tokens. PADDING and BEGIN are never chosen, whatever their probability.
        cache: a tree of arrays [B * W, ...], each sentence's W rows together; see `repeat`.
        batch: B.
        width: W, sequences of a sentence that are extended side by side; 1 is greedy search.
        length: T, most tokens of a sequence, END included.
        penalty: exponent of the length that a score is divided by, 0 or more; 0 compares log-probabilities.
        n_best: N, sequences to return, up to W.
        early_stop: whether to stop where the bound shows that the result is known.

    Raises:
        UserError: an argument out of range, or a cache of another leading size than B * W.
    """
    checks.check_whole(1, batch=batch, width=width, length=length, n_best=n_best)
    if n_best > width:
        raise UserError(f"n_best = {n_best} of a beam of width {width}: expected 1 to {width}")
    if is_concrete(penalty) and not 0 <= float(penalty) < float("inf"):
        raise UserError(f"penalty = {penalty}: expected a finite exponent of 0 or more")
    for leaf in jax.tree.leaves(cache):
        if leaf.ndim == 0 or leaf.shape[0] != batch * width:
            raise UserError(f"cache: a leaf of shape {list(leaf.shape)}, expected {batch * width} rows (batch × width)")
    penalty = jnp.asarray(penalty, jnp.result_type(float))
    begin = jnp.full((batch, width), BEGIN, jnp.int32)
    position = jnp.zeros((), jnp.int32)
    _, _, attention = jax.eval_shape(step, cache, begin.reshape(-1), position)
    beam = _Beam(
        position=position,
        cache=cache,
        totals=jnp.where(jnp.arange(width) == 0, 0.0, -jnp.inf)[None] + jnp.zeros((batch, 1)),
        last=begin,
        tokens=jnp.full((length, batch, width), PADDING, jnp.int32),
        parents=jnp.zeros((length, batch, width), jnp.int32),
        attention=jnp.zeros((length, batch, width, attention.shape[-1]), attention.dtype),
        scores=jnp.full((batch, n_best), -jnp.inf),
        ends=jnp.zeros((batch, n_best), jnp.int32),
        slots=jnp.zeros((batch, n_best), jnp.int32),
        ended=jnp.zeros(batch, jnp.int32),
        done=jnp.zeros(batch, bool),
    )

    def is_open(beam: _Beam) -> Array:
        return (beam.position < length) & ~beam.done.all()

    def advance(beam: _Beam) -> _Beam:
        logs, cache, attention = step(beam.cache, beam.last.reshape(-1), beam.position)
        logs = logs.astype(beam.totals.dtype)
        # Candidates: END and the W best words of each sequence, [B, W + W * W]; of equal ones END comes first.
        is_word = jnp.arange(logs.shape[1]) > max(PADDING, BEGIN, END)
        values, words = ranking.greatest(jnp.where(is_word[None], logs, -jnp.inf), width)
        endings = beam.totals + logs[:, END].reshape(batch, width)
        extended = (beam.totals[..., None] + values.reshape(batch, width, width)).reshape(batch, -1)
        totals, chosen = jax.lax.top_k(jnp.concatenate([endings, extended], axis=1), width)
        beam = _finish(beam, jnp.where(chosen < width, totals, -jnp.inf), chosen, penalty)

        totals, chosen = jax.lax.top_k(extended, width)
        parents = chosen // width
        rows = (parents + width * jnp.arange(batch)[:, None]).reshape(-1)
        tokens = jnp.take_along_axis(words.reshape(batch, -1), chosen, axis=1).astype(jnp.int32)
        bound = totals[:, 0] / jnp.asarray(length, totals.dtype) ** penalty
        is_settled = bound <= beam.scores[:, -1]
        done = beam.done | (beam.ended >= width) | (is_settled if early_stop else totals[:, 0] == -jnp.inf)
        return beam._replace(
            position=beam.position + 1,
            cache=jax.tree.map(lambda leaf: leaf.at[rows].get(mode="promise_in_bounds"), cache),
            totals=totals,
            last=tokens,
            tokens=beam.tokens.at[beam.position].set(tokens),
            parents=beam.parents.at[beam.position].set(parents),
            attention=beam.attention.at[beam.position].set(attention.reshape(batch, width, -1)),
            done=done,
        )

    return _read(jax.lax.while_loop(is_open, advance, beam), length, penalty)


def _finish(beam: _Beam, totals: Array, slots: Array, penalty: Array) -> _Beam:
    """Return the beam with sequences that end at its position: `totals` [B, W], descending, -inf where none ends."""
    number = beam.ended[:, None] + jnp.cumsum(totals > -jnp.inf, axis=1)  # how many have finished with each
    accepted = (totals > -jnp.inf) & (number <= totals.shape[1]) & ~beam.done[:, None]
    scores = totals / (beam.position + 1).astype(totals.dtype) ** penalty
    scores = jnp.concatenate([beam.scores, jnp.where(accepted, scores, -jnp.inf)], axis=1)
    kept, places = jax.lax.top_k(scores, beam.scores.shape[1])  # of equal ones those finished before come first
    ends = jnp.concatenate([beam.ends, jnp.broadcast_to(beam.position, slots.shape)], axis=1)
    slots = jnp.concatenate([beam.slots, slots], axis=1)
    return beam._replace(
        scores=kept,
        ends=jnp.take_along_axis(ends, places, axis=1),
        slots=jnp.take_along_axis(slots, places, axis=1),
        ended=beam.ended + accepted.sum(axis=1, dtype=jnp.int32),
    )


def _read(beam: _Beam, length: int, penalty: Array) -> Hypotheses:
    """Return the hypotheses of a search that has ended: finished ones, then those that were cut."""
    batch, n_best = beam.scores.shape
    finished = beam.scores > -jnp.inf
    rank = jnp.arange(n_best)[None] - finished.sum(axis=1, keepdims=True)  # among the sequences that were cut
    cut_totals = jnp.take_along_axis(beam.totals, jnp.maximum(rank, 0), axis=1)
    cut = ~finished & (cut_totals > -jnp.inf)
    scores = jnp.where(cut, cut_totals / jnp.asarray(length, cut_totals.dtype) ** penalty, beam.scores)
    ends = jnp.where(finished, beam.ends, jnp.where(cut, length, -1))  # a cut sequence would end after the last step
    row = jnp.arange(batch)[:, None]

    def back(slots: Array, step: tuple[Array, ...]) -> tuple[Array, tuple[Array, Array]]:
        position, tokens, parents, attention = step
        is_end, is_inside = position == ends, position < ends
        before = jnp.where(is_inside, parents[row, slots], slots)
        token = jnp.where(is_end, END, jnp.where(is_inside, tokens[row, slots], PADDING))
        return before, (token, jnp.where((is_end | is_inside)[..., None], attention[row, before], 0))

    slots = jnp.where(finished, beam.slots, jnp.maximum(rank, 0))
    steps = (jnp.arange(length), beam.tokens, beam.parents, beam.attention)
    _, (tokens, attention) = jax.lax.scan(back, slots, steps, reverse=True)
    lengths = jnp.where(finished, ends + 1, jnp.where(cut, length, 0))
    return Hypotheses(
        tokens.transpose(1, 2, 0), scores, lengths.astype(jnp.int32), attention.transpose(1, 2, 0, 3), finished
    )
