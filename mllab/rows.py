"""Rows: which examples, in what order, with what weight; see `mllab.types.Rows`.

`minibatches`, `streams` and `buckets` make schedules, `blocks` makes rows to score; `gather` and `windows` read
examples by row ids; `mean` is the weighted mean over a batch.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mllab import checks
from mllab.errors import UserError
from mllab.types import Array, Examples, Losses, Rows, is_concrete

SCORED_ROWS = 1024  # rows scored at once: bounds the memory of their outputs


def weighted(losses: Array | Losses, weight: Array | np.ndarray) -> Losses:
    """Return losses with the row weights [B] multiplied in; a bare array [B] counts each example once.

    Raises:
        UserError: values whose shape does not match the rows or the weights of the losses.
    """
    if not isinstance(losses, Losses):
        if losses.shape != weight.shape:
            raise UserError(
                f"losses or metrics of shape {losses.shape} for {weight.shape} examples: return one number per example"
            )
        return Losses(losses, jnp.asarray(weight))
    shape = losses.values.shape
    if shape != losses.weights.shape or shape[: weight.ndim] != weight.shape:
        raise UserError(
            f"losses or metrics of shape {shape} with weights {losses.weights.shape} for {weight.shape} examples: "
            "values and weights have one shape, which begins with the batch"
        )
    return Losses(losses.values, losses.weights * weight.reshape(weight.shape + (1,) * (len(shape) - weight.ndim)))


def mean(losses: Array | Losses, weight: Array | np.ndarray) -> Array:
    """Return the mean of losses under the row weights [B]; 0 for a batch of padding alone.

    Raises:
        UserError: see `weighted`.
    """
    values, weights = weighted(losses, weight)
    return jnp.sum(values * weights) / jnp.maximum(jnp.sum(weights), jnp.finfo(values.dtype).tiny)


def gather(examples: Examples, ids: Array | np.ndarray) -> Examples:
    """Return the examples with these ids, which must be valid: they are not checked."""
    return jax.tree.map(lambda array: jnp.asarray(array).at[ids].get(mode="promise_in_bounds"), examples)


def windows(examples: Examples, ids: Array | np.ndarray, size: int) -> Examples:
    """Return windows [B, size, ...] of long arrays [N, ...] instead of rows; ids [B] are the windows' first positions.

    `functools.partial(windows, size=T)` is a `gather` for `training.supervised`: the [N, T] windows are never stored.
    Positions past the end read as 0. An array of token weights among the examples therefore masks them; where several
    parts of a text share one array, put `size` - 1 tokens of weight 0 after each part.
    """
    positions = jnp.asarray(ids)[:, None] + jnp.arange(size)[None]
    return jax.tree.map(lambda array: jnp.asarray(array).at[positions].get(mode="fill", fill_value=0), examples)


def as_ids(ids: Any, name: str, count: int | None = None) -> np.ndarray:
    """Return row ids [M] as an array.

    Args:
        ids: whole numbers, an array or a list.
        name: of the argument.
        count: number of examples; None leaves the upper end of the range unchecked.

    Raises:
        UserError: no whole numbers [M], none at all, or an id that is negative or not below `count`.
    """
    array = np.asarray(checks.as_numbers(ids, name))
    if array.size == 0:
        raise UserError(f"no {name}: give one or more")
    if array.ndim != 1:
        raise UserError(f"{name}: shape {list(array.shape)}, expected row ids [M]")
    if array.dtype.kind not in "iu":
        raise UserError(f"{name}: {array.dtype}, expected row ids, which are whole numbers (np.flatnonzero of a mask)")
    if array.min() < 0 or (count is not None and array.max() >= count):
        there = "ids begin at 0" if count is None else f"there are rows 0 to {count - 1}"
        raise UserError(f"{name} from {array.min()} to {array.max()}: {there}")
    return array


def as_rows(rows: Any, axes: Sequence[str], name: str, count: int | None = None) -> Rows:
    """Return `rows` after a check of their shape.

    Args:
        rows: what the caller passed.
        axes: letters of the expected axes, such as `("[S, B]", "[P, S, B]")`.
        name: of the argument.
        count: number of examples; None leaves the upper end of the range unchecked.

    Raises:
        UserError: no `Rows`, ids that are not whole numbers of 0 or more, or of positive weight and not below `count`,
            other axes, or weights of another shape than the ids, or negative or not finite.
    """
    if not isinstance(rows, Rows):
        raise UserError(f"{name}: {type(rows).__name__}, expected Rows: give those of mllab.minibatches or rows.blocks")
    ids, weight = (checks.as_numbers(*each) for each in ((rows.ids, f"{name}.ids"), (rows.weight, f"{name}.weight")))
    shape, dimensions = list(ids.shape), [letters.count(",") + 1 for letters in axes]
    if ids.ndim not in dimensions or 0 in shape or not jnp.issubdtype(ids.dtype, jnp.integer):
        raise UserError(f"{name}.ids: {ids.dtype}{shape}, expected whole numbers {' or '.join(axes)}")
    if ids.shape != weight.shape:
        raise UserError(f"{name}: ids {shape} and weights {list(weight.shape)}, expected one weight for each id")
    if is_concrete(ids) and np.min(ids) < 0:
        raise UserError(f"{name}.ids: {np.min(ids)}, expected row ids of 0 or more")
    if is_concrete(weight) and not (np.isfinite(weight).all() and np.min(weight) >= 0):
        raise UserError(f"{name}.weight: expected finite numbers of 0 or more")
    if count is not None and is_concrete(ids) and is_concrete(weight):
        greatest = int(np.max(np.where(np.asarray(weight) > 0, ids, 0)))
        if greatest >= count:
            raise UserError(f"{name}.ids: {greatest}, and there are {count} examples, 0 to {count - 1}")
    return Rows(ids, weight)


def seed_list(seeds: Any) -> list[int]:
    """Return the seeds as a list; a number n stands for the seeds 0 to n - 1.

    Raises:
        UserError: no seeds, or one that is no whole number of 0 or more.
    """
    if isinstance(seeds, int | np.integer) and not isinstance(seeds, bool):
        seeds = range(int(seeds))
    array = np.asarray(checks.as_numbers(seeds if isinstance(seeds, np.ndarray) else list(_iterable(seeds)), "seeds"))
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iu" or array.min() < 0:
        text = ", ".join(map(str, np.ravel(array))) or "none"
        raise UserError(f"seeds: {text}; give whole numbers of 0 or more, one or more")
    return [int(seed) for seed in array]


def _iterable(seeds: Any) -> Iterable:
    if not isinstance(seeds, Iterable):
        raise UserError(f"seeds = {seeds!r}: give a list of whole numbers, or how many")
    return seeds


def check_batch(batch_size: int, count: int) -> None:
    """Raise UserError for a batch size that is no whole number of 1 or more, or larger than `count` training rows."""
    checks.check_whole(1, batch_size=batch_size)
    if batch_size > count:
        raise UserError(f"batch_size = {batch_size} is larger than the {count} training rows: make it smaller")


def minibatches(rows: np.ndarray, batch_size: int, epochs: int, seeds: int | Iterable[int]) -> Rows:
    """Return shuffled schedules [P, S, B], one per seed: every epoch visits each row once, in a new order.

    The last batch of an epoch is padded with weight 0.

    Args:
        rows: ids of the training rows, [M].
        batch_size: B.
        epochs: passes over the rows.
        seeds: [P], or how many: P stands for the seeds 0 to P - 1.

    Raises:
        UserError: no rows, a batch larger than the data, or sizes or seeds that are not whole numbers in range.
    """
    rows = as_ids(rows, "training rows")
    checks.check_whole(1, epochs=epochs)
    check_batch(batch_size, len(rows))
    schedules = []
    for seed in seed_list(seeds):
        draw = np.random.default_rng(seed)
        schedules.append([blocks(draw.permutation(rows), batch_size) for _ in range(epochs)])
    return jax.tree.map(lambda *parts: np.concatenate(parts), *[
        jax.tree.map(lambda *epoch: np.concatenate(epoch)[None], *schedule) for schedule in schedules
    ])  # fmt: skip


def blocks(ids: np.ndarray, size: int, count: int | None = None) -> Rows:
    """Return rows [S, size] that hold `ids` in order; padding repeats the ids cyclically with weight 0.

    Padding repeats many rows rather than one, so that statistics of a short last batch are still those of a batch.

    Args:
        ids: [M].
        size: rows per block.
        count: blocks S; as many as are needed by default.

    Raises:
        UserError: no rows, ids or sizes that are not whole numbers in range, or more rows than the blocks hold.
    """
    ids = as_ids(ids, "rows")
    checks.check_whole(1, size=size)
    count = -(-len(ids) // size) if count is None else count
    checks.check_whole(1, count=count)
    if len(ids) > count * size:
        raise UserError(f"{len(ids)} rows for {count} blocks of {size}: make size or count larger")
    padded = np.resize(np.asarray(ids, np.int32), count * size)
    weight = (np.arange(count * size) < len(ids)).astype(np.float32)
    return Rows(padded.reshape(count, size), weight.reshape(count, size))


def streams(length: int, batch_size: int, window: int, first: int = 0) -> Rows:
    """Return rows [S, B] for truncated backpropagation through time: each batch row reads one stretch of a sequence.

    An id is the position of a window's first token, for `windows`. Row b of step s + 1 begins where row b of step s
    ends, so a recurrent carry kept in `extra` flows on. The W = ceil(length / window) windows are divided among the B
    rows in order and as evenly as possible: row b reads windows floor(bW / B) to floor((b + 1)W / B) - 1, and every
    token is in exactly one window of weight 1. A row with one window fewer has weight 0 in the last step, so padding
    never precedes tokens that count. The last window of the sequence may reach past its end: see `windows`.

    `ids[0]` are the positions at which a carry must be reset, in each epoch and before each scoring. Repeat the rows
    along the first axis for more epochs; score with the same `batch_size`, which is the shape of the carry.

    Args:
        length: tokens in the sequence.
        batch_size: B.
        window: tokens per window.
        first: position of the sequence's first token in the array.

    Raises:
        UserError: sizes that are not whole numbers of 1 or more.
    """
    checks.check_whole(1, length=length, batch_size=batch_size, window=window)
    checks.check_whole(0, first=first)
    bounds = np.arange(batch_size + 1) * -(-length // window) // batch_size  # [B + 1] window numbers
    index = np.arange(np.diff(bounds).max())[:, None] + bounds[None, :-1]
    weight = (index < bounds[None, 1:]).astype(np.float32)
    return Rows((first + window * index).astype(np.int32), weight)


class Bucket(NamedTuple):
    """Batches of sequences of similar length."""

    length: int  # of the longest sequence: pad the batches to this
    rows: Rows  # [S, B]


def buckets(lengths: np.ndarray, batch_size: int, count: int = 4) -> list[Bucket]:
    """Return at most `count` buckets, shortest first, which hold every sequence once: few shapes, little padding.

    The boundaries are quantiles of the lengths, so buckets hold about equally many sequences. Within a bucket the ids
    are in ascending order.

    Args:
        lengths: of each sequence, [N]; ids are positions in it.
        batch_size: B; the last batch of each bucket is padded with weight 0.
        count: the most shapes.

    Raises:
        UserError: no sequences, or sizes that are not positive.
    """
    lengths = np.asarray(checks.as_numbers(lengths, "lengths"))
    if lengths.ndim != 1 or lengths.size == 0 or lengths.dtype.kind not in "iu" or lengths.min() < 1:
        raise UserError(f"lengths: {lengths.dtype}{list(lengths.shape)}, expected whole numbers [N] of 1 or more")
    checks.check_whole(1, batch_size=batch_size, count=count)
    ordered = np.sort(lengths)
    ends = np.unique(ordered[-(-len(ordered) * np.arange(1, count + 1) // count) - 1])
    bucket = np.searchsorted(ends, lengths)
    return [Bucket(int(end), blocks(np.flatnonzero(bucket == number), batch_size)) for number, end in enumerate(ends)]
