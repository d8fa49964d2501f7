"""Figures made of pictures: a confusion matrix, mistakes, filters, feature maps, saliency.

As in `mllab.report.figures`, every function takes plain arrays and returns a matplotlib `Figure`, and `figures.save`
writes it. A picture is [height, width, channels] in [0, 1], grey (1 channel) or RGB (3). It stands in the SVG as a PNG
of its own pixels, enlarged without smoothing: 8 × 8 pixels stay 64 squares. Where a figure would hold more than
PIXELS of them, its pictures are averaged down, so that its file stays below 400 kB.
"""

import math
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from mllab.report import layout
from mllab.report.layout import EDGE, FAINT, INK, LABEL, NOTE, SOFT, TICK, WIDTH
from mllab.report.palette import VERMILLION
from mllab.report.series import Floats

PIXELS = 80_000  # in a figure; noise, which PNG cannot compress, takes 4.2 bytes each in an SVG
SIGNED = matplotlib.colormaps["RdBu_r"]  # blue below 0, white, red above
AMOUNT = matplotlib.colormaps["viridis"]  # dark blue at least, yellow at most
MISTAKEN = LinearSegmentedColormap.from_list("mistaken", ["#f9d9c3", VERMILLION, "#7a2f00"])

MISTAKES = 24  # of each kind, as many as a figure shows
FILTERS = 64
MAPS = 16  # of a layer
LAYERS = 8
SALIENT = 12
ROOM = WIDTH - 2 * EDGE
GAP = 7.0  # between neighbours
SEAM = 2.0  # between what belongs together
BIGGEST = 64.0  # side of the image that feature maps are of
SMALLEST = 6.0  # type that is still read


@layout.with_look
def confusion(counts: ArrayLike, classes: Sequence[str], *, title: str, note: str = "") -> Figure:
    """Draw a confusion matrix: the diagonal in grey, mistakes in colour, so that few of them stand out among many hits.

    Numbers are written where they fit into their cells, and names where they fit beside them: up to about 20 and 45
    classes.

    Args:
        counts: test rows of each true class (rows) that were predicted as each class (columns), [C, C].
        classes: name of each class.
        title: the message, or the question.
        note: one more sentence for the foot of the figure.
    """
    counts = np.asarray(counts).astype(int)
    if counts.shape != (len(classes), len(classes)):
        raise ValueError(f"counts has shape {counts.shape}, and there are {len(classes)} classes")
    names = [_fitted(legible(name), ROOM / 4, TICK) for name in classes]
    margin = max(_width(name, TICK) for name in names) + 5
    cell = min((ROOM - margin) / len(names), 44.0)
    size = min(TICK, 0.9 * cell)
    if size < SMALLEST:
        names, margin, cell = [], 0.0, ROOM / len(names)
    widest = max((_width(name, size) for name in names), default=0.0)
    upright = widest > cell - 2
    above = LABEL * 1.6 + (widest if upright else size if names else 0) + 4
    side = cell * len(counts)
    wrong = np.where(np.eye(len(counts), dtype=bool), 0, counts)
    foot = ["Grey: right.", _scale(wrong), "" if names else "Classes in their order, unnamed.", note]
    figure, canvas, top = _open(title, above + side, foot)
    layout.write(figure, EDGE, top - NOTE, "Rows: the true class. Columns: the predicted one.", NOTE, color=SOFT)
    left, top = EDGE + margin, top - above
    _put(canvas, _cells(counts, wrong), left, top, side, side)
    if names:  # lines between cells that are large enough to have them
        inner = np.arange(1, len(counts)) * cell
        canvas.vlines(left + inner, top - side, top, color="white", linewidth=0.6)
        canvas.hlines(top - inner, left, left + side, color="white", linewidth=0.6)
    for index, name in enumerate(names):
        middle, lower = cell * (index + 0.5), 0.36 * size  # from the middle of a letter to its foot
        layout.write(figure, left - 5, top - middle - lower, name, size, ha="right")
        if upright:
            turned = {"rotation": 90, "rotation_mode": "anchor"}
            layout.write(figure, left + middle + lower, top + 4, name, size, **turned)
        else:
            layout.write(figure, left + middle, top + 4, name, size, ha="center")
    _write_counts(figure, counts, wrong, left, top, cell)
    return figure


def _cells(counts: np.ndarray, wrong: np.ndarray) -> Floats:
    """Return the matrix as a picture [C, C, 3]: grey diagonal, white zeros, mistakes the darker the more there are."""
    picture = np.where((wrong > 0)[..., None], MISTAKEN(wrong / max(wrong.max(), 1))[..., :3], 1.0)
    diagonal = np.arange(len(counts))
    picture[diagonal, diagonal] = matplotlib.colors.to_rgb(FAINT)
    return picture


