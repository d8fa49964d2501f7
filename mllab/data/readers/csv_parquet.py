"""CSV and Parquet files as columns of numbers and of text, with the row numbers that a user sees in the file.

Arrow reads both, with all cores. It refuses a CSV file whose rows differ in length, as pandas does not, but it names no
row, knows no blank lines and keeps the spaces after a separator. So a file that it refuses, or that holds such, is
read again row by row: that names the row, or leaves a plain file for Arrow.
"""

import codecs
import csv
import gzip
import hashlib
import io
import re
import zlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from mllab.data import names as user_names
from mllab.data.readers import content
from mllab.data.readers.columns import MAX_COLUMNS, MISSING, Table, is_number, table_of
from mllab.errors import UserError, shortened

if TYPE_CHECKING:
    import pyarrow as pa

DELIMITERS = ",;\t"
CSV_SHARE = 4  # text takes its bytes several times over: as text, as cells, and as columns
CELL_BYTES = 16  # of a number and whether it is missing
TEXT_CELL_BYTES = 128  # of a cell of text
PARQUET_ROWS = 2**16  # decoded at once
HEAD_BYTES = 2**20  # by which the separator is chosen
LONG_BLOCK = 2**26  # bytes of the longest row that is read
TAIL_BYTES = 64  # of a block, kept for a match across the next one

_SPACED_QUOTE = re.compile(rb'(?:^|[,;\t\r\n]) +"')  # to Arrow, the quote is part of the text
_BLANK_LINES = (b"\n\n", b"\n\r", b"\r\r")  # to Arrow, a row of missing cells


def read(path: Path, *, text: Collection[str] = (), limit: int | None = None) -> Table:
    """Read a .csv, .csv.gz or .parquet file.

    Names of columns and cells of text are made printable; see `mllab.data.names`.

    Args:
        path: of the file.
        text: names of columns to read as text even if they hold numbers ("007" stays so).
        limit: on the bytes of its content when decompressed; a share of the memory by default.

    Raises:
        UserError: the file cannot be read as a table of at least one row, or takes more bytes than the limit; the
            message names file and row.
    """
    try:
        import pyarrow as pa
    except ImportError:
        raise UserError(
            f"reading {path} needs pyarrow, which is not installed: pip install 'mllab[experiments]'"
        ) from None
    limit = content.default_limit() if limit is None else limit
    reader = _parquet if path.name.lower().endswith(".parquet") else _csv
    table = reader(path, text, limit)
    pa.default_memory_pool().release_unused()  # the blocks of the file, which are as much again as the columns
    return table


