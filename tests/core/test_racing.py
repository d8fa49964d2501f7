"""The race: choice of the learning rate, diverged lanes, test scores, and what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.metrics import mean_squared_error, r2_score, root_mean_squared_error

import mllab
from mllab import optimizers, race_results, racing, sweep, tasks, training
from mllab.data.dataset import Split
from mllab.errors import UserError
from mllab.models import linear
from mllab.models.base import plain
from support import problems
from support.mistakes import refused_in_one_line

SPLIT = Split(np.arange(36), np.arange(36, 48), np.arange(48, 60))
STEPS = np.array([10, 20, 30])


def judged(accuracy, loss=None, nonfinite=None, chance=1.0):
    """Return an entry from accuracies [E, R, G]; the default loss is 1 - accuracy."""
    accuracy = np.asarray(accuracy, float)
    loss = 1 - accuracy if loss is None else np.asarray(loss, float)
    lanes = lambda a: np.swapaxes(a, -1, -2).reshape(*a.shape[:-2], -1)  # noqa: E731 - seed by seed
    rates = accuracy.shape[1]
    history = training.History(
        STEPS[: len(loss)], lanes(loss), {"loss": lanes(loss), "accuracy": lanes(accuracy)}, STEPS
    )
    nonfinite = np.full(accuracy.shape[1:], -1) if nonfinite is None else np.asarray(nonfinite)
    kept_loss = np.nanmin(loss, axis=0)
    result = training.Result(None, None, lanes(kept_loss), lanes(nonfinite), history)
    grid = sweep.grid({"learning_rate": np.logspace(-4, -3, rates)}, accuracy.shape[2])
    return racing.judge("adam", result, grid, np.array([chance]), [np.array([0, 1])], tasks.CLASSIFICATION)


def test_the_rate_with_the_best_mean_score_of_kept_params_is_chosen():
    # The second rate is worse at the end; the score of the params kept at its least loss counts.
    entry = judged([[[0.5, 0.5], [0.9, 0.9]], [[0.6, 0.8], [0.2, 0.3]]])
    np.testing.assert_allclose(entry.score, [[0.6, 0.8], [0.9, 0.9]])
    assert entry.best == 1
    assert entry.learning_rate == pytest.approx(1e-3)
    assert entry.curve.shape == (2, 2, 2)


def test_a_rate_with_a_nonfinite_lane_is_not_eligible():
    entry = judged([[[0.5, 0.5], [0.9, 0.9]]], nonfinite=[[-1, -1], [-1, 17]])
    assert entry.best == 0
    assert np.isnan(entry.score[1, 1])
    assert entry.nonfinite_step[1, 1] == 17
    assert judged([[[0.5], [0.9]]], nonfinite=[[3], [4]]).best is None


def test_a_finite_lane_no_better_than_chance_has_failed():
    entry = judged([[[0.1, 0.1, 0.1]]], loss=[[[0.9, 1.0, 5.0]]], nonfinite=[[-1, -1, 2]], chance=1.0)
    np.testing.assert_array_equal(entry.failed, [[False, True, False]])


@pytest.mark.parametrize(
    ("scores", "decades", "low", "high"),
    [
        ([0.5, 0.9, 0.5, 0.5], 0, False, False),
        ([0.895, 0.9, 0.895, 0.5], 2, True, False),
        ([0.9, 0.9, 0.9, 0.9], 3, True, True),
        ([0.9, 0.5, 0.9, 0.901], 1, False, True),  # equally good rates beyond a gap do not count
        ([0.5, 0.889, 0.9, 0.5], 0, False, False),  # more than a point below
    ],
)
def test_width_is_the_decades_around_the_best_within_a_point(scores, decades, low, high):
    made = race_results.width(judged([[[score] for score in scores]]), np.array([1e-4, 1e-3, 1e-2, 1e-1]))
    np.testing.assert_allclose(made.decades, decades, atol=1e-12)
    assert (made.open_low, made.open_high) == (low, high)


def test_steps_to_a_score_have_the_resolution_of_segments_and_are_nan_if_never_reached():
    entry = judged([[[0.5, 0.5, 0.1]], [[0.7, 0.6, 0.1]], [[0.6, 0.8, 0.1]]])
    np.testing.assert_array_equal(race_results.steps_to(entry, STEPS, 0.7), [20, 30, np.nan])


# ── What a race refuses ──────────────────────────────────────────────────────────────────────────────────────────────

GOOD = problems.examples(60)
NAN = {**GOOD, "inputs": np.where(np.arange(60)[:, None] == 7, np.nan, GOOD["inputs"]).astype(np.float32)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"examples": {**GOOD, "targets": GOOD["targets"] + 1}}, "classes 1 to 3"),
        ({"examples": {**GOOD, "targets": GOOD["targets"] - 1}}, "classes -1 to 1"),
        ({"examples": {**GOOD, "targets": GOOD["targets"].astype(float)}}, "whole numbers"),
        (
            {"examples": {**GOOD, "targets": GOOD["targets"][:50]}},
            "targets has 50 rows, and inputs has 60: give one of each per example",
        ),
        ({"examples": {**GOOD, "weights": np.ones(60)}}, r"examples\['weights'\] would be ignored"),
        ({"examples": {"inputs": GOOD["inputs"]}}, "examples have no 'targets', only 'inputs': add it"),
        ({"examples": (GOOD["inputs"], GOOD["targets"])}, 'expected {"inputs": ..., "targets": ...}, not a tuple'),
        ({"examples": NAN}, "inputs: row 7, column 0 is nan"),
        ({"examples": {**GOOD, "inputs": GOOD["inputs"] * 1e30}}, "inputs: row 0, column 0 is .*: squares overflow"),
        ({"examples": {**GOOD, "targets": np.ones((60, 1), np.float32)}, "task": "regression"}, r"targets \[N\]"),
        ({"split": dataclasses.replace(SPLIT, test=np.array([60]))}, "test rows from 60 to 60: there are rows 0 to 59"),
        ({"split": dataclasses.replace(SPLIT, test=np.array([], int))}, "no test rows"),
        ({"split": dataclasses.replace(SPLIT, test=np.array([0]))}, "in two parts of the split"),
        ({"task": "clasification"}, "did you mean 'classification'"),
        ({"names": []}, "name one or more"),
        ({"names": ["adm"]}, "did you mean 'adam'"),
        ({"settings": {"clip_norm": 0.0}}, "clip_norm = 0"),
        ({"settings": {"weight_decay": float("nan")}}, "finite"),
        ({"learning_rates": [0.1, 0.1]}, "each once"),
        ({"learning_rates": ["fast"]}, "learning rates: text, expected numbers"),
        ({"seeds": []}, "seeds: none"),
        ({"seeds": [1.5]}, "seeds: 1.5; give whole numbers"),
        ({"seeds": [-1]}, "seeds: -1; give whole numbers of 0 or more"),
        ({"epochs": 0}, "epochs = 0: expected 1 or more"),
        ({"batch_size": 2.5}, "batch_size = 2.5: expected a whole number"),
        ({"patience": 0}, "patience = 0: expected 1 or more"),
        ({"optimizers": ["adam"]}, "race takes optimizers as names"),
        ({"patient": 3}, "did you mean 'patience'"),
        ({"settings": {"weight_decay": -1.0}}, "weight_decay = -1.0: give a number of 0 or more"),
        ({"names": [optax.adam]}, "give functions as a mapping"),
        ({"names": {"mine": optax.adam(0.1)}}, "has its learning rate already"),
        ({"names": {"mine": lambda rate: rate}}, "returns a float, expected an optax.GradientTransformation"),
        ({"names": {"../mine": optax.adam}}, "cannot name a folder"),
        ({"split": SPLIT.train}, "split: ndarray has no 'train'"),
    ],
)
def test_invalid_arguments_are_refused_before_anything_runs(options, message):
    options = {"examples": GOOD, "split": SPLIT, "learning_rates": [0.1], "names": ["sgd"], **options}
    with refused_in_one_line(message):
        mllab.race(problems.model(), options.pop("examples"), options.pop("split"), **options)


def test_a_loss_or_metric_that_is_not_one_number_per_example_is_refused():
    model = plain(lambda key: {"w": jnp.zeros((6, 1))}, lambda params, x: x @ params["w"])

    def error(outputs, targets):
        return (outputs - targets[:, None]) ** 2  # [B, 1]

    run = training.supervised(
        model.init,
        training.objective(model, error),
        lambda hyper: optax.sgd(0.1),
        training.measure(model, lambda outputs, targets: {"loss": error(outputs, targets)}),
    )
    (schedule, held_out), state = problems.rows(), run.start({}, jax.random.key(0))
    with pytest.raises(UserError, match=r"shape \(8, 1\): return one number per example"):
        run.advance({}, state, GOOD, jax.tree.map(lambda a: a[0], schedule))
    with pytest.raises(UserError, match=r"shape \(10, 1\) for \(10,\) examples: return one number per example"):
        run.score({}, state, GOOD, held_out)


@pytest.mark.slow
def test_what_users_write_is_accepted_and_means_the_same():
    """Lists for arrays, one name, one rate, a number of seeds, a path as text, half precision."""
    common = {"epochs": 2, "batch_size": 9}
    arrays = mllab.race(problems.model(), GOOD, SPLIT, names=["sgd"], learning_rates=[0.1], seeds=[0, 1], **common)
    lists = {name: values.tolist() for name, values in GOOD.items()}
    split = Split(SPLIT.train.tolist(), SPLIT.validation.tolist(), SPLIT.test.tolist())
    listed = mllab.race(problems.model(), lists, split, names="sgd", learning_rates=0.1, seeds=2, **common)
    np.testing.assert_array_equal(arrays.entries[0].train_loss, listed.entries[0].train_loss)
    half = {**GOOD, "inputs": GOOD["inputs"].astype(np.float16)}
    rounded = mllab.race(problems.model(), half, SPLIT, names="sgd", learning_rates=0.1, seeds=2, **common)
    np.testing.assert_allclose(arrays.entries[0].train_loss, rounded.entries[0].train_loss, atol=0.01)


def test_a_race_without_a_finite_lane_says_so():
    raced = mllab.race(problems.model(), GOOD, SPLIT, names="sgd", learning_rates=1e30, seeds=1, epochs=2, batch_size=9)
    (entry,) = raced.entries
    assert entry.best is entry.learning_rate is raced.winner is None
    assert entry.test == {}
    with refused_in_one_line("sgd has no params to publish: every learning rate has a non-finite lane"):
        mllab.published(entry)
    with refused_in_one_line("entry: NoneType, expected an entry of a race"):
        mllab.published(raced.winner)
    assert "no learning rate without a non-finite lane" in repr(entry)
    assert raced.table().splitlines()[-1] == "every rate has a non-finite lane"


# ── Optimizers as values, regression of several outputs, tables ─────────────────────────────────────────────────────


@pytest.mark.slow
def test_an_optimizer_may_be_a_function_of_the_learning_rate():
    """It runs beside those of the table, which are the same functions, in lanes of traced rates."""
    names = {"adam": "adam", "mine": optax.adam, "adabelief": optax.adabelief}
    raced = mllab.race(
        problems.model(), GOOD, SPLIT, names=names, learning_rates=[0.01, 0.1], seeds=2, epochs=3, batch_size=9,
        settings={"schedule": "one_cycle", "weight_decay": 0.01, "average": 0.9},
    )  # fmt: skip
    assert [entry.optimizer for entry in raced.entries] == list(names)
    table, mine, belief = raced.entries
    np.testing.assert_array_equal(table.train_loss, mine.train_loss)
    assert not np.array_equal(table.train_loss, belief.train_loss)
    assert belief.learning_rate in raced.learning_rates
    assert mllab.published(belief)[0][0].w.shape == (6, 8)


@pytest.mark.slow
def test_regression_of_several_outputs_has_scikit_learns_scores_in_the_unit_of_the_targets():
    draw = np.random.default_rng(0)
    inputs = draw.normal(size=(60, 4)).astype(np.float32)
    weights = draw.normal(size=(4, 2)) * [1, 10]
    targets = (inputs @ weights + draw.normal(size=(60, 2))).astype(np.float32)
    for columns in (targets, targets[:, :1], targets[:, 0]):
        examples = {"inputs": inputs, "targets": columns}
        model = linear.model((4,), 1 if columns.ndim == 1 else columns.shape[1])
        raced = mllab.race(
            model, examples, SPLIT, task="regression", names="adam", learning_rates=[0.3], seeds=1, epochs=20,
            batch_size=18,
        )  # fmt: skip
        entry = raced.winner
        params, _ = mllab.published(entry)
        values = np.asarray(linear.apply(params, inputs[SPLIT.test])).reshape(columns[SPLIT.test].shape)
        true = columns[SPLIT.test]
        np.testing.assert_allclose(entry.test["rmse"], [root_mean_squared_error(true, values)], rtol=1e-4)
        np.testing.assert_allclose(entry.test["r2"], [r2_score(true, values)], rtol=1e-4)
        np.testing.assert_allclose(entry.test["loss"], [mean_squared_error(true, values)], rtol=1e-4)
        assert raced.chance_loss == pytest.approx(
            np.mean((columns[SPLIT.validation] - columns[SPLIT.train].mean(axis=0)) ** 2), rel=1e-5
        )
    assert repr(raced).startswith(
        "Race(adam; 1 learning rates × 1 seeds; winner: Entry(adam at learning rate 0.3: test"
    )
    header, _, row, *caption = raced.table().splitlines()
    assert "best rate" in header
    assert row.startswith("adam")  # alone, without a mark
    assert "RMSE" in header
    assert "1 seed: no interval" in " ".join(caption)


# ── Settings and results ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"settings": {"schedule": "one_cycle"}},
        {"settings": {"clip_norm": 1e-3}},
        {"settings": {"weight_decay": 1.0}},
        {"shared_batches": True},
    ],
)
def test_settings_change_the_run(options):
    def go(**more):
        raced = mllab.race(
            problems.model(),
            GOOD,
            SPLIT,
            names=["sgd"],
            learning_rates=[0.1],
            seeds=[0, 1],
            epochs=3,
            batch_size=9,
            **more,
        )
        return raced.entries[0]

    assert not np.array_equal(go().train_loss, go(**options).train_loss)


@pytest.mark.slow
def test_the_published_params_are_the_evaluation_params_of_the_best_lane():
    raced = mllab.race(
        problems.model(), GOOD, SPLIT, names=["schedule_free_adam"], learning_rates=[0.001, 0.1], seeds=[3, 4],
        epochs=6, batch_size=9,
    )  # fmt: skip
    entry = raced.winner
    params = racing.published(entry)[0]
    x, y = (GOOD[name][SPLIT.validation] for name in ("inputs", "targets"))
    hidden, out = params
    logits = np.maximum(x @ hidden.w + hidden.b, 0) @ out.w + out.b
    np.testing.assert_allclose(np.mean(logits.argmax(axis=1) == y), entry.score[entry.best].max())


@pytest.mark.slow
def test_every_optimizer_races():
    raced = mllab.race(
        problems.model(), GOOD, SPLIT, names=list(optimizers.OPTIMIZERS), learning_rates=[0.03, 0.3], seeds=[0, 1],
        epochs=8, batch_size=36,
    )  # fmt: skip
    better = {entry.optimizer: (entry.loss[-1] < entry.loss[0]).any() for entry in raced.entries}
    assert all(better.values()), better
