"""Curves with 95% intervals: over steps, over learning rates, in panels, and over the examples they are fitted to.

The figures take `title`, the message or the question; `x_label` and `y_label`, the quantities and their units; `over`,
what means and intervals are over, such as "3 seeds" ("1 seeds" is not mentioned), without which no band is drawn; and
`note`, one more sentence for the foot. NaN leaves a gap. A curve that grows far beyond the others leaves the frame,
and the foot says so.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from mllab.report.draw import base
from mllab.report.draw.base import INK, LABEL, NOTE, SOFT, TICK, Floats, Label, span
from mllab.report.style import Style, style
from mllab.report.table import legible

HEIGHT = 2.7  # inches of a figure's axes with all that surrounds them
NAME_HEIGHT = 0.2  # inches of one name beside the curves
PANEL_HEIGHT = 1.7
STRIP_ROW = 0.18  # inches, a row of the strip of diverged lanes
HUGE = 1e30  # larger numbers come from a diverged lane, and overflow in drawing
MAX_MARKED = 12  # points; a curve of more has a marker at some only
NONFINITE, FAILED = "×", "○"  # marks of diverged lanes
MIN_MARK_TYPE = 6.5  # points
ABSENT = cast(Floats, math.nan)  # a bound that no point has
NONE_LOST = cast(Floats, 0.0)


@dataclass(frozen=True)
class Series:
    """One curve: a mean and, where there is one, its 95% interval. Numbers that cannot be drawn become NaN."""

    label: str  # beside the curve; none where empty
    x: Floats  # [P]
    mean: Floats  # [P]; NaN leaves a gap
    low: Floats = ABSENT  # [P]
    high: Floats = ABSENT  # [P]
    name: str = ""  # the optimizer or model whose style it has; the label where empty
    best: float | None = None  # the x to mark as chosen
    nonfinite: Floats = NONE_LOST  # [P] number of lanes that went non-finite at each x
    failed: Floats = NONE_LOST  # [P] number of lanes that ended no better than chance
    style: Style | None = None  # instead of that of the name

    def __post_init__(self):
        shape = np.shape(self.x)
        for field in ("x", "mean", "low", "high", "nonfinite", "failed"):
            values = np.asarray(getattr(self, field), float)
            if values.ndim and values.shape != shape:
                raise ValueError(f"series {self.label!r}: {field} has shape {values.shape}, x has {shape}")
            finite = np.where(np.abs(values) < HUGE, values, np.nan)
            object.__setattr__(self, field, np.broadcast_to(finite, shape))

    @classmethod
    def of_intervals(
        cls, label: str, x: ArrayLike, intervals: Iterable[Sequence[float | None]], *, scale: float = 1.0,
        limits: tuple[float, float] = (-math.inf, math.inf), **fields: Any,
    ) -> "Series":  # fmt: skip
        """Return the series of intervals (mean, low, high, ...), scaled, and the bounds cut to what is possible."""
        mean, low, high = scale * np.array([each[:3] for each in intervals], float).reshape(-1, 3).T
        return cls(label, np.asarray(x, float), mean, np.clip(low, *limits), np.clip(high, *limits), **fields)

    @property
    def look(self) -> Style:
        """The style that it is drawn in."""
        return self.style or style(self.name or self.label)

    @property
    def diverged(self) -> Floats:
        """The number of diverged lanes at each x, [P]."""
        return np.nan_to_num(self.nonfinite) + np.nan_to_num(self.failed)

    @property
    def has_band(self) -> bool:
        """Whether it has an interval anywhere."""
        return not np.isnan(self.low + self.high).all()

    def tag(self) -> Label:
        """Return its name with a sample, at the last finite point."""
        seen = np.flatnonzero(~np.isnan(self.mean))
        end = (float(self.x[seen[-1]]), float(self.mean[seen[-1]])) if seen.size else None
        return Label(legible(self.label) if self.label else "", base.curve(self.look), end)


@dataclass(frozen=True)
class Panel:
    """One quantity of `panels`."""

    y_label: str  # with its unit
    series: Sequence[Series]
    log_y: bool = False
    whole: bool = False  # no curve leaves the frame, however far it grows beyond the others


@base.with_look
def curves(
    series: Sequence[Series], *, title: str, x_label: str, y_label: str, log_x: bool = False, log_y: bool = False,
    integer_x: bool = False, markers: bool = True, over: str = "", bar: tuple[float, float, float] | None = None,
    whole: bool = False, note: str = "", bands: str = "",
) -> Figure:  # fmt: skip
    """Draw one curve a series, each named at its end, with a band where it has an interval.

    With `log_y` a figure without a positive mean is linear all the same. With `integer_x` only whole numbers are ticks;
    without `markers` only `Series.best` has one. `bar` is an upright bar (x, low, high), such as a gap between curves.
    With `whole` no curve leaves the frame, however far it grows beyond the others. `bands` says what bands are where
    they are no intervals of means.
    """
    log_y = log_y and bool((_joined(series, "mean") > 0).any())
    low, high, clipped = _range_of_means(series, log_y) if whole else _range_of_curves(series, log_y)
    means = [bands] if bands else _notes(series, over)
    notes = [*means, "Curves that leave the frame grow far beyond it." if clipped else "", note]
    figure, axes = _single(series, title, notes, x_label, y_label)
    base.scale(axes.xaxis, *span(_joined(series, "x"), margin=0.02, log=log_x), log=log_x, integer=integer_x)
    base.scale(axes.yaxis, low, high, log=log_y)
    for one in series:
        _draw(axes, one, markers=markers)
    if bar is not None:
        axes.plot([bar[0]] * 2, bar[1:], color=INK, linewidth=1.2, marker="_", markersize=9, zorder=5)
    base.label_ends(axes, [one.tag() for one in series])
    return figure


@base.with_look
def panels(quantities: Sequence[Panel], *, title: str, x_label: str = "step", over: str = "", note: str = "") -> Figure:
    """Draw small multiples, two in a row: one quantity a panel, one curve a series, whole numbers along x, one key."""
    every = [one for panel in quantities for one in panel.series]
    key = list({one.label: one.tag() for one in every}.values())
    ranges = [(_range_of_means if each.whole else _range_of_curves)(each.series, each.log_y) for each in quantities]
    beyond = "Curves that leave a frame grow far beyond it." if any(clipped for *_, clipped in ranges) else ""
    rows = -(-len(quantities) // 2)
    figure = base.figure(rows * PANEL_HEIGHT + 0.3, title=title, notes=[*_notes(every, over), beyond, note], key=key)
    for index, (panel, (low, high, _)) in enumerate(zip(quantities, ranges, strict=True)):
        axes = figure.add_subplot(rows, 2, index + 1)
        axes.grid(axis="y")
        axes.set_title(base.wrap(base.fit(panel.y_label, TICK, 300), TICK, room=165), size=TICK)
        base.scale(axes.xaxis, *span(_joined(every, "x"), margin=0.02), integer=True)
        base.scale(axes.yaxis, low, high, log=panel.log_y)
        for one in panel.series:
            _draw(axes, one)
        if index >= len(quantities) - 2:
            axes.set_xlabel(base.fit(x_label, TICK, 165), size=TICK)
    return figure


@base.with_look
def against_rate(series: Sequence[Series], *, title: str, y_label: str, over: str = "") -> Figure:
    """Draw a final score against the learning rate: one curve per optimizer, its best rate with a filled marker.

    Lanes that went non-finite or failed are counted in a strip below, one row per optimizer, a mark for each. Larger
    scores are better; those far below most are left outside the frame, with an arrow at its edge.
    """
    low, high, clipped = _range_of_scores(series)
    beyond = "▼: below the frame." if clipped else ""
    filled = "Filled marker: the rate chosen." if any(one.best is not None for one in series) else ""
    lost = [one for one in series if one.diverged.any()]
    notes = [*_notes(series, over), filled, beyond]
    figure, axes, *strips = _single(series, title, notes, "learning rate, log scale", y_label, rows=len(lost))
    rates = _joined(series, "x")
    log_x = rates.size > 0 and bool((rates > 0).all())
    base.scale(axes.xaxis, *span(rates, margin=0.04, log=log_x), log=log_x)
    base.scale(axes.yaxis, low, high)
    for one in series:
        _draw(axes, one, hollow=True)
        if len(below := one.x[one.mean < low]):  # nothing drawn would still claim its place in the layout
            arrows = {"color": one.look.colour, "markersize": 6, "clip_on": False, "zorder": 5}
            axes.plot(below, np.full(len(below), low), "v", **arrows)
    for strip in strips:
        base.scale(strip.xaxis, *axes.get_xlim(), log=log_x)
        axes.tick_params(axis="x", which="both", labelbottom=False)
        _name_rows(strip, lost, f", of {over} at each rate" if _several(over) else "")
    base.label_ends(axes, [one.tag() for one in series])
    for strip in strips:  # which has its final width
        _count_lost(strip, lost)
    return figure


@base.with_look
def fitted_line(
    x: ArrayLike, y: ArrayLike, lines: Sequence[Series], *, title: str, x_label: str, y_label: str, note: str = ""
) -> Figure:
    """Draw the examples (x and y, [N] each) as points, and over them what each method fitted, as points along it."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    figure, axes = _single(lines, title, [f"Points: {len(x):,} examples.", note], x_label, y_label)
    base.scale(axes.xaxis, *span(np.concatenate([x, _joined(lines, "x")]), margin=0.03))
    base.scale(axes.yaxis, *span(np.concatenate([y, _near(_joined(lines, "mean"), y)]), margin=0.06))
    many = {"color": "#777777", "markersize": 2, "markeredgewidth": 0, "alpha": 0.6}
    few = {"color": INK, "markersize": 6, "markerfacecolor": "white", "zorder": 4}
    axes.plot(x, y, "o", **(many if len(x) > 4 * MAX_MARKED else few))  # type: ignore[arg-type]
    for one in lines:
        _draw(axes, one, markers=False)
    base.label_ends(axes, [one.tag() for one in lines])
    return figure


