"""The bench of nanoGPT's setting: mllab and PyTorch reach the same losses; the verdict needs the published one."""

import numpy as np
import pytest

from experiments.bench import harness
from experiments.bench import transformer_language as case
from experiments.bench.harness import Sample


@pytest.mark.slow
def test_both_train_alike():
    pytest.importorskip("torch")
    problem = case.problem(np.random.default_rng(0).integers(0, 9, 12_000), 9, 3)
    ours, theirs = (harness.solved(make(problem)._replace(warm_up=lambda: None)) for make in case.SOLVERS.values())
    assert ours["losses"] == pytest.approx(theirs["losses"], rel=1e-4)
    assert ours["validation"] == pytest.approx(theirs["validation"], rel=1e-4)


def test_the_learning_rate_is_nanogpts():
    rates = [float(case.rate(step, 2000, np.cos, np.where)) for step in (0, 99, 100, 1050, 2000)]
    assert rates == pytest.approx([1e-3 / 101, 1e-3 * 100 / 101, 1e-3, 5.5e-4, 1e-4])


@pytest.mark.parametrize(("loss", "met"), [(1.89, "yes"), (1.95, "no")])
def test_the_target_is_met_only_with_the_published_loss(loss, met):
    samples = {
        name: [Sample(1.0, {"seconds": seconds, "validation": loss, "losses": [1.0, 1.0]})]
        for name, seconds in (("mllab", 1.0), ("torch", 2.0))
    }
    table = case.table("one", samples)
    row = dict(zip(table.columns, table.rows[1], strict=True))
    assert (row["× mllab"], row["ms a step"], row["met"]) == ("2.00", "1000.0", met)
