"""The sheet under every drawing: size, type, title, notes, key, axes, scales, labels of curves, files.

A drawing function is decorated by `with_look`, opens a sheet with `figure(height, title=..., notes=..., key=...)`,
adds axes by `figure.subplots(...)` or `figure.add_subplot()`, draws with the properties of `curve` and `dots`, sets
each `scale`, and ends with `label_ends` where curves are named at their ends. `save` writes the figure.

matplotlib's constrained layout places everything. A figure has 72 dots to the inch, so that a pixel is a point. Nothing
goes through pyplot, and no rcParam stays changed.
"""

import contextlib
import io
import math
import textwrap
import unicodedata
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import matplotlib.style
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.offsetbox import AnchoredOffsetbox, AnnotationBbox, DrawingArea, HPacker, TextArea, VPacker
from matplotlib.text import Text
from matplotlib.textpath import text_to_path
from matplotlib.ticker import Formatter, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator
from matplotlib.transforms import Bbox, ScaledTranslation, Transform
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from mllab.errors import UserError
from mllab.report.atomic import write_bytes
from mllab.report.style import Style
from mllab.report.table import plain, printable

Floats = NDArray[np.float64]

WIDTH = 6.0  # inches: fills a page's column in print, and shrinks legibly to a phone
EDGE = 8.0  # points of white around the sheet
TITLE, LABEL, TICK, NOTE = 12.0, 10.5, 10.0, 10.0  # sizes of type, in points; 9 pixels at least on a phone
INK, SOFT, FAINT = "#1a1a1a", "#555555", "#e3e3e3"
SAMPLE = 20.0  # points of line before a name
UNBROKEN = "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}"  # within a line
LEADER = 12.0  # points between the right side of the axes and the names

_LOOK: dict[str, Any] = {
    "font.sans-serif": ["DejaVu Sans"],  # ships with matplotlib; as wide as Verdana, so that a substitute fits too
    "text.parse_math": False,  # a column named `$x$` is no formula
    "text.hinting": "none",  # or letters of a PNG would be wider than those of the SVG
    "svg.fonttype": "none",  # text stays text: small, searchable, read aloud
    "svg.hashsalt": "mllab",  # element ids, and with them the bytes, repeat
    "axes.facecolor": "none",
    "axes.edgecolor": SOFT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.titlelocation": "left",
    "axes.titlepad": 7,
    "axes.titlesize": LABEL,
    "axes.titlecolor": INK,
    "axes.labelsize": LABEL,
    "axes.labelcolor": INK,
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
    **{f"{axis}tick.color": SOFT for axis in "xy"},
    **{f"{axis}tick.labelcolor": INK for axis in "xy"},
    **{f"{axis}tick.labelsize": TICK for axis in "xy"},
    **{f"{axis}tick.major.size": 3 for axis in "xy"},
}


@contextlib.contextmanager
def look():
    """Return a context in which matplotlib starts from its own defaults, whatever the user's matplotlibrc is."""
    with matplotlib.style.context(["default", _LOOK]), _any_glyph():
        yield


