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

import jax
import jax.numpy as jnp
import numpy as np

from experiments import color_quantization, frame
from mllab import clusterings
from mllab.data.dataset import Dataset
from mllab.errors import UserError
from mllab.metrics import Interval, interval
from mllab.models import kmeans
from mllab.report import table
from mllab.report.report import Bullets, Drawing, Report, Section

CLUSTERS: Mapping[str, Sequence[int]] = {"newsgroups20": (20,)}  # default numbers of clusters, where not 2 to 10
MAX_SILHOUETTE_ROWS = 4000  # a silhouette takes the distance between every two rows
TERMS = 5  # words that describe a cluster
AGREEMENT = {"v_measure": "V-measure", "adjusted_rand": "adjusted Rand", "purity": "purity"}  # with the classes


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
    holds: Mapping[str, str | float] | None  # the most frequent class among them, and its share
    terms: Sequence[str]  # characteristic words, where rows are documents


@dataclass(frozen=True)
class Measurement:
    """The scores of every k, and the clusters of the chosen one."""

    dataset: frame.DatasetFacts
    split_seed: int
    seeds: list[int]
    restarts: int
    fits: list[Fit]
    chosen: int  # k
    given: bool  # whether only one k was tried
    rows_of_silhouette: int
    shown_seed: int
    clusters: list[Cluster]  # of the chosen k and this seed, the largest first
    centres: np.ndarray = frame.unsaved()  # [k, D], in that order
    counts: np.ndarray = frame.unsaved()  # test rows of each cluster and class, [k, C]
    points: np.ndarray = frame.unsaved()  # test rows, [M, ...]
    labels: np.ndarray = frame.unsaved()  # their clusters, [M]


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
        parts = {part: jnp.asarray(data.inputs[ids]).reshape(len(ids), -1) for part, ids in vars(data.split).items()}
        mesh = run.mesh()
    records: list[dict[str, Any]] = []
    fitted = []  # centres, and the cluster of each row by part, of each record
    run.progress.task(f"{data.name}, {table.ranged(ks)} clusters", settings.seeds * len(ks))
    with run.timed("clusters and scores"):
        for seed in range(settings.seeds):
            swept = kmeans.sweep(jax.random.key(seed), parts["train"], ks, restarts=settings.restarts, mesh=mesh)
            nearest = {part: jax.device_get(kmeans.assign(swept, points)) for part, points in parts.items()}
            swept = jax.device_get(swept)
            for place, k in enumerate(ks):
                labels = {part: clusters[place] for part, (clusters, _) in nearest.items()}
                record = {"seed": seed, "k": k, "inertia": float(swept.inertia[place]), "steps": swept.steps[place]}
                for score, part in (("training", "train"), ("validation", "validation")):
                    record[score] = float(nearest[part][1][place].mean())
                record |= scores(data, parts["validation"], labels["validation"], labels["test"])
                records.append(record)
                fitted.append((swept.centres[place, :k], labels))
                run.record([record])
                run.progress.advance()
    fits = []
    for k in ks:
        of_k = [record for record in records if record["k"] == k]
        means = {name: interval(np.array([record[name] for record in of_k])) for name in list(of_k[0])[4:]}
        fits.append(Fit(k, {part: means.pop(part) for part in ("training", "validation")}, **means))
    chosen = max(fits, key=lambda fit: fit.silhouette.mean).k  # ties: the fewest clusters
    of_chosen = [index for index, record in enumerate(records) if record["k"] == chosen]
    shown = min(of_chosen, key=lambda index: records[index]["inertia"])
    centres, labels = fitted[shown]
    clusters, counts, order = describe(data, chosen, labels)
    return Measurement(
        frame.DatasetFacts.of(data),
        settings.split_seed,
        list(range(settings.seeds)),
        settings.restarts,
        fits,
        chosen,
        len(ks) == 1,
        len(silhouette_rows(len(data.split.validation))),
        records[shown]["seed"],
        clusters,
        centres[order],
        counts,
        data.inputs[data.split.test],
        np.argsort(order)[labels["test"]],
    )


