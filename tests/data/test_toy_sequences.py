"""Toy sequences against Python's own arithmetic, and the errors of their baselines."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mllab.data.sets import toy_sequences
from mllab.errors import UserError

PROBLEMS = toy_sequences.problems(symbols=3)
LENGTHS = np.array([2, 5, 8])
LONGEST, COUNT = 8, 200


@functools.cache
def drawn(name, beyond=False):
    """Sequences of all lengths, [3, COUNT, ...], by one program."""
    problem = PROBLEMS[name]
    keys = jax.random.split(jax.random.key(1), COUNT)
    longest = LONGEST * (2 if beyond and problem.longer else 1)

    @jax.jit
    def of(lengths):
        one = lambda key, length: toy_sequences.draw(problem, key, length, longest, beyond)  # noqa: E731
        return jax.vmap(lambda length: jax.vmap(lambda key: one(key, length))(keys))(lengths)

    return jax.tree.map(np.asarray, of(jnp.asarray(LENGTHS)))


def each(name, beyond=False):
    """Yield (length, inputs, targets, weights, scored) of each sequence without its padding."""
    sequences = drawn(name, beyond)
    for place, length in enumerate(LENGTHS):
        for index in range(COUNT):
            inputs, targets, weights, scored, steps = (array[place, index] for array in sequences)
            assert not inputs[steps:].any()
            assert not weights[steps:].any()
            assert not scored[steps:].any()
            yield int(length), inputs[:steps], targets[:steps], weights[:steps], scored[:steps]


def test_adding_asks_for_the_sum_of_a_number_of_each_half():
    places = {2: set(), 5: set(), 8: set()}
    for length, inputs, targets, weights, scored in each("adding"):
        first, second = np.flatnonzero(inputs[:, 1])
        assert first < length // 2 <= second < len(inputs) == length
        places[length] |= {first, second}
        assert math.isclose(targets[-1], inputs[first, 0] + inputs[second, 0], rel_tol=1e-6)
        np.testing.assert_array_equal(weights, np.arange(length) == length - 1)
        np.testing.assert_array_equal(scored, weights)
    assert all(found == set(range(length)) for length, found in places.items())


def test_copy_repeats_the_symbols_after_the_delay():
    seen = set()
    for length, inputs, targets, weights, scored in each("copy"):
        tokens = [int(np.flatnonzero(row)[0]) for row in inputs]
        assert (inputs.sum(axis=1) == 1).all()
        symbols, rest = tokens[:3], tokens[3:]
        assert rest == [8] * (length - 1) + [9] + [8] * 3
        assert targets.tolist() == [8] * (length + 3) + symbols
        assert weights.all()
        assert scored.tolist() == [0] * (length + 3) + [1] * 3
        seen |= set(symbols)
    assert seen == set(range(8))


@pytest.mark.parametrize("beyond", [False, True])
def test_addition_adds_as_python_does(beyond):
    carries = 0
    for length, inputs, targets, weights, scored in each("addition", beyond):
        bits = length * (2 if beyond else 1)
        one, other = (sum(int(bit) << place for place, bit in enumerate(column)) for column in inputs.T)
        assert not inputs[-1].any()
        assert sum(int(bit) << place for place, bit in enumerate(targets)) == one + other
        assert len(targets) == bits + 1
        assert weights.all()
        assert scored.all()
        carries += targets[-1]
    assert carries > 0


def test_sine_targets_are_the_next_values():
    for length, inputs, targets, weights, scored in each("sine"):
        x = inputs[:, 0].astype(np.float64)
        assert len(x) == 2 * length
        np.testing.assert_array_equal(x[1:], targets[:-1].astype(np.float64))
        middle = x[1:-1]
        cosine = ((x[2:] + x[:-2]) @ middle) / (2 * middle @ middle)  # of a sine: x[t+1] + x[t-1] = 2 cos(ω) x[t]
        frequency = math.acos(min(max(cosine, -1), 1)) / (2 * math.pi)
        assert 0.045 < frequency < 0.155
        np.testing.assert_allclose(x[2:] + x[:-2], 2 * cosine * middle, atol=2e-5)
        assert weights.all()
        assert scored.tolist() == [0] * length + [1] * length


@pytest.mark.parametrize("beyond", [False, True])
def test_parity_counts_ones_of_varied_lengths(beyond):
    lengths = {length: set() for length in LENGTHS.tolist()}
    for length, inputs, targets, weights, scored in each("parity", beyond):
        assert targets[-1] == int(inputs.sum()) % 2
        np.testing.assert_array_equal(weights, np.arange(len(inputs)) == len(inputs) - 1)
        np.testing.assert_array_equal(scored, weights)
        lengths[length].add(len(inputs))
    for length, found in lengths.items():
        assert found == set(range(length + 1, 2 * length + 1) if beyond else range(1, length + 1))


def test_baselines_are_the_errors_of_constants():
    adding, copy = drawn("adding"), drawn("copy")
    sums = adding.targets[adding.scored > 0]
    assert math.isclose(np.mean(np.square(sums - 1)), PROBLEMS["adding"].baseline, rel_tol=0.2)
    for name in ("addition", "parity"):
        targets = drawn(name).targets[drawn(name).scored > 0]
        assert abs(np.mean(targets) - PROBLEMS[name].baseline) < 0.06
    assert abs(np.mean(copy.targets[copy.scored > 0] != 3) - PROBLEMS["copy"].baseline) < 0.03
    values = drawn("sine").targets[drawn("sine").scored > 0]
    assert abs(np.mean(np.square(values)) - PROBLEMS["sine"].baseline) < 0.05


def test_no_symbols_to_copy_are_refused():
    with pytest.raises(UserError, match="symbols = 0"):
        toy_sequences.problems(0)
