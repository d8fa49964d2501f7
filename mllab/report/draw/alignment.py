"""Soft alignments: which source tokens a model read for each target token (Bahdanau et al. 2015, figure 3)."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from mllab.report.draw.heatmap import SHARES, Cells, heat_map


def alignment(source: Sequence[str], target: Sequence[str], weights: ArrayLike, *, title: str) -> Figure:
    """Draw weights [T, S] of S source tokens (columns) for T target tokens (rows), from white for 0 to dark for 1."""
    weights = np.asarray(weights, float)
    if weights.shape != (len(target), len(source)):
        raise ValueError(f"weights {weights.shape} of {len(target)} target and {len(source)} source tokens")
    cells = Cells(SHARES(np.clip(weights, 0, 1))[..., :3], [[""] * len(source)] * len(target), list(target))
    notes = ["White: weight 0; darkest: 1. Each row sums to 1."]
    return heat_map([cells], source, title=title, x_label="source", y_label="target", notes=notes)
