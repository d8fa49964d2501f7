"""What an image classifier says: its tables, figures and page, from the plain summary that summary.json holds.

A summary has `experiment`; `dataset` (name, rows {train, validation, test}, classes, shape [H, W, C], licence,
citation, notes); `model` (described), `parameters`, `settings`, `batch_size`, `epochs`, `steps`, `seeds`,
`chance_loss`; `validation`, `test` and `train`, each {accuracy, loss} as intervals (mean, low, high, seeds), and `rows`
where not all of them were scored; `test_by_seed` {accuracy}; `gap`, the interval of accuracy on training less test
rows, in points; `per_class`, see below; `nonfinite` [{seed, step}] and `failed` [{seed, kept_loss}]; `seconds` by part,
with their `total`; and `images_per_second`. `train`, `gap`, `images_per_second` and the total may be None or absent.

Arrays come as a mapping, of which any may be absent:

- `curves`: `epoch` [E], and `train_loss`, `validation_loss`, `validation_accuracy`, perhaps `train_accuracy`, each
  [E, 3]: mean, low, high over seeds.
- `confusion`: test rows of each true class (rows) predicted as each class (columns), [C, C].
- `mistakes`: `images` [M, H, W, C], `true`, `predicted` and `probability` [M], the most confident first.
- `filters`: weights that look at the image itself, [kh, kw, C, filters].
- `feature_maps`: `image` [H, W, C], `layers` [(name, [h, w, C])], `caption`.
- `saliency`: `images` and `gradients` [M, H, W, C], `true` and `predicted` [M].
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mllab.report.page import Block, Bullets, Code, Definitions, Figure, Page, Section
from mllab.report.table import Table, number

Summary = Mapping[str, Any]
Arrays = Mapping[str, Any]

LISTED = 50  # classes of the table, at most
CONFUSIONS = 10  # pairs of the table, at most
RISE = 1.05  # a validation loss that ends so many times above its least tells overfitting


def per_class(confusion: np.ndarray, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return each class's test rows, recall, precision, and the class that it was most often taken for.

    Args:
        confusion: counts of each true class (rows) predicted as each class (columns), [C, C].
        classes: name of each class.
    """
    confusion = np.asarray(confusion)
    hits, rows, taken = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    mistakes = confusion - np.diag(hits)
    return [
        {
            "name": name,
            "rows": int(rows[index]),
            "recall": float(hits[index] / rows[index]) if rows[index] else None,
            "precision": float(hits[index] / taken[index]) if taken[index] else None,
            "confused_with": classes[int(mistakes[index].argmax())] if mistakes[index].any() else None,
            "times": int(mistakes[index].max()),
        }
        for index, name in enumerate(classes)
    ]


def classifier_table(summary: Summary) -> Table:
    """Return a row for the test, validation and training rows: how many, accuracy and loss."""
    every = summary["dataset"]["rows"]
    rows = [
        [part, f"{score.get('rows', every[part]):,}", _percent(score["accuracy"]), _number(score["loss"])]
        for part in ("test", "validation", "train")
        if (score := summary.get(part))
    ]
    seeds = len(summary["seeds"])
    caption = f"± 95% interval over {seeds} seeds, one split" if seeds > 1 else "one seed: no interval"
    return Table(["rows", "number", "accuracy", "loss (nats)"], rows, caption=f"{caption}; {_kept(summary)}")


def _kept(summary: Summary) -> str:
    return f"each {'seed' if len(summary['seeds']) > 1 else 'figure'} by the params of least validation loss"


