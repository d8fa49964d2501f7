"""The peer of PPO trains, and the table of the bench is right."""

import pytest

from experiments.bench import reinforcement
from experiments.bench.harness import Sample, Settings


def test_the_table_compares_with_pytorch_and_the_targets():
    def sample(wall, seconds):
        return [Sample(wall, {"seconds": seconds, "running": seconds, "iqm": [499.6, 21.0]})]

    measured = {
        "mllab, 128 runs": sample(50.0, 45.0),
        "mllab, one run": sample(9.0, 2.0),
        "PyTorch, one run": sample(6.0, 100.0),
    }
    table = reinforcement.report(None, Settings(), measured).table
    assert [row[1] for row in table.rows] == ["50.00", "2.00", "100.00"]
    assert [row[3] for row in table.rows] == ["256", "50", "1"]
    assert table.rows[0][4] == "500, 21"
    assert [row[-1] for row in table.rows] == ["yes", "no", None]


def test_pytorch_trains_as_cleanrl_does():
    pytest.importorskip("torch")
    pytest.importorskip("gymnasium")
    from experiments.bench import reinforcement_torch

    returns = reinforcement_torch.train("CartPole-v1", 0, 2.5e-4, steps=1_024, of_steps=1_024)
    assert 10 < sum(returns) / len(returns) < 40
    assert sum(returns) <= 1_024
