"""Honest validation: folds as rows, and learners that are scored on rows that they have not seen.

Folds are rows `[K, M]`, padded to one size with weight 0, so that every fold × hyper is a lane of one program.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

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
    """K ways to hold rows out."""

    train: Rows  # [K, M]
    held_out: Rows  # [K, M']


def folds(ids: np.ndarray, count: int, seed: int, targets: np.ndarray | None = None) -> Folds:
    """Return `count` folds of the rows `ids`; each row is held out once.

    Args:
        ids: row ids, [M].
        count: K, 2 or more.
        seed: of the shuffle.
        targets: classes of all examples, [N]: each fold then has every class in proportion (stratified).

    Raises:
        UserError: fewer rows than folds, or fewer than two folds.
    """
    if not 2 <= count <= len(ids):
        raise UserError(f"{count} folds of {len(ids)} rows: give 2 folds or more, and no more than rows")
    order = np.random.default_rng(seed).permutation(ids)
    if targets is not None:
        order = order[np.argsort(np.asarray(targets)[order], kind="stable")]  # classes dealt out like cards
    fold = np.arange(len(order)) % count
    return Folds(
        _padded([order[fold != k] for k in range(count)]),
        _padded([order[fold == k] for k in range(count)]),
    )


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
