"""Catch: a ball falls down the columns of a board, and a paddle on the bottom row has to be under it.

In each step the paddle moves by at most one column, then the ball falls by one row. The reward is 1 if the ball lands
on the paddle and -1 if it lands beside it, which ends the episode, and 0 before. Mnih et al., "Recurrent Models of
Visual Attention", 2014, section 4.2 (arXiv:1406.6247), as in bsuite (Osband et al. 2020, arXiv:1908.03568).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from mllab.control.environment import Discrete, Environment, Step, check_action
from mllab.control.scene import Circle, Rectangle, Scene, View
from mllab.types import Array, Key

ROWS, COLUMNS = 10, 5


class State(NamedTuple):
    """Where things are; all are [] int32."""

    row: Array  # of the ball, from the top
    column: Array  # of the ball
    paddle: Array  # its column


def environment() -> Environment:
    """Return the environment; each episode takes 9 steps.

    An observation is the board, [10, 5, 1]: 1 where the ball and the paddle are, 0 elsewhere. Actions: 0 moves the
    paddle to the left, 1 leaves it, 2 moves it to the right.
    """

    def reset(key: Key) -> tuple[State, Array]:
        column = jax.random.randint(key, (), 0, COLUMNS, jnp.int32)
        state = State(jnp.zeros((), jnp.int32), column, jnp.full((), COLUMNS // 2, jnp.int32))
        return state, _observation(state)

    def step(key: Key, state: State, action: Array) -> Step:
        del key
        check_action(actions, action)
        paddle = jnp.clip(state.paddle + jnp.asarray(action, jnp.int32) - 1, 0, COLUMNS - 1)
        state = State(state.row + 1, state.column, paddle)
        observation = _observation(state)
        landed = state.row >= ROWS - 1
        reward = jnp.where(landed, jnp.where(state.column == paddle, 1, -1), 0)
        return Step(state, observation, reward.astype(observation.dtype), landed, jnp.zeros((), bool))

    actions = Discrete(3)
    return Environment(reset, step, actions, (ROWS, COLUMNS, 1), "catch")


def _observation(state: State) -> Array:
    board = jnp.zeros((ROWS, COLUMNS, 1)).at[ROWS - 1, state.paddle].set(1)
    return board.at[state.row, state.column].set(1)


def scene(state: State) -> Scene:
    """Return the board, the ball and the paddle."""
    board = Rectangle((COLUMNS / 2, ROWS / 2), COLUMNS, ROWS, "ground")
    ball = Circle((int(state.column) + 0.5, ROWS - int(state.row) - 0.5), 0.4, "target")
    paddle = Rectangle((int(state.paddle) + 0.5, 0.25), 1.0, 0.5, "agent")
    return Scene((board, ball, paddle), View(0.0, 0.0, COLUMNS, ROWS))
