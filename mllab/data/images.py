"""Labelled images: scikit-learn's digits, MNIST and Fashion-MNIST."""

import gzip
import hashlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mllab.data import idx
from mllab.data.dataset import Dataset, Split
from mllab.data.split import stratified
from mllab.errors import UserError

DIGITS = tuple("0123456789")
FASHION = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def digits(split_seed: int) -> Dataset:
    """Read the 1,797 digits, [1797, 8, 8, 1], that scikit-learn carries; split 60/20/20 by class."""
    path = _embedded_digits()
    packed = path.read_bytes()
    table = np.loadtxt(gzip.decompress(packed).decode().splitlines(), delimiter=",", dtype=np.float32)
    targets = table[:, -1].astype(np.int32)
    return Dataset(
        name="digits",
        task="classification",
        inputs=(table[:, :-1] / 16).reshape(-1, 8, 8, 1),
        targets=targets,
        split=stratified(targets, split_seed, classes=DIGITS),
        classes=DIGITS,
        target="digit",
        sha256={path.name: hashlib.sha256(packed).hexdigest()},
    )


def _embedded_digits() -> Path:
    # Finding the package is free where importing it would cost a second.
    package = importlib.util.find_spec("sklearn")
    folders = (package.submodule_search_locations if package else None) or []
    for folder in folders:
        path = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if path.is_file():
            return path
    raise UserError("digits come with scikit-learn, which is not installed: pip install 'mllab[experiments]'")


def mnist(files: Mapping[str, Path], split_seed: int) -> Dataset:
    """Read MNIST's four files (see `idx_images`)."""
    return idx_images("mnist", files, split_seed, DIGITS, target="digit")


def fashion_mnist(files: Mapping[str, Path], split_seed: int) -> Dataset:
    """Read Fashion-MNIST's four files (see `idx_images`)."""
    return idx_images("fashion_mnist", files, split_seed, FASHION, target="article")


def idx_images(name: str, files: Mapping[str, Path], split_seed: int, classes: tuple[str, ...], target: str) -> Dataset:
    """Read training and test images with their labels from four IDX files, named as MNIST names them.

    Test rows are the set's own. Validation rows are a sixth of its training rows, by class.

    Returns:
        Images [N, height, width, 1] float32 in [0, 1], the training files' rows first.

    Raises:
        UserError: a file is damaged, holds labels where images belong, or does not match its neighbour.
    """
    parts = [
        _labelled(files[f"{part}-images-idx3-ubyte.gz"], files[f"{part}-labels-idx1-ubyte.gz"], len(classes))
        for part in ("train", "t10k")
    ]
    (train_images, train_labels), (test_images, test_labels) = parts
    if train_images.shape[1:] != test_images.shape[1:]:
        raise UserError(
            f"{name}: training images are {list(train_images.shape[1:])} and test images {list(test_images.shape[1:])}"
        )
    known, total = len(train_images), len(train_images) + len(test_images)
    inputs = np.empty((total, *train_images.shape[1:], 1), np.float32)
    np.divide(train_images[..., None], np.float32(255), out=inputs[:known])
    np.divide(test_images[..., None], np.float32(255), out=inputs[known:])
    chosen = stratified(train_labels, split_seed, (5 / 6, 1 / 6, 0), classes=classes)
    return Dataset(
        name=name,
        task="classification",
        inputs=inputs,
        targets=np.concatenate([train_labels, test_labels], dtype=np.int32, casting="same_kind"),
        split=Split(chosen.train, chosen.validation, test=np.arange(known, total, dtype=np.int32)),
        classes=classes,
        target=target,
    )


def _labelled(images_path: Path, labels_path: Path, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images [N, height, width] and labels [N], bytes both."""
    images, labels = idx.read(images_path), idx.read(labels_path)
    for path, array, axes, what in (
        (images_path, images, 3, "images [N, height, width]"),
        (labels_path, labels, 1, "labels [N]"),
    ):
        if array.ndim != axes or array.dtype != np.uint8:
            raise UserError(
                f"{path} holds {array.dtype} of shape {list(array.shape)} where {what} of bytes belong: "
                "are images and labels swapped?"
            )
    if len(images) != len(labels):
        raise UserError(
            f"{images_path} holds {len(images):,} images and {labels_path} {len(labels):,} labels: they do not match"
        )
    if labels.max() >= classes:
        row = int(labels.argmax())
        raise UserError(f"{labels_path}: label {labels[row]} of image {row} is not one of 0 to {classes - 1}")
    return images, labels
