r"""Polynomials of the inputs as a learner: every degree and penalty is a lane of one program.

The features are products of Legendre polynomials of columns that are scaled to [-1, 1] over the training rows and
clipped there. They span the same functions as monomials, and stay nearly orthogonal at high degrees, where float32
could not tell monomials apart.
"""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from mllab import checks
from mllab.learners.common import check_hyper, checked_learner, points_of, values_of
from mllab.models import linear, softmax
from mllab.rows import gather
from mllab.types import Array, Examples, Hyper, Inputs, Key, Outputs, Rows
from mllab.validation import Learner

MOST_FEATURES = 200  # with products of columns; otherwise powers of single columns alone
TOLERANCE = 1e-3  # of softmax regression


@struct.dataclass
class Polynomial:
    """A linear model of polynomial features."""

    low: Array  # [D] of the training rows
    high: Array  # [D]
    degree: Array  # []
    model: linear.Linear


def powers(columns: int, most: int) -> np.ndarray:
    """Return the degree of each column in each feature, [F, D], by ascending total degree, from 1 to `most`.

    All products of columns, unless these are more than `MOST_FEATURES`: then powers of single columns.
    """
    if columns == 1 or math.comb(columns + most, most) - 1 > MOST_FEATURES:
        return np.concatenate([degree * np.eye(columns, dtype=int) for degree in range(1, most + 1)])
    products = (itertools.combinations_with_replacement(range(columns), degree) for degree in range(1, most + 1))
    return np.array([np.bincount(each, minlength=columns) for each in itertools.chain(*products)])


def polynomial(classes: int | None, most: int) -> Learner:
    """Return least squares, or softmax regression, on polynomials of the inputs; it reads `degree` and `l2`.

    Features beyond `degree` are 0. Without a penalty least squares has the solution of least norm.

    Args:
        classes: C; None for regression.
        most: the greatest degree, a static size.

    Source: Hastie, Tibshirani and Friedman, *The Elements of Statistical Learning*, 2nd ed., section 5.1.
    """
    checks.check_whole(1, most=most)

    def features(params: Polynomial, points: Array) -> Array:
        width = params.high - params.low
        x = 2 * (points - params.low[None]) / jnp.where(width > 0, width, 1)[None] - 1
        x = jnp.clip(jnp.where((width > 0)[None], x, 0), -1, 1)
        by_degree = [jnp.ones_like(x), x]
        for degree in range(2, most + 1):
            before, last = by_degree[-2:]
            by_degree.append(((2 * degree - 1) * x * last - (degree - 1) * before) / degree)
        legendre = jnp.stack(by_degree, axis=2)  # [N, D, most + 1]
        exponents = powers(points.shape[1], most)
        made = jnp.ones((len(points), len(exponents)))
        for column in range(points.shape[1]):
            made = made * legendre[:, column, exponents[:, column]]
        return made * (exponents.sum(axis=1) <= params.degree)[None]

    def fit(hyper: Hyper, key: Key, examples: Examples, rows: Rows) -> Polynomial:
        del key  # convex
        check_hyper(hyper, ["degree"], ["l2"])
        points, weight = points_of(examples, rows.ids), jnp.asarray(rows.weight)
        used = (weight > 0)[:, None]
        low = jnp.where(used, points, jnp.inf).min(axis=0)
        high = jnp.where(used, points, -jnp.inf).max(axis=0)
        bare = Polynomial(low, high, jnp.asarray(hyper["degree"]), linear.Linear(jnp.zeros(0), jnp.zeros(0)))
        made, l2 = features(bare, points), hyper.get("l2", 0.0)
        if classes is None:
            fitted = linear.fit(made, values_of(examples, rows.ids), weight=weight, method="pinv", ridge=l2)
        else:
            labels = gather(examples["targets"], rows.ids)
            fitted = softmax.fit(made, labels, classes, l2=l2, weight=weight, tolerance=TOLERANCE, steps=200).params
        return bare.replace(model=fitted)  # type: ignore[attr-defined]

    def predict(params: Polynomial, inputs: Inputs) -> Outputs:
        made = features(params, inputs.reshape(len(inputs), -1))
        if classes is None:
            return linear.values(params.model, made)
        return jax.nn.log_softmax(linear.apply(params.model, made))

    return checked_learner(fit, predict, classes=classes, regression=classes is None)
