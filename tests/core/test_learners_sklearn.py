"""scikit-learn's boosted trees as arrays, and its estimators as learners."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from threadpoolctl import threadpool_limits

from mllab import learners, validation
from mllab.models import trees
from mllab.models.preprocessing import Columns, Layout
from mllab.types import Rows
from support.mistakes import refused_in_one_line


@pytest.fixture(autouse=True)
def one_thread():
    """OpenMP's threads spin, which takes seconds where other programs use the cores."""
    with threadpool_limits(1, user_api="openmp"):
        yield


KEY = jax.random.key(0)
DRAW = np.random.default_rng(0)
COUNT = 300
NUMBERS = DRAW.normal(size=(COUNT, 3)).astype(np.float32)
NUMBERS[DRAW.random(NUMBERS.shape) < 0.1] = np.nan
CODES = DRAW.integers(-1, [40, 3], (COUNT, 2)).astype(np.int32)
LAYOUT = Layout(3, (0,), (40, 5))  # two of the five categories are in no row
VALUES = (np.nan_to_num(NUMBERS[:, 0]) * (CODES[:, 0] % 3 - 1) + 0.1 * DRAW.normal(size=COUNT)).astype(np.float32)
LABELS = np.digitize(VALUES, [-0.3, 0.3])
COLUMNS = Columns(NUMBERS, CODES)
TRAIN, OUT = np.arange(200), np.arange(200, COUNT)
ROWS = Rows(TRAIN, np.ones(200, np.float32))
SETTING = {"learning_rate": 0.2, "max_leaf_nodes": 8, "l2": 1.0}


def table_of(classes):
    """Examples with this many classes."""
    targets = VALUES if classes is None else np.minimum(LABELS, classes - 1).astype(np.int32)
    return {"inputs": COLUMNS, "targets": targets}


def peer_of(classes, targets):
    """scikit-learn's own model of the same table, and its features."""
    features = np.concatenate([np.where(CODES < 0, np.nan, CODES), NUMBERS], axis=1).astype(float)
    make = HistGradientBoostingRegressor if classes is None else HistGradientBoostingClassifier
    peer = make(
        learning_rate=0.2, max_leaf_nodes=8, l2_regularization=1.0, max_iter=20, early_stopping=False,
        categorical_features=[0, 1],
    )  # fmt: skip
    return peer.fit(features[TRAIN], targets[TRAIN]), features


@pytest.mark.parametrize("classes", [None, 2, 3])
def test_trees_as_arrays_predict_what_scikit_learn_does(classes):
    learner, examples = learners.boosted_trees(classes, LAYOUT, iterations=20, early_stopping=False), table_of(classes)
    params = learner.fit(SETTING, KEY, examples, ROWS)
    outputs = np.asarray(learner.predict(params, COLUMNS))
    peer, features = peer_of(classes, examples["targets"])
    theirs = peer.predict(features) if classes is None else peer.predict_proba(features)
    np.testing.assert_allclose(outputs if classes is None else np.exp(outputs), theirs, rtol=1e-5, atol=1e-6)
    assert (np.asarray(params.bitset) >= 0).any()  # there are splits by categories
    trees.check(params)
    axes = {name: [value] for name, value in SETTING.items()}
    held_out = validation.held_out_outputs(learner, axes, KEY, examples, validation.holdout(TRAIN, OUT))
    np.testing.assert_allclose(held_out[0, 0, 0, 0], outputs[OUT], rtol=1e-5, atol=1e-5)


def test_a_number_at_its_threshold_goes_where_scikit_learn_sends_it():
    """The threshold between neighbours in float32 is in float64, and its nearest float32 is the upper of the two."""
    numbers = np.repeat([np.nextafter(np.float32(1), np.float32(0)), np.float32(1)], 30)[:, None]
    targets = np.repeat(np.float32([0, 1]), 30)
    learner = learners.boosted_trees(None, iterations=1, early_stopping=False)
    rows = Rows(np.arange(60), np.ones(60, np.float32))
    params = learner.fit({"learning_rate": 1.0}, KEY, {"inputs": numbers, "targets": targets}, rows)
    np.testing.assert_allclose(learner.predict(params, numbers), targets, atol=1e-6)


def test_early_stopping_and_weights_are_those_of_scikit_learn():
    learner, weight = learners.boosted_trees(None, iterations=200), DRAW.integers(0, 3, 200).astype(np.float32)
    rows = Rows(TRAIN, weight)
    examples = {"inputs": np.nan_to_num(NUMBERS), "targets": VALUES}
    seed = int(jax.random.randint(KEY, (), 0, np.iinfo(np.int32).max))
    peer = HistGradientBoostingRegressor(max_iter=200, early_stopping=True, random_state=seed)
    used = TRAIN[weight > 0]
    peer.fit(examples["inputs"][used].astype(float), VALUES[used], sample_weight=weight[weight > 0])
    assert peer.n_iter_ < 200
    outputs = learner.predict(learner.fit({}, KEY, examples, rows), examples["inputs"])
    np.testing.assert_allclose(outputs, peer.predict(examples["inputs"].astype(float)), rtol=1e-5, atol=1e-5)


