"""Recurrent cells against flax and NumPy; their gradients against BPTT by hand; sequences of unequal lengths."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

from mllab import devices, sweep
from mllab.errors import UserError
from mllab.models.recurrent import CELLS, FORMS, LSTMCarry, bidirectional, stack, unroll

B, T, D, H = 4, 6, 3, 5
LENGTHS = np.array([6, 0, 1, 4])
HOLES = (np.arange(T) < LENGTHS[:, None]) & (np.arange(T) != 2)  # padding in the middle, too
RESET = np.zeros((B, T), bool)
RESET[[0, 3, 3, 2], [3, 0, 1, 4]] = True  # the last one at padding
MASKS = {
    "mask and reset": {"mask": HOLES, "reset": RESET},
    "backwards": {"lengths": LENGTHS, "reset": RESET, "reverse": True},
}


@functools.cache
def problem(name):
    """Params, carry and inputs of a cell in float64, and the weights of its hidden states in a loss."""
    rng, cell = np.random.default_rng(0), CELLS[name]
    with jax.enable_x64(True):
        params = cell.init(jax.random.key(0), D, H)
        normal = lambda a: jnp.asarray(rng.normal(size=a.shape))  # noqa: E731
        params = jax.tree.map(lambda a: a + 0.3 * normal(a), params)
        carry = jax.tree.map(normal, cell.initial_carry(params, B))
        return params, carry, jnp.asarray(rng.normal(size=(B, T, D))), rng.normal(size=(B, T, H))


def outcome(name, form, options, **static):
    """(loss, carry, hidden states, gradients of params, carry and inputs): a loss of all states and of the carry."""
    params, carry, x, weights = problem(name)

    @jax.jit
    def compute(params, carry, x, options):
        def loss(params, carry, x):
            end, states = unroll(CELLS[name], params, carry, x, form=form, **options, **static)
            return (states * weights).sum() + sum(jnp.square(a).sum() for a in jax.tree.leaves(end)), (end, states)

        return jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(params, carry, x)

    with jax.enable_x64(True):
        arrays = {key: value for key, value in options.items() if key != "reverse"}
        static |= {key: value for key, value in options.items() if key == "reverse"}
        (loss, (end, states)), gradients = compute(params, carry, x, arrays)
        return jax.tree.map(np.asarray, (loss, end, states, gradients))


def assert_close(one, other, tolerance=1e-10):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


# ── References ──────────────────────────────────────────────────────────────────────────────────────────────────────


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def tanh_by_hand(w_x, w_h, b, h, xs, gradient_of):
    """The lecture's RNN for one sequence, forwards and backwards: (states, gradients of w_x, w_h, b, h_0, inputs)."""
    states = [h]
    for x in xs:
        states.append(np.tanh(states[-1] @ w_h + x @ w_x + b))
    d_w_x, d_w_h, d_b, d_xs = np.zeros_like(w_x), np.zeros_like(w_h), np.zeros_like(b), np.zeros_like(xs)
    flowing = 2 * states[-1]  # of the squared carry
    for t in reversed(range(len(xs))):
        d_a = (gradient_of[t] + flowing) * (1 - states[t + 1] ** 2)
        d_w_x += np.outer(xs[t], d_a)
        d_w_h += np.outer(states[t], d_a)
        d_b += d_a
        d_xs[t] = w_x @ d_a
        flowing = w_h @ d_a
    return np.array(states[1:]), (d_w_x, d_w_h, d_b, flowing, d_xs)


def lstm_by_hand(w_x, w_h, b, c, h, xs, gradient_of):
    """As `tanh_by_hand`, for an LSTM, written gate by gate; gradients of w_x, w_h, b, c_0, h_0, inputs."""
    steps = []
    for x in xs:
        i, f, g, o = np.split(h @ w_h + x @ w_x + b, 4)
        i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
        before, c = c, f * c + i * g
        steps.append((h, before, c, i, f, g, o))
        h = o * np.tanh(c)
    states = [step[0] for step in steps[1:]] + [h]
    d_w_x, d_w_h, d_b, d_xs = np.zeros_like(w_x), np.zeros_like(w_h), np.zeros_like(b), np.zeros_like(xs)
    d_h, d_c = 2 * h, 2 * c
    for t in reversed(range(len(xs))):
        h_before, c_before, c, i, f, g, o = steps[t]
        d_h = d_h + gradient_of[t]
        d_c = d_c + d_h * o / np.cosh(c) ** 2
        d_i, d_f, d_g, d_o = d_c * g, d_c * c_before, d_c * i, d_h * np.tanh(c)
        d_a = np.concatenate([d_i * i * (1 - i), d_f * f * (1 - f), d_g * (1 - g**2), d_o * o * (1 - o)])
        d_w_x += np.outer(xs[t], d_a)
        d_w_h += np.outer(h_before, d_a)
        d_b += d_a
        d_xs[t] = w_x @ d_a
        d_h, d_c = w_h @ d_a, d_c * f
    return np.array(states), (d_w_x, d_w_h, d_b, d_c, d_h, d_xs)


