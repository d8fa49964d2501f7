"""Colour quantization: k-means on the pixels of an image, which take the colour of their cluster's centre.

`experiments.clustering --image=...` runs it.
"""

import hashlib
import math
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from experiments import answers, frame
from mllab import sweep
from mllab.data.readers import image_file
from mllab.errors import UserError
from mllab.metrics import Interval, interval
from mllab.models import kmeans
from mllab.report import draw
from mllab.report.report import Bullets, Drawing, Report, Section
from mllab.report.table import Table, legible, listed, number
from mllab.report.table import interval as shown

CLUSTERS = (2, 4, 8, 16, 32, 64)  # default numbers of colours
SAMPLE = 10_000  # pixels that centres are fitted to; each seed draws its own
SEAM, STRIP = 0.02, 0.09  # of an image's height: white below it, and a strip of its colours


@dataclass(frozen=True)
class Original:
    """The image."""

    path: str
    name: str
    height: int
    width: int
    colours: int


@dataclass(frozen=True)
class Fit:
    """The error with k colours over the seeds, and the image of the least error."""

    k: int
    error: Interval  # root mean squared, in steps of 8-bit values
    file: str
    colours: np.ndarray = frame.unsaved()  # [k, 3] in [0, 1]
    labels: np.ndarray = frame.unsaved()  # colour of each pixel, [H, W]


@dataclass(frozen=True)
class Measurement:
    """The errors of an image with each number of colours."""

    image: Original
    sample: int  # pixels
    baseline: float  # error with one colour, the mean of all pixels
    fits: list[Fit]
    pixels: np.ndarray = frame.unsaved()  # [H, W, 3] in [0, 1]


def measure(run: frame.Context, image: str, ks: tuple[int, ...] | None, seeds: int, restarts: int) -> Measurement:
    """Quantize an image to each number of colours, once a seed, and write the best of each as a PNG file."""
    ks = ks or CLUSTERS
    with run.timed("data"):
        path = image_file.locate(image)
        pixels = image_file.read(path, image_file.stored_size(path), channels=3)
        (height, width, _), distinct = pixels.shape, len(np.unique(pixels.reshape(-1, 3), axis=0))
        original = Original(str(path), path.stem, height, width, distinct)
        if ks[-1] > distinct:
            raise UserError(f"--clusters: {ks[-1]} colours of the {distinct} that {path} has: give fewer")
        run.read({path.name: hashlib.sha256(path.read_bytes()).hexdigest()})
    flat, mesh = pixels.reshape(-1, 3), run.mesh()
    sample = min(SAMPLE, len(flat))
    fit = {k: sweep.over_points(partial(kmeans.fit, count=k, restarts=restarts), mesh, kmeans.POINT_AXES) for k in ks}
    by_colours: dict[int, list[tuple[float, np.ndarray, np.ndarray]]] = {k: [] for k in ks}
    run.progress.task(path.name, seeds * len(ks))
    with run.timed("colours"):
        for seed in range(seeds):
            drawn = jnp.asarray(flat[np.random.default_rng(seed).choice(len(flat), sample, replace=False)])
            for k in ks:
                fitted = fit[k](drawn, key=jax.random.key(seed))
                labels, squared = jax.device_get(kmeans.assign(fitted, jnp.asarray(flat)))
                error = 255 * float(np.sqrt(squared.mean(dtype=np.float64) / 3))
                by_colours[k].append((error, np.asarray(fitted.centres), labels.reshape(pixels.shape[:2])))
                run.record([{"seed": seed, "k": k, "error": error}])
                run.progress.advance()
    fits = []
    for k, by_seed in by_colours.items():
        _, colours, labels = min(by_seed, key=lambda each: each[0])
        file = run.write(f"colours-{k}.png", image_file.to_png(colours, labels)).name
        fits.append(Fit(k, interval(np.array([error for error, *_ in by_seed])), file, colours, labels))
    baseline = 255 * float(np.sqrt(flat.var(axis=0, dtype=np.float64).mean()))
    return Measurement(original, sample, baseline, fits, pixels)


