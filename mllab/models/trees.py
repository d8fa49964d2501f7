r"""Boosted trees as arrays: the sum of the leaves that a row falls into, one leaf of each tree.

    $$ f_c(x) = b_c + \sum_{t : c_t = c} v_{t, \mathrm{leaf}_t(x)} $$

In classification f are logits; in regression there is one column, the value. `apply` is a pure function of arrays, so
that a model which another program has fitted needs nothing but these.

A split sends to the left the numbers up to its threshold, or the categories whose bits are set. A missing number, and a
category that no training row has, goes to the side that the training chose for it.

Source: Ke et al., *LightGBM: a highly efficient gradient boosting decision tree* (2017), for such trees.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from mllab.errors import UserError
from mllab.models.preprocessing import Columns
from mllab.types import Array

MOST_CATEGORIES = 255  # of a column, that a set of 256 bits can hold
LEAST_LOG_PROBABILITY = math.log(1e-7)  # a lower one adds nothing to a sum in float32; finite, for classes without rows


@struct.dataclass
class Trees:
    """T trees of up to M nodes; the children of a leaf are the leaf itself. Features are codes first, then numbers."""

    feature: Array  # [T, M] int32
    threshold: Array  # [T, M]
    left: Array  # [T, M] int32 nodes
    right: Array  # [T, M] int32 nodes
    missing_left: Array  # [T, M] bool: whether rows without a value go to the left
    bitset: Array  # [T, M] int32 the categories that go to the left; -1 for a split of numbers
    bitsets: Array  # [B, 8] uint32: category i is bit i % 32 of entry i // 32
    values: Array  # [T, M] of the leaves
    outputs: Array  # [T] int32, the column that a tree adds to
    bias: Array  # [C]; -inf for a class without training rows
    codes: Array  # [Q, S] int32: the category of each code of a column of the table, -1 for none
    regression: bool = struct.field(pytree_node=False)


def apply(params: Trees, columns: Columns) -> Array:
    """Return log-probabilities [N, C], at least `LEAST_LOG_PROBABILITY`, or values [N] in regression."""
    raw = _sums(params, features(params.codes, columns))
    if params.regression:
        return raw[:, 0]
    return jnp.maximum(jax.nn.log_softmax(raw), LEAST_LOG_PROBABILITY)


def features(codes: Array, columns: Columns) -> Array:
    """Return the features [N, Q + P] of the rows of a table: categories, then numbers; NaN where there is no value.

    Args:
        codes: the category of each code, [Q, S]; -1 for none.
        columns: of the table.
    """
    table = jnp.asarray(columns.codes)
    known = (table >= 0) & (table < codes.shape[1])
    categories = jnp.take_along_axis(jnp.asarray(codes).T, jnp.where(known, table, 0), axis=0) if codes.size else table
    categories = jnp.where(known & (categories >= 0), categories, jnp.nan)
    return jnp.concatenate([categories, jnp.asarray(columns.numbers, jnp.float32)], axis=1)


@jax.jit
def _sums(params: Trees, inputs: Array) -> Array:
    """Return the sums [N, C] over the trees, one tree after another: that bounds the memory."""
    rows = jnp.arange(len(inputs))

    def add(total: Array, tree: tuple[Array, ...]) -> tuple[Array, None]:
        feature, threshold, left, right, missing_left, bitset, values, output = tree

        def down(node: Array) -> Array:
            value = inputs[rows, feature[node]]
            missing = jnp.isnan(value)
            category = jnp.where(missing, 0, value).astype(jnp.int32)
            word = params.bitsets[bitset[node], jnp.clip(category // 32, 0, 7)]
            in_set = (word >> (category % 32).astype(jnp.uint32)) & 1
            to_left = jnp.where(bitset[node] >= 0, in_set > 0, value <= threshold[node])
            return jnp.where(jnp.where(missing, missing_left[node], to_left), left[node], right[node])

        # Children come after their parents, so the walk ends.
        leaf = jax.lax.while_loop(lambda node: jnp.any(left[node] != node), down, jnp.zeros(len(inputs), jnp.int32))
        return total.at[:, output].add(values[leaf]), None

    trees = (
        params.feature, params.threshold, params.left, params.right, params.missing_left, params.bitset,
        params.values, params.outputs,
    )  # fmt: skip
    start = jnp.zeros((len(inputs), len(params.bias)), params.values.dtype)
    return jax.lax.scan(add, start, trees)[0] + params.bias[None]


def check(params: Trees) -> None:
    """Raise UserError for trees in which a walk would not end, or would leave the arrays."""
    feature, left, right = (np.asarray(each) for each in (params.feature, params.left, params.right))
    nodes = np.arange(feature.shape[1])[None]
    leaf = (left == nodes) & (right == nodes)
    inner = (left > nodes) & (right > nodes) & (left < nodes.size) & (right < nodes.size)
    if not (leaf | inner).all():
        raise UserError("the trees have a node whose children do not come after it: the file is damaged")
    for name, array, end in (
        ("bitset", params.bitset, len(params.bitsets)),
        ("outputs", params.outputs, len(params.bias)),
        ("codes", params.codes, MOST_CATEGORIES),
        ("feature", feature, np.inf),
    ):
        least = -1 if name in ("bitset", "codes") else 0
        values = np.asarray(array)
        if values.size and (values.min() < least or values.max() >= end):
            raise UserError(f"the trees have {name} from {values.min()} to {values.max()}: the file is damaged")
    if params.regression and len(params.bias) != 1:
        raise UserError(f"the trees of a regression have {len(params.bias)} columns, expected 1: the file is damaged")
