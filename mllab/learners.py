"""Learners: models as whole algorithms, for validation and selection; see `mllab.validation.Learner`.

    learner = learners.nearest_neighbors(classes=10, most=20)
    scores = validation.cross_validate(learner, {"k": [1, 5, 20]}, key, examples, folds, validation.accuracy)  # [3, K]

The docstrings name the hyperparameters that a learner reads; it refuses others.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from mllab import memory, sweep
from mllab.errors import UserError, unknown
from mllab.models import kmeans as clusters
from mllab.models import linear, neighbors, softmax
from mllab.models import mixture as mixtures
from mllab.models import svm as machines
from mllab.models.svm import calibration, kernels
from mllab.rows import gather
from mllab.types import Array, Examples, Hyper, Inputs, Key, Outputs, Rows
from mllab.validation import Axes, Learner


def _check_hyper(hyper: Mapping[str, Any], required: Collection[str], optional: Collection[str] = ()) -> None:
    """Raise UserError if a required hyper is missing, or one is neither required nor optional."""
    for name in hyper:
        if name not in (*required, *optional):
            raise unknown("hyper", name, (*required, *optional))
    for name in required:
        if name not in hyper:
            raise UserError(f"hyper {name!r} is missing: add it to the axes, or to the setting of a fit")


def _points(examples: Examples, ids: Array | np.ndarray | None = None) -> Array:
    """Return the inputs [M, ...] of the rows as points [M, D]."""
    inputs = jnp.asarray(examples["inputs"]) if ids is None else gather(examples["inputs"], ids)
    return inputs.reshape(len(inputs), -1)


def most_frequent(classes: int) -> Learner:
    """Return the baseline that predicts the class frequencies of its training rows; it reads no hyperparameters."""

    def fit(hyper: Hyper, key: Key, examples: Examples, rows: Rows) -> Array:
        del key
        _check_hyper(hyper, ())
        counts = jnp.zeros(classes).at[gather(examples["targets"], rows.ids)].add(rows.weight)
        return jnp.log(counts + 1) - jnp.log(jnp.sum(counts) + classes)  # + 1: a class without rows is not impossible

    def predict(params: Array, inputs: Inputs) -> Outputs:
        return jnp.broadcast_to(params, (len(jax.tree.leaves(inputs)[0]), classes))

    return Learner(fit, predict)


def nearest_neighbors(classes: int, most: int) -> Learner:
    """Return the nearest-neighbour classifier; it reads `k`, 1 to `most`.

    Its `grid` computes the distances once a fold for all k. Outputs for a k beyond `most` are NaN.

    Args:
        classes: C.
        most: the greatest k, a static size.
    """
    if classes < 1 or most < 1:
        raise UserError(f"classes = {classes}, most = {most}: both must be 1 or more")

    def fit(hyper: Hyper, key: Key, examples: Examples, rows: Rows) -> neighbors.Neighbors:
        del key  # deterministic
        _check_hyper(hyper, ["k"])
        chosen = gather(examples, rows.ids)
        return neighbors.fit(chosen["inputs"], chosen["targets"], hyper["k"], rows.weight)

    def predict(params: neighbors.Neighbors, inputs: Inputs) -> Outputs:
        return neighbors.apply(params, inputs, classes, most)

    @jax.jit
    def grid(axes: Axes, key: Key, examples: Examples, train: Rows, held_out: Rows) -> Outputs:
        _check_hyper(axes, ["k"])

        def fold(rows: Rows, queries: Array) -> Outputs:
            params = fit({"k": most}, key, examples, rows)
            ids = neighbors.nearest(params.inputs, _points(examples, queries), most, params.weight).ids
            labels, weight = params.labels[ids], params.weight[ids]

            def votes(k: Array) -> Outputs:
                return jnp.where(k <= most, neighbors.log_probabilities(labels, weight, k, classes), jnp.nan)

            return jax.vmap(votes)(axes["k"])

        return _fold_by_fold(fold, train, held_out)

    return Learner(fit, predict, grid)


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


def softmax_regression(classes: int, tolerance: float = 1e-4) -> Learner:
    """Return softmax regression at its optimum; it reads `l2`, scikit-learn's 1 / C. See `softmax.fit`."""

    def fit(hyper: Hyper, key: Key, examples: Examples, rows: Rows) -> linear.Linear:
        del key  # convex: the minimum does not depend on the start
        _check_hyper(hyper, ["l2"])
        weight = jnp.asarray(rows.weight)
        count = len(examples["targets"])
        if 2 * len(rows.ids) < count:
            examples = gather(examples, rows.ids)
        else:  # weights of all examples instead of a copy of most: folds and penalties then share inputs and products
            weight = jnp.zeros(count).at[rows.ids].add(weight)
        return softmax.fit(
            _points(examples), examples["targets"], classes, l2=hyper["l2"], weight=weight, tolerance=tolerance
        ).params

    def predict(params: linear.Linear, inputs: Inputs) -> Outputs:
        return jax.nn.log_softmax(linear.apply(params, inputs.reshape(len(inputs), -1)))

    return Learner(fit, predict)


