"""Gaussian mixtures fitted to few labels: every fit of a setting in one program, and the choice of settings."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from experiments.frame import unsaved
from experiments.mixture_bic import STEPS, TOLERANCE, Bic, Setting
from experiments.semi_supervised_results import Count, Method
from mllab import devices, selection, sweep
from mllab.data.dataset import Dataset
from mllab.data.split import stratified_order
from mllab.errors import UserError
from mllab.metrics import interval
from mllab.models import mixture, pca
from mllab.types import Array, Key

MAX_COLUMNS = 16  # that mixtures are fitted to as they are; of more, as many principal components
ALONE, BOTH, EVERY = "alone", "both", "every"  # fitted to labelled rows; to all rows; to all rows, all labelled


class Lane(NamedTuple):
    """One of the fits of a setting."""

    method: str
    labels: int
    seed: int  # of the draw of labels, and of the starts


class Lanes(NamedTuple):
    """What differs between the fits of a setting."""

    key: Key  # [L]
    labels: Array  # class of each training row, -1 for none, [L, N]
    weight: Array  # 0 for rows that a fit does not see, [L, N]


class Part(NamedTuple):
    """The rows of one part of the split."""

    points: Array  # [M, D]
    targets: Array  # [M]


@dataclass(frozen=True)
class Columns:
    """The columns that mixtures are fitted to."""

    given: int  # in the data set
    kept: int
    variance: float  # share of the training rows' variance that is kept
    points: np.ndarray = unsaved()  # [N, kept]


def reduced(data: Dataset, dimensions: int | None) -> Columns:
    """Return the columns of a data set, or their principal components in units of one deviation for all.

    Raises:
        UserError: more components than columns.
    """
    inputs = data.inputs.reshape(len(data.inputs), -1)
    given = inputs.shape[1]
    if dimensions is not None and dimensions > given:
        raise UserError(f"--dimensions={dimensions}: {data.name} has {given} columns: give {given} or fewer")
    if dimensions is None and given <= MAX_COLUMNS:
        return Columns(given, given, 1.0, inputs)
    count = dimensions or MAX_COLUMNS
    axes = pca.fit(inputs[data.split.train], count)
    deviation = np.sqrt(axes.variances[:count].mean()) or 1.0
    points = (pca.transform(axes, inputs) / deviation).astype(np.float32)
    return Columns(given, count, float(axes.variances[:count].sum() / (axes.variances.sum() or 1.0)), points)


def arrange(targets: np.ndarray, counts: Sequence[int], draws: int) -> tuple[list[Lane], Lanes]:
    """Return the fits of a setting to rows of these classes [N]: methods × counts × draws, and one with all labels."""
    lanes = [Lane(method, count, seed) for method in (ALONE, BOTH) for count in counts for seed in range(draws)]
    lanes.append(Lane(EVERY, len(targets), 0))
    labels = np.stack([labelled(targets, lane.labels, lane.seed) for lane in lanes])
    seen = (labels >= 0) | np.array([[lane.method != ALONE] for lane in lanes])
    key = jax.vmap(jax.random.key)(np.array([lane.seed for lane in lanes]))
    return lanes, Lanes(key, jnp.asarray(labels), jnp.asarray(seen, jnp.float32))


def labelled(targets: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return the targets [N] of `count` rows, drawn stratified by class, and -1 for the others.

    The rows of a seed with fewer labels are part of those with more.
    """
    rows = stratified_order(targets, seed)[:count]
    labels = np.full(len(targets), -1, np.int32)
    labels[rows] = targets[rows]
    return labels


def fit(lanes: Lanes, points: Array, setting: Setting, classes: int, restarts: int, mesh: Mesh) -> mixture.Fit:
    """Fit every lane to points [N, D] in one program, spread over devices, on each in groups; leading axis [L]."""
    count, components = len(lanes.labels), classes * setting.components
    lane_bytes = restarts * components * points.size * points.dtype.itemsize
    total, size, _ = sweep.arrange(np.arange(count), mesh.size, devices.lanes_in_cache(mesh, lane_bytes) or count)

    def one(lane: Lanes, points: Array) -> mixture.Fit:
        return mixture.fit(
            lane.key, points, components, covariance=setting.covariance, labels=lane.labels, classes=classes,
            weight=lane.weight, restarts=restarts, steps=STEPS, tolerance=TOLERANCE,
        )  # fmt: skip

    def local(lanes: Lanes, points: Array) -> mixture.Fit:
        groups = jax.tree.map(lambda a: a.reshape(-1, size, *a.shape[1:]), lanes)
        fits = jax.lax.map(lambda group: jax.vmap(one, (0, None))(group, points), groups)
        return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), fits)

    padded = jax.tree.map(lambda a: a[np.minimum(np.arange(total), count - 1)], lanes)  # repeats the last lane
    fits = jax.jit(sweep.spread(local, mesh, (0, None)))(padded, points)
    return jax.tree.map(lambda a: a[:count], fits)


@partial(jax.jit, static_argnames="classes")
def accuracies(params: mixture.Mixture, part: Part, classes: int) -> Array:
    """Return the accuracy of each mixture, [L]; params have the leading axis [L]."""

    def one(params: mixture.Mixture) -> Array:
        return jnp.mean(jnp.argmax(mixture.apply(params, part.points, classes), axis=1) == part.targets)

    return jax.lax.map(one, params)


def choose(
    fits: Mapping[Setting, mixture.Fit],
    validation: Mapping[Setting, np.ndarray],
    lanes: Sequence[Lane],
    rows: int,
    bic: Bic,
    test: Part,
    classes: int,
) -> dict[tuple[str, int], Method]:
    """Choose a setting for each method and number of labels by validation accuracy, and score its fits on test rows.

    Within one standard error of the best accuracy the least BIC is chosen. All lanes share the validation rows, so a
    smaller lead may be due to these rows; BIC takes all training rows and no label.
    """
    settings = list(fits)
    criteria = [bic.values[each.covariance][classes * each.components - 1] for each in settings]
    select = selection.simplest(np.array(criteria), selection.proportion_error(rows))
    chosen = {}
    for group in dict.fromkeys(lane[:2] for lane in lanes):
        ids = np.array([index for index, lane in enumerate(lanes) if lane[:2] == group])
        (place,) = select(np.stack([validation[each][ids] for each in settings]))
        best = settings[place]
        kept = jax.tree.map(lambda a, ids=ids: a[ids], fits[best])
        tested = accuracies(kept.params, test, classes).tolist()
        mean = float(validation[best][ids].mean())
        chosen[group] = Method(**asdict(best), validation=mean, test=interval(tested), test_by_draw=tested, fits=kept)
    return chosen


def compared(labels: int, chosen: Mapping[tuple[str, int], Method]) -> Count:
    """Return both methods with one number of labels."""
    alone, both = chosen[ALONE, labels], chosen[BOTH, labels]
    return Count(labels, alone, both, interval(100 * np.subtract(both.test_by_draw, alone.test_by_draw)))
