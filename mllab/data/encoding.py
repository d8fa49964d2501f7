"""Columns of a table as inputs: numbers standardised, text as 0 and 1, by what the training rows show."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from mllab.data.scaling import standardise
from mllab.data.table_file import Column, Table
from mllab.errors import UserError

MOST_CATEGORIES = 50  # text of more different values, or of more than half the rows, is a name or an id
MOSTLY_NUMBERS = 0.9  # a column of so many numbers means numbers: text in it is a slip
LARGEST = 1e300  # sums of larger numbers overflow float64


class Encoded(NamedTuple):
    """One or several columns as inputs."""

    columns: np.ndarray  # [N, D] float32
    names: tuple[str, ...]  # [D]
    notes: tuple[str, ...] = ()


def encode(table: Table, names: Iterable[str], train: np.ndarray) -> Encoded:
    """Encode the named columns side by side; those that cannot help are left out, with a note.

    Raises:
        UserError: a slip in a column of numbers, a number too large, or no column left.
    """
    parts = [_encode_column(table, name, train) for name in names]
    notes = tuple(note for part in parts for note in part.notes)
    if not any(part.names for part in parts):
        raise UserError(f"{table.path}: no column is left to learn from{f' ({notes[0]})' if notes else ''}")
    return Encoded(
        np.concatenate([part.columns for part in parts], axis=1),
        tuple(name for part in parts for name in part.names),
        notes,
    )


def means_text(column: Column) -> bool:
    """Tell whether a column is of text; one of numbers with a few slips is not."""
    cells, as_numbers = np.count_nonzero(~column.missing), np.count_nonzero(~np.isnan(column.numbers))
    return column.text is not None and bool(as_numbers < MOSTLY_NUMBERS * cells)


def numbers(table: Table, name: str) -> np.ndarray:
    """Return a column of numbers, [N] float64, NaN where missing.

    Raises:
        UserError: naming the first cell that holds text or too large a number.
    """
    column = table.columns[name]
    if column.text is not None:
        text = np.flatnonzero(~column.missing & np.isnan(column.numbers))
        raise UserError(
            f"{table.cell(name, text[0])}: {column.text[text[0]]!r} is no number"
            f"{f' (nor are {len(text) - 1} more)' if len(text) > 1 else ''}; mend it, or leave it empty"
        )
    large = np.flatnonzero(np.abs(column.numbers) > LARGEST)
    if len(large):
        raise UserError(f"{table.cell(name, large[0])} is infinite or beyond {LARGEST:g}; mend it, or leave it empty")
    return column.numbers


def checked(table: Table, name: str, columns: np.ndarray) -> np.ndarray:
    """Return standardised values as they are, if float32 could hold them all."""
    outside = np.flatnonzero(~np.isfinite(columns))
    if len(outside):
        value = table.columns[name].numbers[outside[0]]
        raise UserError(
            f"{table.cell(name, outside[0])}: {value:g} lies too far from the training rows for float32; mend it, or "
            "leave it empty"
        )
    return columns


def _encode_column(table: Table, name: str, train: np.ndarray) -> Encoded:
    column = table.columns[name]
    if column.missing[train].all():
        return _dropped(table, f"dropped {name!r}: it is empty in every training row")
    return (_encode_text if means_text(column) else _encode_numbers)(table, name, train)


def _encode_numbers(table: Table, name: str, train: np.ndarray) -> Encoded:
    values = numbers(table, name)
    missing = np.isnan(values)
    median = np.median(values[train][~missing[train]])
    values = np.where(missing, median, values)
    if np.ptp(values[train]) == 0:
        return _dropped(table, f"dropped {name!r}: it is {median:g} in every training row")
    columns, _, _ = standardise(values, train)
    notes = []
    if missing.any():
        notes.append(f"{_missing_values(missing)} in {name!r} took the median of the training rows, {median:g}")
    return Encoded(checked(table, name, columns)[:, None], (name,), tuple(notes))


def _encode_text(table: Table, name: str, train: np.ndarray) -> Encoded:
    column = table.columns[name]
    text = np.where(column.missing, "missing", np.asarray(column.text))
    categories = sorted(set(text[train]))
    if len(categories) == 1:
        return _dropped(table, f"dropped {name!r}: it is {categories[0]!r} in every training row")
    if len(categories) > max(2, min(MOST_CATEGORIES, len(train) // 2)):
        return _dropped(
            table, f"dropped {name!r}: its text has {len(categories)} different values in {len(train)} training rows"
        )
    code = {category: i for i, category in enumerate(categories)}
    codes = np.array([code.get(cell, -1) for cell in text])  # -1: no training row has it
    notes = []
    if column.missing.any():
        notes.append(f"{_missing_values(column.missing)} in {name!r} became the category 'missing'")
    if unseen := np.count_nonzero(codes < 0):
        notes.append(f"{unseen} of the rows held out have a category of {name!r} that no training row has")
    return Encoded(
        (codes[:, None] == np.arange(len(categories))).astype(np.float32),
        tuple(f"{name}={category}" for category in categories),
        tuple(notes),
    )


def _dropped(table: Table, note: str) -> Encoded:
    return Encoded(np.empty((len(table.rows), 0), np.float32), (), (note,))


def _missing_values(missing: np.ndarray) -> str:
    count = np.count_nonzero(missing)
    return "1 missing value" if count == 1 else f"{count:,} missing values"
