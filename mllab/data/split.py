"""Which rows are for training, which for choosing and which for reporting."""

from collections.abc import Sequence

import numpy as np

from mllab.data.dataset import Split
from mllab.errors import UserError

Fractions = tuple[float, float, float]  # of training, validation and test rows; 0 leaves a part empty

SIXTY_TWENTY_TWENTY = (0.6, 0.2, 0.2)


def stratified(
    targets: np.ndarray, seed: int, fractions: Fractions = SIXTY_TWENTY_TWENTY, classes: Sequence[str] = ()
) -> Split:
    """Split rows at random, every class in the same proportions.

    Each held-out part takes its fraction of every class to within one row (but at least one), and of all rows exactly
    where no class is too small for that; training keeps the rest.

    Args:
        targets: [N] class of each row.
        seed: the same seed gives the same split.
        fractions: of training, validation and test rows.
        classes: names of the classes, for the message.

    Returns:
        Row ids in ascending order.

    Raises:
        UserError: a class has fewer rows than there are parts.
    """
    present, labels, counts = np.unique(targets, return_inverse=True, return_counts=True)
    parts = sum(fraction > 0 for fraction in fractions)
    if len(counts) and counts.min() < parts:
        smallest = present[counts.argmin()]
        name = classes[smallest] if classes else str(smallest)
        raise UserError(
            f"class {name!r} has too few rows ({counts.min()}): training, choosing and reporting need {parts}; "
            "merge it with another class, or leave its rows out"
        )
    return _split(labels, counts, seed, fractions)


def shuffled(rows: int, seed: int, fractions: Fractions = SIXTY_TWENTY_TWENTY) -> Split:
    """Split `rows` rows at random, as regression does; otherwise like `stratified`."""
    parts = sum(fraction > 0 for fraction in fractions)
    if rows < parts:
        raise UserError(f"too few rows ({rows}): training, choosing and reporting need {parts}")
    return _split(np.zeros(rows, np.int32), np.array([rows]), seed, fractions)


def sample(ids: np.ndarray, targets: np.ndarray, share: float, seed: int, classes: Sequence[str] = ()) -> np.ndarray:
    """Return a share of the rows `ids` at random, every class in proportion and with one row at least.

    What a seed draws at a small share is part of what it draws at a larger one.

    Args:
        ids: row ids, [M].
        targets: class of every example, [N].
        share: above 0; all rows from 1 on.
        seed: the same seed draws the same rows.
        classes: names of the classes, for messages.
    """
    if share >= 1:
        return ids
    return ids[stratified(targets[ids], seed, (0.0, share, 0.0), classes).validation]


def stratified_order(targets: np.ndarray, seed: int) -> np.ndarray:
    """Return rows [N] in a random order of which every beginning is stratified: nested samples of every size.

    The first C rows are one of each of the C classes; each further row is of the class that is furthest behind.

    Args:
        targets: class of each row, [N].
        seed: the same seed gives the same order.
    """
    order = np.random.default_rng(seed).permutation(len(targets))
    _, labels, counts = np.unique(targets[order], return_inverse=True, return_counts=True)
    position = np.empty(len(order))  # of a row inside its class
    position[np.argsort(labels, kind="stable")] = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    turn = np.where(position == 0, 0, (position + 0.5) / counts[labels])
    return order[np.argsort(turn, kind="stable")]


def _split(labels: np.ndarray, counts: np.ndarray, seed: int, fractions: Fractions) -> Split:
    """Split rows with labels [N] in 0 to C - 1, `counts` [C] of each."""
    order = np.random.default_rng(seed).permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    position = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)  # of a row inside its class
    validation = _share(counts, fractions[1])
    held_out = validation + _share(counts, fractions[2])
    in_validation = position < np.repeat(validation, counts)
    in_train = position >= np.repeat(held_out, counts)
    return Split(
        train=np.sort(by_class[in_train]).astype(np.int32),
        validation=np.sort(by_class[in_validation]).astype(np.int32),
        test=np.sort(by_class[~in_train & ~in_validation]).astype(np.int32),
    )


def _share(counts: np.ndarray, fraction: float) -> np.ndarray:
    """Return how many rows of each class make up `fraction` of all, by largest remainder, and at least one each."""
    if fraction == 0:
        return np.zeros_like(counts)
    exact = counts * fraction
    share = np.floor(exact).astype(counts.dtype)
    missing = round(exact.sum()) - share.sum()
    share[np.argsort(share - exact, kind="stable")[:missing]] += 1
    return np.maximum(share, 1)
