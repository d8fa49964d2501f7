"""The inputs of a table by the statistics of its training rows, in NumPy: nothing to compile before a file is read."""

import numpy as np

from mllab.models.preprocessing import Columns, Layout

BLOCK_ROWS = 2**14  # written at once: inputs are stored by rows, and columns by columns


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
    median, mean, scale = (np.zeros(layout.numbers) for _ in range(3))
    for j in range(layout.numbers):
        fitted = numbers[train, j].astype(np.float64)
        missing = np.isnan(fitted)
        if j in layout.indicators and not missing.all():
            median[j] = np.median(fitted[~missing])
        fitted[missing] = median[j]
        mean[j] = fitted.mean()
        scale[j] = fitted.std() if np.ptp(fitted) > 0 else 0
    known = [
        np.append(np.bincount(codes[train, j] + 1, minlength=size + 1)[1:] > 0, False)  # the code -1 is the last
        for j, size in enumerate(layout.categories)
    ]
    inputs = np.zeros((len(numbers), layout.size), np.float32)
    divisor = np.where(scale > 0, scale, np.inf)
    for start in range(0, len(numbers), BLOCK_ROWS):
        rows, out = numbers[start : start + BLOCK_ROWS], inputs[start : start + BLOCK_ROWS]
        missing = np.isnan(rows)
        out[:, : layout.numbers] = (np.where(missing, median, rows) - mean) / divisor
        place = layout.numbers + len(layout.indicators)
        out[:, layout.numbers : place] = missing[:, list(layout.indicators)]
        for j, size in enumerate(layout.categories):
            each = codes[start : start + BLOCK_ROWS, j]
            hot = np.flatnonzero(known[j][each])
            out[hot, place + each[hot]] = 1
            place += size
    return inputs
