r"""Softmax regression (multinomial logistic regression), fitted to its optimum.

With cross entropy $\ell$, weights of the examples $\omega_i$, and no penalty on the intercept:

    $$ \min_{W, b} F = \sum_i \omega_i \ell(W^\top x_i + b, y_i) + \frac{\lambda}{2} \lVert W \rVert_F^2 $$

For three classes or more this is the objective of scikit-learn's `LogisticRegression`, with $C = 1 / \lambda$ (for two
it has one column of weights, and $C = 2 / \lambda$). The params are a `mllab.models.linear.Linear`.

The solver is L-BFGS, preconditioned by a model of the Hessian. With P [N, C] the probabilities, the Hessian is
$\sum_i \omega_i (\mathrm{diag}(p_i) - p_i p_i^\top) \otimes x_i x_i^\top$ plus the penalty; the model is a Kronecker
product,

    $$ H \approx \bar A \otimes (G + \lambda / \theta), \quad
       G = \sum_i \omega_i a_i x_i x_i^\top, \quad a_i \propto \mathrm{tr}(\mathrm{diag}(p_i) - p_i p_i^\top), $$

$\bar A$ the mean of the C × C factors and $\theta$ its scale, with G estimated from a sample of the rows. Its inverse
costs one Cholesky factor [D, D]. It is recomputed from the current P after 1, 4, 16, 64, ... steps.

Sources: Nocedal and Wright, *Numerical Optimization*, 2nd ed., algorithms 7.4 and 7.5; Martens and Grosse, *Optimizing
neural networks with Kronecker-factored approximate curvature* (2015), section 2, for the factors.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mllab import checks
from mllab.models.linear import Linear
from mllab.models.ops import factorization
from mllab.row_blocks import split_rows
from mllab.types import Array

HISTORY = 20  # pairs that L-BFGS stores
SEARCH_STEPS = 10  # of the line search
BLOCK_ROWS = 2048  # rows whose weighted copy is held at once
HESSIAN_ROWS = 8192  # rows that G is estimated from, at least
HESSIAN_ROWS_PER_COLUMN = 4  # the same, relative to the columns
MIN_CURVATURE = 1e-3  # between classes in the model of the Hessian, relative to its scale


class Fit(NamedTuple):
    """A fit, and the gradient at its end."""

    params: Linear  # [D, C] and [C], for `linear.apply`
    gradient: Array  # [] greatest entry of the gradient of F / sum of weights, for standardised inputs
    steps: Array  # [] int32, taken


class _State(NamedTuple):
    """State of the solver; the design is the standardised inputs and a column of ones."""

    params: Array  # [D + 1, C] in the units of the design
    logits: Array  # [N, C]
    gradient: Array  # [D + 1, C] of F
    moves: Array  # [HISTORY, D + 1, C] of the last steps, oldest first
    changes: Array  # [HISTORY, D + 1, C] of the gradient in each
    inverse: Array  # [HISTORY] of their inner products; 0 where there is none
    step: Array  # []
    stuck: Array  # [] whether the line search found no decrease of F beyond rounding


def fit(
    inputs: Array,
    targets: Array,
    classes: int,
    *,
    l2: Array | float,
    weight: Array | None = None,
    tolerance: Array | float = 1e-4,
    steps: int = 1000,
    block_rows: int = BLOCK_ROWS,
    hessian_rows: int = HESSIAN_ROWS,
) -> Fit:
    """Return softmax regression at its optimum.

    Converged when no entry of the gradient of F / (sum of weights), for standardised inputs, exceeds `tolerance`; so
    the units of the columns do not matter. In float32 the least tolerance that can be reached is about 1e-6.

    `l2`, `weight` and `tolerance` may be traced and mapped over, as for penalties and folds, which then share the
    inputs. Rows of weight 0 do not enter F, only the standard deviations, on which the optimum does not depend.

    Args:
        inputs: [N, D].
        targets: labels [N], integers in 0..C-1.
        classes: C, 2 or more.
        l2: the penalty, relative to the sum over examples; above 0 for separable classes, or no optimum exists.
        weight: of each example, [N], at least 0; 1 by default.
        tolerance: on the gradient.
        steps: maximum of steps.
        block_rows: rows whose weighted copy is held at once.
        hessian_rows: rows that the model of the Hessian is estimated from, at least.

    Raises:
        UserError: shapes that do not match, inputs that are not finite, fewer than two classes, a negative penalty or
            weight, labels that are not integers in 0..C-1, or a fit that is not finite, as far as these are concrete.
    """
    checks.check_whole(2, classes=classes)
    inputs = checks.check_array(inputs, ("N", "D"), "inputs")
    targets = checks.check_labels(targets, len(inputs), classes)
    weight = checks.check_weight(weight, len(inputs), inputs.dtype)
    checks.check_whole(1, steps=steps, block_rows=block_rows, hessian_rows=hessian_rows)
    checks.check_at_least(0, l2=l2, tolerance=tolerance)
    l2, tolerance = jnp.asarray(l2, inputs.dtype), jnp.asarray(tolerance, inputs.dtype)
    # The default product of a TPU or GPU has 8 to 11 bits, which is too few for an optimum.
    with jax.default_matmul_precision("highest"):
        fitted = _fit(inputs, targets, weight, l2, tolerance, classes, steps, block_rows, hessian_rows)
    return checks.finite_fit(fitted, "rescale the inputs, or raise l2")


@partial(jax.jit, static_argnames=("classes", "steps", "block_rows", "hessian_rows"))
def _fit(
    inputs: Array,
    labels: Array,
    weight: Array,
    l2: Array,
    tolerance: Array,
    classes: int,
    steps: int,
    block_rows: int,
    hessian_rows: int,
) -> Fit:
    design, mean, scale = _standardised(inputs)
    one_hot = labels[:, None] == jnp.arange(classes)[None]
    penalty = jnp.append(l2 / scale**2, 0)[:, None]  # [D + 1, 1]
    total = jnp.maximum(jnp.sum(weight), jnp.finfo(weight.dtype).tiny)

    stride = max(1, len(design) // max(hessian_rows, HESSIAN_ROWS_PER_COLUMN * design.shape[1]))
    sample = design[::stride]
    blocks = split_rows(sample, min(block_rows, len(sample)))

    def gradient_of(params: Array, logits: Array) -> Array:
        excess = weight[:, None] * (jax.nn.softmax(logits) - one_hot)
        return (excess.T @ design).T + penalty * params  # design.T @ excess would walk the design column by column

    def steepest(state: _State) -> Array:
        return jnp.max(jnp.abs(state.gradient)) / total

    def unfinished(state: _State) -> Array:
        return (steepest(state) > tolerance) & (state.step < steps) & ~state.stuck

    def length(state: _State, move: Array, ahead: Array) -> Array:
        """Return the step length along `move` [D + 1, C] that minimises F; `ahead` [N, C] is the move of the logits."""

        def along(t: Array) -> tuple[Array, Array]:  # first and second derivative of F
            p = jax.nn.softmax(state.logits + t * ahead)
            mean = jnp.sum(p * ahead, axis=1)
            first = mean - jnp.sum(jnp.where(one_hot, ahead, 0), axis=1)
            second = jnp.sum(p * (ahead - mean[:, None]) ** 2, axis=1)
            return (
                weight @ first + jnp.sum(penalty * (state.params + t * move) * move),
                weight @ second + jnp.sum(penalty * move**2),
            )

        return _least_along(along)

    def descend(state: _State, precondition) -> _State:
        move = -_quasi_newton(state, precondition)
        ahead = design @ move
        t = length(state, move, ahead)
        params, logits = state.params + t * move, state.logits + t * ahead
        gradient = gradient_of(params, logits)
        change = gradient - state.gradient
        curvature = t * jnp.vdot(move, change)
        return _State(
            params,
            logits,
            gradient,
            jnp.concatenate([state.moves[1:], t * move[None]]),
            jnp.concatenate([state.changes[1:], change[None]]),
            jnp.append(state.inverse[1:], jnp.where(curvature > 0, 1 / curvature, 0)),
            state.step + 1,
            t == 0,
        )

    def stretch(state: _State) -> _State:
        state = state._replace(logits=design @ state.params)  # fresh: a sum over many steps drifts
        precondition = _hessian_model(blocks, stride, jax.nn.softmax(state.logits), weight, penalty)
        until = jnp.maximum(1, 4 * state.step)
        return jax.lax.while_loop(lambda s: unfinished(s) & (s.step < until), lambda s: descend(s, precondition), state)

    params = jnp.zeros((design.shape[1], classes), design.dtype)
    # Not a constant, which XLA would fold at compile time; nor design @ params, of which jaxlib 0.10.2 on CPUs makes
    # NaN where it fuses it with the softmax, as it does if `fit` is mapped over penalties.
    logits = 0 * weight[:, None] + params[:1]
    pairs = jnp.zeros((HISTORY, *params.shape), design.dtype)
    gradient, step = gradient_of(params, logits), jnp.zeros((), jnp.int32)
    start = _State(params, logits, gradient, pairs, pairs, pairs[:, 0, 0], step, jnp.array(False))
    end = jax.lax.while_loop(unfinished, stretch, start)
    w = end.params[:-1] / scale[:, None]
    return Fit(Linear(w=w, b=end.params[-1] - mean @ w), steepest(end), end.step)


def _standardised(inputs: Array) -> tuple[Array, Array, Array]:
    """Return the design [N, D + 1], and the mean and scale [D] of each column.

    A constant column becomes zeros and gets weight 0, which is optimal: the unpenalised intercept replaces it.
    """
    mean = jnp.mean(inputs, axis=0)
    centred = inputs - mean[None]
    deviation = jnp.sqrt(jnp.mean(centred**2, axis=0))
    varies = deviation > 1e-15  # the squares of smaller ones underflow
    scale = jnp.where(varies, deviation, 1)
    design = jnp.append(jnp.where(varies[None], centred / scale[None], 0), jnp.ones((len(inputs), 1), inputs.dtype), 1)
    return design, mean, scale


def _hessian_model(blocks: Array, stride: int, p: Array, weight: Array, penalty: Array) -> Callable[[Array], Array]:
    """Return the product with the inverse of the Hessian's model; `blocks` hold every `stride`-th row of the design."""
    classes, eps = p.shape[1], jnp.finfo(p.dtype).eps
    apart = 1 - jnp.eye(classes, dtype=p.dtype)
    # The diagonal is the negative sum of the rest of its row; computed directly it would cancel where p is near 1.
    between = ((p * weight[:, None]).T @ p) * apart
    across = jnp.diag(jnp.sum(between, axis=1)) - between
    total = jnp.sum(weight)
    theta = jnp.maximum(jnp.trace(across) / (classes - 1), eps * total)
    # A common shift of all classes has no curvature, and no gradient: any positive curvature will do.
    across = across / theta + 1 / classes + MIN_CURVATURE * jnp.eye(classes, dtype=p.dtype)

    def add(gram: Array, block: tuple[Array, Array]) -> tuple[Array, None]:
        x, share = block
        return gram + (x * share[:, None]).T @ x, None

    share = stride * weight * jnp.sum(p * (p @ apart), axis=1) / (classes - 1)
    features = blocks.shape[-1]
    shares = split_rows(share[::stride], blocks.shape[1])
    gram, _ = jax.lax.scan(add, jnp.zeros((features, features), p.dtype), (blocks, shares))
    ridge = penalty[:, 0] + eps * (10 * jnp.trace(gram) + total)
    # The inverse is used for many steps, in which two products are faster than two triangular systems.
    between_columns, between_classes = (
        factorization.inverse_lower(factorization.cholesky(each)) for each in (gram + jnp.diag(ridge), across)
    )
    mixing = between_classes.T @ between_classes
    return lambda gradient: between_columns.T @ (between_columns @ (gradient @ mixing))


