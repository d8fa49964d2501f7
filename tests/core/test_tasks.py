"""The rows of the task table: chance losses, headline and reported scores, and what each task refuses."""

import jax
import numpy as np
import pytest
from sklearn import metrics as peer
from sklearn.dummy import DummyClassifier, DummyRegressor

from mllab import tasks
from mllab.errors import UserError
from support.mistakes import refused_in_one_line

TRAIN, ROWS = np.arange(60), np.arange(60, 100)


def test_chance_in_classification_is_the_loss_of_a_dummy_classifier():
    targets = np.random.default_rng(0).choice(3, 100, p=[0.6, 0.3, 0.1])
    dummy = DummyClassifier(strategy="prior").fit(np.zeros((60, 1)), targets[TRAIN])
    theirs = peer.log_loss(targets[ROWS], dummy.predict_proba(np.zeros((40, 1))), labels=[0, 1, 2])
    np.testing.assert_allclose(tasks.CLASSIFICATION.chance(targets, TRAIN, ROWS), theirs, rtol=1e-6)
    assert np.isfinite(tasks.CLASSIFICATION.chance(np.array([0, 0, 0, 1]), np.arange(3), np.array([3])))


def test_chance_in_regression_is_the_squared_error_of_the_training_mean():
    values = np.random.default_rng(0).normal(size=100)
    expected = np.mean((values[ROWS] - values[TRAIN].mean()) ** 2)
    np.testing.assert_allclose(tasks.REGRESSION.chance(values, TRAIN, ROWS), expected)


@pytest.mark.parametrize("seed", range(3))
def test_baselines_are_scikit_learns_dummies(seed):
    draw, zeros = np.random.default_rng(seed), np.zeros((100, 1))
    classes, values = draw.choice(3, 100, p=[0.6, 0.3, 0.1]), draw.normal(size=100)
    dummy = DummyClassifier().fit(zeros[TRAIN], classes[TRAIN])
    made = tasks.CLASSIFICATION.baseline(classes, TRAIN, ROWS)
    assert made.scores == {"accuracy": pytest.approx(dummy.score(zeros[ROWS], classes[ROWS]))}
    predicted = DummyRegressor().fit(zeros[TRAIN], values[TRAIN]).predict(zeros[ROWS])
    made = tasks.REGRESSION.baseline(values, TRAIN, ROWS, target_scale=25.0)
    assert made.scores == {
        "rmse": pytest.approx(25 * peer.root_mean_squared_error(values[ROWS], predicted)),
        "r2": pytest.approx(peer.r2_score(values[ROWS], predicted)),
    }


@pytest.mark.parametrize(
    ("accuracy", "seeds", "expected"),
    [
        (0.0, 1, False),  # the most frequent class, always
        (0.0, 3, False),
        (0.5, 3, True),  # half of the other rows are right too
        (0.5, 1, True),
        (0.05, 3, False),  # one or two rows more
        (-0.5, 3, False),
    ],
)
def test_a_classifier_beats_the_most_frequent_class_by_more_than_a_few_rows(accuracy, seeds, expected):
    draw = np.random.default_rng(0)
    targets = draw.choice(2, 100, p=[0.7, 0.3])
    correct = (targets[ROWS] == 0)[None].repeat(seeds, axis=0).astype(np.float32)
    for each in correct:
        changed = np.flatnonzero(each == (accuracy < 0))
        each[changed[: round(abs(accuracy) * len(changed))]] = accuracy > 0
    assert tasks.CLASSIFICATION.beats_baseline({"accuracy": correct}, targets, TRAIN, ROWS) == expected


@pytest.mark.parametrize(("signal", "expected"), [(0.0, False), (0.9, True)])
def test_a_regression_on_noise_does_not_beat_the_mean(signal, expected):
    draw = np.random.default_rng(1)
    values = draw.normal(size=100)
    outputs = signal * values[ROWS] + 0.1 * draw.normal(size=(3, 40))
    loss = (outputs - values[ROWS]) ** 2
    assert tasks.REGRESSION.beats_baseline({"loss": loss}, values, TRAIN, ROWS) == expected


