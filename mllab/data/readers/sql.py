"""Answers of SQL queries as tables: SQLite by Python's own module, DuckDB for its files and for CSV and Parquet.

A query reads only: databases are opened read-only, and one statement that starts with SELECT, WITH, VALUES or FROM is
taken.
"""

import contextlib
import hashlib
import re
import sqlite3
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from mllab.data.readers import content
from mllab.data.readers.columns import MISSING, Table, table_of
from mllab.errors import UserError, shortened

SQLITE_ENDINGS = (".db", ".sqlite", ".sqlite3")
DUCKDB_ENDING = ".duckdb"
ENDINGS = (*SQLITE_ENDINGS, DUCKDB_ENDING)
STARTS = ("select", "with", "values", "from")
FILE_TABLE = "data"  # the name of a CSV or Parquet file in a query
BLOCK_ROWS = 50_000  # fetched at once
CHECK_STEPS = 100_000  # of SQLite's machine between two looks for Ctrl-C

# What SQLite may do in a query.
_READING = {
    sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, getattr(sqlite3, "SQLITE_RECURSIVE", 33)
}  # fmt: skip


def is_database(path: str | Path) -> bool:
    """Return whether a path is that of a database, by its ending."""
    return str(path).lower().endswith(ENDINGS)


def read(path: Path, query: str | None, *, text: Collection[str] = (), limit: int | None = None) -> Table:
    """Return the answer of a query; its rows are numbered from 1.

    Args:
        path: of a database, or of a CSV or Parquet file, which the query calls `data`.
        query: one statement that reads.
        text: see `csv_parquet.read`.
        limit: on the bytes of the answer; a share of the memory by default.

    Raises:
        UserError: no query, one that does more than read, a mistake in it, or an answer that is no table.
    """
    limit = content.default_limit() if limit is None else limit
    digest = hashlib.sha256()
    with content.open_file(path) as file:
        while block := file.read(content.CHUNK_BYTES):
            digest.update(block)
    answer = _sqlite if path.name.lower().endswith(SQLITE_ENDINGS) else _duckdb
    if query is not None:
        _check(query)
    names, cells, count = answer(path, query, limit)
    if not count:
        raise UserError(f"{path}: the query answers with no rows; ask for some")
    return table_of(path, names, cells, np.arange(1, count + 1), digest.hexdigest(), text)


def _check(query: str) -> None:
    """Raise UserError for what is not one statement that reads; the database checks again."""
    bare = re.sub(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"", "''", query)
    bare = re.sub(r"--[^\n]*|/\*.*?\*/", " ", bare, flags=re.DOTALL).strip().rstrip(";").strip()
    if ";" in bare:
        raise UserError("query: several statements; give one")
    first = bare.split(None, 1)[0].lower().strip("(") if bare else ""
    if first not in STARTS:
        raise UserError(f"query: {shortened(first.upper() or 'nothing')!r} does not read; start with SELECT")


def _listed(path: Path, tables: list[str]) -> UserError:
    shown = ", ".join(shortened(name) for name in tables[:20]) or "none"
    return UserError(
        f'{path} is a database: ask for a table by a query, such as --query="SELECT * FROM '
        f'{shortened(tables[0]) if tables else "NAME"}" (tables: {shown})'
    )


# ── SQLite ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _sqlite(path: Path, query: str | None, limit: int) -> tuple[list[str], Iterator[Any], int]:
    address = f"file:{quote(str(path.absolute()))}?mode=ro"
    try:
        with contextlib.closing(sqlite3.connect(address, uri=True)) as connection:
            return _sqlite_answer(connection, path, query, limit)
    except (sqlite3.Error, sqlite3.Warning) as error:
        if "interrupted" in str(error):  # Ctrl-C, in the progress handler
            raise KeyboardInterrupt from None
        if any(word in str(error) for word in ("authoriz", "prohibited", "readonly", "one statement")):
            raise UserError("query: it does more than read; give one SELECT") from None
        raise UserError(f"{path}: {shortened(str(error), 200)}") from None


