r"""Scores of a clustering, against true classes or without them.

With $n_{ck}$ the number of rows of class c in cluster k, and $n_c$, $n_k$ its sums over the other index:

- V-measure: the harmonic mean of homogeneity $1 - H(c \mid k) / H(c)$ and completeness $1 - H(k \mid c) / H(k)$
  (Rosenberg and Hirschberg, EMNLP 2007).
- Adjusted Rand index: the share of pairs of rows on which classes and clusters agree, corrected for chance (Hubert and
  Arabie, J. Classification 2, 1985).
- Purity: the share of rows that belong to the most frequent class of their cluster.
- Silhouette: the mean of $(b - a) / \max(a, b)$, where a is a row's mean distance to the other rows of its cluster and
  b the least mean distance to the rows of another cluster; 0 for a cluster of one row (Rousseeuw, J. Computational
  and Applied Mathematics 20, 1987).

The first three take labels alone, on the host; they do not depend on how classes and clusters are numbered.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from mllab import checks
from mllab.errors import UserError
from mllab.types import Array

BLOCK_BYTES = 64 * 2**20  # memory of a block of distances


def v_measure(classes: np.ndarray, labels: np.ndarray) -> float:
    """Return the V-measure of labels [N] against true classes [N], 0 to 1."""
    table = _contingency(classes, labels)
    joint = table / table.sum()
    marginals = joint.sum(1), joint.sum(0)
    entropies = [-float(np.sum(p * np.log(p))) for p in marginals]
    if sum(entropies) == 0:  # one class and one cluster
        return 1.0
    cells = joint > 0
    mutual_information = float(np.sum(joint[cells] * (np.log(joint[cells]) - np.log(np.outer(*marginals)[cells]))))
    return max(0.0, 2 * mutual_information / sum(entropies))


def adjusted_rand(classes: np.ndarray, labels: np.ndarray) -> float:
    """Return the adjusted Rand index of labels [N] against true classes [N]: at most 1, 0 on average by chance."""
    table = _contingency(classes, labels)
    agreeing = _pairs(table)
    by_class, by_label, all_pairs = _pairs(table.sum(1)), _pairs(table.sum(0)), _pairs(table.sum())
    expected = by_class * by_label / max(all_pairs, 1)
    maximum = (by_class + by_label) / 2
    return 1.0 if maximum == expected else (agreeing - expected) / (maximum - expected)


def purity(classes: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of rows whose true class [N] is the most frequent one of their cluster; labels [N]."""
    table = _contingency(classes, labels)
    return float(table.max(0).sum() / table.sum())


def silhouette(
    points: Array | np.ndarray,
    labels: Array | np.ndarray,
    *,
    rows: np.ndarray | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> float:
    """Return the mean silhouette of points [N, D], -1 to 1.

    The distances of a block of rows to all points are summed by cluster, so that memory stays within `block_bytes` and
    a centred copy of the points.

    Args:
        points: [N, D].
        labels: [N], integers.
        rows: ids of a sample, [M], to which everything is restricted (default: all rows).
        block_bytes: memory of a block of distances.

    Raises:
        UserError: shapes that do not fit, points that are not finite, fewer than 2 clusters, or as many clusters as
            points.
    """
    points, labels = np.asarray(checks.as_numbers(points, "points")), _names(labels, "labels")
    if points.ndim != 2 or labels.shape != points.shape[:1]:
        raise UserError(f"points {list(points.shape)} and labels {list(labels.shape)}: give [N, D] and [N]")
    if rows is not None:
        points, labels = points[rows], labels[rows]
    names, cluster, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    if not 2 <= len(names) < len(points):
        raise UserError(
            f"{len(names)} clusters of {len(points)} rows: a silhouette needs 2 or more clusters, and fewer than rows"
        )
    points = checks.check_array(points, ("N", "D"), "points")
    return float(np.mean(_silhouettes(points, jnp.asarray(cluster), jnp.asarray(sizes), block_bytes)))


@functools.partial(jax.jit, static_argnames="block_bytes")
def _silhouettes(points: Array, cluster: Array, sizes: Array, block_bytes: int) -> Array:
    """Return the silhouette of each point [N]; clusters are numbered 0..K-1, with their sizes [K]."""
    centred = points - jnp.median(points, axis=0, keepdims=True)  # the median: robust against a far outlier
    norms = jnp.sum(centred**2, axis=1)
    member = jax.nn.one_hot(cluster, len(sizes), dtype=points.dtype)  # [N, K]
    size = sizes.astype(points.dtype)

    def one(each: tuple[Array, Array, Array, Array]) -> Array:
        row, norm, label, position = each
        product = jnp.matmul(centred, row, precision="highest")
        # Set a row's distance to itself to 0: the root of its rounding error would be much larger.
        distances = jnp.sqrt(jnp.maximum(norms + norm - 2 * product, 0)).at[position].set(0)
        sums = jnp.matmul(distances, member, precision="highest")  # [K]
        alone = size[label] == 1
        a = sums[label] / jnp.maximum(size[label] - 1, 1)
        b = jnp.min(jnp.where(jnp.arange(len(size)) == label, jnp.inf, sums / size))
        larger = jnp.maximum(a, b)
        return jnp.where(alone | (larger == 0), 0, (b - a) / jnp.where(larger == 0, 1, larger))

    block = max(1, block_bytes // (3 * points.dtype.itemsize * len(points)))
    return jax.lax.map(one, (centred, norms, cluster, jnp.arange(len(points))), batch_size=block)


def _names(labels: Array | np.ndarray, name: str) -> np.ndarray:
    """Return labels as an array: text or numbers, none of them NaN."""
    try:
        array = np.asarray(labels)
    except ValueError:
        raise UserError(f"{name}: lists of unequal lengths, expected one label for each row") from None
    if array.dtype.kind in "fc" and not np.isfinite(array).all():
        raise UserError(f"{name}: row {np.flatnonzero(~np.isfinite(array))[0]} is not finite, expected a label")
    return array


def _contingency(classes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the number of rows of each class in each cluster, [C, K]; no matrix row or column is empty."""
    classes, labels = _names(classes, "classes"), _names(labels, "labels")
    if classes.ndim != 1 or classes.shape != labels.shape or classes.size == 0:
        raise UserError(f"classes {list(classes.shape)} and labels {list(labels.shape)}: give one of each per row")
    _, rows = np.unique(classes, return_inverse=True)
    _, columns = np.unique(labels, return_inverse=True)
    table = np.zeros((rows.max() + 1, columns.max() + 1), np.int64)
    np.add.at(table, (rows, columns), 1)
    return table


def _pairs(counts: np.ndarray) -> int:
    """Return the number of pairs within each of these counts, summed."""
    return int(np.sum(counts * (counts - 1)) // 2)
