"""A race over folds, and its refit: lanes equal runs by hand, nothing leaks, and what is refused."""

import dataclasses

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import mllab
from mllab import race_checks, race_results, race_rows, racing, rows, training, validation
from mllab.data import catalog, refitted
from mllab.data.dataset import Split
from mllab.models import linear
from mllab.schemes import Scheme
from support import problems, table_problems
from support.mistakes import refused_in_one_line

SPLIT = Split(np.arange(0, 36), np.arange(36, 48), np.arange(48, 60))
RAW = problems.examples(60)
FOLDS = validation.folds(np.arange(48), 3, seed=5, targets=RAW["targets"])
RATES, SEEDS, EPOCHS, BATCH = [0.03, 0.3], [2, 7], 3, 8


def source(ids):
    """The examples with inputs standardised by some rows."""
    inputs = RAW["inputs"]
    return {"inputs": (inputs - inputs[ids].mean(axis=0)) / inputs[ids].std(axis=0), "targets": RAW["targets"]}


def race(**options):
    options = {"folds": FOLDS, "refit": True, "names": "sgd", "learning_rates": RATES, "seeds": SEEDS} | options
    return mllab.race(problems.model(), source, SPLIT, epochs=EPOCHS, batch_size=BATCH, **options)


@pytest.fixture(scope="module")
def compiled():
    return []


@pytest.fixture(scope="module")
def raced(compiled):
    """A race over three folds with a refit, and the names of the programs that were compiled for it."""
    with pytest.MonkeyPatch.context() as patch:
        lower = training.compile_ahead
        patch.setattr(training, "compile_ahead", lambda *args, **options: (compiled.append(1), lower(*args, **options)))
        return race()


@pytest.fixture(scope="module")
def by_hand():
    """A run of the same model and optimizer, not in lanes."""
    return problems.run(optax.sgd)


def driven(run, rate, seed, examples, train, held_out, epochs=EPOCHS):
    schedule = rows.minibatches(train, BATCH, epochs, [seed])
    return training.drive(
        run, {"learning_rate": jnp.asarray(rate)}, jax.random.key(seed), examples, schedule, held_out=held_out,
        segment=schedule.ids.shape[1] // epochs,
    )  # fmt: skip


def test_each_lane_is_the_run_of_its_fold_alone(raced, by_hand):
    (entry,) = raced.entries
    assert entry.score.shape == (len(RATES), 3 * len(SEEDS))
    for fold, (rate, seed) in ((0, (0, 1)), (2, (1, 0))):
        part = raced.parts[fold]
        np.testing.assert_array_equal(
            np.sort(part.held_out), np.sort(FOLDS.held_out.ids[fold][FOLDS.held_out.weight[fold] > 0])
        )
        alone = driven(by_hand, RATES[rate], SEEDS[seed], source(part.train), part.train, part.held_out)
        lane = fold * len(SEEDS) + seed
        np.testing.assert_allclose(entry.train_loss[:, rate, lane], alone.history.train_loss, rtol=1e-4)
        np.testing.assert_allclose(entry.loss[:, rate, lane], alone.history.held_out["loss"], rtol=1e-4)
        np.testing.assert_allclose(entry.curve[:, rate, lane], alone.history.held_out["accuracy"], rtol=1e-5)
        assert entry.kept_epoch[rate, lane] == 1 + np.argmin(alone.history.held_out["loss"])


def test_the_refit_is_the_run_on_all_training_and_validation_rows(raced, by_hand):
    (entry,) = raced.entries
    everything = np.arange(48)
    np.testing.assert_array_equal(raced.refit_ids, everything)
    assert entry.refit.epochs == max(1, int(entry.kept_epoch[entry.best].mean() + 0.5))
    assert entry.refit.steps == entry.refit.epochs * 6
    examples = source(everything)
    for position, seed in enumerate(SEEDS):
        alone = driven(by_hand, entry.learning_rate, seed, examples, everything, everything[:10], entry.refit.epochs)
        params, _ = mllab.published(entry, position)
        for one, other in zip(jax.tree.leaves(params), jax.tree.leaves(alone.state.params), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)
        logits = np.asarray(problems.model().apply(params, None, examples["inputs"][SPLIT.test], None)[0])
        correct = logits.argmax(axis=1) == RAW["targets"][SPLIT.test]
        assert entry.test["accuracy"][position] == pytest.approx(correct.mean())
    assert len(entry.test["accuracy"]) == len(SEEDS)
    first = jax.tree.leaves(mllab.published(entry, 0)[0])
    np.testing.assert_array_equal(jax.tree.leaves(mllab.published(entry)[0])[0], first[0])


