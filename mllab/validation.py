"""Folds, and the cross-validated scores of learners.

Folds are rows `[K, M]`, padded to one size with weight 0, so that every setting × fold is a lane of one program.
"""

import itertools
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mllab import checks, memory, metrics
from mllab.errors import UserError
from mllab.rows import as_ids, as_rows, gather
from mllab.training import WEIGHT_NAMES, Run, State
from mllab.types import Array, Examples, Hyper, Inputs, Key, Outputs, Params, Rows

Axes = Mapping[str, Any]  # named grids of hyperparameters, {"gamma": [G], "c": [C]}; a setting has one value of each
Score = Callable[[Outputs, Array], Array]  # (outputs [M, ...], targets [M]) -> [M], a number for each example


class Learner(NamedTuple):
    """An algorithm as a whole, gradient-trained or closed-form.

    `grid` returns the outputs on the held-out rows for all settings and folds at once. A learner defines it where
    settings or folds can share work (distances, kernel matrices, warm starts); the default maps `fit` and `predict`
    over both. Every example is a row of some fold, and the axes keep their order inside `jax.jit` if they are an
    `OrderedDict`; a plain `dict` comes back sorted by name.
    """

    fit: Callable[[Hyper, Key, Examples, Rows], Params]  # rows [M]
    predict: Callable[[Params, Inputs], Outputs]  # log-probabilities [N, C] or values [N]
    grid: Callable[[Axes, Key, Examples, Rows, Rows], Outputs] | None = None  # [*axes, K, M', ...]
    check: Callable[[Examples], None] | None = None  # raises UserError for examples that it cannot learn from
    # As `grid`, of inputs [K, N, ...] that differ by fold, as each is preprocessed by its own training rows. The
    # default calls `grid` for one fold after another.
    by_fold: Callable[[Axes, Key, Examples, Rows, Rows], Outputs] | None = None
    takes_missing: bool = False  # whether NaN among the inputs stands for a missing value


class Folds(NamedTuple):
    """Pairs of training and held-out rows: the K folds of one round, or of several rounds one after another."""

    train: Rows  # [K, M]
    held_out: Rows  # [K, M']

    @property
    def per_round(self) -> float:
        """How many folds hold every row out once: 1 + training rows per held-out row, the K of `interval`."""
        return 1 + float(np.sum(self.train.weight > 0)) / float(np.sum(self.held_out.weight > 0))


def folds(
    ids: np.ndarray,
    count: int,
    seed: int,
    targets: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    rounds: int = 1,
) -> Folds:
    """Return `count` folds of the rows `ids`, shuffled anew in each round; a round holds every row out once.

    Fold sizes differ by one row at most. With `targets` the folds are stratified: their numbers of rows of a class
    also differ by one at most, and a class with fewer rows than folds is missing from some held-out rows. With `groups`
    all rows of a group are on the same side of every fold, and the folds are as even as that allows.

    Args:
        ids: row ids, [M].
        count: K, 2 or more.
        seed: of the shuffles; the first rounds do not depend on the number of rounds.
        targets: classes of all examples, [N].
        groups: groups of all examples, [N], such as the patient that an example is from.
        rounds: number of repetitions.

    Returns:
        rounds * K folds, round by round.

    Raises:
        UserError: fewer rows or groups than folds, fewer than two folds or one round, too many for the memory, a
            duplicate row, a row without a target or group, or no class with as many rows as folds.
    """
    ids = as_ids(ids, "ids")
    checks.check_whole(count=count)
    if not 2 <= count <= len(ids):
        raise UserError(f"{count} folds of {len(ids)} rows: give at least 2 folds and at most one a row")
    checks.check_whole(1, rounds=rounds)
    checks.check_whole(0, seed=seed)
    what = f"the row ids and weights of {rounds * count:,} folds of {len(ids):,} rows"
    memory.check(8 * rounds * count * len(ids), what, "lower --folds, --rounds or --rows")
    if len(np.unique(ids)) < len(ids):
        raise UserError("the rows have duplicates, which would be on both sides of a fold: give each row once")
    labels = np.zeros(len(ids), int) if targets is None else _codes("targets", targets, ids)
    if np.bincount(labels).max() < count:
        raise UserError(f"none of the classes has {count} rows, one a fold: give fewer folds or more rows")
    owners = None if groups is None else _codes("groups", groups, ids)
    if owners is not None and owners.max() + 1 < count:
        raise UserError(f"{count} folds of {owners.max() + 1} groups: give at most one fold a group")
    train, held_out = [], []
    draw = np.random.default_rng(seed)
    for _ in range(rounds):
        order = draw.permutation(len(ids))
        fold = _dealt(labels[order], count) if owners is None else _dealt_whole(labels[order], owners[order], count)
        train += [ids[order[fold != k]] for k in range(count)]
        held_out += [ids[order[fold == k]] for k in range(count)]
    return Folds(padded(train), padded(held_out))


