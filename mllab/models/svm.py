r"""Support vector machines with kernels, by the dual.

With signs $y_i = \pm 1$, kernel matrix K, and the weight $\omega_i$ of each example in its upper bound:

    $$ \max_\alpha D = \sum_i \alpha_i - \tfrac12 \sum_{ij} \alpha_i \alpha_j y_i y_j K_{ij}, \quad
       0 \le \alpha_i \le C \omega_i, \quad \sum_i \alpha_i y_i = 0 $$

which is the dual of

    $$ \min_{w, b} P = \tfrac12 \lVert w \rVert^2 + C \sum_i \omega_i \max(0, 1 - y_i f(x_i)), \quad
       f(x) = \sum_i \alpha_i y_i k(x_i, x) + b. $$

P ≥ D always, with equality at the optimum: the duality gap, (P - D) / P, says how far from it a solution can be.

Sequential minimal optimisation: the pair of coefficients $\beta_i = \alpha_i y_i$ that promises the greatest rise of D
is moved, one up and one down by as much, to the best that their bounds allow. With the residual
$r_i = y_i - \sum_j \beta_j K_{ij}$, the one that may rise and has the greatest r is i; of those that may fall,
j has the greatest $(r_i - r_j)^2 / (K_{ii} + K_{jj} - 2 K_{ij})$. It ends when no r that may rise exceeds one
that may fall by more than a tolerance.

C classes make problems of two: one-vs-one (a vote for each of C (C - 1) / 2 pairs) or one-vs-rest (C scores).

Sources: Fan, Chen and Lin, *Working set selection using second order information for training support vector machines*,
JMLR 6 (2005), algorithm 2; Chang and Lin, *LIBSVM* (2011), section 4; Platt, *Probabilistic outputs for support vector
machines* (1999).
"""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.sharding import Mesh, PartitionSpec

from mllab.errors import UserError, unknown
from mllab.models import kernels
from mllab.types import Array, Hyper

SCHEMES = ("one_vs_one", "one_vs_rest")
STEPS = 1_000_000  # the most that a problem takes
TOGETHER = (
    2**14
)  # residuals that are moved in one step of many problems: in cache, and enough to hide a step's overhead
SMALL = 2**12  # rows up to which the folds of a problem are solved together
NEWTON_STEPS = 30  # for the slope of the probabilities


class Dual(NamedTuple):
    """A solution, and how near to the optimum it is."""

    alpha: Array  # [N]
    bias: Array  # []
    scores: Array  # [N] decision values of all rows; those of weight 0 took no part, so theirs are out of sample
    objective: Array  # [] D
    gap: Array  # [] (P - D) / P
    steps: Array  # [] int32


class _State(NamedTuple):
    """Where the ascent stands."""

    coefficients: Array  # [N] beta
    residual: Array  # [N] signs - kernel @ coefficients
    rising: Array  # [] the id of the greatest residual that may rise
    violation: Array  # [] that residual less the least that may fall
    step: Array  # []


def solve(
    kernel: Array,
    signs: Array,
    c: Array | float,
    weight: Array,
    tolerance: Array | float,
    steps: Array | int,
    alpha: Array | None = None,
) -> Dual:
    """Return the dual's solution for one problem of two classes.

    Everything may be traced and mapped over. Rows of weight 0 keep alpha 0. A class that is alone gets all rows right
    by the bias.

    Args:
        kernel: [N, N], symmetric, positive semidefinite.
        signs: [N], +1 or -1.
        c: the upper bound of each alpha, for weight 1.
        weight: [N], at least 0.
        tolerance: the greatest violation of the optimum's conditions, in units of the decision value.
        steps: the most that are taken.
        alpha: where to start, [N], feasible; 0 by default.
    """
    kernel = jnp.asarray(kernel, jnp.result_type(kernel, float))
    signs, weight = jnp.asarray(signs, kernel.dtype), jnp.asarray(weight, kernel.dtype)
    coefficients = jnp.zeros_like(signs) if alpha is None else jnp.asarray(alpha, kernel.dtype) * signs
    return _solve(kernel, signs, jnp.asarray(c, kernel.dtype), weight, tolerance, steps, coefficients)


