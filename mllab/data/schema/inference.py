"""The kinds of a table's columns, and their categories, from the rows that are not test rows."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from mllab.data.readers.columns import MAX_WHOLE, Column, Table
from mllab.data.schema import forms
from mllab.data.schema.columns import (
    BOOLEAN,
    CATEGORY,
    DATE,
    KINDS,
    MISSING,
    NUMBER,
    PARTS,
    ColumnSchema,
    numbers_of,
    place_in,
)  # fmt: skip
from mllab.errors import UserError, shortened, unknown

MAX_CATEGORIES = 50  # text with more distinct values, or with more than half as many as rows, is a name or an id
MIN_NUMERIC_SHARE = 0.9  # from this share of numbers on, text in a column is a typing error
LOSES_DIGITS = 8  # where the median is more standard deviations than this from 0, float32 would lose digits


class Inferred(NamedTuple):
    """The schema of one column, or none where it is left out, and what is to be noted."""

    schema: ColumnSchema | None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def infer(
    table: Table, names: Iterable[str], train: np.ndarray, known: np.ndarray, kinds: Mapping[str, str]
) -> tuple[tuple[ColumnSchema, ...], tuple[str, ...], tuple[str, ...]]:
    """Return the schema of each column with information, notes, and what is to be pointed out.

    Args:
        table: the file's columns.
        names: of those to learn from.
        train: ids of the training rows, from which the offsets and medians are taken.
        known: ids of the rows that are not test rows, from which kinds and categories are taken.
        kinds: of some columns, by name, instead of the inferred ones.

    Raises:
        UserError: text in a column of numbers, too large a number, or an unknown kind.
    """
    names = list(names)
    for name, kind in kinds.items():
        if name not in names:
            raise unknown("column of column_types", name, names)
        if kind not in KINDS:
            raise unknown(f"kind of column {shortened(name)!r}", kind, KINDS)
    inferred = [_infer(table, name, train, known, kinds.get(name)) for name in names]
    return (
        tuple(each.schema for each in inferred if each.schema is not None),
        tuple(note for each in inferred for note in each.notes),
        tuple(warning for each in inferred for warning in each.warnings),
    )


def kind_of(column: Column, rows: np.ndarray) -> tuple[str, str]:
    """Return the kind and the form that most cells of some rows have."""
    if column.codes is None:
        return NUMBER, "plain"
    if column.categorical:
        return CATEGORY, "plain"
    counts = np.bincount(column.codes[rows] + 1, minlength=len(column.values) + 1)[1:]
    present = np.flatnonzero(counts)
    values, counts = [column.values[i] for i in present], counts[present]
    form, share = forms.best(values, counts, forms.NUMBERS)
    if share >= MIN_NUMERIC_SHARE:
        return NUMBER, form
    if all(value.lower() in forms.TRUTH for value in values):
        return BOOLEAN, "plain"
    form, share = forms.best(values, counts, forms.DATES)
    if share >= MIN_NUMERIC_SHARE:
        return DATE, form
    return CATEGORY, "plain"


def checked_numbers(table: Table, name: str, form: str, rows: np.ndarray | None = None) -> np.ndarray:
    """Return a column as numbers, or days of dates, [N] float64, NaN where missing.

    Raises:
        UserError: a cell (of these rows) cannot be read; the message names the first.
    """
    column = table.columns[name]
    values, bad = numbers_of(column, form)
    wrong = np.flatnonzero(bad if rows is None else bad & np.isin(np.arange(len(bad)), rows))
    if len(wrong):
        kind = DATE if form in forms.DATES else NUMBER
        why = ColumnSchema(name, kind, form).why_bad(column, wrong[0])
        if "infinite" in why:
            raise UserError(f"{table.cell(name, wrong[0])} {why}; correct it, or leave the cell empty")
        more = f" (nor are {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise UserError(f"{table.cell(name, wrong[0])}: {why}{more}; correct it, or leave the cell empty")
    return values


def _infer(table: Table, name: str, train: np.ndarray, known: np.ndarray, kind: str | None) -> Inferred:
    column = table.columns[name]
    if column.missing[known].all():
        return _dropped(f"dropped {name!r}: it is empty in every row but test rows")
    inferred, form = kind_of(column, known)
    if kind in (NUMBER, DATE) and kind != inferred:
        texts = column.as_text()
        counts = np.bincount(texts.codes[known] + 1, minlength=len(texts.values) + 1)[1:]  # type: ignore[index]
        form, _ = forms.best(texts.values, counts, forms.DATES if kind == DATE else forms.NUMBERS)
    is_asked, kind = kind is not None, kind or inferred
    if kind == NUMBER:
        return _number(table, name, form, train, known)
    if kind == DATE:
        return _date(table, name, form, train, known)
    return _category(column, name, kind, known, is_asked=is_asked)


def _number(table: Table, name: str, form: str, train: np.ndarray, known: np.ndarray) -> Inferred:
    column = table.columns[name]
    values = checked_numbers(table, name, form)
    seen = values[known]
    low, high = np.nanmin(seen), np.nanmax(seen)
    rounded = column.rounded or (column.codes is not None and max(abs(low), abs(high)) >= MAX_WHOLE)
    if low == high and rounded:
        return _dropped(f"dropped {name!r}: its whole numbers beyond 2^53 differ too little for floats")
    if low == high and not np.isnan(seen).any():
        return _dropped(f"dropped {name!r}: it is {low:g} in every row but test rows")
    schema = _scaled(ColumnSchema(name, NUMBER, form), values, train, known)
    notes = []
    if rounded:
        notes.append(f"rounded the whole numbers of {name!r} beyond 2^53 to floats of 64 bits")
    if form != "plain":
        notes.append(f"read {name!r} as numbers: {_READ_AS[form]}")
    if count := np.count_nonzero(np.isnan(values)):
        input_ = ", and an input tells which" if schema.indicator else ""
        notes.append(
            f"{_missing_values(count)} in {name!r} became the median of the training rows, {schema.median:g}{input_}"
        )
    warnings = []
    if form == "decimal comma":
        warnings.append(f"{name!r} was read with decimal commas (1,5 is 1.5): --column_types={name}=category if wrong")
    return Inferred(schema, tuple(notes), tuple(warnings))


_READ_AS = {
    "currency": "currency signs and thousands separators were left out",
    "percent": "per cent signs were left out",
    "decimal comma": "commas are decimal points",
}


def _date(table: Table, name: str, form: str, train: np.ndarray, known: np.ndarray) -> Inferred:
    days = checked_numbers(table, name, form)
    seen = days[known]
    if np.nanmin(seen) == np.nanmax(seen) and not np.isnan(seen).any():
        return _dropped(f"dropped {name!r}: it is the same date in every row but test rows")
    parts = tuple(part for part in PARTS if np.nanmin(p := place_in(part, seen)) < np.nanmax(p))
    schema = _scaled(ColumnSchema(name, DATE, form, parts=parts), days, train, known)
    notes = [f"read {name!r} as dates ({form}): days{''.join(f', {part}' for part in parts)}"]
    if count := np.count_nonzero(np.isnan(days)):
        notes.append(f"{_missing_values(count)} in {name!r} became the median date of the training rows")
    swapped = form.replace("MM/DD", "DD/MM") if form.startswith("MM/DD") else ""
    warnings: tuple[str, ...] = ()
    if swapped:
        values = table.columns[name].values
        if not np.isnan(forms.read(values, swapped)).any():
            warnings = (f"{name!r} was read as {form}, and could be {swapped}: write YYYY-MM-DD to be certain",)
    return Inferred(schema, tuple(notes), warnings)


def _scaled(schema: ColumnSchema, values: np.ndarray, train: np.ndarray, known: np.ndarray) -> ColumnSchema:
    """Return the schema with its offset, scale and median, of the training rows, and whether values are missing."""
    fitted = values[train]
    fitted = fitted[~np.isnan(fitted)]
    indicator = bool(np.isnan(values[known]).any())
    if not len(fitted):  # all training rows miss it: validation rows set the scale alone
        fitted = values[known][~np.isnan(values[known])]
    lower, median, upper = np.quantile(fitted, [0.25, 0.5, 0.75]).tolist()
    low, high = fitted.min(), fitted.max()
    spread = upper - lower or float(high - low)
    offset = median if abs(median) > LOSES_DIGITS * spread else 0.0
    largest = max(abs(low - offset), abs(high - offset)) or max(abs(median), 1.0)
    # Numbers of ordinary size stay as they are.
    exponent = 0 if 1e-12 < largest < 1e12 else int(np.frexp(largest)[1])
    return ColumnSchema(
        schema.name, schema.kind, schema.form, offset, exponent, median, indicator, parts=schema.parts
    )  # fmt: skip


def _category(column: Column, name: str, kind: str, known: np.ndarray, *, is_asked: bool) -> Inferred:
    column = column.as_text()
    assert column.codes is not None
    counts = np.bincount(column.codes[known] + 1, minlength=len(column.values) + 1)
    choices = (MISSING, *column.values)
    texts = [choices[i] for i in np.flatnonzero(counts)]
    if kind == BOOLEAN:
        texts = [forms.TRUTH.get(text.lower(), text) for text in texts]
    categories = sorted(set(texts))
    count = len(known)
    if len(categories) == 1:
        return _dropped(f"dropped {name!r}: it is {shortened(categories[0])!r} in every row but test rows")
    if len(categories) > max(2, min(MAX_CATEGORIES, count // 2)) and not is_asked:
        note = f"dropped {name!r}: its text has {len(categories):,} distinct values in {count:,} rows"
        return Inferred(None, (note,), (f"{note}; --column_types={name}=category keeps it",))
    notes = []
    if missing := np.count_nonzero(column.missing):
        notes.append(f"{_missing_values(missing)} in {name!r} became the category 'missing'")
    schema = ColumnSchema(name, kind, categories=tuple(categories))
    if unseen := np.count_nonzero(schema.parse(column).values < 0):
        notes.append(f"{unseen} of the test rows have a category of {name!r} that no other row has")
    return Inferred(schema, tuple(notes))


def _dropped(note: str) -> Inferred:
    return Inferred(None, (note,), (note,))


def _missing_values(count: int | np.signedinteger) -> str:
    return "1 missing value" if count == 1 else f"{count:,} missing values"
