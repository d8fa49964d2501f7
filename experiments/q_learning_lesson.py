"""The training of tabular Q-learning watched step by step, beside value iteration."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.agent_training import Plan, Trained
from experiments.q_learning_results import TIE, Episode, Lesson, Moment, Step
from mllab.control import evaluation, planning
from mllab.control.agents import q_learning
from mllab.control.agents.q_learning import Interaction
from mllab.control.environments import bandit, gridworld
from mllab.control.environments.table import ENVIRONMENTS
from mllab.types import Array, Hyper, Key

AGENT = "q_learning"
MOST_WATCHED = 500_000  # interactions; of a longer training the first ones are watched
MOMENTS = 5  # of training that are drawn
POINTS = 300  # of the curves
TOGETHER = 5  # episodes of one step that are shown
DIRECTIONS = ("up", "right", "down", "left")


class Process(NamedTuple):
    """An environment with few states whose transitions are known."""

    optimum: np.ndarray  # [S, A] values of actions
    acting: np.ndarray  # [S] bool: whether an agent can act in the state
    states: Sequence[str]  # [S] names
    actions: Sequence[str]  # [A] names
    cells: Sequence[str]  # rows of a map; none for another environment


def process_of(name: str, discount: float) -> Process | None:
    """Return the optimum of an environment, with names; None where its transitions are not known."""
    if name == "bandit":  # an episode is one step: the values are the mean rewards
        means = np.array([bandit.MEANS])
        return Process(means, np.ones(1, bool), ["the only one"], [f"arm {arm + 1}" for arm in range(means.size)], ())
    make = ENVIRONMENTS[name].process
    if make is None:
        return None
    exact = make()
    plan = planning.value_iteration(exact, discount)
    columns = len(gridworld.MAZE[0])
    places = [f"row {cell // columns + 1}, column {cell % columns + 1}" for cell in range(len(exact.terminal))]
    return Process(np.asarray(plan.action_values), ~np.asarray(exact.terminal), places, DIRECTIONS, gridworld.MAZE)


def measure(plan: Plan, trained: Sequence[Trained]) -> tuple[np.ndarray | None, Lesson | None]:
    """Return the returns of the optimal policy in all episodes, [G, N], and what Q-learning did and learned.

    Either is None where the environment's transitions are not known, the lesson also where no Q-learning was trained.
    """
    learner = next((each for each in trained if each.contender.name == AGENT), None)
    discount = float(q_learning.HYPER["discount"])
    process = process_of(plan.environment_name, discount)
    if process is None:
        return None, None
    best = jnp.asarray(process.optimum.argmax(axis=1), jnp.int32)

    @jax.jit
    def play(best: Array) -> Array:
        numbers = jnp.asarray(plan.examples["episode"])
        return evaluation.totals(plan.environment, lambda seen: best[seen.argmax()], numbers).returns

    optimum = np.tile(play(best), (plan.seeds, 1))
    if learner is None or learner.best is None:
        return optimum, None
    rate = plan.rates[learner.best]
    return optimum, lesson(plan, process, watch(plan, rate), rate=rate, discount=discount)


def watch(plan: Plan, rate: float, seed: int = 0) -> Interaction:
    """Return the interactions of the reported training with a seed, [N] each."""
    learner = q_learning.learner_of(plan.environment, steps=plan.interactions)
    updates = max(1, min(learner.updates, MOST_WATCHED // learner.length))

    @jax.jit
    def run(hyper: Hyper, key: Key) -> Interaction:
        start = learner.start(hyper, key)
        _, seen = jax.lax.scan(lambda state, _: learner.update(hyper, state), start, length=updates)
        return jax.tree.map(lambda leaf: leaf.reshape(-1), seen)

    return jax.tree.map(np.asarray, run({"learning_rate": np.float64(rate)}, jax.random.key(seed)))


def lesson(plan: Plan, process: Process, seen: Interaction, *, rate: float, discount: float) -> Lesson:
    """Return what interactions [N] did and what was learned in them.

    Args:
        plan: of all agents.
        process: the environment's optimum.
        seen: the interactions.
        rate: the learning rate at first.
        discount: of the agent.
    """
    ends = np.flatnonzero(seen.ended) + 1  # interactions by the end of each episode
    episodes = len(ends)
    counts = np.unique(np.geomspace(1, episodes, MOMENTS - 1).round().astype(int)) if episodes else np.zeros(0, int)
    moments = [Moment(0, values_after(seen, 0, process))]
    moments += [Moment(int(count), values_after(seen, int(ends[count - 1]), process)) for count in counts]
    last = moments[-1].action_values
    greedy = process.optimum[np.arange(len(last)), last.argmax(axis=1)]
    is_optimal = greedy >= process.optimum.max(axis=1) - TIE
    drawn = np.unique(np.linspace(0, max(episodes - 1, 0), POINTS).round().astype(int))[:episodes]
    spread, start = distances(seen, process, ends[drawn])
    together = 1 if episodes and ends[-1] > episodes else TOGETHER
    firsts = [0, *([episodes - together] if episodes > together else [])] if episodes else []
    return Lesson(
        environment=plan.environment_name, actions=tuple(process.actions), rate=rate, discount=discount,
        episodes=episodes, error=float(spread[-1]) if episodes else float("nan"),
        agreement=float(is_optimal[process.acting].mean()), moments=moments, optimum=process.optimum,
        acting=process.acting, cells=tuple(process.cells), distance_episode=drawn + 1.0,
        distances={"all actions": spread, "the start's value": start},
        watched=[episode(seen, process, first, min(first + together, episodes), ends) for first in firsts],
    )  # fmt: skip


def values_after(seen: Interaction, count: int, process: Process) -> np.ndarray:
    """Return the values of actions after the first `count` interactions, [S, A]."""
    values = np.zeros(process.optimum.shape)
    values[seen.state[:count], seen.action[:count]] = seen.after[:count]  # the last of several counts
    return values


def distances(seen: Interaction, process: Process, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return distances from the optimum after numbers of interactions [E].

    Returns:
        The root mean square over all actions of the states to act in, [E], and the error of the first state's value.
    """
    spread, start = [], []
    first = int(seen.state[0])
    for count in counts:
        values = values_after(seen, int(count), process)
        spread.append(np.sqrt(((values - process.optimum)[process.acting] ** 2).mean()))
        start.append(abs(values[first].max() - process.optimum[first].max()))
    return np.array(spread), np.array(start)


def episode(seen: Interaction, process: Process, first: int, last: int, ends: np.ndarray) -> Episode:
    """Return the interactions of the episodes from `first` to before `last` in words and numbers."""
    steps = [
        Step(
            state=process.states[int(seen.state[place])], action=process.actions[int(seen.action[place])],
            explored=bool(seen.explored[place]), reached=process.states[int(seen.reached[place])],
            reward=float(seen.reward[place]), before=float(seen.before[place]), best_next=float(seen.best_next[place]),
            after=float(seen.after[place]), rate=float(seen.rate[place]),
        )
        for place in range(0 if first == 0 else int(ends[first - 1]), int(ends[last - 1]))
    ]  # fmt: skip
    return Episode(first + 1, last, steps)
