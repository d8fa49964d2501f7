r"""CartPole: a pole on a cart is kept upright by pushing the cart to the left or to the right.

With position $x$ and angle $\theta$ of a pole of half-length $l$, masses $m_c$ and $m_p$, $m = m_c + m_p$, force $F$:

$u = (F + m_p l \dot\theta^2 \sin\theta) / m$

$\ddot\theta = (g \sin\theta - u \cos\theta) / \big(l (4/3 - m_p \cos^2\theta / m)\big)$,
$\ddot x = u - m_p l \ddot\theta \cos\theta / m$,

by Euler's method with steps of 0.02 s. Barto, Sutton and Anderson, "Neuronlike adaptive elements that can solve
difficult learning control problems", IEEE Transactions on Systems, Man, and Cybernetics, 1983; constants, start and
end of an episode as in gymnasium's CartPole-v1: a reward of 1 for each step.
"""

import math

import jax
import jax.numpy as jnp

from mllab.control.environment import Discrete, Environment, Limited, Step, limited
from mllab.control.scene import Line, Rectangle, Scene, View
from mllab.types import Array, Key

GRAVITY, CART_MASS, POLE_MASS, HALF_LENGTH = 9.8, 1.0, 0.1, 0.5  # m/s², kg, kg, m
FORCE, STEP_S = 10.0, 0.02  # N, s
MAX_POSITION, MAX_ANGLE = 2.4, 12 * 2 * math.pi / 360  # m, rad
BOUNDS = ((-2.4, -3.0, -0.21, -3.0), (2.4, 3.0, 0.21, 3.0))  # of the states that matter


def environment(limit: int = 500) -> Environment:
    """Return the environment; an episode is truncated after `limit` steps.

    A state, which is the observation too, is [4]: position in m, velocity in m/s, angle in rad, its velocity in rad/s.
    Actions: 0 pushes to the left, 1 to the right.
    """

    def reset(key: Key) -> tuple[Array, Array]:
        state = jax.random.uniform(key, (4,), minval=-0.05, maxval=0.05)
        return state, state

    def step(key: Key, state: Array, action: Array) -> Step:
        del key
        _, velocity, angle, spin = state
        mass, moment = CART_MASS + POLE_MASS, POLE_MASS * HALF_LENGTH
        sine, cosine = jnp.sin(angle), jnp.cos(angle)
        push = (jnp.where(action == 1, FORCE, -FORCE) + moment * spin**2 * sine) / mass
        spin_rate = (GRAVITY * sine - push * cosine) / (HALF_LENGTH * (4 / 3 - POLE_MASS * cosine**2 / mass))
        acceleration = push - moment * spin_rate * cosine / mass
        state = state + STEP_S * jnp.stack([velocity, acceleration, spin, spin_rate])
        fallen = (jnp.abs(state[0]) > MAX_POSITION) | (jnp.abs(state[2]) > MAX_ANGLE)
        return Step(state, state, jnp.ones((), state.dtype), fallen, jnp.zeros((), bool))

    return limited(Environment(reset, step, Discrete(2), (4,), "cartpole", BOUNDS), limit)


def scene(state: Limited) -> Scene:
    """Return the track, the cart and the pole."""
    position, angle = float(state.inner[0]), float(state.inner[2])
    end = (position + 2 * HALF_LENGTH * math.sin(angle), 2 * HALF_LENGTH * math.cos(angle))
    track = Line((-MAX_POSITION, 0.0), (MAX_POSITION, 0.0), "ground")
    cart = Rectangle((position, 0.0), 0.5, 0.3, "agent")
    return Scene((track, cart, Line((position, 0.0), end, "part", 0.1)), View(-2.7, -0.4, 2.7, 1.3))
