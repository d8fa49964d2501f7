"""Lane after lane with each batch split over the devices: equal to `lanes` to rounding, random draws included."""

import contextlib
import functools
import re

import jax
import numpy as np
import optax
import pytest

from mllab import augmentation, devices, losses, racing, sweep, training
from mllab.errors import UserError
from mllab.models import convnet
from mllab.models.layers import Activation, BatchNorm, Conv, Dense, Dropout, MaxPool
from mllab.rows import blocks, minibatches
from support import problems

SHAPE, COUNT = (8, 8, 1), 60
PLAIN = (Conv(4), Activation(), MaxPool(), Dense(3))
KINDS = {  # layers, augmentations
    "plain": (PLAIN, ()),
    "batch norm": ((Conv(4), BatchNorm(), *PLAIN[1:]), ()),
    "mixup": (PLAIN, ("mixup",)),
    "all": ((Conv(4), BatchNorm(), *PLAIN[1:3], Dropout(0.3), Dense(3)), ("shift", "flip")),
}
GRID = sweep.grid({"learning_rate": [0.05, 0.1]}, [0, 1])


def examples():
    """Noisy copies of three pictures."""
    draw = np.random.default_rng(0)
    targets = np.arange(COUNT, dtype=np.int32) % 3
    inputs = draw.normal(size=(3, *SHAPE))[targets] + draw.normal(size=(COUNT, *SHAPE))
    return {"inputs": inputs.astype(np.float32), "targets": targets}


@functools.cache
def run(kind):
    layers, augment = KINDS[kind]
    model = convnet.model(layers, SHAPE)
    objective = training.objective(model, losses.cross_entropy)
    if "mixup" in augment:
        objective = augmentation.mixed(objective, 0.2, 3)
    keep = [name for name in augment if name != "mixup"]
    objective = augmentation.augmented(objective, augmentation.compose(keep))
    return racing.problem(model, "classification", objective)(
        lambda hyper: optax.sgd(hyper["learning_rate"], momentum=0.5)
    )


def rows(batch):
    return minibatches(np.arange(40), batch, 2, [0, 1]), blocks(np.arange(40, COUNT), 8)


def drive(many, batch=12, **options):
    schedule, held_out = rows(batch)
    return training.drive(
        many, GRID.hyper, GRID.key, examples(), schedule, held_out=held_out, segment=3, **options
    )  # fmt: skip


def split(kind, count):
    return sweep.batches(run(kind), GRID.schedule, mesh=devices.mesh(count))


def same(result):
    """Return a result without its wall times, which replays do not share."""
    return result._replace(history=result.history._replace(seconds=0))


@functools.cache
def begun(kind):
    """The initial state of all lanes, compiled once."""
    return jax.jit(lambda *lanes: jax.lax.map(lambda lane: run(kind).start(*lane), lanes))(GRID.hyper, GRID.key)


def trained(many, kind, batch):
    """(losses of each step, metrics on held-out rows, final params and batch statistics)"""
    schedule, held_out = rows(batch)
    state, step_losses = jax.jit(many.advance)(GRID.hyper, begun(kind), examples(), schedule)
    return step_losses, jax.jit(many.score)(GRID.hyper, state, examples(), held_out), state.params, state.extra


@pytest.mark.parametrize(
    ("kind", "batch", "counts"), [("all", 12, (1, 2, 3)), ("all", 7, (2,)), ("mixup", 7, (3,))]
)  # fmt: skip
@pytest.mark.slow
def test_split_batches_train_as_lanes_do(kind, batch, counts):
    expected = trained(sweep.lanes(run(kind), GRID.schedule), kind, batch)
    assert np.isfinite(expected[0]).all()
    for count in counts:
        split_batches = trained(split(kind, count), kind, batch)
        for ours, theirs in zip(jax.tree.leaves(split_batches), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)


def test_lanes_start_as_they_do_alone():
    start = jax.jit(split("all", 2).start)(GRID.hyper, GRID.key)
    assert problems.equal(start, begun("all"))


