"""Tables of figures: as many digits as the interval supports, aligned at the decimal point, the best row marked."""

import math
import numbers
import re
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

BLANK = "—"  # no figure: a lane without an interval, a row without a best rate
NARROWEST = 60  # characters; a caption is as wide as its table, or this
BEST = "* "  # marks the best row without colour

_NUMBER = r"[-−+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?"
_NUMERIC = re.compile(rf"[<>≤≥≈(]?\s?{_NUMBER}(?:\s?[±–/×]\s?{_NUMBER})*\)?(?:e[-+]?\d+)?\s?[%×]?(?:\s\([^()]*\))?")
_LEADING = re.compile(r"[^\d]*[\d,]*")  # all that stands before the decimal point


@dataclass(frozen=True)
class Table:
    """Rows of cells under column names, ready for a terminal or a page.

    A cell is text or a number; None and NaN are shown as a dash. Numbers are shown as they are given (`:g`), so round
    them first with `number` where they carry an interval.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    best: int | None = None  # index of the row to mark
    caption: str | None = None

    def __post_init__(self):
        for index, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ValueError(f"row {index} has {len(row)} cells for {len(self.columns)} columns: {row!r}")

    def numeric(self) -> list[bool]:
        """Return for each column whether it holds numbers only, and so stands to the right."""
        return [_is_numeric(column) for column in self._cells_by_column()]

    def aligned(self) -> list[list[str]]:
        """Return the cells as text; those of a numeric column have one width, with the decimal points in line."""
        columns = self._cells_by_column()
        padded = [_at_the_point(cells) if _is_numeric(cells) else cells for cells in columns]
        return [[cells[row] for cells in padded] for row in range(len(self.rows))]

    def lines(self) -> list[str]:
        """Return the table as lines of plain text: header, rule, rows (the best begins with `*`), caption."""
        rows, numeric = self.aligned(), self.numeric()
        margin = BEST if self.best is not None else ""
        widths = [max(map(len, column)) for column in zip(self.columns, *rows, strict=True)]

        def line(cells: Sequence[str], mark: str) -> str:
            placed = [
                cell.rjust(width) if right else cell.ljust(width)
                for cell, width, right in zip(cells, widths, numeric, strict=True)
            ]
            return (mark.ljust(len(margin)) + "  ".join(placed)).rstrip()

        rule = "  ".join("-" * width for width in widths)
        body = [line(cells, BEST if index == self.best else "") for index, cells in enumerate(rows)]
        return [
            line([_one_line(name) for name in self.columns], ""),
            " " * len(margin) + rule,
            *body,
            *textwrap.wrap(self.caption or "", max(len(margin + rule), NARROWEST)),
        ]

    def _cells_by_column(self) -> list[list[str]]:
        return [[_text(row[column]) for row in self.rows] for column in range(len(self.columns))]


def number(mean: float, low: float = math.nan, high: float = math.nan) -> str:
    """Return a mean with as many digits as its interval supports.

    The half-width keeps one significant digit, two where it begins with 1 (rounding 0.14 to 0.1 would lose a third of
    it), and the mean stops at the same place. Without an interval the mean keeps three significant digits.

    >>> number(0.97213, 0.96820, 0.97606)
    '0.972 ± 0.004'
    >>> number(1234.5, 1100, 1369)
    '1230 ± 130'
    """
    if not math.isfinite(mean):
        return BLANK
    half_width = max(mean - low, high - mean)
    if not math.isfinite(half_width):
        return f"{mean:.3g}"
    if half_width <= 1e-12 * abs(mean) or half_width < sys.float_info.min:  # every seed gave the same, to rounding
        return f"{mean:.4g} ± 0"
    largest = max(abs(mean), half_width)
    if not 1e-3 <= largest < 1e6:
        exponent = math.floor(math.log10(largest))
        scale = 10.0**exponent
        return f"({number(mean / scale, low / scale, high / scale)})e{exponent}"
    place = _last_place(half_width)
    decimals = max(0, -place)
    return f"{round(mean, -place):.{decimals}f} ± {round(half_width, -place):.{decimals}f}"


def _last_place(half_width: float) -> int:
    """Return the power of ten of the last digit to show."""
    first = math.floor(math.log10(half_width))
    leading = round(half_width / 10.0**first, 1)
    return first - 1 if leading < 2 else first


def _text(cell: object) -> str:
    if isinstance(cell, numbers.Real) and not isinstance(cell, numbers.Integral):  # NumPy's floats too
        return BLANK if math.isnan(cell) else f"{cell:g}"
    return BLANK if cell is None else _one_line(str(cell))


def _one_line(text: str) -> str:
    """Keep a name with a line break or a control character (a terminal escape, say) from breaking the table."""
    return "".join(character if character.isprintable() else " " for character in text)


def _is_numeric(cells: Sequence[str]) -> bool:
    filled = [cell for cell in cells if cell not in ("", BLANK)]
    return bool(filled) and all(_NUMERIC.fullmatch(cell) for cell in filled)


def _at_the_point(cells: Sequence[str]) -> list[str]:
    """Pad the cells of a numeric column to one width, so that their decimal points stand in line."""
    parts = []
    for cell in cells:
        leading = _LEADING.match(cell).end() if cell not in ("", BLANK) else len(cell)  # type: ignore[union-attr]
        parts.append((cell[:leading], cell[leading:]))
    left, right = (max(len(part[side]) for part in parts) for side in (0, 1))
    return [before.rjust(left) + after.ljust(right) for before, after in parts]
