"""One kernel tuned by cross-validation, fitted with its chosen setting, and tested; and its machines over the plane."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import frame
from mllab import learners, memory, metrics, selection, validation
from mllab.errors import UserError
from mllab.metrics import Interval
from mllab.models import svm
from mllab.models.svm import kernels
from mllab.report import draw
from mllab.report.report import Drawing
from mllab.report.table import Table, plain, short
from mllab.types import Array

NAMES = {"linear": "linear", "polynomial": "polynomial", "rbf": "RBF"}
TOLERANCE, FINAL_TOLERANCE = 1e-3, 1e-5  # of the optimality conditions: in cross-validation (as LIBSVM), and at the end
MAX_STEPS = 100_000  # of a binary problem: huge C or kernel values could take minutes
SOLVER = (
    f"SMO on the dual, to a tolerance of {plain(TOLERANCE)} in cross-validation and {plain(FINAL_TOLERANCE)} for the "
    f"tested machines, at most {MAX_STEPS:,} steps a problem"
)
BINARY_FIELD = (
    "f is the decision value: above 0 for one class, below for the other. Support vectors lie on the margin, inside "
    "it, or on the wrong side."
)
FIELDS = {  # what the lines in the plane are
    "one_vs_one": "Each pair of classes has a decision value f. The lines of a class: where the least f by which it "
    "wins its pairs is 0, and where it is 1.",
    "one_vs_rest": "Each class has a decision value f, against all others. Its lines: where f is 0, and where it is 1.",
}
RISE = 0.005  # of accuracy between neighbouring settings: less is a plateau


@dataclass(frozen=True)
class Tuned:
    """One kernel: its accuracy at each setting, and its machines with the chosen one."""

    kernel: str
    c: float  # chosen
    gamma: float | None  # None for the linear kernel
    held_out: Interval
    held_out_by_fold: list[float]
    test: float
    test_interval: tuple[float, float]
    support_vectors: int
    problems: int  # binary ones
    short: int  # of these, stopped at MAX_STEPS
    gap: float  # the largest duality gap, primal less dual, as a share of the primal
    steps: int
    grid: list[list[float]]  # held-out accuracy at each setting, [G, C]
    choice: selection.Choice = frame.unsaved()
    params: svm.SVM = frame.unsaved()
    predicted: np.ndarray = frame.unsaved()  # [M] class of each test row

    def setting(self, joined: str = " and ") -> str:
        """Return the chosen C and gamma in words."""
        return f"C = {short(self.c)}" + ("" if self.gamma is None else f"{joined}gamma = {short(self.gamma)}")

    def place(self) -> tuple[int, int]:
        """Return where in [G, C] the chosen setting is."""
        column, *row = self.choice.index
        return (row or [0])[0], column

    def edges(self) -> Iterator[str]:
        """Yield a sentence for each axis whose end was chosen while the accuracy still rises towards it."""
        for edge in self.choice.edges(RISE):
            axis = "C" if edge.axis == "c" else edge.axis
            yield (
                f"{NAMES[self.kernel]}: held-out accuracy still rises by {100 * edge.rise:.1f} points at the "
                f"{edge.end} {axis} of the grid, {short(edge.value)}: a better one may lie beyond it."
            )

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield one record a setting for metrics.jsonl; that of the chosen one has the test accuracy."""
        gammas = self.choice.axes.get("gamma", [None])
        scores = self.choice.scores.reshape(len(self.choice.axes["c"]), len(gammas), -1)
        for (row, gamma), (column, c) in itertools.product(enumerate(gammas), enumerate(self.choice.axes["c"])):
            by_fold = scores[column, row]
            setting = {"c": float(c), "gamma": None if gamma is None else float(gamma)}
            accuracy = {"held_out_accuracy": by_fold.mean(), "held_out_accuracy_by_fold": by_fold}
            tested = {"test_accuracy": self.test} if (row, column) == self.place() else {}
            yield {"kernel": self.kernel, **setting, **accuracy, **tested}


def axes_of(kernel: str, axes: validation.Axes) -> validation.Axes:
    """Return the C and, if the kernel reads it, the gamma to choose from."""
    return {"c": axes["c"]} | ({"gamma": axes["gamma"]} if "gamma" in kernels.named(kernel).reads else {})


def check_memory(
    names: Sequence[str], scheme: str, classes: int, axes: validation.Axes, folds: validation.Folds
) -> None:
    """Raise UserError if two kernel matrices, and the decision values and class scores of all fits, do not fit."""
    rows = int(np.max(folds.train.ids)) + 1
    fits = len(folds.train.ids) * max(math.prod(map(len, axes_of(kernel, axes).values())) for kernel in names)
    numbers = 2 * rows + fits * (len(svm.pairs(classes, scheme)) + classes)  # for each row
    what = f"two kernel matrices of {rows:,} rows, and the decision values of {fits:,} settings and folds,"
    memory.check(4 * rows * numbers, what, "lower --rows, --folds, --rounds or the numbers of --c and --gamma")


