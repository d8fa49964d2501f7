r"""Support vector regression: values within epsilon of the target cost nothing, with the kernels of `kernels`.

    $$ \min_{w, b} \tfrac12 \lVert w \rVert^2 + C \sum_i \omega_i \max(0, |t_i - f(x_i)| - \epsilon) $$

It is solved in its dual, see `mllab.models.svm.smo`.

Source: Chang and Lin, *LIBSVM* (2011), sections 2.4 and 4.1.
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
from mllab.models.svm.classifier import MAX_STEPS
from mllab.models.svm.smo import Dual, ascend, path
from mllab.types import Array, Hyper, is_concrete


@struct.dataclass
class SupportVectorRegression:
    """A function of the inputs."""

    inputs: Array  # [N, D] training rows, less the origin
    origin: Array  # [D]; see `kernels.origin`
    coefficients: Array  # [N]; 0 where a row is no support vector
    bias: Array  # []
    hyper: dict[str, Array]  # of the kernel
    objective: Array  # [] of the dual, at its maximum that of the primal
    gap: Array  # [] relative duality gap, (P - D) / P
    steps: Array  # [] int32, taken
    kernel: str = struct.field(pytree_node=False)


def fit(
    inputs: Array,
    targets: Array,
    *,
    kernel: str = "rbf",
    c: Array | float = 1.0,
    epsilon: Array | float = 0.1,
    gamma: Array | float | None = None,
    degree: Array | int = 3,
    coef0: Array | float = 0.0,
    weight: Array | None = None,
    tolerance: Array | float = 1e-3,
    steps: Array | int = MAX_STEPS,
) -> SupportVectorRegression:
    """Return support vector regression fitted to these rows. Numbers and arrays may be traced and mapped over.

    Args:
        inputs: [N, D].
        targets: [N].
        kernel: a name in `kernels.KERNELS`.
        c: the cost of an error beyond epsilon.
        epsilon: the error that costs nothing, at least 0.
        gamma: of the kernel; `kernels.gamma_scale` by default.
        degree: of the polynomial kernel.
        coef0: of the polynomial kernel.
        weight: of each row's cost, [N]; 1 by default. Rows of weight 0 are ignored.
        tolerance: on the violation of the optimality conditions, in units of the targets.
        steps: maximum of steps.

    Raises:
        UserError: an unknown kernel, a shape that does not match, a number out of range, or more rows than a kernel
            matrix may have.
    """
    checks.check_whole(1, steps=steps)
    inputs, targets = check_examples(inputs, targets, c, epsilon, tolerance)
    weight = checks.check_weight(weight, len(inputs), inputs.dtype)
    numbers = {"gamma": gamma, "degree": degree, "coef0": coef0}
    hyper = kernels.hyper_of(kernel, numbers, inputs, weight)
    fitted = _fit(
        inputs, targets, jnp.asarray(c, inputs.dtype), jnp.asarray(epsilon, inputs.dtype), hyper, weight, tolerance,
        steps, kernel,
    )  # fmt: skip
    beyond = f"the values of the {kernel} kernel, or c times these, are beyond {inputs.dtype}"
    mend = f"{beyond}: rescale the inputs, or lower c, gamma, degree or coef0"
    return checks.finite_fit(fitted, mend, fitted.coefficients, fitted.bias)


def check_examples(
    inputs: Array, targets: Array, c: Array | float, epsilon: Array | float, tolerance: Array | float
) -> tuple[Array, Array]:
    """Return inputs and targets as arrays.

    Raises:
        UserError: see `fit`.
    """
    checks.check_positive(c=c, tolerance=tolerance)
    checks.check_at_least(0, epsilon=epsilon)
    inputs = checks.check_array(inputs, ("N", "D"), "inputs")
    targets = checks.check_array(targets, (len(inputs),), "targets").astype(inputs.dtype)
    kernels.check_memory(len(inputs), inputs.dtype.itemsize)
    return inputs, targets


@partial(jax.jit, static_argnames="kernel")
def _fit(
    inputs: Array,
    targets: Array,
    c: Array,
    epsilon: Array,
    hyper: dict[str, Array],
    weight: Array,
    tolerance: Array | float,
    steps: Array | int,
    kernel: str,
) -> SupportVectorRegression:
    origin = kernels.origin(inputs, kernel)
    inputs = inputs - origin[None]
    matrix = kernels.named(kernel)(inputs, inputs, hyper)
    signs, term, twice = _problem(targets, epsilon, weight)
    dual = ascend(matrix, signs, c * twice, tolerance, steps, jnp.zeros_like(signs), term)
    coefficients = (dual.alpha * signs).reshape(2, -1).sum(axis=0)
    return SupportVectorRegression(
        inputs, origin, coefficients, dual.bias, hyper, dual.objective, dual.gap, dual.steps, kernel
    )


def _problem(targets: Array, epsilon: Array, weight: Array) -> tuple[Array, Array, Array]:
    """Return the signs, the linear term and the weight [2 N] of the problem for `smo`."""
    ones = jnp.ones_like(targets)
    return (
        jnp.concatenate([ones, -ones]),
        jnp.concatenate([targets - epsilon, targets + epsilon]),
        jnp.concatenate([weight, weight]),
    )


def apply(params: SupportVectorRegression, inputs: Array) -> Array:
    """Return values [M] of inputs [M, D].

    Raises:
        UserError: inputs of another shape, or not finite.
    """
    inputs = checks.check_array(inputs, ("M", params.inputs.shape[1]), "inputs").astype(params.inputs.dtype)
    return kernels.expansion(
        params.kernel, params.hyper, params.inputs, params.coefficients[None], params.bias[None], inputs, params.origin
    )[:, 0]


@struct.dataclass
class Shared:
    """The data that every setting of the kernel shares."""

    inputs: Array  # [N, D] less the origin
    targets: Array  # [N]
    weight: Array  # [K, N] in training
    hyper: dict[str, Array]  # of the kernel, each [G]
    c: Array  # [A]
    epsilon: Array  # [E]
    tolerance: Array  # []
    steps: Array  # []
    kernel: str = struct.field(pytree_node=False)


def solve_tasks(tasks: Array, shared: Shared, axis: str | None = None) -> Array:
    """Return values [T, A, E, K, N] of all rows for settings of the kernel, whose ids are the tasks [T].

    Args:
        tasks: are done one after another.
        shared: the data from which they select.
        axis: the mapped axis over which tasks are divided, as by `mllab.sweep.over_tasks`.
    """
    del axis  # each device needs all products
    kernel, targets = kernels.named(shared.kernel), shared.targets
    products = kernel.product(shared.inputs, shared.inputs)

    def setting(task: Array) -> Array:
        matrix = kernel.shape(products, {name: values[task] for name, values in shared.hyper.items()})

        def solved(epsilon: Array, weight: Array) -> Dual:
            signs, term, twice = _problem(targets, epsilon, weight)
            return path(matrix, signs, shared.c, twice, shared.tolerance, shared.steps, term)

        duals = jax.vmap(jax.vmap(solved, (None, 0)), (0, None))(shared.epsilon, shared.weight)
        return jnp.einsum("ekan->aekn", duals.scores[..., : len(targets)])

    return jax.lax.map(setting, tasks)


def grid(
    inputs: Array,
    targets: Array,
    train_weight: Array,
    *,
    kernel: str = "rbf",
    c: Array,
    epsilon: Array,
    hyper: Hyper,
    tolerance: Array | float = 1e-3,
    steps: Array | int = MAX_STEPS,
    solve: Callable[[Array, Shared], Array] = solve_tasks,
) -> Array:
    """Return values [G, A, E, K, N] of all rows for every setting of the kernel, C, epsilon and fold.

    The products of all rows are computed once, a kernel matrix is made of them for each setting of the kernel, and each
    C starts from the solution of the one before, so they must be ascending. All epsilons and folds are solved at once.

    Args:
        inputs: [N, D].
        targets: [N].
        train_weight: of each row in each fold, [K, N]; 0 where it is held out.
        kernel: a name in `kernels.KERNELS`.
        c: [A].
        epsilon: [E].
        hyper: of the kernel, each [G].
        tolerance: see `fit`.
        steps: see `fit`.
        solve: solves the tasks; `mllab.sweep.over_tasks(solve_tasks, mesh)` divides them over devices.

    Raises:
        UserError: see `fit`; values of C that are not ascending.
    """
    checks.check_whole(1, steps=steps)
    c, epsilon = jnp.asarray(checks.as_numbers(c, "c")), jnp.asarray(checks.as_numbers(epsilon, "epsilon"))
    inputs, targets = check_examples(inputs, targets, c, epsilon, tolerance)
    train_weight = checks.check_array(train_weight, ("K", len(inputs)), "train_weight")
    checks.check_at_least(0, train_weight=train_weight)
    if is_concrete(c) and np.any(np.diff(np.asarray(c)) < 0):
        raise UserError(f"c = {np.asarray(c).tolist()}: expected ascending values, each starts from the one before")
    dtype = inputs.dtype
    hyper = {name: jnp.asarray(values, dtype) for name, values in hyper.items()}
    return _grid(
        inputs, targets, train_weight, c.astype(dtype), epsilon.astype(dtype), hyper,
        jnp.asarray(tolerance, dtype), jnp.asarray(steps), kernel, solve,
    )  # fmt: skip


@partial(jax.jit, static_argnames=("kernel", "solve"))
def _grid(
    inputs: Array,
    targets: Array,
    train_weight: Array,
    c: Array,
    epsilon: Array,
    hyper: dict[str, Array],
    tolerance: Array,
    steps: Array,
    kernel: str,
    solve: Callable[[Array, Shared], Array],
) -> Array:
    inputs = inputs - kernels.origin(inputs, kernel)[None]
    shared = Shared(inputs, targets, train_weight, hyper, c, epsilon, tolerance, steps, kernel)
    count = len(next(iter(hyper.values()))) if hyper else 1
    return solve(jnp.arange(count), shared)
