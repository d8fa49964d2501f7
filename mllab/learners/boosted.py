"""scikit-learn's boosted trees as a learner of the columns of a table. Its params are plain arrays.

scikit-learn is imported by the first fit: prediction does without it.
"""

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mllab import checks
from mllab.learners.common import check_hyper, checked_learner
from mllab.learners.from_sklearn import Selected, extra, selected
from mllab.models import trees
from mllab.models.preprocessing import Columns, Layout
from mllab.models.trees import MOST_CATEGORIES, Trees
from mllab.types import Examples, Hyper, Inputs, Key, Outputs, Rows
from mllab.validation import Learner, one_by_one

READS = ("learning_rate", "max_leaf_nodes", "l2")
ONE_THREAD_ROWS = 10_000  # fewer are faster in one thread where other programs use the cores: OpenMP's threads spin
VALIDATION_FRACTION = 0.1  # of the training rows, held out for early stopping


class _Fitted(NamedTuple):
    """What scikit-learn has fitted."""

    estimator: Any  # None if there is a single class
    codes: np.ndarray  # [Q, S] the category of each code
    present: np.ndarray  # the classes that have rows


def boosted_trees(
    classes: int | None, layout: Layout | None = None, *, iterations: int = 500, early_stopping: bool = True
) -> Learner:
    """Return gradient-boosted trees on histograms; it reads `learning_rate` (0.1), `max_leaf_nodes` (31) and `l2` (0).

    Inputs are `Columns`, or numbers [N, D]. A NaN is a missing value, and codes are categories; of a column with more
    than 255 in the training rows the rarest count as missing.

    Args:
        classes: C; None for regression.
        layout: of the columns; None for inputs [N, D].
        iterations: the most trees (of each class, if these are more than two).
        early_stopping: whether to stop when the loss on a tenth of the training rows has not decreased for ten
            iterations. Where a class has a single row, or that tenth fewer rows than there are classes, all iterations
            are made.

    Source: scikit-learn's `HistGradientBoostingClassifier` and `HistGradientBoostingRegressor`.
    """
    checks.check_whole(1, iterations=iterations)
    if classes is not None:
        checks.check_whole(1, classes=classes)

    def table(inputs: Inputs) -> Columns:
        if layout is not None:
            return inputs
        flat = np.asarray(inputs, np.float32).reshape(len(inputs), -1)
        return Columns(flat, np.zeros((len(flat), 0), np.int32))

    def trained(hyper: Hyper, key: Key, examples: Examples, rows: Rows) -> _Fitted:
        check_hyper(hyper, (), READS)
        checks.check_positive(learning_rate=hyper.get("learning_rate", 0.1))
        checks.check_at_least(2, max_leaf_nodes=hyper.get("max_leaf_nodes", 31))
        checks.check_at_least(0, l2=hyper.get("l2", 0.0))
        chosen = selected(key, examples, rows)
        columns = table(chosen.inputs)
        codes = _categories(np.asarray(columns.codes), layout.categories if layout else ())
        present = np.unique(chosen.targets) if classes is not None else np.zeros(1, int)
        if classes is not None and len(present) == 1:
            return _Fitted(None, codes, present)
        ensemble = extra("ensemble")
        make = ensemble.HistGradientBoostingRegressor if classes is None else ensemble.HistGradientBoostingClassifier
        estimator = make(
            learning_rate=float(hyper.get("learning_rate", 0.1)),
            max_leaf_nodes=int(hyper.get("max_leaf_nodes", 31)),
            l2_regularization=float(hyper.get("l2", 0.0)),
            max_iter=iterations,
            early_stopping=early_stopping and _can_stop_early(chosen, classes is not None),
            validation_fraction=VALIDATION_FRACTION,
            categorical_features=np.flatnonzero((codes >= 0).any(axis=1)) if (codes >= 0).any() else None,
            random_state=chosen.seed,
        )
        features = _features(codes, columns)
        features[:, np.isnan(features).all(axis=0)] = 0  # no bins without a value
        with _threads(len(features)):
            return _Fitted(estimator.fit(features, chosen.targets, sample_weight=chosen.weight), codes, present)

    def outputs_of(fitted: _Fitted, inputs: Inputs) -> Outputs:
        features = _features(fitted.codes, table(inputs))
        with _threads(len(features)):
            if classes is None:
                return jnp.asarray(fitted.estimator.predict(features), jnp.float32)
            certain = fitted.estimator is None
            shares = np.ones((len(features), 1)) if certain else fitted.estimator.predict_proba(features)
        outputs = np.full((len(features), classes), trees.LEAST_LOG_PROBABILITY, np.float32)
        with np.errstate(divide="ignore"):
            outputs[:, fitted.present] = np.maximum(np.log(shares), trees.LEAST_LOG_PROBABILITY)
        return jnp.asarray(outputs)

    def fit(hyper: Hyper, key: Key, examples: Examples, rows: Rows) -> Trees:
        return as_arrays(trained(hyper, key, examples, rows), classes)

    def predict(params: Trees, inputs: Inputs) -> Outputs:
        return trees.apply(params, table(inputs))

    # Inside the grid scikit-learn predicts: the number of trees differs by fit, and every shape would be compiled.
    grid = one_by_one(trained, outputs_of)
    return checked_learner(
        fit, predict, grid, classes=classes, regression=classes is None, takes_missing=True
    )  # fmt: skip


