"""Nearest neighbours: the tables, the figures and the page, from the plain summary that summary.json holds.

A summary has `dataset` (name, rows {learned from, available, test}, classes, shape, licence, citation, notes);
`split_seed`, `folds`, `rounds`; `scarce`, the classes of fewer rows than folds; `k` [{k, accuracy, the interval over
folds; by_fold}]; `chosen`, the k of best mean accuracy, and `held_out`, its interval; `test`, the share of right test
rows with its interval over rows; `baseline` {class, held_out, test} of the most frequent class; and `loops`, what
`experiments.loops.demonstrate` returns, or None. The page also wants `seconds` by part, with their total.

Pictures come by kind, `mistakes` or `hits`, of which any may be absent: test `images` [M, H, W, C], their `true` and
`predicted` classes [M], their `neighbors` [M, K, H, W, C], nearest first, and the `labels` [M, K] of these.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.figure
import numpy as np
from matplotlib.ticker import MaxNLocator

from mllab.report import figures as draw
from mllab.report import layout, pictures
from mllab.report.classifier import seconds_table
from mllab.report.layout import EDGE, LABEL, TICK
from mllab.report.page import Block, Bullets, Code, Definitions, Figure, Page, Section
from mllab.report.series import Series, span
from mllab.report.series import draw as draw_series
from mllab.report.table import Table, number

Summary = Mapping[str, Any]
Pictures = Mapping[str, Mapping[str, np.ndarray]]

LISTED = 12  # k in the table, about
HEIGHT = 270.0
TITLES = {
    "mistakes": "What the nearest rows are like where their vote is wrong",
    "hits": "What the nearest rows are like where their vote is right",
}


def accuracy_table(summary: Summary) -> Table:
    """Return a row for nearest neighbours and one for the most frequent class."""
    baseline = summary["baseline"]
    rows = [
        [name, k, _percent(each["held_out"]), f"{100 * each['test'][0]:.2f}%", _bounds(each["test"])]
        for name, k, each in (
            ("nearest neighbours", summary["chosen"], summary),
            (f"always '{pictures.legible(baseline['class'])}', the most frequent", None, baseline),
        )
    ]
    dealt = _dealt(summary)
    caption = (
        f"held out: mean over {dealt} ± corrected 95% interval; "
        f"test: {summary['dataset']['rows']['test']:,} rows, interval over which rows were drawn"
    )
    return Table(
        ["prediction", "k", "held-out accuracy", "test accuracy", "95% interval"], rows, best=0, caption=caption
    )


def k_table(summary: Summary) -> Table:
    """Return a row for some numbers of neighbours, the chosen one among them."""
    every = summary["k"]
    chosen = [entry["k"] for entry in every].index(summary["chosen"])
    places = np.geomspace(1, len(every), LISTED).round().astype(int) - 1
    shown = sorted({*places.tolist(), chosen})
    rows = [[every[place]["k"], _percent(every[place]["accuracy"])] for place in shown]
    caption = (
        f"mean over {_dealt(summary)} ± corrected 95% interval; {len(shown)} of {len(every)} k: summary.json has all"
    )
    return Table(["k", "held-out accuracy"], rows, best=shown.index(chosen), caption=caption)


def loops_table(summary: Summary) -> Table:
    """Return a row for each way to search: seconds, how much faster than two loops, and whether it found the same."""
    shown = summary["loops"]
    ways = shown["ways"]
    rows = [
        [
            way["way"],
            f"{'≈ ' if way['reckoned'] else ''}{_seconds(way['seconds'])}",
            _times(ways[0]["seconds"] / way["seconds"]),
            f"{way['asked']:,}",
            f"{way['same']:,}/{way['places']:,}",
        ]
        for way in ways
    ]
    caption = (
        f"the {shown['neighbors']} nearest of {shown['rows']:,} random rows to each of {shown['queries']:,} queries, "
        f"{shown['features']:,} features; ≈ reckoned from the queries asked; compiling not counted; the same: as "
        "scikit-learn's, or equally near to within rounding"
    )
    fastest = min(range(len(ways)), key=lambda place: ways[place]["seconds"])
    return Table(["search", "seconds", "× two loops", "queries asked", "the same"], rows, fastest, caption)


def answer(summary: Summary) -> str:
    """Return in a few sentences how good the vote is, of how many, and what loops cost."""
    test, rows = summary["test"], summary["dataset"]["rows"]
    voters = f"{summary['chosen']} nearest rows" if summary["chosen"] > 1 else "nearest row"
    said = (
        f"On {summary['dataset']['name']}, the vote of the {voters} is right on {100 * test[0]:.2f}% of "
        f"{rows['test']:,} test rows (95% interval {_bounds(test)}); always saying the most frequent class, on "
        f"{100 * summary['baseline']['test'][0]:.2f}%. k was chosen from {_numbers(summary)} on the "
        f"{rows['learned from']:,} rows learned from, where that vote is right on {_percent(summary['held_out'])} of "
        "held-out rows."
    )
    if summary["loops"]:
        first, *_, last = summary["loops"]["ways"]
        said += (
            f" A search of {summary['loops']['rows']:,} rows takes about "
            f"{_seconds(first['seconds'])} s by {first['way']} and {_seconds(last['seconds'])} s by {last['way']}: "
            f"{_times(first['seconds'] / last['seconds'])} times as fast."
        )
    return said


def figures(summary: Summary, shown: Pictures, folder: Path) -> dict[str, Path]:
    """Draw accuracy against k, and test images with their neighbours; return the files by name.

    Args:
        summary: see the module's docstring.
        shown: pictures by kind.
        folder: where to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {"accuracy_by_k": accuracy_figure(summary)}
    for kind, each in shown.items():
        drawn[f"neighbors_of_{kind}"] = neighbors_figure(each, summary["dataset"]["classes"], title=TITLES[kind])
    return {name: draw.save(figure, folder / f"{name}.svg") for name, figure in drawn.items()}


