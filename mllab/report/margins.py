"""Figures of kernel machines: accuracy over C and gamma, and boundaries, margins and support vectors in the plane.

As in `mllab.report.figures`, every function takes plain arrays and returns a matplotlib `Figure`, and `figures.save`
writes it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mllab.report import layout
from mllab.report.layout import EDGE, INK, LABEL, NOTE, SOFT, TICK, WIDTH, plain
from mllab.report.palette import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILLION
from mllab.report.pictures import legible

ACCURACY = LinearSegmentedColormap.from_list("accuracy", ["#f2f6fa", SKY, BLUE, "#06304d"])
DEPTH = 0.15  # of accuracy, below the best: what is worse has the palest colour
DARK = 0.55  # of the scale: on darker cells the numbers are white
CELL = 19.0  # height of a setting
HEADING = LABEL * 1.9
TICKS = 24.0  # room for the numbers beside a panel

CLASSES = [(BLUE, "o"), (VERMILLION, "s"), (GREEN, "D"), (ORANGE, "^"), (PURPLE, "v"), (SKY, "P"), (INK, "X")]
PALE = 0.16  # how much of a class's colour is in its region
OTHER: dict[str, Any] = {"markersize": 3.2, "markeredgewidth": 0, "alpha": 0.45}  # points that carry nothing
SUPPORT: dict[str, Any] = {"markersize": 4.4, "markeredgecolor": "black", "markeredgewidth": 0.7}
FLAT = 1e-3  # an f that varies no more than this over the plane has lines of rounding only
DASHES = (0, (4.0, 2.0))


@dataclass(frozen=True)
class Grid:
    """One kernel's accuracy at each setting."""

    name: str
    accuracy: np.ndarray  # [G, C]
    chosen: tuple[int, int]
    gamma: Sequence[float]  # [G], ascending; [] where the kernel has none, and G is 1


@dataclass(frozen=True)
class Plane:
    """Points of two columns, and the grid over them that machines are asked at."""

    points: np.ndarray  # [N, 2]
    labels: np.ndarray  # [N]
    x: np.ndarray  # [X], evenly spaced, ascending
    y: np.ndarray  # [Y]


@dataclass(frozen=True)
class Machine:
    """What one machine says over the grid of a plane, and which points it rests on."""

    decided: np.ndarray  # [Y, X] class
    leads: np.ndarray  # [C, Y, X] the least f by which a class wins the binary problems that it is in
    support: np.ndarray  # [N] is the point a support vector


@layout.with_look
def accuracy_by_setting(grids: Sequence[Grid], c: Sequence[float], *, title: str, note: str) -> Figure:
    """Draw accuracy over C and gamma as cells, a block a kernel, the chosen setting framed.

    Args:
        grids: the kernels'.
        c: of the columns, ascending, [C].
        title: the message, or the question.
        note: what the numbers are.
    """
    best = max(float(np.max(grid.accuracy)) for grid in grids)
    foot = [note, f"Palest: {100 * (best - DEPTH):.0f}% and less. Framed: the setting chosen."]
    left = EDGE + max(layout.text_width(_short(gamma), TICK) for grid in grids for gamma in [*grid.gamma, 1.0]) + 6
    left = max(left, EDGE + layout.text_width("gamma", NOTE) + 6)
    heights = [HEADING + CELL * len(grid.accuracy) for grid in grids]
    bottom = layout.note_height(foot) + LABEL * 1.4 + TICK * 1.9
    figure = layout.sheet(layout.title_height(title) + sum(heights) + bottom)
    layout.write_note(figure, foot)
    top = layout.write_title(figure, title)
    for grid, height in zip(grids, heights, strict=True):
        axes = figure.add_subplot()
        layout.place(axes, left, top - height, WIDTH - EDGE, top - HEADING)
        layout.write(figure, left, top - HEADING + 4, grid.name, weight="bold")
        if grid.gamma:
            layout.write(figure, left - 6, top - HEADING + 4, "gamma", NOTE, ha="right", color=SOFT)
        for row, gamma in enumerate(grid.gamma):
            y = top - height + CELL * (row + 0.5) - 0.36 * TICK
            layout.write(figure, left - 6, y, _short(gamma), TICK, ha="right")
        _cells(axes, grid, Normalize(best - DEPTH, best, clip=True))
        top -= height
    cell = (WIDTH - EDGE - left) / len(c)
    for column, value in enumerate(c):
        layout.write(figure, left + cell * (column + 0.5), top - TICK * 1.4, _short(value), TICK, ha="center")
    layout.write(figure, (left + WIDTH - EDGE) / 2, top - TICK * 1.9 - LABEL, "C", ha="center")
    return figure


def _cells(axes: Axes, grid: Grid, shade: Normalize) -> None:
    """Fill axes with one cell a setting."""
    axes.set_axis_off()
    axes.pcolormesh(grid.accuracy, cmap=ACCURACY, norm=shade, edgecolors="white", linewidth=1)
    for (row, column), value in np.ndenumerate(grid.accuracy):
        colour = "white" if shade(value) > DARK else INK
        weight = "bold" if (row, column) == grid.chosen else "normal"
        how: dict[str, Any] = {"size": TICK, "ha": "center", "va": "center_baseline", "color": colour, "weight": weight}
        axes.text(column + 0.5, row + 0.5, f"{100 * value:.1f}", **how)
    row, column = grid.chosen
    axes.add_patch(Rectangle((column, row), 1, 1, fill=False, edgecolor="black", linewidth=2, clip_on=False, zorder=5))


