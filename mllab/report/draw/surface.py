"""The loss over two parameters, as contours and as a surface, with the path that each optimizer took on it.

A path that leaves the frame is cut there: a mark shows the place, and the key names the step.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from mpl_toolkits.mplot3d.axes3d import Axes3D
from numpy.typing import ArrayLike

from mllab.report.draw import base
from mllab.report.draw.base import INK, LABEL, TICK, Floats, Label, PlainFormatter
from mllab.report.style import style
from mllab.report.table import legible, short

HEIGHT = 3.9  # inches
LEVELS = 14  # contours
MESH = 25  # lines of the surface on a side: smooth to the eye, and 600 polygons in the file
FAR = 1e6  # frames away, where float64 no longer resolves where a segment crosses the frame
MAX_EXITS = 4  # marked: a path that swings across the frame leaves it again and again
STAR: dict[str, Any] = {"marker": "*", "color": "white", "markeredgecolor": "black", "markersize": 12, "zorder": 6}
START: dict[str, Any] = STAR | {"marker": "o", "markersize": 8}


@dataclass(frozen=True)
class Landscape:
    """The loss over a grid of two parameters."""

    a: ArrayLike  # [A], ascending; across
    b: ArrayLike  # [B], ascending; up
    loss: ArrayLike  # [B, A]
    a_label: str  # with its unit
    b_label: str
    loss_label: str = "loss"
    optimum: tuple[float, float] | None = None  # (a, b) of the closed form, marked by a star

    def __post_init__(self):
        if np.shape(self.loss) != (np.size(self.b), np.size(self.a)):
            expected = (np.size(self.b), np.size(self.a))
            raise ValueError(f"loss has shape {np.shape(self.loss)}; its rows are b and its columns a: {expected}")

    def arrays(self) -> tuple[Floats, Floats, Floats]:
        """Return a, b and the loss as float64."""
        return np.asarray(self.a, float), np.asarray(self.b, float), np.asarray(self.loss, float)

    def contains(self, point: Sequence[float]) -> bool:
        """Return whether (a, b) is inside the frame."""
        return all(np.min(side) <= place <= np.max(side) for side, place in zip((self.a, self.b), point, strict=True))


@dataclass(frozen=True)
class Path:
    """The params that an optimizer went through, from its start."""

    label: str
    a: ArrayLike  # [S]
    b: ArrayLike  # [S]
    name: str = ""  # the optimizer whose style it has; the label where empty


class Cut(NamedTuple):
    """The part of a path inside a frame."""

    line: Floats  # [P, 2]; NaN between its pieces
    exits: Floats  # [X, 2, 2] where it leaves, and its direction there
    left: int | None  # the first step outside
    end: Floats | None  # its last point, [2], if inside

    def label(self, name: str) -> str:
        """Return the name of the path, with the step at which it leaves."""
        if self.left is None:
            return legible(name)
        return f"{legible(name)} (leaves at step {self.left:,}{'' if self.end is None else ', returns'})"


@base.with_look
def loss_contours(landscape: Landscape, paths: Sequence[Path], *, title: str, note: str = "") -> Figure:
    """Draw lines of equal loss, and every optimizer's path over them.

    Args:
        landscape: the loss.
        paths: one an optimizer.
        title: the message, or the question.
        note: one more sentence for the foot of the figure.
    """
    a, b, loss = landscape.arrays()
    levels = _levels(loss)
    factor = f"; each is {levels[1] / levels[0]:.2g} times the one inside it" if levels.size else ""
    figure, cuts = _sheet(landscape, paths, title, f"Lines of equal {landscape.loss_label}{factor}.", "Triangle", note)
    axes = figure.add_subplot()
    base.furnish(axes, grid=False)
    base.heading(axes, landscape.b_label)
    axes.set_xlabel(landscape.a_label, size=LABEL, color=INK)
    if levels.size:
        greys = [str(grey) for grey in np.linspace(0.99, 0.80, LEVELS)]
        axes.contourf(a, b, np.clip(loss, levels[0], levels[-1]), levels, colors=greys)
        axes.contour(a, b, loss, levels, colors="#a0a0a0", linewidths=0.5)
    base.scale_x(axes, a[0], a[-1])
    base.scale_y(axes, b[0], b[-1])
    for path, cut in zip(paths, cuts, strict=True):
        colour, dash, marker = style(path.name or path.label)
        axes.plot(*cut.line.T, color=colour, linestyle=dash, linewidth=1.3, marker=marker, markersize=4, markevery=0.15)
        for point, way in cut.exits[:MAX_EXITS]:
            angle = np.degrees(np.arctan2(way[1] / np.ptp(b), way[0] / np.ptp(a)))
            axes.plot(*point, marker=(3, 0, angle - 90), markersize=10, color=colour, clip_on=False, zorder=5)
        if cut.end is not None:
            axes.plot(*cut.end, marker=marker, markersize=8, color=colour, markeredgecolor="white", zorder=5)
    for place, how in _places(landscape, paths):
        axes.plot(*place, **how)
        if how is START:
            axes.annotate("start", place, (8, 5), textcoords="offset points", size=LABEL, zorder=6)
    return figure


@base.with_look
def loss_surface(
    landscape: Landscape, paths: Sequence[Path], *, title: str, log_loss: bool = False, note: str = ""
) -> Figure:
    """Draw the loss as a surface in three dimensions, and every optimizer's path on it.

    Args:
        landscape: the loss.
        paths: one an optimizer.
        title: the message, or the question.
        log_loss: whether the height is the loss's logarithm, where a valley is too flat to see otherwise.
        note: one more sentence for the foot of the figure.
    """
    a, b, loss = landscape.arrays()
    log_loss = log_loss and bool((loss > 0).any())
    height = np.log10(np.maximum(loss, loss[loss > 0].min())) if log_loss else loss
    figure, cuts = _sheet(landscape, paths, title, "", "Cross", note)
    axes = cast(Axes3D, figure.add_subplot(projection="3d", computed_zorder=False))
    axes.set_box_aspect((1.25, 1.25, 0.85), zoom=1.15)
    axes.view_init(elev=32, azim=-55)
    part = np.ix_(*(np.unique(np.linspace(0, len(side) - 1, MESH).astype(int)) for side in (b, a)))
    greys = np.repeat(np.interp(height[part], (height.min(), height.max()), (0.98, 0.75))[..., None], 3, axis=-1)
    mesh = {"rstride": 1, "cstride": 1, "shade": False, "edgecolor": "#a8a8a8", "linewidth": 0.3}
    axes.plot_surface(*(side[part] for side in np.meshgrid(a, b)), height[part], facecolors=greys, **mesh)
    axes.set(xlim=(a[0], a[-1]), ylim=(b[0], b[-1]), zlim=base.span(height))

    def plot(points: Floats, **how: Any) -> None:
        axes.plot(*points.T, height_at(points, a, b, height), **how)

    for path, cut in zip(paths, cuts, strict=True):
        colour, dash, marker = style(path.name or path.label)
        plot(_subdivided(cut.line, a, b), color=colour, linestyle=dash, linewidth=1.4, zorder=4)
        rim = {"markersize": 8, "color": colour, "markeredgecolor": "white", "zorder": 5}
        for point, _ in cut.exits[:MAX_EXITS]:
            plot(point[None], marker="X", **rim)
        if cut.end is not None:
            plot(cut.end[None], marker=marker, **rim)
    for place, how in _places(landscape, paths):
        plot(np.array([place]), **how)
    labels = (landscape.a_label, landscape.b_label, landscape.loss_label)
    for axis, label in zip((axes.xaxis, axes.yaxis, axes.zaxis), labels, strict=True):
        axis.set_major_locator(MaxNLocator(5))
        axis.set_major_formatter(PlainFormatter())
        axis.set_label_text(label, size=LABEL)
        axis.set_tick_params(labelsize=TICK - 1)
        axis.set_pane_color((1, 1, 1, 0))
    if log_loss:
        axes.zaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.zaxis.set_major_formatter(lambda exponent, _: short(10.0**exponent, 2))
    return figure


def _sheet(
    landscape: Landscape, paths: Sequence[Path], title: str, first: str, mark: str, note: str
) -> tuple[Figure, list[Cut]]:
    cuts = [cut_to_frame(path, landscape.a, landscape.b) for path in paths]
    star = "Star: the closed form." if landscape.optimum and landscape.contains(landscape.optimum) else ""
    leaves = f"{mark}: a path leaves the frame." if any(len(cut.exits) for cut in cuts) else ""
    key = [
        Label(cut.label(path.label), base.curve(style(path.name or path.label)))
        for path, cut in zip(paths, cuts, strict=True)
    ]
    return base.figure(HEIGHT, title=title, notes=[first, star, leaves, note], key=key), cuts


def _places(landscape: Landscape, paths: Sequence[Path]) -> list[tuple[tuple[float, float], dict[str, Any]]]:
    """Return the start that all paths share, if they do, and the optimum, as far as they are inside the frame."""
    starts = {(float(np.ravel(path.a)[0]), float(np.ravel(path.b)[0])) for path in paths if np.size(path.a)}
    marks = [(starts.pop(), START)] if len(starts) == 1 else []
    marks += [(landscape.optimum, STAR)] if landscape.optimum else []
    return [(place, how) for place, how in marks if landscape.contains(place)]


def _levels(loss: Floats) -> Floats:
    """Return losses that grow by a constant factor; none where the loss is constant."""
    top = loss.max()
    bottom = max(loss.min(), top * 1e-6)
    return np.geomspace(bottom, top, LEVELS + 1) if 0 < bottom < top else np.zeros(0)


def cut_to_frame(path: Path, a: ArrayLike, b: ArrayLike) -> Cut:
    """Return the part of a path inside the frame of the grids, each segment cut by Liang and Barsky's rule."""
    low, high = np.array([np.min(a), np.min(b)], float), np.array([np.max(a), np.max(b)], float)
    points = np.stack([np.asarray(path.a, float), np.asarray(path.b, float)], axis=1)
    near = np.logical_and.accumulate((np.abs(points - low) < FAR * (high - low)).all(axis=1))
    steps, points = len(points), points[near]
    inside = np.all((points >= low) & (points <= high), axis=1)
    outside = np.flatnonzero(~np.append(inside, len(points) == steps))
    start, way = points[:-1], np.diff(points, axis=0)
    with np.errstate(all="ignore"):  # no way at all along a side, or one too short to reach a border
        to_low, to_high = (low - start) / way, (high - start) / way
    to_low, to_high = np.where(np.isnan(to_low), -np.inf, to_low), np.where(np.isnan(to_high), np.inf, to_high)
    enters = np.minimum(to_low, to_high).max(axis=1, initial=0.0)
    leaves = np.maximum(to_low, to_high).min(axis=1, initial=1.0)
    seen = enters <= leaves
    line: list[Floats] = []
    for step in np.flatnonzero(seen):
        if step == 0 or not inside[step]:
            line += [np.full(2, np.nan), start[step] + enters[step] * way[step]]
        line.append(start[step] + leaves[step] * way[step])
    gone = seen & ~inside[1:]
    exits = np.stack([start[gone] + leaves[gone, None] * way[gone], way[gone]], axis=1)
    end = points[-1] if steps and len(points) == steps and inside[-1] else None
    return Cut(np.array(line).reshape(-1, 2), exits, int(outside[0]) if outside.size else None, end)


