"""Columns that look like the name of a group, and whether random folds flatter a model because of them.

Where several rows belong to one patient, device or household, random folds put rows of one group on both sides, and a
model is scored on what it has seen. Grouped folds score the same model on groups that it has not seen.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from mllab.errors import UserError
from mllab.learners import boosted_trees, nearest_neighbors, preprocessed
from mllab.metrics import Interval, paired
from mllab.models.preprocessing import Columns, Layout
from mllab.types import Key
from mllab.validation import Score, cross_validate, folds, interval

MOST_ROWS = 2000  # to compare folds on: a difference that matters shows on fewer
MOST_COLUMNS = 4  # to compare folds by
FEWEST_GROUPS = 10
FOLDS = 5


class Flattered(NamedTuple):
    """A column by which random folds score better than grouped ones."""

    column: int  # of the numbers; P + q for the q-th column of codes
    groups: int
    random: float  # mean score
    grouped: float
    difference: Interval  # random less grouped


def suspects(columns: Columns, layout: Layout) -> list[int]:
    """Return columns of whole numbers or categories with many values that each several rows share; see `Flattered`.

    Args:
        columns: of N rows.
        layout: their static sizes.
    """
    numbers, codes = np.asarray(columns.numbers), np.asarray(columns.codes)
    chosen = []
    for place in range(layout.numbers):
        values = numbers[:, place]
        if not np.isnan(values).any() and _repeats(values):
            steps = np.diff(np.unique(values.astype(np.float64)))
            if np.allclose(steps / steps.min(), np.round(steps / steps.min()), atol=1e-3):  # whole, up to a scale
                chosen.append(place)
    chosen += [layout.numbers + place for place in range(codes.shape[1]) if _repeats(codes[:, place])]
    return chosen[:MOST_COLUMNS]


def _repeats(values: np.ndarray) -> bool:
    count = len(np.unique(values))
    return count >= FEWEST_GROUPS and 2 * count <= len(values)


def flattered(
    columns: Columns,
    targets: np.ndarray,
    layout: Layout,
    score: Score,
    key: Key,
    *,
    classes: int | None,
    seed: int,
    observe: Callable[[int], None] = lambda column: None,
) -> list[Flattered]:
    """Return the columns by which nearest neighbours or boosted trees score clearly better at random than grouped.

    The column itself is left out of the inputs: what remains is what else the rows of a group have in common.

    Args:
        columns: of N rows, of which a sample of MOST_ROWS is used.
        targets: [N].
        layout: the static sizes.
        score: greater is better.
        key: for the learner.
        classes: C, or None in regression.
        seed: of the sample and the folds.
        observe: called with each column before it is tried.
    """
    ids = np.sort(np.random.default_rng(seed).permutation(len(targets))[:MOST_ROWS])
    columns, targets = jax.tree.map(lambda a: np.asarray(a)[ids], columns), np.asarray(targets)[ids]
    made = []
    for column in suspects(columns, layout):
        observe(column)
        numbers, codes = np.array(columns.numbers), np.array(columns.codes)
        (numbers if column < layout.numbers else codes)[:, column - (column >= layout.numbers) * layout.numbers] = 0
        owner = np.asarray(columns.numbers)[:, column] if column < layout.numbers else None
        owner = np.asarray(columns.codes)[:, column - layout.numbers] if owner is None else owner
        examples = {"inputs": Columns(numbers, codes), "targets": targets}
        # Trees are not led astray by columns that say nothing, and neighbours need few rows of a group.
        learners = (
            (preprocessed(nearest_neighbors(classes, 1), layout), {"k": [1]}),
            (boosted_trees(classes, layout, iterations=50, early_stopping=False), {"max_leaf_nodes": [31]}),
        )
        try:
            sides = [folds(np.arange(len(ids)), FOLDS, seed, targets if classes else None, of) for of in (None, owner)]
        except UserError:  # too few groups or rows of a class for folds
            continue
        for learner, axes in learners:
            random, grouped = (cross_validate(learner, axes, key, examples, each, score)[0] for each in sides)
            difference = interval(paired(random, grouped), FOLDS)
            if difference.sign > 0:
                groups = len(np.unique(owner))
                made.append(Flattered(column, groups, float(random.mean()), float(grouped.mean()), difference))
                break
    return made
