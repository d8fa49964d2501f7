"""The moving average of params against its recurrence in NumPy and optax's step; trained params are unaffected."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mllab import devices, losses, metrics, sweep, training
from mllab.averaging import AverageState, evaluation_params
from mllab.optimizers import OPTIMIZERS, build
from support import problems
from support.mistakes import refused_in_one_line

STEPS = 40
START = {"w": jnp.array([[1.0, -2.0], [0.5, 3.0]]), "b": jnp.array([0.3, -0.7])}
TARGET = {"w": jnp.array([[0.2, 0.1], [-1.0, 2.0]]), "b": jnp.array([1.0, 1.0])}
EVERYTHING = {"schedule": "one_cycle", "steps": STEPS, "clip_norm": 0.5, "weight_decay": 0.01}
PLATFORMS = ("cpu", "cuda", "tpu")


def loss(params):
    return sum(jnp.sum((params[name] - TARGET[name]) ** 4) for name in params)


def train(optimizer, steps=STEPS, start=START):
    """Return the params and the evaluation params after each step, trees with leading [S]."""

    def step(carry, _):
        params, state = carry
        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradient, state, params, value=value, grad=gradient, value_fn=loss)
        params = optax.apply_updates(params, updates)
        return (params, state), (params, evaluation_params(state, params))

    return jax.lax.scan(step, (start, optimizer.init(start)), length=steps)[1]


def recurrence(start, trajectory, decay):
    """The average after each of the steps [S, ...], in float64, from its weights rather than step by step."""
    points = np.concatenate([np.asarray(start)[None], np.asarray(trajectory)]).astype(np.float64)
    decays = [min(decay, (1 + t) / (10 + t)) for t in range(1, len(points))]
    averages = []
    for t in range(1, len(points)):
        weights = [np.prod(decays[:t])]
        weights += [(1 - decays[s - 1]) * np.prod(decays[s:t]) for s in range(1, t + 1)]
        assert sum(weights) == pytest.approx(1)
        averages.append(np.tensordot(weights, points[: t + 1], axes=1))
    return np.stack(averages)


@pytest.mark.parametrize("decay", [0.15, 0.5, 0.8, 0.999])
def test_the_average_follows_its_recurrence(decay):
    trained, averaged = jax.jit(lambda: train(build("momentum", 0.01, average=decay)))()
    for name in START:
        np.testing.assert_allclose(averaged[name], recurrence(START[name], trained[name], decay), rtol=1e-5, atol=1e-6)


def test_after_the_warm_up_a_step_equals_optaxs():
    optimizer = build("sgd", 0.01, average=0.8)
    state = optimizer.init(START)._replace(steps=jnp.int32(35), average=TARGET)
    updates, state = optimizer.update(jax.grad(loss)(START), state, START)
    expected = optax.incremental_update(optax.apply_updates(START, updates), TARGET, 1 - 0.8)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), state.average, expected)
    assert state.steps == 36


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if not name.startswith("schedule_free")])
def test_averaging_does_not_change_the_trained_params(name):
    with_average, averaged = jax.jit(lambda: train(build(name, 0.02, average=0.9, **EVERYTHING)))()
    without, evaluated = jax.jit(lambda: train(build(name, 0.02, **EVERYTHING)))()
    assert problems.equal(with_average, without)
    assert problems.equal(evaluated, without)
    assert not np.allclose(averaged["w"], with_average["w"])


def test_lanes_with_different_decays_and_a_diverged_neighbour():
    decays, rates = np.array([0.5, 0.9, 0.9], np.float32), np.array([0.02, 0.02, np.nan], np.float32)
    lanes = jax.jit(jax.vmap(lambda rate, decay: train(build("adam", rate, average=decay, **EVERYTHING))[1]))
    averaged = lanes(rates, decays)["w"]
    for lane in (0, 1):
        alone = jax.jit(lambda lane=lane: train(build("adam", 0.02, average=float(decays[lane]), **EVERYTHING))[1])()
        np.testing.assert_allclose(averaged[lane], alone["w"], rtol=1e-5, atol=1e-6)
    assert np.isnan(averaged[2]).all()


def test_a_short_run_forgets_its_initial_params():
    """One large step, then 29 without movement: the average is near the end in spite of a decay of 0.9999."""
    optimizer = build("sgd", 1.0, average=0.9999)
    params, state = {"w": jnp.array([1e3])}, optimizer.init({"w": jnp.array([1e3])})
    for t in range(30):
        updates, state = optimizer.update({"w": jnp.array([1e3 if t == 0 else 0.0])}, state, params)
        params = optax.apply_updates(params, updates)
    assert params["w"] == 0
    assert abs(evaluation_params(state, params)["w"][0]) < 1e-3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_average_keeps_the_params_dtype(dtype):
    with jax.enable_x64(True):
        start = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), START)
        optimizer = build("sgd", 0.01, average=np.float64(0.9))
        updates, state = optimizer.update(start, optimizer.init(start), start)
        assert {leaf.dtype for leaf in jax.tree.leaves(state.average)} == {np.dtype(dtype)}
        assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {np.dtype(dtype)}


def test_the_average_is_found_in_a_nested_state():
    optimizer = optax.MultiSteps(build("sgd", 0.02, average=0.5, clip_norm=1.0), every_k_schedule=1)
    trained, averaged = jax.jit(lambda: train(optimizer, 5))()
    np.testing.assert_allclose(averaged["b"], recurrence(START["b"], trained["b"], 0.5), rtol=1e-5)


def averaging_run():
    return training.supervised(
        problems.model().init,
        training.objective(problems.model(), losses.cross_entropy),
        lambda hyper: build("adam", hyper["learning_rate"], average=0.9),
        training.measure(problems.model(), metrics.classification),
        evaluate=lambda state: evaluation_params(state.optimizer, state.params),
    )


@pytest.mark.slow
@pytest.mark.parametrize("lanes", [False, True])
def test_a_drive_scores_the_average_and_resumes_it_to_the_bit(tmp_path, lanes):
    run, (schedule, held_out) = averaging_run(), problems.rows()
    if lanes:
        grid = sweep.grid({"learning_rate": (0.01, 0.1)}, (0,))
        run, hyper, key = sweep.lanes(run, grid.schedule, mesh=devices.mesh(2)), grid.hyper, grid.key
    else:
        schedule = jax.tree.map(lambda array: array[0], schedule)
        hyper, key = {"learning_rate": np.float32(0.1)}, jax.random.key(0)
    rest = (problems.examples(), schedule)
    options = {"held_out": held_out, "segment": 5, "checkpoint_seconds": 0.0, "workdir": tmp_path}

    class Killed(Exception):
        pass

    def kill(event):
        if getattr(event, "number", 0) == 1:
            raise Killed

    with pytest.raises(Killed):
        training.drive(run, hyper, key, *rest, **options, observers=[kill])
    resumed = training.drive(run, hyper, key, *rest, **options)
    whole = training.drive(run, hyper, key, *rest, **{**options, "workdir": None})
    assert problems.equal(resumed.state, whole.state)
    assert isinstance(whole.state.optimizer, AverageState)
    assert problems.equal(resumed.history.held_out, whole.history.held_out)

    bare = problems.run()  # scores the trained params
    bare = sweep.lanes(bare, grid.schedule, mesh=devices.mesh(2)) if lanes else bare
    average = whole.state.optimizer.average
    expected = jax.jit(bare.score)(hyper, whole.state._replace(params=average), rest[0], held_out)
    np.testing.assert_allclose(whole.history.held_out["loss"][-1], expected["loss"], rtol=1e-6)
    trained = jax.jit(bare.score)(hyper, whole.state, rest[0], held_out)
    assert not np.allclose(trained["loss"], expected["loss"], rtol=1e-3)


def test_lowers_to_every_platform():
    step = jax.jit(lambda: train(build("adam", 0.01, average=0.99, **EVERYTHING)))
    assert jax.export.export(step, platforms=PLATFORMS)().platforms == PLATFORMS


MISTAKES = [
    ("adam", 0.0, "average = 0.0: give a decay between 0 and 1, or None"),
    ("adam", 1, "average = 1: give a decay"),
    ("adam", -0.5, "average = -0.5: give a decay"),
    ("adam", float("nan"), "average = nan: give a decay"),
    ("schedule_free_adam", 0.9, "schedule_free_adam averages its params already: leave average = 0.9 out"),
    ("schedule_free_sgd", 0.9, "schedule_free_sgd averages its params already"),
]


@pytest.mark.parametrize(("name", "average", "message"), MISTAKES)
def test_errors_are_one_line(name, average, message):
    with refused_in_one_line(message):
        build(name, 0.1, average=average)


def test_without_average_the_trained_params_are_evaluated():
    state = build("adam", 0.1).init(START)
    assert evaluation_params(state, START) is START
