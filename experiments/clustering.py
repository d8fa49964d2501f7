r"""Clusters by k-means: of points, of the colours of a picture, of news stories.

  python -m experiments.clustering
  python -m experiments.clustering --dataset=newsgroups20
  python -m experiments.clustering --image=china

For each seed and each k the best of many starts is fitted to the training rows. The silhouette of the validation rows
chooses k; classes, where there are any, have no say, and are looked at afterwards, on test rows.
"""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax.sharding import Mesh

from experiments import colours
from experiments import flags as shared
from experiments.workdir import Lines, Workdir, default_path, finite, flagfile, launch, process_seconds
from mllab import clusterings, devices, sweep
from mllab.data import catalog
from mllab.data.dataset import Dataset
from mllab.errors import UserError
from mllab.metrics import Interval, interval
from mllab.models import kmeans
from mllab.report import clustering as report
from mllab.report import console
from mllab.types import Array

for name in ("dataset", "target", "task", "restarts", "seeds", "split_seed", "workdir", "data_dir", "devices"):
    flags.declare_key_flag(name)
CLUSTERS = flags.DEFINE_string(
    "clusters",
    None,
    "Numbers of clusters to try: LOW:HIGH for all from LOW to HIGH, or numbers separated by commas; of several the "
    "silhouette chooses. Default: 2:10; of newsgroups20 20; of a picture 2,4,8,16,32,64.",
)
IMAGE = flags.DEFINE_string(
    "image", None, "A picture whose colours are clustered: its path, or china or flower, which scikit-learn carries."
)

POINTS = tuple(range(2, 11))  # numbers of clusters by default
ASKED: Mapping[str, Sequence[int]] = {"newsgroups20": (20,)}  # where they are others
AGREEMENT: Mapping[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "v_measure": clusterings.v_measure,
    "adjusted_rand": clusterings.adjusted_rand,
    "purity": clusterings.purity,
}
PARTS = ("train", "validation", "test")
MOST_ROWS = 4000  # validation rows whose silhouette is taken: it wants the distance of each to each
TERMS = 5  # words of a cluster


class Found(NamedTuple):
    """The clusters of one seed and k."""

    seed: int
    k: int
    inertia: float  # of the training rows
    steps: list[int]  # Lloyd's steps of each start
    centres: np.ndarray  # [k, D]
    labels: dict[str, np.ndarray]  # cluster of each row, by part of the split
    scores: dict[str, float]  # by the names that the report has for them


def parse_clusters(text: str) -> list[int]:
    """Return the numbers of LOW:HIGH (all between them, too) or `A,B,C`, ascending.

    Raises:
        UserError: it is neither, a number is below 2, or one stands twice.
    """
    parts = text.split(":") if ":" in text else text.split(",")
    if not all(part.strip().isdecimal() for part in parts) or (":" in text and len(parts) != 2):
        raise UserError(f"--clusters={text}: give LOW:HIGH, such as 2:10, or whole numbers, such as 5,10,20")
    numbers = [int(part) for part in parts]
    if min(numbers) < 2:
        raise UserError(f"--clusters={text}: give 2 clusters or more")
    if ":" in text and numbers[0] > numbers[1]:
        raise UserError(f"--clusters={text}: LOW must not exceed HIGH")
    if ":" in text:
        return list(range(numbers[0], numbers[1] + 1))
    if len(set(numbers)) < len(numbers):
        raise UserError(f"--clusters={text}: give each number once")
    return sorted(numbers)


def find(
    data: Dataset,
    ks: Sequence[int],
    seeds: Sequence[int],
    restarts: int,
    mesh: Mesh | None = None,
    observe: Callable[[Found], None] = lambda found: None,
) -> list[Found]:
    """Fit each k to the training rows from each seed's starts, and score it on all parts of the rows.

    Args:
        data: whose inputs are the points.
        ks: numbers of clusters.
        seeds: of the starts.
        restarts: starts of each seed and k, of which the best stays.
        mesh: devices to spread the training rows over.
        observe: told what was found, k by k, as each seed arrives.
    """
    points = data.inputs.reshape(len(data.inputs), -1)
    parts = {part: jnp.asarray(points[getattr(data.split, part)]) for part in PARTS}
    fit = sweep.over_points(
        functools.partial(kmeans.sweep, counts=ks, restarts=restarts), mesh, kmeans.SWEEP_POINT_AXES
    )
    every = []
    for seed in seeds:
        swept = fit(parts["train"], key=jax.random.key(seed))
        nearest = {part: jax.device_get(kmeans.assign(swept, rows)) for part, rows in parts.items()}
        fits = jax.device_get(swept)
        for place, k in enumerate(ks):
            labels = {part: label[place] for part, (label, _) in nearest.items()}
            scores = {
                "training": float(nearest["train"][1][place].mean()),
                "validation": float(nearest["validation"][1][place].mean()),
                **scored(data, parts["validation"], labels),
            }
            centres = fits.centres[place, :k]
            found = Found(seed, k, float(fits.inertia[place]), fits.steps[place].tolist(), centres, labels, scores)
            every.append(found)
            observe(found)
    return every


