"""Data that need no file: a noisy line and the six houses of the lecture."""

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
