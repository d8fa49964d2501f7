"""One curve: its numbers, the range that shows it, and how it is drawn."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from mllab.report.palette import Style, style

Floats = NDArray[np.float64]

BAND = 0.15  # opacity
HUGE = 1e30  # larger numbers come from a diverged lane, and overflow what draws them
FEW = 12  # points, each of which has its marker


@dataclass(frozen=True)
class Series:
    """One curve: a mean over seeds, and its 95% interval where there is one."""

    label: str
    x: ArrayLike  # [P]
    mean: ArrayLike  # [P]; NaN leaves a gap
    low: ArrayLike | None = None  # [P]
    high: ArrayLike | None = None  # [P]
    name: str = ""  # the optimizer or model whose colour it takes; the label where empty
    best: float | None = None  # the x to mark as chosen
    diverged: ArrayLike | None = None  # [P] how many lanes went non-finite or failed at each x

    def __post_init__(self):
        for field in ("mean", "low", "high", "diverged"):
            value = getattr(self, field)
            if value is not None and np.shape(value) != np.shape(self.x):
                shapes = f"{field} has shape {np.shape(value)}, x has {np.shape(self.x)}"
                raise ValueError(f"series {self.label!r}: {shapes}")

    @property
    def style(self) -> Style:
        """Its fixed colour, dash and marker."""
        return style(self.name or self.label)

    @property
    def end(self) -> tuple[float, float] | None:
        """Its last finite point, beside which its name stands."""
        x, mean = np.asarray(self.x, float), finite(self.mean)
        seen = np.flatnonzero(~np.isnan(mean))
        return (float(x[seen[-1]]), float(mean[seen[-1]])) if seen.size else None


def draw(axes: Axes, one: Series, *, markers: bool = True, hollow: bool = False) -> None:
    """Draw a curve with its band; hollow markers leave the filled one to the chosen x."""
    colour, dash, marker = one.style
    x, mean = np.asarray(one.x, float), finite(one.mean)
    if one.low is not None and one.high is not None:
        low, high = finite(one.low), finite(one.high)
        axes.fill_between(x, low, high, color=colour, alpha=BAND, linewidth=0)
        alone = _alone(mean)  # a band has no width there
        axes.vlines(x[alone], low[alone], high[alone], color=colour, alpha=0.6, linewidth=1)
    axes.plot(
        x,
        mean,
        color=colour,
        linestyle=dash,
        linewidth=1.6,
        marker=marker if markers else "",
        markersize=4.5,
        markevery=max(1, len(x) // 6) if len(x) > FEW else 1,
        markerfacecolor="white" if hollow else colour,
        zorder=3,
    )
    if one.best is not None:
        chosen = np.isclose(x, one.best, rtol=1e-6, atol=0)
        axes.plot(x[chosen], mean[chosen], marker, color=colour, markersize=9, markeredgecolor="white", zorder=4)


def draw_outside(axes: Axes, one: Series) -> None:
    """Mark each point beyond the frame by an arrow at its edge."""
    x, mean = np.asarray(one.x, float), finite(one.mean)
    low, high = axes.get_ylim()
    for beyond, edge, arrow in ((mean < low, low, "v"), (mean > high, high, "^")):
        at = np.full(int(beyond.sum()), edge)
        axes.plot(x[beyond], at, arrow, color=one.style.colour, markersize=6, clip_on=False, zorder=5)


def finite(values: ArrayLike) -> Floats:
    """Return numbers with NaN for whatever cannot be drawn."""
    values = np.array(values, float)
    values[~(np.abs(values) < HUGE)] = np.nan
    return values


def together(series: Sequence[Series], field: str) -> Floats:
    """Return the finite numbers of one field of all series, flat."""
    parts = [finite(getattr(one, field)) for one in series if getattr(one, field) is not None]
    values = np.concatenate(parts) if parts else np.zeros(0)
    return values[~np.isnan(values)]


def span(values: Floats, *, margin: float = 0.0, log: bool = False) -> tuple[float, float]:
    """Return a range that holds all values with a margin, and is never empty."""
    if values.size == 0:
        return (0.1, 1.0) if log else (0.0, 1.0)
    low, high = float(values.min()), float(values.max())
    if log:
        low, high = span(np.log10([low, high]), margin=margin)
        return 10.0**low, 10.0**high
    extra = (high - low) * margin if high > low else max(abs(low) * 0.1, 0.5)
    return low - extra, high + extra


def range_of_curves(series: Sequence[Series], log: bool) -> tuple[float, float, bool]:
    """Return the vertical range of curves over steps, and whether it leaves out what diverges.

    A curve diverges where it grows ten times beyond what half of the curves ever reach.
    """
    values = np.concatenate([together(series, field) for field in ("mean", "low", "high")])
    means = together(series, "mean")
    if log:
        values, means = values[values > 0], means[means > 0]
    peaks = [peak for one in series if (peak := np.abs(together([one], "mean")).max(initial=0.0)) > 0]
    usual = np.quantile(peaks, 0.5, method="lower") if peaks else math.inf
    clipped = bool((np.abs(means) > 10 * usual).any())
    if clipped:
        values = values[np.abs(values) <= 2 * usual]
    else:  # a band may be far wider than the curve: let the curve choose the range
        values = values[np.abs(values) <= 2 * np.abs(means).max(initial=0.0)]
    if log:
        # The lower side of a band may come near 0, many decades below: the curves alone choose how deep to look.
        values = values[values >= 0.5 * means.min(initial=math.inf)]
    return *span(values, margin=0.04, log=log), clipped


def range_of_scores(series: Sequence[Series], higher_is_better: bool) -> tuple[float, float, bool]:
    """Return the vertical range of final scores, and whether it leaves out the worst.

    Tukey's outer fence, on the worse side only: a score further from the better three quarters than three times the
    range between the quartiles is left out. Points that lost a lane do not move the fence; they are counted
    apart.
    """
    means = together(series, "mean")
    sign = 1.0 if higher_is_better else -1.0
    sound = np.concatenate([np.zeros(0), *(_sound(one) for one in series)])
    sound = sound if sound.size else means
    lower, upper = np.quantile(sign * sound, (0.25, 0.75)) if sound.size else (0.0, 0.0)
    fence = lower - 3 * (upper - lower)
    inside = means[sign * means >= fence]
    bands = np.concatenate([together(series, field) for field in ("low", "high")])
    reach = np.ptp(inside) * 0.25 if inside.size else 0.0  # a very wide band may leave the frame
    if inside.size:
        bands = bands[(bands >= inside.min() - reach) & (bands <= inside.max() + reach)]
    low, high = span(np.concatenate([inside, bands]), margin=0.06)
    return low, high, inside.size < means.size


def notes(series: Sequence[Series], seeds: int | None, *more: str) -> list[str]:
    """Return the sentences at the foot of a figure: what the bands are, then whatever else applies."""
    over = f" over {seeds} seeds" if seeds else " over seeds"
    if any(one.low is not None for one in series):
        bands = f"Lines: means; bands: 95% intervals{over}."
    else:
        bands = f"Lines: means{over}." if seeds and seeds > 1 else ""
    return [sentence for sentence in (bands, *more) if sentence]


def _sound(one: Series) -> Floats:
    """Return the finite means over seeds of which none diverged."""
    mean = finite(one.mean)
    lost = np.zeros(mean.shape) if one.diverged is None else np.asarray(one.diverged)
    return mean[~np.isnan(mean) & (lost == 0)]


def _alone(mean: Floats) -> NDArray[np.bool_]:
    """Return where a finite point has no finite neighbour."""
    seen = np.concatenate([[False], ~np.isnan(mean), [False]])
    return seen[1:-1] & ~seen[:-2] & ~seen[2:]
