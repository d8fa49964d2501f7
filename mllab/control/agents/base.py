"""What an agent is, and what all agents share: settings, annealing, the schedule of a training, a shuffle."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mllab import checks
from mllab.control.environment import Discrete, Environment
from mllab.control.evaluation import Act, Memory
from mllab.errors import UserError, unknown
from mllab.training import Run
from mllab.types import Array, Hyper, Key, Rows


class Agent(NamedTuple):
    """An agent for one environment. Its whole training is a `Run`; a step of the schedule is one update."""

    run: Run
    act: Act
    interactions: int  # environment steps in one update
    updates: int  # of the whole training, over which rates are annealed
    hyper: Mapping[str, float]  # traced settings and their defaults, beside "learning_rate"
    lane_bytes: int = 1  # that an update touches, about: `devices.lanes_in_cache` of it is `group` of `sweep.lanes`
    memory: Memory | None = None  # of an agent that remembers, which acts by it and not by `act`


def schedule(agent: Agent, updates: int | None = None) -> Rows:
    """Return the rows [S, 1] of an agent's training; they say how many updates there are, and are not read.

    Args:
        agent: the agent.
        updates: S; all of the training by default.
    """
    count = agent.updates if updates is None else updates
    checks.check_whole(1, updates=count)
    return Rows(np.zeros((count, 1), np.int32), np.ones((count, 1), np.float32))


def updates_of(steps: int, interactions: int) -> int:
    """Return how many updates take `steps` environment steps, the last one included in full."""
    checks.check_whole(1, steps=steps)
    return -(-steps // interactions)


def touched(environment: Environment, transitions: int, batch: int, hidden: Sequence[int]) -> int:
    """Return about how many bytes an update touches: its transitions, and the activations of a gradient.

    The state of an agent alone says too little: a device that runs many lanes at once loses them from its cache.
    """
    activations = 8 * batch * sum(hidden)  # values and gradients, of two nets
    return 4 * (transitions * (2 * math.prod(environment.observation) + 8) + activations)


def settings(defaults: Mapping[str, float], hyper: Hyper) -> dict[str, Any]:
    """Return the traced settings of a run: those of `hyper`, and the defaults of the others.

    Raises:
        UserError: one that the agent does not have.
    """
    for name in hyper:
        if name != "learning_rate" and name not in defaults:
            raise unknown("setting", name, ["learning_rate", *defaults])
    return {**defaults, **hyper}


def annealed(rate: Array, step: Array, updates: int | None) -> Array:
    """Return the rate of an update, which falls linearly to 0 over the training (Huang et al. 2022, detail 4).

    Args:
        rate: at first.
        step: updates before this one.
        updates: of the whole training; None keeps the rate as it is.
    """
    return rate if updates is None else rate * jnp.maximum(1.0 - step / updates, 0.0)


def shuffled(key: Key, count: int) -> Array:
    """Return the numbers 0 to count - 1 in random order, int32 [count]; count is at most 2^20.

    `jax.random.permutation` sorts pairs, several times over, which takes as long on a CPU as the training. Here numbers
    are sorted whose high bits are random and whose low bits are the position. Positions whose random bits are equal, of
    which there are few, stay in order.
    """
    bits = (count - 1).bit_length()
    drawn = jax.random.bits(key, (count,), jnp.uint32) >> bits << bits
    order = jax.lax.sort(drawn | jnp.arange(count, dtype=jnp.uint32))
    return (order & jnp.uint32((1 << bits) - 1)).astype(jnp.int32)


def check_divides(part: int, whole: int, name: str, of: str) -> None:
    """Raise UserError unless a number of parts divides a whole."""
    if whole % part:
        raise UserError(f"{name} = {part}: does not divide the {whole} {of}: give a divisor")


def discrete(environment: Environment, agent: str) -> Discrete:
    """Return the actions of an environment; raise UserError if they are continuous."""
    if not isinstance(environment.actions, Discrete):
        raise UserError(
            f"{agent} compares the values of discrete actions, and those of {environment.name} are continuous: take "
            "reinforce, actor_critic or ppo"
        )
    return environment.actions


def epsilon_greedy(greedy: Array, key: Key | None, epsilon: Array | float, size: int) -> Array:
    """Return the greedy actions, each replaced by a random one with probability epsilon; without a key, none is."""
    if key is None:
        return greedy
    explore_key, action_key = jax.random.split(key)
    random = jax.random.randint(action_key, greedy.shape, 0, size, greedy.dtype)
    return jnp.where(jax.random.uniform(explore_key, greedy.shape) < epsilon, random, greedy)
