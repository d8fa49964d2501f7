"""Linear models as learners."""

from typing import Any

import jax
import jax.numpy as jnp

from mllab import checks
from mllab.errors import UserError
from mllab.learners.common import check_hyper, checked_learner, fold_by_fold, points_of, values_of
from mllab.models import linear as linear_model
from mllab.models import softmax
from mllab.rows import gather
from mllab.types import Array, Examples, Hyper, Inputs, Key, Outputs, Rows
from mllab.validation import Axes, Learner


def softmax_regression(classes: int, tolerance: float = 1e-4) -> Learner:
    """Return softmax regression at its optimum; it reads `l2`, scikit-learn's 1 / C. See `softmax.fit`.

    Its `grid` fits one setting and fold after another, which bounds the memory; mapped over, the fits take as long. A
    start from the optimum of another penalty would save little: fits take a few steps.
    """
    checks.check_whole(2, classes=classes)
    checks.check_at_least(0, tolerance=tolerance)

    def fit(hyper: Hyper, key: Key, examples: Examples, rows: Rows) -> linear_model.Linear:
        del key  # convex: the minimum does not depend on the start
        check_hyper(hyper, ["l2"])
        weight = jnp.asarray(rows.weight)
        count = len(examples["targets"])
        if 2 * len(rows.ids) < count:
            examples = gather(examples, rows.ids)
        else:  # weights of all examples instead of a copy of most: folds and penalties then share inputs and products
            weight = jnp.zeros(count).at[rows.ids].add(weight)
        return softmax.fit(
            points_of(examples), examples["targets"], classes, l2=hyper["l2"], weight=weight, tolerance=tolerance
        ).params

    def predict(params: linear_model.Linear, inputs: Inputs) -> Outputs:
        return jax.nn.log_softmax(linear_model.apply(params, inputs.reshape(len(inputs), -1)))

    @jax.jit
    def grid(axes: Axes, key: Key, examples: Examples, train: Rows, held_out: Rows) -> Outputs:
        check_hyper(axes, ["l2"])

        def fold(rows: Rows, queries: Array) -> Outputs:
            inputs = points_of(examples, queries)
            return jax.lax.map(lambda l2: predict(fit({"l2": l2}, key, examples, rows), inputs), axes["l2"])

        return fold_by_fold(fold, train, held_out)

    def checked_grid(axes: Axes, *arguments: Any) -> Outputs:
        checks.check_at_least(0, **axes)
        return grid(axes, *arguments)

    return checked_learner(fit, predict, checked_grid, classes=classes)


def ridge(classes: None = None) -> Learner:
    r"""Return ridge regression; it reads `l2`, scikit-learn's alpha: the penalty on the sum of squared errors.

    The intercept is not penalised, and 0 is least squares, of least norm among equal solutions. Its `grid` factorises
    the inputs of a fold once for all penalties. See `linear.fit`.

    Args:
        classes: None: it is for regression alone.
    """
    if classes is not None:
        raise UserError(f"classes = {classes}: ridge is for regression, give softmax_regression in classification")
    return _least_squares(["l2"])


def linear() -> Learner:
    """Return least squares, of least norm among equal solutions; it reads no hyperparameters."""
    return _least_squares([])


def _least_squares(reads: list[str]) -> Learner:
    def fitted(l2: Array | float, examples: Examples, rows: Rows) -> linear_model.Linear:
        points, targets = points_of(examples, rows.ids), values_of(examples, rows.ids)
        return linear_model.fit(points, targets, weight=rows.weight, method="pinv", ridge=l2)

    def fit(hyper: Hyper, key: Key, examples: Examples, rows: Rows) -> linear_model.Linear:
        del key  # convex: the minimum does not depend on the start
        check_hyper(hyper, reads)
        return fitted(hyper.get("l2", 0.0), examples, rows)

    def predict(params: linear_model.Linear, inputs: Inputs) -> Outputs:
        return linear_model.values(params, inputs.reshape(len(inputs), -1))

    @jax.jit
    def grid(axes: Axes, key: Key, examples: Examples, train: Rows, held_out: Rows) -> Outputs:
        del key
        check_hyper(axes, reads)

        def fold(rows: Rows, queries: Array) -> Outputs:
            def outputs(l2: Array) -> Outputs:
                return predict(fitted(l2, examples, rows), points_of(examples, queries))

            return jax.vmap(outputs)(axes["l2"] if reads else jnp.zeros(1))

        outputs = fold_by_fold(fold, train, held_out)
        return outputs if reads else outputs[0]

    def checked_grid(axes: Axes, *arguments: Any) -> Outputs:
        checks.check_at_least(0, **axes)
        return grid(axes, *arguments)

    return checked_learner(fit, predict, checked_grid, regression=True)
