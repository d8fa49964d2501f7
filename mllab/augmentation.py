r"""Data augmentation: pure functions of (key, images [B, H, W, C]) with a random draw for each image.

Every draw has the batch axis, so that a batch that is split over devices stays split. The functions of `AUGMENTATIONS`
preserve the label and treat each image independently of the others; `mixup` blends pairs of images and their labels.
Pixels are filled with the number 0: black for pixels in [0, 1], the mean for centred ones.

**shift**: a translation, filled with 0 at the border.

    $$ x'_{ij} = x_{i + r, j + c}, \quad r, c \sim U\{-p, \ldots, p\} $$

**crop** (He et al. 2016, arXiv:1512.03385, §4.2): a random window, of the size of the image, of the image padded by $p$
pixels on each side. The paper pads with zeros, which is `shift`; here the image is reflected at its outermost pixels
(without repeating them), so that photographs get no black border.

**flip**: a horizontal flip with probability 1/2. Unsuitable where orientation matters, as for digits and letters.

**cutout** (DeVries and Taylor 2017, arXiv:1708.04552): a square of zeros whose centre is uniform over the image; it may
extend past the edge.

**mixup** (Zhang et al. 2018, arXiv:1710.09412): each image is blended with a partner from the batch, and likewise their
one-hot labels $y$. The weight is drawn per pair; the authors' code draws one per batch.

    $$ x'_i = \lambda_i x_i + (1 - \lambda_i) x_j, \quad y'_i = \lambda_i y_i + (1 - \lambda_i) y_j,
       \quad \lambda_i \sim \mathrm{Beta}(\alpha, \alpha) $$
"""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp

from mllab.errors import UserError, unknown
from mllab.types import Array, Key, Objective

Augmentation = Callable[[Key, Array], Array]  # (key, images [B, H, W, C]) -> images with the same labels


def shift(key: Key, images: Array, pixels: int) -> Array:
    """Return each image translated by up to `pixels` in both directions, filled with zeros.

    Raises:
        UserError: images that are not [B, H, W, C], or fewer than 0 pixels.
    """
    _, height, width, _ = _shape(images)
    if pixels < 0:
        raise UserError(f"shift by {pixels} pixels: give 0 or more")
    rows, columns = _shifted_positions(key, images, pixels)
    inside = _both((rows >= 0) & (rows < height), (columns >= 0) & (columns < width))
    return jnp.where(inside, _pick(images, rows.clip(0, height - 1), columns.clip(0, width - 1)), 0)


def crop(key: Key, images: Array, pixels: int) -> Array:
    """Return a random window, of the size of the image, of each image padded by reflection of `pixels`.

    Raises:
        UserError: images that are not [B, H, W, C], fewer than 0 pixels, or as many as the shorter side or more.
    """
    _, height, width, _ = _shape(images)
    if not 0 <= pixels < min(height, width):
        raise UserError(f"crop by {pixels} pixels: give 0 up to, not including, the shorter side, {min(height, width)}")
    rows, columns = _shifted_positions(key, images, pixels)

    def reflected(source: Array, length: int) -> Array:
        return length - 1 - jnp.abs(length - 1 - jnp.abs(source))

    return _pick(images, reflected(rows, height), reflected(columns, width))


def flip(key: Key, images: Array) -> Array:
    """Return the images, each flipped left to right with probability 1/2.

    Raises:
        UserError: images that are not [B, H, W, C].
    """
    batch, height, width, _ = _shape(images)
    rows = jnp.broadcast_to(jnp.arange(height), (batch, height))
    columns = jnp.broadcast_to(jnp.arange(width), (batch, width))
    flipped = jax.random.bernoulli(key, shape=(batch, 1))
    return _pick(images, rows, jnp.where(flipped, columns[:, ::-1], columns))


def cutout(key: Key, images: Array, size: int) -> Array:
    """Return each image with a square of `size` × `size` zeros, clipped at the edges.

    Raises:
        UserError: images that are not [B, H, W, C], or a size below 1.
    """
    batch, height, width, _ = _shape(images)
    if size < 1:
        raise UserError(f"cutout of {size} × {size} pixels: give a size of 1 or more")

    def covered(key: Key, length: int) -> Array:
        first = jax.random.randint(key, (batch, 1), 0, length) - size // 2
        offset = jnp.arange(length)[None] - first
        return (offset >= 0) & (offset < size)

    row_key, column_key = jax.random.split(key)
    return jnp.where(_both(covered(row_key, height), covered(column_key, width)), 0, images)


