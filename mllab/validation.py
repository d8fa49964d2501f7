"""Honest validation: folds as rows, and learners that are scored on rows that they have not seen.

Folds are rows `[K, M]`, padded to one size with weight 0, so that every fold × hyper is a lane of one program.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mllab import metrics
from mllab.errors import UserError
from mllab.rows import gather, mean
from mllab.training import Run, State
from mllab.types import Array, Examples, Hyper, Inputs, Key, Outputs, Params, Rows


class Learner(NamedTuple):
    """An algorithm whole, gradient-trained or closed-form."""

    fit: Callable[[Hyper, Key, Examples, Rows], Params]  # rows [M]
    predict: Callable[[Params, Inputs], Outputs]  # log-probabilities [N, C] or values [N]
    # [L, K, M]: outputs on the held-out rows for all hypers and folds at once, where an algorithm can share work.
    grid: Callable[[Hyper, Key, Examples, Rows, Rows], Outputs] | None = None


class Folds(NamedTuple):
    """Ways to hold rows out: K folds, or K of each round in turn."""

    train: Rows  # [K, M]
    held_out: Rows  # [K, M']


def folds(
    ids: np.ndarray,
    count: int,
    seed: int,
    targets: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    rounds: int = 1,
) -> Folds:
    """Return `count` folds of the rows `ids`, dealt anew in each round; a round holds every row out once.

    Folds are of one size, to a row, and so are the rows of each class in them, where targets are given (stratified).
    Of groups no row stands on both sides of a fold: they are dealt whole, the largest first, so that folds are as even
    as that allows. A class of fewer rows than folds is missing from the held-out rows of some.

    Args:
        ids: row ids, [M].
        count: K, 2 or more.
        seed: of the shuffles; more rounds begin with the same ones.
        targets: classes of all examples, [N].
        groups: of all examples, [N]: who was measured, say, where new people are to be predicted.
        rounds: how often.

    Returns:
        rounds * K folds, those of the first round first.

    Raises:
        UserError: fewer rows or groups than folds, fewer than two folds or one round, a row given twice, targets or
            groups that do not reach every row, or no class with as many rows as folds.
    """
    ids = np.asarray(ids)
    if not 2 <= count <= len(ids):
        raise UserError(f"{count} folds of {len(ids)} rows: give 2 folds or more, and no more than rows")
    if rounds < 1:
        raise UserError(f"rounds = {rounds}: deal the rows once or more")
    if len(np.unique(ids)) < len(ids):
        raise UserError("folds of rows of which some are given twice: a row would stand on both sides of a fold")
    labels = np.zeros(len(ids), int) if targets is None else _codes("targets", targets, ids)
    if np.bincount(labels).max() < count:
        raise UserError(f"none of the classes has {count} rows, one a fold: give fewer folds, or more rows")
    owners = None if groups is None else _codes("groups", groups, ids)
    if owners is not None and owners.max() + 1 < count:
        raise UserError(f"{count} folds of {owners.max() + 1} groups: give no more folds than groups")
    train, held_out = [], []
    draw = np.random.default_rng(seed)
    for _ in range(rounds):
        order = draw.permutation(len(ids))
        fold = _dealt(labels[order], count) if owners is None else _dealt_whole(labels[order], owners[order], count)
        train += [ids[order[fold != k]] for k in range(count)]
        held_out += [ids[order[fold == k]] for k in range(count)]
    return Folds(_padded(train), _padded(held_out))


def _codes(name: str, values: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Return the values of the rows, numbered from 0."""
    if np.shape(values)[:1] <= (ids.max(),):
        raise UserError(f"{name} of {len(values)} examples, and row {ids.max()} is asked for: give one an example")
    return np.unique(np.asarray(values)[ids], return_inverse=True)[1]


def _dealt(labels: np.ndarray, count: int) -> np.ndarray:
    """Return the fold [M] of each row: class after class is dealt out like cards."""
    fold = np.empty(len(labels), int)
    fold[np.argsort(labels, kind="stable")] = np.arange(len(labels)) % count
    return fold


