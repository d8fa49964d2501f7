"""Points with intervals: importances, reliability, predictions against truths, residuals, partial dependence.

The figures take `title`, the message or the question; labels with units; and `notes`, sentences for the foot. Numbers
that are not finite are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from mllab.report.draw import base
from mllab.report.draw.base import INK, LABEL, NOTE, SOFT, TICK, Floats, Label, span
from mllab.report.style import BLUE, DASHED, SOLID, VERMILLION, Style, class_style
from mllab.report.table import legible

ROW = 0.22  # inches of a row of `dots_with_intervals`
NAME_ROOM = 150.0  # points for the names of rows
SQUARE = 3.4  # inches, the height of a figure with a diagonal
WIDE = 2.9  # inches, the height of a figure of residuals
COUNTS = 0.55  # inches of the strip of numbers of rows
PANEL_ROOM = 130.0  # points for the heading of a panel
LABEL_ROOM = 230.0  # points of a line of the label below the axes
X_TICKS, PANEL_TICKS = 5, 4  # intervals between the ticks of a wide and of a narrow axis, at most
PANEL_HEIGHT = 1.8
CATEGORY_ROW = 0.19  # inches of a category in a panel
CATEGORY_ROOM = 62.0  # points for the names of categories in a panel
MAX_POINTS = 3000  # more would only enlarge the file
MAX_CURVES = 7  # of a panel: as many colours as there are
HUGE = 1e30  # larger numbers overflow in drawing

CERTAIN = Style(BLUE, SOLID, "o")
UNCERTAIN = Style("#9a9a9a", SOLID, "o")  # of an interval that includes 0
DIAGONAL: dict[str, Any] = {"color": SOFT, "linewidth": 1.0, "dashes": DASHED[1]}
CLOUD: dict[str, Any] = {"color": BLUE, "markersize": 3, "markeredgewidth": 0, "alpha": 0.45}


@dataclass(frozen=True)
class Running:
    """The middle and the spread of points along x."""

    x: ArrayLike  # [P] ascending
    mean: ArrayLike  # [P]
    low: ArrayLike  # [P]
    high: ArrayLike  # [P]


@dataclass(frozen=True)
class Response:
    """How predictions respond to one column: curves over numbers, or points by category."""

    name: str  # of the column
    x: ArrayLike | Sequence[str]  # [G] ascending numbers, or names of categories
    mean: ArrayLike  # [G, C]
    low: ArrayLike  # [G, C]
    high: ArrayLike  # [G, C]
    unit: str = ""  # of the numbers

    @property
    def is_categorical(self) -> bool:
        """Whether x are names."""
        return np.asarray(self.x).dtype.kind not in "iuf"


@base.with_look
def dots_with_intervals(
    names: Sequence[str], values: ArrayLike, *, title: str, x_label: str, notes: Sequence[str] = ()
) -> Figure:
    """Draw a row for each name, the first at the top: a dot and its interval, grey where that includes 0.

    `values` are means with their bounds, [R, 3]; NaN bounds are not drawn.
    """
    means = _finite(np.asarray(values, float).reshape(-1, 3))
    if len(means) != len(names):
        raise ValueError(f"{len(names)} names for {len(means)} values")
    figure = base.figure(ROW * max(len(names), 2) + 0.6, title=title, notes=notes)
    axes = figure.add_subplot()
    axes.axvline(0, color=SOFT, linewidth=0.8)
    for row, (mean, low, high) in enumerate(means):
        look = UNCERTAIN if low <= 0 <= high else CERTAIN
        axes.plot([low, high], [row, row], color=look.colour, linewidth=1.6, solid_capstyle="butt")
        axes.plot([mean], [row], **base.dots(look, markersize=6))
    base.scale(axes.yaxis, len(names) - 0.4, -0.6)
    axes.set_yticks(range(len(names)), [base.fit(legible(name), TICK, NAME_ROOM) for name in names])
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)
    every = np.append(means[np.isfinite(means)], 0.0)
    base.scale(axes.xaxis, *span(every, margin=0.04))
    _label_x(axes, x_label)
    return figure


@base.with_look
def reliability(
    predicted: ArrayLike, observed: ArrayLike, counts: ArrayLike, *, title: str, x_label: str, y_label: str,
    notes: Sequence[str] = (),
) -> Figure:  # fmt: skip
    """Draw observed frequencies [B, 3], with the bounds of their intervals, against predicted probabilities [B].

    A strip below counts the rows of each point, [B].
    """
    predicted, counts = np.asarray(predicted, float), np.asarray(counts, float)
    mean, low, high = np.asarray(observed, float).reshape(-1, 3).T
    figure = base.figure(SQUARE + COUNTS, title=title, notes=["Dashed: frequencies as predicted.", *notes])
    axes, strip = figure.subplots(2, 1, height_ratios=[SQUARE - 0.3, COUNTS], sharex=True)
    axes.plot([0, 1], [0, 1], **DIAGONAL)
    axes.vlines(predicted, low, high, color=BLUE, linewidth=1.6)
    axes.plot(predicted, mean, **base.curve(CERTAIN, linewidth=0.8, markersize=6))
    axes.grid()
    base.scale(axes.yaxis, -0.03, 1.03)
    axes.set_title(base.wrap(y_label, LABEL, room=380))
    strip.vlines(predicted, 0, counts, color=BLUE, linewidth=4)
    base.scale(strip.yaxis, 0, max(float(counts.max(initial=0)), 1) * 1.1)
    strip.set_yticks([0, int(counts.max(initial=0))])
    strip.set_title("rows", size=NOTE, color=SOFT)
    base.scale(strip.xaxis, -0.03, 1.03)
    _label_x(strip, x_label)
    return figure


@base.with_look
def predicted_against_true(
    truths: ArrayLike, predictions: ArrayLike, *, title: str, x_label: str, y_label: str, notes: Sequence[str] = ()
) -> Figure:
    """Draw predictions [M] against truths [M], with the diagonal on which they agree."""
    x, y, thinned = _cloud(truths, predictions)
    figure = base.figure(SQUARE, title=title, notes=[thinned, "Dashed: predictions equal to the truth.", *notes])
    axes = figure.add_subplot()
    low, high = span(np.concatenate([x, y]), margin=0.03)
    axes.plot([low, high], [low, high], **DIAGONAL)
    axes.plot(x, y, "o", **CLOUD)
    axes.grid()
    base.scale(axes.xaxis, low, high)
    base.scale(axes.yaxis, low, high)
    axes.set_title(base.wrap(y_label, LABEL, room=380))
    _label_x(axes, x_label)
    return figure


@base.with_look
def residuals(
    predictions: ArrayLike, errors: ArrayLike, running: Running, *, title: str, x_label: str, y_label: str,
    notes: Sequence[str] = (),
) -> Figure:  # fmt: skip
    """Draw truths less predictions [M] against predictions [M], with their running mean and band."""
    x, y, thinned = _cloud(predictions, errors)
    figure = base.figure(WIDE, title=title, notes=[thinned, *notes])
    axes = figure.add_subplot()
    axes.plot(x, y, "o", **CLOUD)
    axes.axhline(0, color=SOFT, linewidth=0.8)
    middle, mean, low, high = (_finite(np.asarray(each, float)) for each in vars(running).values())
    axes.fill_between(middle, low, high, color=VERMILLION, alpha=0.18, linewidth=0)
    axes.plot(middle, mean, color=VERMILLION, linewidth=1.8)
    axes.grid(axis="y")
    base.scale(axes.xaxis, *span(x, margin=0.03))
    base.scale(axes.yaxis, *span(np.append(y, 0.0), margin=0.05))
    axes.set_title(base.wrap(y_label, LABEL, room=380))
    _label_x(axes, x_label)
    return figure


@base.with_look
def dependence(
    responses: Sequence[Response], *, title: str, y_label: str, classes: Sequence[str] = (), notes: Sequence[str] = ()
) -> Figure:
    """Draw panels, two in a row: the mean prediction against one column, with a band where there is one curve.

    Args:
        responses: one a panel.
        title: of the figure.
        y_label: of what is predicted, with its unit.
        classes: names of the C curves; none for a single curve.
        notes: sentences for the foot.
    """
    many = len(classes) > 1
    key = (
        [Label(legible(name), base.curve(class_style(c), marker="")) for c, name in enumerate(classes)] if many else []
    )
    rows = -(-len(responses) // 2)
    longest = max((len(np.asarray(one.x)) for one in responses if one.is_categorical), default=0)
    height = max(PANEL_HEIGHT, CATEGORY_ROW * longest + 0.7)
    figure = base.figure(rows * height + 0.2, title=title, notes=notes, key=key)
    values = np.concatenate([_finite(_three(one)).ravel() for one in responses])
    extent = span(values[np.isfinite(values)], margin=0.05)
    for index, one in enumerate(responses):
        axes = figure.add_subplot(rows, 2, index + 1)
        heading = legible(one.name) + (f" ({one.unit})" if one.unit else "")
        axes.set_title(base.fit(heading, LABEL, PANEL_ROOM, "bold"), weight="bold")
        (_categories if one.is_categorical else _curves)(axes, one, extent, many)
        (axes.set_xlabel if one.is_categorical else axes.set_ylabel)(base.fit(y_label, NOTE, 115), size=NOTE)
    with base.measured(figure):
        figure.draw_without_rendering()  # the labels beside the axes move in the layout's second pass
    return figure


def _curves(axes: Axes, one: Response, extent: tuple[float, float], many: bool) -> None:
    x, (mean, low, high) = np.asarray(one.x, float), _finite(_three(one))
    for c in range(mean.shape[1]):
        look = class_style(c) if many else CERTAIN
        if not many:
            axes.fill_between(x, low[:, c], high[:, c], color=look.colour, alpha=0.15, linewidth=0)
        axes.plot(x, mean[:, c], **base.curve(look, marker="o" if len(x) == 1 else ""))
    axes.vlines(x, 0, 0.035, color=INK, linewidth=0.8, transform=axes.get_xaxis_transform())
    axes.grid(axis="y")
    base.scale(axes.xaxis, *span(x, margin=0.03))
    axes.locator_params(axis="x", nbins=PANEL_TICKS)
    base.scale(axes.yaxis, *extent)


def _categories(axes: Axes, one: Response, extent: tuple[float, float], many: bool) -> None:
    names, (mean, low, high) = [str(name) for name in np.asarray(one.x)], _finite(_three(one))
    place = np.arange(len(names))
    for c in range(mean.shape[1]):
        look = class_style(c) if many else CERTAIN
        if not many:
            axes.hlines(place, low[:, c], high[:, c], color=look.colour, alpha=0.3, linewidth=4)
        axes.plot(mean[:, c], place, **base.dots(look))
    axes.set_yticks(place, [base.fit(legible(name), NOTE, CATEGORY_ROOM) for name in names], size=NOTE)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="x")
    base.scale(axes.xaxis, *extent)
    axes.locator_params(axis="x", nbins=PANEL_TICKS)


def _three(one: Response) -> Floats:
    """Return mean, low and high, [3, G, C]."""
    every = np.asarray([one.mean, one.low, one.high], float)
    every = every[..., None] if every.ndim == 2 else every
    if every.shape[1] != len(np.asarray(one.x)) or every.shape[2] > MAX_CURVES:
        raise ValueError(f"response to {one.name!r}: {every.shape[1:]} means for {len(np.asarray(one.x))} places")
    return every


def _cloud(x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats, str]:
    """Return the points that can be drawn, evenly thinned, and a sentence that says so."""
    points = _finite(np.stack([np.asarray(x, float), np.asarray(y, float)], axis=-1))
    points = points[np.isfinite(points).all(axis=1)]
    step = -(-len(points) // MAX_POINTS) if len(points) else 1
    thinned = f"{len(points[::step]):,} of {len(points):,} rows are drawn." if step > 1 else ""
    return points[::step, 0], points[::step, 1], thinned


def _finite(values: Floats) -> Floats:
    return np.where(np.abs(values) < HUGE, values, np.nan)


def _label_x(axes: Axes, text: str) -> None:
    axes.set_xlabel(base.wrap(text, LABEL, room=LABEL_ROOM))
    axes.locator_params(axis="x", nbins=X_TICKS)
