"""Readouts of recurrent cells, Jacobians over time by finite differences and by hand, and what minGRU cannot do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mllab.models.recurrent import CELLS, MinGRU, jacobians, readout
from support.mistakes import refused_in_one_line

HIDDEN, FEATURES, STEPS = 4, 2, 5


@pytest.fixture(scope="module")
def inputs():
    return jax.random.normal(jax.random.key(3), (2, STEPS, FEATURES))


def init(cell, features, hidden):
    return jax.jit(lambda key: cell.init(key, features, hidden))(jax.random.key(0))


@pytest.mark.slow
def test_padded_sequences_equal_each_alone(inputs):
    model = readout.model(FEATURES, 3, hidden=HIDDEN, layers=2, cell="gru")
    params, _ = jax.jit(model.init)(jax.random.key(0))
    apply = jax.jit(lambda inputs: model.apply(params, None, inputs, None)[0])
    lengths = np.array([5, 2])
    padded = jnp.where(jnp.arange(STEPS)[None, :, None] < lengths[:, None, None], inputs, jnp.nan)
    together = apply({"inputs": padded, "lengths": jnp.asarray(lengths)})
    for row, length in enumerate(lengths):
        alone = apply(inputs[row : row + 1, :length])[0]
        np.testing.assert_allclose(together[row, :length], alone, rtol=1e-5, atol=1e-6)


def test_a_continued_sequence_reads_its_own_outputs():
    model = readout.model(1, 1, hidden=HIDDEN, layers=2, cell="lstm")
    params, _ = jax.jit(model.init)(jax.random.key(0))
    apply = jax.jit(lambda values: model.apply(params, None, values, None)[0])
    values = np.array(jax.random.normal(jax.random.key(1), (2, 6, 1)))
    result = jax.jit(readout.continued)(params, values, jnp.array([3, 2]))
    for row, seen in enumerate((3, 2)):
        sequence = values[row : row + 1].copy()
        sequence[0, seen:] = 0  # outputs do not depend on later inputs
        for step in range(seen, 6):
            sequence[0, step] = apply(sequence)[0, step - 1]
        np.testing.assert_allclose(result[row], apply(sequence)[0], rtol=1e-4, atol=1e-5)
    with refused_in_one_line("2 outputs cannot be the next 1 inputs"):
        readout.continued(params.replace(b_y=jnp.zeros(2)), values, jnp.asarray(1))


def test_mistakes_are_refused():
    with refused_in_one_line("did you mean 'lstm'"):
        readout.model(1, 1, cell="lstn")
    with refused_in_one_line("hidden = 0"):
        readout.model(1, 1, hidden=0)
    with refused_in_one_line("params of a tanh cell"):
        jacobians.with_spectral_radius(MinGRU(jnp.ones((1, 2)), jnp.ones(2)), 1.0)


def test_norms_of_the_tanh_cell_are_those_of_the_product_of_its_jacobians(inputs):
    cell = CELLS["tanh"]
    params = jacobians.with_spectral_radius(init(cell, FEATURES, HIDDEN), 1.7)
    w_x, w_h, b = (np.asarray(each, np.float64) for each in (params.w_x, params.w_h, params.b))
    np.testing.assert_allclose(np.abs(np.linalg.eigvals(w_h)).max(), 1.7, rtol=1e-5)
    norms = jax.jit(lambda params: jacobians.norms_by_distance(cell, params, inputs))(params)
    for row, sequence in enumerate(np.asarray(inputs, np.float64)):
        h, states = np.zeros(HIDDEN), []
        for x in sequence:
            h = np.tanh(x @ w_x + h @ w_h + b)
            states.append(h)
        product, expected = np.eye(HIDDEN), [1.0]
        for h in states[:0:-1]:
            product = product @ np.diag(1 - h**2) @ w_h.T  # ∂h_T/∂h_t of column vectors
            expected.append(np.sqrt(np.sum(product**2) / HIDDEN))
        np.testing.assert_allclose(norms[row], expected, rtol=1e-4)


@pytest.mark.parametrize("name", ["lstm", "gru", "mingru"])
def test_norms_of_gated_cells_are_those_of_finite_differences(name, inputs):
    cell = CELLS[name]
    params = init(cell, FEATURES, HIDDEN)
    step = jax.jit(cell.step)
    first = inputs[:1]
    carry = cell.initial_carry(params, 1)
    for x in first[0, :2]:
        carry, _ = step(params, carry, x[None])

    def end(carry):
        for x in first[0, 2:]:
            carry, h = step(params, carry, x[None])
        return np.asarray(h[0], np.float64)

    leaves, tree = jax.tree.flatten(carry)
    squares, small = 0.0, 1e-2
    for place, leaf in enumerate(leaves):
        for unit in range(HIDDEN):
            moved = [
                jax.tree.unflatten(tree, [*leaves[:place], leaf.at[0, unit].add(sign * small), *leaves[place + 1 :]])
                for sign in (1, -1)
            ]
            squares += np.sum(((end(moved[0]) - end(moved[1])) / (2 * small)) ** 2)
    norms = jax.jit(lambda params: jacobians.norms_by_distance(cell, params, first))(params)
    np.testing.assert_allclose(norms[0, STEPS - 2], np.sqrt(squares / HIDDEN), rtol=2e-3)


def test_a_norm_too_large_to_square_is_finite():
    cell = CELLS["tanh"]
    params = jacobians.with_spectral_radius(init(cell, 1, HIDDEN), 1e4)
    norms = jax.jit(lambda params: jacobians.norms_by_distance(cell, params, jnp.zeros((1, 9, 1))))(params)
    np.testing.assert_allclose(np.log10(np.asarray(norms[0], np.float64)), 4.0 * np.arange(9), rtol=1e-5)


def test_min_gru_approaches_a_limit_on_ones_without_turning_back():
    """So answers to n and n + 1 ones become alike, while their parities differ."""
    model, ones = readout.model(1, 2, hidden=8, layers=3, cell="mingru"), jnp.ones((1, 60, 1))

    @jax.jit
    def run(key):
        params, _ = model.init(key)
        return readout.states_of(params, ones)[0], model.apply(params, None, ones, None)[0][0]

    for key in jax.random.split(jax.random.key(0), 20):
        states, logits = (np.asarray(each, np.float64) for each in run(key))
        change = np.diff(states, axis=0, prepend=0)
        assert (change * np.sign(change[:1]) > -1e-6).all()
        assert (np.abs(change[1:]) < np.abs(change[:-1]) + 1e-6).all()
        assert np.abs(np.diff(logits[-5:], axis=0)).max() < 0.05 * np.abs(np.diff(logits[:5], axis=0)).max() + 1e-3
