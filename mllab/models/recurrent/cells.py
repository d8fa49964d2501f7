r"""Recurrent cells: tanh RNN, LSTM, GRU and minGRU, each one step `(params, carry, x) -> (carry, h)`.

Every cell splits its step into a part that does not depend on the carry, $p_t = x_t W_x + b$, which `unroll` computes
for all steps in one product, a recurrent product $u_t = h_{t-1} W_h$, and elementwise gates of both. Weights of all
gates of a cell stand side by side in one matrix.

For each cell the docstring of its gates gives the step, and the hand-derived gradient of its pre-activations. Write
$\delta_t = \partial L / \partial h_t$, the sum of the gradient of the output $h_t$ and of what flows back from step
$t + 1$, and $\odot$ for elementwise products. Then for every cell with a recurrent product

    $$ \partial L / \partial W_h = \sum_t h_{t-1}^\top \, \partial L / \partial u_t, \quad
       \partial L / \partial W_x = \sum_t x_t^\top \, \partial L / \partial p_t, \quad
       \partial L / \partial b = \sum_t \partial L / \partial p_t, $$

which is one product over all steps once the gate gradients are known (backpropagation through time, Werbos 1990).

Arrays are row vectors, so the lecture's $W_{hh} h$ is written $h W_h$ with $W_h = W_{hh}^\top$.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from flax import struct

from mllab import checks
from mllab.models import initializers
from mllab.types import Array, Key, Params

Carry: TypeAlias = Any  # h [B, H], or the `LSTMCarry` of both
Saved: TypeAlias = Any  # arrays [B, ...] of a step that its gradient needs


@struct.dataclass
class RNN:
    """Params of a tanh cell."""

    w_x: Array  # [D, H]
    w_h: Array  # [H, H]
    b: Array  # [H]


@struct.dataclass
class LSTM:
    """Params of an LSTM cell; gates in the order i, f, g, o, as in PyTorch."""

    w_x: Array  # [D, 4H]
    w_h: Array  # [H, 4H]
    b: Array  # [4H]


@struct.dataclass
class GRU:
    """Params of a GRU cell; gates in the order r, z, n, as in PyTorch."""

    w_x: Array  # [D, 3H]
    w_h: Array  # [H, 3H]
    b: Array  # [3H]
    b_n: Array  # [H] bias of the recurrent product of n, inside the reset gate


@struct.dataclass
class ResetFirstGRU:
    """Params of a GRU cell as published, whose reset gate acts before the recurrent product; gates r, z, n."""

    w_x: Array  # [D, 3H]
    w_h: Array  # [H, 2H] of r and z
    u: Array  # [H, H] of n, which multiplies the state after its reset
    b: Array  # [3H]


@struct.dataclass
class MinGRU:
    """Params of a minGRU cell: the update gate z, then the candidate."""

    w_x: Array  # [D, 2H]
    b: Array  # [2H]


class LSTMCarry(NamedTuple):
    """The carry of an LSTM."""

    c: Array  # [B, H] cell
    h: Array  # [B, H] hidden state


class Gates(NamedTuple):
    """The elementwise part of a step, and its hand-derived gradient."""

    forward: Callable[[Params, Array, Array, Carry], tuple[Carry, Saved]]  # (params, p, u, carry) -> (carry, saved)
    # (params, saved, h_{t-1}, h_t, gradient of the carry)
    # -> (gradient of p, gradient of the previous carry without W_h's part)
    backward: Callable[[Params, Saved, Array, Array, Carry], tuple[Array, Carry]]
    # (saved, gradient of p) -> gradient of u; for arrays [..., GH], of one step or of all
    recurrent: Callable[[Saved, Array], Array]
    # (saved, h_{t-1}, gradient of p), of all steps at once -> gradients of the params beside w_x, w_h and b, by name
    others: Callable[[Saved, Array, Array], dict[str, Array]] = lambda saved, h_before, d_p: {}


@dataclasses.dataclass(frozen=True)
class Cell:
    """A recurrent cell as pure functions; `CELLS` has them by name."""

    params: type
    gate_count: int  # G: matrices side by side
    forget_gate: int | None  # the one of them that decides how much of the carry stays (see `init`)
    forget_sign: float  # 1 where that gate near 1 keeps the carry, -1 where it near 0 does
    gates: Gates | None  # None for minGRU, which has no recurrent product
    has_cell: bool = False  # whether the carry is an `LSTMCarry`

    def init(self, key: Key, inputs: int, hidden: int, *, orthogonal: bool = True, forget_bias: float = 0.0) -> Params:
        """Return params: input weights by Glorot's rule, recurrent ones orthogonal, biases zero.

        Args:
            key: for the weights.
            inputs: D.
            hidden: H.
            orthogonal: draw the recurrent matrix of each gate as a random orthogonal one (Saxe et al. 2014; Le et al.
                2015 for recurrences), whose products neither grow nor shrink; otherwise normal with variance 1/H.
            forget_bias: initial pre-activation in favour of keeping the carry: of the forget gate of an LSTM
                (Gers et al. 2000; 1 in Jozefowicz et al. 2015), of the update gate of a GRU or minGRU (by the gate's
                sign); a tanh cell has no such gate and ignores it.

        Raises:
            UserError: sizes that are not whole numbers of 1 or more.
        """
        checks.check_key(key)
        checks.check_whole(1, inputs=inputs, hidden=hidden)
        input_key, recurrent_key = jax.random.split(key)
        (w_x,) = initializers.normal(
            input_key, [(inputs, self.gate_count * hidden)], [initializers.glorot((inputs, hidden))]
        )
        b = jnp.zeros((self.gate_count, hidden), w_x.dtype)
        if self.forget_gate is not None:
            b = b.at[self.forget_gate].set(self.forget_sign * forget_bias)
        fields = {"w_x": w_x, "b": b.reshape(-1)}
        if self.gates is not None:
            shape = (self.gate_count, hidden, hidden)
            if orthogonal:
                w_h = initializers.orthogonal(recurrent_key, shape)
            else:
                (w_h,) = initializers.normal(recurrent_key, [shape], [hidden**-0.5])
            fields["w_h"] = w_h.transpose(1, 0, 2).reshape(hidden, -1)
        if self.params is ResetFirstGRU:
            fields["w_h"], fields["u"] = fields["w_h"][:, : 2 * hidden], fields["w_h"][:, 2 * hidden :]
        if self.params is GRU:
            fields["b_n"] = jnp.zeros(hidden, w_x.dtype)
        return self.params(**fields)

    def hidden_size(self, params: Params) -> int:
        """Return H."""
        return params.b.shape[0] // self.gate_count

    def initial_carry(self, params: Params, batch: int, dtype: Any = None) -> Carry:
        """Return the carry before a sequence: zeros [B, H], in the dtype of the params by default."""
        zeros = jnp.zeros((batch, self.hidden_size(params)), dtype or params.b.dtype)
        return LSTMCarry(zeros, zeros) if self.has_cell else zeros

    def hidden(self, carry: Carry) -> Array:
        """Return h of a carry."""
        return carry.h if self.has_cell else carry

    def project(self, params: Params, x: Array) -> Array:
        """Return p = x W_x + b, [..., GH] of inputs [..., D]."""
        # A product of matrices: for the gradient of one with more axes XLA's CPU backend transposes the whole of both.
        flat = x.reshape(-1, x.shape[-1]) @ params.w_x + params.b[None]
        return flat.reshape(*x.shape[:-1], flat.shape[-1])

    def step(self, params: Params, carry: Carry, x: Array) -> tuple[Carry, Array]:
        """Return (carry, h [B, H]) after one input [B, D]."""
        return self.advance(params, carry, self.project(params, x))

    def advance(self, params: Params, carry: Carry, projected: Array) -> tuple[Carry, Array]:
        """Return (carry, h [B, H]) of a step whose input is projected already, [B, GH]."""
        if self.gates is None:
            keep, new = min_gru_terms(projected)
            carry = keep * carry + new
        else:
            carry, _ = self.gates.forward(params, projected, self.hidden(carry) @ params.w_h, carry)
        return carry, self.hidden(carry)


# ── The tanh cell ───────────────────────────────────────────────────────────────────────────────────────────────────


def _rnn_forward(params: RNN, p: Array, u: Array, carry: Array) -> tuple[Array, Saved]:
    r"""Return the next carry of the tanh cell (Elman 1990).

    $$ h_t = \tanh(W_{hh} h_{t-1} + W_{xh} x_t + b), \qquad y_t = W_{hy} h_t + b_y $$

    Backward, with $a_t$ the argument of tanh:

    $$ \partial L / \partial a_t = \delta_t \odot (1 - h_t^2), \qquad
       \delta_{t-1} \mathrel{+}= W_{hh}^\top \, \partial L / \partial a_t $$

    so the gradient over $k$ steps is a product of $k$ Jacobians $\mathrm{diag}(1 - h^2) W_{hh}$: it vanishes or
    explodes with their singular values.
    """
    return jnp.tanh(p + u), ()


def _rnn_backward(params: RNN, saved: Saved, h_before: Array, h: Array, gradient: Array) -> tuple[Array, Array]:
    return gradient * (1 - h * h), jnp.zeros_like(gradient)


# ── The LSTM ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _lstm_forward(params: LSTM, p: Array, u: Array, carry: LSTMCarry) -> tuple[LSTMCarry, Saved]:
    r"""Return the next carry of the LSTM (Hochreiter & Schmidhuber 1997; forget gate of Gers et al. 2000).

    $$ i, f, o = \sigma(\cdot), \quad g = \tanh(\cdot) \quad\text{of}\quad p_t + u_t, \qquad
       c_t = f \odot c_{t-1} + i \odot g, \qquad h_t = o \odot \tanh(c_t) $$

    Backward, with $\gamma_t = \partial L / \partial c_t$:

    $$ \gamma_t \mathrel{+}= \delta_t \odot o \odot (1 - \tanh^2 c_t), \qquad \gamma_{t-1} = \gamma_t \odot f $$
    $$ \partial i = \gamma_t \odot g \odot i (1 - i), \quad \partial f = \gamma_t \odot c_{t-1} \odot f (1 - f), \quad
       \partial g = \gamma_t \odot i \odot (1 - g^2), \quad \partial o = \delta_t \odot \tanh c_t \odot o (1 - o) $$
    $$ \delta_{t-1} \mathrel{+}= [\partial i, \partial f, \partial g, \partial o] \, W_h^\top $$
    """
    i, f, g, o = jnp.split(p + u, 4, axis=-1)
    i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
    c = f * carry.c + i * g
    return LSTMCarry(c, o * jnp.tanh(c)), (i, f, g, o, carry.c)


def _lstm_backward(
    params: LSTM, saved: Saved, h_before: Array, h: Array, gradient: LSTMCarry
) -> tuple[Array, LSTMCarry]:
    i, f, g, o, c_before = saved
    tanh_c = jnp.tanh(f * c_before + i * g)
    d_c = gradient.c + gradient.h * o * (1 - tanh_c * tanh_c)
    parts = (
        d_c * g * i * (1 - i),
        d_c * c_before * f * (1 - f),
        d_c * i * (1 - g * g),
        gradient.h * tanh_c * o * (1 - o),
    )
    return jnp.concatenate(parts, axis=-1), LSTMCarry(d_c * f, jnp.zeros_like(d_c))


# ── The GRU ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _gru_forward(params: GRU, p: Array, u: Array, carry: Array) -> tuple[Array, Saved]:
    r"""Return the next carry of the GRU whose reset gate acts after the recurrent product, which has its own bias.

    This is the convention of PyTorch's `nn.GRU`, flax's `GRUCell` and cuDNN. Cho et al. 2014 reset the state before
    the product, $W_h (r \odot h_{t-1})$, which takes a second product in every step.

    $$ r, z = \sigma(p_t + u_t), \quad v = u_t^{(n)} + b_n, \quad n = \tanh(p_t^{(n)} + r \odot v), \qquad
       h_t = (1 - z) \odot n + z \odot h_{t-1} $$

    Backward:

    $$ \partial n = \delta_t \odot (1 - z) \odot (1 - n^2), \quad
       \partial z = \delta_t \odot (h_{t-1} - n) \odot z (1 - z), \quad
       \partial r = \partial n \odot v \odot r (1 - r) $$
    $$ \partial p = [\partial r, \partial z, \partial n], \quad \partial u = [\partial r, \partial z, \partial n
       \odot r], \quad \partial b_n = \textstyle\sum_t \partial n \odot r, \quad
       \delta_{t-1} \mathrel{+}= \delta_t \odot z + \partial u \, W_h^\top $$
    """
    p_r, p_z, p_n = jnp.split(p, 3, axis=-1)
    u_r, u_z, u_n = jnp.split(u, 3, axis=-1)
    r, z, v = jax.nn.sigmoid(p_r + u_r), jax.nn.sigmoid(p_z + u_z), u_n + params.b_n[None]
    n = jnp.tanh(p_n + r * v)
    return n + z * (carry - n), (r, z, n, v)


def _gru_backward(params: GRU, saved: Saved, h_before: Array, h: Array, gradient: Array) -> tuple[Array, Array]:
    r, z, n, v = saved
    d_n = gradient * (1 - z) * (1 - n * n)
    d_z = gradient * (h_before - n) * z * (1 - z)
    d_r = d_n * v * r * (1 - r)
    return jnp.concatenate([d_r, d_z, d_n], axis=-1), gradient * z


def _gru_recurrent(saved: Saved, d_p: Array) -> Array:
    d_r, d_z, d_n = jnp.split(d_p, 3, axis=-1)
    return jnp.concatenate([d_r, d_z, d_n * saved[0]], axis=-1)


def _gru_others(saved: Saved, h_before: Array, d_p: Array) -> dict[str, Array]:
    return {"b_n": (d_p[..., -saved[0].shape[-1] :] * saved[0]).sum((0, 1))}


# ── The GRU as published ────────────────────────────────────────────────────────────────────────────────────────────


def _reset_first_forward(params: ResetFirstGRU, p: Array, u: Array, carry: Array) -> tuple[Array, Saved]:
    r"""Return the next carry of the GRU of Cho et al. 2014 and of Bahdanau et al. 2015 (arXiv:1409.0473, A.1.1).

    $$ r, z = \sigma(p_t + u_t), \quad n = \tanh(p_t^{(n)} + (r \odot h_{t-1}) U), \qquad
       h_t = (1 - z) \odot h_{t-1} + z \odot n $$

    with the update gate of the latter paper, which near 0 keeps the state: its eq. in A.1.1 and A.2. Backward:

    $$ \partial n = \delta_t \odot z \odot (1 - n^2), \quad
       \partial z = \delta_t \odot (n - h_{t-1}) \odot z (1 - z), \quad \rho = \partial n \, U^\top, \quad
       \partial r = \rho \odot h_{t-1} \odot r (1 - r) $$
    $$ \partial p = [\partial r, \partial z, \partial n], \quad \partial u = [\partial r, \partial z], \quad
       \partial U = \textstyle\sum_t (r \odot h_{t-1})^\top \partial n, \quad
       \delta_{t-1} \mathrel{+}= \delta_t \odot (1 - z) + \rho \odot r + \partial u \, W_h^\top $$
    """
    p_r, p_z, p_n = jnp.split(p, 3, axis=-1)
    u_r, u_z = jnp.split(u, 2, axis=-1)
    r, z = jax.nn.sigmoid(p_r + u_r), jax.nn.sigmoid(p_z + u_z)
    n = jnp.tanh(p_n + (r * carry) @ params.u)
    return carry + z * (n - carry), (r, z, n)


def _reset_first_backward(
    params: ResetFirstGRU, saved: Saved, h_before: Array, h: Array, gradient: Array
) -> tuple[Array, Array]:
    r, z, n = saved
    d_n = gradient * z * (1 - n * n)
    d_z = gradient * (n - h_before) * z * (1 - z)
    reset = d_n @ params.u.T
    d_r = reset * h_before * r * (1 - r)
    return jnp.concatenate([d_r, d_z, d_n], axis=-1), gradient * (1 - z) + reset * r


def _reset_first_recurrent(saved: Saved, d_p: Array) -> Array:
    return d_p[..., : 2 * saved[0].shape[-1]]


def _reset_first_others(saved: Saved, h_before: Array, d_p: Array) -> dict[str, Array]:
    hidden = h_before.shape[-1]
    reset = (saved[0] * h_before).reshape(-1, hidden)
    return {"u": reset.T @ d_p[..., 2 * hidden :].reshape(-1, hidden)}


# ── minGRU ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def min_gru_terms(projected: Array) -> tuple[Array, Array]:
    r"""Return the coefficients (a, b) [..., H] of minGRU's step h_t = a h_{t-1} + b from its projected inputs.

    $$ z_t = \sigma(W_z x_t + b_z), \quad \tilde h_t = W_h x_t + b_h, \qquad
       h_t = (1 - z_t) \odot h_{t-1} + z_t \odot \tilde h_t $$

    (Feng et al. 2024, arXiv:2410.01201, section 3.1). The gates see the input alone, so the recurrence is linear in
    the carry and all steps may be computed by an associative scan. It is computed in linear space, not by logarithms as
    in the paper's appendix: the factors lie in [0, 1], so products cannot overflow, and candidates may be negative.

    Backward: $\delta_t \mathrel{+}= a_{t+1} \odot \delta_{t+1}$, $\partial b_t = \delta_t$,
    $\partial a_t = \delta_t \odot h_{t-1}$.
    """
    z, candidate = jnp.split(projected, 2, axis=-1)
    z = jax.nn.sigmoid(z)
    return 1 - z, z * candidate


def _same(saved: Saved, d_p: Array) -> Array:
    """Return the gradient of u where u is added to p."""
    return d_p


CELLS: Mapping[str, Cell] = {
    "tanh": Cell(RNN, 1, None, 0.0, Gates(_rnn_forward, _rnn_backward, _same)),
    "lstm": Cell(LSTM, 4, 1, 1.0, Gates(_lstm_forward, _lstm_backward, _same), has_cell=True),
    "gru": Cell(GRU, 3, 1, 1.0, Gates(_gru_forward, _gru_backward, _gru_recurrent, _gru_others)),
    "mingru": Cell(MinGRU, 2, 0, -1.0, None),
}

# For models that were published with it; a second product in every step makes it slower than "gru".
RESET_FIRST_GRU = Cell(
    ResetFirstGRU,
    3,
    1,
    -1.0,
    Gates(_reset_first_forward, _reset_first_backward, _reset_first_recurrent, _reset_first_others),
)


def cell_of(params: Params) -> Cell:
    """Return the cell whose params these are."""
    return next(cell for cell in CELLS.values() if isinstance(params, cell.params))
