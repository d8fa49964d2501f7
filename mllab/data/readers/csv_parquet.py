"""CSV and Parquet files as columns of numbers and of text, with the row numbers that a user sees in the file."""

import csv
import hashlib
import io
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mllab.data import names as user_names
from mllab.data.readers import content
from mllab.errors import UserError, shortened

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

DELIMITERS = ",;\t"
CSV_SHARE = 4  # text takes its bytes several times over: as text, as cells, and as columns
CELL_BYTES = 16  # of a number and whether it is missing
TEXT_CELL_BYTES = 128  # of a cell of text
PARQUET_ROWS = 2**16  # decoded at once
MAX_WHOLE = 2**53  # float64 holds every whole number up to here


class Column(NamedTuple):
    """A column as it is in the file."""

    numbers: np.ndarray  # [N] float64, NaN where a cell is missing or not a number
    missing: np.ndarray  # [N] bool: cells that are empty, "?", or one of pandas' spellings of NA
    text: np.ndarray | None = None  # [N] str, None where missing; None for a column of numbers
    rounded: bool = False  # whether some whole number is beyond what float64 holds exactly


class Table(NamedTuple):
    """The columns of a file, not encoded yet."""

    path: Path
    columns: dict[str, Column]
    rows: np.ndarray  # [N] number of each row in the file: the header of a CSV file is row 1, as is Parquet's first row
    sha256: str
    notes: tuple[str, ...] = ()

    def cell(self, name: str, i: int) -> str:
        """Return where the i-th value of a column is in the file, for a message."""
        return f"{self.path}: row {self.rows[i]}, column {shortened(name)!r}"


def read(path: Path, *, limit: int | None = None) -> Table:
    """Read a .csv, .csv.gz or .parquet file.

    Names of columns and cells of text are made printable; see `mllab.data.names`.

    Args:
        path: of the file.
        limit: on the bytes of its content when decompressed; a share of the memory by default.

    Raises:
        UserError: the file cannot be read as a table of at least one row, or takes more bytes than the limit; the
            message names file and row.
    """
    try:
        import pandas as pd  # noqa: F401
    except ImportError:
        raise UserError(
            f"reading {path} needs pandas, which is not installed: pip install 'mllab[experiments]'"
        ) from None
    packed = content.read(path, limit=limit)
    if not packed:
        raise UserError(f"{path} is empty: expected a table with a header")
    limit = content.default_limit() if limit is None else limit
    raw_names, frame, rows = (_parquet if path.name.lower().endswith(".parquet") else _csv)(path, packed, limit)
    names = [user_names.title(name) for name in raw_names]
    if not len(frame):
        raise UserError(f"{path} has a header but no rows: add some")
    repeated = [name for name, count in Counter(names).items() if count > 1 and name]
    if repeated:
        raise UserError(f"{path}: two columns are called {shortened(repeated[0])!r}; rename one")
    columns = {name: _column(path, name, frame.iloc[:, i]) for i, name in enumerate(names) if name}
    notes = tuple(f"dropped column {i + 1}: it has no name" for i, name in enumerate(names) if not name)
    sha256 = hashlib.sha256(packed).hexdigest()
    return Table(path, columns, rows, sha256, notes)


def _csv(path: Path, packed: bytes, limit: int) -> "tuple[list[str], pd.DataFrame, np.ndarray]":
    """Return the header, the cells and the row numbers of a CSV file."""
    import pandas as pd

    text = _text(path, packed, max(1, limit // CSV_SHARE))
    delimiter = max(DELIMITERS, key=lambda each: _cells_of_header(text, each))
    names, blank = _check_rows(path, text, delimiter)
    try:
        frame = pd.read_csv(
            io.StringIO(text),
            sep=delimiter,
            header=0,
            names=range(len(names)),
            skipinitialspace=True,
            skip_blank_lines=False,  # they count as rows
            low_memory=False,
            na_values=["?"],
        )
    except (ValueError, OverflowError, RecursionError) as error:
        if unclosed := re.search(r"EOF inside string starting at row (\d+)", str(error)):
            row = int(unclosed[1]) + 1
            raise UserError(f"{path}: row {row} opens a quote that is never closed; close it") from None
        raise UserError(f"{path} cannot be read as CSV: {_first_line(error)}") from None
    frame = frame.drop(index=blank)
    return names, frame, frame.index.to_numpy() + 2


def _text(path: Path, packed: bytes, limit: int) -> str:
    """Return the text of a CSV file, decompressed and without a byte order mark."""
    encoded = content.unpacked(path, packed, limit=limit)
    if len(encoded) > limit:
        raise content.too_large(path, f"holds more than {content.size_text(limit)}")
    try:
        text = encoded.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = encoded.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}: line {line} is not UTF-8 (byte 0x{encoded[error.start]:02x}); save the file as UTF-8"
        ) from None
    if not text.strip():
        raise UserError(f"{path} is empty: expected a table with a header")
    return text