@layout.with_look
def boundaries(
    plane: Plane,
    machines: Sequence[Machine],
    headings: Sequence[tuple[str, str, str]],
    classes: Sequence[str],
    *,
    title: str,
    note: str,
) -> Figure:
    """Draw each machine's regions, boundary, margins and support vectors: a panel each, the key in the last place.

    Args:
        plane: what all panels share.
        machines: one a panel.
        headings: a panel's name, its setting, and a line about it.
        classes: name of each class.
        title: the message, or the question.
        note: what the axes are.
    """
    wide = (WIDTH - 3 * EDGE) / 2 - TICKS
    high = wide * float(np.clip(np.ptp(plane.y) / np.ptp(plane.x), 0.6, 1.2))
    down = HEADING + NOTE * 1.5 + high + TICK * 2.2
    figure = layout.sheet(layout.title_height(title) + down * (len(machines) // 2 + 1) + layout.note_height([note]))
    layout.write_note(figure, [note])
    top = layout.write_title(figure, title)
    places = [(EDGE + index % 2 * (WIDTH - EDGE) / 2, top - index // 2 * down) for index in range(len(machines) + 1)]
    for machine, (name, setting, told), (left, upper) in zip(machines, headings, places, strict=False):
        layout.write(figure, left + TICKS, upper - LABEL * 1.5, name, weight="bold")
        beside = left + TICKS + layout.text_width(name, LABEL, "bold") + 6
        layout.write(figure, beside, upper - LABEL * 1.5, setting, NOTE)
        layout.write(figure, left + TICKS, upper - HEADING - NOTE, told, NOTE, color=SOFT)
        axes = figure.add_subplot()
        layout.furnish(axes)
        axes.grid(False)
        bottom = upper - HEADING - NOTE * 1.5 - high
        layout.place(axes, left + TICKS, bottom, left + TICKS + wide, bottom + high)
        _draw_machine(axes, plane, machine)
    left, upper = places[-1]
    _write_key(figure, classes, left + TICKS, upper - HEADING)
    return figure


def _draw_machine(axes: Axes, plane: Plane, machine: Machine) -> None:
    """Draw regions in pale colours, the lines where f is 0 and where it is 1, and the points."""
    pale = np.array([1 - PALE * (1 - np.array(to_rgb(_look(index)[0]))) for index in range(len(machine.leads))])
    x, y = plane.x, plane.y
    half_x, half_y = (x[1] - x[0]) / 2, (y[1] - y[0]) / 2  # a point of the grid is the middle of its pixel
    pixels = (pale[machine.decided] * 255).round().astype(np.uint8)
    extent = (x[0] - half_x, x[-1] + half_x, y[0] - half_y, y[-1] + half_y)
    axes.imshow(pixels, extent=extent, origin="lower", aspect="auto", interpolation="none")
    for leads in machine.leads[np.ptp(machine.leads, axis=(1, 2)) > FLAT]:
        for level, width, dash in ((0.0, 1.3, "solid"), (1.0, 0.8, DASHES)):
            if leads.min() < level < leads.max():
                axes.contour(x, y, leads, [level], colors=INK, linewidths=width, linestyles=[dash])
    for support, how in ((False, OTHER), (True, SUPPORT)):
        for index in range(len(machine.leads)):
            colour, marker = _look(index)
            shown = plane.points[(plane.labels == index) & (machine.support == support)]
            axes.plot(*shown.T, linestyle="", marker=marker, color=colour, zorder=3 + support, **how)
    layout.scale_x(axes, x[0], x[-1])
    layout.scale_y(axes, y[0], y[-1])


def _write_key(figure: Figure, classes: Sequence[str], left: float, top: float) -> None:
    """Write what points, rims and lines mean, one below the other."""
    samples: list[tuple[str, dict[str, Any]]] = []
    for index, name in enumerate(classes[: len(CLASSES)]):
        colour, marker = _look(index)
        samples.append((f"class {legible(name)}", {"colour": colour, "marker": marker, **OTHER}))
    samples += [
        ("with a rim: a support vector", {"colour": "white", "marker": "o", **SUPPORT}),
        ("boundary: f = 0", {"colour": INK, "linewidth": 1.3}),
        ("margin: f = 1 or −1", {"colour": INK, "linewidth": 0.8, "linestyle": DASHES}),
    ]
    for rank, (text, how) in enumerate(samples):
        y = top - LABEL * (1 + 1.6 * rank)
        xs = [left + layout.SAMPLE / 2] if "marker" in how else [left, left + layout.SAMPLE]
        layout.draw(figure, xs, [y] * len(xs), **how)
        layout.write(figure, left + layout.SAMPLE + 6, y - 0.36 * LABEL, text)


def _look(index: int) -> tuple[str, str]:
    """Return colour and marker of a class; they repeat after the seventh."""
    return CLASSES[index % len(CLASSES)]


def _short(value: float) -> str:
    return plain(float(f"{value:.3g}"))
