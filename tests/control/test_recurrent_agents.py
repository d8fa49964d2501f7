"""Agents with memory or conv nets: memory at the ends of episodes, lanes, mistakes, and what they learn."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mllab import devices, sweep, training
from mllab.control import evaluation
from mllab.control.agents import base, nets, recurrent, rollout, table
from mllab.control.environment import Discrete, Environment, Step, limited
from mllab.control.environments import cartpole, catch
from tests.support.mistakes import refused_in_one_line

EXAMPLES = evaluation.episodes(8)


def recall(steps):
    """Return an environment that shows one of two cues in the first step and rewards the action of its number last."""

    def observed(cue, time):
        return jnp.stack([jnp.where(time == 0, 2.0 * cue - 1.0, 0.0), jnp.where(time == steps - 1, 1.0, 0.0)])

    def reset(key):
        cue = jax.random.bernoulli(key).astype(jnp.int32)
        return (cue, jnp.zeros((), jnp.int32)), observed(cue, 0)

    def step(key, state, action):
        cue, time = state
        last = time == steps - 1
        reward = jnp.where(last, jnp.where(action == cue, 1.0, -1.0), 0.0)
        return Step((cue, time + 1), observed(cue, time + 1), reward, last, jnp.zeros((), bool))

    return Environment(reset, step, Discrete(2), (2,), "recall")


@pytest.mark.slow
def test_a_rollout_over_ends_of_episodes_equals_each_episode_alone():
    environment, steps, count = limited(cartpole.environment(), 7), 11, 2
    net = recurrent.actor_and_critic(environment, memory="lstm", hidden=(3, 5), activation="tanh", model=None)
    params = net.init(jax.random.key(0))
    params["actor"]["head"] = jax.tree.map(lambda a: 100 * a, params["actor"]["head"])  # so that differences show

    @jax.jit
    def collected(key):
        parts = []
        worlds = rollout.begin(environment, count, key, net.first(count))
        for each in jax.random.split(key):
            worlds, played = rollout.collect(environment, net, params, worlds, each, steps)
            seen = played.observation, played.begins, played.carry
            again = net.both(params, *seen)
            next_values = net.next_values(params, played.observation, played.reached, played.begins, played.carry)
            parts.append((played, *again, next_values))
        return parts

    parts = collected(jax.random.key(1))
    # Two rollouts, so that episodes run on from the first one into the second one.
    played, outputs, values, next_values = jax.tree.map(
        lambda *each: np.concatenate(each), *[(part[0]._replace(carry=()), *part[1:]) for part in parts]
    )
    np.testing.assert_allclose(played.outputs, outputs, rtol=1e-4, atol=1e-5)

    @jax.jit
    def alone(observations):
        return net.both(params, observations[:, None], jnp.zeros((len(observations), 1), bool), net.first(1))

    ended = played.terminated | played.truncated
    assert played.truncated.any()
    for world in range(count):
        edges = [0, *np.flatnonzero(ended[:, world]) + 1, 2 * steps]
        for start, stop in itertools.pairwise(edges):
            # With the last observation reached, and padding: one shape, one compilation.
            episode = np.zeros((9, 4), np.float32)
            episode[: stop - start] = played.observation[start:stop, world]
            episode[stop - start] = played.reached[stop - 1, world]
            expected_outputs, expected_values = (np.asarray(a)[: stop - start + 1, 0] for a in alone(episode))
            np.testing.assert_allclose(outputs[start:stop, world], expected_outputs[:-1], rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(values[start:stop, world], expected_values[:-1], rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(next_values[start:stop, world], expected_values[1:], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_agents_act_in_evaluation_by_what_they_saw_in_the_episode():
    environment = recall(3)
    agent = table.AGENTS["ppo"].make(environment, memory="gru", hidden=(4,), steps=64, environments=4, length=4)
    params = agent.run.start({"learning_rate": 0.01}, jax.random.key(0)).params
    # A cell whose state has the sign of the cue.
    actor = jax.tree.map(jnp.zeros_like, params["actor"])
    w_x = np.zeros((2, 12), np.float32)
    w_x[0, 8:] = 5.0  # the candidate
    w_x[1, 4:8] = 20.0  # the update gate, which keeps the state when the cue is asked for
    cell = actor["cell"].replace(w_x=jnp.asarray(w_x))
    head = (actor["head"][0].replace(w=jnp.tile(jnp.array([[-1.0, 1.0]]), (4, 1))),)
    params = params | {"actor": actor | {"cell": cell, "head": head}}

    def act(carry, observation):
        return agent.memory.act(params, carry, observation, None)

    numbers, carry = np.arange(6), agent.memory.first()
    played = jax.jit(lambda numbers: evaluation.totals(environment, act, numbers, carry=carry))(jnp.asarray(numbers))
    np.testing.assert_array_equal(played.returns, 1.0)
    seen = evaluation.play(environment, act, numbers, 3, carry)
    np.testing.assert_array_equal(seen.actions[:, 2], seen.states[0][:, 0])
    assert len(np.unique(seen.states[0])) == 2
    with refused_in_one_line("this agent has memory, and acts by a carry as well: call its memory.act"):
        agent.act(params, jnp.zeros(2), None)


@pytest.mark.slow
@pytest.mark.parametrize("memory", [None, "gru"])
def test_conv_nets_play_and_a_lane_equals_the_run_alone(memory):
    options = {"environments": 2, "length": 6, "epochs": 2, "minibatches": 2, "hidden": (3,), "memory": memory}
    agent = table.AGENTS["ppo"].make(catch.environment(), steps=24, model=nets.conv((2,), (4,)), **options)
    grid, rows = sweep.grid({"learning_rate": [0.01, 0.1]}, 1), base.schedule(agent)
    lanes = sweep.lanes(agent.run, grid.schedule, mesh=devices.mesh(1))

    def trained(run, hyper, key):
        @jax.jit
        def whole(hyper, key):
            state = run.start(hyper, key)
            return state, *run.advance(hyper, state, EXAMPLES, rows)

        return whole(hyper, key)

    before, state, losses = trained(lanes, grid.hyper, grid.key)
    assert losses.shape == (2, 2)
    _, alone, _ = trained(agent.run, {"learning_rate": 0.1}, grid.key[1])
    for path, leaf in jax.tree.leaves_with_path(alone.params):
        each = dict(jax.tree.leaves_with_path(state.params))[path][1]
        np.testing.assert_allclose(each, leaf, rtol=1e-4, atol=1e-5)
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), before.params, state.params)
    assert all(jax.tree.leaves(moved))


def test_mistakes_are_refused():
    make = table.AGENTS["ppo"].make
    with refused_in_one_line(r"a conv net takes observations \[height, width, channels\], not \[4\]"):
        make(cartpole.environment(), model=nets.conv())
    with refused_in_one_line(r"channels\[0\] = 0"):
        nets.conv((0,))
    with refused_in_one_line("unknown memory 'gruu': did you mean 'gru'"):
        make(cartpole.environment(), memory="gruu")
    with refused_in_one_line("hidden: none, expected the units of the cell"):
        make(cartpole.environment(), memory="gru", hidden=())
    with refused_in_one_line("minibatches = 4: does not divide the 6 environments of an agent with memory"):
        make(cartpole.environment(), memory="gru", environments=6)


def mean_returns(name, environment, steps, **options):
    """Return the mean return of each seed's final policy."""
    agent = table.AGENTS[name].make(environment, steps=steps, **options)
    grid, rows = sweep.grid({"learning_rate": [0.01]}, 4), base.schedule(agent)
    lanes = sweep.lanes(agent.run, grid.schedule, mesh=devices.mesh(2))
    segment, held_out = len(rows.ids), np.arange(8)
    result = training.drive(lanes, grid.hyper, grid.key, EXAMPLES, rows, held_out=held_out, segment=segment)
    return result.history.held_out["return"][-1]


@pytest.mark.slow
def test_memory_alone_solves_recall():
    for name in ("ppo", "actor_critic"):
        assert mean_returns(name, recall(4), 20_000, hidden=(16,), length=16, memory="gru").min() > 0.9
    assert mean_returns("ppo", recall(4), 20_000, hidden=(16,), length=16).max() < 0.9


@pytest.mark.slow
def test_ppo_with_a_conv_net_catches_balls():
    assert mean_returns("ppo", catch.environment(), 30_000, length=32, model=nets.conv((4,), (32,))).min() > 0.9