def _scale(wrong: np.ndarray) -> str:
    most = wrong.max()
    if most <= 1:
        return "Colour: 1 mistake." if most else "No mistakes."
    return f"Colour: mistakes, from 1 (pale) to {most:,} (dark) in a cell."


def _write_counts(figure: Figure, counts: np.ndarray, wrong: np.ndarray, left: float, top: float, cell: float) -> None:
    """Write the numbers into their cells, zeros left out, if the widest of them fits."""
    size = min(TICK, 0.9 * cell, TICK * (cell - 2) / _width(f"{counts.max()}", TICK, "bold"))
    if size < SMALLEST:
        return
    for row, column in np.argwhere(counts):
        x, y = left + cell * (column + 0.5), top - cell * (row + 0.5) - 0.36 * size
        weight = "bold" if row == column else "normal"
        color = "white" if wrong[row, column] > 0.45 * wrong.max() else INK
        layout.write(figure, x, y, f"{counts[row, column]}", size, ha="center", weight=weight, color=color)


@layout.with_look
def mistakes(
    images: ArrayLike,
    true: Sequence[int],
    predicted: Sequence[int],
    probability: Sequence[float],
    classes: Sequence[str],
    *,
    title: str,
    note: str = "",
) -> Figure:
    """Draw mistaken pictures, each with `true → predicted` and the probability that was given to the prediction.

    Args:
        images: the most confident mistake first, [M, H, W, 1 or 3]; the first MISTAKES of them are shown.
        true: class of each, [M].
        predicted: class that each was taken for, [M].
        probability: of the predicted class, in [0, 1], [M].
        classes: name of each class.
        title: the message, or the question.
        note: one more sentence for the foot of the figure.
    """
    pictures = _shrunk(_rgb(images)[:MISTAKES], PIXELS)
    said = [
        (legible(classes[one]), f"→ {legible(classes[other])}", _percent(sure))
        for one, other, sure in list(zip(true, predicted, probability, strict=True))[:MISTAKES]
    ]
    lines = [[f"{one} {other}, {sure}"] for one, other, sure in said]
    tiles = _tiles(6, below=1)
    if any(_width(line, NOTE) > tiles.side for (line,) in lines):
        lines, tiles = [list(each) for each in said], _tiles(4, below=3)
    foot = ["Each picture: its true class → what it was taken for, and how surely.", note]
    figure, canvas, top = _open(title, tiles.height(len(pictures)), foot)
    for index, picture in enumerate(pictures):
        left, upper = tiles.at(index, top)
        _put(canvas, picture, left, upper, tiles.side, tiles.side)
        _write_below(figure, lines[index], left, upper, tiles)
    return figure


@layout.with_look
def filters(weights: ArrayLike, *, title: str, names: Sequence[str] = (), note: str = "") -> Figure:
    """Draw the weights that look at the image itself: a tile a filter, or a unit.

    Of one channel: blue is negative, white 0, red positive. Of three: grey is 0, and each colour's weight makes it
    brighter or darker. All tiles have one scale, which the figure tells.

    Args:
        weights: of the first layer, [kh, kw, 1 or 3, C]; the first FILTERS of them are shown.
        title: the message, or the question.
        names: what is written below each tile, [C]: the classes, where there is a unit a class.
        note: one more sentence for the foot of the figure.
    """
    every = np.moveaxis(_finite(weights), -1, 0)
    shown, count, channels = every[:FILTERS], len(every), every.shape[-1]
    most = float(np.abs(shown).max(initial=0.0)) or 1.0
    half = (_shrunk(shown, PIXELS) / most + 1) / 2
    pictures = SIGNED(half[..., 0])[..., :3] if channels == 1 else _rgb(half)
    tiles = _tiles(5 if names else 8 if len(shown) <= 32 else 16, below=1 if names else 0)
    colours = "Blue: negative, white: 0, red: positive" if channels == 1 else "Grey: 0; a colour's weight brightens it"
    foot = [
        f"{colours}; one scale for all, from {layout.plain(-_rounded(most))} to {layout.plain(_rounded(most))}.",
        f"The first {len(shown)} of {count}." if count > len(shown) else "",
        note,
    ]
    figure, canvas, top = _open(title, tiles.height(len(pictures)), foot)
    for index, picture in enumerate(pictures):
        left, upper = tiles.at(index, top)
        _put(canvas, picture, left, upper, tiles.side, tiles.side)
        if names:
            _write_below(figure, [legible(names[index])], left, upper, tiles)
    return figure


