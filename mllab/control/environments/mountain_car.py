r"""MountainCar: a car too weak to climb a hill gathers speed by driving back and forth in the valley.

With position $x$, velocity $v$ and action $a \in \{0, 1, 2\}$:

$v \leftarrow v + 0.001 (a - 1) - 0.0025 \cos 3x$, $x \leftarrow x + v$,

with $|v| \le 0.07$ and $-1.2 \le x \le 0.6$; the car stops at the left end. Moore, "Efficient Memory-based Learning for
Robot Control", PhD thesis, University of Cambridge, 1990; start and end of an episode as in gymnasium's MountainCar-v0:
a reward of -1 for each step until the car is at $x \ge 0.5$.
"""

import math

import jax
import jax.numpy as jnp

from mllab.control.environment import Discrete, Environment, Limited, Step, limited
from mllab.control.scene import Circle, Line, Polygon, Scene, View
from mllab.types import Array, Key

FORCE, GRAVITY = 0.001, 0.0025  # changes of velocity in one step
MIN_POSITION, MAX_POSITION, MAX_SPEED, GOAL = -1.2, 0.6, 0.07, 0.5
BOUNDS = ((MIN_POSITION, -MAX_SPEED), (MAX_POSITION, MAX_SPEED))


def environment(limit: int = 200) -> Environment:
    """Return the environment; an episode is truncated after `limit` steps.

    A state, which is the observation too, is [2]: position, and velocity per step. Actions: 0 pushes to the left,
    1 does not push, 2 pushes to the right.
    """

    def reset(key: Key) -> tuple[Array, Array]:
        position = jax.random.uniform(key, (), minval=-0.6, maxval=-0.4)
        state = jnp.stack([position, jnp.zeros_like(position)])
        return state, state

    def step(key: Key, state: Array, action: Array) -> Step:
        del key
        position, velocity = state
        velocity += jnp.asarray(action - 1, state.dtype) * FORCE - GRAVITY * jnp.cos(3 * position)
        velocity = jnp.clip(velocity, -MAX_SPEED, MAX_SPEED)
        position = jnp.clip(position + velocity, MIN_POSITION, MAX_POSITION)
        velocity = jnp.where((position == MIN_POSITION) & (velocity < 0), 0, velocity)
        state = jnp.stack([position, velocity])
        arrived = (position >= GOAL) & (velocity >= 0)
        return Step(state, state, -jnp.ones((), state.dtype), arrived, jnp.zeros((), bool))

    return limited(Environment(reset, step, Discrete(3), (2,), "mountain_car", BOUNDS), limit)


def _height(position: float) -> float:
    return 0.45 * math.sin(3 * position) + 0.55


def scene(state: Limited) -> Scene:
    """Return the hills, the car, and the flag on top."""
    position = float(state.inner[0])
    grid = [MIN_POSITION + (MAX_POSITION - MIN_POSITION) * step / 60 for step in range(61)]
    hills = Polygon(((MIN_POSITION, 0.0), *((x, _height(x)) for x in grid), (MAX_POSITION, 0.0)), "ground")
    flag = Line((GOAL, _height(GOAL)), (GOAL, _height(GOAL) + 0.2), "target", 0.02)
    slope = math.atan(1.35 * math.cos(3 * position))  # the car stands on the hill, along its normal
    car = Circle((position - 0.05 * math.sin(slope), _height(position) + 0.05 * math.cos(slope)), 0.05, "agent")
    return Scene((hills, flag, car), View(MIN_POSITION, 0.0, MAX_POSITION, 1.3))