# ── CSV ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Checked:
    """A file of text that is hashed, unpacked, counted and checked while Arrow reads it."""

    closed = False

    def __init__(self, path: Path, file: BinaryIO, limit: int):
        self.path, self.limit = path, limit
        self.hash, self.count, self.quotes = hashlib.sha256(), 0, 0
        self.odd = False  # blank lines, or spaces before a quote
        self.is_cut = False  # whether a quoted cell goes over the end of a block
        self.error: BaseException | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        hashed: Any = _Hashed(file, self.hash)
        packed = file.read(len(content.GZIP_MAGIC)) == content.GZIP_MAGIC
        file.seek(0)
        self._stream = gzip.GzipFile(fileobj=hashed) if packed else hashed
        self._tail = b""
        self.head = self._stream.read(HEAD_BYTES)
        self._pending = self.head.removeprefix(codecs.BOM_UTF8)

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes; raises what is wrong with them, and keeps it."""
        try:
            return self._next(HEAD_BYTES if size is None or size < 0 else size)
        except BaseException as error:
            self.error = error
            raise

    def _next(self, size: int) -> bytes:
        if self._pending:
            block, self._pending = self._pending[:size], self._pending[size:]
        else:
            block = self._stream.read(size)
        self.count += len(block)
        if self.count > self.limit:
            raise content.too_large(self.path, f"holds more than {content.size_text(self.limit)}")
        if not block.isascii() or self._decoder.getstate()[0]:
            self._decoder.decode(block, final=False)
        seen = self._tail + block
        self.odd = self.odd or any(blank in seen for blank in _BLANK_LINES)
        quotes = block.count(b'"')
        if quotes or self.quotes % 2:
            # Where Arrow is not told of line breaks in quoted cells, it cuts each block at its last line break.
            before = block.count(b'"', 0, max(block.rfind(b"\n"), block.rfind(b"\r"), 0))
            self.is_cut = self.is_cut or (self.quotes + before) % 2 == 1
            self.quotes += quotes
            self.odd = self.odd or (b' "' in seen and _SPACED_QUOTE.search(seen) is not None)
        self._tail = block[-TAIL_BYTES:]
        if not block:
            self._decoder.decode(b"", final=True)
        return block

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def writable(self) -> bool:
        return False

    def close(self) -> None:
        self.closed = True


class _Hashed:
    """A binary file whose bytes are hashed as they are read."""

    def __init__(self, file: BinaryIO, digest: Any):
        self._file, self._digest = file, digest

    def read(self, size: int = -1) -> bytes:
        block = self._file.read(size)
        self._digest.update(block)
        return block


def _csv(path: Path, text: Collection[str], limit: int) -> Table:
    return _csv_at_once(path, text, limit) or _csv_by_rows(path, text, limit)


def _csv_at_once(path: Path, text: Collection[str], limit: int) -> Table | None:
    """Read a CSV file by Arrow alone; None if it must be read row by row."""
    import pyarrow as pa

    multiline, guesses = False, None
    while True:
        checked = None
        with content.open_file(path) as file:
            try:
                checked = _Checked(path, file, max(1, limit // CSV_SHARE))
                delimiter = _delimiter(checked.head.decode("utf-8-sig", "replace"))
                if guesses is None:
                    guesses = _guessed_types(checked.head, delimiter) if len(checked.head) >= HEAD_BYTES else {}
                types = guesses | _text_types(checked.head, delimiter, text)
                table = _by_arrow(pa.PythonFile(checked, mode="r"), delimiter, types, multiline=multiline)
            except UserError:
                raise
            except (pa.ArrowException, OSError, ValueError, EOFError, zlib.error, KeyError) as error:
                if checked and isinstance(checked.error, UserError):
                    raise checked.error from None
                if checked and checked.is_cut and not multiline:
                    multiline = True
                elif guesses and "conversion error" in str(error):
                    guesses = {}
                else:
                    return None
                continue
        if checked.quotes % 2 or checked.odd or table.num_columns < 2:
            return None
        if multiline or not checked.is_cut:
            break
        multiline = True
    names, rows, cells = table.column_names, np.arange(2, table.num_rows + 2), _taken(table)
    del table
    return table_of(path, names, cells, rows, checked.hash.hexdigest(), text)


def _guessed_types(head: bytes, delimiter: str) -> dict[str, "pa.DataType"]:
    """Return the types of columns by the first rows; Arrow then need not keep the file's text until its end."""
    import pyarrow as pa

    try:
        table = _by_arrow(pa.BufferReader(head[: head.rfind(b"\n") + 1]), delimiter, {}, multiline=True)
    except (pa.ArrowException, ValueError, KeyError):
        return {}
    text = pa.dictionary(pa.int32(), pa.string())
    return {
        field.name: field.type if is_number(field.type) or pa.types.is_boolean(field.type) else text
        for field in table.schema
        if not pa.types.is_null(field.type)
    }


def _text_types(head: bytes, delimiter: str, text: Collection[str]) -> dict[str, "pa.DataType"]:
    """Return the types of columns that are to be read as text, by their names as they are in the file."""
    import pyarrow as pa

    stream = io.StringIO(head.decode("utf-8-sig", "replace"), newline="")
    return {
        name: pa.string()
        for name in (next(csv.reader(stream, delimiter=delimiter), []) if text else [])
        if user_names.title(name) in text
    }


def _by_arrow(
    source: Any, delimiter: str, types: "Mapping[str, pa.DataType]", *, multiline: bool, block: int = 2**20
) -> "pa.Table":
    """Read CSV by Arrow: numbers, truth values, and text as dictionaries.

    Raises:
        pa.ArrowInvalid: rows of different lengths, among others.
    """
    from pyarrow import csv as arrow_csv

    return arrow_csv.read_csv(
        source,
        read_options=arrow_csv.ReadOptions(block_size=block),
        parse_options=arrow_csv.ParseOptions(
            delimiter=delimiter, newlines_in_values=multiline, ignore_empty_lines=False
        ),
        convert_options=arrow_csv.ConvertOptions(
            null_values=list(MISSING),
            strings_can_be_null=True,
            column_types=types,
        ),
    )


def _taken(table: "pa.Table") -> Iterator[Any]:
    """Yield the columns of a table, which keeps none of them."""
    columns = list(table.columns)[::-1]
    del table
    while columns:
        yield columns.pop()


def _csv_by_rows(path: Path, text: Collection[str], limit: int) -> Table:
    """Read a CSV file row by row, which names the row that is wrong, and then by Arrow."""
    import pyarrow as pa

    packed = content.read(path, limit=limit)
    decoded = _text(path, packed, max(1, limit // CSV_SHARE))
    names, rows, plain = _rows(path, decoded, _delimiter(decoded))
    del decoded
    if not len(rows):
        raise UserError(f"{path} has a header but no rows: add some")
    try:
        types = {name: pa.string() for name in names if user_names.title(name) in text}
        table = _by_arrow(pa.BufferReader(plain), ",", types, multiline=True, block=LONG_BLOCK)
    except (pa.ArrowException, ValueError) as error:
        raise UserError(f"{path} cannot be read as CSV: {_first_line(error)}") from None
    cells = _taken(table)
    del table
    return table_of(path, names, cells, rows, hashlib.sha256(packed).hexdigest(), text)


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


def _delimiter(text: str) -> str:
    return max(DELIMITERS, key=lambda each: _cells_of_header(text, each))


def _cells_of_header(text: str, delimiter: str) -> int:
    try:
        return len(next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True), []))
    except csv.Error:
        return 0


