"""K-means for every seed and number of clusters, and their scores over the seeds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from mllab import sweep
from mllab.data.dataset import Dataset
from mllab.metrics import Interval, clustering, interval
from mllab.models import kmeans
from mllab.report import draw
from mllab.report.report import Drawing

MAX_SILHOUETTE_ROWS = 4000  # a silhouette takes the distance between every two rows
PARTS = {"training": "train", "validation": "validation"}  # whose distance is a score
TERMS = 5  # characteristic words of a cluster
AGREEMENT = {"v_measure": "V-measure", "adjusted_rand": "adjusted Rand", "purity": "purity"}  # with the classes


class Clusters(NamedTuple):
    """The clusters of one seed and k."""

    seed: int
    k: int
    inertia: float  # of the training rows
    steps: list[int]  # Lloyd's steps of each restart
    scores: Mapping[str, float]
    centres: np.ndarray  # [k, D]
    labels: Mapping[str, np.ndarray]  # cluster of each row, by part of the split


@dataclass(frozen=True)
class Fit:
    """The scores of one k over the seeds; the last three only where rows have classes."""

    k: int
    distance: Mapping[str, Interval]  # mean squared distance to the nearest centre, of training and validation rows
    silhouette: Interval  # of validation rows
    v_measure: Interval | None = None  # of test rows, as the next two
    adjusted_rand: Interval | None = None
    purity: Interval | None = None


@dataclass(frozen=True)
class Cluster:
    """One cluster of the chosen k."""

    size: int  # test rows
    holds: Mapping[str, object] | None  # the most frequent class among them, and its share
    terms: list[str]  # characteristic words, where rows are documents


def fit(
    data: Dataset, ks: Sequence[int], seeds: Sequence[int], restarts: int, mesh: Mesh | None = None
) -> Iterator[Clusters]:
    """Yield the best of several restarts for each seed and k, fitted to the training rows, with its scores."""
    points = {part: jnp.asarray(data.inputs[ids]).reshape(len(ids), -1) for part, ids in vars(data.split).items()}
    one_seed = partial(kmeans.sweep, counts=tuple(ks), restarts=restarts)
    fit_all = sweep.over_points(one_seed, mesh, kmeans.SWEEP_POINT_AXES)
    for seed in seeds:
        fits = fit_all(points["train"], key=jax.random.key(seed))
        nearest = {part: jax.device_get(kmeans.assign(fits, rows)) for part, rows in points.items()}
        fits = jax.device_get(fits)
        for i, k in enumerate(ks):
            labels, squared = ({part: each[field][i] for part, each in nearest.items()} for field in (0, 1))
            scores: dict[str, Any] = {part: float(squared[rows].mean()) for part, rows in PARTS.items()}
            scores["silhouette"] = silhouette(points["validation"], labels["validation"])
            for score in AGREEMENT if data.classes else ():
                scores[score] = getattr(clustering, score)(data.targets[data.split.test], labels["test"])
            yield Clusters(seed, k, float(fits.inertia[i]), fits.steps[i].tolist(), scores, fits.centres[i, :k], labels)


def silhouette(points: jax.Array, labels: np.ndarray) -> float:
    """Return the mean silhouette of at most MAX_SILHOUETTE_ROWS rows, evenly spaced; 0 if all are in one cluster."""
    rows = np.unique(np.linspace(0, len(labels) - 1, min(len(labels), MAX_SILHOUETTE_ROWS)).round().astype(int))
    return clustering.silhouette(points, labels, rows=rows) if len(np.unique(labels[rows])) > 1 else 0.0


def over_seeds(clusters: Sequence[Clusters], k: int) -> Fit:
    """Return the scores of one k as intervals over the seeds."""
    scores = [each.scores for each in clusters if each.k == k]
    intervals = {name: interval(np.array([each[name] for each in scores])) for name in scores[0]}
    return Fit(k, {part: intervals.pop(part) for part in PARTS}, **intervals)


def largest_first(clusters: Clusters) -> Clusters:
    """Return the same clusters in descending order of their test rows."""
    order = np.argsort(-np.bincount(clusters.labels["test"], minlength=clusters.k), kind="stable")
    labels = {part: np.argsort(order)[each] for part, each in clusters.labels.items()}
    return clusters._replace(centres=clusters.centres[order], labels=labels)


def describe(data: Dataset, shown: Clusters) -> tuple[list[Cluster], np.ndarray]:
    """Return what clusters hold, and their test rows by class [k, C]; in one column where rows have no classes."""
    classes = data.targets[data.split.test] if data.classes else np.zeros(len(data.split.test), int)
    counts = np.zeros((shown.k, max(1, len(data.classes))), int)
    np.add.at(counts, (shown.labels["test"], classes), 1)
    terms: list[list[str]] = [[]] * shown.k
    if hasattr(data, "tfidf"):
        from mllab.data.readers import text  # brings scikit-learn

        assert isinstance(data, text.Documents)
        terms = text.top_terms(data, data.split.train, shown.labels["train"], shown.k, TERMS)
    clusters = []
    for row, words in zip(counts, terms, strict=True):
        has_class = bool(data.classes) and row.any()
        holds = {"class": data.classes[row.argmax()], "share": float(row.max() / row.sum())} if has_class else None
        clusters.append(Cluster(int(row.sum()), holds, words))
    return clusters, counts


def choice(fits: Sequence[Fit], chosen: int, seeds: int) -> Drawing:
    """Draw the distance to the nearest centre (the elbow) and the silhouette against k."""
    ks = [fit.k for fit in fits]

    def series(part: str, intervals: list[Interval], best: float | None = None) -> draw.Series:
        return draw.Series.of_intervals(f"{part} rows", ks, intervals, name=part, best=best)

    distances = [series(part, [fit.distance[part] for fit in fits]) for part in PARTS]
    silhouettes = [series("validation", [fit.silhouette for fit in fits], chosen)]
    panels = [draw.Panel("mean squared distance to the centre", distances), draw.Panel("mean silhouette", silhouettes)]
    title = f"The silhouette is greatest at {chosen} clusters"
    note = "Distances always fall with k: look for the elbow. Large marker: the chosen k."
    over = f"{seeds} seeds" if seeds > 1 else ""
    figure = draw.panels(panels, title=title, x_label="clusters k", over=over, note=note)
    caption = (
        "A silhouette of 1: rows are much nearer to their own cluster than to any other; of 0: as near to the next."
    )
    return Drawing("choice", figure, "Distance to the nearest centre, and silhouette, against k", caption)