def test_the_folds_are_lanes_of_one_program_and_the_refit_adds_one(raced, compiled):
    assert raced.folds == 3
    assert len(compiled) == 2  # one optimizer: its lanes, its refit


def test_intervals_are_over_folds_and_corrected_for_shared_training_rows(raced):
    (entry,) = raced.entries
    by_fold = entry.score[entry.best].reshape(3, len(SEEDS)).mean(axis=1)
    expected = validation.interval(by_fold, 3)
    np.testing.assert_allclose(raced.interval(entry.score[entry.best])[:3], expected[:3])
    (result,) = race_results.results(raced, RAW["targets"][SPLIT.test])
    assert (result.validation.seeds, result.test["accuracy"].seeds) == (3, len(SEEDS))
    assert race_results.expected_test_scores(entry, 3).size == 0
    better, worse = entry, entry._replace(optimizer="worse", score=entry.score - [[0.1], [0.1]])
    both = raced._replace(entries=[worse, better])
    assert both.standing.tied == ["sgd"]
    assert both.standing.seeds == 3
    by_validation, by_test = race_results.leads(both, race_results.results(both, RAW["targets"][SPLIT.test]))
    assert (by_validation.by.seeds, by_test.by.seeds) == (3, len(SEEDS))
    assert by_validation.by.mean == pytest.approx(10)
    assert "refitted to all training" in " ".join(raced.table().split())


class Stopped(Exception):
    pass


def test_stopped_in_the_refit_it_resumes_to_the_same_bits_and_other_folds_are_refused(raced, tmp_path):
    def stop(event):
        if isinstance(event, training.Segment) and event.number == 1:
            raise Stopped

    options = {"workdir": tmp_path, "checkpoint_seconds": 0.0}
    with pytest.raises(Stopped):
        race(**options, observe_refit=lambda name, grid, steps: [stop])
    seen = []
    resumed = race(**options, observe_refit=lambda name, grid, steps: [seen.append])
    assert seen[0].restored
    assert problems.equal(resumed.entries[0].refit.result.state, raced.entries[0].refit.result.state)
    np.testing.assert_array_equal(resumed.entries[0].test["loss"], raced.entries[0].test["loss"])
    with refused_in_one_line("checkpoint"):
        race(**options, folds=validation.folds(np.arange(48), 3, seed=6, targets=RAW["targets"]))


@pytest.mark.slow
def test_shuffled_labels_score_chance_over_folds_and_after_a_refit():
    draw = np.random.default_rng(0)
    inputs = draw.normal(size=(500, 4)).astype(np.float32)
    examples = {"inputs": inputs, "targets": draw.integers(0, 2, 500).astype(np.int32)}
    split = Split(np.arange(200), np.arange(200, 300), np.arange(300, 500))
    made = mllab.race(
        linear.model((4,), 2), examples, split, folds=4, refit=True, names="sgd", learning_rates=0.1, seeds=2, epochs=2
    )
    (entry,) = made.entries
    assert abs(made.interval(entry.score[0]).mean - 0.5) < 0.09  # three standard deviations of 300 rows
    assert abs(entry.test["accuracy"].mean() - 0.5) < 0.11
    assert sorted(np.concatenate([part.held_out for part in made.parts])) == list(range(300))
    for part in made.parts:  # stratified by class
        counts = np.bincount(examples["targets"][part.held_out]) / np.bincount(examples["targets"][:300])
        np.testing.assert_allclose(counts, 0.25, atol=0.02)


