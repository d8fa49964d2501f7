"""Grids of images: mistakes, filters, feature maps, saliency, nearest neighbours, pictures side by side.

An image is [height, width, channels] in [0, 1], grey (1 channel) or RGB (3). The SVG embeds it as a PNG of its own
pixels, enlarged without smoothing: 8 × 8 pixels stay 64 squares. Images of more than MAX_PIXELS together are averaged
down, so that a file stays below 400 kB. The figures take `true` and `predicted`, the classes of the images [M];
`classes`, the name of each class [C]; and `title`, the message or the question.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from mllab.report.draw import base
from mllab.report.draw.base import INK, LABEL, SOFT, Floats
from mllab.report.table import legible, probability, short

MAX_PIXELS = 80_000  # per figure; noise, which PNG cannot compress, takes 4.2 bytes each in an SVG
MAX_PIXELS_SIDE_BY_SIDE = 240_000  # photographs compress better
MAX_MISTAKES = 24
MAX_FILTERS = 64
MAX_MAPS = 16  # per layer
MAX_LAYERS = 8
MAX_SALIENT = 12
SIGNED = matplotlib.colormaps["RdBu_r"]  # blue below 0, white, red above
AMOUNT = matplotlib.colormaps["viridis"]  # dark blue to yellow
ROOM = 72 * base.WIDTH - 2 * base.EDGE - 6  # points; the width of a grid
CAPTION = 8.5  # points, where class names are too long for the size of notes
LINE = 1.3 * base.NOTE  # points; the height of a line of a caption


@dataclass(frozen=True)
class Group:
    """Images of one shape, in rows, with a caption below each, or below each pair."""

    images: Floats  # [M, H, W, 3]
    captions: Sequence[str] = ()  # one per image or pair, perhaps of several lines; or none
    heading: str = ""
    pairs: bool = False  # whether two consecutive images share a caption
    ruled: bool = False  # whether a vertical line separates the first column


@base.with_look
def image_grid(groups: Sequence[Group], *, columns: int, title: str, notes: Sequence[str] = ()) -> Figure:
    """Draw groups of images as they are, one group below the other, `columns` images or pairs in a row."""
    gap = 7.0 if columns <= 8 else 4.0
    right = (ROOM + gap) / columns  # from one caption to the next
    texts = [line for group in groups for caption in group.captions for line in caption.split("\n")]
    size = base.NOTE if all(base.text_width(text, base.NOTE) <= right - gap for text in texts) else CAPTION
    sides, downs, heights = [], [], []
    for group in groups:
        count = 1 + group.pairs
        _, height, width, _ = group.images.shape
        side = (right - gap - 2 * group.pairs) / count
        lines = max((caption.count("\n") + 1 for caption in group.captions), default=0)
        high = side * min(height / width, 1.5)
        sides.append((side, high))
        downs.append(high + lines * LINE + gap)
        heights.append(max(math.ceil(len(group.images) / count / columns), 1) * downs[-1] - gap)
    headings = sum(LABEL * 1.3 + 13 if group.heading else 6 for group in groups)
    figure = base.figure((sum(heights) + headings) / 72, title=title, notes=notes)
    panels = figure.subplots(len(groups), 1, squeeze=False, height_ratios=heights)[:, 0]
    drawn = 0
    for axes, group, (side, high), down, height in zip(panels, groups, sides, downs, heights, strict=True):
        for index, image in enumerate((np.clip(group.images, 0, 1) * 255).round().astype(np.uint8)):
            place, second = divmod(index, 1 + group.pairs)
            left, top = place % columns * right + second * (side + 2), place // columns * down
            rows, width = image.shape[:2]
            scale = min(side / width, high / rows)
            left, top = left + (side - width * scale) / 2, top + (high - rows * scale) / 2
            extent = (left, left + width * scale, top + rows * scale, top)
            axes.imshow(image, extent=extent, interpolation="none").set_gid(f"picture-{drawn}")  # equal images too
            frame: dict[str, Any] = {"fill": False, "edgecolor": "#b0b0b0", "linewidth": 0.4, "clip_on": False}
            axes.add_patch(Rectangle((left, top), width * scale, rows * scale, **frame))
            drawn += 1
        for place, caption in enumerate(group.captions):
            x, y = place % columns * right + (right - gap) / 2, place // columns * down + high + 1.1 * size
            for rank, line in enumerate(caption.split("\n")):
                text = base.fit(line, size, right - gap)
                axes.text(x, y + rank * LINE, text, size=size, color=INK, ha="center", in_layout=False)
        if group.ruled:
            axes.vlines(right - gap / 2, 0, height, color=SOFT, linewidth=0.8)
        axes.set(xlim=(-1, ROOM + 1), ylim=(height, -1), aspect="equal", anchor="NW")
        axes.set_axis_off()
        if group.heading:
            axes.set_title(base.fit(group.heading, LABEL, ROOM))
    return figure


def mistakes(
    images: ArrayLike, true: Sequence[int], predicted: Sequence[int], probabilities: Sequence[float],
    classes: Sequence[str], *, title: str,
) -> Figure:  # fmt: skip
    """Draw misclassified images [M, H, W, 1 or 3], each with its classes and the probability [M] of the predicted one.

    The first MAX_MISTAKES are shown: put the most confident mistake first.
    """
    chances = [f"({probability(value)})" for value in probabilities]
    parts = list(zip(_verdicts(true, predicted, classes), chances, strict=True))[:MAX_MISTAKES]
    captions, columns = [" ".join(part) for part in parts], 6
    if not _fit(captions, columns):
        captions, columns = ["\n".join(part).replace(" → ", "\n→ ") for part in parts], 4
    notes = ["Below each image: true class → predicted class (probability of the prediction)."]
    return image_grid([Group(shrink(_rgb(images)[:MAX_MISTAKES]), captions)], columns=columns, title=title, notes=notes)


def filters(weights: ArrayLike, *, title: str, names: Sequence[str] = ()) -> Figure:
    """Draw the weights [kh, kw, 1 or 3, C] of a first layer, an image per filter or unit, all on one colour scale.

    The first MAX_FILTERS are shown. `names` [C] stand below them: the classes, where there is a unit per class.
    """
    every = np.moveaxis(_finite(weights), -1, 0)
    shown, count, channels = every[:MAX_FILTERS], len(every), every.shape[-1]
    largest = float(np.abs(shown).max(initial=0.0)) or 1.0
    half = (shrink(shown) / largest + 1) / 2
    images = SIGNED(half[..., 0])[..., :3] if channels == 1 else _rgb(half)
    scale = f"from {short(-largest, 2)} to {short(largest, 2)}, the same for all"
    key = (
        "Blue: negative, white: 0, red: positive"
        if channels == 1
        else "Grey: 0; a positive weight brightens its colour"
    )
    notes = [f"{key}; {scale}.", f"The first {len(shown)} of {count}." if count > len(shown) else ""]
    columns = 5 if names else 8 if len(shown) <= 32 else 16
    captions = [legible(name) for name in names[:MAX_FILTERS]]
    return image_grid([Group(images, captions)], columns=columns, title=title, notes=notes)


def feature_maps(image: ArrayLike, layers: Sequence[tuple[str, ArrayLike]], *, title: str, caption: str) -> Figure:
    """Draw the activations of each layer for one image [H, W, 1 or 3], each layer on its own scale.

    `layers` are names and maps [h, w, C], in order; of at most MAX_LAYERS, evenly spaced, the first MAX_MAPS maps are
    shown. `caption` says what the image is.
    """
    places = np.unique(np.linspace(0, len(layers) - 1, min(MAX_LAYERS, len(layers))).round().astype(int))
    budget = MAX_PIXELS // (MAX_LAYERS + 1)
    groups = [Group(shrink(_rgb(np.asarray(image)[None]), budget), heading=caption)]
    for name, values in (layers[place] for place in places):
        maps = _finite(np.moveaxis(np.asarray(values), -1, 0)[:MAX_MAPS, ..., None])
        low, high = float(maps.min()), float(maps.max())
        height, width, count = np.shape(values)
        number = f"{len(maps)} of {count} maps" if count > len(maps) else f"{count} map{'s' * (count > 1)}"
        heading = f"{name}: {number} of {height} × {width}, {short(low, 2)} to {short(high, 2)}"
        colours = AMOUNT((shrink(maps, budget)[..., 0] - low) / ((high - low) or 1.0))[..., :3]
        groups.append(Group(colours, heading=heading))
    notes = [
        "Dark blue: the lowest value of a layer, yellow: the highest; each layer on its own scale.",
        f"At most {MAX_MAPS} maps per layer, the first ones.",
        f"{len(places)} of {len(layers)} layers." if len(places) < len(layers) else "",
    ]
    return image_grid(groups, columns=8, title=title, notes=notes)


def saliency(
    images: ArrayLike, gradients: ArrayLike, true: Sequence[int], predicted: Sequence[int], classes: Sequence[str],
    *, title: str,
) -> Figure:  # fmt: skip
    """Draw each image beside its saliency map: per pixel the largest absolute gradient over channels.

    The first MAX_SALIENT of the `images` [M, H, W, 1 or 3] are shown, with the `gradients` of a logit with respect to
    their pixels, of the same shape.
    Source: Simonyan, Vedaldi and Zisserman 2013, "Deep Inside Convolutional Networks", section 3.
    """
    shown = shrink(_rgb(images)[:MAX_SALIENT], MAX_PIXELS // 2)
    steep = np.abs(_finite(gradients)[:MAX_SALIENT]).max(axis=-1, keepdims=True)
    steep = shrink(steep, MAX_PIXELS // 2)[..., 0]
    largest = steep.max(axis=(1, 2), keepdims=True)
    maps = AMOUNT(steep / np.where(largest > 0, largest, 1.0))[..., :3]
    pairs = np.stack([shown, maps], axis=1).reshape(-1, *shown.shape[1:])
    captions = _verdicts(true, predicted, classes)[:MAX_SALIENT]
    notes = [
        "Yellow: pixels where the logit's gradient is largest; each map on its own scale, from 0.",
        "→: true and predicted class of a mistake." if any("→" in caption for caption in captions) else "",
    ]
    return image_grid([Group(pairs, captions, pairs=True)], columns=3, title=title, notes=notes)


def neighbours(
    images: ArrayLike, true: Sequence[int], predicted: Sequence[int], nearest: ArrayLike, labels: ArrayLike,
    classes: Sequence[str], *, title: str,
) -> Figure:  # fmt: skip
    """Draw a row per test image [M, H, W, 1 or 3]: the image, then its nearest neighbours, each with its class.

    The neighbours `nearest` [M, K, H, W, 1 or 3], nearest first, have `labels` [M, K].
    """
    rows = np.concatenate([np.asarray(images)[:, None], np.asarray(nearest)], axis=1)
    verdicts = _verdicts(true, predicted, classes)
    if not _fit(verdicts, rows.shape[1]):
        verdicts = [verdict.replace(" → ", "\n→ ") for verdict in verdicts]
    captions = []
    for verdict, each in zip(verdicts, np.asarray(labels), strict=True):
        captions += [verdict, *(legible(classes[label]) for label in each)]
    group = Group(shrink(_rgb(rows.reshape(-1, *rows.shape[2:]))), captions, ruled=True)
    prediction = " → predicted class" if any("→" in verdict for verdict in verdicts) else ""
    notes = [
        f"Left of the line: a test image, its true class{prediction}.",
        "Right: its nearest training rows, nearest first, each with its class.",
    ]
    return image_grid([group], columns=rows.shape[1], title=title, notes=notes)


def side_by_side(images: Sequence[ArrayLike], captions: Sequence[str], *, title: str, columns: int = 2) -> Figure:
    """Draw images of one shape [H, W, 1 or 3] side by side, `columns` in a row, each with a caption.

    Large images are shown by every n-th row and column: averages would add colours to a reduced palette.
    """
    shown = _rgb(np.stack([np.asarray(image, float) for image in images]))
    stride = max(1, math.ceil(math.sqrt(math.prod(shown.shape[:3]) / MAX_PIXELS_SIDE_BY_SIDE)))
    group = Group(shown[:, ::stride, ::stride], captions)
    return image_grid([group], columns=columns, title=title)


def shrink(images: Floats, pixels: int = MAX_PIXELS) -> Floats:
    """Average images [M, H, W, channels] down until all of them together have at most `pixels` pixels."""
    factor = math.sqrt(math.prod(images.shape[:3]) / pixels)
    if factor <= 1:
        return images
    for axis in (1, 2):
        length = images.shape[axis]
        starts = np.arange(kept := max(1, int(length / factor))) * length // kept
        sizes = np.diff(starts, append=length)
        images = np.add.reduceat(images, starts, axis) / np.expand_dims(sizes, tuple({0, 1, 2, 3} - {axis}))
    return images


def _verdicts(true: Sequence[int], predicted: Sequence[int], classes: Sequence[str]) -> list[str]:
    """Return the class of each image; `true class → predicted class` for a mistake."""
    names = [legible(name) for name in classes]
    pairs = zip(true, predicted, strict=True)
    return [names[one] if one == other else f"{names[one]} → {names[other]}" for one, other in pairs]


def _fit(captions: Sequence[str], columns: int) -> bool:
    """Return whether captions of one line fit below images."""
    return all(base.text_width(caption, CAPTION) <= ROOM / columns - 8 for caption in captions)


def _rgb(images: ArrayLike) -> Floats:
    """Return images [M, H, W, 1 or 3] as [M, H, W, 3]."""
    images = _finite(images)
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(f"images have shape {images.shape}, not [M, height, width, 1 or 3 channels]")
    return np.broadcast_to(images, (*images.shape[:3], 3))


def _finite(values: ArrayLike) -> Floats:
    return np.nan_to_num(np.asarray(values, float), nan=0.0, posinf=0.0, neginf=0.0)
