"""Sampling from a language model: frequencies against probabilities, keys, greedy choice, top-k and nucleus."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chisquare

from mllab.models.base import Model
from mllab.models.recurrent import language, sampling
from support.mistakes import refused_in_one_line

CHANCES = np.array([[0.1, 0.2, 0.7], [0.5, 0.25, 0.25], [0.05, 0.9, 0.05]])
TABLE = np.log(CHANCES).astype(np.float32)
# The next token given the last one: a Markov chain, whose frequencies are known.
CHAIN = Model(lambda key: (None, None), lambda params, extra, tokens, key: (jnp.asarray(TABLE)[tokens], extra))


def draws(rows=4000, length=1, **options):
    prime = jnp.zeros((rows, 1), jnp.int32)
    return np.asarray(sampling.sample(CHAIN, None, None, jax.random.key(0), prime, length=length, **options))


def test_frequencies_match_the_probabilities():
    first, second = draws(length=2).T
    assert chisquare(np.bincount(first, minlength=3), 4000 * CHANCES[0]).pvalue > 1e-3
    after = second[first == 2]
    assert chisquare(np.bincount(after, minlength=3), len(after) * CHANCES[2]).pvalue > 1e-3
    hot = np.sqrt(CHANCES[0])  # temperature 2
    counts = np.bincount(draws(temperature=2.0)[:, 0], minlength=3)
    assert chisquare(counts, 4000 * hot / hot.sum()).pvalue > 1e-3


def test_greedy_takes_the_greatest_logit_and_the_key_decides_the_rest():
    assert (draws(3, 4, temperature=0.0) == [2, 1, 0, 2]).all()
    np.testing.assert_array_equal(draws(50, 4), draws(50, 4))


@pytest.mark.slow
def test_top_k_and_top_p_leave_tokens_out():
    assert set(draws(500, top_k=1)[:, 0]) == {2}
    assert set(draws(500, top_k=2)[:, 0]) == {1, 2}
    assert set(draws(500, top_p=0.7)[:, 0]) == {2}
    assert set(draws(500, top_p=0.75)[:, 0]) == {1, 2}
    assert set(draws(500, top_p=1.0)[:, 0]) == {0, 1, 2}
    equal = jnp.zeros((1, 4))
    assert np.isfinite(sampling.filtered(equal, top_k=2)).sum() == 2


@pytest.mark.slow
def test_samples_of_a_recurrent_model_are_those_of_step_after_step():
    model = language.model(5, hidden=4, layers=2, cell="gru", embedding=3)
    params, _ = model.init(jax.random.key(1))
    prime = jnp.array([[1, 2, 3], [4, 0, 1]])
    carry = language.initial_carry(params, 2)
    greedy = sampling.sample(model, params, carry, jax.random.key(0), prime, length=4, temperature=0.0)
    whole = jnp.concatenate([prime, greedy], axis=1)  # read again at once, without a carry
    logits, _ = model.apply(params, None, whole, None)
    np.testing.assert_array_equal(greedy, np.argmax(logits[:, 2:-1], axis=-1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1.0}, "temperature = -1.0"),
        ({"temperature": float("nan")}, "temperature = nan"),
        ({"top_p": 0.0}, "top_p = 0.0"),
        ({"top_k": 0}, "top_k"),
        ({"length": 0}, "length"),
    ],
    ids=str,
)
def test_arguments_out_of_range_are_refused(options, message):
    with refused_in_one_line(message):
        draws(2, **options)


def test_an_empty_prime_is_refused():
    with refused_in_one_line("prime: shape"):
        sampling.sample(CHAIN, None, None, jax.random.key(0), jnp.zeros((1, 0), jnp.int32), length=1)
