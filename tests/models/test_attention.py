"""Attention weights and the blocked softmax of a vocabulary against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mllab.errors import UserError
from mllab.models.ops import attention, vocabulary

N, H, V = 7, 3, 6
rng = np.random.default_rng(0)
STATES, W, B = rng.normal(size=(N, H)), rng.normal(size=(H, V)), rng.normal(size=V)
TARGETS, MASK = rng.integers(0, V, N), np.arange(N) != 4


def test_additive_attention_is_the_softmax_of_its_energies_over_real_positions():
    query, keys, v = rng.normal(size=(2, 3)), rng.normal(size=(2, 4, 3)), rng.normal(size=3)
    mask = np.array([[True, True, False, True], [False] * 4])

    def compute(query):
        weights = attention.additive(query, keys, v, mask)
        return jnp.square(weights).sum(), weights

    gradient, weights = jax.tree.map(np.asarray, jax.jit(jax.grad(compute, has_aux=True))(query))
    energies = [np.exp(v @ np.tanh(query[0] + keys[0, j])) for j in (0, 1, 3)]
    np.testing.assert_allclose(weights[0, [0, 1, 3]], energies / np.sum(energies), rtol=1e-5)
    assert weights[0, 2] == 0
    assert not weights[1].any()
    assert np.isfinite(gradient).all()
    assert not gradient[1].any()


def whole(states, w, b):
    """The same as `token_scores`, by JAX's own softmax of all logits at once."""
    log_p = jax.nn.log_softmax(states @ w + b[None])
    return jnp.where(MASK, log_p[jnp.arange(N), TARGETS], 0), jnp.where(MASK, log_p.mean(-1), 0)


@pytest.mark.parametrize("weights", ["equal", "unequal"])
def test_blocks_equal_the_whole_in_values_and_gradients(weights):
    each = np.ones(N) if weights == "equal" else np.arange(1.0, N + 1)

    def loss(scores):
        return ((0.9 * scores[0] + 0.1 * scores[1]) * each).sum()

    def blocked(states, w, b):
        return vocabulary.token_scores(states, w, b, TARGETS, MASK, block=3)

    with jax.enable_x64(True):
        arrays = tuple(map(jnp.asarray, (STATES, W, B)))
        one, other = (
            jax.jit(lambda *a, f=f: (f(*a), jax.grad(lambda *a: loss(f(*a)), (0, 1, 2))(*a)))(*arrays)
            for f in (blocked, whole)
        )
        for ours, theirs in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)


def test_rows_of_a_second_axis_are_the_same_rows_and_logits_are_never_whole():
    states, targets = STATES[:6].reshape(3, 2, H), TARGETS[:6].reshape(3, 2)
    score = jax.jit(lambda s, t: vocabulary.token_scores(s, W, B, t, block=4))
    for ours, flat in zip(score(states, targets), score(STATES[:6], TARGETS[:6]), strict=True):
        np.testing.assert_allclose(np.ravel(ours), flat, rtol=1e-5)
    size = 64
    shapes = (np.zeros((size, H)), np.zeros((H, V)), np.zeros(V), np.zeros(size, int))
    gradient = jax.grad(lambda s, w, b, t: vocabulary.token_scores(s, w, b, t, block=8)[0].sum(), (0, 1, 2))
    text = str(jax.make_jaxpr(gradient)(*shapes))
    assert f"[8,{V}]" in text
    assert f"[{size},{V}]" not in text


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        (r"expected \[N, H\]", (STATES, W, B, TARGETS[:3])),
        (r"\[H, V\]", (STATES, W.T, B, TARGETS)),
        ("block = 0", (STATES, W, B, TARGETS, MASK, 0)),
    ],
)
def test_mistakes_are_one_line(message, arguments):
    *arrays, block = arguments if len(arguments) == 6 else (*arguments, 3)
    with pytest.raises(UserError, match=message):
        vocabulary.token_scores(*arrays, block=block)
