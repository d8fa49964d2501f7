"""Support vector machines for a grid of gamma and C on every fold, in one program that shares kernel matrices.

The grid consists of independent tasks, one for each gamma, problem and set of folds; `solve_tasks` solves some of them.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from mllab import checks
from mllab.errors import UserError
from mllab.models.svm import kernels
from mllab.models.svm.classifier import BATCH_ROWS, MAX_STEPS, check_examples
from mllab.models.svm.multiclass import Problem, class_scores, pairs, problem_rows, problems
from mllab.models.svm.smo import path
from mllab.types import Array, is_concrete

FOLD_ROWS = 2**12  # rows of a problem up to which all its folds are solved at once


@struct.dataclass
class Shared:
    """The data from which every task of a grid selects."""

    inputs: Array  # [N, D] less the origin
    hyper: dict[str, Array]  # of the kernel, each [G]
    c: Array  # [G, A]
    problems: Problem  # [P, ...]
    weight: Array  # [K / k, k, N]
    tolerance: Array  # []
    steps: Array  # []
    kernel: str = struct.field(pytree_node=False)
    gathered: bool = struct.field(pytree_node=False)  # whether a problem has only the rows of its two classes


def solve_tasks(tasks: Array, shared: Shared, axis: str | None = None) -> Array:
    """Return decision values [T, B, k, A, N] of tasks [T, B, 3]: the ids of a gamma, a problem and k folds.

    Args:
        tasks: T batches, one after another, of B tasks that are solved at once.
        shared: the data from which they select.
        axis: the mapped axis over which the tasks are divided, as by `mllab.sweep.over_tasks`: each device then
            computes its part of the products of rows and gathers the others.
    """
    kernel = kernels.named(shared.kernel)
    inputs = shared.inputs
    if axis is None:
        products = kernel.product(inputs, inputs)
    else:
        size = -(-len(inputs) // jax.lax.axis_size(axis))
        padded = jnp.pad(inputs, ((0, size * jax.lax.axis_size(axis) - len(inputs)), (0, 0)))
        rows = jax.lax.dynamic_slice_in_dim(padded, size * jax.lax.axis_index(axis), size)
        products = jax.lax.all_gather(kernel.product(rows, inputs), axis, tiled=True)[: len(inputs)]

    def solved(task: Array) -> Array:
        hyper, c = jax.tree.map(lambda a: a[task[0]], (shared.hyper, shared.c))
        problem = jax.tree.map(lambda a: a[task[1]], shared.problems)
        across = kernel.shape(products[problem.ids] if shared.gathered else products, hyper)  # [n, N]
        within = across[:, problem.ids] if shared.gathered else across

        def fold(weight: Array) -> Array:
            weight = jnp.where(problem.present, weight[problem.ids], 0)
            duals = path(within, problem.signs, c, weight, shared.tolerance, shared.steps)
            if not shared.gathered:
                return duals.scores
            coefficients = duals.alpha * problem.signs[None]
            return jnp.matmul(coefficients, across, precision="highest") + duals.bias[:, None]

        return jax.vmap(fold)(shared.weight[task[2]])

    return jax.lax.map(jax.vmap(solved), tasks)


def grid(
    inputs: Array,
    targets: Array,
    classes: int,
    train_weight: Array,
    *,
    kernel: str = "rbf",
    c: Array,
    gamma: Array,
    degree: Array | int = 3,
    coef0: Array | float = 0.0,
    scheme: str = "one_vs_one",
    tolerance: Array | float = 1e-3,
    steps: Array | int = MAX_STEPS,
    pair_rows: int | None = None,
    batch_rows: int = BATCH_ROWS,
    fold_rows: int = FOLD_ROWS,
    solve: Callable[[Array, Shared], Array] = solve_tasks,
) -> Array:
    """Return class scores [G, A, K, N, C] of all rows for every gamma, C and fold, in one program.

    The greatest score is the class; `mllab.models.svm.calibration` turns scores into probabilities. The products of all
    rows are computed once, a kernel matrix is made of them for each gamma, and each C starts from the solution of the
    one before, so they must be ascending. Memory: the matrix of products, one or two kernel matrices (on each device),
    and the decision values [G, A, K, P, N].

    Args:
        inputs: [N, D].
        targets: labels [N], integers in 0..C-1.
        classes: C, 2 or more.
        train_weight: of each row in each fold, [K, N]; 0 where it is held out.
        kernel: a name in `kernels.KERNELS`.
        c: [A], or [G, A] with other values for each gamma.
        gamma: [G].
        degree: of the polynomial kernel, [] or [G].
        coef0: of the polynomial kernel, [] or [G].
        scheme: "one_vs_one" or "one_vs_rest".
        tolerance: see `smo.solve`.
        steps: maximum of steps for a problem.
        pair_rows: see `fit`.
        batch_rows: rows of the problems that are solved at once.
        fold_rows: rows of a problem up to which all its folds are solved at once.
        solve: solves the tasks; `mllab.sweep.over_tasks(solve_tasks, mesh)` divides them over devices.

    Raises:
        UserError: see `fit`; values of C that are not ascending.
    """
    pairs(classes, scheme)
    checks.check_whole(1, steps=steps)
    c, gamma = jnp.asarray(checks.as_numbers(c, "c")), jnp.asarray(checks.as_numbers(gamma, "gamma"))
    inputs, targets, _ = check_examples(
        inputs, targets, classes, kernel, c, gamma, degree=degree, coef0=coef0, tolerance=tolerance
    )
    train_weight = checks.check_array(train_weight, ("K", len(inputs)), "train_weight")
    checks.check_at_least(0, train_weight=train_weight)
    if jnp.ndim(gamma) != 1 or jnp.ndim(c) not in (1, 2):
        raise UserError(f"gamma and c: shapes {list(gamma.shape)} and {list(c.shape)}, expected [G], and [A] or [G, A]")
    if is_concrete(c) and np.any(np.diff(np.asarray(c), axis=-1) < 0):
        raise UserError(f"c = {np.asarray(c).tolist()}: expected ascending values, each starts from the one before")
    count, dtype = len(gamma), inputs.dtype
    c = jnp.broadcast_to(jnp.asarray(c, dtype).reshape(-1, jnp.shape(c)[-1]), (count, jnp.shape(c)[-1]))
    numbers = {"gamma": gamma, "degree": degree, "coef0": coef0}
    hyper = {
        name: jnp.broadcast_to(jnp.asarray(numbers[name], dtype), (count,)) for name in kernels.named(kernel).reads
    }
    return _grid(
        inputs, targets, c, hyper, jnp.asarray(train_weight, dtype), jnp.asarray(tolerance, dtype), jnp.asarray(steps),
        kernel, classes, scheme, problem_rows(targets, classes, scheme, pair_rows), batch_rows, fold_rows, solve,
    )  # fmt: skip


@partial(
    jax.jit, static_argnames=("kernel", "classes", "scheme", "pair_rows", "batch_rows", "fold_rows", "solve")
)  # fmt: skip
def _grid(
    inputs: Array,
    targets: Array,
    c: Array,
    hyper: dict[str, Array],
    train_weight: Array,
    tolerance: Array,
    steps: Array,
    kernel: str,
    classes: int,
    scheme: str,
    pair_rows: int | None,
    batch_rows: int,
    fold_rows: int,
    solve: Callable[[Array, Shared], Array],
) -> Array:
    size = pair_rows or len(inputs)
    folds = len(train_weight) if size <= fold_rows else 1  # of a task
    batch = 1 if pair_rows is None else max(1, batch_rows // (folds * size))  # tasks that are solved at once
    shared = Shared(
        inputs - kernels.origin(inputs, kernel)[None],
        hyper,
        c,
        problems(targets, classes, scheme, pair_rows, inputs.dtype),
        train_weight.reshape(-1, folds, len(inputs)),
        tolerance,
        steps,
        kernel,
        pair_rows is not None,
    )
    sizes = len(c), len(shared.problems.ids), len(shared.weight)
    tasks = np.indices(sizes).reshape(3, -1).T
    padded = tasks[np.arange(-(-len(tasks) // batch) * batch) % len(tasks)]  # the last batch repeats some
    decisions = solve(jnp.asarray(padded.reshape(-1, batch, 3)), shared)
    decisions = decisions.reshape(-1, *decisions.shape[2:])[: len(tasks)].reshape(*sizes, *decisions.shape[2:])
    decisions = jnp.einsum("gpfkan->gafknp", decisions)
    return class_scores(decisions.reshape(*c.shape, len(train_weight), len(inputs), -1), classes, scheme)
