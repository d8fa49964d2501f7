r"""Linear models: linear regression and ridge in closed form, polynomial features, and params by gradient descent.

Every linear model is $f(x) = W^\top x + b$. Linear regression and ridge (weights $\omega_i$, penalty $\lambda$, none on
the intercept) minimise

    $$ \min_{W, b} \sum_i \omega_i \lVert y_i - W^\top x_i - b \rVert^2 + \lambda \lVert W \rVert_F^2 $$

and softmax regression, with logits $f(x)$ and $P = \mathrm{softmax}(f(x))$, the cross entropy

    $$ \min_{W, b} L = -\frac{1}{N} \sum_i \log P_{i, y_i}, \quad
       \partial L / \partial \mathrm{logits} = (P - Y) / N, \quad
       \partial L / \partial W = X^\top (P - Y) / N. $$

`fit` solves the former; `mllab.models.softmax` fits the latter to its optimum, and either may be trained by minibatches
as the model of `init` and `apply`.

Sources: Hastie, Tibshirani and Friedman, *The Elements of Statistical Learning*, 2nd ed., sections 3.2, 3.4.1
and 4.4; Golub and Van Loan, *Matrix Computations*, 4th ed., sections 5.3 and 5.5 for the numerics; Fukaya et al.,
*Shifted Cholesky QR for computing the QR factorization of ill-conditioned matrices* (2020).
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations_with_replacement
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from mllab import checks
from mllab.errors import unknown
from mllab.models.base import Model, plain
from mllab.models.ops import factorization
from mllab.types import Array, Key

METHODS = ("qr", "cholesky_qr", "normal", "pinv")
BLOCK_ROWS = 4096  # rows that "cholesky_qr" processes at once
NO_UNIQUE_FIT = (
    "for dependent columns, or more columns than rows, use method='pinv' or a larger ridge; or rescale columns"
)


@struct.dataclass
class Linear:
    """A matrix and an intercept."""

    w: Array  # [D, C]
    b: Array  # [C]


def init(key: Key, features: int, outputs: int = 1) -> Linear:
    """Return zeros, so that every class is equally probable: the objectives are convex, and need no random start.

    `key` is unused; every model's `init` takes one.
    """
    del key
    return Linear(w=jnp.zeros((features, outputs)), b=jnp.zeros(outputs))


def apply(params: Linear, x: Array) -> Array:
    """Return outputs [B, C] of inputs [B, D]: logits for softmax regression, C values for regression."""
    x = checks.check_inputs(x, ("B", params.w.shape[0]), "inputs")
    return x @ params.w + params.b[None]


def model(shape: Sequence[int], outputs: int) -> Model:
    """Return the model of inputs [B, *shape], flattened to [B, D], with C = `outputs`."""

    def flat_apply(params: Linear, inputs: Array) -> Array:
        return apply(params, inputs.reshape(inputs.shape[0], -1))

    return plain(partial(init, features=math.prod(shape), outputs=outputs), flat_apply)


def values(params: Linear, x: Array) -> Array:
    """Return values [B] of inputs [B, D], from params with one output."""
    return jnp.squeeze(apply(params, x), axis=-1)


def fit(
    x: Array | np.ndarray,
    y: Array | np.ndarray,
    *,
    weight: Array | np.ndarray | None = None,
    method: str = "qr",
    ridge: Array | float = 0.0,
) -> Linear:
    r"""Return the least-squares fit, in closed form.

    Data are centred first, so that the intercept is not penalised and a large offset costs no digits. What remains is
    $\min_W \lVert T - A W \rVert_F^2 + \lambda \lVert W \rVert_F^2$, where the rows of A and T are centred inputs and
    targets times the square root of their weight. With eps = 1.2e-7 in float32, 2.2e-16 in float64, and the condition
    number $\kappa = \sigma_{\max} / \sigma_{\min}$ of A,

    - `"qr"` reduces A by Householder reflections. Error about $\kappa\,\mathrm{eps}$ (plus $\kappa^2\,\mathrm{eps}$
      times the relative residual). The units of a column do not matter.
    - `"cholesky_qr"` makes the columns of A nearly orthonormal by the Cholesky factor of its Gram matrix, and solves
      for these (shifted CholeskyQR2): two products instead of reflections, so several times faster for tall data, and
      as accurate as QR up to $\kappa$ of about 1e4 in float32 and 1e10 in float64.
    - `"normal"` solves $(A^\top A + \lambda I) W = A^\top T$ by Cholesky. Fastest for tall data. Squares the condition
      number: error about $\kappa^2\,\mathrm{eps}$, so half of the digits are lost at $\kappa = 50$ in float32 and at
      1e4 in float64; the result is NaN or noise beyond 3e3 and 7e7.
    - `"pinv"` uses the singular values of A above $10 (D + C)\,\mathrm{eps}\,\sigma_{\max}$: the solution of least norm
      among equally good ones. For more features than examples, or dependent columns, where the others (with
      `ridge=0`) return NaN, which is refused, or noise.

    `weight` and `ridge` may be traced and mapped over; `vmap` over ridge factorises the data once.

    Args:
        x: inputs [N, D].
        y: targets [N], or [N, C] for C outputs at once.
        weight: of each example, [N], at least 0; 1 by default. Examples of weight 0 are ignored.
        method: one of `METHODS`.
        ridge: the penalty, at least 0, relative to the sum over examples (scikit-learn's `alpha`), not the mean.

    Returns:
        `Linear`, with one output where y is [N].

    Raises:
        UserError: an unknown method, shapes that do not match, entries that are not finite, a negative weight or
            penalty, or a fit that is not finite, as far as these are concrete.
    """
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    x = checks.check_array(x, ("N", "D"), "inputs")
    y = checks.as_numbers(y, "targets")
    y = checks.check_array(y, (len(x), "C") if y.ndim == 2 else (len(x),), "targets")
    if weight is not None:
        weight = checks.check_weight(weight, len(x), x.dtype)
    checks.check_at_least(0, ridge=ridge)
    fitted = _fit(x, y.astype(x.dtype), weight, jnp.asarray(ridge, x.dtype), method)
    return checks.finite_fit(fitted, NO_UNIQUE_FIT)


@partial(jax.jit, static_argnames="method")
def _fit(x: Array, y: Array, weight: Array | None, ridge: Array, method: str) -> Linear:
    t = y.reshape(len(y), -1)
    weight = jnp.ones(len(x), x.dtype) if weight is None else weight  # here, where XLA folds a constant
    if method == "cholesky_qr":
        with jax.default_matmul_precision("highest"):
            return _cholesky_qr(x, t, weight, ridge)
    a, x_mean = _centre(x, weight)
    t, t_mean = _centre(t, weight)
    root = jnp.sqrt(weight)[:, None]
    solve = {"qr": _qr, "normal": _normal, "pinv": _pinv}[method]
    # The default product of a TPU or GPU has 8 to 11 bits, too few for the accuracies above.
    with jax.default_matmul_precision("highest"):
        w = solve(root * a, root * t, ridge)
        return Linear(w=w, b=t_mean - x_mean @ w)


def polynomial(x: Array, degree: int) -> Array:
    """Return all monomials of the columns of x, from degree 1 to `degree`, without the constant.

    The columns have the order of scikit-learn's `PolynomialFeatures(include_bias=False)`: a, b, a², ab, b² for
    features a, b and degree 2. Standardise x first: powers of raw units make a fit ill-conditioned.

    Args:
        x: inputs [N, D].
        degree: highest total degree, at least 1.

    Returns:
        Features [N, binomial(D + degree, degree) - 1].

    Raises:
        UserError: x of another shape or not finite, a degree that is no whole number of 1 or more, or features that
            overflow.
    """
    x = checks.check_array(x, ("N", "D"), "x")
    checks.check_whole(1, degree=degree)
    features = range(x.shape[-1])
    factors = (np.array(list(combinations_with_replacement(features, d))) for d in range(1, degree + 1))
    powers = jnp.concatenate([jnp.prod(x[..., columns], axis=-1) for columns in factors], axis=-1)
    return checks.finite_fit(powers, "standardise x, or lower the degree")


def _centre(columns: Array, weight: Array) -> tuple[Array, Array]:
    """Return columns [N, D] minus their weighted means, and the means [D]."""
    share = weight / jnp.sum(weight)
    rough = share @ columns
    centred = columns - rough[None]
    # The rounding error of the first mean is relative to the offset; the mean of the remainder corrects it.
    rest = share @ centred
    return centred - rest[None], rough + rest


def _qr(a: Array, t: Array, ridge: Array) -> Array:
    """Return W [D, C] by back substitution."""
    features, outputs = a.shape[1], t.shape[1]
    penalty = jnp.sqrt(ridge) * jnp.eye(features, features + outputs, dtype=a.dtype)
    triangle = factorization.triangle(jnp.concatenate([_triangle(a, t), penalty]))[:features]
    return factorization.solve_upper(triangle[:, :features], triangle[:, features:])


def _cholesky_qr(x: Array, t: Array, weight: Array, ridge: Array) -> Linear:
    """Return the fit by the normal equations of A with nearly orthonormal columns.

    Three passes read blocks of rows: neither A nor its orthonormal form, each as large as the inputs, is written.
    """
    features = x.shape[1]
    share = weight / jnp.sum(weight)
    both = share @ x, share @ t  # means with the rounding error of an offset, which the first pass corrects

    def moments(rows: Array, targets: Array, weight: Array) -> tuple[Array, Array, Array]:
        rows, targets = rows - both[0][None], targets - both[1][None]
        heavy = rows * weight[:, None]
        return heavy.T @ rows, jnp.sum(heavy, axis=0), weight @ targets

    gram, *rest = _summed(moments, x, t, weight)
    x_rest, t_rest = (each / jnp.sum(weight) for each in rest)
    gram = gram - jnp.sum(weight) * x_rest[:, None] * x_rest[None]
    identity = jnp.eye(features, dtype=x.dtype)
    gram = gram + ridge * identity
    size = jnp.sqrt(jnp.diagonal(gram))
    unit = jnp.where(size > 0, 1 / size, 1)  # of each column, whose units then do not matter
    shift = 10 * features * jnp.finfo(x.dtype).eps  # above the rounding error of the least eigenvalue
    factor = factorization.cholesky(gram * unit[:, None] * unit[None] + shift * identity)
    turn = unit[:, None] * factorization.inverse_lower(factor).T

    def turned(rows: Array, targets: Array, weight: Array) -> tuple[Array, Array]:
        columns = (rows - both[0][None] - x_rest[None]) @ turn
        heavy = columns * weight[:, None]
        return heavy.T @ columns, heavy.T @ (targets - both[1][None] - t_rest[None])

    gram, product = _summed(turned, x, t, weight)
    w = turn @ factorization.solve_positive(gram + ridge * turn.T @ turn, product)
    return Linear(w=w, b=both[1] + t_rest - (both[0] + x_rest) @ w)


def _summed(of: Callable[..., Any], x: Array, t: Array, weight: Array) -> Any:
    """Return the sum of a function over blocks of rows, sliced in place: padding would copy all of them."""
    size = min(BLOCK_ROWS, len(x))

    def part(place: Array) -> Any:
        # The last block overlaps the one before, and the rows of the overlap get weight 0.
        start = jnp.minimum(place * size, len(x) - size)
        rows, targets, heavy = (jax.lax.dynamic_slice_in_dim(each, start, size) for each in (x, t, weight))
        return of(rows, targets, jnp.where(start + jnp.arange(size) >= place * size, heavy, 0))

    zeros = jax.tree.map(lambda each: jnp.zeros(each.shape, each.dtype), jax.eval_shape(part, jnp.array(0)))
    return jax.lax.fori_loop(0, -(-len(x) // size), lambda i, sums: jax.tree.map(jnp.add, sums, part(i)), zeros)


def _normal(a: Array, t: Array, ridge: Array) -> Array:
    """Return W [D, C] from the normal equations."""
    gram = a.T @ a + ridge * jnp.eye(a.shape[1], dtype=a.dtype)
    return factorization.solve_positive(gram, (t.T @ a).T)  # a.T @ t would read A by columns: 5 times slower


def _pinv(a: Array, t: Array, ridge: Array) -> Array:
    """Return W [D, C] of least norm, from the singular values above rounding."""
    features = a.shape[1]
    triangle = _triangle(a, t)
    u, s, vt = factorization.svd(triangle[:, :features])
    kept = s > 10 * triangle.shape[1] * jnp.finfo(a.dtype).eps * s[0]
    shrunk = jnp.where(kept, s / jnp.where(kept, s**2 + ridge, 1), 0)
    return vt.T @ (shrunk[:, None] * (u.T @ triangle[:, features:]))


def _triangle(a: Array, t: Array) -> Array:
    """Return R [min(N, D + C), D + C] of [A T] = QR, without Q: A and T rotated into few rows."""
    return factorization.triangle(jnp.concatenate([a, t], axis=1))