def _range_of_curves(series: Sequence[Series], log: bool) -> tuple[float, float, bool]:
    """Return the vertical range of curves over steps, and whether it leaves out any that diverge.

    A curve diverges where it grows beyond ten times what half of the curves ever reach.
    """
    means, values = _joined(series, "mean"), _joined(series, "mean", "low", "high")
    if log:
        means, values = means[means > 0], values[values > 0]
    peaks = [peak for one in series if (peak := np.abs(_joined([one], "mean")).max(initial=0.0)) > 0]
    usual = np.quantile(peaks, 0.5, method="lower") if peaks else math.inf
    clipped = bool((np.abs(means) > 10 * usual).any())
    # A band may be far wider than its curve: the curves choose the range.
    values = values[np.abs(values) <= 2 * (usual if clipped else np.abs(means).max(initial=0.0))]
    if log:  # the lower side of a band may come near 0, many decades below
        values = values[values >= 0.5 * means.min(initial=math.inf)]
    return *span(values, margin=0.04, log=log), clipped


def _range_of_means(series: Sequence[Series], log: bool) -> tuple[float, float, bool]:
    """Return the vertical range that holds all means."""
    means = _joined(series, "mean")
    return *span(means[means > 0] if log else means, margin=0.04, log=log), False


def _range_of_scores(series: Sequence[Series]) -> tuple[float, float, bool]:
    """Return the vertical range of final scores, and whether it leaves out the worst.

    Tukey's outer fence: a score further below the lower quartile than three interquartile ranges is left out. Points
    that lost a lane do not move the fence; they are counted apart.
    """
    means = _joined(series, "mean")
    complete = np.concatenate([means[:0], *(one.mean[one.diverged == 0] for one in series)])
    complete = complete[~np.isnan(complete)]
    basis = complete if complete.size else means
    lower, upper = np.quantile(basis, (0.25, 0.75)) if basis.size else (0.0, 0.0)
    inside = means[means >= lower - 3 * (upper - lower)]
    bands = _near(_joined(series, "low", "high"), inside)  # a very wide band may leave the frame
    return *span(np.concatenate([inside, bands]), margin=0.06), inside.size < means.size


