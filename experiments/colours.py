"""A picture in few colours: k-means on its pixels, each of which takes the colour of its cluster's centre."""

import functools
import hashlib
import importlib.util
import io
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from experiments.workdir import Lines, Workdir, finite, process_seconds
from mllab import devices, sweep
from mllab.errors import UserError, unknown
from mllab.metrics import interval
from mllab.models import kmeans
from mllab.report import colours as report
from mllab.report import console

CLUSTERS = (2, 4, 8, 16, 32, 64)
CARRIED = ("china", "flower")  # pictures that scikit-learn brings
SAMPLE = 10_000  # pixels that centres are fitted to, drawn by each seed


class Quantised(NamedTuple):
    """A picture in k colours."""

    seed: int
    k: int
    colours: np.ndarray  # [k, 3] in [0, 1]
    labels: np.ndarray  # [H, W] which colour each pixel takes
    error: float  # root mean squared, in steps of 8-bit values


def locate(image: str) -> Path:
    """Return the path of a picture, by its path or as a name of CARRIED.

    Raises:
        UserError: no such file or name, or scikit-learn is not installed.
    """
    if image not in CARRIED:
        path = Path(image).expanduser()
        if path.is_file():
            return path
        if path.suffix or path.name != image:
            raise UserError(f"--image={image}: no such file; give a picture's path, or {' or '.join(CARRIED)}")
        raise unknown("picture", image, CARRIED)
    # Finding the package is free where importing it would cost a second.
    package = importlib.util.find_spec("sklearn")
    for folder in (package.submodule_search_locations if package else None) or []:
        path = Path(folder) / "datasets" / "images" / f"{image}.jpg"
        if path.is_file():
            return path
    raise UserError(f"{image} comes with scikit-learn, which is not installed: pip install 'mllab[experiments]'")


def read(path: Path) -> np.ndarray:
    """Return a picture at its own size, [H, W, 3] in [0, 1].

    Raises:
        UserError: see `mllab.data.readers.image_file.decode`.
    """
    try:
        from mllab.data.readers import image_file  # brings Pillow
    except ImportError:
        raise UserError(
            f"reading {path} needs Pillow, which is not installed: pip install 'mllab[experiments]'"
        ) from None
    return image_file.read(path, image_file.stored_size(path), channels=3)


def quantise(
    image: np.ndarray,
    ks: Sequence[int],
    seeds: Sequence[int],
    restarts: int,
    mesh: Mesh | None = None,
    observe: Callable[[Quantised], None] = lambda quantised: None,
) -> list[Quantised]:
    """Reduce a picture [H, W, 3] to each number of colours, once for each seed.

    Args:
        image: in [0, 1].
        ks: numbers of colours.
        seeds: each draws the pixels that are fitted to, and the starts.
        restarts: starts of each seed and k, of which the best stays.
        mesh: devices to spread the pixels over.
        observe: told of each picture as it arrives.
    """
    fits = {
        k: sweep.over_points(functools.partial(kmeans.fit, count=k, restarts=restarts), mesh, kmeans.POINT_AXES)
        for k in ks
    }
    pixels, every = image.reshape(-1, 3), []
    for seed in seeds:
        draw = np.random.default_rng(seed)
        sample = jnp.asarray(pixels[draw.choice(len(pixels), min(SAMPLE, len(pixels)), replace=False)])
        for k in ks:
            fit = fits[k](sample, key=jax.random.key(seed))
            labels, squared = jax.device_get(kmeans.assign(fit, jnp.asarray(pixels)))
            error = 255 * float(np.sqrt(squared.mean(dtype=np.float64) / 3))
            quantised = Quantised(seed, k, np.asarray(fit.centres), labels.reshape(image.shape[:2]), error)
            every.append(quantised)
            observe(quantised)
    return every


