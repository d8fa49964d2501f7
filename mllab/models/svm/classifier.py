r"""The support vector machine: a classifier of two classes or more, with the kernels of `mllab.models.svm.kernels`.

C classes make P problems of two (`mllab.models.svm.multiclass`), each solved by `mllab.models.svm.smo`; all problems
of a fit are solved in one program.

Sources: Chang and Lin, *LIBSVM* (2011), sections 4 and 7; Platt, *Probabilistic outputs for support vector machines*
(1999), for the probabilities.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from mllab import checks
from mllab.errors import UserError
from mllab.models.svm import calibration, kernels
from mllab.models.svm.multiclass import Problem, class_scores, pairs, problem_rows, problems
from mllab.models.svm.smo import ascend
from mllab.row_blocks import divisor
from mllab.types import Array, is_concrete

MAX_STEPS = 1_000_000  # of a problem
BATCH_ROWS = 2**14  # rows of the problems that are solved at once: in cache, and enough to amortise a step's overhead


@struct.dataclass
class SVM:
    """A classifier; P problems of two classes, in the order of `pairs`."""

    inputs: Array  # [N, D] training rows, less the origin
    origin: Array  # [D]; see `kernels.origin`
    coefficients: Array  # [P, N] alpha × sign; 0 where a row is no support vector
    bias: Array  # [P]
    slope: Array  # [] of the probabilities, see `mllab.models.svm.calibration`
    hyper: dict[str, Array]  # of the kernel
    gap: Array  # [P] relative duality gap, (P - D) / P
    steps: Array  # [P] int32, taken
    kernel: str = struct.field(pytree_node=False)
    classes: int = struct.field(pytree_node=False)
    scheme: str = struct.field(pytree_node=False)


def fit(
    inputs: Array,
    targets: Array,
    classes: int,
    *,
    kernel: str = "rbf",
    c: Array | float = 1.0,
    gamma: Array | float | None = None,
    degree: Array | int = 3,
    coef0: Array | float = 0.0,
    scheme: str = "one_vs_one",
    weight: Array | None = None,
    tolerance: Array | float = 1e-3,
    steps: Array | int = MAX_STEPS,
    pair_rows: int | None = None,
    batch_rows: int = BATCH_ROWS,
) -> SVM:
    """Return the classifier fitted to these rows, all its problems solved in one program.

    `c`, `gamma`, `degree`, `coef0`, `weight` and `tolerance` may be traced and mapped over; the inputs and the targets
    may be traced.

    Args:
        inputs: [N, D].
        targets: labels [N], integers in 0..C-1.
        classes: C, 2 or more.
        kernel: a name in `kernels.KERNELS`.
        c: the cost of a point inside the margin.
        gamma: of the kernel; `kernels.gamma_scale` by default.
        degree: of the polynomial kernel.
        coef0: of the polynomial kernel.
        scheme: "one_vs_one" or "one_vs_rest".
        weight: of each row's cost, [N]; 1 by default. Rows of weight 0 are ignored.
        tolerance: see `smo.solve`.
        steps: maximum of steps for a problem.
        pair_rows: where targets are traced, an upper bound of the rows that two classes have together, which makes
            one-vs-one cheaper. If two classes have more, the result is NaN.
        batch_rows: rows of the problems that are solved at once.

    Raises:
        UserError: an unknown name, a shape or label that does not match, a number out of range, or more rows than a
            kernel matrix may have.
    """
    pairs(classes, scheme)
    checks.check_whole(1, steps=steps)
    for name, value in {"c": c, "gamma": gamma, "degree": degree, "coef0": coef0, "tolerance": tolerance}.items():
        if value is not None:
            checks.check_shape(value, (), name)
    inputs, targets, weight = check_examples(
        inputs, targets, classes, kernel, c, gamma, weight, degree=degree, coef0=coef0, tolerance=tolerance
    )
    reads = kernels.named(kernel).reads
    if gamma is None and "gamma" in reads:
        gamma = kernels.gamma_scale(inputs, weight)
    numbers = {"gamma": gamma, "degree": degree, "coef0": coef0}
    hyper = {name: jnp.asarray(numbers[name], inputs.dtype) for name in reads}
    fitted = _fit(
        inputs, targets, jnp.asarray(c, inputs.dtype), hyper, weight, jnp.asarray(tolerance, inputs.dtype),
        jnp.asarray(steps), kernel, classes, scheme, problem_rows(targets, classes, scheme, pair_rows), batch_rows,
    )  # fmt: skip
    beyond = f"the values of the {kernel} kernel, or c times these, are beyond {inputs.dtype}"
    mend = f"{beyond}: rescale the inputs, or lower c, gamma, degree or coef0"
    return checks.finite_fit(fitted, mend, fitted.coefficients, fitted.bias, fitted.slope)


def check_examples(
    inputs: Array,
    targets: Array,
    classes: int,
    kernel: str,
    c: Array | float,
    gamma: Array | float | None,
    weight: Array | None = None,
    *,
    degree: Array | int = 3,
    coef0: Array | float = 0.0,
    tolerance: Array | float = 1e-3,
) -> tuple[Array, Array, Array]:
    """Return inputs, targets and weight as arrays.

    Raises:
        UserError: see `fit`.
    """
    reads = kernels.named(kernel).reads
    read = {} if gamma is None or "gamma" not in reads else {"gamma": gamma}
    checks.check_positive(c=c, tolerance=tolerance, **read)
    if "degree" in reads:
        checks.check_at_least(1, degree=degree)
        if is_concrete(degree) and np.any(np.asarray(degree) % 1):
            raise UserError(f"degree = {degree}: expected whole numbers")
    inputs = checks.check_array(inputs, ("N", "D"), "inputs")
    targets = checks.check_labels(targets, len(inputs), classes)
    weight = checks.check_weight(weight, len(inputs), inputs.dtype)
    kernels.check_memory(len(inputs), inputs.dtype.itemsize)
    return inputs, targets, weight


@partial(jax.jit, static_argnames=("kernel", "classes", "scheme", "pair_rows", "batch_rows"))
def _fit(
    inputs: Array,
    targets: Array,
    c: Array,
    hyper: dict[str, Array],
    weight: Array,
    tolerance: Array,
    steps: Array,
    kernel: str,
    classes: int,
    scheme: str,
    pair_rows: int | None,
    batch_rows: int,
) -> SVM:
    count = len(inputs)
    origin = kernels.origin(inputs, kernel)
    inputs = inputs - origin[None]
    matrix = kernels.named(kernel)(inputs, inputs, hyper)
    both = problems(targets, classes, scheme, pair_rows, inputs.dtype)

    def one(problem: Problem) -> tuple[Array, ...]:
        ids, signs, present = problem
        within = matrix if pair_rows is None else matrix[ids[:, None], ids[None]]
        upper = jnp.where(present, c * weight[ids], 0)
        dual = ascend(within, signs, upper, tolerance, steps, jnp.zeros_like(signs))
        coefficients = jnp.zeros(count, inputs.dtype).at[ids].add(dual.alpha * signs)
        if pair_rows is None:
            return coefficients, dual.bias, dual.scores, dual.gap, dual.steps
        decisions = jnp.matmul(coefficients, matrix, precision="highest") + dual.bias
        return coefficients, dual.bias, decisions, dual.gap, dual.steps

    together = divisor(len(both.ids), batch_rows // (pair_rows or count))
    solved = jax.lax.map(one, both, batch_size=together)
    coefficients, bias, decisions, gap, taken = solved
    slope = calibration.slope(class_scores(decisions.T, classes, scheme), targets, weight)
    return SVM(inputs, origin, coefficients, bias, slope, hyper, gap, taken, kernel, classes, scheme)


def support(params: SVM) -> Array:
    """Return which training rows are support vectors of any problem, [N]."""
    return jnp.any(params.coefficients != 0, axis=0)


def decision(params: SVM, inputs: Array, block_rows: int | None = None) -> Array:
    """Return decision values [M, P] of inputs [M, D], above 0 for the positive class.

    Args:
        params: see `fit`.
        inputs: [M, D].
        block_rows: rows that are processed at once (default: what `kernels.BLOCK_BYTES` holds).

    Raises:
        UserError: inputs of another shape, or not finite.
    """
    inputs = checks.check_array(inputs, ("M", params.inputs.shape[1]), "inputs").astype(params.inputs.dtype)
    return kernels.expansion(
        params.kernel, params.hyper, params.inputs, params.coefficients, params.bias, inputs, params.origin, block_rows
    )  # fmt: skip


def apply(params: SVM, inputs: Array) -> Array:
    """Return log-probabilities [M, C] of inputs [M, D]; see `mllab.models.svm.calibration`."""
    scores = class_scores(decision(params, inputs), params.classes, params.scheme)
    return calibration.log_probabilities(scores, params.slope)