@layout.with_look
def accuracy_figure(summary: Summary) -> matplotlib.figure.Figure:
    """Draw the accuracy on held-out rows against k, with its interval over folds."""
    ks = np.array([entry["k"] for entry in summary["k"]], float)
    mean, low, high = 100 * np.array([entry["accuracy"][:3] for entry in summary["k"]], float).T
    bounds = {"low": np.maximum(low, 0), "high": np.minimum(high, 100)}
    line = Series("nearest neighbours", ks, mean, **bounds, name="knn", best=summary["chosen"])
    foot = [f"Line: mean over {_dealt(summary)}; band: corrected 95% interval over them. Marker: the k chosen."]
    figure = layout.sheet(HEIGHT)
    axes = figure.add_subplot()
    layout.furnish(axes)
    layout.scale_x(axes, *span(ks, margin=0.02))
    layout.scale_y(axes, *span(np.concatenate([*bounds.values()]), margin=0.06))
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]))
    draw_series(axes, line, markers=False)
    layout.write_note(figure, foot)
    name = pictures.legible(summary["dataset"]["name"])
    title = f"{name}: {_percent(summary['held_out'])} right on held-out rows at k = {summary['chosen']}"
    top = layout.write_title(figure, title) - LABEL * 1.6
    bottom = layout.note_height(foot) + LABEL * 1.6
    left, right = EDGE + layout.tick_width(axes) + 8, layout.WIDTH - EDGE
    layout.place(axes, left, bottom + TICK * 1.7, right, top - 5)
    layout.write(figure, EDGE, top, "accuracy on held-out rows (%)")
    layout.write(figure, (left + right) / 2, bottom - LABEL, "k, the neighbours that vote", ha="center")
    return figure


