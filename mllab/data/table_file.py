"""CSV and Parquet files as columns of numbers and of text, with the number of each row as the user counts it."""

import csv
import gzip
import hashlib
import io
import re
import zlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mllab.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

DELIMITERS = ",;\t"


class Column(NamedTuple):
    """One column as it stands in the file."""

    numbers: np.ndarray  # [N] float64, NaN where a cell is missing or holds no number
    missing: np.ndarray  # [N] bool: cells that are empty, or spelt NA in one of the usual ways
    text: np.ndarray | None = None  # [N] str, None where missing; None as a whole where all cells are numbers


class Table(NamedTuple):
    """What a file holds, before it is known what to make of it."""

    path: Path
    columns: dict[str, Column]
    rows: (
        np.ndarray
    )  # [N] number of each row in the file: a CSV file's header is row 1, a Parquet file begins with row 1
    sha256: str
    notes: tuple[str, ...] = ()

    def cell(self, name: str, i: int) -> str:
        """Say where the i-th value of a column stands."""
        return f"{self.path}: row {self.rows[i]}, column {name!r}"


def read(path: Path) -> Table:
    """Read a .csv, .csv.gz or .parquet file.

    Raises:
        UserError: naming the file and the row, where it cannot be read as a table with at least one row.
    """
    try:
        import pandas as pd  # noqa: F401
    except ImportError:
        raise UserError(
            f"reading {path} needs pandas, which is not installed: pip install 'mllab[experiments]'"
        ) from None
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    if not content:
        raise UserError(f"{path} is empty")
    sha256 = hashlib.sha256(content).hexdigest()
    names, frame, rows = (_parquet if path.name.lower().endswith(".parquet") else _csv)(path, content)
    if not len(frame):
        raise UserError(f"{path} names its columns but holds no rows")
    repeated = [name for name, count in Counter(names).items() if count > 1 and name]
    if repeated:
        raise UserError(f"{path}: two columns are called {repeated[0]!r}; rename one")
    columns = {name: _column(frame.iloc[:, i]) for i, name in enumerate(names) if name}
    notes = tuple(f"dropped column {i + 1}: it has no name" for i, name in enumerate(names) if not name)
    return Table(path, columns, rows, sha256, notes)


def _csv(path: Path, content: bytes) -> "tuple[list[str], pd.DataFrame, np.ndarray]":
    """Return the header, the cells and the row numbers of a CSV file."""
    import pandas as pd

    text = _text(path, content)
    delimiter = max(DELIMITERS, key=text.split("\n", 1)[0].count)
    names, blank = _check_rows(path, text, delimiter)
    try:
        frame = pd.read_csv(
            io.StringIO(text),
            sep=delimiter,
            header=0,
            names=range(len(names)),
            skipinitialspace=True,
            skip_blank_lines=False,  # they count
            low_memory=False,
            na_values=["?"],
        )
    except ValueError as error:
        if unclosed := re.search(r"EOF inside string starting at row (\d+)", str(error)):
            row = int(unclosed[1]) + 1
            raise UserError(f"{path}: row {row} opens a quote that is never closed; close it") from None
        raise UserError(f"{path} cannot be read: {_first_line(error)}") from None
    frame = frame.drop(index=blank)
    return names, frame, frame.index.to_numpy() + 2


def _text(path: Path, content: bytes) -> str:
    """Return a CSV file's text, unpacked where it is gzipped, without a byte order mark."""
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise UserError(f"{path} is cut short or damaged ({error})") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}: line {line} is not UTF-8 (byte 0x{content[error.start]:02x}); save the file as UTF-8"
        ) from None
    if not text.strip():
        raise UserError(f"{path} is empty")
    return text


def _check_rows(path: Path, text: str, delimiter: str) -> tuple[list[str], list[int]]:
    """Return the header's names and which rows below it are blank; pandas would fill or cut a ragged row silently."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    blank = []
    try:
        names = [" ".join(name.split()) for name in next(reader)]  # a quoted name may run over lines
        if not any(names):
            raise UserError(f"{path}: row 1 is blank where it should name the columns")
        for i, row in enumerate(reader):
            if len(row) <= 1 and not "".join(row).strip():
                blank.append(i)
            elif len(row) != len(names):
                cells = "1 cell" if len(row) == 1 else f"{len(row)} cells"
                raise UserError(
                    f"{path}: row {i + 2} has {cells} where the header names {len(names)} columns; mend it (a cell "
                    "that holds the separator needs quotes, and every quote must be closed)"
                )
    except csv.Error as error:
        raise UserError(f"{path}: line {reader.line_num} cannot be read: {error}") from None
    return names, blank


def _parquet(path: Path, content: bytes) -> "tuple[list[str], pd.DataFrame, np.ndarray]":
    """Return the names, the cells and the row numbers of a Parquet file."""
    import pandas as pd

    if content[:4] != b"PAR1" or content[-4:] != b"PAR1":
        raise UserError(f"{path} is not a Parquet file, or is cut short: it lacks the mark PAR1 at its ends")
    try:
        frame = pd.read_parquet(io.BytesIO(content))
    except ImportError:
        raise UserError(
            f"reading {path} needs pyarrow, which is not installed: pip install 'mllab[experiments]'"
        ) from None
    except (ValueError, OSError, NotImplementedError) as error:
        raise UserError(f"{path} cannot be read: {_first_line(error)}") from None
    return [str(name) for name in frame.columns], frame, np.arange(1, len(frame) + 1)


def _column(cells: "pd.Series") -> Column:
    import pandas as pd

    missing = cells.isna().to_numpy()
    truths = pd.api.types.is_bool_dtype(cells.dtype)
    if pd.api.types.is_numeric_dtype(cells.dtype) and not truths:
        return Column(cells.to_numpy(np.float64, na_value=np.nan), missing)
    text = np.array([None if gone else str(cell) for cell, gone in zip(cells, missing, strict=True)], object)
    if truths or isinstance(cells.dtype, pd.CategoricalDtype):
        return Column(np.full(len(text), np.nan), missing, text)
    numbers = pd.to_numeric(pd.Series(text, dtype=object), errors="coerce").to_numpy(np.float64)
    return Column(numbers, missing, None if np.array_equal(np.isnan(numbers), missing) else text)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
