"""Drawings of plain arrays, a function each; every one returns a matplotlib `Figure`, and `save` writes it."""

from mllab.report.draw.base import Label, curve, dots, save
from mllab.report.draw.curves import Panel, Series, against_rate, curves, fitted_line, panels
from mllab.report.draw.heatmap import Cells, Grid, accuracy_by_setting, confusion, contingency, heat_map
from mllab.report.draw.images import (
    Group,
    feature_maps,
    filters,
    image_grid,
    mistakes,
    neighbours,
    saliency,
    side_by_side,
)
from mllab.report.draw.plane import (
    Level,
    Mesh,
    Mixture,
    Plane,
    boundaries,
    class_regions,
    clusters,
    leads,
    mesh,
    semi_supervised,
)
from mllab.report.draw.surface import Landscape, Path, loss_contours, loss_surface

__all__ = [
    "Cells",
    "Grid",
    "Group",
    "Label",
    "Landscape",
    "Level",
    "Mesh",
    "Mixture",
    "Panel",
    "Path",
    "Plane",
    "Series",
    "accuracy_by_setting",
    "against_rate",
    "boundaries",
    "class_regions",
    "clusters",
    "confusion",
    "contingency",
    "curve",
    "curves",
    "dots",
    "feature_maps",
    "filters",
    "fitted_line",
    "heat_map",
    "image_grid",
    "leads",
    "loss_contours",
    "loss_surface",
    "mesh",
    "mistakes",
    "neighbours",
    "panels",
    "saliency",
    "save",
    "semi_supervised",
    "side_by_side",
]
