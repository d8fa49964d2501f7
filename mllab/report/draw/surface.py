"""The loss over two parameters, as contours and as a surface, with the path that each optimizer took on it.

A path that leaves the frame is cut there: a mark shows the place, and the key names the step.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from mpl_toolkits.mplot3d.axes3d import Axes3D
from numpy.typing import ArrayLike
from scipy.interpolate import RegularGridInterpolator

from mllab.report.draw import base
from mllab.report.draw.base import LABEL, TICK, Floats, Label
from mllab.report.style import style
from mllab.report.table import legible, short

HEIGHT = 3.9  # inches
LEVELS = 14  # contours
MESH = 25  # lines of the surface on a side: smooth to the eye, and 600 polygons in the file
ZOOM, LIFT = 1.05, 0.08  # of the surface, so that its labels stand above the notes and beside each other
AXIS_LABEL = 145.0  # points, of the longest label of an axis
FAR = 1e6  # frames away, where float64 no longer resolves where a segment crosses the frame
MAX_EXITS = 4  # marked: a path that swings across the frame leaves it again and again
STAR: dict[str, Any] = {"marker": "*", "color": "white", "markeredgecolor": "black", "markersize": 12, "zorder": 6}
START: dict[str, Any] = STAR | {"marker": "o", "markersize": 8}


@dataclass(frozen=True)
class Landscape:
    """The loss over a grid of two parameters."""

    a: Floats  # [A], ascending; across
    b: Floats  # [B], ascending; up
    loss: Floats  # [B, A]
    a_label: str  # with its unit
    b_label: str
    loss_label: str = "loss"
    optimum: tuple[float, float] | None = None  # (a, b) of the closed form, marked by a star

    def __post_init__(self):
        if np.shape(self.loss) != (len(self.b), len(self.a)):
            expected = (len(self.b), len(self.a))
            raise ValueError(f"loss has shape {np.shape(self.loss)}; its rows are b and its columns a: {expected}")

    def contains(self, a: float, b: float) -> bool:
        """Return whether a point is inside the frame."""
        return bool(self.a[0] <= a <= self.a[-1] and self.b[0] <= b <= self.b[-1])

    @property
    def shows_optimum(self) -> bool:
        """Whether there is an optimum inside the frame."""
        return self.optimum is not None and self.contains(*self.optimum)


@dataclass(frozen=True)
class Path:
    """The params that an optimizer went through, from its start."""

    optimizer: str  # its name in the key, and its style
    a: ArrayLike  # [S]
    b: ArrayLike  # [S]


class Cut(NamedTuple):
    """The part of a path inside a frame."""

    optimizer: str
    line: Floats  # [P, 2]; NaN between its pieces
    exits: Floats  # [X, 2, 2] where it leaves, and its direction there
    left: int | None  # the first step outside
    start: Floats  # [1, 2] its first point, wherever it is; [0, 2] of an empty path
    end: Floats  # [1, 2] its last point if inside, otherwise [0, 2]

    @property
    def label(self) -> str:
        """The name of the path, with the step at which it leaves."""
        back = ", returns" if len(self.end) else ""
        return legible(self.optimizer) + ("" if self.left is None else f" (leaves at step {self.left:,}{back})")


@base.with_look
def loss_contours(landscape: Landscape, paths: Sequence[Path], *, title: str) -> Figure:
    """Draw lines of equal loss, and every optimizer's path over them."""
    a, b, loss = landscape.a, landscape.b, np.asarray(landscape.loss, float)
    top, bottom = loss.max(), max(loss.min(), loss.max() * 1e-6)
    levels = np.geomspace(bottom, top, LEVELS + 1) if 0 < bottom < top else np.zeros(0)
    factor = f"; each is {short(levels[1] / levels[0], 2)} times the one inside it" if levels.size else ""
    lines = f"Lines of equal {landscape.loss_label}{factor}."
    figure, cuts = _sheet(landscape, paths, title, lines, "Triangle: a path leaves the frame.")
    axes = figure.add_subplot()
    axes.set_title(base.fit(landscape.b_label, LABEL, 380))
    axes.set_xlabel(base.fit(landscape.a_label, LABEL, 380))
    if levels.size:
        greys = [str(grey) for grey in np.linspace(0.99, 0.80, LEVELS)]
        axes.contourf(a, b, np.clip(loss, levels[0], levels[-1]), levels, colors=greys)
        axes.contour(a, b, loss, levels, colors="#a0a0a0", linewidths=0.5)
    base.scale(axes.xaxis, a[0], a[-1])
    base.scale(axes.yaxis, b[0], b[-1])

    def triangle(way: Floats) -> dict[str, Any]:
        angle = np.degrees(np.arctan2(way[1] / np.ptp(b), way[0] / np.ptp(a)))
        return {"marker": (3, 0, angle - 90), "markersize": 13, "clip_on": False}

    for place in _draw(landscape, cuts, lambda points, **look: axes.plot(*points.T, **look), triangle):
        axes.annotate("start", place, (8, 5), textcoords="offset points", size=LABEL, zorder=6)
    return figure


