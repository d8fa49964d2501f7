"""Tabular Q-learning as the lecture's five steps, each a line of one function, with all that happens recorded."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.agent_training import Plan, Trained
from experiments.q_learning_results import TIE, Episode, Interaction, Lesson, Moment
from mllab.control import evaluation, planning
from mllab.control.environment import Discrete, Environment, step_and_reset
from mllab.control.environments import bandit, gridworld
from mllab.control.environments.table import ENVIRONMENTS
from mllab.types import Array, Key

AGENT = "q_learning"
MOST_STEPS = 100_000  # interactions that are recorded
MOMENTS = 5  # of training that are drawn
DIRECTIONS = ("up", "right", "down", "left")


class Recorded(NamedTuple):
    """N interactions, [N] each."""

    state: Array
    action: Array
    is_greedy: Array
    reached: Array
    reward: Array
    before: Array
    best_next: Array
    after: Array
    ended: Array
    start_error: Array  # of the value of the state that training began in, afterwards
    mean_square: Array  # error of the values of all actions, afterwards


def record(
    environment: Environment, key: Key, steps: int, *, rate: float, discount: float, epsilon: float, optimum: Array,
    acting: Array,
) -> Recorded:  # fmt: skip
    """Return the interactions of Q-learning with a constant rate and a share epsilon of random actions.

    Args:
        environment: whose observations are one-hot vectors of S states, with A actions.
        key: of the training.
        steps: N.
        rate: alpha.
        discount: gamma.
        epsilon: the probability of a random action.
        optimum: values of actions to measure the distance from, [S, A].
        acting: states that count, [S] bool.
    """
    assert isinstance(environment.actions, Discrete)
    assert environment.states is not None
    start_key, run_key = jax.random.split(key)
    state, observation = environment.reset(start_key)
    actions, start = environment.actions.size, jnp.argmax(observation)

    def interact(carry, key):
        world, observation, values = carry
        explore_key, action_key, step_key = jax.random.split(key, 3)
        state = jnp.argmax(observation)  # 1
        is_greedy = jax.random.uniform(explore_key) >= epsilon  # 2
        best = values[state] >= values[state].max() - 1e-9  # of equal ones any
        action = jax.random.categorical(action_key, jnp.where(best | ~is_greedy, 0.0, -jnp.inf))
        after = step_and_reset(environment, step_key, world, action)  # 3 and 4
        reached, before = jnp.argmax(after.reached), values[state, action]
        best_next = jnp.where(after.terminated, 0.0, values[reached].max())
        target = after.reward + discount * best_next
        values = values.at[state, action].add(rate * (target - before))  # 5
        errors = jnp.where(acting[:, None], values - optimum, 0.0)
        start_error = jnp.abs(values[start].max() - optimum[start].max())
        seen = Recorded(
            state, action, is_greedy | best[action], reached, after.reward, before, best_next, values[state, action],
            after.terminated | after.truncated, start_error, (errors**2).sum() / (acting.sum() * actions),
        )  # fmt: skip
        return (after.state, after.observation, values), seen

    first = state, observation, jnp.zeros((environment.states, actions))
    _, recorded = jax.lax.scan(interact, first, jax.random.split(run_key, steps))
    return recorded


class Setting(NamedTuple):
    """What is known of an environment with few states."""

    optimum: np.ndarray  # [S, A] values of actions
    acting: np.ndarray  # [S] bool: whether an agent can act in the state
    states: Sequence[str]  # [S] names
    actions: Sequence[str]  # [A] names
    cells: Sequence[str]  # rows of a map; none for another environment


def setting(name: str, discount: float) -> Setting | None:
    """Return the optimum of an environment by value iteration, with names; None where its transitions are not known."""
    if name == "bandit":  # episodes of one step: the values are the mean rewards
        means = np.array([bandit.MEANS])
        return Setting(means, np.ones(1, bool), ["the only one"], [f"arm {arm + 1}" for arm in range(means.size)], ())
    make_process = ENVIRONMENTS[name].process
    if make_process is None:
        return None
    process = make_process()
    plan = planning.value_iteration(process, discount)
    columns = len(gridworld.MAZE[0])
    places = [f"row {cell // columns + 1}, column {cell % columns + 1}" for cell in range(len(process.terminal))]
    return Setting(np.asarray(plan.action_values), ~np.asarray(process.terminal), places, DIRECTIONS, gridworld.MAZE)


def measure(plan: Plan, trained: Sequence[Trained]) -> tuple[np.ndarray | None, Lesson | None]:
    """Return the mean return of the optimal policy on the fresh episodes, [G], and Q-learning watched in training.

    Either is None where the environment's transitions are not known, the lesson also where no Q-learning was trained.
    """
    learner = next((each for each in trained if each.contender.name == AGENT), None)
    hyper = {} if learner is None else dict(learner.contender.agent.hyper)
    discount = float(hyper.get("discount", 0.99))
    known = setting(plan.environment_name, discount)
    if known is None:
        return None, None
    best = jnp.asarray(known.optimum.argmax(axis=1), jnp.int32)
    played = evaluation.totals(plan.environment, lambda observation: best[observation.argmax()], plan.fresh_ids)
    optimum = np.full(plan.seeds, float(played.returns.mean()))
    if learner is None or learner.best is None:
        return optimum, None
    steps, rate = min(plan.interactions, MOST_STEPS), plan.rates[learner.best]
    return optimum, watch(plan, known, steps, rate=rate, discount=discount, epsilon=float(hyper["epsilon"]))


def watch(plan: Plan, known: Setting, steps: int, *, rate: float, discount: float, epsilon: float) -> Lesson:
    """Return what Q-learning does and learns in so many interactions."""
    run = jax.jit(lambda key: record(
        plan.environment, key, steps, rate=rate, discount=discount, epsilon=epsilon,
        optimum=jnp.asarray(known.optimum), acting=jnp.asarray(known.acting),
    ))  # fmt: skip
    seen = Recorded(*map(np.asarray, run(jax.random.key(0))))
    ends = np.flatnonzero(seen.ended) + 1  # interactions by the end of each episode
    episodes = len(ends)
    counts = np.unique(np.geomspace(1, max(episodes, 1), MOMENTS - 1).round().astype(int))
    moments = [Moment(0, values_after(seen, 0, known))]
    moments += [Moment(int(count), values_after(seen, int(ends[count - 1]), known)) for count in counts if episodes]
    last = values_after(seen, steps, known)
    greedy = known.optimum[np.arange(len(last)), last.argmax(axis=1)]
    agreement = (greedy >= known.optimum.max(axis=1) - TIE)[known.acting].mean()
    drawn = np.unique(np.linspace(0, episodes - 1, 300).round().astype(int)) if episodes else np.zeros(0, int)
    at = ends[drawn] - 1
    together = 1 if episodes and ends[0] > 1 else 5  # episodes that are shown, of a bandit several
    watched = [
        named(seen, known, first, min(first + together, episodes), ends)
        for first in ([0, episodes - together] if episodes > together else [0])
        if episodes
    ]
    return Lesson(
        environment=plan.environment_name, actions=tuple(known.actions), rate=rate, discount=discount,
        episodes=episodes, error=float(np.sqrt(seen.mean_square[-1])), agreement=float(agreement), moments=moments,
        optimum=known.optimum, acting=known.acting, cells=tuple(known.cells), distance_episode=drawn + 1.0,
        distances={"all actions": np.sqrt(seen.mean_square[at]), "the start's value": seen.start_error[at]},
        watched=watched,
    )  # fmt: skip


def values_after(seen: Recorded, count: int, known: Setting) -> np.ndarray:
    """Return the values of actions after so many interactions, [S, A]."""
    values = np.zeros(known.optimum.shape)
    for state, action, after in zip(seen.state[:count], seen.action[:count], seen.after[:count], strict=True):
        values[state, action] = after
    return values


def named(seen: Recorded, known: Setting, first: int, last: int, ends: np.ndarray) -> Episode:
    """Return the interactions of the episodes from `first` to before `last` in words and numbers."""
    span = range(0 if first == 0 else int(ends[first - 1]), int(ends[last - 1]))
    return Episode(
        first + 1,
        last,
        [
            Interaction(
                state=known.states[seen.state[place]], action=known.actions[seen.action[place]],
                is_greedy=bool(seen.is_greedy[place]), reached=known.states[seen.reached[place]],
                reward=float(seen.reward[place]), before=float(seen.before[place]),
                best_next=float(seen.best_next[place]), after=float(seen.after[place]),
            )
            for place in span
        ],
    )  # fmt: skip
