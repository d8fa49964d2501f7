"""Operations counted in a jaxpr: against XLA's count where nothing repeats, and by hand where it does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from mllab import flops

X, W, SQUARE = jnp.ones((4, 5)), jnp.ones((5, 6)), jnp.ones((4, 4))
IMAGES, KERNEL = jnp.ones((2, 8, 8, 4)), jnp.ones((3, 3, 2, 6))  # of two groups
PRODUCT = 2 * 4 * 4 * 4  # of two squares


def counted(function, *arguments):
    return flops.count(jax.make_jaxpr(function)(*arguments))


def test_products_and_convolutions_are_counted_as_xla_does():
    def function(x, w, images, kernel):
        convolved = lax.conv_general_dilated(
            images, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=2
        )
        return x @ w, jnp.einsum("bijc,bjkc->bikc", images, images), convolved

    compiled = jax.jit(function).lower(X, W, IMAGES, KERNEL).compile()
    counts = counted(function, X, W, IMAGES, KERNEL)
    assert counts == pytest.approx(compiled.cost_analysis()["flops"], rel=0.01)
    assert counts == 2 * 4 * 5 * 6 + 2 * (2 * 4) * 8**3 + 2 * (2 * 6 * 6 * 6) * (3 * 3 * 2)


def test_scans_repeat_branches_exclude_each_other_and_devices_add_up():
    def scanned(x):
        return lax.scan(lambda carry, _: (carry @ SQUARE, None), x, None, length=7)[0]

    assert counted(scanned, SQUARE) == 7 * PRODUCT
    assert counted(jax.jit(jax.grad(lambda x: scanned(x).sum())), SQUARE) == 14 * PRODUCT
    assert counted(lambda x: lax.cond(x[0, 0] > 0, lambda x: x @ x @ x, lambda x: x @ x, x), SQUARE) == 2 * PRODUCT
    assert counted(lambda x: lax.while_loop(lambda x: x[0, 0] < 9, lambda x: x @ SQUARE, x), SQUARE) == PRODUCT
    mesh = Mesh(np.array(jax.devices()[:2]), ("d",))
    spread = jax.shard_map(lambda x: x @ SQUARE, mesh=mesh, in_specs=PartitionSpec("d"), out_specs=PartitionSpec("d"))
    assert counted(spread, SQUARE) == PRODUCT
    mesh = Mesh(np.array(jax.devices()[:4]).reshape(2, 2), ("d", "rest"))  # the second axis is the partitioner's
    halved = jax.shard_map(
        lambda x: x @ SQUARE, mesh=mesh, in_specs=PartitionSpec("d"), out_specs=PartitionSpec("d"), axis_names={"d"}
    )
    assert counted(jax.jit(halved), SQUARE) == PRODUCT
