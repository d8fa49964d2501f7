"""The axes of capacity that are measured, and the problems that have examples without end."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mllab import learners, memory
from mllab.capacity import Samples, fresh
from mllab.criteria import CRITERIA
from mllab.data.sets import synthetic
from mllab.report.table import short
from mllab.tasks import CLASSIFICATION, REGRESSION
from mllab.types import Array, Examples, Outputs, Rows
from mllab.validation import Learner

DEGREES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 29, 35, 45, 60)  # of one column
MOST_DEGREE = 100
DEGREES_OF_MANY = (1, 2, 3, 4, 5, 6, 8)
MOST_POWERS = 400  # of all columns, times the classes
PENALISED_DEGREE = 15  # of the polynomial of one column whose penalty is varied
NOISE = 0.3  # of the curve


class Axis(NamedTuple):
    """One hyperparameter that sets the capacity of a model."""

    name: str
    model: str  # in words
    label: str  # of the axis
    parameter: str
    make: Callable[[], Learner]
    values: tuple[float, ...]  # by ascending capacity
    fixed: Mapping[str, float]
    apart: bool = False  # see `capacity.along_axis`

    def shown(self, place: int) -> str:
        """Return a value in words: 'degree 5', 'k = 10'."""
        value = short(self.values[place])
        return f"{self.parameter} {value}" if self.parameter in ("degree", "width") else f"{self.letter} = {value}"

    def span(self, places: Sequence[int]) -> str:
        """Return places in words: 'k ≥ 6' where they are at an end of the axis, 'k = 3 and 5' elsewhere."""
        last, falling = len(self.values) - 1, self.values[0] > self.values[-1]
        if len(places) == 1 and places[0] not in (0, last):
            return self.shown(places[0])
        if places[0] == 0:
            return f"{self.letter} {'≥' if falling else '≤'} {short(self.values[places[-1]])}"
        if places[-1] == last:
            return f"{self.letter} {'≤' if falling else '≥'} {short(self.values[places[0]])}"
        return f"{self.letter} = {' and '.join(short(self.values[place]) for place in (places[0], places[-1]))}"

    @property
    def letter(self) -> str:
        """The hyperparameter as formulas have it."""
        return {"c": "C"}.get(self.parameter, self.parameter)


NAMES = ("degree", "width", "l2", "k", "c", "gamma")
LEARNING = ("linear", "knn", "svm")  # learners of learning curves


def axes_of(names: Sequence[str], task: str, classes: int, columns: int, rows: int, scale: float,
    degrees: Sequence[int] | None = None,
) -> list[Axis]:  # fmt: skip
    """Return the axes, each by ascending capacity.

    Args:
        names: of `NAMES`.
        task: a name in `tasks.TASKS`.
        classes: C.
        columns: D.
        rows: training rows of a sample.
        scale: 1 / (columns × variance of the inputs), the unit of gamma.
        degrees: of the polynomials, ascending; by default as many as are useful and take little time.
    """
    of_classes, is_one = classes if task == CLASSIFICATION.name else None, columns == 1
    every: tuple[int, ...] = DEGREES if is_one and of_classes is None else DEGREES_OF_MANY
    degrees = tuple(degrees or ()) or tuple(
        degree for degree in every if columns * degree * (of_classes or 1) <= MOST_POWERS
    )
    ks = sorted({round(k) for k in np.geomspace(1, max(1, rows * 0.8), 10)}, reverse=True)
    penalties = tuple(float(f"{value:.3g}") for value in np.geomspace(1e4, 1e-4, 9))
    least = {} if of_classes is None else {"l2": 1e-2}
    within = "polynomials of " + ("x" if is_one else "the columns")
    made: dict[str, Axis] = {
        "degree": Axis(
            "degree", f"{'least squares' if of_classes is None else 'softmax regression'} on {within}",
            "degree of the polynomial", "degree", lambda: learners.polynomial(of_classes, max(degrees)), degrees, least,
        ),
        "width": Axis(
            "width", "MLP, one hidden layer", "hidden units", "width",
            lambda: learners.mlp_of_width(of_classes, 128), (1, 2, 4, 8, 16, 32, 64, 128), {},
        ),
        "l2": Axis(
            "l2", ("ridge" if of_classes is None else "softmax") + (
                f", polynomial of degree {PENALISED_DEGREE}" if is_one else " regression"
            ), "penalty l2 (less is more capacity)", "l2",
            lambda: learners.polynomial(of_classes, PENALISED_DEGREE if is_one else 1), penalties,
            {"degree": PENALISED_DEGREE if is_one else 1},
        ),
        "k": Axis(
            "k", "nearest neighbours", "k, the number of neighbours (less is more capacity)", "k",
            lambda: learners.nearest_neighbors(of_classes, max(ks)), tuple(ks), {},
        ),
        "c": Axis(
            "c", "RBF SVM", "C, the cost of a row off its side", "c", lambda: _svm(of_classes),
            (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0), {"gamma": scale}, apart=True,
        ),
        "gamma": Axis(
            "gamma", "RBF SVM, C = 10", "gamma, the inverse width of the kernel", "gamma",
            lambda: _svm(of_classes), tuple(float(scale * 10.0**power) for power in (-2, -1, 0, 1, 2, 3)), {"c": 10.0},
            apart=True,
        ),
    }  # fmt: skip
    return [made[name] for name in names if name != "degree" or degrees]


def learning_learner(name: str, task: str, classes: int, rows: int) -> tuple[str, Learner, dict[str, float]]:
    """Return a learner of a learning curve in words, itself and its setting, for `rows` training rows or more."""
    of_classes = classes if task == CLASSIFICATION.name else None
    if name == "linear":
        made = learners.ridge() if of_classes is None else learners.softmax_regression(classes)
        return ("ridge" if of_classes is None else "softmax") + " regression, l2 = 1", made, {"l2": 1.0}
    if name == "knn":
        k = max(1, min(5, rows))
        return f"{k} nearest neighbours", learners.nearest_neighbors(of_classes, k), {"k": k}
    return "RBF SVM, C = 1", _svm(of_classes), {"c": 1.0}


def _svm(classes: int | None) -> Learner:
    steps = 100_000  # huge C could take minutes
    return learners.support_vector_regression(steps=steps) if classes is None else learners.svm(
        classes, calibrated=False, steps=steps
    )  # fmt: skip


def check_memory(samples: int, rows: int, most_rows: int) -> None:
    """Raise UserError if a kernel matrix of a sample, or the outputs of all samples, do not fit in memory."""
    longest = max(rows, most_rows)
    what = f"the kernel matrix of {longest:,} rows, and the outputs for {samples:,} samples,"
    memory.check(4 * (2 * longest**2 + 20 * samples * longest), what, "lower --rows, --most_rows or --samples")


# ── Errors ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Measure(NamedTuple):
    """What errors are, by task."""

    label: str
    error: Callable[[Outputs, Array], Array]  # of each row
    shown: Callable[[np.ndarray], np.ndarray]  # of a mean of these
    compared: Callable[[np.ndarray], np.ndarray]  # see `capacity.judge`


def _wrong(outputs: Outputs, targets: Array) -> Array:
    return 1 - CRITERIA["accuracy"].score()(outputs, targets)


def _squared(outputs: Outputs, targets: Array) -> Array:
    return (outputs.reshape(targets.shape) - targets) ** 2


def _log(errors: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(errors, 1e-12))


MEASURES = {
    CLASSIFICATION.name: Measure("error rate", _wrong, np.asarray, np.asarray),
    REGRESSION.name: Measure("RMSE", _squared, np.sqrt, _log),
}


def constant_errors(samples: Samples, targets: np.ndarray, task: str) -> np.ndarray:
    """Return the validation errors [R] of the best constant prediction of each sample."""
    errors = []
    for train, held_out in zip(samples.train, samples.held_out, strict=True):
        truth = np.asarray(targets, np.float64)
        if task == CLASSIFICATION.name:
            frequent = np.bincount(targets[train]).argmax()
            errors.append(np.mean(targets[held_out] != frequent))
        else:
            errors.append(math.sqrt(np.mean((truth[held_out] - truth[train].mean()) ** 2)))
    return np.array(errors)


# ── Problems ────────────────────────────────────────────────────────────────────────────────────────────────────────


def curve(x: np.ndarray) -> np.ndarray:
    """Return the values of the curve without noise, of x in [-1, 1]."""
    return np.sin(4 * x) + 0.5 * x


def generated(task: str, train: int, held_out: int, count: int, seed: int) -> tuple[dict[str, np.ndarray], Samples]:
    """Return examples of the noisy curve, or of the moons, and samples that share none of them."""
    draw, total = np.random.default_rng(seed), count * (train + held_out)
    samples = fresh(train, held_out, count)
    if task == CLASSIFICATION.name:
        points, labels = synthetic.moons(draw, total + total % 2, noise=0.35)
        order = draw.permutation(len(labels))[:total]
        return {"inputs": points[order].astype(np.float32), "targets": labels[order].astype(np.int32)}, samples
    x = draw.uniform(-1, 1, total)
    targets = curve(x) + NOISE * draw.normal(size=total)
    return {"inputs": x[:, None].astype(np.float32), "targets": targets.astype(np.float32)}, samples


def curves_at(learner: Learner, values: Sequence[float], fixed: Mapping[str, float], parameter: str,
              examples: Examples, train: np.ndarray, grid: np.ndarray) -> list[np.ndarray]:  # fmt: skip
    """Return the predictions [G] at points of a line of fits to one sample, for each value of the hyperparameter."""
    rows = Rows(train.astype(np.int32), np.ones(len(train), np.float32))
    fit = jax.jit(lambda hyper: learner.predict(learner.fit(hyper, jax.random.key(0), examples, rows),
                                                jnp.asarray(grid[:, None], jnp.float32)))  # fmt: skip
    return [np.asarray(fit({parameter: jnp.asarray(value), **fixed})) for value in values]
