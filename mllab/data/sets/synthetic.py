"""Synthetic data sets, which need no file: a noisy line, six houses, and points in the plane by class."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from mllab import tasks
from mllab.data.dataset import Dataset
from mllab.data.scaling import standardise
from mllab.data.split import shuffled, stratified

Draw = Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]  # points [N, 2] and classes [N]


def line_dataset(files: Mapping[str, Path], split_seed: int) -> Dataset:
    """Return `line` as a data set, always with the same noise; `files` is empty."""
    del files
    x, y = line(np.random.default_rng(0))
    split = shuffled(len(x), split_seed)
    inputs, _, _ = standardise(x[:, None], split.train)
    targets, mean, scale = standardise(y, split.train)
    return Dataset(
        name="line",
        task=tasks.REGRESSION.name,
        inputs=inputs,
        targets=targets,
        split=split,
        standardised=True,
        features=("x",),
        target="y",
        target_mean=float(mean),
        target_scale=float(scale),
    )


def plane_dataset(name: str, draw: Draw) -> Callable[[Mapping[str, Path], int], Dataset]:
    """Return the loader of points in the plane, always the same ones.

    Args:
        name: of the data set.
        draw: one of the functions below.
    """

    def load(files: Mapping[str, Path], split_seed: int) -> Dataset:
        del files
        points, labels = draw(np.random.default_rng(0))
        classes = tuple(map(str, range(labels.max() + 1)))
        split = stratified(labels, split_seed, classes=classes)
        inputs, _, _ = standardise(points, split.train)
        return Dataset(
            name=name,
            task=tasks.CLASSIFICATION.name,
            inputs=inputs,
            targets=labels.astype(np.int32),
            split=split,
            standardised=True,
            features=("x", "y"),
            classes=classes,
            target="class",
        )

    return load


def line(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw y = 2x + 25 + noise: 800 points, x evenly spaced in [-20, 20), normal noise with sigma 0.5.

    Returns:
        x [800] and y [800], float64, not standardised.
    """
    x = np.arange(-20, 20, 0.05)
    return x, 2 * x + 25 + generator.normal(0.0, 0.5, x.shape)


def houses() -> tuple[np.ndarray, np.ndarray]:
    """Return the areas (square feet) and the prices (thousand dollars) of six houses, each [6] float64."""
    area = np.array([1210.0, 1450.0, 750.0, 1200.0, 1380.0, 840.0])
    price = np.array([234.0, 266.0, 172.0, 232.0, 257.0, 184.0])
    return area, price


def circles(generator: np.random.Generator, count: int = 600, noise: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """Draw points [N, 2] on a circle of radius 1/2 (class 1) inside a circle of radius 1 (class 0)."""
    labels = np.arange(count) % 2
    angle = generator.uniform(0, 2 * np.pi, count)
    points = np.stack([np.cos(angle), np.sin(angle)], axis=1) / (1 + labels)[:, None]
    return points + generator.normal(0, noise, points.shape), labels


def moons(generator: np.random.Generator, count: int = 600, noise: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """Draw points [N, 2] on two interleaved half circles, class 1 the lower one; no line separates them."""
    labels = np.arange(count) % 2
    angle = generator.uniform(0, np.pi, count)
    points = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    points = np.where(labels[:, None] == 1, np.array([1, 0.5]) - points, points)
    return points + generator.normal(0, noise, points.shape), labels


def xor(generator: np.random.Generator, count: int = 600, noise: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """Draw points [N, 2] in the square from -1 to 1; class 1 where x and y differ in sign before noise is added."""
    points = generator.uniform(-1, 1, (count, 2))
    labels = (np.prod(points, axis=1) < 0).astype(int)
    return points + generator.normal(0, noise, points.shape), labels


def blobs(
    generator: np.random.Generator, count: int = 600, centres: int = 4, spread: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Draw points [N, 2] from round normal distributions, one a class, with centres on a circle.

    Neighbouring centres are 5 apart; `spread` is the standard deviation of each distribution.
    """
    labels = np.arange(count) % centres
    angle = 2 * np.pi * np.arange(centres) / centres
    radius = 2.5 / np.sin(np.pi / centres) if centres > 1 else 0.0
    positions = radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return positions[labels] + generator.normal(0, spread, (count, 2)), labels


def stretched(generator: np.random.Generator, count: int = 600) -> tuple[np.ndarray, np.ndarray]:
    """Draw points [N, 2] from three overlapping normal distributions with different covariances, one a class.

    A mixture with full covariances separates them; k-means, which assumes round clusters of one size, does not.
    """
    labels = np.arange(count) % 3
    centres = np.array([[-2.0, 0.0], [2.0, 0.0], [0.0, 2.5]])
    shapes = np.array([[[0.6, 0.5], [0.0, 1.6]], [[0.6, -0.5], [0.0, 1.6]], [[2.0, 0.0], [0.0, 0.35]]])
    points = generator.normal(size=(count, 2))
    return centres[labels] + np.einsum("nij,nj->ni", shapes[labels], points), labels
