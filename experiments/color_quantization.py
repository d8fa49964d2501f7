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
from mllab import clustering, memory, sweep
from mllab.data import names
from mllab.data.readers import content, image_file
from mllab.errors import UserError
from mllab.metrics import Interval, interval
from mllab.models import kmeans
from mllab.report import draw
from mllab.report.report import Bullets, Drawing, Report, Section
from mllab.report.table import Table, legible, listed, number
from mllab.report.table import interval as shown

PIXEL_BYTES = 30  # of memory, while an image is read
CLUSTERS = (2, 4, 8, 16, 32, 64)  # default numbers of colours
SAMPLE = 10_000  # pixels that centres are fitted to; each seed draws its own
BLOCK = 2**20  # pixels or colours that are processed at once
DRAWN = 2**19  # pixels of an image that are drawn at most: of more, every n-th row and column
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
    labels: np.ndarray = frame.unsaved()  # colour of each pixel, [H, W]: of uint8 where they are at most 256


@dataclass(frozen=True)
class Measurement:
    """The errors of an image with each number of colours."""

    image: Original
    sample: int  # pixels
    baseline: float  # error with one colour, the mean of all pixels
    fits: list[Fit]
    pixels: np.ndarray = frame.unsaved()  # in [0, 1], those that are drawn, [h, w, 3]


def measure(run: frame.Context, image: str, ks: tuple[int, ...] | None, seeds: int, restarts: int) -> Measurement:
    """Quantize an image to each number of colours, once a seed, and write the best of each as a PNG file."""
    ks = ks or CLUSTERS
    with run.timed("data"):
        size = image_file.stored_size(path := image_file.locate(image))
        memory.check(PIXEL_BYTES * math.prod(size), f"the pixels of {path}", "make the image smaller")
        run.progress.say(f"{names.printable(path.name)}: reading {size[0]:,} × {size[1]:,} pixels")
        pixels = image_file.read(path, size, channels=3)
        colours, index, counts = distinct_colours(pixels)
        original = Original(names.printable(str(path)), names.printable(path.stem), *size, len(colours))
        if ks[-1] > len(colours):
            raise UserError(f"--clusters: {ks[-1]} colours of the {len(colours)} that {path} has: give fewer")
        run.read({names.printable(path.name): hashlib.sha256(content.read(path)).hexdigest()})
        del pixels  # the colours and their places take less memory
    mesh, sample = run.mesh(), min(SAMPLE, len(index))
    clustering.check_memory((sample, 3), ks[-1:], restarts, mesh=mesh)
    fit = {k: sweep.over_points(partial(kmeans.fit, count=k, restarts=restarts), mesh, kmeans.POINT_AXES) for k in ks}
    errors: dict[int, list[float]] = {k: [] for k in ks}
    best: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # of the least error: centres, and the centre of each colour
    run.progress.task(names.printable(path.name), seeds * len(ks))
    with run.timed("colours"):
        for seed in range(seeds):
            chosen = np.random.default_rng(seed).choice(len(index), sample, replace=False)
            drawn = jnp.asarray(colours[index[chosen]])
            for k in ks:
                fitted = fit[k](drawn, key=jax.random.key(seed))
                labels, squared = nearest(fitted, colours)
                error = 255 * float(np.sqrt(squared @ counts / len(index) / 3))
                if error < min(errors[k], default=np.inf):
                    best[k] = np.asarray(fitted.centres), labels
                errors[k].append(error)
                run.record([{"seed": seed, "k": k, "error": error}])
                run.progress.advance()
    fits = []
    with run.timed("images"):
        for k, (centres, nearest_centre) in best.items():
            labels = nearest_centre[index].reshape(size)
            file = run.write(f"colours-{k}.png", image_file.to_png(centres, labels)).name
            fits.append(Fit(k, interval(np.array(errors[k])), file, centres, labels))
    spread = np.average((colours - np.average(colours, axis=0, weights=counts)) ** 2, axis=0, weights=counts)
    baseline = 255 * float(np.sqrt(spread.mean()))
    return Measurement(original, sample, baseline, fits, colours[_drawn(index.reshape(size))])


def distinct_colours(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the distinct colours of pixels [H, W, 3], float32 in [0, 1], and where they are.

    Returns:
        Colours [M, 3] in lexicographic order, the colour of each pixel [H W] int32, and the pixels of each [M] float64.
    """
    flat = pixels.reshape(-1, 3)
    code = np.empty(len(flat), np.int32)  # of 8-bit values: red, green and blue one after the other
    for start in range(0, len(flat), BLOCK):
        steps = np.rint(flat[start : start + BLOCK] * 255).astype(np.int32)
        if not np.array_equal(steps.astype(np.float32) / np.float32(255), flat[start : start + BLOCK]):
            colours, index, counts = np.unique(flat, axis=0, return_inverse=True, return_counts=True)
            return colours, index.reshape(-1).astype(np.int32), counts.astype(float)
        code[start : start + BLOCK] = steps @ np.array([2**16, 2**8, 1], np.int32)
    counts = np.bincount(code, minlength=2**24)
    present = np.flatnonzero(counts)
    place = np.zeros(2**24, np.int32)
    place[present] = np.arange(len(present))
    steps = np.stack([present >> 16, present >> 8 & 255, present & 255], axis=1)
    return steps.astype(np.float32) / np.float32(255), place[code], counts[present].astype(float)


def nearest(fitted: kmeans.KMeans, colours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest centre of each colour [M, 3], and its squared distance, in blocks of one shape."""
    labels = np.empty(len(colours), np.uint8 if len(fitted.centres) <= 256 else np.int32)
    squared = np.empty(len(colours))
    size = min(BLOCK, len(colours))
    for end in [*range(size, len(colours), size), len(colours)]:  # the last block overlaps the one before
        block = slice(end - size, end)
        labels[block], squared[block] = jax.device_get(kmeans.assign(fitted, jnp.asarray(colours[block])))
    return labels, squared


def _drawn(labels: np.ndarray) -> np.ndarray:
    stride = math.ceil(math.sqrt(labels.size / DRAWN))
    return labels[::stride, ::stride]


def with_strip(colours: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return an image above a strip of its colours, dark ones first, each as wide as its share of the pixels."""
    (height, width), order = labels.shape, np.argsort(colours.sum(axis=1))
    ends = np.cumsum(np.bincount(labels.ravel(), minlength=len(colours))[order]) / labels.size
    places = np.minimum(np.searchsorted(ends, (np.arange(width) + 0.5) / width), len(colours) - 1)
    seam, strip = (np.ones((max(1, round(share * height)), width, 3)) for share in (SEAM, STRIP))
    return np.concatenate([colours[labels], seam, strip * colours[order][places]])


def drawings(measured: Measurement, name: str, seeds: int) -> list[Drawing]:
    """Draw the image beside its quantized versions and, of several numbers of colours, the error of each."""
    fits, pixels = measured.fits, measured.pixels
    images = [with_strip(fit.colours, _drawn(fit.labels)) for fit in fits]
    below = (0, len(images[0]) - len(pixels))
    images.insert(0, np.pad(pixels, (below, (0, 0), (0, 0)), constant_values=1))
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