@jax.jit
def _solve(
    kernel: Array, signs: Array, c: Array, weight: Array, tolerance: Array, steps: Array, coefficients: Array
) -> Dual:
    residual = _residual(kernel, signs, coefficients)
    return _ascend(kernel, signs, c * weight, tolerance, steps, coefficients, residual)[0]


def _residual(kernel: Array, signs: Array, coefficients: Array) -> Array:
    return signs - jnp.matmul(kernel, coefficients, precision="highest")


def _ascend(
    kernel: Array,
    signs: Array,
    upper: Array,
    tolerance: Array | float,
    steps: Array | int,
    coefficients: Array,
    residual: Array,
) -> tuple[Dual, Array]:
    """Return the solution from this start, and its residual; `upper` [N] bounds alpha."""
    low, high = jnp.minimum(0, upper * signs), jnp.maximum(0, upper * signs)
    diagonal = jnp.diagonal(kernel)
    flat = jnp.finfo(kernel.dtype).eps * jnp.max(diagonal) + jnp.finfo(kernel.dtype).tiny  # rounding, not curvature

    def extremes(coefficients: Array, residual: Array) -> tuple[Array, Array]:
        rising = _first_greatest(jnp.where(coefficients < high, residual, -jnp.inf))
        greatest = jnp.where(coefficients[rising] < high[rising], residual[rising], -jnp.inf)
        return rising, greatest - jnp.min(jnp.where(coefficients > low, residual, jnp.inf))

    def move(state: _State) -> _State:
        beta, r, i, _, step = state
        row = kernel[i]
        rise = r[i] - r
        curvature = jnp.maximum(diagonal[i] + diagonal - 2 * row, flat)
        j = _first_greatest(jnp.where((beta > low) & (rise > 0), rise**2 / curvature, -jnp.inf))
        room_up, room_down = high[i] - beta[i], beta[j] - low[j]
        size = jnp.minimum(rise[j] / curvature[j], jnp.minimum(room_up, room_down))
        # A sum may miss the bound by rounding, and would then be moved by nothing for ever.
        beta = beta.at[i].set(jnp.where(size == room_up, high[i], beta[i] + size))
        beta = beta.at[j].set(jnp.where(size == room_down, low[j], beta[j] - size))
        r = r - size * (row - kernel[j])
        return _State(beta, r, *extremes(beta, r), step + 1)

    def climb(coefficients: Array, residual: Array, step: Array) -> _State:
        start = _State(coefficients, residual, *extremes(coefficients, residual), step)
        return jax.lax.while_loop(lambda s: (s.violation > tolerance) & (s.step < steps), move, start)

    end = climb(coefficients, residual, jnp.zeros((), jnp.int32))
    # The residual is a sum of as many terms as steps, each rounded: made anew once, it is exact enough to finish with.
    end = climb(end.coefficients, _residual(kernel, signs, end.coefficients), end.step)
    return _dual(signs, upper, low, high, end), end.residual


def _first_greatest(values: Array) -> Array:
    """Return the id of the greatest value, of equal ones the first; on a CPU several times faster than argmax."""
    last = len(values) - 1
    return jnp.min(jnp.where(values == jnp.max(values), jnp.arange(len(values)), last))


def _dual(signs: Array, upper: Array, low: Array, high: Array, end: _State) -> Dual:
    beta, r = end.coefficients, end.residual
    free = (low < beta) & (beta < high)
    # Free rows are at the margin: their residual is the bias. Without any, all between two bounds will do.
    greatest = jnp.max(jnp.where(beta < high, r, -jnp.inf))
    least = jnp.min(jnp.where(beta > low, r, jnp.inf))
    ends = jnp.stack([greatest, least])
    known = jnp.isfinite(ends)
    middle = jnp.sum(jnp.where(known, ends, 0)) / jnp.maximum(jnp.sum(known), 1)
    count = jnp.sum(free)
    bias = jnp.where(count > 0, jnp.sum(jnp.where(free, r, 0)) / jnp.maximum(count, 1), middle)
    scores = signs - r + bias
    half_norm = jnp.sum(beta * (signs - r)) / 2  # ||w||² / 2
    objective = jnp.sum(jnp.abs(beta)) - half_norm
    primal = half_norm + jnp.sum(upper * jax.nn.relu(1 - signs * scores))
    gap = (primal - objective) / jnp.maximum(primal, jnp.finfo(primal.dtype).tiny)
    return Dual(jnp.abs(beta), bias, scores, objective, gap, end.step)


