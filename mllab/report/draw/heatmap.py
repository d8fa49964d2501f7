"""Coloured cells: accuracy over two hyperparameters, successes, a confusion matrix, clusters against classes.

The figures take `title`, the message or the question. Names and numbers are written only where they fit, at MIN_TYPE
or more.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from mllab.report.draw import base
from mllab.report.draw.base import FAINT, INK, LABEL, TICK, Floats
from mllab.report.style import BLUE, SKY, VERMILLION
from mllab.report.table import BLANK, legible, share, short

ACCURACY = LinearSegmentedColormap.from_list("accuracy", ["#f2f6fa", SKY, BLUE, "#06304d"])
MISTAKES = LinearSegmentedColormap.from_list("mistakes", ["#f9d9c3", VERMILLION, "#7a2f00"])
SHARES = LinearSegmentedColormap.from_list("shares", ["#ffffff", "#b8d9ec", BLUE, "#00304d"])
DEPTH = 0.15  # accuracy below the best by this or more has the palest colour
MIN_SHARE = 0.1  # smaller shares of a cluster are coloured, not written
MIN_TYPE = 6.0  # points; smaller text is left out
MIN_LEVEL_TYPE = 8.0  # points; rather than smaller, column names are turned upright
MAX_CELL = 44.0, 84.0  # points, of a square cell: with short names and with long ones
ROW = 19.0  # points, the height of a cell that is not square
ROOM = 72 * base.WIDTH - 2 * base.EDGE - 12  # points for row names and cells


@dataclass(frozen=True)
class Cells:
    """A block of cells: colours, and the text in them."""

    colours: Floats  # [R, C, 3] in [0, 1]
    texts: Sequence[Sequence[str]]  # [R][C]; "" for none
    rows: Sequence[str] = ()  # name of each row, [R], or none
    bold: Collection[tuple[int, int]] = ()  # (row, column)
    framed: tuple[int, int] | None = None  # bold too
    heading: str = ""


@dataclass(frozen=True)
class Grid:
    """The accuracy of one kernel at each setting of its hyperparameters."""

    name: str
    accuracy: Floats  # [G, C]; NaN where there is none
    chosen: tuple[int, int]
    gamma: Sequence[float] = ()  # [G], ascending; empty for a kernel without gamma, where G is 1


@base.with_look
def heat_map(
    blocks: Sequence[Cells], columns: Sequence[str], *, title: str, x_label: str = "", y_label: str = "",
    notes: Sequence[str] = (), matrix: bool = True,
) -> Figure:  # fmt: skip
    """Draw blocks of cells, one below the other, over the same named columns [C].

    The rows of a `matrix` count from the top, its columns are named there, and its cells are square where there are as
    many rows as columns; otherwise rows count from the bottom, as on an axis.
    """
    count, rows = len(columns), sum(len(block.texts) for block in blocks)
    square = matrix and count == rows
    above = [base.fit(legible(name), TICK, ROOM / 4) for name in columns]
    beside = [[base.fit(legible(name), TICK, ROOM / 4) for name in block.rows] for block in blocks]
    label = LABEL * 1.6 if y_label else 0.0
    width = (ROOM - label - max((base.text_width(name, TICK) for names in beside for name in names), default=0)) / count
    if 0.9 * width < MIN_TYPE:
        above, notes = [], [*notes, "Names are omitted: there are too many."]
        if square:
            beside, width = [[]], (ROOM - label) / count
    widest = max((base.text_width(name, TICK) for name in above), default=1.0)
    width = min(width, float(np.clip(widest + 6, *MAX_CELL))) if square else width
    height = width if square else ROW
    level = min(TICK, TICK * (width - 4) / widest)
    upright = level < MIN_LEVEL_TYPE
    size = min(TICK, 0.9 * width) if upright else level
    head = 8 + (widest * size / TICK if upright else 1.3 * size) if above else 0
    headings = sum(LABEL * 1.3 + 16 if block.heading else 6 for block in blocks)
    points = height * rows + head + headings + LABEL * 1.6 * bool(x_label)
    figure = base.figure(points / 72, title=title, notes=notes)
    ratios = [len(block.texts) for block in blocks]
    panels = figure.subplots(len(blocks), 1, squeeze=False, sharex=True, height_ratios=ratios)[:, 0]
    for rank, (axes, block, names) in enumerate(zip(panels, blocks, beside, strict=True)):
        _draw_cells(axes, block, width, height, matrix=matrix)
        axes.images[0].set_gid(f"cells-{rank}")
        axes.set_yticks(range(len(names)), names, size=min(TICK, 0.9 * height))
        axes.set_ylabel(y_label if names or square else "")
        axes.set_title(base.fit(block.heading, LABEL, ROOM - 60, "bold"), weight="bold")
        if square:
            axes.set(aspect="equal", anchor="NW")
    edge = panels[0 if matrix else -1]
    edge.set_xticks(range(len(above)), above, size=size, rotation=90 if upright else 0)
    edge.set_xlabel(x_label)
    edge.tick_params(labeltop=matrix, labelbottom=not matrix)
    edge.xaxis.set_label_position("top" if matrix else "bottom")
    return figure


def _draw_cells(axes: Axes, block: Cells, width: float, height: float, *, matrix: bool) -> None:
    """Fill axes with cells of about `width` × `height` points."""
    rows, columns = block.colours.shape[:2]
    axes.imshow(block.colours, aspect="auto", interpolation="none", origin="upper" if matrix else "lower")
    axes.spines[:].set(color=FAINT, visible=True)
    axes.tick_params(length=0, which="both")
    if min(width, height) > MIN_TYPE:
        axes.set_xticks(np.arange(1, columns) - 0.5, minor=True)
        axes.set_yticks(np.arange(1, rows) - 0.5, minor=True)
        axes.grid(which="minor", color=FAINT if matrix else "white", linewidth=0.8)
    widest = max(base.text_width(text, TICK, "bold") for text in {text for line in block.texts for text in line})
    size = min(TICK, 0.9 * height, TICK * (width - 3) / max(widest, 1))
    bold = {*block.bold, block.framed}
    light = block.colours**2.2 @ (0.2126, 0.7152, 0.0722)  # relative luminance
    for row, column in np.ndindex(rows, columns) if size >= MIN_TYPE else ():
        if text := block.texts[row][column]:
            colour = INK if light[row, column] > 0.2 else "white"  # where black and white contrast alike
            weight = "bold" if (row, column) in bold else "normal"
            look: dict[str, Any] = {"size": size, "color": colour, "weight": weight, "in_layout": False}
            axes.text(column, row, text, ha="center", va="center_baseline", **look)
    if block.framed is not None:
        row, column = block.framed
        frame = Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, linewidth=2, clip_on=False, zorder=5)
        axes.add_patch(frame)


def accuracy_by_setting(grids: Sequence[Grid], c: Sequence[float], *, title: str, note: str = "") -> Figure:
    """Draw accuracy over C [C] and gamma, a block of cells per kernel, the chosen setting framed."""
    best = max((float(value) for grid in grids for value in grid.accuracy.flat if np.isfinite(value)), default=1.0)
    low = max(best - DEPTH, 0.0)
    blocks = []
    for grid in grids:
        colours = ACCURACY(np.clip((grid.accuracy - low) / ((best - low) or 1.0), 0, 1))[..., :3]
        colours[~np.isfinite(grid.accuracy)] = to_rgb(FAINT)
        texts = [[f"{100 * value:.1f}" if np.isfinite(value) else BLANK for value in row] for row in grid.accuracy]
        blocks.append(Cells(colours, texts, list(map(short, grid.gamma)), framed=grid.chosen, heading=grid.name))
    notes = [note, f"Palest: {100 * low:.0f}% and less; darkest: {100 * best:.1f}%. Framed: the chosen setting."]
    return heat_map(blocks, list(map(short, c)), title=title, x_label="C", y_label="gamma", notes=notes, matrix=False)


@dataclass(frozen=True)
class Shares:
    """How many of equally many trials succeeded, by row and column."""

    name: str
    rows: Sequence[str]  # [R]
    counts: ArrayLike  # [R, C]
    trials: int


def successes(
    blocks: Sequence[Shares], columns: Sequence[str], *, title: str, x_label: str, notes: Sequence[str] = ()
) -> Figure:
    """Draw in how many of its trials each row succeeded in each column [C], a block below the other; dark: in all."""
    cells = []
    for block in blocks:
        counts = np.asarray(block.counts).astype(int)
        if counts.shape != (len(block.rows), len(columns)):
            raise ValueError(f"counts of {block.name!r}: {counts.shape}, not {(len(block.rows), len(columns))}")
        counts = counts[::-1]  # rows count from the bottom
        texts = [[f"{count}/{block.trials}" for count in row] for row in counts]
        colours = SHARES(counts / block.trials)[..., :3]
        cells.append(Cells(colours, texts, list(block.rows)[::-1], heading=legible(block.name)))
    return heat_map(cells, columns, title=title, x_label=x_label, notes=notes, matrix=False)


def confusion(counts: ArrayLike, classes: Sequence[str], *, title: str) -> Figure:
    """Draw a confusion matrix, its diagonal in grey and its mistakes in colour, so that a few of them stand out.

    `counts` [C, C] are the test rows of each true class (rows) predicted as each class (columns).
    """
    counts = np.asarray(counts).astype(int)
    if counts.shape != (len(classes), len(classes)):
        raise ValueError(f"counts has shape {counts.shape}, but there are {len(classes)} classes")
    diagonal = np.eye(len(counts), dtype=bool)
    wrong = np.where(diagonal, 0, counts)
    most = int(wrong.max())
    colours = np.where((wrong > 0)[..., None], MISTAKES(wrong / max(most, 1))[..., :3], 1.0)
    colours[diagonal] = to_rgb(FAINT)
    texts = [[f"{count}" if count else "" for count in row] for row in counts]
    scale = f"Colour: mistakes, from 1 (pale) to {most:,} (dark) per cell." if most > 1 else "Colour: 1 mistake."
    notes = ["Grey: correct.", scale if most else "No mistakes."]
    cells = Cells(colours, texts, classes, bold={(index, index) for index in range(len(classes))})
    return heat_map([cells], classes, title=title, x_label="predicted class", y_label="true class", notes=notes)


def contingency(counts: ArrayLike, clusters: Sequence[str], classes: Sequence[str], *, title: str) -> Figure:
    """Draw clusters against classes: the darker a cell, the larger the share of the cluster's rows in that class.

    `counts` [K, C] are the rows of each cluster in each class.
    """
    counts = np.asarray(counts, float)
    if counts.shape != (len(clusters), len(classes)):
        raise ValueError(f"counts has shape {counts.shape}, not [{len(clusters)} clusters, {len(classes)} classes]")
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    texts = [[f"{100 * value:.0f}" if value >= MIN_SHARE else "" for value in row] for row in shares]
    scale = f"Each row: percentage of the cluster's rows per class, written from {share(MIN_SHARE, 0)}."
    cells = Cells(SHARES(shares)[..., :3], texts, clusters)
    return heat_map([cells], classes, title=title, x_label="class", y_label="cluster", notes=[scale])
