r"""Softmax regression, fitted to its optimum; `mllab.models.linear` holds its params and applies them.

With cross entropy $\ell$, weights of the examples $\omega_i$, and no penalty on the intercept:

    $$ \min_{W, b} F = \sum_i \omega_i \ell(W^\top x_i + b, y_i) + \frac{\lambda}{2} \lVert W \rVert_F^2 $$

For three classes or more this is what scikit-learn's `LogisticRegression` makes small, with $C = 1 / \lambda$ (for two
it keeps one column of weights, $C = 2 / \lambda$).

L-BFGS, begun in each step from a model of the whole Hessian instead of a multiple of the identity. With P [N, C] the
probabilities, the Hessian is $\sum_i \omega_i (\mathrm{diag}(p_i) - p_i p_i^\top) \otimes x_i x_i^\top$ and the
penalty; the model takes both factors apart,

    $$ H \approx \bar A \otimes (G + \lambda / \theta), \quad
       G = \sum_i \omega_i a_i x_i x_i^\top, \quad a_i \propto \mathrm{tr}(\mathrm{diag}(p_i) - p_i p_i^\top), $$

$\bar A$ the mean of the C × C factors and $\theta$ its scale; G is of a sample of the rows. Inverting it costs one
Cholesky factor [D, D]. It is made anew from the present P after 1, 4, 16, 64, ... steps.

Sources: Nocedal and Wright, *Numerical Optimization*, 2nd ed., algorithms 7.4 and 7.5; Martens and Grosse, *Optimizing
neural networks with Kronecker-factored approximate curvature* (2015), section 2, for the factors.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import cho_factor, cho_solve

from mllab.errors import UserError
from mllab.models.linear import Linear
from mllab.types import Array

MEMORY = 20  # steps that L-BFGS remembers
SEARCHES = 10  # tries for the length of a step
BLOCK = 2048  # rows whose weighted copy is held at once
SAMPLE = 8192, 4  # G is summed over so many rows, or so many times the columns, where that is more
FLOOR = 1e-3  # least curvature between classes that the model believes, of its scale


class Fit(NamedTuple):
    """A fit, and how near to the optimum it is."""

    params: Linear  # [D, C] and [C], for `linear.apply`
    gradient: Array  # [] greatest entry of the gradient of F / sum of weights, inputs in standard deviations
    steps: Array  # [] int32


class _State(NamedTuple):
    """Where the descent stands; `design` is the standardised inputs and a column of ones."""

    params: Array  # [D + 1, C] in the units of the design
    logits: Array  # [N, C]
    gradient: Array  # [D + 1, C] of F
    moves: Array  # [MEMORY, D + 1, C] of the last steps, oldest first
    changes: Array  # [MEMORY, D + 1, C] of the gradient over each
    inverse: Array  # [MEMORY] of their inner products; 0 where there is none
    step: Array  # []
    stuck: Array  # [] no length of the last step made F smaller, as far as rounding tells


def fit(
    inputs: Array,
    targets: Array,
    classes: int,
    *,
    l2: Array | float,
    weight: Array | None = None,
    tolerance: Array | float = 1e-4,
    steps: int = 1000,
) -> Fit:
    """Return softmax regression at its optimum.

    Ends when no entry of the gradient of F / (sum of weights), taken for inputs in units of their standard deviation,
    is greater than `tolerance`: so the units of a column do not matter to the end, nor to the way there. In float32 the
    least that can be reached is about 1e-6.

    `l2`, `weight` and `tolerance` may be traced and mapped over, as folds and penalties are; the inputs are then read
    once for all. Rows of weight 0 take no part in F; they do in the standard deviations, which change no optimum.

    Args:
        inputs: [N, D].
        targets: labels [N], integers in 0..C-1.
        classes: C, 2 or more.
        l2: the penalty, on the sum over examples; above 0 where classes can be separated, or no optimum exists.
        weight: how much each example counts, [N], at least 0; 1 by default.
        tolerance: see above.
        steps: the most that are taken.

    Raises:
        UserError: shapes that do not fit, fewer than two classes, a negative penalty, labels that are no integers or
            not in 0..C-1 (where they are not traced).
    """
    _check(inputs, targets, classes, l2, weight)
    inputs = jnp.asarray(inputs, jnp.result_type(inputs, float))
    weight = jnp.ones(len(inputs), inputs.dtype) if weight is None else jnp.asarray(weight, inputs.dtype)
    l2, tolerance = jnp.asarray(l2, inputs.dtype), jnp.asarray(tolerance, inputs.dtype)
    # A TPU's and a GPU's default product keeps 8 to 11 bits: far less than an optimum is promised here.
    with jax.default_matmul_precision("highest"):
        return _fit(inputs, jnp.asarray(targets), weight, l2, tolerance, classes, steps)


def _check(inputs: Array, targets: Array, classes: int, l2: Array | float, weight: Array | None) -> None:
    if jnp.ndim(inputs) != 2:
        raise UserError(f"inputs have shape {jnp.shape(inputs)}: pass [examples, features]")
    n = len(inputs)
    labels: Array | np.ndarray = targets if isinstance(targets, jax.Array) else np.asarray(targets)
    if labels.shape != (n,) or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise UserError(f"targets are {labels.dtype}{list(labels.shape)}: pass {n} integers, one an example")
    if weight is not None and jnp.shape(weight) != (n,):
        raise UserError(f"weight has shape {jnp.shape(weight)}: pass one number an example, [{n}]")
    if classes < 2:
        raise UserError(f"classes = {classes}: there must be 2 or more")
    if not isinstance(l2, jax.core.Tracer) and not np.all(np.asarray(l2) >= 0):
        raise UserError(f"l2 = {l2}: the penalty must be 0 or more")
    if not isinstance(labels, jax.core.Tracer):
        labels = np.asarray(labels)
        wrong = np.flatnonzero((labels < 0) | (labels >= classes))
        if wrong.size:
            raise UserError(f"row {wrong[0]} has label {labels[wrong[0]]}: {classes} classes are 0 to {classes - 1}")


@partial(jax.jit, static_argnames=("classes", "steps"))
def _fit(inputs: Array, labels: Array, weight: Array, l2: Array, tolerance: Array, classes: int, steps: int) -> Fit:
    design, mean, scale = _standardised(inputs)
    own = labels[:, None] == jnp.arange(classes)[None]
    penalty = jnp.append(l2 / scale**2, 0)[:, None]  # [D + 1, 1]
    total = jnp.maximum(jnp.sum(weight), jnp.finfo(weight.dtype).tiny)

    stride = max(1, len(design) // max(SAMPLE[0], SAMPLE[1] * design.shape[1]))
    blocks = _in_blocks(design[::stride])

    def slopes(params: Array, logits: Array) -> Array:
        excess = weight[:, None] * (jax.nn.softmax(logits) - own)
        return (excess.T @ design).T + penalty * params  # design.T @ excess would walk the design column by column

    def steepest(state: _State) -> Array:
        return jnp.max(jnp.abs(state.gradient)) / total

    def going(state: _State) -> Array:
        return (steepest(state) > tolerance) & (state.step < steps) & ~state.stuck

    def length(state: _State, move: Array, ahead: Array) -> Array:
        """Return how far along `move` [D + 1, C] F is least; no product is needed, since logits move by `ahead`."""

        def along(t: Array) -> tuple[Array, Array]:  # first and second derivative of F
            p = jax.nn.softmax(state.logits + t * ahead)
            mean = jnp.sum(p * ahead, axis=1)
            first = mean - jnp.sum(jnp.where(own, ahead, 0), axis=1)
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
        gradient = slopes(params, logits)
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
        state = state._replace(logits=design @ state.params)  # sums of many steps drift
        precondition = _hessian_model(blocks, stride, jax.nn.softmax(state.logits), weight, penalty)
        until = jnp.maximum(1, 4 * state.step)
        return jax.lax.while_loop(lambda s: going(s) & (s.step < until), lambda s: descend(s, precondition), state)

    params = jnp.zeros((design.shape[1], classes), design.dtype)
    # Zeros, but no constant: XLA would evaluate what follows from one while it compiles. Nor `design @ params`: jaxlib
    # 0.10.2 on CPUs makes NaN of softmax(matrix @ zeros) where it fuses them, as it does under vmap.
    logits = 0 * weight[:, None] + params[:1]
    pairs = jnp.zeros((MEMORY, *params.shape), design.dtype)
    start = _State(
        params, logits, slopes(params, logits), pairs, pairs, pairs[:, 0, 0], jnp.zeros((), jnp.int32), jnp.array(False)
    )
    end = jax.lax.while_loop(going, stretch, start)
    w = end.params[:-1] / scale[:, None]
    return Fit(Linear(w=w, b=end.params[-1] - mean @ w), steepest(end), end.step)


def _standardised(inputs: Array) -> tuple[Array, Array, Array]:
    """Return the design [N, D + 1], and the mean and scale [D] of each column.

    A constant column is left as the zeros that centring makes of it, and takes no weight: so it is at the optimum,
    where the intercept does its work for nothing.
    """
    mean = jnp.mean(inputs, axis=0)
    centred = inputs - mean[None]
    deviation = jnp.sqrt(jnp.mean(centred**2, axis=0))
    varies = deviation > 1e-15  # squares of less underflow
    scale = jnp.where(varies, deviation, 1)
    design = jnp.append(jnp.where(varies[None], centred / scale[None], 0), jnp.ones((len(inputs), 1), inputs.dtype), 1)
    return design, mean, scale


def _in_blocks(rows: Array) -> Array:
    """Return rows [N, ...] as [N / size, size, ...], padded with zeros; size is `BLOCK`, or N where that is less."""
    size = min(BLOCK, len(rows))
    padded = jnp.pad(rows, ((0, -len(rows) % size), *((0, 0) for _ in rows.shape[1:])))
    return padded.reshape(-1, size, *rows.shape[1:])


def _hessian_model(blocks: Array, stride: int, p: Array, weight: Array, penalty: Array) -> Callable[[Array], Array]:
    """Return the product of the model's inverse with [D + 1, C]; `blocks` hold each `stride`-th row of the design."""
    classes, eps = p.shape[1], jnp.finfo(p.dtype).eps
    apart = 1 - jnp.eye(classes, dtype=p.dtype)
    # Off the diagonal first: the diagonal, the negative sum of its row, would otherwise cancel where p is near 1.
    between = ((p * weight[:, None]).T @ p) * apart
    across = jnp.diag(jnp.sum(between, axis=1)) - between
    total = jnp.sum(weight)
    theta = jnp.maximum(jnp.trace(across) / (classes - 1), eps * total)
    # A common shift of all classes has no curvature, and needs none: no gradient points there.
    across = across / theta + 1 / classes + FLOOR * jnp.eye(classes, dtype=p.dtype)

    def add(gram: Array, block: tuple[Array, Array]) -> tuple[Array, None]:
        x, share = block
        return gram + (x * share[:, None]).T @ x, None

    share = stride * weight * jnp.sum(p * (p @ apart), axis=1) / (classes - 1)
    features = blocks.shape[-1]
    gram, _ = jax.lax.scan(add, jnp.zeros((features, features), p.dtype), (blocks, _in_blocks(share[::stride])))
    ridge = penalty[:, 0] + eps * (10 * jnp.trace(gram) + total)
    factor, mixing = cho_factor(gram + jnp.diag(ridge)), jnp.linalg.inv(across)
    return lambda gradient: cho_solve(factor, gradient) @ mixing


