"""Classifiers from few labels: Gaussian mixtures fitted to labelled rows alone, and to unlabelled rows as well.

`lanes` draws the labelled rows, many times for each number of labels; `fit` fits both methods to every draw in one
program, for one setting; `choose` chooses a setting for each method and number of labels by validation rows, and scores
its fits on test rows once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from mllab import memory, selection, sweep
from mllab.data.split import stratified_order
from mllab.metrics import Interval, interval
from mllab.models import mixture
from mllab.models.mixture import Setting
from mllab.types import Array, Key

ALONE, BOTH, EVERY = "alone", "both", "every"  # fitted to labelled rows; to all rows; to all rows, all labelled
STEPS, TOLERANCE = 200, 1e-3  # of EM; see `mixture.fit`


class Lane(NamedTuple):
    """One of the fits of a setting."""

    method: str  # ALONE, BOTH or EVERY
    labels: int  # number of labelled rows
    seed: int  # of the draw of labels, and of the starts


class LaneArrays(NamedTuple):
    """What differs between the fits of a setting."""

    key: Key  # [L]
    labels: Array  # class of each training row, -1 for none, [L, N]
    weight: Array  # 0 for rows that a fit does not see, [L, N]


@dataclass(frozen=True)
class Choice(Setting):
    """The setting chosen for a method and a number of labels (components per class), and its accuracy."""

    validation: float  # mean over the draws
    test: Interval  # over the draws
    test_by_draw: list[float]

    @property
    def setting(self) -> Setting:
        """The setting alone."""
        return Setting(self.covariance, self.components)


def hide_labels(targets: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return the classes [N] of `count` rows, drawn stratified by class, and -1 for all other rows; int32.

    With one seed, the rows of a smaller count are part of those of a larger one; see `stratified_order`.
    """
    rows = stratified_order(targets, seed)[:count]
    labels = np.full(len(targets), -1, np.int32)
    labels[rows] = targets[rows]
    return labels


def lanes(targets: np.ndarray, counts: Sequence[int], draws: int) -> tuple[list[Lane], LaneArrays]:
    """Return the fits of a setting, [L]: both methods × numbers of labels × draws, and one with all labels.

    Args:
        targets: class of each training row, [N].
        counts: numbers of labelled rows.
        draws: of the labelled rows, by seeds 0, 1, ...
    """
    each = [Lane(method, count, seed) for method in (ALONE, BOTH) for count in counts for seed in range(draws)]
    each.append(Lane(EVERY, len(targets), 0))
    labels = np.stack([hide_labels(targets, lane.labels, lane.seed) for lane in each])
    seen = (labels >= 0) | np.array([[lane.method != ALONE] for lane in each])
    key = jax.vmap(jax.random.key)(np.array([lane.seed for lane in each]))
    return each, LaneArrays(key, jnp.asarray(labels), jnp.asarray(seen, jnp.float32))


def check_memory(
    shape: tuple[int, ...],
    classes: int,
    *,
    counts: int,
    draws: int,
    settings: int,
    components: int,
    most: int,
    restarts: int,
    mesh: Mesh,
) -> None:
    """Check that all fits fit in memory, before anything is compiled.

    Estimated are the labels and weights of the lanes, [L, N] each, the fits of all settings, and those of the restarts
    of one lane and of the numbers of components of BIC: a covariance [D, D] of each component, and the history.

    Args:
        shape: of the training rows, [N, D].
        classes: C.
        counts: how many numbers of labelled rows.
        draws: of the labelled rows.
        settings: to choose from.
        components: per class, the most.
        most: components for BIC.
        restarts: of each fit.
        mesh: the devices.

    Raises:
        UserError: they do not fit.
    """
    rows, columns = shape
    lanes = 2 * counts * draws + 1

    def fits(number: int, components: int) -> int:
        return number * 4 * (components * columns * columns + STEPS)

    each = classes * components
    needed = 8 * lanes * rows + fits(settings * lanes, each) + max(fits(restarts, each), fits(restarts * most, most))
    what = f"the labels and fits of {lanes:,} lanes × {settings:,} settings, with {restarts:,} restarts,"
    remedy = "lower --draws, --restarts, --components, --most_components or --dimensions"
    memory.check(needed, what, remedy, mesh.devices.flat)


def fit(arrays: LaneArrays, points: Array, setting: Setting, classes: int, restarts: int, mesh: Mesh) -> mixture.Fit:
    """Fit every lane in one program, spread over devices.

    Args:
        arrays: of the lanes, [L].
        points: of the training rows, [N, D].
        setting: kind of covariance, and components per class.
        classes: C.
        restarts: starts of each fit, of which the best is kept.
        mesh: the devices.

    Returns:
        The fits, with leading axis [L].
    """
    components = classes * setting.components

    def one(lane: LaneArrays, points: Array) -> mixture.Fit:
        return mixture.fit(
            lane.key, points, components, covariance=setting.covariance, labels=lane.labels, classes=classes,
            weight=lane.weight, restarts=restarts, steps=STEPS, tolerance=TOLERANCE,
        )  # fmt: skip

    return sweep.over_lanes(one, mesh, restarts * components * points.nbytes)(arrays, points)


@partial(jax.jit, static_argnames="classes")
def accuracies(params: mixture.Mixture, points: Array, targets: Array, classes: int) -> Array:
    """Return the accuracy of each mixture, [L], on points [M, D] of classes [M]; params have the leading axis [L]."""

    def one(params: mixture.Mixture) -> Array:
        return jnp.mean(jnp.argmax(mixture.apply(params, points, classes), axis=1) == targets)

    return jax.lax.map(one, params)


def choose(
    fits: Mapping[Setting, mixture.Fit],
    validation: Mapping[Setting, np.ndarray],
    lanes: Sequence[Lane],
    rows: int,
    bic: mixture.Selection,
    test: tuple[Array, Array],
    classes: int,
) -> dict[tuple[str, int], Choice]:
    """Choose a setting for each method and number of labels by validation accuracy, and score its fits on test rows.

    Within one standard error of the best accuracy the least BIC is chosen. All lanes share the validation rows, so a
    smaller lead may be due to these rows; BIC takes all training rows and no label.

    Args:
        fits: of each setting, [L].
        validation: accuracy of each fit on the validation rows, [L].
        lanes: the fits, [L].
        rows: number of validation rows.
        bic: of the training rows.
        test: points [M, D] and classes [M] of the test rows.
        classes: C.
    """
    settings = list(fits)
    criteria = [bic.values[each.covariance][classes * each.components - 1] for each in settings]
    select = selection.simplest(np.array(criteria), selection.proportion_error(rows))
    chosen = {}
    for group in dict.fromkeys(lane[:2] for lane in lanes):
        ids = np.array([index for index, lane in enumerate(lanes) if lane[:2] == group])
        (place,) = select(np.stack([validation[each][ids] for each in settings]))
        best = settings[place]
        params = jax.tree.map(lambda a, ids=ids: a[ids], fits[best].params)
        tested = accuracies(params, *test, classes).tolist()
        chosen[group] = Choice(
            **asdict(best), validation=float(validation[best][ids].mean()), test=interval(tested), test_by_draw=tested
        )
    return chosen


def fit_of(
    fits: Mapping[Setting, mixture.Fit], lanes: Sequence[Lane], lane: Lane, chosen: Mapping[tuple[str, int], Choice]
) -> mixture.Fit:
    """Return the fit of one lane with the setting chosen for its method and number of labels, as NumPy arrays."""
    place = lanes.index(lane)
    return jax.tree.map(lambda a: np.asarray(a[place]), fits[chosen[lane[:2]].setting])
