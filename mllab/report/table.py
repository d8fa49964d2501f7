"""Tables, and the one place that turns numbers into text: as many digits as the interval supports.

An interval is (mean, low, high), as `metrics.intervals` and summary.json have it; anything after these is ignored, and
a bound of None or NaN is a bound that is not known. Where a number is missing or not finite, a function returns BLANK.
Numbers have thousands separators and a typographic minus sign, but an exponent is written as a flag takes it: '−2e-5'.
A number that rounds to zero has no sign.
"""

import math
import numbers
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rich.cells import cell_len  # a Chinese character takes two columns of a terminal

BLANK = "—"  # a missing number
MINUS = "−"
UNNAMED = "(unnamed)"  # stands for an empty name, or one of spaces
GAP = "  "  # between columns
LARGEST = 1e9  # larger numbers of a table have an exponent
MIN_CAPTION_WIDTH = 60  # characters; a caption is as wide as its table, or this
MAX_NAME = 24  # characters of a user's name in a figure or a table
MAX_LINES = (1, 1), (2, 1), (3, 1), (4, 1), (4, 2), (4, 3)  # of a header and of a cell, in a narrow terminal

DURATIONS = (
    ("years", 31_557_600.0),
    ("days", 86_400.0),
    ("h", 3600.0),
    ("min", 60.0),
    ("s", 1.0),
    ("ms", 1e-3),
    ("µs", 1e-6),
)
BYTE_SIZES = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3))

Interval = Sequence[float | None]

_NUMBER = r"[-−+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?"
_NUMERIC = re.compile(rf"[<>≤≥≈(]?\s?{_NUMBER}(?:\s?[±–/×]\s?{_NUMBER})*\)?(?:e[-+]?\d+)?\s?[%×]?(?:\s\([^()]*\))?")
_LEADING = re.compile(r"[^\d]*[\d,]*")  # everything before the decimal point