@layout.with_look
def neighbors_figure(
    shown: Mapping[str, np.ndarray], classes: Sequence[str], *, title: str
) -> matplotlib.figure.Figure:
    """Draw a row for each test image: the image, then its neighbours, each with its class.

    Args:
        shown: pictures of one kind, see the module's docstring.
        classes: name of each class.
        title: the message, or the question.
    """
    rows = np.concatenate([shown["images"][:, None], shown["neighbors"]], axis=1)  # [M, 1 + K, H, W, C]
    columns = rows.shape[1]
    every = pictures._shrunk(pictures._rgb(rows.reshape(-1, *rows.shape[2:])), pictures.PIXELS)
    name = [pictures.legible(each) for each in classes]
    missed = bool((shown["true"] != shown["predicted"]).any())
    tiles = pictures._tiles(columns, below=2 if missed else 1)
    foot = [
        "First in each row: the test image, its true class" + (", and → what it was taken for." if missed else "."),
        "Then the nearest of the rows learned from, nearest first, each with its class.",
    ]
    figure, canvas, top = pictures._open(title, tiles.height(len(every)), foot)
    for index, picture in enumerate(every):
        row, place = divmod(index, columns)
        left, upper = tiles.at(index, top)
        pictures._put(canvas, picture, left, upper, tiles.side, tiles.side)
        if place:
            lines = [name[shown["labels"][row, place - 1]]]
        else:
            lines = [name[shown["true"][row]], *([f"→ {name[shown['predicted'][row]]}"] if missed else [])]
        pictures._write_below(figure, lines, left, upper, tiles)
    beside = EDGE + tiles.side + pictures.GAP / 2
    canvas.vlines(beside, top - tiles.height(len(every)), top, color=layout.SOFT, linewidth=0.8)
    return figure


def page(summary: Summary, drawn: Mapping[str, Path], environment: Mapping[str, Any], command: str) -> Page:
    """Return the experiment's page.

    Args:
        summary: see the module's docstring.
        drawn: what `figures` returned.
        environment: what environment.json holds.
        command: what repeats the run.
    """
    name = summary["dataset"]["name"]
    shown: dict[str, list[Block]] = {
        "accuracy_by_k": [Figure(drawn["accuracy_by_k"], alt="Accuracy on held-out rows against k, with its interval")]
    }
    for kind in TITLES:
        if file := drawn.get(f"neighbors_of_{kind}"):
            shown[kind] = [Figure(file, alt=f"{TITLES[kind]}: test images, each beside its nearest neighbours")]
    images = [block for kind in TITLES for block in shown.get(kind, [])]
    blocks: dict[str, list[Block]] = {
        "The result": [accuracy_table(summary), *shown["accuracy_by_k"], k_table(summary)],
        "Who the neighbours are": images,
        "What loops cost": [loops_table(summary), _loops_note(summary)] if summary["loops"] else [],
        "How to read it": [Bullets(_caveats(summary))],
        "Where the time went": [seconds_table(summary)],
        "How it was run": [Definitions(_how(summary, environment))],
        "Repeat it": [Code(command), "On the same versions and devices it ends with the same bits, but for the times."],
    }
    return Page(
        title=f"Nearest neighbours on {name}",
        question=f"How many nearest neighbours should vote on {name}, and how often are they right?",
        answer=answer(summary),
        sections=[Section(heading, each) for heading, each in blocks.items() if each],
    )


def _loops_note(summary: Summary) -> str:
    asked = [f"{way['asked']:,} by {way['way']}" for way in summary["loops"]["ways"] if way["reckoned"]]
    said = f"Not all queries were asked in every way ({', '.join(asked)}): the time of all is reckoned from these. "
    return (
        f"{said if asked else ''}All ways ran in this process, one after the other, on float32: take the figures as an "
        "order of magnitude. python -m experiments.bench.neighbors gives each a process of its own."
    )


