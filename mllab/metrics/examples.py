"""Metrics of each example, and what is derived from their means.

A metrics function maps outputs and targets to a dict of values [B] (or `Losses`, to weight tokens); `Run.score` takes
the weighted means over the rows. What is not a mean (RMSE, R²) is derived from means afterwards, on the host.
"""

from collections.abc import Mapping
from typing import TypeVar

import jax.numpy as jnp
import numpy as np

from mllab import checks, losses
from mllab.errors import UserError
from mllab.types import Array, Outputs

Errors = TypeVar("Errors", Array, np.ndarray)


def classification(outputs: Outputs, targets: Array) -> dict[str, Array]:
    """Return `loss` (cross entropy, nats) and `accuracy` (0 or 1) of each example, [B]."""
    loss = losses.cross_entropy(outputs, targets)
    correct = jnp.argmax(jnp.asarray(outputs), axis=-1) == jnp.asarray(targets)
    return {"loss": loss, "accuracy": correct.astype(jnp.float32)}


def regression(outputs: Outputs, targets: Array) -> dict[str, Array]:
    """Return `loss` (squared error, for T outputs the mean over them) of each example, [B].

    For T > 1 also `squared_error_0` to `squared_error_{T - 1}`, those of each output; see `by_output`.
    """
    squares = losses.squared_errors(outputs, targets)
    if squares.ndim == 1:
        return {"loss": squares}
    return {"loss": jnp.mean(squares, axis=1), **named_by_output(squares.T)}


def named_by_output(squares: Errors) -> dict[str, Errors]:
    """Return squared errors [T, ...] of T > 1 outputs by the names that `by_output` reads; nothing for one output."""
    return {_of_output(t): squares[t] for t in range(len(squares))} if len(squares) > 1 else {}


def gaussian_log_density(values: Array, variance: Array, targets: Array) -> Array:
    r"""Return $\log N(y; \hat y, \sigma^2)$ of each example, [M], in nats per unit of the targets.

    Args:
        values: the means, [M].
        variance: [M], or one for all.
        targets: [M].

    Raises:
        UserError: values and targets of different shapes.
    """
    squares = losses.squared_errors(values, targets)
    return -0.5 * (jnp.log(2 * jnp.pi * variance) + squares / variance)


def by_output(mean_metrics: Mapping[str, np.ndarray], outputs: int) -> np.ndarray:
    """Return the mean squared error of each of T outputs, [T, ...], from the mean metrics of `regression`."""
    names = ["loss"] if outputs == 1 else [_of_output(t) for t in range(outputs)]
    return np.stack([np.asarray(mean_metrics[name]) for name in names])


def _of_output(output: int) -> str:
    return f"squared_error_{output}"


def most_frequent(targets: np.ndarray) -> int:
    """Return the most frequent class, the first one in a tie: the prediction of the baseline classifier.

    Raises:
        UserError: targets that are no whole numbers [M] of 0 or more, one or more.
    """
    array = np.asarray(checks.as_numbers(targets, "targets"))
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iu" or array.min() < 0:
        raise UserError(f"targets: {array.dtype}{list(array.shape)}, expected whole numbers [M] of 0 or more")
    return int(np.bincount(array).argmax())


def r_squared(squared_error: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return R² from a mean squared error over rows with targets [M]; the variance of constant targets counts as 1.

    Raises:
        UserError: targets that are not finite numbers [M], one or more.
    """
    squared_error = np.asarray(checks.as_numbers(squared_error, "squared_error"))
    targets = np.asarray(checks.as_numbers(targets, "targets"))
    checks.check_shape(targets, ("M",), "targets")
    checks.check_finite(targets, "targets")
    targets = targets if targets.dtype.itemsize >= 4 else targets.astype(np.float32)
    return 1 - squared_error / (float(targets.var()) or 1.0)
