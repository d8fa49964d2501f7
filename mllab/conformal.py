r"""Prediction intervals without assumptions on the errors, from the folds of a cross-validation (CV+).

    low, high = cv_plus(predictions, residuals, fold)  # predictions [K, M] of the K models that left a fold out

Rows are assumed exchangeable: new rows come from where the training rows came from.
"""

import numpy as np

from mllab import checks
from mllab.errors import UserError

CELLS = 2**24  # of predictions and residuals, combined at once


def cv_plus(
    predictions: np.ndarray, residuals: np.ndarray, fold: np.ndarray, coverage: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    r"""Return the lower and upper bounds [M] of CV+ prediction intervals.

    With $R_i = |y_i - \hat\mu_{-k(i)}(x_i)|$ the residual of training row i by the model that left out its fold, the
    bounds are the $\lfloor \alpha (n + 1) \rfloor$-th smallest of $\hat\mu_{-k(i)}(x) - R_i$ and the
    $\lceil (1 - \alpha) (n + 1) \rceil$-th smallest of $\hat\mu_{-k(i)}(x) + R_i$, with $\alpha$ = 1 - coverage.
    They hold the truth with a probability of at least $1 - 2 \alpha - \sqrt{2 / n}$ whatever the model, and of about
    the coverage where the model is stable.

    Args:
        predictions: of the new rows by each fold's model, [K, M].
        residuals: absolute, of the training rows by the model that left them out, [n].
        fold: of each training row, 0..K-1, [n].
        coverage: above 0 and below 1.

    Returns:
        Minus and plus infinity where n is too small for the coverage.

    Raises:
        UserError: arrays that do not match, residuals that are negative or not finite, or another coverage.

    Source: Barber, Candès, Ramdas and Tibshirani, *Predictive inference with the jackknife+*, Annals of Statistics 49
    (2021), section 3.
    """
    predictions = np.asarray(checks.as_numbers(predictions, "predictions"), np.float64)
    residuals = np.asarray(checks.as_numbers(residuals, "residuals"), np.float64)
    fold = np.asarray(checks.as_numbers(fold, "fold"))
    if predictions.ndim != 2 or residuals.ndim != 1 or residuals.size == 0 or fold.shape != residuals.shape:
        raise UserError(
            f"predictions {list(predictions.shape)}, residuals {list(residuals.shape)}, fold {list(fold.shape)}: "
            "expected [K, M], [n] and [n]"
        )
    if fold.dtype.kind not in "iu" or fold.min() < 0 or fold.max() >= len(predictions):
        raise UserError(f"fold: expected whole numbers from 0 to {len(predictions) - 1}")
    if not np.isfinite(residuals).all() or residuals.min() < 0:
        raise UserError("residuals: expected absolute values, finite")
    if not 0 < coverage < 1:
        raise UserError(f"coverage = {coverage}: give a number between 0 and 1")
    count, rows = len(residuals), predictions.shape[1]
    below = int(np.floor((1 - coverage) * (count + 1) + 1e-9))  # the rank of the lower bound, from 1
    low, high = np.full(rows, -np.inf), np.full(rows, np.inf)
    if below < 1:
        return low, high
    for start in range(0, rows, block := max(1, CELLS // count)):
        part = slice(start, start + block)
        centres = predictions[fold, part]  # [n, block]
        low[part] = np.partition(centres - residuals[:, None], below - 1, axis=0)[below - 1]
        high[part] = -np.partition(-(centres + residuals[:, None]), below - 1, axis=0)[below - 1]
    return low, high
