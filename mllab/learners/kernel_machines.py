"""Kernel machines as learners."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from mllab import sweep
from mllab.learners.common import check_hyper, checked_learner, points_of
from mllab.models import svm as machines
from mllab.models.svm import calibration, kernels
from mllab.rows import gather
from mllab.types import Array, Examples, Hyper, Inputs, Key, Outputs, Rows
from mllab.validation import Axes, Learner


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
    solve = machines.solve_tasks if mesh is None else sweep.over_tasks(machines.solve_tasks, mesh)

    def fit(hyper: Hyper, key: Key, examples: Examples, rows: Rows) -> machines.SVM:
        del key  # convex: the optimum does not depend on the start
        check_hyper(hyper, ["c"], reads)
        chosen = gather(examples, rows.ids)
        return machines.fit(
            points_of(chosen),
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
        check_hyper(axes, ["c"], reads)
        points, targets = points_of(examples), examples["targets"]
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
                solve=solve,
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

    return checked_learner(fit, predict, grid, classes=classes)
