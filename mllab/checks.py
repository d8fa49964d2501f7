"""Argument checks that the library shares.

Shapes and dtypes are always checked; values only where they are concrete, since those of a tracer are unknown. Every
mistake raises `UserError` with one line: the argument, what is wrong with it, and what was expected.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mllab.errors import UserError
from mllab.types import Array, Examples, Key, is_concrete

AnyArray = Array | np.ndarray


def as_numbers(values: Any, name: str) -> AnyArray:
    """Return an array, or nested lists of numbers, as an array of numbers.

    Raises:
        UserError: text, objects or other entries that are no real numbers, or nested lists of unequal lengths.
    """
    if isinstance(values, jax.Array):
        array: AnyArray = values
    else:
        try:
            array = np.asarray(values)
        except ValueError:  # NumPy's message about an "inhomogeneous shape"
            raise UserError(f"{name}: lists of unequal lengths, expected an array of numbers") from None
    if not (jnp.issubdtype(array.dtype, jnp.number) or array.dtype == bool):
        one = "nothing" if values is None else _article(values)
        what = {"U": "text", "S": "text"}.get(array.dtype.kind, one if array.ndim == 0 else f"{array.dtype} entries")
        raise UserError(f"{name}: {what}, expected numbers")
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise UserError(f"{name}: complex numbers, expected real ones")
    return array


def float_dtype(values: AnyArray) -> jnp.dtype:
    """Return the dtype to compute in: integers become floats, and half precision is widened to float32."""
    return jnp.promote_types(jnp.result_type(values, float), jnp.float32)


def check_shape(values: Any, expected: Sequence[int | str], name: str) -> None:
    """Raise unless `values` has the expected shape, every size of which is at least 1.

    Args:
        values: an array, nested lists or a number.
        expected: a size for each axis: a number, or a letter for any; `"..."` at the end allows any further axes.
        name: of the argument.
    """
    shape = as_numbers(values, name).shape
    open_ended = tuple(expected[-1:]) == ("...",)
    sizes = expected[:-1] if open_ended else expected
    fits = len(shape) == len(sizes) or (open_ended and len(shape) > len(sizes))
    fits = fits and all(isinstance(size, str) or size == actual for size, actual in zip(sizes, shape, strict=False))
    if not fits or 0 in shape:
        text = f"[{', '.join(map(str, expected))}]"
        raise UserError(f"{name}: shape {list(shape)}, expected {text}{', each at least 1' if fits else ''}")


def check_finite(values: AnyArray, name: str) -> None:
    """Raise at the first NaN, infinity, or number too large to square, of a concrete array.

    A number is too large where squares of such numbers, or sums of 1e8 of them, overflow in the dtype that they will be
    computed in: 2e15 in float32.
    """
    values = as_numbers(values, name)
    if not is_concrete(values) or not jnp.issubdtype(values.dtype, jnp.number):
        return
    limit = float(jnp.finfo(float_dtype(values)).max) ** 0.5 / 1e4
    if jnp.issubdtype(values.dtype, jnp.integer):
        fits = values.dtype.itemsize < 8 or values.size == 0 or max(abs(int(values.min())), int(values.max())) <= limit
    else:
        fits = _sum_of_squares(values) <= limit**2  # False for NaN
    if fits:
        return
    host = np.asarray(values)
    host = host if host.dtype.itemsize >= 4 else host.astype(np.float32)  # half precision would round the limit
    places = np.argwhere(~(np.abs(host) <= limit))  # none where the sum of squares alone is above the limit
    if len(places):
        index = tuple(places[0].tolist())
        where = f"row {index[0]}, column {index[1]}" if len(index) == 2 else f"index {list(index)}"
        value = host[index]
        mend = "rescale it: squares overflow" if np.isfinite(value) else "fill it in or leave the row out"
        raise UserError(f"{name}: {where} is {value}; {mend}")


def check_array(values: Any, expected: Sequence[int | str], name: str) -> Array:
    """Return `values` as a floating-point array of the expected shape, all of its entries finite.

    Args:
        values: an array or nested lists; integers become floats, and half precision becomes float32.
        expected: see `check_shape`.
        name: of the argument.

    Raises:
        UserError: entries that are no numbers, another shape, an empty axis, or the first entry that is NaN, infinite
            or too large.
    """
    array = _checked(values, expected, name)
    return jnp.asarray(array, float_dtype(array))


def check_inputs(values: Any, expected: Sequence[int | str], name: str) -> Array:
    """Return `values` as an array of the expected shape, all of its entries finite; arguments as for `check_array`.

    Unlike there the dtype is kept, so that a net may compute in half precision.
    """
    return jnp.asarray(_checked(values, expected, name))


def _checked(values: Any, expected: Sequence[int | str], name: str) -> AnyArray:
    array = as_numbers(values, name)
    check_shape(array, expected, name)
    check_finite(array, name)
    return array


def check_examples(examples: Any, names: Collection[str] = ("inputs", "targets"), *, finite: bool = True) -> Examples:
    """Return examples as a tree of arrays with one row for each example; lists of numbers become arrays.

    Args:
        examples: what the caller passed.
        names: of entries that it must have; with none, any tree will do.
        finite: whether numbers must be finite, too.

    Raises:
        UserError: no mapping, a missing entry, no rows, another number of rows in one array than in the others, or the
            first number that is NaN, infinite or too large.
    """
    if names and not isinstance(examples, Mapping):
        entries = ", ".join(f'"{name}": ...' for name in names)
        raise UserError(f"examples: expected {{{entries}}}, not {_article(examples)}")
    for name in names:
        if name not in examples:
            raise UserError(f"examples have no {name!r}, only {', '.join(map(repr, examples)) or 'nothing'}: add it")
    paths, tree = jax.tree_util.tree_flatten_with_path(examples, is_leaf=_is_list_of_numbers)
    arrays, count = [], None
    for path, leaf in paths:
        name = jax.tree_util.keystr(path, simple=True, separator=".") or "examples"
        array = as_numbers(leaf, name)
        if array.ndim == 0 or len(array) == 0:
            raise UserError(f"{name}: shape {list(array.shape)}, expected one row or more along the first axis")
        count = len(array) if count is None else count
        if len(array) != count:
            first = jax.tree_util.keystr(paths[0][0], simple=True, separator=".")
            raise UserError(f"{name} has {len(array)} rows, and {first} has {count}: give one of each per example")
        if finite:
            check_finite(array, name)
        is_half = jnp.issubdtype(array.dtype, jnp.floating) and array.dtype.itemsize < 4
        arrays.append(array.astype(jnp.float32) if is_half else array)
    if not arrays:
        raise UserError("examples hold no arrays: give one or more")
    return jax.tree.unflatten(tree, arrays)


def _is_list_of_numbers(value: Any) -> bool:
    """Return whether a node of a tree is data in nested lists, rather than a list of arrays."""
    if not isinstance(value, list):
        return False
    return not value or _is_list_of_numbers(value[0]) or isinstance(value[0], str | int | float | np.generic)


def _article(value: Any) -> str:
    name = type(value).__name__
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"


def check_labels(
    labels: Any, count: int, classes: int | None, name: str = "targets", *, unlabelled: bool = False
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
    labels = as_numbers(labels, name)
    if labels.shape != (count,) or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise UserError(f"{name}: {labels.dtype}{list(labels.shape)}, expected {count} integers, one per row")
    if classes is not None and is_concrete(labels):
        values = np.asarray(labels)
        wrong = np.flatnonzero((values < (-1 if unlabelled else 0)) | (values >= classes))
        if wrong.size:
            none = ", or -1 for no label" if unlabelled else ""
            raise UserError(f"{name}: row {wrong[0]} has label {values[wrong[0]]}, expected 0 to {classes - 1}{none}")
    return jnp.asarray(labels)


def check_weight(weight: Any, count: int, dtype: jnp.dtype) -> Array:
    """Return the weight [N] of each row: ones where it is None.

    Raises:
        UserError: another shape, the first weight that is negative, NaN or infinite, or none above 0.
    """
    if weight is None:
        return jnp.ones(count, dtype)
    weight = as_numbers(weight, "weight")
    if weight.shape != (count,):
        raise UserError(f"weight: shape {list(weight.shape)}, expected [{count}], one number per row")
    if is_concrete(weight):
        host = np.asarray(weight)
        wrong = np.flatnonzero(~(np.isfinite(host) & (host >= 0)))
        if wrong.size:
            raise UserError(f"weight: row {wrong[0]} is {host[wrong[0]]}, expected a finite number of 0 or more")
        check_finite(weight, "weight")
        if not host.any():
            raise UserError("weight: every row has weight 0, expected one above 0 or more")
    return jnp.asarray(weight, dtype)


def check_count(name: str, count: Array | int, weight: AnyArray, of: str) -> None:
    """Raise unless 1 <= count <= the number of rows with a positive weight.

    Args:
        name: of the argument.
        count: a number of neighbours, clusters, components, ...
        weight: of the rows, [N]. All rows count where it is traced.
        of: what the rows are, for the message.
    """
    if not is_concrete(count):
        return
    check_whole(None, **{name: count})
    limit = int(np.sum(np.asarray(weight) > 0)) if is_concrete(weight) else len(weight)
    if not 1 <= int(count) <= limit:
        some = " with a positive weight" if limit < len(weight) else ""
        raise UserError(f"{name} = {count}: expected 1 to {limit}, the number of {of}{some}")


def check_rate(**rates: Any) -> None:
    """Raise UserError unless rates of dropout, by name, are from 0 up to, not including, 1; traced ones may be any."""
    for name, rate in rates.items():
        if is_concrete(rate) and not (as_numbers(rate, name).ndim == 0 and 0 <= rate < 1):
            raise UserError(f"{name} = {rate}: give a rate from 0 up to, not including, 1")


def check_whole(least: int | None = None, **numbers: Array | int) -> None:
    """Raise where a number is not a single whole number, or is below `least`."""
    for name, value in numbers.items():
        if not is_concrete(value):
            continue
        array = as_numbers(value, name)
        if array.shape != () or not jnp.issubdtype(array.dtype, jnp.integer):
            raise UserError(f"{name} = {value}: expected a whole number")
    if least is not None:
        check_at_least(least, **numbers)


def check_at_least(least: float, **numbers: Array | float) -> None:
    """Raise where a number, or an entry of an array, is below `least` or NaN."""
    for name, value in numbers.items():
        if is_concrete(value):
            array = np.asarray(as_numbers(value, name))
            _refuse(name, array, ~(array >= least), f"expected {least} or more")


def check_positive(**numbers: Array | float) -> None:
    """Raise where a number, or an entry of an array, is not above 0 and finite."""
    for name, value in numbers.items():
        if is_concrete(value):
            array = np.asarray(as_numbers(value, name))
            _refuse(name, array, ~((array > 0) & np.isfinite(array)), "expected a finite number above 0")


def _refuse(name: str, array: np.ndarray, wrong: np.ndarray, expected: str) -> None:
    """Raise UserError with the first entry that is wrong, if there is one."""
    if wrong.any():
        index = tuple(np.argwhere(wrong)[0].tolist())
        where = f"{name}{list(index)}" if index else name
        raise UserError(f"{where} = {array[index]}: {expected}")


def check_key(key: Key) -> None:
    """Raise unless `key` is a PRNG key: of `jax.random.key`, or of the older `jax.random.PRNGKey`."""
    is_key = isinstance(key, jax.Array) and (
        jnp.issubdtype(key.dtype, jax.dtypes.prng_key) or (key.dtype == jnp.uint32 and key.ndim > 0)
    )
    if not is_key and not (isinstance(key, np.ndarray) and key.dtype == np.uint32):
        seed = key if isinstance(key, int) else "seed"
        raise UserError(f"key: {_article(key)}, expected a random key: give jax.random.key({seed})")


def finite_fit(fit: Any, mend: str, *leaves: AnyArray) -> Any:
    """Return `fit`, after checking that these leaves of it are finite where they are concrete.

    The arguments alone cannot tell whether a fit will overflow or find no unique solution.

    Args:
        fit: what a model's fit returns.
        mend: what helps, for the message.
        leaves: the arrays to check; all of the fit's by default.

    Raises:
        UserError: one is not finite.
    """
    for leaf in leaves or jax.tree.leaves(fit):
        if is_concrete(leaf) and jnp.issubdtype(leaf.dtype, jnp.inexact) and not np.isfinite(np.asarray(leaf)).all():
            raise UserError(f"the fit is not finite: {mend}")
    return fit


def _sum_of_squares(values: AnyArray) -> float:
    """Return the sum of squares: one pass, and no array as large as `values` is written."""
    if isinstance(values, np.ndarray):
        with np.errstate(all="ignore"):
            return float(np.vdot(values, values))
    with jax.ensure_compile_time_eval():  # also for a constant of a program that is being traced
        return float(_squared_norm(values))


@jax.jit
def _squared_norm(values: Array) -> Array:
    return jnp.vdot(values, values)