def _subdivided(line: Floats, a: Floats, b: Floats) -> Floats:
    """Return a line with points enough to follow the surface between its steps."""
    cell = np.array([np.ptp(a), np.ptp(b)]) / MESH
    parts = [line[:1]]
    for start, stop in itertools.pairwise(line):
        length = np.max(np.abs(stop - start) / cell)
        count = 1 if np.isnan(length) else max(1, int(np.ceil(length)))
        parts.append(stop - (stop - start) * (np.arange(count - 1, 0, -1) / count)[:, None])
        parts.append(stop[None])
    return np.concatenate(parts)


def height_at(points: Floats, a: Floats, b: Floats, height: Floats) -> Floats:
    """Return the height [P] of a surface [B, A] at points [P, 2], bilinear between the grid's."""
    column = np.clip(np.searchsorted(a, points[:, 0]) - 1, 0, len(a) - 2)
    row = np.clip(np.searchsorted(b, points[:, 1]) - 1, 0, len(b) - 2)
    across = (points[:, 0] - a[column]) / (a[column + 1] - a[column])
    up = (points[:, 1] - b[row]) / (b[row + 1] - b[row])
    lower = height[row, column] * (1 - across) + height[row, column + 1] * across
    upper = height[row + 1, column] * (1 - across) + height[row + 1, column + 1] * across
    return lower * (1 - up) + upper * up