def class_table(summary: Summary) -> Table:
    """Return a row a class, the one of least recall first."""
    from mllab.report.pictures import legible

    entries = sorted(summary["per_class"], key=lambda entry: -1.0 if entry["recall"] is None else entry["recall"])
    rows = [
        [
            legible(entry["name"]),
            f"{entry['rows']:,}",
            _share(entry["recall"]),
            _share(entry["precision"]),
            f"{legible(entry['confused_with'])} ({entry['times']:,}×)" if entry["confused_with"] is not None else None,
        ]
        for entry in entries[:LISTED]
    ]
    caption = "recall: of the test rows of the class, found; precision: of the rows predicted as the class, right"
    cut = f"; the {LISTED} classes of least recall, of {len(entries)}: summary.json has all" * (len(entries) > LISTED)
    return Table(["class", "test rows", "recall", "precision", "most often taken for"], rows, caption=caption + cut)


def confusion_table(confusion: np.ndarray, classes: Sequence[str]) -> Table | None:
    """Return the pairs of classes that are most often confused, None where there is no mistake."""
    from mllab.report.pictures import legible

    mistakes = np.asarray(confusion) * ~np.eye(len(classes), dtype=bool)
    order = np.argsort(-mistakes, axis=None, kind="stable")[:CONFUSIONS]
    pairs = [divmod(int(index), len(classes)) for index in order if mistakes.flat[index]]
    if not pairs:
        return None
    rows = [
        [legible(classes[true]), legible(classes[taken]), int(mistakes[true, taken]), _share(share)]
        for true, taken in pairs
        for share in [mistakes[true, taken] / mistakes.sum()]
    ]
    return Table(["true class", "taken for", "test rows", "share of all mistakes"], rows)


def seconds_table(summary: Summary) -> Table:
    """Return a row for each part of the run: its seconds and its share."""
    seconds = {name: value for name, value in summary["seconds"].items() if name != "total" and value is not None}
    told = sum(seconds.values())
    total = summary["seconds"].get("total") or told
    if total - told >= 0.05:
        seconds["everything else"] = total - told
    rows = [[name, f"{value:.2f}", _share(value / total)] for name, value in seconds.items()]
    return Table(["part", "seconds", "share"], [*rows, ["total", f"{total:.2f}", "100.0%"]])


def _percent(accuracy: Sequence[float]) -> str | None:
    """Return the interval of an accuracy in percent; with two decimals where it has no bounds."""
    mean, low, high = (100 * np.asarray(accuracy, float)[:3]).tolist()
    if not np.isfinite(mean):
        return None
    return f"{number(mean, low, high)}%" if np.isfinite(low) else f"{mean:.2f}%"


def _share(value: float | None) -> str | None:
    return None if value is None else f"{value:.1%}"


def _number(value: Sequence[float]) -> str:
    return number(*np.asarray(value, float)[:3])


def answer(summary: Summary) -> str:
    """Return in a few sentences how many test rows are classified rightly, and what the training rows say."""
    data, seeds = summary["dataset"], len(summary["seeds"])
    accuracy = _percent(summary["test"]["accuracy"])
    if accuracy is None:
        lost = f"{len(summary['nonfinite'])} of {seeds} seeds" if seeds > 1 else "The run"
        return f"{lost} went non-finite, so nothing is reported or published: try a smaller learning rate."
    said = f"{accuracy} of the {data['rows']['test']:,} test rows of {data['name']} are classified rightly"
    said += f" (mean of {seeds} seeds, 95% interval)." if seeds > 1 else " (one seed: no interval)."
    if summary["failed"]:
        said += f" {len(summary['failed'])} of {seeds} seeds ended no better than chance."
    if summary["nonfinite"]:
        said += f" {len(summary['nonfinite'])} of {seeds} seeds went non-finite."
    gap = summary.get("gap")
    if gap:
        away = "more" if gap[0] >= 0 else "fewer"
        bounds = (abs(gap[0]), *sorted(np.sign(gap[0] or 1) * np.asarray(gap[1:3], float)))
        said += f" Of the rows it was trained on, {_percent(summary['train']['accuracy'])}: "
        said += f"{_number(bounds)} points {away}."
    return said