def mixup(key: Key, images: Array, labels: Array, alpha: float | Array, classes: int) -> tuple[Array, Array]:
    """Return each image blended with a partner, and the labels as probabilities.

    Partners are a random permutation of the batch, so an image may be its own partner.

    Args:
        key: source of the draws.
        images: [B, H, W, C].
        labels: [B] in 0..C-1.
        alpha: parameter of the Beta distribution: 1 is uniform; near 0 most images are almost unchanged. May be traced.
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
    lam = jax.random.beta(weight_key, alpha, alpha, (batch,))

    def blend(values: Array) -> Array:
        weight = lam.reshape(lam.shape + (1,) * (values.ndim - 1))
        others = jnp.asarray(values).at[partner].get(mode="promise_in_bounds")
        return (weight * values + (1 - weight) * others).astype(values.dtype)

    return blend(images), blend(jax.nn.one_hot(labels, classes))


def _fraction(images: Array, divisor: int) -> int:
    """Return the shorter side in pixels divided by `divisor`, at least 1."""
    return max(1, min(images.shape[1:3]) // divisor)


# AUGMENTATIONS[name](key, images) -> images. Sizes scale with the shorter side. At 28 or 32 pixels they are the usual
# ones: a shift by 2, a crop by 3 or 4 (He et al. 2016), a square of 14 or 16 (DeVries and Taylor 2017, CIFAR-10).
AUGMENTATIONS: Mapping[str, Augmentation] = {
    "shift": lambda key, images: shift(key, images, _fraction(images, 14)),
    "crop": lambda key, images: crop(key, images, _fraction(images, 8)),
    "flip": flip,
    "cutout": lambda key, images: cutout(key, images, _fraction(images, 2)),
}


def compose(names: Sequence[str]) -> Augmentation:
    """Return the composition of the named augmentations, in order; the identity without names.

    Raises:
        UserError: an unknown or repeated name.
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
    """Return the objective on augmented inputs; the other arrays of a batch are unchanged."""

    def losses(hyper, params, extra, batch, key):
        augment_key, key = jax.random.split(key)
        inputs = augment(augment_key, batch["inputs"])
        return objective(hyper, params, extra, {**batch, "inputs": inputs}, key)

    return losses


def mixed(objective: Objective, alpha: float | Array, classes: int) -> Objective:
    """Return the objective after `mixup` of inputs and targets; its loss must accept probabilities [B, C]."""

    def losses(hyper, params, extra, batch, key):
        mixup_key, key = jax.random.split(key)
        inputs, targets = mixup(mixup_key, batch["inputs"], batch["targets"], alpha, classes)
        return objective(hyper, params, extra, {**batch, "inputs": inputs, "targets": targets}, key)

    return losses


def _shape(images: Array) -> tuple[int, int, int, int]:
    if images.ndim != 4:
        raise UserError(f"augmentation needs images [B, H, W, C], not inputs of shape {list(images.shape)}")
    batch, height, width, channels = images.shape
    return batch, height, width, channels


def _shifted_positions(key: Key, images: Array, pixels: int) -> tuple[Array, Array]:
    """Return the source rows [B, H] and columns [B, W] of randomly shifted images; they may lie outside the image."""
    batch, height, width, _ = images.shape
    rows, columns = jax.random.randint(key, (2, batch, 1), -pixels, pixels + 1)
    return rows + jnp.arange(height)[None], columns + jnp.arange(width)[None]


def _pick(images: Array, rows: Array, columns: Array) -> Array:
    """Return images [B, H, W, C] whose pixel (i, j) is pixel (rows[b, i], columns[b, j]) of image b.

    This is the fastest form measured on XLA's CPU backend, which fuses a gather whose indices are promised to be in
    bounds; `images[:, ::-1]` and a reflecting `jnp.pad` make copies.
    """
    return jax.vmap(lambda image, i, j: image.at[i[:, None], j[None]].get(mode="promise_in_bounds"))(
        images, rows, columns
    )


def _both(rows: Array, columns: Array) -> Array:
    """Return the outer conjunction [B, H, W, 1] of a mask of rows [B, H] and one of columns [B, W]."""
    return (rows[:, :, None] & columns[:, None, :])[..., None]
