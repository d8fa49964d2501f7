r"""Evaluation: whole episodes from starts that are the same for every agent.

An episode is known by its number: its key is made of a constant and the number alone, so all agents meet the same
starts (common random numbers), and episodes of other numbers are fresh ones. Examples are such numbers, rows say which
of them to play, and a metric is the weighted mean over them.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mllab import checks
from mllab.control.environment import Environment, EnvironmentState, Step, check_action
from mllab.types import Array, Examples, Hyper, Key, Metrics, Params, Rows

EPISODES = 20_260  # seed of the keys of all episodes
MAX_STEPS = 10_000  # of an episode without a limit of time

Act = Callable[[Params, Array, Key | None], Array]  # params, observation, key or None (no exploration) -> action

Carry = Any  # what an agent remembers: a pytree of arrays


class Memory(NamedTuple):
    """How an agent acts that remembers what it observed in an episode."""

    first: Callable[[], Carry]  # before an episode
    act: Callable[[Params, Carry, Array, Key | None], tuple[Carry, Array]]  # params, carry, observation, key or None


class Trajectory(NamedTuple):
    """Steps of one episode, or of several after a further leading axis; those after its end are not `alive`."""

    states: EnvironmentState  # [T, ...] acted in
    observations: Array  # [T, ...] of them
    actions: Array  # [T] or [T, A]
    rewards: Array  # [T]; 0 after the end
    alive: Array  # [T] bool


class Played(NamedTuple):
    """Totals of N episodes."""

    returns: Array  # [N] sums of rewards
    lengths: Array  # [N] int32 steps


def episodes(count: int) -> dict[str, np.ndarray]:
    """Return the examples of a training by reinforcement: the numbers of `count` episodes of evaluation.

    Raises:
        UserError: fewer than one.
    """
    checks.check_whole(1, episodes=count)
    return {"episode": np.arange(count, dtype=np.int32)}


def keys(numbers: Array) -> Key:
    """Return the keys [N] of episodes by number."""
    return jax.vmap(partial(jax.random.fold_in, jax.random.key(EPISODES)))(numbers)


def totals(
    environment: Environment,
    act: Callable[..., Any],
    numbers: Array,
    max_steps: int = MAX_STEPS,
    carry: Carry | None = None,
) -> Played:
    """Return the totals of episodes, all played side by side until the last has ended.

    Args:
        environment: what is played.
        act: observation -> action, of one episode; with a carry (carry, observation) -> (carry, action).
        numbers: of the episodes, [N].
        max_steps: steps after which an episode is cut off.
        carry: what an agent with memory remembers before an episode, `memory.first()`.
    """
    starts, step_keys = _split(keys(numbers))
    state, observation = jax.vmap(environment.reset)(starts)
    count = len(numbers)

    decide, remembered = _deciding(act, carry, count)

    def step(now: Any) -> Any:
        time, state, observation, alive, played, remembered = now
        remembered, action = jax.vmap(decide)(remembered, observation)
        after = _step(environment, step_keys, time, state, action)
        played = Played(played.returns + jnp.where(alive, after.reward, 0.0), played.lengths + alive)
        alive = alive & ~(after.terminated | after.truncated)
        return time + 1, after.state, after.observation, alive, played, remembered

    none = Played(jnp.zeros(count), jnp.zeros(count, jnp.int32))
    first = jnp.zeros((), jnp.int32), state, observation, jnp.ones(count, bool), none, remembered
    return jax.lax.while_loop(lambda now: now[3].any() & (now[0] < max_steps), step, first)[4]


def play(
    environment: Environment, act: Callable[..., Any], numbers: Any, steps: int, carry: Carry | None = None
) -> Trajectory:
    """Return the trajectories [N, T, ...] of episodes, for drawings; arguments as for `totals`.

    Raises:
        UserError: no episodes or steps, or the first action that the environment does not take.
    """
    numbers = jnp.asarray(checks.as_numbers(numbers, "episodes"), jnp.int32)
    checks.check_whole(1, episodes=numbers.size, steps=steps)
    trajectory = jax.jit(partial(_trajectories, environment, act, steps=steps, carry=carry))(numbers)
    for action in np.asarray(trajectory.actions)[np.asarray(trajectory.alive)]:
        check_action(environment.actions, action)
    return trajectory


def _trajectories(
    environment: Environment, act: Callable[..., Any], numbers: Array, steps: int, carry: Carry | None
) -> Trajectory:
    starts, step_keys = _split(keys(numbers))
    state, observation = jax.vmap(environment.reset)(starts)

    decide, remembered = _deciding(act, carry, len(numbers))

    def step(before: Any, time: Array) -> Any:
        state, observation, alive, remembered = before
        remembered, action = jax.vmap(decide)(remembered, observation)
        after = _step(environment, step_keys, time, state, action)
        now = Trajectory(state, observation, action, jnp.where(alive, after.reward, 0.0), alive)
        return (after.state, after.observation, alive & ~(after.terminated | after.truncated), remembered), now

    _, trajectory = jax.lax.scan(
        step, (state, observation, jnp.ones(len(numbers), bool), remembered), jnp.arange(steps)
    )
    return jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), trajectory)


def _deciding(act: Callable[..., Any], carry: Carry | None, count: int) -> tuple[Callable[..., Any], Carry]:
    """Return (carry, observation) -> (carry, action), and the carries [N, ...] before the episodes."""
    if carry is None:
        return lambda nothing, observation: (nothing, act(observation)), ()
    return act, jax.tree.map(lambda a: jnp.broadcast_to(a, (count, *jnp.shape(a))), carry)


def _split(keys: Key) -> tuple[Key, Key]:
    """Return the keys of the starts and of the steps."""
    pairs = jax.vmap(jax.random.split)(keys)
    return pairs[:, 0], pairs[:, 1]


def _step(environment: Environment, step_keys: Key, time: Array, state: EnvironmentState, actions: Array) -> Step:
    """Return the result of one step in each episode."""
    now = jax.vmap(lambda key: jax.random.fold_in(key, time))(step_keys)
    return jax.vmap(environment.step)(now, state, actions)


def score(
    environment: Environment,
    act: Act,
    training_return: Callable[[Any], Array],
    max_steps: int = MAX_STEPS,
    memory: Memory | None = None,
) -> Callable[[Hyper, Any, Examples, Rows], Metrics]:
    """Return the `score` of an agent's run: means over the episodes that rows name, played without exploration.

    Args:
        environment: what is played.
        act: of the agent.
        training_return: state of the run -> running mean of the returns of its training episodes.
        max_steps: see `totals`.
        memory: of an agent that remembers, which acts by it instead.

    Returns:
        (hyper, state, examples, rows) -> {"loss": -mean return, "return", "length", "training_return"}.
    """

    def metrics(hyper: Hyper, state: Any, examples: Examples, rows: Rows) -> Metrics:
        del hyper
        numbers = jnp.asarray(examples["episode"])[jnp.asarray(rows.ids).reshape(-1)]
        weight = jnp.asarray(rows.weight).reshape(-1)

        if memory is None:
            played = totals(environment, lambda observation: act(state.params, observation, None), numbers, max_steps)
        else:
            act_by_carry, first = memory.act, memory.first()
            played = totals(
                environment,
                lambda carry, seen: act_by_carry(state.params, carry, seen, None),
                numbers,
                max_steps,
                first,
            )
        mean_return = (weight * played.returns).sum() / weight.sum()
        return {
            "loss": -mean_return,
            "return": mean_return,
            "length": (weight * played.lengths).sum() / weight.sum(),
            "training_return": training_return(state),
        }

    return metrics
