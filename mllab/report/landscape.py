"""The loss over two parameters, as a surface and as contours, with the path that each optimizer took on it.

A path that leaves the frame is cut where it leaves: a mark stands there, and its name says at which step.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from mpl_toolkits.mplot3d.axes3d import Axes3D
from numpy.typing import ArrayLike

from mllab.report import layout
from mllab.report.layout import EDGE, LABEL, TICK, Label, PlainFormatter, plain
from mllab.report.palette import Style, style
from mllab.report.series import Floats, span

HEIGHT = 340.0
LEVELS = 14  # contours
MESH = 25  # lines of the surface on a side: smooth to the eye, and 600 polygons in the file
FAR = 1e6  # frames away, where float64 no longer tells where a segment crosses the frame
EXITS = 4  # marked at most: a path that swings across the frame leaves it again and again
STAR: dict[str, Any] = {"marker": "*", "color": "white", "markeredgecolor": "black", "markersize": 12, "zorder": 6}
START: dict[str, Any] = {"marker": "o", "color": "white", "markeredgecolor": "black", "markersize": 8, "zorder": 6}


@dataclass(frozen=True)
class Path:
    """Where an optimizer went, step by step, from its start."""

    label: str
    a: ArrayLike  # [S]
    b: ArrayLike  # [S]
    name: str = ""  # the optimizer whose colour it takes; the label where empty

    @property
    def style(self) -> Style:
        """Its fixed colour, dash and marker."""
        return style(self.name or self.label)


class Cut(NamedTuple):
    """What is seen of a path inside a frame."""

    pieces: list[Floats]  # each [P, 2]; a path that comes back has several
    exits: list[tuple[Floats, Floats]]  # where it crosses the frame going out, [2], and its direction there, [2]
    left: int | None  # the first step outside
    end: Floats | None  # where it ends, [2], if inside

    def told(self, label: str) -> str:
        """Return the label with what became of the path."""
        label = layout.shorten(label)
        if self.left is None:
            return label
        return f"{label} (leaves at step {self.left:,}{'' if self.end is None else ', returns'})"


@layout.with_look
def loss_contours(
    a_grid: ArrayLike,
    b_grid: ArrayLike,
    loss: ArrayLike,
    paths: Sequence[Path],
    *,
    title: str,
    a_label: str,
    b_label: str,
    loss_label: str = "loss",
    optimum: tuple[float, float] | None = None,
    note: str = "",
) -> Figure:
    """Draw lines of equal loss, and every optimizer's path over them.

    Args:
        a_grid: the first parameter's values, ascending, [A]; the horizontal axis.
        b_grid: the second's, [B].
        loss: at each pair, [B, A].
        paths: one an optimizer.
        title: the message, or the question.
        a_label: what the first parameter is, and its unit.
        b_label: what the second is, and its unit.
        loss_label: what the loss is, and its unit.
        optimum: (a, b) of the closed form, marked by a star.
        note: one more sentence for the foot of the figure.
    """
    a, b, values = _grid(a_grid, b_grid, loss)
    cuts = [cut(path, a, b) for path in paths]
    optimum = optimum if optimum and _within(optimum, a, b) else None
    levels = _levels(values)
    factor = f"; each is {levels[1] / levels[0]:.2g} times the one inside it" if len(levels) > 1 else ""
    foot = [f"Lines of equal {loss_label}{factor}.", *_foot("Triangle", cuts, optimum, note)]
    figure = layout.sheet(HEIGHT)
    axes = figure.add_subplot()
    layout.furnish(axes)
    axes.grid(False)
    if len(levels) > 1:
        greys = [str(grey) for grey in np.linspace(0.99, 0.80, LEVELS)]
        axes.contourf(a, b, np.clip(values, levels[0], levels[-1]), levels, colors=greys)
        axes.contour(a, b, values, levels, colors="#a0a0a0", linewidths=0.5)
    layout.scale_x(axes, a[0], a[-1])
    layout.scale_y(axes, b[0], b[-1])
    for path, one in zip(paths, cuts, strict=True):
        _draw_flat(axes, path.style, one)
    start = _common_start(paths, a, b)
    if start is not None:
        axes.plot(*start, **START)
        axes.annotate("start", start, (8, 5), textcoords="offset points", size=LABEL, zorder=6)
    if optimum is not None:
        axes.plot(*optimum, **STAR)
    top = _write_head(figure, title, paths, cuts) - LABEL * 1.2
    layout.write_note(figure, foot)
    bottom = layout.note_height(foot) + LABEL * 1.6
    left, right = EDGE + layout.tick_width(axes) + 8, layout.WIDTH - 2 * EDGE
    layout.place(axes, left, bottom + TICK * 1.7, right, top - 5)
    layout.write(figure, EDGE, top, b_label)
    layout.write(figure, (left + right) / 2, bottom - LABEL, a_label, ha="center")
    return figure


@layout.with_look
def loss_surface(
    a_grid: ArrayLike,
    b_grid: ArrayLike,
    loss: ArrayLike,
    paths: Sequence[Path],
    *,
    title: str,
    a_label: str,
    b_label: str,
    loss_label: str = "loss",
    log_loss: bool = False,
    optimum: tuple[float, float] | None = None,
    note: str = "",
) -> Figure:
    """Draw the loss as a surface in three dimensions, and every optimizer's path upon it.

    Args:
        a_grid: the first parameter's values, ascending, [A].
        b_grid: the second's, [B].
        loss: at each pair, [B, A].
        paths: one an optimizer.
        title: the message, or the question.
        a_label: what the first parameter is, and its unit.
        b_label: what the second is, and its unit.
        loss_label: what the loss is, and its unit.
        log_loss: whether the height is the loss's logarithm, where a valley is too flat to see otherwise.
        optimum: (a, b) of the closed form, marked by a star.
        note: one more sentence for the foot of the figure.
    """
    a, b, values = _grid(a_grid, b_grid, loss)
    log_loss = log_loss and bool((values > 0).any())
    height = np.log10(np.maximum(values, values[values > 0].min())) if log_loss else values
    cuts = [cut(path, a, b) for path in paths]
    optimum = optimum if optimum and _within(optimum, a, b) else None
    foot = _foot("Cross", cuts, optimum, note)
    figure = layout.sheet(HEIGHT)
    top = _write_head(figure, title, paths, cuts)
    layout.write_note(figure, foot)
    axes: Axes3D = figure.add_subplot(projection="3d", computed_zorder=False)  # type: ignore[assignment]
    layout.place(axes, 3 * EDGE, layout.note_height(foot) + LABEL, layout.WIDTH - 3 * EDGE, top + EDGE)
    axes.set_box_aspect((1.25, 1.25, 0.85), zoom=1.05)
    axes.view_init(elev=32, azim=-55)
    rows, columns = (np.unique(np.linspace(0, len(side) - 1, MESH).astype(int)) for side in (b, a))
    part = np.ix_(rows, columns)
    x, y = np.meshgrid(a, b)
    greys = np.repeat(np.interp(height[part], (height.min(), height.max()), (0.98, 0.75))[..., None], 3, axis=-1)
    mesh = {"rstride": 1, "cstride": 1, "shade": False, "edgecolor": "#a8a8a8", "linewidth": 0.3}
    axes.plot_surface(x[part], y[part], height[part], facecolors=greys, **mesh)
    axes.set(xlim=(a[0], a[-1]), ylim=(b[0], b[-1]), zlim=span(height))
    for path, one in zip(paths, cuts, strict=True):
        _draw_draped(axes, path.style, one, a, b, height)
    if optimum is not None:
        axes.plot(*optimum, *_height_at(np.array([optimum]), a, b, height), **STAR)
    start = _common_start(paths, a, b)
    if start is not None:
        axes.plot(*start, *_height_at(np.array([start]), a, b, height), **START)
    for axis, label in ((axes.xaxis, a_label), (axes.yaxis, b_label), (axes.zaxis, loss_label)):
        axis.set_major_locator(MaxNLocator(5))
        axis.set_major_formatter(PlainFormatter(same_decimals=True))
        axis.set_label_text(label, size=LABEL)
        axis.set_tick_params(labelsize=TICK - 1)
        axis.set_pane_color((1, 1, 1, 0))
    if log_loss:
        axes.zaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.zaxis.set_major_formatter(lambda exponent, _: plain(float(f"{10.0**exponent:.2g}")))
    return figure


def cut(path: Path, a_grid: ArrayLike, b_grid: ArrayLike) -> Cut:
    """Return what is seen of a path inside the frame of the grids: each segment cut by Liang and Barsky's rule."""
    low = np.array([np.min(a_grid), np.min(b_grid)], float)
    high = np.array([np.max(a_grid), np.max(b_grid)], float)
    points = np.stack([np.asarray(path.a, float), np.asarray(path.b, float)], axis=1)
    lost = np.flatnonzero(~(np.abs(points - low) < FAR * (high - low)).all(axis=1))
    points = points[: lost[0]] if lost.size else points
    inside = np.all((points >= low) & (points <= high), axis=1)
    pieces: list[Floats] = []
    exits: list[tuple[Floats, Floats]] = []
    piece = [points[0]] if len(points) and inside[0] else []
    for step, (start, stop) in enumerate(itertools.pairwise(points)):
        kept = _inside(start, stop, low, high)
        if kept is None:
            continue
        enters, leaves = kept
        if not inside[step]:
            piece = [start + enters * (stop - start)]
        piece.append(start + leaves * (stop - start))
        if not inside[step + 1]:
            pieces.append(np.array(piece))
            exits.append((piece[-1], stop - start))
            piece = []
    if piece:
        pieces.append(np.array(piece))
    outside = np.flatnonzero(~inside)
    left = int(outside[0]) if outside.size else int(lost[0]) if lost.size else None
    end = points[-1] if len(points) and inside[-1] and not lost.size else None
    return Cut(pieces, exits, left, end)


