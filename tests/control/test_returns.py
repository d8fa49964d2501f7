"""Advantages against sums that are written out."""

import jax
import numpy as np
import pytest

from mllab.control import returns

T, E, DISCOUNT = 9, 4, 0.9


@jax.jit
def advantages(rewards, values, after, terminated, truncated, trace):
    return returns.advantages(rewards, values, after, terminated, truncated, discount=DISCOUNT, trace=trace)


@pytest.mark.parametrize("trace", [0.0, 0.7, 1.0])
def test_advantages_are_the_sums_of_their_definition(trace):
    draw = np.random.default_rng(0)
    rewards, values, after = draw.normal(size=(3, T, E)).astype(np.float32)
    terminated, truncated = draw.random((2, T, E)) < 0.2
    expected = np.zeros((T, E))
    for env in range(E):
        for start in range(T):
            for t in range(start, T):
                later = 0.0 if terminated[t, env] else after[t, env]
                error = rewards[t, env] + DISCOUNT * later - values[t, env]
                expected[start, env] += (DISCOUNT * trace) ** (t - start) * error
                if terminated[t, env] or truncated[t, env]:
                    break
    made = advantages(rewards, values, after, terminated, truncated, trace)
    np.testing.assert_allclose(made, expected, atol=1e-5)


def test_returns_are_bootstrapped_at_a_truncation_and_not_at_a_termination():
    rewards, values, after = np.ones(4, np.float32), np.zeros(4, np.float32), np.array([0, 10, 10, 10], np.float32)
    terminated, truncated = np.array([0, 1, 0, 0], bool), np.array([0, 0, 1, 0], bool)
    made = advantages(*(a[:, None] for a in (rewards, values, after, terminated, truncated)), 1.0)
    np.testing.assert_allclose(made[:, 0], [1.9, 1.0, 10.0, 10.0], rtol=1e-6)
