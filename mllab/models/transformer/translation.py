r"""Translation by a Transformer (Vaswani et al. 2017, arXiv:1706.03762), in its pre-norm form (see `blocks`).

With embeddings E scaled by $\sqrt W$ and positional encodings PE (sections 3.4, 3.5):

    $$ x_j = \sqrt{W} E_{w_j} + PE_j, \qquad
       m = \mathrm{LN}(\mathrm{EncoderLayer}_L(\dots \mathrm{EncoderLayer}_1(x))) $$
    $$ y_i = \sqrt{W} E_{w_{i-1}} + PE_i, \qquad
       t = \mathrm{LN}(\mathrm{DecoderLayer}_L(\dots \mathrm{DecoderLayer}_1(y, m))), \qquad
       P(w_i \mid w_{<i}, \mathrm{source}) = \mathrm{softmax}(t_i W_o + b_o) $$

An encoder layer is self-attention and a feed-forward net (ReLU); a decoder layer is causal self-attention, attention to
m, and a feed-forward net. Padding of the source is never attended to; that of the target comes after all words that
count, and is not scored.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from mllab import checks
from mllab.errors import UserError
from mllab.models import initializers
from mllab.models.encoder_decoder import EncoderDecoder, TokenScores, check_pairs, check_sentences, words_before
from mllab.models.ops import attention as attentions
from mllab.models.ops import vocabulary
from mllab.models.recurrent.language import lookup
from mllab.models.transformer import blocks
from mllab.special_tokens import PADDING
from mllab.types import Array, Inputs, Key


@struct.dataclass
class EncoderLayer:
    """Params of a layer of the encoder."""

    attention_norm: blocks.Norm
    attention: blocks.Attention
    feed_forward_norm: blocks.Norm
    feed_forward: blocks.FeedForward


@struct.dataclass
class DecoderLayer:
    """Params of a layer of the decoder."""

    attention_norm: blocks.Norm
    attention: blocks.Attention  # causal, of the target
    source_norm: blocks.Norm
    source_attention: blocks.Attention
    feed_forward_norm: blocks.Norm
    feed_forward: blocks.FeedForward


@struct.dataclass
class Translator:
    """Params of a translator of L layers each side, W features and N heads of D."""

    source_embedding: Array | None  # [V_x, W]; None where it is the target's
    target_embedding: Array  # [V_y, W]
    encoder: tuple[EncoderLayer, ...]
    encoder_norm: blocks.Norm
    decoder: tuple[DecoderLayer, ...]
    decoder_norm: blocks.Norm
    w_out: Array | None  # [W, V_y]; None where it is the target embedding's transpose
    b_out: Array  # [V_y]


class Memory(NamedTuple):
    """What the decoder reads of a source: keys and values of each of its layers."""

    mask: Array  # [B, S], True at words
    keys: tuple[Array, ...]  # L of [B, N, S, D]
    values: tuple[Array, ...]  # L of [B, N, S, D]


class Cache(NamedTuple):
    """Keys and values of the words so far, of each layer of the decoder."""

    keys: tuple[Array, ...]  # L of [B, N, T, D]
    values: tuple[Array, ...]  # L of [B, N, T, D]


def translator(
    source_vocabulary: int,
    target_vocabulary: int,
    *,
    width: int = 256,
    layers: int = 3,
    heads: int = 4,
    feedforward: int = 1024,
    dropout: float = 0.1,
    tied: bool = True,
    joint: bool = False,
) -> EncoderDecoder:
    """Return the model; see the module for its equations, and `EncoderDecoder` for its functions.

    Args:
        source_vocabulary: V of the source.
        target_vocabulary: V of the target.
        width: W, features of a position.
        layers: L of the encoder and of the decoder.
        heads: N; a divisor of the width.
        feedforward: units of the feed-forward nets.
        dropout: rate at the embeddings, at what each sub-layer adds, and at the attention weights, with a key.
        tied: whether the output weights are the transpose of the target's embedding.
        joint: whether source and target share one vocabulary and one embedding.

    Raises:
        UserError: an argument out of range; when applied, sentences of another shape, or ids out of the vocabularies.
    """
    checks.check_whole(1, source_vocabulary=source_vocabulary, target_vocabulary=target_vocabulary)
    blocks.check_sizes(width=width, layers=layers, heads=heads, dropout=dropout, feedforward=feedforward)
    if joint and source_vocabulary != target_vocabulary:
        raise UserError(
            f"a joint embedding of {source_vocabulary} source words and {target_vocabulary} target words: give one "
            "vocabulary for both"
        )

    def init(key: Key) -> tuple[Translator, None]:
        sizes = (width, layers, heads, feedforward)
        return _init(key, source_vocabulary, target_vocabulary, sizes, tied, joint), None

    def apply(params: Translator, extra: None, inputs: Inputs, key: Key | None) -> tuple[TokenScores, None]:
        source, target = check_pairs(inputs, source_vocabulary, target_vocabulary)
        source_key, target_key = (None, None) if key is None else jax.random.split(key)
        memory = _encode(params, source, blocks.Dropout(source_key, dropout))
        states = _decode(params, memory, target, blocks.Dropout(target_key, dropout))
        flat = states.reshape(-1, width)
        scores = vocabulary.token_scores(flat, _w_out(params), params.b_out, target.ravel(), target.ravel() != PADDING)
        return TokenScores(*(each.reshape(target.shape) for each in scores)), extra

    def encode(params: Translator, source: Array) -> Memory:
        return _encode(params, check_sentences(source, source_vocabulary, "source"), blocks.Dropout(None, 0.0))

    def start(params: Translator, memory: Memory, length: int) -> Cache:
        def empty(keys: Array) -> Array:
            return jnp.zeros((*keys.shape[:2], length, keys.shape[3]), keys.dtype)

        return Cache(tuple(map(empty, memory.keys)), tuple(map(empty, memory.values)))

    return EncoderDecoder(init, apply, encode, start, _step)


def _init(key: Key, source: int, target: int, sizes: tuple[int, int, int, int], tied: bool, joint: bool) -> Translator:
    width, layers, heads, units = sizes
    shapes = {
        "in": (width, 3, heads, width // heads),
        "out": (heads, width // heads, width),
        "1": (width, units),
        "2": (units, width),
    }
    crossed = {"q": (width, 1, heads, width // heads), "kv": (width, 2, heads, width // heads), "o": shapes["out"]}
    square = initializers.glorot((width, width))
    deviations = {"1": initializers.glorot((width, units)), "2": initializers.glorot((units, width))}
    embedding_key, encoder_key, decoder_key = jax.random.split(key, 3)

    def draw(key: Key, shapes: dict[str, tuple[int, ...]]) -> dict[str, Array]:
        rules = [deviations.get(name, square) for name in shapes]
        return dict(zip(shapes, initializers.normal(key, list(shapes.values()), rules), strict=True))

    def parts(w: dict[str, Array]) -> dict[str, Any]:
        return {
            "attention_norm": blocks.init_norm(width),
            "attention": blocks.Attention(
                w["in"], jnp.zeros(w["in"].shape[1:]), None, None, w["out"], jnp.zeros(width)
            ),
            "feed_forward_norm": blocks.init_norm(width),
            "feed_forward": blocks.FeedForward(w["1"], jnp.zeros(units), w["2"], jnp.zeros(width)),
        }

    def encoder_layer(key: Key) -> EncoderLayer:
        return EncoderLayer(**parts(draw(key, shapes)))

    def decoder_layer(key: Key) -> DecoderLayer:
        w = draw(key, shapes | crossed)
        attention = blocks.Attention(
            w["q"], jnp.zeros(w["q"].shape[1:]), w["kv"], jnp.zeros(w["kv"].shape[1:]), w["o"], jnp.zeros(width)
        )
        return DecoderLayer(**parts(w), source_norm=blocks.init_norm(width), source_attention=attention)

    tables = {"target": (target, width)}
    tables |= {} if joint else {"source": (source, width)}
    tables |= {} if tied else {"out": (width, target)}
    draws = initializers.normal(embedding_key, list(tables.values()), [width**-0.5] * len(tables))
    embeddings = dict(zip(tables, draws, strict=True))
    return Translator(
        source_embedding=embeddings.get("source"),
        target_embedding=embeddings["target"],
        encoder=blocks.init_layers(encoder_key, layers, encoder_layer),
        encoder_norm=blocks.init_norm(width),
        decoder=blocks.init_layers(decoder_key, layers, decoder_layer),
        decoder_norm=blocks.init_norm(width),
        w_out=embeddings.get("out"),
        b_out=jnp.zeros(target),
    )


# ── The equations ───────────────────────────────────────────────────────────────────────────────────────────────────


def _embedded(table: Array, words: Array, positions: Array) -> Array:
    """Return embeddings and positional encodings [B, T, W] of words [B, T] at positions [T]."""
    width = table.shape[1]
    return lookup(table, words) * math.sqrt(width) + blocks.sinusoids(positions, width)[None].astype(table.dtype)


def _encode(params: Translator, source: Array, dropped: blocks.Dropout) -> Memory:
    """Return what the decoder reads of sources [B, S]."""
    mask = source != PADDING
    table = params.target_embedding if params.source_embedding is None else params.source_embedding
    x = dropped(_embedded(table, source, jnp.arange(source.shape[1])))
    for layer in params.encoder:
        q, k, v = blocks.queries(layer.attention, blocks.normed(layer.attention_norm, x))
        heads, _ = attentions.scaled_dot_product(q, k, v, mask[:, None], dropped=dropped)
        x = x + dropped(blocks.joined(layer.attention, heads))
        x = x + dropped(_feed_forward(layer, x))
    x = blocks.normed(params.encoder_norm, x)
    pairs = [blocks.memory(layer.source_attention, x) for layer in params.decoder]
    return Memory(mask, tuple(keys for keys, _ in pairs), tuple(values for _, values in pairs))


def _decode(params: Translator, memory: Memory, target: Array, dropped: blocks.Dropout) -> Array:
    """Return states [B, T, W] before the softmax, of all positions of targets [B, T] at once."""
    length = target.shape[1]
    y = dropped(_embedded(params.target_embedding, words_before(target), jnp.arange(length)))
    causal = attentions.causal_mask(length, length)
    for layer, keys, values in zip(params.decoder, memory.keys, memory.values, strict=True):
        q, k, v = blocks.queries(layer.attention, blocks.normed(layer.attention_norm, y))
        heads, _ = attentions.scaled_dot_product(q, k, v, causal, dropped=dropped)
        y = y + dropped(blocks.joined(layer.attention, heads))
        y = y + dropped(_read_source(layer, y, keys, values, memory.mask, dropped)[0])
        y = y + dropped(_feed_forward(layer, y))
    return blocks.normed(params.decoder_norm, y)


def _step(
    params: Translator, memory: Memory, cache: Cache, words: Array, position: Array
) -> tuple[Array, Cache, Array]:
    """Return logits [B, V] of the word at a position from the word before, and attention [B, S] of the last layer."""
    y = _embedded(params.target_embedding, words[:, None], jnp.reshape(position, 1))
    attention, keys_so_far, values_so_far = jnp.zeros_like(memory.mask, y.dtype), [], []
    for layer, keys, values, *so_far in zip(params.decoder, *memory[1:], *cache, strict=True):
        q, k, v = blocks.queries(layer.attention, blocks.normed(layer.attention_norm, y))
        k, v = (
            jax.lax.dynamic_update_slice_in_dim(old, new.astype(old.dtype), position, axis=2)
            for old, new in zip(so_far, (k, v), strict=True)
        )
        keys_so_far.append(k)
        values_so_far.append(v)
        heads, _ = attentions.scaled_dot_product(q, k, v, attentions.causal_mask(1, k.shape[2], position))
        y = y + blocks.joined(layer.attention, heads)
        read, weights = _read_source(layer, y, keys, values, memory.mask, blocks.Dropout(None, 0.0))
        attention = weights[:, :, 0].mean(axis=1)
        y = y + read
        y = y + _feed_forward(layer, y)
    logits = _logits(params, blocks.normed(params.decoder_norm, y[:, 0]))
    return logits, Cache(tuple(keys_so_far), tuple(values_so_far)), attention


def _read_source(
    layer: DecoderLayer, y: Array, keys: Array, values: Array, mask: Array, dropped: blocks.Dropout
) -> tuple[Array, Array]:
    """Return what targets [B, T, W] read of the source, [B, T, W], and the weights [B, N, T, S]."""
    (q,) = blocks.queries(layer.source_attention, blocks.normed(layer.source_norm, y))
    heads, weights = attentions.scaled_dot_product(q, keys, values, mask[:, None], dropped=dropped)
    return blocks.joined(layer.source_attention, heads), weights


def _feed_forward(layer: EncoderLayer | DecoderLayer, x: Array) -> Array:
    return blocks.feed_forward(layer.feed_forward, blocks.normed(layer.feed_forward_norm, x), jax.nn.relu)


def _logits(params: Translator, states: Array) -> Array:
    """Return logits [B, V] of states [B, W]."""
    return blocks.dense(states, _w_out(params), params.b_out)


def _w_out(params: Translator) -> Array:
    """Return W_o, [W, V]."""
    return params.target_embedding.T if params.w_out is None else params.w_out
