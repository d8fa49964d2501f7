r"""K-means clustering of points, of news stories, or of the colours of an image.

  python -m experiments.clustering
  python -m experiments.clustering --dataset=newsgroups20
  python -m experiments.clustering --dataset=table.csv --drop=id
  python -m experiments.clustering --image=china

For each seed and number of clusters k, the best of several restarts is fitted to the training rows. The mean silhouette
of the validation rows chooses k. The classes of a data set are not used for that: at the end they are compared with the
clusters of the test rows. All columns of a table are inputs, but for a --target to compare with.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from experiments import cluster_results as results
from experiments import color_quantization, frame
from mllab import clustering, metrics
from mllab.clustering import AGREEMENT, Clusters
from mllab.data.readers import image_file
from mllab.errors import UserError
from mllab.report import table
from mllab.report.report import Bullets, Report, Section

CLUSTERS: Mapping[str, Sequence[int]] = {"newsgroups20": (20,)}  # default numbers of clusters, where not 2 to 10


@dataclass(frozen=True, kw_only=True)
class Settings(frame.Table, frame.Restarts, frame.Seeds, frame.Devices):
    """What can be set."""

    dataset: str | None = frame.dataset(None, target=False, note="Default: blobs.")
    clusters: tuple[int, ...] | None = frame.wholes(
        None,
        help="Numbers of clusters to try, LOW:HIGH or A,B,C; of several the silhouette chooses. Default: 2:10; for "
        "newsgroups20 20; for an image 2,4,8,16,32,64.",
        low=2,
    )
    image: str | None = frame.path(
        None,
        names=image_file.BUNDLED,
        help="Image to cluster the colours of: its path, or china or flower, which scikit-learn brings.",
    )


@dataclass(frozen=True)
class Measurement:
    """The scores of every k, and the clusters of the chosen one, the largest first."""

    dataset: frame.DatasetFacts
    fits: list[clustering.Fit]
    chosen: int  # k; of the tied, the one with the greatest mean silhouette
    tied: list[int]  # k that are tied with the chosen one, by paired silhouettes; that one included; all on one seed
    baseline: Mapping[str, float]  # mean scores of random clusters of the sizes of those shown
    beats_baseline: bool  # whether the adjusted Rand index (without classes: the silhouette) is clearly above theirs
    rows_of_silhouette: int
    shown_seed: int  # of the least inertia; its clusters follow
    clusters: list[results.Cluster]
    shown: Clusters = frame.unsaved()
    points: np.ndarray = frame.unsaved()  # the test rows, [M, ...]
    standing: metrics.Ranking[int] = frame.unsaved()


def measure(run: frame.Context, settings: Settings) -> Measurement | color_quantization.Measurement:
    """Cluster the training rows, choose k on the validation rows, and score the test rows."""
    if settings.image is not None:
        if settings.dataset is not None:
            raise UserError(f"--image={settings.image} --dataset={settings.dataset}: give one of them")
        settings.refuse_table("of a table, and --image names an image; leave it out")
        return color_quantization.measure(run, settings.image, settings.clusters, settings.seeds, settings.restarts)
    with run.timed("data"):
        data = run.load(dataset=settings.dataset or "blobs")
        ks = settings.clusters or CLUSTERS.get(data.name, range(2, 11))
        if ks[-1] >= (fewest := min(map(len, vars(data.split).values()))):
            raise UserError(f"--clusters: {ks[-1]} clusters of {fewest} rows: give fewer, or more rows")
    run.progress.task(f"{data.name}, {table.ranged(ks)} clusters", settings.seeds * len(ks))
    points = {part: data.inputs[ids] for part, ids in vars(data.split).items()}
    classes, every = data.targets[data.split.test] if data.classes else None, []
    with run.timed("clusters and scores"):
        for one in clustering.fit(points, classes, ks, range(settings.seeds), settings.restarts, run.mesh()):
            run.record([{"seed": one.seed, "k": one.k, "inertia": one.inertia, "steps": one.steps, **one.scores}])
            run.progress.advance()
            every.append(one)
    fits = [clustering.over_seeds(every, k) for k in ks]
    silhouettes = {k: np.array([one.scores["silhouette"] for one in every if one.k == k]) for k in ks}
    standing = metrics.ranking(silhouettes)  # of equal means the fewest clusters
    shown = min((one for one in every if one.k == standing.best), key=lambda one: one.inertia).largest_first()
    with run.timed("random clusters"):
        chance = clustering.by_chance(shown, points["validation"], classes)
    best = fits[ks.index(standing.best)]
    judged = best.adjusted_rand or best.silhouette
    return Measurement(
        dataset=frame.DatasetFacts.of(data), fits=fits, chosen=standing.best, tied=standing.tied,
        baseline=chance.scores, beats_baseline=judged.mean > chance.high, clusters=results.describe(data, shown),
        rows_of_silhouette=min(len(data.split.validation), clustering.MAX_SILHOUETTE_ROWS), shown_seed=shown.seed,
        shown=shown, points=points["test"], standing=standing,
    )  # fmt: skip


def report(run: frame.Context, settings: Settings, measured: Measurement | color_quantization.Measurement) -> Report:
    """Report the scores of every k, and the clusters of the chosen one."""
    del run
    if isinstance(measured, color_quantization.Measurement):
        return color_quantization.report(measured, settings.seeds, settings.restarts)
    data, fits, k, seeds = measured.dataset, measured.fits, measured.chosen, settings.seeds
    ks, agreement = [fit.k for fit in fits], AGREEMENT if data.classes else {}
    several = len(ks) > 1
    clusters = results.table(measured.clusters, data, measured.shown_seed)
    drawings = results.drawings(measured.clusters, data, measured.shown, measured.points)
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
        answer=results.answer(fits, measured.standing, measured.baseline, measured.beats_baseline, data),
        table=results.score_table(fits, measured.standing, measured.baseline, data),
        sections=[
            Section("How many clusters", [results.choice(fits, k, seeds)] if several else []),
            Section(f"The {k} clusters", [clusters, *drawings]),
            Section("How to read it", [Bullets(caveats)]),
        ],
        facts={
            "data set": data.described(),
            "rows": "{train:,} to fit, {validation:,} to choose k, {test:,} to report".format(**data.rows),
            "k-means": f"{settings.restarts} restarts for each k and seed; seeds {table.listed(range(seeds))}",
        },
        tables=[clusters],
    )


main, run = frame.program(Settings, measure, report, all_cores=True)

if __name__ == "__main__":
    main()