def _path(kernel: Array, signs: Array, c: Array, weight: Array, tolerance: Array | float, steps: Array | int) -> Dual:
    """Return the solutions for c [A], with a leading A, each begun at the one before.

    The start is stretched by the factor that makes D greatest, as far as the bounds allow.
    """

    def following(carry: tuple[Array, Array, Array], c: Array) -> tuple[tuple[Array, Array, Array], Dual]:
        beta, fitted, before = carry
        norm = jnp.sum(beta * fitted)
        most = jnp.where(before > 0, c / before, 0)
        best = jnp.sum(jnp.abs(beta)) / jnp.maximum(norm, jnp.finfo(norm.dtype).tiny)
        stretch = jnp.minimum(best, most)
        dual, residual = _ascend(kernel, signs, c * weight, tolerance, steps, stretch * beta, signs - stretch * fitted)
        return (dual.alpha * signs, signs - residual, c), dual

    start = jnp.zeros_like(signs), jnp.zeros_like(signs), jnp.zeros_like(c[0])
    return jax.lax.scan(following, start, c)[1]


# ── Many classes ────────────────────────────────────────────────────────────────────────────────────────────────────


@struct.dataclass
class SVM:
    """A classifier; P problems of two classes, in the order of `pairs`."""

    inputs: Array  # [N, D] training rows
    coefficients: Array  # [P, N] alpha × sign; 0 where a row is no support vector
    bias: Array  # [P]
    slope: Array  # [] of the probabilities, see `log_probabilities`
    hyper: dict[str, Array]  # what the kernel reads
    gap: Array  # [P] duality gap reached, (P - D) / P
    steps: Array  # [P] int32, taken
    kernel: str = struct.field(pytree_node=False)
    classes: int = struct.field(pytree_node=False)
    scheme: str = struct.field(pytree_node=False)


def pairs(classes: int, scheme: str) -> np.ndarray:
    """Return the classes [P, 2] that each problem tells apart: the positive, and the negative or -1 for the rest.

    Two classes are one problem, class 1 the positive one. One-vs-one has C (C - 1) / 2, the later class the positive.
    """
    if scheme not in SCHEMES:
        raise unknown("scheme", scheme, SCHEMES)
    if classes < 2:
        raise UserError(f"classes = {classes}: there must be 2 or more")
    if scheme == "one_vs_one" or classes == 2:
        return np.array([(late, early) for early in range(classes) for late in range(early + 1, classes)])
    return np.array([(own, -1) for own in range(classes)])


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
    steps: Array | int = STEPS,
    pair_rows: int | None = None,
) -> SVM:
    """Return the classifier of these rows, all its problems solved in one program.

    `c`, `gamma`, `degree`, `coef0`, `weight` and `tolerance` may be traced and mapped over; the inputs and the targets
    may be traced.

    Args:
        inputs: [N, D].
        targets: labels [N], integers in 0..C-1.
        classes: C, 2 or more.
        kernel: a name in `kernels.KERNELS`.
        c: what a row within the margin costs.
        gamma: of the kernel; `kernels.gamma_scale` by default.
        degree: of the polynomial kernel.
        coef0: of the polynomial kernel.
        scheme: "one_vs_one" or "one_vs_rest".
        weight: how much each row costs, [N]; 1 by default. Rows of weight 0 are as if absent.
        tolerance: see `solve`.
        steps: the most that a problem takes.
        pair_rows: the most rows that two classes have together, where targets are traced: one-vs-one then costs less.

    Raises:
        UserError: a name, a shape, a label or a number that does not fit; more rows than a kernel matrix has memory for.
    """
    pairs(classes, scheme)
    inputs, targets, weight = _checked(inputs, targets, classes, weight, c, gamma)
    gamma = kernels.gamma_scale(inputs, weight) if gamma is None else gamma
    hyper = {name: jnp.asarray(value, inputs.dtype) for name, value in (("gamma", gamma), ("coef0", coef0))}
    hyper["degree"] = jnp.asarray(degree, inputs.dtype)
    kernels.parts(kernel)
    kernels.check_memory(len(inputs), inputs.dtype.itemsize)
    return _fit(
        inputs, targets, jnp.asarray(c, inputs.dtype), hyper, weight, jnp.asarray(tolerance, inputs.dtype),
        jnp.asarray(steps), kernel, classes, scheme, _pair_rows(targets, classes, scheme, pair_rows),
    )  # fmt: skip


