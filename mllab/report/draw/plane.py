"""The plane: points by class, class regions, contour lines, Gaussians and centres, in panels that share one frame.

Predictions come in as arrays over a `mesh` of places: evaluate the model at `mesh(points).places`. The figures take
`classes`, the name of each class [C]; `title`, the message or the question; and `x_label` and `y_label`, the names of
the two columns.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from numpy.typing import NDArray

from mllab.report.draw import base
from mllab.report.draw.base import INK, LABEL, NOTE, SOFT, Floats, Label
from mllab.report.style import BLACK, DASHED, SOLID, Style, class_style
from mllab.report.table import legible

MAX_POINTS = 3000  # in a figure of one panel, half as many per panel otherwise; more would only enlarge the file
MAX_NAMED = 12  # classes in the key
MIN_RANGE = 1e-3  # a field that varies less has contour lines of rounding errors only
DETAIL = 8.5  # points, where a line below a heading is too long for the size of notes
PALE = 0.16  # of a class's colour in its region
GREY = Style("#9a9a9a", SOLID, "o")  # points without a label
HEIGHT = 340.0  # points, of a single panel at most
POINT: dict[str, Any] = {"markersize": 3.4, "markeredgewidth": 0, "alpha": 0.6}
BOUNDARY = base.curve(Style(INK, SOLID, ""), linewidth=1.3)  # the contour line of 0
MARGIN = base.curve(Style(INK, DASHED, ""), linewidth=0.8)  # that of any other value
EMPHASISED: dict[str, Any] = {"markersize": 4.6, "markeredgecolor": BLACK, "markeredgewidth": 0.7}


@dataclass(frozen=True)
class Mesh:
    """Evenly spaced places that fill the frame of a figure."""

    x: Floats  # [X], ascending
    y: Floats  # [Y], ascending

    @property
    def places(self) -> Floats:
        """All places, row by row from the lowest y, [Y · X, 2]."""
        return np.stack(np.meshgrid(self.x, self.y), axis=-1).reshape(-1, 2)

    @property
    def shape(self) -> tuple[int, int]:
        """Y and X."""
        return len(self.y), len(self.x)


@dataclass(frozen=True)
class Mixture:
    """Gaussian components in the plane, and where each class is the most probable."""

    heading: str
    means: Floats  # [K, 2]
    covariances: Floats  # [K, 2, 2]
    component_class: NDArray[np.integer]  # [K] class of each component
    leads: Floats | None = None  # [C, Y, X] `leads` of the classes' log-probabilities


@dataclass(frozen=True)
class Plane:
    """One panel: points, and what is drawn under and over them."""

    points: Floats  # [N, 2]
    labels: NDArray[np.integer]  # [N] class or cluster; -1 for none
    heading: str = ""
    detail: str = ""  # a line below the heading
    emphasised: NDArray[np.bool_] | None = None  # [N] points drawn larger, with a black rim
    regions: NDArray[np.integer] | None = None  # [Y, X] class at each place of the mesh
    fields: Floats | None = None  # [F, Y, X] whose contour lines are drawn
    mixture: Mixture | None = None
    centres: Floats | None = None  # [K, 2]


def mesh(points: Floats, columns: int = 160) -> Mesh:
    """Return places that fill a frame around points [N, 2], with the same unit of length along x and y."""
    points = points[np.isfinite(points).all(axis=1)]
    low, high = np.array([base.span(points[:, column], margin=0.06) for column in (0, 1)]).T
    width, height = high - low
    size = np.array([max(width, height / 1.2), max(height, 0.6 * width)])
    (left, bottom), (right, top) = (low + high - size) / 2, (low + high + size) / 2
    return Mesh(np.linspace(left, right, columns), np.linspace(bottom, top, round(columns * size[1] / size[0])))


def leads(scores: Floats) -> Floats:
    """Return the score of each class [C, ...] less that of its best rival: positive where the class wins."""
    ranked = np.sort(np.concatenate([np.full((1, *scores.shape[1:]), -np.inf), scores]), axis=0)
    return scores - np.where(scores == ranked[-1], ranked[-2], ranked[-1])


@base.with_look
def class_regions(
    over: Mesh, panels: Sequence[Plane], classes: Sequence[str], *, title: str, x_label: str, y_label: str,
    levels: Mapping[float, str], emphasis: str = "", notes: Sequence[str] = (),
) -> Figure:  # fmt: skip
    """Draw panels of points in the plane, two in a row, with a key of classes (where labels have names) and lines.

    The extent of the mesh `over` is the frame of every panel; fields have contour lines at `levels`, which the key
    names, as it does emphasised points by `emphasis`.
    """
    columns = min(len(panels), 2)
    limit, most = MAX_POINTS // columns, max(len(panel.points) for panel in panels)
    if most > limit:
        notes = [f"Points are thinned to about {limit:,} of {most:,}{' per panel' * (columns > 1)}.", *notes]
    if len(classes) > MAX_NAMED:
        notes = [f"{len(classes)} classes, too many for a key.", *notes]
    rows, width = math.ceil(len(panels) / columns), (72 * base.WIDTH - 2 * base.EDGE - 40) / columns - 8
    head = (25 if any(panel.heading for panel in panels) else 6) + 12 * any(panel.detail for panel in panels)
    high = min(width * float(np.ptp(over.y) / np.ptp(over.x)), HEIGHT) + head
    points = rows * high + 36 * (1 + len(panels) % columns)
    figure = base.figure(points / 72, title=title, key=_key(panels, classes, levels, emphasis), notes=notes)
    every = figure.subplots(rows, columns, squeeze=False).ravel()
    for index, (axes, panel) in enumerate(zip(every, panels, strict=False)):
        _draw_panel(axes, over, panel, levels, limit)
        base.scale(axes.xaxis, over.x[0], over.x[-1])
        base.scale(axes.yaxis, over.y[0], over.y[-1])
        is_lowest = index + columns >= len(panels)
        axes.tick_params(labelbottom=is_lowest, labelleft=index % columns == 0)
        axes.set_xlabel(base.fit(x_label, LABEL, width) if is_lowest else "")
        axes.set_ylabel(base.fit(legible(y_label), LABEL, high - head) if y_label and not index % columns else "")
        axes.set(aspect="equal", anchor="NW")
        heading = base.fit(panel.heading, LABEL, width, "bold")
        axes.set_title(heading, pad=19 if panel.detail else 7, weight="bold")
        size = NOTE if base.text_width(panel.detail, NOTE) <= width else DETAIL
        look: dict[str, Any] = {"size": size, "color": SOFT, "in_layout": False, "textcoords": "offset points"}
        axes.annotate(base.fit(panel.detail, size, width), (0, 1), (0, 6), "axes fraction", **look)
    for axes in every[len(panels) :]:
        axes.set_axis_off()
    with base.measured(figure):
        figure.draw_without_rendering()  # axes of equal units settle in the layout's second pass, which `save` runs
    return figure


def _key(panels: Sequence[Plane], classes: Sequence[str], levels: Mapping[float, str], emphasis: str) -> list[Label]:
    named = classes if len(classes) <= MAX_NAMED else ()
    key = [Label(legible(name), base.dots(class_style(index))) for index, name in enumerate(named)]
    if any((panel.labels < 0).any() for panel in panels):
        key.append(Label("no label", base.dots(GREY)))
    if emphasis:
        key.append(Label(emphasis, base.dots(Style("white", SOLID, "o"), **EMPHASISED)))
    if any(panel.centres is not None for panel in panels):
        key.append(Label("centre", base.dots(Style(INK, SOLID, "+"), markersize=9, markeredgewidth=2)))
    return [*key, *(Label(text, MARGIN if level else BOUNDARY) for level, text in levels.items())]


def _draw_panel(axes: Axes, over: Mesh, panel: Plane, levels: Mapping[float, str], limit: int) -> None:
    x, y = over.x, over.y
    if panel.regions is not None:
        colours = [to_rgb(class_style(index).colour) for index in range(int(panel.regions.max()) + 1)]
        pale = 1 - PALE * (1 - np.array(colours))
        half_x, half_y = (x[1] - x[0]) / 2, (y[1] - y[0]) / 2  # a place of the mesh is the middle of its pixel
        extent = (x[0] - half_x, x[-1] + half_x, y[0] - half_y, y[-1] + half_y)
        pixels = (pale[panel.regions] * 255).round().astype(np.uint8)
        axes.imshow(pixels, extent=extent, origin="lower", interpolation="none")
    for field in () if panel.fields is None else panel.fields:
        values = field[np.isfinite(field)]
        for level in levels if values.size and np.ptp(values) > MIN_RANGE else ():
            if values.min() < level < values.max():
                line = MARGIN if level else BOUNDARY
                look: dict[str, Any] = {"linewidths": line["linewidth"], "linestyles": [line["linestyle"]]}
                axes.contour(x, y, np.ma.masked_invalid(field), [level], colors=INK, **look)
    emphasised = np.zeros(len(panel.points), bool) if panel.emphasised is None else panel.emphasised
    for rank, ids in enumerate((np.flatnonzero(~emphasised), np.flatnonzero(emphasised))):
        ids = ids[:: max(1, math.ceil(len(ids) / limit))]
        for label in np.unique(panel.labels[ids]):
            look = EMPHASISED if rank else POINT if label >= 0 else POINT | {"markersize": 2.2}
            style = class_style(int(label)) if label >= 0 else GREY
            shown = panel.points[ids[panel.labels[ids] == label]]
            axes.plot(*shown.T, **base.dots(style, **look), zorder=3 + rank + (label >= 0) / 2)
    if panel.mixture is not None:
        _draw_components(axes, panel.mixture)
    if panel.centres is not None:
        for colour, size, width in (("white", 13, 4.5), (INK, 11, 2.0)):
            axes.plot(*panel.centres.T, "+", color=colour, markersize=size, markeredgewidth=width, zorder=6)


def _draw_components(axes: Axes, mixture: Mixture) -> None:
    """Draw the ellipses of each finite component at 1 and 2 standard deviations."""
    for mean, covariance, owner in zip(mixture.means, mixture.covariances, mixture.component_class, strict=True):
        if np.isfinite(mean).all() and np.isfinite(covariance).all():
            variances, directions = np.linalg.eigh(covariance)
            angle, colour = np.degrees(np.arctan2(directions[1, 1], directions[0, 1])), class_style(int(owner)).colour
            for deviations, width in ((1, 1.4), (2, 0.9)):
                short, long = 2 * deviations * np.sqrt(np.maximum(variances, 0))
                look: dict[str, Any] = {"fill": False, "edgecolor": colour, "linewidth": width, "zorder": 5}
                axes.add_patch(Ellipse(tuple(mean), long, short, angle=angle, **look))


def boundaries(over: Mesh, machines: Sequence[Plane], classes: Sequence[str], **texts: str) -> Figure:
    """Draw the decision regions, boundary, margins and support vectors of kernel machines, a panel each.

    Their `fields` are the decision values f of each class, their `emphasised` points the support vectors.
    """
    levels = {0.0: "boundary: f = 0", 1.0: "margin: f = 1 or −1"}
    return class_regions(over, machines, classes, levels=levels, emphasis="support vector", **texts)


def clusters(points: Floats, labels: NDArray[np.integer], centres: Floats, **texts: str) -> Figure:
    """Draw points [N, 2] by cluster [N], the centres [K, 2], and the part of the plane that is nearest to each."""
    over = mesh(np.concatenate([points, centres]), 240)
    nearness = np.stack([-((over.places - centre) ** 2).sum(axis=1).reshape(over.shape) for centre in centres])
    panel = Plane(points, labels, regions=nearness.argmax(axis=0), fields=leads(nearness), centres=centres)
    levels = {0.0: "equally near to two centres"} if len(centres) > 1 else {}
    notes = ["Colour and marker: the cluster of a point."]
    return class_regions(over, [panel], (), levels=levels, notes=notes, **texts)


def semi_supervised(
    over: Mesh, points: Floats, labels: NDArray[np.integer], classes: Sequence[str], mixtures: tuple[Mixture, Mixture],
    **texts: str,
) -> Figure:  # fmt: skip
    """Draw labelled points, all points [N, 2] (label -1: none), and below each the mixture that was fitted to them."""
    labelled = labels >= 0
    few = Plane(points[labelled], labels[labelled], emphasised=np.ones(int(labelled.sum()), bool))
    every = Plane(points, labels, emphasised=labelled)
    panels = [
        replace(few, heading=f"{len(few.points):,} labelled points"),
        replace(every, heading=f"and {int((~labelled).sum()):,} without a label"),
    ]
    for panel, mixture in zip((few, every), mixtures, strict=True):
        regions = None if mixture.leads is None else mixture.leads.argmax(axis=0)
        panels.append(replace(panel, heading=mixture.heading, mixture=mixture, regions=regions, fields=mixture.leads))
    levels = {} if mixtures[-1].leads is None else {0.0: "decision boundary"}
    tint = "Tinted: the most probable class." if levels else ""
    notes = ["Ellipses: components at 1 and 2 standard deviations.", tint]
    return class_regions(over, panels, classes, levels=levels, emphasis="labelled point", notes=notes, **texts)