@dataclass(frozen=True)
class Table:
    """Rows of cells under column names, for a terminal or a page.

    A cell is text or a number; None and NaN are shown as a dash. A float is shown with six significant digits: format
    it beforehand with one of the functions below.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    best: int | Collection[int] | None = None  # indices of the rows to mark, by `*` and by bold type: several if tied
    caption: str | None = None

    def __post_init__(self):
        for index, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ValueError(f"row {index} has {len(row)} cells for {len(self.columns)} columns: {row!r}")

    @property
    def marked(self) -> frozenset[int]:
        """The indices of the rows to mark."""
        return frozenset() if self.best is None else frozenset([self.best] if isinstance(self.best, int) else self.best)

    def numeric(self) -> list[bool]:
        """Return for each column whether it holds numbers only, and is therefore aligned to the right."""
        return [is_numeric for is_numeric, _ in self._by_column()]

    def aligned(self) -> list[tuple[str, ...]]:
        """Return the cells as text; those of a numeric column are padded to align their decimal points."""
        return list(zip(*(cells for _, cells in self._by_column()), strict=True))

    def lines(self, width: int | None = None) -> list[str]:
        """Return the table as lines of plain text; see `layout`."""
        return [line.text for line in self.layout(width)]

    def layout(self, width: int | None = None) -> list["Line"]:
        """Return the lines of the table in plain text: header, rule, rows (the best begin with `*`), caption.

        A table wider than `width`, the columns of a terminal, has its headers and then its texts wrapped at spaces, and
        is then split into blocks that each repeat the first column. No word or number is broken.
        """
        columns = [
            _Column(printable(name), is_numeric, cells)
            for name, (is_numeric, cells) in zip(self.columns, self._by_column(), strict=True)
        ]
        mark = GAP if self.marked else ""
        room = math.inf if width is None else width - len(mark)
        lines: list[Line] = []
        for block in _blocks(columns, room):
            lines += [Line("")] * bool(lines)
            lines += [Line(mark + text, is_bold=True) for text in block.header()]
            lines.append(Line(mark + block.rule()))
            for index in range(len(self.rows)):
                is_best = index in self.marked
                marks = "* " if is_best else mark
                lines += [Line((mark if rank else marks) + text, is_best) for rank, text in enumerate(block.row(index))]
        widest = max(cell_len(line.text) for line in lines)
        caption = wrapped(printable(self.caption or ""), min(max(widest, MIN_CAPTION_WIDTH), width or math.inf))
        return [Line(line.text.rstrip(), line.is_bold) for line in lines] + [Line(text) for text in caption if text]

    def _by_column(self) -> list[tuple[bool, list[str]]]:
        """Return for each column whether it is numeric, and its cells as text."""
        columns = [[_text(row[index]) for row in self.rows] for index in range(len(self.columns))]
        return [(True, _at_the_point(cells)) if _is_numeric(cells) else (False, cells) for cells in columns]


class Line(NamedTuple):
    """A line of a table in plain text."""

    text: str
    is_bold: bool = False  # of the header or of the best row


@dataclass(frozen=True)
class _Column:
    """A column of a table in plain text."""

    name: str
    is_numeric: bool
    cells: Sequence[str]

    def width(self, name_lines: int, cell_lines: int) -> int:
        """Return the least width at which the name and the cells wrap to at most these numbers of lines."""
        cells = (_least_width(cell, 1 if self.is_numeric else cell_lines) for cell in self.cells)
        return max([_least_width(self.name, name_lines), *cells])

    def lines(self, text: str, width: int) -> list[str]:
        """Return the name or a cell, wrapped and padded."""
        parts = wrapped(text, width) if cell_len(text) > width else [text]
        pads = [" " * max(0, width - cell_len(part)) for part in parts]
        return [pad + part if self.is_numeric else part + pad for part, pad in zip(parts, pads, strict=True)]


@dataclass(frozen=True)
class _Block:
    """Columns side by side."""

    columns: Sequence[_Column]
    widths: Sequence[int]

    def header(self) -> list[str]:
        return self._joined([column.name for column in self.columns], at_top=False)

    def rule(self) -> str:
        return GAP.join("-" * width for width in self.widths)

    def row(self, index: int) -> list[str]:
        return self._joined([column.cells[index] for column in self.columns], at_top=True)

    def _joined(self, texts: Sequence[str], *, at_top: bool) -> list[str]:
        parts = [
            column.lines(text, width) for column, text, width in zip(self.columns, texts, self.widths, strict=True)
        ]
        height = max(map(len, parts))
        for width, part in zip(self.widths, parts, strict=True):
            part[len(part) if at_top else 0 : 0] = [" " * width] * (height - len(part))
        return [GAP.join(line) for line in zip(*parts, strict=True)]


def _blocks(columns: Sequence[_Column], room: float) -> Iterator[_Block]:
    """Yield the columns in as few blocks as have room, each of which begins with the first column."""
    first, rest, start = columns[:1], columns[1:], 0
    while start < len(rest) or start == 0:
        count = len(rest) - start
        while (block := _fitted([*first, *rest[start : start + count]], room)) is None and count > 1:
            count -= 1
        chosen = [*first, *rest[start : start + count]]
        yield block or _Block(chosen, [column.width(*MAX_LINES[-1]) for column in chosen])
        start += max(count, 1)


def _fitted(columns: Sequence[_Column], room: float) -> _Block | None:
    """Return the columns with as few lines wrapped as have room; None where there is none."""
    for limits in MAX_LINES:
        widths = [column.width(*limits) for column in columns]
        if sum(widths) + len(GAP) * (len(widths) - 1) <= room:
            return _Block(columns, widths)
    return None


def _least_width(text: str, lines: int) -> int:
    """Return the least width at which a text wraps to at most `lines` lines; its full width if there is none."""
    full = cell_len(text)
    if lines == 1:
        return full
    longest = max(map(cell_len, _words(text)), default=0)
    return next((width for width in range(longest, full) if len(wrapped(text, width)) <= lines), full)


def _words(text: str) -> list[str]:
    return re.findall(r"\S+(?: ± \S+)*", text)


def wrapped(text: str, width: float) -> list[str]:
    """Return a text in lines of at most `width` columns of a terminal, which break no word and no interval."""
    lines = [""]
    for word in _words(text):
        joined = f"{lines[-1]} {word}" if lines[-1] else word
        if lines[-1] and cell_len(joined) > width:
            lines.append(word)
        else:
            lines[-1] = joined
    return lines


def number(mean: float, low: float = math.nan, high: float = math.nan) -> str:
    """Return a mean and its half-width, with as many digits as the interval supports: '0.972 ± 0.004', '1,230 ± 130'.

    The half-width keeps one significant digit, two where it begins with 1 (rounding 0.14 to 0.1 would lose a third of
    it), and the mean is rounded to the same place. Without an interval the mean keeps three significant digits.
    """
    if not math.isfinite(mean):
        return BLANK
    if not math.isfinite(half_width := max(mean - low, high - mean)) or math.isnan(low + high):
        return significant(mean)
    if half_width <= 1e-12 * abs(mean) or half_width < sys.float_info.min:  # equal over all seeds, up to rounding
        return f"{significant(mean, 4)} ± 0"
    largest = max(abs(mean), half_width)
    if not 1e-3 <= largest < LARGEST:
        exponent = math.floor(math.log10(largest))
        scale = 10.0**exponent
        return f"({number(mean / scale, low / scale, high / scale)})e{exponent}"
    place = _last_place(half_width)
    decimals = max(0, -place)
    return f"{fixed(round(mean, -place), decimals)} ± {fixed(round(half_width, -place), decimals)}"


def interval(values: Interval | None) -> str:
    """Return `number` of an interval."""
    return number(*_bounds(values))


def percent(values: Interval | None) -> str:
    """Return the interval of a share as a percentage: '97.2 ± 0.4%'; '97.21%' where it has no bounds."""
    mean, low, high = (100 * value for value in _bounds(values))
    if not math.isfinite(mean):
        return BLANK
    return f"{number(mean, low, high) if math.isfinite(high - low) else fixed(mean, 2)}%"


def percent_bounds(low: float, high: float) -> str:
    """Return the bounds of a share's interval as percentages: '97.2–99.6%'."""
    return f"{fixed(100 * low, 1)}–{fixed(100 * high, 1)}%" if math.isfinite(high - low) else BLANK


