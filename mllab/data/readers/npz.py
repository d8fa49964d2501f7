"""A user's own images as arrays in an NPZ file, as a data set.

The file holds `images` and `labels` (or `x`, `X` and `y`, `Y`), which are split 60/20/20, stratified by class; or
`x_train`, `y_train`, `x_test` and `y_test`, as Keras names them. Then the file's test rows are the test rows, and a
sixth of its training rows, stratified by class, is for validation.
"""

import hashlib
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mllab import tasks
from mllab.data.dataset import Dataset
from mllab.data.readers import image_file
from mllab.data.readers.image_dataset import classes_of, resized
from mllab.data.readers.image_file import Size
from mllab.data.split import VALIDATION_SIXTH_NOTE, stratified, with_own_test_rows
from mllab.errors import UserError

IMAGES = ("images", "x", "X")
LABELS = ("labels", "y", "Y")
TRAIN_TEST = (("x_train", "y_train"), ("x_test", "y_test"))

Arrays = Mapping[str, np.ndarray]  # by their names in the file, training rows first


def load(path: Path, *, size: Size | None, split_seed: int) -> Dataset:
    """Read an NPZ file of images and labels.

    Images are [N, height, width] or [N, height, width, channels]: 1 channel (grey), 3 (red, green, blue), or one more
    for the opacity; these are composited on white. Values are uint8, uint16, floats in [0, 1] or floats in [0, 255].
    Labels are whole numbers 0 to C - 1, or strings.

    Args:
        path: of the file.
        size: height and width to resize to; None leaves the images unchanged.
        split_seed: seed of the split, or of the validation rows if the file has its own test rows.

    Raises:
        UserError: the file holds anything else; the message names file, array and row.
    """
    arrays, pairs = _read(path)
    for images_name, labels_name in pairs:
        _check(path, arrays, images_name, labels_name)
    inputs, notes = _inputs(path, {name: arrays[name] for name, _ in pairs})
    targets, classes = classes_of(path, {name: arrays[name] for _, name in pairs})
    if len(pairs) > 1:
        split = with_own_test_rows(targets, len(arrays[pairs[0][0]]), split_seed, classes)
        notes.append(VALIDATION_SIXTH_NOTE)
    else:
        split = stratified(targets, split_seed, classes=classes)
    with open(path, "rb") as content:
        sha256 = hashlib.file_digest(content, "sha256").hexdigest()
    dataset = Dataset(
        name=path.name,
        task=tasks.CLASSIFICATION.name,
        inputs=inputs,
        targets=targets,
        split=split,
        classes=classes,
        target="class",
        sha256={path.name: sha256},
        notes=tuple(notes),
    )
    return resized(dataset, size)


def _read(path: Path) -> tuple[dict[str, np.ndarray], list[tuple[str, str]]]:
    """Return the arrays, and their names as pairs of images and labels: one pair, or training and test."""
    try:
        with open(path, "rb") as content:
            if not zipfile.is_zipfile(content):
                raise UserError(f"{path} is not an NPZ file: write it with numpy.savez")
        with np.load(path, allow_pickle=False) as archive:
            pairs = _pairs(path, archive.files)
            arrays = {name: archive[name] for pair in pairs for name in pair}
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, KeyError, RuntimeError, MemoryError) as error:
        fault = str(error).partition("\n")[0] or type(error).__name__
        raise UserError(f"{path} cannot be read ({fault}): write it again with numpy.savez") from None
    if others := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:
        raise UserError(f"{path}: {others[0]!r} is not an array: write the file again with numpy.savez")
    return arrays, pairs


