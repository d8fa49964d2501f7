"""Figures of a race or a fit: one message each, that the title says.

Every function takes plain arrays and returns a matplotlib `Figure`; `save` writes it. NaN leaves a gap. Bands are 95%
intervals over seeds, and the figure says so. Loss surfaces are in `mllab.report.landscape`.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator
from numpy.typing import ArrayLike

from mllab.errors import UserError
from mllab.report import layout
from mllab.report.atomic import write_bytes
from mllab.report.layout import EDGE, INK, LABEL, NOTE, SOFT, TICK, Label
from mllab.report.series import (
    FEW,
    Series,
    draw,
    draw_outside,
    notes,
    range_of_curves,
    range_of_scores,
    span,
    together,
)

__all__ = ["Panel", "Series", "against_rate", "against_step", "curves", "fitted_line", "save"]

HEIGHT = 270.0
STRIP_ROW = 11.0  # a row of the strip of diverged lanes
STRIP_HEAD = 18.0


@layout.with_look
def curves(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    y_label: str,
    log_y: bool = False,
    seeds: int | None = None,
    note: str = "",
) -> Figure:
    """Draw one curve a series, each named at its end, with a band where it has an interval.

    Args:
        series: the curves; their x are on one axis.
        title: the message, or the question.
        x_label: what x is, and its unit.
        y_label: what y is, and its unit.
        log_y: whether ratios matter rather than differences.
        seeds: how many seeds the mean and the band are over.
        note: one more sentence for the foot of the figure.
    """
    log_y = log_y and bool((together(series, "mean") > 0).any())
    low, high, clipped = range_of_curves(series, log_y)
    foot = notes(series, seeds, "Curves that leave the frame grow far beyond it." if clipped else "", note)
    figure = layout.sheet(HEIGHT)
    axes = figure.add_subplot()
    layout.furnish(axes)
    layout.scale_x(axes, *span(together(series, "x"), margin=0.02))
    layout.scale_y(axes, low, high, log=log_y)
    for one in series:
        draw(axes, one)
    _compose(figure, axes, title, x_label, y_label, series, foot)
    return figure


@layout.with_look
def against_rate(
    series: Sequence[Series],
    *,
    title: str,
    y_label: str,
    x_label: str = "learning rate, log scale",
    higher_is_better: bool = True,
    seeds: int | None = None,
    note: str = "",
) -> Figure:
    """Draw a final score against the learning rate: one curve an optimizer, its best rate with a filled marker.

    Lanes that went non-finite or failed (`Series.diverged`) are counted in a strip below, a row an optimizer. Scores
    far worse than most are left outside the frame, with an arrow at its edge.

    Args:
        series: one an optimizer, x the learning rates.
        title: the message, or the question.
        y_label: what the score is, and its unit.
        x_label: what the rate is.
        higher_is_better: which side of the score is the worse, where the frame may cut.
        seeds: how many seeds the mean and the band are over.
        note: one more sentence for the foot of the figure.
    """
    rates = together(series, "x")
    low, high, clipped = range_of_scores(series, higher_is_better)
    beyond = f"{'▼: below' if higher_is_better else '▲: above'} the frame." if clipped else ""
    filled = "Filled marker: the rate chosen." if any(one.best is not None for one in series) else ""
    foot = notes(series, seeds, filled, beyond, note)
    lost = [one for one in series if one.diverged is not None and np.asarray(one.diverged).any()]
    strip_height = STRIP_ROW * len(lost) + STRIP_HEAD if lost else 0.0
    figure = layout.sheet(HEIGHT + strip_height)
    axes = figure.add_subplot()
    layout.furnish(axes)
    log_x = rates.size > 0 and bool((rates > 0).all())
    layout.scale_x(axes, *span(rates, margin=0.04, log=log_x), log=log_x)
    layout.scale_y(axes, low, high)
    for one in series:
        draw(axes, one, hollow=True)
        draw_outside(axes, one)
    _compose(figure, axes, title, x_label, y_label, series, foot, strip_height)
    if lost:
        _draw_strip(figure, axes, lost, seeds)
    return figure


@layout.with_look
def fitted_line(
    x: ArrayLike,
    y: ArrayLike,
    lines: Sequence[Series],
    *,
    title: str,
    x_label: str,
    y_label: str,
    note: str = "",
) -> Figure:
    """Draw the examples as points and every fitted line (or curve) over them.

    Args:
        x: input of each example, [N].
        y: target of each example, [N].
        lines: what each method fitted, as points along it.
        title: the message, or the question.
        x_label: what x is, and its unit.
        y_label: what y is, and its unit.
        note: one more sentence for the foot of the figure.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    figure = layout.sheet(HEIGHT)
    axes = figure.add_subplot()
    layout.furnish(axes)
    layout.scale_x(axes, *span(np.concatenate([x, together(lines, "x")]), margin=0.03))
    fitted, reach = together(lines, "mean"), np.ptp(y) * 0.25  # a line far off the examples leaves the frame
    near = fitted[(fitted >= y.min() - reach) & (fitted <= y.max() + reach)]
    layout.scale_y(axes, *span(np.concatenate([y, near]), margin=0.06))
    if len(x) > FEW * 4:
        axes.plot(x, y, "o", color="#777777", markersize=2, markeredgewidth=0, alpha=0.6)
    else:
        axes.plot(x, y, "o", color=INK, markersize=6, markerfacecolor="white", zorder=4)
    for one in lines:
        draw(axes, one, markers=False)
    _compose(figure, axes, title, x_label, y_label, lines, [f"Points: {len(x):,} examples.", *([note] if note else [])])
    return figure