def _cells_of_header(text: str, delimiter: str) -> int:
    try:
        return len(next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True), []))
    except csv.Error:
        return 0


def _check_rows(path: Path, text: str, delimiter: str) -> tuple[list[str], list[int]]:
    """Return the names in the header and which rows below it are blank.

    Raises:
        UserError: a row has more or fewer cells than the header; pandas would fill it or cut it off silently.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    blank = []
    try:
        names = next(reader)
        if not "".join(names).strip():
            raise UserError(f"{path}: row 1 is blank; put the column names there")
        for i, row in enumerate(reader):
            if len(row) <= 1 and not "".join(row).strip():
                blank.append(i)
            elif len(row) != len(names):
                cells = "1 cell" if len(row) == 1 else f"{len(row)} cells"
                raise UserError(
                    f"{path}: row {i + 2} has {cells}, and the header names {len(names)} columns; correct it (quote a "
                    "cell that contains the separator, and close every quote)"
                )
    except csv.Error as error:
        raise UserError(f"{path}: line {reader.line_num} cannot be read as CSV: {error}") from None
    return names, blank


def _parquet(path: Path, packed: bytes, limit: int) -> "tuple[list[str], pd.DataFrame, np.ndarray]":
    """Return the names, the cells and the row numbers of a Parquet file."""
    if packed[:4] != b"PAR1" or packed[-4:] != b"PAR1":
        raise UserError(f"{path} is not a Parquet file, or truncated: it does not start and end with PAR1")
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise UserError(
            f"reading {path} needs pyarrow, which is not installed: pip install 'mllab[experiments]'"
        ) from None
    try:
        file = parquet.ParquetFile(pa.BufferReader(packed))
        schema = file.schema_arrow
        cell_bytes = sum(CELL_BYTES if _is_number(field.type) else TEXT_CELL_BYTES for field in schema)
        _check_parquet(path, file.metadata.num_rows * cell_bytes, limit)  # a few repeated values pack into nothing
        batches, taken = [], 0
        for batch in file.iter_batches(batch_size=PARQUET_ROWS):
            taken += batch.nbytes + batch.num_rows * cell_bytes
            _check_parquet(path, taken, limit)
            batches.append(batch)
        frame = pa.Table.from_batches(batches, schema).to_pandas()
    except UserError:
        raise
    except Exception as error:  # of Arrow, NumPy or pandas: the file describes its own types
        raise UserError(f"{path} cannot be read as Parquet: {_first_line(error)}") from None
    return [str(name) for name in frame.columns], frame, np.arange(1, len(frame) + 1)


def _is_number(dtype: "pa.DataType") -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(dtype) or pa.types.is_floating(dtype))


def _check_parquet(path: Path, size: int, limit: int) -> None:
    """Raise UserError if the cells of a Parquet file take more bytes than the limit."""
    if size > limit:
        raise content.too_large(path, f"unpacks to more than {content.size_text(limit)}")


def _column(path: Path, name: str, cells: "pd.Series") -> Column:
    """Return the cells of a column as numbers and as text.

    Raises:
        UserError: two cells of text look the same when printed.
    """
    import pandas as pd

    missing = cells.isna().to_numpy(bool)
    boolean = pd.api.types.is_bool_dtype(cells.dtype)
    if pd.api.types.is_numeric_dtype(cells.dtype) and not boolean:
        numbers = cells.to_numpy(np.float64, na_value=np.nan)
        whole = pd.api.types.is_integer_dtype(cells.dtype)
        return Column(numbers, missing, rounded=bool(whole and np.any(np.abs(numbers) >= MAX_WHOLE)))
    texts = [None if absent else str(cell) for cell, absent in zip(cells, missing, strict=True)]
    blank = {text for text in set(texts) if text is not None and not text.strip()}
    forms: dict[str | None, str] = {}
    forms.update(user_names.distinct(sorted({text for text in texts if text} - blank), f"{path}: column {name!r}"))
    text = np.array([forms.get(each) for each in texts], object)
    missing = np.array([each is None for each in text])
    if boolean or isinstance(cells.dtype, pd.CategoricalDtype):
        return Column(np.full(len(text), np.nan), missing, text)
    numbers = _parsed(text)
    rounded = bool(np.any(np.abs(numbers) >= MAX_WHOLE))
    return Column(numbers, missing, None if np.array_equal(np.isnan(numbers), missing) else text, rounded)


def _parsed(text: np.ndarray) -> np.ndarray:
    """Return cells of text [N] as float64, NaN where one is not a number."""
    import pandas as pd

    try:
        return pd.to_numeric(pd.Series(text, dtype=object), errors="coerce").to_numpy(np.float64)
    except (OverflowError, ValueError):  # whole numbers of hundreds of digits
        return np.array([_number(cell) for cell in text])


def _number(cell: str | None) -> float:
    try:
        return float(cell) if cell is not None else np.nan
    except ValueError:
        return np.nan


def _first_line(error: Exception) -> str:
    return shortened(str(error).strip().splitlines()[0], 200) if str(error).strip() else type(error).__name__
