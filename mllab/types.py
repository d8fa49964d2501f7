"""Types and axis letters shared by the whole library.

Axis letters, wherever a shape is written: B batch, T time, D features in, H hidden, C classes or channels,
N examples, K folds or clusters, L lanes, S steps, V vocabulary.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

Array = jax.Array
Key = jax.Array  # a typed PRNG key, `jax.random.key(seed)`
Params = Any  # a pytree of arrays whose shapes carry the architecture
Inputs = Any  # [N, ...], or a pytree of such
Outputs = Any  # logits [B, C], values [B], ...
OptimizerState = Any  # a pytree of arrays; the name of optax's, whose own type cannot be resolved outside optax
Examples = Any  # a pytree of arrays with leading N
Hyper = Mapping[str, Any]  # the traced settings of a run, by name: what a sweep sweeps
Metrics = dict[str, Array]  # weighted means over the rows that were scored, by name


def is_concrete(value: object) -> bool:
    """Return True if `value` is not a tracer."""
    return not isinstance(value, jax.core.Tracer)


class Rows(NamedTuple):
    """Which examples to use, in what order, and how much each counts.

    A batch schedule is `[S, B]`, folds are `[K, M]`, a split is `[M]`. Padding repeats a valid id with weight 0, so
    that unequal folds and short last batches keep one shape. Data stay whole; steps gather rows.
    """

    ids: Array | np.ndarray  # int32
    weight: Array | np.ndarray  # float32, same shape as ids


class Losses(NamedTuple):
    """Losses of a batch, one per example or one per token, and how much each counts.

    Their mean over rows is sum(values · weights · row weight) / sum(weights · row weight): a mean over tokens where the
    weights are 1 for tokens and 0 for padding.
    """

    values: Array  # [B, ...]
    weights: Array  # same shape


# (hyper, params, extra, batch, key) -> (losses, extra). A bare array [B] counts each example once.
Objective = Callable[[Hyper, Params, Any, Examples, Key], tuple[Losses | Array, Any]]
# (hyper, params, extra, batch) -> ({name: Losses or values [B]}, extra)
Measure = Callable[[Hyper, Params, Any, Examples], tuple[Mapping[str, Losses | Array], Any]]