def _checked(
    inputs: Array, targets: Array, classes: int, weight: Array | None, c: Array | float, gamma: Array | float | None
) -> tuple[Array, Array, Array]:
    """Return inputs, targets and weight as arrays; what is wrong with them is told as far as it is known."""
    if jnp.ndim(inputs) != 2 or len(inputs) == 0:
        raise UserError(f"inputs have shape {jnp.shape(inputs)}: pass [examples, features]")
    n = len(inputs)
    if jnp.shape(targets) != (n,) or not np.issubdtype(targets.dtype, np.integer):
        raise UserError(f"targets are {targets.dtype}{list(jnp.shape(targets))}: pass {n} integers, one an example")
    if weight is not None and jnp.shape(weight) != (n,):
        raise UserError(f"weight has shape {jnp.shape(weight)}: pass one number an example, [{n}]")
    for name, value in (("c", c), ("gamma", gamma)):
        if value is not None and _known(value) and not np.all(np.asarray(value) > 0):
            raise UserError(f"{name} = {value}: it must be above 0")
    if _known(targets):
        labels = np.asarray(targets)
        wrong = np.flatnonzero((labels < 0) | (labels >= classes))
        if wrong.size:
            raise UserError(f"row {wrong[0]} has label {labels[wrong[0]]}: {classes} classes are 0 to {classes - 1}")
    if _known(inputs):
        wrong = np.flatnonzero(~np.isfinite(np.asarray(inputs)).all(axis=1))
        if wrong.size:
            raise UserError(f"row {wrong[0]} of the inputs has a number that is not finite: fill it in or leave it out")
    inputs = jnp.asarray(inputs, jnp.result_type(inputs, float))
    weight = jnp.ones(n, inputs.dtype) if weight is None else jnp.asarray(weight, inputs.dtype)
    return inputs, jnp.asarray(targets), weight


def _known(value: object) -> bool:
    """Return whether this is a value now, not one that a compiled program will be given."""
    return not isinstance(value, jax.core.Tracer)


def _pair_rows(targets: Array, classes: int, scheme: str, given: int | None) -> int | None:
    """Return how many rows a problem has, at most; None where each has all."""
    if scheme != "one_vs_one" or classes == 2:
        return None
    if not _known(targets):
        return given
    counts = np.sort(np.bincount(np.asarray(targets), minlength=classes))
    return max(1, int(counts[-2:].sum()))


def _signs(targets: Array, classes: int, scheme: str) -> Array:
    """Return +1, -1 or 0 [P, N] of each row in each problem: positive, negative or no part of it."""
    positive, negative = jnp.asarray(pairs(classes, scheme).T)
    own = targets[None] == positive[:, None]
    other = jnp.where(negative[:, None] < 0, ~own, targets[None] == negative[:, None])
    return own.astype(jnp.int32) - other.astype(jnp.int32)


class _Problem(NamedTuple):
    """The rows of a problem of two classes, brought together."""

    ids: Array  # [n] into all rows; padding repeats some
    signs: Array  # [n] +1 or -1
    present: Array  # [n] whether a row is part of it


def _problems(targets: Array, classes: int, scheme: str, size: int | None, dtype: jnp.dtype) -> _Problem:
    """Return all P problems, `size` rows each; all rows in their order where that is None."""
    signs = _signs(targets, classes, scheme)
    if size is None:
        ids = jnp.broadcast_to(jnp.arange(len(targets))[None], signs.shape)
    else:
        ids = jnp.argsort(signs == 0, axis=1, stable=True)[:, :size]
        signs = jnp.take_along_axis(signs, ids, axis=1)
    return _Problem(ids, jnp.where(signs == 0, 1, signs).astype(dtype), signs != 0)


