"""K-means for several seeds and numbers of clusters k, with the scores by which k is chosen and clusters are judged."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from mllab import memory, sweep
from mllab.metrics import Interval, clustering, interval
from mllab.models import kmeans

MAX_SILHOUETTE_ROWS = 4000  # a silhouette takes the distance between every two rows
AGREEMENT = {"v_measure": "V-measure", "adjusted_rand": "adjusted Rand", "purity": "purity"}  # with classes


class Clusters(NamedTuple):
    """The clusters of one seed and k."""

    seed: int
    k: int
    inertia: float  # of the training rows
    steps: list[int]  # Lloyd's steps of each restart
    scores: Mapping[str, float]  # see `fit`
    centres: np.ndarray  # [k, D]
    labels: Mapping[str, np.ndarray]  # cluster of each row, by part of the split

    def largest_first(self) -> Self:
        """Return the same clusters in descending order of their test rows."""
        order = np.argsort(-np.bincount(self.labels["test"], minlength=self.k), kind="stable")
        labels = {part: np.argsort(order)[each] for part, each in self.labels.items()}
        return self._replace(centres=self.centres[order], labels=labels)


@dataclass(frozen=True)
class Fit:
    """The scores of one k over the seeds; the last three only where rows have classes."""

    k: int
    distance: Mapping[str, Interval]  # mean squared distance to the nearest centre, of training and validation rows
    silhouette: Interval  # of validation rows
    v_measure: Interval | None = None  # of test rows, as the next two
    adjusted_rand: Interval | None = None
    purity: Interval | None = None


def fit(
    points: Mapping[str, np.ndarray],
    classes: np.ndarray | None,
    ks: Sequence[int],
    seeds: Sequence[int],
    restarts: int,
    mesh: Mesh | None = None,
) -> Iterator[Clusters]:
    """Yield the clusters of least inertia among several restarts, for each seed and k, with their scores.

    Scores: `training` and `validation`, the mean squared distance of these rows to the nearest centre; `silhouette`, of
    the validation rows; and, where rows have classes, those of `AGREEMENT`, of the test rows.

    Args:
        points: of the rows `train`, to which centres are fitted, `validation` and `test`, [M, ...] each.
        classes: of the test rows, [M], if they have any.
        ks: numbers of clusters.
        seeds: of the starts.
        restarts: of each seed and k.
        mesh: devices to spread the training rows over.

    Raises:
        UserError: see `check_memory`.
    """
    flat = {part: jnp.asarray(rows).reshape(len(rows), -1) for part, rows in points.items()}
    check_memory(flat["train"].shape, ks, restarts, len(seeds) * sum(map(len, flat.values())), mesh)
    one_seed = partial(kmeans.sweep, counts=tuple(ks), restarts=restarts)
    fit_all = sweep.over_points(one_seed, mesh, kmeans.SWEEP_POINT_AXES)
    for seed in seeds:
        fits = fit_all(flat["train"], key=jax.random.key(seed))
        nearest = {part: jax.device_get(kmeans.assign(fits, rows)) for part, rows in flat.items()}
        fits = jax.device_get(fits)
        for i, k in enumerate(ks):
            labels, squared = ({part: each[field][i] for part, each in nearest.items()} for field in (0, 1))
            scores: dict[str, Any] = {
                "training": float(squared["train"].mean()),
                "validation": float(squared["validation"].mean()),
                "silhouette": silhouette(flat["validation"], labels["validation"]),
            }
            for score in AGREEMENT if classes is not None else ():
                scores[score] = getattr(clustering, score)(classes, labels["test"])
            yield Clusters(seed, k, float(fits.inertia[i]), fits.steps[i].tolist(), scores, fits.centres[i, :k], labels)


def check_memory(
    shape: tuple[int, ...], ks: Sequence[int], restarts: int, labels: int = 0, mesh: Mesh | None = None
) -> None:
    """Check that the restarts of all numbers of clusters, which run at once, fit in memory.

    Estimated are the centres [L S, K, D] before and after a step and the labels and distances [L S, N], for L values of
    k up to K and S restarts, and the labels of the results.

    Args:
        shape: of the points, [N, D].
        ks: the values of k.
        restarts: S.
        labels: that the results hold for each k.
        mesh: the devices.

    Raises:
        UserError: they do not fit.
    """
    rows, features = shape
    needed = len(ks) * (restarts * 8 * (max(ks) * features + rows) + 4 * labels)
    what = f"the centres and labels of {restarts:,} restarts × {len(ks):,} numbers of clusters up to {max(ks):,}"
    memory.check(needed, what, "lower --restarts, --clusters or --seeds", [] if mesh is None else mesh.devices.flat)


def over_seeds(clusters: Sequence[Clusters], k: int) -> Fit:
    """Return the scores of one k as intervals over the seeds."""
    scores = [each.scores for each in clusters if each.k == k]
    intervals = {name: interval(np.array([each[name] for each in scores])) for name in scores[0]}
    return Fit(k, {part: intervals.pop(part) for part in ("training", "validation")}, **intervals)


def silhouette(points: jax.Array, labels: np.ndarray) -> float:
    """Return the mean silhouette of at most MAX_SILHOUETTE_ROWS rows, evenly spaced; 0 if all are in one cluster."""
    rows = np.unique(np.linspace(0, len(labels) - 1, min(len(labels), MAX_SILHOUETTE_ROWS)).round().astype(int))
    return clustering.silhouette(points, labels, rows=rows) if len(np.unique(labels[rows])) > 1 else 0.0
