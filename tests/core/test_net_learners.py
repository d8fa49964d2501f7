"""The MLP and ensembles as learners: lanes against their own fits, scikit-learn, and what must not matter."""

import jax
import numpy as np
import pytest
from scipy.stats import norm
from sklearn.linear_model import LinearRegression, LogisticRegression

from mllab import devices, learners, metrics, validation
from mllab.learners.pipelines import preprocessed
from mllab.models.preprocessing import Columns, Layout
from mllab.types import Rows
from mllab.validation import Folds, held_out_outputs
from support.mistakes import refused_in_one_line

KEY = jax.random.key(0)
DRAW = np.random.default_rng(0)
INPUTS = DRAW.normal(size=(90, 4)).astype(np.float32)
VALUES = (50 + 20 * np.sin(INPUTS[:, 0]) + 10 * INPUTS[:, 1] + DRAW.normal(size=90)).astype(np.float32)
LABELS = ((VALUES > 45).astype(int) + (VALUES > 55)).astype(np.int32)
REGRESSION, CLASSIFICATION = ({"inputs": INPUTS, "targets": targets} for targets in (VALUES, LABELS))
FOLDS = validation.folds(np.arange(90), 4, 0)  # of 22 and 23 rows: padded
AXES = {"learning_rate": [0.003, 0.03], "dropout": [0.0, 0.2]}
SHORT = {"hidden": (8,), "batch_size": 16, "steps": 60}


def rows_of(fold):
    used = FOLDS.train.weight[fold] > 0
    return Rows(FOLDS.train.ids[fold][used], FOLDS.train.weight[fold][used])


def all_rows(count):
    return Rows(np.arange(count), np.ones(count, np.float32))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("examples", "classes"), [pytest.param(REGRESSION, None, marks=pytest.mark.slow), (CLASSIFICATION, 3)]
)
def test_lanes_equal_fits_one_by_one(examples, classes):
    learner = learners.mlp(classes, **SHORT, mesh=devices.mesh(2))
    outputs = np.asarray(held_out_outputs(learner, {"weight_decay": [0.5], **AXES, "seed": [7]}, KEY, examples, FOLDS))
    assert outputs.shape == (1, 2, 2, 1, 4, 23, *([] if classes is None else [3]))
    for rate, dropout, fold in [(1, 1, 3), (0, 0, 1)][: 2 if classes is None else 1]:  # a program each
        hyper = {"learning_rate": AXES["learning_rate"][rate], "dropout": AXES["dropout"][dropout]}
        params = learner.fit({**hyper, "weight_decay": 0.5, "seed": 7}, KEY, examples, rows_of(fold))
        alone = learner.predict(params, INPUTS[FOLDS.held_out.ids[fold]])
        np.testing.assert_allclose(outputs[0, rate, dropout, 0, fold], alone, rtol=2e-3, atol=2e-3)
    assert np.ptp(outputs[0, :, :, 0], axis=(0, 1)).min() > 1e-6  # each setting has an effect


@pytest.mark.slow
def test_each_fold_reads_the_inputs_of_its_preprocessing():
    columns = Columns(INPUTS * [1, 10, 100, 1000], np.zeros((90, 0), np.int32))
    table = preprocessed(learners.mlp(**SHORT), Layout(4))
    examples = {"inputs": columns, "targets": VALUES}
    outputs = held_out_outputs(table, {"learning_rate": [0.03]}, KEY, examples, FOLDS)
    for fold in range(4):
        params = table.fit({"learning_rate": 0.03}, KEY, examples, rows_of(fold))
        alone = table.predict(params, jax.tree.map(lambda a, fold=fold: a[FOLDS.held_out.ids[fold]], columns))
        np.testing.assert_allclose(outputs[0, fold], alone, rtol=1e-3)


def test_a_lane_that_diverges_is_nan_and_disturbs_no_neighbour():
    learner = learners.mlp(**SHORT)
    with_, without = (
        np.asarray(held_out_outputs(learner, {"learning_rate": rates}, KEY, REGRESSION, FOLDS))
        for rates in ([0.01, 1e30, 0.03], [0.01, 0.02, 0.03])
    )
    assert np.isnan(with_[1]).all()
    np.testing.assert_array_equal(with_[::2], without[::2])


@pytest.mark.slow
def test_rows_of_weight_0_and_examples_in_no_fold_have_no_effect():
    learner = learners.mlp(3, **SHORT)
    ids = np.where(FOLDS.train.weight > 0, FOLDS.train.ids, 5).astype(np.int32)
    other = Folds(Rows(ids, FOLDS.train.weight), FOLDS.held_out)
    axes = {"learning_rate": [0.01, 0.02, 0.03, 0.04]}
    one, two = (held_out_outputs(learner, axes, KEY, CLASSIFICATION, folds) for folds in (FOLDS, other))
    np.testing.assert_array_equal(one, two)


