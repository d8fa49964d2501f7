"""Random splits of rows into training, validation and test rows, stratified by class."""

from collections.abc import Sequence

import numpy as np

from mllab.data.dataset import Split
from mllab.errors import UserError, shortened

Fractions = tuple[float, float, float]  # of training, validation and test rows; a part may be 0

SIXTY_TWENTY_TWENTY = (0.6, 0.2, 0.2)
VALIDATION_SIXTH = (5 / 6, 1 / 6, 0.0)  # of the training rows, where a data set has its own test rows
VALIDATION_SIXTH_NOTE = "took a sixth of the training rows for validation, stratified by class"


def stratified(
    targets: np.ndarray, seed: int, fractions: Fractions = SIXTY_TWENTY_TWENTY, classes: Sequence[str] = ()
) -> Split:
    """Split rows at random, stratified by class.

    Each held-out part takes its fraction of every class, rounded to within one row but at least one, and its fraction
    of all rows exactly, unless a class is too small for that. The training part takes the rest.

    Args:
        targets: class of each row, [N].
        seed: of the random order.
        fractions: of training, validation and test rows.
        classes: names of the classes, for the error message.

    Returns:
        Row ids in ascending order.

    Raises:
        UserError: a class has fewer rows than the split has parts.
    """
    present, labels, counts = np.unique(targets, return_inverse=True, return_counts=True)
    parts = sum(fraction > 0 for fraction in fractions)
    if len(counts) and counts.min() < parts:
        smallest = present[counts.argmin()]
        name = shortened(classes[smallest] if classes else str(smallest))
        raise UserError(
            f"class {name!r} has too few rows ({counts.min()}): expected {parts} or more, one for each part of the "
            "split; merge it with another class, or remove its rows"
        )
    return _split(labels, counts, seed, fractions)


def shuffled(rows: int, seed: int, fractions: Fractions = SIXTY_TWENTY_TWENTY) -> Split:
    """Split `rows` rows at random, without classes; otherwise like `stratified`."""
    parts = sum(fraction > 0 for fraction in fractions)
    if rows < parts:
        raise UserError(f"too few rows ({rows}): expected {parts} or more, one for each part of the split")
    return _split(np.zeros(rows, np.int32), np.array([rows]), seed, fractions)


def with_own_test_rows(targets: np.ndarray, test_start: int, seed: int, classes: Sequence[str] = ()) -> Split:
    """Split a data set that has its own test rows; a sixth of the others, stratified by class, is for validation.

    Args:
        targets: class of each row, [N].
        test_start: id of the first test row; all rows from there on are test rows.
        seed: see `stratified`.
        classes: see `stratified`.
    """
    split = stratified(targets[:test_start], seed, VALIDATION_SIXTH, classes)
    return Split(split.train, split.validation, np.arange(test_start, len(targets), dtype=np.int32))


def sample(ids: np.ndarray, targets: np.ndarray, share: float, seed: int, classes: Sequence[str] = ()) -> np.ndarray:
    """Return a random share of the rows `ids`, stratified by class, with at least one row of each.

    Samples of one seed are nested: a smaller share is a subset of a larger one.

    Args:
        ids: row ids, [M].
        targets: class of every example, [N].
        share: above 0; 1 or more returns all rows.
        seed: of the random order.
        classes: names of the classes, for error messages.
    """
    if share >= 1:
        return ids
    return ids[stratified(targets[ids], seed, (0.0, share, 0.0), classes).validation]


def stratified_order(targets: np.ndarray, seed: int) -> np.ndarray:
    """Return rows [N] in a random order whose every prefix is stratified: nested samples of all sizes.

    The first C rows are one of each class; each further row is of the class with the smallest share so far.

    Args:
        targets: class of each row, [N].
        seed: of the random order.
    """
    order = np.random.default_rng(seed).permutation(len(targets))
    _, labels, counts = np.unique(targets[order], return_inverse=True, return_counts=True)
    position = np.empty(len(order))  # of each row within its class
    position[np.argsort(labels, kind="stable")] = _positions(counts)
    turn = np.where(position == 0, 0, (position + 0.5) / counts[labels])
    return order[np.argsort(turn, kind="stable")]


def _split(labels: np.ndarray, counts: np.ndarray, seed: int, fractions: Fractions) -> Split:
    """Split rows with labels [N] in 0..C-1, of which there are `counts` [C] each."""
    order = np.random.default_rng(seed).permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    position = _positions(counts)
    validation = _share(counts, fractions[1])
    held_out = validation + _share(counts, fractions[2])
    in_validation = position < np.repeat(validation, counts)
    in_train = position >= np.repeat(held_out, counts)
    return Split(
        train=np.sort(by_class[in_train]).astype(np.int32),
        validation=np.sort(by_class[in_validation]).astype(np.int32),
        test=np.sort(by_class[~in_train & ~in_validation]).astype(np.int32),
    )


def _positions(counts: np.ndarray) -> np.ndarray:
    """Return the position of each row within its class, [N], for rows in the order of `counts` [C] classes."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


def _share(counts: np.ndarray, fraction: float) -> np.ndarray:
    """Return how many rows of each class to take for `fraction` of all: largest remainders, at least one each."""
    if fraction == 0:
        return np.zeros_like(counts)
    exact = counts * fraction
    share = np.floor(exact).astype(counts.dtype)
    missing = round(exact.sum()) - share.sum()
    share[np.argsort(share - exact, kind="stable")[:missing]] += 1
    return np.maximum(share, 1)
