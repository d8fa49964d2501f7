"""Linear models as learners."""

import jax
import jax.numpy as jnp

from mllab import checks
from mllab.learners.common import check_hyper, checked_learner, points_of
from mllab.models import linear, softmax
from mllab.rows import gather
from mllab.types import Examples, Hyper, Inputs, Key, Outputs, Rows
from mllab.validation import Learner


def softmax_regression(classes: int, tolerance: float = 1e-4) -> Learner:
    """Return softmax regression at its optimum; it reads `l2`, scikit-learn's 1 / C. See `softmax.fit`."""
    checks.check_whole(2, classes=classes)
    checks.check_at_least(0, tolerance=tolerance)

    def fit(hyper: Hyper, key: Key, examples: Examples, rows: Rows) -> linear.Linear:
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

    def predict(params: linear.Linear, inputs: Inputs) -> Outputs:
        return jax.nn.log_softmax(linear.apply(params, inputs.reshape(len(inputs), -1)))

    return checked_learner(fit, predict, classes=classes)
