"""A user's own images as arrays in an NPZ file, as a data set.

The file holds `images` and `labels` (or `x`, `X` and `y`, `Y`), which are split 60/20/20, stratified by class; or
`x_train`, `y_train`, `x_test` and `y_test`, as Keras names them. Then the file's test rows are the test rows, and a
sixth of its training rows, stratified by class, is for validation.
"""

import hashlib
import io
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mllab import tasks
from mllab.data import names as user_names
from mllab.data.dataset import Dataset
from mllab.data.readers import content, image_file
from mllab.data.readers.image_dataset import classes_of, resized
from mllab.data.readers.image_file import Size
from mllab.data.readers.image_memory import check_memory
from mllab.data.split import VALIDATION_SIXTH_NOTE, stratified, with_own_test_rows
from mllab.errors import UserError, shortened

IMAGES = ("images", "x", "X")
LABELS = ("labels", "y", "Y")
TRAIN_TEST = (("x_train", "y_train"), ("x_test", "y_test"))

HEADERS = {b"\1\0": np.lib.format.read_array_header_1_0, b"\2\0": np.lib.format.read_array_header_2_0}  # by version

Arrays = Mapping[str, np.ndarray]  # by their names in the file, training rows first


def load(path: Path, *, size: Size | None, split_seed: int, limit: int | None = None) -> Dataset:
    """Read an NPZ file of images and labels.

    Images are [N, height, width] or [N, height, width, channels]: 1 channel (grey), 3 (red, green, blue), or one more
    for the opacity; these are composited on white. Values are uint8, uint16, floats in [0, 1] or floats in [0, 255].
    Labels are whole numbers 0 to C - 1, or strings.

    Args:
        path: of the file.
        size: height and width to resize to; None leaves the images unchanged.
        split_seed: seed of the split, or of the validation rows if the file has its own test rows.
        limit: on the bytes of all arrays; a share of the memory by default.

    Raises:
        UserError: the file holds anything else; the message names file, array and row.
    """
    packed = content.read(path, limit=limit)
    arrays, pairs = _read(path, packed, content.default_limit() if limit is None else limit)
    for images_name, labels_name in pairs:
        _check(path, arrays, images_name, labels_name)
    inputs, notes = _inputs(path, {name: arrays[name] for name, _ in pairs})
    targets, classes = classes_of(path, {name: arrays[name] for _, name in pairs})
    if len(pairs) > 1:
        split = with_own_test_rows(targets, len(arrays[pairs[0][0]]), split_seed, classes)
        notes.append(VALIDATION_SIXTH_NOTE)
    else:
        split = stratified(targets, split_seed, classes=classes)
    file = user_names.printable(path.name)
    dataset = Dataset(
        name=file,
        task=tasks.CLASSIFICATION.name,
        inputs=inputs,
        targets=targets,
        split=split,
        classes=classes,
        target="class",
        sha256={file: hashlib.sha256(packed).hexdigest()},
        notes=tuple(notes),
    )
    return resized(dataset, size)


def _read(path: Path, packed: bytes, limit: int) -> tuple[dict[str, np.ndarray], list[tuple[str, str]]]:
    """Return the arrays, and their names as pairs of images and labels: one pair, or training and test."""
    if not zipfile.is_zipfile(io.BytesIO(packed)):
        raise UserError(f"{path} is not an NPZ file: write it with numpy.savez")
    try:
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            members = {name.removesuffix(".npy"): name for name in archive.namelist()}
            pairs = _pairs(path, list(members))
            chosen = {name: members[name] for pair in pairs for name in pair}
            _check_headers(path, archive, chosen, limit)
            arrays = {}
            for name, member in chosen.items():
                with archive.open(member) as file:
                    arrays[name] = np.lib.format.read_array(file, allow_pickle=False)
                    file.read(1)  # the end, where the checksum is verified
    except UserError:
        raise
    except Exception as error:  # zipfile, zlib, bz2, lzma and the parser of NumPy's header raise many kinds
        fault = str(error).partition("\n")[0] or type(error).__name__
        raise UserError(f"{path} cannot be read ({shortened(fault, 200)}): write it again with numpy.savez") from None
    return arrays, pairs


def _check_headers(path: Path, archive: zipfile.ZipFile, members: Mapping[str, str], limit: int) -> None:
    """Raise UserError unless each member is an array whose header fits its size, and all of them fit the limit.

    Args:
        path: of the file, for messages.
        archive: the file.
        members: name in the archive of each array.
        limit: on the bytes of all arrays.
    """
    total = 0
    for name, member in members.items():
        size = archive.getinfo(member).file_size
        total += size
        if total > limit:
            raise content.too_large(path, f"unpacks to more than {content.size_text(limit)}")
        with archive.open(member) as file:
            if file.read(len(np.lib.format.MAGIC_PREFIX)) != np.lib.format.MAGIC_PREFIX:
                raise UserError(f"{path}: {name!r} is not an array: write the file again with numpy.savez")
            version = file.read(2)
            read_header = HEADERS.get(version)
            if read_header is None:
                raise UserError(
                    f"{path}: {name!r} has version {list(version)} of NumPy's format: write it again with numpy.savez"
                )
            shape, _, dtype = read_header(file)
            start = file.tell()
        if dtype.hasobject:
            continue  # `read_array` refuses it
        if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != size - start or not dtype.itemsize:
            raise UserError(
                f"{path}: {name!r} holds {size - start:,} bytes, and the header says {dtype} of shape {list(shape)}: "
                "write the file again with numpy.savez"
            )


def _pairs(path: Path, names: list[str]) -> list[tuple[str, str]]:
    """Return which of the names in the file are images and labels, in pairs."""
    holds = f"{path} holds {shortened(', '.join(names), 200) or 'nothing'}"
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
    height, width = pixels.shape[1:3]
    channels = math.prod(pixels.shape[3:])
    check_memory(str(path), sum(map(len, arrays.values())), (height, width), channels=channels)
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
