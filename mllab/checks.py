"""Argument checks that the models share.

Shapes and dtypes are always checked; values only where they are concrete, since those of a tracer are unknown. Every
mistake raises `UserError` with one line: the argument, what is wrong with it, and what was expected.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from mllab.errors import UserError
from mllab.types import Array, is_concrete

AnyArray = Array | np.ndarray


def check_shape(values: AnyArray, expected: Sequence[int | str], name: str) -> None:
    """Raise unless `values` has the expected shape, every size of which is at least 1.

    Args:
        values: an array.
        expected: a size for each axis: a number, or a letter for any; `"..."` at the end allows any further axes.
        name: of the argument.
    """
    shape = np.shape(values)
    open_ended = expected[-1] == "..."
    sizes = expected[:-1] if open_ended else expected
    fits = len(shape) == len(sizes) or (open_ended and len(shape) > len(sizes))
    fits = fits and all(isinstance(size, str) or size == actual for size, actual in zip(sizes, shape, strict=False))
    if not fits or 0 in shape:
        text = f"[{', '.join(map(str, expected))}]"
        raise UserError(f"{name}: shape {list(shape)}, expected {text}{', each at least 1' if fits else ''}")


def check_finite(values: AnyArray, name: str) -> None:
    """Raise at the first NaN or infinity of a concrete array."""
    if not is_concrete(values) or not jnp.issubdtype(values.dtype, jnp.inexact) or _is_finite(values):
        return
    places = np.argwhere(~np.isfinite(np.asarray(values)))  # none where the sum of squares alone has overflowed
    if len(places):
        index = tuple(places[0].tolist())
        where = f"row {index[0]}, column {index[1]}" if len(index) == 2 else f"index {list(index)}"
        raise UserError(f"{name}: {where} is {values[index]}; fill it in or leave the row out")


def check_array(values: AnyArray, expected: Sequence[int | str], name: str) -> Array:
    """Return `values` as a floating-point array of the expected shape, all of its entries finite.

    Args:
        values: what the caller passed; integers become floats.
        expected: see `check_shape`.
        name: of the argument.

    Raises:
        UserError: another shape, an empty axis, or the first entry that is NaN or infinite.
    """
    array = values if isinstance(values, jax.Array) else np.asarray(values)
    check_shape(array, expected, name)
    check_finite(array, name)
    return jnp.asarray(array, jnp.result_type(array, float))


def check_labels(
    labels: AnyArray, count: int, classes: int | None, name: str = "targets", *, unlabelled: bool = False
) -> Array:
    """Return labels [N] as an array.

    Args:
        labels: integers in 0..C-1.
        count: N.
        classes: C; None leaves the range unchecked.
        name: of the argument.
        unlabelled: whether -1 stands for a row without a label.

    Raises:
        UserError: another shape, no integers, or the first label out of range.
    """
    labels = labels if isinstance(labels, jax.Array) else np.asarray(labels)
    if labels.shape != (count,) or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise UserError(f"{name}: {labels.dtype}{list(labels.shape)}, expected {count} integers, one per row")
    if classes is not None and is_concrete(labels):
        values = np.asarray(labels)
        wrong = np.flatnonzero((values < (-1 if unlabelled else 0)) | (values >= classes))
        if wrong.size:
            none = ", or -1 for no label" if unlabelled else ""
            raise UserError(f"{name}: row {wrong[0]} has label {values[wrong[0]]}, expected 0 to {classes - 1}{none}")
    return jnp.asarray(labels)


def check_weight(weight: AnyArray | None, count: int, dtype: jnp.dtype) -> Array:
    """Return the weight [N] of each row: ones where it is None.

    Raises:
        UserError: another shape, or the first weight that is negative, NaN or infinite.
    """
    if weight is None:
        return jnp.ones(count, dtype)
    if np.shape(weight) != (count,):
        raise UserError(f"weight: shape {list(np.shape(weight))}, expected [{count}], one number per row")
    if is_concrete(weight):
        wrong = np.flatnonzero(~(np.isfinite(weight) & (np.asarray(weight) >= 0)))
        if wrong.size:
            raise UserError(f"weight: row {wrong[0]} is {weight[wrong[0]]}, expected a finite number of 0 or more")
    return jnp.asarray(weight, dtype)


def check_count(name: str, count: Array | int, weight: AnyArray, of: str) -> None:
    """Raise unless 1 <= count <= the number of rows with a positive weight.

    Args:
        name: of the argument.
        count: a number of neighbours, clusters, components, ...
        weight: of the rows, [N]. All rows count where it is traced.
        of: what the rows are, for the message.
    """
    limit = int(np.sum(np.asarray(weight) > 0)) if is_concrete(weight) else len(weight)
    if is_concrete(count) and not 1 <= int(count) <= limit:
        some = " with a positive weight" if limit < len(weight) else ""
        raise UserError(f"{name} = {count}: expected 1 to {limit}, the number of {of}{some}")


def check_at_least(least: float, **numbers: Array | float) -> None:
    """Raise where a number, or an entry of an array, is below `least` or NaN."""
    for name, value in numbers.items():
        if is_concrete(value) and not np.all(np.asarray(value) >= least):
            raise UserError(f"{name} = {value}: expected {least} or more")


def check_positive(**numbers: Array | float) -> None:
    """Raise where a number, or an entry of an array, is not above 0 and finite."""
    for name, value in numbers.items():
        if is_concrete(value) and not np.all((np.asarray(value) > 0) & np.isfinite(value)):
            raise UserError(f"{name} = {value}: expected a finite number above 0")


def _is_finite(values: AnyArray) -> bool:
    """Return whether the sum of squares is finite: one pass, and no array as large as `values` is written."""
    if isinstance(values, np.ndarray):
        with np.errstate(all="ignore"):
            return bool(np.isfinite(np.vdot(values, values)))
    with jax.ensure_compile_time_eval():  # also for a constant of a program that is being traced
        return bool(_sum_of_squares_is_finite(values))


@jax.jit
def _sum_of_squares_is_finite(values: Array) -> Array:
    return jnp.isfinite(jnp.vdot(values, values))
