r"""Nearest neighbours by brute force, and prediction by the k nearest: classification and regression.

Squared distances come from one matrix product, $\lVert q \rVert^2 + \lVert x \rVert^2 - 2 q^\top x$, for a block of
queries at a time; the matrix of all distances is never formed.

The classifier's probabilities are the shares of votes of the k nearest rows, smoothed by one vote that all C classes
share:

    $$ P(c \mid q) = \frac{1 / C + \sum_{i \in \mathrm{nearest}_k(q)} \omega_i [y_i = c]}
                          {1 + \sum_{i \in \mathrm{nearest}_k(q)} \omega_i} $$

In regression the prediction is the weighted mean of the targets of the k nearest rows.

Sources: Cover and Hart, *Nearest neighbor pattern classification*, IEEE Trans. Information Theory 13 (1967); Johnson,
Douze and Jégou, *Billion-scale similarity search with GPUs* (2017), section 3, for the distances as a product; Perks,
J. Institute of Actuaries 73 (1947), for the smoothing.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from mllab import checks
from mllab.errors import UserError
from mllab.models.ops import ranking
from mllab.row_blocks import even_size, sampled_median
from mllab.types import Array, is_concrete

BLOCK_BYTES = 128 * 2**20  # limit for a block of queries and its distances
CACHE_BYTES = 2**20  # limit for the candidates that are ranked at once: in cache they are read several times faster
SPARE = 8  # candidates beyond the number asked for


class Nearest(NamedTuple):
    """The nearest rows of each query, nearest first; equally near ones by id."""

    distances: Array  # [M, count] Euclidean; infinite where there are fewer rows than that
    ids: Array  # [M, count] int32, into the training rows


@struct.dataclass
class Neighbors:
    """Params of prediction by nearest neighbours: the training rows."""

    inputs: Array  # [N, D]
    targets: Array  # [N] labels, integers in 0..C-1, or values
    weight: Array  # [N] of each vote; rows of weight 0 are ignored
    k: Array  # [] how many neighbours vote


def fit(
    inputs: Array,
    targets: Array,
    k: Array | int,
    weight: Array | np.ndarray | None = None,
    *,
    regression: bool = False,
) -> Neighbors:
    """Return the params of these rows.

    Args:
        inputs: [N, ...], flattened to [N, D].
        targets: [N], labels; values in regression.
        k: how many neighbours vote; may be traced.
        weight: of each row's vote, [N]; 1 by default.
        regression: whether targets are values.

    Raises:
        UserError: shapes that do not match, inputs that are not finite, labels that are not integers, or k not in 1..N
            (without rows of weight 0). Where k or the weights are traced, a k beyond the rows counts all of them.
    """
    inputs = checks.check_array(inputs, ("N", "..."), "training rows")
    inputs = inputs.reshape(len(inputs), -1)
    if regression:
        targets = checks.check_array(targets, (len(inputs),), "targets")
    else:
        targets = checks.check_labels(targets, len(inputs), None, "labels")
    weight = checks.check_weight(weight, len(inputs), jnp.result_type(float))
    checks.check_count("k", k, weight, "training rows")
    return Neighbors(inputs, targets, weight, jnp.asarray(k))


def apply(params: Neighbors, inputs: Array, classes: int | None, most: int) -> Array:
    """Return log-probabilities [M, C] of inputs [M, ...], or values [M] in regression.

    Args:
        params: see `fit`.
        inputs: queries, flattened to [M, D].
        classes: C; None for regression.
        most: an upper bound of k, which may be traced where shapes may not.

    Raises:
        UserError: k greater than `most`, or labels not in 0..C-1, where these are concrete.
    """
    checks.check_whole(1, most=most)
    if classes is not None:
        checks.check_whole(1, classes=classes)
        checks.check_labels(params.targets, len(params.inputs), classes, "labels")
    if is_concrete(params.k) and int(params.k) > most:
        raise UserError(f"k = {params.k} is greater than most = {most}: raise most")
    inputs = checks.check_array(inputs, ("M", "..."), "queries")
    near = nearest(params.inputs, inputs.reshape(len(inputs), -1), most, params.weight)
    return outputs(params, near.ids, params.k, classes)


def outputs(params: Neighbors, ids: Array, k: Array | int, classes: int | None) -> Array:
    """Return the outputs of `apply` from the ids [M, K] of the nearest rows, nearest first, by the first k of them."""
    targets, weight = params.targets[ids], params.weight[ids]
    return values(targets, weight, k) if classes is None else log_probabilities(targets, weight, k, classes)


def values(targets: Array, weight: Array, k: Array | int) -> Array:
    """Return the weighted means [M] of the targets of the first k neighbours.

    Args:
        targets: of the neighbours, nearest first, [M, K].
        weight: of each, [M, K]; 0 where there is no neighbour.
        k: how many are averaged.
    """
    voting = jnp.where(jnp.arange(targets.shape[1]) < k, weight, 0)
    return jnp.sum(voting * targets, axis=1) / jnp.maximum(jnp.sum(voting, axis=1), jnp.finfo(weight.dtype).tiny)


def log_probabilities(labels: Array, weight: Array, k: Array | int, classes: int) -> Array:
    """Return the log-probabilities [M, C] of the classes by the votes of the first k neighbours.

    The class with the most votes is the most probable one; ties go to the first. Mapping over k costs one more product,
    since the votes for any k are sums over the same table.

    Args:
        labels: of the neighbours, nearest first, [M, K].
        weight: of their votes, [M, K]; 0 where there is no neighbour.
        k: how many vote.
        classes: C.
    """
    voting = (jnp.arange(labels.shape[1]) < k).astype(weight.dtype)  # [K]
    table = jax.nn.one_hot(labels, classes, dtype=weight.dtype) * weight[..., None]
    votes = jnp.einsum("k,mkc->mc", voting, table, precision="highest")
    return jnp.log(votes + 1 / classes) - jnp.log(1 + jnp.sum(votes, axis=1, keepdims=True))


def nearest(
    train: Array,
    queries: Array,
    count: int,
    weight: Array | np.ndarray | None = None,
    *,
    block_bytes: int = BLOCK_BYTES,
    cache_bytes: int = CACHE_BYTES,
) -> Nearest:
    r"""Return the `count` nearest training rows of each query.

    Candidates, `SPARE` more than asked for, are selected by the product; their distances are then summed directly,
    $\sum_d (q_d - x_d)^2$, and order them. So equal rows are equally near, the distance of a row to itself is 0, and
    rows that rounding of the product has swapped are put in order.

    Points are centred for the product, whose rounding is relative to the norms, not to the distances.

    Memory: a centred copy of the training rows, a copy of the queries, the result, and `block_bytes` (or what one query
    takes, if that is more: a few numbers per training row).

    Args:
        train: [N, D].
        queries: [M, D].
        count: how many, at most N.
        weight: rows of weight 0 are never neighbours, [N]; 1 by default.
        block_bytes: limit for a block of queries and its distances.
        cache_bytes: limit for the candidates that are ranked at once.

    Raises:
        UserError: shapes that do not match, entries that are not finite, or a count not in 1..N (without rows of weight
            0). Where the weights are traced, neighbours beyond the rows are at an infinite distance.
    """
    train = checks.check_array(train, ("N", "D"), "training rows")
    queries = checks.check_array(queries, ("M", train.shape[1]), "queries")
    weight = checks.check_weight(weight, len(train), jnp.result_type(float))
    checks.check_count("count", count, weight, "training rows")
    return _nearest(train, queries, count, weight, block_bytes, cache_bytes)


@partial(jax.jit, static_argnames=("count", "block_bytes", "cache_bytes"))
def _nearest(train: Array, queries: Array, count: int, weight: Array, block_bytes: int, cache_bytes: int) -> Nearest:
    dtype = jnp.result_type(train, queries, float)
    train, queries = train.astype(dtype), queries.astype(dtype)
    rows, features = train.shape
    candidates = min(count + SPARE, rows)
    width = ranking.block_width(rows, candidates)
    padding = -rows % width
    present = jnp.pad(weight > 0, (0, padding))
    centre = sampled_median(train, weight > 0)
    centred = jnp.pad(train - centre[None], ((0, padding), (0, 0)))
    square_norm = jnp.where(present, jnp.sum(centred**2, axis=1), jnp.inf)

    size, asked = dtype.itemsize, len(queries)
    block = even_size(asked, block_bytes // (4 * size * len(present)))
    queries = jnp.pad(queries, ((0, -asked % block), (0, 0)))

    def near(query: Array) -> Array:
        product = jnp.matmul(query - centre, centred.T, precision="highest")
        return ranking.least(square_norm - 2 * product, candidates, width)  # the query's norm does not change the order

    def ranked(query: Array, ids: Array) -> Nearest:
        squares = jnp.sum((train[ids] - query[None]) ** 2, axis=1)
        squares, ids = jax.lax.sort((jnp.where(present[ids], squares, jnp.inf), ids), num_keys=2)
        return Nearest(jnp.sqrt(squares[:count]), ids[:count])

    ids = jax.lax.map(near, queries, batch_size=block)
    few = min(block, max(1, cache_bytes // (size * candidates * features)))
    ordered = jax.lax.map(lambda each: ranked(*each), (queries, ids), batch_size=few)
    return jax.tree.map(lambda array: array[:asked], ordered)
