r"""Support vector machines: classifiers of two classes or more, by the kernels of `mllab.models.kernels`.

C classes make P problems of two, which `mllab.models.smo` solves: one-vs-one (each of C (C - 1) / 2 pairs has a vote)
or one-vs-rest (C scores). The problems of a fit, and the hypers and folds of a grid, are solved in one program.

Sources: Chang and Lin, *LIBSVM* (2011), sections 4 and 7; Platt, *Probabilistic outputs for support vector machines*
(1999), for the probabilities.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.sharding import Mesh, PartitionSpec

from mllab.errors import UserError, unknown
from mllab.models import calibration, kernels
from mllab.models.smo import Dual, ascend, path, solve
from mllab.types import Array, known

__all__ = ["SVM", "Dual", "apply", "decision", "fit", "grid", "solve", "support"]

SCHEMES = ("one_vs_one", "one_vs_rest")
STEPS = 1_000_000  # the most that a problem takes
TOGETHER = (
    2**14
)  # residuals that are moved in one step of many problems: in cache, and enough to hide a step's overhead
SMALL = 2**12  # rows up to which the folds of a problem are solved together


@struct.dataclass
class SVM:
    """A classifier; P problems of two classes, in the order of `pairs`."""

    inputs: Array  # [N, D] training rows, less the origin
    origin: Array  # [D]; see `_origin`
    coefficients: Array  # [P, N] alpha × sign; 0 where a row is no support vector
    bias: Array  # [P]
    slope: Array  # [] of the probabilities, see `mllab.models.calibration`
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
            Where two have more, all is NaN.

    Raises:
        UserError: a name, a shape, a label or a number that does not fit; more rows than a kernel matrix may have.
    """
    pairs(classes, scheme)
    inputs, targets, weight = _checked(inputs, targets, classes, kernel, c, gamma, weight)
    gamma = kernels.gamma_scale(inputs, weight) if gamma is None else gamma
    given = {"gamma": gamma, "degree": degree, "coef0": coef0}
    hyper = {name: jnp.asarray(given[name], inputs.dtype) for name in kernels.parts(kernel).reads}
    return _fit(
        inputs, targets, jnp.asarray(c, inputs.dtype), hyper, weight, jnp.asarray(tolerance, inputs.dtype),
        jnp.asarray(steps), kernel, classes, scheme, _pair_rows(targets, classes, scheme, pair_rows),
    )  # fmt: skip


def _checked(
    inputs: Array,
    targets: Array,
    classes: int,
    kernel: str,
    c: Array | float,
    gamma: Array | float | None,
    weight: Array | None = None,
) -> tuple[Array, Array, Array]:
    """Return inputs, targets and weight as arrays; what is wrong with them is told as far as it is known."""
    if jnp.ndim(inputs) != 2 or len(inputs) == 0:
        raise UserError(f"inputs have shape {list(jnp.shape(inputs))}: pass [examples, features]")
    n = len(inputs)
    targets = targets if isinstance(targets, jax.Array) else np.asarray(targets)
    if targets.shape != (n,) or not jnp.issubdtype(targets.dtype, jnp.integer):
        raise UserError(f"targets are {targets.dtype}{list(targets.shape)}: pass {n} integers, one an example")
    if weight is not None and jnp.shape(weight) != (n,):
        raise UserError(f"weight has shape {jnp.shape(weight)}: pass one number an example, [{n}]")
    numbers = {"c": c} | ({"gamma": gamma} if gamma is not None and "gamma" in kernels.parts(kernel).reads else {})
    for name, value in numbers.items():
        if known(value) and not np.all((np.asarray(value) > 0) & np.isfinite(value)):
            raise UserError(f"{name} = {value}: it must be above 0 and finite")
    if weight is not None and known(weight) and not np.all((np.asarray(weight) >= 0) & np.isfinite(weight)):
        raise UserError("weight: some are negative or not finite; give numbers of 0 or more")
    if known(targets):
        labels = np.asarray(targets)
        wrong = np.flatnonzero((labels < 0) | (labels >= classes))
        if wrong.size:
            raise UserError(f"row {wrong[0]} has label {labels[wrong[0]]}: {classes} classes are 0 to {classes - 1}")
    if known(inputs):
        wrong = np.flatnonzero(~np.isfinite(np.asarray(inputs)).all(axis=1))
        if wrong.size:
            raise UserError(f"row {wrong[0]} of the inputs has a number that is not finite: fill it in or leave it out")
    inputs = jnp.asarray(inputs, jnp.result_type(inputs, float))
    kernels.check_memory(n, inputs.dtype.itemsize)
    weight = jnp.ones(n, inputs.dtype) if weight is None else jnp.asarray(weight, inputs.dtype)
    return inputs, jnp.asarray(targets), weight


def _origin(inputs: Array, kernel: str) -> Array:
    """Return what rows are taken less of, [D]: the mean for the linear kernel, 0 for the others.

    The coefficients sum to 0, so that an origin changes nothing in the linear kernel's dual; rounding is relative to
    what is left.
    """
    return jnp.mean(inputs, axis=0) if kernel == "linear" else jnp.zeros(inputs.shape[1], inputs.dtype)