def overfitting(curves: Mapping[str, np.ndarray]) -> str:
    """Return in a sentence what the losses on training and validation rows say about overfitting."""
    train, held_out = (np.asarray(curves[name])[:, 0] for name in ("train_loss", "validation_loss"))
    if not np.isfinite(held_out).any():
        return "No validation loss stayed finite"
    kept, last = int(np.nanargmin(held_out)), int(np.flatnonzero(np.isfinite(held_out))[-1])
    if held_out[last] > RISE * held_out[kept] and train[last] < train[kept]:
        return (
            f"Overfitting after epoch {curves['epoch'][kept]:g}: validation loss rises from {held_out[kept]:.3g} to "
            f"{held_out[last]:.3g} while training loss falls to {train[last]:.3g}"
        )
    if held_out[kept] > train[kept]:
        return (
            f"Validation loss reaches {held_out[kept]:.3g}, {held_out[kept] - train[kept]:.2g} above training loss, "
            "and does not rise again"
        )
    return f"Validation loss reaches {held_out[kept]:.3g}, not above training loss: no sign of overfitting"


def figures(summary: Summary, arrays: Arrays, folder: Path) -> dict[str, Path]:
    """Draw what the arrays hold and return the files by name: loss, accuracy, confusion, mistakes, filters, ...

    Args:
        summary: see the module's docstring.
        arrays: likewise.
        folder: where to.
    """
    from mllab.report import figures as draw
    from mllab.report import pictures

    classes = summary["dataset"]["classes"]
    made: dict[str, Any] = {}
    with warnings.catch_warnings():
        # A name in Chinese, say: matplotlib's font lacks it, the reader's has it, and an SVG holds the text.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        if curves := arrays.get("curves"):
            made["loss"] = _loss(summary, curves)
            made["accuracy"] = _accuracy(summary, curves)
        if (confusion := arrays.get("confusion")) is not None:
            wrong = int(np.sum(confusion) - np.trace(confusion))
            title = f"What is taken for what: {wrong:,} of {int(np.sum(confusion)):,} test rows are mistaken"
            made["confusion"] = pictures.confusion(confusion, classes, title=title)
        if (mistakes := arrays.get("mistakes")) and len(mistakes["images"]):
            title = "The most confident mistakes"
            made["mistakes"] = pictures.mistakes(**mistakes, classes=classes, title=title)
        if (weights := arrays.get("filters")) is not None:
            kh, kw, _, count = np.shape(weights)
            whole = [kh, kw] == list(summary["dataset"]["shape"][:2])
            title = "What each class looks for" if whole and count == len(classes) else "What the first layer looks for"
            names = classes if whole and count == len(classes) <= pictures.FILTERS else ()
            kind = "the weight of every pixel" if whole else f"filters of {kh} × {kw}"
            made["filters"] = pictures.filters(weights, title=f"{title}: {kind}", names=names)
        if maps := arrays.get("feature_maps"):
            made["feature_maps"] = pictures.feature_maps(**maps, title="One image, layer by layer")
        if saliency := arrays.get("saliency"):
            title = "Which pixels the prediction hangs on"
            made["saliency"] = pictures.saliency(**saliency, classes=classes, title=title)
        folder.mkdir(parents=True, exist_ok=True)
        return {name: draw.save(figure, folder / f"{name}.svg") for name, figure in made.items()}


def _loss(summary: Summary, curves: Mapping[str, np.ndarray]):
    """Draw the loss on training and validation rows, and the gap between them where validation loss is least."""
    from mllab.report import figures as draw
    from mllab.report import layout

    figure = draw.curves(
        [_series(curves, "validation_loss"), _series(curves, "train_loss")],
        title=overfitting(curves),
        x_label="epoch",
        y_label="loss (nats, log scale)",
        log_y=True,
        seeds=len(summary["seeds"]),
        note="Upright bar: the gap at the least validation loss. Training loss is the mean over an epoch's "
        "minibatches, as trained: with augmentation, dropout and label smoothing, where they are on.",
    )
    held_out, train = (np.asarray(curves[name])[:, 0] for name in ("validation_loss", "train_loss"))
    if np.isfinite(held_out).any():
        kept = int(np.nanargmin(held_out))
        how = {"color": layout.INK, "linewidth": 1.2, "marker": "_", "markersize": 9, "zorder": 5}
        with layout.look():
            figure.axes[0].plot([curves["epoch"][kept]] * 2, [train[kept], held_out[kept]], **how)
    return _whole_epochs(figure)


