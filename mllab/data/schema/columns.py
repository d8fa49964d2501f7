"""One column of a table: how its cells become numbers or codes of categories."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mllab.data.readers.columns import Column
from mllab.data.schema import forms
from mllab.errors import shortened

NUMBER, CATEGORY, BOOLEAN, DATE = KINDS = ("number", "category", "boolean", "date")
MAX_MAGNITUDE = 1e300  # sums of larger numbers overflow float64
MISSING = "missing"  # the category of a missing value

# The cyclic parts of a date: its place in a period, from which sine and cosine are taken.
PARTS = {"month": 12, "weekday": 7, "hour": 24}


class Parsed(NamedTuple):
    """The cells of a column in float64, or as codes, and those that could not be read."""

    values: np.ndarray  # [N] float64, NaN where missing; or int32, -1 where no known category
    bad: np.ndarray  # [N] bool


@dataclass(frozen=True)
class ColumnSchema:
    """How one column of a file becomes inputs.

    A number x is stored as (x - offset) / 2**exponent in float32, which keeps its digits; preprocessing cancels both.
    """

    name: str
    kind: str  # of KINDS
    form: str = "plain"  # of `forms.FORMS`: how the text of a number or a date is read
    offset: float = 0.0
    exponent: int = 0
    median: float = 0.0  # of the training rows; replaces a missing number where there is no indicator
    indicator: bool = False  # whether an input tells missing numbers
    categories: tuple[str, ...] = ()  # ascending
    parts: tuple[str, ...] = ()  # of PARTS; of a date

    @property
    def is_numeric(self) -> bool:
        """Whether the column becomes numbers."""
        return self.kind in (NUMBER, DATE)

    @property
    def number_names(self) -> tuple[str, ...]:
        """The names of the inputs that are numbers."""
        cyclic = tuple(f"{self.name} ({part}, {wave})" for part in self.parts for wave in ("sin", "cos"))
        return (self.name, *cyclic) if self.is_numeric else ()

    def parse(self, column: Column) -> Parsed:
        """Return the cells of a file's column."""
        return numbers_of(column, self.form) if self.is_numeric else self._codes(column)

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Return parsed numbers [N] as float32 [N, 1 + 2 parts]; infinite where float32 overflows."""
        if not self.indicator and np.isnan(values).any():
            values = np.where(np.isnan(values), self.median, values)
        encoded = np.empty((len(self.number_names), len(values)), np.float32).T
        with np.errstate(over="ignore", invalid="ignore"):
            moved = values - self.offset if self.offset else values
            encoded[:, 0] = np.ldexp(moved, -self.exponent) if self.exponent else moved
        for i, part in enumerate(self.parts):
            angle = 2 * np.pi * place_in(part, values) / PARTS[part]
            encoded[:, 2 * i + 1], encoded[:, 2 * i + 2] = np.sin(angle), np.cos(angle)
        return encoded

    def why_bad(self, column: Column, i: int) -> str:
        """Return what is wrong with the i-th cell, which could not be read."""
        if column.codes is None or not np.isnan(forms.read([column.text(i)], self.form)[0]):
            if self.kind == DATE:
                return f"{shortened(column.text(i))!r} is not a date ({self.form})"
            return f"is infinite or beyond {MAX_MAGNITUDE:g}"
        what = f"a date ({self.form})" if self.kind == DATE else "a number"
        return f"{shortened(column.text(i))!r} is not {what}"

    def _codes(self, column: Column) -> Parsed:
        column = column.as_text()
        assert column.codes is not None
        place = {category: i for i, category in enumerate(self.categories)}
        texts = (
            [forms.TRUTH.get(each.lower(), each) for each in column.values] if self.kind == BOOLEAN else column.values
        )
        table = np.array([place.get(text, -1) for text in texts] + [place.get(MISSING, -1)], np.int32)
        return Parsed(table[column.codes], np.zeros(len(column.codes), bool))


def numbers_of(column: Column, form: str) -> Parsed:
    """Return a column as numbers, or as dates in days since 1970, by the form of its text."""
    if column.codes is None:
        assert column.numbers is not None
        values, present = column.numbers, ~np.isnan(column.numbers)
        bad = present if form in forms.DATES else np.abs(values) > MAX_MAGNITUDE
        return Parsed(values, bad)
    read = np.append(forms.read(column.values, form), np.nan)
    values = read[column.codes]
    present = column.codes >= 0
    return Parsed(values, present & (np.isnan(values) | (np.abs(values) > MAX_MAGNITUDE)))


def place_in(part: str, days: np.ndarray) -> np.ndarray:
    """Return where days since 1970 [N] are in a period: month 0-11, weekday 0-6 (Monday first), hour 0-24."""
    whole = np.floor(days)
    if part == "hour":
        return (days - whole) * 24
    if part == "weekday":
        return (whole + 3) % 7
    known = np.where(np.isnan(whole), 0, whole).astype(np.int64)
    month = known.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64) % 12
    return np.where(np.isnan(whole), np.nan, month)