def test_a_column_without_values_and_more_categories_than_a_set_holds_are_no_obstacle():
    codes = np.stack([np.arange(COUNT), np.full(COUNT, -1)], axis=1).astype(np.int32)
    codes[:100, 0] = 7  # the commonest is kept
    numbers = np.full((COUNT, 1), np.nan, np.float32)
    learner = learners.boosted_trees(None, Layout(1, (), (COUNT, 2)), iterations=2, early_stopping=False)
    rows = Rows(np.arange(COUNT), np.ones(COUNT, np.float32))
    params = learner.fit({}, KEY, {"inputs": Columns(numbers, codes), "targets": VALUES}, rows)
    assert params.codes[0, 7] >= 0
    assert np.isfinite(learner.predict(params, Columns(numbers + 1, codes))).all()


# ── Any estimator ───────────────────────────────────────────────────────────────────────────────────────────────────

FILLED = np.nan_to_num(NUMBERS)
FOLDS = validation.folds(np.arange(COUNT), 3, 0, LABELS)


def test_an_estimator_predicts_as_scikit_learn_does():
    labelled, valued = ({"inputs": FILLED, "targets": t} for t in (LABELS.astype(np.int32), VALUES))
    cases = [
        (LogisticRegression(), 3, labelled, {"C": [0.1, 10.0]}, lambda p, x: p.predict_log_proba(x)),
        (Ridge(), None, valued, {"alpha": [0.1]}, lambda p, x: p.predict(x)),
        (RidgeClassifier(), 3, labelled, {}, lambda p, x: np.where(np.eye(3)[p.predict(x)] > 0, 0, np.log(1e-7))),
    ]
    for estimator, classes, examples, axes, outputs_of in cases:
        outputs = validation.held_out_outputs(learners.of_sklearn(estimator, classes), axes, KEY, examples, FOLDS)
        train, out = FOLDS.train.ids[0], FOLDS.held_out.ids[0]
        last = estimator.set_params(**{name: values[-1] for name, values in axes.items()})
        theirs = outputs_of(last.fit(FILLED[train], examples["targets"][train]), FILLED[out])
        np.testing.assert_allclose(outputs[(-1,) * len(axes)][0], theirs, rtol=1e-3, atol=1e-4)


def test_settings_reach_the_estimator_as_plain_numbers():
    learner = learners.of_sklearn(RandomForestClassifier(), 3)
    hyper = {"n_estimators": jnp.float32(3), "max_features": jnp.float32(0.7)}
    rows = Rows(np.arange(COUNT), np.ones(COUNT, np.float32))
    fitted = learner.fit(hyper, KEY, {"inputs": FILLED, "targets": LABELS.astype(np.int32)}, rows).estimator
    assert (fitted.n_estimators, fitted.max_features) == (3, 0.7)
    assert isinstance(fitted.n_estimators, int)
    assert fitted.random_state is not None


EXAMPLES = {"inputs": FILLED, "targets": VALUES}
MISTAKES = {
    "a class": (lambda: learners.of_sklearn(Ridge, None), "estimator: Ridge, expected an estimator of scikit-learn"),
    "no estimator": (lambda: learners.of_sklearn("ridge", None), "estimator: str, expected an estimator"),
    "a regressor of classes": (lambda: learners.of_sklearn(Ridge(), 3), "estimator: Ridge, expected a classifier"),
    "unknown hyper": (
        lambda: learners.of_sklearn(Ridge(), None).fit({"alphaa": 1.0}, KEY, EXAMPLES, ROWS),
        "unknown hyper 'alphaa': did you mean 'alpha'",
    ),
    "a value that it does not take": (
        lambda: learners.of_sklearn(Ridge(), None).fit({"alpha": -1.0}, KEY, EXAMPLES, ROWS),
        "Ridge cannot be fitted: The 'alpha' parameter",
    ),
    "rate": (
        lambda: learners.boosted_trees(None).fit({"learning_rate": 0.0}, KEY, EXAMPLES, ROWS),
        "learning_rate = 0.0: expected a finite number above 0",
    ),
    "leaves": (
        lambda: learners.boosted_trees(None).fit({"max_leaf_nodes": 1}, KEY, EXAMPLES, ROWS),
        "max_leaf_nodes = 1: expected 2 or more",
    ),
}


@pytest.mark.parametrize(("call", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_errors_are_one_line(call, message):
    with refused_in_one_line(message):
        call()
