"""The interface of models that read a source sentence and write a target sentence, word by word.

Sentences are ids int32 [B, S] and [B, T], `[w_1, ..., w_n, END, PADDING, ...]`. A model shifts the target itself: at
position 0 it reads BEGIN, at position t the target's word t - 1. Padding is known by its id; a row of padding alone
gives zeros.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp

from mllab import checks
from mllab.errors import UserError
from mllab.special_tokens import BEGIN
from mllab.types import Array, Inputs, Key, Params

Memory = Any  # a pytree of arrays [B, ...]
Cache = Any  # a pytree of arrays [B, ...]


class TokenScores(NamedTuple):
    """Log-probabilities of the words of a target, in nats; 0 at padding.

    The loss of a word with label smoothing epsilon is -(1 - epsilon) log_probability - epsilon mean_log_probability.
    """

    log_probability: Array  # [B, T] of each target word given the source and the words before it
    mean_log_probability: Array  # [B, T] mean over the vocabulary


class EncoderDecoder(NamedTuple):
    """A translation model as pure functions; `Model(init, apply)` is the one that is trained."""

    init: Callable[[Key], tuple[Params, Any]]  # key -> (params, None)
    # (params, extra, {"source": [B, S], "target": [B, T]}, key) -> (scores, extra); dropout with a key, none with None
    apply: Callable[[Params, Any, Inputs, Key | None], tuple[TokenScores, Any]]
    encode: Callable[[Params, Array], Memory]  # (params, source [B, S]) -> all that depends on the source alone
    start: Callable[[Params, Memory, int], Cache]  # (params, memory, most positions) -> the cache before position 0
    # (params, memory, cache, words [B] before this position, position []) -> (logits [B, V], cache, attention [B, S]);
    # the attention of a word sums to 1 over the source, or is 0 where a model has none
    step: Callable[[Params, Memory, Cache, Array, Array], tuple[Array, Cache, Array]]


def check_sentences(words: Any, vocabulary: int, name: str) -> Array:
    """Return the ids of sentences [B, T] as an array.

    Raises:
        UserError: another shape, no whole numbers, or the first id that is not in 0..V-1.
    """
    words = checks.as_numbers(words, name)
    if words.ndim != 2 or 0 in words.shape or not jnp.issubdtype(words.dtype, jnp.integer):
        raise UserError(f"{name}: {words.dtype}{list(words.shape)}, expected ids of words, whole numbers [B, T]")
    return checks.check_labels(words.ravel(), words.size, vocabulary, name).reshape(words.shape)


def check_pairs(inputs: Inputs, source_vocabulary: int, target_vocabulary: int) -> tuple[Array, Array]:
    """Return source [B, S] and target [B, T] of a model's inputs.

    Raises:
        UserError: a missing or unknown entry, other shapes, or ids that are not in the vocabularies.
    """
    if not isinstance(inputs, Mapping) or inputs.keys() != {"source", "target"}:
        names = sorted(inputs) if isinstance(inputs, Mapping) else type(inputs).__name__
        raise UserError(f'inputs {names}: give {{"source": ids [B, S], "target": ids [B, T]}}')
    source = check_sentences(inputs["source"], source_vocabulary, "source")
    target = check_sentences(inputs["target"], target_vocabulary, "target")
    if len(source) != len(target):
        raise UserError(f"{len(source)} source sentences and {len(target)} target sentences: give one for each")
    return source, target


def words_before(target: Array) -> Array:
    """Return what a model reads at each position of a target [B, T]: BEGIN, then the target without its last word."""
    return jnp.concatenate([jnp.full_like(target[:, :1], BEGIN), target[:, :-1]], axis=1)
