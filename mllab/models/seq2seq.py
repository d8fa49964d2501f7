r"""Translation by a GRU encoder and a GRU decoder that attends (Bahdanau, Cho & Bengio 2015, arXiv:1409.0473).

The equations are those of the paper's appendix A, in its letters. Arrays are row vectors, so that $W_a s$ is written
`s @ w_a`; gates stand side by side in the order r, z, candidate. As in the paper (A.1), biases are left out of the
equations and are there in the model: b of the cells of encoder and decoder, b_s, b_a inside the tanh of the alignment,
b_t and b_o.

**Encoder** (A.2.1), with one embedding E for both directions:

    $$ \overrightarrow h_j = (1 - z_j) \odot \overrightarrow h_{j-1} + z_j \odot \overrightarrow{\tilde h}_j, \qquad
       \tilde h_j = \tanh(W E x_j + U [r_j \odot h_{j-1}]), $$
    $$ z_j = \sigma(W_z E x_j + U_z h_{j-1}), \qquad r_j = \sigma(W_r E x_j + U_r h_{j-1}), \qquad
       h_j = [\overrightarrow h_j; \overleftarrow h_j] $$

**Decoder** (A.2.2), $s_0 = \tanh(W_s \overleftarrow h_1)$:

    $$ e_{ij} = v_a^\top \tanh(W_a s_{i-1} + U_a h_j), \qquad \alpha_{ij} = \mathrm{softmax}_j(e_{ij}), \qquad
       c_i = \textstyle\sum_j \alpha_{ij} h_j $$
    $$ z_i = \sigma(W_z E y_{i-1} + U_z s_{i-1} + C_z c_i), \qquad
       r_i = \sigma(W_r E y_{i-1} + U_r s_{i-1} + C_r c_i) $$
    $$ \tilde s_i = \tanh(W E y_{i-1} + U [r_i \odot s_{i-1}] + C c_i), \qquad
       s_i = (1 - z_i) \odot s_{i-1} + z_i \odot \tilde s_i $$

**Readout**, a deep output with one maxout layer:

    $$ \tilde t_i = U_o s_{i-1} + V_o E y_{i-1} + C_o c_i, \qquad
       t_i = [\max\{\tilde t_{i,2j-1}, \tilde t_{i,2j}\}]_{j=1,\dots,l}, \qquad
       P(y_i \mid s_i, y_{i-1}, c_i) \propto \exp(y_i^\top W_o t_i) $$

Without attention the model is the RNN Encoder-Decoder, RNNencdec: "if we fix $c_i$ to $\overrightarrow h_{T_x}$" (A.1),
the last state of the encoder's forward direction.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax

from mllab import checks
from mllab.errors import UserError, unknown
from mllab.models import initializers
from mllab.models.encoder_decoder import EncoderDecoder, TokenScores, check_pairs, check_sentences, words_before
from mllab.models.ops import attention as attentions
from mllab.models.ops import vocabulary
from mllab.models.ops.dropout import dropout as drop
from mllab.models.ops.dropout import is_zero
from mllab.models.recurrent import attending
from mllab.models.recurrent.cells import RESET_FIRST_GRU, ResetFirstGRU
from mllab.models.recurrent.language import lookup
from mllab.models.recurrent.sequences import bidirectional, unroll_projected
from mllab.special_tokens import PADDING
from mllab.types import Array, Inputs, Key

ATTENTIONS = ("additive", "none")
FORMS = ("fast", "plain")


@struct.dataclass
class Alignment:
    """Params of the alignment model $a(s_{i-1}, h_j)$."""

    w_a: Array  # [H, A] W_a
    u_a: Array  # [2H, A] U_a
    b_a: Array  # [A]
    v_a: Array  # [A] v_a


@struct.dataclass
class Decoder:
    """Params of the decoder's GRU; D is 2H with attention and H without."""

    w: Array  # [E, 3H] W_r, W_z, W
    u_gates: Array  # [H, 2H] U_r, U_z
    u: Array  # [H, H] U
    c: Array  # [D, 3H] C_r, C_z, C
    b: Array  # [3H]


@struct.dataclass
class Readout:
    """Params of the maxout layer and of the softmax; the two members of a pair are columns j and L + j."""

    u_o: Array  # [H, 2L] U_o
    v_o: Array  # [E, 2L] V_o
    c_o: Array  # [D, 2L] C_o
    b_t: Array  # [2L]
    w_o: Array | None  # [V, L] W_o; None where it is the target's embedding
    b_o: Array  # [V]


