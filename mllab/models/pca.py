r"""Principal component analysis: the axes of greatest variance.

    $$ \mathrm{Cov}(x) = U \Lambda U^\top, \quad z = U_{:, 1..K}^\top (x - \mu) $$

with the columns of U ordered by descending variance. Fitted on the host in float64.

Source: Jolliffe, *Principal Component Analysis*, 2nd ed. (2002), sections 1.1 and 3.5; Lehoucq, Sorensen and Yang,
*ARPACK Users' Guide* (1998), chapter 4, for a few axes of many.
"""

from dataclasses import dataclass

import numpy as np
from flax import struct
from scipy.sparse.linalg import ArpackError, eigsh

from mllab import checks
from mllab.types import Array

WIDE = 1000  # columns and rows above which Lanczos' method may find the first axes alone
AXES_RATIO = 10  # columns and rows for each of these axes, at least


@struct.dataclass
class PCA:
    """Mean and principal axes; float64."""

    mean: np.ndarray  # [D]
    axes: np.ndarray  # [D, K] orthonormal; the entry of greatest magnitude of each is positive
    # [D] along all D axes, descending, and the total variance in sum; where `fit` computes only the first axes, the
    # others have their mean variance each.
    variances: np.ndarray


def fit(points: np.ndarray | Array, count: int, *, wide: int = WIDE) -> PCA:
    r"""Return the first K = `count` principal axes of points [N, D].

    The cost is that of the smaller side, and no matrix [D, D] is made of fewer than D rows:

    - N < D: the SVD of the centred points, $O(N^2 D)$ time and $O(N D)$ memory;
    - D <= N: the eigenvectors of the covariance, $O(N D^2 + D^3)$ time and $O(N D + D^2)$ memory;
    - N and D above `wide` and `AXES_RATIO` K: Lanczos iterations for K axes, to rounding. Each takes a
      product with the centred points, $O(N D)$, and there are several K of them.

    Args:
        points: [N, D].
        count: K, 1 to D; axes beyond the rank of the points complete the basis.
        wide: rows and columns beyond which only the first axes are computed.

    Raises:
        UserError: points of another shape or not finite, or a count not in 1..D.
    """
    checks.check_shape(points, ("N", "D"), "points")
    checks.check_finite(points, "points")
    checks.check_count("count", count, np.ones(np.shape(points)[1]), "columns")
    points = np.asarray(points, np.float64)
    mean = points.mean(axis=0)
    variances, axes = _factorised(points - mean, count, wide)
    signs = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    return PCA(mean, axes * signs, np.maximum(variances, 0))


def _factorised(centred: np.ndarray, count: int, wide: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the variances [D] and the first axes [D, K] of centred points [N, D]."""
    rows, columns = centred.shape
    if min(rows, columns) > wide and count * AXES_RATIO <= min(rows, columns):
        try:
            return _first_axes(centred, count)
        except ArpackError:  # no convergence: the whole factorisation does without
            pass
    if rows < columns:
        _, singular, transposed = np.linalg.svd(centred, full_matrices=False)
        variances = np.zeros(columns)
        variances[:rows] = singular**2 / rows
        return variances, _completed(transposed.T[:, :count], count)
    covariance = np.cov(centred, rowvar=False, bias=True).reshape(columns, -1)
    variances, axes = np.linalg.eigh(covariance)
    return variances[::-1], axes[:, ::-1][:, :count]


def _first_axes(centred: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what `_factorised` does, from the eigenvectors of the smaller of the products of the points."""
    rows, columns = centred.shape
    wide = rows < columns
    product = (centred @ centred.T if wide else centred.T @ centred) / rows
    total = float(np.trace(product))
    if total == 0:
        return np.zeros(columns), np.eye(columns, count)
    start = np.random.default_rng(0).standard_normal(len(product))
    values, vectors = eigsh(product, count, v0=start)
    values, vectors = values[::-1], vectors[:, ::-1]
    # From the vectors of the rows to those of the columns; QR restores the angles that rounding has changed.
    axes = np.linalg.qr(centred.T @ vectors)[0] if wide else vectors
    rest = max(total - values.sum(), 0.0) / (columns - count)
    return np.concatenate([values, np.full(columns - count, min(rest, values[-1]))]), axes


def _completed(axes: np.ndarray, count: int) -> np.ndarray:
    """Return orthonormal axes [D, K] that begin with the given ones [D, M], M <= K."""
    missing = count - axes.shape[1]
    if missing == 0:
        return axes
    others = np.random.default_rng(0).standard_normal((len(axes), missing))
    return np.concatenate([axes, np.linalg.qr(np.concatenate([axes, others], axis=1))[0][:, axes.shape[1] :]], axis=1)


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
