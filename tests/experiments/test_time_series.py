"""Forecasts of series end to end: no look into the future, honest verdicts, replay and resumption, and mistakes."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import series_page, series_scores, series_training, time_series
from experiments.series_scores import Forecasts, compare, score
from mllab import devices, forecasting
from mllab.forecasting import TRANSFORMS
from mllab.models.recurrent import CELLS, forecaster
from support.mistakes import refused_in_one_line
from support.workdirs import records_of

DRAW = np.random.default_rng(0)
WALKED = DRAW.normal(size=100).cumsum() + 50
TINY = {
    "cells": ("tanh",), "hidden": 4, "window": 8, "horizon": 3, "blocks": 2, "steps": 12, "batch_size": 8, "seeds": 2,
    "learning_rates": (0.01, 0.03), "devices": 2,
}  # fmt: skip


def write(folder, values):
    path = folder / "series.csv"
    path.write_text("value\n" + "".join(f"{each!r}\n" for each in np.asarray(values).tolist()))
    return str(path)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A run on a random walk: folder, file and measurement."""
    folder = tmp_path_factory.mktemp("series")
    path = write(folder, WALKED)
    return folder / "w", path, time_series.run(dataset=path, workdir=str(folder / "w"), **TINY)


# ── No look into the future ─────────────────────────────────────────────────────────────────────────────────────────


def trained(values, walk, transform=TRANSFORMS["difference"], **options):
    plan = series_training.plan(values, transform, walk, window=8, period=1, pairs=0)
    settings = {"rates": (0.01, 0.03), "seeds": 2, "steps": 6, "segments": 2, "batch_size": 8, "optimizer": "adam"}
    return series_training.train(
        plan, {"cell": "tanh", "hidden": 3, "layers": 1, "dropout": 0.0}, settings={},
        mesh=devices.mesh(1), observe=lambda *_: [], **settings | options,
    )  # fmt: skip


@pytest.mark.slow
def test_what_comes_later_changes_no_forecast():
    """Forecasts from origins before a change, those of the first test block included, are the same to the bit."""
    walk = forecasting.walk(len(WALKED), 3, blocks=2)
    place = walk.test[0].end
    other = WALKED.copy()
    other[place:] = DRAW.normal(90, 30, len(WALKED) - place)
    before, after = trained(WALKED, walk), trained(other, walk)
    assert (before.learning_rate, before.stop) == (after.learning_rate, after.stop)
    for one, two in zip(before.outputs[:2], after.outputs[:2], strict=True):
        np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(before.outputs[2][:, 0], after.outputs[2][:, 0])
    assert np.abs(before.outputs[2][:, 1:] - after.outputs[2][:, 1:]).min() > 0
    transform = TRANSFORMS["difference"]
    linear = [series_scores.autoregression(each, transform, walk, 1, 0) for each in (WALKED, other)]
    assert linear[0][0] == linear[1][0]
    np.testing.assert_array_equal(linear[0][1].validation, linear[1][1].validation)
    np.testing.assert_array_equal(linear[0][1].test[0], linear[1][1].test[0])
    for name in forecasting.NAIVE:
        origins = np.append(walk.origins("validation"), place - 1)
        naive = [forecasting.naive(name, each, origins, 3, 4) for each in (WALKED, other)]
        np.testing.assert_array_equal(*naive)


