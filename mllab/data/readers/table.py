"""A user's own table, a CSV or Parquet file, as a data set.

- The task is classification if the target is text, boolean, or whole numbers with at most 20 distinct values, and
  regression otherwise; `task` overrides this.
- Rows are split 60/20/20, stratified by class in classification. All statistics are those of the training rows.
- A column of numbers is standardised, after its missing values are replaced by the median. A column of text is one-hot
  encoded; a missing value is the category "missing", and a category that no training row has is encoded as zeros.
- Columns without information are dropped, with a note: empty, constant and unnamed ones, and text with too many
  distinct values (names, ids).
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mllab import tasks
from mllab.data import names
from mllab.data.dataset import Dataset, Split
from mllab.data.readers import csv_parquet
from mllab.data.readers.csv_parquet import MAX_WHOLE, Table
from mllab.data.readers.table_encoding import check_float32, encode, is_text, numbers
from mllab.data.scaling import standardise
from mllab.data.split import shuffled, stratified
from mllab.errors import UserError, shortened, unknown

MAX_CLASSES = 20  # whole numbers with more distinct values are a quantity


def load(path: str | Path, target: str, *, split_seed: int, task: str | None = None) -> Dataset:
    """Read a table and encode it for predicting one of its columns.

    Args:
        path: a .csv, .csv.gz or .parquet file.
        target: the name of the column to predict.
        split_seed: seed of the split.
        task: a name in `tasks.TASKS`, to override the rule above.

    Raises:
        UserError: the table cannot be used; the message names file, row and column.
    """
    if task is not None:
        tasks.named(task)
    table = csv_parquet.read(Path(path))
    target = names.title(target)
    if target not in table.columns:
        raise UserError(f"{path}: {unknown('column', target, table.columns)}")
    missing = np.flatnonzero(table.columns[target].missing)
    if len(missing):
        more = f" (as are {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise UserError(
            f"{table.cell(target, missing[0])} is missing{more}, and it is the target; remove rows without a target"
        )
    task = task or _inferred_task(table, target)
    encoded_target = _TARGETS[task](table, target, split_seed)
    inputs = encode(table, [name for name in table.columns if name != target], encoded_target.split.train)
    file = names.printable(table.path.name)
    return Dataset(
        name=file,
        task=task,
        inputs=inputs.columns,
        targets=encoded_target.values,
        split=encoded_target.split,
        features=inputs.names,
        classes=encoded_target.classes,
        target=target,
        target_mean=encoded_target.mean,
        target_scale=encoded_target.scale,
        sha256={file: table.sha256},
        notes=(*table.notes, *encoded_target.notes, *inputs.notes),
    )


class _Target(NamedTuple):
    """The encoded target, and the split, which depends on it."""

    values: np.ndarray  # [N]
    split: Split
    classes: tuple[str, ...] = ()
    mean: float = 0.0
    scale: float = 1.0
    notes: tuple[str, ...] = ()


def _inferred_task(table: Table, target: str) -> str:
    if is_text(table.columns[target]):
        return tasks.CLASSIFICATION.name
    values = numbers(table, target)
    few = len(np.unique(values)) <= MAX_CLASSES
    return (tasks.CLASSIFICATION if few and np.array_equal(values, np.floor(values)) else tasks.REGRESSION).name


def _classes(table: Table, target: str, split_seed: int) -> _Target:
    column = table.columns[target]
    notes: tuple[str, ...] = ()
    if column.text is not None:
        values, codes = np.unique(column.text.astype(str), return_inverse=True)
        classes = tuple(str(value) for value in values)
    else:
        values, codes = np.unique(numbers(table, target), return_inverse=True)
        if column.rounded:
            raise UserError(
                f"{table.path}: column {target!r} has whole numbers beyond 2^53, which floats do not tell apart: "
                "replace them by names or small numbers"
            )
        classes = tuple(
            str(int(value)) if value == int(value) and abs(value) < MAX_WHOLE else repr(float(value))
            for value in values
        )
        notes = (f"took the {len(classes)} distinct numbers of {target!r} as classes",)
    if len(classes) == 1:
        raise UserError(
            f"{table.path}: column {target!r} is {shortened(classes[0])!r} in every row; choose a target that varies"
        )
    try:
        split = stratified(codes, split_seed, classes=classes)
    except UserError as error:
        hint = "" if column.text is not None else f", or predict a quantity (task={tasks.REGRESSION.name!r})"
        raise UserError(f"{table.path}: column {target!r}: {error}{hint}") from None
    return _Target(codes.astype(np.int32), split, classes, notes=notes)


def _number_name(value: float) -> str:
    """Return the name of a class that is a number."""
    return str(int(value)) if value == int(value) and abs(value) < MAX_WHOLE else repr(float(value))


def _values(table: Table, target: str, split_seed: int) -> _Target:
    values = numbers(table, target)
    try:
        split = shuffled(len(values), split_seed)
    except UserError as error:
        raise UserError(f"{table.path}: {error}") from None
    if np.ptp(values[split.train]) == 0 and table.columns[target].rounded:
        raise UserError(
            f"{table.path}: column {target!r} has whole numbers beyond 2^53 that differ too little: subtract the least"
        )
    if np.ptp(values[split.train]) == 0:
        raise UserError(
            f"{table.path}: column {target!r} is {values[0]:g} in every training row; choose a target that varies"
        )
    standardised, mean, scale = standardise(values, split.train)
    return _Target(check_float32(table, target, standardised), split, mean=float(mean), scale=float(scale))


_TARGETS: Mapping[str, Callable[[Table, str, int], _Target]] = {
    tasks.CLASSIFICATION.name: _classes,
    tasks.REGRESSION.name: _values,
}
