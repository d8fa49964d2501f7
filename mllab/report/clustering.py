"""Clusters found by k-means: tables, figures and page, from the plain summary that summary.json holds.

A summary has `dataset` (name, rows {train, validation, test}, dimensions, task, classes, target, licence, citation,
notes); `split_seed`, `seeds`, `restarts`; `fits`, for each k, ascending {k; distance {training, validation}, the mean
squared distance to the nearest centre; silhouette, of validation rows; where rows have classes v_measure,
adjusted_rand and purity, of test rows: each an interval over seeds}; `chosen` k, and `given`, whether there was no
other; `rows_of_silhouette`, how many it is of; `shown_seed`, the seed whose clusters are shown; and `clusters`, those
of the chosen k, largest first {size, test rows in it; holds {class, share} or None; terms that stand out in its
training rows, where rows are texts}. The page also wants `seconds` by part, with their total.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mllab.report import cluster_panels
from mllab.report import figures as draw
from mllab.report.classifier import seconds_table
from mllab.report.figures import Panel, Series
from mllab.report.page import Block, Bullets, Code, Definitions, Figure, Page, Section
from mllab.report.pictures import legible
from mllab.report.table import Table, number

Summary = Mapping[str, Any]

SCORES = {"v_measure": "V-measure", "adjusted_rand": "adjusted Rand", "purity": "purity"}


def fit_table(summary: Summary) -> Table:
    """Return a row for each k: how near the centres are, the silhouette, and the agreement with the classes."""
    scores = _scores(summary)
    rows = [
        [fit["k"], _shown(fit["distance"]["training"]), _shown(fit["silhouette"]), *(_shown(fit[s]) for s in scores)]
        for fit in summary["fits"]
    ]  # fmt: skip
    best = None if summary["given"] else [fit["k"] for fit in summary["fits"]].index(summary["chosen"])
    columns = ["clusters", "distance²", "silhouette", *(SCORES[score] for score in scores)]
    return Table(columns, rows, best, caption=_caption(summary))


def cluster_table(summary: Summary) -> Table:
    """Return a row for each cluster of the chosen k: its size, the class it holds most of, and its top words."""
    has_class = bool(summary["dataset"]["classes"])
    has_terms = any(cluster["terms"] for cluster in summary["clusters"])
    rows = [
        [
            str(place),
            f"{cluster['size']:,}",
            *([*_held(cluster)] if has_class else []),
            *([", ".join(cluster["terms"])] if has_terms else []),
        ]
        for place, cluster in enumerate(summary["clusters"], start=1)
    ]
    columns = ["cluster", "test rows", *([f"{summary['dataset']['target']} most held", "share"] if has_class else [])]
    caption = f"the clusters of seed {summary['shown_seed']}, whose centres are nearest to its training rows"
    if has_terms:
        columns.append("words that stand out")
        caption += "; words by their mean TF-IDF in the cluster's training rows, less that in all"
    return Table(columns, rows, caption=caption)


def answer(summary: Summary) -> str:
    """Return in a few sentences which k was chosen, and how its clusters agree with the classes."""
    fit, name = _chosen(summary), summary["dataset"]["name"]
    silhouette = f"silhouette {_shown(fit['silhouette'])} on validation rows"
    if summary["given"]:
        said = f"Into the {fit['k']} clusters that were asked for, {name} falls with {silhouette}."
    else:
        ks = [each["k"] for each in summary["fits"]]
        said = f"Of {len(ks)} numbers of clusters from {ks[0]} to {ks[-1]}, k = {fit['k']} has the best: {silhouette}."
    if not _scores(summary):
        return said
    count = len(summary["dataset"]["classes"])
    figures = ", ".join(f"{title} {_shown(fit[score])}" for score, title in SCORES.items())
    return f"{said} Against the {count} true classes, which had no say, test rows score {figures}."


def figures(
    summary: Summary,
    folder: Path,
    *,
    plane: cluster_panels.Plane | None = None,
    counts: np.ndarray | None = None,
    centres: np.ndarray | None = None,
) -> dict[str, Path]:
    """Draw what there is to see, and return it by name.

    Args:
        summary: see the module's docstring.
        folder: where to.
        plane: test rows and centres, where points have two columns.
        counts: test rows of each cluster and class, [K, C], in the order of `clusters`.
        centres: as pictures, [K, H, W, 1 or 3], in that order, where points are images.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name, k = summary["dataset"]["name"], summary["chosen"]
    drawn = {}
    if not summary["given"]:
        drawn["choice"] = _choice(summary)
    if plane is not None:
        drawn["plane"] = cluster_panels.plane(plane, title=f"{name}: test rows in {k} clusters")
    if centres is not None:
        captions = [_named(place, cluster) for place, cluster in enumerate(summary["clusters"], start=1)]
        drawn["centres"] = cluster_panels.pictures(
            list(centres), captions, title=f"{name}: the mean of each cluster", columns=5
        )
    if counts is not None:
        rows = [f"{place}: {each['size']:,} rows" for place, each in enumerate(summary["clusters"], start=1)]
        title = f"{name}: how the rows of {k} clusters fall on {len(summary['dataset']['classes'])} classes"
        drawn["classes"] = cluster_panels.contingency(counts, rows, summary["dataset"]["classes"], title=title)
    return {name: draw.save(figure, folder / f"{name}.svg") for name, figure in drawn.items()}