def test_windows_end_before_their_block_and_are_standardised_by_what_lies_before_it():
    walk = forecasting.walk(len(WALKED), 3, blocks=2)
    plan = series_training.plan(WALKED, TRANSFORMS["difference"], walk, 8, 1, 0)
    rows = series_training.training_windows(plan, walk.final, seeds=2, batch_size=50, steps=40)
    for lane, ids in enumerate(rows.ids):
        end = walk.final[lane // 2].end
        assert ids.min() == 1  # the first change
        assert ids.max() + 8 - 1 + 3 == end - 1  # the last value that a target of the last window reads
    assert not np.array_equal(rows.ids[0], rows.ids[1])
    changes = np.diff(WALKED)
    hyper = series_training.block_hyper(plan, walk.final, [each.origins for each in walk.final])
    for number, block in enumerate(walk.final):
        seen = changes[: block.end - 1]
        first = changes[: walk.final[0].end - 1]
        assert hyper["input_mean"][number] == pytest.approx((seen.mean() - first.mean()) / first.std(), abs=1e-5)
        assert hyper["input_scale"][number] == pytest.approx(seen.std() / first.std(), rel=1e-5)


@pytest.mark.parametrize("cell", ["tanh", pytest.param("lstm", marks=pytest.mark.slow)])
def test_a_forecast_reads_the_steps_before_it_alone(cell):
    model = forecaster.model(2, 5, cell=cell, hidden=3, layers=2)
    params, extra = model.init(jax.random.key(0))
    inputs = jnp.asarray(DRAW.normal(size=(2, 6, 2)), jnp.float32)
    outputs, _ = model.apply(params, extra, inputs, None)
    assert outputs.shape == (2, 6, 5)
    changed, _ = model.apply(params, extra, inputs.at[:, 4:].add(1.0), None)
    np.testing.assert_array_equal(outputs[:, :4], changed[:, :4])
    states = inputs
    for layer in params.layers:  # step by step
        carry, seen = CELLS[cell].initial_carry(layer, 2), []
        for t in range(6):
            carry, state = CELLS[cell].step(layer, carry, states[:, t])
            seen.append(state)
        states = jnp.stack(seen, axis=1)
    np.testing.assert_allclose(
        outputs, np.asarray(states) @ np.asarray(params.w_out) + np.asarray(params.b_out), rtol=1e-4, atol=1e-5
    )


# ── Verdicts ────────────────────────────────────────────────────────────────────────────────────────────────────────


def scores_of(values, walk, forecasts, name):
    scale = forecasting.mase_scale(values[: walk.test_start], 1)
    return score(name, "", forecasts, values, TRANSFORMS["none"], walk, scale, 0.9)


def noisy(values, walk, draw, size):
    """Forecasts that miss the truth by noise, of both parts."""
    parts = [forecasting.truth(values, walk.origins(part), walk.horizon) for part in ("validation", "test")]
    return Forecasts(*(part + draw.normal(0, size, part.shape) for part in parts), np.zeros(walk.horizon))


@pytest.mark.slow
@pytest.mark.parametrize(("size", "beats"), [(0.01, True), (30.0, False)])
def test_the_verdict_names_what_beats_every_naive_forecast(ran, size, beats):
    _, _, measured = ran
    walk = measured.walk
    contender = scores_of(WALKED, walk, noisy(WALKED, walk, np.random.default_rng(1), size), "autoregression")
    compared = compare(measured.naive, [contender], walk.horizon)
    assert compared[0].beats == beats
    found = dataclasses.replace(measured, models=[contender], comparisons=compared, trained=[])
    text = series_page.answer(found)
    assert text.startswith("autoregression beats every naive forecast" if beats else "Nothing beats ")
    assert found.winner.name == ("autoregression" if beats else found.best_naive.name)
    assert contender.coverage == pytest.approx(0.9, abs=0.15)


@pytest.mark.parametrize("kind", ["noise", "random walk"])
def test_nothing_beats_the_naive_forecasts_of_what_cannot_be_forecast(kind):
    """Over 20 series of either kind the autoregression wins rarely: the mean forecasts noise, the last value a walk."""
    wins, bests = 0, []
    for seed in range(20):
        draw = np.random.default_rng(seed)
        values = draw.normal(size=200)
        values = values if kind == "noise" else values.cumsum()
        walk, transform = forecasting.walk(200, 3), TRANSFORMS["none" if kind == "noise" else "difference"]
        naive = series_scores.naive_forecasts(values, transform, walk, 1)
        scores = [scores_of(values, walk, each, name) for name, each in naive.items()]
        _, linear = series_scores.autoregression(values, transform, walk, 1, 0)
        wins += compare(scores, [scores_of(values, walk, linear, "autoregression")], 3)[0].beats
        bests.append(min(scores, key=lambda each: each.test.mean).name)
    assert wins <= 2
    assert max(bests, key=bests.count) == ("mean" if kind == "noise" else "last value")


def test_scores_are_those_of_the_forecasts(ran):
    workdir, _, measured = ran
    walk = measured.walk
    truth = forecasting.truth(WALKED, walk.origins("test"), 3)
    scale = np.abs(np.diff(WALKED[60:80])).mean()  # of the validation part
    assert measured.mase_scale == pytest.approx(scale)
    summary = json.loads((workdir / "summary.json").read_text())
    for each, written in zip((*measured.naive, *measured.models), summary["naive"] + summary["models"], strict=True):
        missed = each.forecasts.test - truth
        assert written["test"][0] == pytest.approx(np.abs(missed).mean() / scale)
        assert written["rmse"] == pytest.approx(np.sqrt(np.mean(missed**2)))
        errors = np.abs(each.forecasts.validation - forecasting.truth(WALKED, walk.origins("validation"), 3))
        held = np.abs(missed) <= np.sort(errors, axis=0)[int(np.ceil(0.9 * (len(errors) + 1))) - 1]
        assert written["coverage"] == pytest.approx(held.mean())
    (cell,) = measured.models[1:]
    assert len(cell.by_seed) == 2
    assert np.mean(cell.by_seed) >= cell.test.mean - 1e-9  # absolute errors are convex
    assert cell.forecasts.future.shape == (3,)


def test_it_records_and_draws(ran):
    workdir, _, measured = ran
    records = records_of(workdir)
    lanes = [record for record in records if "cell" in record and "refit" not in record]
    assert len(lanes) == 2 * 2 * 2 * 6  # rates, blocks, seeds, segments
    assert {record["block"] for record in lanes} == {0, 1}
    assert {record["forecast"] for record in records if "forecast" in record} == {
        "last value", "mean", "drift", "autoregression", "tanh",
    }  # fmt: skip
    assert {path.stem for path in (workdir / "figures").iterdir()} == {"forecasts", "errors", "training"}
    assert measured.trained[0].stop in measured.trained[0].steps


@pytest.mark.slow
def test_the_same_flags_give_the_same_bits_and_a_workdir_of_others_is_refused(ran, tmp_path):
    workdir, path, measured = ran
    again = time_series.run(dataset=path, workdir=str(tmp_path / "w"), **TINY | {"checkpoint_seconds": 0.0})
    resumed = time_series.run(dataset=path, workdir=str(tmp_path / "w"), **TINY)  # with a checkpoint of each segment
    for each in (again, resumed):
        np.testing.assert_array_equal(each.models[1].forecasts.test, measured.models[1].forecasts.test)
        np.testing.assert_array_equal(each.trained[0].curves, measured.trained[0].curves)
    with refused_in_one_line("--window"):
        time_series.run(dataset=path, workdir=str(workdir), **TINY | {"window": 9})


@pytest.mark.slow
def test_cells_beat_everything_on_the_generated_series(tmp_path):
    measured = time_series.run(workdir=str(tmp_path / "w"), cells=("gru",), seeds=2, learning_rates=(0.01,), steps=200)
    assert measured.winner.name == "gru"
    assert measured.winner.test.mean < 0.6 * next(each for each in measured.models).test.mean
    assert 0.8 < measured.winner.coverage < 0.97


@pytest.mark.parametrize(
    ("values", "settings", "message"),
    [
        (WALKED, {"window": 70}, "60 values before the first forecast are fewer than 8 windows of 70 steps"),
        (WALKED, {"horizon": 10}, "a test part of 20, and a horizon of 10 with 2 blocks needs 21"),
        (WALKED - 60, {"transform": "log"}, "which has no logarithm: give none or difference"),
        (WALKED, {"period": 61}, "--period=61: the first forecast has 60 values before it"),
        (WALKED, {"waves": 3}, "--waves=3: the series has no season"),
        (WALKED, {"clip_norm": 0.0}, "--clip_norm=0"),
        (WALKED, {"cells": ("gruu",)}, "did you mean 'gru'"),
        (WALKED, {"transform": "logs"}, "did you mean 'log'"),
        (WALKED, {"hidden": 100_000, "seeds": 10_000}, "the params and optimizer states of"),
        (WALKED, {"steps": 100_000_000, "batch_size": 1000}, "the windows of 100,000,000 steps"),
        (np.append(np.ones(70), WALKED[:30]), {}, "the first 60 values do not vary on the chosen scale"),
        (np.tile([1.0, 2.0], 30), {"period": 2, "transform": "none"}, "repeats its season without an error"),
        (np.ones(40), {}, "there is nothing to forecast"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_mistakes_end_in_one_line_and_leave_nothing(values, settings, message, tmp_path):
    with refused_in_one_line(message):
        time_series.run(dataset=write(tmp_path, values), workdir=str(tmp_path / "w"), **{**TINY, **settings})
    assert not (tmp_path / "w").exists()
