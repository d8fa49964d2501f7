r"""Columns of a table as the inputs of a model, by statistics of the training rows alone.

A table is `Columns`: numbers, NaN where missing, and codes of categories. `fit` takes the statistics of the rows that
have weight, and `apply` makes inputs [N, D] of any rows: numbers, with missing ones replaced by the median, then an
indicator for each column in which numbers may be missing, then the categories one-hot. Both are pure and of fixed
shape, so a fold, a lane or a published model each has a preprocessing of its own.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.scipy.special import ndtri

from mllab.errors import unknown
from mllab.types import Array

QUANTILES = 257  # reference points of the quantile transform
LARGEST_NORMAL = 5.0  # where values beyond all training rows are clipped, as a normal quantile


class Columns(NamedTuple):
    """Columns of a table, the same for all rows; a pytree of arrays with leading N."""

    numbers: Array | np.ndarray  # [N, P] float32, NaN where missing
    codes: Array | np.ndarray  # [N, Q] int32: which category, -1 for none of the known ones


class Layout(NamedTuple):
    """The static sizes of a table's inputs."""

    numbers: int  # P
    indicators: tuple[int, ...] = ()  # which columns of numbers have an indicator of missing values, ascending
    categories: tuple[int, ...] = ()  # [Q] number of categories of each column of codes

    @property
    def size(self) -> int:
        """D, the number of inputs."""
        return self.numbers + len(self.indicators) + sum(self.categories)


@struct.dataclass
class Preprocessing:
    """The statistics of the training rows."""

    median: Array  # [P] of the numbers that are not missing
    centre: Array  # [P]
    scale: Array  # [P]; 0 for a column that is constant, whose input is then 0
    quantiles: Array  # [R, P] ascending, for the quantile transform; [0, P] for the others
    known: Array  # [sum of categories] 1 for a category that a training row has, else 0
    layout: Layout = struct.field(pytree_node=False)
    transform: str = struct.field(pytree_node=False)


def fit(columns: Columns, weight: Array | None = None, *, layout: Layout, transform: str = "standard") -> Preprocessing:
    r"""Return the statistics of rows with weight above 0.

    Args:
        columns: of all rows.
        weight: [N]; rows of weight 0 are ignored. Default: 1. Weights above 0 count alike.
        layout: the static sizes.
        transform: of numbers, a name in `TRANSFORMS`.

    Returns:
        With $z = (x - m) / s$: "standard" has the mean and standard deviation as m and s; "clipped" the median and the
        interquartile range, and the input is $z / \sqrt{1 + (z / 3)^2}$, which is close to z for ordinary values and
        within ±3; "quantile" is the normal quantile of a value's rank among the training rows.

    Raises:
        UserError: an unknown transform.

    Source: the smooth clipping is that of Holzmüller, Grinsztajn and Steinwart, *Better by default: strong pre-tuned
    MLPs and boosted trees on tabular data* (2024), section 3.
    """
    if transform not in TRANSFORMS:
        raise unknown("transform", transform, TRANSFORMS)
    numbers = jnp.asarray(columns.numbers, jnp.float32)
    used = jnp.ones(len(numbers)) if weight is None else (jnp.asarray(weight) > 0).astype(jnp.float32)
    present = ~jnp.isnan(numbers) & (used > 0)[:, None]
    needs_order = np.ones(layout.numbers, bool) if transform != "standard" else np.zeros(layout.numbers, bool)
    needs_order[list(layout.indicators)] = True  # the median replaces missing numbers
    places = np.flatnonzero(needs_order)
    ordered = jnp.sort(jnp.where(present[:, places], numbers[:, places], jnp.inf), axis=0)
    count = present[:, places].sum(axis=0)
    median = jnp.zeros(layout.numbers).at[places].set(_quantile(ordered, count, jnp.array([0.5]))[0])
    filled = jnp.where(jnp.isnan(numbers), median[None], numbers)
    centre, scale, quantiles = TRANSFORMS[transform].fit(filled, used)
    codes = jnp.asarray(columns.codes)
    known = [
        jnp.zeros(size).at[jnp.where(codes[:, place] < 0, size, codes[:, place])].max(used, mode="drop")
        for place, size in enumerate(layout.categories)
    ]
    return Preprocessing(
        median, centre, scale, quantiles, jnp.concatenate([*known, jnp.zeros(0)]), layout, transform
    )  # fmt: skip


