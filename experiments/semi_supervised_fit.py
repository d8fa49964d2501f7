"""Mixtures learned from few labels: which rows keep theirs, every fit in one program, and what validation rows choose.

`experiments.semi_supervised` shows what `measure` finds.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from mllab import devices, sweep
from mllab.models import mixture
from mllab.types import Array, Key

ALONE, BOTH, EVERY = "alone", "both", "every"  # what is learned from: labelled rows, all rows, all rows labelled
STEPS, TOLERANCE = 200, 1e-3  # of EM; see `mixture.fit`


class Setting(NamedTuple):
    """What validation rows choose."""

    covariance: str
    components: int  # a class


class Place(NamedTuple):
    """Which fit of a setting this is."""

    method: str
    labels: int
    seed: int


class Lanes(NamedTuple):
    """Fits that differ in what they are told, in one program."""

    key: Key  # [L]
    labels: Array  # [L, N] class of each training row, -1 where it is not told
    weight: Array  # [L, N] 0 for rows that are not seen


class Part(NamedTuple):
    """Some rows, as the mixtures take them."""

    points: Array  # [M, D]
    targets: Array  # [M]


def drawn(targets: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return the places [count] of the rows that keep their label: each class in proportion, one at least.

    What a seed draws at a small count is part of what it draws at a larger one.
    """
    order = np.random.default_rng(seed).permutation(len(targets))
    _, labels, counts = np.unique(targets[order], return_inverse=True, return_counts=True)
    position = np.empty(len(order))  # of a row inside its class
    position[np.argsort(labels, kind="stable")] = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    turn = np.where(position == 0, 0, (position + 0.5) / counts[labels])
    return order[np.argsort(turn, kind="stable")[:count]]


def arranged(targets: np.ndarray, counts: Sequence[int], seeds: Sequence[int]) -> tuple[list[Place], Lanes]:
    """Return every fit that one setting takes: each number of labels and draw, from labelled rows alone and from all.

    Args:
        targets: class of each training row, [N].
        counts: numbers of labelled rows.
        seeds: of the draws.
    """
    places, labels = [], []
    for method in (ALONE, BOTH):
        for count in counts:
            for seed in seeds:
                told = np.full(len(targets), -1, np.int32)
                rows = drawn(targets, count, seed)
                told[rows] = targets[rows]
                places.append(Place(method, count, seed))
                labels.append(told)
    places.append(Place(EVERY, len(targets), seeds[0]))
    labels.append(targets.astype(np.int32))
    seen = [
        told >= 0 if place.method == ALONE else np.ones(len(told)) for place, told in zip(places, labels, strict=True)
    ]
    key = jax.vmap(jax.random.key)(np.array([place.seed for place in places]))
    return places, Lanes(key, jnp.asarray(np.stack(labels)), jnp.asarray(np.stack(seen), jnp.float32))


def learned(lanes: Lanes, points: Array, setting: Setting, classes: int, restarts: int, mesh: Mesh) -> mixture.Fit:
    """Fit every lane in one program, spread over the devices and on each a group at a time; leading axis [L].

    Args:
        lanes: what each fit is told.
        points: all training rows, [N, D].
        setting: covariance, and components a class.
        classes: C.
        restarts: starts of each fit.
        mesh: the devices.
    """
    count, components = len(lanes.labels), classes * setting.components
    lane_bytes = restarts * components * points.size * points.dtype.itemsize
    most = devices.lanes_in_cache(mesh, lane_bytes) or count
    total, size, _ = sweep.arrange(np.arange(count), mesh.size, most)  # groups of one size are compiled once

    def one(lane: Lanes, points: Array) -> mixture.Fit:
        return mixture.fit(
            lane.key,
            points,
            components,
            covariance=setting.covariance,
            labels=lane.labels,
            classes=classes,
            weight=lane.weight,
            restarts=restarts,
            steps=STEPS,
            tolerance=TOLERANCE,
        )

    def local(lanes: Lanes, points: Array) -> mixture.Fit:
        groups = jax.tree.map(lambda a: a.reshape(-1, size, *a.shape[1:]), lanes)
        fits = jax.lax.map(lambda group: jax.vmap(one, (0, None))(group, points), groups)
        return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), fits)

    over, whole = PartitionSpec("lanes"), PartitionSpec()
    spread = jax.shard_map(local, mesh=mesh, in_specs=(over, whole), out_specs=over, check_vma=False)
    padded = jax.tree.map(lambda a: a[np.minimum(np.arange(total), count - 1)], lanes)  # which repeats the last
    fits = jax.jit(spread)(padded, points)
    return jax.tree.map(lambda a: a[:count], fits)


