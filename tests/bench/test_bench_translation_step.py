"""The bench of a translation step: PyTorch's two forms compute the same; the verdict needs a plausible loss."""

import pytest

from experiments.bench import harness, translation_step
from experiments.bench.harness import Sample


def test_the_forms_of_pytorch_compute_the_same_and_mllab_learns_as_well():
    pytest.importorskip("torch")
    problem = translation_step.problem(2, 3, 9, 4, 5)
    reports = {name: harness.solved(make(problem)) for name, make in translation_step.SOLVERS.items()}
    for name in ("first", "last"):
        assert reports["tutorial"][name] == pytest.approx(reports["hoisted"][name], rel=1e-4)
    for report in reports.values():
        assert 0 < report["last"] < report["first"] < 4


@pytest.mark.parametrize(("first", "met"), [(9.0, "yes"), (5.0, "no")])
def test_the_target_is_met_only_if_the_first_losses_agree(first, met):
    samples = {
        "mllab": [Sample(1.0, {"seconds": 1.0, "first": 9.05})],
        "tutorial": [Sample(2.0, {"seconds": 2.0, "first": first})],
    }
    table = translation_step.table("batch 64", samples)
    row = dict(zip(table.columns, table.rows[1], strict=True))
    assert (row["× mllab"], row["met"]) == ("2.00", met)
