r"""Pendulum: a motor too weak to lift a pendulum at once swings it up, and then holds it upright.

With angle $\theta$ from the upward vertical and torque $u$, both mass and length 1, $g = 10$ and $\Delta = 0.05$ s:

$\dot\theta \leftarrow \dot\theta + \big((3g/2) \sin\theta + 3u\big) \Delta$,
$\theta \leftarrow \theta + \dot\theta \Delta$,

with $|u| \le 2$ and $|\dot\theta| \le 8$. The reward is $-(\theta^2 + 0.1 \dot\theta^2 + 0.001 u^2)$ of the state
before the step, with $-\pi \le \theta < \pi$. Episodes never terminate. As gymnasium's Pendulum-v1; the task is that of
Doya, "Reinforcement Learning in Continuous Time and Space", Neural Computation, 2000, section 6.
"""

import math

import jax
import jax.numpy as jnp

from mllab.control.environment import Continuous, Environment, Limited, Step, limited
from mllab.control.scene import Circle, Line, Scene, View
from mllab.types import Array, Key

GRAVITY, STEP_S, MAX_SPIN, MAX_TORQUE = 10.0, 0.05, 8.0, 2.0  # m/s², s, rad/s, N m
BOUNDS = ((-1.0, -1.0, -MAX_SPIN), (1.0, 1.0, MAX_SPIN))


def environment(limit: int = 200) -> Environment:
    """Return the environment; an episode is truncated after `limit` steps.

    A state is [2]: the angle in rad, which is not wrapped, and its velocity in rad/s. An observation is [3]: cosine
    and sine of the angle, and the velocity. An action is [1]: the torque in N m, cut off at -2 and 2.
    """

    def reset(key: Key) -> tuple[Array, Array]:
        low, high = jnp.array([-math.pi, -1.0]), jnp.array([math.pi, 1.0])
        state = jax.random.uniform(key, (2,), minval=low, maxval=high)
        return state, _observation(state)

    def step(key: Key, state: Array, action: Array) -> Step:
        del key
        angle, spin = state
        torque = jnp.clip(jnp.asarray(action, state.dtype)[0], -MAX_TORQUE, MAX_TORQUE)
        wrapped = (angle + math.pi) % (2 * math.pi) - math.pi
        reward = -(wrapped**2 + 0.1 * spin**2 + 0.001 * torque**2)
        spin = spin + (1.5 * GRAVITY * jnp.sin(angle) + 3 * torque) * STEP_S
        spin = jnp.clip(spin, -MAX_SPIN, MAX_SPIN)
        state = jnp.stack([angle + spin * STEP_S, spin])
        return Step(state, _observation(state), reward, jnp.zeros((), bool), jnp.zeros((), bool))

    actions = Continuous((-MAX_TORQUE,), (MAX_TORQUE,))
    return limited(Environment(reset, step, actions, (3,), "pendulum", BOUNDS), limit)


def _observation(state: Array) -> Array:
    angle, spin = state
    return jnp.stack([jnp.cos(angle), jnp.sin(angle), spin])


def scene(state: Limited) -> Scene:
    """Return the rod and its joint."""
    angle = float(state.inner[0])
    rod = Line((0.0, 0.0), (math.sin(angle), math.cos(angle)), "agent", 0.2)
    return Scene((rod, Circle((0.0, 0.0), 0.05)), View(-1.2, -1.2, 1.2, 1.2))
