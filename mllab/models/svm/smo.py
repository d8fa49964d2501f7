r"""The dual of a support vector machine, by sequential minimal optimisation (SMO).

With signs $y_i = \pm 1$, kernel matrix K, and weights of the examples $\omega_i$:

    $$ \max_\alpha D = \sum_i \alpha_i - \tfrac12 \sum_{ij} \alpha_i \alpha_j y_i y_j K_{ij}, \quad
       0 \le \alpha_i \le C \omega_i, \quad \sum_i \alpha_i y_i = 0 $$

which is the dual of

    $$ \min_{w, b} P = \tfrac12 \lVert w \rVert^2 + C \sum_i \omega_i \max(0, 1 - y_i f(x_i)), \quad
       f(x) = \sum_i \alpha_i y_i k(x_i, x) + b. $$

P ≥ D always, with equality at the optimum, so the relative duality gap (P - D) / P bounds the distance to it.

Epsilon-insensitive regression of targets t is the same problem with two coefficients for each row, of sign +1 and -1,
over the same kernel matrix:

    $$ \max_\beta \sum_i l_i \beta_i - \tfrac12 \sum_{ij} \beta_i \beta_j K_{ij}, \quad
       l = (t - \epsilon,\ t + \epsilon), \quad \sum_i \beta_i = 0 $$

with $0 \le \beta_i \le C \omega_i$ in the first half and $-C \omega_i \le \beta_i \le 0$ in the second. In
classification the linear term l is the signs.

A step changes two coefficients $\beta_i = \alpha_i y_i$, one up and one down by the same amount, to the optimum within
their bounds. With the residual $r_i = l_i - \sum_j \beta_j K_{ij}$, i has the greatest r of the coefficients below
their upper bound; j has the greatest $(r_i - r_j)^2 / (K_{ii} + K_{jj} - 2 K_{ij})$ of those above their lower bound.
The solver stops when the violation, the difference of the greatest r of the former and the least of the latter, is
at most the tolerance.

Sources: Fan, Chen and Lin, *Working set selection using second order information for training support vector machines*,
JMLR 6 (2005), algorithm 2; Chang and Lin, *LIBSVM* (2011), section 4.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mllab import checks
from mllab.errors import UserError
from mllab.types import Array, is_concrete


class Dual(NamedTuple):
    """A solution and its duality gap."""

    alpha: Array  # [V] of each variable, which are the rows in classification
    bias: Array  # []
    scores: Array  # [V] decision values of all rows, out of sample for those of weight 0
    objective: Array  # [] D
    gap: Array  # [] (P - D) / P
    steps: Array  # [] int32, taken


class _State(NamedTuple):
    """State of the solver."""

    coefficients: Array  # [V] beta
    residual: Array  # [V] linear - kernel @ coefficients
    rising: Array  # [] id of the greatest residual below its upper bound
    violation: Array  # [] that residual less the least one above its lower bound
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
    """Return the solution of one problem of two classes.

    All arguments may be traced and mapped over. Rows of weight 0 keep alpha 0. If all rows are of one class, the bias
    alone classifies them.

    Args:
        kernel: [N, N], symmetric, positive semidefinite.
        signs: [N], +1 or -1.
        c: the upper bound of each alpha, at weight 1.
        weight: [N], at least 0.
        tolerance: on the violation of the optimality conditions, in units of the decision value.
        steps: maximum of steps.
        alpha: a feasible start, [N]; 0 by default.

    Raises:
        UserError: shapes that do not match, entries that are not finite, other signs than 1 and -1, numbers out of
            range, or a solution that is not finite, as far as these are concrete.
    """
    kernel = checks.check_array(kernel, ("N", "N"), "kernel")
    count = len(kernel)
    checks.check_shape(kernel, (count, count), "kernel")
    signs = checks.check_array(signs, (count,), "signs").astype(kernel.dtype)
    if is_concrete(signs) and not np.isin(np.asarray(signs), (-1, 1)).all():
        raise UserError("signs: expected 1 and -1 alone")
    weight = checks.check_weight(weight, count, kernel.dtype)
    checks.check_positive(c=c, tolerance=tolerance)
    coefficients = jnp.zeros_like(signs) if alpha is None else jnp.asarray(alpha, kernel.dtype) * signs

    upper = jnp.asarray(c, kernel.dtype) * weight
    dual = ascend(kernel, signs, upper, tolerance, steps, coefficients)
    return checks.finite_fit(dual, "give a kernel matrix that is positive semidefinite, or a smaller c")


@jax.jit
def ascend(
    kernel: Array,
    signs: Array,
    upper: Array,
    tolerance: Array | float,
    steps: Array | int,
    coefficients: Array,
    linear: Array | None = None,
) -> Dual:
    """Return the solution for bounds `upper` [V] of alpha, from start `coefficients` [V]; see `solve` for the rest.

    There are V = N variables, or V = 2 N of which i and N + i both belong to row i of the kernel matrix [N, N].

    Args:
        kernel: [N, N].
        signs: [V].
        upper: [V].
        tolerance: see `solve`.
        steps: see `solve`.
        coefficients: [V].
        linear: l, [V]; the signs by default.
    """
    rows, copies = len(kernel), len(signs) // len(kernel)
    linear = signs if linear is None else linear

    def of_variables(row: Array) -> Array:
        return row if copies == 1 else jnp.tile(row, copies)

    low, high = jnp.minimum(0, upper * signs), jnp.maximum(0, upper * signs)
    diagonal = of_variables(jnp.diagonal(kernel))
    flat = jnp.finfo(kernel.dtype).eps * jnp.max(diagonal) + jnp.finfo(kernel.dtype).tiny  # rounding, not curvature

    def extremes(coefficients: Array, residual: Array) -> tuple[Array, Array]:
        rising = _first_greatest(jnp.where(coefficients < high, residual, -jnp.inf))
        greatest = jnp.where(coefficients[rising] < high[rising], residual[rising], -jnp.inf)
        return rising, greatest - jnp.min(jnp.where(coefficients > low, residual, jnp.inf))

    def move(state: _State) -> _State:
        beta, r, i, _, step = state
        row = of_variables(kernel[i % rows])
        rise = r[i] - r
        curvature = jnp.maximum(diagonal[i] + diagonal - 2 * row, flat)
        j = _first_greatest(jnp.where((beta > low) & (rise > 0), rise**2 / curvature, -jnp.inf))
        room_up, room_down = high[i] - beta[i], beta[j] - low[j]
        size = jnp.minimum(rise[j] / curvature[j], jnp.minimum(room_up, room_down))
        # Set exactly: a sum that misses the bound by rounding would be selected for ever, and moved by nothing.
        beta = beta.at[i].set(jnp.where(size == room_up, high[i], beta[i] + size))
        beta = beta.at[j].set(jnp.where(size == room_down, low[j], beta[j] - size))
        r = r - size * (row - of_variables(kernel[j % rows]))
        return _State(beta, r, *extremes(beta, r), step + 1)

    def climb(state: _State, _: None) -> tuple[_State, None]:
        beta = state.coefficients
        together = beta.reshape(copies, rows).sum(axis=0)
        residual = linear - of_variables(jnp.matmul(kernel, together, precision="highest"))
        start = _State(beta, residual, *extremes(beta, residual), state.step)
        return jax.lax.while_loop(lambda s: (s.violation > tolerance) & (s.step < steps), move, start), None

    zero = jnp.zeros((), jnp.int32)
    start = _State(coefficients, jnp.zeros_like(signs), zero, jnp.zeros((), kernel.dtype), zero)
    # The residual accumulates a rounding error in each step: the second ascent starts from a fresh one.
    end, _ = jax.lax.scan(climb, start, None, 2)
    return _dual(signs, linear, upper, low, high, end)


def _first_greatest(values: Array) -> Array:
    """Return the id of the first maximum; on a CPU several times faster than argmax."""
    last = len(values) - 1
    return jnp.min(jnp.where(values == jnp.max(values), jnp.arange(len(values), dtype=jnp.int32), last))


def _dual(signs: Array, linear: Array, upper: Array, low: Array, high: Array, end: _State) -> Dual:
    beta, r = end.coefficients, end.residual
    free = (low < beta) & (beta < high)
    # The residual of free rows, which lie on the margin, is the bias. Without any, the middle of its range is taken.
    greatest = jnp.max(jnp.where(beta < high, r, -jnp.inf))
    least = jnp.min(jnp.where(beta > low, r, jnp.inf))
    ends = jnp.stack([greatest, least])
    finite = jnp.isfinite(ends)
    middle = jnp.sum(jnp.where(finite, ends, 0)) / jnp.maximum(jnp.sum(finite), 1)
    count = jnp.sum(free)
    bias = jnp.where(count > 0, jnp.sum(jnp.where(free, r, 0)) / jnp.maximum(count, 1), middle)
    scores = linear - r + bias
    half_norm = jnp.sum(beta * (linear - r)) / 2  # ||w||² / 2
    objective = jnp.sum(linear * beta) - half_norm
    primal = half_norm + jnp.sum(upper * jax.nn.relu(signs * (linear - scores)))
    gap = (primal - objective) / jnp.maximum(primal, jnp.finfo(primal.dtype).tiny)
    return Dual(jnp.abs(beta), bias, scores, objective, gap, end.step)


def path(
    kernel: Array,
    signs: Array,
    c: Array,
    weight: Array,
    tolerance: Array | float,
    steps: Array | int,
    linear: Array | None = None,
) -> Dual:
    """Return the solutions for ascending c [A], with leading axis A; each starts from the one before."""

    def following(start: Array, c: Array) -> tuple[Array, Dual]:
        dual = ascend(kernel, signs, c * weight, tolerance, steps, start, linear)
        return dual.alpha * signs, dual

    return jax.lax.scan(following, jnp.zeros_like(signs), c)[1]
