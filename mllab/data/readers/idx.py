"""IDX files, the format of MNIST: a header with type and shape, then the values, big-endian.

`read` reads one file, `labelled_images` four files named like MNIST's, and `load` a user's own folder of such files.

Source: Y. LeCun, C. Cortes and C. Burges, The MNIST database of handwritten digits, "File formats".
"""

import dataclasses
import hashlib
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mllab import tasks
from mllab.data import names as user_names
from mllab.data.dataset import Dataset
from mllab.data.readers import content
from mllab.data.readers.image_memory import check_memory
from mllab.data.split import VALIDATION_SIXTH_NOTE, with_own_test_rows
from mllab.errors import UserError

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
MAX_CLASSES = 256  # labels are bytes
DTYPES = {  # third byte of the header: type of a value
    0x08: ">u1",
    0x09: ">i1",
    0x0B: ">i2",
    0x0C: ">i4",
    0x0D: ">f4",
    0x0E: ">f8",
}


def read(path: str | Path, *, limit: int | None = None) -> np.ndarray:
    """Read one IDX file, gzipped or plain; an array of bytes is read-only, a view of the file's content.

    Args:
        path: of the file.
        limit: on the bytes of its content when decompressed; a share of the memory by default.

    Raises:
        UserError: the file is empty, truncated, damaged, takes more bytes than the limit, or does not fit its header.
    """
    path = Path(path)
    packed = content.read_unpacked(path, limit=limit)
    if not packed:
        raise UserError(f"{path} is empty: replace the file")
    if len(packed) < 4 or packed[:2] != b"\0\0":
        raise UserError(f"{path} is not an IDX file: it starts with {packed[:4].hex(' ')}, expected 00 00")
    code, axes = packed[2], packed[3]
    if code not in DTYPES:
        raise UserError(f"{path} is not an IDX file: 0x{code:02x} is not the code of a type")
    start = 4 + 4 * axes
    if axes == 0 or len(packed) < start:
        raise UserError(f"{path} is truncated inside its header: replace the file")

    dtype = np.dtype(DTYPES[code])
    shape = tuple(int(n) for n in np.frombuffer(packed, ">u4", count=axes, offset=4))
    expected, actual = math.prod(shape) * dtype.itemsize, len(packed) - start
    if expected == 0:
        raise UserError(f"{path} holds no examples: the shape in its header is {list(shape)}; replace the file")
    if actual != expected:
        fault = "truncated" if actual < expected else "too long"
        raise UserError(
            f"{path} is {fault}: the shape {list(shape)} in its header takes {expected:,} bytes, not {actual:,}; "
            "replace the file"
        )
    values = np.frombuffer(packed, dtype, offset=start).reshape(shape)
    return values.astype(dtype.newbyteorder("="), copy=False)


def find(folder: Path) -> dict[str, Path]:
    """Return which of MNIST's four files a folder has, gzipped or plain, by the names that `labelled_images` takes."""
    return {
        f"{name}.gz": path for name in FILES for path in (folder / name, folder / f"{name}.gz") if content.kind(path)
    }


def load(folder: Path, *, size: tuple[int, int] | None, split_seed: int) -> Dataset:
    """Read a user's own folder of four files named like MNIST's, with as many classes as there are labels.

    Args:
        folder: of the files, gzipped or plain.
        size: height and width to resize to; None leaves the images unchanged.
        split_seed: seed of the validation rows.

    Raises:
        UserError: see `labelled_images`; or a file is missing.
    """
    from mllab.data.readers.image_dataset import classes_of, resized  # imports Pillow

    files = find(folder)
    if absent := [name for name in FILES if f"{name}.gz" not in files]:
        raise UserError(f"{folder} has IDX files, but no {absent[0]} (gzipped or plain): add it")
    names = tuple(str(label) for label in range(MAX_CLASSES))
    dataset = labelled_images(user_names.printable(folder.resolve().name), files, split_seed, names, target="class")
    test_start = len(dataset.targets) - len(dataset.split.test)
    labels = {"train-labels": dataset.targets[:test_start], "t10k-labels": dataset.targets[test_start:]}
    _, classes = classes_of(folder, labels)
    sha256 = {path.name: hashlib.sha256(content.read(path)).hexdigest() for path in files.values()}
    dataset = dataclasses.replace(dataset, classes=classes, sha256=sha256, notes=(VALIDATION_SIXTH_NOTE,))
    return resized(dataset, size)


def labelled_images(
    name: str, files: Mapping[str, Path], split_seed: int, classes: tuple[str, ...], target: str
) -> Dataset:
    """Read training and test images and their labels from four IDX files named like MNIST's.

    The test files' rows are the test rows; a sixth of the training files' rows, stratified by class, is for validation.

    Args:
        name: of the data set.
        files: path of each file by its name in `FILES` and `.gz`.
        split_seed: seed of the validation rows.
        classes: names of the classes.
        target: name of the target.

    Returns:
        Images [N, height, width, 1] float32 in [0, 1], the training files' rows first.

    Raises:
        UserError: a file is damaged, images and labels are swapped, or files do not match.
    """
    (train_images, train_labels), (test_images, test_labels) = (
        _labelled(files[f"{part}-images-idx3-ubyte.gz"], files[f"{part}-labels-idx1-ubyte.gz"], len(classes))
        for part in ("train", "t10k")
    )
    if train_images.shape[1:] != test_images.shape[1:]:
        raise UserError(
            f"{name}: training images are {list(train_images.shape[1:])} and test images "
            f"{list(test_images.shape[1:])}, expected one size: replace the files"
        )
    test_start, total = len(train_images), len(train_images) + len(test_images)
    check_memory(name, total, train_images.shape[1:], channels=1)
    inputs = np.empty((total, *train_images.shape[1:], 1), np.float32)
    np.divide(train_images[..., None], np.float32(255), out=inputs[:test_start])
    np.divide(test_images[..., None], np.float32(255), out=inputs[test_start:])
    targets = np.concatenate([train_labels, test_labels], dtype=np.int32, casting="same_kind")
    return Dataset(
        name=name,
        task=tasks.CLASSIFICATION.name,
        inputs=inputs,
        targets=targets,
        split=with_own_test_rows(targets, test_start, split_seed, classes),
        classes=classes,
        target=target,
    )


def _labelled(images_path: Path, labels_path: Path, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images [N, height, width] and labels [N], both uint8."""
    images, labels = read(images_path), read(labels_path)
    for path, array, axes, expected in (
        (images_path, images, 3, "images [N, height, width]"),
        (labels_path, labels, 1, "labels [N]"),
    ):
        if array.ndim != axes or array.dtype != np.uint8:
            raise UserError(
                f"{path} holds {array.dtype} of shape {list(array.shape)}, expected uint8 {expected}: check whether "
                "images and labels are swapped"
            )
    if len(images) != len(labels):
        raise UserError(
            f"{images_path} holds {len(images):,} images and {labels_path} {len(labels):,} labels, expected as many: "
            "replace the files"
        )
    if labels.max() >= classes:
        row = int(labels.argmax())
        raise UserError(
            f"{labels_path}: label {labels[row]} of image {row} is out of range, expected 0 to {classes - 1}: replace "
            "the file"
        )
    return images, labels
