"""The problem of a model selection: the rows to choose by and to test on, their folds, and the criterion."""

import hashlib
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments import frame, row_separation
from mllab import criteria, schemes
from mllab.criteria import Criterion, Inverse
from mllab.data import names
from mllab.data.dataset import Dataset
from mllab.data.readers import content
from mllab.errors import UserError
from mllab.models.preprocessing import Columns, Layout
from mllab.nested import Plan, plan_folds
from mllab.schemes import Scheme
from mllab.types import Examples


@dataclass(frozen=True)
class Problem:
    """What the models of a pool are chosen on."""

    data: Dataset
    columns: Columns  # of all rows
    layout: Layout
    choosing: np.ndarray  # ids of the rows that models are tuned and compared on
    test: np.ndarray  # ids of the held-out test rows; none with published splits
    scheme: Scheme
    plan: Plan  # of rows 0..M-1, the choosing ones
    criterion: Criterion
    inverse: Inverse | None  # from learned targets to the scale of the score; None where they are the same
    unit: float  # of a score in the target's unit, in standard deviations of the target; 1 otherwise

    @property
    def examples(self) -> Examples:
        """The rows to choose by."""
        return self.rows(self.choosing)

    def rows(self, ids: np.ndarray) -> Examples:
        """Return examples by id."""
        columns = Columns(*(np.asarray(part)[ids] for part in self.columns))
        return {"inputs": columns, "targets": self.data.targets[ids]}

    @property
    def classes(self) -> int:
        """C; 0 in regression."""
        return len(self.data.classes)

    @property
    def difference_unit(self) -> float:
        """What a difference of two scores is multiplied by to be shown: accuracies differ by points."""
        return 100.0 if self.criterion.points else self.unit

    @property
    def column_names(self) -> list[str]:
        """The names of the columns: of numbers, then of codes."""
        if self.data.schema is None:
            return list(self.data.features) or [f"input {place + 1}" for place in range(self.layout.numbers)]
        numbers = [name for column in self.data.schema.numeric for name in column.number_names]
        return [*numbers, *(column.name for column in self.data.schema.categorical)]

    @property
    def fewest_rows(self) -> int:
        """Training rows of the smallest fold, inner ones included."""
        return int(min(part.train.weight.sum(axis=1).min() for part in self.plan.parts))


def problem(run: frame.Context, settings: Any) -> Problem:
    """Load the data and make the folds that the settings ask for; see `model_selection.Settings`."""
    data = run.load(extra=row_separation.columns(settings), transforms=True)
    if data.targets.ndim > 1:
        raise UserError(f"{data.name} has several targets, and models are chosen for one: leave the others out")
    columns, layout = data.columns, data.schema.layout if data.schema else None
    if columns is None or layout is None:
        inputs = data.inputs.reshape(len(data.inputs), -1)
        columns, layout = Columns(inputs, np.zeros((len(inputs), 0), np.int32)), Layout(inputs.shape[1])
    labels = data.targets if data.classes else None
    whole = row_separation.scheme(data, settings)
    groups, times = whole.groups, whole.times
    choosing, test = np.union1d(data.split.train, data.split.validation), data.split.test
    splits = None
    if settings.folds_file and (settings.test or settings.split_column):
        raise UserError("--folds_file names the rows to score on: leave out --test and --split_column")
    if settings.folds_file:
        splits = read_splits(settings.folds_file, run)
        choosing, test = np.arange(len(data.targets)), test[:0]
    elif (groups is not None or times is not None) and not (
        getattr(settings, "test", None) or getattr(settings, "split_column", None)
    ):
        choosing, test = whole.holdout(np.arange(len(data.targets)), row_separation.TEST_SHARE)
    labels, groups, times = (None if each is None else each[choosing] for each in (labels, groups, times))
    scheme = Scheme(settings.split_seed, labels, groups, times, settings.gap)
    if splits is None:
        outer = scheme.folds(np.arange(len(choosing)), settings.folds)
    else:
        outer = schemes.published(splits, len(choosing))
    plan = plan_folds(outer, lambda ids: scheme.folds(ids, settings.inner_folds))
    criterion = criteria.named(settings.score, data.task)
    inverse, unit = None, data.target_scale if criterion.in_target_unit else 1.0
    if data.target_transform == "log":
        inverse, unit = in_unit(data), 1.0
    return Problem(data, columns, layout, choosing, test, scheme, plan, criterion, inverse, unit)


def in_unit(data: Dataset) -> Inverse:
    """Return the function from learned targets to the target's own unit, by JAX's functions."""
    mean, scale = data.target_mean, data.target_scale
    if data.target_transform == "log":
        return lambda values: jnp.exp(mean + scale * values)
    return lambda values: mean + scale * values


def read_splits(path: str, run: frame.Context) -> list[np.ndarray]:
    """Return the held-out row ids of published splits, a line each, separated by spaces or commas; from 0.

    Raises:
        UserError: the file cannot be read, or a line is not a list of whole numbers.
    """
    raw = content.read(path)
    run.read({names.printable(path.rpartition("/")[2]): hashlib.sha256(raw).hexdigest()})
    try:
        lines = raw.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a text of row ids: give a line of whole numbers for each split") from None
    splits = []
    for number, line in enumerate(lines, 1):
        words = line.replace(",", " ").split()
        if words:
            if not all(word.isascii() and word.isdigit() and len(word) < 10 for word in words):
                raise UserError(f"{path}: line {number} has something else than row ids: give whole numbers from 0")
            splits.append(np.array(words, np.int64))
    if not splits:
        raise UserError(f"{path} is empty: give a line of held-out row ids for each split")
    return splits
