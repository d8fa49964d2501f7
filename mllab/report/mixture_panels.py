"""The lecture's four panels: labelled points, all points, the mixture learned from the labelled alone, and from all.

Components are drawn as ellipses at 1 and 2 standard deviations. Points of more than two columns are shown in a plane,
where ellipses are those of the components' marginals, and no boundary can be drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from mllab.report import layout
from mllab.report.layout import EDGE, INK, LABEL, SOFT, TICK, WIDTH, Label
from mllab.report.palette import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY, SOLID, VERMILLION, Style
from mllab.report.series import Floats, span

CELL = 176.0  # height of a row of panels
MOST = 1500  # unlabelled points in a panel; more would only make the file larger
NAMED = 12  # classes that have a key
GREY = "#9a9a9a"
COLOURS = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, BLACK)
MARKERS = "osD^vPX"


@dataclass(frozen=True)
class Points:
    """Points in the plane, and which of them have a label."""

    places: Floats  # [N, 2]
    labels: NDArray[np.integer]  # [N] class, -1 where it is not told
    classes: Sequence[str]  # their names
    axes: Sequence[str] = ("x", "y")  # names of the two columns


@dataclass(frozen=True)
class Learned:
    """A mixture as the plane shows it."""

    title: str
    means: Floats  # [K, 2]
    covariances: Floats  # [K, 2, 2]
    component_class: NDArray[np.integer]  # [K] whose class each component is
    margins: Floats | None = None  # [H, W, C] log-probability of each class less that of its best rival, on a `mesh`


def class_style(index: int) -> Style:
    """Return the colour and marker of a class; no two of the first 49 share both."""
    turn, place = divmod(index, len(COLOURS))
    return Style(COLOURS[place], SOLID, MARKERS[(place + turn) % len(MARKERS)])


def frame(places: Floats) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the horizontal and vertical range that hold all points, in one unit of length on paper."""
    sides = [span(places[:, column], margin=0.06) for column in (0, 1)]
    shape = _panel_size()
    unit = max((high - low) / points for (low, high), points in zip(sides, shape, strict=True))
    middles = [(low + high) / 2 for low, high in sides]
    (left, right), (low, high) = (
        (middle - unit * points / 2, middle + unit * points / 2) for middle, points in zip(middles, shape, strict=True)
    )
    return (left, right), (low, high)


def mesh(places: Floats, columns: int = 160) -> tuple[Floats, Floats]:
    """Return x [W] and y [H] of evenly spaced places that fill the frame, for `Learned.margins`."""
    across, up = frame(places)
    width, height = _panel_size()
    return np.linspace(*across, columns), np.linspace(*up, round(columns * height / width))


@layout.with_look
def four_panels(points: Points, alone: Learned, both: Learned, *, title: str, note: str = "") -> Figure:
    """Draw labelled points, all points, and below them what was learned from each.

    Args:
        points: all that were seen.
        alone: the mixture learned from the labelled points.
        both: the one learned from all.
        title: the message, or the question.
        note: one more sentence for the foot of the figure.
    """
    has_label = points.labels >= 0
    unlabelled = np.flatnonzero(~has_label)
    kept = unlabelled[:: max(1, -(-len(unlabelled) // MOST))]
    foot = ["Ellipses: components at 1 and 2 standard deviations."]
    if both.margins is not None:
        foot.append("Tinted: where each class is the most probable.")
    if len(kept) < len(unlabelled):
        foot.append(f"Grey: {len(kept):,} of the unlabelled points.")
    foot += [note] if note else []
    names = points.classes if len(points.classes) <= NAMED else ()
    key = [Label(layout.shorten(name), class_style(index)) for index, name in enumerate(names)]
    height = layout.title_height(title) + layout.key_height(key) + 2 * CELL + layout.note_height(foot)
    figure = layout.sheet(height)
    top = layout.write_key(figure, key, layout.write_title(figure, title))
    layout.write_note(figure, foot)
    count = int(has_label.sum())
    shown = [
        (f"{count:,} labelled points", False, None),
        (f"and {len(unlabelled):,} without a label", True, None),
        (alone.title, False, alone),
        (both.title, True, both),
    ]
    for index, (heading, with_unlabelled, learned) in enumerate(shown):
        axes = _panel(figure, index, top, points, heading)
        if with_unlabelled:
            axes.plot(*points.places[kept].T, "o", color=GREY, markersize=1.8, markeredgewidth=0, alpha=0.7)
        _draw_labelled(axes, points)
        if learned is not None:
            _draw_learned(axes, points, learned)
    return figure


def _panel_size() -> tuple[float, float]:
    """Return width and height of a panel's frame."""
    return (WIDTH - 3 * EDGE) / 2 - 26, CELL - LABEL * 1.7 - TICK * 2.6


def _panel(figure: Figure, index: int, top: float, points: Points, heading: str) -> Axes:
    """Return the axes of a panel, with its heading and the names of its columns."""
    axes = figure.add_subplot()
    layout.furnish(axes)
    axes.grid(False)
    across, up = frame(points.places)
    layout.scale_x(axes, *across)
    layout.scale_y(axes, *up)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5, integer=True))
    width, height = _panel_size()
    left = EDGE + (index % 2) * (WIDTH - EDGE) / 2
    upper = top - (index // 2) * CELL
    bottom = upper - LABEL * 1.7 - height
    layout.place(axes, left + 26, bottom, left + 26 + width, bottom + height)
    layout.write(figure, left, upper - LABEL * 1.2, heading)
    if index == 2:
        layout.write(figure, left + 26 + width, bottom - TICK * 2.4, points.axes[0], TICK, ha="right", color=SOFT)
        layout.write(figure, left, bottom + height - TICK, points.axes[1], TICK, color=SOFT)
    return axes


def _draw_labelled(axes: Axes, points: Points) -> None:
    for index in range(len(points.classes)):
        colour, _, marker = class_style(index)
        own = points.places[points.labels == index]
        axes.plot(*own.T, marker, color=colour, markersize=4.5, markeredgecolor="white", markeredgewidth=0.5, zorder=4)


def _draw_learned(axes: Axes, points: Points, learned: Learned) -> None:
    """Draw each component's ellipses, and the part of the plane that each class takes."""
    for mean, covariance, owner in zip(learned.means, learned.covariances, learned.component_class, strict=True):
        colour = class_style(int(owner)).colour
        variances, directions = np.linalg.eigh(covariance)
        angle = np.degrees(np.arctan2(directions[1, 1], directions[0, 1]))
        for deviations in (1, 2):
            short, long = 2 * deviations * np.sqrt(np.maximum(variances, 0))
            how = {"fill": False, "edgecolor": colour, "linewidth": 1.4 if deviations == 1 else 0.9, "zorder": 5}
            axes.add_patch(Ellipse(tuple(mean), long, short, angle=angle, **how))
    if learned.margins is None:
        return
    x, y = mesh(points.places, learned.margins.shape[1])
    for index in range(learned.margins.shape[2]):
        margin = learned.margins[:, :, index]
        margin = margin / np.abs(margin).max()  # a component as narrow as a line has margins of millions
        if margin.max() > 0 > margin.min():
            axes.contour(x, y, margin, [0.0], colors=INK, linewidths=0.8, zorder=3)
        if margin.max() > 0:
            axes.contourf(x, y, margin, [0.0, 1.1], colors=[class_style(index).colour], alpha=0.12, zorder=1)