@contextlib.contextmanager
def _any_glyph():
    """Return a context without warnings of glyphs that the font lacks.

    A class may have a Chinese name: an SVG holds the text, and the reader's fonts have its glyphs.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font|Matplotlib currently does not support")
        yield


with_look = look()  # as a decorator


class Label(NamedTuple):
    """A name with a sample of the line or marker that it belongs to."""

    text: str
    line: Mapping[str, Any]  # properties of a Line2D, such as `curve` and `dots` return
    end: tuple[float, float] | None = None  # the curve's last point, in data


def curve(style: Style, **changes: Any) -> dict[str, Any]:
    """Return the Line2D properties of a curve."""
    colour, dash, marker = style
    return {"color": colour, "linestyle": dash, "linewidth": 1.6, "marker": marker, "markersize": 4.5} | changes


def dots(style: Style, **changes: Any) -> dict[str, Any]:
    """Return the Line2D properties of points."""
    return curve(style, linestyle="", **changes)


def figure(height: float, *, title: str, notes: Sequence[str] = (), key: Sequence[Label] = ()) -> Figure:
    """Return a white sheet with a title, a key below it and notes at its foot, and a layout for the axes between.

    The axes get `height` inches. Title and notes are wrapped; empty notes are left out.
    """
    sheet = Figure(figsize=(WIDTH, 1), dpi=72, facecolor="white")
    head = EDGE
    if title:
        text = sheet.text(0, 1, wrap(title, TITLE, "bold"), size=TITLE, weight="bold", color=INK, va="top")
        text.set_transform(_hung(sheet, head))
        head += text.get_window_extent().height + 6
    if key:
        box = AnchoredOffsetbox("upper left", pad=0, borderpad=0, frameon=False, child=_rows(key))
        box.set_bbox_to_anchor(Bbox([(0, 1), (0, 1)]), _hung(sheet, head))
        sheet.add_artist(box)
        head += box.get_window_extent().height + 4
    foot = EDGE
    if note := " ".join(filter(None, notes)):
        text = sheet.text(EDGE / 72, EDGE / 72, wrap(note, NOTE), size=NOTE, color=SOFT, va="bottom")
        text.set_transform(sheet.dpi_scale_trans)
        foot += text.get_window_extent().height + 4
    points = head + 72 * height + foot
    sheet.set_figheight(points / 72)
    side = EDGE / (72 * WIDTH)
    sheet.set_layout_engine(ConstrainedLayoutEngine(rect=(side, foot / points, 1 - 2 * side, 72 * height / points)))
    return sheet


def room(sheet: Figure) -> tuple[float, float, float, float]:
    """Return left, bottom, width and height of the room for axes, as shares of a figure that `figure` made."""
    return cast(ConstrainedLayoutEngine, sheet.get_layout_engine()).get()["rect"]


def wrap(text: str, size: float, weight: str = "normal", room: float = 72 * WIDTH - 2 * EDGE) -> str:
    """Break text into lines of at most `room` points, long words too, and intervals never.

    matplotlib's own wrapping knows no margin.
    """
    text = printable(text).replace(" ± ", UNBROKEN)
    limit = max(len(text), 1)
    lines = textwrap.wrap(text, limit)
    while any(text_width(line, size, weight) > room for line in lines) and limit > 1:
        limit -= 1 + limit // 20
        lines = textwrap.wrap(text, limit)
    return "\n".join(lines).replace(UNBROKEN, " ± ")


def fit(text: str, size: float, room: float, weight: str = "normal") -> str:
    """Cut a line in the middle until it is at most `room` points wide."""
    short = text = printable(text)
    kept = len(text)
    while (width := text_width(short, size, weight)) > room and kept > 3:
        kept = max(3, min(kept - 1, int(kept * room / width)))
        short = f"{text[: kept // 2]}…{text[kept // 2 - kept + 1 :]}"
    return short


def text_width(text: str, size: float, weight: str = "normal") -> float:
    """Return the width of a line of text in points, as in `_dashed`."""
    with _any_glyph():
        font = FontProperties(size=size, weight=weight)
        return text_to_path.get_text_width_height_descent(_dashed(printable(text)), font, False)[0]


def _dashed(text: str) -> str:
    """Return a text with an em dash, which is as wide, for each full-width character, which the font lacks."""
    return "".join("—" if unicodedata.east_asian_width(character) in "WF" else character for character in text)


def _dashed_ticks(ticks: FuncFormatter) -> FuncFormatter:
    return FuncFormatter(lambda value, position: _dashed(ticks(value, position)))


@contextlib.contextmanager
def measured(sheet: Figure):
    """Return a context in which the texts of a figure are as wide as the reader's fonts will draw them.

    Labels of axes stay where they stand at its end.
    """
    texts = [(text, shown) for text in sheet.findobj(Text) if _dashed(shown := text.get_text()) != shown]
    axes = [axis for each in sheet.axes for axis in (each.xaxis, each.yaxis)]
    formatters = [(axis, ticks) for axis in axes if isinstance(ticks := axis.get_major_formatter(), FuncFormatter)]
    for text, shown in texts:
        text.set_text(_dashed(shown))
    for axis, ticks in formatters:
        axis.set_major_formatter(_dashed_ticks(ticks))
    yield
    for text, shown in texts:
        text.set_text(shown)
    for axis, ticks in formatters:
        axis.set_major_formatter(ticks)
    for axis in axes if texts else ():
        place = axis.label.get_transform().transform(axis.label.get_position())
        x, y = sheet.transFigure.inverted().transform(place)
        axis.set_label_coords(x, y, transform=sheet.transFigure)


def _hung(sheet: Figure, down: float) -> Transform:
    """Return the transform that puts (0, 1) at the left margin, `down` points below the top of the sheet."""
    return sheet.transFigure + ScaledTranslation(EDGE / 72, -down / 72, sheet.dpi_scale_trans)


def _entry(label: Label) -> HPacker:
    """Return a sample and its name, side by side."""
    sample = DrawingArea(SAMPLE, LABEL)
    sample.add_artist(Line2D([0, SAMPLE / 2, SAMPLE], [LABEL / 2] * 3, markevery=[1], **label.line))
    name = TextArea(label.text, textprops={"size": LABEL, "color": INK})
    room = DrawingArea(text_width(label.text, LABEL), 0)  # the reader's fonts may draw the name wider
    return HPacker(children=[sample, VPacker(children=[name, room], pad=0, sep=0)], align="center", pad=0, sep=4)


def _rows(key: Sequence[Label]) -> VPacker:
    """Return the entries of a key in as many rows as they need."""
    rows: list[list[Artist]] = []
    room = 0.0
    for label in key:
        width = SAMPLE + 4 + text_width(label.text, LABEL) + 16
        if width > room:
            rows.append([])
            room = 72 * WIDTH - 2 * EDGE + 16
        rows[-1].append(_entry(label))
        room -= width
    return VPacker(children=[HPacker(children=row, pad=0, sep=16) for row in rows], pad=0, sep=3)


def span(values: Floats, *, margin: float = 0.0, log: bool = False) -> tuple[float, float]:
    """Return a range that holds all values with a margin, and is never empty."""
    if values.size == 0:
        return (0.1, 1.0) if log else (0.0, 1.0)
    low, high = float(values.min()), float(values.max())
    if log:
        low, high = span(np.log10([low, high]), margin=margin)
        return 10.0**low, 10.0**high
    extra = (high - low) * margin if high > low else max(abs(low) * 0.1, 0.5)
    return low - extra, high + extra


def scale(axis: XAxis | YAxis, low: float, high: float, *, log: bool = False, integer: bool = False) -> None:
    """Set the range of an axis, linear or logarithmic, with plain numbers at its ticks, or whole ones only."""
    if log:
        axis.axes.set(**{f"{axis.axis_name}scale": "log"})
        decades = math.log10(high / low)
        subs = (1.0,) if decades > 1.7 else (1.0, 2.0, 5.0) if decades > 0.7 else (*map(float, range(1, 10)),)
        axis.set_major_locator(LogLocator(subs=subs))
        axis.set_minor_locator(NullLocator() if decades > 7 else LogLocator(subs="auto", numticks=99))
        axis.set_minor_formatter(NullFormatter())
    elif integer:
        axis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
    axis.set_major_formatter((lambda value, _: plain(value)) if log else PlainFormatter())
    axis.axes.set(**{f"{axis.axis_name}lim": (low, high)})


class PlainFormatter(Formatter):
    """Ticks as plain numbers, all with as many decimals as the one that needs most."""

    def __call__(self, value: float, position: int | None = None) -> str:
        """Return the label of one tick by itself."""
        return plain(value)

    def format_ticks(self, values: Sequence[float]) -> list[str]:
        """Return the labels of all ticks."""
        texts = [plain(value) for value in values]
        if any("e" in text for text in texts):
            return texts
        decimals = max((len(text.partition(".")[2]) for text in texts), default=0)
        return [f"{value + 0.0:,.{decimals}f}".replace("-", "−") for value in values]


def label_ends(axes: Axes, labels: Sequence[Label]) -> None:
    """Write each curve's name to the right of where it ends, with a sample; colliding names move apart.

    A thin leader joins a curve that ends near the right side to its name. A label without an end is put at the bottom.
    Call it when everything else is drawn: it needs the height that the layout gives to the axes.
    """
    sheet, labels = cast(Figure, axes.get_figure()), [label for label in labels if label.text]
    beside = axes.transAxes + ScaledTranslation(LEADER / 72, 0, sheet.dpi_scale_trans)
    to_axes = axes.transData - axes.transAxes
    ends = [(1.0, 0.0) if one.end is None else tuple(np.clip(to_axes.transform(one.end), 0, 1)) for one in labels]
    boxes: list[AnnotationBbox] = []
    for label, (x, y) in zip(labels, ends, strict=True):
        leader = {"arrowstyle": "-", "color": label.line["color"], "linewidth": 0.6, "shrinkA": 2, "shrinkB": 3}
        box = AnnotationBbox(
            _entry(label), (x, y), (1, y), "axes fraction", beside, box_alignment=(0, 0.5), frameon=False, pad=0,
            annotation_clip=False, arrowprops={**leader, "relpos": (0, 0.5)} if label.end and x > 0.9 else None,
        )  # fmt: skip
        axes.add_artist(box)
        boxes.append(box)
    _settle(sheet)
    height = axes.get_window_extent().height
    order = sorted(range(len(labels)), key=lambda index: (ends[index][1], labels[index].text))
    gap = min(LABEL * 1.35, (height - LABEL) / max(len(labels) - 1, 1))
    heights = spread([ends[index][1] * height for index in order], gap, LABEL / 2, height - LABEL / 2)
    for index, y in zip(order, heights, strict=True):
        boxes[index].xybox = (1, y / height)


def _settle(sheet: Figure) -> None:
    """Lay a figure out once, so that it is the same in all formats.

    Positions are rounded: the layout's solver leaves other rounding errors each time, and ids in an SVG hash them.
    """
    if engine := sheet.get_layout_engine():
        with measured(sheet):
            engine.execute(sheet)
        sheet.set_layout_engine("none")
        for axes in sheet.axes:
            axes.set_position(Bbox(axes.get_position(original=True).get_points().round(6)))


def spread(heights: Sequence[float], gap: float, low: float, high: float) -> Floats:
    """Move sorted heights as little as possible, in squares, so that neighbours stand `gap` apart, inside [low, high].

    Heights less `gap` times their rank must not fall, which is isotonic regression.
    """
    gaps = gap * np.arange(len(heights))
    ceiling = high - gaps[-1:].sum()
    return np.clip(isotonic_regression(heights - gaps).x, low, ceiling) + gaps


class Written(Protocol):
    """A drawing that is an SVG already."""

    @property
    def svg(self) -> bytes:
        """The file."""


def save(drawn: Figure | Written, path: str | Path) -> Path:
    """Write a figure as SVG or PNG, as the suffix says; its layout is final from then on. What moves is an SVG only."""
    kind = Path(path).suffix.lower().lstrip(".")
    if kind not in ("svg", "png"):
        raise UserError(f"figure {str(path)!r}: the name must end in .svg or .png")
    if not isinstance(drawn, Figure):
        if kind != "svg":
            raise UserError(f"figure {str(path)!r}: an animation is an SVG; name a file that ends in .svg")
        return write_bytes(path, drawn.svg)
    content = io.BytesIO()
    with look():
        _settle(drawn)
        no_date = {"metadata": dict.fromkeys(("Date", "Creator", "Format", "Type"))}
        drawn.savefig(content, format=kind, **(no_date if kind == "svg" else {"dpi": 200}))
    return write_bytes(path, content.getvalue())
