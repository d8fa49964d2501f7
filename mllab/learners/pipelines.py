"""A learner of a table's columns: the preprocessing, fitted to its training rows, and the learner of its outputs.

Cross-validating it fits the preprocessing to the training rows of every fold anew, so no held-out row influences it.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mllab.models import preprocessing
from mllab.models.preprocessing import Columns, Layout, Preprocessing
from mllab.types import Array, Examples, Hyper, Key, Outputs, Params, Rows
from mllab.validation import Axes, Learner


class Pipeline(NamedTuple):
    """What the `fit` of a preprocessed learner returns."""

    preprocessing: Preprocessing
    params: Params


def preprocessed(learner: Learner, layout: Layout, transform: str = "standard") -> Learner:
    """Return the learner of examples whose inputs are `Columns`; see `models.preprocessing`.

        table = preprocessed(learners.svm(2), layout)
        examples = {"inputs": columns, "targets": targets}
        scores = cross_validate(table, {"c": [1.0, 10.0]}, key, examples, folds, accuracy)

    Args:
        learner: of inputs [N, D].
        layout: of the columns.
        transform: of numbers, a name in `preprocessing.TRANSFORMS`.
    """
    fitted = partial(_fitted, layout=layout, transform=transform)

    def fit(hyper: Hyper, key: Key, examples: Examples, rows: Rows) -> Pipeline:
        params, inputs = fitted(examples["inputs"], rows.ids, rows.weight)
        return Pipeline(params, learner.fit(hyper, key, {**examples, "inputs": inputs}, rows))

    def predict(params: Pipeline, inputs: Columns) -> Outputs:
        return learner.predict(params.params, _applied(params.preprocessing, inputs))

    def grid(axes: Axes, key: Key, examples: Examples, train: Rows, held_out: Rows) -> Outputs:
        folds = range(len(train.ids))
        by_fold = (fitted(examples["inputs"], train.ids[k], train.weight[k])[1] for k in folds)
        if learner.by_fold:
            stacked = {**examples, "inputs": jnp.stack(list(by_fold))}
            return learner.by_fold(axes, key, stacked, train, held_out)
        assert learner.grid
        outputs = []
        for k, inputs in zip(folds, by_fold, strict=True):
            one = jax.tree.map(lambda a, k=k: a[k : k + 1], (train, held_out))
            outputs.append(learner.grid(axes, key, {**examples, "inputs": inputs}, *one))
        return jax.tree.map(lambda *each: jnp.concatenate(each, axis=len(axes)), *outputs)

    return Learner(
        fit, predict, grid if learner.grid or learner.by_fold else None, learner.check, takes_missing=True
    )  # fmt: skip


@partial(jax.jit, static_argnames=("layout", "transform"))
def _fitted(
    columns: Columns, ids: Array, weight: Array, *, layout: Layout, transform: str
) -> tuple[Preprocessing, Array]:
    """Return the preprocessing that is fitted to some rows, and the inputs [N, D] of all rows."""
    used = jnp.zeros(len(columns.numbers)).at[ids].max((jnp.asarray(weight) > 0).astype(jnp.float32))
    params = preprocessing.fit(columns, used, layout=layout, transform=transform)
    return params, preprocessing.apply(params, columns)


@jax.jit
def _applied(params: Preprocessing, columns: Columns) -> Array:
    return preprocessing.apply(params, columns)
