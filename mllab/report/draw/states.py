"""One sequence that a recurrent network reads: inputs, outputs beside their targets, and hidden states, by step."""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mllab.report.draw import base
from mllab.report.draw.base import LABEL, Floats, Label, span
from mllab.report.style import BLUE, SOLID, VERMILLION, Style
from mllab.report.table import short

SIGNED = matplotlib.colormaps["RdBu_r"]  # blue below 0, white, red above
UNIT, LEAST_ROWS, MOST_ROWS = 7.0, 3, 12  # points of a row of cells; rows of a strip
HUGE = 1e30  # larger numbers overflow in drawing
CURVES = 1.1  # inches of the outputs
OUTPUT, TARGET = Style(BLUE, SOLID, ""), Style(VERMILLION, SOLID, "o")


@dataclass(frozen=True)
class Trace:
    """What a network read and did."""

    inputs: Floats  # [T, D]
    input_label: str  # what the rows of inputs are, from the top
    output: Floats  # [T]
    target: Floats  # [T]; NaN where none is asked for
    states: Floats  # [T, H]


@base.with_look
def states(trace: Trace, *, title: str, y_label: str, x_label: str = "step", notes: Sequence[str] = ()) -> Figure:
    """Draw inputs as cells, the output as a line with targets as circles, and states as cells, over common steps."""
    inputs, hidden = np.asarray(trace.inputs, float), np.asarray(trace.states, float)
    output, target = (
        np.where(np.abs(each) < HUGE, each, np.nan) for each in (np.asarray(trace.output), np.asarray(trace.target))
    )
    steps = len(inputs)
    if not len(hidden) == len(output) == len(target) == steps:
        raise ValueError(f"{steps} steps of inputs, {len(output)} outputs, {len(target)} targets, {len(hidden)} states")
    key = [Label("output", base.curve(OUTPUT)), Label("target", base.dots(TARGET, markerfacecolor="none"))]
    rows = [min(max(each.shape[1], LEAST_ROWS), MOST_ROWS) * UNIT / 72 + 0.25 for each in (inputs, hidden)]
    heights = [rows[0], CURVES, rows[1]]
    figure = base.figure(sum(heights) + 0.9, title=title, notes=notes, key=key)
    above, middle, below = figure.subplots(3, 1, sharex=True, height_ratios=heights)
    _cells(above, inputs, "inputs")
    above.set_title(base.fit(trace.input_label, LABEL, 380))
    middle.plot(np.arange(1, steps + 1), output, **base.curve(OUTPUT, marker="o" if steps == 1 else ""))
    look = base.dots(TARGET, markerfacecolor="none", markersize=6)
    middle.plot(np.arange(1, steps + 1), target, **look)
    every = np.concatenate([output, target])
    base.scale(middle.yaxis, *span(every[np.isfinite(every)], margin=0.1))
    middle.grid(axis="y")
    middle.set_title(base.fit(y_label, LABEL, 380))
    greatest = short(_cells(below, hidden, "states"), 2)
    below.set_title(f"state of {hidden.shape[1]} units: blue −{greatest}, white 0, red {greatest}")
    below.set_xlabel(base.fit(x_label, LABEL, 380))
    base.scale(below.xaxis, 0.5, steps + 0.5, integer=True)
    return figure


def _cells(axes: Axes, values: Floats, name: str) -> float:
    """Draw values [T, R] as a strip of cells, a row each; return the size of the darkest."""
    finite = np.abs(values[np.isfinite(values)])
    greatest = float(finite.max(initial=0.0)) or 1.0
    colours = SIGNED(0.5 + np.nan_to_num(values.T) / (2 * greatest))[..., :3]
    extent = (0.5, len(values) + 0.5, values.shape[1] - 0.5, -0.5)
    axes.imshow(colours, aspect="auto", interpolation="none", extent=extent).set_gid(name)
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    return greatest
