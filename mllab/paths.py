"""The path of an optimizer over a loss, step by step."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from mllab import checks
from mllab.averaging import evaluation_params
from mllab.types import Array, Params


class Path(NamedTuple):
    """A path of S steps, leaves [S + 1, ...]: entry s is the state before step s, and the change that step s makes."""

    params: Params
    loss: Array
    gradient: Params
    velocity: Params


def follow(loss: Callable[[Params], Array], optimizer: optax.GradientTransformation, start: Params, steps: int) -> Path:
    """Return the path of an optimizer; every step uses the whole loss.

    The path of an averaging optimizer is that of its averaged params, which `averaging.evaluation_params` returns; its
    gradients are taken at other params.

    Args:
        loss: params -> a number.
        optimizer: such as `optimizers.build` returns.
        start: params before the first step.
        steps: number of steps S.

    Raises:
        UserError: a start that is not finite, or a number of steps that is no whole number of 0 or more.
    """
    checks.check_whole(0, steps=steps)
    paths = jax.tree_util.tree_leaves_with_path(start)
    for path, leaf in paths:
        checks.check_finite(leaf, f"start{jax.tree_util.keystr(path)}")
    update = optax.with_extra_args_support(optimizer)

    def step(carry: tuple[Params, optax.OptState], _: None) -> tuple[tuple[Params, optax.OptState], Path]:
        params, state = carry
        value, gradient = jax.value_and_grad(loss)(params)
        changes, new_state = update.update(gradient, state, params, value=value, grad=gradient, value_fn=loss)
        new_params = optax.apply_updates(params, changes)
        here, there = evaluation_params(state, params), evaluation_params(new_state, new_params)
        velocity = jax.tree.map(jnp.subtract, there, here)
        return (new_params, new_state), Path(here, loss(here), gradient, velocity)

    return jax.lax.scan(step, (start, update.init(start)), length=steps + 1)[1]
