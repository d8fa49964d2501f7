"""Drawings of plain arrays, a function each; every one returns a matplotlib `Figure`, and `save` writes it."""

from mllab.report.draw.base import Label, curve, dots, save
from mllab.report.draw.curves import Panel, Series, against_rate, curves, fitted_line, panels
from mllab.report.draw.surface import Landscape, Path, loss_contours, loss_surface

__all__ = [
    "Label",
    "Landscape",
    "Panel",
    "Path",
    "Series",
    "against_rate",
    "curve",
    "curves",
    "dots",
    "fitted_line",
    "loss_contours",
    "loss_surface",
    "panels",
    "save",
]
