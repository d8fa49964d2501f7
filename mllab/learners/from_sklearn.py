"""Estimators of scikit-learn as learners."""

import importlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mllab import checks
from mllab.errors import UserError, unknown
from mllab.learners.common import checked_learner
from mllab.models.trees import LEAST_LOG_PROBABILITY
from mllab.types import Examples, Hyper, Inputs, Key, Outputs, Rows
from mllab.validation import Learner, one_by_one


class Selected(NamedTuple):
    """Training rows on the host, for another library."""

    inputs: Any  # arrays [M, ...]
    targets: np.ndarray  # [M]
    weight: np.ndarray | None  # [M]; None if all are alike
    seed: int


class FittedEstimator(NamedTuple):
    """Params of an estimator of scikit-learn: an object of Python, which cannot be saved without pickle."""

    estimator: Any  # None if all training rows are of one class
    present: np.ndarray  # the classes that have rows, in the order of the estimator's


def extra(module: str) -> Any:
    """Return a module of scikit-learn.

    Raises:
        UserError: scikit-learn is not installed.
    """
    try:
        return importlib.import_module(f"sklearn.{module}")
    except ImportError:
        raise UserError("this learner needs scikit-learn: pip install scikit-learn") from None


def selected(key: Key, examples: Examples, rows: Rows) -> Selected:
    """Return the rows of positive weight, and a seed drawn from the key."""
    weight = np.asarray(rows.weight)
    ids, weight = np.asarray(rows.ids)[weight > 0], weight[weight > 0]
    inputs = jax.tree.map(lambda array: np.asarray(array)[ids], examples["inputs"])
    seed = int(jax.random.randint(key, (), 0, np.iinfo(np.int32).max))
    return Selected(inputs, np.asarray(examples["targets"])[ids], None if np.ptp(weight) == 0 else weight, seed)


def of_sklearn(estimator: Any, classes: int | None) -> Learner:
    """Return an estimator of scikit-learn as a learner; it reads every parameter that the estimator has.

    Each fit is of a clone. Values that are whole are passed as `int`. A `random_state` of None is drawn from the key.

        forest = of_sklearn(RandomForestClassifier(), classes=3)
        scores = cross_validate(forest, {"max_depth": [3, 10]}, key, examples, folds, accuracy)

    A classifier's probabilities are at least 1e-7; without `predict_proba`, its decisions are taken as certain.
    The params are objects of Python: they cannot be saved by `learners.storage`, which has no pickle.

    Args:
        estimator: a classifier or regressor of inputs [N, D].
        classes: C; None for regression.

    Raises:
        UserError: no estimator. A fit raises it for a parameter that the estimator does not have or does not take.
    """
    base = extra("base")
    if isinstance(estimator, type) or not all(hasattr(estimator, name) for name in ("fit", "predict", "set_params")):
        raise UserError(
            f"estimator: {_name(estimator)}, expected an estimator of scikit-learn, such as RandomForestClassifier()"
        )
    if base.is_classifier(estimator) != (classes is not None):
        right = "a regressor" if classes is None else "a classifier"
        raise UserError(f"estimator: {_name(estimator)}, expected {right} where classes = {classes}")
    if classes is not None:
        checks.check_whole(1, classes=classes)
    known = estimator.get_params()

    def fit(hyper: Hyper, key: Key, examples: Examples, rows: Rows) -> FittedEstimator:
        for name in hyper:
            if name not in known:
                raise unknown("hyper", name, known)
        chosen = selected(key, examples, rows)
        inputs = chosen.inputs.reshape(len(chosen.inputs), -1)
        present = np.unique(chosen.targets) if classes is not None else np.zeros(0, int)
        if len(present) == 1:
            return FittedEstimator(None, present)
        clone = base.clone(estimator).set_params(**{name: _plain(value) for name, value in hyper.items()})
        seeds = [name for name in clone.get_params() if name.split("__")[-1] == "random_state"]
        clone.set_params(**{name: chosen.seed for name in seeds if clone.get_params()[name] is None})
        weight = {} if chosen.weight is None else {"sample_weight": chosen.weight}
        try:
            clone.fit(inputs, chosen.targets, **weight)
        except (ValueError, TypeError) as error:
            raise UserError(f"{_name(estimator)} cannot be fitted: {str(error).splitlines()[0]}") from error
        return FittedEstimator(clone, present)

    def predict(params: FittedEstimator, inputs: Inputs) -> Outputs:
        points = np.asarray(inputs).reshape(len(inputs), -1)
        if classes is None:
            return jnp.asarray(np.ravel(params.estimator.predict(points)), jnp.float32)
        outputs = np.full((len(points), classes), LEAST_LOG_PROBABILITY, np.float32)
        if params.estimator is None:
            outputs[:, params.present] = 0
        elif hasattr(params.estimator, "predict_proba"):
            with np.errstate(divide="ignore"):
                logs = np.log(params.estimator.predict_proba(points))
            outputs[:, params.estimator.classes_] = np.maximum(logs, LEAST_LOG_PROBABILITY)
        else:
            outputs[np.arange(len(points)), params.estimator.predict(points)] = 0
        return jnp.asarray(outputs)

    return checked_learner(fit, predict, one_by_one(fit, predict), classes=classes, regression=classes is None)


def _plain(value: Any) -> Any:
    """Return a number of an axis as Python's: 0.1 in float32 is 0.1, and 3.0 is the whole number 3."""
    if value is None or isinstance(value, str | bool):
        return value
    array = np.asarray(value)
    if array.dtype.kind != "f":
        return array.item()
    number = float(str(array[()]))
    return int(number) if number.is_integer() else number


def _name(estimator: Any) -> str:
    return estimator.__name__ if isinstance(estimator, type) else type(estimator).__name__
