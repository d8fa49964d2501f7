r"""Augmentation: pure functions of (key, images [B, H, W, C]) that draw for each image anew.

Every draw has an axis B, so that a batch spread over devices stays where it is. Those of `AUGMENTATIONS` keep the
labels, and what becomes of one image depends on no other; `mixup` blends pairs, and their labels with them. "Zero" is
the number 0, whatever the data's scaling made of it: black where pixels go from 0 to 1, the mean where they were
centred.

**shift**: a translation; what comes in over the border is 0.

    $$ x'_{ij} = x_{i + r, j + c}, \quad r, c \sim U\{-p, \ldots, p\} $$

**crop** (He et al. 2016, arXiv:1512.03385, §4.2): a random window, of the image's own size, of the image padded by $p$
on each side. They pad with zeros, which is `shift`; here the image is mirrored at its outermost pixels, so that
photographs get no black border: a pixel $k$ before the border is the one $k$ behind it.

**flip**: left to right, one image in two. Not for what has a handedness, such as digits and letters.

**cutout** (DeVries and Taylor 2017, arXiv:1708.04552): a square of zeros whose centre is anywhere in the image, so that
it may hang over the edge.

**mixup** (Zhang et al. 2018, arXiv:1710.09412): each image with a partner from its batch, and so their one-hot labels
$y$. The weight is drawn for each pair; the authors' code draws one a batch.

    $$ x'_i = \lambda_i x_i + (1 - \lambda_i) x_j, \quad y'_i = \lambda_i y_i + (1 - \lambda_i) y_j,
       \quad \lambda_i \sim \mathrm{Beta}(\alpha, \alpha) $$
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from mllab.errors import UserError, unknown
from mllab.types import Array, Examples, Hyper, Key, Params

Augmentation = Callable[[Key, Array], Array]  # (key, images [B, H, W, C]) -> images; labels stay true
Objective = Callable[[Hyper, Params, Any, Examples, Key], tuple[Array, Any]]  # as `training.Objective`


def shift(key: Key, images: Array, pixels: int) -> Array:
    """Return each image moved by up to `pixels` up or down and left or right, zeros where it came from.

    Raises:
        UserError: images that are not [B, H, W, C], or fewer than 0 pixels.
    """
    _, height, width, _ = _shape(images)
    if pixels < 0:
        raise UserError(f"shift by {pixels} pixels: give 0 or more")
    rows, columns = _moved(key, images, pixels)
    inside = _both((rows >= 0) & (rows < height), (columns >= 0) & (columns < width))
    return jnp.where(inside, _pick(images, rows.clip(0, height - 1), columns.clip(0, width - 1)), 0)


def crop(key: Key, images: Array, pixels: int) -> Array:
    """Return a random window, of its own size, of each image mirrored at its border for `pixels`.

    Raises:
        UserError: images that are not [B, H, W, C], fewer than 0 pixels, or more than a side can mirror.
    """
    _, height, width, _ = _shape(images)
    if not 0 <= pixels < min(height, width):
        raise UserError(f"crop by {pixels} pixels: a side of {min(height, width)} can mirror 0 to one less than that")
    rows, columns = _moved(key, images, pixels)

    def mirrored(source: Array, length: int) -> Array:
        return length - 1 - jnp.abs(length - 1 - jnp.abs(source))

    return _pick(images, mirrored(rows, height), mirrored(columns, width))


def flip(key: Key, images: Array) -> Array:
    """Return the images, one in two of them mirrored left to right.

    Raises:
        UserError: images that are not [B, H, W, C].
    """
    batch, height, width, _ = _shape(images)
    rows = jnp.broadcast_to(jnp.arange(height), (batch, height))
    columns = jnp.broadcast_to(jnp.arange(width), (batch, width))
    chosen = jax.random.bernoulli(key, shape=(batch, 1))
    return _pick(images, rows, jnp.where(chosen, columns[:, ::-1], columns))


def cutout(key: Key, images: Array, size: int) -> Array:
    """Return the images with a square of `size` × `size` zeros in each, as far as it lies inside.

    Raises:
        UserError: images that are not [B, H, W, C], or a size below 1.
    """
    batch, height, width, _ = _shape(images)
    if size < 1:
        raise UserError(f"cutout of {size} × {size} pixels: give a size of 1 or more")

    def covered(key: Key, length: int) -> Array:
        first = jax.random.randint(key, (batch, 1), 0, length) - size // 2
        place = jnp.arange(length)[None] - first
        return (place >= 0) & (place < size)

    row_key, column_key = jax.random.split(key)
    return jnp.where(_both(covered(row_key, height), covered(column_key, width)), 0, images)


def mixup(key: Key, images: Array, labels: Array, alpha: float | Array, classes: int) -> tuple[Array, Array]:
    """Return each image blended with a partner's, and their labels as probabilities.

    Partners are a random permutation of the batch, so that an image may be its own.

    Args:
        key: what to draw from.
        images: [B, H, W, C].
        labels: [B] in 0..C-1.
        alpha: of the Beta distribution: 1 is uniform, near 0 most images stay nearly as they are. May be traced.
        classes: C.

    Returns:
        Images [B, H, W, C] and probabilities [B, C], as `losses.cross_entropy` takes them.

    Raises:
        UserError: images that are not [B, H, W, C], or an alpha that is not positive.
    """
    batch = _shape(images)[0]
    if isinstance(alpha, int | float) and not alpha > 0:
        raise UserError(f"mixup with alpha = {alpha}: give a positive number, such as 0.2, or leave mixup out")
    partner_key, weight_key = jax.random.split(key)
    partner = jax.random.permutation(partner_key, batch)
    own = jax.random.beta(weight_key, alpha, alpha, (batch,))

    def blend(values: Array) -> Array:
        weight = own.reshape(own.shape + (1,) * (values.ndim - 1))
        others = jnp.asarray(values).at[partner].get(mode="promise_in_bounds")
        return (weight * values + (1 - weight) * others).astype(values.dtype)

    return blend(images), blend(jax.nn.one_hot(labels, classes))


def _part(images: Array, parts: int) -> int:
    """Return that part of an image's shorter side in pixels, 1 at least."""
    return max(1, min(images.shape[1:3]) // parts)


# AUGMENTATIONS[name](key, images) -> images. Sizes follow the shorter side. At 28 or 32 pixels they are the field's: a
# shift by 2, a crop by 3 or 4 (He et al. 2016), a square of 14 or 16 (DeVries and Taylor 2017, CIFAR-10).
AUGMENTATIONS: Mapping[str, Augmentation] = {
    "shift": lambda key, images: shift(key, images, _part(images, 14)),
    "crop": lambda key, images: crop(key, images, _part(images, 8)),
    "flip": flip,
    "cutout": lambda key, images: cutout(key, images, _part(images, 2)),
}


def compose(names: Sequence[str]) -> Augmentation:
    """Return the augmentations of the table by these names, one after the other; without names, nothing changes.

    Raises:
        UserError: an unknown name, or one given twice.
    """
    for name in names:
        if name not in AUGMENTATIONS:
            raise unknown("augmentation", name, AUGMENTATIONS)
    if len(set(names)) != len(names):
        raise UserError(f"augmentations {', '.join(names)}: name each once")

    def augment(key: Key, images: Array) -> Array:
        for position, name in enumerate(names):
            images = AUGMENTATIONS[name](jax.random.fold_in(key, position), images)
        return images

    return augment


def augmented(objective: Objective, augment: Augmentation) -> Objective:
    """Return the objective on augmented inputs; whatever else is in the examples passes through."""

    def losses(hyper, params, extra, examples, key):
        augment_key, key = jax.random.split(key)
        inputs = augment(augment_key, examples["inputs"])
        return objective(hyper, params, extra, {**examples, "inputs": inputs}, key)

    return losses


def mixed(objective: Objective, alpha: float | Array, classes: int) -> Objective:
    """Return the objective after `mixup` of inputs and targets: its loss is to take probabilities [B, C]."""

    def losses(hyper, params, extra, examples, key):
        mixup_key, key = jax.random.split(key)
        inputs, targets = mixup(mixup_key, examples["inputs"], examples["targets"], alpha, classes)
        return objective(hyper, params, extra, {**examples, "inputs": inputs, "targets": targets}, key)

    return losses


def _shape(images: Array) -> tuple[int, int, int, int]:
    if images.ndim != 4:
        raise UserError(f"augmentation takes images [B, H, W, C], not inputs of shape {list(images.shape)}")
    batch, height, width, channels = images.shape
    return batch, height, width, channels


def _moved(key: Key, images: Array, pixels: int) -> tuple[Array, Array]:
    """Return the source row [B, H] and column [B, W] of each pixel of images moved at random, outside ones too."""
    batch, height, width, _ = images.shape
    rows, columns = jax.random.randint(key, (2, batch, 1), -pixels, pixels + 1)
    return rows + jnp.arange(height)[None], columns + jnp.arange(width)[None]


def _pick(images: Array, rows: Array, columns: Array) -> Array:
    """Return images [B, H, W, C] whose pixel (i, j) is the source's (rows[i], columns[j]), an image its own.

    The fastest form measured on XLA's CPU backend: it fuses a gather whose indices are promised to be in bounds, and
    reads pixels where `images[:, ::-1]` or a reflecting `jnp.pad` copy.
    """
    return jax.vmap(lambda image, i, j: image.at[i[:, None], j[None]].get(mode="promise_in_bounds"))(
        images, rows, columns
    )


def _both(rows: Array, columns: Array) -> Array:
    """Return where [B, H, W, 1] both the row [B, H] and the column [B, W] are meant."""
    return (rows[:, :, None] & columns[:, None, :])[..., None]