def _quasi_newton(state: _State, precondition: Callable[[Array], Array]) -> Array:
    """Return the product of the inverse Hessian with the gradient [D + 1, C] by the two loops of L-BFGS."""
    pairs = state.moves, state.changes, state.inverse

    def back(vector: Array, pair: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        move, change, inverse = pair
        share = inverse * jnp.vdot(move, vector)
        return vector - share * change, share

    def forth(vector: Array, pair_share: tuple[tuple[Array, Array, Array], Array]) -> tuple[Array, None]:
        (move, change, inverse), share = pair_share
        return vector + (share - inverse * jnp.vdot(change, vector)) * move, None

    vector, shares = jax.lax.scan(back, state.gradient, pairs, reverse=True)
    return jax.lax.scan(forth, precondition(vector), (pairs, shares))[0]


def _least_along(along: Callable[[Array], tuple[Array, Array]]) -> Array:
    """Return the minimum over t > 0 of a convex function, to a tenth of its slope at 0; 0 if the search fails.

    Newton's method on the slope, kept inside the bracket. Near the minimum, slopes keep their digits where differences
    of the function do not.
    """
    slope_at_0, _ = along(jnp.zeros(()))

    def closer(search: tuple[Array, Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array, Array]:
        t, low, high, _, tries = search
        slope, curvature = along(t)
        low, high = jnp.where(slope < 0, t, low), jnp.where(slope < 0, high, t)
        newton = t - slope / curvature
        middle = jnp.where(jnp.isfinite(high), (low + high) / 2, 2 * t)
        converged = jnp.abs(slope) <= 0.1 * jnp.abs(slope_at_0)
        following = jnp.where((low < newton) & (newton < high), newton, middle)
        return jnp.where(converged, t, following), low, high, converged, tries + 1

    zero = jnp.zeros_like(slope_at_0)
    search = zero + 1, zero, zero + jnp.inf, jnp.array(False), jnp.array(0)
    t, low, _, converged, _ = jax.lax.while_loop(lambda s: ~s[3] & (s[4] < SEARCH_STEPS), closer, search)
    # A convex function decreases up to its minimum, so the lower end of the bracket is safe.
    return jnp.where(slope_at_0 < 0, jnp.where(converged, t, low), 0)