def _inside(start: Floats, stop: Floats, low: Floats, high: Floats) -> tuple[float, float] | None:
    """Return which part of a segment, as fractions of its length, is inside the box; None where none is."""
    ways, rooms = np.concatenate([start - stop, stop - start]), np.concatenate([start - low, high - start])
    if np.any((ways == 0) & (rooms < 0)):
        return None
    with np.errstate(over="ignore"):  # a way too short to reach any border
        enters = float((rooms[ways < 0] / ways[ways < 0]).max(initial=0.0))
        leaves = float((rooms[ways > 0] / ways[ways > 0]).min(initial=1.0))
    return (enters, leaves) if enters <= leaves else None


def _within(point: tuple[float, float], a: Floats, b: Floats) -> bool:
    return bool(a[0] <= point[0] <= a[-1] and b[0] <= point[1] <= b[-1])


def _grid(a: ArrayLike, b: ArrayLike, loss: ArrayLike) -> tuple[Floats, Floats, Floats]:
    a, b, loss = np.asarray(a, float), np.asarray(b, float), np.asarray(loss, float)
    if loss.shape != (len(b), len(a)):
        raise ValueError(f"loss has shape {loss.shape}; its rows go with b and its columns with a: {(len(b), len(a))}")
    return a, b, loss


def _levels(loss: Floats) -> Floats:
    """Return losses that grow by a constant factor; none on a plain."""
    top = loss.max()
    bottom = max(loss.min(), top * 1e-6)
    return np.geomspace(bottom, top, LEVELS + 1) if 0 < bottom < top else np.zeros(0)


