"""The user's own table, a CSV or Parquet file, as a data set.

- The target is taken as classes where it holds text or true/false, or whole numbers of at most 20 different values;
  as values otherwise. `task` overrides.
- Rows are split 60/20/20, by class where there are classes. Whatever is learned from the data to encode it is learned
  from the training rows.
- A column of numbers is standardised, its missing values first replaced by the median. A column of text becomes one
  column of 0 and 1 for each of its categories; a missing value is the category "missing", and a category that no
  training row has is 0 throughout.
- Columns that cannot help are dropped, and noted: empty, constant and nameless ones, and text of too many different
  values (names, ids).
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mllab import tasks
from mllab.data import table_file
from mllab.data.dataset import Dataset, Split
from mllab.data.encoding import checked, encode, means_text, numbers
from mllab.data.scaling import standardise
from mllab.data.split import shuffled, stratified
from mllab.data.table_file import Table
from mllab.errors import UserError, unknown

MOST_CLASSES = 20  # whole numbers of more different values are a quantity


def load(path: str | Path, target: str, *, split_seed: int, task: str | None = None) -> Dataset:
    """Read a table and encode it for predicting one of its columns.

    Args:
        path: a .csv, .csv.gz or .parquet file.
        target: the name of the column to predict.
        split_seed: of the split.
        task: "classification" or "regression", where the rule above should not decide.

    Raises:
        UserError: naming file, row and column, where the table does not make sense.
    """
    if task is not None:
        tasks.named(task)
    table = table_file.read(Path(path))
    if target not in table.columns:
        raise UserError(f"{path}: {unknown('column', target, table.columns)}")
    missing = np.flatnonzero(table.columns[target].missing)
    if len(missing):
        more = f" (as are {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise UserError(
            f"{table.cell(target, missing[0])} is missing{more}, and it is to be predicted; leave such rows out"
        )
    task = task or _inferred_task(table, target)
    answer = _ANSWERS[task](table, target, split_seed)
    encoded = encode(table, [name for name in table.columns if name != target], answer.split.train)
    return Dataset(
        name=table.path.name,
        task=task,
        inputs=encoded.columns,
        targets=answer.targets,
        split=answer.split,
        features=encoded.names,
        classes=answer.classes,
        target=target,
        target_mean=answer.mean,
        target_scale=answer.scale,
        sha256={table.path.name: table.sha256},
        notes=(*table.notes, *answer.notes, *encoded.notes),
    )


class _Answer(NamedTuple):
    """What is to be predicted, and the split that it decides."""

    targets: np.ndarray  # [N]
    split: Split
    classes: tuple[str, ...] = ()
    mean: float = 0.0
    scale: float = 1.0
    notes: tuple[str, ...] = ()


def _inferred_task(table: Table, target: str) -> str:
    if means_text(table.columns[target]):
        return tasks.CLASSIFICATION.name
    values = numbers(table, target)
    few = len(np.unique(values)) <= MOST_CLASSES
    return (tasks.CLASSIFICATION if few and np.array_equal(values, np.floor(values)) else tasks.REGRESSION).name


def _classes(table: Table, target: str, split_seed: int) -> _Answer:
    column = table.columns[target]
    notes: tuple[str, ...] = ()
    if column.text is not None:
        names, codes = np.unique(column.text.astype(str), return_inverse=True)
        classes = tuple(str(name) for name in names)
    else:
        values, codes = np.unique(numbers(table, target), return_inverse=True)
        classes = tuple(str(int(value)) if value == int(value) else repr(float(value)) for value in values)
        notes = (f"took the {len(classes)} different numbers of {target!r} as classes",)
    if len(classes) == 1:
        raise UserError(f"{table.path}: column {target!r} is {classes[0]!r} in every row: there is nothing to predict")
    try:
        split = stratified(codes, split_seed, classes=classes)
    except UserError as error:
        hint = "" if column.text is not None else ", or predict it as a quantity (task='regression')"
        raise UserError(f"{table.path}: column {target!r}: {error}{hint}") from None
    return _Answer(codes.astype(np.int32), split, classes, notes=notes)


def _values(table: Table, target: str, split_seed: int) -> _Answer:
    values = numbers(table, target)
    try:
        split = shuffled(len(values), split_seed)
    except UserError as error:
        raise UserError(f"{table.path}: {error}") from None
    if np.ptp(values[split.train]) == 0:
        raise UserError(
            f"{table.path}: column {target!r} is {values[0]:g} in every training row: there is nothing to predict"
        )
    targets, mean, scale = standardise(values, split.train)
    return _Answer(checked(table, target, targets), split, mean=float(mean), scale=float(scale))


_ANSWERS: Mapping[str, Callable[[Table, str, int], _Answer]] = {
    tasks.CLASSIFICATION.name: _classes,
    tasks.REGRESSION.name: _values,
}
