"""Metrics of each example, and what is derived from their means.

A metrics function maps outputs and targets to a dict of values [B] (or `Losses`, to weight tokens); `Run.score` takes
the weighted means over the rows. What is not a mean (RMSE, R²) is derived from means afterwards, on the host.
"""

import jax.numpy as jnp
import numpy as np

from mllab import losses
from mllab.types import Array, Outputs


def classification(outputs: Outputs, targets: Array) -> dict[str, Array]:
    """Return `loss` (cross entropy, nats) and `accuracy` (0 or 1) of each example, [B]."""
    correct = jnp.argmax(outputs, axis=-1) == targets
    return {"loss": losses.cross_entropy(outputs, targets), "accuracy": correct.astype(jnp.float32)}


def regression(outputs: Outputs, targets: Array) -> dict[str, Array]:
    """Return `loss` (squared error) of each example, [B]."""
    return {"loss": losses.squared_error(outputs, targets)}


def most_frequent(targets: np.ndarray) -> int:
    """Return the most frequent class, the first one in a tie: the prediction of the baseline classifier."""
    return int(np.bincount(targets).argmax())


def r_squared(squared_error: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return R² from a mean squared error over rows with targets [M]; the variance of constant targets counts as 1."""
    return 1 - squared_error / (float(targets.var()) or 1.0)
