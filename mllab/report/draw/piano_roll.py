"""Piano rolls: which keys sound in each frame of pieces of music."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from mllab.report.draw import base
from mllab.report.draw.base import FAINT, LABEL, SOFT
from mllab.report.style import BLUE

OCTAVE = 12
MARGIN = 3  # keys above the highest and below the lowest that sounds
HEIGHT = 3.2  # points of a key
LEAST_KEYS = 24


@base.with_look
def piano_roll(
    rolls: Sequence[tuple[str, ArrayLike]], *, title: str, x_label: str, lowest: int = 21, given: int = 0,
    notes: Sequence[str] = (),
) -> Figure:  # fmt: skip
    """Draw piano rolls one below the other, on the same keys and frames.

    Args:
        rolls: a heading and a roll [T, K] of 0 and 1 each.
        title: the message or the question.
        x_label: what a frame is.
        lowest: MIDI number of the first key; 60 is middle C, C4.
        given: frames at the start that were not drawn from a model; a line ends them. 0 for none.
        notes: sentences for the foot.
    """
    arrays = [np.asarray(roll) > 0 for _, roll in rolls]
    sounding = np.flatnonzero(np.any([array.any(axis=0) for array in arrays], axis=0))
    low, high = (int(sounding[0]), int(sounding[-1])) if sounding.size else (0, arrays[0].shape[1] - 1)
    low = low - MARGIN
    high = max(high + MARGIN, low + LEAST_KEYS)
    length = max(map(len, arrays))
    height = len(rolls) * (HEIGHT * (high - low) + LABEL * 1.3 + 24) / 72 + 0.3
    figure = base.figure(height, title=title, notes=notes)
    panels = figure.subplots(len(rolls), 1, squeeze=False, sharex=True)[:, 0]
    blue = [int(BLUE[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    for axes, (heading, _), array in zip(panels, rolls, arrays, strict=True):
        colours = np.zeros((high - low + 1, length, 4))  # transparent
        frames, keys = np.nonzero(array)
        colours[keys - low, frames] = [*blue, 1.0]
        extent = (0.5, length + 0.5, low - 0.5, high + 0.5)
        image: dict[str, Any] = {"aspect": "auto", "interpolation": "none", "origin": "lower", "zorder": 2}
        axes.imshow(colours, extent=extent, **image)
        octaves = [key for key in range(low, high + 1) if (key + lowest) % OCTAVE == 0]
        axes.set_yticks(octaves, [f"C{(key + lowest) // OCTAVE - 1}" for key in octaves])
        axes.hlines(octaves, *extent[:2], color=FAINT, linewidth=0.7, zorder=1)
        if 0 < given < length:
            axes.axvline(given + 0.5, color=SOFT, linewidth=1.0, linestyle=(0, (3, 2)), zorder=3)
        axes.set(xlim=extent[:2], ylim=extent[2:])
        axes.set_title(base.fit(heading, LABEL, 300))
    base.scale(panels[-1].xaxis, 0.5, length + 0.5, integer=True)
    panels[-1].set_xlabel(base.fit(x_label, LABEL, 300))
    return figure
