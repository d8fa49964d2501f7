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
from typing import Any

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
class Measurement:
    """The scores of every k, and the clusters of the chosen one, the largest first."""

    dataset: frame.DatasetFacts
    fits: list[Fit]
    chosen: int  # k
    rows_of_silhouette: int
    shown_seed: int
    clusters: list[Mapping[str, Any]]  # size (test rows), the class it holds most of with its share, and terms of each
    terms: list[list[str]] = frame.unsaved()  # characteristic words of each cluster, where rows are documents
    counts: np.ndarray = frame.unsaved()  # test rows of each cluster and class, [k, C]
    centres: np.ndarray = frame.unsaved()  # [k, D]
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
        ids = vars(data.split)
        if ks[-1] >= (fewest := min(map(len, ids.values()))):
            raise UserError(f"--clusters: {ks[-1]} clusters of {fewest} rows: give fewer, or more rows")
        parts = {part: jnp.asarray(data.inputs[rows]).reshape(len(rows), -1) for part, rows in ids.items()}
        mesh = run.mesh()
    classes = data.targets[data.split.test] if data.classes else np.zeros(len(data.split.test), int)
    sweeps = []  # scores by name [L], centres [L, k, D] and labels by part [L, M] of each seed
    run.progress.task(f"{data.name}, {table.ranged(ks)} clusters", settings.seeds)
    with run.timed("clusters and scores"):
        for seed in range(settings.seeds):
            swept = kmeans.sweep(jax.random.key(seed), parts["train"], ks, restarts=settings.restarts, mesh=mesh)
            nearest = {part: jax.device_get(kmeans.assign(swept, points)) for part, points in parts.items()}
            fits, labels = jax.device_get(swept), {part: near for part, (near, _) in nearest.items()}
            scores: dict[str, Any] = {"inertia": fits.inertia, "steps": fits.steps}
            scores |= {name: nearest[part][1].mean(axis=1) for name, part in DISTANCES.items()}
            scores |= {"silhouette": [silhouette(parts["validation"], each) for each in labels["validation"]]}
            for name in AGREEMENT if data.classes else ():
                scores[name] = [getattr(clusterings, name)(classes, each) for each in labels["test"]]
            run.record({"seed": seed, "k": k} | {name: scores[name][i] for name in scores} for i, k in enumerate(ks))
            run.progress.advance()
            sweeps.append((scores, fits.centres, labels))
    by_seed = {name: np.array([scores[name] for scores, *_ in sweeps]) for name in sweeps[0][0]}  # [seeds, L]
    over_seeds = [{name: interval(values[:, i]) for name, values in by_seed.items() if name != "steps"} for i in range(len(ks))]
    best = max(range(len(ks)), key=lambda i: over_seeds[i]["silhouette"].mean)  # ties: the fewest clusters
    seed = int(by_seed["inertia"][:, best].argmin())
    labels = {part: each[best] for part, each in sweeps[seed][2].items()}
    counts = np.zeros((ks[best], max(1, len(data.classes))), int)
    np.add.at(counts, (labels["test"], classes), 1)
    order = np.argsort(-counts.sum(axis=1), kind="stable")
    counts, terms = counts[order], [[] for _ in order]
    if hasattr(data, "tfidf"):
        from mllab.data import text  # brings scikit-learn

        every = text.top_terms(data, data.split.train, labels["train"], ks[best], TERMS)
        terms = [every[cluster] for cluster in order]
    return Measurement(
        dataset=frame.DatasetFacts.of(data),
        fits=[
            Fit(k, {part: scores[part] for part in DISTANCES}, *map(scores.get, ("silhouette", *AGREEMENT)))
            for k, scores in zip(ks, over_seeds, strict=True)
        ],
        chosen=ks[best],
        rows_of_silhouette=min(len(data.split.validation), MAX_SILHOUETTE_ROWS),
        shown_seed=seed,
        clusters=[
            {
                "size": row.sum(),
                "holds": {"class": data.classes[row.argmax()], "share": row.max() / row.sum()}
                if data.classes and row.any()
                else None,
                "terms": words,
            }
            for row, words in zip(counts, terms, strict=True)
        ],
        terms=terms,
        counts=counts,
        centres=sweeps[seed][1][best, order],
        points=data.inputs[data.split.test],
        labels=np.argsort(order)[labels["test"]],
    )