def steps_by_hand(name, params, carry, x):
    """Hidden states of one sequence: GRU and minGRU, from the equations of their papers."""
    h, states = carry, []
    for each in x:
        if name == "gru":
            (p_r, p_z, p_n), (u_r, u_z, u_n) = np.split(each @ params.w_x + params.b, 3), np.split(h @ params.w_h, 3)
            r, z = sigmoid(p_r + u_r), sigmoid(p_z + u_z)
            h = (1 - z) * np.tanh(p_n + r * (u_n + params.b_n)) + z * h
        else:
            z, candidate = np.split(each @ params.w_x + params.b, 2)
            h = (1 - sigmoid(z)) * h + sigmoid(z) * candidate
        states.append(h)
    return np.array(states)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tanh", "lstm"])
def test_values_and_gradients_equal_backpropagation_through_time_by_hand(name):
    params, carry, x, weights = jax.tree.map(np.asarray, problem(name))
    _, _, states, (d_params, d_carry, d_x) = outcome(name, "fast", {})
    by_hand = {"tanh": tanh_by_hand, "lstm": lstm_by_hand}[name]
    rows = [
        by_hand(params.w_x, params.w_h, params.b, *(leaf[row] for leaf in jax.tree.leaves(carry)), x[row], weights[row])
        for row in range(B)
    ]
    assert_close(states, np.array([row[0] for row in rows]))
    d_w_x, d_w_h, d_b, *d_first, d_inputs = (np.array(each) for each in zip(*(row[1] for row in rows), strict=True))
    assert_close((d_params.w_x, d_params.w_h, d_params.b), (d_w_x.sum(0), d_w_h.sum(0), d_b.sum(0)))
    assert_close((jax.tree.leaves(d_carry), d_x), (d_first, d_inputs))


@pytest.mark.parametrize("name", ["gru", "mingru"])
def test_values_equal_the_equations_and_gradients_finite_differences(name):
    params, carry, x, weights = jax.tree.map(np.asarray, problem(name))
    _, _, states, gradients = outcome(name, "fast", {})

    def loss(params, carry, x):
        states = np.array([steps_by_hand(name, params, carry[row], x[row]) for row in range(B)])
        return (states * weights).sum() + np.square(states[:, -1]).sum()

    assert_close(states, np.array([steps_by_hand(name, params, carry[row], x[row]) for row in range(B)]))
    rng = np.random.default_rng(1)
    direction = jax.tree.map(lambda a: rng.normal(size=a.shape), (params, carry, x))
    ends = [loss(*jax.tree.map(lambda a, d, s=s: a + s * d, (params, carry, x), direction)) for s in (-1e-6, 1e-6)]
    along = sum((g * d).sum() for g, d in zip(*map(jax.tree.leaves, (gradients, direction)), strict=True))
    np.testing.assert_allclose(along, (ends[1] - ends[0]) / 2e-6, rtol=1e-6)


FLAX = {  # our name -> flax's cell, names of its gates in our order
    "tanh": (linen.SimpleCell, ("",)),
    "lstm": (linen.OptimizedLSTMCell, ("i", "f", "g", "o")),
    "gru": (linen.GRUCell, ("r", "z", "n")),
}


@pytest.mark.parametrize("name", FLAX)
def test_a_step_equals_flaxs(name):
    module, gates = FLAX[name]
    params, carry, x, _ = jax.tree.map(lambda a: np.asarray(a, np.float32), problem(name))
    w_x, b = np.split(params.w_x, len(gates), 1), np.split(params.b, len(gates))
    w_h = np.split(params.w_h, len(gates), 1)
    if name == "tanh":
        theirs = {"i": {"kernel": w_x[0], "bias": b[0]}, "h": {"kernel": w_h[0]}}
    else:
        theirs = {f"i{gate}": {"kernel": w_x[k]} for k, gate in enumerate(gates)}
        theirs |= {f"h{gate}": {"kernel": w_h[k]} for k, gate in enumerate(gates)}
        for k, gate in enumerate(gates):
            theirs[f"{'i' if name == 'gru' else 'h'}{gate}"]["bias"] = b[k]
    if name == "gru":
        theirs["hn"]["bias"] = params.b_n
    after, h = CELLS[name].step(params, carry, x[:, 0])
    flax_after, flax_h = module(H).apply({"params": theirs}, tuple(carry) if name == "lstm" else carry, x[:, 0])
    assert_close((jax.tree.leaves(after), h), (jax.tree.leaves(flax_after), flax_h), 1e-5)


