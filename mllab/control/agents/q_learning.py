r"""Q-learning with a table: the five steps of the textbook, once for each step of the environment.

An agent observes $s$, chooses $a$ by its table (at random with probability $\varepsilon$), acts, receives $r$ and
$s'$, and records what it learned:

$Q(s, a) \leftarrow Q(s, a) + \alpha \big(r + \gamma \max_{a'} Q(s', a') - Q(s, a)\big)$

with $\max_{a'} Q(s', a') = 0$ where $s'$ is terminal; a truncated episode is bootstrapped. The table begins at 0, which
is optimistic where rewards are negative, so that the agent tries what it has not tried. Watkins 1989, "Learning from
delayed rewards"; Sutton and Barto 2018, section 6.5.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mllab import checks
from mllab.control import evaluation
from mllab.control.agents import base, rollout
from mllab.control.agents.base import Agent
from mllab.control.agents.rollout import Worlds
from mllab.control.environment import Environment, restarted
from mllab.errors import UserError
from mllab.training import Run, State
from mllab.types import Array, Examples, Hyper, Key, Params, Rows

HYPER = {
    "discount": 0.99,
    "exploration": 0.1,  # probability of a random action at first
    "last_exploration": 0.0,  # and at the end; it falls linearly
}
MAX_BINS, BIN_STATES = 20, 2**18  # of a coordinate, and of all, by default
MAX_STATES = 2**22


class Table(NamedTuple):
    """The params."""

    q: Array  # [S, A]


class Interaction(NamedTuple):
    """The five steps once, or several times after a leading axis."""

    state: Array  # [] int32, s: observed
    action: Array  # [] int32, a: chosen and performed
    explored: Array  # [] bool: whether the action was drawn at random
    reward: Array  # [] r: received
    reached: Array  # [] int32, s'
    best_next: Array  # [] max Q(s', .), 0 where s' is terminal
    before: Array  # [] Q(s, a)
    after: Array  # [] Q(s, a) as it was recorded
    rate: Array  # [] alpha
    ended: Array  # [] bool: by termination or truncation


class Learner(NamedTuple):
    """The training of the agent, update by update, with all that happens in it."""

    start: Callable[[Hyper, Key], State]
    update: Callable[[Hyper, State], tuple[State, Interaction]]  # interactions [length]
    number: Callable[[Array], Array]  # observation -> number of its state
    actions: int
    length: int  # interactions of an update
    updates: int  # of the whole training


def make(
    environment: Environment,
    *,
    steps: int = 500_000,
    length: int = 1_000,
    bins: int | None = None,
    anneal: bool = True,
    max_steps: int = evaluation.MAX_STEPS,
) -> Agent:
    """Return the agent.

    Args:
        environment: with discrete actions, and with `states`, or with `bounds` of observations.
        steps: environment steps of the whole training.
        length: environment steps of one update of the schedule, each of which changes the table.
        bins: of each coordinate between its bounds, where there are no states; by default as many as make BIN_STATES
            states or fewer, MAX_BINS at most.
        anneal: whether the learning rate falls linearly to 0.
        max_steps: steps after which an episode of evaluation is cut off.

    Raises:
        UserError: an environment that the agent cannot learn, or sizes that are not whole numbers of 1 or more.
    """
    learner = learner_of(environment, steps=steps, length=length, bins=bins, anneal=anneal)

    def advance(hyper: Hyper, state: State, examples: Examples, rows: Rows) -> tuple[State, Array]:
        del examples
        discount = base.settings(HYPER, hyper)["discount"]

        def update(state: State, row: Rows) -> tuple[State, Array]:
            del row
            state, seen = learner.update(hyper, state)
            return state, ((seen.reward + discount * seen.best_next - seen.before) ** 2).mean()

        return jax.lax.scan(update, state, rows)

    def act(params: Params, observation: Array, key: Key | None) -> Array:
        greedy = jnp.argmax(params.q[learner.number(observation)], axis=-1).astype(jnp.int32)
        return base.epsilon_greedy(greedy, key, HYPER["exploration"], learner.actions)

    score = evaluation.score(environment, act, lambda state: state.extra.mean_return, max_steps)
    return Agent(Run(learner.start, advance, score), act, length, learner.updates, HYPER)


def learner_of(
    environment: Environment, *, steps: int, length: int = 1_000, bins: int | None = None, anneal: bool = True
) -> Learner:
    """Return the training of the agent that `make` returns of the same arguments."""
    checks.check_whole(1, length=length, **({} if bins is None else {"bins": bins}))
    actions = base.discrete(environment, "q_learning")
    number, states = _numbering(environment, bins)
    updates = base.updates_of(steps, length)

    def start(hyper: Hyper, key: Key) -> State:
        base.settings(HYPER, hyper)
        world_key, run_key = jax.random.split(key)
        worlds = rollout.begin(environment, 1, world_key)
        return State(jnp.zeros((), jnp.int32), run_key, Table(jnp.zeros((states, actions.size))), worlds, None)

    def update(hyper: Hyper, state: State) -> tuple[State, Interaction]:
        chosen = base.settings(HYPER, hyper)
        rate = base.annealed(chosen["learning_rate"], state.step, updates if anneal else None)
        share = state.step / updates
        epsilon = chosen["exploration"] * (1 - share) + chosen["last_exploration"] * share
        keys = jax.random.split(jax.random.fold_in(state.key, state.step), 4)
        explores = jax.random.uniform(keys[0], (length,)) < epsilon
        drawn = (
            explores,
            jax.random.randint(keys[1], (length,), 0, actions.size),
            jax.random.split(keys[2], length),
            jax.vmap(environment.reset)(jax.random.split(keys[3], length)),
        )

        def step(carry: Any, drawn: Any) -> Any:
            q, world, observation, total = carry
            explores, random, key, fresh = drawn
            here = number(observation)
            action = jnp.where(explores, random, jnp.argmax(q[here])).astype(jnp.int32)
            after = restarted(environment.step(key, world, action), *fresh)
            there, before = number(after.reached), q[here, action]
            best = jnp.where(after.terminated, 0.0, q[there].max())
            q = q.at[here, action].add(rate * (after.reward + chosen["discount"] * best - before))
            total = total + after.reward
            ended = after.terminated | after.truncated
            seen = Interaction(
                here, action, explores, after.reward, there, best, before, q[here, action], jnp.asarray(rate), ended
            )
            carry = q, after.state, after.observation, jnp.where(ended, 0.0, total)
            return carry, (seen, jnp.where(ended, total, 0.0))

        worlds = state.extra
        first = jax.tree.map(lambda a: a[0], (worlds.state, worlds.observation, worlds.episode_return))
        (q, *last), (seen, finished) = jax.lax.scan(step, (state.params.q, *first), drawn)
        mean_return = rollout.running_mean(worlds.mean_return, finished.sum(), seen.ended.sum())
        world, observation, total = jax.tree.map(lambda a: a[None], tuple(last))
        worlds = Worlds(world, observation, total, mean_return)
        return State(state.step + 1, state.key, Table(q), worlds, None), seen

    return Learner(start, update, number, actions.size, length, updates)


def _numbering(environment: Environment, bins: int | None) -> tuple[Any, int]:
    """Return observation [...] -> number of its state, and how many states there are."""
    if environment.states is not None:
        return lambda observation: jnp.argmax(observation, axis=-1), environment.states
    if environment.bounds is None:
        raise UserError(f"q_learning has a table: {environment.name} needs states, or bounds of its observations")
    low, high = (np.asarray(end, np.float32) for end in environment.bounds)
    if bins is None:
        bins = max(count for count in range(1, MAX_BINS + 1) if count ** len(low) <= BIN_STATES)
    states = bins ** len(low)
    if states > MAX_STATES:
        raise UserError(f"bins = {bins}: a table of {states:,} states of {environment.name}: give fewer")
    powers = bins ** np.arange(len(low))

    def number(observation: Array) -> Array:
        share = (observation - low) / (high - low)
        bin_of = jnp.clip(jnp.nan_to_num(share * bins), 0, bins - 1).astype(jnp.int32)
        return (bin_of * powers.astype(np.int32)).sum(axis=-1)

    return number, states