@struct.dataclass
class Seq2Seq:
    """Params of a translation model."""

    source_embedding: Array  # [V_x, E] E of the source
    target_embedding: Array  # [V_y, E] E of the target
    encoder: tuple[ResetFirstGRU, ResetFirstGRU]  # forwards and backwards, H each
    w_s: Array  # [H, H] W_s
    b_s: Array  # [H]
    alignment: Alignment | None  # None without attention
    decoder: Decoder
    readout: Readout


class Memory(NamedTuple):
    """What the decoder reads of a source."""

    s_0: Array  # [B, H]
    mask: Array  # [B, S], True at words
    h: Array  # [B, S, 2H] annotations; without attention the context [B, H]
    keys: Array | None  # [B, S, A] U_a h_j + b_a


def model(
    source_vocabulary: int,
    target_vocabulary: int,
    *,
    hidden: int = 256,
    embedding: int = 256,
    maxout: int | None = None,
    attention: str = "additive",
    dropout: float = 0.0,
    tied: bool = False,
    form: str = "fast",
    block: int = vocabulary.BLOCK,
) -> EncoderDecoder:
    """Return the model; see the module for its equations, and `EncoderDecoder` for its functions.

    Initially the recurrent matrices are orthogonal and biases 0, as in the paper. Other weights follow Glorot's or
    LeCun's rule where the paper draws from N(0, 0.01²). $v_a$ is drawn, too: of 0, as in the paper, W_a and U_a would
    have no gradient at first.

    Args:
        source_vocabulary: V of the source.
        target_vocabulary: V of the target.
        hidden: H (n in the paper), of each direction of the encoder, of the decoder and of the alignment model.
        embedding: E (m in the paper), features of a word.
        maxout: L (l in the paper), units of the maxout layer; as `embedding` by default.
        attention: "additive", or "none" for the RNN Encoder-Decoder.
        dropout: rate at the embeddings and at t, with a key.
        tied: whether W_o is the target's embedding; L must be E.
        form: "fast" or "plain": the same functions, the latter as the equations are written.
        block: words whose logits are in memory at once in the fast form; see `vocabulary.token_scores`.

    Raises:
        UserError: an argument out of range; when applied, sentences of another shape, or ids out of the vocabularies.
    """
    if attention not in ATTENTIONS:
        raise unknown("attention", str(attention), ATTENTIONS)
    if form not in FORMS:
        raise unknown("form", str(form), FORMS)
    units = embedding if maxout is None else maxout
    sizes = {"hidden": hidden, "embedding": embedding, "maxout": units}
    checks.check_whole(
        1, source_vocabulary=source_vocabulary, target_vocabulary=target_vocabulary, block=block, **sizes
    )
    checks.check_rate(dropout=dropout)
    if tied and units != embedding:
        raise UserError(f"tied embeddings of {embedding} features for {units} maxout units: make the two sizes equal")

    def init(key: Key) -> tuple[Seq2Seq, None]:
        return _init(key, source_vocabulary, target_vocabulary, hidden, embedding, units, attention, tied), None

    def apply(params: Seq2Seq, extra: None, inputs: Inputs, key: Key | None) -> tuple[TokenScores, None]:
        source, target = check_pairs(inputs, source_vocabulary, target_vocabulary)
        keys = (None,) * 3 if key is None or is_zero(dropout) else jax.random.split(key, 3)
        dropped = functools.partial(_dropped, rate=dropout)
        memory = _encode(params, source, lambda x: dropped(keys[0], x), form)
        y = dropped(keys[1], lookup(params.target_embedding, words_before(target).T))  # [T, B, E]
        t = dropped(keys[2], (_readouts if form == "fast" else _readouts_by_steps)(params, memory, y))
        mask = target != PADDING
        if form == "fast":
            w_o, b_o = _output(params)
            scores = vocabulary.token_scores(t, w_o.T, b_o, target.T, mask.T, block=block)
        else:
            log_p = jax.nn.log_softmax(_logits(params, t))  # of P(y_i | s_i, y_{i-1}, c_i)
            scores = jnp.take_along_axis(log_p, target.T[..., None], axis=-1, mode="clip")[..., 0], log_p.mean(-1)
        return TokenScores(*(jnp.where(mask, a.T, jnp.zeros((), a.dtype)) for a in scores)), extra

    def encode(params: Seq2Seq, source: Array) -> Memory:
        return _encode(params, check_sentences(source, source_vocabulary, "source"), lambda x: x, form)

    def start(params: Seq2Seq, memory: Memory, length: int) -> Array:
        return memory.s_0

    def step(
        params: Seq2Seq, memory: Memory, cache: Array, words: Array, position: Array
    ) -> tuple[Array, Array, Array]:
        y = lookup(params.target_embedding, words)
        s, t, alpha = _step(params, memory, cache, y)
        return _logits(params, t), s, alpha

    return EncoderDecoder(init, apply, encode, start, step)


