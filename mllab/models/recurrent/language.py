r"""Language models: an embedding, layers of a recurrent cell, and a softmax over the vocabulary.

    $$ x_t = E_{w_t}, \qquad h_t^{(l)} = \mathrm{cell}_l\big(h_{t-1}^{(l)}, h_t^{(l-1)}\big), \qquad
       P(w_{t+1} \mid w_{\le t}) = \mathrm{softmax}(h_t^{(L)} W_{hy} + b_y) $$

(Mikolov et al. 2010; the character-level form: Graves 2013; Karpathy 2015). Regularisation, each by an argument:

- dropout of the embeddings, between layers and before the output with one mask for all steps of a window (variational
  dropout: Gal & Ghahramani 2016, arXiv:1512.05287),
- dropout of the recurrent weights, one mask for all steps of a window (Merity et al. 2018, arXiv:1708.02182),
- layer normalisation of what each layer yields (Ba et al. 2016, arXiv:1607.06450),
- tied embeddings, $W_{hy} = E^\top$ (Press & Wolf 2017, arXiv:1608.05859; Inan et al. 2017).
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from mllab import checks
from mllab.errors import UserError, unknown
from mllab.models import initializers
from mllab.models.base import Model
from mllab.models.ops import normalisation
from mllab.models.ops.dropout import dropout as drop
from mllab.models.ops.dropout import is_zero
from mllab.models.recurrent.cells import CELLS, Carry, cell_of
from mllab.models.recurrent.masks import check_masks
from mllab.models.recurrent.sequences import init_layers, stack, unroll
from mllab.types import Array, Inputs, Key, Params

ONE_HOT_VOCABULARY = 1024  # up to here an embedding's gradient is a product with one-hot rows, which beats a scatter


@struct.dataclass
class LanguageModel:
    """Params of a language model of L layers."""

    embedding: Array  # [V, E]
    layers: tuple[Params, ...]  # of the cells, L of them; the first one reads E features, the others H
    scale: Array | None  # [L, H] of the layer normalisations
    shift: Array | None  # [L, H]
    w_out: Array | None  # [H, V]; None where it is the embedding's transpose
    b_out: Array  # [V]


def model(
    vocabulary: int,
    *,
    hidden: int = 256,
    layers: int = 1,
    cell: str = "lstm",
    embedding: int | None = None,
    tied: bool = False,
    dropout: float = 0.0,
    recurrent_dropout: float = 0.0,
    layer_norm: bool = False,
    orthogonal: bool = True,
    forget_bias: float = 1.0,
    batch_size: int | None = None,
    form: str = "fast",
    segment: int | None = None,
) -> Model:
    """Return the model of tokens int [B, T] with logits [B, T, V] of the token after each.

    `extra` is the carry of each layer, [B, H] each. With a `batch_size` it flows from a call to the next, as `streams`
    needs; no gradient does (truncated backpropagation through time). Inputs may be a mapping instead of tokens alone:

        tokens   int [B, T]
        reset    [B, T], or [B] for the first step alone: where a new text begins and the carry is dropped
        mask     [B, T], 0 at padding; or
        lengths  [B]

    Args:
        vocabulary: V.
        hidden: H of every layer.
        layers: L.
        cell: a name in `CELLS`.
        embedding: E; as `hidden` by default.
        tied: whether the output weights are the embedding's transpose; E must be H.
        dropout: rate at the embeddings, between layers and before the output, with a key.
        recurrent_dropout: rate on the recurrent weights, with a key.
        layer_norm: whether to normalise what each layer yields.
        orthogonal: see `Cell.init`.
        forget_bias: see `Cell.init`.
        batch_size: B of the carry in `extra`; None begins every window with the initial carry, and `extra` is None.
        form: see `unroll`.
        segment: see `unroll`.

    Raises:
        UserError: an argument out of range, or an unknown cell; when applied, inputs of another shape than expected.
    """
    if cell not in CELLS:
        raise unknown("cell", str(cell), CELLS)
    chosen = CELLS[cell]
    width = hidden if embedding is None else embedding
    checks.check_whole(1, vocabulary=vocabulary, hidden=hidden, layers=layers, embedding=width)
    if batch_size is not None:
        checks.check_whole(1, batch_size=batch_size)
    checks.check_rate(dropout=dropout, recurrent_dropout=recurrent_dropout)
    if tied and width != hidden:
        raise UserError(f"tied embeddings of {width} features for {hidden} hidden units: make the two sizes equal")
    if recurrent_dropout and chosen.gates is None:
        raise UserError(f"recurrent_dropout = {recurrent_dropout}: {cell} has no recurrent weights, give 0")

    def init(key: Key) -> tuple[LanguageModel, Any]:
        embedding_key, out_key, *layer_keys = jax.random.split(key, 2 + layers)
        (table,) = initializers.normal(embedding_key, [(vocabulary, width)], [width**-0.5 if tied else 1.0])
        params = LanguageModel(
            embedding=table,
            layers=init_layers(chosen, layer_keys, width, hidden, orthogonal=orthogonal, forget_bias=forget_bias),
            scale=jnp.ones((layers, hidden)) if layer_norm else None,
            shift=jnp.zeros((layers, hidden)) if layer_norm else None,
            w_out=None
            if tied
            else initializers.normal(out_key, [(hidden, vocabulary)], [initializers.lecun((hidden, vocabulary))])[0],
            b_out=jnp.zeros(vocabulary),
        )
        return params, None if batch_size is None else initial_carry(params, batch_size)

    def apply(params: LanguageModel, extra: Any, inputs: Inputs, key: Key | None) -> tuple[Array, Any]:
        tokens, masks = check_tokens(inputs, vocabulary)
        if extra is not None:
            _check_batch(extra, tokens.shape[0])
        keys = None if key is None else jax.random.split(key, layers + 2)
        cells = params.layers
        if keys is not None and not is_zero(recurrent_dropout):
            weight_keys = jax.random.split(keys[-1], layers)
            cells = tuple(
                each.replace(w_h=drop(weight_keys[i], each.w_h, recurrent_dropout)) for i, each in enumerate(cells)
            )

        def dropped(number: int, states: Array) -> Array:
            """Return states [T, B, H] with features dropped for all steps of a sequence alike."""
            if keys is None or is_zero(dropout):
                return states
            return states * drop(keys[number], jnp.ones((1, *states.shape[1:]), states.dtype), dropout)

        def between(layer: int, states: Array) -> Array:
            return dropped(layer + 1, _normalised(params, layer, states))

        states = dropped(0, lookup(params.embedding, tokens.T))
        carry, states = stack(
            chosen,
            cells,
            extra,
            states,
            between=between,
            time_major=True,
            form=form,
            segment=segment,
            finite=False,
            **masks,
        )
        states = jnp.swapaxes(between(layers - 1, states), 0, 1)
        w_out = params.embedding.T if params.w_out is None else params.w_out
        return states @ w_out + params.b_out[None, None], None if extra is None else carry

    return Model(init, apply)


def initial_carry(params: LanguageModel, batch: int) -> tuple[Carry, ...]:
    """Return the carry of each layer before a text, for `batch` texts at once: the `extra` to sample from."""
    return tuple(cell_of(each).initial_carry(each, batch) for each in params.layers)


def hidden_states(params: LanguageModel, tokens: Array) -> Array:
    """Return what the cells of each layer yield, [L, B, T, H], where texts begin at the first of tokens [B, T]."""
    tokens, _ = check_tokens(tokens, params.embedding.shape[0])
    states, layers = lookup(params.embedding, tokens.T), []
    for layer, cell_params in enumerate(params.layers):
        _, states = unroll(cell_of(cell_params), cell_params, None, states, time_major=True, finite=False)
        layers.append(states)
        states = _normalised(params, layer, states)
    return jnp.stack(layers).swapaxes(1, 2)


def check_tokens(inputs: Inputs, vocabulary: int) -> tuple[Array, dict[str, Array]]:
    """Return tokens [B, T] of a language model's inputs, and their masks by name: reset [B, T], mask, lengths.

    Raises:
        UserError: other entries than these, tokens of another shape, or one that is not in 0..V-1; or see
            `masks.check_masks`.
    """
    masks: dict[str, Any] = {}
    if isinstance(inputs, Mapping):
        if "tokens" not in inputs or inputs.keys() - {"tokens", "reset", "mask", "lengths"}:
            raise UserError(f"inputs {sorted(inputs)}: give tokens, and where needed reset, mask or lengths")
        masks = {name: value for name, value in inputs.items() if name != "tokens"}
        inputs = inputs["tokens"]
    tokens = jnp.asarray(checks.as_numbers(inputs, "tokens"))
    if tokens.ndim != 2 or 0 in tokens.shape or not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise UserError(f"tokens: {tokens.dtype}{list(tokens.shape)}, expected whole numbers [B, T]")
    checks.check_labels(tokens.ravel(), tokens.size, vocabulary, "tokens")
    reset = masks.get("reset")
    if reset is not None and (begins := checks.as_numbers(reset, "reset")).ndim == 1:
        masks["reset"] = jnp.pad(jnp.asarray(begins)[:, None], ((0, 0), (0, tokens.shape[1] - 1)))
    return tokens, check_masks(*tokens.shape, **masks)


@jax.custom_vjp
def lookup(table: Array, tokens: Array) -> Array:
    """Return the rows [..., E] of a table [V, E] for tokens [...]."""
    return jnp.take(table, tokens, axis=0, mode="clip")


def _lookup_forward(table: Array, tokens: Array) -> tuple[Array, Any]:
    return lookup(table, tokens), (table, tokens)


def _lookup_backward(residuals: Any, gradient: Array) -> tuple[Array, None]:
    table, tokens = residuals
    flat = gradient.reshape(-1, gradient.shape[-1])
    if table.shape[0] <= ONE_HOT_VOCABULARY:
        return jax.nn.one_hot(tokens.ravel(), table.shape[0], dtype=flat.dtype).T @ flat, None
    return jnp.zeros_like(table).at[tokens.ravel()].add(flat), None


lookup.defvjp(_lookup_forward, _lookup_backward)


def _normalised(params: LanguageModel, layer: int, states: Array) -> Array:
    """Return the states [T, B, H] of a layer after its layer normalisation, if the model has such."""
    if params.scale is None or params.shift is None:
        return states
    return normalisation.layer_norm(states, params.scale[layer], params.shift[layer])


def _check_batch(extra: Any, batch: int) -> None:
    for leaf in jax.tree.leaves(extra):
        if leaf.shape[0] != batch:
            raise UserError(f"{batch} rows of tokens for a carry of {leaf.shape[0]}: use the same batch size for both")
