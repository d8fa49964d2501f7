"""Run, drive and lanes: properties of every training run."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mllab import devices, sweep, training
from mllab.errors import UserError
from mllab.models.base import Model, in_bfloat16
from mllab.rows import minibatches
from mllab.types import Rows
from support import problems

RATES = (1e-3, 1e-2, 3e-2, 1e-1, 3e-1)


def drive(run, hyper, key, *, segment=5, schedule=None, **options):
    chosen, held_out = problems.rows()
    schedule = jax.tree.map(lambda a: a[0], chosen) if schedule is None else schedule
    return training.drive(run, hyper, key, problems.examples(), schedule, held_out=held_out, segment=segment, **options)


def grid(seeds=(0,)):
    return sweep.grid({"learning_rate": RATES}, seeds)


def test_a_run_equals_a_python_loop_of_numpy_and_optax():
    """The same updates written as a Python loop over batches, without scan, gather or weights."""
    run, examples = problems.run(), problems.examples()
    (schedule, held_out), key = problems.rows(epochs=2), jax.random.key(3)
    schedule = jax.tree.map(lambda a: a[0], schedule)
    result = training.drive(
        run, {"learning_rate": 0.05}, key, examples, schedule, held_out=held_out, segment=schedule.ids.shape[0]
    )

    params, _ = problems.model().init(jax.random.split(key)[0])
    optimizer = optax.adam(0.05)
    state = optimizer.init(params)

    def loss(params, x, y):
        logits = jax.nn.relu(x @ params[0].w + params[0].b[None]) @ params[1].w + params[1].b[None]
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    losses = []
    for ids in schedule.ids:
        value, grads = jax.value_and_grad(loss)(params, examples["inputs"][ids], examples["targets"][ids])
        updates, state = optimizer.update(grads, state)
        params = optax.apply_updates(params, updates)
        losses.append(value)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), result.state.params, params)
    np.testing.assert_allclose(result.history.train_loss[0], np.mean(losses), rtol=1e-5)


def test_padding_has_no_effect():
    """Short batches padded with ids of weight 0."""
    run, hyper, key = problems.run(), {"learning_rate": 0.1}, jax.random.key(0)
    examples = problems.examples()
    ids = np.arange(12, dtype=np.int32).reshape(3, 4)
    exact = Rows(ids, np.ones((3, 4), np.float32))
    padded = Rows(np.pad(ids, ((0, 0), (0, 3)), constant_values=50), np.pad(exact.weight, ((0, 0), (0, 3))))
    (a, losses_a), (b, losses_b) = (
        run.advance(hyper, run.start(hyper, key), examples, rows) for rows in (exact, padded)
    )
    np.testing.assert_allclose(losses_a, losses_b, rtol=1e-6)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), a.params, b.params)
    scores = [run.score(hyper, a, examples, rows) for rows in (exact, padded)]
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), *scores)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "group", "min_shared_lanes"), [(1, None, 99), (3, None, 99), (3, 1, 99), (3, 2, 99), (3, None, 1)]
)
def test_a_lane_equals_the_same_run_alone(count, group, min_shared_lanes):
    """With `min_shared_lanes` = 1, each group consists of lanes that share a schedule."""
    with jax.enable_x64(True):
        run = problems.run()
        lanes = grid(seeds=(0, 1))
        hyper = {"learning_rate": lanes.hyper["learning_rate"].astype(np.float64)}
        examples = problems.examples(dtype=np.float64)
        schedule, held_out = problems.rows(seeds=(0, 1))
        many = sweep.lanes(
            run, lanes.schedule, mesh=devices.mesh(count), group=group, min_shared_lanes=min_shared_lanes
        )
        together = training.drive(many, hyper, lanes.key, examples, schedule, held_out=held_out, segment=10)
        for lane in (0, 3, 7, 9):
            alone = training.drive(
                run,
                {"learning_rate": hyper["learning_rate"][lane]},
                lanes.key[lane],
                examples,
                jax.tree.map(lambda a, which=lanes.schedule[lane]: a[which], schedule),
                held_out=held_out,
                segment=10,
            )
            assert together.history.train_loss.shape == (2, 10)
            np.testing.assert_allclose(together.history.train_loss[:, lane], alone.history.train_loss, rtol=1e-9)
            for a, b in zip(jax.tree.leaves(together.state.params), jax.tree.leaves(alone.state.params), strict=True):
                np.testing.assert_allclose(a[lane], b, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_a_diverging_lane_does_not_affect_its_neighbours_and_is_reported():
    run = problems.run(optax.sgd)
    lanes = grid()
    schedule, held_out = problems.rows()
    many = sweep.lanes(run, lanes.schedule, mesh=devices.mesh(2))

    def go(rates):
        hyper = {"learning_rate": np.asarray(rates, np.float32)}
        return training.drive(many, hyper, lanes.key, problems.examples(), schedule, held_out=held_out, segment=5)

    tame, wild = go(RATES), go([*RATES[:2], 1e30, *RATES[3:]])
    others = [0, 1, 3, 4]
    for a, b in zip(jax.tree.leaves(tame.state.params), jax.tree.leaves(wild.state.params), strict=True):
        assert np.asarray(a)[others].tobytes() == np.asarray(b)[others].tobytes()
    assert (tame.nonfinite_step == -1).all()
    assert (wild.nonfinite_step[others] == -1).all()
    # The update of step 0 diverges: step 1 or 2 is the first with a non-finite loss.
    assert wild.nonfinite_step[2] in (1, 2)
    assert np.isfinite(wild.kept_loss[others]).all()


def test_the_first_nonfinite_step_is_counted_from_the_start_of_the_drive():
    """A loss that is inf exactly at one step, in any segment."""

    def init(key):
        return jnp.zeros(2), jnp.zeros((), jnp.int32)

    def objective(hyper, params, extra, examples, key):
        value = jnp.where(extra == hyper["bad_step"], jnp.inf, 1.0)
        return jnp.full(8, value) + params.sum() * 0, extra + 1  # a bare array [B]

    def measure(hyper, params, extra, examples):
        return {"loss": jnp.ones(10)}, extra

    run = training.supervised(init, objective, lambda hyper: optax.sgd(0.0), measure)
    for bad in (0, 4, 5, 13):
        assert drive(run, {"bad_step": bad}, jax.random.key(0)).nonfinite_step == bad
    assert drive(run, {"bad_step": 10**6}, jax.random.key(0)).nonfinite_step == -1


@pytest.mark.slow
def test_a_lane_keeps_its_best_params_and_the_drive_stops_when_none_improves():
    run, seen = problems.run(optax.sgd), []
    lanes, (schedule, held_out) = grid(), problems.rows(epochs=40)
    result = training.drive(
        sweep.lanes(run, lanes.schedule), lanes.hyper, lanes.key, problems.examples(), schedule,
        held_out=held_out, segment=5, patience=2, observers=[seen.append],
    )  # fmt: skip
    loss = result.history.held_out["loss"]
    done = len(seen)
    assert 2 < done <= len(loss)
    np.testing.assert_array_equal(result.kept_loss, np.nanmin(loss, axis=0))
    rescored = jax.jit(sweep.lanes(run, lanes.schedule).score)(lanes.hyper, result.kept, problems.examples(), held_out)
    np.testing.assert_allclose(rescored["loss"], result.kept_loss, rtol=1e-6)
    assert np.isnan(loss[done:]).all()
    if done < len(loss):
        assert (np.argmin(loss[:done], axis=0) <= done - 1 - 2).all()


def test_patience_stops_a_run_that_cannot_improve():
    result = drive(problems.run(optax.sgd), {"learning_rate": 0.0}, jax.random.key(0), segment=2, patience=3)
    assert np.isfinite(result.history.train_loss).sum() == 4  # the first, then 3 that do not improve


def test_a_second_drive_with_other_rates_or_data_compiles_nothing(caplog):
    lanes, (schedule, held_out) = grid(), problems.rows()
    many = sweep.lanes(problems.run(), lanes.schedule, mesh=devices.mesh(2))

    def go(rates, seed):
        hyper = {"learning_rate": np.asarray(rates, np.float32)}
        training.drive(many, hyper, lanes.key, problems.examples(seed=seed), schedule, held_out=held_out, segment=20)

    go(RATES, 0)
    with jax.log_compiles(True), caplog.at_level("WARNING"):
        go(RATES[::-1], 1)
        assert not [record.message for record in caplog.records if "ompil" in record.message]
        jax.jit(lambda x: x + 12345.678)(1.0)  # the log does show a compilation
        assert [record.message for record in caplog.records if "ompil" in record.message]


@pytest.mark.parametrize("optimizer", [optax.adam, optax.sgd])
def test_advance_and_score_lower_to_three_platforms(optimizer):
    run, (schedule, held_out) = problems.run(optimizer), problems.rows()
    schedule, hyper = jax.tree.map(lambda a: a[0], schedule), {"learning_rate": jnp.float32(0.1)}
    state = run.start(hyper, jax.random.key(0))
    platforms = ("cpu", "cuda", "tpu")
    for function, rows in ((run.advance, schedule), (run.score, held_out)):
        exported = jax.export.export(jax.jit(function), platforms=platforms)(hyper, state, problems.examples(), rows)
        assert exported.platforms == platforms


def test_bfloat16_computes_in_bfloat16_and_keeps_float32_params():
    seen = []
    base = problems.model()

    def apply(params, extra, inputs, key):
        seen.append((jax.tree.leaves(params)[0].dtype, inputs.dtype))
        return base.apply(params, extra, inputs, key)

    model = in_bfloat16(Model(base.init, apply))
    params, extra = model.init(jax.random.key(0))
    outputs, _ = model.apply(params, extra, problems.examples()["inputs"], None)
    assert seen == [(jnp.bfloat16, jnp.bfloat16)]
    assert outputs.dtype == jax.tree.leaves(params)[0].dtype == jnp.float32
    exact, _ = base.apply(params, extra, problems.examples()["inputs"], None)
    np.testing.assert_allclose(outputs, exact, rtol=0.1, atol=0.1)
    assert not np.array_equal(outputs, exact)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 3), st.lists(st.integers(0, 99), min_size=1, max_size=3))
def test_minibatches_visit_each_row_once_per_epoch(count, batch, epochs, seeds):
    rows = np.arange(100, 100 + count)
    if batch > count:
        with pytest.raises(UserError, match=f"batch_size = {batch} is larger than the {count} training rows"):
            minibatches(rows, batch, epochs, seeds)
        return
    schedule = minibatches(rows, batch, epochs, seeds)
    assert schedule.ids.shape == schedule.weight.shape == (len(seeds), epochs * -(-count // batch), batch)
    for ids, weight in zip(schedule.ids, schedule.weight, strict=True):
        for epoch_ids, epoch_weight in zip(np.split(ids, epochs), np.split(weight, epochs), strict=True):
            np.testing.assert_array_equal(np.sort(epoch_ids[epoch_weight == 1]), rows)
            assert np.isin(epoch_ids, rows).all()


@pytest.mark.parametrize(
    ("hyper", "seeds", "message"),
    [
        ({"learning_rate": [0.1, float("nan")]}, [0], "learning_rate"),
        ({"learning_rate": []}, [0], "learning_rate"),
        ({"learning_rate": [0.1]}, [], "seeds"),
        ({"learning_rate": [0.1]}, [1, 1], "each once"),
    ],
)
def test_an_invalid_grid_is_refused(hyper, seeds, message):
    with pytest.raises(UserError, match=message):
        sweep.grid(hyper, seeds)


def test_a_grid_holds_every_combination_once():
    lanes = sweep.grid({"learning_rate": [0.1, 0.2], "weight_decay": [0.0, 1.0, 2.0]}, seeds=[5, 7])
    held = set(zip(lanes.hyper["learning_rate"].round(3), lanes.hyper["weight_decay"], lanes.seed, strict=True))
    assert len(held) == len(lanes.seed) == 12
    np.testing.assert_array_equal(lanes.seed, [5] * 6 + [7] * 6)
    assert problems.equal(lanes.key[0], jax.random.key(5))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.booleans(), st.integers(1, 4), st.integers(1, 60))
def test_groups_have_one_size_hold_all_lanes_and_share_a_schedule_only_if_equal(lengths, even, count, most):
    lengths = [lengths[0]] * len(lengths) if even else lengths
    schedule = np.repeat(np.arange(len(lengths)), lengths)
    made = sweep.arrange(schedule, count, most)
    assert made.size <= most
    assert made.total % (made.size * count) == 0
    assert len(schedule) <= made.total < len(schedule) + made.size * count
    if made.shared:
        groups = schedule[np.minimum(np.arange(made.total), len(schedule) - 1)].reshape(-1, made.size)
        assert (groups == groups[:, :1]).all()


def test_hypers_of_the_wrong_length_are_refused():
    lanes = grid()
    many = sweep.lanes(problems.run(), lanes.schedule)
    with pytest.raises(UserError, match="for 5 lanes"):
        many.start({"learning_rate": np.array([0.1, 0.2])}, lanes.key)


@pytest.mark.slow
def test_a_checkpoint_moves_between_numbers_of_devices(tmp_path):
    """Five lanes, interrupted on three devices and finished on one, equal an uninterrupted run to rounding."""
    lanes, (schedule, held_out) = grid(), problems.rows(epochs=8)

    def go(count, segments=None, workdir=None):
        def stop(event):
            if event.number == segments:
                raise KeyboardInterrupt

        many = sweep.lanes(problems.run(), lanes.schedule, mesh=devices.mesh(count))
        return training.drive(
            many, lanes.hyper, lanes.key, problems.examples(), schedule, held_out=held_out, segment=5,
            observers=[stop], workdir=workdir, checkpoint_seconds=0,
        )  # fmt: skip

    with pytest.raises(KeyboardInterrupt):
        go(3, segments=3, workdir=tmp_path)
    moved, alone = go(1, workdir=tmp_path), go(1)
    np.testing.assert_allclose(moved.history.train_loss[:2], alone.history.train_loss[:2], rtol=1e-4)
    assert moved.state.step.shape == (5,)
