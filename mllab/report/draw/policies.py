"""Values and policies on a map of cells: colours for the values of cells, arrows for what a policy does in them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mllab.report.draw import base
from mllab.report.draw.base import FAINT, INK, LABEL, SOFT, Floats
from mllab.report.style import GREEN, VERMILLION
from mllab.report.table import fixed, short

VALUES = matplotlib.colormaps["RdBu"]  # red below 0, white, blue above
WALL = "#6b6b6b"
COLUMNS = 2  # panels side by side
MAX_CELL = 42.0  # points
MIN_WRITTEN = 21.0  # points, of a cell with its value in it
VALUE_TYPE = 7.5  # points
ENDS = {"G": GREEN, "P": VERMILLION}  # cells that end an episode
ARROWS = ((0, 1), (1, 0), (0, -1), (-1, 0))  # up, right, down, left


@dataclass(frozen=True)
class Map:
    """Values and a policy on a map, from the top row."""

    heading: str
    values: Floats  # [R, C]; NaN for a wall
    arrows: np.ndarray  # [R, C, 4] bool: whether the policy goes up, right, down or left; several are ties


@base.with_look
def policies(maps: Sequence[Map], marks: Sequence[Sequence[str]], *, title: str, notes: Sequence[str] = ()) -> Figure:
    """Draw maps side by side with one scale of colours.

    Args:
        maps: of the same cells.
        marks: text in each cell, [R][C], such as "S" of the start; "G" of a goal and "P" of a pit, which end an
            episode, stand in place of value and arrow.
        title: the message.
        notes: sentences for the foot.
    """
    rows, columns = maps[0].values.shape
    room = (72 * base.WIDTH - 2 * base.EDGE - 16 * (COLUMNS - 1)) / COLUMNS
    cell = min(room / columns, MAX_CELL)
    lines = math.ceil(len(maps) / COLUMNS)
    greatest = max((float(np.nanmax(np.abs(each.values), initial=0.0)) for each in maps), default=0.0) or 1.0
    written = cell >= MIN_WRITTEN
    scale = f"Red: −{short(greatest, 2)}, white: 0, blue: {short(greatest, 2)}."
    figure = base.figure(lines * (cell * rows + LABEL + 14) / 72, title=title, notes=[scale, *notes])
    panels = figure.subplots(lines, COLUMNS, squeeze=False)
    for rank, (axes, each) in enumerate(zip(panels.flat, maps, strict=False)):
        axes.set_title(base.fit(each.heading, LABEL, room))
        _draw(axes, each, marks, greatest, written)
        axes.images[0].set_gid(f"values-{rank}")
    for axes in panels.flat[len(maps) :]:
        axes.set_axis_off()
    return figure


def _draw(axes: Axes, each: Map, marks: Sequence[Sequence[str]], greatest: float, written: bool) -> None:
    rows, columns = each.values.shape
    colours = VALUES(0.5 + 0.35 * np.nan_to_num(each.values) / greatest)[..., :3]  # never too dark for its arrow
    colours[np.isnan(each.values)] = matplotlib.colors.to_rgb(WALL)
    for row, column in np.ndindex(rows, columns):
        if marks[row][column] in ENDS:
            colours[row, column] = matplotlib.colors.to_rgb(ENDS[marks[row][column]])
    axes.imshow(colours, interpolation="none", aspect="equal")
    axes.set_xticks(np.arange(1, columns) - 0.5, minor=True)
    axes.set_yticks(np.arange(1, rows) - 0.5, minor=True)
    axes.grid(which="minor", color=FAINT, linewidth=0.8)
    axes.tick_params(length=0, which="both", labelleft=False, labelbottom=False)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set(visible=True, color=SOFT)
    axes.set_anchor("NW")
    middle = -0.14 if written else 0.0
    for row, column in np.ndindex(rows, columns):
        if np.isnan(each.values[row, column]):
            continue
        mark = marks[row][column]
        if mark in ENDS:
            axes.text(column, row, mark, size=LABEL, weight="bold", color="white", ha="center", va="center_baseline")
            continue
        if written:
            text = fixed(float(each.values[row, column]), 2)
            axes.text(column, row + 0.31, text, size=VALUE_TYPE, color=INK, ha="center", va="center", in_layout=False)
        if mark:
            axes.text(column - 0.33, row - 0.28, mark, size=VALUE_TYPE, color=SOFT, ha="center", va="center")
        for (right, up), goes in zip(ARROWS, each.arrows[row, column], strict=True):
            if goes:
                arrow = {"arrowstyle": "-|>,head_width=0.18,head_length=0.3", "color": INK, "linewidth": 0.9}
                reach = 0.27 if each.arrows[row, column].sum() > 1 else 0.2
                end = column + reach * right, row + middle - reach * up
                begin = (column, row + middle) if reach > 0.2 else (column - 0.2 * right, row + middle + 0.2 * up)
                axes.annotate("", end, begin, arrowprops=arrow | {"shrinkA": 0, "shrinkB": 0}, annotation_clip=False)