def with_strip(colours: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return an image above a strip of its colours, dark ones first, each as wide as its share of the pixels."""
    (height, width), order = labels.shape, np.argsort(colours.sum(axis=1))
    ends = np.cumsum(np.bincount(labels.ravel(), minlength=len(colours))[order]) / labels.size
    places = np.minimum(np.searchsorted(ends, (np.arange(width) + 0.5) / width), len(colours) - 1)
    seam, strip = (np.ones((max(1, round(share * height)), width, 3)) for share in (SEAM, STRIP))
    return np.concatenate([colours[labels], seam, strip * colours[order][places]])


def drawings(measured: Measurement, name: str, seeds: int) -> list[Drawing]:
    """Draw the image beside its quantized versions and, of several numbers of colours, the error of each."""
    fits, images = measured.fits, [with_strip(fit.colours, fit.labels) for fit in measured.fits]
    below = (0, len(images[0]) - len(measured.pixels))
    images.insert(0, np.pad(measured.pixels, (below, (0, 0), (0, 0)), constant_values=1))
    captions = [f"the image: {measured.image.colours:,} colours"]
    captions += [f"{fit.k} colours, error {shown(fit.error)}" for fit in fits]
    figure = draw.side_by_side(images, captions, title=f"{name} in few colours")
    caption = "Below each image its colours, as wide as their share of the pixels."
    pictures = Drawing("pictures", figure, "The image, and the same in few colours", caption)
    if len(fits) == 1:
        return [pictures]
    bits, errors = np.log2([fit.k for fit in fits]), [fit.error for fit in fits]
    figure = draw.curves(
        [draw.Series.of_intervals("k-means", bits, errors, name="kmeans")], log_y=True,
        title=f"Each bit a pixel reduces the error of {name}", over=f"{seeds} seeds",
        x_label="bits a pixel: log2 of the number of colours", y_label="root mean squared error (8-bit steps)",
    )  # fmt: skip
    return [pictures, Drawing("error", figure, "Error against bits a pixel")]


def report(measured: Measurement, seeds: int, restarts: int) -> Report:
    """Report the errors, and show the images."""
    image, fits, name = measured.image, measured.fits, legible(measured.image.name)
    rows = [[fit.k, f"{math.log2(fit.k):.3g}", shown(fit.error), fit.file] for fit in fits]
    rows.insert(0, [1, "0", number(measured.baseline), None])
    ends = [f"with {fits[i].k} colours {shown(fits[i].error)}" for i in dict.fromkeys((0, len(fits) - 1))]
    over = answers.over(seeds, "seed", ", each with its sample of pixels and its starts")
    caption = (
        f"error: root mean squared, in 8-bit steps from 0 to 255; {over}; first row: the baseline, the mean colour"
    )
    caveats = [
        f"k-means fits k colours to {measured.sample:,} sampled pixels, as points (red, green, blue) in [0, 1]; every "
        "pixel of the image takes the nearest.",
        "Distances are those of the stored values, not of perceived colours.",
        f"Of the {restarts} k-means++ restarts of each seed and k the best is kept; the images are those of the seed "
        "with the least error.",
    ]
    return Report(
        f"{image.name} in few colours",
        f"How few colours are enough for {image.name}?",
        f"{name} has {image.colours:,} colours, at 24 bits a pixel. The root mean squared error, in 8-bit steps from 0 "
        f"to 255: {', '.join(ends)} ({answers.counted(seeds, 'seed')}); with one colour, the mean: "
        f"{number(measured.baseline)}.",
        Table(["colours", "bits a pixel", "error", "image"], rows, caption=caption),
        [Section("The images", drawings(measured, name, seeds)), Section("How to read it", [Bullets(caveats)])],
        {"image": f"{image.path}: {image.height:,} × {image.width:,} pixels", "seeds": listed(range(seeds))},
    )