def _choice(summary: Summary):
    """Draw the mean squared distance (the elbow) and the silhouette against k."""
    ks = np.array([fit["k"] for fit in summary["fits"]], float)

    def series(label: str, name: str, intervals: Sequence[Sequence[float]], best: float | None = None) -> Series:
        mean, low, high = np.array([each[:3] for each in intervals], float).T
        bounds = {"low": low, "high": high} if np.isfinite(low).any() else {}
        return Series(label, ks, mean, **bounds, name=name, best=best)

    def distance(part: str) -> Series:
        return series(f"{part} rows", part, [fit["distance"][part] for fit in summary["fits"]])

    silhouette = series("validation rows", "validation", [f["silhouette"] for f in summary["fits"]], summary["chosen"])
    panels = [
        Panel("mean squared distance to the centre", [distance("training"), distance("validation")]),
        Panel("mean silhouette", [silhouette]),
    ]
    return draw.against_step(
        panels,
        title=f"The silhouette is best at {summary['chosen']} clusters",
        x_label="clusters k",
        seeds=len(summary["seeds"]),
        note="Distances always fall with k: look for the elbow. Large marker: the k chosen, by silhouette.",
    )


FIGURES = {  # by name: what it shows, and what to see in it
    "choice": (
        "Mean squared distance to the nearest centre, and mean silhouette, against the number of clusters",
        "A silhouette of 1: rows are far nearer to their own cluster than to any other; of 0: as near to the next.",
    ),
    "plane": (
        "Test rows in the colour of their cluster, with the centres",
        "The lines are as near to one centre as to another: cells of a Voronoi diagram, which are convex whatever the "
        "shape of the data.",
    ),
    "centres": (
        "The centre of each cluster as a picture",
        "The mean of the training rows in each cluster; below it the class that it holds most of.",
    ),
    "classes": (
        "Test rows of each cluster, by their true class",
        "One dark cell in a row: a cluster of one class. Several in a column: a class that fell apart.",
    ),
}


def page(summary: Summary, drawn: Mapping[str, Path], environment: Mapping[str, Any], command: str) -> Page:
    """Return the experiment's page.

    Args:
        summary: see the module's docstring.
        drawn: what `figures` returned.
        environment: what environment.json holds.
        command: what repeats the run.
    """
    name = summary["dataset"]["name"]
    shown = {which: Figure(path, *FIGURES[which]) for which, path in drawn.items()}
    blocks: dict[str, list[Block]] = {
        "The result": [fit_table(summary), *(shown[which] for which in ("choice",) if which in shown)],
        f"The {summary['chosen']} clusters": [
            *(shown[which] for which in ("plane", "centres") if which in shown),
            cluster_table(summary),
            *(shown[which] for which in ("classes",) if which in shown),
        ],
        "How to read it": [Bullets(_caveats(summary))],
        "Where the time went": [seconds_table(summary)],
        "How it was run": [Definitions(_how(summary, environment))],
        "Repeat it": [Code(command), "On the same versions and devices it ends with the same bits."],
    }
    return Page(
        title=f"Clusters of {name}",
        question=f"Into which clusters does {name} fall"
        + (f", and do they agree with its {len(summary['dataset']['classes'])} classes?" if _scores(summary) else "?"),
        answer=answer(summary),
        sections=[Section(heading, each) for heading, each in blocks.items()],
    )


