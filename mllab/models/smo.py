r"""The dual of a support vector machine of two classes, by sequential minimal optimisation.

With signs $y_i = \pm 1$, kernel matrix K, and the weight $\omega_i$ of each example in its upper bound:

    $$ \max_\alpha D = \sum_i \alpha_i - \tfrac12 \sum_{ij} \alpha_i \alpha_j y_i y_j K_{ij}, \quad
       0 \le \alpha_i \le C \omega_i, \quad \sum_i \alpha_i y_i = 0 $$

which is the dual of

    $$ \min_{w, b} P = \tfrac12 \lVert w \rVert^2 + C \sum_i \omega_i \max(0, 1 - y_i f(x_i)), \quad
       f(x) = \sum_i \alpha_i y_i k(x_i, x) + b. $$

P ≥ D always, with equality at the optimum: the duality gap, (P - D) / P, says how far from it a solution can be.

The pair of coefficients $\beta_i = \alpha_i y_i$ that promises the greatest rise of D is moved, one up and one down by
as much, to the best that their bounds allow. With the residual $r_i = y_i - \sum_j \beta_j K_{ij}$, the one that may
rise and has the greatest r is i; of those that may fall, j has the greatest
$(r_i - r_j)^2 / (K_{ii} + K_{jj} - 2 K_{ij})$. It ends when no r that may rise exceeds one that may fall by more than a
tolerance.

Sources: Fan, Chen and Lin, *Working set selection using second order information for training support vector machines*,
JMLR 6 (2005), algorithm 2; Chang and Lin, *LIBSVM* (2011), section 4.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from mllab.types import Array


class Dual(NamedTuple):
    """A solution, and how near to the optimum it is."""

    alpha: Array  # [N]
    bias: Array  # []
    scores: Array  # [N] decision values of all rows; those of weight 0 took no part, so theirs are out of sample
    objective: Array  # [] D
    gap: Array  # [] (P - D) / P
    steps: Array  # [] int32


class _State(NamedTuple):
    """Where the ascent stands."""

    coefficients: Array  # [N] beta
    residual: Array  # [N] signs - kernel @ coefficients
    rising: Array  # [] the id of the greatest residual that may rise
    violation: Array  # [] that residual less the least that may fall
    step: Array  # []


def solve(
    kernel: Array,
    signs: Array,
    c: Array | float,
    weight: Array,
    tolerance: Array | float,
    steps: Array | int,
    alpha: Array | None = None,
) -> Dual:
    """Return the dual's solution for one problem of two classes.

    Everything may be traced and mapped over. Rows of weight 0 keep alpha 0. A class that is alone gets all rows right
    by the bias.

    Args:
        kernel: [N, N], symmetric, positive semidefinite.
        signs: [N], +1 or -1.
        c: the upper bound of each alpha, for weight 1.
        weight: [N], at least 0.
        tolerance: the greatest violation of the optimum's conditions, in units of the decision value.
        steps: the most that are taken.
        alpha: where to start, [N], feasible; 0 by default.
    """
    kernel = jnp.asarray(kernel, jnp.result_type(kernel, float))
    signs, weight = jnp.asarray(signs, kernel.dtype), jnp.asarray(weight, kernel.dtype)
    coefficients = jnp.zeros_like(signs) if alpha is None else jnp.asarray(alpha, kernel.dtype) * signs

    upper = jnp.asarray(c, kernel.dtype) * weight
    return ascend(kernel, signs, upper, tolerance, steps, coefficients)


@jax.jit
def ascend(
    kernel: Array,
    signs: Array,
    upper: Array,
    tolerance: Array | float,
    steps: Array | int,
    coefficients: Array,
) -> Dual:
    """Return the solution for bounds `upper` [N] of alpha, from these coefficients [N]; the rest as for `solve`."""
    low, high = jnp.minimum(0, upper * signs), jnp.maximum(0, upper * signs)
    diagonal = jnp.diagonal(kernel)
    flat = jnp.finfo(kernel.dtype).eps * jnp.max(diagonal) + jnp.finfo(kernel.dtype).tiny  # rounding, not curvature

    def extremes(coefficients: Array, residual: Array) -> tuple[Array, Array]:
        rising = _first_greatest(jnp.where(coefficients < high, residual, -jnp.inf))
        greatest = jnp.where(coefficients[rising] < high[rising], residual[rising], -jnp.inf)
        return rising, greatest - jnp.min(jnp.where(coefficients > low, residual, jnp.inf))

    def move(state: _State) -> _State:
        beta, r, i, _, step = state
        row = kernel[i]
        rise = r[i] - r
        curvature = jnp.maximum(diagonal[i] + diagonal - 2 * row, flat)
        j = _first_greatest(jnp.where((beta > low) & (rise > 0), rise**2 / curvature, -jnp.inf))
        room_up, room_down = high[i] - beta[i], beta[j] - low[j]
        size = jnp.minimum(rise[j] / curvature[j], jnp.minimum(room_up, room_down))
        # A sum may miss the bound by rounding, and would then be moved by nothing for ever.
        beta = beta.at[i].set(jnp.where(size == room_up, high[i], beta[i] + size))
        beta = beta.at[j].set(jnp.where(size == room_down, low[j], beta[j] - size))
        r = r - size * (row - kernel[j])
        return _State(beta, r, *extremes(beta, r), step + 1)

    def climb(state: _State, _: None) -> tuple[_State, None]:
        beta = state.coefficients
        residual = signs - jnp.matmul(kernel, beta, precision="highest")
        start = _State(beta, residual, *extremes(beta, residual), state.step)
        return jax.lax.while_loop(lambda s: (s.violation > tolerance) & (s.step < steps), move, start), None

    zero = jnp.zeros((), jnp.int32)
    start = _State(coefficients, jnp.zeros_like(signs), zero, jnp.zeros((), kernel.dtype), zero)
    # The residual is a sum of as many terms as steps, each rounded: made anew once, it is exact enough to finish with.
    end, _ = jax.lax.scan(climb, start, None, 2)
    return _dual(signs, upper, low, high, end)


def _first_greatest(values: Array) -> Array:
    """Return the id of the greatest value, of equal ones the first; on a CPU several times faster than argmax."""
    last = len(values) - 1
    return jnp.min(jnp.where(values == jnp.max(values), jnp.arange(len(values), dtype=jnp.int32), last))


def _dual(signs: Array, upper: Array, low: Array, high: Array, end: _State) -> Dual:
    beta, r = end.coefficients, end.residual
    free = (low < beta) & (beta < high)
    # Free rows are at the margin: their residual is the bias. Without any, all between two bounds will do.
    greatest = jnp.max(jnp.where(beta < high, r, -jnp.inf))
    least = jnp.min(jnp.where(beta > low, r, jnp.inf))
    ends = jnp.stack([greatest, least])
    known = jnp.isfinite(ends)
    middle = jnp.sum(jnp.where(known, ends, 0)) / jnp.maximum(jnp.sum(known), 1)
    count = jnp.sum(free)
    bias = jnp.where(count > 0, jnp.sum(jnp.where(free, r, 0)) / jnp.maximum(count, 1), middle)
    scores = signs - r + bias
    half_norm = jnp.sum(beta * (signs - r)) / 2  # ||w||² / 2
    objective = jnp.sum(jnp.abs(beta)) - half_norm
    primal = half_norm + jnp.sum(upper * jax.nn.relu(1 - signs * scores))
    gap = (primal - objective) / jnp.maximum(primal, jnp.finfo(primal.dtype).tiny)
    return Dual(jnp.abs(beta), bias, scores, objective, gap, end.step)


def path(kernel: Array, signs: Array, c: Array, weight: Array, tolerance: Array | float, steps: Array | int) -> Dual:
    """Return the solutions for c [A], ascending, with a leading A; each begins where the one before ended."""

    def following(start: Array, c: Array) -> tuple[Array, Dual]:
        dual = ascend(kernel, signs, c * weight, tolerance, steps, start)
        return dual.alpha * signs, dual

    return jax.lax.scan(following, jnp.zeros_like(signs), c)[1]
