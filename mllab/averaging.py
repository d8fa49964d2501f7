r"""Averaged params: an exponential moving average for any optimizer, and which params to evaluate.

Averaging (Polyak and Juditsky 1992; as an exponential moving average, Szegedy et al. 2016, arXiv:1512.00567, §8);
$\beta$ = `decay`.

    $$ \bar\theta_0 = \theta_0, \quad \bar\theta_t = \beta_t \bar\theta_{t-1} + (1 - \beta_t) \theta_t, \quad
       \beta_t = \min(\beta, (1 + t) / (10 + t)) $$

The trained params are unaffected; the average is what to evaluate. The warm-up is that of TensorFlow's
`tf.train.ExponentialMovingAverage(num_updates=t)`: while $t < 9 / (1 - \beta)$ the average covers about the last tenth
of the steps, so that a short run forgets its initial params. A bias correction such as Adam's would weight all steps
equally instead. Batch statistics are not averaged: they are running averages already.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from optax import contrib

from mllab.types import Array, OptimizerState, Params


class AverageState(NamedTuple):
    """State of an averaging optimizer."""

    steps: Array  # [] int32: updates made
    average: Params
    optimizer: OptimizerState


def with_average(
    optimizer: optax.GradientTransformationExtraArgs, decay: float | Array
) -> optax.GradientTransformationExtraArgs:
    """Return the optimizer with an exponential moving average of the updated params in its state.

    Args:
        optimizer: makes the updates, which stay the same.
        decay: beta, in (0, 1); may be traced.
    """

    def init(params):
        return AverageState(jnp.zeros((), jnp.int32), params, optimizer.init(params))

    def update(updates, state, params, **extra_args):
        updates, inner = optimizer.update(updates, state.optimizer, params, **extra_args)
        steps = state.steps + 1
        share = 1 - jnp.minimum(decay, (1 + steps) / (10 + steps))
        average = jax.tree.map(
            lambda old, new: (old + share * (new - old)).astype(old.dtype),
            state.average,
            optax.apply_updates(params, updates),
        )
        return updates, AverageState(steps, average, inner)

    return optax.GradientTransformationExtraArgs(init, update)


def evaluation_params(optimizer_state: OptimizerState, params: Params) -> Params:
    """Return the params to evaluate: the average if the optimizer keeps one (at any depth), else `params`.

    The average is that of `with_average`, or x of schedule-free optimizers. For lanes, call it inside the `vmap`.
    """
    nodes = jax.tree.leaves(optimizer_state, is_leaf=_holds_average)
    for node in filter(_holds_average, nodes):
        return node.average if isinstance(node, AverageState) else contrib.schedule_free_eval_params(node, params)
    return params


def _holds_average(node: Any) -> bool:
    return isinstance(node, AverageState | contrib.ScheduleFreeState)
