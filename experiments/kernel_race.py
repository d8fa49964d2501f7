"""The race of kernels: settings chosen on folds, the machines of those chosen, and what they say over the plane."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from mllab import devices, sweep, validation
from mllab.data.dataset import Dataset
from mllab.errors import UserError
from mllab.models import svm
from mllab.report import margins
from mllab.types import Array

TOLERANCE = 1e-3  # by how much a condition of the optimum may be violated, in units of f: LIBSVM's, to choose by
FINE = 1e-5  # the same, of the machines that are reported: of separable data it takes as much to close the gap
STEPS = 100_000  # the most that a machine takes: with huge C or kernel values it could go on for minutes
PIXELS = 160  # across a panel of the plane


class Machines(NamedTuple):
    """What all machines of a run have in common."""

    degree: int
    coef0: float
    scheme: str  # "one_vs_one" or "one_vs_rest"


class Entry(NamedTuple):
    """What one kernel came to."""

    kernel: str
    c: np.ndarray  # [C], ascending
    gamma: np.ndarray  # [G], ascending; any one for the linear kernel, which reads none
    held_out: np.ndarray  # [G, C, K] accuracy on each fold's held-out rows
    chosen: tuple[int, int]  # where in [G, C]
    params: svm.SVM  # fitted to all rows with the setting chosen
    predicted: np.ndarray  # [M] class of each test row

    def setting(self, place: tuple[int, int]) -> dict[str, float | None]:
        """Return C and gamma at a place in [G, C]."""
        row, column = place
        return {"c": float(self.c[column]), "gamma": None if self.kernel == "linear" else float(self.gamma[row])}


def race(
    data: Dataset,
    ids: np.ndarray,
    dealt: validation.Folds,
    names: Sequence[str],
    c: np.ndarray,
    gamma: np.ndarray,
    machines: Machines,
    observe: Callable[[str, Entry | None], None] = lambda kernel, entry: None,
) -> list[Entry]:
    """Let each kernel choose its setting on held-out rows, fit it to all of them, and predict the test rows.

    Args:
        data: see `load`.
        ids: the rows to choose on and to fit to, [N].
        dealt: folds of them, in 0..N-1.
        names: of the kernels.
        c: [C].
        gamma: [G].
        machines: what all have in common.
        observe: told a kernel's name as it begins (None beside it), and with its entry as it ends.
    """
    inputs, classes = data.inputs.reshape(len(data.inputs), -1), len(data.classes)
    examples = {"inputs": jnp.asarray(inputs[ids]), "targets": jnp.asarray(data.targets[ids])}
    entries = []
    for kernel in names:
        observe(kernel, None)
        own = gamma[:1] if kernel == "linear" else gamma
        held_out = cross_validated(kernel, c, own, machines, examples, dealt, classes)
        chosen = first_best(held_out)
        params = svm.fit(
            examples["inputs"],
            examples["targets"],
            classes,
            kernel=kernel,
            c=c[chosen[1]],
            gamma=own[chosen[0]],
            **machines._asdict(),
            tolerance=FINE,
            steps=STEPS,
        )
        if not np.isfinite(params.gap).all():
            raise UserError(
                f"the values of the {kernel} kernel are beyond float32 at gamma = {own[chosen[0]]:g}: lower --gamma, "
                "--degree or --coef0, or leave the kernel out of --kernels"
            )
        predicted = np.asarray(svm.apply(params, jnp.asarray(inputs[data.split.test]))).argmax(axis=1)
        entries.append(Entry(kernel, c, own, held_out, chosen, params, predicted))
        observe(kernel, entries[-1])
    return entries


def cross_validated(
    kernel: str,
    c: np.ndarray,
    gamma: np.ndarray,
    machines: Machines,
    examples: Mapping[str, Array],
    dealt: validation.Folds,
    classes: int,
) -> np.ndarray:
    """Return the accuracy on held-out rows of every gamma, C and fold, [G, C, K].

    One program: all C and folds of a gamma share its kernel matrix, and each C begins where the one before ended.
    """
    targets = np.asarray(examples["targets"])
    held_out = np.zeros((len(dealt.held_out.ids), len(targets)), bool)  # [K, N]
    for fold, (ids, weight) in enumerate(zip(*dealt.held_out, strict=True)):
        held_out[fold, ids[weight > 0]] = True
    scores = svm.grid(
        examples["inputs"],
        examples["targets"],
        classes,
        jnp.asarray(~held_out, jnp.float32),
        kernel=kernel,
        c=jnp.asarray(c),
        gamma=jnp.asarray(gamma),
        **machines._asdict(),
        tolerance=TOLERANCE,
        steps=STEPS,
        solve=sweep.over_tasks(svm.solve_tasks, devices.mesh()),
    )
    hits = np.asarray(jnp.argmax(scores, axis=-1)) == targets  # [G, C, K, N]
    hits &= np.asarray(jnp.isfinite(scores).all(axis=-1))  # what is no number is no answer
    return np.sum(hits & held_out, axis=-1) / np.sum(held_out, axis=-1)


def first_best(held_out: np.ndarray) -> tuple[int, int]:
    """Return where the mean accuracy [G, C, K] is best; of equal ones where C is least, then where gamma is."""
    means = held_out.mean(axis=2).round(9)  # sums of the same scores differ by rounding
    column, row = np.unravel_index(means.T.argmax(), means.T.shape)
    return int(row), int(column)


def test_accuracy(entry: Entry, data: Dataset) -> float:
    """Return the share of the test rows that are classified rightly."""
    return float(np.mean(entry.predicted == data.targets[data.split.test]))


def lead(first: Entry, following: Entry, folds: int) -> dict[str, Any]:
    """Return by how many points of held-out accuracy the first leads the next, fold by fold."""
    won, lost = (entry.held_out[entry.chosen] for entry in (first, following))
    return {"of": following.kernel, "by": validation.interval(100 * (won - lost), folds)}


def confusion(entry: Entry, data: Dataset) -> np.ndarray:
    """Return the test rows of each true class that were predicted as each class, [C, C]."""
    counts = np.zeros((len(data.classes), len(data.classes)), int)
    np.add.at(counts, (data.targets[data.split.test], entry.predicted), 1)
    return counts


def plane_of(points: np.ndarray, labels: np.ndarray) -> margins.Plane:
    """Return points with a grid over them and a little beyond."""
    low, high = points.min(axis=0), points.max(axis=0)
    border = 0.08 * (high - low)
    x, y = np.linspace(low - border, high + border, PIXELS).T
    return margins.Plane(points, labels, x, y)


def machine(params: svm.SVM, plane: margins.Plane) -> margins.Machine:
    """Return what a machine says over a plane's grid."""
    grid = np.stack(np.meshgrid(plane.x, plane.y), axis=-1).astype(np.float32)  # [Y, X, 2]
    asked = jnp.asarray(grid.reshape(-1, 2))
    decided = np.asarray(svm.apply(params, asked)).argmax(axis=1)
    leads = leads_of(np.asarray(svm.decision(params, asked)), svm.pairs(params.classes, params.scheme), params.classes)
    shape = grid.shape[:2]
    support = np.asarray(svm.support(params))
    return margins.Machine(decided.reshape(shape), leads.T.reshape(-1, *shape), support)


def leads_of(values: np.ndarray, pairs: np.ndarray, classes: int) -> np.ndarray:
    """Return the least f by which each class wins the problems that it is in, [M, C].

    Args:
        values: f of each problem, [M, P].
        pairs: the classes that each tells apart, [P, 2]; see `svm.pairs`.
        classes: C.
    """
    leads = np.full((len(values), classes), np.inf)
    for value, (positive, negative) in zip(values.T, pairs, strict=True):
        leads[:, positive] = np.minimum(leads[:, positive], value)
        if negative >= 0:
            leads[:, negative] = np.minimum(leads[:, negative], -value)
    return leads
