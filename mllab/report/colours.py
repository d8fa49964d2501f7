"""A picture in few colours: the table, the figures and the page, from the plain summary that summary.json holds.

A summary has `image` (path, name, height, width, and how many colours it has); `seeds`, `restarts`; `sample`, how many
pixels the centres were fitted to; and `fits`, for each k, ascending {k; error, an interval over seeds of the root mean
squared error of the picture in 8-bit steps; file, the picture in k colours}. The page also wants `seconds` by part,
with their total.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mllab.report import cluster_panels
from mllab.report import figures as draw
from mllab.report.classifier import seconds_table
from mllab.report.figures import Series
from mllab.report.page import Bullets, Code, Definitions, Figure, Page, Section
from mllab.report.pictures import legible
from mllab.report.series import Floats
from mllab.report.table import Table, number

Summary = Mapping[str, Any]

SEAM, STRIP = 0.02, 0.09  # of a picture's height: white, and its colours by their share, below it


def colour_table(summary: Summary) -> Table:
    """Return a row for each number of colours: bits a pixel, and the error."""
    rows = [[fit["k"], f"{math.log2(fit['k']):.3g}", _shown(fit["error"]), fit["file"]] for fit in summary["fits"]]
    seeds = len(summary["seeds"])
    over = f"± 95% interval over {seeds} draws of pixels and starts" if seeds > 1 else "one seed: no interval"
    caption = f"error: root mean squared, in steps of 8-bit values, from 0 to 255; {over}"
    return Table(["colours", "bits a pixel", "error", "picture"], rows, caption=caption)


def answer(summary: Summary) -> str:
    """Return in a sentence what few colours cost."""
    image, fits = summary["image"], summary["fits"]
    told = [
        f"in {fit['k']} colours ({_bits(fit['k'])}) it is off by {_shown(fit['error'])}"
        for fit in (fits[:1] if len(fits) == 1 else (fits[0], fits[-1]))
    ]
    said = f"{legible(image['name'])} has {image['colours']:,} colours, at 24 bits a pixel"
    return f"{said}; {', '.join(told)}: the root mean square, in steps of 255."


def figures(
    summary: Summary, pixels: Floats, reduced: Sequence[tuple[Floats, np.ndarray]], folder: Path
) -> dict[str, Path]:
    """Draw the picture and what k-means makes of it, each with its colours below; and the error against k.

    Args:
        summary: see the module's docstring.
        pixels: the picture [H, W, 3] in [0, 1].
        reduced: colours [k, 3] and labels [H, W], for each of the fits.
        folder: where to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = legible(summary["image"]["name"])
    blank = np.ones((_rows(pixels, SEAM) + _rows(pixels, STRIP), pixels.shape[1], 3))
    images = [np.concatenate([pixels, blank])]
    captions = [f"the picture: {summary['image']['colours']:,} colours"]
    for fit, (colours, labels) in zip(summary["fits"], reduced, strict=True):
        images.append(with_colours(colours, labels))
        captions.append(f"{fit['k']} colours, error {_shown(fit['error'])}")
    drawn = {"pictures": cluster_panels.pictures(images, captions, title=f"{name} in few colours")}
    if len(summary["fits"]) > 1:
        bits = np.log2([fit["k"] for fit in summary["fits"]])
        mean, low, high = np.array([fit["error"][:3] for fit in summary["fits"]], float).T
        bounds = {"low": low, "high": high} if np.isfinite(low).any() else {}
        drawn["error"] = draw.curves(
            [Series("k-means", bits, mean, **bounds, name="kmeans")],
            title=f"Each bit a pixel more makes {name} truer",
            x_label="bits a pixel: log2 of the number of colours",
            y_label="root mean squared error (8-bit steps)",
            log_y=True,
            seeds=len(summary["seeds"]),
        )
    return {which: draw.save(figure, folder / f"{which}.svg") for which, figure in drawn.items()}


def with_colours(colours: Floats, labels: np.ndarray) -> Floats:
    """Return a picture in few colours, and below it a strip of them, each as wide as its share of the pixels."""
    image = colours[labels]
    order = np.argsort(colours.sum(axis=1))  # dark ones first
    ends = np.cumsum(np.bincount(labels.ravel(), minlength=len(colours))[order]) / labels.size
    width = labels.shape[1]
    places = np.minimum(np.searchsorted(ends, (np.arange(width) + 0.5) / width), len(colours) - 1)
    strip = np.broadcast_to(colours[order][places], (_rows(image, STRIP), width, 3))
    return np.concatenate([image, np.ones((_rows(image, SEAM), width, 3)), strip])


def _rows(image: Floats, share: float) -> int:
    return max(1, round(share * image.shape[0]))


def page(summary: Summary, drawn: Mapping[str, Path], environment: Mapping[str, Any], command: str) -> Page:
    """Return the experiment's page.

    Args:
        summary: see the module's docstring.
        drawn: what `figures` returned.
        environment: what environment.json holds.
        command: what repeats the run.
    """
    image, seeds = summary["image"], summary["seeds"]
    shown = {
        "pictures": ("The picture, and the same in few colours", "Below each its colours, as wide as their share."),
        "error": ("Error of the picture against bits a pixel", ""),
    }
    figured = {which: Figure(path, *shown[which]) for which, path in drawn.items()}
    said = [
        f"Each of the {summary['sample']:,} pixels drawn is a point of three numbers, red, green and blue in [0, 1]; "
        "k-means finds the k colours that are nearest to them in the mean square, and every pixel of the picture takes "
        "the nearest of these.",
        "Distances are those of the stored values, not of what an eye tells apart.",
        f"Of each seed's {summary['restarts']} starts by k-means++ the best stays; the pictures shown are of the seed "
        "with the least error.",
    ]
    how: dict[str, str | list[str]] = {
        "picture": f"{image['path']}: {image['height']:,} × {image['width']:,} pixels",
        "sha256": [f"{file} {digest}" for file, digest in environment["data"].items()],
        "seeds": ", ".join(map(str, seeds)),
        "versions": ", ".join(f"{package} {version}" for package, version in environment["versions"].items()),
        "devices": f"{environment['devices']['count']} × {environment['devices']['kind']} "
        f"({environment['devices']['platform']})",
        "code": environment["git_commit"] or "not a git checkout",
    }
    return Page(
        title=f"{image['name']} in few colours",
        question=f"How few colours will do for {image['name']}?",
        answer=answer(summary),
        sections=[
            Section("The result", [figured["pictures"], colour_table(summary), *list(figured.values())[1:]]),
            Section("How to read it", [Bullets(said)]),
            Section("Where the time went", [seconds_table(summary)]),
            Section("How it was run", [Definitions(how)]),
            Section("Repeat it", [Code(command), "On the same versions and devices it ends with the same bits."]),
        ],
    )


def _bits(k: int) -> str:
    return "1 bit" if k == 2 else f"{math.log2(k):.3g} bits"


def _shown(interval: Sequence[float]) -> str:
    return number(*(float("nan") if bound is None else bound for bound in interval[:3]))
