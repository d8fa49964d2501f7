"""Scaled dot-product attention against a loop over heads, queries and keys, and against jax.nn."""

import jax
import jax.numpy as jnp
import numpy as np

from mllab.models.ops import attention

B, N, T, S, D = 2, 3, 4, 5, 6


def test_it_is_the_equation_head_by_head_and_rows_that_may_look_nowhere_read_zeros():
    draw = np.random.default_rng(0)
    q, k, v = (draw.normal(size=(B, N, length, D)).astype(np.float32) for length in (T, S, S))
    mask = draw.random((B, T, S)) < 0.6
    mask[0, 1] = False
    run = jax.jit(attention.scaled_dot_product)
    read, weights = run(q, k, v, mask)
    for b, n, t in np.ndindex(B, N, T):
        expected = np.array([np.exp(q[b, n, t] @ k[b, n, s] / np.sqrt(D)) * mask[b, t, s] for s in range(S)])
        expected /= max(expected.sum(), 1e-30)
        np.testing.assert_allclose(weights[b, n, t], expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(read[b, n, t], expected @ v[b, n], rtol=1e-4, atol=1e-5)
    gradients = jax.jit(jax.grad(lambda q, k, v: (run(q, k, v, mask)[0] ** 2).sum(), (0, 1, 2)))(q, k, v)
    assert all(np.isfinite(each).all() for each in gradients)
    assert not np.asarray(gradients[0])[0, :, 1].any()


def test_causal_attention_is_that_of_jax_nn():
    q, k, v = np.random.default_rng(1).normal(size=(3, B, N, T, D)).astype(np.float32)
    read, _ = jax.jit(attention.scaled_dot_product)(q, k, v, attention.causal_mask(T, T))
    positions_first = [jnp.swapaxes(each, 1, 2) for each in (q, k, v)]
    expected = jnp.swapaxes(jax.nn.dot_product_attention(*positions_first, is_causal=True), 1, 2)
    np.testing.assert_allclose(read, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(attention.causal_mask(2, 5, 2), [[1, 1, 1, 0, 0], [1, 1, 1, 1, 0]])
