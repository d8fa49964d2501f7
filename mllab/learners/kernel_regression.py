"""Kernel ridge and support vector regression as learners."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from mllab import checks, memory, sweep
from mllab.learners.common import check_hyper, checked_learner, points_of, values_of
from mllab.models import kernel_ridge as ridges
from mllab.models.svm import kernels, regression
from mllab.types import Array, Examples, Hyper, Inputs, Key, Outputs, Rows
from mllab.validation import Axes, Learner

REMEDY = "give fewer rows, or ridge or boosted_trees instead"


def kernel_ridge(kernel: str = "rbf", *, degree: int = 3, coef0: float = 0.0) -> Learner:
    """Return kernel ridge regression; it reads `l2` and, where the kernel does, `gamma`, `degree` and `coef0`.

    Its `grid` makes one kernel matrix for each setting of the kernel and fold, which all penalties share. Without
    `gamma` it is `kernels.gamma_scale` of the training rows. Outputs are NaN where a fit is not finite.

    Args:
        kernel: a name in `kernels.KERNELS`.
        degree: of the polynomial kernel, unless it is a hyper.
        coef0: of the polynomial kernel, unless it is a hyper.
    """
    reads = kernels.named(kernel).reads
    fixed: dict[str, Any] = {"degree": degree, "coef0": coef0}

    def fit(hyper: Hyper, key: Key, examples: Examples, rows: Rows) -> ridges.KernelRidge:
        del key  # deterministic
        check_hyper(hyper, ["l2"], reads)
        _check_memory("kernel_ridge", len(rows.ids), 3)
        points, targets = points_of(examples, rows.ids), values_of(examples, rows.ids)
        return ridges.fit(points, targets, kernel=kernel, weight=jnp.asarray(rows.weight), **{**fixed, **hyper})

    def predict(params: ridges.KernelRidge, inputs: Inputs) -> Outputs:
        return ridges.apply(params, inputs.reshape(len(inputs), -1))

    @jax.jit
    def outputs_of(l2: Array, hyper: Hyper, examples: Examples, train: Rows, held_out: Rows) -> Outputs:
        """Return the outputs [G, A, K, M'] for hyperparameters [G, K] of the kernel."""
        points, of_kernel = points_of(examples), kernels.named(kernel)

        def fold(rows: Rows, ids: Array, hyper: Hyper) -> Outputs:
            train, held_out = points[rows.ids], points[ids]
            within, across = of_kernel.product(train, train), of_kernel.product(held_out, train)
            targets, weight = values_of(examples, rows.ids), jnp.asarray(rows.weight, points.dtype)

            def setting(hyper: Hyper) -> Outputs:
                matrix, queries = of_kernel.shape(within, hyper), of_kernel.shape(across, hyper)

                def one(l2: Array) -> Outputs:
                    coefficients, bias = ridges.solve(matrix, targets, weight, l2)
                    return jnp.matmul(queries, coefficients, precision="highest") + bias

                return jax.lax.map(one, l2)

            return jax.lax.map(setting, hyper) if hyper else setting(hyper)[None]

        by_fold = {name: values.T for name, values in hyper.items()}
        outputs = jax.lax.map(lambda each: fold(*each), (train, held_out.ids, by_fold))  # bounds the memory
        return outputs.transpose(1, 2, 0, 3)

    def grid(axes: Axes, key: Key, examples: Examples, train: Rows, held_out: Rows) -> Outputs:
        del key
        check_hyper(axes, ["l2"], reads)
        checks.check_at_least(0, l2=axes["l2"])
        _check_memory("kernel_ridge", train.ids.shape[1], 3)
        train, held_out = jax.tree.map(jnp.asarray, (train, held_out))
        hyper = _of_kernel(kernel, axes, fixed, examples, train)
        outputs = outputs_of(jnp.asarray(axes["l2"]), hyper, examples, train, held_out)
        return _in_order(outputs, axes, ["l2"])

    return checked_learner(fit, predict, grid, regression=True)


def support_vector_regression(
    kernel: str = "rbf",
    *,
    degree: int = 3,
    coef0: float = 0.0,
    tolerance: float = 1e-3,
    steps: int = 1_000_000,
    mesh: Mesh | None = None,
) -> Learner:
    """Return support vector regression.

    It reads `c`, `epsilon` (0.1 by default) and, where the kernel does, `gamma`, `degree` and `coef0`.

    Its `grid` makes one kernel matrix of all rows for each setting of the kernel, which all C, epsilon and folds share;
    each C, in ascending order, starts where the one before ended. Without `gamma` among the axes it is
    `kernels.gamma_scale` of each fold's training rows, and the folds then have kernel matrices of their own.

    Args:
        kernel: a name in `kernels.KERNELS`.
        degree: of the polynomial kernel, unless it is a hyper.
        coef0: of the polynomial kernel, unless it is a hyper.
        tolerance: see `regression.fit`.
        steps: the most steps that a fit takes.
        mesh: the devices to spread a grid's settings of the kernel over (default: one).
    """
    reads = kernels.named(kernel).reads
    fixed: dict[str, Any] = {"degree": degree, "coef0": coef0}
    limits: dict[str, Any] = {"kernel": kernel, "tolerance": tolerance, "steps": steps}
    solve = regression.solve_tasks if mesh is None else sweep.over_tasks(regression.solve_tasks, mesh)

    def fit(hyper: Hyper, key: Key, examples: Examples, rows: Rows) -> regression.SupportVectorRegression:
        del key  # convex: the optimum does not depend on the start
        check_hyper(hyper, ["c"], ("epsilon", *reads))
        _check_memory("support_vector_regression", len(rows.ids), 1)
        points, targets = points_of(examples, rows.ids), values_of(examples, rows.ids)
        return regression.fit(points, targets, weight=jnp.asarray(rows.weight), **limits, **{**fixed, **hyper})

    def predict(params: regression.SupportVectorRegression, inputs: Inputs) -> Outputs:
        return regression.apply(params, inputs.reshape(len(inputs), -1))

    def grid(axes: Axes, key: Key, examples: Examples, train: Rows, held_out: Rows) -> Outputs:
        del key
        check_hyper(axes, ["c"], ("epsilon", *reads))
        points = points_of(examples)
        _check_memory("support_vector_regression", len(points), 2)
        train, held_out = jax.tree.map(jnp.asarray, (train, held_out))
        fold, queries = jnp.arange(len(train.ids))[:, None], jnp.asarray(held_out.ids)
        weight = jnp.zeros((len(train.ids), len(points))).at[fold, train.ids].add(train.weight)
        order = jnp.argsort(jnp.asarray(axes["c"]))
        epsilon = axes.get("epsilon", jnp.array([0.1]))

        def solved(weight: Array, held_out: Array, hyper: Hyper) -> Outputs:
            """Return the outputs [G, A, E, k, M'] of some folds."""
            values = regression.grid(
                points, values_of(examples, jnp.arange(len(points))), weight, c=jnp.asarray(axes["c"])[order],
                epsilon=epsilon, hyper=hyper, solve=solve, **limits,
            )  # fmt: skip
            return jnp.take_along_axis(values, held_out[None, None, None], axis=-1)

        hyper = _of_kernel(kernel, axes, fixed, examples, train)
        if "gamma" in reads and "gamma" not in axes:
            one_by_one = []
            for k in range(len(weight)):
                of_fold = {name: values[:, k] for name, values in hyper.items()}
                one_by_one.append(solved(weight[k : k + 1], queries[k : k + 1], of_fold))
            outputs = jnp.concatenate(one_by_one, axis=3)
        else:
            outputs = solved(weight, queries, {name: values[:, 0] for name, values in hyper.items()})
        outputs = outputs[:, jnp.argsort(order)]
        if "epsilon" not in axes:
            return _in_order(outputs[:, :, 0], axes, ["c"])
        return _in_order(outputs, axes, ["c", "epsilon"])

    return checked_learner(fit, predict, grid, regression=True)


def _of_kernel(kernel: str, axes: Axes, fixed: dict[str, Any], examples: Examples, train: Rows) -> dict[str, Array]:
    """Return the hyperparameters [G, K] that the kernel reads, for all G settings of its axes and every fold."""
    reads = kernels.named(kernel).reads
    names = [name for name in axes if name in reads]
    if "gamma" in names:
        checks.check_positive(gamma=axes["gamma"])
    count, folds = math.prod(len(axes[name]) for name in names), len(train.ids)
    settings = jnp.meshgrid(*(jnp.asarray(axes[name], jnp.float32) for name in names), indexing="ij")
    chosen: dict[str, Any] = {name: values.ravel()[:, None] for name, values in zip(names, settings, strict=True)}
    if "gamma" in reads and "gamma" not in axes:
        points = points_of(examples)
        chosen["gamma"] = jnp.stack(
            [kernels.gamma_scale(points[ids], weight) for ids, weight in zip(train.ids, train.weight, strict=True)]
        )
    return {
        name: jnp.broadcast_to(jnp.asarray(chosen.get(name, fixed.get(name)), jnp.float32), (count, folds))
        for name in reads
    }  # fmt: skip


def _in_order(outputs: Outputs, axes: Axes, inner: list[str]) -> Outputs:
    """Return outputs [G, *inner axes, K, M'] with the axes in their order, G being all axes of the kernel."""
    names = [*(name for name in axes if name not in inner), *inner]
    outputs = outputs.reshape(*(len(axes[name]) for name in names), *outputs.shape[1 + len(inner) :])
    return outputs.transpose(*(names.index(name) for name in axes), len(names), len(names) + 1)


def _check_memory(name: str, rows: int, matrices: int) -> None:
    """Raise UserError if kernel matrices [rows, rows] in float32 do not fit in memory."""
    memory.check(4 * matrices * rows**2, f"the kernel matrices of {name} for {rows:,} rows", REMEDY)
