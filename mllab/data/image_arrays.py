"""The user's own images as arrays: an NPZ file, or a folder of IDX files that are named as MNIST's are.

An NPZ file holds `images` and `labels` (or `x`, `X` and `y`, `Y`), which are split 60/20/20 by class; or `x_train`,
`y_train`, `x_test` and `y_test`, as Keras calls them. Then, as with IDX files, the test rows are the set's own, and
validation rows are a sixth of its training rows, by class.
"""

import dataclasses
import hashlib
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mllab.data import images, picture
from mllab.data.dataset import Dataset, Split
from mllab.data.image_files import check_memory, natural_order
from mllab.data.picture import Size
from mllab.data.split import stratified
from mllab.errors import UserError

IMAGES = ("images", "x", "X")
LABELS = ("labels", "y", "Y")
TRAIN_TEST = (("x_train", "y_train"), ("x_test", "y_test"))
IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)

Arrays = Mapping[str, np.ndarray]  # by their names in the file, training rows first


def load_npz(path: Path, *, size: Size | None, split_seed: int) -> Dataset:
    """Read an NPZ file of images and labels.

    Images are [N, height, width] or [N, height, width, C]: C is 1 (grey) or 3 (red, green, blue), or one more for the
    opacity (and they are laid on white). Their values are uint8, uint16, floats in [0, 1], or floats in [0, 255].
    Labels are whole numbers 0 to C - 1, or strings.

    Args:
        path: of the file.
        size: height and width to resize to; None leaves the images as they are.
        split_seed: of the split, or of the validation rows where the file brings its own test rows.

    Raises:
        UserError: naming file, array and row, where it holds anything else.
    """
    arrays, pairs = _read(path)
    for images_name, labels_name in pairs:
        _check(path, arrays, images_name, labels_name)
    inputs, notes = _inputs(path, {name: arrays[name] for name, _ in pairs})
    targets, classes = _targets(path, {name: arrays[name] for _, name in pairs})
    split = _split(targets, len(arrays[pairs[0][0]]), split_seed, classes)
    if len(pairs) > 1:
        notes.append("took a sixth of the training rows for validation, by class")
    with open(path, "rb") as content:
        sha256 = hashlib.file_digest(content, "sha256").hexdigest()
    dataset = Dataset(
        name=path.name,
        task="classification",
        inputs=inputs,
        targets=targets,
        split=split,
        classes=classes,
        target="class",
        sha256={path.name: sha256},
        notes=tuple(notes),
    )
    return _resized(dataset, size)


def idx_files(folder: Path) -> dict[str, Path]:
    """Return which of MNIST's four files a folder has, gzipped or plain, by the name that `images.idx_images` wants."""
    return {
        f"{name}.gz": path for name in IDX_FILES for path in (folder / name, folder / f"{name}.gz") if path.is_file()
    }


def load_idx(folder: Path, *, size: Size | None, split_seed: int) -> Dataset:
    """Read a folder with MNIST's four files, of as many classes as its labels tell; otherwise like `load_npz`."""
    files = idx_files(folder)
    if absent := [name for name in IDX_FILES if f"{name}.gz" not in files]:
        raise UserError(f"{folder} has no file {absent[0]} (gzipped or plain), but others of MNIST's names: add it")
    names = tuple(str(label) for label in range(256))  # all that a byte can name
    dataset = images.idx_images(folder.resolve().name, files, split_seed, names, target="class")
    known = len(dataset.targets) - len(dataset.split.test)
    labels = {"train-labels": dataset.targets[:known], "t10k-labels": dataset.targets[known:]}
    _, classes = _targets(folder, labels)
    sha256 = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files.values()}
    notes = ("took a sixth of the training rows for validation, by class",)
    return _resized(dataclasses.replace(dataset, classes=classes, sha256=sha256, notes=notes), size)


def _read(path: Path) -> tuple[dict[str, np.ndarray], list[tuple[str, str]]]:
    """Return the arrays of images and labels, and their names in pairs: all, or training and test."""
    try:
        with open(path, "rb") as content:
            if not zipfile.is_zipfile(content):
                raise UserError(f"{path} is no NPZ file: write it with numpy.savez")
        with np.load(path, allow_pickle=False) as archive:
            pairs = _pairs(path, archive.files)
            arrays = {name: archive[name] for pair in pairs for name in pair}
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, KeyError, RuntimeError, MemoryError) as error:
        fault = str(error).partition("\n")[0] or type(error).__name__
        raise UserError(f"{path} cannot be read ({fault}): write it anew with numpy.savez") from None
    if strange := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:
        raise UserError(f"{path}: {strange[0]!r} is no array: write it anew with numpy.savez")
    return arrays, pairs


def _pairs(path: Path, names: list[str]) -> list[tuple[str, str]]:
    """Return the names of images and labels among those in the file."""
    holds = f"{path} holds {', '.join(names) or 'nothing'}"
    if any(name in names for pair in TRAIN_TEST for name in pair):
        if absent := [name for pair in TRAIN_TEST for name in pair if name not in names]:
            raise UserError(f"{holds}, but no {absent[0]}: add it, or put all into images and labels")
        return list(TRAIN_TEST)

    def one_of(choices: tuple[str, ...]) -> str:
        found = [name for name in choices if name in names]
        if not found:
            known = [name for pair in TRAIN_TEST for name in pair]
            raise UserError(
                f"{holds}, but no {choices[0]}: call the array {' or '.join(choices)} (or {', '.join(known)})"
            )
        if len(found) > 1:
            raise UserError(f"{holds}: which are the {choices[0]}, {' or '.join(found)}? leave the others out")
        return found[0]

    return [(one_of(IMAGES), one_of(LABELS))]


