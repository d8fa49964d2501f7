r"""Recurrent networks on sequences of numbers: layers of a cell, and a small network that reads each hidden state.

    $$ h_t = \mathrm{cell}(h_{t-1}, x_t), \qquad y_t = W_y \tanh(W_a h_t + b_a) + b_y $$

The readout has a layer of its own, so that no cell fails for want of a nonlinear one.

**What minGRU cannot compute.** Its gates read the input alone, so each unit is
$h_t = (1 - z_t) h_{t-1} + z_t \tilde h_t$ with $0 < z_t < 1$: a step moves the state towards a candidate and can never
flip it. On a constant input, 1, 1, 1, ..., z and $\tilde h$ are constant, and

    $$ h_n = \tilde h + (1 - z)^n (h_0 - \tilde h) $$

approaches $\tilde h$ without ever turning back; so does every continuous readout of it, while the parity of the ones
changes with each step. A second layer reads an input that converges, and so converges too. Therefore no minGRU of any
size or depth computes parity for all lengths with a margin, whatever its training. The tanh cell, LSTM and GRU can:
their gates see the state. So can a linear recurrence whose factors may be negative, as $h_t = (1 - 2 x_t) h_{t-1}$.

Sources: Sarrof, Veitsman & Hahn 2024 (arXiv:2405.17394): no linear recurrence with nonnegative factors recognises
parity in finite precision; Grazzi et al. 2025 (arXiv:2411.12537): the same for matrices with positive eigenvalues, and
that negative ones suffice. Merrill, Petty & Sabharwal 2024 (arXiv:2404.08819) show what linear recurrences of any sign
cannot track, such as compositions of permutations.
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
from mllab.models.recurrent.cells import CELLS, Carry, cell_of
from mllab.models.recurrent.masks import check_lengths
from mllab.models.recurrent.sequences import init_layers, stack, unroll
from mllab.types import Array, Inputs, Key, Params


@struct.dataclass
class Readout:
    """Params of L layers of a cell, and of the network that reads the last one."""

    layers: tuple[Params, ...]  # of the cells, L of them; the first one reads D features, the others H
    w_a: Array  # [H, H]
    b_a: Array  # [H]
    w_y: Array  # [H, O]
    b_y: Array  # [O]


def model(
    features: int, outputs: int, *, hidden: int = 32, layers: int = 1, cell: str = "gru", forget_bias: float = 1.0
) -> Model:
    """Return the model of inputs [B, T, D], or of {"inputs", "lengths" [B]}, with outputs [B, T, O].

    Args:
        features: D.
        outputs: O.
        hidden: H of every layer.
        layers: L.
        cell: a name in `CELLS`.
        forget_bias: see `Cell.init`.

    Raises:
        UserError: an argument out of range, or an unknown cell; when applied, inputs of another shape than expected.
    """
    if cell not in CELLS:
        raise unknown("cell", str(cell), CELLS)
    chosen = CELLS[cell]
    checks.check_whole(1, features=features, outputs=outputs, hidden=hidden, layers=layers)

    def init(key: Key) -> tuple[Readout, None]:
        a_key, y_key, *keys = jax.random.split(key, 2 + layers)
        cells = init_layers(chosen, keys, features, hidden, forget_bias=forget_bias)
        (w_a,) = initializers.normal(a_key, [(hidden, hidden)], [initializers.glorot((hidden, hidden))])
        (w_y,) = initializers.normal(y_key, [(hidden, outputs)], [initializers.lecun((hidden, outputs))])
        return Readout(cells, w_a, jnp.zeros(hidden), w_y, jnp.zeros(outputs)), None

    def apply(params: Readout, extra: None, inputs: Inputs, key: Key | None) -> tuple[Array, None]:
        lengths = None
        if isinstance(inputs, Mapping):
            if "inputs" not in inputs or inputs.keys() - {"inputs", "lengths"}:
                raise UserError(f"inputs {sorted(inputs)}: give inputs, and where needed lengths")
            inputs, lengths = inputs["inputs"], inputs.get("lengths")
        return outputs_of(params, inputs, lengths), extra

    return Model(init, apply)


def outputs_of(params: Readout, inputs: Array, lengths: Array | None = None) -> Array:
    """Return outputs [B, T, O] of inputs [B, T, D]; in padding, those of a state of 0."""
    _, states = stack(cell_of(params.layers[0]), params.layers, None, inputs, lengths=lengths)
    return read(params, states)


def read(params: Readout, states: Array) -> Array:
    """Return outputs [..., O] of hidden states [..., H] of the last layer."""
    flat = states.reshape(-1, states.shape[-1])  # see `Cell.project`
    outputs = jnp.tanh(flat @ params.w_a + params.b_a[None]) @ params.w_y + params.b_y[None]
    return outputs.reshape(*states.shape[:-1], outputs.shape[-1])


def continued(params: Readout, inputs: Array, seen: Array) -> Array:
    """Return outputs [B, T, O] where each step from `seen` on reads the output of the step before as its input.

    Args:
        params: of a model whose outputs are its next inputs, O = D.
        inputs: [B, T, D], of which the first `seen` steps are read.
        seen: number of steps to read, [] or [B], 1 or more.

    Raises:
        UserError: another number of outputs than features, inputs of another shape or with an entry that is no finite
            number, or a number of steps out of range.
    """
    inputs = checks.check_inputs(inputs, ("B", "T", "D"), "inputs")
    inputs = inputs.astype(jnp.result_type(inputs, params.w_y))
    features, outputs = inputs.shape[2], params.b_y.shape[0]
    if features != outputs:
        raise UserError(f"{outputs} outputs cannot be the next {features} inputs: give a model with as many of both")
    batch, steps = inputs.shape[:2]
    seen = jnp.asarray(checks.as_numbers(seen, "seen"))
    if seen.ndim:
        check_lengths(seen, batch, steps)
    checks.check_whole(1, seen=jnp.min(seen))
    carries = tuple(cell_of(each).initial_carry(each, batch) for each in params.layers)

    def step(state: tuple[tuple[Carry, ...], Array], each: tuple[Array, Array]) -> tuple[Any, Array]:
        carries, output = state
        x, number = each
        below = jnp.where(jnp.broadcast_to(number < seen, (batch,))[:, None], x, output)
        after = []
        for layer, carry in zip(params.layers, carries, strict=True):
            carry, below = cell_of(layer).step(layer, carry, below)
            after.append(carry)
        output = read(params, below)
        return (tuple(after), output), output

    start = (carries, jnp.zeros((batch, outputs), inputs.dtype))
    _, result = jax.lax.scan(step, start, (jnp.swapaxes(inputs, 0, 1), jnp.arange(inputs.shape[1])))
    return jnp.swapaxes(result, 0, 1)


def states_of(params: Readout, inputs: Array) -> Array:
    """Return the hidden states [B, T, H] of the first layer."""
    layer = params.layers[0]
    return unroll(cell_of(layer), layer, None, inputs)[1]