@partial(jax.jit, static_argnames=("kernel", "classes", "scheme", "pair_rows"))
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
) -> SVM:
    count = len(inputs)
    product, shape = kernels.parts(kernel)
    matrix = shape(product(inputs, inputs), hyper)
    problems = _problems(targets, classes, scheme, pair_rows, inputs.dtype)

    def one(problem: _Problem) -> tuple[Array, Array, Array, Array, Array]:
        ids, signs, present = problem
        own = matrix if pair_rows is None else matrix[ids[:, None], ids[None]]
        dual = _ascend(
            own, signs, jnp.where(present, c * weight[ids], 0), tolerance, steps, jnp.zeros_like(signs), signs
        )[0]
        coefficients = jnp.zeros(count, inputs.dtype).at[ids].add(dual.alpha * signs)
        return coefficients, dual.bias, dual.gap, dual.steps

    together = max(1, TOGETHER // (pair_rows or count))
    coefficients, bias, gap, taken = jax.lax.map(one, problems, batch_size=_divisor(len(problems.ids), together))
    decisions = jnp.matmul(coefficients, matrix, precision="highest").T + bias[None]
    slope = _slope(class_scores(decisions, classes, scheme), targets, weight)
    return SVM(inputs, coefficients, bias, slope, hyper, gap, taken, kernel, classes, scheme)


def _divisor(count: int, most: int) -> int:
    """Return the greatest divisor of `count` that is `most` or less: groups of one size are compiled once."""
    return max(size for size in range(1, min(count, most) + 1) if count % size == 0)


def support(params: SVM) -> Array:
    """Return which training rows are support vectors of any problem, [N]."""
    return jnp.any(params.coefficients != 0, axis=0)


def decision(params: SVM, inputs: Array) -> Array:
    """Return decision values [M, P] of inputs [M, D], a block of rows at a time; above 0 for the positive class."""
    inputs = jnp.asarray(inputs, params.inputs.dtype)
    if inputs.ndim != 2 or inputs.shape[1] != params.inputs.shape[1]:
        raise UserError(f"inputs have shape {inputs.shape}: pass [M, {params.inputs.shape[1]}], as was fitted")
    row_bytes = 4 * inputs.dtype.itemsize * len(params.inputs)
    return _decision(params, inputs, kernels.blocks_of(len(inputs), row_bytes))


@partial(jax.jit, static_argnames="block")
def _decision(params: SVM, inputs: Array, block: int) -> Array:
    def of(rows: Array) -> Array:
        values = kernels.KERNELS[params.kernel](rows, params.inputs, params.hyper)
        return jnp.matmul(values, params.coefficients.T, precision="highest") + params.bias[None]

    return kernels.in_blocks(of, inputs, block)


def apply(params: SVM, inputs: Array) -> Array:
    """Return log-probabilities [M, C] of inputs [M, D]; see `log_probabilities`."""
    scores = class_scores(decision(params, inputs), params.classes, params.scheme)
    return log_probabilities(scores, params.slope)


def class_scores(decisions: Array, classes: int, scheme: str) -> Array:
    r"""Return what each class has to say for itself [..., C], from decision values [..., P]; the greatest wins.

    One-vs-rest: its decision value. Two classes: half the decision value f, with either sign. One-vs-one: its votes,
    and, so that of equally many the greater confidence wins, less than half a vote more or less:
    $s / (3 (|s| + 1))$ for the sum s of decision values for the class less those against it.
    """
    if classes == 2:
        return jnp.concatenate([-decisions, decisions], axis=-1) / 2
    if scheme == "one_vs_rest":
        return decisions
    positive, negative = pairs(classes, scheme).T
    sides = np.eye(classes)[positive] - np.eye(classes)[negative]  # [P, C] whom a positive decision is for and against
    won = (decisions > 0).astype(decisions.dtype)
    against = jnp.asarray(sides < 0, decisions.dtype)
    votes = won @ jnp.asarray(sides > 0, decisions.dtype) + (1 - won) @ against
    confidence = jnp.matmul(decisions, jnp.asarray(sides, decisions.dtype), precision="highest")
    return votes + confidence / (3 * (jnp.abs(confidence) + 1))


def log_probabilities(scores: Array, slope: Array) -> Array:
    r"""Return $\log \mathrm{softmax}(a s)$ [..., C] of class scores s: the class of the greatest score stays first.

    One slope a for all classes, of the greatest likelihood on the training rows, with Platt's targets: a class of n
    rows is told to be seen in (n + 1) of (n + 2) cases, or separable classes would have a slope without end. For two
    classes this is Platt's sigmoid without its offset, which would move the boundary. Scores of rows that were fitted
    to are greater than those of others: the probabilities tend to be too sure of themselves.
    """
    return jax.nn.log_softmax(slope * scores)


def _slope(scores: Array, targets: Array, weight: Array) -> Array:
    """Return the slope for scores [N, C]; Newton's method on a convex function of one number, its logarithm kept low.

    Where the scores say nothing, or the opposite, the slope is small and positive, so that the order stays.
    """
    classes = scores.shape[1]
    own = (targets[:, None] == jnp.arange(classes)[None]).astype(scores.dtype)
    count = weight @ own  # [C]
    seen = ((count + 1) / (count + 2))[targets][:, None]
    wanted = own * seen + (1 - own) * (1 - seen) / (classes - 1)
    scores = scores - jnp.mean(scores, axis=1, keepdims=True)

    def step(slope: Array, _: None) -> tuple[Array, None]:
        p = jax.nn.softmax(slope * scores)
        mean = jnp.sum(p * scores, axis=1)
        first = weight @ (mean - jnp.sum(wanted * scores, axis=1))
        second = weight @ jnp.sum(p * (scores - mean[:, None]) ** 2, axis=1)
        newton = slope - first / jnp.maximum(second, jnp.finfo(scores.dtype).tiny)
        return jnp.clip(newton, slope / 2, 2 * slope), None

    return jax.lax.scan(step, jnp.ones((), scores.dtype), None, NEWTON_STEPS)[0]


# ── Grids ───────────────────────────────────────────────────────────────────────────────────────────────────────────


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
    steps: Array | int = STEPS,
    pair_rows: int | None = None,
    mesh: Mesh | None = None,
) -> Array:
    """Return class scores [G, A, K, N, C] of all rows by every gamma, C and fold, in one program.

    The greatest score is the class; `log_probabilities` and `slopes` make probabilities of them. The products of all
    rows are computed once, a kernel matrix is made of them for each gamma, and each C begins where the one before
    ended: give them ascending. Beside the matrix of products, each device holds one kernel matrix or two, and the
    decision values [G, A, K, P, N] are held whole.

    Args:
        inputs: [N, D].
        targets: labels [N], integers in 0..C-1.
        classes: C, 2 or more.
        train_weight: of each row in each fold, [K, N]; 0 where it is held out.
        kernel: a name in `kernels.KERNELS`.
        c: [A], or [G, A]: own ones for each gamma.
        gamma: [G].
        degree: of the polynomial kernel, or one for each gamma, [G].
        coef0: likewise.
        scheme: "one_vs_one" or "one_vs_rest".
        tolerance: see `solve`.
        steps: the most that a problem takes.
        pair_rows: see `fit`.
        mesh: the devices to spread problems and folds over (default: one).

    Raises:
        UserError: see `fit`.
    """
    pairs(classes, scheme)
    inputs, targets, _ = _checked(inputs, targets, classes, None, c, None if kernel == "linear" else gamma)
    if jnp.ndim(train_weight) != 2 or jnp.shape(train_weight)[1] != len(inputs):
        raise UserError(f"train_weight has shape {jnp.shape(train_weight)}: pass [folds, {len(inputs)}]")
    if jnp.ndim(gamma) != 1 or jnp.ndim(c) not in (1, 2):
        raise UserError(f"gamma and c have shapes {jnp.shape(gamma)} and {jnp.shape(c)}: pass [G], and [A] or [G, A]")
    kernels.parts(kernel)
    kernels.check_memory(len(inputs), inputs.dtype.itemsize)
    count, dtype = len(gamma), inputs.dtype
    c = jnp.broadcast_to(jnp.asarray(c, dtype).reshape(-1, jnp.shape(c)[-1]), (count, jnp.shape(c)[-1]))
    hyper = {"gamma": gamma, "degree": degree, "coef0": coef0}
    hyper = {name: jnp.broadcast_to(jnp.asarray(value, dtype), (count,)) for name, value in hyper.items()}
    return _grid(
        inputs, targets, c, hyper, jnp.asarray(train_weight, dtype), jnp.asarray(tolerance, dtype), jnp.asarray(steps),
        kernel, classes, scheme, _pair_rows(targets, classes, scheme, pair_rows), mesh,
    )  # fmt: skip


