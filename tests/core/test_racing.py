"""The race's judgement: what is chosen, what is lost, and what the table says of it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.dummy import DummyClassifier
from sklearn.metrics import log_loss, r2_score

import mllab
from experiments import flags as shared
from mllab import losses, metrics, optimizers, racing, training
from mllab.data.dataset import Split
from mllab.errors import UserError
from mllab.models import initializers, mlp
from mllab.models.base import plain
from mllab.report import race as report
from support import problems

SPLIT = Split(np.arange(36), np.arange(36, 48), np.arange(48, 60))
STEPS = np.array([10, 20, 30])


def judged(accuracy, loss=None, nonfinite=None, chance=1.0):
    """An entry from hand-written accuracies [E, R, G]; the loss falls as the accuracy rises, where none is given."""
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
    return racing.judge("adam", result, rates, chance, np.array([0, 1]), "classification")


def test_the_rate_with_the_best_mean_score_of_kept_params_is_chosen():
    # The second rate ends lower than it was: what was kept, at its least loss, counts.
    entry = judged([[[0.5, 0.5], [0.9, 0.9]], [[0.6, 0.8], [0.2, 0.3]]])
    np.testing.assert_allclose(entry.score, [[0.6, 0.8], [0.9, 0.9]])
    assert entry.best == 1
    assert entry.curve.shape == (2, 2, 2)


def test_a_rate_that_lost_a_lane_is_not_eligible():
    entry = judged([[[0.5, 0.5], [0.9, 0.9]]], nonfinite=[[-1, -1], [-1, 17]])
    assert entry.best == 0
    assert np.isnan(entry.score[1, 1])
    assert entry.nonfinite_step[1, 1] == 17
    assert judged([[[0.5], [0.9]]], nonfinite=[[3], [4]]).best is None


def test_no_better_than_chance_has_failed_and_is_not_the_same_as_lost():
    entry = judged([[[0.1, 0.1, 0.1]]], loss=[[[0.9, 1.0, 5.0]]], nonfinite=[[-1, -1, 2]], chance=1.0)
    np.testing.assert_array_equal(entry.failed, [[False, True, False]])


@pytest.mark.parametrize(
    ("scores", "decades", "low", "high"),
    [
        ([0.5, 0.9, 0.5, 0.5], 0, False, False),
        ([0.895, 0.9, 0.895, 0.5], 2, True, False),
        ([0.9, 0.9, 0.9, 0.9], 3, True, True),
        ([0.9, 0.5, 0.9, 0.901], 1, False, True),  # what is close beyond a gap does not count
        ([0.5, 0.889, 0.9, 0.5], 0, False, False),  # more than a point away
    ],
)
def test_width_is_the_decades_around_the_best_within_a_point(scores, decades, low, high):
    made = racing.width(judged([[[score] for score in scores]]), np.array([1e-4, 1e-3, 1e-2, 1e-1]))
    np.testing.assert_allclose(made.decades, decades, atol=1e-12)
    assert (made.open_low, made.open_high) == (low, high)


def test_steps_to_a_score_are_to_the_segment_and_nan_where_never():
    entry = judged([[[0.5, 0.5, 0.1]], [[0.7, 0.6, 0.1]], [[0.6, 0.8, 0.1]]])
    np.testing.assert_array_equal(racing.steps_to(entry, STEPS, 0.7), [20, 30, np.nan])


@settings(max_examples=50)
@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=9).filter(lambda values: np.std(values) > 1e-6))
def test_the_interval_is_students(values):
    made = metrics.interval(np.array(values))
    low, high = scipy.stats.t.interval(
        0.95, len(values) - 1, np.mean(values), np.std(values, ddof=1) / np.sqrt(len(values))
    )
    np.testing.assert_allclose([made.mean, made.low, made.high], [np.mean(values), low, high], rtol=1e-6, atol=1e-6)
    assert np.isnan(metrics.interval(np.array(values[:1]))[1:3]).all()


def test_chance_is_what_scikit_learns_dummy_loses():
    draw = np.random.default_rng(0)
    targets = draw.choice(3, 100, p=[0.6, 0.3, 0.1])
    train, rows = np.arange(60), np.arange(60, 100)
    dummy = DummyClassifier(strategy="prior").fit(np.zeros((60, 1)), targets[train])
    theirs = log_loss(targets[rows], dummy.predict_proba(np.zeros((40, 1))), labels=[0, 1, 2])
    np.testing.assert_allclose(metrics.chance_loss(targets, train, rows, "classification"), theirs, rtol=1e-6)
    assert np.isfinite(metrics.chance_loss(np.array([0, 0, 0, 1]), np.arange(3), np.array([3]), "classification"))
    values = draw.normal(size=100)
    squared = np.mean((values[rows] - values[train].mean()) ** 2)
    np.testing.assert_allclose(metrics.chance_loss(values, train, rows, "regression"), squared)


def test_r_squared_is_scikit_learns():
    draw = np.random.default_rng(0)
    targets, values = draw.normal(size=(2, 50))
    made = metrics.r_squared(np.mean((values - targets) ** 2), targets)
    np.testing.assert_allclose(made, r2_score(targets, values))
    assert np.isfinite(metrics.r_squared(0.5, np.ones(3)))


def test_cross_entropy_bears_logits_of_minus_infinity():
    logits = jnp.array([[0.0, 1.0, -jnp.inf]])
    np.testing.assert_allclose(losses.cross_entropy(logits, jnp.array([1])), np.log1p(np.exp(-1)), rtol=1e-6)
    gradient = jax.grad(lambda z: losses.cross_entropy(z, jnp.array([1])).sum())(jnp.array([[0.3, -0.2, 0.5]]))
    np.testing.assert_allclose(gradient, jax.nn.softmax(jnp.array([[0.3, -0.2, 0.5]])) - jnp.eye(3)[1:2], atol=1e-6)


# ── What a race refuses ─────────────────────────────────────────────────────────────────────────────────────────────

GOOD = problems.examples(60)
NAN = {**GOOD, "inputs": np.where(np.arange(60)[:, None] == 7, np.nan, GOOD["inputs"]).astype(np.float32)}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"examples": {**GOOD, "targets": GOOD["targets"] + 1}}, "classes 1 to 3"),
        ({"examples": {**GOOD, "targets": GOOD["targets"] - 1}}, "classes -1 to 1"),
        ({"examples": {**GOOD, "targets": GOOD["targets"].astype(float)}}, "whole numbers"),
        ({"examples": {**GOOD, "targets": GOOD["targets"][:50]}}, "not an array of 50 rows"),
        ({"examples": {**GOOD, "inputs": GOOD["inputs"].tolist()}}, "not an array of 60 rows"),
        ({"examples": NAN}, "not finite, first in row 7"),
        ({"examples": {**GOOD, "targets": np.ones((60, 1), np.float32)}, "task": "regression"}, r"targets \[N\]"),
        ({"split": dataclasses.replace(SPLIT, test=np.array([60]))}, "test rows from 60 to 60: there are rows 0 to 59"),
        ({"split": dataclasses.replace(SPLIT, test=np.array([], int))}, "no test rows"),
        ({"split": dataclasses.replace(SPLIT, test=np.array([0]))}, "two parts of the split"),
        ({"task": "clasification"}, "did you mean 'classification'"),
        ({"names": []}, "name one or more"),
        ({"names": ["adm"]}, "did you mean 'adam'"),
        ({"settings": {"clip_norm": 0.0}}, "clip_norm = 0"),
        ({"settings": {"weight_decay": float("nan")}}, "finite"),
        ({"learning_rates": [0.1, 0.1]}, "each once"),
        ({"seeds": []}, "seeds"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_runs(options, says):
    options = {"examples": GOOD, "split": SPLIT, "learning_rates": [0.1], "names": ["sgd"], **options}
    with pytest.raises(UserError, match=says) as caught:
        mllab.race(problems.model(), options.pop("examples"), options.pop("split"), **options)
    assert "\n" not in str(caught.value)


def test_a_loss_that_is_not_one_number_an_example_is_refused():
    model = plain(lambda key: {"w": jnp.zeros((6, 1))}, lambda params, x: x @ params["w"])
    run = training.supervised(
        model.init,
        training.objective(model, lambda outputs, targets: (outputs - targets[:, None]) ** 2),  # [B, 1]
        lambda hyper: optax.sgd(0.1),
        lambda *_: {"loss": jnp.zeros(8)},
    )
    (schedule, _), key = problems.rows(), jax.random.key(0)
    with pytest.raises(UserError, match=r"shape \(8, 1\) for \(8,\) examples"):
        run.advance({}, run.start({}, key), GOOD, jax.tree.map(lambda a: a[0], schedule))


# ── Settings that reach the training ────────────────────────────────────────────────────────────────────────────────


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


def test_the_published_params_are_the_best_lanes_evaluation_params():
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


# ── Starting weights ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("activation", "deviation"), [("relu", (2 / 300) ** 0.5), ("tanh", (2 / 500) ** 0.5), ("selu", 300**-0.5)]
)
def test_initial_weights_have_the_spread_of_the_papers(activation, deviation):
    hidden, out = mlp.init(jax.random.key(0), (300, 200, 100), activation)
    np.testing.assert_allclose(np.std(hidden.w), deviation, rtol=0.02)
    np.testing.assert_allclose(np.std(out.w), (2 / 300) ** 0.5, rtol=0.02)
    assert not np.any(hidden.b)
    assert abs(np.corrcoef(hidden.w[:100].ravel(), out.w.ravel()[: 100 * 200])[0, 1]) < 0.05


def test_a_convolutions_window_counts_as_inputs():
    np.testing.assert_allclose(initializers.he((3, 3, 16, 32)), (2 / 144) ** 0.5)
    np.testing.assert_allclose(initializers.glorot((3, 3, 16, 32)), (2 / (9 * 48)) ** 0.5)


@pytest.mark.parametrize("activation", mlp.ACTIVATIONS)
def test_gradients_of_the_mlp_equal_finite_differences(activation):
    with jax.enable_x64(True):
        params = mlp.init(jax.random.key(0), (6, 5, 3), activation)
        examples = problems.examples(12, dtype=np.float64)

        def loss(params):
            logits = mlp.apply(params, examples["inputs"], mlp.ACTIVATIONS[activation])
            return losses.cross_entropy(logits, examples["targets"]).mean()

        gradient = jax.grad(loss)(params)
        for layer, name in ((0, "w"), (0, "b"), (1, "w"), (1, "b")):
            leaf = np.asarray(getattr(params[layer], name))
            at = tuple(0 for _ in leaf.shape)
            moved = [leaf.copy(), leaf.copy()]
            moved[0][at] -= 1e-6
            moved[1][at] += 1e-6
            low, high = (
                loss(tuple(p.replace(**{name: m}) if i == layer else p for i, p in enumerate(params))) for m in moved
            )
            np.testing.assert_allclose(getattr(gradient[layer], name)[at], (high - low) / 2e-6, rtol=1e-5, atol=1e-9)


# ── What is said ────────────────────────────────────────────────────────────────────────────────────────────────────


def summary(**changed):
    entry = {
        "learning_rate": 0.1,
        "test": {"accuracy": (0.9, 0.88, 0.92, 3)},
        "steps_to_target": [10, 20, np.nan],
        "width": {"decades": 1.5, "open_low": False, "open_high": True},
        "nonfinite": [],
        "failed": [],
    }
    lost = {
        "nonfinite": [{"learning_rate": 1.0, "seed": seed, "step": 4 + seed} for seed in (0, 2)],
        "failed": [{"learning_rate": 0.1, "seed": seed} for seed in (0, 1, 2)],
    }
    return {
        "winner": "adam",
        "ahead": {"of": "sgd", "by": (1.0, 0.4, 1.6, 3), "unit": "points"},
        "seeds": [0, 1, 2],
        "learning_rates": [0.1, 1.0],
        "lanes_each": 6,
        "target": 0.88,
        "score": {"label": "accuracy", "reported": [{"name": "accuracy", "label": "accuracy"}]},
        "optimizers": [{"optimizer": "adam", **entry}, {"optimizer": "sgd", **entry, **lost}],
        **changed,
    }


def test_the_table_says_what_the_summary_holds():
    table = report.race_table(summary())
    assert table.best == 0
    assert table.rows[0] == ["adam", "0.1", "0.90 ± 0.02", "15 (2/3 seeds)", "≥1.5", "0/6", "0/6"]
    assert table.rows[1][-2:] == ["2/6", "3/6"]
    assert report.lost_lanes(summary()) == [
        "sgd at 0.1: failed: no better than chance (every seed)",
        "sgd at 1: non-finite from step 4, 6 (seeds 0, 2)",
    ]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({}, "it is ahead of sgd"),
        ({"ahead": {"of": "sgd", "by": (-1.0, -1.6, -0.4, 3), "unit": "points"}}, "it is behind sgd"),
        ({"ahead": {"of": "sgd", "by": (0.1, -0.4, 0.6, 3), "unit": "points"}}, "not clearly ahead of sgd"),
        ({"ahead": {"of": "sgd", "by": (0.1, np.nan, np.nan, 1), "unit": "points"}, "seeds": [0]}, "(1 seed)"),
        ({"ahead": None}, "(3 seeds)."),
        ({"winner": "sgd"}, "no better than chance"),
        ({"winner": None, "target": None}, "No optimizer kept all its lanes finite"),
    ],
)
def test_the_answer_says_who_won_and_by_how_much(changed, says):
    assert says in report.answer(summary(**changed))
    assert report.race_table(summary(**changed)).lines()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0.1,0.01", [0.1, 0.01]), ("1e-4:1:5", [1e-4, 1e-3, 1e-2, 1e-1, 1.0]), ("0.5", [0.5]), ("2:2:1", [2.0])],
)
def test_rates_by_flag(text, expected):
    np.testing.assert_allclose(shared.numbers(text, "learning_rates"), expected)


@pytest.mark.parametrize(
    "text", ["", "a", "1:2", "1:2:3:4", "0", "-1", "nan", "inf", "1:0.1:3", "1:2:0", "1:2:1", "1:2:x"]
)
def test_rates_that_make_no_sense_by_flag(text):
    with pytest.raises(UserError, match="--learning_rates"):
        shared.numbers(text, "learning_rates")


def test_every_optimizer_races(tmp_path):
    raced = mllab.race(
        problems.model(), GOOD, SPLIT, names=list(optimizers.OPTIMIZERS), learning_rates=[0.03, 0.3], seeds=[0, 1],
        epochs=8, batch_size=36,
    )  # fmt: skip
    better = {entry.optimizer: (entry.loss[-1] < entry.loss[0]).any() for entry in raced.entries}
    assert all(better.values()), better