def _init(
    key: Key, source: int, target: int, hidden: int, embedding: int, units: int, attention: str, tied: bool
) -> Seq2Seq:
    key, forward_key, backward_key, recurrent_key = jax.random.split(key, 4)
    context = hidden if attention == "none" else 2 * hidden
    glorot, lecun = initializers.glorot, initializers.lecun
    shapes = {
        "source": (source, embedding),
        "target": (target, embedding),
        "w_s": (hidden, hidden),
        "w": (embedding, 3 * hidden),
        "c": (context, 3 * hidden),
        "w_a": (hidden, hidden),
        "u_a": (2 * hidden, hidden),
        "v_a": (hidden, 1),
        "t": (hidden + embedding + context, 2 * units),  # U_o, V_o, C_o
        "w_o": (target, units),
    }
    # Rows of the tied embedding are the softmax's weights, so their scale is that of W_o.
    deviations = {"source": 1.0, "target": units**-0.5 if tied else 1.0, "w": glorot((embedding, hidden))}
    deviations |= {"c": glorot((context, hidden)), "v_a": hidden**-0.5, "t": lecun(shapes["t"]), "w_o": units**-0.5}
    if attention == "none":
        shapes = {name: shape for name, shape in shapes.items() if name not in ("w_a", "u_a", "v_a")}
    if tied:
        del shapes["w_o"]
    rules = [deviations.get(name, glorot(shape)) for name, shape in shapes.items()]
    draws = dict(zip(shapes, initializers.normal(key, list(shapes.values()), rules), strict=True))
    recurrent = initializers.orthogonal(recurrent_key, (3, hidden, hidden))
    u_o, v_o, c_o = jnp.split(draws["t"], (hidden, hidden + embedding))
    return Seq2Seq(
        source_embedding=draws["source"],
        target_embedding=draws["target"],
        encoder=tuple(RESET_FIRST_GRU.init(each, embedding, hidden) for each in (forward_key, backward_key)),
        w_s=draws["w_s"],
        b_s=jnp.zeros(hidden),
        alignment=None
        if attention == "none"
        else Alignment(draws["w_a"], draws["u_a"], jnp.zeros(hidden), draws["v_a"][:, 0]),
        decoder=Decoder(
            w=draws["w"],
            u_gates=jnp.concatenate([recurrent[0], recurrent[1]], axis=1),
            u=recurrent[2],
            c=draws["c"],
            b=jnp.zeros(3 * hidden),
        ),
        readout=Readout(u_o, v_o, c_o, jnp.zeros(2 * units), draws.get("w_o"), jnp.zeros(target)),
    )


# ── The equations ───────────────────────────────────────────────────────────────────────────────────────────────────


def _encode(params: Seq2Seq, source: Array, dropped: Any, form: str) -> Memory:
    """Return what the decoder reads of sources [B, S]; `dropped` is the dropout of their embeddings [S, B, E]."""
    mask = source != PADDING
    x = dropped(lookup(params.source_embedding, source.T))  # E x_j
    (last, first), h = bidirectional(  # h_j = [forward; backward], and the states at j = T_x and at j = 1
        RESET_FIRST_GRU, params.encoder, None, x, mask=mask, form=form, time_major=True, finite=False
    )
    s_0 = jnp.tanh(first @ params.w_s + params.b_s[None])  # s_0 = tanh(W_s h_1 backward)
    if params.alignment is None:
        return Memory(s_0, mask, last, None)
    h = jnp.swapaxes(h, 0, 1)
    keys = _product(h, params.alignment.u_a) + params.alignment.b_a[None, None]  # U_a h_j
    return Memory(s_0, mask, h, keys)