def _accuracy(summary: Summary, curves: Mapping[str, np.ndarray]):
    """Draw the accuracy on validation rows, and on training rows where it was taken."""
    from mllab.report import figures as draw

    shown = [name for name in ("validation_accuracy", "train_accuracy") if curves.get(name) is not None]
    reached = 100 * np.asarray(curves["validation_accuracy"], float)[:, 0]
    best = f"{np.nanmax(reached):.2f}% at best" if np.isfinite(reached).any() else "never finite"
    figure = draw.curves(
        [_series(curves, name, scale=100.0) for name in shown],
        title=f"Validation accuracy: {best}",
        x_label="epoch",
        y_label="accuracy (%)",
        seeds=len(summary["seeds"]),
    )
    return _whole_epochs(figure)


def _whole_epochs(figure):
    """Put ticks at whole epochs only, however few there are."""
    figure.axes[0].xaxis.get_major_locator().set_params(integer=True)
    return figure


def _series(curves: Mapping[str, np.ndarray], name: str, scale: float = 1.0):
    """Return one curve; without bounds where it has one seed."""
    from mllab.report.figures import Series

    mean, low, high = scale * np.asarray(curves[name], float).T
    if name.endswith("accuracy"):
        low, high = np.clip((low, high), 0, scale)  # no more than all are right
    bounds = {"low": low, "high": high} if np.isfinite(low).any() else {}
    return Series("training" if name.startswith("train") else "validation", curves["epoch"], mean, **bounds)


def page(
    summary: Summary, arrays: Arrays, drawn: Mapping[str, Path], environment: Mapping[str, Any], command: str
) -> Page:
    """Return the classifier's page.

    Args:
        summary: see the module's docstring.
        arrays: likewise.
        drawn: what `figures` returned.
        environment: what environment.json holds.
        command: what repeats the run.
    """
    data = summary["dataset"]
    sections = [
        Section("The result", [classifier_table(summary)]),
        Section("Training", _figures(drawn, "loss", "accuracy")),
        Section("Mistakes", _mistakes(summary, arrays, drawn)),
        Section("What the net looks at", _figures(drawn, "filters", "feature_maps", "saliency")),
        Section("Class by class", [class_table(summary)] if summary["per_class"] else []),
        Section("Seeds that were lost", _lost(summary)),
        Section("Where the time went", [seconds_table(summary), *_speed(summary)]),
        Section("How it was run", [Definitions(_how(summary, environment))]),
        Section("Repeat it", [Code(command), "On the same versions and devices it ends with the same bits."]),
    ]
    return Page(
        title=f"Image classifier: {summary['model'].partition(':')[0]} on {data['name']}",
        question=f"How well does {summary['model'].partition(':')[0]} tell the {len(data['classes'])} classes of "
        f"{data['name']} apart, and what does it look at?",
        answer=answer(summary),
        sections=[section for section in sections if section.blocks],
    )


FIGURES = {  # by file name: what it shows, and what to see in it
    "loss": (
        "Loss on training and validation rows against the epoch",
        "A training loss that falls while validation loss rises is overfitting: the net learns its training rows by "
        "heart.",
    ),
    "accuracy": ("Accuracy on validation rows against the epoch", ""),
    "confusion": ("Test rows of each true class, by the class they were taken for", ""),
    "mistakes": (
        "Mistaken pictures with their true class, the predicted one, and its probability",
        "Where a person would hesitate too, or the label is wrong, more training will not help.",
    ),
    "filters": ("Weights of the first layer as pictures", "Stripes and edges are features; speckle is noise."),
    "feature_maps": (
        "What each layer makes of one image, as pictures",
        "Early layers keep edges and strokes in place; later ones give up place for meaning.",
    ),
    "saliency": (
        "Images, each beside the size of the gradient of a logit by its pixels",
        "The gradient tells what would change the logit, not what the object is.",
    ),
}