def points(values: Interval) -> str:
    """Return the interval of a difference in percentage points: '−1.2 ± 0.3'; '+3.1' where it has no bounds."""
    mean, low, high = _bounds(values)
    if not math.isfinite(mean):
        return BLANK
    text = number(mean, low, high) if math.isfinite(high - low) else fixed(mean, 1)
    is_zero = not text.partition(" ")[0].strip("(0.")
    return text if mean < 0 or is_zero else f"+{text}"


def share(value: float | None, decimals: int = 1) -> str:
    """Return a share as a percentage with a fixed number of decimals: '12.3%'."""
    return BLANK if value is None or not math.isfinite(value) else f"{fixed(100 * value, decimals)}%"


def fraction(value: float) -> str:
    """Return a share of the rows as a percentage of three significant digits: '0.5%', '100%'."""
    return f"{short(100 * value)}%" if math.isfinite(value) else BLANK


def probability(value: float) -> str:
    """Return a predicted probability as a whole percentage, '>99%' where that would round to 100%."""
    return ">99%" if value >= 0.995 else share(value, 0)


def fixed(value: float, decimals: int) -> str:
    """Return a number with a fixed number of decimals: '−1,234.50', and '0.0' for all that rounds to it."""
    if not math.isfinite(value):
        return BLANK
    text = f"{abs(value):,.{decimals}f}"
    return MINUS + text if value < 0 and text.strip("0.") else text


def significant(value: float | None, digits: int = 3) -> str:
    """Return a number with some significant digits, for a table: '0.00123', '1,230,000'."""
    if value is None or not math.isfinite(value):
        return BLANK
    rounded = _rounded(value, digits)
    return fixed(rounded, 0) if 1e6 <= abs(rounded) < LARGEST else plain(rounded)


def short(value: float, digits: int = 3) -> str:
    """Return a number with some significant digits, for a sentence or an axis: '0.00123', '12,000'."""
    return plain(_rounded(value, digits))


