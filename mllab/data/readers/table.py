"""A user's own table, a CSV or Parquet file or the answer of a query, as a data set.

- The task is classification if the target is text, boolean, or whole numbers with at most 20 distinct values, and
  regression otherwise; `task` overrides this. Without a target all columns are inputs, and rows have no targets.
- Rows are split 60/20/20, stratified by class in classification; or the test rows are those of another file, or of a
  column that names the part of each row.
- Kinds of columns and categories come from the rows that are not test rows (`mllab.data.schema`), and all statistics
  of `Dataset.inputs` from the training rows alone.
- Columns without information are dropped, with a note: empty, constant and unnamed ones, and text with too many
  distinct values (names, ids).
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mllab import tasks
from mllab.data import names
from mllab.data.dataset import Dataset
from mllab.data.readers import content, csv_parquet, sql, table_split, table_target, table_warnings
from mllab.data.readers.columns import Table
from mllab.data.schema import Schema
from mllab.data.schema.inference import checked_numbers, infer, kind_of
from mllab.data.schema.inputs import standard_inputs
from mllab.data.schema.schema import MAX_INPUTS
from mllab.errors import UserError, unknown
from mllab.models.preprocessing import Columns


class Options(NamedTuple):
    """What a user may set beside the file and the target."""

    task: str | None = None  # a name in `tasks.TASKS`, instead of the inferred one
    test: str | Path | None = None  # another file, whose rows are the test rows
    split_column: str | None = None  # a column that names the part of each row: train, validation or test
    drop: Sequence[str] = ()  # columns that are no inputs
    query: str | None = None  # SELECT statement of SQL
    column_types: Mapping[str, str] = {}  # kinds of some columns: number, category, boolean or date
    target_transform: str = "none"  # none, log, or auto: log where the target is positive and skewed
    extra: Collection[str] = ()  # columns to return raw, and not as inputs: groups, times

    def chosen(self) -> dict[str, object]:
        """Return the options that are not at their defaults, by name."""
        return {name: value for name, value in self._asdict().items() if value != self._field_defaults[name]}


def load(path: str | Path, target: str | None, *, split_seed: int, options: Options = Options()) -> Dataset:  # noqa: B008
    """Read a table and encode it, for predicting one of its columns or without a target.

    Args:
        path: a .csv, .csv.gz or .parquet file, or a database.
        target: the name of the column to predict; None if there is none, and all columns are inputs.
        split_seed: seed of the split.
        options: the rest.

    Raises:
        UserError: the table cannot be used; the message names file, row and column.
    """
    if options.task is not None:
        tasks.named(options.task)
    target = None if target is None else names.title(target)
    kinds = {names.title(name): kind for name, kind in options.column_types.items()}
    table = read(path, query=options.query, text=[name for name, kind in kinds.items() if kind == "category"])
    inputs = _input_names(table, target, options)
    _check_target(table, target)
    apart = table_split.parts_of(table, names.title(options.split_column or "")) if options.split_column else None
    aimed = table_target.encode(table, target, options, apart, split_seed)
    split = aimed.split
    known = np.sort(np.concatenate([split.train, split.validation]))
    columns, notes, warnings = infer(table, inputs, split.train, known, kinds)
    if not columns:
        raise UserError(f"{table.path}: no usable input column{f' ({notes[0]})' if notes else ''}: add one")
    schema = Schema(columns, aimed.schema)
    check_size(table.path, schema, len(table.rows))
    encoded, values, rows = schema.encode(table), aimed.values, table.rows
    extra = {name: raw_column(table, name) for name in map(names.title, options.extra)}
    sha256 = {names.printable(table.path.name): table.sha256}
    notes, warnings = (*table.notes, *aimed.notes, *notes), (*aimed.warnings, *warnings)
    if options.test is not None:
        other = read(
            options.test, query=options.query if sql.is_database(options.test) else None, text=schema.text_columns
        )
        _check_target(other, target)
        more = schema.read(other)
        tested = table_target.of_other_file(other, schema.target)
        start = len(rows)
        encoded = Columns(*map(np.concatenate, zip(encoded, schema.encode(other), strict=True)))
        values, rows = np.concatenate([values, tested.values]), np.concatenate([rows, other.rows])
        split = dataclasses.replace(split, test=np.arange(start, len(rows), dtype=np.int32))
        extra = {name: np.concatenate([column, raw_column(other, name)]) for name, column in extra.items()}
        sha256[names.printable(other.path.name)] = other.sha256
        notes = (
            *notes,
            f"took the {len(other.rows):,} rows of {other.path.name} as test rows",
            *more.notes,
            *tested.notes,
        )
        warnings = (*warnings, *tested.warnings)
    del table  # its numbers take more than the inputs
    warnings = (*warnings, *table_warnings.of(schema, encoded, values, split, apart is not None))
    return Dataset(
        name=names.printable(Path(path).name),
        task=aimed.task,
        inputs=standard_inputs(encoded, schema.layout, split.train),
        targets=values,
        split=split,
        features=schema.features,
        classes=schema.target.classes,
        target=schema.target.name,
        target_mean=schema.target.mean,
        target_scale=schema.target.scale,
        sha256=sha256,
        notes=notes,
        warnings=warnings,
        columns=encoded,
        schema=schema,
        file_rows=rows,
        extra_columns=extra,
    )


def read(path: str | Path, *, query: str | None = None, text: Collection[str] = ()) -> Table:
    """Read a file, or the answer of a query on it; see `csv_parquet.read` and `sql.read`."""
    if query is not None or sql.is_database(path):
        return sql.read(Path(path), query, text=text)
    return csv_parquet.read(Path(path), text=text)


def raw_column(table: Table, name: str) -> np.ndarray:
    """Return a column as it is: numbers [N] float64, days since 1970 of dates, or text [N], "" where missing.

    Raises:
        UserError: no column has this name.
    """
    if name not in table.columns:
        raise UserError(f"{table.path}: {unknown('column', name, table.columns)}")
    column = table.columns[name]
    kind, form = kind_of(column, np.arange(len(table.rows)))
    if kind in ("number", "date"):
        return checked_numbers(table, name, form)
    assert column.codes is not None
    return np.array([*column.values, ""], object)[column.codes]


def check_size(path: Path, schema: Schema, rows: int, limit: int | None = None) -> None:
    """Raise UserError for inputs [N, D] of too many columns or too many bytes; by default for a share of the memory."""
    size, limit = schema.layout.size, content.default_limit() if limit is None else limit
    if size > MAX_INPUTS:
        raise UserError(f"{path} has {size:,} inputs, and at most {MAX_INPUTS:,} are taken: drop columns (--drop)")
    if rows * size * 4 > limit:
        raise content.too_large(
            path, f"has {rows:,} rows of {size:,} inputs that take more than {content.size_text(limit)}"
        )


def _input_names(table: Table, target: str | None, options: Options) -> list[str]:
    dropped = [names.title(name) for name in options.drop]
    others = {"drop": dropped, "split_column": [names.title(options.split_column)] if options.split_column else []}
    others["extra"] = list(map(names.title, options.extra))
    targets = [] if target is None else [target]
    for name in (*targets, *(each for listed in others.values() for each in listed)):
        if name not in table.columns:
            raise UserError(f"{table.path}: {unknown('column', name, table.columns)}")
    for option, listed in others.items():
        if target in listed:
            raise UserError(f"{option}: {target!r} is the target; name another column")
    if options.test is not None and options.split_column:
        raise UserError("test and split_column both name the test rows: leave one out")
    left_out = {*targets, *(each for listed in others.values() for each in listed)}
    return [name for name in table.columns if name not in left_out]


def _check_target(table: Table, target: str | None) -> None:
    if target is None:
        return
    if target not in table.columns:
        raise UserError(f"{table.path}: {unknown('column', target, table.columns)}")
    missing = np.flatnonzero(table.columns[target].missing)
    if len(missing):
        more = f" (as are {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise UserError(
            f"{table.cell(target, missing[0])} is missing{more}, and it is the target; remove rows without a target"
        )
