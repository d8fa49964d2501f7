"""Grids of lanes, and what `drive` accepts of them."""

import itertools

import jax
import numpy as np
import pytest

import mllab
from mllab import rows, sweep, training
from support import problems
from support.mistakes import refused_in_one_line

RATES, DECAYS, SEEDS = [0.1, 0.2, 0.3], [1.0, 2.0], [7, 5]
GRID = sweep.grid({"learning_rate": RATES, "weight_decay": DECAYS}, SEEDS)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_values_by_axis_are_those_of_the_lane_with_these_settings(axis):
    lanes = 100 * GRID.hyper["learning_rate"] + GRID.hyper["weight_decay"] + 1000 * GRID.seed
    values = np.moveaxis(lanes[:, None] + np.arange(4)[None] / 8, 0, axis)  # [L, 4] or [4, L]
    made = GRID.by_axis(values, axis)
    assert made.shape == ((3, 2, 2, 4) if axis == 0 else (4, 3, 2, 2))
    made = made if axis == 0 else np.moveaxis(made, 0, -1)
    for (i, rate), (j, decay), (k, seed) in itertools.product(*map(enumerate, (RATES, DECAYS, SEEDS))):
        np.testing.assert_allclose(made[i, j, k], 100 * rate + decay + 1000 * seed + np.arange(4) / 8)


def test_a_number_of_seeds_and_a_single_value_are_axes():
    short, long = sweep.grid({"rate": 0.1}, 2), sweep.grid({"rate": [0.1]}, [0, 1])
    jax.tree.map(np.testing.assert_array_equal, short._replace(key=0), long._replace(key=0))
    assert sweep.grid({}, 3).by_axis(np.arange(3)).shape == (3,)
    with refused_in_one_line("values of 5 lanes, and the grid has 12"):
        GRID.by_axis(np.zeros(5))


def drive(**changed):
    schedule = rows.minibatches(np.arange(40), 8, 2, [0])
    arguments = {
        "run": problems.run(), "hyper": {"learning_rate": 0.1}, "key": jax.random.key(0),
        "examples": problems.examples(60), "schedule": schedule, "held_out": np.arange(40, 60), "segment": 5,
    } | changed  # fmt: skip
    return training.drive(**arguments)


@pytest.mark.slow
def test_what_users_pass_to_drive_means_what_they_mean(tmp_path):
    """Row ids for held-out rows, the one schedule of a single run, lists, and a path as text."""
    schedule = rows.minibatches(np.arange(40), 8, 2, 1)
    exact = drive(schedule=rows.Rows(*(a[0] for a in schedule)), held_out=mllab.blocks(np.arange(40, 60), 20))
    lists = {name: values.tolist() for name, values in problems.examples(60).items()}
    loose = drive(held_out=list(range(40, 60)), examples=lists, workdir=str(tmp_path), checkpoint_seconds=0)
    assert problems.equal(exact.kept, loose.kept)
    assert (tmp_path / "checkpoints").is_dir()


def without_loss(hyper, params, extra, batch):
    return {"accuracy": batch["targets"] * 1.0}, extra


MISTAKES = {
    "ids beyond": (lambda: drive(held_out=np.array([60])), "held_out from 60 to 60: there are rows 0 to 59"),
    "no rows": (lambda: drive(schedule=np.arange(9)), "schedule: ndarray, expected Rows: give those"),
    "several schedules": (
        lambda: drive(schedule=rows.minibatches(np.arange(40), 8, 2, 2)),
        "schedule: 2 schedules for a single run",
    ),
    "weights of another length": (
        lambda: drive(held_out=rows.Rows(np.zeros((2, 3), int), np.ones((2, 2)))),
        r"held_out: ids \[2, 3\] and weights \[2, 2\]",
    ),
    "metrics without a loss": (
        lambda: drive(run=training.supervised(
            problems.model().init, None, lambda hyper: mllab.OPTIMIZERS["sgd"].make(0.1), without_loss
        )),
        "metrics return 'accuracy', not 'loss'",
    ),
    "weights of the examples": (
        lambda: drive(examples=problems.examples(60) | {"sample_weight": np.ones(60)}),
        r"examples\['sample_weight'\] would be ignored",
    ),
    "no patience": (lambda: drive(patience=0), "patience = 0: expected 1 or more"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_are_one_line(call, message):
    with refused_in_one_line(message):
        call()