def plain(value: float) -> str:
    """Return a number with at most seven significant digits: '20,000', '−1e-5'."""
    if not math.isfinite(value):
        return BLANK
    size = abs(value)
    if size and not 1e-4 <= size < 1e6:
        digits, exponent = f"{size:.6e}".split("e")
        text = f"{float(digits):.7g}e{int(exponent)}"
    else:
        text = f"{size:,.7g}"
    return MINUS + text if value < 0 else text


def duration(seconds: float, digits: int = 2) -> str:
    """Return a time in the unit that suits it: '350 µs', '1.5 s', '60 s', '3.1 min', '40 days'."""
    if not math.isfinite(seconds):
        return BLANK
    unit, size = next((each for each in DURATIONS if abs(seconds) >= 2 * each[1]), DURATIONS[-1])
    if unit != "s" and 1 <= abs(seconds) < 2:
        unit, size = "s", 1.0
    return f"{short(seconds / size, digits)} {unit}"


def byte_size(count: float, digits: int = 2) -> str:
    """Return a number of bytes in the unit that suits it: '640 bytes', '3.1 MB', '22 GB'."""
    if not math.isfinite(count):
        return BLANK
    for unit, size in BYTE_SIZES:
        if count >= size:
            return f"{short(count / size, digits)} {unit}"
    return f"{short(count, 3)} bytes"


def equation(slope: float, intercept: float, digits: int = 4) -> str:
    """Return the equation of a line: 'y = −2 x + 25'."""
    sign = MINUS if intercept < 0 else "+"
    return f"y = {short(slope, digits)} x {sign} {short(abs(intercept), digits)}"


def listed(values: Iterable[object], form: str = "") -> str:
    """Return values joined by commas, each formatted by `form`."""
    return ", ".join(format(value, form) for value in values)


def ranged(values: Sequence[int]) -> str:
    """Return ascending whole numbers: '1 to 50' if they are consecutive, otherwise listed."""
    consecutive = len(values) > 2 and list(values) == list(range(values[0], values[-1] + 1))
    return f"{values[0]} to {values[-1]}" if consecutive else listed(values)


def printable(text: str) -> str:
    """Replace line breaks and control characters (such as terminal escapes) by spaces."""
    return text if text.isprintable() else "".join(each if each.isprintable() else " " for each in text)


def legible(name: str) -> str:
    """Return a name as one printable line, cut in the middle if it is very long, where names differ least."""
    text, half = printable(name).strip() or UNNAMED, MAX_NAME // 2
    return text if len(text) <= MAX_NAME else f"{text[:half]}…{text[-half + 1 :]}"


def _bounds(values: Interval | None) -> tuple[float, float, float]:
    mean, low, high = (
        math.nan if bound is None else float(bound) for bound in ((None,) * 3 if values is None else values[:3])
    )
    return mean, low, high


def _rounded(value: float, digits: int) -> float:
    rounded = float(f"{value:.{digits}g}")
    return rounded if math.isfinite(rounded) else value  # rounded up, the largest floats overflow


def _last_place(half_width: float) -> int:
    """Return the power of ten of the last digit to show."""
    first = math.floor(math.log10(half_width))
    leading = round(half_width / 10.0**first, 1)
    return first - 1 if leading < 2 else first


def _text(cell: object) -> str:
    if isinstance(cell, numbers.Integral) and not isinstance(cell, bool):
        return fixed(int(cell), 0)
    if isinstance(cell, numbers.Real) and not isinstance(cell, bool):  # NumPy's floats too
        return significant(float(cell), 6)
    return BLANK if cell is None else printable(str(cell))


def _is_numeric(cells: Sequence[str]) -> bool:
    filled = [cell for cell in cells if cell not in ("", BLANK)]
    return bool(filled) and all(_NUMERIC.fullmatch(cell) for cell in filled)


def _at_the_point(cells: Sequence[str]) -> list[str]:
    """Pad the cells of a numeric column to one width, their decimal points aligned."""
    ends = [_LEADING.match(cell).end() for cell in cells]  # type: ignore[union-attr]
    parts = [(cell[:end], cell[end:]) for cell, end in zip(cells, ends, strict=True)]
    left, right = (max(len(part[side]) for part in parts) for side in (0, 1))
    return [before.rjust(left) + after.ljust(right) for before, after in parts]
