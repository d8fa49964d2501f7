"""The rows of a race: a split or folds, their minibatches, and examples that are preprocessed by each part's own rows.

A part is what lanes train on and are scored on: the training and validation rows of the split, or those of a fold.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import jax
import numpy as np

from mllab import checks, rows
from mllab.errors import UserError
from mllab.types import Examples, Rows
from mllab.validation import Folds, folds

# Examples, or the function that returns them with their inputs preprocessed by the statistics of training rows, [M].
Source = Examples | Callable[[np.ndarray], Examples]


class Split(Protocol):
    """Row ids [M] for training, for choosing and for reporting."""

    @property
    def train(self) -> np.ndarray: ...  # noqa: D102
    @property
    def validation(self) -> np.ndarray: ...  # noqa: D102
    @property
    def test(self) -> np.ndarray: ...  # noqa: D102


class Part(NamedTuple):
    """Row ids of the split or of a fold."""

    train: np.ndarray  # [M]
    held_out: np.ndarray  # [M'] to choose the learning rate and the step by


class Encoded(NamedTuple):
    """The examples of all parts in one tree, part after part where they differ."""

    examples: Examples
    offsets: tuple[int, ...]  # of each part: added to its row ids


def choosing(split: Split) -> np.ndarray:
    """Return the ids of the training and validation rows together, ascending."""
    return np.union1d(np.asarray(split.train), np.asarray(split.validation)).astype(np.int32)


def parts_of(split: Split, count: int | Folds | None, *, seed: int = 0, labels: np.ndarray | None = None) -> list[Part]:
    """Return the parts of a race: the split alone, or the folds of its training and validation rows.

    Args:
        split: of the examples.
        count: K, folds at random; folds made elsewhere, see `validation.folds` and `schemes.Scheme`; or None.
        seed: of random folds.
        labels: classes of all examples, [N], by which random folds are stratified.

    Raises:
        UserError: fewer than two folds, fewer rows or rows of a class than folds, or folds with rows that are neither
            training nor validation rows.
    """
    if count is None:
        return [Part(np.asarray(split.train), np.asarray(split.validation))]
    ids = choosing(split)
    if not isinstance(count, Folds):
        checks.check_whole(2, folds=count)
        check_classes(count, ids, labels)
        count = folds(ids, count, seed, labels)
    parts = []
    for number in range(len(count.train.ids)):
        pair = [np.asarray(side.ids[number])[np.asarray(side.weight[number]) > 0] for side in count]
        for side in pair:
            if len(outside := np.setdiff1d(side, ids)):
                raise UserError(
                    f"fold {number + 1} has row {outside[0]}, which is neither a training nor a validation row: make "
                    "the folds of these rows alone"
                )
        if len(both := np.intersect1d(pair[0], pair[1])):
            raise UserError(f"fold {number + 1} trains on row {both[0]}, which it holds out: keep it on one side")
        parts.append(Part(*map(np.sort, pair)))
    if len(parts) < 2:
        raise UserError("one fold has no interval: give two or more folds, or leave them out")
    return parts


def check_classes(count: int, ids: np.ndarray, labels: np.ndarray | None, names: Sequence[str] = ()) -> None:
    """Raise UserError for a class of the rows `ids` that has fewer rows than there are folds."""
    if labels is None or count < 2:
        return
    classes, sizes = np.unique(np.asarray(labels)[ids], return_counts=True)
    if len(sizes) and sizes.min() < count:
        name = names[classes[sizes.argmin()]] if len(names) else str(classes[sizes.argmin()])
        raise UserError(
            f"{count} folds, and class {name!r} has {sizes.min()} training and validation rows, one a fold at least: "
            "give fewer folds, or merge the class with another"
        )


def per_round(parts: Sequence[Part]) -> float:
    """Return how many folds hold every row out once; see `Folds.per_round`."""
    return 1 + sum(len(part.train) for part in parts) / sum(len(part.held_out) for part in parts)


def encoded(source: Source, parts: Sequence[Part]) -> Encoded:
    """Return the examples of all parts; those of a function are made for each part by its training rows alone.

    Raises:
        UserError: examples that are not finite, or whose shapes differ from part to part.
    """
    if not callable(source):
        return Encoded(source, (0,) * len(parts))
    made = [checks.check_examples(source(part.train)) for part in parts]
    shapes = [jax.tree.map(np.shape, each) for each in made]
    if any(shape != shapes[0] for shape in shapes):
        raise UserError("examples of one shape were expected for the training rows of every fold")
    if len(made) == 1:
        return Encoded(made[0], (0,))
    count = len(made[0]["targets"])
    return Encoded(
        jax.tree.map(lambda *arrays: np.concatenate(arrays), *made), tuple(count * k for k in range(len(made)))
    )


def steps_of(ids: np.ndarray, batch_size: int) -> int:
    """Return the steps of a pass over rows."""
    return -(-len(ids) // batch_size)


def steps_per_epoch(parts: Sequence[Part], batch_size: int) -> int:
    """Return the steps of a pass over the training rows of the largest part."""
    return max(steps_of(part.train, batch_size) for part in parts)


def minibatches(
    parts: Sequence[Part], offsets: Sequence[int], batch_size: int, epochs: int, seeds: Sequence[int]
) -> Rows:
    """Return schedules [K * G, S, B], part by part: all have as many steps, and smaller parts are passed over again.

    Args:
        parts: K of them.
        offsets: of each.
        batch_size: B.
        epochs: passes over the training rows of the largest part.
        seeds: [G]
    """
    steps = epochs * steps_per_epoch(parts, batch_size)
    schedules = []
    for part, offset in zip(parts, offsets, strict=True):
        passes = -(-steps // steps_of(part.train, batch_size))
        made = rows.minibatches(part.train, batch_size, passes, seeds)
        schedules.append(Rows(made.ids[:, :steps] + np.int32(offset), made.weight[:, :steps]))
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *schedules)


def scored(sets: Sequence[np.ndarray], offsets: Sequence[int], most: int, repeats: int) -> Rows:
    """Return the rows to score: [S, B] of a single set, or [K * repeats, S, B], set by set.

    Args:
        sets: row ids of each part.
        offsets: of each part.
        most: rows of the largest set that shares the program.
        repeats: how often each set is repeated, once for each schedule of its part.
    """
    block = min(rows.SCORED_ROWS, most)
    blocks = [rows.blocks(ids, block, -(-most // block)) for ids in sets]
    if len(sets) == 1:
        return blocks[0]
    moved = [Rows(each.ids + np.int32(offset), each.weight) for each, offset in zip(blocks, offsets, strict=True)]
    return jax.tree.map(lambda *arrays: np.repeat(np.stack(arrays), repeats, axis=0), *moved)
