"""Learners: models whole, for validation and selection; see `mllab.validation.Learner`."""

import jax
import jax.numpy as jnp

from mllab.errors import UserError
from mllab.models import linear, neighbors, softmax
from mllab.rows import gather
from mllab.types import Array, Examples, Hyper, Inputs, Key, Outputs, Params, Rows
from mllab.validation import Learner


def nearest_neighbors(classes: int, most: int) -> Learner:
    """Return the nearest-neighbour classifier; it reads hyper `k`, in 1 to `most`.

    Its `grid` computes distances once a fold, and from them the votes for every k.
    """
    if classes < 1 or most < 1:
        raise UserError(f"classes = {classes}, most = {most}: both must be 1 or more")

    def fit(hyper: Hyper, key: Key, examples: Examples, rows: Rows) -> neighbors.Neighbors:
        del key  # nothing is random
        chosen = gather(examples, rows.ids)
        return neighbors.fit(chosen["inputs"], chosen["targets"], hyper["k"], rows.weight)

    def predict(params: neighbors.Neighbors, inputs: Inputs) -> Outputs:
        return neighbors.apply(params, inputs, classes, most)

    def grid(hyper: Hyper, key: Key, examples: Examples, train: Rows, held_out: Rows) -> Outputs:
        def fold(each: tuple[Rows, Array]) -> Outputs:
            rows, queries = each
            params = fit({"k": most}, key, examples, rows)
            inputs = gather(examples["inputs"], queries).reshape(len(queries), -1)
            ids = neighbors.nearest(params.inputs, inputs, most, params.weight).ids
            labels, weight = params.labels[ids], params.weight[ids]
            return jax.vmap(lambda k: neighbors.log_probabilities(labels, weight, k, classes))(hyper["k"])

        # Fold after fold: the memory that one fold needs is enough, and one product uses all cores.
        outputs = jax.lax.map(fold, (jax.tree.map(jnp.asarray, train), jnp.asarray(held_out.ids)))
        return jnp.moveaxis(outputs, 0, 1)

    return Learner(fit, predict, grid)


def softmax_regression(classes: int, tolerance: float = 1e-4) -> Learner:
    """Return softmax regression at its optimum; it reads hyper `l2`, scikit-learn's 1 / C. See `softmax.fit`."""

    def fit(hyper: Hyper, key: Key, examples: Examples, rows: Rows) -> Params:
        del key  # convex: the start does not choose the minimum
        weight = jnp.asarray(rows.weight)
        count = len(examples["targets"])
        if 2 * len(rows.ids) < count:
            examples = gather(examples, rows.ids)
        else:  # weights of all examples instead of copies of most: folds and penalties then share inputs and products
            weight = jnp.zeros(count).at[rows.ids].add(weight)
        inputs = jnp.asarray(examples["inputs"]).reshape(len(weight), -1)
        return softmax.fit(
            inputs, examples["targets"], classes, l2=hyper["l2"], weight=weight, tolerance=tolerance
        ).params

    def predict(params: linear.Linear, inputs: Inputs) -> Outputs:
        return jax.nn.log_softmax(linear.apply(params, inputs.reshape(len(inputs), -1)))

    return Learner(fit, predict)
