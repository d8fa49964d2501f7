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
    first, step = _episodes(environment, act, numbers, carry)
    none = Played(jnp.zeros(len(numbers)), jnp.zeros(len(numbers), jnp.int32))

    def count(now: Any) -> Any:
        time, under_way, played = now
        under_way, seen = step(under_way, time)
        return time + 1, under_way, Played(played.returns + seen.rewards, played.lengths + seen.alive)

    start = jnp.zeros((), jnp.int32), first, none
    return jax.lax.while_loop(lambda now: now[1].alive.any() & (now[0] < max_steps), count, start)[2]


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
    first, step = _episodes(environment, act, numbers, carry)
    trajectory = jax.lax.scan(step, first, jnp.arange(steps))[1]
    return jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), trajectory)


class _UnderWay(NamedTuple):
    """N episodes before a step."""

    state: EnvironmentState
    observation: Array
    alive: Array  # [N] bool
    carry: Carry


def _episodes(
    environment: Environment, act: Callable[..., Any], numbers: Array, carry: Carry | None
) -> tuple[_UnderWay, Callable[[_UnderWay, Array], tuple[_UnderWay, Trajectory]]]:
    """Return episodes at their start, and `(episodes, time) -> (episodes, that step of them)`; see `totals`."""
    starts, step_keys = _split(keys(numbers))
    state, observation = jax.vmap(environment.reset)(starts)
    if carry is None:
        decide, carries = lambda nothing, observation: (nothing, act(observation)), ()
    else:
        decide, carries = act, jax.tree.map(lambda a: jnp.broadcast_to(a, (len(numbers), *jnp.shape(a))), carry)

    def step(now: _UnderWay, time: Array) -> tuple[_UnderWay, Trajectory]:
        carries, action = jax.vmap(decide)(now.carry, now.observation)
        after = _step(environment, step_keys, time, now.state, action)
        rewards = jnp.where(now.alive, after.reward, 0.0)
        alive = now.alive & ~(after.terminated | after.truncated)
        seen = Trajectory(now.state, now.observation, action, rewards, now.alive)
        return _UnderWay(after.state, after.observation, alive, carries), seen

    return _UnderWay(state, observation, jnp.ones(len(numbers), bool), carries), step


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
            by_memory, first = memory.act, memory.first()
            played = totals(
                environment, lambda carry, seen: by_memory(state.params, carry, seen, None), numbers, max_steps, first
            )
        mean_return = (weight * played.returns).sum() / weight.sum()
        return {
            "loss": -mean_return,
            "return": mean_return,
            "length": (weight * played.lengths).sum() / weight.sum(),
            "training_return": training_return(state),
        }

    return metrics