def _check(path: Path, arrays: Arrays, images_name: str, labels_name: str) -> None:
    """Check the shapes of images and their labels."""
    pixels, labels = arrays[images_name], arrays[labels_name]
    shape = list(pixels.shape)
    if pixels.ndim not in (3, 4) or 0 in shape:
        raise UserError(
            f"{path}: {images_name} is {shape}, where images are [N, height, width] or [N, height, width, channels]"
        )
    if pixels.ndim == 4 and shape[3] > 4:
        hint = (
            f"; transpose [N, channels, height, width] by {images_name}.transpose(0, 2, 3, 1)" if shape[1] < 5 else ""
        )
        raise UserError(f"{path}: {images_name} is {shape}, and images have 1 or 3 channels, 2 or 4 with opacity{hint}")
    if labels.ndim != 1:
        raise UserError(
            f"{path}: {labels_name} is {list(labels.shape)}, where labels are [N]: take argmax(axis=1) of one-hot "
            "rows, ravel() of a column"
        )
    if len(pixels) != len(labels):
        raise UserError(
            f"{path}: {images_name} holds {len(pixels):,} images and {labels_name} {len(labels):,} labels: they do not "
            "match"
        )


def _inputs(path: Path, arrays: Arrays) -> tuple[np.ndarray, list[str]]:
    """Return images [N, height, width, 1 or 3] in [0, 1], of all arrays, and what was done to them."""
    (first, pixels), *others = arrays.items()
    for name, other in others:
        if other.dtype != pixels.dtype or other.shape[1:] != pixels.shape[1:]:
            raise UserError(
                f"{path}: {first} holds {pixels.dtype} {list(pixels.shape[1:])} and {name} {other.dtype} "
                f"{list(other.shape[1:])}: make them alike"
            )
    notes = []
    greatest = _greatest(path, arrays)
    if pixels.dtype.kind == "f" and greatest > 1:
        notes.append("divided floats by 255, since they go beyond 1")
    inputs = np.concatenate(list(arrays.values())).astype(np.float32) / np.float32(greatest)
    if inputs.ndim == 3:
        inputs = inputs[..., None]
    if inputs.shape[-1] in (2, 4):
        notes.append("laid images with transparency on white")
        inputs = picture.on_white(inputs)
    return inputs, notes


def _greatest(path: Path, arrays: Arrays) -> int:
    """Return the value that stands for 1: the type's greatest; 1 or 255 where values are floats."""
    first, dtype = next((name, pixels.dtype) for name, pixels in arrays.items())
    if dtype.kind == "u" and dtype.itemsize <= 2:
        return 2 ** (8 * dtype.itemsize) - 1
    if dtype.kind != "f":
        raise UserError(
            f"{path}: {first} holds {dtype}, where images are uint8, uint16 or floats: convert them, by "
            "astype(numpy.uint8) if they lie in 0 to 255"
        )
    highest = max(pixels.max() for pixels in arrays.values())
    # Images in [0, 255] reach 2; what ends between was meant for [0, 1], and would turn black if divided by 255.
    limit = 255 if highest >= 2 else 1
    for name, pixels in arrays.items():
        wrong = np.argwhere(~((pixels >= 0) & (pixels <= limit)))
        if len(wrong):
            raise UserError(
                f"{path}: {name} holds {pixels[tuple(wrong[0])]:g} in image {wrong[0][0]}, and floats lie in [0, 1] or "
                "in [0, 255]: rescale them, or clip them"
            )
    return limit


def _targets(path: Path, arrays: Arrays) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return classes [N] int32, the arrays one behind the other, and their names; those of the first array are all."""
    (first, labels), *_ = arrays.items()
    for name, array in arrays.items():
        if array.dtype.kind not in "iuU" or (array.dtype.kind == "U") != (labels.dtype.kind == "U"):
            raise UserError(
                f"{path}: {name} holds {array.dtype}, where labels are whole numbers, or strings: convert them"
            )
    values = list(set(labels.tolist()))
    values.sort(key=lambda value: natural_order(str(value)))
    if len(values) < 2:
        raise UserError(f"{path}: all labels of {first} are {values[0]!r}: a classifier needs at least two classes")
    if labels.dtype.kind != "U" and values != list(range(len(values))):
        raise UserError(
            f"{path}: {first} holds {len(values)} different labels, {min(values)} to {max(values)}: number the classes "
            f"0 to {len(values) - 1}, as numpy.unique(..., return_inverse=True) does"
        )
    code = {value: target for target, value in enumerate(values)}
    targets = []
    for name, array in arrays.items():
        for row, label in enumerate(array.tolist()):
            if label not in code:
                raise UserError(f"{path}: label {label!r} of image {row} of {name} is none of those of {first}")
            targets.append(code[label])
    return np.array(targets, np.int32), tuple(str(value) for value in values)


def _split(targets: np.ndarray, train: int, split_seed: int, classes: tuple[str, ...]) -> Split:
    """Split all rows, or the first `train` where others follow, which are for testing."""
    if train == len(targets):
        return stratified(targets, split_seed, classes=classes)
    chosen = stratified(targets[:train], split_seed, (5 / 6, 1 / 6, 0), classes=classes)
    return Split(chosen.train, chosen.validation, np.arange(train, len(targets), dtype=np.int32))


def _resized(dataset: Dataset, size: Size | None) -> Dataset:
    before = dataset.inputs.shape[1:3]
    if size is None or size == before:
        return dataset
    note = f"resized images of {before[0]} × {before[1]} to {size[0]} × {size[1]} (height × width)"
    check_memory(dataset.name, len(dataset.inputs), size)
    inputs = np.stack([picture.resize(pixels, size) for pixels in dataset.inputs])
    return dataclasses.replace(dataset, inputs=inputs, notes=(*dataset.notes, note))
