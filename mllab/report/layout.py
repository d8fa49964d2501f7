"""How every figure looks: its sizes, type, axes, notes, and labels beside the curves.

All lengths are in points (1/72 inch) unless they say otherwise. Nothing here goes through pyplot, and nothing stays
changed: each drawing function runs inside `with_look`, which starts from matplotlib's own defaults whatever the user's
matplotlibrc says, so that the same input gives the same bytes.
"""

import math
import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.textpath import text_to_path
from matplotlib.ticker import Formatter, LogLocator, NullFormatter, NullLocator
from matplotlib.transforms import Affine2D

from mllab.report.palette import Style

WIDTH = 432.0  # 6 inches: fills a page's column in print, and shrinks legibly to a phone
TITLE, LABEL, TICK, NOTE = 12.0, 10.5, 9.5, 8.5  # sizes of type
INK, SOFT, FAINT = "#1a1a1a", "#555555", "#e3e3e3"
EDGE = 8.0  # white border all around
SAMPLE = 20.0  # length of the line drawn before a label
LEADER = 12.0  # between the end of a curve and its label
MAX_LABEL = 24  # characters; a longer name is cut

LOOK = {
    **{
        name: value
        for name, value in matplotlib.rcParamsDefault.items()
        if not name.startswith(("backend", "webagg", "savefig.directory", "toolbar", "interactive"))
    },
    "font.sans-serif": ["DejaVu Sans"],  # matplotlib carries it; Verdana's widths, so that a substitute fits too
    "text.parse_math": False,  # a column named `$x$` is a name, no formula
    "axes.unicode_minus": True,
    "svg.fonttype": "none",  # text stays text: small, searchable, read aloud
    "svg.hashsalt": "mllab",  # ids, and so the bytes, repeat
}


def look():
    """Return a context in which matplotlib draws as this module says."""
    return matplotlib.rc_context(LOOK)


with_look = look()  # the same, as a decorator


class Label(NamedTuple):
    """A curve's name beside the plot, at the height where the curve ends."""

    text: str
    style: Style
    end: tuple[float, float] | None = None  # the curve's last point, in data


def sheet(height: float) -> Figure:
    """Return an empty white figure, `height` points high."""
    return Figure(figsize=(WIDTH / 72, height / 72), dpi=72, facecolor="white")


def text_width(text: str, size: float, weight: str = "normal") -> float:
    """Return how wide a line of text is."""
    return text_to_path.get_text_width_height_descent(text, FontProperties(size=size, weight=weight), False)[0]


def wrap(text: str, size: float, weight: str = "normal") -> list[str]:
    """Break text into lines that fit between the borders."""
    room = WIDTH - 2 * EDGE
    characters = len(text)
    lines = textwrap.wrap(text, max(characters, 1))
    while any(text_width(line, size, weight) > room for line in lines):
        characters -= 1 + characters // 20
        lines = textwrap.wrap(text, max(characters, 1))
    return lines


def place(axes: Axes, left: float, bottom: float, right: float, top: float) -> None:
    """Put axes at points from the figure's lower left corner."""
    width, height = _sheet_of(axes).get_size_inches() * 72
    axes.set_position((left / width, bottom / height, (right - left) / width, (top - bottom) / height))


def _sheet_of(axes: Axes) -> Figure:
    return cast(Figure, axes.figure)


def write(figure: Figure, x: float, y: float, text: str, size: float = LABEL, **how) -> None:
    """Write text at points from the figure's lower left corner."""
    width, height = figure.get_size_inches() * 72
    style: dict[str, Any] = {"size": size, "color": INK, "va": "baseline"}
    figure.text(x / width, y / height, text, **(style | how))


def write_title(figure: Figure, title: str) -> float:
    """Write the title at the top left, as many lines as it needs; return the height that is left below it."""
    top = figure.get_size_inches()[1] * 72 - EDGE
    for line in wrap(title, TITLE, "bold"):
        top -= TITLE * 1.3
        write(figure, EDGE, top + 3, line, TITLE, weight="bold")
    return top