def _near(values: Floats, others: Floats) -> Floats:
    """Return the values that lie outside the others' range by at most a quarter of it."""
    if not others.size:
        return values
    reach = np.ptp(others) * 0.25
    return values[(values >= others.min() - reach) & (values <= others.max() + reach)]


def _single(
    series: Sequence[Series], title: str, notes: Sequence[str], x_label: str, y_label: str, rows: int = 0
) -> tuple[Any, ...]:
    """Return a figure, its axes, and axes of a strip below them if it has rows."""
    height, strip = max(HEIGHT, NAME_HEIGHT * len(series) + 0.8), STRIP_ROW * rows
    figure = base.figure(height + (strip + 0.45 if rows else 0), title=title, notes=notes)
    ratios = [height - 0.7, strip] if rows else [1.0]
    every = figure.subplots(len(ratios), 1, height_ratios=ratios, squeeze=False)[:, 0]
    for axes in every:
        axes.grid(axis="y")
    every[0].set_title(base.wrap(y_label, LABEL, room=380))
    side = (
        "center" if base.text_width(x_label, LABEL) < 230 else "left"
    )  # a long one would pass both sides of narrow axes
    every[-1].set_xlabel(base.wrap(x_label, LABEL, room=380), loc=side)
    return figure, *every


def _draw(axes: Axes, one: Series, *, markers: bool = True, hollow: bool = False) -> None:
    """Draw a curve with its band; hollow markers leave the filled one to the chosen x."""
    colour, _, marker = one.look
    if one.has_band:
        axes.fill_between(one.x, one.low, one.high, color=colour, alpha=0.15, linewidth=0)
        seen = np.concatenate([[False], ~np.isnan(one.mean), [False]])
        alone = seen[1:-1] & ~seen[:-2] & ~seen[2:]  # points without a neighbour, where a band has no width
        axes.vlines(one.x[alone], one.low[alone], one.high[alone], color=colour, alpha=0.6, linewidth=1)
    every = max(1, len(one.x) // 6) if len(one.x) > MAX_MARKED else 1
    face = "white" if hollow else colour
    shape = {"marker": marker if markers else "", "markevery": every, "markerfacecolor": face}
    axes.plot(one.x, one.mean, zorder=3, **base.curve(one.look, **shape))
    if one.best is not None:
        chosen = np.isclose(one.x, one.best, rtol=1e-6, atol=0)
        rim = {"markersize": 9, "markeredgecolor": "white", "zorder": 4}
        axes.plot(one.x[chosen], one.mean[chosen], **base.dots(one.look, **rim))


def _name_rows(strip: Axes, lost: Sequence[Series], over: str) -> None:
    """Name the marks of diverged lanes above a strip, and its rows, one per optimizer, on the right."""
    marks = [f"{NONFINITE} non-finite"] * any(one.nonfinite.any() for one in lost)
    marks += [f"{FAILED} no better than chance"] * any(one.failed.any() for one in lost)
    strip.set_title(base.wrap(f"diverged lanes{over}: {', '.join(marks)}", NOTE, room=360), size=NOTE, color=SOFT)
    base.scale(strip.yaxis, len(lost) - 0.5, -0.5)
    strip.yaxis.tick_right()
    strip.set_yticks(range(len(lost)), [legible(one.label) for one in lost], size=NOTE)
    strip.tick_params(axis="y", length=0, pad=8)
    strip.spines["left"].set_visible(False)


def _count_lost(strip: Axes, lost: Sequence[Series]) -> None:
    """Write a mark for each kind of diverged lanes at each rate, followed by their number if there are several.

    Where the rates stand too close for that, the numbers are left out, and then all but the first mark.
    """
    counts = {
        (x, row): [(NONFINITE, int(nonfinite)), (FAILED, int(failed))]
        for row, one in enumerate(lost)
        for x, nonfinite, failed in zip(one.x, np.nan_to_num(one.nonfinite), np.nan_to_num(one.failed), strict=True)
        if math.isfinite(x) and (nonfinite or failed)
    }
    if not counts:
        return
    places = np.unique(strip.transData.transform([(x, 0) for x in _joined(lost, "x")])[:, 0])
    room = np.diff(places).min(initial=strip.bbox.width / 2) - 3
    forms = [
        [" ".join(f"{mark}{n if n > 1 else ''}" for mark, n in each if n) for each in counts.values()],
        ["".join(mark for mark, n in each if n) for each in counts.values()],
        [next(mark for mark, n in each if n) for each in counts.values()],
    ]
    sizes = [TICK * room / max(base.text_width(text, TICK, "bold") for text in texts) for texts in forms]
    best = next((index for index, size in enumerate(sizes) if size >= MIN_MARK_TYPE), len(forms) - 1)
    size = float(np.clip(sizes[best], MIN_MARK_TYPE, TICK))
    look: dict[str, Any] = {"size": size, "weight": "bold", "ha": "center", "va": "center_baseline"}
    for (x, row), text in zip(counts, forms[best], strict=True):
        strip.text(x, row, text, color=lost[row].look.colour, in_layout=False, **look)


def _notes(series: Sequence[Series], over: str) -> list[str]:
    """Return the sentence that says what lines and bands are."""
    plural = "s" * (len(series) > 1)
    if any(one.has_band for one in series):
        if not over:
            raise ValueError("a band is an interval over something: say over what, such as over='3 seeds'")
        return [f"Line{plural}: mean{plural}; band{plural}: 95% interval{plural} over {over}."]
    return [f"Line{plural}: mean{plural} over {over}."] if _several(over) else []


def _several(over: str) -> bool:
    return bool(over) and not over.startswith("1 ")


def _joined(series: Iterable[Series], *fields: str) -> Floats:
    """Return the finite numbers of some fields of all series, flat."""
    values = np.concatenate([np.zeros(0), *(getattr(one, field) for field in fields for one in series)])
    return values[~np.isnan(values)]