def _pair_rows(targets: Array, classes: int, scheme: str, given: int | None) -> int | None:
    """Return how many rows a problem has, at most; None where each has all."""
    if scheme != "one_vs_one" or classes == 2:
        return None
    if not known(targets):
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

    ids: Array  # [n] into all rows; its own first
    signs: Array  # [n] +1 or -1
    present: Array  # [n] whether a row is part of it


def _problems(targets: Array, classes: int, scheme: str, size: int | None, dtype: jnp.dtype) -> _Problem:
    """Return all P problems, `size` rows each; all rows in their order where that is None."""
    signs = _signs(targets, classes, scheme)
    if size is None:
        ids = jnp.broadcast_to(jnp.arange(len(targets))[None], signs.shape)
    else:
        beyond = jnp.sum(signs != 0, axis=1, keepdims=True) > size
        ids = jnp.argsort(signs == 0, axis=1, stable=True)[:, :size]
        signs = jnp.take_along_axis(signs, ids, axis=1)
        signs = jnp.where(beyond, jnp.nan, signs)  # rows left out unseen would be worse
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
    origin = _origin(inputs, kernel)
    inputs = inputs - origin[None]
    product, shape, _ = kernels.parts(kernel)
    matrix = shape(product(inputs, inputs), hyper)
    problems = _problems(targets, classes, scheme, pair_rows, inputs.dtype)

    def one(problem: _Problem) -> tuple[Array, ...]:
        ids, signs, present = problem
        own = matrix if pair_rows is None else matrix[ids[:, None], ids[None]]
        upper = jnp.where(present, c * weight[ids], 0)
        dual = ascend(own, signs, upper, tolerance, steps, jnp.zeros_like(signs))
        coefficients = jnp.zeros(count, inputs.dtype).at[ids].add(dual.alpha * signs)
        if pair_rows is None:
            return coefficients, dual.bias, dual.scores, dual.gap, dual.steps
        decisions = jnp.matmul(coefficients, matrix, precision="highest") + dual.bias
        return coefficients, dual.bias, decisions, dual.gap, dual.steps

    together = max(1, TOGETHER // (pair_rows or count))
    solved = jax.lax.map(one, problems, batch_size=_divisor(len(problems.ids), together))
    coefficients, bias, decisions, gap, taken = solved
    slope = calibration.slope(class_scores(decisions.T, classes, scheme), targets, weight)
    return SVM(inputs, origin, coefficients, bias, slope, hyper, gap, taken, kernel, classes, scheme)


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
        values = kernels.KERNELS[params.kernel](rows - params.origin[None], params.inputs, params.hyper)
        return jnp.matmul(values, params.coefficients.T, precision="highest") + params.bias[None]

    return kernels.in_blocks(of, inputs, block)


def apply(params: SVM, inputs: Array) -> Array:
    """Return log-probabilities [M, C] of inputs [M, D]; see `mllab.models.calibration`."""
    scores = class_scores(decision(params, inputs), params.classes, params.scheme)
    return calibration.log_probabilities(scores, params.slope)


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

    The greatest score is the class; `mllab.models.calibration` makes probabilities of them. The products of all
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
    c, gamma = jnp.asarray(c), jnp.asarray(gamma)
    inputs, targets, _ = _checked(inputs, targets, classes, kernel, c, gamma)
    if jnp.ndim(train_weight) != 2 or jnp.shape(train_weight)[1] != len(inputs):
        raise UserError(f"train_weight has shape {jnp.shape(train_weight)}: pass [folds, {len(inputs)}]")
    if jnp.ndim(gamma) != 1 or jnp.ndim(c) not in (1, 2):
        raise UserError(f"gamma and c have shapes {jnp.shape(gamma)} and {jnp.shape(c)}: pass [G], and [A] or [G, A]")
    if known(c) and np.any(np.diff(np.asarray(c), axis=-1) < 0):
        raise UserError(f"c = {np.asarray(c).tolist()}: give them ascending, each begins where the one before ended")
    count, dtype = len(gamma), inputs.dtype
    c = jnp.broadcast_to(jnp.asarray(c, dtype).reshape(-1, jnp.shape(c)[-1]), (count, jnp.shape(c)[-1]))
    given = {"gamma": gamma, "degree": degree, "coef0": coef0}
    hyper = {name: jnp.broadcast_to(jnp.asarray(given[name], dtype), (count,)) for name in kernels.parts(kernel).reads}
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
    inputs = inputs - _origin(inputs, kernel)[None]
    product, shape, _ = kernels.parts(kernel)
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
            duals = path(within, problem.signs, own_c, weight, shared.tolerance, shared.steps)
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
        specs = spread, spread, whole, whole
        decisions = jax.shard_map(part, mesh=mesh, in_specs=specs, out_specs=spread, check_vma=False)(*arguments)
    else:
        decisions = part(*arguments)
    decisions = decisions[np.argsort(dealt)[: len(tasks)]].reshape(*shape_of_all, *decisions.shape[1:])
    decisions = jnp.einsum("gpfkan->gafknp", decisions)
    return class_scores(decisions.reshape(*c.shape, len(train_weight), len(inputs), -1), classes, scheme)