# ── Forms and masks ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("masks", ["mask and reset", pytest.param("backwards", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", CELLS)
def test_all_forms_are_equal(name, masks):
    plain = outcome(name, "plain", MASKS[masks])
    for form in FORMS[1:] if name == "mingru" else ():
        assert_close(outcome(name, form, MASKS[masks]), plain)
    segmented = {"segment": 4} if name in ("lstm", "mingru") and masks == "mask and reset" else {}
    assert_close(outcome(name, "fast", MASKS[masks], **segmented), plain)


@pytest.mark.parametrize("name", ["lstm", "mingru"])
def test_padding_touches_nothing(name):
    params, carry, x, _ = jax.tree.map(lambda a: np.asarray(a, np.float32), problem(name))
    run = jax.jit(functools.partial(unroll, CELLS[name]))
    padded = np.where((np.arange(T) < LENGTHS[:, None])[..., None], x, np.nan).astype(np.float32)
    end, states = run(params, carry, padded, lengths=LENGTHS)
    whole = run(params, carry, x)[1]
    for row, length in enumerate(LENGTHS):  # causal: the whole sequence's states at its first steps
        np.testing.assert_allclose(states[row, :length], whole[row, :length], rtol=1e-5, atol=1e-6)
        assert not np.any(states[row, length:])
        expected = whole[row, length - 1] if length else jax.tree.leaves(carry)[-1][row]
        np.testing.assert_allclose(CELLS[name].hidden(end)[row], expected, rtol=1e-5, atol=1e-6)
    gradient = jax.jit(jax.grad(lambda x: run(params, carry, x, lengths=LENGTHS)[1].sum()))(padded)
    np.testing.assert_array_equal(np.any(gradient, -1), np.arange(T) < LENGTHS[:, None])


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_a_window_continues_where_the_last_one_ended_and_a_reset_begins_anew(name):
    params, carry, x, _ = jax.tree.map(lambda a: np.asarray(a, np.float32), problem(name))
    cell, half = CELLS[name], T // 2
    run = jax.jit(functools.partial(unroll, cell))
    end, states = run(params, carry, x)
    middle, first = run(params, carry, x[:, :half])
    last, second = run(params, middle, x[:, half:])
    assert_close((end, states), (last, np.concatenate([first, second], 1)), 1e-5)
    reset = np.broadcast_to(np.arange(T) == half, (B, T))
    fresh, states = run(params, carry, x, reset=reset)
    assert_close((fresh, states[:, half:]), run(params, cell.initial_carry(params, B), x[:, half:]), 1e-5)
    backwards = run(params, None, x[:, :half][:, ::-1])[1][:, ::-1]
    reverse = jax.jit(functools.partial(unroll, cell, reverse=True))
    assert_close(reverse(params, carry, x, reset=reset)[1][:, :half], backwards, 1e-5)


def test_a_state_depends_on_earlier_inputs_alone():
    params, carry, x, _ = problem("gru")
    with jax.enable_x64(True):
        jacobian = jax.jit(jax.jacrev(lambda x: unroll(CELLS["gru"], params, carry, x)[1].sum((0, 2))))(x)
    depends = np.any(np.asarray(jacobian), axis=(1, 3))  # [T of the state, T of the input]
    np.testing.assert_array_equal(depends, np.tril(np.ones((T, T), bool)))


def test_layers_read_each_other_and_directions_stand_side_by_side():
    params, _, x, _ = jax.tree.map(lambda a: np.asarray(a, np.float32), problem("gru"))
    cell = CELLS["gru"]
    above = cell.init(jax.random.key(1), H, H)

    @jax.jit
    def compute(params, above, x):
        first, below = unroll(cell, params, None, x)
        second, states = unroll(cell, above, None, 2 * below)
        stacked = stack(cell, (params, above), None, x, between=lambda layer, states: 2 * states)
        forward = unroll(cell, params, None, x, lengths=LENGTHS)
        row = unroll(cell, params, None, x[3:, : LENGTHS[3]][:, ::-1])[1][:, ::-1]
        both = bidirectional(cell, (params, params), None, x, lengths=LENGTHS)
        return ((first, second), states), stacked, forward, row, both

    one_by_one, stacked, forward, row, ((forward_end, _), both) = compute(params, above, x)
    assert_close(stacked, one_by_one, 1e-5)
    assert_close((forward_end, both[..., :H]), forward, 1e-5)
    np.testing.assert_allclose(both[3:, : LENGTHS[3], H:], row, rtol=1e-5, atol=1e-6)


# ── Transformations ─────────────────────────────────────────────────────────────────────────────────────────────────


