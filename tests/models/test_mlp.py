"""The MLP's initial weights and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mllab import losses
from mllab.models import initializers, mlp
from support import problems


@pytest.mark.parametrize(
    ("activation", "deviation"), [("relu", (2 / 300) ** 0.5), ("tanh", (2 / 500) ** 0.5), ("selu", 300**-0.5)]
)
def test_initial_weights_have_the_spread_of_the_papers(activation, deviation):
    hidden, out = mlp.init(jax.random.key(0), (300, 200, 100), activation)
    np.testing.assert_allclose(np.std(hidden.w), deviation, rtol=0.02)
    np.testing.assert_allclose(np.std(out.w), (2 / 300) ** 0.5, rtol=0.02)
    assert not np.any(hidden.b)
    assert abs(np.corrcoef(hidden.w[:100].ravel(), out.w.ravel()[: 100 * 200])[0, 1]) < 0.05


def test_a_convolutions_window_counts_as_inputs():
    np.testing.assert_allclose(initializers.he((3, 3, 16, 32)), (2 / 144) ** 0.5)
    np.testing.assert_allclose(initializers.glorot((3, 3, 16, 32)), (2 / (9 * 48)) ** 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("activation", mlp.ACTIVATIONS)
def test_gradients_of_the_mlp_equal_finite_differences(activation):
    with jax.enable_x64(True):
        params = mlp.init(jax.random.key(0), (6, 5, 3), activation)
        examples = problems.examples(12, dtype=np.float64)

        def loss(params):
            logits = mlp.apply(params, examples["inputs"], mlp.ACTIVATIONS[activation])
            return losses.cross_entropy(logits, examples["targets"]).mean()

        gradient = jax.grad(loss)(params)
        for layer, name in ((0, "w"), (0, "b"), (1, "w"), (1, "b")):
            leaf = np.asarray(getattr(params[layer], name))
            at = tuple(0 for _ in leaf.shape)
            moved = [leaf.copy(), leaf.copy()]
            moved[0][at] -= 1e-6
            moved[1][at] += 1e-6
            low, high = (
                loss(tuple(p.replace(**{name: m}) if i == layer else p for i, p in enumerate(params))) for m in moved
            )
            np.testing.assert_allclose(getattr(gradient[layer], name)[at], (high - low) / 2e-6, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("activation", ["tanh", jnp.tanh])
def test_an_activation_is_a_name_or_a_function_everywhere(activation):
    key, inputs = jax.random.key(0), np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    params = mlp.init(key, (3, 4, 2), activation)
    np.testing.assert_array_equal(params[0].w, mlp.init(key, (3, 4, 2), "tanh")[0].w)
    hidden, out = params
    expected = np.tanh(inputs @ hidden.w) @ out.w
    np.testing.assert_allclose(mlp.apply(params, inputs, activation), expected, rtol=1e-5, atol=1e-6)
    made = mlp.model((3,), 2, hidden=(4,), activation=activation)
    np.testing.assert_allclose(made.apply(params, None, inputs, None)[0], expected, rtol=1e-5, atol=1e-6)