def _figures(drawn: Mapping[str, Path], *names: str) -> list[Block]:
    return [Figure(drawn[name], *FIGURES[name]) for name in names if name in drawn]


def _mistakes(summary: Summary, arrays: Arrays, drawn: Mapping[str, Path]) -> list[Block]:
    """Return the confusion matrix, the pairs that are confused most, and the most confident mistakes."""
    confusion, classes = arrays.get("confusion"), summary["dataset"]["classes"]
    if confusion is None:
        return _figures(drawn, "mistakes")
    pairs = confusion_table(confusion, classes)
    if pairs is None:
        return [f"None: all {int(np.sum(confusion)):,} test rows are classified rightly."]
    blocks: list[Block] = _figures(drawn, "confusion")
    if len(summary["seeds"]) > 1:
        blocks.insert(0, "Of the seed with the best validation accuracy.")
    return [*blocks, *([pairs] if len(classes) > 2 else []), *_figures(drawn, "mistakes")]


def _lost(summary: Summary) -> list[Block]:
    """Return which seeds went non-finite or failed."""
    lines = [f"seed {lane['seed']}: non-finite from step {lane['step']:,}" for lane in summary["nonfinite"]]
    lines += [
        f"seed {lane['seed']}: failed, its validation loss of {lane['kept_loss']:.3g} no better than chance "
        f"({summary['chance_loss']:.3g})"
        for lane in summary["failed"]
    ]
    return [Bullets(lines)] if lines else []


def _speed(summary: Summary) -> list[str]:
    speed = summary.get("images_per_second")
    return [f"{speed:,.0f} images a second in training, after compilation."] if speed else []


def _how(summary: Summary, environment: Mapping[str, Any]) -> dict[str, str | list[str]]:
    data, seeds = summary["dataset"], summary["seeds"]
    rows, (height, width, channels) = data["rows"], data["shape"]
    kind = {1: "grey", 3: "RGB"}.get(channels, f"{channels} channels")
    how: dict[str, str | list[str]] = {
        "data set": [
            f"{data['name']}: {len(data['classes'])} classes, {height} × {width} pixels, {kind}",
            *data["notes"],
        ],
        "rows": f"{rows['train']:,} to train, {rows['validation']:,} to choose, {rows['test']:,} to report",
        "source": [
            line for line in (data["citation"], f"licence: {data['licence']}" if data["licence"] else "") if line
        ],
        "sha256": [f"{name} {digest}" for name, digest in environment["data"].items()],
        "model": f"{summary['model']}; {summary['parameters']:,} parameters",
        "training": f"{summary['epochs']} epochs, batch {summary['batch_size']}: {summary['steps']:,} steps a seed",
        "seeds": ", ".join(map(str, seeds)),
        "test accuracy by seed": ", ".join(
            f"{value:.2%}" for value in summary["test_by_seed"]["accuracy"] if value is not None
        ),
        "settings": [f"{name} = {value}" for name, value in summary["settings"].items() if value is not None],
        "kept params": "those of each seed's least validation loss",
        "chance": f"a validation loss of {summary['chance_loss']:.3g}: a seed that keeps no better has failed",
        "versions": ", ".join(f"{name} {version}" for name, version in environment["versions"].items()),
        "devices": f"{environment['devices']['count']} × {environment['devices']['kind']} "
        f"({environment['devices']['platform']})",
        "code": environment["git_commit"] or "not a git checkout",
    }
    return {name: value for name, value in how.items() if value}