def scored(data: Dataset, validation: Array, labels: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Return the silhouette of validation rows, and how test rows agree with their classes, if they have any."""
    some = few(len(validation))
    told_apart = len(np.unique(labels["validation"][some])) > 1  # or one cluster has all of them
    silhouette = clusterings.silhouette(validation, labels["validation"], rows=some) if told_apart else 0.0
    scores = {"silhouette": silhouette}
    if data.task == "classification":
        classes = data.targets[data.split.test]
        scores |= {name: score(classes, labels["test"]) for name, score in AGREEMENT.items()}
    return scores


def few(count: int) -> np.ndarray:
    """Return the places of at most MOST_ROWS of so many rows, evenly spaced."""
    return np.unique(np.linspace(0, count - 1, min(count, MOST_ROWS)).round().astype(int))


def main(argv: Sequence[str]) -> None:
    """Read the flags and run."""
    devices.use_cores(shared.DEVICES.value)
    devices.cache_compilations()
    path = Path(shared.WORKDIR.value) if shared.WORKDIR.value else default_path("clustering")
    workdir = Workdir(path, "clustering", flagfile("__main__"))
    clusters = None if CLUSTERS.value is None else parse_clusters(CLUSTERS.value)
    fitting: dict[str, Any] = {"restarts": shared.RESTARTS.value, "seeds": range(shared.SEEDS.value)}
    if IMAGE.value is None:
        run(
            workdir,
            dataset=shared.DATASET.value or "blobs",
            clusters=clusters,
            data_dir=shared.DATA_DIR.value,
            split_seed=shared.SPLIT_SEED.value,
            target=shared.TARGET.value,
            task=shared.TASK.value,
            device_count=shared.DEVICES.value,
            **fitting,
        )
    elif shared.DATASET.value is None:
        colours.run(workdir, IMAGE.value, clusters, device_count=shared.DEVICES.value, **fitting)
    else:
        raise UserError(f"--image={IMAGE.value} --dataset={shared.DATASET.value}: give one of them")


def run(
    workdir: Workdir,
    *,
    dataset: str = "blobs",
    clusters: Sequence[int] | None = None,
    data_dir: str | None = None,
    split_seed: int = 0,
    target: str | None = None,
    task: str | None = None,
    restarts: int = 10,
    seeds: Sequence[int] = (0, 1, 2),
    device_count: int | None = None,
) -> dict[str, Any]:
    """Find clusters, write the workdir, show the tables; return the summary that summary.json holds.

    There is nothing to resume: the same workdir again repeats the run, to the same bits.

    Args:
        workdir: where to write.
        dataset: whose inputs are clustered, whatever its task.
        clusters: numbers of them, ascending; by default those that --clusters tells.
        data_dir: where to look for data first.
        split_seed: of the split, where the set brings none.
        target: column of a table of your own that is left out of the points; its classes are compared with.
        task: what that column is.
        restarts: starts of each seed and k.
        seeds: of the starts.
        device_count: devices to spread the training rows over (default: all).
    """
    seconds = {"start and imports": process_seconds()}
    began = time.perf_counter()
    clusters = list(clusters or ASKED.get(dataset, POINTS))
    data = catalog.load(dataset, data_dir=data_dir, split_seed=split_seed, target=target, task=task)
    fewest = min(len(getattr(data.split, part)) for part in PARTS)
    if clusters[-1] >= fewest:
        raise UserError(f"--clusters: {clusters[-1]} clusters of {fewest} rows: give fewer, or more rows")
    mesh = devices.mesh(device_count)
    seconds["data"] = time.perf_counter() - began
    with workdir.opened():
        environment = workdir.write_environment(data.sha256, count=mesh.size)
        began = time.perf_counter()
        with Lines(workdir.path / "metrics.jsonl") as lines, console.Progress() as progress:
            told = f"{clusters[0]} to {clusters[-1]} clusters" if len(clusters) > 1 else f"{clusters[0]} clusters"
            progress.task(f"{data.name}, {told}", total=len(seeds) * len(clusters))

            def observe(found: Found) -> None:
                record = {"seed": found.seed, "k": found.k, "inertia": found.inertia, "steps": found.steps}
                lines.add([record | found.scores])
                progress.advance()

            every = find(data, clusters, seeds, restarts, mesh, observe)
        seconds["clusters and scores"] = time.perf_counter() - began
        summary, shown = summarise(data, every, split_seed, restarts)
        write_report(workdir, data, summary, shown, environment, seconds)
    console.show(report.fit_table(summary))
    print()
    console.show(report.cluster_table(summary))
    print(f"\n{report.answer(summary)}\nReport: {workdir.path / 'report.html'}")
    return summary


def summarise(data: Dataset, every: Sequence[Found], split_seed: int, restarts: int) -> tuple[dict[str, Any], Found]:
    """Return the final figures as plain values, ready for JSON, and the clusters that are shown."""
    ks = list(dict.fromkeys(found.k for found in every))

    def over_seeds(k: int, score: str) -> Interval:
        return interval(np.array([found.scores[score] for found in every if found.k == k]))

    chosen = max(ks, key=lambda k: over_seeds(k, "silhouette").mean)  # of equal ones the fewest clusters
    shown = largest_first(min((found for found in every if found.k == chosen), key=lambda found: found.inertia))
    has_classes = data.task == "classification"
    summary = {
        "experiment": "clustering",
        "dataset": {
            "name": data.name,
            "rows": {part: len(getattr(data.split, part)) for part in ("train", "validation", "test")},
            "dimensions": int(np.prod(data.inputs.shape[1:])),
            "task": data.task,
            "classes": list(data.classes),
            "target": data.target,
            "licence": data.licence,
            "citation": data.citation,
            "notes": list(data.notes),
        },
        "split_seed": split_seed,
        "seeds": list(dict.fromkeys(found.seed for found in every)),
        "restarts": restarts,
        "fits": [
            {
                "k": k,
                "distance": {part: over_seeds(k, part) for part in ("training", "validation")},
                **{score: over_seeds(k, score) for score in ("silhouette", *(AGREEMENT if has_classes else ()))},
            }
            for k in ks
        ],
        "chosen": chosen,
        "given": len(ks) == 1,
        "rows_of_silhouette": len(few(len(data.split.validation))),
        "shown_seed": shown.seed,
        "clusters": described(data, shown),
    }
    return summary, shown


def largest_first(found: Found) -> Found:
    """Return the same clusters, that of most test rows first."""
    order = np.argsort(-np.bincount(found.labels["test"], minlength=found.k), kind="stable")
    rank = np.argsort(order)
    return found._replace(
        centres=found.centres[order], labels={part: rank[labels] for part, labels in found.labels.items()}
    )


def described(data: Dataset, found: Found) -> list[dict[str, Any]]:
    """Return size, class most held and top words of each cluster."""
    terms: list[list[str]] = [[] for _ in range(found.k)]
    if hasattr(data, "tfidf"):
        from mllab.data.readers import text  # brings scikit-learn, which has been loaded for such data alone

        assert isinstance(data, text.Documents)
        terms = text.top_terms(data, data.split.train, found.labels["train"], found.k, TERMS)
    sizes = np.bincount(found.labels["test"], minlength=found.k)
    counts = held_counts(data, found)
    return [
        {
            "size": int(size),
            "holds": None
            if counts is None or not size
            else {
                "class": data.classes[counts[cluster].argmax()],
                "share": float(counts[cluster].max() / size),
            },
            "terms": terms[cluster],
        }
        for cluster, size in enumerate(sizes)
    ]


def held_counts(data: Dataset, found: Found) -> np.ndarray | None:
    """Return the test rows of each cluster and class, [K, C]; None where rows have no classes."""
    if data.task != "classification":
        return None
    counts = np.zeros((found.k, len(data.classes)), int)
    np.add.at(counts, (found.labels["test"], data.targets[data.split.test]), 1)
    return counts


def write_report(
    workdir: Workdir,
    data: Dataset,
    summary: dict[str, Any],
    shown: Found,
    environment: Mapping[str, Any],
    seconds: dict[str, float],
) -> None:
    """Write the figures, the page and summary.json."""
    from mllab.report import page
    from mllab.report.cluster_panels import Plane

    began = time.perf_counter()
    shape, plane, centres = data.inputs.shape[1:], None, None
    if shape == (2,):
        axes = data.features[0], data.features[1]
        plane = Plane(data.inputs[data.split.test], shown.labels["test"], shown.centres, axes)
    if len(shape) == 3:
        centres = shown.centres.reshape(-1, *shape)
    figures = report.figures(
        finite(summary), workdir.path / "figures", plane=plane, counts=held_counts(data, shown), centres=centres
    )
    seconds["figures"] = time.perf_counter() - began
    summary["seconds"] = seconds | {"total": process_seconds()}
    page.write(workdir.path / "report.html", report.page(finite(summary), figures, environment, workdir.command))
    workdir.write_json("summary.json", summary)


if __name__ == "__main__":
    launch(main)
