"""MNIST and Fashion-MNIST: 60,000 training and 10,000 test images of 28 × 28, read from their four IDX files."""

from collections.abc import Mapping
from pathlib import Path

from mllab.data.dataset import Dataset
from mllab.data.readers import idx

DIGITS = tuple("0123456789")
ARTICLES = (
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


def mnist(files: Mapping[str, Path], split_seed: int) -> Dataset:
    """Read MNIST; see `idx.labelled_images`."""
    return idx.labelled_images("mnist", files, split_seed, DIGITS, target="digit")


def fashion_mnist(files: Mapping[str, Path], split_seed: int) -> Dataset:
    """Read Fashion-MNIST; see `idx.labelled_images`."""
    return idx.labelled_images("fashion_mnist", files, split_seed, ARTICLES, target="article")
