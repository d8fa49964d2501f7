r"""How good a clustering is: against true classes, and by itself.

With $n_{ck}$ the rows of class c in cluster k, and $n_c$, $n_k$ their sums over the other:

- V-measure: the harmonic mean of homogeneity $1 - H(c \mid k) / H(c)$ and completeness $1 - H(k \mid c) / H(k)$
  (Rosenberg and Hirschberg, EMNLP 2007).
- Adjusted Rand: the pairs of rows on which both agree, less what chance gives, as a share of what is left (Hubert and
  Arabie, J. Classification 2, 1985).
- Purity: the share of rows in the class that is most common in their cluster.
- Silhouette: the mean of $(b - a) / \max(a, b)$, a the mean distance to the other rows of a row's own cluster, b to
  those of the cluster that is nearest by this mean; 0 where a row is alone (Rousseeuw, J. Computational and Applied
  Mathematics 20, 1987).

The first three take labels alone, on the host; names of clusters and of classes do not matter.
"""

import jax
import jax.numpy as jnp
import numpy as np

from mllab.errors import UserError
from mllab.types import Array

BLOCK_BYTES = 64 * 2**20  # what a block of distances may take


def v_measure(classes: np.ndarray, labels: np.ndarray) -> float:
    """Return the V-measure of labels [N] against true classes [N], 0 to 1."""
    table = _contingency(classes, labels)
    joint = table / table.sum()
    both = joint.sum(1), joint.sum(0)
    entropies = [-float(np.sum(p * np.log(p))) for p in both]
    if sum(entropies) == 0:  # one class and one cluster
        return 1.0
    cells = joint > 0
    shared = float(np.sum(joint[cells] * (np.log(joint[cells]) - np.log(np.outer(*both)[cells]))))
    return max(0.0, 2 * shared / sum(entropies))


def adjusted_rand(classes: np.ndarray, labels: np.ndarray) -> float:
    """Return the adjusted Rand index of labels [N] against true classes [N]: 1 at best, 0 by chance."""
    table = _contingency(classes, labels)
    together = _pairs(table)
    by_class, by_label, all_pairs = _pairs(table.sum(1)), _pairs(table.sum(0)), _pairs(table.sum())
    expected = by_class * by_label / max(all_pairs, 1)
    most = (by_class + by_label) / 2
    return 1.0 if most == expected else (together - expected) / (most - expected)


def purity(classes: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of rows whose true class [N] is the most common one of their label's [N]."""
    table = _contingency(classes, labels)
    return float(table.max(0).sum() / table.sum())


def silhouette(points: Array | np.ndarray, labels: Array | np.ndarray, *, rows: np.ndarray | None = None) -> float:
    """Return the mean silhouette of points [N, D], -1 to 1.

    The distances of a block of rows to all points are summed by cluster; memory stays within `BLOCK_BYTES` and a
    centred copy of the points.

    Args:
        points: [N, D].
        labels: [N], integers.
        rows: ids of a sample, [M]: the mean is over these, and distances are to these alone; all rows by default.

    Raises:
        UserError: shapes that do not fit, or fewer than 2 clusters, or as many as points.
    """
    points, labels = np.asarray(points), np.asarray(labels)
    if points.ndim != 2 or labels.shape != points.shape[:1]:
        raise UserError(f"points {list(points.shape)} and labels {list(labels.shape)}: give [N, D] and [N]")
    if rows is not None:
        points, labels = points[rows], labels[rows]
    names, cluster, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    if not 2 <= len(names) < len(points):
        raise UserError(
            f"{len(names)} clusters of {len(points)} rows: a silhouette needs 2 or more, and fewer than rows"
        )
    values = _silhouettes(jnp.asarray(points, jnp.result_type(points, float)), jnp.asarray(cluster), jnp.asarray(sizes))
    return float(np.mean(values))


@jax.jit
def _silhouettes(points: Array, cluster: Array, sizes: Array) -> Array:
    """Return the silhouette of each point [N]; clusters are numbered 0..K-1, with their sizes [K]."""
    centred = points - jnp.median(points, axis=0, keepdims=True)  # which a point far away does not move
    norms = jnp.sum(centred**2, axis=1)
    member = jax.nn.one_hot(cluster, len(sizes), dtype=points.dtype)  # [N, K]
    size = sizes.astype(points.dtype)

    def one(each: tuple[Array, Array, Array, Array]) -> Array:
        row, norm, own, place = each
        product = jnp.matmul(centred, row, precision="highest")
        # A row's distance to itself is 0, and not what rounding makes of it, whose root is much greater.
        distances = jnp.sqrt(jnp.maximum(norms + norm - 2 * product, 0)).at[place].set(0)
        sums = jnp.matmul(distances, member, precision="highest")  # [K]
        alone = size[own] == 1
        a = sums[own] / jnp.maximum(size[own] - 1, 1)
        b = jnp.min(jnp.where(jnp.arange(len(size)) == own, jnp.inf, sums / size))
        most = jnp.maximum(a, b)
        return jnp.where(alone | (most == 0), 0, (b - a) / jnp.where(most == 0, 1, most))

    block = max(1, BLOCK_BYTES // (3 * points.dtype.itemsize * len(points)))
    return jax.lax.map(one, (centred, norms, cluster, jnp.arange(len(points))), batch_size=block)


def _contingency(classes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return how many rows each class has in each cluster, [C, K]; every row and column has one."""
    classes, labels = np.asarray(classes), np.asarray(labels)
    if classes.ndim != 1 or classes.shape != labels.shape or classes.size == 0:
        raise UserError(f"classes {list(classes.shape)} and labels {list(labels.shape)}: give one of each a row")
    _, rows = np.unique(classes, return_inverse=True)
    _, columns = np.unique(labels, return_inverse=True)
    table = np.zeros((rows.max() + 1, columns.max() + 1), np.int64)
    np.add.at(table, (rows, columns), 1)
    return table


def _pairs(counts: np.ndarray) -> int:
    """Return how many pairs can be made within each of these counts, in all."""
    return int(np.sum(counts * (counts - 1)) // 2)