def _foot(mark: str, cuts: Sequence[Cut], optimum: tuple[float, float] | None, note: str) -> list[str]:
    star = "Star: the closed form." if optimum is not None else ""
    leaves = f"{mark}: a path leaves the frame." if any(one.exits for one in cuts) else ""
    return [sentence for sentence in (star, leaves, note) if sentence]


def _write_head(figure: Figure, title: str, paths: Sequence[Path], cuts: Sequence[Cut]) -> float:
    """Write title and key; return the height left below them."""
    key = [Label(one.told(path.label), path.style) for path, one in zip(paths, cuts, strict=True)]
    return layout.write_key(figure, key, layout.write_title(figure, title))


def _draw_flat(axes: Axes, how: Style, seen: Cut) -> None:
    colour, dash, marker = how
    for piece in seen.pieces:
        axes.plot(*piece.T, color=colour, linestyle=dash, linewidth=1.3, marker=marker, markersize=4, markevery=0.15)
    for point, direction in seen.exits[:EXITS]:
        (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
        angle = np.degrees(np.arctan2(direction[1] / (high - low), direction[0] / (right - left)))
        axes.plot(*point, marker=(3, 0, angle - 90), markersize=10, color=colour, clip_on=False, zorder=5)
    if seen.end is not None:
        axes.plot(*seen.end, marker=marker, markersize=8, color=colour, markeredgecolor="white", zorder=5)


def _common_start(paths: Sequence[Path], a: Floats, b: Floats) -> tuple[float, float] | None:
    """Return where all paths begin, if they share a place in the frame."""
    starts = {(float(np.asarray(path.a)[0]), float(np.asarray(path.b)[0])) for path in paths if np.size(path.a)}
    start = starts.pop() if len(starts) == 1 else None
    return start if start and _within(start, a, b) else None


def _draw_draped(axes: Axes3D, how: Style, seen: Cut, a: Floats, b: Floats, height: Floats) -> None:
    colour, dash, marker = how
    for piece in seen.pieces:
        draped = _subdivided(piece, np.array([np.ptp(a), np.ptp(b)]) / MESH)
        z = _height_at(draped, a, b, height)
        axes.plot(*draped.T, z, color=colour, linestyle=dash, linewidth=1.4, zorder=4)
    for point, _ in seen.exits[:EXITS]:
        z = _height_at(point[None], a, b, height)
        axes.plot(*point, *z, marker="X", markersize=9, color=colour, markeredgecolor="white", zorder=5)
    if seen.end is not None:
        z = _height_at(seen.end[None], a, b, height)
        axes.plot(*seen.end, *z, marker=marker, markersize=8, color=colour, markeredgecolor="white", zorder=5)


def _subdivided(piece: Floats, cell: Floats) -> Floats:
    """Return a piece with points enough to follow the surface between its steps."""
    parts = [piece[:1]]
    for start, stop in itertools.pairwise(piece):
        count = max(1, int(np.ceil(np.max(np.abs(stop - start) / cell))))
        parts.append(start + (stop - start) * (np.arange(1, count + 1) / count)[:, None])
    return np.concatenate(parts)


def _height_at(points: Floats, a: Floats, b: Floats, height: Floats) -> Floats:
    """Return the surface's height at points [P, 2], between the four nearest of the grid."""
    column = np.clip(np.searchsorted(a, points[:, 0]) - 1, 0, len(a) - 2)
    row = np.clip(np.searchsorted(b, points[:, 1]) - 1, 0, len(b) - 2)
    across = (points[:, 0] - a[column]) / (a[column + 1] - a[column])
    up = (points[:, 1] - b[row]) / (b[row + 1] - b[row])
    lower = height[row, column] * (1 - across) + height[row, column + 1] * across
    upper = height[row + 1, column] * (1 - across) + height[row + 1, column + 1] * across
    return lower * (1 - up) + upper * up
