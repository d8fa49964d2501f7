"""Data that need no file: a noisy line, the six houses of the lecture, and points in the plane by class."""

import numpy as np


def line(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw y = 2x + 25 + noise: 800 points, x evenly spaced on [-20, 20), noise normal with sigma 0.5.

    Returns:
        x [800] and y [800], float64, as drawn.
    """
    x = np.arange(-20, 20, 0.05)
    return x, 2 * x + 25 + generator.normal(0.0, 0.5, x.shape)


def houses() -> tuple[np.ndarray, np.ndarray]:
    """Return the area (square feet) and the price (thousand dollars) of six houses, [6] float64 each."""
    area = np.array([1210.0, 1450.0, 750.0, 1200.0, 1380.0, 840.0])
    price = np.array([234.0, 266.0, 172.0, 232.0, 257.0, 184.0])
    return area, price


def circles(generator: np.random.Generator, count: int = 600, noise: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """Draw points [N, 2] on a circle of radius 1/2 (class 1) within one of radius 1 (class 0)."""
    labels = np.arange(count) % 2
    angle = generator.uniform(0, 2 * np.pi, count)
    points = np.stack([np.cos(angle), np.sin(angle)], axis=1) / (1 + labels)[:, None]
    return points + generator.normal(0, noise, points.shape), labels


def moons(generator: np.random.Generator, count: int = 600, noise: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """Draw points [N, 2] on two half circles that reach into each other, class 1 the lower; no line separates them."""
    labels = np.arange(count) % 2
    angle = generator.uniform(0, np.pi, count)
    points = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    points = np.where(labels[:, None] == 1, np.array([1, 0.5]) - points, points)
    return points + generator.normal(0, noise, points.shape), labels


def xor(generator: np.random.Generator, count: int = 600, noise: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """Draw points [N, 2] in the square from -1 to 1; class 1 where the signs of x and y, before noise, differ."""
    points = generator.uniform(-1, 1, (count, 2))
    labels = (np.prod(points, axis=1) < 0).astype(int)
    return points + generator.normal(0, noise, points.shape), labels


def blobs(
    generator: np.random.Generator, count: int = 600, centres: int = 4, spread: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Draw points [N, 2] from normal distributions of one variance about centres on a circle; class: whose they are.

    Neighbouring centres are 5 apart; `spread` is the standard deviation.
    """
    labels = np.arange(count) % centres
    angle = 2 * np.pi * np.arange(centres) / centres
    radius = 2.5 / np.sin(np.pi / centres) if centres > 1 else 0.0
    places = radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return places[labels] + generator.normal(0, spread, (count, 2)), labels


def stretched(generator: np.random.Generator, count: int = 600) -> tuple[np.ndarray, np.ndarray]:
    """Draw points [N, 2] from three normal distributions that lie across each other, each with a covariance of its own.

    A mixture of full covariances tells them apart; k-means, which knows only round clusters of one size, does not.
    """
    labels = np.arange(count) % 3
    centres = np.array([[-2.0, 0.0], [2.0, 0.0], [0.0, 2.5]])
    shapes = np.array([[[0.6, 0.5], [0.0, 1.6]], [[0.6, -0.5], [0.0, 1.6]], [[2.0, 0.0], [0.0, 0.35]]])
    points = generator.normal(size=(count, 2))
    return centres[labels] + np.einsum("nij,nj->ni", shapes[labels], points), labels
