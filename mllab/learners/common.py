"""What all learners share: checks of hyperparameters, examples and rows, and inputs as points."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mllab import checks
from mllab.errors import UserError, unknown
from mllab.rows import as_rows, gather
from mllab.types import Array, Examples, Hyper, Inputs, Key, Outputs, Rows
from mllab.validation import Axes, Learner


def check_hyper(hyper: Mapping[str, Any], required: Collection[str], optional: Collection[str] = ()) -> None:
    """Raise UserError if a required hyper is missing, or one is neither required nor optional."""
    for name in hyper:
        if name not in (*required, *optional):
            raise unknown("hyper", name, (*required, *optional))
    for name in required:
        if name not in hyper:
            raise UserError(f"hyper {name!r} is missing: add it to the axes, or to the setting of a fit")


def checked_learner(
    fit: Callable[[Hyper, Key, Examples, Rows], Any],
    predict: Callable[[Any, Inputs], Outputs],
    grid: Callable[[Axes, Key, Examples, Rows, Rows], Outputs] | None = None,
    *,
    classes: int | None = None,
    unlabelled: bool = False,
    regression: bool = False,
    takes_missing: bool = False,
) -> Learner:
    """Return the learner of these functions, whose examples, rows and inputs are checked.

    Args:
        fit: see `Learner`.
        predict: see `Learner`.
        grid: see `Learner`; `validation.cross_validate` checks what it is given.
        classes: C, if the targets are labels.
        unlabelled: whether -1 stands for a row without a label.
        regression: whether the targets are values.
        takes_missing: see `Learner`.
    """

    def check(examples: Examples) -> None:
        if classes is not None:
            checks.check_labels(examples["targets"], len(examples["targets"]), classes, unlabelled=unlabelled)
        if regression:
            checks.check_shape(examples["targets"], ("N",), "targets")
            checks.check_finite(examples["targets"], "targets")

    def checked_fit(hyper: Hyper, key: Key, examples: Examples, rows: Rows) -> Any:
        names = ("inputs", "targets") if regression or classes is not None else ("inputs",)
        examples = checks.check_examples(examples, names, finite=False)
        rows = as_rows(rows, ("[M]",), "rows", len(jax.tree.leaves(examples)[0]))
        check(gather(examples, rows.ids))
        return fit(hyper, key, examples, rows)

    def checked_predict(params: Any, inputs: Inputs) -> Outputs:
        return predict(params, checks.check_examples(inputs, names=(), finite=not takes_missing))

    return Learner(checked_fit, checked_predict, grid, check, takes_missing=takes_missing)


def values_of(examples: Examples, ids: Array | np.ndarray) -> Array:
    """Return the targets [M] of the rows as floats."""
    targets = gather(examples["targets"], ids)
    return targets.astype(checks.float_dtype(targets))


def points_of(examples: Examples, ids: Array | np.ndarray | None = None) -> Array:
    """Return the inputs [M, ...] of the rows as points [M, D]."""
    inputs = jnp.asarray(examples["inputs"]) if ids is None else gather(examples["inputs"], ids)
    return inputs.reshape(len(inputs), -1)


def fold_by_fold(fold: Callable[[Rows, Array], Outputs], train: Rows, held_out: Rows) -> Outputs:
    """Return the outputs [G, K, ...] of `fold` (training rows, ids of held-out rows) -> [G, ...].

    One fold after another: that bounds the memory, and one fold's product uses all cores.
    """
    pairs = jax.tree.map(jnp.asarray, train), jnp.asarray(held_out.ids)
    return jnp.moveaxis(jax.lax.map(lambda pair: fold(*pair), pairs), 0, 1)
