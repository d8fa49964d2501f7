"""Environments: gymnasium is the oracle of four, bsuite's rules that of Catch, its own transitions that of the grid."""

from functools import cache

import gymnasium
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mllab.control import scene as scenes
from mllab.control.environment import Continuous, Discrete, Limited, limited, random_action, step_and_reset
from mllab.control.environments import bandit, catch, gridworld
from mllab.control.environments.table import ENVIRONMENTS
from support.mistakes import refused_in_one_line

ORACLES = {
    "cartpole": "CartPole-v1",
    "acrobot": "Acrobot-v1",
    "mountain_car": "MountainCar-v0",
    "pendulum": "Pendulum-v1",
}
# Open-loop, a falling pole multiplies a difference by 1.08 in each step, so that rounding decides long episodes of it.
REPLAYED = {"cartpole": 100, "acrobot": 500, "mountain_car": 200, "pendulum": 200}


@cache
def made(name):
    return ENVIRONMENTS[name].make()


def chosen(name, state, generator):
    """Return an action for gymnasium: of a controller that balances the pole, or a random one."""
    if name == "cartpole":
        return int(generator.random() < 0.1 or 3 * state[2] + state[3] + 0.1 * state[0] + 0.3 * state[1] > 0)
    if name == "pendulum":
        return generator.uniform(-3, 3, 1)  # beyond its bounds too
    if name == "mountain_car":
        return int(generator.choice([0, 1, 2] if generator.random() < 0.3 else [2 if state[1] >= 0 else 0]))
    return int(generator.integers(3))


def episode(name, seed):
    """Return an episode of gymnasium as arrays [T, ...]: states before and after each step, actions, results."""
    env = gymnasium.make(ORACLES[name], disable_env_checker=True)
    generator = np.random.default_rng(seed)
    first, _ = env.reset(seed=seed)
    env.unwrapped.state = np.array(env.unwrapped.state, np.float64)
    rows, ended = [], False
    while not ended:
        before = np.array(env.unwrapped.state)
        action = chosen(name, before, generator)
        observation, reward, terminated, truncated, _ = env.step(action)
        rows.append((before, action, np.array(env.unwrapped.state), observation, reward, terminated, truncated))
        ended = terminated or truncated
    env.close()
    assert first.shape == rows[0][3].shape
    return [np.array(column) for column in zip(*rows, strict=True)]


def close(ours, theirs, tolerance):
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", ORACLES)
def test_steps_and_whole_episodes_are_those_of_gymnasium(name):
    before, actions, after, observations, rewards, terminated, truncated = episode(name, 1)
    with jax.enable_x64(True):
        environment = ENVIRONMENTS[name].make()
        key, wide = jax.random.key(0), jnp.asarray(before)

        def one(state, time, action):
            return environment.step(key, Limited(state, time), action)

        each = jax.jit(jax.vmap(one))(wide, jnp.arange(len(before)), jnp.asarray(actions))
        close(each.state.inner, after, 1e-12)
        close(each.observation, observations, 1e-6)  # gymnasium's are float32
        close(each.reward, rewards, 1e-12)
        np.testing.assert_array_equal(each.terminated, terminated)
        np.testing.assert_array_equal(each.truncated, truncated)
        narrow = jax.jit(jax.vmap(one))(wide.astype(jnp.float32), jnp.arange(len(before)), jnp.asarray(actions))
        assert narrow.state.inner.dtype == narrow.observation.dtype == narrow.reward.dtype == jnp.float32
        close(narrow.state.inner, after, 2e-5)
        close(narrow.reward, rewards, 2e-5)

        def replay(carry, action):
            result = environment.step(key, carry, action)
            return result.state, (result.state.inner, result.reward, result.terminated, result.truncated)

        start = Limited(wide[0], jnp.zeros((), jnp.int32))
        ours = jax.jit(lambda start, actions: jax.lax.scan(replay, start, actions)[1])(start, jnp.asarray(actions))
        count = REPLAYED[name]
        for mine, theirs in zip(ours, (after, rewards, terminated, truncated), strict=True):
            close(np.asarray(mine)[:count], theirs[:count], 1e-6)


@pytest.mark.parametrize("name", ORACLES)
def test_episodes_begin_and_are_limited_as_in_gymnasium(name):
    env = gymnasium.make(ORACLES[name], disable_env_checker=True)
    theirs = np.array([env.reset(seed=seed)[0] for seed in range(300)])
    limit = gymnasium.spec(ORACLES[name]).max_episode_steps
    assert env.observation_space.shape == made(name).observation

    @jax.jit
    def begun(keys):
        states, observations = jax.vmap(made(name).reset)(keys)
        late = states._replace(time=jnp.full(len(keys), limit - 2).at[0].set(limit - 1))
        action = random_action(made(name).actions, keys[0])
        return observations, jax.vmap(made(name).step, (0, 0, None))(keys, late, action).truncated

    ours, cut = map(np.asarray, begun(jax.random.split(jax.random.key(0), 300)))
    width = np.ptp(theirs, axis=0).clip(1e-6)
    assert (abs(ours.min(0) - theirs.min(0)) <= 0.1 * width).all()
    assert (abs(ours.max(0) - theirs.max(0)) <= 0.1 * width).all()
    assert cut.tolist() == [True] + [False] * 299


