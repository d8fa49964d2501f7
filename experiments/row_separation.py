"""Rows of a table that belong together (--group) or follow each other (--time), and how they are held out."""

from typing import Any

import numpy as np

from mllab.data import catalog, names
from mllab.data.dataset import Dataset, Split
from mllab.data.refitted import with_split
from mllab.errors import UserError
from mllab.schemes import Scheme

TEST_SHARE = 0.2
VALIDATION_SHARE = 0.25  # of the rows that are not test rows


def columns(settings: Any) -> list[str]:
    """Return the columns that a `frame.Separation` names; they are loaded raw, and are not inputs.

    Raises:
        UserError: a data set that is no table.
    """
    if (settings.group or settings.time) and not settings.dataset.lower().endswith(catalog.TABLE_ENDINGS):
        raise UserError(f"--group and --time are for your own tables, and {settings.dataset} is none: leave them out")
    return [name for name in (settings.group, settings.time) if name]


def scheme(data: Dataset, settings: Any) -> Scheme:
    """Return how the rows of a data set may be separated, by a `frame.Separation`.

    Raises:
        UserError: times that are no times.
    """
    groups = codes(data, settings.group) if settings.group else None
    of_rows = times(data, settings.time) if settings.time else None
    return Scheme(settings.split_seed, data.targets if data.classes else None, groups, of_rows, settings.gap)


def separated(data: Dataset, settings: Any, has_folds: bool) -> Dataset:
    """Return the data set with a split that keeps groups together and times in order; as it is where there are none.

    With folds, which hold out validation rows, all rows but the test rows are training rows.
    """
    by = scheme(data, settings)
    if by.groups is None and by.times is None:
        return data
    if settings.test or settings.split_column:
        choosing, test = np.union1d(data.split.train, data.split.validation), data.split.test
    else:
        choosing, test = by.holdout(np.arange(len(data.targets)), TEST_SHARE)
    train, validation = (choosing, choosing[:0]) if has_folds else by.holdout(choosing, VALIDATION_SHARE)
    return with_split(data, Split(*(ids.astype(np.int32) for ids in (train, validation, test))))


def codes(data: Dataset, name: str) -> np.ndarray:
    """Return the groups of all rows as whole numbers; a missing value is a group of its own."""
    values = _extra(data, name)
    texts = np.array(["" if value is None else str(value) for value in values.tolist()])
    return np.unique(texts, return_inverse=True)[1]


def times(data: Dataset, name: str) -> np.ndarray:
    """Return the times of all rows as numbers, those of dates in days.

    Raises:
        UserError: a cell that is neither a number nor a date.
    """
    values = _extra(data, name)
    numbers = np.asarray(values, np.float64) if values.dtype.kind in "iuf" else None
    if numbers is None or not np.isfinite(numbers).all():
        row = "" if numbers is None else f" (row {np.flatnonzero(~np.isfinite(numbers))[0] + 1})"
        raise UserError(f"--time={name}: not all numbers or dates{row}: correct the cells, or remove their rows")
    return numbers


def _extra(data: Dataset, name: str) -> np.ndarray:
    return np.asarray(data.extra_columns[names.title(name)])