@cache
def _threadpools() -> Any:
    extra("ensemble")  # whose threads are among those found
    from threadpoolctl import ThreadpoolController  # a dependency of scikit-learn

    return ThreadpoolController()


def _threads(rows: int) -> AbstractContextManager:
    return _threadpools().limit(limits=1, user_api="openmp") if rows < ONE_THREAD_ROWS else nullcontext()


def _can_stop_early(chosen: Selected, classification: bool) -> bool:
    held_out = int(np.ceil(VALIDATION_FRACTION * len(chosen.targets)))
    if not classification:
        return len(chosen.targets) > 1
    counts = np.unique(chosen.targets, return_counts=True)[1]
    return counts.min() > 1 and held_out >= len(counts)


def _categories(table: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    """Return the category [Q, S] of each code: those of the rows are numbered, the others -1."""
    codes = np.full((len(sizes), max(sizes, default=0)), -1, np.int32)
    for column, size in enumerate(sizes):
        counts = np.bincount(table[table[:, column] >= 0, column], minlength=size)
        commonest = np.argsort(-counts, kind="stable")[:MOST_CATEGORIES]
        known = np.sort(commonest[counts[commonest] > 0])
        codes[column, known] = np.arange(len(known))
    return codes


def _features(codes: np.ndarray, columns: Columns) -> np.ndarray:
    """Return the features [N, Q + P] in float64, as scikit-learn computes with them; see `trees.features`."""
    table = np.asarray(columns.codes)
    known = (table >= 0) & (table < codes.shape[1])
    categories = np.full(table.shape, np.nan)
    for column in range(table.shape[1]):
        each = codes[column, table[known[:, column], column]]
        categories[known[:, column], column] = np.where(each >= 0, each, np.nan)
    return np.concatenate([categories, np.asarray(columns.numbers, float)], axis=1)


def as_arrays(fitted: _Fitted, classes: int | None) -> Trees:
    """Return the trees of an estimator as arrays.

    Their sizes are rounded up to powers of two, so that fits of similar size share one program.
    """
    grown = [] if fitted.estimator is None else fitted.estimator._predictors
    columns = [0] if classes is None else fitted.present
    bias = np.full(classes or 1, -np.inf if classes else 0, np.float32)
    bias[columns] = 0
    if grown:
        # Of two classes, scikit-learn has the logit of the second.
        bias[columns[-len(grown[0]) :]] = np.ravel(fitted.estimator._baseline_prediction)
    flat = [(tree, columns[-len(each) :][place]) for each in grown for place, tree in enumerate(each)]
    size = _power_of_two(max((len(tree.nodes) for tree, _ in flat), default=1))
    count = _power_of_two(len(flat))
    shape = count, size
    leaf = np.broadcast_to(np.arange(size, dtype=np.int32), shape)
    feature, bitset, missing = np.zeros(shape, np.int32), np.full(shape, -1, np.int32), np.zeros(shape, bool)
    left, right = leaf.copy(), leaf.copy()
    threshold, values = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    outputs, sets = np.zeros(count, np.int32), [np.zeros((0, 8), np.uint32)]
    for place, (tree, column) in enumerate(flat):
        nodes, end = tree.nodes, len(tree.nodes)
        inner = nodes["is_leaf"] == 0
        split = np.flatnonzero(inner)
        by_set = np.flatnonzero(inner & (nodes["is_categorical"] == 1))
        outputs[place] = column
        values[place, :end] = np.where(inner, 0, nodes["value"])
        feature[place, split] = nodes["feature_idx"][split]
        threshold[place, split] = _rounded_down(nodes["num_threshold"][split])
        left[place, split], right[place, split] = nodes["left"][split], nodes["right"][split]
        missing[place, split] = nodes["missing_go_to_left"][split] == 1
        bitset[place, by_set] = sum(map(len, sets)) + nodes["bitset_idx"][by_set]
        sets.append(np.asarray(tree.raw_left_cat_bitsets, np.uint32).reshape(-1, 8))
    bitsets = np.concatenate(sets)
    bitsets = np.pad(bitsets, ((0, _power_of_two(len(bitsets)) - len(bitsets)), (0, 0)))
    arrays = {
        "feature": feature, "threshold": threshold, "left": left, "right": right, "missing_left": missing,
        "bitset": bitset, "bitsets": bitsets, "values": values, "outputs": outputs, "bias": bias, "codes": fitted.codes,
    }  # fmt: skip
    return Trees(**jax.tree.map(jnp.asarray, arrays), regression=classes is None)


def _power_of_two(count: int) -> int:
    return 1 << max(0, count - 1).bit_length()


def _rounded_down(thresholds: np.ndarray) -> np.ndarray:
    """Return float64 thresholds in float32, rounded down: the same float32 numbers are at most the threshold."""
    with np.errstate(over="ignore"):
        nearest = thresholds.astype(np.float32)
    return np.where(nearest > thresholds, np.nextafter(nearest, np.float32(-np.inf)), nearest)
