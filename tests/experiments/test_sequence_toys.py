"""Toy problems: which sequences are drawn, what counts as solved, whole runs, and parity by GRU and minGRU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import sequence_toys, toy_training
from experiments.toy_results import Solved
from mllab import devices, sweep
from mllab.data.sets import toy_sequences
from mllab.training import History, Result
from support.mistakes import refused_in_one_line
from support.workdirs import records_of

TINY = {
    "problems": ("parity",), "cells": ("gru",), "lengths": (2, 3), "hidden": 4, "batch_size": 4, "steps": 4, "seeds": 2,
    "held_out": 8, "radii": (1.0,), "distance": 4, "learning_rates": (0.01, 0.1), "devices": 2,
}  # fmt: skip


def test_no_sequence_is_used_twice():
    streams = toy_training.lay_out(seeds=2, steps=3, batch_size=4, held_out=300)
    held_out = [rows.ids[rows.weight > 0] for rows in (streams.validation, streams.test)]
    every = np.concatenate([streams.train.ids.ravel(), *held_out])
    assert sorted(every) == list(range(2 * 3 * 4 + 600)) == streams.examples["number"].tolist()
    assert streams.train.ids.shape == (2, 3, 4)


def trained_of(errors, test, nonfinite=()):
    """A training of one rate and two lengths, from validation errors [E, N, G] and test errors [N, G]."""
    errors, test = np.array(errors, float), np.array(test, float)
    segments, lengths, seeds = errors.shape
    grid = sweep.grid({"learning_rate": [0.1], "length": np.arange(lengths) + 3}, seeds)
    flat = errors.transpose(0, 2, 1).reshape(segments, -1)
    lost = np.array([0 if lane in nonfinite else -1 for lane in range(lengths * seeds)])
    history = History(10 * np.arange(1, segments + 1), flat, {"error": flat}, np.ones(segments))
    best = [None if np.isnan(each).any() else 0 for each in test]
    result = Result(None, None, None, lost, history)
    return toy_training.Trained("parity", "gru", 7, result, grid, test[None], test[None], best)


def test_solved_counts_seeds_by_the_test_and_steps_by_validation():
    one = trained_of(
        [[[0.5, 0.5, 0.5], [0.5] * 3], [[0.01, 0.2, 0.0], [0.4] * 3], [[0.0, 0.0, 0.0], [0.4] * 3]],
        [[0.0, 0.02, 0.01], [np.nan, 0.4, 0.4]],
        nonfinite=(1,),
    )
    first, second = (Solved.of(one, place, 0.01) for place in (0, 1))
    assert (first.length, first.solved, first.learning_rate, first.nonfinite) == (3, 2, 0.1, 0)
    assert (first.steps.mean, first.steps.seeds) == (np.mean([20, 30, 20]), 3)
    np.testing.assert_allclose(first.error.mean, 0.01)
    assert (second.length, second.solved, second.learning_rate, second.nonfinite) == (4, 0, None, 1)
    assert second.steps.seeds == 0
    assert np.isnan(second.error.mean)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"problems": ("adding",), "lengths": (1, 4)}, "--lengths=1: adding needs 2 or more"),
        ({"problems": ("sine",), "lengths": (1,)}, "--lengths=1: sine needs 2 or more"),
        ({"lengths": (0, 4)}, "--lengths"),
        ({"problems": ("parity",), "symbols": 5}, "--symbols=5: of the problem copy"),
        ({"problems": ("party",)}, "did you mean 'parity'"),
        ({"cells": ("gur",)}, "did you mean 'gru'"),
        ({"steps": 100_000_000, "batch_size": 1000}, "the numbers of 200,000,000,000 sequences"),
        ({"hidden": 100_000, "seeds": 10_000}, "the params and optimizer states of 40,000 lanes"),
        ({"lengths": (2, 100_000), "batch_size": 1_000_000}, "the states of a batch"),
        ({"distance": 100_000, "hidden": 3000, "seeds": 1, "learning_rates": (0.1,)}, "the Jacobians of 3,000 units"),
    ],
    ids=str,
)
def test_mistakes_end_in_one_line_and_leave_nothing(settings, message, tmp_path):
    with refused_in_one_line(message):
        sequence_toys.run(workdir=str(tmp_path / "w"), **{**TINY, **settings})
    assert not (tmp_path / "w").exists()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A tiny run: workdir and measurement."""
    workdir = tmp_path_factory.mktemp("toys") / "w"
    return workdir, sequence_toys.run(workdir=str(workdir), **TINY, checkpoint_seconds=0.0)


