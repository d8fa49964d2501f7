"""Tables, and the one place that turns numbers into text: as many digits as the interval supports.

An interval is (mean, low, high), as `metrics.intervals` and summary.json have it; anything after these is ignored, and
a bound of None or NaN is a bound that is not known. Where a number is missing or not finite, a function returns BLANK.
"""

import math
import numbers
import re
import sys
import textwrap
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

BLANK = "—"  # a missing number
MIN_CAPTION_WIDTH = 60  # characters; a caption is as wide as its table, or this
MAX_NAME = 24  # characters of a user's name in a figure or a table

Interval = Sequence[float | None]

_NUMBER = r"[-−+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?"
_NUMERIC = re.compile(rf"[<>≤≥≈(]?\s?{_NUMBER}(?:\s?[±–/×]\s?{_NUMBER})*\)?(?:e[-+]?\d+)?\s?[%×]?(?:\s\([^()]*\))?")
_LEADING = re.compile(r"[^\d]*[\d,]*")  # everything before the decimal point


@dataclass(frozen=True)
class Table:
    """Rows of cells under column names, for a terminal or a page.

    A cell is text or a number; None and NaN are shown as a dash. A float is shown with `:g`: format it beforehand with
    one of the functions below.
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

    def lines(self) -> list[str]:
        """Return the table as lines of plain text: header, rule, rows (the best begin with `*`), caption."""
        columns = []
        for name, (is_numeric, cells) in zip(self.columns, self._by_column(), strict=True):
            width = max(map(len, [name, *cells]))
            texts = [printable(name), "-" * width, *cells]
            columns.append([text.rjust(width) if is_numeric else text.ljust(width) for text in texts])
        lines = ["  ".join(texts) for texts in zip(*columns, strict=True)]
        if self.marked:
            lines = [("* " if index - 2 in self.marked else "  ") + line for index, line in enumerate(lines)]
        caption = textwrap.wrap(self.caption or "", max(len(lines[1]), MIN_CAPTION_WIDTH))
        return [line.rstrip() for line in lines] + caption

    def _by_column(self) -> list[tuple[bool, list[str]]]:
        """Return for each column whether it is numeric, and its cells as text."""
        columns = [[_text(row[index]) for row in self.rows] for index in range(len(self.columns))]
        return [(True, _at_the_point(cells)) if _is_numeric(cells) else (False, cells) for cells in columns]


def number(mean: float, low: float = math.nan, high: float = math.nan) -> str:
    """Return a mean and its half-width, with as many digits as the interval supports: '0.972 ± 0.004', '1230 ± 130'.

    The half-width keeps one significant digit, two where it begins with 1 (rounding 0.14 to 0.1 would lose a third of
    it), and the mean is rounded to the same place. Without an interval the mean keeps three significant digits.
    """
    if not math.isfinite(mean):
        return BLANK
    half_width = max(mean - low, high - mean)
    if not math.isfinite(half_width):
        return f"{mean:.3g}"
    if half_width <= 1e-12 * abs(mean) or half_width < sys.float_info.min:  # equal over all seeds, up to rounding
        return f"{mean:.4g} ± 0"
    largest = max(abs(mean), half_width)
    if not 1e-3 <= largest < 1e6:
        exponent = math.floor(math.log10(largest))
        scale = 10.0**exponent
        return f"({number(mean / scale, low / scale, high / scale)})e{exponent}"
    place = _last_place(half_width)
    decimals = max(0, -place)
    return f"{round(mean, -place):.{decimals}f} ± {round(half_width, -place):.{decimals}f}"


def interval(values: Interval | None) -> str:
    """Return `number` of an interval."""
    return number(*_bounds(values))


def percent(values: Interval | None) -> str:
    """Return the interval of a share as a percentage: '97.2 ± 0.4%'; '97.21%' where it has no bounds."""
    mean, low, high = (100 * value for value in _bounds(values))
    if not math.isfinite(mean):
        return BLANK
    return f"{number(mean, low, high)}%" if math.isfinite(low) else f"{mean:.2f}%"


def percent_bounds(low: float, high: float) -> str:
    """Return the bounds of a share's interval as percentages: '97.2–99.6%'."""
    return f"{100 * low:.1f}–{100 * high:.1f}%"


