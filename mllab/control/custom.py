"""A user's own environment: two pure functions, checked once and made to fit the interface."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mllab.checks import check_whole
from mllab.control.environment import (
    Continuous,
    Discrete,
    Environment,
    EnvironmentState,
    Step,
    check_action,
    limited,
    random_action,
    step_and_reset,
)
from mllab.errors import UserError
from mllab.types import Array, Key, is_concrete

TRIAL_STEPS = 16  # with random actions, in which values are checked
UNTRACEABLE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.NonConcreteBooleanIndexError,
)
FLAGS = ("terminated", "truncated")
ENTRIES = (jax.Array, np.ndarray, np.generic, bool, int, float)


def make(
    reset: Callable[[Key], tuple[EnvironmentState, Array]],
    step: Callable[[Key, EnvironmentState, Array], Step],
    actions: Discrete | Continuous,
    *,
    limit: int | None = None,
    name: str = "environment",
    bounds: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
    states: int | None = None,
) -> Environment:
    """Return an environment of two functions, after checking their shapes, their dtypes, and the values of some steps.

    Args:
        reset: key -> (state, observation).
        step: key, state, action -> `Step`, or a tuple of its five entries. It must not begin a new episode itself.
        actions: what `step` takes; continuous actions are cut off at their bounds before they reach it.
        limit: the number of steps after which an episode is truncated, if there is one.
        name: for messages and reports.
        bounds: lowest and highest values of observations [D], for agents that divide them into cells.
        states: S where observations are one-hot vectors [S].

    Raises:
        UserError: a function that cannot be traced or that returns something else, arrays that change their shape or
            dtype, an observation or a reward that is not finite; actions, bounds or a limit that are none.
    """
    _check_actions(actions)
    key = jax.eval_shape(lambda: jax.random.key(0))
    action = jax.eval_shape(lambda: random_action(actions, jax.random.key(0)))
    before, seen = _shapes(reset, "reset", ("key",), ("state", "observation"), key)
    after = Step(*_shapes(step, "step", ("key", "state", "action"), Step._fields, key, before, action))
    if not isinstance(seen, jax.ShapeDtypeStruct) or not _is_real(seen.dtype):
        raise UserError(f"reset: observation is {_described(seen)}, expected one array of numbers")
    _check_same("observation", seen, after.observation)
    _check_same("state", before, after.state)
    if getattr(after.reward, "shape", None) != () or not _is_real(after.reward.dtype):
        raise UserError(f"step: reward is {_described(after.reward)}, expected a number, of shape []")
    for flag in FLAGS:
        entry = getattr(after, flag)
        if getattr(entry, "shape", None) != () or entry.dtype != bool:
            raise UserError(f"step: {flag} is {_described(entry)}, expected a bool, of shape []")
    _check_observation(seen, bounds, states)
    dtype = jnp.promote_types(jnp.result_type(seen.dtype, float), jnp.float32)  # integers become floats

    def cast(values: Any, like: Any) -> Any:
        """Return arrays of the same dtypes after each step, also of Python's numbers: a scan needs them."""
        return jax.tree.map(
            lambda value, shape: value if _is_key(shape) else jnp.asarray(value, shape.dtype), values, like
        )

    def cast_reset(key: Key) -> tuple[EnvironmentState, Array]:
        state, observation = reset(key)
        return cast(state, before), jnp.asarray(observation, dtype)

    def cast_step(key: Key, state: EnvironmentState, action: Array) -> Step:
        check_action(actions, action)
        if isinstance(actions, Continuous):
            action = jnp.asarray(action, jnp.result_type(action, jnp.float32))
            action = jnp.clip(action, jnp.asarray(actions.low, action.dtype), jnp.asarray(actions.high, action.dtype))
        result = Step(*step(key, state, action))
        observation, reward = jnp.asarray(result.observation, dtype), jnp.asarray(result.reward, dtype)
        terminated, truncated = (jnp.asarray(flag) for flag in (result.terminated, result.truncated))
        return Step(cast(result.state, before), observation, reward, terminated, truncated)

    environment = Environment(cast_reset, cast_step, actions, seen.shape, name, bounds, states)
    _check_values(environment)
    return environment if limit is None else limited(environment, limit)


def _shapes(function: Callable, name: str, arguments: tuple[str, ...], results: tuple[str, ...], *shapes: Any) -> Any:
    """Return the shapes and dtypes of a function's results."""
    try:
        inspect.signature(function).bind(*arguments)
    except (TypeError, ValueError):
        raise UserError(f"{name}: expected a function that is called as {name}({', '.join(arguments)})") from None

    def checked(*values: Any) -> Any:
        result = function(*values)
        for path, leaf in jax.tree.leaves_with_path(result):
            if not isinstance(leaf, ENTRIES):
                label = f"result{jax.tree_util.keystr(path)}"
                raise UserError(f"{name}: {label} is {type(leaf).__name__}, expected arrays and numbers")
        return result

    try:
        result = jax.eval_shape(checked, *shapes)
    except UNTRACEABLE as error:
        kind = type(error).__name__
        raise UserError(
            f"{name}: JAX cannot trace it ({kind}): it needs the value of an array in Python, as `if`, int() and NumPy"
            " do; use jnp.where, lax.cond and jax.numpy"
        ) from None
    if not isinstance(result, tuple) or len(result) != len(results):
        raise UserError(f"{name}: it returns {_described(result)}, expected ({', '.join(results)})")
    return result