def test_episodes_of_both_ends_were_compared():
    ends = {name: episode(name, 1)[5:] for name in ORACLES}
    assert len(ends["cartpole"][1]) == 500
    assert ends["cartpole"][1][-1]
    assert ends["mountain_car"][0][-1]
    assert ends["acrobot"][0][-1] or ends["acrobot"][1][-1]


@cache
def compiled(name):
    """Return a compiled function of keys: the steps of 40 random actions for each, with resets."""
    environment = made(name)

    def step(carry, key):
        action_key, step_key = jax.random.split(key)
        new = step_and_reset(environment, step_key, carry, random_action(environment.actions, action_key))
        return new.state, new

    def run(key):
        state, observation = environment.reset(key)
        return observation, jax.lax.scan(step, state, jax.random.split(key, 40))[1]

    return jax.jit(jax.vmap(run))


def rollout(name, seed):
    """Return the first observations [8, ...] of an environment and 40 random steps [8, 40, ...], as NumPy's arrays."""
    key = jax.random.key(seed, impl="unsafe_rbg")  # compiled sooner than the default
    return jax.tree.map(np.asarray, compiled(name)(jax.random.split(key, 8)))


@pytest.mark.parametrize("name", ENVIRONMENTS)
@hypothesis.settings(max_examples=5, deadline=None)
@hypothesis.given(seed=st.integers(0, 2**31 - 1))
def test_random_actions_lead_to_finite_numbers_inside_the_bounds(name, seed):
    environment = made(name)
    first, steps = rollout(name, seed)
    assert first.shape[1:] == environment.observation
    assert steps.reward.shape == (8, 40)
    assert np.isfinite(steps.reward).all()
    for observations in (first, steps.observation, steps.reached):
        assert np.isfinite(observations).all()
        if environment.states is not None:
            assert environment.observation == (environment.states,)
            assert (np.sort(observations, -1) == np.eye(environment.states)[-1]).all()
        elif environment.bounds is not None and name != "cartpole":  # whose bounds are those of the states that matter
            low, high = np.asarray(environment.bounds, np.float32)
            assert ((observations >= low) & (observations <= high)).all()


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_environments_lower_to_all_platforms(name):
    environment = made(name)

    def run(key):
        state, _ = environment.reset(key)
        return step_and_reset(environment, key, state, random_action(environment.actions, key))

    platforms = ("cpu", "cuda", "tpu")
    assert jax.export.export(jax.jit(run), platforms=platforms)(jax.random.key(0)).platforms == platforms


def test_a_state_keeps_its_dtype_and_shape():
    for name in ENVIRONMENTS:
        environment = made(name)
        state, observation = jax.eval_shape(environment.reset, jax.random.key(0))
        action = jax.eval_shape(lambda key, actions=environment.actions: random_action(actions, key), jax.random.key(0))
        after = jax.eval_shape(environment.step, jax.random.key(0), state, action)
        assert (after.state, after.observation) == (state, observation), name
        assert after.reward.shape == after.terminated.shape == after.truncated.shape == ()
        assert after.terminated.dtype == after.truncated.dtype == bool


def test_catch_follows_the_rules_of_bsuite():
    step = jax.jit(made("catch").step)
    reset = jax.jit(made("catch").reset)
    generator, rewards = np.random.default_rng(0), []
    for seed in range(12):
        state, observation = reset(jax.random.key(seed))
        column, paddle, row = int(state.column), 2, 0
        while True:
            board = np.zeros((10, 5, 1), np.float32)
            board[row, column], board[9, paddle] = 1, 1
            np.testing.assert_array_equal(observation, board)
            if row == 9:
                break
            action = int(generator.integers(3))
            paddle, row = min(max(paddle + (-1, 0, 1)[action], 0), 4), row + 1
            result = step(jax.random.key(0), state, action)
            state, observation = result.state, result.observation
            assert bool(result.terminated) == (row == 9)
            assert not result.truncated
            assert result.reward == ((1 if paddle == column else -1) if row == 9 else 0)
        rewards.append(float(result.reward))
    assert set(rewards) == {1.0, -1.0}


