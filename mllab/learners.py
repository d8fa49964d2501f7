"""Learners: models whole, for validation and selection; see `mllab.validation.Learner`."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from mllab import sweep
from mllab.errors import UserError
from mllab.models import kmeans as clusters
from mllab.models import linear, neighbors, softmax
from mllab.models import mixture as mixtures
from mllab.models import svm as machines
from mllab.models.svm import calibration, kernels
from mllab.rows import gather
from mllab.types import Array, Examples, Hyper, Inputs, Key, Outputs, Params, Rows
from mllab.validation import Learner


def nearest_neighbors(classes: int, most: int) -> Learner:
    """Return the nearest-neighbour classifier; it reads hyper `k`, in 1 to `most`.

    Its `grid` computes distances once a fold, and from them the votes for every k; for one beyond `most` it says NaN.
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

            def voted(k: Array) -> Outputs:
                return jnp.where(k <= most, neighbors.log_probabilities(labels, weight, k, classes), jnp.nan)

            return jax.vmap(voted)(hyper["k"])

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


def svm(
    classes: int,
    kernel: str = "rbf",
    scheme: str = "one_vs_one",
    *,
    pair_rows: int | None = None,
    tolerance: float = 1e-3,
    mesh: Mesh | None = None,
) -> Learner:
    """Return the support vector machine; it reads hyper `c`, and what the kernel reads of `gamma`, `degree`, `coef0`.

    Its `grid` computes the products of a fold's examples once. `pair_rows` is the most examples that two classes have
    together: with it, one-vs-one's problems are brought together instead of masked, many times faster for many classes.
    See `svm.fit` and `svm.grid`.
    """
    machines.pairs(classes, scheme)
    reads = kernels.parts(kernel).reads
    solve = machines.solve_tasks if mesh is None else sweep.over_tasks(machines.solve_tasks, mesh)

    def fit(hyper: Hyper, key: Key, examples: Examples, rows: Rows) -> machines.SVM:
        del key  # convex: the start does not choose the optimum
        chosen = gather(examples, rows.ids)
        return machines.fit(
            chosen["inputs"].reshape(len(rows.ids), -1),
            chosen["targets"],
            classes,
            kernel=kernel,
            c=hyper["c"],
            scheme=scheme,
            weight=jnp.asarray(rows.weight),
            tolerance=tolerance,
            pair_rows=pair_rows,
            **{name: hyper[name] for name in reads if name in hyper},
        )

    def predict(params: machines.SVM, inputs: Inputs) -> Outputs:
        return machines.apply(params, inputs.reshape(len(inputs), -1))

    def grid(hyper: Hyper, key: Key, examples: Examples, train: Rows, held_out: Rows) -> Outputs:
        del key

        def fold(each: tuple[Rows, Array]) -> Outputs:
            rows, queries = each
            chosen = gather(examples, jnp.concatenate([rows.ids, queries]))
            inputs = chosen["inputs"].reshape(len(chosen["targets"]), -1)
            weight = jnp.concatenate([rows.weight, jnp.zeros(len(queries), rows.weight.dtype)])
            c = jnp.asarray(hyper["c"])
            scores = machines.grid(
                inputs,
                chosen["targets"],
                classes,
                weight[None],
                kernel=kernel,
                c=c[:, None],
                gamma=hyper["gamma"] if "gamma" in hyper else jnp.full(c.shape, kernels.gamma_scale(inputs, weight)),
                scheme=scheme,
                tolerance=tolerance,
                pair_rows=pair_rows,
                solve=solve,
                **{name: hyper[name] for name in reads if name in hyper and name != "gamma"},
            )[:, 0, 0]  # [L, N, C]

            def probable(scores: Array) -> Outputs:
                slope = calibration.slope(scores, chosen["targets"], weight)
                return calibration.log_probabilities(scores[len(rows.ids) :], slope)

            return jax.vmap(probable)(scores)

        # Fold after fold: one kernel matrix at a time, of the rows of the fold alone.
        outputs = jax.lax.map(fold, (jax.tree.map(jnp.asarray, train), jnp.asarray(held_out.ids)))
        return jnp.moveaxis(outputs, 0, 1)

    return Learner(fit, predict, grid)


def kmeans(most: int, restarts: int = 10) -> Learner:
    """Return k-means, of hyper `k` in 1 to `most`; it predicts minus the squared distance to the nearest centre.

    Its `grid` fits every k of a fold from the same starts, with shared products; for one beyond `most` it says NaN.
    """
    if most < 1 or restarts < 1:
        raise UserError(f"most = {most}, restarts = {restarts}: both must be 1 or more")

    def inputs_of(examples: Examples, ids: Array | np.ndarray) -> Array:
        return gather(examples["inputs"], ids).reshape(len(ids), -1)

    def fit(hyper: Hyper, key: Key, examples: Examples, rows: Rows) -> clusters.KMeans:
        points = inputs_of(examples, rows.ids)
        return clusters.fit(key, points, hyper["k"], restarts=restarts, weight=rows.weight, most=most)

    def predict(params: clusters.KMeans, inputs: Inputs) -> Outputs:
        return -clusters.assign(params, inputs.reshape(len(inputs), -1))[1]

    def grid(hyper: Hyper, key: Key, examples: Examples, train: Rows, held_out: Rows) -> Outputs:
        def fold(each: tuple[Rows, Array]) -> Outputs:
            rows, queries = each
            points = inputs_of(examples, rows.ids)
            swept = clusters.sweep(key, points, hyper["k"], restarts=restarts, weight=rows.weight, most=most)
            near = predict(swept, inputs_of(examples, queries))
            return jnp.where(jnp.asarray(hyper["k"])[:, None] <= most, near, jnp.nan)

        # Fold after fold, as for neighbours.
        outputs = jax.lax.map(fold, (jax.tree.map(jnp.asarray, train), jnp.asarray(held_out.ids)))
        return jnp.moveaxis(outputs, 0, 1)

    return Learner(fit, predict, grid)


def mixture(classes: int, covariance: str = "full", components: int = 1, restarts: int = 10) -> Learner:
    """Return the classifier by Gaussian mixtures, so many components a class; it reads hyper `floor`.

    Targets of -1 are rows without a label, from which it learns too. See `mixture.fit`.
    """
    if classes < 1 or components < 1:
        raise UserError(f"classes = {classes}, components = {components}: both must be 1 or more")

    def fit(hyper: Hyper, key: Key, examples: Examples, rows: Rows) -> mixtures.Mixture:
        chosen = gather(examples, rows.ids)
        return mixtures.fit(
            key,
            chosen["inputs"].reshape(len(rows.ids), -1),
            classes * components,
            covariance=covariance,
            labels=chosen["targets"],
            classes=classes,
            weight=jnp.asarray(rows.weight),
            restarts=restarts,
            floor=hyper["floor"],
        ).params

    def predict(params: mixtures.Mixture, inputs: Inputs) -> Outputs:
        return mixtures.apply(params, inputs.reshape(len(inputs), -1), classes)

    return Learner(fit, predict)