@pytest.mark.slow
def test_each_lane_equals_the_run_alone():
    together = trained(split("all", 2), "all", 12)
    schedule, held_out = rows(12)
    for lane in (1, 2):
        hyper, state = jax.tree.map(lambda a, lane=lane: a[lane], (GRID.hyper, begun("all")))
        lane_rows = jax.tree.map(lambda a, lane=lane: a[GRID.schedule[lane]], schedule)
        state, step_losses = jax.jit(run("all").advance)(hyper, state, examples(), lane_rows)
        np.testing.assert_allclose(together[0][lane], step_losses, rtol=1e-4)
        scores = jax.jit(run("all").score)(hyper, state, examples(), held_out)
        np.testing.assert_allclose(together[1]["loss"][lane], scores["loss"], rtol=1e-4)


@pytest.mark.slow
def test_lanes_may_share_one_schedule():
    schedule, _ = rows(12)
    shared = jax.tree.map(lambda a: a[0], schedule)
    many = sweep.batches(run("plain"), np.zeros(4, np.int32), mesh=devices.mesh(2))
    step_losses = [
        jax.jit(many.advance)(GRID.hyper, begun("plain"), examples(), rows)[1] for rows in (shared, schedule)
    ]  # fmt: skip
    assert step_losses[0].shape == (4, len(shared.ids))
    np.testing.assert_allclose(*step_losses, rtol=1e-6)


class Stop(Exception):
    """Simulates a kill between two segments."""


@pytest.mark.parametrize(
    "many", [lambda: split("all", 3), lambda: sweep.lanes(run("all"), GRID.schedule, mesh=devices.mesh(2))],
    ids=["batches", "lanes"],
)  # fmt: skip
@pytest.mark.slow
def test_a_replay_and_a_resumed_drive_with_random_draws_end_with_the_same_bits(tmp_path, many):
    """With augmentation, dropout and batch statistics."""
    many = many()
    straight = drive(many, batch=7)
    assert problems.equal(same(drive(many, batch=7)), same(straight))

    def stop(event):
        if event.number == 1:
            raise Stop

    with contextlib.suppress(Stop):
        drive(many, batch=7, workdir=tmp_path, checkpoint_seconds=0, observers=[stop])
    assert list(tmp_path.rglob("seal.json"))
    events = []
    resumed = drive(many, batch=7, workdir=tmp_path, checkpoint_seconds=0, observers=[events.append])
    assert [event.restored for event in events[:2]] == [True, False]
    assert problems.equal(same(resumed), same(straight))


@pytest.mark.slow
@pytest.mark.parametrize("batch", [12, 7])
def test_devices_exchange_nothing_but_sums(batch):
    count, kind = 3, "batch norm"
    many, (schedule, _) = split(kind, count), rows(batch)
    text = jax.jit(many.advance).lower(GRID.hyper, begun(kind), examples(), schedule).compile().as_text()
    assert "all-reduce" in text
    for exchange in ("all-gather", "all-to-all", "collective-permute"):
        assert exchange not in text
    images = re.findall(r"f32\[(\d+),8,8,4\]\S* convolution\(", text)  # outputs of the first layer
    assert set(map(int, images)) == {-(-batch // count)}


def test_the_state_is_replicated():
    many = split("batch norm", 2)
    schedule, _ = rows(12)
    state, step_losses = jax.jit(many.advance)(GRID.hyper, begun("batch norm"), examples(), schedule)
    for leaf in (*jax.tree.leaves(state), step_losses):
        assert leaf.sharding.is_fully_replicated
    assert step_losses.shape == (4, schedule.ids.shape[1])


def test_hypers_of_another_number_of_lanes_are_refused():
    with pytest.raises(UserError, match="for 4 lanes"):
        split("plain", 2).start({"learning_rate": np.array([0.1, 0.2])}, GRID.key)
