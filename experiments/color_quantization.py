"""Colour quantization: k-means on the pixels of an image, which take the colour of their cluster's centre.

`experiments.clustering --image=...` runs it.
"""

import hashlib
import importlib.util
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import frame
from mllab.errors import UserError, unknown
from mllab.metrics import Interval, interval
from mllab.models import kmeans
from mllab.report import table
from mllab.report.report import Bullets, Drawing, Report, Section
from mllab.report.table import Table, legible

CLUSTERS = (2, 4, 8, 16, 32, 64)  # default numbers of colours
BUNDLED = ("china", "flower")  # images that come with scikit-learn
SAMPLE = 10_000  # pixels that the centres are fitted to; each seed draws its own
SEAM, STRIP = 0.02, 0.09  # of an image's height: white, and the strip of its colours, below it


class Quantized(NamedTuple):
    """An image in k colours."""

    k: int
    colours: np.ndarray  # [k, 3] in [0, 1]
    labels: np.ndarray  # [H, W] colour of each pixel
    error: float  # root mean squared, in steps of 8-bit values


@dataclass(frozen=True)
class Image:
    """The original."""

    path: str
    name: str
    height: int
    width: int
    colours: int


@dataclass(frozen=True)
class Fit:
    """The error with k colours over the seeds, and the image of least error."""

    k: int
    error: Interval
    file: str
    best: Quantized = frame.unsaved()


@dataclass(frozen=True)
class Quantization:
    """The errors of an image with each number of colours."""

    image: Image
    seeds: list[int]
    restarts: int
    sample: int  # pixels
    fits: list[Fit]
    pixels: np.ndarray = frame.unsaved()  # [H, W, 3] in [0, 1]


def measure(
    run: frame.Context, image: str, ks: tuple[int, ...] | None, seeds: int, restarts: int
) -> Quantization:
    """Quantize an image to each number of colours, once a seed, and write the best of each as a PNG file."""
    with run.timed("data"):
        ks = ks or CLUSTERS
        path = locate(image)
        pixels = read(path)
        distinct = len(np.unique(pixels.reshape(-1, 3), axis=0))
        if ks[-1] > distinct:
            raise UserError(f"--clusters: {ks[-1]} colours of the {distinct} that {path} has: give fewer")
        run.read({path.name: hashlib.sha256(path.read_bytes()).hexdigest()})
        mesh = run.mesh()
    flat, sample = pixels.reshape(-1, 3), min(SAMPLE, pixels.shape[0] * pixels.shape[1])
    run.progress.task(path.name, seeds * len(ks))
    quantized: dict[int, list[Quantized]] = {k: [] for k in ks}
    with run.timed("colours"):
        for seed in range(seeds):
            drawn = jnp.asarray(flat[np.random.default_rng(seed).choice(len(flat), sample, replace=False)])
            for k in ks:
                fitted = kmeans.fit(jax.random.key(seed), drawn, k, restarts=restarts, mesh=mesh)
                labels, squared = jax.device_get(kmeans.assign(fitted, jnp.asarray(flat)))
                error = 255 * float(np.sqrt(squared.mean(dtype=np.float64) / 3))
                quantized[k].append(Quantized(k, np.asarray(fitted.centres), labels.reshape(pixels.shape[:2]), error))
                run.record([{"seed": seed, "k": k, "error": error}])
                run.progress.advance()
    fits = []
    for k, by_seed in quantized.items():
        best = min(by_seed, key=lambda one: one.error)
        file = run.write(f"colours-{k}.png", png(best)).name
        fits.append(Fit(k, interval(np.array([one.error for one in by_seed])), file, best))
    original = Image(str(path), path.stem, pixels.shape[0], pixels.shape[1], distinct)
    return Quantization(original, list(range(seeds)), restarts, sample, fits, pixels)


def locate(image: str) -> Path:
    """Return the path of an image, from its path or a name in BUNDLED.

    Raises:
        UserError: no such file or name, or scikit-learn is not installed.
    """
    if image not in BUNDLED:
        path = Path(image).expanduser()
        if path.is_file():
            return path
        if path.suffix or path.name != image:
            raise UserError(f"--image={image}: no such file; give the path of an image, or {' or '.join(BUNDLED)}")
        raise unknown("image", image, BUNDLED)
    package = importlib.util.find_spec("sklearn")  # finding the package is free; importing it would take a second
    for folder in (package.submodule_search_locations if package else None) or []:
        path = Path(folder) / "datasets" / "images" / f"{image}.jpg"
        if path.is_file():
            return path
    raise UserError(f"{image} comes with scikit-learn, which is not installed: pip install 'mllab[experiments]'")


def read(path: Path) -> np.ndarray:
    """Return an image at its own size, [H, W, 3] in [0, 1].

    Raises:
        UserError: see `mllab.data.picture.decode`; or Pillow is not installed.
    """
    try:
        from mllab.data import picture  # brings Pillow
    except ImportError:
        raise UserError(
            f"reading {path} needs Pillow, which is not installed: pip install 'mllab[experiments]'"
        ) from None
    return picture.read(path, picture.stored_size(path), channels=3)


def png(quantized: Quantized) -> bytes:
    """Return the image as a PNG file, with a palette if that can hold its colours: it is smaller."""
    from PIL import Image as pillow

    palette = np.round(255 * quantized.colours).astype(np.uint8)
    if quantized.k > 256:
        image = pillow.fromarray(palette[quantized.labels])
    else:
        image = pillow.fromarray(quantized.labels.astype(np.uint8))
        image.putpalette(palette.tobytes())
    content = io.BytesIO()
    image.save(content, format="PNG")
    return content.getvalue()


# ── The report ──────────────────────────────────────────────────────────────────────────────────────────────────────