def _sqlite_answer(
    connection: sqlite3.Connection, path: Path, query: str | None, limit: int
) -> tuple[list[str], Iterator[Any], int]:
    if query is None:
        found = connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view') ORDER BY name")
        raise _listed(path, [name for (name,) in found if not name.startswith("sqlite_")])
    connection.set_progress_handler(lambda: 0, CHECK_STEPS)  # lets Ctrl-C through
    connection.set_authorizer(lambda action, *_: sqlite3.SQLITE_OK if action in _READING else sqlite3.SQLITE_DENY)
    cursor = connection.execute(query)
    names = [column[0] for column in cursor.description or ()]
    parts: list[list[Any]] = []
    count, taken = 0, 0
    while rows := cursor.fetchmany(BLOCK_ROWS):
        count += len(rows)
        blocks = [_sqlite_column(list(cells)) for cells in zip(*rows, strict=True)]
        taken += sum(block.nbytes for block in blocks)
        if taken > limit:
            raise content.too_large(path, f"answers with more than {content.size_text(limit)}")
        parts.append(blocks)
    return names, (_joined([blocks[i] for blocks in parts]) for i in range(len(names))), count


def _sqlite_column(cells: list[Any]) -> Any:
    """Return cells of one column, whose types SQLite does not fix, as an Arrow array of numbers or text."""
    import pyarrow as pa

    kinds = {type(cell) for cell in cells} - {type(None)}
    if not kinds:
        return pa.nulls(len(cells))
    if kinds == {int} and all(abs(cell) < 2**63 for cell in cells if cell is not None):
        return pa.array(cells, pa.int64())
    if kinds <= {int, float}:
        return pa.array([None if cell is None else float(cell) for cell in cells], pa.float64())
    texts = [None if cell is None else cell if isinstance(cell, str) else str(cell) for cell in cells]
    return pa.array([None if each in MISSING else each for each in texts], pa.string())


def _joined(blocks: list[Any]) -> Any:
    """Return the blocks of a column as one, of the widest of their types."""
    import pyarrow as pa

    kinds = {block.type for block in blocks} - {pa.null()}
    widest = next((kind for kind in (pa.string(), pa.float64(), pa.int64()) if kind in kinds), pa.null())
    return pa.chunked_array([block.cast(widest) for block in blocks], widest)


# ── DuckDB ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _duckdb(path: Path, query: str | None, limit: int) -> tuple[list[str], Iterator[Any], int]:
    try:
        import duckdb
    except ImportError:
        raise UserError(f"a query on {path} needs duckdb, which is not installed: pip install 'mllab[sql]'") from None
    is_file = not path.name.lower().endswith(DUCKDB_ENDING)
    try:
        connection = duckdb.connect() if is_file else duckdb.connect(str(path), read_only=True)
    except duckdb.Error as error:
        raise UserError(f"{path}: {_first_line(error)}") from None
    try:
        if is_file:
            reader = connection.read_parquet if path.name.lower().endswith(".parquet") else connection.read_csv
            reader(str(path)).create_view(FILE_TABLE)
        else:
            connection.execute("SET enable_external_access = false")  # no other file, nor the network
        if query is None:
            raise _listed(path, [name for (name,) in connection.execute("SHOW TABLES").fetchall()])
        statements = connection.extract_statements(query)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise UserError("query: it does more than read; give one SELECT")
        table: Any = connection.sql(query).to_arrow_table()
    except duckdb.Error as error:
        raise UserError(f"{path}: {_first_line(error)}") from None
    finally:
        connection.close()
    if table.nbytes > limit:
        raise content.too_large(path, f"answers with more than {content.size_text(limit)}")
    return list(table.column_names), iter(table.columns), table.num_rows


def _first_line(error: Exception) -> str:
    return shortened(str(error).strip().splitlines()[0], 200)
