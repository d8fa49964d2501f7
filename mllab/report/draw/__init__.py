"""Drawings of plain arrays, a function each; every one returns a matplotlib `Figure`, and `save` writes it."""
# ruff: noqa: F401 - the imports are the package's names

from mllab.report.draw import backend  # first
from mllab.report.draw.alignment import alignment
from mllab.report.draw.animation import Animation, Body, View, animation
from mllab.report.draw.base import save
from mllab.report.draw.curves import Panel, Series, against_rate, curves, fitted_line, panels
from mllab.report.draw.heatmap import Grid, Shares, accuracy_by_setting, confusion, contingency, successes
from mllab.report.draw.images import feature_maps, filters, mistakes, neighbours, saliency, side_by_side
from mllab.report.draw.piano_roll import piano_roll
from mllab.report.draw.plane import Mesh, Mixture, Plane, boundaries, clusters, leads, mesh, semi_supervised
from mllab.report.draw.points import (
    Response,
    Running,
    dependence,
    dots_with_intervals,
    predicted_against_true,
    reliability,
    residuals,
)
from mllab.report.draw.policies import Map, policies
from mllab.report.draw.sequence import coloured_text
from mllab.report.draw.states import Trace, states
from mllab.report.draw.surface import Landscape, Path, loss_contours, loss_surface
