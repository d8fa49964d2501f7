"""The bench of eight trainings: mllab and PyTorch reach the same losses; the verdict needs it."""

import pytest

from experiments.bench import harness, language_lanes
from experiments.bench.harness import Sample


@pytest.mark.slow
def test_both_train_alike():
    pytest.importorskip("torch")
    problem = language_lanes.problem(batch=4, window=5, hidden=6, steps=3)
    ours, theirs = (
        harness.solved(make(problem)._replace(calls=1, warm_up=lambda: None))
        for make in language_lanes.SOLVERS.values()
    )
    assert len(ours["losses"]) == len(language_lanes.RATES) * language_lanes.SEEDS
    assert ours["losses"] == pytest.approx(theirs["losses"], rel=1e-4)


@pytest.mark.parametrize(("loss", "met"), [(1.0, "yes"), (1.1, "no")])
def test_the_target_is_met_only_if_losses_agree(loss, met):
    samples = {
        "mllab": [Sample(1.0, {"seconds": 1.0, "losses": [1.0, 1.0]})],
        "torch": [Sample(2.0, {"seconds": 2.0, "losses": [1.0, loss]})],
    }
    table = language_lanes.table("one", samples)
    row = dict(zip(table.columns, table.rows[1], strict=True))
    assert (row["× mllab"], row["met"]) == ("2.00", met)
