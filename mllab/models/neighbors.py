r"""Nearest neighbours by brute force, and the classifier that lets them vote.

Squared distances come as one matrix product, $\lVert q \rVert^2 + \lVert x \rVert^2 - 2 q^\top x$,
a block of queries at a time: the matrix of all distances is never formed.

The share of the votes of the k nearest rows, with one vote more that all C classes share:

    $$ P(c \mid q) = \frac{1 / C + \sum_{i \in \mathrm{nearest}_k(q)} \omega_i [y_i = c]}
                          {1 + \sum_{i \in \mathrm{nearest}_k(q)} \omega_i} $$

Sources: Cover and Hart, *Nearest neighbor pattern classification*, IEEE Trans. Information Theory 13 (1967); Johnson,
Douze and Jégou, *Billion-scale similarity search with GPUs* (2017), section 3, for the distances as a product; Perks,
J. Institute of Actuaries 73 (1947), for the shared vote.
"""

import math
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from mllab.errors import UserError
from mllab.types import Array, known

BLOCK_BYTES = 128 * 2**20  # what a block of queries may take
CACHE_BYTES = 2**20  # what the candidates that are ranked at once may take: in cache they are read several times faster
SAMPLE = 15  # rows whose median the data are centred by
SPARE = 8  # candidates beyond those asked for


class Nearest(NamedTuple):
    """The nearest rows of each query, nearest first; equally near ones by id."""

    distances: Array  # [M, count] Euclidean; infinite where there are fewer rows than that
    ids: Array  # [M, count] int32, into the training rows


@struct.dataclass
class Neighbors:
    """What a nearest-neighbour classifier remembers: its training rows."""

    inputs: Array  # [N, D]
    labels: Array  # [N] integers in 0..C-1
    weight: Array  # [N] of each vote; rows of weight 0 are as if absent
    k: Array  # [] how many neighbours vote


def fit(inputs: Array, labels: Array, k: Array | int, weight: Array | np.ndarray | None = None) -> Neighbors:
    """Return the classifier of these rows.

    Args:
        inputs: [N, ...], flattened to [N, D].
        labels: [N], integers.
        k: how many neighbours vote; may be traced.
        weight: of each row's vote, [N]; 1 by default.

    Raises:
        UserError: shapes that do not fit, inputs that are not finite, labels that are no integers, or k that is not in
            1..N, rows of weight 0 left out. Where k or the weights are traced, k beyond the rows counts all that are
            there.
    """
    inputs = jnp.asarray(inputs)
    inputs, labels = inputs.reshape(len(inputs), -1), jnp.asarray(labels)
    if labels.shape != (len(inputs),) or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise UserError(f"labels are {labels.dtype}{list(labels.shape)}: give {len(inputs)} integers, one a row")
    if known(k) and int(k) < 1:
        raise UserError(f"k = {k}: give 1 neighbour or more")
    _check_count("k", k, len(inputs), weight)
    _check_finite({"training rows": inputs})
    weight = jnp.ones(len(inputs)) if weight is None else jnp.asarray(weight)
    return Neighbors(inputs, labels, weight, jnp.asarray(k))


def apply(params: Neighbors, inputs: Array, classes: int, most: int) -> Array:
    """Return log-probabilities [M, C] of inputs [M, ...].

    Args:
        params: see `fit`.
        inputs: queries, flattened to [M, D].
        classes: C.
        most: the greatest k that may come (k itself may be traced, and shapes may not).

    Raises:
        UserError: k greater than `most`, or labels that are not 0..C-1, as far as they are known.
    """
    if known(params.k) and int(params.k) > most:
        raise UserError(f"k = {params.k} is more than most = {most}: raise most")
    if known(params.labels):
        wrong = np.flatnonzero((np.asarray(params.labels) < 0) | (np.asarray(params.labels) >= classes))
        if wrong.size:
            row = int(wrong[0])
            raise UserError(f"row {row} has label {params.labels[row]}: {classes} classes are 0 to {classes - 1}")
    found = nearest(params.inputs, inputs.reshape(len(inputs), -1), most, params.weight)
    return log_probabilities(params.labels[found.ids], params.weight[found.ids], params.k, classes)