def svm(
    classes: int,
    kernel: str = "rbf",
    scheme: str = "one_vs_one",
    *,
    degree: int = 3,
    coef0: float = 0.0,
    calibrated: bool = True,
    pair_rows: int | None = None,
    tolerance: float = 1e-3,
    steps: int = 1_000_000,
    mesh: Mesh | None = None,
) -> Learner:
    """Return the support vector machine; it reads `c` and, where the kernel does, `gamma`, `degree` and `coef0`.

    Its `grid` makes one kernel matrix of all rows for each setting of the kernel, which all C and folds share; each C,
    in ascending order, starts where the one before ended. Without `gamma` among the axes it is `kernels.gamma_scale`
    of each fold's training rows, and the folds then have kernel matrices of their own. Where a class score is not
    finite (kernel values beyond float32), all outputs of the row are NaN.

        axes = {"gamma": [0.1, 1.0], "c": [1.0, 10.0, 100.0]}
        scores = cross_validate(learners.svm(2), axes, key, examples, folds, accuracy)  # [2, 3, K]

    Args:
        classes: C, 2 or more.
        kernel: a name in `kernels.KERNELS`.
        scheme: "one_vs_one" or "one_vs_rest".
        degree: of the polynomial kernel, unless it is a hyper.
        coef0: of the polynomial kernel, unless it is a hyper.
        calibrated: outputs are log-probabilities; otherwise class scores, whose greatest is the same class.
        pair_rows: for fits of traced rows, the most rows that two classes have; see `svm.fit`.
        tolerance: see `svm.fit`.
        steps: the most steps that a problem takes.
        mesh: the devices to spread a grid over (default: one).
    """
    machines.pairs(classes, scheme)
    reads = kernels.named(kernel).reads
    fixed: dict[str, Any] = {"degree": degree, "coef0": coef0}

    def fit(hyper: Hyper, key: Key, examples: Examples, rows: Rows) -> machines.SVM:
        del key  # convex: the optimum does not depend on the start
        _check_hyper(hyper, ["c"], reads)
        chosen = gather(examples, rows.ids)
        return machines.fit(
            _points(chosen),
            chosen["targets"],
            classes,
            kernel=kernel,
            scheme=scheme,
            weight=jnp.asarray(rows.weight),
            tolerance=tolerance,
            steps=steps,
            pair_rows=pair_rows,
            **{**fixed, **hyper},
        )

    def predict(params: machines.SVM, inputs: Inputs) -> Outputs:
        points = inputs.reshape(len(inputs), -1)
        scores = machines.class_scores(machines.decision(params, points), classes, scheme)
        return outputs_of(scores, params.slope if calibrated else None)

    def outputs_of(scores: Array, slope: Array | None) -> Outputs:
        outputs = scores if slope is None else calibration.log_probabilities(scores, slope)
        return jnp.where(jnp.isfinite(scores).all(axis=-1, keepdims=True), outputs, jnp.nan)

    @jax.jit
    def held_out_of(scores: Array, targets: Array, weight: Array, ids: Array) -> Outputs:
        """Return the outputs [G, A, K, M', C] on held-out rows, from class scores [G, A, K, N, C] of all rows."""

        def fold(scores: Array, weight: Array, ids: Array) -> Outputs:
            slope = calibration.slope(scores, targets, weight.astype(scores.dtype)) if calibrated else None
            return outputs_of(scores[ids], slope)

        return jax.vmap(jax.vmap(jax.vmap(fold), (0, None, None)), (0, None, None))(scores, weight, ids)

    def grid(axes: Axes, key: Key, examples: Examples, train: Rows, held_out: Rows) -> Outputs:
        del key
        _check_hyper(axes, ["c"], reads)
        points, targets = _points(examples), examples["targets"]
        fold = jnp.arange(len(train.ids))[:, None]
        weight = jnp.zeros((len(train.ids), len(points))).at[fold, train.ids].add(train.weight)
        names = [name for name in axes if name != "c"]
        settings = jnp.meshgrid(*(axes[name] for name in names), indexing="ij")
        hyper = {**fixed, **{name: values.ravel() for name, values in zip(names, settings, strict=True)}}
        count = math.prod(len(axes[name]) for name in names)
        order = jnp.argsort(jnp.asarray(axes["c"]))

        def solved(weight: Array, gamma: Array) -> Array:
            return machines.grid(
                points,
                targets,
                classes,
                weight,
                kernel=kernel,
                c=jnp.asarray(axes["c"])[order],
                scheme=scheme,
                tolerance=tolerance,
                steps=steps,
                pair_rows=pair_rows,
                solve=machines.solve_tasks if mesh is None else sweep.over_tasks(machines.solve_tasks, mesh),
                **{**hyper, "gamma": gamma},
            )  # [G, A, k, N, C]

        if "gamma" in reads and "gamma" not in hyper:
            scales = [jnp.full(count, kernels.gamma_scale(points, each)) for each in weight]
            scores = jnp.concatenate([solved(weight[k : k + 1], scale) for k, scale in enumerate(scales)], axis=2)
        else:
            scores = solved(weight, hyper.get("gamma", jnp.ones(count)))
        outputs = held_out_of(scores[:, jnp.argsort(order)], targets, weight, held_out.ids)
        outputs = outputs.reshape(*(len(axes[name]) for name in (*names, "c")), *outputs.shape[2:])
        return jnp.moveaxis(outputs, len(names), list(axes).index("c"))

    return Learner(fit, predict, grid)