def points(values: Interval) -> str:
    """Return the interval of a difference in percentage points: '−1.2 ± 0.3'; '+3.1' where it has no bounds."""
    mean, low, high = _bounds(values)
    if not math.isfinite(mean):
        return BLANK
    text = number(mean, low, high) if math.isfinite(low) else f"{mean:.1f}"
    return text.replace("-", "−") if mean < 0 else f"+{text}"


def share(value: float | None, decimals: int = 1) -> str:
    """Return a share as a percentage with a fixed number of decimals: '12.3%'."""
    return BLANK if value is None or math.isnan(value) else f"{value:.{decimals}%}"


def fraction(value: float) -> str:
    """Return a share of the rows as a percentage of three significant digits: '0.5%', '100%'."""
    return f"{100 * value:.3g}%"


def probability(value: float) -> str:
    """Return a predicted probability as a whole percentage, '>99%' where that would round to 100%."""
    return ">99%" if value >= 0.995 else f"{value:.0%}"


def significant(value: float | None, digits: int = 3) -> str:
    """Return a number with some significant digits, for a numeric column: '0.00123', '1.2e+04'."""
    return BLANK if value is None or not math.isfinite(value) else f"{value:.{digits}g}"


def short(value: float, digits: int = 3) -> str:
    """Return a number with some significant digits, for a sentence or an axis: '0.00123', '12,000'."""
    return plain(float(f"{value:.{digits}g}"))


def plain(value: float) -> str:
    """Return a number with at most seven significant digits: '20,000', '−1e-5'."""
    size = abs(value)
    if size and not 1e-4 <= size < 1e6:
        digits, exponent = f"{value:.6e}".split("e")
        text = f"{float(digits):g}e{int(exponent)}"
    else:
        text = f"{value:,.7g}" if size < 1e4 else f"{value:,.0f}"
    return text.replace("-", "−", 1) if value < 0 else text


def listed(values: Iterable[object], form: str = "") -> str:
    """Return values joined by commas, each formatted by `form`."""
    return ", ".join(format(value, form) for value in values)


def ranged(values: Sequence[int]) -> str:
    """Return ascending whole numbers: '1 to 50' if they are consecutive, otherwise listed."""
    consecutive = len(values) > 2 and list(values) == list(range(values[0], values[-1] + 1))
    return f"{values[0]} to {values[-1]}" if consecutive else listed(values)


def printable(text: str) -> str:
    """Replace line breaks and control characters (such as terminal escapes) by spaces."""
    return "".join(character if character.isprintable() else " " for character in text)


def legible(name: str) -> str:
    """Return a name as one printable line, cut in the middle if it is very long, where names differ least."""
    text, half = printable(name), MAX_NAME // 2
    return text if len(text) <= MAX_NAME else f"{text[:half]}…{text[-half + 1 :]}"


def _bounds(values: Interval | None) -> tuple[float, float, float]:
    mean, low, high = (
        math.nan if bound is None else float(bound) for bound in ((None,) * 3 if values is None else values[:3])
    )
    return mean, low, high


def _last_place(half_width: float) -> int:
    """Return the power of ten of the last digit to show."""
    first = math.floor(math.log10(half_width))
    leading = round(half_width / 10.0**first, 1)
    return first - 1 if leading < 2 else first


def _text(cell: object) -> str:
    if isinstance(cell, numbers.Real) and not isinstance(cell, numbers.Integral):  # NumPy's floats too
        return BLANK if math.isnan(cell) else f"{cell:g}"
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
