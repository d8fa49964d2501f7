r"""A language model as GPT-2 and nanoGPT write it: a causal Transformer, pre-norm, with learned positions.

    $$ x_t = E_{w_t} + P_t, \qquad x \leftarrow x + \mathrm{Attention}(\mathrm{LN}(x)), \qquad
       x \leftarrow x + \mathrm{GELU}(\mathrm{LN}(x) W_1) W_2, \qquad
       P(w_{t+1} \mid w_{\le t}) = \mathrm{softmax}(\mathrm{LN}(x_t) E^\top) $$

with L such layers, $4 W$ units in each feed-forward net, and the embedding as output weights. Weights begin normal with
a standard deviation of 0.02, and of $0.02 / \sqrt{2 L}$ where they add to x (Radford et al. 2019, section 2.3).

Without biases, as nanoGPT trains it by default, it has $V W + C W + L (12 W^2 + 2 W) + W$ parameters for a context of C
positions; biases add $11 W$ a layer and $W$.

Sources: Radford et al., *Language models are unsupervised multitask learners* (2019); Karpathy, nanoGPT (2022),
`model.py`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax

from mllab import checks
from mllab.errors import UserError
from mllab.models import initializers
from mllab.models.base import Model
from mllab.models.ops import attention as attentions
from mllab.models.recurrent.language import check_tokens, lookup
from mllab.models.transformer import blocks
from mllab.types import Array, Inputs, Key

DEVIATION = 0.02  # of the initial weights


@struct.dataclass
class Layer:
    """Params of a layer of W features and N heads of D."""

    attention_norm: blocks.Norm
    attention: blocks.Attention
    feed_forward_norm: blocks.Norm
    feed_forward: blocks.FeedForward  # of 4 W units


@struct.dataclass
class GPT:
    """Params of a language model."""

    embedding: Array  # [V, W]
    positions: Array  # [C, W]
    layers: tuple[Layer, ...]
    norm: blocks.Norm


class Cache(NamedTuple):
    """What a model has read so far: the `extra` to sample from."""

    tokens: Array  # int32 [B, C], the last ones
    filled: Array  # [] tokens read, up to C
    keys: tuple[Array, ...]  # of each layer, [B, N, C, D]; those of the first `filled` positions count
    values: tuple[Array, ...]


def language(
    vocabulary: int,
    *,
    width: int = 128,
    layers: int = 4,
    heads: int = 4,
    context: int = 64,
    dropout: float = 0.0,
    bias: bool = False,
    batch_size: int | None = None,
) -> Model:
    """Return the model of tokens int [B, T] with logits [B, T, V] of the token after each.

    Inputs are those of `recurrent.language.model`: tokens, or a mapping with reset (a token where a new text begins
    attends to none before it, and positions count from there), and mask or lengths (padding is not attended to).

    Without a cache in `extra` (None) each call reads windows of up to C tokens that know nothing of those before. With
    a cache, `initial_cache(params, batch)`, calls continue one another. Where the tokens read would pass the context,
    the last C of them are read anew, as nanoGPT does when it samples: positions are learned, so those of tokens already
    read cannot be moved. A token costs as much as a window from there on.

    Args:
        vocabulary: V.
        width: W, features of a position.
        layers: L.
        heads: N; a divisor of the width.
        context: C, the most tokens of a window.
        dropout: rate at the embeddings, at the attention weights and at what each sub-layer adds, with a key.
        bias: whether projections and normalisations have biases.
        batch_size: None, as of a model that carries no state from window to window; or B, to begin with a cache.

    Raises:
        UserError: an argument out of range; when applied, inputs of another shape than expected, more tokens than the
            context, or masks beside a cache.
    """
    blocks.check_sizes(width=width, layers=layers, heads=heads, dropout=dropout, context=context)
    checks.check_whole(1, vocabulary=vocabulary, **({} if batch_size is None else {"batch_size": batch_size}))

    def init(key: Key) -> tuple[GPT, Cache | None]:
        params = _init(key, vocabulary, width, layers, heads, context, bias)
        return params, None if batch_size is None else initial_cache(params, batch_size)

    def apply(params: GPT, extra: Cache | None, inputs: Inputs, key: Key | None) -> tuple[Array, Cache | None]:
        tokens, masks = check_tokens(inputs, vocabulary)
        if tokens.shape[1] > context:
            raise UserError(f"{tokens.shape[1]} tokens for a context of {context}: give windows of up to {context}")
        if extra is None:
            return _window(params, tokens, masks, key, dropout)[0], None
        if masks:
            raise UserError(f"{', '.join(masks)} beside a cache: give tokens alone")
        if extra.tokens.shape[0] != tokens.shape[0]:
            raise UserError(f"{tokens.shape[0]} rows of tokens for a cache of {extra.tokens.shape[0]}: give as many")
        fits = extra.filled + tokens.shape[1] <= context
        return lax.cond(fits, _continued, _anew, params, extra, tokens.astype(extra.tokens.dtype))

    return Model(init, apply)


def initial_cache(params: GPT, batch: int) -> Cache:
    """Return the cache before a text, for `batch` texts at once."""
    context = params.positions.shape[0]
    _, _, heads, features = params.layers[0].attention.w_in.shape
    empty = tuple(jnp.zeros((batch, heads, context, features), params.embedding.dtype) for _ in params.layers)
    return Cache(jnp.zeros((batch, context), jnp.int32), jnp.zeros((), jnp.int32), empty, empty)


def _init(key: Key, vocabulary: int, width: int, layers: int, heads: int, context: int, bias: bool) -> GPT:
    size, residual = width // heads, DEVIATION / (2 * layers) ** 0.5
    shapes = [(width, 3, heads, size), (heads, size, width), (width, 4 * width), (4 * width, width)]
    table_key, layer_key = jax.random.split(key)

    def zeros(*shape: int) -> Array | None:
        return jnp.zeros(shape) if bias else None

    def layer(key: Key) -> Layer:
        w_in, w_out, w_1, w_2 = initializers.normal(key, shapes, [DEVIATION, residual] * 2)
        return Layer(
            attention_norm=blocks.init_norm(width, bias),
            attention=blocks.Attention(w_in, zeros(3, heads, size), None, None, w_out, zeros(width)),
            feed_forward_norm=blocks.init_norm(width, bias),
            feed_forward=blocks.FeedForward(w_1, zeros(4 * width), w_2, zeros(width)),
        )

    embedding, positions = initializers.normal(table_key, [(vocabulary, width), (context, width)], [DEVIATION] * 2)
    return GPT(embedding, positions, blocks.init_layers(layer_key, layers, layer), blocks.init_norm(width, bias))


# ── Reading ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _window(
    params: GPT, tokens: Array, masks: dict[str, Array], key: Key | None, dropout: Any
) -> tuple[Array, list[tuple[Array, Array]]]:
    """Return logits [B, T, V] of windows, and keys and values of each layer, [B, N, T, D] each."""
    dropped = blocks.Dropout(key, dropout)
    positions, mask = _attended(tokens.shape[1], masks)
    x = dropped(lookup(params.embedding, tokens) + params.positions[positions])
    pairs = []
    for layer in params.layers:
        q, k, v = blocks.queries(layer.attention, blocks.normed(layer.attention_norm, x))
        heads, _ = attentions.scaled_dot_product(q, k, v, mask, dropped=dropped)
        x = x + dropped(blocks.joined(layer.attention, heads))
        x = x + dropped(_feed_forward(layer, x))
        pairs.append((k, v))
    return _logits(params, x), pairs


def _attended(length: int, masks: dict[str, Array]) -> tuple[Array, Array]:
    """Return positions [B or 1, T] and where each token may look, [B or 1, T, T]."""
    mask = attentions.causal_mask(length, length)[None]
    places = jnp.arange(length)[None]
    if not masks:
        return places, mask
    is_token = masks["mask"].astype(bool) if "mask" in masks else jnp.ones((1, length), bool)
    if "lengths" in masks:
        is_token = places < masks["lengths"][:, None]
    before = jnp.cumsum(is_token, axis=1) - is_token
    begins = masks["reset"].astype(bool) if "reset" in masks else places == 0
    first = lax.cummax(jnp.where(begins, before, 0), axis=1)
    text = jnp.cumsum(begins, axis=1)
    mask = mask & is_token[:, None] & (text[:, None] == text[..., None])
    return before - first, mask


def _continued(params: GPT, cache: Cache, tokens: Array) -> tuple[Array, Cache]:
    """Return the logits of tokens [B, T] after those in a cache, all of them within the context."""
    length, count = tokens.shape[1], cache.filled
    context = cache.tokens.shape[1]
    x = lookup(params.embedding, tokens) + lax.dynamic_slice_in_dim(params.positions, count, length)[None]
    mask = attentions.causal_mask(length, context, count)
    pairs = []
    for layer, *so_far in zip(params.layers, cache.keys, cache.values, strict=True):
        q, k, v = blocks.queries(layer.attention, blocks.normed(layer.attention_norm, x))
        k, v = (
            lax.dynamic_update_slice_in_dim(old, new.astype(old.dtype), count, axis=2)
            for old, new in zip(so_far, (k, v), strict=True)
        )
        heads, _ = attentions.scaled_dot_product(q, k, v, mask)
        x = x + blocks.joined(layer.attention, heads)
        x = x + _feed_forward(layer, x)
        pairs.append((k, v))
    keys, values = (tuple(pair[part] for pair in pairs) for part in range(2))
    tokens_so_far = lax.dynamic_update_slice_in_dim(cache.tokens, tokens, count, axis=1)
    return _logits(params, x), Cache(tokens_so_far, count + length, keys, values)


def _anew(params: GPT, cache: Cache, tokens: Array) -> tuple[Array, Cache]:
    """Return the logits of tokens [B, T] where the last C tokens are read as one window, and its cache."""
    length, context = tokens.shape[1], cache.tokens.shape[1]
    # Tokens [0, filled) of the cache, the new ones behind them, cut to the last C.
    extended = jnp.pad(cache.tokens, ((0, 0), (0, length)))
    extended = lax.dynamic_update_slice_in_dim(extended, tokens, cache.filled, axis=1)
    window = lax.dynamic_slice_in_dim(extended, cache.filled + length - context, context, axis=1)
    logits, pairs = _window(params, window, {}, None, 0.0)
    dtype = cache.keys[0].dtype
    keys, values = (tuple(pair[part].astype(dtype) for pair in pairs) for part in range(2))
    return logits[:, context - length :], Cache(window, jnp.full_like(cache.filled, context), keys, values)


def _feed_forward(layer: Layer, x: Array) -> Array:
    return blocks.feed_forward(layer.feed_forward, blocks.normed(layer.feed_forward_norm, x), blocks.gelu)


def _logits(params: GPT, x: Array) -> Array:
    return blocks.dense(blocks.normed(params.norm, x), params.embedding.T, None)