def _codes(name: str, values: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Return the values of the rows as codes 0, 1, ..."""
    try:
        array = np.asarray(values)
    except ValueError:
        raise UserError(f"{name}: lists of unequal lengths, expected one for each example") from None
    if array.ndim != 1 or len(array) <= ids.max():
        has = f"has {len(array)} values" if array.ndim == 1 else f"has shape {list(array.shape)}"
        raise UserError(f"{name} {has}, and the rows go up to {ids.max()}: give one an example")
    if array.dtype.kind == "f":
        checks.check_finite(array, name)
    return np.unique(array[ids], return_inverse=True)[1]


def _dealt(labels: np.ndarray, count: int) -> np.ndarray:
    """Return the fold [M] of each row: the classes one after another, each dealt round robin."""
    fold = np.empty(len(labels), int)
    fold[np.argsort(labels, kind="stable")] = np.arange(len(labels)) % count
    return fold


def _dealt_whole(labels: np.ndarray, groups: np.ndarray, count: int) -> np.ndarray:
    r"""Return the fold [M] of each row, the same for all rows of a group.

    Greedily, the largest group first: each goes to the fold where it increases $\sum_{k, c} (n_{kc} / n_c)^2$ least,
    with $n_{kc} / n_c$ the share of class c in fold k. A group with $g_c$ rows of class c adds
    $2 \sum_c n_{kc} g_c / n_c^2$ and a term common to all folds. Ties go to the smallest fold.
    """
    rows = np.zeros((groups.max() + 1, labels.max() + 1), int)  # [G, C]
    np.add.at(rows, (groups, labels), 1)
    weight = 1.0 / rows.sum(axis=0) ** 2
    sizes = rows.sum(axis=1)
    _, first = np.unique(groups, return_index=True)  # position of each group's first row after the shuffle
    taken = np.zeros((count, rows.shape[1]))
    fold = np.empty(len(rows), int)
    for group in np.lexsort((first, -sizes)):
        fold[group] = np.lexsort((taken.sum(axis=1), taken @ (weight * rows[group])))[0]
        taken[fold[group]] += rows[group]
    return fold[groups]


def padded(sets: list[np.ndarray]) -> Rows:
    """Return sets of ids of unequal size as rows [K, M]; padding repeats the first id of a set with weight 0."""
    size = max(map(len, sets))
    ids = np.stack([np.concatenate([ids, np.full(size - len(ids), ids[0])]) for ids in sets])
    weight = np.stack([np.arange(size) < len(ids) for ids in sets])
    return Rows(ids.astype(np.int32), weight.astype(np.float32))


def holdout(train: np.ndarray, validation: np.ndarray) -> Folds:
    """Return the single fold that trains on the rows `train` and holds out the rows `validation`.

    Raises:
        UserError: no rows on one of the sides, or a row on both sides or twice on one.
    """
    train, validation = as_ids(train, "training rows"), as_ids(validation, "validation rows")
    if len(np.unique(np.concatenate([train, validation]))) < train.size + validation.size:
        raise UserError("a row appears twice among the training and validation rows: give each once, on one side")
    return Folds(padded([train]), padded([validation]))


def cross_validate(
    learner: Learner, axes: Axes, key: Key, examples: Examples, folds: Folds, score: Score
) -> np.ndarray:
    """Return the mean score on the held-out rows for every setting and fold, [*axes, K] float64.

    All settings and folds run in one program, unless the learner's own `grid` does otherwise. Only the examples of the
    folds are passed on, so no other example can influence a score.

        scores = cross_validate(
            learners.svm(2), {"gamma": [0.1, 1.0], "c": [1.0, 10.0, 100.0]}, jax.random.key(0), examples,
            folds(np.arange(len(targets)), 5, seed=0, targets=targets), accuracy,
        )  # [2, 3, 5]

    Args:
        learner: the algorithm.
        axes: the settings; `{}` for a learner without hyperparameters.
        key: shared by all settings and folds, so that they are compared on equal terms.
        examples: `{"inputs", "targets"}`.
        folds: see `folds` and `holdout`.
        score: see `Score`; means are weighted by the weight of the held-out rows.

    Raises:
        UserError: see `checked_axes`; arguments of another type or shape; rows beyond the examples, a fold without
            rows, or a score that is not one number an example.
    """
    return mean_scores(held_out_outputs(learner, axes, key, examples, folds), len(axes), examples, folds, score)


def held_out_outputs(
    learner: Learner, axes: Axes, key: Key, examples: Examples, folds: Folds, *, restrict: bool = True
) -> Outputs:
    """Return the outputs on the held-out rows for every setting and fold, [*axes, K, M', ...].

    Args:
        learner: see `cross_validate`, as for `axes`, `key` and `examples`.
        axes: the settings.
        key: shared by all.
        examples: `{"inputs", "targets"}`.
        folds: see `folds` and `holdout`.
        restrict: pass on the examples of the folds alone; False where calls for parts of the folds are to have one
            shape, and so one program.

    Raises:
        UserError: see `cross_validate`.
    """
    if not isinstance(learner, Learner):
        raise UserError(f"learner: {type(learner).__name__}, expected a Learner: see mllab.learners")
    settings = OrderedDict((name, jnp.asarray(values)) for name, values in checked_axes(axes).items())
    checks.check_key(key)
    examples = checks.check_examples(examples, finite=False)
    for name in set(WEIGHT_NAMES) & set(examples):
        raise UserError(f"examples[{name!r}] would be ignored: put the weights into those of the folds' rows")
    folds = _checked_folds(folds)
    if restrict:
        examples, folds = _restricted(examples, folds)
    # Of the folds alone: other examples may hold anything.
    examples = checks.check_examples(examples, finite=not learner.takes_missing)
    if learner.check:
        learner.check(examples)
    grid = learner.grid or partial(_mapped, learner.fit, learner.predict)
    return grid(settings, key, examples, folds.train, folds.held_out)


def mean_scores(outputs: Outputs, axes: int, examples: Examples, folds: Folds, score: Score) -> np.ndarray:
    """Return the mean scores [*axes, K] float64 of the outputs [*axes, K, M', ...] on held-out rows.

    Args:
        outputs: see `held_out_outputs`.
        axes: number of axes.
        examples: `{"inputs", "targets"}`.
        folds: of the outputs.
        score: see `cross_validate`.

    Raises:
        UserError: a score that is not one number an example.
    """
    values = _scored(score, axes, outputs, gather(np.asarray(examples["targets"]), folds.held_out.ids))
    weight = np.asarray(folds.held_out.weight, np.float64)
    if values.ndim != axes + 2 or values.shape[axes:] != weight.shape:
        raise UserError(
            f"a score of shape {values.shape[1 + axes :]} for {weight.shape[1]} examples: return one number each"
        )
    # Means in float64: the same number of correct answers gives the same score.
    return np.sum(np.where(weight > 0, values, 0) * weight, axis=-1) / np.sum(weight, axis=-1)


def checked_axes(axes: Axes) -> dict[str, np.ndarray]:
    """Return the axes as arrays, in their order.

    Raises:
        UserError: an axis is empty, not one-dimensional, not numeric, or contains NaN.
    """
    if not isinstance(axes, Mapping):
        raise UserError(f"axes: {type(axes).__name__}, expected values by name, such as {{'c': [1.0, 10.0]}}")
    checked = {name: np.asarray(checks.as_numbers(values, f"axis {name}")) for name, values in axes.items()}
    for name, values in checked.items():
        if values.ndim != 1 or values.size == 0 or values.dtype.kind not in "biuf" or np.isnan(values).any():
            raise UserError(f"axis {name} = {np.asarray(values).tolist()}: give a list of one or more numbers")
    return checked


def _checked_folds(folds: Folds) -> Folds:
    if not isinstance(folds, Folds):
        raise UserError(f"folds: {type(folds).__name__}, expected Folds: see validation.folds and validation.holdout")
    train, held_out = (as_rows(rows, ("[K, M]",), name) for rows, name in zip(folds, Folds._fields, strict=True))
    if len(train.ids) != len(held_out.ids):
        raise UserError(f"folds: {len(train.ids)} of training and {len(held_out.ids)} of held-out rows: give pairs")
    return Folds(train, held_out)


def _restricted(examples: Examples, folds: Folds) -> tuple[Examples, Folds]:
    """Return the examples that are in some fold, and the folds with their rows renumbered."""
    parts = [np.asarray(part.ids) for part in folds]
    ids = np.unique(np.concatenate([part.ravel() for part in parts]))
    count = len(examples["targets"])
    if ids[0] < 0 or ids[-1] >= count:
        raise UserError(f"the folds have rows {ids[0]} to {ids[-1]}, and there are {count} examples, 0 to {count - 1}")
    if any(not np.sum(part.weight, axis=-1).all() for part in folds):
        raise UserError("a fold without training rows or without held-out rows: give each one or more of weight > 0")
    if len(ids) < count:
        examples = gather(examples, ids)
        parts = [np.searchsorted(ids, part).astype(np.int32) for part in parts]
    return examples, Folds(*(Rows(ids, part.weight) for ids, part in zip(parts, folds, strict=True)))


@partial(jax.jit, static_argnames=("fit", "predict"))
def _mapped(
    fit: Callable[[Hyper, Key, Examples, Rows], Params],
    predict: Callable[[Params, Inputs], Outputs],
    axes: OrderedDict[str, Array],
    key: Key,
    examples: Examples,
    train: Rows,
    held_out: Rows,
) -> Outputs:
    """Return the outputs [*axes, K, M', ...]; what does not depend on an axis or on the fold is computed only once."""

    def one(setting: tuple[Array, ...], train: Rows, held_out: Rows) -> Outputs:
        params = fit(dict(zip(axes, setting, strict=True)), key, examples, train)
        return predict(params, gather(examples["inputs"], held_out.ids))

    function = jax.vmap(one, (None, 0, 0))
    for axis in reversed(range(len(axes))):
        function = jax.vmap(function, (tuple(0 if place == axis else None for place in range(len(axes))), None, None))
    return function(tuple(axes.values()), train, held_out)


def one_by_one(
    fit: Callable[[Hyper, Key, Examples, Rows], Params], predict: Callable[[Params, Inputs], Outputs]
) -> Callable[[Axes, Key, Examples, Rows, Rows], Outputs]:
    """Return a `Learner.grid` that fits setting after setting and fold after fold on the host.

    For a fit that cannot be traced, or that takes longer if many are mapped over at once.
    """

    def grid(axes: Axes, key: Key, examples: Examples, train: Rows, held_out: Rows) -> Outputs:
        outputs = []
        for setting in itertools.product(*(np.asarray(values) for values in axes.values())):
            for fold in range(len(held_out.ids)):
                rows = Rows(train.ids[fold], train.weight[fold])
                params = fit(dict(zip(axes, setting, strict=True)), key, examples, rows)
                outputs.append(predict(params, gather(examples["inputs"], held_out.ids[fold])))
        shape = *(len(values) for values in axes.values()), len(held_out.ids)
        return jax.tree.map(lambda *each: jnp.stack(each).reshape(*shape, *each[0].shape), *outputs)

    return grid


@partial(jax.jit, static_argnames=("score", "axes"))
def _scored(score: Score, axes: int, outputs: Outputs, targets: Array) -> Array:
    """Return the score of each held-out row, [*axes, K, M'], from outputs [*axes, K, M', ...] and targets [K, M']."""
    function = jax.vmap(score)
    for _ in range(axes):
        function = jax.vmap(function, (0, None))
    return function(outputs, targets)


def accuracy(outputs: Outputs, targets: Array) -> Array:
    """Return 1 where the target is the class of the greatest output, else 0, [M]; outputs with a NaN are wrong."""
    correct = (jnp.argmax(outputs, axis=-1) == targets) & ~jnp.any(jnp.isnan(outputs), axis=-1)
    return correct.astype(jnp.float32)


def interval(scores: np.ndarray, count: float) -> metrics.Interval:
    r"""Return the mean score over folds and its corrected 95% interval by Student's t.

    Folds share training rows, so their scores are not independent, and more rounds add no data. The variance of the
    mean of n scores is therefore estimated by $(1 / n + 1 / (K - 1)) s^2$ instead of $s^2 / n$, where 1 / (K - 1) is
    the ratio of held-out to training rows. The interval is over repetitions of the split on data like these.

    Args:
        scores: one a fold, [rounds * K].
        count: K, the folds of a round; see `Folds.per_round`.

    Raises:
        UserError: no scores [rounds * K], or a count that is not above 1.

    Source: Nadeau and Bengio, *Inference for the generalization error*, Machine Learning 52 (2003), section 3.
    """
    mean, low, high, size = metrics.interval(scores)
    if not np.all(np.asarray(checks.as_numbers(count, "count")) > 1):
        raise UserError(f"count = {count}: expected the folds of a round, more than 1")
    wider = np.sqrt(1 + size / (count - 1))
    return metrics.Interval(mean, float(mean - wider * (mean - low)), float(mean + wider * (high - mean)), size)


def trained(
    run: Run,
    predict: Callable[[Params, Inputs], Outputs],
    *,
    batch_size: int,
    epochs: int,
    evaluate: Callable[[State], Params] = lambda state: state.params,
) -> Learner:
    """Return the learner that trains a run on minibatches of the rows.

    Rows are shuffled in every epoch together with their weights, so the padding of a fold has no effect.

    Args:
        run: the training run.
        predict: from what `evaluate` returns and inputs, the outputs.
        batch_size: B.
        epochs: passes over the rows.
        evaluate: from the final state, what to predict with: the params by default, or averaged params, or params and
            batch statistics.
    """

    @jax.jit
    def fit(hyper: Hyper, key: Key, examples: Examples, rows: Rows) -> Params:
        start_key, order_key = jax.random.split(key)
        state = run.start(hyper, start_key)
        count = rows.ids.shape[0]
        steps = -(-count // batch_size)

        def epoch(state: State, key: Key) -> tuple[State, None]:
            order = jax.random.permutation(key, count)
            place = jnp.arange(steps * batch_size)
            ids = jnp.asarray(rows.ids)[order][place % count]
            weight = jnp.where(place < count, jnp.asarray(rows.weight)[order][place % count], 0)
            batches = Rows(ids.reshape(steps, batch_size), weight.reshape(steps, batch_size))
            return run.advance(hyper, state, examples, batches)[0], None

        return evaluate(jax.lax.scan(epoch, state, jax.random.split(order_key, epochs))[0])

    return Learner(fit, predict)