def test_the_grids_steps_are_as_frequent_as_its_transitions_say():
    options = {"cells": ("S.P", ".#G"), "slip": 0.3, "step_reward": -0.1}
    environment, process = gridworld.environment(**options), gridworld.process(**options)
    samples = 4000

    states = np.flatnonzero(~np.asarray(process.terminal))
    assert states.tolist() == [0, 1, 3]

    @jax.jit
    def sampled(key):
        def one(key, state, action):
            result = environment.step(key, Limited(state, jnp.int32(0)), action)
            return result.state.inner, result.reward, result.terminated

        pairs = jnp.asarray(states.repeat(4 * samples)), jnp.tile(jnp.arange(4).repeat(samples), 3)
        return jax.vmap(one)(jax.random.split(key, 12 * samples), *pairs)

    reached, rewards, terminated = (np.asarray(array).reshape(3, 4, samples) for array in sampled(jax.random.key(0)))
    frequencies = (reached[..., None] == np.arange(6)).mean(2)
    error = 4 / np.sqrt(samples)  # four standard errors of a number whose variance is 1
    close(frequencies, process.transitions[states], error / 2)
    close(rewards.mean(-1), process.rewards[states], error)
    np.testing.assert_array_equal(terminated, np.asarray(process.terminal)[reached])
    np.testing.assert_allclose(process.transitions.sum(-1), 1, rtol=1e-6)
    # On paper: from the start, right leads to cell 1, and its slips down to 3 and up against the edge.
    np.testing.assert_allclose(process.transitions[0, 1], [0.15, 0.7, 0, 0.15, 0, 0], rtol=1e-6)
    assert process.rewards[1, 1] == pytest.approx(-0.1 - 0.7, rel=1e-6)


def test_a_bandits_arms_pay_their_means():
    environment = bandit.environment((1.0, -2.0), deviation=0.5)
    keys = jax.random.split(jax.random.key(0), 4000)
    result = jax.jit(jax.vmap(environment.step, (0, None, None)))(keys, jnp.int32(-1), jnp.int32(1))
    assert np.mean(result.reward) == pytest.approx(-2, abs=0.04)
    assert np.std(result.reward) == pytest.approx(0.5, abs=0.03)
    assert np.all(result.terminated)
    assert environment.states == 1
    assert environment.actions == Discrete(2)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_scenes_lie_in_view(name):
    state = jax.tree.map(lambda array: array[0, 3], rollout(name, 0)[1].state)
    picture = ENVIRONMENTS[name].scene(np.int32(3) if name == "bandit" else state)  # whose episodes are over at once
    view = picture.view
    assert any(shape.role == "agent" for shape in picture.shapes)
    for shape in picture.shapes:
        match shape:
            case scenes.Line(start, end):
                points = [start, end]
            case scenes.Circle(centre, radius):
                points = [(centre[0] - radius, centre[1] - radius), (centre[0] + radius, centre[1] + radius)]
            case scenes.Rectangle((x, y), width, height):
                points = [(x - width / 2, y - height / 2), (x + width / 2, y + height / 2)]
            case scenes.Polygon(points):
                pass
        assert all(view.left <= x <= view.right and view.bottom <= y <= view.top for x, y in points), shape


def test_a_cartpole_that_leans_to_the_right_is_drawn_so():
    picture = ENVIRONMENTS["cartpole"].scene(Limited(np.array([1.0, 0.0, 0.2, 0.0]), 0))
    pole = picture.shapes[-1]
    assert pole.start == (1.0, 0.0)
    assert pole.end == pytest.approx((1 + np.sin(0.2), np.cos(0.2)))


def test_mistakes_are_refused():
    key = jax.random.key(0)
    with refused_in_one_line(r"action = 2: expected 0 to 1"):
        made("cartpole").step(key, made("cartpole").reset(key)[0], 2)
    with refused_in_one_line(r"action = -1: expected 0 to 2"):
        made("catch").step(key, made("catch").reset(key)[0], -1)
    with refused_in_one_line(r"action: float32, expected an integer"):
        made("bandit").step(key, jnp.int32(0), jnp.float32(1))
    with refused_in_one_line(r"action: shape \[\], expected \[1\]"):
        jax.eval_shape(made("pendulum").step, key, made("pendulum").reset(key)[0], jnp.float32(1))
    with refused_in_one_line(r"action = \[nan\]"):
        made("pendulum").step(key, made("pendulum").reset(key)[0], jnp.array([jnp.nan]))
    with refused_in_one_line("limit = 0: expected 1 or more"):
        limited(catch.environment(), 0)
    for cells, pattern in (
        (("S.", "G"), r"rows of \[2, 1\] characters"),
        ((), "cells"),
        (("SxG",), "row 0, column 1 is 'x'"),
        (("..G",), "no start"),
        (("S..",), "no goal"),
    ):
        with refused_in_one_line(pattern):
            gridworld.environment(cells)
    with refused_in_one_line("slip = 1.5"):
        gridworld.process(slip=1.5)
    with refused_in_one_line("means"):
        bandit.environment((1.0, float("nan")))
    with refused_in_one_line("deviation = -1"):
        bandit.environment(deviation=-1)


def test_random_actions_cover_their_range():
    @jax.jit
    @jax.vmap
    def drawn(key):
        return random_action(Discrete(3), key), random_action(Continuous((-1.0, 2.0), (1.0, 3.0)), key)

    discrete, real = map(np.asarray, drawn(jax.random.split(jax.random.key(0), 200)))
    assert set(discrete.tolist()) == {0, 1, 2}
    assert ((real >= [-1, 2]) & (real <= [1, 3])).all()
    assert (np.ptp(real, axis=0) > [1.8, 0.9]).all()