def _dealt_whole(labels: np.ndarray, groups: np.ndarray, count: int) -> np.ndarray:
    r"""Return the fold [M] of each row, of a group's rows the same.

    Each group, the largest first, goes where it adds the least to $\sum_{k, c} (n_{kc} / n_c)^2$, the squares of the
    shares of class c that fold k has: $2 \sum_c n_{kc} g_c / n_c^2$ for a group of g_c rows, and what all folds share.
    With one class that is the smallest fold, and of equal ones the smallest is taken.
    """
    rows = np.zeros((groups.max() + 1, labels.max() + 1), int)  # [G, C]
    np.add.at(rows, (groups, labels), 1)
    weight = 1.0 / rows.sum(axis=0) ** 2
    sizes = rows.sum(axis=1)
    _, first = np.unique(groups, return_index=True)  # where each group comes first in the shuffled rows
    taken = np.zeros((count, rows.shape[1]))
    fold = np.empty(len(rows), int)
    for group in np.lexsort((first, -sizes)):
        fold[group] = np.lexsort((taken.sum(axis=1), taken @ (weight * rows[group])))[0]
        taken[fold[group]] += rows[group]
    return fold[groups]


def _padded(sets: list[np.ndarray]) -> Rows:
    """Return rows [K, M] of sets of unequal size: padding repeats a set's first id with weight 0."""
    most = max(map(len, sets))
    ids = np.stack([np.concatenate([each, np.full(most - len(each), each[0])]) for each in sets])
    weight = np.stack([np.arange(most) < len(each) for each in sets])
    return Rows(ids.astype(np.int32), weight.astype(np.float32))


@partial(jax.jit, static_argnames=("learner", "score"))
def cross_validate(
    learner: Learner, hyper: Hyper, key: Key, examples: Examples, folds: Folds, score: Callable[[Outputs, Array], Array]
) -> Array:
    """Return scores [L, K] of L hypers on K folds, in one program.

    Args:
        learner: what is validated.
        hyper: each entry [L].
        key: shared by all, so that hypers are compared on equal terms.
        examples: `{"inputs", "targets"}`.
        folds: see `folds`.
        score: (outputs [M, ...], targets [M]) -> the score of each example, [M].
    """

    def one(hyper: Hyper, train: Rows, held_out: Rows) -> Outputs:
        params = learner.fit(hyper, key, examples, train)
        return learner.predict(params, gather(examples["inputs"], held_out.ids))

    by_fold = jax.vmap(one, (None, 0, 0))
    if learner.grid is None:
        outputs = jax.vmap(by_fold, (0, None, None))(hyper, folds.train, folds.held_out)
    else:
        outputs = learner.grid(hyper, key, examples, folds.train, folds.held_out)
    weight = jnp.asarray(folds.held_out.weight)
    targets = gather(examples["targets"], folds.held_out.ids)
    values = jax.vmap(jax.vmap(score), (0, None))(outputs, targets)
    return jax.vmap(jax.vmap(mean), (0, None))(values, weight)


def interval(scores: np.ndarray, count: int) -> metrics.Interval:
    r"""Return the mean of scores on folds, [rounds * K], and its corrected 95% interval by Student's t.

    Folds share training rows, so their scores are no independent draws, and more rounds tell nothing of other data.
    The variance of the mean of n scores is therefore taken as $(1 / n + 1 / (K - 1)) s^2$ instead of $s^2 / n$, where
    1 / (K - 1) is the ratio of held-out to training rows. It speaks of data like these, dealt into folds anew.

    Args:
        scores: on each fold.
        count: K.

    Source: Nadeau and Bengio, *Inference for the generalization error*, Machine Learning 52 (2003), section 3.
    """
    mean, low, high, size = metrics.interval(scores)
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
    """Return the learner that trains a run by minibatches of whatever rows it is given.

    Every epoch shuffles the rows anew; their weights ride along, so a fold's padding counts for nothing. `evaluate`
    gives what `predict` takes, where that is more than the params (batch statistics) or other than them (averages).
    """

    def fit(hyper: Hyper, key: Key, examples: Examples, rows: Rows) -> Params:
        start_key, order_key = jax.random.split(key)
        state = run.start(hyper, start_key)
        count = rows.ids.shape[0]
        steps = -(-count // batch_size)

        def epoch(state, key):
            order = jax.random.permutation(key, count)
            place = jnp.arange(steps * batch_size)
            ids = jnp.asarray(rows.ids)[order][place % count]
            weight = jnp.where(place < count, jnp.asarray(rows.weight)[order][place % count], 0)
            batches = Rows(ids.reshape(steps, batch_size), weight.reshape(steps, batch_size))
            return run.advance(hyper, state, examples, batches)[0], None

        return evaluate(jax.lax.scan(epoch, state, jax.random.split(order_key, epochs))[0])

    return Learner(fit, predict)
