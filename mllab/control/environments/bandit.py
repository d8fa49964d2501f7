r"""Bandit: of k arms, each with rewards from a normal distribution of its own, find the one that pays best.

The reward of arm $a$ is $r \sim \mathcal N(q_a, \sigma^2)$. An episode is one pull. Sutton and Barto, "Reinforcement
Learning: An Introduction", 2nd edition, 2018, sections 2.1 to 2.3.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from mllab.checks import check_array, check_at_least
from mllab.control.environment import Discrete, Environment, Step, check_action
from mllab.control.scene import Line, Polygon, Rectangle, Scene, View
from mllab.types import Array, Key

MEANS = (0.2, -0.8, 1.6, 0.4, 1.2, -1.5, -0.1, -1.0, 0.9, -0.5)  # the problem of figure 2.1, read off the figure


def environment(means: Sequence[float] = MEANS, deviation: float = 1.0) -> Environment:
    """Return the environment.

    Args:
        means: of the rewards, one an arm.
        deviation: the standard deviation of the rewards, 0 or more.

    A state is the arm that was pulled last, -1 before any. Each observation is [1], a one, since there is one situation
    to act in. Actions are the arms.
    """
    check_at_least(0, deviation=deviation)
    expected = np.asarray(check_array(means, ("arms",), "means"))

    def reset(key: Key) -> tuple[Array, Array]:
        del key
        return jnp.full((), -1, jnp.int32), jnp.ones(1)

    def step(key: Key, state: Array, action: Array) -> Step:
        del state
        check_action(actions, action)
        observation = jnp.ones(1)
        arm = jnp.asarray(action, jnp.int32)
        noise = deviation * jax.random.normal(key, dtype=observation.dtype)
        reward = jnp.asarray(expected, observation.dtype)[arm] + noise
        return Step(arm, observation, reward, jnp.ones((), bool), jnp.zeros((), bool))

    actions = Discrete(len(expected))
    return Environment(reset, step, actions, (1,), "bandit", states=1)


def scene(state: Array, means: Sequence[float] = MEANS) -> Scene:
    """Return a bar for the mean of each arm, and a mark above the arm that was pulled."""
    top, arm = max(*means, 0.0) + 0.6, int(state)
    bars = [
        Rectangle((index + 0.5, mean / 2), 0.8, abs(mean), "target" if mean == max(means) else "part")
        for index, mean in enumerate(means)
    ]
    mark = [Polygon(((arm + 0.5, top - 0.3), (arm + 0.3, top), (arm + 0.7, top)), "agent")] if arm >= 0 else []
    ground = Line((0.0, 0.0), (float(len(means)), 0.0), "ground")
    view = View(0.0, min(*means, 0.0) - 0.2, float(len(means)), top + 0.1, stretched=True)
    return Scene((ground, *bars, *mark), view)
