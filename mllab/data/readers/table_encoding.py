"""Columns of a table as inputs: numbers standardised, text one-hot, by the statistics of the training rows."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from mllab.data.readers import content
from mllab.data.readers.csv_parquet import Column, Table
from mllab.data.scaling import standardise
from mllab.errors import UserError, shortened

MAX_CATEGORIES = 50  # text with more distinct values, or with more than half as many as rows, is a name or an id
MIN_NUMERIC_SHARE = 0.9  # from this share of numbers on, text in a column is a typing error
MAX_MAGNITUDE = 1e300  # sums of larger numbers overflow float64


class Encoded(NamedTuple):
    """Columns encoded as inputs."""

    columns: np.ndarray  # [N, D] float32
    names: tuple[str, ...]  # [D]
    notes: tuple[str, ...] = ()


def encode(table: Table, names: Iterable[str], train: np.ndarray, *, limit: int | None = None) -> Encoded:
    """Encode the named columns side by side; those without information are dropped, with a note.

    Args:
        table: the file's columns.
        names: of the columns to encode.
        train: ids of the training rows, whose statistics are used.
        limit: on the bytes of the inputs; a share of the memory by default.

    Raises:
        UserError: text in a column of numbers, too large a number, no column left, or inputs beyond the limit.
    """
    limit = content.default_limit() if limit is None else limit
    parts, taken = [], 0
    for name in names:
        parts.append(_encode_column(table, name, train))
        taken += parts[-1].columns.nbytes
        if taken > limit:
            raise content.too_large(
                table.path,
                f"has {len(train):,} training rows in categories that take more than "
                f"{content.size_text(limit)} as inputs",
            )
    notes = tuple(note for part in parts for note in part.notes)
    if not any(part.names for part in parts):
        raise UserError(f"{table.path}: no usable input column{f' ({notes[0]})' if notes else ''}: add one")
    return Encoded(
        np.concatenate([part.columns for part in parts], axis=1),
        tuple(name for part in parts for name in part.names),
        notes,
    )


def is_text(column: Column) -> bool:
    """Return whether a column holds text, rather than numbers with a few typing errors."""
    cells, numeric = np.count_nonzero(~column.missing), np.count_nonzero(~np.isnan(column.numbers))
    return column.text is not None and bool(numeric < MIN_NUMERIC_SHARE * cells)


def numbers(table: Table, name: str) -> np.ndarray:
    """Return a column of numbers, [N] float64, NaN where missing.

    Raises:
        UserError: a cell holds text, or too large a number; the message names the first.
    """
    column = table.columns[name]
    if column.text is not None:
        text = np.flatnonzero(~column.missing & np.isnan(column.numbers))
        raise UserError(
            f"{table.cell(name, text[0])}: {shortened(column.text[text[0]])!r} is not a number"
            f"{f' (nor are {len(text) - 1} more)' if len(text) > 1 else ''}; correct it, or leave the cell empty"
        )
    large = np.flatnonzero(np.abs(column.numbers) > MAX_MAGNITUDE)
    if len(large):
        raise UserError(
            f"{table.cell(name, large[0])} is infinite or beyond {MAX_MAGNITUDE:g}; correct it, or leave the cell empty"
        )
    return column.numbers


def check_float32(table: Table, name: str, standardised: np.ndarray) -> np.ndarray:
    """Return standardised values [N], all of them finite.

    Raises:
        UserError: a value overflowed float32; the message names its cell.
    """
    outside = np.flatnonzero(~np.isfinite(standardised))
    if len(outside):
        value = table.columns[name].numbers[outside[0]]
        raise UserError(
            f"{table.cell(name, outside[0])}: {value:g} is too far from the training rows for float32; correct it, or "
            "leave the cell empty"
        )
    return standardised


def _encode_column(table: Table, name: str, train: np.ndarray) -> Encoded:
    column = table.columns[name]
    if column.missing[train].all():
        return _dropped(table, f"dropped {name!r}: it is empty in every training row")
    return (_encode_text if is_text(column) else _encode_numbers)(table, name, train)


def _encode_numbers(table: Table, name: str, train: np.ndarray) -> Encoded:
    values = numbers(table, name)
    missing = np.isnan(values)
    median = np.median(values[train][~missing[train]])
    values = np.where(missing, median, values)
    if np.ptp(values[train]) == 0 and table.columns[name].rounded:
        return _dropped(table, f"dropped {name!r}: its whole numbers beyond 2^53 differ too little for floats")
    if np.ptp(values[train]) == 0:
        return _dropped(table, f"dropped {name!r}: it is {median:g} in every training row")
    columns, _, _ = standardise(values, train)
    notes = []
    if table.columns[name].rounded:
        notes.append(f"rounded the whole numbers of {name!r} beyond 2^53 to floats of 64 bits")
    if missing.any():
        notes.append(f"{_missing_values(missing)} in {name!r} became the median of the training rows, {median:g}")
    return Encoded(check_float32(table, name, columns)[:, None], (name,), tuple(notes))


def _encode_text(table: Table, name: str, train: np.ndarray) -> Encoded:
    column = table.columns[name]
    text = np.where(column.missing, "missing", np.asarray(column.text))
    categories = sorted(set(text[train]))
    if len(categories) == 1:
        return _dropped(table, f"dropped {name!r}: it is {shortened(categories[0])!r} in every training row")
    if len(categories) > max(2, min(MAX_CATEGORIES, len(train) // 2)):
        return _dropped(
            table, f"dropped {name!r}: its text has {len(categories)} distinct values in {len(train)} training rows"
        )
    code = {category: i for i, category in enumerate(categories)}
    codes = np.array([code.get(cell, -1) for cell in text])  # -1: in no training row
    notes = []
    if column.missing.any():
        notes.append(f"{_missing_values(column.missing)} in {name!r} became the category 'missing'")
    if unseen := np.count_nonzero(codes < 0):
        notes.append(f"{unseen} of the held-out rows have a category of {name!r} that no training row has")
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
