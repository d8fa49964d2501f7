"""Nearest neighbours as a learner."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from mllab import checks, memory
from mllab.learners.common import check_hyper, checked_learner, fold_by_fold, points_of
from mllab.models import neighbors
from mllab.rows import gather
from mllab.types import Array, Examples, Hyper, Inputs, Key, Outputs, Rows
from mllab.validation import Axes, Learner


def nearest_neighbors(classes: int | None, most: int) -> Learner:
    """Return prediction by the nearest neighbours; it reads `k`, 1 to `most`.

    Its `grid` computes the distances once a fold for all k. Outputs for a k beyond `most` are NaN.

    Args:
        classes: C; None for regression, by the mean of the neighbours' targets.
        most: the greatest k, a static size.
    """
    checks.check_whole(1, most=most)
    if classes is not None:
        checks.check_whole(1, classes=classes)

    def fit(hyper: Hyper, key: Key, examples: Examples, rows: Rows) -> neighbors.Neighbors:
        del key  # deterministic
        check_hyper(hyper, ["k"])
        chosen = gather(examples, rows.ids)
        return neighbors.fit(chosen["inputs"], chosen["targets"], hyper["k"], rows.weight, regression=classes is None)

    def predict(params: neighbors.Neighbors, inputs: Inputs) -> Outputs:
        return neighbors.apply(params, inputs, classes, most)

    @jax.jit
    def grid(axes: Axes, key: Key, examples: Examples, train: Rows, held_out: Rows) -> Outputs:
        check_hyper(axes, ["k"])

        def fold(rows: Rows, queries: Array) -> Outputs:
            params = fit({"k": most}, key, examples, rows)
            ids = neighbors.nearest(params.inputs, points_of(examples, queries), most, params.weight).ids

            def votes(k: Array) -> Outputs:
                return jnp.where(k <= most, neighbors.outputs(params, ids, k, classes), jnp.nan)

            return jax.vmap(votes)(axes["k"])

        return fold_by_fold(fold, train, held_out)

    return checked_learner(fit, predict, grid, classes=classes, regression=classes is None)


def check_votes(queries: int, ks: Sequence[int], classes: int) -> None:
    """Raise UserError if a fold's neighbours and votes, and the outputs for all k, do not fit in memory.

    Args:
        queries: held-out rows of a fold.
        ks: numbers of neighbours.
        classes: C.
    """
    needed = 4 * queries * (max(ks) * (2 + classes) + len(ks) * classes)
    what = f"the votes of {max(ks):,} neighbours of {queries:,} rows, and the outputs for {len(ks):,} k,"
    memory.check(needed, what, "lower --k, or give fewer")