@dataclass(frozen=True)
class Panel:
    """One quantity of `against_step`."""

    y_label: str  # with its unit
    series: Sequence[Series]
    log_y: bool = False


@layout.with_look
def against_step(
    panels: Sequence[Panel], *, title: str, x_label: str = "step", seeds: int | None = None, note: str = ""
) -> Figure:
    """Draw small multiples, two in a row: one quantity a panel, one curve a series, one key for all.

    Args:
        panels: gradients, parameters, loss, velocity; the x of all are steps.
        title: the message, or the question.
        x_label: what the steps are.
        seeds: how many seeds the means and bands are over.
        note: one more sentence for the foot of the figure.
    """
    every = [one for panel in panels for one in panel.series]
    key = list({one.label: Label(layout.shorten(one.label), one.style) for one in every}.values())
    ranges = [range_of_curves(panel.series, panel.log_y) for panel in panels]
    beyond = "Curves that leave a frame grow far beyond it." if any(clipped for *_, clipped in ranges) else ""
    foot = notes(every, seeds, beyond, note)
    rows, cell, column = -(-len(panels) // 2), 122.0, (layout.WIDTH - EDGE) / 2
    bottom = layout.note_height(foot) + LABEL * 1.4
    figure = layout.sheet(layout.title_height(title) + layout.key_height(key) + rows * cell + bottom)
    top = layout.write_key(figure, key, layout.write_title(figure, title))
    layout.write_note(figure, foot)
    for index, (panel, (low, high, _)) in enumerate(zip(panels, ranges, strict=True)):
        axes = figure.add_subplot()
        layout.furnish(axes)
        layout.scale_x(axes, *span(together(every, "x"), margin=0.02))
        layout.scale_y(axes, low, high, log=panel.log_y)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, steps=[1, 2, 5, 10]))
        for one in panel.series:
            draw(axes, one)
        left, upper = EDGE + (index % 2) * column, top - (index // 2) * cell
        right = left + column - 2 * EDGE
        layout.place(axes, left + layout.tick_width(axes) + 6, upper - cell + 17, right, upper - LABEL * 1.7)
        layout.write(figure, left, upper - LABEL * 1.2, panel.y_label)
        if index >= len(panels) - 2:
            layout.write(figure, right, upper - cell - 8, x_label, ha="right")
    return figure


def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure as SVG or PNG, as the suffix says; the same figure gives the same SVG, to the byte."""
    kind = Path(path).suffix.lower().lstrip(".")
    if kind not in ("svg", "png"):
        raise UserError(f"figure {str(path)!r}: the name must end in .svg or .png")
    content = io.BytesIO()
    with layout.look():
        if kind == "svg":
            figure.savefig(content, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
        else:
            figure.savefig(content, format="png", dpi=200)
    return write_bytes(path, content.getvalue())


def _compose(
    figure: Figure,
    axes: Axes,
    title: str,
    x_label: str,
    y_label: str,
    series: Sequence[Series],
    foot: Sequence[str],
    strip_height: float = 0.0,
) -> None:
    """Write title, axis names, notes and curves' names around one pair of axes, and give it the room that is left."""
    labels = [Label(layout.shorten(one.label), one.style, one.end) for one in series]
    layout.write_note(figure, foot)
    top = layout.write_title(figure, title) - LABEL * 1.6
    bottom = layout.note_height(foot) + LABEL * 1.6
    left = EDGE + layout.tick_width(axes) + 8
    right = layout.WIDTH - EDGE - layout.label_width(labels)
    layout.place(axes, left, bottom + TICK * 1.7 + strip_height, right, top - 5)
    layout.write(figure, EDGE, top, y_label)
    layout.write(figure, (left + right) / 2, bottom - LABEL, x_label, ha="center")
    layout.write_labels(axes, labels)


def _draw_strip(figure: Figure, axes: Axes, lost: Sequence[Series], seeds: int | None) -> None:
    """Move the ticks below a strip that counts diverged lanes: a row an optimizer, a cross a lane."""
    left, bottom, right, _ = layout.box(axes)
    rows = STRIP_ROW * len(lost)
    strip = figure.add_subplot()
    layout.furnish(strip)
    layout.place(strip, left, bottom - STRIP_HEAD - rows, right, bottom - STRIP_HEAD)
    layout.scale_x(strip, *axes.get_xlim(), log=axes.get_xscale() == "log")
    layout.scale_y(strip, len(lost) - 0.5, -0.5)
    strip.set_yticks([])
    strip.spines["left"].set_visible(False)
    axes.tick_params(axis="x", which="both", labelbottom=False)
    axes.xaxis.set_minor_locator(NullLocator())
    of_how_many = f", of {seeds} at each rate" if seeds else ""
    layout.write(figure, left, bottom - STRIP_HEAD + 4, f"× a diverged lane{of_how_many}", NOTE, color=SOFT)
    for row, one in enumerate(lost):
        for x, count in zip(np.asarray(one.x, float), np.asarray(one.diverged, int), strict=True):
            crosses = "×" * count if count <= 5 else f"{count}×"
            strip.text(x, row, crosses, size=TICK, weight="bold", color=one.style.colour, ha="center", va="center")
        height = bottom - STRIP_HEAD - STRIP_ROW * (row + 0.5) - 0.36 * NOTE
        layout.write(figure, right + layout.LEADER, height, layout.shorten(one.label), NOTE)
