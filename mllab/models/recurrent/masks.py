"""What says which steps of sequences [B, T] count, and where sequences begin: lengths, masks and resets, checked."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from mllab import checks
from mllab.errors import UserError
from mllab.types import Array, is_concrete


def check_masks(
    batch: int, steps: int, *, lengths: Array | None = None, mask: Array | None = None, reset: Array | None = None
) -> dict[str, Array]:
    """Return what says which steps count and where sequences begin, as arrays by name, without those that are None.

    Args:
        batch: B.
        steps: T.
        lengths: [B], whole numbers from 0 to T.
        mask: [B, T]; numbers of 0 or more, or bools.
        reset: [B, T], as a mask.

    Raises:
        UserError: another shape, an entry that is no such number, or both lengths and a mask.
    """
    if lengths is not None and mask is not None:
        raise UserError("lengths and a mask: give one of them")
    masks = {
        name: check_mask(values, (batch, steps), name)
        for name, values in (("mask", mask), ("reset", reset))
        if values is not None
    }
    if lengths is not None:
        masks["lengths"] = check_lengths(lengths, batch, steps)
    return masks


def check_mask(values: Any, shape: tuple[int, ...], name: str) -> Array:
    """Return a mask as an array; see `check_masks`."""
    array = checks.as_numbers(values, name)
    if array.shape != shape:
        raise UserError(f"{name}: shape {list(array.shape)}, expected {list(shape)}, [B, T]")
    if is_concrete(array):
        host = np.asarray(array)
        _refuse_first(name, host, ~((host >= 0) & np.isfinite(host)), "expected a finite number of 0 or more")
    return jnp.asarray(array)


def check_lengths(values: Any, batch: int, steps: int) -> Array:
    """Return lengths [B] as an array; see `check_masks`."""
    array = checks.as_numbers(values, "lengths")
    if array.shape != (batch,):
        raise UserError(f"lengths: shape {list(array.shape)}, expected [{batch}], one per sequence")
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise UserError(f"lengths: {array.dtype}, expected whole numbers")
    if is_concrete(array):
        host = np.asarray(array)
        _refuse_first("lengths", host, (host < 0) | (host > steps), f"expected 0 to {steps}, the number of steps")
    return jnp.asarray(array)


def _refuse_first(name: str, array: np.ndarray, wrong: np.ndarray, expected: str) -> None:
    """Raise UserError with the first entry that is wrong, if there is one."""
    if wrong.any():
        place = tuple(np.argwhere(wrong)[0].tolist())
        raise UserError(f"{name}: index {list(place)} is {array[place]}; {expected}")