# ── Preprocessing ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["table", "moons"])
def test_the_rows_that_a_fold_holds_out_do_not_change_how_others_are_preprocessed(tmp_path, name):
    if name == "table":
        data = table_problems.loaded(tmp_path / "own.csv", "price")
        columns = data.columns
        changed = columns._replace(numbers=columns.numbers.copy(), codes=columns.codes.copy())
    else:
        data = catalog.load("moons")
        changed = data.inputs.copy()
    folds = validation.folds(race_rows.choosing(data.split), 3, seed=0)
    parts = race_rows.parts_of(data.split, folds)
    others = np.concatenate([parts[0].held_out, data.split.test])
    if name == "table":
        changed.numbers[others] += 1000
        changed.codes[others] = 0
        other = dataclasses.replace(data, columns=changed)
    else:
        changed[others] += 1000
        other = dataclasses.replace(data, inputs=changed)
    count = len(data.targets)
    one, two = (race_rows.encoded(refitted.source(each), parts) for each in (data, other))
    assert one.offsets == (0, count, 2 * count)
    ids = parts[0].train
    np.testing.assert_allclose(one.examples["inputs"][ids], two.examples["inputs"][ids], atol=1e-5)
    assert not np.allclose(one.examples["inputs"][count + ids], two.examples["inputs"][count + ids], atol=1e-2)
    inputs = one.examples["inputs"]
    numbers = len(data.schema.numeric) if data.schema else 2
    for fold, part in enumerate(parts):
        np.testing.assert_allclose(inputs[fold * count + part.train, :numbers].mean(axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(inputs[fold * count + part.train, :numbers].std(axis=0), 1, atol=1e-4)


def test_inputs_that_cannot_be_fitted_anew_are_refused():
    data = dataclasses.replace(catalog.load("moons"), standardised=False)
    with refused_in_one_line("the inputs of moons are fitted to the training rows of its split"):
        refitted.inputs_by(data, data.split.train)


def test_another_split_moves_the_unit_of_the_target_and_not_its_values(tmp_path):
    data = table_problems.loaded(tmp_path / "own.csv", "price")
    values, split = data.inverse(data.targets), Split(np.arange(30), np.arange(30, 30), np.arange(30, 60))
    other = refitted.with_split(data, split)
    np.testing.assert_allclose(other.inverse(other.targets), values, rtol=1e-5)
    np.testing.assert_allclose(other.targets[:30].mean(), 0, atol=1e-5)
    assert other.target_mean == pytest.approx(values[:30].mean())


# ── Rows ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_all_folds_take_as_many_steps_and_smaller_ones_are_passed_over_again():
    folds = Scheme(seed=0, times=np.arange(48.0)).folds(np.arange(48), 3)
    parts = race_rows.parts_of(SPLIT, folds)
    assert [len(part.train) for part in parts] == [12, 24, 36]
    schedule = race_rows.minibatches(parts, (0, 60, 120), 6, 2, [0, 1])
    assert schedule.ids.shape == (6, 12, 6)
    for lane, (ids, weight) in enumerate(zip(*schedule, strict=True)):
        part = parts[lane // 2]
        times = np.bincount(ids[weight > 0] - 60 * (lane // 2), minlength=48)
        assert set(times[part.train]) == {(6, 3, 2)[lane // 2]}
        assert not np.delete(times, part.train).any()
    np.testing.assert_array_equal(schedule.ids[4], 120 + rows.minibatches(parts[2].train, 6, 2, [0]).ids[0])
    held_out = race_rows.scored([part.held_out for part in parts], (0, 60, 120), 12, 2)
    assert held_out.ids.shape[0] == 6
    np.testing.assert_array_equal(np.unique(held_out.ids[2]), 60 + parts[1].held_out)


OF_ALL_ROWS = validation.folds(np.arange(60), 5, seed=0)
LABELS = np.where(np.arange(60) < 3, 1, 0)


@pytest.mark.parametrize(
    ("folds", "options", "message"),
    [
        (1, {}, "folds = 1: expected 2 or more"),
        (-2, {}, "folds = -2: expected 2 or more"),
        (2.5, {}, "folds = 2.5: expected a whole number"),
        (49, {}, "49 folds of 48 rows"),
        (5, {"labels": LABELS}, "5 folds, and class '1' has 3 training and validation rows"),
        (OF_ALL_ROWS, {}, "neither a training nor a validation row"),
        (validation.holdout(np.arange(30), np.arange(30, 40)), {}, "one fold has no interval"),
    ],
)
def test_folds_that_do_not_fit_the_rows_are_refused(folds, options, message):
    with refused_in_one_line(message):
        race_rows.parts_of(SPLIT, folds, **options)


def test_a_race_without_validation_rows_needs_folds():
    split = Split(np.arange(48), np.arange(0), np.arange(48, 60))
    with refused_in_one_line("no validation rows"):
        mllab.race(problems.model(), RAW, split, refit=True, names="sgd", learning_rates=0.1)
    assert len(race_rows.parts_of(split, 3)) == 3


def test_the_memory_check_counts_folds_copies_and_the_refit(monkeypatch):
    needed = {}
    monkeypatch.setattr(race_checks.memory, "check", lambda size, what, remedy, devices=(): needed.update({what: size}))
    common = {"rates": 2, "seeds": 3, "epochs": 4, "batch_size": 8, "settings": {}}

    def sizes(**more):
        needed.clear()
        racing.check_memory(problems.model(), RAW, ["sgd"], count=32, **common, **more)
        return list(needed.values())

    one, folds, refit = sizes(), sizes(folds=3), sizes(folds=3, refit=48, copies=True)
    assert folds[1] == 3 * one[1]  # the lanes
    assert folds[0] == 3 * one[0]  # their minibatches
    assert len(refit) == len(folds) + 1  # the inputs of three folds and of the refit
    assert refit[2] * 6 == one[1] * (18 + 3)