def gradient(cell, params, x):
    return jax.grad(lambda params: jnp.square(unroll(cell, params, None, x, lengths=LENGTHS[: len(x)])[1]).sum())(
        params
    )


@pytest.mark.slow
def test_lanes_devices_and_platforms():
    cell = CELLS["lstm"]
    params, _, x, _ = jax.tree.map(lambda a: np.asarray(a, np.float32), problem("lstm"))
    alone = jax.jit(functools.partial(gradient, cell))(params, x)
    lanes = jax.tree.map(lambda a: np.stack([a, 2 * a]), params)
    together = jax.jit(jax.vmap(functools.partial(gradient, cell), (0, None)))(lanes, x)
    assert_close(jax.tree.map(lambda a: a[0], together), alone, 1e-4)

    def part(params, x, lengths):
        loss = lambda params: jnp.square(unroll(cell, params, None, x, lengths=lengths)[1]).sum()  # noqa: E731
        return jax.lax.psum(jax.grad(loss)(params), devices.AXIS)

    split = jax.jit(sweep.spread(part, devices.mesh(2), (None, 0, 0), None))
    assert_close(split(params, x, LENGTHS), alone, 1e-4)
    exported = jax.export.export(jax.jit(functools.partial(gradient, cell)), platforms=("cpu", "cuda", "tpu"))
    assert exported(params, x).platforms == ("cpu", "cuda", "tpu")


def test_bfloat16_computes_near_float32_and_keeps_the_dtype_of_the_carry():
    cell = CELLS["gru"]
    params, carry, x, _ = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), problem("gru"))
    half = jax.tree.map(lambda a: a.astype(jnp.bfloat16), (params, x))
    run = jax.jit(functools.partial(unroll, cell))
    end, states = run(half[0], carry, half[1])
    assert (end.dtype, states.dtype) == (jnp.float32, jnp.bfloat16)
    np.testing.assert_allclose(states.astype(jnp.float32), run(params, carry, x)[1], atol=0.05)
    assert {leaf.dtype for leaf in jax.tree.leaves(jax.eval_shape(functools.partial(gradient, cell), *half))} == {
        jnp.dtype("bfloat16")
    }


@pytest.mark.slow
def test_initial_weights():
    params = CELLS["lstm"].init(jax.random.key(0), D, 8, forget_bias=1.0)
    for gate in np.split(np.asarray(params.w_h), 4, axis=1):
        np.testing.assert_allclose(gate.T @ gate, np.eye(8), atol=1e-5)
    np.testing.assert_array_equal(params.b, np.repeat([0, 1, 0, 0], 8))
    normal = CELLS["gru"].init(jax.random.key(0), D, 64, orthogonal=False)
    np.testing.assert_allclose(np.std(normal.w_h), 1 / 8, rtol=0.05)
    assert isinstance(CELLS["lstm"].initial_carry(params, 2), LSTMCarry)


@pytest.mark.parametrize(
    ("message", "x", "options"),
    [
        ("takes 3 features", np.zeros((2, 4, 5)), {}),
        (r"expected \[B, T, D\]", np.zeros((2, 3)), {}),
        ("lengths: shape", np.zeros((2, 4, 3)), {"lengths": np.array([1])}),
        ("give one of them", np.zeros((2, 4, 3)), {"lengths": np.array([1, 1]), "mask": np.ones((2, 4))}),
        ("reset: shape", np.zeros((2, 4, 3)), {"reset": np.zeros((4, 2))}),
        ("form", np.zeros((2, 4, 3)), {"form": "quick"}),
        ("minGRU", np.zeros((2, 4, 3)), {"form": "associative"}),
        ("segment", np.zeros((2, 4, 3)), {"segment": 0}),
        ("carry: shape", np.zeros((2, 4, 3)), {"carry": np.zeros((3, 5))}),
    ],
)
def test_mistakes_are_one_line(message, x, options):
    params = CELLS["gru"].init(jax.random.key(0), D, H)
    with pytest.raises(UserError, match=message) as raised:
        unroll(CELLS["gru"], params, options.pop("carry", None), x, **options)
    assert "\n" not in str(raised.value)


@pytest.mark.slow
def test_segments_need_less_memory():
    cell = CELLS["lstm"]
    params = jax.eval_shape(lambda: cell.init(jax.random.key(0), 2, 8))

    def needed(steps, segment):
        loss = lambda params, x: unroll(cell, params, None, x, segment=segment)[1].sum()  # noqa: E731
        x = jax.ShapeDtypeStruct((4, steps, 2), jnp.float32)
        return jax.jit(jax.grad(loss)).lower(params, x).compile().memory_analysis().temp_size_in_bytes

    short, long = needed(64, None), needed(1024, None)
    assert long > 10 * short
    assert needed(1024, 32) < long / 3
