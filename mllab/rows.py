"""Rows: which examples, in what order, with what weight; see `mllab.types.Rows`."""

from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np

from mllab.errors import UserError
from mllab.types import Array, Examples, Rows


def mean(losses: Array, weight: Array | np.ndarray) -> Array:
    """Return the weighted mean of losses [B]; a batch of padding alone gives 0.

    Raises:
        UserError: the losses are not one number an example.
    """
    if losses.shape != weight.shape:
        raise UserError(f"a loss or metric of shape {losses.shape} for {weight.shape} examples: give one number each")
    return jnp.sum(losses * weight) / jnp.maximum(jnp.sum(weight), jnp.finfo(losses.dtype).tiny)


def gather(examples: Examples, ids: Array | np.ndarray) -> Examples:
    """Return the examples of these rows; ids are valid by construction."""
    return jax.tree.map(lambda array: jnp.asarray(array).at[ids].get(mode="promise_in_bounds"), examples)


def check_batch(batch_size: int, count: int) -> None:
    """Raise UserError where a batch is larger than the `count` training rows."""
    if batch_size > count:
        raise UserError(f"batch_size = {batch_size} is larger than the {count} training rows: make it smaller")


def minibatches(rows: np.ndarray, batch_size: int, epochs: int, seeds: Iterable[int]) -> Rows:
    """Return shuffled schedules [P, S, B], one a seed: every epoch sees each row once, in a new order.

    The last batch of an epoch is padded with weight 0.

    Raises:
        UserError: no rows, a batch larger than the data, or sizes that are not positive.
    """
    if batch_size < 1 or epochs < 1:
        raise UserError(f"batch_size = {batch_size}, epochs = {epochs}: both must be 1 or more")
    check_batch(batch_size, len(rows))
    orders = []
    for seed in seeds:
        draw = np.random.default_rng(seed)
        orders.append([blocks(draw.permutation(rows), batch_size) for _ in range(epochs)])
    return jax.tree.map(lambda *each: np.concatenate(each), *[
        jax.tree.map(lambda *epoch: np.concatenate(epoch)[None], *order) for order in orders
    ])  # fmt: skip


def blocks(ids: np.ndarray, size: int, count: int | None = None) -> Rows:
    """Return rows [S, size] that hold `ids` in order, padded (to `count` blocks, where given) by ids again, weight 0.

    Padding repeats many rows, not one, so that statistics of a last, short batch are still those of a batch.
    """
    if len(ids) == 0:
        raise UserError("no rows: training, validation and test each need one or more")
    count = count or -(-len(ids) // size)
    padded = np.resize(np.asarray(ids, np.int32), count * size)
    weight = (np.arange(count * size) < len(ids)).astype(np.float32)
    return Rows(padded.reshape(count, size), weight.reshape(count, size))