@pytest.mark.slow
def test_a_run_records_every_lane_and_repeats_to_the_bit(trained, tmp_path):
    workdir, measured = trained
    records = [record for record in records_of(workdir) if record["task"] == "parity gru"]
    lanes = {(record["learning_rate"], record["length"], record["seed"]) for record in records}
    assert lanes == {(rate, length, seed) for rate in (0.01, 0.1) for length in (2, 3) for seed in (0, 1)}
    assert {each.stem for each in (workdir / "figures").iterdir()} == {
        "clipping", "example_parity", "gradients", "learning", "ones", "radii", "solved",
    }  # fmt: skip
    again = sequence_toys.run(workdir=str(tmp_path / "w"), **TINY)
    resumed = sequence_toys.run(workdir=str(workdir), **TINY)
    for other in (again, resumed):
        for one, same in zip(measured.problems[0].scores, other.problems[0].scores, strict=True):
            np.testing.assert_array_equal(one.error_by_seed, same.error_by_seed)
            np.testing.assert_array_equal(one.curve, same.curve)
        np.testing.assert_array_equal(other.gradients.clipping.clipped, measured.gradients.clipping.clipped)
    with refused_in_one_line("--hidden"):
        sequence_toys.run(workdir=str(workdir), **{**TINY, "hidden": 5})


@pytest.mark.slow
def test_runs_that_all_diverge_are_reported(tmp_path, capsys):
    measured = sequence_toys.run(
        workdir=str(tmp_path / "w"), **{**TINY, "problems": ("adding",), "learning_rates": (1e30,), "seeds": 1}
    )
    assert {each.learning_rate for each in measured.problems[0].scores} == {None}
    assert "Every run went non-finite" in capsys.readouterr().out


@pytest.mark.slow
def test_parity_is_solved_by_gru_and_not_by_min_gru():
    problem, solved = toy_sequences.problems()["parity"], {}
    streams = toy_training.lay_out(seeds=2, steps=400, batch_size=32, held_out=200)
    for cell in ("gru", "mingru"):
        one = toy_training.train(
            "parity", problem, streams, {"cell": cell, "hidden": 16, "layers": 1}, rates=(0.01, 0.03), lengths=(3, 6),
            seeds=2, steps=400, segments=10, optimizer="adam", settings={"schedule": "one_cycle", "clip_norm": 1.0},
            mesh=devices.mesh(2), observe=lambda grid: [],
        )  # fmt: skip
        solved[cell] = one
        for place, length in enumerate((3, 6)):  # the test error is that of sequences that are read one by one
            rate = one.best[place]
            params, wrong = one.params(place, 0), []
            model = toy_training.model_of(problem, {"cell": cell, "hidden": 16, "layers": 1})
            apply = jax.jit(lambda params, inputs, model=model: model.apply(params, None, inputs, None)[0])
            for number in streams.test.ids[streams.test.weight > 0][:20]:
                key = jax.random.fold_in(jax.random.key(toy_training.SOURCE), number)
                drawn = toy_sequences.draw(problem, key, length, 12, beyond=True)
                steps = int(drawn.steps)
                assert length < steps <= 2 * length
                inputs = jnp.zeros((1, 12, 1)).at[0, :steps].set(drawn.inputs[:steps])
                answer = int(apply(params, inputs)[0, steps - 1].argmax())
                wrong.append(answer != int(np.asarray(drawn.inputs).sum()) % 2)
            if one.test[rate, place, 0] == 0:
                assert not any(wrong)
            elif one.test[rate, place, 0] > 0.3:
                assert any(wrong)
    errors = {cell: np.nanmin(one.test, axis=0).max() for cell, one in solved.items()}  # the worst length and seed
    assert errors["gru"] <= 0.05
    assert np.nanmin(solved["mingru"].test) > 0.2