def _step(params: Seq2Seq, memory: Memory, s: Array, y: Array) -> tuple[Array, Array, Array]:
    """Return (s_i [B, H], t_i [B, L], alpha_i [B, S]) from s_{i-1} [B, H] and E y_{i-1} [B, E]."""
    if params.alignment is None or memory.keys is None:
        alpha, c = jnp.zeros_like(memory.mask, s.dtype), memory.h  # c_i = the last state of the forward direction
    else:
        # alpha_ij = softmax_j(v_a tanh(W_a s_{i-1} + U_a h_j)), over real words
        alpha = attentions.additive(s @ params.alignment.w_a, memory.keys, params.alignment.v_a, memory.mask)
        c = jnp.einsum("bs,bsd->bd", alpha, memory.h)  # c_i = sum_j alpha_ij h_j
    decoder, readout = params.decoder, params.readout
    inputs = y @ decoder.w + c @ decoder.c + decoder.b[None]  # W E y_{i-1} + C c_i of r, z and the candidate
    p_r, p_z, p_s = jnp.split(inputs, 3, axis=-1)
    u_r, u_z = jnp.split(s @ decoder.u_gates, 2, axis=-1)
    r = jax.nn.sigmoid(p_r + u_r)  # r_i = sigma(W_r E y_{i-1} + U_r s_{i-1} + C_r c_i)
    z = jax.nn.sigmoid(p_z + u_z)  # z_i = sigma(W_z E y_{i-1} + U_z s_{i-1} + C_z c_i)
    candidate = jnp.tanh(p_s + (r * s) @ decoder.u)  # tanh(W E y_{i-1} + U [r_i * s_{i-1}] + C c_i)
    t = s @ readout.u_o + y @ readout.v_o + c @ readout.c_o + readout.b_t[None]  # U_o s_{i-1} + V_o E y_{i-1} + C_o c_i
    return (1 - z) * s + z * candidate, _maxout(t), alpha  # s_i = (1 - z_i) * s_{i-1} + z_i * candidate


def _readouts_by_steps(params: Seq2Seq, memory: Memory, y: Array) -> Array:
    """Return t [T, B, L] from E y_{i-1} [T, B, E], step by step."""

    def step(s: Array, y: Array) -> tuple[Array, Array]:
        s, t, _ = _step(params, memory, s, y)
        return s, t

    return lax.scan(step, memory.s_0, y)[1]


def _readouts(params: Seq2Seq, memory: Memory, y: Array) -> Array:
    """Return what `_readouts_by_steps` does: what does not depend on s_{i-1} is a product over all steps."""
    decoder, readout = params.decoder, params.readout
    inputs = _product(y, decoder.w) + decoder.b[None, None]
    if params.alignment is None or memory.keys is None:
        inputs = inputs + (memory.h @ decoder.c)[None]
        cell = ResetFirstGRU(w_x=decoder.w, w_h=decoder.u_gates, u=decoder.u, b=decoder.b)
        _, states = unroll_projected(RESET_FIRST_GRU, cell, memory.s_0, inputs)
        before, from_context = jnp.concatenate([memory.s_0[None], states[:-1]]), (memory.h @ readout.c_o)[None]
    else:
        weights = attending.Weights(params.alignment.w_a, params.alignment.v_a, decoder.u_gates, decoder.u)
        projected = _product(memory.h, decoder.c)
        before, alpha = attending.unroll(weights, memory.s_0, inputs, memory.keys, projected, memory.mask)
        from_context = _product(jnp.einsum("tbs,bsd->tbd", alpha, memory.h), readout.c_o)
    return _maxout(_product(before, readout.u_o) + _product(y, readout.v_o) + from_context + readout.b_t[None, None])


def _product(a: Array, w: Array) -> Array:
    """Return a w of an array [..., D]; see `Cell.project` for why it is one of matrices."""
    return (a.reshape(-1, a.shape[-1]) @ w).reshape(*a.shape[:-1], w.shape[1])


def _maxout(t: Array) -> Array:
    """Return the maximum of each pair, [..., L] of [..., 2L]."""
    return jnp.maximum(*jnp.split(t, 2, axis=-1))  # t_i = max of each pair


def _logits(params: Seq2Seq, t: Array) -> Array:
    """Return W_o t_i, [..., V]."""
    w_o, b_o = _output(params)
    return t @ w_o.T + b_o.reshape((1,) * (t.ndim - 1) + (-1,))


def _output(params: Seq2Seq) -> tuple[Array, Array]:
    """Return W_o [V, L] and b_o [V]."""
    w_o = params.target_embedding if params.readout.w_o is None else params.readout.w_o
    return w_o, params.readout.b_o


def _dropped(key: Key | None, x: Array, rate: float) -> Array:
    return x if key is None else drop(key, x, rate)