def mean_metrics(task, outputs, targets):
    return {name: np.mean(values) for name, values in task.metrics(outputs, targets).items()}


def test_classification_reports_accuracy():
    draw = np.random.default_rng(1)
    logits, targets = draw.normal(size=(40, 3)).astype(np.float32), draw.integers(3, size=40)
    task = tasks.CLASSIFICATION
    means = mean_metrics(task, logits, targets)
    accuracy = peer.accuracy_score(targets, logits.argmax(axis=1))
    assert task.report(means, targets) == {"accuracy": pytest.approx(accuracy)}
    assert task.headline.value(means, targets, 1.0) == pytest.approx(accuracy)
    np.testing.assert_allclose(
        means["loss"], peer.log_loss(targets, jax.nn.softmax(logits), labels=range(3)), rtol=1e-5
    )


def test_regression_reports_rmse_in_the_targets_unit_and_r_squared():
    draw = np.random.default_rng(2)
    values, scale = draw.normal(size=(2, 40)).astype(np.float32), 250.0
    outputs, targets = values
    task = tasks.REGRESSION
    means = mean_metrics(task, outputs[:, None], targets)
    reported = task.report(means, targets, scale)
    assert reported == {
        "rmse": pytest.approx(peer.root_mean_squared_error(scale * targets, scale * outputs), rel=1e-5),
        "r2": pytest.approx(peer.r2_score(targets, outputs), rel=1e-4),
    }
    assert task.headline.value(means, targets, scale) == pytest.approx(reported["r2"])
    assert [score.label_in("k$") for score in task.reported] == ["RMSE (k$)", "R²"]
    assert [score.label_in("") for score in task.reported] == ["RMSE", "R²"]
    assert [score.label_in("", "price") for score in task.reported] == ["RMSE (units of price)", "R²"]


@pytest.mark.parametrize("name", tasks.TASKS)
def test_the_headline_is_reported_and_larger_is_better(name):
    task = tasks.TASKS[name]
    assert task.name == name
    assert task.headline in task.reported
    targets = np.array([0, 1, 1])
    outputs = {"classification": np.eye(2)[targets], "regression": targets.astype(float)}[name]
    better = task.headline.value(mean_metrics(task, outputs, targets), targets, 1.0)
    worse = task.headline.value(mean_metrics(task, outputs[[1, 0, 0]], targets), targets, 1.0)
    assert better == 1 > worse
    assert tasks.named(task) is tasks.named(name) is task


@pytest.mark.parametrize(
    ("name", "targets", "outputs", "message"),
    [
        ("classification", np.array([0.0, 1.0]), (1, 2), "classes are whole numbers"),
        ("classification", np.array([[0], [1]]), (1, 2), r"not int64\[2, 1\]"),
        (
            "classification",
            np.array([0, 2]),
            (1, 2),
            "classes 0 to 2; the model returns outputs of shape \\[2\\] per row",
        ),
        ("classification", np.array([-1, 1]), (1, 2), "classes -1 to 1"),
        ("classification", np.array([0, 1]), (1,), "one logit for each class"),
        ("regression", np.ones((2, 2)), (1,), r"or \[N, T\] and T outputs, not targets \[2, 2\]"),
        ("regression", np.ones((2, 1, 1)), (1, 1), r"not targets \[2, 1, 1\]"),
        ("regression", np.ones(2), (1, 3), r"outputs of shape \[3\] per row"),
    ],
)
def test_targets_and_outputs_that_do_not_fit_are_refused(name, targets, outputs, message):
    with refused_in_one_line(message):
        tasks.TASKS[name].check(targets, outputs)


def test_an_unknown_task_is_refused():
    with pytest.raises(UserError, match="unknown task 'clasification': did you mean 'classification'"):
        tasks.named("clasification")
