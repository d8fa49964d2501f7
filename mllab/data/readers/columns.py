"""The columns of a file: numbers, or codes of distinct texts, as they are there."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mllab.data import names as user_names
from mllab.errors import UserError, shortened

if TYPE_CHECKING:
    import pyarrow as pa

MAX_COLUMNS = 100_000
MAX_CELL = 2**17  # characters of a cell, as in Python's csv module
MAX_WHOLE = 2**53  # float64 holds every whole number up to here
MISSING = (  # pandas' spellings of a missing value, and "?"
    "", "?", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A",
    "NA", "NULL", "NaN", "None", "n/a", "nan", "null",
)  # fmt: skip


class Column(NamedTuple):
    """A column as it is in the file: of numbers, or of text."""

    numbers: np.ndarray | None = None  # [N] float64, NaN where a cell is missing; None for text
    codes: np.ndarray | None = None  # [N] int32, which of `values`; -1 where missing; None for numbers
    values: tuple[str, ...] = ()  # the distinct texts, ascending
    rounded: bool = False  # whether some whole number is beyond what float64 holds exactly
    categorical: bool = False  # whether the file says that these are categories

    @property
    def missing(self) -> np.ndarray:
        """Which cells are empty, blank, or one of `MISSING`, [N] bool."""
        return self.codes < 0 if self.codes is not None else np.isnan(np.asarray(self.numbers))

    def text(self, i: int) -> str:
        """Return the i-th cell as it is shown; "" where it is missing."""
        if self.codes is not None:
            return self.values[self.codes[i]] if self.codes[i] >= 0 else ""
        assert self.numbers is not None
        return "" if np.isnan(self.numbers[i]) else number_text(float(self.numbers[i]))

    def as_text(self) -> "Column":
        """Return the column as one of text; numbers as `number_text` writes them."""
        if self.codes is not None:
            return self
        assert self.numbers is not None
        present = ~np.isnan(self.numbers)
        distinct, places = np.unique(self.numbers[present], return_inverse=True)
        texts = [number_text(float(value)) for value in distinct]
        values = sorted(texts)
        place = {text: i for i, text in enumerate(values)}
        codes = np.full(len(self.numbers), -1, np.int32)
        codes[present] = np.array([place[text] for text in texts], np.int32)[places] if texts else 0
        return Column(codes=codes, values=tuple(values))

    def take(self, rows: np.ndarray) -> "Column":
        """Return some rows of the column."""
        if self.codes is not None:
            return self._replace(codes=self.codes[rows])
        assert self.numbers is not None
        return self._replace(numbers=self.numbers[rows])


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


def number_text(value: float) -> str:
    """Return a number as text, whole ones without a point."""
    return str(int(value)) if value == int(value) and abs(value) < MAX_WHOLE else repr(value)


def table_of(
    path: Path, raw_names: Sequence[str], cells: Iterator[Any], rows: np.ndarray, sha256: str, text: Collection[str]
) -> Table:
    """Return a table from Arrow's columns, which are taken one by one so that each can be freed.

    Args:
        path: of the file, for messages.
        raw_names: as in the file.
        cells: Arrow arrays of one length, one a name.
        rows: numbers of the rows in the file, [N].
        sha256: of the file.
        text: see `read`.

    Raises:
        UserError: no rows, two columns of one name, or two cells of text that look the same.
    """
    names = [user_names.title(name) for name in raw_names]
    if not len(rows):
        raise UserError(f"{path} has a header but no rows: add some")
    if len(names) > MAX_COLUMNS:
        raise UserError(f"{path} has {len(names):,} columns, and at most {MAX_COLUMNS:,} are read: remove some")
    repeated = [name for name, count in Counter(names).items() if count > 1 and name]
    if repeated:
        raise UserError(f"{path}: two columns are called {shortened(repeated[0])!r}; rename one")
    columns = {}
    for name, column in zip(names, cells, strict=True):
        if name:
            made = _column(path, name, column, rows)
            columns[name] = made.as_text() if name in text else made
    notes = tuple(f"dropped column {i + 1}: it has no name" for i, name in enumerate(names) if not name)
    return Table(path, columns, rows, sha256, notes)


def is_number(dtype: "pa.DataType") -> bool:
    """Return whether a type of Arrow is of whole or floating-point numbers."""
    import pyarrow as pa

    return bool(pa.types.is_integer(dtype) or pa.types.is_floating(dtype))


def _column(path: Path, name: str, cells: Any, rows: np.ndarray) -> Column:
    """Return Arrow's cells of a column as numbers or as text.

    Raises:
        UserError: two cells of text look the same when printed, or one is too long.
    """
    import pyarrow as pa

    dtype = cells.type
    if pa.types.is_null(dtype):
        return Column(np.full(len(cells), np.nan))
    if pa.types.is_decimal(dtype):
        cells = cells.cast(pa.float64())
    if is_number(cells.type):
        numbers = cells.to_numpy()
        rounded = pa.types.is_integer(dtype) and bool(np.any((numbers >= MAX_WHOLE) | (numbers <= -MAX_WHOLE)))
        return Column(numbers.astype(np.float64, copy=not numbers.flags.writeable), rounded=rounded)
    if pa.types.is_dictionary(dtype) and not pa.types.is_string(dtype.value_type):
        cells = cells.cast(dtype.value_type)
    if not (pa.types.is_string(cells.type) or pa.types.is_dictionary(cells.type)):
        try:
            cells = cells.cast(pa.string())
        except (pa.ArrowException, UnicodeDecodeError):
            cells = pa.chunked_array([[None if cell is None else str(cell) for cell in cells.to_pylist()]], pa.string())
    encoded = cells if pa.types.is_dictionary(cells.type) else cells.dictionary_encode()
    whole = encoded.unify_dictionaries().combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
    if isinstance(whole, pa.ChunkedArray):
        whole = whole.chunk(0)
    raw = whole.dictionary.to_pylist()
    codes = whole.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
    if pa.types.is_boolean(dtype):
        raw = [None if each is None else each.title() for each in raw]
    return _text_column(path, name, raw, codes, rows)._replace(categorical=pa.types.is_dictionary(dtype))


def _text_column(path: Path, name: str, raw: Sequence[str | None], codes: np.ndarray, rows: np.ndarray) -> Column:
    """Return a column of text from the distinct texts in a file and their codes [N]."""
    long = [i for i, each in enumerate(raw) if each is not None and len(each) > MAX_CELL]
    if long:
        row = rows[np.flatnonzero(codes == long[0])[0]]
        raise UserError(
            f"{path}: row {row}, column {shortened(name)!r} has {len(raw[long[0]] or ''):,} characters, and at most "
            f"{MAX_CELL:,} are read; shorten it"
        )
    used = np.bincount(codes + 1, minlength=len(raw) + 1)[1:] > 0
    texts = [each.lstrip(" ") if each is not None and used[i] else None for i, each in enumerate(raw)]
    texts = [None if each is None or each in MISSING or not each.strip() else each for each in texts]
    forms = user_names.distinct(
        sorted({each for each in texts if each is not None}), f"{path}: column {shortened(name)!r}"
    )
    values = sorted(set(forms.values()))
    place = {form: i for i, form in enumerate(values)}
    table = np.array([-1 if each is None else place[forms[each]] for each in texts] + [-1], np.int32)
    return Column(codes=table[codes], values=tuple(values))  # a code of -1 is the last entry
