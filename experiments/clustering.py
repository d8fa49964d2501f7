r"""K-means clustering of points, of news stories, or of the colours of an image.

  python -m experiments.clustering
  python -m experiments.clustering --dataset=newsgroups20
  python -m experiments.clustering --image=china

For each seed and number of clusters k, the best of several restarts is fitted to the training rows. The mean silhouette
of the validation rows chooses k. The classes of a data set are not used for that: at the end they are compared with the
clusters of the test rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from experiments import cluster_fits, color_quantization, frame
from experiments.cluster_fits import AGREEMENT, Cluster, Clusters, Fit
from mllab.errors import UserError
from mllab.report import draw, table
from mllab.report.report import Bullets, Drawing, Report, Section

CLUSTERS: Mapping[str, Sequence[int]] = {"newsgroups20": (20,)}  # default numbers of clusters, where not 2 to 10


@dataclass(frozen=True, kw_only=True)
class Settings(frame.Table, frame.Restarts, frame.Seeds, frame.Devices):
    """What can be set."""

    clusters: tuple[int, ...] | None = frame.wholes(
        None,
        help="Numbers of clusters to try, LOW:HIGH or A,B,C; of several the silhouette chooses. Default: 2:10; for "
        "newsgroups20 20; for an image 2,4,8,16,32,64.",
        low=2,
    )
    image: str | None = frame.text(
        None, help="Image to cluster the colours of: its path, or china or flower, which scikit-learn brings."
    )


@dataclass(frozen=True)
class Measurement:
    """The scores of every k, and the clusters of the chosen one, the largest first."""

    dataset: frame.DatasetFacts
    fits: list[Fit]
    chosen: int  # k
    rows_of_silhouette: int
    shown_seed: int  # of the least inertia; its clusters follow
    clusters: list[Cluster]
    shown: Clusters = frame.unsaved()
    counts: np.ndarray = frame.unsaved()  # their test rows by class, [k, C]
    points: np.ndarray = frame.unsaved()  # the test rows, [M, ...]


def measure(run: frame.Context, settings: Settings) -> Measurement | color_quantization.Measurement:
    """Cluster the training rows, choose k on the validation rows, and score the test rows."""
    if settings.image is not None:
        if settings.dataset is not None:
            raise UserError(f"--image={settings.image} --dataset={settings.dataset}: give one of them")
        return color_quantization.measure(run, settings.image, settings.clusters, settings.seeds, settings.restarts)
    with run.timed("data"):
        data = run.load(dataset=settings.dataset or "blobs")
        ks = settings.clusters or CLUSTERS.get(data.name, range(2, 11))
        if ks[-1] >= (fewest := min(map(len, vars(data.split).values()))):
            raise UserError(f"--clusters: {ks[-1]} clusters of {fewest} rows: give fewer, or more rows")
    run.progress.task(f"{data.name}, {table.ranged(ks)} clusters", settings.seeds * len(ks))
    found = []
    with run.timed("clusters and scores"):
        for one in cluster_fits.fit(data, ks, range(settings.seeds), settings.restarts, run.mesh()):
            run.record([{"seed": one.seed, "k": one.k, "inertia": one.inertia, "steps": one.steps, **one.scores}])
            run.progress.advance()
            found.append(one)
    fits = [cluster_fits.over_seeds(found, k) for k in ks]
    chosen = max(fits, key=lambda fit: fit.silhouette.mean).k  # ties: the fewest clusters
    shown = cluster_fits.largest_first(min((one for one in found if one.k == chosen), key=lambda one: one.inertia))
    clusters, counts = cluster_fits.describe(data, shown)
    sample = min(len(data.split.validation), cluster_fits.MAX_SILHOUETTE_ROWS)
    facts, points = frame.DatasetFacts.of(data), data.inputs[data.split.test]
    return Measurement(facts, fits, chosen, sample, shown.seed, clusters, shown, counts, points)


def report(run: frame.Context, settings: Settings, measured: Measurement | color_quantization.Measurement) -> Report:
    """Report the scores of every k, and the clusters of the chosen one."""
    del run
    if isinstance(measured, color_quantization.Measurement):
        return color_quantization.report(measured, settings.seeds, settings.restarts)
    data, fits, k, seeds = measured.dataset, measured.fits, measured.chosen, settings.seeds
    ks, agreement = [fit.k for fit in fits], AGREEMENT if data.classes else {}
    best, several = fits[ks.index(k)], len(ks) > 1
    lead = f"Of {table.ranged(ks)} clusters, {k} have the greatest mean silhouette:"
    answer = f"{lead if several else f'The mean silhouette of {k} clusters is'} {table.interval(best.silhouette)}"
    answer += " on validation rows."
    if agreement:
        scores = ", ".join(f"{title} {table.interval(getattr(best, score))}" for score, title in agreement.items())
        answer += f" Against the {len(data.classes)} classes, which were not used, test rows score {scores}."
    cells = [[fit.distance["training"], fit.silhouette, *(getattr(fit, score) for score in agreement)] for fit in fits]
    result = table.Table(
        ["clusters", "distance²", "silhouette", *agreement.values()],
        [[k, *map(table.interval, intervals)] for k, intervals in zip(ks, cells, strict=True)],
        ks.index(k) if several else None,
        "distance²: mean squared distance of training rows to their centre; silhouette: of validation rows"
        + "; agreement with the classes: of test rows" * bool(agreement)
        + (f"; ± 95% interval over {seeds} seeds" if seeds > 1 else "; one seed: no interval")
        + "; marked: the greatest mean silhouette" * several,
    )
    clusters = cluster_table(measured)
    caveats = [
        f"Of the {settings.restarts} k-means++ restarts of each seed and k, the one of least inertia is kept.",
        f"The silhouette is that of {measured.rows_of_silhouette:,} validation rows, in the clusters of their nearest "
        f"centres. {'Its mean over seeds chose k, without the classes.' if several else 'There was only one k.'}",
        "Distances are Euclidean: k-means looks for round clusters of one size, and cuts others where it must.",
        "Intervals are over random starts on this split, not over other data.",
    ]
    if agreement:
        caveats += [
            "V-measure, adjusted Rand index and purity are 1 for full agreement. The adjusted Rand index of random "
            "clusters is 0; purity and V-measure increase with the number of clusters."
        ]
    return Report(
        title=f"Clusters of {data.name}",
        question=f"What clusters does {data.name} have"
        + (f", and do they agree with its {len(data.classes)} classes?" if agreement else "?"),
        answer=answer,
        table=result,
        sections=[
            Section("How many clusters", [cluster_fits.choice(fits, k, seeds)] if several else []),
            Section(f"The {k} clusters", [clusters, *drawings(measured)]),
            Section("How to read it", [Bullets(caveats)]),
        ],
        facts={
            "data set": data.described(),
            "rows": "{train:,} to fit, {validation:,} to choose k, {test:,} to report".format(**data.rows),
            "k-means": f"{settings.restarts} restarts for each k and seed; seeds {table.listed(range(seeds))}",
        },
        tables=[clusters],
    )


def held(measured: Measurement) -> list[tuple[str, str]]:
    """Return the most frequent class of each cluster and its share, as text; empty where there is none."""
    classes = measured.dataset.classes
    return [
        (table.legible(classes[row.argmax()]), table.share(row.max() / row.sum(), 0))
        if classes and row.any()
        else ("", "")
        for row in measured.counts
    ]


def cluster_table(measured: Measurement) -> table.Table:
    """Return a row for each cluster of the chosen k: its size, most frequent class, and characteristic words."""
    columns: dict[str, Sequence[str]] = {"cluster": [str(i + 1) for i in range(measured.chosen)]}
    columns["test rows"] = [f"{cluster.size:,}" for cluster in measured.clusters]
    if measured.dataset.classes:
        columns[f"most frequent {measured.dataset.target}"], columns["share"] = zip(*held(measured), strict=True)
    if any(cluster.terms for cluster in measured.clusters):
        columns["characteristic words"] = [", ".join(cluster.terms) for cluster in measured.clusters]
    caption = f"clusters of seed {measured.shown_seed}, which has the least inertia"
    if "characteristic words" in columns:
        caption += "; words by their mean TF-IDF in the cluster's training rows less that in all"
    return table.Table(list(columns), list(zip(*columns.values(), strict=True)), caption=caption)


def drawings(measured: Measurement) -> list[Drawing]:
    """Draw the clusters in the plane, their means as images, and their classes, where the data have such."""
    data, k, shown, counts = measured.dataset, measured.chosen, measured.shown, measured.counts
    name, drawn = table.legible(data.name), []
    if data.shape == (2,):
        title, (x, y) = f"{name}: test rows in {k} clusters", data.features
        figure = draw.clusters(measured.points, shown.labels["test"], shown.centres, title=title, x_label=x, y_label=y)
        caption = "The cells are those of a Voronoi diagram: convex, whatever the shape of the data."
        drawn.append(Drawing("plane", figure, "Test rows by cluster, with the centres", caption))
    if len(data.shape) == 3:
        captions = [f"{i}: {label}, {share}" if label else str(i) for i, (label, share) in enumerate(held(measured), 1)]
        images = list(shown.centres.reshape(-1, *data.shape))
        figure = draw.side_by_side(images, captions, title=f"{name}: the mean of each cluster", columns=5)
        caption = "The mean of each cluster's training rows, and the most frequent class of its test rows."
        drawn.append(Drawing("centres", figure, "The centre of each cluster as an image", caption))
    if data.classes:
        rows = [f"{i}: {cluster.size:,} rows" for i, cluster in enumerate(measured.clusters, 1)]
        title = f"{name}: {k} clusters and {len(data.classes)} classes"
        caption = "One dark cell in a row: a cluster of one class. Several in a column: a class in several clusters."
        figure = draw.contingency(counts, rows, data.classes, title=title)
        drawn.append(Drawing("classes", figure, "Test rows of each cluster, by class", caption))
    return drawn


main, run = frame.program(Settings, measure, report, all_cores=True)

if __name__ == "__main__":
    main()