def run(
    workdir: Workdir,
    image: str = "china",
    clusters: Sequence[int] | None = None,
    *,
    restarts: int = 10,
    seeds: Sequence[int] = (0, 1, 2),
    device_count: int | None = None,
) -> dict[str, Any]:
    """Reduce the colours, write the workdir, show the table; return the summary that summary.json holds.

    Args:
        workdir: where to write, the reduced pictures too.
        image: path of a picture, or a name of CARRIED.
        clusters: numbers of colours, ascending.
        restarts: starts of each seed and k.
        seeds: of pixels and starts.
        device_count: devices to spread the pixels over (default: all).
    """
    seconds = {"start and imports": process_seconds()}
    began = time.perf_counter()
    clusters = list(clusters or CLUSTERS)
    path = locate(image)
    pixels = read(path)
    distinct = len(np.unique(pixels.reshape(-1, 3), axis=0))
    if clusters[-1] > distinct:
        raise UserError(f"--clusters: {clusters[-1]} colours of the {distinct} that {path} has: give fewer")
    mesh = devices.mesh(device_count)
    seconds["data"] = time.perf_counter() - began
    with workdir.opened():
        environment = workdir.write_environment({path.name: hashlib.sha256(path.read_bytes()).hexdigest()}, mesh.size)
        began = time.perf_counter()
        with Lines(workdir.path / "metrics.jsonl") as lines, console.Progress() as progress:
            progress.task(path.name, total=len(seeds) * len(clusters))

            def observe(one: Quantised) -> None:
                lines.add([{"seed": one.seed, "k": one.k, "error": one.error}])
                progress.advance()

            every = quantise(pixels, clusters, seeds, restarts, mesh, observe)
        seconds["colours"] = time.perf_counter() - began
        shown = [min((one for one in every if one.k == k), key=lambda one: one.error) for k in clusters]
        summary: dict[str, Any] = {
            "experiment": "clustering",
            "image": {
                "path": str(path),
                "name": path.stem,
                "height": pixels.shape[0],
                "width": pixels.shape[1],
                "colours": distinct,
            },
            "seeds": list(seeds),
            "restarts": restarts,
            "sample": min(SAMPLE, pixels.shape[0] * pixels.shape[1]),
            "fits": [
                {
                    "k": one.k,
                    "error": interval(np.array([other.error for other in every if other.k == one.k])),
                    "file": workdir.write(f"colours-{one.k}.png", encoded(one)).name,
                }
                for one in shown
            ],
        }
        write_report(workdir, summary, pixels, shown, environment, seconds)
    console.show(report.colour_table(summary))
    print(f"\n{report.answer(summary)}\nReport: {workdir.path / 'report.html'}")
    return summary


def encoded(quantised: Quantised) -> bytes:
    """Return the picture as a PNG: of at most 256 colours as one with a palette, which is small."""
    from PIL import Image

    palette = np.round(255 * quantised.colours).astype(np.uint8)
    if quantised.k > 256:
        image = Image.fromarray(palette[quantised.labels])
    else:
        image = Image.fromarray(quantised.labels.astype(np.uint8))
        image.putpalette(palette.tobytes())
    content = io.BytesIO()
    image.save(content, format="PNG")
    return content.getvalue()


def write_report(
    workdir: Workdir,
    summary: dict[str, Any],
    pixels: np.ndarray,
    shown: Sequence[Quantised],
    environment: Mapping[str, Any],
    seconds: dict[str, float],
) -> None:
    """Write the figures, the page and summary.json."""
    from mllab.report import page

    began = time.perf_counter()
    reduced = [(one.colours, one.labels) for one in shown]
    figures = report.figures(finite(summary), pixels, reduced, workdir.path / "figures")
    seconds["figures"] = time.perf_counter() - began
    summary["seconds"] = seconds | {"total": process_seconds()}
    page.write(workdir.path / "report.html", report.page(finite(summary), figures, environment, workdir.command))
    workdir.write_json("summary.json", summary)
