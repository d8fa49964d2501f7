"""Model selection end to end: honest scores, folds that fit the data, a look into the winner, and refusals."""

import json

import numpy as np
import pytest

from experiments import model_selection
from support.mistakes import refused_in_one_line

QUICK = {"models": ("knn",), "folds": 3, "inner_folds": 2}


def table(path, rows=60, seed=0, **columns):
    """Write a table whose label depends on a, beside given columns."""
    draw = np.random.default_rng(seed)
    a, b = draw.normal(size=(2, rows))
    cells = {"a": a, "b": b, **columns, "label": np.where(a > 0, "yes", "no")}
    lines = [",".join(cells), *(",".join(map(str, row)) for row in zip(*cells.values(), strict=True))]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("selection")
    draw = np.random.default_rng(1)
    path = table(folder / "own.csv", sex=draw.choice(["m", "f"], 60), c=np.where(draw.random(60) < 0.2, "", "3.5"))
    return folder / "run", model_selection.run(
        dataset=path, target="label", workdir=str(folder / "run"), models=("knn", "trees"), folds=3, inner_folds=2
    )


@pytest.mark.slow
def test_a_run_names_the_winner_beside_the_baseline_and_looks_into_it(measured):
    folder, found = measured
    scores = {model.name: model for model in found.models}
    assert set(scores) == {"constant", "knn", "trees"}
    assert scores["knn"].held_out.mean > scores["constant"].held_out.mean
    assert found.winner in found.tied
    assert found.won.test.seeds == 12
    assert found.look.importance[0].column == "a"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["winner"] == found.winner
    assert summary["models"][1]["setting"]
    page = (folder / "report.html").read_text()
    for text in ("held-out accuracy", "optimism", "Permutation importance", "Expected held-out score", "Brier"):
        assert text in page, text


@pytest.mark.slow
def test_regression_on_published_splits_has_a_log_likelihood_and_no_test_rows(tmp_path):
    draw = np.random.default_rng(0)
    x = draw.normal(size=50)
    lines = ["x,y", *(f"{a},{b}" for a, b in zip(x, 100 + 20 * x + draw.normal(size=50), strict=True))]
    (tmp_path / "own.csv").write_text("\n".join(lines))
    (tmp_path / "splits.txt").write_text("0 1 2 3 4\n10, 11, 12, 13\n")
    found = model_selection.run(
        dataset=str(tmp_path / "own.csv"), target="y", folds_file=str(tmp_path / "splits.txt"), inner_folds=2,
        models=("linear",), workdir=str(tmp_path / "run"),
    )  # fmt: skip
    line = found.won
    assert line.name == "linear"
    assert 0.5 < line.held_out.mean < 2  # in units of y
    assert line.log_likelihood.mean == pytest.approx(-np.log(line.held_out.mean) - 1.42, abs=0.7)
    assert line.test is None
    for ids, score in zip(([0, 1, 2, 3, 4], [10, 11, 12, 13]), line.by_fold, strict=True):
        train = np.setdiff1d(np.arange(50), ids)
        y = np.array([float(row.split(",")[1]) for row in lines[1:]])
        predicted = np.polyval(np.polyfit(x[train], y[train], 1), x[ids])
        assert score == pytest.approx(np.sqrt(np.mean((predicted - y[ids]) ** 2)), rel=1e-3)


@pytest.mark.slow
def test_rows_of_a_group_are_on_one_side_and_random_folds_are_called_flattering(tmp_path):
    draw = np.random.default_rng(0)
    patient = np.repeat(np.arange(20), 4)
    centre = draw.normal(size=20)[patient]
    cells = np.column_stack([patient, centre + 0.01 * draw.normal(size=80)])
    outcome = draw.integers(0, 2, 20)[patient]
    rows = [f"{int(p)},{v},{'ill' if o else 'well'}" for (p, v), o in zip(cells, outcome, strict=True)]
    (tmp_path / "visits.csv").write_text("\n".join(["patient,v,outcome", *rows]))
    flags = {"dataset": str(tmp_path / "visits.csv"), "target": "outcome", **QUICK}
    random = model_selection.run(**flags, workdir=str(tmp_path / "random"))
    grouped = model_selection.run(**flags, group="patient", workdir=str(tmp_path / "grouped"))
    assert "patient" in random.flattered
    assert random.won.held_out.mean > grouped.won.held_out.mean + 0.2
    assert "disjoint groups" in grouped.folds
    assert not grouped.flattered


@pytest.mark.parametrize(
    ("flags", "match"),
    [
        ({"group": "nobody"}, "nobody"),
        ({"time": "label"}, "--time=label|label"),
        ({"gap": 1.0}, "gap without times"),
        ({"score": "rmse"}, "unknown criterion of classification 'rmse'"),
        ({"models": ("ridge",)}, "ridge is for regression"),
        ({"folds": 40}, "folds|rows"),
        ({"folds_file": "absent.txt"}, "absent.txt"),
        ({"folds_file": "absent.txt", "split_column": "b"}, "leave out --test and --split_column|'b'|split"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(tmp_path, flags, match):
    path = table(tmp_path / "own.csv", rows=30)
    with refused_in_one_line(match):
        model_selection.run(
            **{"dataset": path, "target": "label", "workdir": str(tmp_path / "run"), **QUICK, **flags}
        )  # fmt: skip
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "match"), [("", "is empty"), ("1 x", "line 1"), ("99", "split 1"), ("1 1", "twice"), ("\n \n", "is empty")]
)
def test_malformed_splits_are_one_line(tmp_path, text, match):
    (tmp_path / "splits.txt").write_text(text)
    with refused_in_one_line(match):
        model_selection.run(
            dataset=table(tmp_path / "own.csv", rows=30), target="label", folds_file=str(tmp_path / "splits.txt"),
            workdir=str(tmp_path / "run"), **QUICK,
        )  # fmt: skip
