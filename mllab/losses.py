r"""Losses of each example. The caller takes the weighted mean; see `mllab.types.Losses`.

Cross entropy of logits $z$ and target probabilities $q$:  $\ell = \log \sum_c e^{z_c} - \sum_c q_c z_c$, whose gradient
is $P - q$ ($P$ the softmax of $z$). A label $y$ is the one-hot $q$.

Label smoothing (Szegedy et al. 2016, arXiv:1512.00567, §7) mixes the uniform distribution over the $C$ classes into
the target:  $q'_c = (1 - \epsilon) q_c + \epsilon / C$. It is for training only; metrics use the unsmoothed targets.

Squared error of a value $\hat y$ and a target $y$:  $\ell = (\hat y - y)^2$.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from mllab import checks
from mllab.errors import UserError
from mllab.types import Array, Losses, is_concrete


def per_example(values: Array | Losses) -> Losses:
    """Return losses [B] as `Losses` that count each example once; `Losses` are returned unchanged.

    Raises:
        UserError: values of another shape than [B], which a broadcasting mistake would give.
    """
    if isinstance(values, Losses):
        return values
    if values.ndim != 1:
        raise UserError(f"losses of shape {values.shape}: return one number per example, [B], or Losses with weights")
    return Losses(values, jnp.ones_like(values))


def cross_entropy(logits: Array, targets: Array) -> Array:
    """Return the cross entropy in nats, [B] (Bishop 2006, eq. 4.108).

    Args:
        logits: [B, C].
        targets: labels [B] in 0..C-1, or probabilities [B, C] that sum to 1, such as `augmentation.mixup` returns.

    Raises:
        UserError: shapes that do not match, or, where they are concrete, entries that are not finite or labels out of
            range.
    """
    logits, targets = _checked(logits, targets)
    return jax.nn.logsumexp(logits, axis=-1) - _expected_logit(logits, targets)


def _checked(logits: Array, targets: Array) -> tuple[Array, Array]:
    """Return logits and targets as arrays; see `cross_entropy`."""
    logits = jnp.asarray(checks.as_numbers(logits, "logits"))
    checks.check_shape(logits, ("B", "C"), "logits")
    if is_concrete(logits) and not np.all(np.asarray(logits < jnp.inf)):  # minus infinity rules a class out
        raise UserError("logits: NaN or infinity, expected log-probabilities up to a constant")
    if checks.as_numbers(targets, "targets").ndim == 1:
        return logits, checks.check_labels(targets, logits.shape[0], logits.shape[1])
    targets = checks.check_inputs(targets, logits.shape, "targets")
    checks.check_at_least(0, targets=targets)
    return logits, targets


def smoothed(smoothing: float | Array) -> Callable[[Array, Array], Array]:
    """Return the cross entropy with label smoothing, with the arguments of `cross_entropy`.

    Args:
        smoothing: epsilon, 0.1 in the paper; may be traced.

    Raises:
        UserError: smoothing outside [0, 1).
    """
    if isinstance(smoothing, int | float) and not 0 <= smoothing < 1:
        raise UserError(f"label smoothing = {smoothing}: give a number from 0 up to, not including, 1")

    def loss(logits: Array, targets: Array) -> Array:
        logits, targets = _checked(logits, targets)
        target = (1 - smoothing) * _expected_logit(logits, targets) + smoothing * jnp.mean(logits, axis=-1)
        return jax.nn.logsumexp(logits, axis=-1) - target

    return loss


def squared_error(values: Array, targets: Array) -> Array:
    """Return the squared error, [B]: for T outputs the mean over them.

    Args:
        values: [B] or [B, 1], or [B, T].
        targets: [B], or [B, T].

    Raises:
        UserError: shapes that do not match.
    """
    squares = squared_errors(values, targets)
    return squares if squares.ndim == 1 else jnp.mean(squares, axis=1)


def squared_errors(values: Array, targets: Array) -> Array:
    """Return the squared error of each output, [B] or [B, T]; arguments and errors as in `squared_error`."""
    values, targets = (
        checks.check_inputs(array, ("B", "..."), name) for array, name in ((values, "values"), (targets, "targets"))
    )
    fits = values.shape == targets.shape or values.shape == (*targets.shape, 1) or (*values.shape, 1) == targets.shape
    if not fits or targets.ndim not in (1, 2):
        raise UserError(
            f"values {list(values.shape)} and targets {list(targets.shape)}: give [B] and [B], or [B, T] each"
        )
    return jnp.square(values.reshape(targets.shape) - targets)


def _expected_logit(logits: Array, targets: Array) -> Array:
    """Return the expected logit under the target distribution, [B]; for a label, that is the label's logit."""
    if targets.ndim == logits.ndim:
        return jnp.sum(targets * logits, axis=-1)
    # A select, not a gather: the gather's gradient is a scatter, which XLA's CPU backend runs serially.
    is_target = targets[:, None] == jnp.arange(logits.shape[-1])[None]
    return jnp.sum(jnp.where(is_target, logits, 0), axis=-1)
