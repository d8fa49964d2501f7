"""Paths of optimizers against descent written out in NumPy, on a pytree of params."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mllab import optimizers, paths

SCALE = np.array([1.0, 5.0], np.float32)


def loss(params):
    return 0.5 * jnp.sum(SCALE * params["w"] ** 2) + params["b"] ** 2


START = {"w": jnp.array([1.0, -2.0]), "b": jnp.array(3.0)}


def test_a_path_of_gradient_descent_is_that_of_numpy():
    path = paths.follow(loss, optax.sgd(0.1), START, 7)
    w, b = np.array([1.0, -2.0]), 3.0
    for step in range(8):
        np.testing.assert_allclose(path.params["w"][step], w, rtol=1e-5)
        np.testing.assert_allclose(path.loss[step], 0.5 * np.sum(SCALE * w**2) + b**2, rtol=1e-5)
        np.testing.assert_allclose(path.gradient["w"][step], SCALE * w, rtol=1e-5)
        np.testing.assert_allclose(path.gradient["b"][step], 2 * b, rtol=1e-5)
        np.testing.assert_allclose(path.velocity["w"][step], -0.1 * SCALE * w, rtol=1e-5)
        w, b = w - 0.1 * SCALE * w, b - 0.2 * b
    assert [leaf.shape[0] for leaf in jax.tree.leaves(path)] == [8] * 7


def test_a_path_is_that_of_the_averaged_params():
    optimizer = optimizers.build("sgd", 0.1, average=0.5)
    path, plain = (paths.follow(loss, each, START, 5) for each in (optimizer, optax.sgd(0.1)))
    np.testing.assert_allclose(path.gradient["w"], plain.gradient["w"], rtol=1e-5)  # taken at the params themselves
    assert (np.abs(path.params["b"][2:]) > np.abs(plain.params["b"][2:])).all()  # the average lags behind
    np.testing.assert_allclose(path.velocity["b"][:-1], np.diff(path.params["b"]), atol=1e-6)
