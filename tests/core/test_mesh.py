"""Lanes over some devices and batches over the others: the figures of one device, and no needless communication."""

import functools
import re

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from mllab import devices, hosts, sweep, training
from mllab.errors import UserError
from support import problems

GRID = sweep.grid({"learning_rate": [0.01, 0.03, 0.1]}, [0, 1])  # 6 lanes
MESHES = {"lanes": (8, 1), "both": (8, 2), "mostly batch": (8, 4), "batch": (8, 8), "three of six": (6, 2)}


@functools.cache
def one():
    return problems.run()


def many(count, batch):
    return sweep.lanes(one(), GRID.schedule, mesh=devices.mesh(count, batch))


def drive(many, **options):
    schedule, held_out = problems.rows(seeds=[0, 1], batch=9)  # which no number of devices divides
    return training.drive(
        many, GRID.hyper, GRID.key, problems.examples(), schedule, held_out=held_out, segment=8, **options
    )


@functools.cache
def of_one_device():
    return drive(many(1, 1))


@pytest.mark.slow
@pytest.mark.parametrize("name", MESHES)
def test_a_mesh_of_any_shape_gives_the_figures_of_one_device(name):
    result, expected = drive(many(*MESHES[name])), of_one_device()
    np.testing.assert_allclose(result.kept_loss, expected.kept_loss, rtol=2e-5)
    np.testing.assert_allclose(result.history.train_loss, expected.history.train_loss, rtol=2e-5)
    for leaf, other in zip(*(jax.tree.leaves(each.kept.params) for each in (result, expected)), strict=True):
        np.testing.assert_allclose(np.asarray(leaf)[:6], np.asarray(other)[:6], rtol=2e-3, atol=2e-5)


def compiled(count, batch):
    run = many(count, batch)
    schedule, _ = problems.rows(seeds=[0, 1], batch=8)
    state = jax.jit(run.start)(GRID.hyper, GRID.key)
    return state, jax.jit(run.advance).lower(GRID.hyper, state, problems.examples(), schedule).compile()


def test_lanes_alone_communicate_nothing_and_no_device_holds_the_lanes_of_another():
    state, program = compiled(6, 1)
    assert not re.findall(r"all-reduce|all-gather|all-to-all|collective-permute", program.as_text())
    for leaf in jax.tree.leaves(state.params):
        assert leaf.sharding.spec == PartitionSpec(devices.AXIS)
        held = [shard.index[0].indices(leaf.shape[0])[:2] for shard in leaf.addressable_shards]
        assert sorted(held) == [(lane, lane + 1) for lane in range(6)]


def test_batches_sum_gradients_and_pass_no_lane_on():
    state, program = compiled(6, 2)
    found = set(re.findall(r"(all-reduce|all-gather|all-to-all|collective-permute)(?:-start)?\(", program.as_text()))
    assert found == {"all-reduce"}
    for leaf in jax.tree.leaves(state.params):
        lanes = [shard.index[0].indices(leaf.shape[0])[:2] for shard in leaf.addressable_shards]
        assert len(lanes) == 6
        assert len(set(lanes)) == 3  # each on two devices


@pytest.mark.slow
def test_a_run_resumes_on_another_mesh(tmp_path):
    class Stopped(Exception):
        pass

    def stop(event, at):
        if isinstance(event, training.Segment) and event.number == at:
            raise Stopped

    for at, mesh in ((0, (8, 1)), (1, (1, 1))):
        with pytest.raises(Stopped):
            drive(many(*mesh), workdir=tmp_path, checkpoint_seconds=0.0, observers=[functools.partial(stop, at=at)])
    events = []
    result = drive(many(4, 2), workdir=tmp_path, checkpoint_seconds=0.0, observers=[events.append])
    assert next(event.restored for event in events)
    np.testing.assert_allclose(result.kept_loss, of_one_device().kept_loss, rtol=2e-5)


def test_what_has_no_batches_takes_all_devices_for_its_points():
    flat = devices.flat(devices.mesh(8, 4))
    assert dict(flat.shape) == {devices.AXIS: 8, devices.BATCH: 1}
    assert devices.flat(flat) is flat


@pytest.mark.parametrize("batch", [0, 3, 16])
def test_a_mesh_that_the_devices_cannot_make(batch):
    with pytest.raises(UserError, match="cannot be"):
        devices.mesh(8, batch)


def test_one_process_is_the_first_and_sends_itself_nothing():
    tree = {"a": jax.numpy.arange(3.0), "key": jax.random.key(1), "n": 2}
    fetched = hosts.fetch(tree)
    assert isinstance(fetched["a"], np.ndarray)
    assert fetched["key"] is tree["key"]
    assert hosts.from_first(fetched) is fetched
    hosts.check_alike("data", "00")
    assert (hosts.is_first(), hosts.several(), hosts.preempted()) == (True, False, False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("host:1234", 2, None), "--process_id: give all three"),
        (("host", 2, 0), "give host:port"),
        (("host:99999", 2, 0), "give host:port"),
        (("host:1234", 2, 2), "give 0 to 1"),
    ],
)
def test_processes_that_are_numbered_wrongly(arguments, message):
    with pytest.raises(UserError, match=message):
        hosts.start(*arguments)


@pytest.mark.parametrize(
    ("variables", "several"),
    [
        ({}, False),
        ({"SLURM_NTASKS": "4"}, False),  # a shell inside an allocation
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "1"}, True),
        ({"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, False),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, True),
        ({"TPU_WORKER_HOSTNAMES": "a"}, False),
    ],
)
def test_a_cluster_is_known_by_its_variables(variables, several, monkeypatch):
    for name in (
        "SLURM_NTASKS",
        "SLURM_PROCID",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_RANK",
        "TPU_WORKER_HOSTNAMES",
    ):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert hosts.in_cluster() == several
