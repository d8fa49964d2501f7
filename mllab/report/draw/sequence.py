"""A text whose characters are coloured by a value each, such as the surprise of a language model."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from mllab.report.draw import base
from mllab.report.draw.base import INK, TICK
from mllab.report.style import ORANGE, VERMILLION

COLUMNS = 64  # characters in a line
LINE = 14.0  # points
SIZE, LEAST = 8.0, 6.0  # points, of a character and of a wide one
MAX_LINES = 60
SURPRISE = LinearSegmentedColormap.from_list("surprise", ["#ffffff", "#fbe3b0", ORANGE, VERMILLION, "#7a2f00"])
FONT = ["DejaVu Sans Mono", "monospace"]
CELL = 6.0  # points of width; wider characters, as of Chinese, are smaller
SIGNS = {"\n": "↵", "\t": "→", "\r": "␍"}  # of characters that have no glyph


@base.with_look
def coloured_text(
    text: str,
    values: ArrayLike,
    *,
    title: str,
    label: str,
    low: float = 0.0,
    high: float | None = None,
    notes: Sequence[str] = (),
) -> Figure:
    """Draw a text with each character on a colour from white for `low` to brown for `high`.

    Lines break at line breaks, which are shown, and after COLUMNS characters; text beyond MAX_LINES lines is left out.

    Args:
        text: N characters.
        values: of each character, [N]; NaN is white.
        title: the message or the question.
        label: the quantity and its unit, below the scale of colours; without one there is no scale.
        low: the value of white, and of those below.
        high: the value of the darkest colour and of those above; the greatest one by default.
        notes: sentences for the foot.
    """
    values = np.asarray(values, float)
    if values.shape != (len(text),):
        raise ValueError(f"{len(text)} characters, and values of shape {values.shape}")
    finite = values[np.isfinite(values)]
    top = float(high if high is not None else finite.max(initial=low))
    top = top if top > low else low + 1.0
    lines = _lines(text)[:MAX_LINES]
    colours = np.ones((max(len(lines), 1), COLUMNS, 3))
    for row, (start, line) in enumerate(lines):
        shares = np.nan_to_num((values[start : start + len(line)] - low) / (top - low))
        colours[row, : len(line)] = SURPRISE(np.clip(shares, 0, 1))[:, :3]
    figure = base.figure((LINE * len(colours) + 44 * bool(label)) / 72, title=title, notes=notes)
    heights = [LINE * len(colours), 8] if label else [1]
    axes, *bars = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    axes.imshow(colours, aspect="auto", interpolation="none").set_gid("characters")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    light = colours**2.2 @ (0.2126, 0.7152, 0.0722)
    for row, (_, line) in enumerate(lines):
        for column, character in enumerate(line):
            shown = SIGNS.get(character, character)
            if shown.isprintable() and not shown.isspace():
                colour = INK if light[row, column] > 0.2 else "white"
                size = SIZE if shown.isascii() else max(LEAST, SIZE * min(1, CELL / base.text_width(shown, SIZE)))
                look: dict[str, Any] = {"size": size, "color": colour, "in_layout": False, "ha": "center"}
                axes.text(column, row, shown, va="center_baseline", family=FONT, **look)
    for bar in bars:
        bar.imshow(SURPRISE(np.linspace(0, 1, 64))[None, :, :3], aspect="auto", extent=(low, top, 0, 1)).set_gid(
            "scale"
        )
        bar.set(yticks=[])
        bar.set_xlabel(base.fit(label, base.LABEL, 300))
        bar.tick_params(labelsize=TICK)
        base.scale(bar.xaxis, low, top)
    return figure


def _lines(text: str) -> list[tuple[int, str]]:
    """Return the lines of a text, at most COLUMNS characters each with their line breaks, and where each starts."""
    lines, start = [], 0
    for end in range(1, len(text) + 1):
        if text[end - 1] == "\n" or end - start == COLUMNS or end == len(text):
            lines.append((start, text[start:end]))
            start = end
    return lines
