r"""What an environment is: two pure functions, `reset` and `step`, and the actions that it takes.

An agent observes $o_t$, chooses an action $a_t$, and the environment returns a reward $r_{t+1}$ and the next
observation $o_{t+1}$. An episode ends in two ways that a learner must not confuse: it *terminates* in a state after
which no reward can follow, whose value is 0, or it is *truncated*, by a limit of time, in a state whose value is
estimated as that of any other (Pardo et al. 2018, arXiv:1712.00378).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mllab.checks import check_whole
from mllab.errors import UserError
from mllab.types import Array, Key, is_concrete

EnvironmentState = Any  # a pytree of arrays


class Discrete(NamedTuple):
    """The actions 0 to size - 1, of type int32 and shape []."""

    size: int


class Continuous(NamedTuple):
    """Real-valued actions of shape [A], each cut off at its `low` and its `high`."""

    low: tuple[float, ...]
    high: tuple[float, ...]


class Step(NamedTuple):
    """The result of an action."""

    state: EnvironmentState
    observation: Array  # of the state that was reached, at the end of an episode too
    reward: Array  # [] float32
    terminated: Array  # [] bool: no reward can follow
    truncated: Array  # [] bool: the episode is cut off here


class Environment(NamedTuple):
    """An environment without any state of its own, of one episode at a time: `jax.vmap` makes many."""

    reset: Callable[[Key], tuple[EnvironmentState, Array]]  # key -> state, observation
    step: Callable[[Key, EnvironmentState, Array], Step]  # key, state, action -> result
    actions: Discrete | Continuous
    observation: tuple[int, ...]  # shape
    name: str = "environment"
    bounds: tuple[tuple[float, ...], tuple[float, ...]] | None = None  # of observations, for agents that divide them
    states: int | None = None  # S, where observations are one-hot vectors [S]: for agents with a table of states


class Limited(NamedTuple):
    """The state of an environment with a limit of time."""

    inner: EnvironmentState
    time: Array  # [] int32: steps taken in this episode


def limited(environment: Environment, steps: int) -> Environment:
    """Return an environment whose episodes are truncated after `steps` steps, and whose actions are checked.

    Raises:
        UserError: not a whole number of steps, or none.
    """
    check_whole(1, limit=steps)

    def reset(key: Key) -> tuple[Limited, Array]:
        state, observation = environment.reset(key)
        return Limited(state, jnp.zeros((), jnp.int32)), observation

    def step(key: Key, state: Limited, action: Array) -> Step:
        check_action(environment.actions, action)
        after = environment.step(key, state.inner, action)
        time = state.time + 1
        return after._replace(state=Limited(after.state, time), truncated=after.truncated | (time >= steps))

    return environment._replace(reset=reset, step=step)


class Transition(NamedTuple):
    """A step of an agent that starts anew at the end of each episode."""

    state: EnvironmentState  # to act in next: of a new episode where this one has ended
    observation: Array  # of that state
    reached: Array  # the observation that the action led to, from which a truncated episode is bootstrapped
    reward: Array
    terminated: Array
    truncated: Array


def step_and_reset(environment: Environment, key: Key, state: EnvironmentState, action: Array) -> Transition:
    """Take a step, and begin a new episode where it ends this one."""
    step_key, reset_key = jax.random.split(key)
    return restarted(environment.step(step_key, state, action), *environment.reset(reset_key))


def restarted(after: Step, fresh: EnvironmentState, first: Array) -> Transition:
    """Return a step with the state and observation of a new episode in place of those at the end of one.

    For agents that draw many starts at once, which is cheaper than one in every step.
    """
    ended = after.terminated | after.truncated
    state, observation = jax.tree.map(
        lambda new, old: jnp.where(ended, new, old), (fresh, first), (after.state, after.observation)
    )
    return Transition(state, observation, after.observation, after.reward, after.terminated, after.truncated)


def random_action(actions: Discrete | Continuous, key: Key) -> Array:
    """Return an action, all of them equally likely."""
    if isinstance(actions, Discrete):
        return jax.random.randint(key, (), 0, actions.size, jnp.int32)
    low, high = jnp.array(actions.low), jnp.array(actions.high)
    return jax.random.uniform(key, low.shape, minval=low, maxval=high)


def check_action(actions: Discrete | Continuous, action: Array) -> None:
    """Raise unless an action has the right shape and dtype and, where it is concrete, is one of the actions.

    Continuous actions beyond their bounds are no mistake: a normal distribution has no bounds. NaN is one.
    """
    shape, expected = jnp.shape(action), () if isinstance(actions, Discrete) else (len(actions.low),)
    if shape != expected:
        raise UserError(f"action: shape {list(shape)}, expected {list(expected)}")
    dtype = jnp.result_type(action)
    if isinstance(actions, Discrete):
        if not jnp.issubdtype(dtype, jnp.integer):
            raise UserError(f"action: {dtype}, expected an integer from 0 to {actions.size - 1}")
        if is_concrete(action) and not 0 <= int(action) < actions.size:
            raise UserError(f"action = {int(action)}: expected 0 to {actions.size - 1}")
    elif is_concrete(action) and np.isnan(np.asarray(action)).any():
        raise UserError(f"action = {np.asarray(action).tolist()}: expected numbers")
