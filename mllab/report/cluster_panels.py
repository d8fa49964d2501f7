"""Clusters drawn: points in the plane by cluster, clusters against classes, and pictures side by side."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from mllab.report import layout
from mllab.report.layout import EDGE, INK, LABEL, NOTE, SOFT, TICK, WIDTH
from mllab.report.palette import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILLION
from mllab.report.pictures import legible
from mllab.report.series import Floats, span

PLANE = 250.0  # height of the plane's frame
MOST = 3000  # points in the plane; more would only make the file larger
MESH = 240  # places across the plane at which the nearest centre is looked up
PIXELS = 240_000  # in a figure of pictures; larger ones lose every so many rows and columns
SMALLEST = 6.0  # type that is still read
GAP = 8.0
ROOM = WIDTH - 2 * EDGE
COLOURS = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, BLACK)
MARKERS = "osD^vPX"
SHARE = LinearSegmentedColormap.from_list("share", ["#ffffff", "#b8d9ec", BLUE, "#00304d"])


class Plane(NamedTuple):
    """Points in the plane and the clusters that they are in."""

    places: Floats  # [N, 2]
    labels: NDArray[np.integer]  # [N] in 0..K-1
    centres: Floats  # [K, 2]
    axes: tuple[str, str] = ("x", "y")  # names of the two columns


@layout.with_look
def plane(points: Plane, *, title: str, note: str = "") -> Figure:
    """Draw points in the colour of their cluster, the centres, and the lines that are as near to two of them.

    Args:
        points: what is drawn.
        title: the message, or the question.
        note: one more sentence for the foot of the figure.
    """
    kept = np.arange(len(points.places))[:: max(1, -(-len(points.places) // MOST))]
    shown = f"{len(kept):,} of the {len(points.places):,} points" if len(kept) < len(points.places) else "points"
    foot = [f"Colour and shape: the cluster of each of the {shown}. +: centres.", *([note] if note else [])]
    figure = layout.sheet(layout.title_height(title) + LABEL * 2 + PLANE + TICK * 4 + layout.note_height(foot))
    layout.write_note(figure, foot)
    top = layout.write_title(figure, title) - LABEL * 1.6
    axes = figure.add_subplot()
    layout.furnish(axes)
    axes.grid(False)
    across, up = (span(points.places[:, column], margin=0.05) for column in (0, 1))
    layout.scale_x(axes, *across)
    layout.scale_y(axes, *up)
    left = EDGE + layout.tick_width(axes) + 8
    layout.place(axes, left, top - 5 - PLANE, WIDTH - EDGE, top - 5)
    layout.write(figure, EDGE, top, legible(points.axes[1]))
    middle = (left + WIDTH - EDGE) / 2
    layout.write(figure, middle, top - 5 - PLANE - TICK * 3, legible(points.axes[0]), ha="center")
    for cluster in range(len(points.centres)):
        turn, place = divmod(cluster, len(COLOURS))
        marker = MARKERS[(place + turn) % len(MARKERS)]
        ids = kept[points.labels[kept] == cluster]
        axes.plot(*points.places[ids].T, marker, color=COLOURS[place], markersize=3.2, markeredgewidth=0, alpha=0.75)
    xs, ys = np.linspace(*across, MESH), np.linspace(*up, MESH)
    mesh = np.stack(np.meshgrid(xs, ys), axis=-1)
    nearest = np.argmin(((mesh[:, :, None] - points.centres[None, None]) ** 2).sum(axis=-1), axis=-1)
    for cluster in np.unique(nearest)[1:]:
        axes.contour(xs, ys, nearest == cluster, levels=[0.5], colors=[SOFT], linewidths=0.6)
    axes.plot(*points.centres.T, "+", color="white", markersize=13, markeredgewidth=4.5, zorder=4)
    axes.plot(*points.centres.T, "+", color=INK, markersize=11, markeredgewidth=2, zorder=5)
    return figure


@layout.with_look
def contingency(
    counts: ArrayLike, clusters: Sequence[str], classes: Sequence[str], *, title: str, note: str = ""
) -> Figure:
    """Draw clusters against classes: the darker a cell, the larger the share of the cluster's rows that it holds.

    Args:
        counts: rows of each cluster that are of each class, [K, C].
        clusters: name of each cluster, [K].
        classes: name of each class, [C].
        title: the message, or the question.
        note: one more sentence for the foot of the figure.
    """
    counts = np.asarray(counts, float)
    if counts.shape != (len(clusters), len(classes)):
        raise ValueError(f"counts has shape {counts.shape}: give [{len(clusters)} clusters, {len(classes)} classes]")
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    rows, columns = [legible(name) for name in clusters], [legible(name) for name in classes]
    margin = max(layout.text_width(name, TICK) for name in rows) + 6
    across = min((ROOM - margin) / len(columns), 60.0)
    down = min(max(across, SMALLEST + 1), 18.0)
    size = min(TICK, 0.9 * across)
    widest = max(layout.text_width(name, size) for name in columns) if size >= SMALLEST else 0.0
    upright = widest > across - 4
    above = (widest if upright else size) + 8
    foot = ["Each row: how a cluster's rows fall on the classes; numbers: percent, from 10.", *([note] if note else [])]
    body = above + down * len(rows)
    figure = layout.sheet(layout.title_height(title) + GAP + body + GAP + layout.note_height(foot))
    layout.write_note(figure, foot)
    top = layout.write_title(figure, title) - GAP - above
    left, right = EDGE + margin, EDGE + margin + across * len(columns)
    axes = figure.add_subplot()
    axes.set_axis_off()
    layout.place(axes, left, top - down * len(rows), right, top)
    axes.imshow(SHARE(shares)[..., :3], aspect="auto", interpolation="none").set_gid("shares")
    for rule, count in ((axes.axhline, len(rows)), (axes.axvline, len(columns))):
        for edge in range(count + 1):
            rule(edge - 0.5, color="#d9d9d9", linewidth=0.4)
    for row, name in enumerate(rows):
        layout.write(figure, left - 6, top - down * (row + 0.5) - 0.36 * TICK, name, min(TICK, down), ha="right")
    for column, name in enumerate(columns if widest else ()):
        x = left + across * (column + 0.5)
        if upright:
            layout.write(figure, x + 0.36 * size, top + 4, name, size, rotation=90, rotation_mode="anchor")
        else:
            layout.write(figure, x, top + 4, name, size, ha="center")
    digits = min(TICK, 0.9 * down, TICK * (across - 2) / layout.text_width("100", TICK))
    for row, column in np.argwhere(shares >= 0.1) if digits >= SMALLEST else ():
        x, y = left + across * (column + 0.5), top - down * (row + 0.5) - 0.36 * digits
        colour = "white" if shares[row, column] > 0.45 else INK
        layout.write(figure, x, y, f"{100 * shares[row, column]:.0f}", digits, ha="center", color=colour)
    return figure


@layout.with_look
def pictures(
    images: Sequence[Floats], captions: Sequence[str], *, title: str, columns: int = 2, note: str = ""
) -> Figure:
    """Draw pictures of one shape side by side, each with a line below it.

    Args:
        images: [H, W, 1 or 3] each, in [0, 1].
        captions: a line each.
        title: the message, or the question.
        columns: how many stand in a row.
        note: one more sentence for the foot of the figure.
    """
    height, width = images[0].shape[:2]
    stride = max(1, int(np.ceil(np.sqrt(height * width * len(images) / PIXELS))))
    wide = (ROOM - GAP * (columns - 1)) / columns
    high = wide * height / width
    down = high + NOTE * 1.35 + GAP
    foot = [note] if note else []
    body = -(-len(images) // columns) * down
    figure = layout.sheet(layout.title_height(title) + GAP + body + layout.note_height(foot))
    layout.write_note(figure, foot)
    top = layout.write_title(figure, title) - GAP
    for index, (image, caption) in enumerate(zip(images, captions, strict=True)):
        left, upper = EDGE + index % columns * (wide + GAP), top - index // columns * down
        axes = figure.add_subplot()
        axes.set_axis_off()
        layout.place(axes, left, upper - high, left + wide, upper)
        pixels = np.round(255 * np.clip(image[::stride, ::stride], 0, 1)).astype(np.uint8)
        coloured = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
        axes.imshow(coloured, aspect="auto", interpolation="none").set_gid(f"picture-{index}")
        layout.write(figure, left + wide / 2, upper - high - NOTE * 1.2, caption, NOTE, ha="center")
    return figure