def apply(params: Preprocessing, columns: Columns) -> Array:
    """Return the inputs [N, D] float32 of any rows.

    A category that no training row has is encoded as zeros.
    """
    numbers, codes = jnp.asarray(columns.numbers, jnp.float32), jnp.asarray(columns.codes)
    missing = jnp.isnan(numbers)
    filled = jnp.where(missing, params.median[None], numbers)
    parts = [TRANSFORMS[params.transform].apply(params, filled)]
    parts.append(missing[:, list(params.layout.indicators)].astype(jnp.float32))
    hot = [codes[:, [place]] == jnp.arange(size)[None] for place, size in enumerate(params.layout.categories)]
    if hot:
        parts.append(jnp.concatenate(hot, axis=1) * params.known[None])
    return jnp.concatenate(parts, axis=1)


# ── Transforms of numbers ───────────────────────────────────────────────────────────────────────────────────────────


class Transform(NamedTuple):
    """How numbers are brought to one scale."""

    fit: Callable[[Array, Array], tuple[Array, Array, Array]]  # (numbers [N, P], used [N]) -> centre, scale, quantiles
    apply: Callable[[Preprocessing, Array], Array]
    help: str


def _mean_and_deviation(numbers: Array, used: Array) -> tuple[Array, Array, Array]:
    total = jnp.maximum(used.sum(), 1)
    mean = used @ jnp.where(used[:, None] > 0, numbers, 0) / total
    deviation = jnp.where(used[:, None] > 0, numbers - mean[None], 0)
    mean += deviation.sum(axis=0) / total  # the second pass takes away the rounding of the first
    deviation = jnp.where(used[:, None] > 0, numbers - mean[None], 0)
    return mean, _scale(numbers, used, jnp.sqrt((deviation**2).sum(axis=0) / total)), numbers[:0]


def _median_and_range(numbers: Array, used: Array) -> tuple[Array, Array, Array]:
    _, deviation, none = _mean_and_deviation(numbers, used)
    low, median, high = _quantiles(numbers, used, jnp.array([0.25, 0.5, 0.75]))
    return median, jnp.where((high > low) & (deviation > 0), high - low, deviation), none


def _ranks(numbers: Array, used: Array) -> tuple[Array, Array, Array]:
    mean, deviation, _ = _mean_and_deviation(numbers, used)
    return mean, deviation, _quantiles(numbers, used, jnp.linspace(0, 1, QUANTILES))


def _standardised(params: Preprocessing, numbers: Array) -> Array:
    scale = params.scale[None]
    return jnp.where(scale > 0, (numbers - params.centre[None]) / jnp.where(scale > 0, scale, 1), 0)


def _clipped(params: Preprocessing, numbers: Array) -> Array:
    z = _standardised(params, numbers)
    return z / jnp.sqrt(1 + (z / 3) ** 2)


def _normal_quantiles(params: Preprocessing, numbers: Array) -> Array:
    def column(values: Array, points: Array) -> Array:
        # A value that several points share has the middle of their ranks: interpolated from both ends.
        ranks = jnp.linspace(0, 1, len(points))
        rank = (jnp.interp(values, points, ranks) + 1 - jnp.interp(-values, -points[::-1], ranks)) / 2
        return jnp.clip(ndtri(rank), -LARGEST_NORMAL, LARGEST_NORMAL)

    normal = jax.vmap(column, (1, 1), 1)(numbers, params.quantiles)
    return jnp.where(params.scale[None] > 0, normal, 0)


TRANSFORMS: Mapping[str, Transform] = {
    "standard": Transform(_mean_and_deviation, _standardised, "mean 0 and standard deviation 1"),
    "clipped": Transform(_median_and_range, _clipped, "median 0, interquartile range 1, smoothly clipped at 3"),
    "quantile": Transform(_ranks, _normal_quantiles, "normal quantiles of the ranks"),
}


def _scale(numbers: Array, used: Array, deviation: Array) -> Array:
    """Return the standard deviations, 0 where all training rows have the same number: rounding may leave a little."""
    inside = used[:, None] > 0
    low = jnp.where(inside, numbers, jnp.inf).min(axis=0)
    high = jnp.where(inside, numbers, -jnp.inf).max(axis=0)
    return jnp.where(high > low, deviation, 0)


def _quantiles(numbers: Array, used: Array, shares: Array) -> Array:
    ordered = jnp.sort(jnp.where(used[:, None] > 0, numbers, jnp.inf), axis=0)
    return _quantile(ordered, jnp.full(numbers.shape[1], (used > 0).sum()), shares)


def _quantile(ordered: Array, count: Array, shares: Array) -> Array:
    """Return quantiles [R, P] of ascending numbers [N, P], of which the first `count` [P] are used, as NumPy does."""
    place = shares[:, None] * jnp.maximum(count - 1, 0)[None]
    below = jnp.floor(place).astype(jnp.int32)
    above = jnp.minimum(below + 1, jnp.maximum(count - 1, 0)[None])
    low, high = (jnp.take_along_axis(ordered, each, axis=0) for each in (below, above))
    value = low + (high - low) * (place - below)
    return jnp.where(count[None] > 0, value, 0)
