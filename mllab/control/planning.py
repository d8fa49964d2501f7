r"""Planning where the transitions are known: value iteration, greedy policies, and the value of a policy.

The optimal values satisfy $q(s, a) = r(s, a) + \gamma \sum_{s'} p(s' | s, a) v(s')$ and $v(s) = \max_a q(s, a)$, with
$v = 0$ in terminal states. Sutton and Barto, "Reinforcement Learning: An Introduction", 2nd edition, 2018, sections
4.1 (evaluation) and 4.4 (value iteration). Axis letters: S states, A actions.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mllab.checks import check_at_least, check_finite, check_shape
from mllab.errors import UserError
from mllab.types import Array, is_concrete


class Process(NamedTuple):
    """A finite Markov decision process."""

    transitions: Array  # [S, A, S]: the probability of the next state, the last axis
    rewards: Array  # [S, A]: expected reward of an action
    terminal: Array  # [S] bool: no reward follows, whatever the other arrays have there


class Plan(NamedTuple):
    """Values, and how well they have converged."""

    values: Array  # [S]
    action_values: Array  # [S, A]
    sweeps: Array  # [] int32: sweeps over all states that were made
    change: Array  # []: largest change of a value in the last sweep


def action_values(process: Process, values: Array, discount: Array | float) -> Array:
    """Return the values [S, A] of each action followed by a policy of values [S]; 0 in terminal states."""
    values = jnp.where(process.terminal, 0, values)
    following = jnp.matmul(process.transitions, values, precision="highest")  # a GPU's default has 10 bits
    expected = process.rewards + discount * following
    return jnp.where(process.terminal[:, None], 0, expected)


def value_iteration(
    process: Process, discount: Array | float, *, tolerance: float = 1e-6, max_sweeps: int = 10_000
) -> Plan:
    """Return the optimal values.

    Args:
        process: the transitions and rewards.
        discount: from 0 to 1, gamma.
        tolerance: stop once no value changes by more in a sweep, relative to the largest value if that is above 1.
        max_sweeps: greatest number of sweeps; `Plan.change` shows whether they converged.

    Raises:
        UserError: unfitting shapes, probabilities that do not sum to 1, a reward that is not finite, a discount
            outside 0 to 1.
    """
    _check(process, discount, tolerance, max_sweeps)
    return _value_iteration(process, discount, tolerance, max_sweeps)


def evaluate(
    process: Process,
    policy: Array,
    discount: Array | float,
    *,
    tolerance: float = 1e-6,
    max_sweeps: int = 10_000,
) -> Plan:
    """Return the values of a policy.

    Args:
        process: the transitions and rewards.
        policy: an action for each state, [S] integers, or probabilities of the actions, [S, A].
        discount: from 0 to 1, gamma; with 1, the values of a policy that never ends do not converge.
        tolerance: as of `value_iteration`.
        max_sweeps: as of `value_iteration`.

    Raises:
        UserError: as `value_iteration`, or a policy of another shape.
    """
    _check(process, discount, tolerance, max_sweeps)
    states, actions = process.rewards.shape
    if jnp.issubdtype(jnp.result_type(policy), jnp.integer):
        check_shape(policy, (states,), "policy")
        if is_concrete(policy) and not ((policy >= 0) & (policy < actions)).all():
            raise UserError(f"policy: expected actions from 0 to {actions - 1}")
        policy = jax.nn.one_hot(policy, actions, dtype=process.rewards.dtype)
    check_shape(policy, (states, actions), "policy")
    _check_distributions(policy, "policy")
    return _evaluate(process, policy, discount, tolerance, max_sweeps)


def greedy(action_values: Array) -> Array:
    """Return the best action for each state, [...] int32; of equal ones the first."""
    return action_values.argmax(-1).astype(jnp.int32)


def best_actions(action_values: Array, tolerance: float = 1e-4) -> Array:
    """Return True for each action that is as good as the best one of its state, [..., A]: ties are several."""
    return action_values >= action_values.max(-1, keepdims=True) - tolerance


@jax.jit
def _value_iteration(process: Process, discount: Array, tolerance: Array, max_sweeps: Array) -> Plan:
    return _iterate(process, discount, lambda table: table.max(-1), tolerance, max_sweeps)


@jax.jit
def _evaluate(process: Process, policy: Array, discount: Array, tolerance: Array, max_sweeps: Array) -> Plan:
    return _iterate(process, discount, lambda table: (policy * table).sum(-1), tolerance, max_sweeps)


def _iterate(
    process: Process, discount: Array, backup: Callable[[Array], Array], tolerance: Array, max_sweeps: Array
) -> Plan:
    """Repeat values <- backup(action values) until they change no more."""
    first = jnp.zeros_like(process.rewards[:, 0])
    start = Plan(first, jnp.zeros_like(process.rewards), jnp.zeros((), jnp.int32), jnp.full((), jnp.inf, first.dtype))

    def going_on(plan: Plan) -> Array:
        scale = jnp.maximum(1, jnp.abs(plan.values).max())
        return (plan.change > tolerance * scale) & (plan.sweeps < max_sweeps)

    def sweep(plan: Plan) -> Plan:
        table = action_values(process, plan.values, discount)
        values = backup(table)
        return Plan(values, table, plan.sweeps + 1, jnp.abs(values - plan.values).max())

    return jax.lax.while_loop(going_on, sweep, start)


def _check(process: Process, discount: Array | float, tolerance: float, max_sweeps: int) -> None:
    check_shape(process.rewards, ("S", "A"), "rewards")
    states, actions = process.rewards.shape
    check_shape(process.transitions, (states, actions, states), "transitions")
    check_shape(process.terminal, (states,), "terminal")
    check_finite(process.rewards, "rewards")
    check_at_least(0, tolerance=tolerance)
    check_at_least(1, max_sweeps=max_sweeps)
    if is_concrete(discount) and not 0 <= discount <= 1:
        raise UserError(f"discount = {discount}: give a number from 0 to 1")
    _check_distributions(process.transitions, "transitions")


def _check_distributions(probabilities: Array, name: str) -> None:
    """Raise unless concrete probabilities are 0 or more and sum to 1 over their last axis."""
    if is_concrete(probabilities):
        host = np.asarray(probabilities)
        wrong = np.argwhere(~((host >= 0).all(-1) & (abs(host.sum(-1) - 1) < 1e-4)))
        if len(wrong):
            raise UserError(f"{name}{wrong[0].tolist()}: expected probabilities of 0 or more that sum to 1")