def _chosen(summary: Summary) -> Mapping[str, Any]:
    return next(fit for fit in summary["fits"] if fit["k"] == summary["chosen"])


def _scores(summary: Summary) -> list[str]:
    """Return the scores that the fits have: none where rows have no classes."""
    return [score for score in SCORES if score in summary["fits"][0]]


def _shown(interval: Sequence[float]) -> str:
    return number(*(float("nan") if bound is None else bound for bound in interval[:3]))


def _held(cluster: Mapping[str, Any]) -> tuple[str | None, str | None]:
    held = cluster["holds"]
    return (held["class"], f"{held['share']:.0%}") if held else (None, None)


def _named(place: int, cluster: Mapping[str, Any]) -> str:
    held = cluster["holds"]
    return f"{place}: {legible(held['class'])}, {held['share']:.0%}" if held else str(place)


def _caption(summary: Summary) -> str:
    seeds = len(summary["seeds"])
    said = ["squared distance to the nearest centre: mean of training rows; silhouette: of validation rows"]
    if _scores(summary):
        said.append("agreement with the classes: of test rows")
    said.append(f"the best of {summary['restarts']} starts" if summary["restarts"] > 1 else "one start")
    said.append(f"± 95% interval over {seeds} seeds of the starts" if seeds > 1 else "one seed: no interval")
    if not summary["given"]:
        said.append("*: the best mean silhouette; classes had no say")
    return "; ".join(said)


def _caveats(summary: Summary) -> list[str]:
    """Return what must be known to read the figures rightly."""
    rows = summary["dataset"]["rows"]
    said = [
        f"Centres are fitted to {rows['train']:,} training rows by k-means, started by k-means++: of each seed's "
        f"{summary['restarts']} starts the one stays whose centres are nearest.",
        f"The silhouette is that of {summary['rows_of_silhouette']:,} validation rows, each in the cluster of its "
        "nearest centre. "
        + ("There was one k, which was given." if summary["given"] else "Its mean over seeds chose k; labels did not."),
    ]
    if _scores(summary):
        said += [
            f"V-measure, adjusted Rand index and purity compare the clusters of {rows['test']:,} test rows with their "
            "classes, after everything was chosen; of each, 1 is full agreement. The adjusted Rand index of clusters "
            "at random is 0; purity and V-measure rise with the number of clusters by themselves.",
        ]
    said.append(
        "Distances are Euclidean: k-means looks for round clusters of one size, and cuts others where it must. "
        "Intervals tell what other starts would give on this split, and nothing of other data."
    )
    return said


def _how(summary: Summary, environment: Mapping[str, Any]) -> dict[str, str | list[str]]:
    data = summary["dataset"]
    rows = data["rows"]
    how: dict[str, str | list[str]] = {
        "data set": [f"{data['name']}: {data['dimensions']:,} columns", *data["notes"]],
        "rows": f"{rows['train']:,} to fit, {rows['validation']:,} to choose k, {rows['test']:,} to report "
        f"(--split_seed {summary['split_seed']})",
        "source": [
            line for line in (data["citation"], f"licence: {data['licence']}" if data["licence"] else "") if line
        ],
        "sha256": [f"{file} {digest}" for file, digest in environment["data"].items()],
        "k-means": f"{summary['restarts']} starts by k-means++ for each seed and k",
        "seeds": ", ".join(map(str, summary["seeds"])),
        "versions": ", ".join(f"{package} {version}" for package, version in environment["versions"].items()),
        "devices": f"{environment['devices']['count']} × {environment['devices']['kind']} "
        f"({environment['devices']['platform']})",
        "code": environment["git_commit"] or "not a git checkout",
    }
    return {name: value for name, value in how.items() if value}
