"""Gaussian mixtures with few labels: every fit of a setting in one program, the choice of settings, and BIC."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from mllab import devices, selection, sweep
from mllab.data.split import stratified_order
from mllab.metrics import Interval, interval
from mllab.models import mixture
from mllab.types import Array, Key

ALONE, BOTH, EVERY = "alone", "both", "every"  # fitted to labelled rows; to all rows; to all rows, all labelled
STEPS, TOLERANCE = 200, 1e-3  # of EM; see `mixture.fit`


@dataclass(frozen=True)
class Setting:
    """What validation rows choose."""

    covariance: str
    components: int  # per class


@dataclass(frozen=True)
class Method(Setting):
    """The setting chosen for a method with one number of labels, and its accuracy."""

    validation: float  # mean over the draws
    test: Interval  # over the draws
    test_by_draw: list[float]


@dataclass(frozen=True)
class Count:
    """Both methods with one number of labels."""

    labels: int
    alone: Method
    both: Method
    gain: Interval  # test accuracy of both less that of alone, draw by draw, in points

    @property
    def effect(self) -> str:
        """What unlabelled points do to the accuracy, as far as the interval tells."""
        return "help" if self.gain.low > 0 else "hurt" if self.gain.high < 0 else "unclear"


@dataclass(frozen=True)
class Bic:
    """BIC of mixtures fitted to the training rows without labels."""

    components: list[int]  # in all, [K]
    values: Mapping[str, list[float]]  # of each covariance, [K]
    chosen: Setting  # of the least


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


class Fitted(NamedTuple):
    """The fits of every setting, their accuracy, and the settings chosen."""

    lanes: Sequence[Lane]  # [L]
    fits: Mapping[Setting, mixture.Fit]  # with leading axis [L]
    validation: Mapping[Setting, np.ndarray]  # accuracy of each lane, [L]
    chosen: Mapping[tuple[str, int], Setting]  # by method and number of labels
    test: Mapping[Lane, float]  # accuracy, with the chosen setting

    def fit(self, lane: Lane) -> mixture.Fit:
        """Return the fit of a lane with its chosen setting."""
        index = self.lanes.index(lane)
        return jax.tree.map(lambda a: a[index], self.fits[self.chosen[lane[:2]]])

    def method(self, name: str, labels: int) -> Method:
        """Return the chosen setting and the accuracy of a method with one number of labels."""
        ids = [index for index, lane in enumerate(self.lanes) if lane[:2] == (name, labels)]
        setting, test = self.chosen[name, labels], [self.test[self.lanes[index]] for index in ids]
        return Method(
            **asdict(setting),
            validation=self.validation[setting][ids].mean(),
            test=interval(np.array(test)),
            test_by_draw=test,
        )

    def count(self, labels: int) -> Count:
        """Return both methods with one number of labels."""
        alone, both = self.method(ALONE, labels), self.method(BOTH, labels)
        return Count(labels, alone, both, interval(100 * np.subtract(both.test_by_draw, alone.test_by_draw)))


def arrange(targets: np.ndarray, counts: Sequence[int], seeds: Sequence[int]) -> tuple[list[Lane], Lanes]:
    """Return the fits of a setting: both methods with each number of labels and seed, and one with all labels.

    Args:
        targets: class of each training row, [N].
        counts: numbers of labelled rows; each seed draws them stratified, fewer as a part of more.
        seeds: of the draws.
    """
    lanes = [Lane(method, count, seed) for method in (ALONE, BOTH) for count in counts for seed in seeds]
    lanes.append(Lane(EVERY, len(targets), seeds[0]))
    orders = {seed: stratified_order(targets, seed) for seed in seeds}
    labels = np.full((len(lanes), len(targets)), -1, np.int32)
    for row, lane in zip(labels, lanes, strict=True):
        labelled = orders[lane.seed][: lane.labels]
        row[labelled] = targets[labelled]
    seen = (labels >= 0) | np.array([[lane.method != ALONE] for lane in lanes])
    key = jax.vmap(jax.random.key)(np.array([lane.seed for lane in lanes]))
    return lanes, Lanes(key, jnp.asarray(labels), jnp.asarray(seen, jnp.float32))


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
    validation: Mapping[Setting, np.ndarray], lanes: Sequence[Lane], rows: int, bic: Mapping[Setting, float]
) -> dict[tuple[str, int], Setting]:
    """Return the setting for each method and number of labels: the least BIC within one standard error of the best.

    All draws and methods share the validation rows, so a smaller lead may be due to these rows; BIC takes all training
    rows and no label.

    Args:
        validation: accuracy of each lane, [L], by setting.
        lanes: [L].
        rows: number of validation rows.
        bic: of each setting.
    """
    settings = list(validation)
    select = selection.simplest(np.array([bic[each] for each in settings]), selection.proportion_error(rows))
    chosen = {}
    for group in dict.fromkeys(lane[:2] for lane in lanes):
        ids = [index for index, lane in enumerate(lanes) if lane[:2] == group]
        chosen[group] = settings[select(np.stack([validation[each][ids] for each in settings]))[0]]
    return chosen


def test_accuracies(
    fits: Mapping[Setting, mixture.Fit],
    chosen: Mapping[tuple[str, int], Setting],
    lanes: Sequence[Lane],
    test: Part,
    classes: int,
) -> dict[Lane, float]:
    """Return the accuracy of each lane with its chosen setting."""
    accuracy: dict[Lane, float] = {}
    for group, setting in chosen.items():
        ids = [index for index, lane in enumerate(lanes) if lane[:2] == group]
        params = jax.tree.map(lambda a, ids=ids: a[jnp.array(ids)], fits[setting].params)
        accuracy |= zip((lanes[index] for index in ids), accuracies(params, test, classes).tolist(), strict=True)
    return accuracy


def compare_bic(key: Key, points: Array, most: int, covariances: Sequence[str], restarts: int) -> Bic:
    """Return the BIC of 1 to `most` components with each covariance, fitted to points [N, D] without labels."""
    counts, values = list(range(1, most + 1)), {}
    for covariance in covariances:
        options: dict[str, Any] = {"covariance": covariance, "restarts": restarts}
        fits = mixture.sweep(key, points, counts, steps=STEPS, tolerance=TOLERANCE, **options)
        values[covariance] = jax.vmap(mixture.bic, (0, None))(fits.params, points).tolist()
    _, count, covariance = min(
        (value, count, name) for name in values for count, value in zip(counts, values[name], strict=True)
    )
    return Bic(counts, values, Setting(covariance, count))