@partial(jax.jit, static_argnames="classes")
def accuracies(params: mixture.Mixture, part: Part, classes: int) -> Array:
    """Return the share of rows that each mixture classifies rightly, [L]; params have leading axis [L]."""

    def one(params: mixture.Mixture) -> Array:
        return jnp.mean(jnp.argmax(mixture.apply(params, part.points, classes), axis=1) == part.targets)

    return jax.lax.map(one, params)


class Measured(NamedTuple):
    """What was learned, and how well it does on validation rows."""

    places: Sequence[Place]
    fits: Mapping[Setting, mixture.Fit]  # each with leading axis [L]
    validation: Mapping[Setting, np.ndarray]  # accuracy of each, [L]
    chosen: Mapping[tuple[str, int], Setting]  # by method and number of labels
    test: Mapping[Place, float]  # accuracy with what was chosen


def measure(
    train: Part,
    validation: Part,
    test: Part,
    classes: int,
    *,
    counts: Sequence[int],
    seeds: Sequence[int],
    bic: Mapping[Setting, float],
    restarts: int,
    mesh: Mesh,
    observe: Callable[[Setting, Sequence[Place], mixture.Fit, np.ndarray], None] = lambda *told: None,
) -> Measured:
    """Fit every setting to every draw; validation rows choose a setting, test rows score that one.

    Args:
        train: rows to learn from, of which each fit is told its own labels.
        validation: rows to choose by.
        test: rows to report on.
        classes: C.
        counts: numbers of labelled rows.
        seeds: of the draws.
        bic: of the settings to choose from, without labels; see `best`.
        restarts: starts of each fit.
        mesh: the devices.
        observe: told setting, places, fits and validation accuracies as each setting is done.
    """
    places, lanes = arranged(np.asarray(train.targets), counts, seeds)
    rows = len(validation.targets)
    fits, scores = {}, {}
    for setting in bic:
        fits[setting] = learned(lanes, train.points, setting, classes, restarts, mesh)
        scores[setting] = np.asarray(accuracies(fits[setting].params, validation, classes), float)
        observe(setting, places, fits[setting], scores[setting])
    chosen: dict[tuple[str, int], Setting] = {}
    reached: dict[Place, float] = {}
    for group in dict.fromkeys((place.method, place.labels) for place in places):
        own = [lane for lane, place in enumerate(places) if (place.method, place.labels) == group]
        chosen[group] = best({setting: scores[setting][own].mean() for setting in bic}, rows, bic)
        params = jax.tree.map(lambda a, own=own: a[jnp.array(own)], fits[chosen[group]].params)
        reached |= zip((places[lane] for lane in own), accuracies(params, test, classes).tolist(), strict=True)
    return Measured(places, fits, scores, chosen, reached)


def best(accuracy: Mapping[Setting, float], rows: int, bic: Mapping[Setting, float]) -> Setting:
    """Return the setting of least BIC among those whose accuracy is within a standard error of the best.

    Validation rows are the same for all draws and all ways to learn: a lead of less than a standard error may be their
    luck. BIC decides there, by all the points and no label.

    Args:
        accuracy: on validation rows, mean over the draws.
        rows: how many these are.
        bic: of each setting.
    """
    most = max(accuracy.values())
    near = [setting for setting, each in accuracy.items() if each >= most - np.sqrt(most * (1 - most) / rows)]
    return min(near, key=bic.__getitem__)


def compare(key: Key, points: Array, most: int, covariances: Sequence[str], restarts: int) -> dict[str, Any]:
    """Return the BIC of 1 to `most` components of each covariance, learned from points without labels.

    Args:
        key: of the starts.
        points: [N, D].
        most: components at most.
        covariances: kinds.
        restarts: starts of each fit.

    Returns:
        `components` [K], `values` {covariance: [K]}, and `chosen`, the pair of least BIC.
    """
    counts = list(range(1, most + 1))
    values = {}
    for covariance in covariances:
        fits = mixture.sweep(
            key, points, counts, covariance=covariance, restarts=restarts, steps=STEPS, tolerance=TOLERANCE
        )
        values[covariance] = jax.vmap(mixture.bic, (0, None))(fits.params, points).tolist()
    _, components, covariance = min(
        (value, count, covariance)
        for covariance, each in values.items()
        for count, value in zip(counts, each, strict=True)
    )
    return {"components": counts, "values": values, "chosen": {"components": components, "covariance": covariance}}
