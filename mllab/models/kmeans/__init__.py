"""K-means clustering: `fit` one k, `sweep` several; `assign` new points; the parts `step` and `plus_plus`."""

from mllab.models.kmeans.kmeans import (
    POINT_AXES,
    SWEEP_POINT_AXES,
    KMeans,
    assign,
    fit,
    plus_plus,
    step,
    sweep,
)

__all__ = ["POINT_AXES", "SWEEP_POINT_AXES", "KMeans", "assign", "fit", "plus_plus", "step", "sweep"]
