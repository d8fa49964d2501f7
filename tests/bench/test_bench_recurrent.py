"""The bench of recurrent cells: mllab and PyTorch compute the same loss and gradients; the verdict needs both."""

import pytest

from experiments.bench import harness, recurrent
from experiments.bench.harness import Sample


@pytest.mark.parametrize("cell", recurrent.GATES)
def test_both_compute_the_same(cell):
    pytest.importorskip("torch")
    problem = recurrent.problem(cell, 8, 3, 2, 4)  # the batch is split over the 8 devices of the tests
    ours, theirs = (
        harness.solved(make(problem)._replace(calls=1, warm_up=lambda: None)) for make in recurrent.SOLVERS.values()
    )
    for name in ("loss", "input weights", "recurrent weights", "inputs"):
        assert ours[name] == pytest.approx(theirs[name], rel=1e-4)


@pytest.mark.parametrize(("norm", "met"), [(1.0, "yes"), (1.1, "no")])
def test_the_target_is_met_only_if_gradients_agree(norm, met):
    figures = {"loss": 1.0, "input weights": 1.0, "recurrent weights": 1.0, "inputs": 1.0}
    ours, theirs = figures | {"seconds": 1.0}, figures | {"seconds": 2.0, "inputs": norm}
    table = recurrent.table("gru: batch 8", {"mllab": [Sample(1.0, ours)], "torch": [Sample(2.0, theirs)]})
    row = dict(zip(table.columns, table.rows[1], strict=True))
    assert (row["× mllab"], row["met"]) == ("2.00", met)