def silhouette(points: jax.Array, labels: np.ndarray) -> float:
    """Return the mean silhouette of at most MAX_SILHOUETTE_ROWS rows, evenly spaced; 0 if one cluster has all of them."""
    rows = np.unique(np.linspace(0, len(labels) - 1, min(len(labels), MAX_SILHOUETTE_ROWS)).round().astype(int))
    return clusterings.silhouette(points, labels, rows=rows) if len(np.unique(labels[rows])) > 1 else 0.0


def report(run: frame.Context, settings: Settings, measured: Measurement | color_quantization.Measurement) -> Report:
    """Report the scores of every k, and the clusters of the chosen one."""
    if isinstance(measured, color_quantization.Measurement):
        return color_quantization.report(measured, settings.seeds, settings.restarts)
    from mllab.report import draw  # brings matplotlib

    data, fits, k, counts, seeds = measured.dataset, measured.fits, measured.chosen, measured.counts, settings.seeds
    name, ks, sizes = table.legible(data.name), [fit.k for fit in measured.fits], measured.counts.sum(axis=1)
    best, agreement = fits[ks.index(k)], AGREEMENT if data.classes else {}
    majority = [table.legible(data.classes[row.argmax()]) if data.classes and row.any() else None for row in counts]
    shares = counts.max(axis=1) / np.maximum(sizes, 1)
    over = f"{seeds} seeds" if seeds > 1 else ""
    answer = f"{name} in {k} clusters has a mean silhouette of {table.interval(best.silhouette)} on validation rows."
    if len(ks) > 1:
        answer = (
            f"Of {len(ks)} numbers of clusters from {ks[0]} to {ks[-1]}, k = {k} has the greatest mean silhouette: "
            f"{table.interval(best.silhouette)} on validation rows."
        )
    if agreement:
        scores = [f"{title} {table.interval(getattr(best, score))}" for score, title in agreement.items()]
        answer += f" Against the {len(data.classes)} classes, which were not used, test rows score {', '.join(scores)}."
    by_k = table.Table(
        ["clusters", "distance²", "silhouette", *agreement.values()],
        [
            [fit.k, *map(table.interval, (fit.distance["training"], fit.silhouette, *(getattr(fit, s) for s in agreement)))]
            for fit in fits
        ],
        best=ks.index(k) if len(ks) > 1 else None,
        caption="distance²: mean squared distance of training rows to the nearest centre; silhouette: of validation rows; "
        f"{'agreement with the classes: of test rows; ' * bool(agreement)}best of {settings.restarts} restarts; "
        f"{f'± 95% interval over {over}' if over else 'one seed: no interval'}{'; *: greatest mean silhouette' * (len(ks) > 1)}",
    )
    columns: dict[str, Sequence[object]] = {"cluster": range(1, k + 1), "test rows": [f"{size:,}" for size in sizes]}
    if agreement:
        columns |= {f"most frequent {data.target}": majority, "share": [table.share(share, 0) for share in shares]}
    if any(measured.terms):
        columns |= {"characteristic words": [", ".join(words) for words in measured.terms]}
    by_cluster = table.Table(
        list(columns),
        list(zip(*columns.values(), strict=True)),
        caption=f"clusters of the seed with the least inertia, {measured.shown_seed}"
        + "; words: mean TF-IDF in the cluster's training rows less that in all" * any(measured.terms),
    )
    drawings: list[Drawing] = []
    if len(ks) > 1:
        curves = {part: [fit.distance[part] for fit in fits] for part in DISTANCES}
        
