"""The inputs of a table by the statistics of its training rows, in NumPy: nothing to compile before a file is read."""

import numpy as np

from mllab.models.preprocessing import Columns, Layout


def standard_inputs(columns: Columns, layout: Layout, train: np.ndarray) -> np.ndarray:
    """Return what `preprocessing.apply` makes of all rows after `fit` on the training rows, with "standard".

    Args:
        columns: of all rows, [N].
        layout: the static sizes.
        train: ids of the training rows.

    Returns:
        [N, D] float32.
    """
    numbers, codes = np.asarray(columns.numbers), np.asarray(columns.codes)
    inputs = np.zeros((len(numbers), layout.size), np.float32)
    for j in range(layout.numbers):
        values = numbers[:, j].astype(np.float64)
        missing = np.isnan(values)
        if missing.any():
            present = values[train][~missing[train]]
            values[missing] = np.median(present) if len(present) else 0
        fitted = values[train]
        if np.ptp(fitted) > 0:
            inputs[:, j] = (values - fitted.mean()) / fitted.std()
    for j, column in enumerate(layout.indicators, layout.numbers):
        inputs[:, j] = np.isnan(numbers[:, column])
    start = layout.numbers + len(layout.indicators)
    for j, size in enumerate(layout.categories):
        known = np.bincount(codes[train, j] + 1, minlength=size + 1)[1:] > 0
        rows = np.flatnonzero((codes[:, j] >= 0) & known[codes[:, j]])
        inputs[rows, start + codes[rows, j]] = 1
        start += size
    return inputs
