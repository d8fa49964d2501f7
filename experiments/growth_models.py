"""What `growth` measures: approaches with a typical setting each, and examples of any number of rows and columns."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from mllab import learners
from mllab.data.dataset import Dataset
from mllab.errors import UserError
from mllab.growth import Make
from mllab.report import style
from mllab.report.style import DASHED, SOLID, Style
from mllab.tasks import CLASSIFICATION, REGRESSION
from mllab.types import Examples, Hyper, Inputs, Key, Outputs, Rows
from mllab.validation import Learner

NEIGHBOURS, TREES = 10, 100
COLUMNS = 20  # of the synthetic problem
JITTER = 0.01  # standard deviations that repeated rows of a data set are moved by


class Approach(NamedTuple):
    """A learner with one typical setting."""

    label: str
    make: Mapping[str, Callable[[int], Learner]]  # by task: number of classes -> learner
    setting: Callable[[int], dict[str, Any]]  # number of columns -> hyperparameters
    theory: str  # a key of `growth.THEORY`
    colour: str
    marker: str
    described: str  # the setting in words

    def look(self, *, law: bool) -> Style:
        """Return the style of its law, or of what was measured."""
        return Style(self.colour, DASHED, "") if law else Style(self.colour, SOLID, self.marker)


def _no_setting(columns: int) -> dict[str, Any]:
    del columns
    return {}


APPROACHES: Mapping[str, Approach] = {
    "constant": Approach(
        "constant",
        {CLASSIFICATION.name: learners.most_frequent, REGRESSION.name: lambda classes: learners.mean()},
        _no_setting, "constant", style.BLACK, "h", "the most frequent class, or the mean: the cost of a call",
    ),
    "ridge": Approach(
        "ridge", {REGRESSION.name: lambda classes: learners.ridge()}, lambda columns: {"l2": 1.0}, "linear",
        style.BLUE, "o", "l2 = 1, by singular values",
    ),
    "softmax": Approach(
        "softmax", {CLASSIFICATION.name: learners.softmax_regression}, lambda columns: {"l2": 1.0}, "softmax",
        style.BLUE, "o", "l2 = 1, at its optimum",
    ),
    "knn": Approach(
        "kNN",
        {
            CLASSIFICATION.name: lambda classes: learners.nearest_neighbors(classes, NEIGHBOURS),
            REGRESSION.name: lambda classes: learners.nearest_neighbors(None, NEIGHBOURS),
        },
        lambda columns: {"k": NEIGHBOURS}, "knn", style.GREEN, "s", f"k = {NEIGHBOURS}, exact, by brute force",
    ),
    "kernel_ridge": Approach(
        "kernel ridge", {REGRESSION.name: lambda classes: learners.kernel_ridge()}, lambda columns: {"l2": 1.0},
        "kernel_ridge", style.PURPLE, "^", "RBF, l2 = 1, gamma by 'scale', by a Cholesky factor",
    ),
    "svm": Approach(
        "kernel SVM",
        {
            CLASSIFICATION.name: learners.svm,
            REGRESSION.name: lambda classes: learners.support_vector_regression(),
        },
        lambda columns: {"c": 1.0}, "svm", style.VERMILLION, "D",
        "RBF, C = 1, gamma by 'scale', SMO; one problem for each pair of classes",
    ),
    "mlp": Approach(
        "MLP",
        {CLASSIFICATION.name: learners.mlp, REGRESSION.name: lambda classes: learners.mlp()},
        lambda columns: {"learning_rate": 0.01}, "mlp", style.SKY, "P",
        "two hidden layers of 128 units, the learner's default number of steps",
    ),
    "trees": Approach(
        "boosted trees",
        {CLASSIFICATION.name: lambda classes: _trees(True), REGRESSION.name: lambda classes: _trees(False)},
        _no_setting, "trees", style.ORANGE, "v", f"scikit-learn's HistGradientBoosting, {TREES} trees",
    ),
}  # fmt: skip


def chosen(names: tuple[str, ...] | None, task: str) -> list[str]:
    """Return the names of the approaches to measure: all of the task by default.

    Raises:
        UserError: one that is not for the task.
    """
    for name in names or ():
        if task not in APPROACHES[name].make:
            fitting = ", ".join(each for each, approach in APPROACHES.items() if task in approach.make)
            raise UserError(f"--models={name}: not for {task}; give some of {fitting}")
    return list(names or (name for name, approach in APPROACHES.items() if task in approach.make))


def _trees(classification: bool) -> Learner:
    """Return scikit-learn's boosted trees, with a fixed number of trees."""

    def fit(hyper: Hyper, key: Key, examples: Examples, rows: Rows) -> Any:
        from sklearn import ensemble  # takes a second

        del hyper, key
        ids = np.asarray(rows.ids)
        inputs, targets = np.asarray(examples["inputs"])[ids], np.asarray(examples["targets"])[ids]
        kind = ensemble.HistGradientBoostingClassifier if classification else ensemble.HistGradientBoostingRegressor
        return kind(max_iter=TREES, early_stopping=False, random_state=0).fit(inputs, targets)

    def predict(params: Any, inputs: Inputs) -> Outputs:
        inputs = np.asarray(inputs)
        return params.predict_log_proba(inputs) if hasattr(params, "predict_log_proba") else params.predict(inputs)

    return Learner(fit, predict)


# ── Examples ────────────────────────────────────────────────────────────────────────────────────────────────────────


def synthetic(task: str) -> Make:
    """Return examples of a smooth function of normal columns with noise; for classes, whether it is above 0."""

    def make(n: int, d: int) -> Examples:
        draw = np.random.default_rng([n, d])
        inputs = draw.normal(size=(n, d)).astype(np.float32)
        direction = np.random.default_rng(d).normal(size=(2, d)) / np.sqrt(d)
        values = np.sin(2 * inputs @ direction[0]) + inputs @ direction[1] + 0.5 * draw.normal(size=n)
        if task == CLASSIFICATION.name:
            targets = (values > 0).astype(np.int32)
            targets[: min(n, 2)] = np.arange(min(n, 2))
            return {"inputs": inputs, "targets": targets}
        return {"inputs": inputs, "targets": values.astype(np.float32)}

    return make


def resized(data: Dataset) -> Make:
    """Return examples with the rows and columns of a data set, as many as are asked for.

    Of fewer, a random sample. Rows beyond those that it has are repeated and moved a little; columns beyond are
    permuted copies, which have no relation to the target.
    """
    inputs = data.inputs.reshape(len(data.inputs), -1)
    draw = np.random.default_rng(0)
    order, columns = draw.permutation(len(inputs)), draw.permutation(inputs.shape[1])
    _, first = np.unique(data.targets[order], return_index=True)
    if data.classes:  # each class is in every sample
        order = np.concatenate([order[np.sort(first)], np.delete(order, first)])

    def make(n: int, d: int) -> Examples:
        draw = np.random.default_rng([n, d])
        ids = order[np.arange(n) % len(order)]
        made = np.empty((n, d), np.float32)
        for place in range(d):
            values = inputs[ids, columns[place % len(columns)]]
            made[:, place] = values if place < len(columns) else draw.permutation(values)
        if n > len(order):
            made[len(order) :] += JITTER * draw.normal(size=(n - len(order), d)).astype(np.float32)
        return {"inputs": made, "targets": data.targets[ids]}

    return make
