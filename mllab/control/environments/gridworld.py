r"""Gridworld: find the way from start to goal on a map, past walls and pits, on slippery ground.

A step goes to the neighbouring cell in the direction of the action with probability $1 - p$, and in each of the two
directions at right angles to it with $p/2$; one against a wall or the edge leads nowhere. Each step has a reward of its
own, to which that of the goal or of a pit is added; both end the episode. Sutton and Barto, "Reinforcement Learning: An
Introduction", 2nd edition, 2018, chapters 3, 4 and 6; the slips, and the map `FOUR_BY_THREE` with step_reward = -0.04,
are those of Russell and Norvig, "Artificial Intelligence: A Modern Approach", 3rd edition, 2010, section 17.1.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mllab.checks import check_finite
from mllab.control.environment import Discrete, Environment, Limited, Step, limited
from mllab.control.planning import Process
from mllab.control.scene import Circle, Rectangle, Role, Scene, View
from mllab.errors import UserError
from mllab.types import Array, Key

# Cells: `.` free, `#` a wall, `S` a start (one of them is drawn where there are several), `G` a goal, `P` a pit.
MAZE = (
    "S..#...G",
    ".#.#.#..",
    ".#...#P.",
    "...P.#..",
    ".##.....",
    "....#P..",
)
FOUR_BY_THREE = ("...G", ".#.P", "S...")
MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))  # rows and columns: up, right, down, left


class Grid(NamedTuple):
    """A map as arrays; its S cells are numbered row by row."""

    kinds: np.ndarray  # [rows, columns] of single characters
    destinations: np.ndarray  # [S, 4] int32: the cell that each direction leads to
    rewards: np.ndarray  # [S] float32: the reward of a step that leads to the cell
    terminal: np.ndarray  # [S] bool: goals, pits and walls


def environment(
    cells: Sequence[str] = MAZE,
    slip: float = 0.1,
    step_reward: float = -0.02,
    goal_reward: float = 1.0,
    pit_reward: float = -1.0,
    limit: int = 100,
) -> Environment:
    """Return the environment; an episode is truncated after `limit` steps.

    A state is the number of a cell, row by row. An observation is [S], that number as a one-hot vector. Actions: 0 up,
    1 right, 2 down, 3 left.

    Args:
        cells: the rows of the map: `.` free, `#` a wall, `S` a start, `G` a goal, `P` a pit.
        slip: the probability of a step at right angles to the action.
        step_reward: of each step.
        goal_reward: of a step to a goal, in addition.
        pit_reward: of a step into a pit, in addition.
        limit: the number of steps after which an episode is truncated.

    Raises:
        UserError: rows of unequal lengths, an unknown cell, no start or no goal; a probability outside 0 to 1.
    """
    grid = _grid(cells, slip, step_reward, goal_reward, pit_reward)
    starts, size = np.flatnonzero(grid.kinds == "S").astype(np.int32), grid.kinds.size

    def reset(key: Key) -> tuple[Array, Array]:
        state = jnp.asarray(starts)[jax.random.randint(key, (), 0, len(starts))]
        return state, jax.nn.one_hot(state, size)

    def step(key: Key, state: Array, action: Array) -> Step:
        chance = jax.random.uniform(key)
        turn = jnp.where(chance < slip / 2, 1, jnp.where(chance < slip, 3, 0))
        state = jnp.asarray(grid.destinations)[state, (jnp.asarray(action, jnp.int32) + turn) % 4]
        observation = jax.nn.one_hot(state, size)
        reward = jnp.asarray(grid.rewards, observation.dtype)[state]
        return Step(state, observation, reward, jnp.asarray(grid.terminal)[state], jnp.zeros((), bool))

    return limited(Environment(reset, step, Discrete(4), (size,), "gridworld", states=size), limit)


def process(
    cells: Sequence[str] = MAZE,
    slip: float = 0.1,
    step_reward: float = -0.02,
    goal_reward: float = 1.0,
    pit_reward: float = -1.0,
) -> Process:
    """Return the exact probabilities and expected rewards of the environment with the same arguments."""
    grid = _grid(cells, slip, step_reward, goal_reward, pit_reward)
    size = grid.kinds.size
    transitions = np.zeros((size, 4, size))
    for action in range(4):
        for turn, probability in ((0, 1 - slip), (1, slip / 2), (3, slip / 2)):
            transitions[np.arange(size), action, grid.destinations[:, (action + turn) % 4]] += probability
    transitions[grid.terminal] = np.eye(size)[grid.terminal][:, None]
    rewards = np.where(grid.terminal[:, None], 0.0, transitions @ grid.rewards)
    return Process(jnp.asarray(transitions), jnp.asarray(rewards), jnp.asarray(grid.terminal))


def scene(state: Limited, cells: Sequence[str] = MAZE) -> Scene:
    """Return the map and the agent on it."""
    rows, columns = len(cells), len(cells[0])
    roles: dict[str, Role] = {"#": "wall", "G": "target", "P": "danger"}
    squares = [
        Rectangle((column + 0.5, rows - row - 0.5), 1.0, 1.0, roles.get(cells[row][column], "ground"))
        for row in range(rows)
        for column in range(columns)
    ]
    row, column = divmod(int(state.inner), columns)
    agent = Circle((column + 0.5, rows - row - 0.5), 0.3, "agent")
    return Scene((*squares, agent), View(0.0, 0.0, float(columns), float(rows)))


def _grid(cells: Sequence[str], slip: float, step_reward: float, goal_reward: float, pit_reward: float) -> Grid:
    rewards = np.array([step_reward, goal_reward, pit_reward])
    check_finite(rewards, "rewards of a step, the goal and a pit")
    if not 0 <= slip <= 1:
        raise UserError(f"slip = {slip}: give a probability from 0 to 1")
    if not cells or not cells[0] or len({len(row) for row in cells}) > 1:
        raise UserError(
            f"cells: rows of {[len(row) for row in cells]} characters, expected the same number in each row"
        )
    kinds = np.array([list(row) for row in cells])
    for row, column in np.argwhere(~np.isin(kinds, list(".#SGP"))):
        raise UserError(f"cells: row {row}, column {column} is {str(kinds[row, column])!r}, expected one of . # S G P")
    for letter, name in (("S", "start"), ("G", "goal")):
        if letter not in kinds:
            raise UserError(f"cells: no {name} on the map: mark one with {letter}")
    rows, columns = kinds.shape
    destinations = np.arange(kinds.size, dtype=np.int32).repeat(4).reshape(-1, 4)
    for cell in range(kinds.size):
        for direction, (down, right) in enumerate(MOVES):
            row, column = cell // columns + down, cell % columns + right
            if 0 <= row < rows and 0 <= column < columns and kinds[row, column] != "#":
                destinations[cell, direction] = row * columns + column
    flat = kinds.ravel()
    bonus = np.where(flat == "G", goal_reward, np.where(flat == "P", pit_reward, 0.0))
    return Grid(kinds, destinations, (step_reward + bonus).astype(np.float32), np.isin(flat, list("GP#")))