def silhouette_rows(count: int) -> np.ndarray:
    """Return the ids of at most MAX_SILHOUETTE_ROWS of `count` rows, evenly spaced."""
    return np.unique(np.linspace(0, count - 1, min(count, MAX_SILHOUETTE_ROWS)).round().astype(int))


def scores(data: Dataset, points: jax.Array, validation: np.ndarray, test: np.ndarray) -> dict[str, float]:
    """Return the silhouette of validation rows and, if there are classes, the agreement of the test rows with them."""
    rows = silhouette_rows(len(validation))
    distinct = len(np.unique(validation[rows])) > 1  # otherwise one cluster has all of them
    silhouette = clusterings.silhouette(points, validation, rows=rows) if distinct else 0.0
    classes = data.targets[data.split.test]
    names = AGREEMENT if data.task == "classification" else ()
    return {"silhouette": silhouette} | {name: getattr(clusterings, name)(classes, test) for name in names}


def describe(
    data: Dataset, k: int, labels: Mapping[str, np.ndarray]
) -> tuple[list[Cluster], np.ndarray, np.ndarray]:
    """Return the clusters, the largest first, their test rows by class [k, C], and their order [k]."""
    classes = data.targets[data.split.test] if data.task == "classification" else np.zeros(len(labels["test"]), int)
    counts = np.zeros((k, max(1, len(data.classes))), int)
    np.add.at(counts, (labels["test"], classes), 1)
    terms: list[list[str]] = [[]] * k
    if hasattr(data, "tfidf"):
        from mllab.data import text  # brings scikit-learn

        assert isinstance(data, text.Documents)
        terms = text.top_terms(data, data.split.train, labels["train"], k, TERMS)
    order = np.argsort(-counts.sum(axis=1), kind="stable")
    counts, terms = counts[order], [terms[cluster] for cluster in order]
    clusters = []
    for row, words in zip(counts, terms, strict=True):
        size, majority = int(row.sum()), int(row.argmax())
        has_majority = size > 0 and len(data.classes) > 0
        holds = {"class": data.classes[majority], "share": float(row[majority] / size)} if has_majority else None
        clusters.append(Cluster(size, holds, words))
    return clusters, counts, order


def report(
    run: frame.Context, settings: Settings, measured: Measurement | color_quantization.Measurement
) -> Report:
    """Report the scores of every k, and the clusters of the chosen one."""
    if isinstance(measured, color_quantization.Measurement):
        return color_quantization.report(measured)
    from mllab.report.draw import curves, heatmap, images, plane  # bring matplotlib

    data, fits, k, seeds = measured.dataset, measured.fits, measured.chosen, len(measured.seeds)
    name, ks, rows = table.legible(data.name), [fit.k for fit in fits], data.rows
    fit = fits[ks.index(k)]
    agreement = AGREEMENT if fit.purity is not None else {}
    over = f"± 95% interval over {seeds} seeds of the restarts" if seeds > 1 else "one seed: no interval"
    caption = [
        "distance²: mean squared distance of training rows to the nearest centre; silhouette: of validation rows",
        *(["agreement with the classes: of test rows"] if agreement else []),
        f"the best of {measured.restarts} restarts" if measured.restarts > 1 else "one start",
        over,
        *([] if measured.given else ["*: the greatest mean silhouette, which does not depend on the classes"]),
    ]
    by_k = Table(
        ["clusters", "distance²", "silhouette", *agreement.values()],
        [
            [each.k, *map(table.interval, (each.distance["training"], each.silhouette, *(getattr(each, score) for score in agreement)))]
            for each in fits
        ],
        None if measured.given else ks.index(k),
        "; ".join(caption),
    )
    has_terms = any(cluster.terms for cluster in measured.clusters)