def _pairs(path: Path, names: list[str]) -> list[tuple[str, str]]:
    """Return which of the names in the file are images and labels, in pairs."""
    holds = f"{path} holds {', '.join(names) or 'nothing'}"
    if any(name in names for pair in TRAIN_TEST for name in pair):
        if absent := [name for pair in TRAIN_TEST for name in pair if name not in names]:
            raise UserError(f"{holds}, but no {absent[0]}: add it, or join all rows in images and labels")
        return list(TRAIN_TEST)

    def one_of(choices: tuple[str, ...]) -> str:
        present = [name for name in choices if name in names]
        if not present:
            keras = ", ".join(name for pair in TRAIN_TEST for name in pair)
            raise UserError(
                f"{holds}, but no {choices[0]}: name the array {' or '.join(choices)} (or all arrays {keras})"
            )
        if len(present) > 1:
            raise UserError(f"{holds}: {' and '.join(present)} may both be the {choices[0]}; keep one of them")
        return present[0]

    return [(one_of(IMAGES), one_of(LABELS))]


def _check(path: Path, arrays: Arrays, images_name: str, labels_name: str) -> None:
    """Raise UserError unless the shapes of the images and their labels are as `load` describes them."""
    pixels, labels = arrays[images_name], arrays[labels_name]
    shape = list(pixels.shape)
    if pixels.ndim not in (3, 4) or 0 in shape:
        raise UserError(
            f"{path}: {images_name} has shape {shape}, expected [N, height, width] or [N, height, width, channels]"
        )
    if pixels.ndim == 4 and shape[3] > 4:
        hint = (
            f"; transpose [N, channels, height, width] by {images_name}.transpose(0, 2, 3, 1)" if shape[1] < 5 else ""
        )
        raise UserError(
            f"{path}: {images_name} has shape {shape}, expected 1 or 3 channels, or 2 or 4 with opacity{hint}"
        )
    if labels.ndim != 1:
        raise UserError(
            f"{path}: {labels_name} has shape {list(labels.shape)}, expected [N]: apply argmax(axis=1) to one-hot rows "
            "or ravel() to a column"
        )
    if len(pixels) != len(labels):
        raise UserError(
            f"{path}: {images_name} holds {len(pixels):,} images and {labels_name} {len(labels):,} labels, expected as "
            "many: write matching arrays"
        )


def _inputs(path: Path, arrays: Arrays) -> tuple[np.ndarray, list[str]]:
    """Return images [N, height, width, 1 or 3] in [0, 1] from all arrays, and notes on how they were prepared."""
    (first, pixels), *others = arrays.items()
    for name, other in others:
        if other.dtype != pixels.dtype or other.shape[1:] != pixels.shape[1:]:
            raise UserError(
                f"{path}: {first} holds {pixels.dtype} {list(pixels.shape[1:])} and {name} {other.dtype} "
                f"{list(other.shape[1:])}: write both with the same dtype and shape"
            )
    notes = []
    white = _white(path, arrays)
    if pixels.dtype.kind == "f" and white > 1:
        notes.append("divided floats by 255, since some exceed 1")
    inputs = np.concatenate(list(arrays.values())).astype(np.float32) / np.float32(white)
    if inputs.ndim == 3:
        inputs = inputs[..., None]
    if inputs.shape[-1] in (2, 4):
        notes.append("composited images with transparency on white")
        inputs = image_file.on_white(inputs)
    return inputs, notes


def _white(path: Path, arrays: Arrays) -> int:
    """Return the value of white: the maximum of an integer type; 1 or 255 for floats."""
    first, dtype = next((name, pixels.dtype) for name, pixels in arrays.items())
    if dtype.kind == "u" and dtype.itemsize <= 2:
        return 2 ** (8 * dtype.itemsize) - 1
    if dtype.kind != "f":
        raise UserError(
            f"{path}: {first} holds {dtype}, expected uint8, uint16 or floats: convert it, with astype(numpy.uint8) if "
            "its values are 0 to 255"
        )
    highest = max(pixels.max() for pixels in arrays.values())
    # Images in [0, 255] reach 2; a maximum between 1 and 2 is an error in [0, 1], and / 255 would turn it black.
    limit = 255 if highest >= 2 else 1
    for name, pixels in arrays.items():
        wrong = np.argwhere(~((pixels >= 0) & (pixels <= limit)))
        if len(wrong):
            raise UserError(
                f"{path}: {name} holds {pixels[tuple(wrong[0])]:g} in image {wrong[0][0]}, expected floats in [0, 1] "
                "or in [0, 255]: rescale or clip them"
            )
    return limit
