r"""Cells along sequences: variable lengths, carries across windows, resets, both directions, stacks.

`unroll` has two forms of the same function. `plain` is autodiff through `lax.scan`. `fast` saves the gates of each
step, and its hand-written backward scan yields the gate gradients alone; gradients of the weights are then one product
over all steps. In both, the inputs' projections are one product before the scan.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from mllab import checks
from mllab.errors import UserError, unknown
from mllab.models.recurrent.cells import Carry, Cell, LSTMCarry, min_gru_terms
from mllab.models.recurrent.masks import check_masks
from mllab.types import Array, Key, Params

FORMS = ("fast", "plain", "associative")


def unroll(
    cell: Cell,
    params: Params,
    carry: Carry | None,
    inputs: Array,
    *,
    lengths: Array | None = None,
    mask: Array | None = None,
    reset: Array | None = None,
    reverse: bool = False,
    form: str = "fast",
    segment: int | None = None,
    time_major: bool = False,
    finite: bool = True,
) -> tuple[Carry, Array]:
    """Return (carry, hidden states [B, T, H]) of a cell along sequences.

    Padding touches neither states nor gradients: the carry passes it unchanged, hidden states there are 0, and its
    inputs may be anything, NaN included. So the carry that is returned is that of each row's true end, from which the
    next window may continue.

    Args:
        cell: one of `CELLS`.
        params: of the cell.
        carry: before the first step; None for the initial one.
        inputs: [B, T, D].
        lengths: steps of each row, [B], 0 to T; the rest is padding.
        mask: instead of lengths, [B, T]: False or 0 at padding, which may be anywhere.
        reset: [B, T], True at steps where a new sequence begins: there the cell starts from the initial carry. It has
            no effect at padding.
        reverse: run from the last step to the first; hidden states stay in their places, and the carry is that after
            each row's first step. Sequences begin where `reset` says that they do in the forward direction.
        form: "fast" or "plain"; "associative" for minGRU: all steps at once by `lax.associative_scan`. Only "plain" and
            "associative" allow forward-mode differentiation.
        segment: steps per segment whose inner states are computed again in the backward pass (`jax.checkpoint`): memory
            for T / segment carries and one segment's gates, instead of the gates of all T steps. About a third more
            time; the best size is near the square root of T and divides T. None keeps everything.
        time_major: whether inputs and hidden states are [T, B, ...], which saves transposing them; masks stay [B, T].
        finite: whether inputs outside of padding, and the carry, must be finite; False for what a model has computed.

    Raises:
        UserError: arguments of shapes that do not match, entries that are no numbers, lengths out of range, both
            lengths and a mask, an unknown form, or the first number that is NaN, infinite or too large.
    """
    x = _time_major(inputs, time_major)
    _check(cell, params, x, form, segment)
    steps, batch = x.shape[:2]
    masks = check_masks(batch, steps, lengths=lengths, mask=mask, reset=reset)
    valid = _valid(steps, masks)
    dtype = jnp.result_type(x.dtype, params.w_x.dtype)
    initial = cell.initial_carry(params, batch, dtype)
    carry = initial if carry is None else _checked_carry(carry, initial, finite)
    dtypes = jax.tree.map(lambda a: a.dtype, carry)
    carry = jax.tree.map(lambda a: a.astype(dtype), carry)
    begins = _begins(masks.get("reset"), valid, reverse)
    if valid is not None:
        x = jnp.where(valid[..., None], x, jnp.zeros((), x.dtype))
    if finite:
        checks.check_finite(x if time_major else jnp.swapaxes(x, 0, 1), "inputs")
    arrays = (x, valid, begins)
    if reverse:
        arrays = jax.tree.map(lambda a: jnp.flip(a, 0), arrays)
    run = functools.partial(_run, cell, form)
    if segment is None or segment >= steps:
        carry, states = run(params, carry, arrays)
    else:
        carry, states = _by_segments(run, params, carry, arrays, segment)
    if reverse:
        states = jnp.flip(states, 0)
    if valid is not None:
        states = jnp.where(valid[..., None], states, jnp.zeros((), states.dtype))
    return jax.tree.map(lambda a, to: a.astype(to), carry, dtypes), states if time_major else jnp.swapaxes(states, 0, 1)


def unroll_projected(cell: Cell, params: Params, carry: Carry, projected: Array) -> tuple[Carry, Array]:
    """Return (carry, hidden states [T, B, H]) of inputs that are projected already, [T, B, GH], in the fast form.

    The cell must have a recurrent product. Gradients of its `w_x` and `b` are 0: they belong to the projection.
    """
    return _fast(cell, params.replace(w_x=None, b=None), carry, projected, None, None)


def bidirectional(
    cell: Cell, params: tuple[Params, Params], carry: tuple[Carry, Carry] | None, inputs: Array, **options: Any
) -> tuple[tuple[Carry, Carry], Array]:
    """Return (carries, hidden states [B, T, 2H]) of one cell forwards and another one backwards.

    Args:
        cell: of both.
        params: of the forward and of the backward cell.
        carry: of each; None for the initial ones.
        inputs: [B, T, D].
        **options: of `unroll`, without `reverse`.
    """
    carries = (None, None) if carry is None else tuple(carry)
    if len(carries) != 2:
        raise UserError(f"carry: {len(carries)} of them, expected two, of the forward and of the backward cell")
    ends, states = zip(
        *(unroll(cell, params[i], carries[i], inputs, reverse=bool(i), **options) for i in (0, 1)), strict=True
    )
    return ends, jnp.concatenate(states, axis=-1)


def init_layers(cell: Cell, keys: Sequence[Key], inputs: int, hidden: int, **options: Any) -> tuple[Params, ...]:
    """Return params for `stack`: a layer for each key, the first one for `inputs` features, the others for `hidden`.

    `options` are those of `Cell.init`.
    """
    return tuple(cell.init(key, hidden if layer else inputs, hidden, **options) for layer, key in enumerate(keys))


def stack(
    cell: Cell,
    params: Sequence[Params],
    carry: Sequence[Carry] | None,
    inputs: Array,
    *,
    between: Callable[[int, Array], Array] = lambda layer, states: states,
    time_major: bool = False,
    finite: bool = True,
    **options: Any,
) -> tuple[tuple[Carry, ...], Array]:
    """Return (carries, hidden states [B, T, H] of the last layer) of layers that each read the states of the one below.

    Args:
        cell: of all layers.
        params: of each layer.
        carry: of each layer; None for the initial ones.
        inputs: [B, T, D].
        between: (number of a layer, its hidden states [T, B, H]) -> what the layer above reads; not called after the
            last one.
        time_major: see `unroll`.
        finite: see `unroll`; of the inputs and the carries.
        **options: of `unroll`.

    Raises:
        UserError: no layer, another number of carries than layers; or see `unroll`.
    """
    if not params or (carry is not None and len(carry) != len(params)):
        carries = "" if carry is None else f", {len(carry)} carries"
        raise UserError(f"{len(params)} layers{carries}: give one layer or more, and a carry for each")
    states = _time_major(inputs, time_major)
    ends = []
    for layer, layer_params in enumerate(params):
        below = between(layer - 1, states) if layer else states
        before = None if carry is None else carry[layer]
        end, states = unroll(
            cell, layer_params, before, below, time_major=True, finite=finite and layer == 0, **options
        )
        ends.append(end)
    return tuple(ends), states if time_major else jnp.swapaxes(states, 0, 1)


# ── Masks and segments; from here on arrays are [T, B, ...] ─────────────────────────────────────────────────────────


def _time_major(inputs: Array, is_time_major: bool) -> Array:
    """Return inputs [B, T, D], or [T, B, D], as an array [T, B, D]; of another number of axes, as they are."""
    array = jnp.asarray(checks.as_numbers(inputs, "inputs"))
    return array if is_time_major or array.ndim != 3 else jnp.swapaxes(array, 0, 1)


def _valid(steps: int, masks: dict[str, Array]) -> Array | None:
    """Return whether a step counts, [T, B]; None if all do."""
    if "lengths" in masks:
        return jnp.arange(steps)[:, None] < masks["lengths"][None]
    return masks["mask"].astype(bool).T if "mask" in masks else None


def _begins(reset: Array | None, valid: Array | None, reverse: bool) -> Array | None:
    """Return where the carry is replaced by the initial one before a step, [T, B]; None for nowhere."""
    if reset is None:
        return None
    begins = reset.astype(bool).T
    if valid is not None:
        begins = begins & valid
    if not reverse:
        return begins
    return jnp.concatenate([begins[1:], jnp.zeros_like(begins[:1])])  # backwards a sequence begins at its last step


def _by_segments(run: Callable, params: Params, carry: Carry, arrays: Any, size: int) -> tuple[Carry, Array]:
    """Return what `run` returns, computed segment after segment, each of which is computed again for its gradient."""
    steps = arrays[0].shape[0]
    whole = steps // size * size
    body = jax.checkpoint(lambda carry, part: run(params, carry, part))
    parts = jax.tree.map(lambda a: a[:whole].reshape(-1, size, *a.shape[1:]), arrays)
    carry, states = lax.scan(body, carry, parts)
    states = states.reshape(-1, *states.shape[2:])
    if whole < steps:
        carry, rest = body(carry, jax.tree.map(lambda a: a[whole:], arrays))
        states = jnp.concatenate([states, rest])
    return carry, states


def _run(cell: Cell, form: str, params: Params, carry: Carry, arrays: Any) -> tuple[Carry, Array]:
    """Return (carry, the h of the carry after each step [T, B, H]); the carry passes steps that do not count."""
    x, valid, begins = arrays
    if cell.gates is None:
        return _linear(form, carry, *min_gru_terms(cell.project(params, x)), valid, begins)
    projected = cell.project(params, x)
    if form == "fast":
        recurrent = params.replace(w_x=None, b=None)
        return _fast(cell, recurrent, carry, projected, valid, begins)

    return _scan(cell, params, carry, (projected, valid, begins))


def _scan(cell: Cell, params: Params, carry: Carry, arrays: Any) -> tuple[Carry, Array]:
    """Return (carry, h after each step [T, B, H]) of inputs that are projected already."""

    def step(carry: Carry, each: Any) -> tuple[Carry, Array]:
        carry, _ = _step(cell, params, carry, each)
        return carry, cell.hidden(carry)

    return lax.scan(step, carry, arrays)


def _step(cell: Cell, params: Params, carry: Carry, each: Any) -> tuple[Carry, Any]:
    """Return the carry after one step, and what the gradient of its gates needs."""
    assert cell.gates is not None  # a cell without is run by `_linear`
    projected, valid, begins = each
    before = _restart(begins, carry)
    after, saved = cell.gates.forward(params, projected, cell.hidden(before) @ params.w_h, before)
    return _select(valid, after, before), saved


def _restart(begins: Array | None, carry: Carry) -> Carry:
    """Return the carry [B, ...] with 0 in rows where a sequence begins."""
    return carry if begins is None else jax.tree.map(lambda a: jnp.where(begins[:, None], jnp.zeros_like(a), a), carry)


def _select(valid: Array | None, after: Carry, before: Carry) -> Carry:
    """Return the carry after a step where the step counts, and the one before elsewhere."""
    if valid is None:
        return after
    return jax.tree.map(lambda new, old: jnp.where(valid[:, None], new, old), after, before)


# ── The fast form of cells with a recurrent product ─────────────────────────────────────────────────────────────────


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _fast(cell, recurrent, carry, projected, valid, begins):
    return _scan(cell, recurrent, carry, (projected, valid, begins))


def _fast_forward(cell, recurrent, carry, projected, valid, begins):
    def step(carry, each):
        carry, saved = _step(cell, recurrent, carry, each)
        return carry, (cell.hidden(carry), saved)

    end, (states, saved) = lax.scan(step, carry, (projected, valid, begins))
    return (end, states), (recurrent, cell.hidden(carry), states, saved, valid, begins)


def _fast_backward(cell, residuals, gradients):
    recurrent, first, states, saved, valid, begins = residuals
    d_end, d_states = gradients
    before = jnp.concatenate([first[None], states[:-1]])
    if begins is not None:
        before = jnp.where(begins[..., None], jnp.zeros_like(before), before)
    w_back = recurrent.w_h.T

    def step(d_carry, each):
        d_h, saved, h_before, h, valid, begins = each
        d_carry = _add_to_hidden(cell, d_carry, d_h)
        counted = _restart(None if valid is None else ~valid, d_carry)
        d_p, d_before = cell.gates.backward(recurrent, saved, h_before, h, counted)
        d_before = _add_to_hidden(cell, d_before, cell.gates.recurrent(saved, d_p) @ w_back)
        d_before = _restart(begins, _select(valid, d_before, d_carry))
        return d_before, d_p

    d_carry, d_projected = lax.scan(step, d_end, (d_states, saved, before, states, valid, begins), reverse=True)
    d_u = cell.gates.recurrent(saved, d_projected)
    others = cell.gates.others(saved, before, d_projected)
    d_recurrent = recurrent.replace(w_h=_flat(before).T @ _flat(d_u), **others)
    return d_recurrent, d_carry, d_projected, None, None


def _flat(a: Array) -> Array:
    """Return [T, B, ...] as a matrix of T B rows; see `Cell.project` for why."""
    return a.reshape(-1, a.shape[-1])


def _add_to_hidden(cell: Cell, carry: Carry, h: Array) -> Carry:
    return carry._replace(h=carry.h + h) if cell.has_cell else carry + h


_fast.defvjp(_fast_forward, _fast_backward)


# ── Linear recurrences: minGRU ──────────────────────────────────────────────────────────────────────────────────────


def _linear(form, carry, keep, new, valid, begins):
    """Return (carry, states [T, B, H]) of h_t = keep_t h_{t-1} + new_t."""
    if valid is not None:
        keep = jnp.where(valid[..., None], keep, jnp.ones_like(keep))
        new = jnp.where(valid[..., None], new, jnp.zeros_like(new))
    if begins is not None:
        keep = jnp.where(begins[..., None], jnp.zeros_like(keep), keep)
    if form == "associative":
        new = new.at[0].add(keep[0] * carry)
        _, states = lax.associative_scan(lambda a, b: (a[0] * b[0], a[1] * b[0] + b[1]), (keep, new))
    else:
        states = (_scan_linear if form == "plain" else _fast_linear)(carry, keep, new)
    return states[-1], states


def _scan_linear(carry, keep, new, reverse=False):
    def step(h, each):
        h = each[0] * h + each[1]
        return h, h

    return lax.scan(step, carry, (keep, new), reverse=reverse)[1]


@jax.custom_vjp
def _fast_linear(carry, keep, new):
    return _scan_linear(carry, keep, new)


def _linear_forward(carry, keep, new):
    states = _scan_linear(carry, keep, new)
    return states, (carry, keep, states)


def _linear_backward(residuals, d_states):
    carry, keep, states = residuals
    later = jnp.concatenate([keep[1:], jnp.zeros_like(keep[:1])])  # no step after the last one
    d_new = _scan_linear(jnp.zeros_like(carry), later, d_states, reverse=True)
    before = jnp.concatenate([carry[None], states[:-1]])
    return d_new[0] * keep[0], d_new * before, d_new


_fast_linear.defvjp(_linear_forward, _linear_backward)


# ── Checks ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _check(cell, params, x, form, segment):
    if form not in FORMS:
        raise unknown("form", str(form), FORMS)
    if form == "associative" and cell.gates is not None:
        raise UserError('form="associative" is for minGRU, whose recurrence is linear: give "fast" or "plain"')
    if x.ndim != 3 or 0 in x.shape:
        raise UserError(f"inputs: {x.ndim} axes of sizes {list(x.shape)}, expected [B, T, D], each at least 1")
    if x.shape[2] != params.w_x.shape[0]:
        raise UserError(f"this cell takes {params.w_x.shape[0]} features a step, not {x.shape[2]}")
    if segment is not None and (isinstance(segment, bool) or not isinstance(segment, int) or segment < 1):
        raise UserError(f"segment = {segment!r}: give a whole number of steps, 1 or more")


def _checked_carry(carry: Any, initial: Carry, finite: bool) -> Carry:
    """Return a carry as arrays of the shapes of the initial one."""

    def checked(leaf, like):
        array = jnp.asarray(checks.as_numbers(leaf, "carry"))
        if array.shape != like.shape:
            raise UserError(f"carry: shape {list(array.shape)}, expected {list(like.shape)}, one row per sequence")
        if finite:
            checks.check_finite(array, "carry")
        return array

    if not isinstance(initial, LSTMCarry):
        return checked(carry, initial)
    if not isinstance(carry, LSTMCarry):
        raise UserError("carry: expected an LSTMCarry, as the cell's `initial_carry` or `unroll` returns it")
    return LSTMCarry(*(checked(leaf, like) for leaf, like in zip(carry, initial, strict=True)))