def log_probabilities(labels: Array, weight: Array, k: Array | int, classes: int) -> Array:
    """Return the log-probabilities [M, C] of each class by the votes of the first k neighbours.

    The class of most votes is the most probable, and of equal ones the first. Mapped over k it costs one product more,
    since votes for any k are sums of the same table.

    Args:
        labels: of the neighbours, nearest first, [M, K].
        weight: of their votes, [M, K]; 0 for places that no neighbour took.
        k: how many vote.
        classes: C.
    """
    voting = (jnp.arange(labels.shape[1]) < k).astype(weight.dtype)  # [K]
    table = jax.nn.one_hot(labels, classes, dtype=weight.dtype) * weight[..., None]
    votes = jnp.einsum("k,mkc->mc", voting, table, precision="highest")
    return jnp.log(votes + 1 / classes) - jnp.log(1 + jnp.sum(votes, axis=1, keepdims=True))


def nearest(train: Array, queries: Array, count: int, weight: Array | np.ndarray | None = None) -> Nearest:
    r"""Return the `count` nearest training rows of each query.

    The nearest by the product are found first, `SPARE` more than asked for; their distances are then summed directly,
    $\sum_d (q_d - x_d)^2$, and order them. So equal rows are equally near, a row that is there is at distance 0, and
    two rows that rounding of the product has swapped are swapped back.

    Data are centred for the product: its rounding is relative to the norms, not to the distances, and an offset common
    to all points would drown them.

    Memory: a centred copy of the training rows, a copy of the queries, the result, and `BLOCK_BYTES` (or what one query
    needs, where that is more: a few numbers a training row).

    Args:
        train: [N, D].
        queries: [M, D].
        count: how many, at most N.
        weight: rows of weight 0 are never among the neighbours, [N]; 1 by default.

    Raises:
        UserError: shapes that do not fit, numbers that are not finite, or more neighbours than rows. Where the weights
            are traced, places beyond the rows are at an infinite distance; traced numbers are taken as they come.
    """
    if jnp.ndim(train) != 2 or jnp.ndim(queries) != 2 or jnp.shape(train)[1] != jnp.shape(queries)[1]:
        raise UserError(
            f"training rows {list(jnp.shape(train))} and queries {list(jnp.shape(queries))}: give [N, D] and [M, D]"
        )
    if weight is not None and jnp.shape(weight) != (len(train),):
        raise UserError(f"weight has shape {jnp.shape(weight)}: pass one number a training row, [{len(train)}]")
    if count < 1:
        raise UserError(f"count = {count}: ask for 1 neighbour or more")
    _check_count("count", count, len(train), weight)
    train, queries = jnp.asarray(train), jnp.asarray(queries)
    _check_finite({"training rows": train, "queries": queries})
    return _nearest(train, queries, count, jnp.ones(len(train)) if weight is None else jnp.asarray(weight))


def _check_count(name: str, count: Array | int, rows: int, weight: Array | np.ndarray | None) -> None:
    """Raise where more neighbours are asked for than there are rows with weight, as far as that is known."""
    there = int(np.sum(np.asarray(weight) > 0)) if weight is not None and known(weight) else rows
    if known(count) and int(count) > there:
        raise UserError(f"{name} = {count} neighbours of {there} rows: ask for {there} or fewer, or give more rows")


def _check_finite(named: Mapping[str, Array]) -> None:
    """Raise at the first NaN or infinity of arrays [N, D], as far as they are known."""
    for name, values in named.items():
        if not known(values) or _is_finite(values):
            continue
        places = np.argwhere(~np.isfinite(np.asarray(values)))
        if len(places):
            row, column = places[0]
            raise UserError(
                f"{name}: row {row}, column {column} is {values[row, column]}: distances need finite numbers, so fill "
                "it in or leave the row out"
            )