def kmeans(most: int, restarts: int = 10) -> Learner:
    """Return k-means; it reads `k`, 1 to `most`, and predicts minus the squared distance to the nearest centre.

    Its `grid` fits every k of a fold from the same starts, with shared products. Outputs for a k beyond `most` are NaN.

    Args:
        most: the greatest k, a static size.
        restarts: starts of each fit, of which the best is kept.
    """
    if most < 1 or restarts < 1:
        raise UserError(f"most = {most}, restarts = {restarts}: both must be 1 or more")

    def fit(hyper: Hyper, key: Key, examples: Examples, rows: Rows) -> clusters.KMeans:
        _check_hyper(hyper, ["k"])
        points = _points(examples, rows.ids)
        return clusters.fit(key, points, hyper["k"], restarts=restarts, weight=rows.weight, most=most)

    def predict(params: clusters.KMeans, inputs: Inputs) -> Outputs:
        return -clusters.assign(params, inputs.reshape(len(inputs), -1))[1]

    @jax.jit
    def grid(axes: Axes, key: Key, examples: Examples, train: Rows, held_out: Rows) -> Outputs:
        _check_hyper(axes, ["k"])

        def fold(rows: Rows, queries: Array) -> Outputs:
            points = _points(examples, rows.ids)
            swept = clusters.sweep(key, points, axes["k"], restarts=restarts, weight=rows.weight, most=most)
            outputs = predict(swept, _points(examples, queries))
            return jnp.where(jnp.asarray(axes["k"])[:, None] <= most, outputs, jnp.nan)

        return _fold_by_fold(fold, train, held_out)

    return Learner(fit, predict, grid)


def mixture(classes: int, covariance: str = "full", components: int = 1, restarts: int = 10) -> Learner:
    """Return the classifier by Gaussian mixtures; it reads `floor`. See `mixture.fit`.

    Targets of -1 are rows without a label, which it learns from too.

    Args:
        classes: C.
        covariance: a name in `mixture.COVARIANCES`.
        components: of each class.
        restarts: starts of each fit, of which the best is kept.
    """
    if classes < 1 or components < 1:
        raise UserError(f"classes = {classes}, components = {components}: both must be 1 or more")

    def fit(hyper: Hyper, key: Key, examples: Examples, rows: Rows) -> mixtures.Mixture:
        _check_hyper(hyper, ["floor"])
        chosen = gather(examples, rows.ids)
        return mixtures.fit(
            key,
            _points(chosen),
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


def _fold_by_fold(fold: Callable[[Rows, Array], Outputs], train: Rows, held_out: Rows) -> Outputs:
    """Return the outputs [G, K, ...] of `fold` (training rows, ids of held-out rows) -> [G, ...].

    One fold after another: that bounds the memory, and one fold's product uses all cores.
    """
    pairs = jax.tree.map(jnp.asarray, train), jnp.asarray(held_out.ids)
    return jnp.moveaxis(jax.lax.map(lambda pair: fold(*pair), pairs), 0, 1)