def _caveats(summary: Summary) -> list[str]:
    """Return what must be known to read the figures rightly."""
    rows, folds = summary["dataset"]["rows"], summary["folds"]
    said = [
        f"Training and validation rows together were dealt into {_dealt(summary)}, each class in proportion; each fold "
        "was predicted from the others. Test rows were looked at once, with the k chosen and all those rows to ask.",
        "The accuracy on held-out rows is a little too good for the k chosen by it, the best of all: test rows tell.",
        "Folds share most of their training rows. The interval over folds is widened for that (Nadeau and Bengio "
        "2003): it tells how much the mean would move with other rows of the same kind, not with other data.",
        "The interval of the test accuracy is over which rows happened to be drawn for the test (Wilson 1927).",
        "Of classes with equally many votes the first wins; of rows equally near, the first.",
        "Distances are Euclidean over all columns, as they are encoded: "
        + (
            "pixels in [0, 1]."
            if len(summary["dataset"]["shape"]) == 3
            else "scaled by the split's training rows, without a look at labels or test rows."
        ),
    ]
    if rows["learned from"] < rows["available"]:
        said.append(f"Learned from {rows['learned from']:,} of {rows['available']:,} rows (--rows), drawn by class.")
    if summary["scarce"]:
        names = ", ".join(map(pictures.legible, summary["scarce"]))
        said.append(f"Fewer rows than the {folds} folds, so that some hold out none of them: {names}.")
    return said


def _how(summary: Summary, environment: Mapping[str, Any]) -> dict[str, str | list[str]]:
    data = summary["dataset"]
    rows, shape = data["rows"], " × ".join(f"{length:,}" for length in data["shape"])
    how: dict[str, str | list[str]] = {
        "data set": [f"{data['name']}: {len(data['classes'])} classes, {shape} columns", *data["notes"]],
        "rows": f"{rows['learned from']:,} to learn from and to choose k on, {rows['test']:,} to report",
        "source": [
            line for line in (data["citation"], f"licence: {data['licence']}" if data["licence"] else "") if line
        ],
        "sha256": [f"{file} {digest}" for file, digest in environment["data"].items()],
        "k": _numbers(summary),
        "folds": f"{_dealt(summary)}, seed {summary['split_seed']}",
        "nearest neighbours": "by brute force, exact, one vote each",
        "versions": ", ".join(f"{package} {version}" for package, version in environment["versions"].items()),
        "devices": f"{environment['devices']['count']} × {environment['devices']['kind']} "
        f"({environment['devices']['platform']})",
        "code": environment["git_commit"] or "not a git checkout",
    }
    return {name: value for name, value in how.items() if value}


def _dealt(summary: Summary) -> str:
    """Return how rows were dealt: "5 folds", or with their rounds."""
    folds, rounds = summary["folds"], summary["rounds"]
    return f"{folds} folds" if rounds == 1 else f"{folds} folds, dealt {rounds} times"


def _numbers(summary: Summary) -> str:
    """Return the k that were tried: "1 to 50" where none between is left out."""
    ks = [entry["k"] for entry in summary["k"]]
    whole = len(ks) > 2 and ks == list(range(ks[0], ks[-1] + 1))
    return f"{ks[0]} to {ks[-1]}" if whole else ", ".join(map(str, ks))


def _percent(accuracy: Sequence[float]) -> str:
    return f"{number(*(100 * np.asarray(accuracy[:3], float)).tolist())}%"


def _bounds(accuracy: Sequence[float]) -> str:
    """Return the interval of a share in percent, its bounds to a tenth: "97.2–99.6%"."""
    return f"{100 * accuracy[1]:.1f}–{100 * accuracy[2]:.1f}%"


def _seconds(value: float) -> str:
    return f"{value:.3g}"


def _times(ratio: float) -> str:
    """Return a ratio with two digits, which is what one run's times support."""
    return f"{float(f'{ratio:.2g}'):,g}"
