"""`mllab.models.ops.factorization` beside NumPy in float64; and no batched LAPACK call on CPUs, which may hang."""

import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mllab.models import kernel_ridge, kmeans, linear, softmax, svm
from mllab.models.mixture import mixture
from mllab.models.ops import factorization
from mllab.models.svm import kernels

SIZES = (1, 2, 13, factorization.BLOCK, factorization.BLOCK + 1, 150)  # around one block, and several


def positive(size, batch=(), seed=0):
    """Return symmetric positive definite matrices [*batch, size, size] in float64."""
    roots = np.random.default_rng(seed).standard_normal((*batch, size, size + 4))
    return roots @ np.swapaxes(roots, -1, -2) / size


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
def test_factors_and_solutions_are_those_of_numpy(size):
    matrices = positive(size, (2, 3))
    right = np.random.default_rng(1).standard_normal((2, 3, size, 2))
    lower = np.linalg.cholesky(matrices)

    @jax.jit
    def all_of_them(matrices, lower, right):
        return (
            factorization.cholesky(matrices),
            factorization.inverse_lower(lower),
            factorization.solve_upper(jnp.swapaxes(lower, -1, -2), right),
            factorization.solve_positive(matrices, right),
        )

    computed = all_of_them(*(jnp.asarray(each, jnp.float32) for each in (matrices, lower, right)))
    expected = (
        lower,
        np.linalg.inv(lower),
        np.linalg.solve(np.swapaxes(lower, -1, -2), right),
        np.linalg.solve(matrices, right),
    )
    for ours, theirs in zip(computed, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-4 * np.abs(theirs).max())


@pytest.mark.parametrize("size", [3, factorization.BLOCK + 2])
def test_a_matrix_that_is_not_positive_definite_gives_no_finite_factor_and_leaves_the_others(size):
    matrices = positive(size, (3,))
    matrices[1] -= 100 * np.eye(size)
    factors = np.asarray(factorization.cholesky(jnp.asarray(matrices, jnp.float32)))
    assert np.isfinite(factors).all(axis=(1, 2)).tolist() == [True, False, True]


def test_only_the_lower_triangle_is_read():
    matrix = jnp.asarray(positive(5), jnp.float32)
    np.testing.assert_array_equal(factorization.cholesky(jnp.tril(matrix)), factorization.cholesky(matrix))


def test_one_matrix_after_another_gives_what_one_matrix_gives():
    matrices = jnp.asarray(np.random.default_rng(0).standard_normal((2, 3, 7, 4)), jnp.float32)
    square = jnp.einsum("abij,abik->abjk", matrices, matrices)
    for function, batch in (
        (factorization.triangle, matrices),
        (factorization.svd, matrices),
        (factorization.eigh, square),
    ):
        mapped = jax.tree.leaves(jax.vmap(jax.vmap(function))(batch))
        for ours, alone in zip(mapped, jax.tree.leaves(function(batch[1, 2])), strict=True):
            np.testing.assert_array_equal(ours[1, 2], alone)


@pytest.mark.slow
def test_derivatives_are_those_of_jax():
    matrix = jnp.asarray(np.random.default_rng(0).standard_normal((6, 3)), jnp.float32)
    square = jnp.asarray(positive(4), jnp.float32)

    def gradient(function, at):
        return jax.grad(lambda matrix: jnp.abs(function(matrix)).sum())(at)

    ours, theirs = gradient(factorization.triangle, matrix), gradient(lambda a: jnp.linalg.qr(a, mode="r"), matrix)
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)
    ours, theirs = gradient(factorization.cholesky, square), gradient(jnp.linalg.cholesky, square)
    # The triangles' shares of a derivative are a convention.
    np.testing.assert_allclose(ours + ours.T, theirs + theirs.T, rtol=1e-3, atol=1e-3)


# ── No batched LAPACK on CPUs ───────────────────────────────────────────────────────────────────────────────────────

LAPACK_CALL = re.compile(r"custom_call @lapack_.*", re.IGNORECASE)


