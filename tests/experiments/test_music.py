"""The experiment on polyphonic music: packed rows, losses against each piece alone, files, mistakes."""

import json

import jax
import numpy as np
import pytest

from experiments import music, music_training
from mllab import music_models
from mllab.data import music as pieces_of
from support.mistakes import refused_in_one_line

TINY = {"hidden": 6, "units": 5, "epochs": 2, "seeds": 2, "frames": 12, "devices": 2}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A tiny run of both output models: workdir and measurement."""
    workdir = tmp_path_factory.mktemp("music") / "w"
    return workdir, music.run(workdir=str(workdir), midi=str(workdir.parent / "copy.mid"), **TINY)


def alone(model, params, piece):
    """Log-probabilities of a piece in a row of its own."""
    begins = np.zeros((1, len(piece)))
    begins[0, 0] = 1
    inputs = {"frames": piece[None], "begins": begins, "weights": np.ones_like(begins)}
    return np.asarray(jax.jit(model.apply, static_argnums=3)(params, None, inputs, None)[0])[0]


def test_every_piece_is_packed_once_into_rows_of_its_part():
    parts = pieces_of.load("progressions").parts
    laid = music_training.lay_out(parts)
    for part, ids in laid.rows.items():
        found = []
        for row in ids:
            starts = np.flatnonzero(laid.examples["begins"][row])
            count = int(laid.examples["weights"][row].sum())
            found += np.split(laid.examples["frames"][row][:count], starts[1:])
        assert sorted(each.tobytes() for each in found) == sorted(each.tobytes() for each in parts[part])
        assert laid.predicted[part] == sum(len(each) - 1 for each in parts[part])
    assert laid.voices == 4
    assert laid.transpositions == (-5, 6)


def test_transposing_moves_every_key_of_a_row_alike():
    frames = np.zeros((2, 3, 88), int)
    frames[0, 0, 40] = frames[1, 2, 50] = 1
    moved = np.asarray(music_training.transpose(frames, np.array([-5, 6])))
    assert np.argwhere(moved).tolist() == [[0, 0, 35], [1, 2, 56]]


@pytest.mark.slow
def test_the_published_params_have_the_test_loss_of_each_piece_alone(trained):
    workdir, measured = trained
    pieces = pieces_of.load("progressions").parts["test"]
    for scores in measured.scores:
        loaded = music_models.load(workdir / f"{scores.output}.safetensors")
        logs = [alone(loaded.model, loaded.params, piece) for piece in pieces]
        mean = -np.concatenate([each[1:] for each in logs]).mean()
        np.testing.assert_allclose(scores.test_by_seed[loaded.about["seed"]], mean, rtol=1e-4)


@pytest.mark.slow
def test_a_run_writes_a_piece_for_each_output_and_keeps_their_tables_apart(trained):
    workdir, measured = trained
    for output in ("autoregressive", "bernoulli"):
        assert (workdir / f"{output}.mid").read_bytes().startswith(b"MThd")
        (sample,) = [each for each in measured.samples if each.output == output]
        assert sample.roll.shape == (12, 88)
        np.testing.assert_array_equal(sample.roll[:8], sample.original[:8])
    assert (workdir.parent / "copy.mid").read_bytes() == (workdir / "autoregressive.mid").read_bytes()
    assert set(json.loads((workdir / "summary.json").read_text())["baselines"]) == {"autoregressive", "bernoulli"}
    assert (workdir / "report.html").read_text().count("<audio") == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"midi": "/no/such/folder/x.mid"}, "--midi=/no/such/folder/x.mid: no folder"),
        ({"midi": "/"}, "is a folder"),
        ({"primed": 12}, "leave frames to sample"),
        ({"clip_norm": 0.0}, "--clip_norm=0"),
        ({"cells": ("mingru",), "recurrent_dropout": 0.5}, "--recurrent_dropout=0.5: minGRU has no recurrent weights"),
        ({"outputs": ("bernouli",)}, "did you mean 'bernoulli'"),
        ({"hidden": 100_000, "seeds": 10_000}, "the params and optimizer states of 10,000 lanes"),
        ({"dataset": "jsb_chorals"}, "did you mean 'jsb_chorales'"),
    ],
    ids=str,
)
def test_mistakes_end_in_one_line_and_leave_nothing(settings, message, tmp_path):
    with refused_in_one_line(message):
        music.run(workdir=str(tmp_path / "w"), **{**TINY, **settings})
    assert not (tmp_path / "w").exists()
