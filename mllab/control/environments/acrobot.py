r"""Acrobot: two links hang from a fixed joint, and a motor at the joint between them swings the free end up.

With masses, lengths and moments of inertia of 1, centres of mass in the middle of each link, angles $\theta_1$ from
the downward vertical and $\theta_2$ from the first link, and torque $\tau$ at the joint between them:

$d_1 = 7/2 + \cos\theta_2$, $d_2 = (5/2 + \cos\theta_2) / 2$, $\phi_2 = (g/2) \sin(\theta_1 + \theta_2)$,

$\phi_1 = -(\dot\theta_2^2 / 2 + \dot\theta_1 \dot\theta_2) \sin\theta_2 + (3/2) g \sin\theta_1 + \phi_2$,

$\ddot\theta_2 = (\tau + (d_2/d_1) \phi_1 - (\dot\theta_1^2 / 2) \sin\theta_2 - \phi_2) / (5/4 - d_2^2/d_1)$,
$\ddot\theta_1 = -(d_2 \ddot\theta_2 + \phi_1) / d_1$,

by one step of the classical Runge-Kutta method of 0.2 s. Sutton and Barto, "Reinforcement Learning: An Introduction",
1st edition, 1998, section 11.3; start and end of an episode as in gymnasium's Acrobot-v1: a reward of -1 for each step
until the free end is one link's length above the joint, and 0 for the step that gets there.
"""

import math

import jax
import jax.numpy as jnp

from mllab.control.environment import Discrete, Environment, Limited, Step, limited
from mllab.control.scene import Circle, Line, Scene, View
from mllab.types import Array, Key

GRAVITY, STEP_S = 9.8, 0.2  # m/s², s
MAX_SPIN_1, MAX_SPIN_2 = 4 * math.pi, 9 * math.pi  # rad/s
BOUNDS = ((-1.0, -1.0, -1.0, -1.0, -MAX_SPIN_1, -MAX_SPIN_2), (1.0, 1.0, 1.0, 1.0, MAX_SPIN_1, MAX_SPIN_2))


def environment(limit: int = 500) -> Environment:
    """Return the environment; an episode is truncated after `limit` steps.

    A state is [4]: two angles in rad, and their velocities in rad/s. An observation is [6]: cosine and sine of the
    first angle, of the second, and the velocities. Actions: a torque of -1 N m, of 0, of 1 N m.
    """

    def reset(key: Key) -> tuple[Array, Array]:
        state = jax.random.uniform(key, (4,), minval=-0.1, maxval=0.1)
        return state, _observation(state)

    def step(key: Key, state: Array, action: Array) -> Step:
        del key
        torque = jnp.asarray(action - 1, state.dtype)
        rate_1 = _rates(state, torque)
        rate_2 = _rates(state + STEP_S / 2 * rate_1, torque)
        rate_3 = _rates(state + STEP_S / 2 * rate_2, torque)
        rate_4 = _rates(state + STEP_S * rate_3, torque)
        angle_1, angle_2, spin_1, spin_2 = state + STEP_S / 6 * (rate_1 + 2 * rate_2 + 2 * rate_3 + rate_4)
        spin_1, spin_2 = jnp.clip(spin_1, -MAX_SPIN_1, MAX_SPIN_1), jnp.clip(spin_2, -MAX_SPIN_2, MAX_SPIN_2)
        state = jnp.stack([_wrapped(angle_1), _wrapped(angle_2), spin_1, spin_2])
        high = -jnp.cos(state[0]) - jnp.cos(state[0] + state[1]) > 1
        reward = jnp.where(high, 0, -1).astype(state.dtype)
        return Step(state, _observation(state), reward, high, jnp.zeros((), bool))

    return limited(Environment(reset, step, Discrete(3), (6,), "acrobot", BOUNDS), limit)


def _rates(state: Array, torque: Array) -> Array:
    """Return the derivatives [4] of a state with respect to time."""
    angle_1, angle_2, spin_1, spin_2 = state
    sine, cosine = jnp.sin(angle_2), jnp.cos(angle_2)
    d1, d2 = 3.5 + cosine, (2.5 + cosine) / 2
    phi2 = GRAVITY / 2 * jnp.sin(angle_1 + angle_2)
    phi1 = -(spin_2**2 / 2 + spin_1 * spin_2) * sine + 1.5 * GRAVITY * jnp.sin(angle_1) + phi2
    rate_2 = (torque + d2 / d1 * phi1 - spin_1**2 / 2 * sine - phi2) / (1.25 - d2**2 / d1)
    return jnp.stack([spin_1, spin_2, -(d2 * rate_2 + phi1) / d1, rate_2])


def _wrapped(angle: Array) -> Array:
    """Return the same angle between -π and π."""
    return angle - 2 * math.pi * jnp.round(angle / (2 * math.pi))


def _observation(state: Array) -> Array:
    (cosine_1, cosine_2), (sine_1, sine_2) = jnp.cos(state[:2]), jnp.sin(state[:2])
    return jnp.stack([cosine_1, sine_1, cosine_2, sine_2, state[2], state[3]])


def scene(state: Limited) -> Scene:
    """Return the two links, and the height to reach."""
    angle_1, angle_2 = (float(angle) for angle in state.inner[:2])
    elbow = (math.sin(angle_1), -math.cos(angle_1))
    end = (elbow[0] + math.sin(angle_1 + angle_2), elbow[1] - math.cos(angle_1 + angle_2))
    links = (Line((0.0, 0.0), elbow, "agent", 0.15), Line(elbow, end, "agent", 0.15))
    joints = (Circle((0.0, 0.0), 0.1), Circle(elbow, 0.1))
    return Scene((Line((-2.2, 1.0), (2.2, 1.0), "target"), *links, *joints), View(-2.2, -2.2, 2.2, 2.2))