def batched_lapack(function, *arguments):
    """Return the LAPACK calls in a function's program for CPUs that take more than one matrix."""
    text = jax.jit(function).trace(*arguments).lower(lowering_platforms=("cpu",)).as_text()
    shapes = {call: re.findall(r"tensor<([\dx]+)x[fc]\d", call) for call in LAPACK_CALL.findall(text)}
    return [call for call, each in shapes.items() if max(int(np.prod(read(shape)[:-2])) for shape in each) > 1]


def read(shape):
    return [int(size) for size in shape.split("x")]


def test_the_check_sees_batched_calls():
    matrices = jnp.asarray(positive(5, (3,)), jnp.float32)
    for function in (jnp.linalg.cholesky, jnp.linalg.eigh, jnp.linalg.qr, jnp.linalg.inv):
        assert batched_lapack(function, matrices)
        assert not batched_lapack(function, matrices[0])


FITS = {
    **{
        f"mixture.fit, {covariance}": lambda key, x, y, value, covariance=covariance: mixture.fit(
            key, x, 4, covariance=covariance, labels=y, classes=2, floor=value
        )
        for covariance in mixture.COVARIANCES
    },
    "mixture.log_density": lambda key, x, y, value: mixture.log_density(
        mixture.Mixture(jnp.zeros(2), value + x[:2], jnp.stack([jnp.eye(x.shape[1])] * 2), "full"), x
    ),
    "softmax.fit": lambda key, x, y, value: softmax.fit(x, y, 2, l2=value),
    **{
        f"linear.fit, {method}": lambda key, x, y, value, method=method: linear.fit(
            value * x, x[:, 0], method=method, ridge=value
        )
        for method in linear.METHODS
    },
    "nystroem": lambda key, x, y, value: kernels.nystroem(key, x, "rbf", {"gamma": value}, 5),
    "kernel_ridge.fit": lambda key, x, y, value: kernel_ridge.fit(x, x[:, 0], l2=value, gamma=value),
    "svm.fit": lambda key, x, y, value: svm.fit(x, y, 2, c=value, gamma=value),
    "kmeans.fit": lambda key, x, y, value: kmeans.fit(key, value * x, 3),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FITS)
def test_no_program_for_cpus_calls_lapack_with_a_batch(name):
    x = jnp.asarray(np.random.default_rng(0).standard_normal((24, 5)), jnp.float32)
    keys, values = jax.random.split(jax.random.key(0), 6).reshape(2, 3), jnp.ones((2, 3))
    fit = jax.vmap(jax.vmap(lambda key, value: FITS[name](key, x, (x[:, 0] > 0).astype(int), value)))
    assert not batched_lapack(fit, keys, values)


STRESS = """
import os
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
import jax, jax.numpy as jnp
jax.config.update("jax_num_cpu_devices", 2)
from mllab import devices, sweep
from mllab.models import softmax
from mllab.models.mixture import mixture

x = jax.random.normal(jax.random.key(0), (178, 13))
y = (x[:, 0] > 0).astype(int)


def lane(key):
    fits = [mixture.fit(key, x, 4, covariance=each, restarts=3, steps=5) for each in ("full", "tied")]
    return [fit.log_likelihood for fit in fits], softmax.fit(x, y, 2, l2=jax.random.uniform(key)).gradient


keys = jax.random.split(jax.random.key(0), 100)
for lane_bytes in (1, 2**17):  # all lanes at once, and 32 at a time
    found = sweep.over_lanes(lane, devices.mesh(2), lane_bytes)(keys)
    assert all(jnp.isfinite(each).all() for each in jax.tree.leaves(found))
print("done")
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="sets the processors of a process")
def test_many_lanes_on_two_devices_and_two_threads_end():
    """The batched calls of LAPACK that this replaces hung here, with jax 0.10, in every run."""
    environment = os.environ | {"NPROC": "2", "XLA_FLAGS": ""}
    done = subprocess.run(
        [sys.executable, "-c", STRESS],
        capture_output=True, text=True, timeout=600, env=environment, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.stdout == "done\n", done.stderr