class _Shared(NamedTuple):
    """What the tasks of a grid choose from."""

    hyper: dict[str, Array]  # each [G]
    c: Array  # [G, A]
    problems: _Problem  # [P, ...]
    weight: Array  # [K / k, k, N]
    tolerance: Array  # []
    steps: Array  # []


@partial(jax.jit, static_argnames=("kernel", "classes", "scheme", "pair_rows", "mesh"))
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
    mesh: Mesh | None,
) -> Array:
    size, devices = pair_rows or len(inputs), mesh.size if mesh else 1
    product, shape = kernels.parts(kernel)
    folds = len(train_weight) if size <= SMALL else 1  # solved at once
    together = 1 if pair_rows is None else max(1, TOGETHER // (folds * size))  # problems solved at once
    shared = _Shared(
        hyper,
        c,
        _problems(targets, classes, scheme, pair_rows, inputs.dtype),
        train_weight.reshape(-1, folds, len(inputs)),
        tolerance,
        steps,
    )

    def solved(task: Array, products: Array, shared: _Shared) -> Array:
        """Return decision values [k, A, N] of a task [3]: which kernel, which problem, which folds."""
        own_hyper, own_c = jax.tree.map(lambda a: a[task[0]], (shared.hyper, shared.c))
        problem = jax.tree.map(lambda a: a[task[1]], shared.problems)
        across = shape(products if pair_rows is None else products[problem.ids], own_hyper)  # [n, N]
        within = across if pair_rows is None else across[:, problem.ids]

        def fold(weight: Array) -> Array:
            weight = jnp.where(problem.present, weight[problem.ids], 0)
            duals = _path(within, problem.signs, own_c, weight, shared.tolerance, shared.steps)
            if pair_rows is None:
                return duals.scores
            coefficients = duals.alpha * problem.signs[None]
            return jnp.matmul(coefficients, across, precision="highest") + duals.bias[:, None]

        return jax.vmap(fold)(shared.weight[task[2]])

    def part(rows: Array, tasks: Array, inputs: Array, shared: _Shared) -> Array:
        """Return the decision values of a device's tasks; the products of its rows are for all."""
        products = product(rows, inputs)
        if mesh:
            products = jax.lax.all_gather(products, "lanes", tiled=True)[: len(inputs)]
        return jax.lax.map(lambda task: solved(task, products, shared), tasks, batch_size=together)

    shape_of_all = len(c), len(shared.problems.ids), len(shared.weight)
    tasks = np.indices(shape_of_all).reshape(3, -1).T
    # Dealt out like cards, since neighbours cost alike; all hands alike, for which some tasks are done twice.
    hand = -(-len(tasks) // (devices * together)) * together
    dealt = np.arange(devices * hand).reshape(hand, devices).T.ravel()
    rows = jnp.pad(inputs, ((0, -len(inputs) % devices), (0, 0)))
    arguments = rows, jnp.asarray(tasks[dealt % len(tasks)]), inputs, shared
    if mesh:
        spread, whole = PartitionSpec("lanes"), PartitionSpec()
        specs = {"in_specs": (spread, spread, whole, whole), "out_specs": spread}
        decisions = jax.shard_map(part, mesh=mesh, check_vma=False, **specs)(*arguments)
    else:
        decisions = part(*arguments)
    decisions = decisions[np.argsort(dealt)[: len(tasks)]].reshape(*shape_of_all, *decisions.shape[1:])
    decisions = jnp.einsum("gpfkan->gafknp", decisions)
    return class_scores(decisions.reshape(*c.shape, len(train_weight), len(inputs), -1), classes, scheme)