@layout.with_look
def feature_maps(
    image: ArrayLike, layers: Sequence[tuple[str, ArrayLike]], *, title: str, caption: str = "", note: str = ""
) -> Figure:
    """Draw what each layer makes of one image: the image, then up to MAPS maps a layer, each layer on its own scale.

    Args:
        image: [H, W, 1 or 3].
        layers: name of each layer and its maps [h, w, C], in order; of more than LAYERS, as many are picked evenly.
        title: the message, or the question.
        caption: what the image is.
        note: one more sentence for the foot of the figure.
    """
    picked = np.unique(np.linspace(0, len(layers) - 1, min(LAYERS, len(layers))).round().astype(int))
    shown = [(layers[index][0], np.asarray(layers[index][1], float)) for index in picked]
    tiles, heading = _tiles(8), LABEL * 1.7
    body = heading + BIGGEST + sum(GAP + heading + tiles.height(min(maps.shape[-1], MAPS)) for _, maps in shown)
    foot = [
        "Dark blue: the least of a layer, yellow: the most; each layer on its own scale.",
        f"At most {MAPS} maps a layer, the first ones.",
        f"{len(shown)} of {len(layers)} layers." if len(shown) < len(layers) else "",
        note,
    ]
    figure, canvas, top = _open(title, body, foot)
    layout.write(figure, EDGE, top - LABEL, _fitted(_printable(caption), ROOM, LABEL) or "the image", LABEL)
    _put(canvas, _shrunk(_rgb(np.asarray(image)[None]), PIXELS // 9)[0], EDGE, top - heading, BIGGEST, BIGGEST)
    top -= heading + BIGGEST
    for name, maps in shown:
        height, width, count = maps.shape
        stack = _finite(np.moveaxis(maps, -1, 0)[:MAPS, ..., None])
        low, high = float(stack.min()), float(stack.max())
        pictures = AMOUNT((_shrunk(stack, PIXELS // 9)[..., 0] - low) / ((high - low) or 1.0))[..., :3]
        top -= GAP
        of = f"{len(stack)} of {count}" if count > len(stack) else f"{count}"
        span = f"{layout.plain(_rounded(low))} to {layout.plain(_rounded(high))}"
        told = f"{name}: {of} map{'s' * (count > 1)} of {height} × {width}, {span}"
        layout.write(figure, EDGE, top - LABEL, _fitted(told, ROOM), NOTE)
        top -= heading
        for index, picture in enumerate(pictures):
            left, upper = tiles.at(index, top)
            _put(canvas, picture, left, upper, tiles.side, tiles.side)
        top -= tiles.height(len(pictures))
    return figure


@layout.with_look
def saliency(
    images: ArrayLike,
    gradients: ArrayLike,
    true: Sequence[int],
    predicted: Sequence[int],
    classes: Sequence[str],
    *,
    title: str,
    note: str = "",
) -> Figure:
    """Draw each image beside how much each of its pixels moves the logit: the gradient's size, its largest channel.

    Source: Simonyan, Vedaldi and Zisserman 2013, "Deep Inside Convolutional Networks", section 3.

    Args:
        images: [M, H, W, 1 or 3]; the first SALIENT of them are shown.
        gradients: of a logit by the pixels of its image, same shape.
        true: class of each image, [M].
        predicted: class that each was taken for, [M].
        classes: name of each class.
        title: the message, or the question.
        note: one more sentence for the foot of the figure.
    """
    pictures = _shrunk(_rgb(images)[:SALIENT], PIXELS // 2)
    steep = np.abs(_finite(gradients)[:SALIENT])
    steep = _shrunk(steep.max(axis=-1, keepdims=True), PIXELS // 2)[..., 0]
    most = steep.max(axis=(1, 2), keepdims=True)
    maps = AMOUNT(steep / np.where(most > 0, most, 1.0))[..., :3]
    tiles = _tiles(3, below=1, wide=2)
    foot = ["Yellow: where a pixel moves the logit most; each map on its own scale, from 0.", note]
    figure, canvas, top = _open(title, tiles.height(len(pictures)), foot)
    for index, (picture, heat) in enumerate(zip(pictures, maps, strict=True)):
        left, upper = tiles.at(index, top)
        _put(canvas, picture, left, upper, tiles.side, tiles.side)
        _put(canvas, heat, left + tiles.side + SEAM, upper, tiles.side, tiles.side)
        one, other = (legible(classes[which[index]]) for which in (true, predicted))
        _write_below(figure, [one if one == other else f"{one} → {other}"], left, upper, tiles)
    return figure


def legible(name: str) -> str:
    """Return a name as a figure can write it: one line, printable, cut in its middle where it is very long."""
    return layout.shorten(_printable(name))


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)


class _Tiles(NamedTuple):
    """A grid of squares, row by row, with room for lines of text below each."""

    columns: int
    side: float
    right: float  # from one to the next in its row
    down: float  # from one row to the next
    wide: int  # squares side by side in one place

    def at(self, index: int, top: float) -> tuple[float, float]:
        """Return the left and upper border of a tile in a grid that begins at `top`."""
        return EDGE + index % self.columns * self.right, top - index // self.columns * self.down

    def height(self, count: int) -> float:
        """Return how high a grid of so many tiles is, but for the gap after its last row."""
        return max(-(-count // self.columns) * self.down - GAP, 0.0)


def _tiles(columns: int, *, below: int = 0, wide: int = 1) -> _Tiles:
    gap = GAP if columns <= 8 else GAP / 2
    right = (ROOM + gap) / columns
    side = (right - gap - SEAM * (wide - 1)) / wide
    return _Tiles(columns, side, right, side + below * NOTE * 1.35 + gap, wide)


def _open(title: str, body: float, foot: Sequence[str]) -> tuple[Figure, Axes, float]:
    """Return a sheet with title and notes, axes over all of it whose data are points, and where the body begins."""
    foot = [sentence for sentence in foot if sentence]
    figure = layout.sheet(layout.title_height(title) + GAP + body + GAP + layout.note_height(foot))
    layout.write_note(figure, foot)
    top = layout.write_title(figure, title) - GAP
    canvas = figure.add_axes((0, 0, 1, 1))
    canvas.set_axis_off()
    width, height = figure.get_size_inches() * 72
    canvas.set(xlim=(0, width), ylim=(0, height))
    return figure, canvas, top


def _put(canvas: Axes, picture: np.ndarray, left: float, top: float, width: float, height: float) -> None:
    """Put a picture [H, W, 3] into the middle of a frame, as large as its shape allows, its pixels left square."""
    rows, columns = picture.shape[:2]
    scale = min(width / columns, height / rows)
    wide, high = columns * scale, rows * scale
    left, top = left + (width - wide) / 2, top - (height - high) / 2
    pixels = (np.clip(picture, 0, 1) * 255).round().astype(np.uint8)
    shown = canvas.imshow(
        pixels, extent=(left, left + wide, top - high, top), aspect="auto", interpolation="none", clip_on=False
    )
    shown.set_gid(f"picture-{len(canvas.images)}")  # the default would be the same for equal pictures
    canvas.add_patch(Rectangle((left, top - high), wide, high, fill=False, edgecolor="#b0b0b0", linewidth=0.4))


def _write_below(figure: Figure, lines: Sequence[str], left: float, top: float, tiles: _Tiles) -> None:
    room = tiles.side * tiles.wide + SEAM * (tiles.wide - 1)
    for rank, line in enumerate(lines, start=1):
        y = top - tiles.side - rank * NOTE * 1.35 + 2
        layout.write(figure, left + room / 2, y, _fitted(line, room), NOTE, ha="center")


def _fitted(text: str, room: float, size: float = NOTE) -> str:
    """Cut a line in its middle until it fits."""
    cut, kept = text, len(text)
    while _width(cut, size) > room and kept > 3:
        kept -= 1
        cut = f"{text[: kept // 2]}…{text[kept // 2 - kept + 1 :]}"
    return cut


def _width(text: str, size: float, weight: str = "normal") -> float:
    """Return how wide a line of text is; Chinese, say, which DejaVu lacks, takes a dash of its size each."""
    wide = ["—" if unicodedata.east_asian_width(character) in "WF" else character for character in text]
    return layout.text_width("".join(wide), size, weight)


def _rgb(images: ArrayLike) -> Floats:
    """Return pictures [M, H, W, 1 or 3] as [M, H, W, 3]."""
    images = _finite(images)
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(f"pictures have shape {images.shape}: [M, height, width, channels] with 1 or 3 channels")
    return np.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images


def _finite(values: ArrayLike) -> Floats:
    """Return numbers with 0 for whatever has no colour."""
    values = np.array(values, float)
    values[~np.isfinite(values)] = 0.0
    return values


def _shrunk(images: Floats, pixels: int) -> Floats:
    """Average pictures [M, H, W, channels] down until all of them together have at most so many pixels."""
    factor = math.sqrt(math.prod(images.shape[:3]) / pixels)
    if factor <= 1:
        return images
    for axis in (1, 2):
        length = images.shape[axis]
        starts = np.arange(kept := max(1, int(length / factor))) * length // kept
        sizes = np.diff(starts, append=length)
        images = np.add.reduceat(images, starts, axis) / np.expand_dims(sizes, tuple({0, 1, 2, 3} - {axis}))
    return images


def _percent(probability: float) -> str:
    return ">99%" if probability >= 0.995 else f"{probability:.0%}"


def _rounded(value: float) -> float:
    return float(f"{value:.2g}")