def write_note(figure: Figure, notes: Sequence[str]) -> None:
    """Write what the reader must know to read the figure, small, at the very bottom; `note_height` tells its height."""
    lines = wrap(" ".join(notes), NOTE)
    for rank, line in enumerate(lines, start=1):
        write(figure, EDGE, EDGE + (len(lines) - rank) * NOTE * 1.35, line, NOTE, color=SOFT)


def note_height(notes: Sequence[str]) -> float:
    """Return how much room the notes take at the bottom."""
    return EDGE + len(wrap(" ".join(notes), NOTE)) * NOTE * 1.35 + (4 if notes else 0)


def title_height(title: str) -> float:
    """Return how much room the title takes at the top."""
    return EDGE + len(wrap(title, TITLE, "bold")) * TITLE * 1.3


def furnish(axes: Axes) -> None:
    """Give axes their quiet look: two spines, faint horizontal rules."""
    axes.set_facecolor("none")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(SOFT)
        axes.spines[side].set_linewidth(0.8)
    axes.tick_params(colors=INK, labelsize=TICK, length=3, width=0.8, color=SOFT)
    axes.grid(axis="y", color=FAINT, linewidth=0.7)
    axes.set_axisbelow(True)


def scale_x(axes: Axes, low: float, high: float, *, log: bool = False) -> None:
    """Set the horizontal range, linear or logarithmic, with plain numbers at its ticks."""
    _scale(axes, "x", low, high, log)


def scale_y(axes: Axes, low: float, high: float, *, log: bool = False) -> None:
    """Set the vertical range, linear or logarithmic, with plain numbers at its ticks."""
    _scale(axes, "y", low, high, log)


def _scale(axes: Axes, side: str, low: float, high: float, log: bool) -> None:
    axis = axes.xaxis if side == "x" else axes.yaxis
    if log:
        (axes.set_xscale if side == "x" else axes.set_yscale)("log")
        decades = math.log10(high / low)
        axis.set_major_locator(LogLocator(subs=(1.0,) if decades > 1.7 else (1.0, 2.0, 5.0), numticks=9))
        axis.set_minor_locator(NullLocator() if decades > 7 else LogLocator(subs="auto", numticks=99))
        axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(PlainFormatter(same_decimals=not log))
    (axes.set_xlim if side == "x" else axes.set_ylim)(low, high)


def plain(value: float) -> str:
    """Return a number as one would write it: 0.001, 20,000, 1e-5, with a true minus sign.

    >>> plain(-1e-05)
    '−1e-5'
    """
    size = abs(value)
    if size and not 1e-4 <= size < 1e6:
        digits, exponent = f"{value:.6e}".split("e")
        text = f"{float(digits):g}e{int(exponent)}"
    else:
        text = f"{value:,.7g}" if size < 1e4 else f"{value:,.0f}"
    return text.replace("-", "−", 1) if value < 0 else text


class PlainFormatter(Formatter):
    """Ticks as plain numbers; those of a linear axis with as many decimals as the neediest of them."""

    def __init__(self, *, same_decimals: bool):
        self.same_decimals = same_decimals

    def __call__(self, value: float, position: int | None = None) -> str:
        """Return the label of one tick by itself."""
        return plain(value)

    def format_ticks(self, values: Sequence[float]) -> list[str]:
        """Return the labels of all ticks."""
        texts = [plain(value) for value in values]
        if not self.same_decimals or any("e" in text for text in texts):
            return texts
        decimals = max(map(_decimals, texts), default=0)
        return [text + "." * (decimals > 0 and "." not in text) + "0" * (decimals - _decimals(text)) for text in texts]


def _decimals(text: str) -> int:
    return len(text.partition(".")[2])


def tick_width(axes: Axes) -> float:
    """Return the width of the widest label on the vertical axis."""
    low, high = sorted(axes.get_ylim())
    ticks = [tick for tick in axes.yaxis.get_majorticklocs() if low <= tick <= high]
    names = axes.yaxis.get_major_formatter().format_ticks(ticks)
    return max((text_width(name, TICK) for name in names), default=10.0)


def label_width(labels: Sequence[Label]) -> float:
    """Return the room that labels need to the right of the plot."""
    return LEADER + SAMPLE + 4 + max((text_width(label.text, LABEL) for label in labels), default=0.0)