@pytest.mark.slow
def test_without_hidden_layers_it_is_least_squares_and_logistic_regression():
    length = {"hidden": (), "batch_size": 90, "steps": 400}
    hyper = {"learning_rate": 0.1, "weight_decay": 0.0}
    params = learners.mlp(**length).fit(hyper, KEY, REGRESSION, all_rows(90))
    expected = LinearRegression().fit(INPUTS, VALUES).predict(INPUTS)
    np.testing.assert_allclose(learners.mlp(**length).predict(params, INPUTS), expected, atol=0.02)
    labels = (VALUES + DRAW.normal(0, 20, 90) > 50).astype(np.int32)
    learner = learners.mlp(2, **length)
    params = learner.fit(hyper, KEY, {"inputs": INPUTS, "targets": labels}, all_rows(90))
    expected = LogisticRegression(C=np.inf, tol=1e-8).fit(INPUTS, labels).predict_log_proba(INPUTS)
    np.testing.assert_allclose(learner.predict(params, INPUTS), expected, atol=0.02)


def test_several_targets_are_standardised_one_by_one():
    targets = np.stack([VALUES, 1e-3 * INPUTS[:, 2]], axis=1)
    learner = learners.mlp(outputs=2, hidden=(), batch_size=90, steps=400)
    params = learner.fit(
        {"learning_rate": 0.1, "weight_decay": 0.0}, KEY, {**REGRESSION, "targets": targets}, all_rows(90)
    )
    expected = LinearRegression().fit(INPUTS, targets).predict(INPUTS)
    error = (np.asarray(learner.predict(params, INPUTS)) - expected) / targets.std(axis=0)
    np.testing.assert_allclose(error, 0, atol=0.005)


@pytest.mark.slow
def test_an_ensemble_averages_the_members_and_reports_their_spread():
    columns = Columns(INPUTS, np.zeros((90, 0), np.int32))
    examples = {"inputs": columns, "targets": VALUES}
    one = learners.mlp(**SHORT)
    table, members = (preprocessed(each, Layout(4)) for each in (learners.ensemble(one, 3), one))
    params = table.fit({}, KEY, examples, rows_of(0))
    values = np.stack(
        [members.predict(members.fit({"seed": seed}, KEY, examples, rows_of(0)), columns) for seed in range(3)]
    )
    np.testing.assert_allclose(table.predict(params, columns), values.mean(axis=0), rtol=1e-3)
    np.testing.assert_allclose(learners.ensemble_spread(params, columns), values.var(axis=0), rtol=0.02, atol=0.01)
    outputs = held_out_outputs(table, {"learning_rate": [0.01]}, KEY, examples, FOLDS)  # the default rate
    np.testing.assert_allclose(outputs[0, 0], values.mean(axis=0)[FOLDS.held_out.ids[0]], rtol=1e-3)
    labelled = learners.ensemble(learners.mlp(3, **SHORT), 4, classes=3)
    probabilities = np.exp(held_out_outputs(labelled, {}, KEY, CLASSIFICATION, FOLDS))
    each = np.exp(held_out_outputs(learners.mlp(3, **SHORT), {"seed": range(4)}, KEY, CLASSIFICATION, FOLDS))
    np.testing.assert_allclose(probabilities, each.mean(axis=0), rtol=1e-3)


def test_the_gaussian_log_density_is_that_of_scipy():
    density = metrics.gaussian_log_density(VALUES + 1, np.float32(4.0), VALUES)
    np.testing.assert_allclose(density, norm.logpdf(VALUES, VALUES + 1, 2), rtol=1e-4)


MISTAKES = {
    "both lengths": (lambda: learners.mlp(steps=3, epochs=2), "steps = 3 and epochs = 2: give one of the two"),
    "outputs": (lambda: learners.mlp(3, outputs=2), "classes = 3 and outputs = 2"),
    "activation": (lambda: learners.mlp(activation="rlu"), "unknown activation 'rlu': did you mean 'relu'"),
    "hyper": (
        lambda: learners.mlp().fit({"rate": 1.0}, KEY, REGRESSION, all_rows(90)),
        "unknown hyper 'rate'",
    ),
    "dropout": (
        lambda: learners.mlp().fit({"dropout": 1.0}, KEY, REGRESSION, all_rows(90)),
        "dropout = 1.0: expected a probability",
    ),
    "rate": (
        lambda: learners.mlp().fit({"learning_rate": -0.1}, KEY, REGRESSION, all_rows(90)),
        "learning_rate.* = -0.1: expected 0 or more",
    ),
    "memory": (
        lambda: learners.mlp(hidden=(10**6, 10**6)).fit({}, KEY, REGRESSION, all_rows(90)),
        "1 nets of .* params and the minibatches of 1 folds take about .* memory are free: lower",
    ),
    "targets": (
        lambda: learners.mlp(outputs=2).fit({}, KEY, REGRESSION, all_rows(90)),
        "targets: shape .90., expected .90, 2.",
    ),
    "members": (lambda: learners.ensemble(learners.mlp(), 0), "members = 0: expected 1 or more"),
    "seed": (
        lambda: learners.ensemble(learners.mlp(), 2).fit({"seed": 1}, KEY, REGRESSION, all_rows(90)),
        "'seed' is set by the ensemble",
    ),
}


@pytest.mark.parametrize(("call", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_errors_are_one_line(call, message):
    with refused_in_one_line(message):
        call()
