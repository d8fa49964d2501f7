"""An adapter for environments written as gymnax's are; gymnax itself is not needed.

Such an environment has `reset_env(key, params) -> (observation, state)`, `step_env(key, state, action, params) ->
(observation, state, reward, done, info)` and `action_space(params)`. Lange 2022, https://github.com/RobertTLange/gymnax.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from mllab.control.custom import make
from mllab.control.environment import Continuous, Discrete, Environment, EnvironmentState, Step
from mllab.errors import UserError
from mllab.types import Array, Key

NEVER = 2**31 - 1  # steps: no episode is as long
LIMITS = ("max_steps_in_episode", "max_timesteps")  # the names of the limit of time among params


def adapter(
    env: Any,
    params: Any = None,
    limit: int | None = None,
    *,
    bounds: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
) -> Environment:
    """Return an environment of gymnax as one of mllab.

    gymnax's `done` does not say whether an episode was terminated or ran out of time. So its own limit is set to
    never, and the same limit truncates episodes here.

    Args:
        env: the environment; its methods `reset_env` and `step_env`, which do not begin a new episode, are called.
        params: of the environment, a dataclass; `env.default_params` if there are none.
        limit: the number of steps after which an episode is truncated, instead of the one in `params`.
        bounds: lowest and highest values of observations, as of `Environment`.

    Raises:
        UserError: methods that are missing, actions of another kind, or what `custom.make` refuses.
    """
    missing = [name for name in ("reset_env", "step_env", "action_space") if not callable(getattr(env, name, None))]
    name = str(getattr(env, "name", type(env).__name__))
    if missing:
        raise UserError(f"{name}: no {' and no '.join(missing)}, expected an environment like those of gymnax")
    params = getattr(env, "default_params", None) if params is None else params
    space = env.action_space(params)
    actions, scalar = _actions(space, name), getattr(space, "shape", None) == ()
    for field in LIMITS:
        if hasattr(params, field) and dataclasses.is_dataclass(params) and not isinstance(params, type):
            limit = int(getattr(params, field)) if limit is None else limit
            params = dataclasses.replace(params, **{field: NEVER})

    def reset(key: Key) -> tuple[EnvironmentState, Array]:
        observation, state = env.reset_env(key, params)
        return state, observation

    def step(key: Key, state: EnvironmentState, action: Array) -> Step:
        taken = action[0] if scalar and isinstance(actions, Continuous) else action
        observation, after, reward, done, _ = env.step_env(key, state, taken, params)
        return Step(after, observation, jnp.asarray(reward), jnp.asarray(done, bool), jnp.zeros((), bool))

    return make(reset, step, actions, limit=limit, name=name, bounds=bounds)


def _actions(space: Any, name: str) -> Discrete | Continuous:
    """Return the actions of a space: `n` of them, or those from `low` to `high`."""
    if hasattr(space, "n"):
        return Discrete(int(space.n))
    if not (hasattr(space, "low") and hasattr(space, "high") and len(space.shape) <= 1):
        raise UserError(
            f"{name}: actions of a {type(space).__name__}, expected a Discrete or a Box of at most one axis"
        )
    low, high = (np.broadcast_to(np.asarray(edge, float), space.shape).ravel() for edge in (space.low, space.high))
    return Continuous(tuple(low.tolist()), tuple(high.tolist()))