def shorten(text: str) -> str:
    """Cut a very long name in its middle, where names differ least."""
    half = MAX_LABEL // 2
    return text if len(text) <= MAX_LABEL else f"{text[:half]}…{text[-half + 1 :]}"


def write_labels(axes: Axes, labels: Sequence[Label]) -> None:
    """Write each curve's name to the right of where it ends, with a sample of its line; colliding names move apart.

    A thin leader joins a curve that reaches the right side to its name. A name without an end comes below the others.
    """
    figure, (_, bottom, right, top) = _sheet_of(axes), box(axes)
    gap = min(LABEL * 1.35, (top - bottom + LABEL) / max(len(labels), 1))
    ends = [(right, bottom) if label.end is None else _point(axes, label.end) for label in labels]
    order = sorted(range(len(labels)), key=lambda index: (ends[index][1], labels[index].text))
    heights = spread([ends[index][1] for index in order], gap, bottom, top)
    for index, y in zip(order, heights, strict=True):
        label, (end_x, end_y) = labels[index], ends[index]
        if label.end is not None and right - end_x < 0.06 * WIDTH:
            draw(figure, [end_x + 3, right + LEADER - 2], [end_y, y], label.style.colour, linewidth=0.6)
        write_sample(figure, right + LEADER, y, label)


def write_key(figure: Figure, labels: Sequence[Label], top: float) -> float:
    """Write names side by side below `top`, for panels that share their curves; return the height left below them."""
    x, y = EDGE, top - LABEL * 1.3
    for label in labels:
        width = SAMPLE + 4 + text_width(label.text, LABEL) + 16
        if x > EDGE and x + width > WIDTH - EDGE:
            x, y = EDGE, y - LABEL * 1.5
        write_sample(figure, x, y, label)
        x += width
    return y - LABEL


def key_height(labels: Sequence[Label]) -> float:
    """Return how much room `write_key` takes."""
    blank = Figure()
    return -write_key(blank, labels, 0.0)


def write_sample(figure: Figure, x: float, y: float, label: Label) -> None:
    """Write a short piece of a curve's line with its marker, and its name."""
    colour, dash, marker = label.style
    xs = [x, x + SAMPLE / 2, x + SAMPLE]
    draw(figure, xs, [y] * 3, colour, linestyle=dash, linewidth=1.6, marker=marker, markersize=4.5, markevery=[1])
    write(figure, x + SAMPLE + 4, y - 0.36 * LABEL, label.text)


def draw(figure: Figure, xs: Sequence[float], ys: Sequence[float], colour: str, **how) -> None:
    """Draw a line between points from the figure's lower left corner."""
    points = Affine2D().scale(1 / 72) + figure.dpi_scale_trans
    figure.add_artist(Line2D(xs, ys, color=colour, transform=points, **how))


def box(axes: Axes) -> tuple[float, float, float, float]:
    """Return left, bottom, right and top of axes, in points from the figure's lower left corner."""
    width, height = _sheet_of(axes).get_size_inches() * 72
    position = axes.get_position()
    return position.x0 * width, position.y0 * height, position.x1 * width, position.y1 * height


def _point(axes: Axes, at: tuple[float, float]) -> tuple[float, float]:
    """Return where a point in data stands on the figure, moved inside the axes."""
    left, bottom, right, top = box(axes)
    x, y = axes.transData.transform(at)  # pixels, and so points: the figure has 72 to the inch
    return float(np.clip(x, left, right)), float(np.clip(y, bottom, top))


def spread(heights: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move sorted heights as little as possible, in squares, so that neighbours stand `gap` apart, inside [low, high].

    Neighbours that collide form a block that stands evenly around its mean (pooling of adjacent violators, as in
    isotonic regression); a block that would pass a border stops there.
    """
    blocks: list[tuple[float, int]] = []  # (mean of height - gap * rank, size)
    for rank, height in enumerate(heights):
        mean, size = height - gap * rank, 1
        while blocks and blocks[-1][0] > mean:
            before, count = blocks.pop()
            mean, size = (before * count + mean * size) / (count + size), count + size
        blocks.append((mean, size))
    ceiling = high - gap * (len(heights) - 1)
    starts = [max(min(mean, ceiling), low) for mean, size in blocks for _ in range(size)]
    return [start + gap * rank for rank, start in enumerate(starts)]
