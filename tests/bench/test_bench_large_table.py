"""The bench of a large table: both programs learn alike from the same file."""

import pytest

from experiments.bench import large_table
from experiments.bench.harness import Sample


@pytest.mark.slow
def test_both_programs_learn_alike(tmp_path):
    pytest.importorskip("polars")
    path = tmp_path / "table.csv"
    large_table.write(path, 6000)
    ours, theirs = (role(str(path)) for role in large_table.ROLES.values())
    assert ours["rmse"]["ridge"] == pytest.approx(theirs["rmse"]["ridge"], rel=0.1)  # other rows
    assert ours["rmse"]["ridge"] < 1.6  # the noise has 1, the product of two columns another 1
    assert ours["rmse"].keys() == theirs["rmse"].keys() == {"ridge", "MLP"}
    assert ours["seconds"] == pytest.approx(ours["read seconds"] + ours["ridge seconds"] + ours["MLP seconds"])


@pytest.mark.parametrize(("seconds", "rmse", "met"), [(2.9, 1.0, "yes"), (3.1, 1.0, "no"), (1.0, 1.1, "no")])
def test_the_target_needs_speed_and_agreement(seconds, rmse, met):
    def sample(seconds, rmse):
        parts = {f"{part} seconds": seconds / 3 for part in ("read", "ridge", "MLP")}
        return [Sample(0.0, {**parts, "seconds": seconds, "rmse": {"ridge": 1.0, "MLP": rmse}, "peak": 3.0})]

    measured = {"mllab": sample(seconds, rmse), "polars": sample(1.0, 1.0)}
    _, targets = (lambda page: (page.table, page.tables[0]))(large_table.report(None, None, measured))
    assert [row[-1] for row in targets.rows] == [met, "yes"]