@jax.jit
def _is_finite(values: Array) -> Array:
    """Return whether no number is NaN or infinite: a sum of squares tells, in one pass that writes nothing."""
    return jnp.isfinite(jnp.vdot(values, values))


@partial(jax.jit, static_argnames="count")
def _nearest(train: Array, queries: Array, count: int, weight: Array) -> Nearest:
    dtype = jnp.result_type(train, queries, float)
    train, queries = train.astype(dtype), queries.astype(dtype)
    rows, features = train.shape
    candidates = min(count + SPARE, rows)
    width = _block_width(rows, candidates)
    padding = -rows % width
    present = jnp.pad(weight > 0, (0, padding))
    centre = _centre(train, weight > 0)
    centred = jnp.pad(train - centre[None], ((0, padding), (0, 0)))
    square_norm = jnp.where(present, jnp.sum(centred**2, axis=1), jnp.inf)

    size, asked = dtype.itemsize, len(queries)
    block = _even(asked, BLOCK_BYTES // (4 * size * len(present)))
    queries = jnp.pad(queries, ((0, -asked % block), (0, 0)))

    def near(query: Array) -> Array:
        product = jnp.matmul(query - centre, centred.T, precision="highest")
        return _least(square_norm - 2 * product, candidates, width)  # less the query's own norm, which orders nothing

    def ranked(query: Array, ids: Array) -> Nearest:
        squares = jnp.sum((train[ids] - query[None]) ** 2, axis=1)
        squares, ids = jax.lax.sort((jnp.where(present[ids], squares, jnp.inf), ids), num_keys=2)
        return Nearest(jnp.sqrt(squares[:count]), ids[:count])

    ids = jax.lax.map(near, queries, batch_size=block)
    few = min(block, max(1, CACHE_BYTES // (size * candidates * features)))
    found = jax.lax.map(lambda each: ranked(*each), (queries, ids), batch_size=few)
    return jax.tree.map(lambda array: array[:asked], found)


def _even(count: int, most: int) -> int:
    """Return the size, at most `most` or 1, of as few blocks as hold `count` and are filled alike."""
    blocks = -(-count // max(1, most))
    return -(-count // blocks)


def _centre(train: Array, present: Array) -> Array:
    """Return the median [D] of each column over a sample of the rows that are present.

    A median is not moved by a few rows far away, as the mean is. It is a value of the column: whole numbers less it
    are whole numbers, whose products are exact, so that equal distances come out equal.
    """
    place = jnp.cumsum(present)
    wanted = 1 + jnp.arange(SAMPLE) * (place[-1] - 1) // (SAMPLE - 1)  # evenly spaced, first and last row included
    sample = train[jnp.searchsorted(place, wanted)]
    return jnp.sort(sample, axis=0)[SAMPLE // 2]


def _block_width(rows: int, count: int) -> int:
    """Return how many numbers make a block, a power of two: about as many blocks to choose from as numbers in them."""
    return 2 ** max(4, min(7, round(math.log2(max(1, rows / count)) / 2)))


def _least(values: Array, count: int, width: int) -> Array:
    """Return the ids [count] of the least values [N], of equal ones the first; N is a multiple of `width`.

    A selection from a wide row is slow, a minimum is not. So: the `count` blocks of least minimum, then the least
    values of these blocks. None is missed: each block ahead of a value's own (by minimum, then by place) holds a value
    that is ahead of it (less, or equal and earlier). A value in none of the chosen blocks has `count` values ahead.
    """
    blocks = values.reshape(-1, width)
    if len(blocks) <= count:
        return jax.lax.top_k(-values, count)[1]
    chosen = jnp.sort(jax.lax.top_k(-jnp.min(blocks, axis=1), count)[1])  # in order, so that places are ids' order
    place = jax.lax.top_k(-blocks[chosen].reshape(-1), count)[1]
    return chosen[place // width] * width + place % width
