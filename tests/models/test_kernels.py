"""Kernels against scikit-learn's in float64, with distant points, and the Nyström map against the kernel."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics.pairwise import linear_kernel, polynomial_kernel, rbf_kernel

from mllab.errors import UserError
from mllab.models.svm import kernels

KEY = jax.random.key(0)
HYPER = {"gamma": 0.3, "degree": 3.0, "coef0": 0.5}
PEERS = {
    "linear": lambda x, y: linear_kernel(x, y),
    "polynomial": lambda x, y: polynomial_kernel(x, y, degree=3, gamma=0.3, coef0=0.5),
    "rbf": lambda x, y: rbf_kernel(x, y, gamma=0.3),
}


def points(rows, features=4, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, features)).astype(np.float32)


@pytest.mark.parametrize("name", kernels.KERNELS)
@pytest.mark.parametrize(("rows", "others"), [(7, 20), (30, 1)])
def test_kernels_match_scikit_learn(name, rows, others):
    x, y = points(rows), points(others, seed=1)
    hyper = {key: HYPER[key] for key in kernels.KERNELS[name].reads}  # no others are needed
    values = jax.jit(kernels.KERNELS[name])(x, y, hyper)
    np.testing.assert_allclose(values, PEERS[name](x.astype(float), y.astype(float)), rtol=2e-5, atol=2e-6)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    offset=st.sampled_from([0.0, 300.0, -4000.0]),
    outlier=st.sampled_from([0.0, 1e6]),
)
def test_distances_keep_their_digits_far_from_the_origin(seed, offset, outlier):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((40, 3)).astype(np.float32) + np.float32(offset)
    x[rng.integers(40)] += np.float32(outlier)
    exact = ((x[:, None].astype(float) - x[None].astype(float)) ** 2).sum(2)
    near = np.ix_(*[np.abs(x - np.median(x, axis=0)).max(1) < 100] * 2)
    np.testing.assert_allclose(np.asarray(kernels.square_distances(x, x))[near], exact[near], rtol=1e-4, atol=2e-5)
    values = np.asarray(kernels.rbf(x, x, {"gamma": 1.0}))
    assert values.max() <= 1
    np.testing.assert_allclose(values[near], np.exp(-exact)[near], atol=2e-5)


def test_a_negative_base_keeps_its_sign_at_an_odd_power():
    hyper = {"gamma": jnp.float32(1), "degree": jnp.float32(3), "coef0": jnp.float32(0)}
    values = jax.jit(kernels.polynomial)(np.float32([[-2.0], [2.0]]), np.float32([[1.0]]), hyper)
    np.testing.assert_allclose(values, [[-8], [8]], rtol=1e-6)


@pytest.mark.parametrize("weight", [None, np.arange(30) % 3])
def test_gamma_scale_matches_scikit_learn(weight):
    x = points(30)
    kept = x if weight is None else x[weight > 0]
    np.testing.assert_allclose(kernels.gamma_scale(x, weight), 1 / (4 * kept.var()), rtol=1e-5)
    assert kernels.gamma_scale(np.ones((3, 2), np.float32)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", kernels.KERNELS)
def test_nystroem_is_exact_at_the_landmarks(name):
    x, hyper = points(60), {key: HYPER[key] for key in kernels.KERNELS[name].reads}
    fitted = kernels.nystroem(KEY, x, name, hyper, 40)
    features = np.asarray(kernels.features(fitted, x))
    landmark = np.array([(row == np.asarray(fitted.landmarks)).all(1).any() for row in x])
    assert landmark.sum() == 40
    exact = PEERS[name](x.astype(float), x.astype(float))
    error = np.abs(features @ features.T - exact)
    assert error[landmark].max() < 5e-3 * np.abs(exact).max()
    if name == "rbf":
        assert error.max() > 2 * error[landmark].max()  # approximate for the others


@pytest.mark.slow
def test_nystroem_takes_duplicates_and_comes_closer_with_more_landmarks():
    x = np.tile(points(50, 2), (3, 1))
    exact = rbf_kernel(x.astype(float), gamma=0.3)
    errors = []
    for count in (5, 20, 150):
        features = np.asarray(kernels.features(kernels.nystroem(KEY, x, "rbf", {"gamma": 0.3}, count), x))
        errors.append(np.abs(features @ features.T - exact).max())
    assert np.isfinite(errors).all()
    assert errors[0] > errors[1] > errors[2] or errors[1] < 5e-3
    assert errors[2] < 5e-3


@pytest.mark.slow
@pytest.mark.parametrize("block_rows", [1, 5, 40])
def test_the_size_of_blocks_does_not_matter(block_rows):
    x = points(37)
    fitted = kernels.nystroem(KEY, x, "rbf", {"gamma": 0.3}, 10)
    np.testing.assert_allclose(kernels.features(fitted, x, block_rows), kernels.features(fitted, x), atol=1e-5)


@pytest.mark.parametrize("name", kernels.KERNELS)
def test_kernels_lower_to_every_platform(name):
    x = jax.ShapeDtypeStruct((20, 3), jnp.float32)
    hyper = dict.fromkeys(HYPER, jax.ShapeDtypeStruct((), jnp.float32))
    exported = jax.export.export(jax.jit(kernels.KERNELS[name]), platforms=("cpu", "cuda", "tpu"))(x, x, hyper)
    assert exported.platforms == ("cpu", "cuda", "tpu")


MISTAKES = {
    "name": (lambda: kernels.named("rfb"), "unknown kernel 'rfb': did you mean 'rbf'"),
    "too many rows": (lambda: kernels.check_memory(60_000), "60000 rows takes 13.4 GiB of 2.0: give 23170 rows or f"),
    "no landmark": (
        lambda: kernels.nystroem(KEY, points(5), "linear", {}, 0),
        "count = 0: expected 1 to 5, the number of rows",
    ),
    "too many": (lambda: kernels.nystroem(KEY, points(5), "linear", {}, 6), "count = 6: expected 1 to 5"),
    "NaN": (lambda: kernels.nystroem(KEY, points(5) * np.nan, "linear", {}, 2), "inputs: row 0, column 0 is nan"),
}


@pytest.mark.parametrize(("call", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_raise_one_line(call, message):
    with pytest.raises(UserError, match=message):
        call()