def _check_same(name: str, before: Any, after: Any) -> None:
    """Raise unless the arrays that `step` returns are like those of `reset`."""
    structure: Any = jax.tree.structure(before)
    if structure != jax.tree.structure(after):
        raise UserError(f"step: {name} is {_described(after)}, but {_described(before)} after reset")
    for (path, old), new in zip(jax.tree.leaves_with_path(before), jax.tree.leaves(after), strict=True):
        same = old.dtype == new.dtype or (new.weak_type and old.dtype.kind == new.dtype.kind)
        if old.shape != new.shape or not same:
            label = f"{name}{jax.tree_util.keystr(path)}"
            raise UserError(f"step: {label} is {_described(new)}, but {_described(old)} after reset")


def _check_actions(actions: Any) -> None:
    if isinstance(actions, Discrete):
        check_whole(1, actions=actions.size)
    elif isinstance(actions, Continuous):
        _check_bounds(actions.low, actions.high, "actions")
    else:
        raise UserError(f"actions: {type(actions).__name__}, expected Discrete(size) or Continuous(low, high)")


def _check_bounds(low: Any, high: Any, name: str) -> None:
    try:
        lowest, highest = np.asarray(low, float), np.asarray(high, float)
    except (TypeError, ValueError):
        raise UserError(f"{name}: expected a lowest and a highest number for each entry") from None
    if lowest.ndim != 1 or lowest.shape != highest.shape or not lowest.size:
        raise UserError(f"{name}: {lowest.size} lowest and {highest.size} highest values, expected as many of both")
    wrong = np.flatnonzero(~(np.isfinite(lowest) & np.isfinite(highest) & (lowest < highest)))
    if len(wrong):
        entry = int(wrong[0])
        raise UserError(
            f"{name}: entry {entry} is from {lowest[entry]} to {highest[entry]}, expected low < high, both finite"
        )


def _check_observation(shape: jax.ShapeDtypeStruct, bounds: Any, states: int | None) -> None:
    if bounds is not None:
        low, high = bounds
        _check_bounds(low, high, "bounds")
        if shape.shape != (len(bounds[0]),):
            raise UserError(f"bounds: of {len(bounds[0])} entries, but an observation has shape {list(shape.shape)}")
    if states is not None:
        check_whole(1, states=states)
        if shape.shape != (states,):
            raise UserError(
                f"states = {states}: expected observations [{states}], but their shape is {list(shape.shape)}"
            )


def _check_values(environment: Environment) -> None:
    """Raise where an observation or a reward of some random steps is not what it should be."""

    def step(carry: tuple[EnvironmentState, Array], key: Key) -> tuple[tuple[EnvironmentState, Array], tuple]:
        action_key, step_key = jax.random.split(key)
        action = random_action(environment.actions, action_key)
        new = step_and_reset(environment, step_key, carry[0], action)
        return (new.state, new.observation), (carry[1], action, new.reward, new.reached)

    @jax.jit
    def steps(key: Key) -> tuple:
        first_key, key = jax.random.split(key)
        return jax.lax.scan(step, environment.reset(first_key), jax.random.split(key, TRIAL_STEPS))[1]

    trial = steps(jax.random.key(0))
    if not all(map(is_concrete, trial)):
        return
    observations, actions, rewards, reached = map(np.asarray, trial)
    if not np.isfinite(observations[0]).all():
        raise UserError("reset: an observation is not finite")
    for action, reward, observation in zip(actions, rewards, reached, strict=True):
        for label, values in (("reward", reward), ("observation", observation)):
            if not np.isfinite(values).all():
                raise UserError(f"step: after action {action.tolist()}, the {label} is not finite: {values.tolist()}")
    if environment.states is not None and not ((observations.max(-1) == 1) & (abs(observations).sum(-1) == 1)).all():
        raise UserError(f"states = {environment.states}: an observation is not a one-hot vector")


def _is_real(dtype: Any) -> bool:
    return any(jnp.issubdtype(dtype, kind) for kind in (jnp.bool_, jnp.integer, jnp.floating))


def _is_key(shape: jax.ShapeDtypeStruct) -> bool:
    return jnp.issubdtype(shape.dtype, jax.dtypes.prng_key)


def _described(shape: Any) -> str:
    """Return what a result is, for messages."""
    if isinstance(shape, jax.ShapeDtypeStruct):
        return f"{shape.dtype} {list(shape.shape)}"
    if isinstance(shape, tuple):
        return f"({', '.join(_described(entry) for entry in shape)})"
    return type(shape).__name__
