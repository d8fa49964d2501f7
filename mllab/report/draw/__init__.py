"""Drawings of plain arrays, a function each; every one returns a matplotlib `Figure`, and `save` writes it."""

from mllab.report.draw.base import save

__all__ = ["save"]
