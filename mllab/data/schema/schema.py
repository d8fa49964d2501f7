"""A table's schema: how columns of a file become inputs, for the file learned from and for new ones alike."""

import dataclasses
import json
import math
from typing import Any, NamedTuple

import numpy as np

from mllab.data import names as user_names
from mllab.data.readers.columns import Table
from mllab.data.schema import forms
from mllab.data.schema.columns import KINDS, PARTS, ColumnSchema
from mllab.data.schema.target import TRANSFORMS, TargetSchema
from mllab.errors import UserError, shortened
from mllab.models.preprocessing import Columns, Layout

VERSION = 1
MAX_JSON = 2**26  # characters
MAX_NAME = 2**17  # characters of a name or category
MAX_INPUTS = 100_000


class Unread(NamedTuple):
    """A row of a new file that could not be read."""

    row: int  # number in the file
    column: str
    why: str


class NewRows(NamedTuple):
    """The rows of a new file that could be read."""

    columns: Columns  # [M]
    rows: np.ndarray  # [M] which rows of the table, ascending
    unread: tuple[Unread, ...]  # the others, with their first cell that could not be read
    notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Schema:
    """The columns that are inputs, in the order of the file, and the target."""

    columns: tuple[ColumnSchema, ...]
    target: TargetSchema  # NO_TARGET where all columns are inputs; such a schema has no JSON

    @property
    def numeric(self) -> tuple[ColumnSchema, ...]:
        """The columns that become numbers."""
        return tuple(column for column in self.columns if column.is_numeric)

    @property
    def categorical(self) -> tuple[ColumnSchema, ...]:
        """The columns that become codes."""
        return tuple(column for column in self.columns if not column.is_numeric)

    @property
    def layout(self) -> Layout:
        """The sizes of the inputs."""
        indicators, place = [], 0
        for column in self.numeric:
            if column.indicator:
                indicators.append(place)
            place += len(column.number_names)
        return Layout(place, tuple(indicators), tuple(len(column.categories) for column in self.categorical))

    @property
    def features(self) -> tuple[str, ...]:
        """The names of the inputs, [D], in the order of `preprocessing.apply`."""
        return tuple(name for name, _ in self._inputs())

    @property
    def groups(self) -> tuple[str, ...]:
        """The column of the file that each input comes from, [D]."""
        return tuple(column for _, column in self._inputs())

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The columns to read as text, for `csv_parquet.read`: "007" is another category than "7"."""
        target = (self.target.name,) if self.target.classes else ()
        return (*(column.name for column in self.categorical), *target)

    def encode(self, table: Table) -> Columns:
        """Return the columns of a table.

        Raises:
            UserError: a cell cannot be read, or a column is missing; the message names it.
        """
        encoded = self.read(table)
        if encoded.unread:
            row, column, why = encoded.unread[0]
            others = len(encoded.unread) - 1
            raise UserError(
                f"{table.path}: row {row}, column {shortened(column)!r}: {why}"
                f"{f' (as are {others} other rows)' if others else ''}; correct it, or leave the cell empty"
            )
        return encoded.columns

    def read(self, table: Table) -> NewRows:
        """Return the rows of a table that can be read, and which cannot; its other columns are ignored.

        Raises:
            UserError: a column is missing.
        """
        self.check_names(table)
        count, layout = len(table.rows), self.layout
        numbers = np.empty((layout.numbers, count), np.float32).T  # each column in one piece
        codes = np.empty((len(layout.categories), count), np.int32).T
        reasons: dict[int, tuple[str, str]] = {}
        place = 0
        for column in self.numeric:
            cells = table.columns[column.name]
            values, bad = column.parse(cells)
            width = len(column.number_names)
            numbers[:, place : place + width] = column.encode(np.where(bad, np.nan, values) if bad.any() else values)
            for i in np.flatnonzero(bad).tolist():
                reasons.setdefault(i, (column.name, column.why_bad(cells, i)))
            far = np.isinf(numbers[:, place]) & ~bad
            for i in np.flatnonzero(far).tolist():
                reasons.setdefault(i, (column.name, f"{values[i]:g} is too far from the training rows for float32"))
            place += width
        for j, column in enumerate(self.categorical):
            codes[:, j] = column.parse(table.columns[column.name]).values
        known = {column.name for column in self.columns} | {self.target.name}
        extra = [name for name in table.columns if name not in known]
        notes = (f"ignored {len(extra)} columns that were not learned from: {_listed(extra)}",) if extra else ()
        unread = tuple(Unread(int(table.rows[i]), *reasons[i]) for i in sorted(reasons))
        kept = np.arange(count)
        if unread:
            kept = np.delete(kept, sorted(reasons))
            numbers, codes = numbers[kept], codes[kept]
        return NewRows(Columns(numbers, codes), kept, unread, notes)

    def check_names(self, table: Table) -> None:
        """Raise UserError for a table that lacks a column that was learned from."""
        lacking = [column.name for column in self.columns if column.name not in table.columns]
        if lacking:
            plural = "s" if len(lacking) > 1 else ""
            raise UserError(
                f"{table.path} lacks column{plural} {_listed(lacking)}, which the model was trained on; add "
                f"{'them' if plural else 'it'} (empty cells count as missing)"
            )

    def to_json(self) -> str:
        """Return the schema as JSON."""
        return json.dumps({"version": VERSION, **dataclasses.asdict(self)}, ensure_ascii=True, allow_nan=False)

    @staticmethod
    def from_json(text: str) -> "Schema":
        """Return a schema from JSON, every part of it checked.

        Raises:
            UserError: it is no schema of this version.
        """
        try:
            if not isinstance(text, str) or len(text) > MAX_JSON:
                raise ValueError("it is no text, or too long")
            content = json.loads(text, parse_constant=_refuse)
            if not isinstance(content, dict) or content.keys() != {"version", "columns", "target"}:
                raise ValueError("expected version, columns and target")
            if content["version"] != VERSION:
                raise ValueError(f"expected version {VERSION}")
            if not isinstance(content["columns"], list) or not content["columns"]:
                raise ValueError("expected a list of columns")
            columns = tuple(_made(ColumnSchema, column) for column in content["columns"])
            schema = Schema(columns, _made(TargetSchema, content["target"]))
            _check(schema)
        except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
            raise UserError(f"not a schema of a table: {shortened(str(error), 200)}; save the model again") from None
        return schema

    def _inputs(self) -> list[tuple[str, str]]:
        """Return the name and the column of each input."""
        numbers = [(name, column.name) for column in self.numeric for name in column.number_names]
        indicators = [(f"{column.name} is missing", column.name) for column in self.numeric if column.indicator]
        hot = [(f"{column.name}={each}", column.name) for column in self.categorical for each in column.categories]
        return numbers + indicators + hot


def _made(cls: type, content: Any) -> Any:
    """Return a dataclass of strings, numbers, switches and tuples of strings from an object of JSON."""
    fields = {field.name: field for field in dataclasses.fields(cls)}
    if not isinstance(content, dict) or content.keys() != fields.keys():
        raise ValueError(f"expected an object with {', '.join(fields)}")
    values = {}
    for name, field in fields.items():
        value = content[name]
        if field.type == "tuple" or str(field.type).startswith("tuple"):
            if not isinstance(value, list) or not all(_is_name(each) for each in value):
                raise ValueError(f"{name} is no list of names")
            value = tuple(value)
        elif field.type is float and isinstance(value, int | float) and not isinstance(value, bool):
            value = float(value)
            if not math.isfinite(value):
                raise ValueError(f"{name} is not finite")
        elif type(value) is not field.type:
            raise ValueError(f"{name} is of another type")
        elif isinstance(value, str) and not _is_name(value, empty=name not in ("name", "kind")):
            raise ValueError(f"{name} does not print, or is too long")
        values[name] = value
    return cls(**values)


def _is_name(value: object, *, empty: bool = False) -> bool:
    return (
        isinstance(value, str)
        and len(value) <= MAX_NAME
        and (value == user_names.printable(value) or (empty and not value))
    )


def _check(schema: Schema) -> None:
    """Raise ValueError for parts that do not fit."""
    for column in schema.columns:
        known = column.kind in KINDS and (not column.is_numeric or column.form in forms.FORMS)
        sizes = bool(column.categories) != column.is_numeric and list(column.categories) == sorted(
            set(column.categories)
        )
        if not known or not sizes or any(part not in PARTS for part in column.parts) or abs(column.exponent) > 1100:
            raise ValueError(f"column {shortened(column.name)!r} is not one that this version writes")
        if (column.kind == "date") != (column.form in forms.DATES) or (column.parts and column.kind != "date"):
            raise ValueError(f"column {shortened(column.name)!r} has another form than its kind")
    names = [column.name for column in schema.columns]
    target = schema.target
    if len(set(names)) != len(names) or target.name in names or len(schema.features) > MAX_INPUTS:
        raise ValueError("two columns have one name, or there are too many")
    if target.transform not in TRANSFORMS or target.scale <= 0 or len(set(target.classes)) != len(target.classes):
        raise ValueError("the target is not one that this version writes")
    if len(target.classes) == 1 or target.form not in forms.FORMS:
        raise ValueError("the target is not one that this version writes")


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")


def _listed(names: list[str], most: int = 5) -> str:
    shown = ", ".join(repr(shortened(name)) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
