"""Agents: gradients and values against what is known on paper, lanes, interruption, and mistakes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mllab import devices, sweep, training
from mllab.control import evaluation, planning
from mllab.control.agents import base, nets, policy_gradient, q_learning, rollout, table
from mllab.control.environment import Discrete, Environment, Step
from mllab.control.environments import cartpole, gridworld, mountain_car, pendulum
from tests.support.mistakes import refused_in_one_line

EXAMPLES, HELD_OUT = evaluation.episodes(8), np.arange(4)
REWARDS = np.array([[1.0, -0.5], [0.3, 2.0]])  # of the two states: every action leads on, from the second to the end


def two_states():
    def reset(key):
        return jnp.zeros((), jnp.int32), jnp.array([1.0, 0.0])

    def step(key, state, action):
        reward = jnp.asarray(REWARDS, jnp.float32)[state, action]
        return Step(state + 1, jnp.array([0.0, 1.0]), reward, state == 1, jnp.zeros((), bool))

    return Environment(reset, step, Discrete(2), (2,), "two states")


def test_the_policy_gradient_is_that_of_the_return_on_paper():
    environment, count = two_states(), 20_000
    net = nets.actor_and_critic(environment, hidden=(), activation="tanh", model=None)
    params = jax.jit(net.init)(jax.random.key(0))
    weights = np.array([[0.4, -0.3], [-0.2, 0.5]])
    params["actor"] = jax.tree.map(jnp.asarray, (params["actor"][0].replace(w=weights.astype(np.float32)),))

    def mean_return(weights):
        odds = np.exp(weights)
        return (odds / odds.sum(axis=1, keepdims=True) * REWARDS).sum()

    differences = np.zeros((2, 2))
    for place in np.ndindex(2, 2):
        nudge = np.zeros((2, 2))
        nudge[place] = 1e-4
        differences[place] = (mean_return(weights + nudge) - mean_return(weights - nudge)) / 2e-4

    @jax.jit
    def estimate(params, key):
        worlds = rollout.begin(environment, count, key)
        worlds, played = rollout.collect(environment, net, params, worlds, key, steps=2)
        settings = {"discount": 1.0, "trace": 1.0, "entropy": 0.0, "value": 0.5}
        return jax.grad(policy_gradient.objective)(params, net, played, settings), worlds.mean_return

    grads, training_return = estimate(params, jax.random.key(1))
    np.testing.assert_allclose(-2 * grads["actor"][0].w, differences, atol=0.03)  # a mean over both steps
    np.testing.assert_allclose(training_return, mean_return(weights), atol=0.03)


def test_q_learning_converges_to_the_values_of_value_iteration():
    arguments = {"cells": ("S.G", "..P"), "slip": 0.2}
    environment = gridworld.environment(**arguments, limit=20)
    agent = q_learning.make(environment, steps=300_000, length=10_000)
    hyper = {"learning_rate": 0.1, "exploration": 1.0, "last_exploration": 1.0, "discount": 0.9}
    rows = base.schedule(agent)
    state = jax.jit(agent.run.start)(hyper, jax.random.key(0))
    state, losses = jax.jit(agent.run.advance)(hyper, state, EXAMPLES, rows)
    process = gridworld.process(**arguments)
    expected = planning.value_iteration(process, 0.9).action_values
    np.testing.assert_allclose(state.params.q, expected, atol=0.03)
    assert losses.shape == (30,)


def sometimes_nan():
    """Return CartPole with rewards that are NaN in a few of the episodes, of which some seeds meet none."""
    inner = cartpole.environment(limit=20)

    def step(key, state, action):
        after = inner.step(key, state, action)
        return after._replace(reward=jnp.where((state.time == 0) & (state.inner[0] > 0.046), jnp.nan, after.reward))

    return inner._replace(step=step)


def is_key(leaf):
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


class Interrupted(Exception):
    """What stands for a killed process."""


@pytest.mark.slow
def test_lanes_stand_alone_and_an_interrupted_training_resumes_to_the_same_bits(tmp_path):
    make = table.AGENTS["ppo"].make
    agent = make(sometimes_nan(), steps=96, environments=2, length=8, minibatches=2, epochs=2, hidden=(4,))
    grid = sweep.grid({"learning_rate": [0.01]}, 8)
    lanes = sweep.lanes(agent.run, grid.schedule, mesh=devices.mesh(2))
    rows = base.schedule(agent)

    def drive(**options):
        options = {"held_out": HELD_OUT, "segment": 2, "checkpoint_seconds": 0.0} | options
        return training.drive(lanes, grid.hyper, grid.key, EXAMPLES, rows, **options)

    whole = drive()

    def interrupt(event):
        if isinstance(event, training.Segment) and event.number == 1 and not event.restored:
            raise Interrupted

    with pytest.raises(Interrupted):
        drive(workdir=tmp_path, observers=[interrupt])
    resumed = drive(workdir=tmp_path)
    for one, other in zip(jax.tree.leaves(whole.state), jax.tree.leaves(resumed.state), strict=True):
        np.testing.assert_array_equal(*(np.asarray(jax.random.key_data(a) if is_key(a) else a) for a in (one, other)))
    finite = np.isfinite(whole.state.params["critic"][0].w).all(axis=(1, 2))
    np.testing.assert_array_equal(whole.nonfinite_step < 0, finite)
    assert 0 < finite.sum() < 8
    lane = int(np.flatnonzero(finite)[0])
    state = jax.jit(agent.run.start)({"learning_rate": 0.01}, grid.key[lane])
    state, _ = jax.jit(agent.run.advance)({"learning_rate": 0.01}, state, EXAMPLES, rows)
    for one, other in zip(jax.tree.leaves(whole.state.params), jax.tree.leaves(state.params), strict=True):
        np.testing.assert_allclose(one[lane], other, rtol=1e-4, atol=1e-5)


def test_mistakes_are_refused():
    with refused_in_one_line("dqn compares the values of discrete actions, and those of pendulum are continuous"):
        table.AGENTS["dqn"].make(pendulum.environment())
    with refused_in_one_line("needs states, or bounds"):
        table.AGENTS["q_learning"].make(two_states())
    with refused_in_one_line("minibatches = 3: does not divide the 2048 transitions"):
        table.AGENTS["ppo"].make(two_states(), minibatches=3)
    with refused_in_one_line("unknown agent 'pppo': did you mean 'ppo'"):
        table.entry("pppo")
    agent = table.AGENTS["actor_critic"].make(two_states())
    with refused_in_one_line("unknown setting 'entopy': did you mean 'entropy'"):
        agent.run.start({"learning_rate": 0.1, "entopy": 0.1}, jax.random.key(0))


def trained(name, environment, rate, seeds=4, **options):
    """Return the mean return of each seed's final policy."""
    agent = table.AGENTS[name].make(environment, **options)
    grid = sweep.grid({"learning_rate": [rate]}, seeds)
    lanes = sweep.lanes(agent.run, grid.schedule, mesh=devices.mesh(2))
    rows = base.schedule(agent)
    result = training.drive(lanes, grid.hyper, grid.key, EXAMPLES, rows, held_out=HELD_OUT, segment=len(rows.ids))
    return result.history.held_out["return"][-1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "rate", "steps"),
    [("reinforce", 0.01, 150_000), ("actor_critic", 0.01, 150_000), ("ppo", 0.01, 100_000), ("dqn", 0.001, 100_000)],
)
def test_agents_learn_to_balance_a_pole(name, rate, steps):
    assert np.median(trained(name, cartpole.environment(200), rate, steps=steps)) > 150


@pytest.mark.slow
def test_q_learning_drives_the_car_out_of_the_valley():
    assert trained("q_learning", mountain_car.environment(), 0.3, steps=1_000_000).mean() > -150


@pytest.mark.slow
def test_ppo_finds_a_continuous_action():
    """A reward of -(a - 1)² for one action in -2 to 2."""
    inner = pendulum.environment()
    target = inner._replace(
        reset=lambda key: (jnp.zeros(()), jnp.ones(3)),
        step=lambda key, state, action: Step(
            state, jnp.ones(3), -((action[0] - 1.0) ** 2), jnp.ones((), bool), jnp.zeros((), bool)
        ),
    )
    assert (trained("ppo", target, 0.01, steps=20_000, environments=16, length=16) > -0.02).all()
