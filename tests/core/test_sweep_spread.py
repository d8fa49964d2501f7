"""Points and tasks over devices: padding, order and collectives, and a program that is compiled once."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mllab import devices, sweep
from mllab.errors import UserError

POINTS = np.arange(20, dtype=np.float32).reshape(10, 2)


def centred(points, weight, axis=None, offset=0.0):
    """Points less their weighted mean, which needs all devices, and the number of a device's points."""
    sums = jnp.sum(weight), weight @ points
    total, mean = sums if axis is None else jax.lax.psum(sums, axis)
    return points - (mean / total)[None] + offset, jnp.array(len(points)), mean / total


@pytest.mark.parametrize(("count", "part"), [(1, 10), (2, 5), (3, 4), (8, 2)])
@pytest.mark.parametrize("weight", [None, np.arange(10.0)])
def test_points_are_padded_with_weight_0_and_outputs_are_cut(count, part, weight):
    over = sweep.over_points(centred, devices.mesh(count), (0, None, None))
    outputs, local, mean = over(POINTS, weight, offset=jnp.array(1.0))
    expected = np.average(POINTS, axis=0, weights=weight)
    assert int(local) == part
    np.testing.assert_allclose(mean, expected, rtol=1e-6)
    np.testing.assert_allclose(outputs, POINTS - expected + 1, atol=1e-5)


def test_without_a_mesh_the_function_is_called_unchanged():
    def seen(points, weight, **arguments):
        return points, weight, arguments

    points, weight, arguments = sweep.over_points(seen, None, (0, None, None))(POINTS, offset=2)
    assert points is POINTS
    assert (weight, arguments) == (None, {"offset": 2})


def test_points_and_weights_are_checked():
    over = sweep.over_points(centred, devices.mesh(2), (0, None, None))
    with pytest.raises(UserError, match="points: row 1, column 0 is nan"):
        over(np.where(POINTS == 2, np.nan, POINTS))
    with pytest.raises(UserError, match=r"weight: row 0 is -1\.0"):
        over(POINTS, -np.ones(10))


def test_a_second_call_compiles_nothing(caplog):
    over = sweep.over_points(centred, devices.mesh(2), (0, None, None))
    over(POINTS, offset=jnp.array(0.0))
    with jax.log_compiles(True), caplog.at_level("WARNING"):
        over(POINTS + 1, offset=jnp.array(1.0))
    assert not [record.message for record in caplog.records if "Finished XLA compilation" in record.message]


def numbered(tasks, scale, axis):
    device = jax.lax.axis_index(axis)
    return {"values": scale * tasks, "device": jnp.full(len(tasks), device)}


@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize("total", [1, 7, 16])
def test_tasks_are_dealt_out_and_their_outputs_come_in_order(count, total):
    tasks = jnp.arange(2.0 * total).reshape(total, 2)
    outputs = jax.jit(sweep.over_tasks(numbered, devices.mesh(count)))(tasks, 3.0)
    np.testing.assert_array_equal(outputs["values"], 3 * tasks)
    np.testing.assert_array_equal(outputs["device"], np.arange(total) % count)  # neighbours on different devices


def test_the_same_arguments_give_the_same_function():
    assert sweep.over_tasks(numbered, devices.mesh(2)) is sweep.over_tasks(numbered, devices.mesh(2))
    assert sweep.over_tasks(numbered, devices.mesh(2)) is not sweep.over_tasks(partial(numbered), devices.mesh(2))


@pytest.mark.parametrize(("count", "lane_bytes"), [(1, 1), (2, 1), (3, 2**21), (8, 2**30)])
def test_lanes_are_spread_in_groups_and_their_outputs_come_in_order(count, lane_bytes):
    def one(lane, points, offset):
        key, scale = lane
        return {"sum": jnp.sum(scale * points) + offset, "key": jax.random.key_data(key)}

    scales, seeds = jnp.arange(7.0), jnp.arange(7)
    keys = jax.vmap(jax.random.key)(seeds)
    outputs = sweep.over_lanes(one, devices.mesh(count), lane_bytes)((keys, scales), POINTS, jnp.array(1.0))
    np.testing.assert_allclose(outputs["sum"], np.arange(7) * POINTS.sum() + 1)
    np.testing.assert_array_equal(outputs["key"], jax.random.key_data(keys))
