"""Policies against SciPy, NumPy and frequencies."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
import scipy.stats

from mllab.control import policy
from mllab.control.environment import Continuous, Discrete

DRAW = np.random.default_rng(0)


def test_a_categorical_policy_is_a_softmax():
    of, logits = policy.of(Discrete(4)), DRAW.normal(size=(5, 4)).astype(np.float32)
    expected, action = scipy.special.log_softmax(logits, axis=1), np.array([0, 3, 1, 2, 2])
    found = jax.jit(lambda z, a: (of.log_probability(z, a), of.entropy(z), of.mode(z)))(logits, action)
    np.testing.assert_allclose(found[0], expected[np.arange(5), action], rtol=1e-5)
    np.testing.assert_allclose(found[1], scipy.stats.entropy(np.exp(expected), axis=1), rtol=1e-5)
    np.testing.assert_array_equal(found[2], logits.argmax(axis=1))


def test_categorical_samples_have_the_frequencies_of_the_policy():
    of, logits = policy.of(Discrete(3)), np.array([0.5, -1.0, 1.5], np.float32)

    @jax.jit
    def draw(key):
        drawn = of.sample(jnp.broadcast_to(logits, (20_000, 3)), of.noise(key, (20_000,)))
        return drawn, of.sample(logits, jnp.float32(1 - 2**-24))

    drawn, last = draw(jax.random.key(0))
    frequencies = np.bincount(drawn, minlength=3) / 20_000
    np.testing.assert_allclose(frequencies, scipy.special.softmax(logits), atol=0.015)
    assert last == 2  # never beyond the last action


def test_a_gaussian_policy_is_a_product_of_normal_distributions_in_units_of_the_range():
    of = policy.of(Continuous((-2.0, 0.0), (2.0, 10.0)))
    mean, deviation = DRAW.normal(size=(2, 3, 2)).astype(np.float32)
    outputs, action = np.concatenate([mean, deviation], axis=1), DRAW.normal(size=(3, 2)).astype(np.float32)
    normal = scipy.stats.norm(mean, np.exp(deviation))

    @jax.jit
    def computed(outputs, action):
        bounded = of.bounded(jnp.array([[-3.0, 0.5]]))
        return of.log_probability(outputs, action), of.entropy(outputs), of.sample(outputs, jnp.ones((3, 2))), bounded

    found = computed(outputs, action)
    np.testing.assert_allclose(found[0], normal.logpdf(action).sum(axis=1), rtol=1e-4)
    np.testing.assert_allclose(found[1], normal.entropy().sum(axis=1), rtol=1e-5)
    np.testing.assert_allclose(found[2], mean + np.exp(deviation), rtol=1e-5)
    np.testing.assert_allclose(found[3], [[-2.0, 7.5]])