def tune(
    kernel: str,
    classes: int,
    axes: validation.Axes,
    examples: Mapping[str, Array],
    folds: validation.Folds,
    test: tuple[Array, np.ndarray],
    mesh: Any,
    **options: Any,
) -> Tuned:
    """Choose C and gamma on folds, of equally good ones the least C, then the least gamma; fit to all rows, and test.

    Args:
        kernel: a name in `kernels.KERNELS`.
        classes: their number.
        axes: the C and the gamma to choose from, ascending; a kernel without gamma ignores the latter.
        examples: rows to choose by and to fit to.
        folds: of these.
        test: inputs [M, D] and classes [M] of the test rows.
        mesh: devices to spread the settings and folds over.
        **options: scheme, degree and coef0 of `svm.fit`.

    Raises:
        UserError: the kernel's values are beyond float32.
    """
    axes = axes_of(kernel, axes)
    options |= {"kernel": kernel, "steps": MAX_STEPS}
    learner = learners.svm(classes, **options, calibrated=False, tolerance=TOLERANCE, mesh=mesh)
    choice = selection.choose(learner, axes, jax.random.key(0), examples, folds, validation.accuracy)
    options |= choice.setting
    params = svm.fit(examples["inputs"], examples["targets"], classes, **options, tolerance=FINAL_TOLERANCE)
    if not np.isfinite(params.gap).all():
        raise UserError(
            f"the values of the {kernel} kernel are beyond float32 at gamma = {choice.setting.get('gamma', 1):g}: "
            "lower --gamma, --degree or --coef0, or leave the kernel out of --kernels"
        )
    predicted = np.asarray(svm.apply(params, test[0])).argmax(axis=1)
    accuracy = metrics.proportion(predicted == test[1])
    return Tuned(
        kernel=kernel,
        c=choice.setting["c"],
        gamma=choice.setting.get("gamma"),
        held_out=choice.interval,
        held_out_by_fold=choice.by_fold.tolist(),
        test=accuracy.mean,
        test_interval=(accuracy.low, accuracy.high),
        support_vectors=int(np.sum(svm.support(params))),
        problems=int(np.size(params.gap)),
        short=int(np.sum(np.asarray(params.steps) >= MAX_STEPS)),
        gap=float(np.max(params.gap)),
        steps=int(np.sum(params.steps)),
        grid=np.atleast_2d(choice.means.T).tolist(),
        choice=choice,
        params=params,
        predicted=predicted,
    )


def panel(tuned: Tuned, over: draw.Mesh, points: np.ndarray, labels: np.ndarray) -> draw.Plane:
    """Return the regions, margins and support vectors of a kernel in the plane, with the rows that it was fitted to."""
    places, params = jnp.asarray(over.places, jnp.float32), tuned.params
    margins = svm.class_margins(svm.decision(params, places), params.classes, params.scheme)
    return draw.Plane(
        points,
        labels,
        heading=NAMES[tuned.kernel],
        detail=f"{tuned.setting(', ')}: {tuned.held_out.mean:.1%} held out",
        emphasised=np.asarray(svm.support(params)),
        regions=np.asarray(svm.apply(params, places)).argmax(axis=1).reshape(over.shape),
        fields=np.moveaxis(np.asarray(margins), -1, 0).reshape(-1, *over.shape),
    )


def heat_map(tuned: Sequence[Tuned], won: Tuned, c: Sequence[float], gamma: Sequence[float], over: str) -> Drawing:
    """Return the held-out accuracy of each kernel over C and gamma, as cells."""
    grids = [draw.Grid(NAMES[one.kernel], np.array(one.grid), one.place(), gamma if one.gamma else []) for one in tuned]
    title = f"Held-out accuracy: {NAMES[won.kernel]} reaches {won.held_out.mean:.1%} at {won.setting()}"
    figure = draw.accuracy_by_setting(grids, c, title=title, note=f"Numbers: % of held-out rows, mean over {over}.")
    alt = "Held-out accuracy at each C and gamma, a block of cells for each kernel, the chosen setting framed"
    caption = "Small C and gamma give smooth boundaries; large ones, boundaries that bend around single points."
    return Drawing("accuracy", figure, alt, caption)


def duality_gaps(tuned: Sequence[Tuned]) -> str:
    """Return in a sentence how near their optimum the machines are."""
    stopped, problems = sum(entry.short for entry in tuned), sum(entry.problems for entry in tuned)
    limit = f"; {stopped} of {problems} problems stopped at {MAX_STEPS:,} steps" if stopped else ""
    return f"The largest duality gap is {short(max(entry.gap for entry in tuned), 2)} of the objective{limit}."


def solver_table(tuned: Sequence[Tuned]) -> Table:
    """Return one row a kernel: its binary problems, the steps they took, and the largest duality gap."""
    return Table(
        ["kernel", "binary problems", "steps", "largest duality gap"],
        [[NAMES[one.kernel], f"{one.problems:,}", f"{one.steps:,}", short(one.gap, 2)] for one in tuned],
        caption="of the machines that were tested; gap: primal less dual, as a share of the primal",
    )
