"""Standardisation to mean 0 and standard deviation 1 over the training rows."""

import numpy as np


def standardise(values: np.ndarray, train: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shift and scale each column by the mean and the standard deviation of its training rows.

    Args:
        values: [N] or [N, D] float64, finite; no column is constant over the training rows.
        train: ids of the training rows.

    Returns:
        The standardised columns, float32 with the shape of `values` (infinite where float32 overflows); their means
        and their standard deviations, [] or [D] float64.
    """
    # Squares of 1e200 overflow, so the power of two that brings the training rows into [-1, 1] is divided out; exact.
    _, exponent = np.frexp(np.abs(values[train]).max(axis=0))
    with np.errstate(over="ignore"):
        unit = np.ldexp(values, -exponent)
        mean, scale = unit[train].mean(axis=0), unit[train].std(axis=0)
        columns = ((unit - mean) / scale).astype(np.float32)
    return columns, np.ldexp(mean, exponent), np.ldexp(scale, exponent)
