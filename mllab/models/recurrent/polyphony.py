r"""Models of polyphonic music: recurrent cells read frames of keys, and an output model gives the next frame.

A frame $x_t \in \{0, 1\}^K$ says which of K keys sound. The cells read the frames before it,

    $$ h_t = \mathrm{cells}(h_{t-1}, x_{t-1}), \qquad s_t = [h_t, x_{t-1}], \qquad x_0 = 0, $$

and $P(x_t \mid x_{<t}) = P(x_t \mid s_t)$ is one of two output models, which Boulanger-Lewandowski et al. 2012
(arXiv:1206.6392) compare, too. Both are exact: their probabilities of all $2^K$ frames sum to 1.

**bernoulli**: keys are independent of each other given the past,

    $$ P(x \mid s) = \prod_k \sigma(z_k)^{x_k} (1 - \sigma(z_k))^{1 - x_k}, \qquad
       z = s W + \mathrm{relu}(s U + c) W_a + b. $$

**autoregressive**: the sounding keys $p_1 < \dots < p_n$ are drawn upwards, each given those below it, until a stop:

    $$ P(x \mid s) = \prod_{m=0}^{n} P(p_{m+1} \mid p_1, \dots, p_m, s), \qquad p_{n+1} = \mathrm{stop}, $$
    $$ P(\cdot \mid p_1, \dots, p_m, s) = \mathrm{softmax}(z^{(m)}) \text{ over the keys above } p_m \text{ and stop},
       \qquad z^{(m)} = s W + \mathrm{relu}\Big(s U + c + \sum_{i \le m} V_{p_i}\Big) W_a + b. $$

The sum of $V$ is that of NADE (Larochelle & Murray 2011), which RNN-NADE has as its output. NADE has a Bernoulli for
each of the K keys; here each sounding key is one choice among those above, so a chord of four takes five terms.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from mllab import checks
from mllab.errors import UserError, unknown
from mllab.models import initializers
from mllab.models.base import Model
from mllab.models.ops.dropout import dropout as drop
from mllab.models.recurrent.cells import CELLS, cell_of
from mllab.models.recurrent.masks import check_mask
from mllab.models.recurrent.sequences import init_layers, stack
from mllab.types import Array, Inputs, Key, Params, is_concrete

QUIET = -3.0  # initial bias of a key: few of them sound at once


@struct.dataclass
class Frame:
    """Params of the distribution of a frame given a state of S = H + K features."""

    w: Array  # [S, K], or [S, K + 1] with the stop as the last column
    b: Array  # [K], or [K + 1]
    w_hidden: Array  # [M, K], or [M, K + 1]
    u: Array  # [S, M]
    c: Array  # [M]
    v: Array | None  # [K, M] of the lower keys that sound; None where keys are independent


@struct.dataclass
class Polyphony:
    """Params of a model of music with L layers."""

    layers: tuple[Params, ...]  # of the cells, L of them; the first one reads K keys, the others H features
    output: Frame


class Output(NamedTuple):
    """A distribution of frames [..., K] given states [..., S]."""

    # (params, states [R, S], frames [R, K], the most keys of a frame, what drops hidden units) -> [R] nats
    log_probability: Callable[[Frame, Array, Array, int, Callable[[Array], Array]], Array]
    draw: Callable[[Key, Frame, Array, Array], Array]  # (key, params, states [B, S], temperature) -> frames [B, K]


def model(
    keys: int = 88,
    *,
    output: str = "autoregressive",
    hidden: int = 256,
    layers: int = 1,
    cell: str = "gru",
    units: int = 128,
    voices: int | None = None,
    dropout: float = 0.0,
    recurrent_dropout: float = 0.0,
) -> Model:
    """Return the model of frames with the log-probability [B, T] in nats of each frame given those before it.

    Inputs are a mapping; `extra` is None:

        frames   [B, T, K], 1 for a key that sounds and 0 otherwise
        begins   [B, T], 1 at the first frame of a piece, which is predicted from silence
        weights  [B, T], 0 at padding, whose log-probabilities are 0

    A row may hold several pieces one after another, and padding anywhere; neither is seen by other pieces.

    Args:
        keys: K.
        output: a name in `OUTPUTS`.
        hidden: H of every layer.
        layers: L.
        cell: a name in `CELLS`.
        units: M of the output.
        voices: the most keys that sound at once in the frames, for which the autoregressive output has room; all K by
            default. A frame with more gets NaN.
        dropout: rate at the states that a layer or the output reads, and at the output's hidden units, with a key.
        recurrent_dropout: rate on the recurrent weights, one mask for all frames, with a key.

    Raises:
        UserError: an argument out of range, or an unknown cell or output; when applied, inputs of another shape.
    """
    for kind, name, names in (("cell", cell, CELLS), ("output", output, OUTPUTS)):
        if name not in names:
            raise unknown(kind, str(name), names)
    most = keys if voices is None else voices
    checks.check_whole(1, keys=keys, hidden=hidden, layers=layers, units=units)
    checks.check_whole(0, voices=most)
    checks.check_rate(dropout=dropout, recurrent_dropout=recurrent_dropout)
    if recurrent_dropout and CELLS[cell].gates is None:
        raise UserError(f"recurrent_dropout = {recurrent_dropout}: {cell} has no recurrent weights, give 0")

    def init(key: Key) -> tuple[Polyphony, None]:
        output_key, *layer_keys = jax.random.split(key, 1 + layers)
        cells = init_layers(CELLS[cell], layer_keys, keys, hidden, forget_bias=1.0)
        return Polyphony(cells, _frame(output_key, hidden, keys, units, output == "autoregressive")), None

    def apply(params: Polyphony, extra: Any, inputs: Inputs, key: Key | None) -> tuple[Array, Any]:
        frames, begins, weights = _checked(inputs, keys)
        dtype = params.output.b.dtype
        frames = frames.astype(dtype)
        cells = params.layers
        dropped = [lambda values: values] * (layers + 1)
        if key is not None and dropout:
            dropped = [functools.partial(drop, each, rate=dropout) for each in jax.random.split(key, layers + 1)]
        if key is not None and recurrent_dropout:
            weight_keys = jax.random.split(jax.random.fold_in(key, layers + 1), layers)
            cells = tuple(
                each.replace(w_h=drop(weight_keys[i], each.w_h, recurrent_dropout)) for i, each in enumerate(cells)
            )
        before = jnp.concatenate([jnp.zeros_like(frames[:, :1]), frames[:, :-1]], axis=1)
        before = jnp.where(begins[..., None], jnp.zeros((), dtype), before)
        _, states = stack(
            CELLS[cell], cells, None, jnp.swapaxes(before, 0, 1), time_major=True, reset=begins, mask=weights,
            finite=False,
            between=lambda layer, states: dropped[layer](states),
        )  # fmt: skip
        states = jnp.concatenate([dropped[layers - 1](jnp.swapaxes(states, 0, 1)), before], axis=-1)
        flat_states, flat_frames = (array.reshape(-1, array.shape[-1]) for array in (states, frames))
        logs = OUTPUTS[output].log_probability(params.output, flat_states, flat_frames, most, dropped[layers])
        return jnp.where(weights, logs.reshape(weights.shape), jnp.zeros((), dtype)), extra

    return Model(init, apply)


# ── The output models ───────────────────────────────────────────────────────────────────────────────────────────────


def _frame(key: Key, hidden: int, keys: int, units: int, ordered: bool) -> Frame:
    """Return initial params; `ordered` for keys that are drawn upwards."""
    size, columns = hidden + keys, keys + ordered
    shapes = [(size, columns), (units, columns), (size, units), (keys, units)]
    scales = [*map(initializers.lecun, shapes[:3]), 0.3]  # few rows of v are added up
    w, w_hidden, u, v = initializers.normal(key, shapes, [scales[0] / 2, *scales[1:]])
    return Frame(w, jnp.full(columns, 0.0 if ordered else QUIET), w_hidden, u, jnp.zeros(units), v if ordered else None)


def _logits(params: Frame, states: Array, dropped: Callable[[Array], Array]) -> Array:
    """Return the logits [R, K] of independent keys."""
    units = dropped(jax.nn.relu(states @ params.u + params.c[None]))
    return states @ params.w + units @ params.w_hidden + params.b[None]


def _bernoulli_log_probability(
    params: Frame, states: Array, frames: Array, most: int, dropped: Callable[[Array], Array]
) -> Array:
    logits = _logits(params, states, dropped)
    return (jax.nn.log_sigmoid(logits) * frames + jax.nn.log_sigmoid(-logits) * (1 - frames)).sum(-1)


def _bernoulli_draw(key: Key, params: Frame, states: Array, temperature: Array) -> Array:
    logits = _logits(params, states, lambda units: units)
    warm = temperature > 0
    probability = jax.nn.sigmoid(logits / jnp.where(warm, temperature, 1))
    return jnp.where(warm, jax.random.bernoulli(key, probability), logits > 0).astype(states.dtype)


def _autoregressive_log_probability(
    params: Frame, states: Array, frames: Array, most: int, dropped: Callable[[Array], Array]
) -> Array:
    """Return the log-probabilities [R], by the logits [R, most + 1, K + 1] after the lowest 0, 1, ... sounding keys."""
    assert params.v is not None
    count, keys = frames.shape
    through = jnp.cumsum(frames, axis=-1)  # sounding keys up to and including each one
    below = (through - frames)[:, None]
    number = jnp.arange(most + 1, dtype=frames.dtype)[None, :, None]
    lowest = frames[:, None] * (below < number)  # [R, most + 1, K]: the lowest 0, 1, ... keys of each frame
    context = (lowest.reshape(-1, keys) @ params.v).reshape(count, most + 1, -1)
    units = dropped(jax.nn.relu(context + (states @ params.u + params.c[None])[:, None]))
    logits = (units.reshape(-1, units.shape[-1]) @ params.w_hidden).reshape(count, most + 1, keys + 1)
    logits = logits + (states @ params.w + params.b[None])[:, None]
    # After m keys, those may follow that lie above the m-th one: they have m or more sounding keys below them.
    stop = jnp.ones((count, most + 1, 1), bool)
    logs = jax.nn.log_softmax(jnp.where(jnp.concatenate([below >= number, stop], -1), logits, -jnp.inf))
    follows = jnp.concatenate([_follows(frames, below, number), through[:, None, -1:] == number], -1)
    total = jnp.where(follows, logs, jnp.zeros((), logs.dtype)).sum((1, 2))
    return jnp.where(through[:, -1] > most, jnp.nan, total)


def _follows(frames: Array, below: Array, number: Array) -> Array:
    """Return which key sounds next after the lowest m, [R, most + 1, K]."""
    return (frames[:, None] > 0) & (below == number)


def _autoregressive_draw(key: Key, params: Frame, states: Array, temperature: Array) -> Array:
    lower = params.v
    assert lower is not None
    keys = params.b.shape[0] - 1
    direct = states @ params.w + params.b[None]
    places = jnp.arange(keys + 1)[None]
    warm = temperature > 0

    def step(drawn: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        key, frames, context, last = drawn
        key, draw_key = jax.random.split(key)
        logits = direct + jax.nn.relu(context) @ params.w_hidden
        logits = jnp.where(places > last[:, None], logits, -jnp.inf)
        logits = logits.at[:, keys].set(jnp.where(last < keys, logits[:, keys], 0.0))  # stopped rows stop again
        choice = jax.random.categorical(draw_key, logits / jnp.where(warm, temperature, 1))
        choice = jnp.where(warm, choice, jnp.argmax(logits, axis=-1))
        hit = jax.nn.one_hot(choice, keys, dtype=frames.dtype)  # a row of zeros for the stop
        return key, frames + hit, context + hit @ lower, choice

    start = (
        key,
        jnp.zeros((states.shape[0], keys), states.dtype),
        states @ params.u + params.c[None],
        jnp.full(states.shape[0], -1),
    )
    return jax.lax.while_loop(lambda drawn: jnp.any(drawn[3] < keys), step, start)[1]


OUTPUTS: Mapping[str, Output] = {
    "bernoulli": Output(_bernoulli_log_probability, _bernoulli_draw),
    "autoregressive": Output(_autoregressive_log_probability, _autoregressive_draw),
}


# ── Sampling ────────────────────────────────────────────────────────────────────────────────────────────────────────


def sample(
    params: Polyphony,
    key: Key,
    prime: Array | np.ndarray,
    *,
    length: int,
    temperature: float | Array = 1.0,
    count: int = 1,
) -> Array:
    """Return `length` frames that a model adds to a beginning, [count, length, K] of 0 and 1.

    The same key draws the same frames.

    Args:
        params: of a model of either output.
        key: of the draws.
        prime: frames from the first one of a piece on, [P, K]; P may be 0.
        length: frames to draw.
        temperature: logits are divided by it; 0 takes the most probable choice at each step.
        count: pieces to draw.

    Raises:
        UserError: an argument out of range.
    """
    checks.check_key(key)
    checks.check_whole(1, length=length, count=count)
    if is_concrete(temperature) and not 0 <= float(temperature) < float("inf"):
        raise UserError(f"temperature = {temperature}: give a number of 0 or more")
    prime, keys = checks.as_numbers(prime, "prime"), params.layers[0].w_x.shape[0]
    if prime.ndim != 2 or prime.shape[1] != keys:
        raise UserError(f"prime: shape {list(prime.shape)}, expected frames [P, {keys}]")
    _check_keys(prime, "prime")
    prime = jnp.asarray(prime, params.output.b.dtype)
    return _sample(length, count, params, key, prime, jnp.asarray(temperature, prime.dtype))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _sample(length, count, params, key, prime, temperature):
    cells = [cell_of(each) for each in params.layers]
    output = OUTPUTS["bernoulli" if params.output.v is None else "autoregressive"]

    def advance(carry, frames):
        states, ends = frames, []
        for cell, each, before in zip(cells, params.layers, carry, strict=True):
            after, states = cell.step(each, before, states)
            ends.append(after)
        return tuple(ends), jnp.concatenate([states, frames], axis=-1)

    def step(drawn, key):
        carry, frames = drawn
        carry, states = advance(carry, frames)
        frames = output.draw(key, params.output, states, temperature)
        return (carry, frames), frames

    carry = tuple(cell.initial_carry(each, count) for cell, each in zip(cells, params.layers, strict=True))
    silence = jnp.zeros((1, prime.shape[1]), prime.dtype)
    read = jnp.broadcast_to(jnp.concatenate([silence, prime])[:, None], (len(prime) + 1, count, prime.shape[1]))
    carry, _ = jax.lax.scan(advance, carry, read[:-1])
    _, frames = jax.lax.scan(step, (carry, read[-1]), jax.random.split(key, length))
    return jnp.swapaxes(frames, 0, 1)


def _checked(inputs: Inputs, keys: int) -> tuple[Array, Array, Array]:
    """Return frames [B, T, K], and where a piece begins and what counts, [B, T] of True and False."""
    if not isinstance(inputs, Mapping) or set(inputs) != {"frames", "begins", "weights"}:
        raise UserError("inputs: expected a mapping of frames, begins and weights")
    frames = checks.as_numbers(inputs["frames"], "frames")
    checks.check_shape(frames, ("B", "T", keys), "frames")
    _check_keys(frames, "frames")
    begins, weights = (check_mask(inputs[name], frames.shape[:2], name) for name in ("begins", "weights"))
    return jnp.asarray(frames), begins.astype(bool), weights.astype(bool)


def _check_keys(frames: Any, name: str) -> None:
    """Raise UserError for an entry of concrete frames that is neither 0 nor 1."""
    if is_concrete(frames):
        host = np.asarray(frames)
        wrong = np.argwhere((host != 0) & (host != 1))
        if len(wrong):
            place = tuple(wrong[0].tolist())
            raise UserError(f"{name}: index {list(place)} is {host[place]}; expected 0, or 1 for a key that sounds")