@base.with_look
def loss_surface(
    landscape: Landscape, paths: Sequence[Path], *, title: str, log_loss: bool = False, note: str = ""
) -> Figure:
    """Draw the loss as a surface in three dimensions, and every optimizer's path on it.

    With `log_loss` the height is the loss's logarithm, where a valley is too flat to see otherwise; `note` is one more
    sentence at the foot.
    """
    a, b, loss = landscape.a, landscape.b, np.asarray(landscape.loss, float)
    log_loss = log_loss and bool((loss > 0).any())
    height = np.log10(np.maximum(loss, loss[loss > 0].min())) if log_loss else loss
    figure, cuts = _sheet(landscape, paths, title, "", "Cross: a path leaves the frame.", note)
    axes = cast(Axes3D, figure.add_subplot(projection="3d", computed_zorder=False))
    axes.set_box_aspect((1.25, 1.25, 0.85), zoom=ZOOM)
    axes.set_in_layout(False)  # the layout does not know the labels of such axes: it keeps room for them here
    left, bottom, width, high = base.room(figure)
    axes.set_position((left, bottom + LIFT * high, width, high))
    axes.view_init(elev=32, azim=-55)
    part = np.ix_(*(np.unique(np.linspace(0, len(side) - 1, MESH).astype(int)) for side in (b, a)))
    greys = np.repeat(np.interp(height[part], (height.min(), height.max()), (0.98, 0.75))[..., None], 3, axis=-1)
    mesh = {"rstride": 1, "cstride": 1, "shade": False, "edgecolor": "#a8a8a8", "linewidth": 0.3}
    axes.plot_surface(*(side[part] for side in np.meshgrid(a, b)), height[part], facecolors=greys, **mesh)
    axes.set(xlim=(a[0], a[-1]), ylim=(b[0], b[-1]), zlim=base.span(height))

    # None extrapolates: rounding may put a point just outside.
    height_at = RegularGridInterpolator((b, a), height, bounds_error=False, fill_value=None)

    def plot(points: Floats, **look: Any) -> None:
        draped = _subdivided(points, np.array([np.ptp(a), np.ptp(b)]) / MESH)
        axes.plot(*draped.T, height_at(draped[:, ::-1]), **look | {"markevery": [-1]})

    _draw(landscape, cuts, plot, lambda way: {"marker": "X"})
    labels = (landscape.a_label, landscape.b_label, landscape.loss_label)
    for axis, label in zip((axes.xaxis, axes.yaxis, axes.zaxis), labels, strict=True):
        axis.set_major_locator(MaxNLocator(5))
        axis.set_major_formatter(base.PlainFormatter())
        axis.set_label_text(base.fit(label, LABEL, AXIS_LABEL))
        axis.set_tick_params(labelsize=TICK - 1)
        axis.set_pane_color((1, 1, 1, 0))
    if log_loss:
        axes.zaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.zaxis.set_major_formatter(lambda exponent, _: short(10.0**exponent, 2))
    return figure


def _sheet(
    landscape: Landscape, paths: Sequence[Path], title: str, first: str, leaves: str, last: str = ""
) -> tuple[Figure, list[Cut]]:
    """Return a sheet with a key of the paths, and the paths cut to the frame."""
    cuts = [cut_to_frame(path, landscape.a, landscape.b) for path in paths]
    key = [Label(cut.label, base.curve(style(cut.optimizer))) for cut in cuts]
    star = "Star: the closed form." if landscape.shows_optimum else ""
    notes = [first, star, leaves if any(len(cut.exits) for cut in cuts) else "", last]
    return base.figure(HEIGHT, title=title, notes=notes, key=key), cuts


def _draw(
    landscape: Landscape, cuts: Sequence[Cut], plot: Callable[..., Any], exit_look: Callable[[Floats], dict[str, Any]]
) -> Floats:
    """Draw paths, with marks where they leave, at their ends, at their start if all share one, and at the optimum.

    Returns the shared start, [1, 2], or [0, 2] where there is none inside the frame.
    """
    for cut in cuts:
        colour, dash, marker = style(cut.optimizer)
        plot(cut.line, color=colour, linestyle=dash, linewidth=1.4, marker=marker, markersize=4, markevery=0.15)
        rim = {"color": colour, "markersize": 9, "markeredgecolor": "white", "zorder": 5}
        for point, way in cut.exits[:MAX_EXITS]:
            plot(point[None], **rim | exit_look(way))
        if len(cut.end):
            plot(cut.end, marker=marker, **rim)
    starts = np.unique(np.concatenate([np.zeros((0, 2)), *(cut.start for cut in cuts)]), axis=0)
    shared = starts if len(starts) == 1 and landscape.contains(*starts[0]) else starts[:0]
    if len(shared):
        plot(shared, **START)
    if landscape.shows_optimum:
        plot(np.array([landscape.optimum]), **STAR)
    return shared


def cut_to_frame(path: Path, a: ArrayLike, b: ArrayLike) -> Cut:
    """Return the part of a path inside the frame of the grids, each segment cut by Liang and Barsky's rule."""
    points = np.stack([np.asarray(path.a, float), np.asarray(path.b, float)], axis=1)
    first, low, high = points[:1], np.array([np.min(a), np.min(b)]), np.array([np.max(a), np.max(b)])
    near = np.logical_and.accumulate((np.abs(points - low) < FAR * (high - low)).all(axis=1))
    is_whole, points = bool(near.all()), points[near]
    inside = np.all((points >= low) & (points <= high), axis=1)
    outside = np.flatnonzero(~np.append(inside, is_whole))
    start, way = points[:-1], np.diff(points, axis=0)
    with np.errstate(all="ignore"):  # along a side there may be no way at all, or one too short to reach a border
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
    end = points[-1:] if is_whole and inside[-1:].all() else points[:0]
    left = int(outside[0]) if outside.size else None
    return Cut(path.optimizer, np.array(line).reshape(-1, 2), exits, left, first, end)


def _subdivided(line: Floats, cell: Floats) -> Floats:
    """Return a line with points enough to follow the surface between its steps."""
    parts = [line[:1]]
    for start, stop in itertools.pairwise(line):
        count = np.nan_to_num(np.ceil(np.max(np.abs(stop - start) / cell)))
        parts += [stop - (stop - start) * (np.arange(count - 1, 0, -1) / count)[:, None], stop[None]]
    return np.concatenate(parts)
