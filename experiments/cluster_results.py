"""The clusters of the chosen k and the scores of every k, in tables and drawings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments import answers
from experiments.frame import DatasetFacts, unsaved
from mllab.clustering import AGREEMENT, Clusters, Fit
from mllab.data.dataset import Dataset
from mllab.metrics import Interval, Ranking
from mllab.report import draw
from mllab.report.report import Drawing
from mllab.report.table import Table, interval, legible, number, ranged, share

TERMS = 5  # characteristic words of a cluster


@dataclass(frozen=True)
class Cluster:
    """One cluster of the chosen k."""

    size: int  # test rows
    holds: Mapping[str, Any] | None  # the most frequent class among them, and its share
    terms: list[str]  # characteristic words, where rows are documents
    counts: np.ndarray = unsaved()  # test rows by class, [C]; [1] where rows have no classes


def describe(data: Dataset, shown: Clusters) -> list[Cluster]:
    """Return the size of each cluster, its most frequent class and its characteristic words."""
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
        clusters.append(Cluster(int(row.sum()), holds, words, row))
    return clusters


def majority(cluster: Cluster) -> tuple[str, str]:
    """Return the most frequent class of a cluster and its share, as text; empty where there is none."""
    return (legible(cluster.holds["class"]), share(cluster.holds["share"], 0)) if cluster.holds else ("", "")


def table(clusters: Sequence[Cluster], data: DatasetFacts, seed: int) -> Table:
    """Return a row for each cluster of the chosen k: its size, most frequent class, and characteristic words."""
    columns: dict[str, Sequence[str]] = {"cluster": [str(i) for i in range(1, len(clusters) + 1)]}
    columns["test rows"] = [f"{cluster.size:,}" for cluster in clusters]
    caption = f"clusters of seed {seed}, which has the least inertia"
    if data.classes:
        texts = [majority(cluster) for cluster in clusters]
        columns[f"most frequent {data.target}"], columns["share"] = zip(*texts, strict=True)
    if any(cluster.terms for cluster in clusters):
        columns["characteristic words"] = [", ".join(cluster.terms) for cluster in clusters]
        caption += "; words by their mean TF-IDF in the cluster's training rows less that in all"
    return Table(list(columns), list(zip(*columns.values(), strict=True)), caption=caption)


def drawings(clusters: Sequence[Cluster], data: DatasetFacts, shown: Clusters, points: np.ndarray) -> list[Drawing]:
    """Draw the clusters in the plane, their means as images, and their classes, where the data have such."""
    name, drawn = legible(data.name), []
    if data.shape == (2,):
        title, (x, y) = f"{name}: test rows in {shown.k} clusters", data.features
        figure = draw.clusters(points, shown.labels["test"], shown.centres, title=title, x_label=x, y_label=y)
        caption = "The cells are those of a Voronoi diagram: convex, whatever the shape of the data."
        drawn.append(Drawing("plane", figure, "Test rows by cluster, with the centres", caption))
    if len(data.shape) == 3:
        texts = [majority(cluster) for cluster in clusters]
        captions = [f"{i}: {label}, {part}" if label else str(i) for i, (label, part) in enumerate(texts, 1)]
        images = list(shown.centres.reshape(-1, *data.shape))
        figure = draw.side_by_side(images, captions, title=f"{name}: the mean of each cluster", columns=5)
        caption = "The mean of each cluster's training rows, and the most frequent class of its test rows."
        drawn.append(Drawing("centres", figure, "The centre of each cluster as an image", caption))
    if data.classes:
        rows = [f"{i}: {cluster.size:,} rows" for i, cluster in enumerate(clusters, 1)]
        title = f"{name}: {shown.k} clusters and {len(data.classes)} classes"
        figure = draw.contingency(np.stack([each.counts for each in clusters]), rows, data.classes, title=title)
        caption = "One dark cell in a row: a cluster of one class. Several in a column: a class in several clusters."
        drawn.append(Drawing("classes", figure, "Test rows of each cluster, by class", caption))
    return drawn


def answer(
    fits: Sequence[Fit],
    standing: Ranking[int],
    chance: Mapping[str, float],
    beats_chance: bool,
    data: DatasetFacts,
) -> str:
    """Return which number of clusters is best or tied, and how well its clusters agree with the classes."""
    k, ks, seeds = standing.best, [fit.k for fit in fits], answers.counted(standing.seeds, "seed")
    best, others = fits[ks.index(k)], [other for other in standing.tied if other != k]
    lead = f"Of {ranged(ks)} clusters, {k} have the greatest mean silhouette:"
    text = f"{lead if len(ks) > 1 else f'The mean silhouette of {k} clusters is'} {interval(best.silhouette)} ({seeds})"
    text += f" on validation rows; random clusters of the same sizes: {number(chance['silhouette'])}."
    if len(ks) > 1 and not standing.is_compared:
        text += f" {seeds}: no comparison."
    elif others:
        text += f" Tied with them, on the same seeds: {answers.ranges(others)} clusters."
    if data.classes:
        scores = ", ".join(f"{title} {interval(getattr(best, score))}" for score, title in AGREEMENT.items())
        random = ", ".join(f"{title} {number(chance[score])}" for score, title in AGREEMENT.items())
        text += f" Against the {len(data.classes)} classes, which were not used, test rows score {scores}; random "
        text += f"clusters: {random}."
    judged = "agreement with the classes" if data.classes else "silhouette"
    return text if beats_chance else f"{text} Their {judged} is not clearly better than that of random clusters."


def score_table(fits: Sequence[Fit], standing: Ranking[int], chance: Mapping[str, float], data: DatasetFacts) -> Table:
    """Return a row for each number of clusters, and the baseline: distance, silhouette, agreement with the classes."""
    agreement = AGREEMENT if data.classes else {}
    cells = [[fit.distance["training"], fit.silhouette, *(getattr(fit, score) for score in agreement)] for fit in fits]
    rows: list[list[object]] = [[fit.k, *map(interval, row)] for fit, row in zip(fits, cells, strict=True)]
    rows.append([f"{standing.best} (random)", None, *(number(chance[name]) for name in ("silhouette", *agreement))])
    caption = [
        "distance²: mean squared distance of training rows to their centre; silhouette: of validation rows",
        "agreement with the classes: of test rows" * bool(agreement),
        answers.over(standing.seeds, "seed", comparison=len(fits) > 1),
        answers.marks(standing, "mean silhouette"),
        "last row: the baseline, random clusters of the same sizes",
    ]
    marked = [place for place, fit in enumerate(fits) if fit.k in standing.marked]
    columns = ["clusters", "distance²", "silhouette", *agreement.values()]
    return Table(columns, rows, marked, "; ".join(filter(None, caption)))


def choice(fits: Sequence[Fit], chosen: int, seeds: int) -> Drawing:
    """Draw the distance to the nearest centre (the elbow) and the silhouette against k."""
    ks = [fit.k for fit in fits]

    def series(part: str, intervals: list[Interval], best: float | None = None) -> draw.Series:
        return draw.Series.of_intervals(f"{part} rows", ks, intervals, name=part, best=best)

    distances = [series(part, [fit.distance[part] for fit in fits]) for part in ("training", "validation")]
    silhouettes = [series("validation", [fit.silhouette for fit in fits], chosen)]
    figure = draw.panels(
        [draw.Panel("mean squared distance to the centre", distances), draw.Panel("mean silhouette", silhouettes)],
        title=f"The silhouette is greatest at {chosen} clusters", x_label="clusters k",
        over=f"{seeds} seeds",
        note="Distances always fall with k: look for the elbow. Large marker: the chosen k.",
    )  # fmt: skip
    caption = (
        "A silhouette of 1: rows are much nearer to their own cluster than to any other; of 0: as near to the next."
    )
    return Drawing("choice", figure, "Distance to the nearest centre, and silhouette, against k", caption)
