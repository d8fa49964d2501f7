r"""Principal component analysis: the axes of greatest variance.

    $$ \mathrm{Cov}(x) = U \Lambda U^\top, \quad z = U_{:, 1..K}^\top (x - \mu) $$

with the columns of U ordered by descending variance. Fitted on the host in float64.

Source: Jolliffe, *Principal Component Analysis*, 2nd ed. (2002), section 1.1.
"""

from dataclasses import dataclass

import numpy as np
from flax import struct

from mllab import checks
from mllab.types import Array


@struct.dataclass
class PCA:
    """Mean and principal axes; float64."""

    mean: np.ndarray  # [D]
    axes: np.ndarray  # [D, K] orthonormal; the entry of greatest magnitude of each is positive
    variances: np.ndarray  # [D] along all D axes, descending


def fit(points: np.ndarray | Array, count: int) -> PCA:
    """Return the first `count` principal axes of points [N, D].

    Raises:
        UserError: points of another shape or not finite, or a count not in 1..D.
    """
    checks.check_shape(points, ("N", "D"), "points")
    checks.check_finite(points, "points")
    checks.check_count("count", count, np.ones(np.shape(points)[1]), "columns")
    points = np.asarray(points, np.float64)
    mean = points.mean(axis=0)
    covariance = np.cov(points - mean, rowvar=False, bias=True).reshape(len(mean), -1)
    variances, axes = np.linalg.eigh(covariance)
    axes = axes[:, ::-1][:, :count]
    signs = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    return PCA(mean, axes * signs, np.maximum(variances[::-1], 0))


def transform(params: PCA, points: np.ndarray | Array) -> np.ndarray:
    """Return the principal components [M, K] of points [M, D].

    Raises:
        UserError: points of another shape.
    """
    checks.check_shape(points, ("M", len(params.mean)), "points")
    return (np.asarray(points) - params.mean) @ params.axes


@dataclass(frozen=True)
class Reduction:
    """How many columns were replaced by how many principal components."""

    given: int
    kept: int
    variance: float  # share of the variance that the components have


def reduced(points: np.ndarray, count: int | None, train: np.ndarray) -> tuple[np.ndarray, Reduction]:
    """Return the first `count` principal components of points [N, D], [N, count] float32; None returns the points.

    Axes and share of the variance are those of the rows `train` (ids). All components are divided by one number, so
    that their mean variance over these rows is 1 and the proportions of distances remain.

    Raises:
        UserError: see `fit`.
    """
    if count is None:
        return points, Reduction(points.shape[1], points.shape[1], 1.0)
    params = fit(points[train], count)
    scale = np.sqrt(params.variances[:count].mean()) or 1.0
    share = float(params.variances[:count].sum() / (params.variances.sum() or 1.0))
    return (transform(params, points) / scale).astype(np.float32), Reduction(points.shape[1], count, share)