def _quasi_newton(state: _State, precondition: Callable[[Array], Array]) -> Array:
    """Return the inverse Hessian's product with the gradient [D + 1, C] by L-BFGS's two loops."""
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
    """Return where a convex function of t > 0 is least, to a tenth of its slope at 0; 0 where that is not found.

    Newton's method on the slope, kept inside the bracket. Slopes, unlike differences of the function, keep their digits
    near the least value.
    """
    slope_at_0, _ = along(jnp.zeros(()))

    def closer(search: tuple[Array, Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array, Array]:
        t, low, high, _, tries = search
        slope, curvature = along(t)
        low, high = jnp.where(slope < 0, t, low), jnp.where(slope < 0, high, t)
        newton = t - slope / curvature
        middle = jnp.where(jnp.isfinite(high), (low + high) / 2, 2 * t)
        found = jnp.abs(slope) <= 0.1 * jnp.abs(slope_at_0)
        following = jnp.where((low < newton) & (newton < high), newton, middle)
        return jnp.where(found, t, following), low, high, found, tries + 1

    zero = jnp.zeros_like(slope_at_0)
    search = zero + 1, zero, zero + jnp.inf, jnp.array(False), jnp.array(0)
    t, low, _, found, _ = jax.lax.while_loop(lambda s: ~s[3] & (s[4] < SEARCHES), closer, search)
    # Left of the least value a convex function has only fallen: that end of the bracket is safe.
    return jnp.where(slope_at_0 < 0, jnp.where(found, t, low), 0)