def _rows(path: Path, text: str, delimiter: str) -> tuple[list[str], np.ndarray, bytes]:
    """Return the names in the header, the numbers of the rows that are not blank, and the table as plain CSV.

    Raises:
        UserError: a row has more or fewer cells than the header, or opens a quote that is never closed.
    """
    record: list[str] = []  # the lines of the current row
    reader = csv.reader(_kept(io.StringIO(text, newline=""), record), delimiter=delimiter, skipinitialspace=True)
    rows, plain = [], io.StringIO(newline="")
    writer = csv.writer(plain, quoting=csv.QUOTE_MINIMAL, lineterminator="\n")
    number, last = 1, ""
    try:
        names = next(reader)
        if not "".join(names).strip():
            raise UserError(f"{path}: row 1 is blank; put the column names there")
        writer.writerow([str(i) for i in range(len(names))] if len(names) > MAX_COLUMNS else names)
        record.clear()
        for number, row in enumerate(reader, 2):
            last = "".join(record)
            record.clear()
            if len(row) <= 1 and not "".join(row).strip():
                continue
            if len(row) != len(names):
                cells = "1 cell" if len(row) == 1 else f"{len(row)} cells"
                raise UserError(
                    f"{path}: row {number} has {cells}, and the header names {len(names)} columns; correct it (quote a "
                    "cell that contains the separator, and close every quote)"
                )
            rows.append(number)
            writer.writerow(row)
    except csv.Error as error:
        raise UserError(f"{path}: line {reader.line_num} cannot be read as CSV: {error}") from None
    if _is_unclosed(last, delimiter):
        raise UserError(f"{path}: row {number} opens a quote that is never closed; close it")
    return names, np.array(rows, np.int64), plain.getvalue().encode()


def _kept(lines: Iterator[str], record: list[str]) -> Iterator[str]:
    for line in lines:
        record.append(line)
        yield line


def _is_unclosed(row: str, delimiter: str) -> bool:
    """Return whether the last row of a file ends inside a quoted cell."""
    reader = csv.reader(io.StringIO(row, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        list(reader)
    except csv.Error as error:
        return "unexpected end of data" in str(error)
    return False


# ── Parquet ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _parquet(path: Path, text: Collection[str], limit: int) -> Table:
    import pyarrow as pa
    from pyarrow import parquet

    packed = content.read(path, limit=limit)
    if not packed:
        raise UserError(f"{path} is empty: expected a table with a header")
    if packed[:4] != b"PAR1" or packed[-4:] != b"PAR1":
        raise UserError(f"{path} is not a Parquet file, or truncated: it does not start and end with PAR1")
    try:
        file = parquet.ParquetFile(pa.BufferReader(packed))
        schema = file.schema_arrow
        cell_bytes = sum(CELL_BYTES if is_number(field.type) else TEXT_CELL_BYTES for field in schema)
        _check_parquet(path, file.metadata.num_rows * cell_bytes, limit)  # a few repeated values pack into nothing
        batches, taken = [], 0
        for batch in file.iter_batches(batch_size=PARQUET_ROWS):
            taken += batch.nbytes + batch.num_rows * cell_bytes
            _check_parquet(path, taken, limit)
            batches.append(batch)
        table = pa.Table.from_batches(batches, schema)
        index = (schema.pandas_metadata or {}).get("index_columns", [])
        table = table.drop_columns([name for name in index if isinstance(name, str) and name in table.column_names])
        names, count = [str(name) for name in table.column_names], table.num_rows
        cells = _taken(table)
        del table, batches
        return table_of(path, names, cells, np.arange(1, count + 1), hashlib.sha256(packed).hexdigest(), text)
    except UserError:
        raise
    except Exception as error:  # of Arrow or NumPy: the file describes its own types
        raise UserError(f"{path} cannot be read as Parquet: {_first_line(error)}") from None


def _check_parquet(path: Path, size: int, limit: int) -> None:
    """Raise UserError if the cells of a Parquet file take more bytes than the limit."""
    if size > limit:
        raise content.too_large(path, f"unpacks to more than {content.size_text(limit)}")


def _first_line(error: Exception) -> str:
    return shortened(str(error).strip().splitlines()[0], 200) if str(error).strip() else type(error).__name__
