"""The race's --folds, --refit, --group and --time: what is refused, and a run end to end."""

import json

import numpy as np
import pytest

from experiments import optimizer_race
from mllab import table_models
from mllab.data.readers import table as readers
from mllab.schemes import Scheme
from support.mistakes import refused_in_one_line
from support.workdirs import records_of

TINY = {"optimizers": ["sgd", "adam"], "learning_rates": [0.01, 0.1], "epochs": 2, "seeds": 2, "hidden": [8]}


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A table of 10 patients on 120 days; 4 rows are of the class `rare`."""
    draw, path = np.random.default_rng(0), tmp_path_factory.mktemp("own") / "own.csv"
    size, patient = draw.normal(size=120), np.arange(120) % 10
    kind = np.where(np.arange(120) % 30 == 7, "rare", np.where(size > 0, "large", "small"))
    lines = zip(patient, range(120), size, 3 * size + draw.normal(size=120), kind, strict=True)
    rows = "".join(f"p{a},{b},{c:.3f},{d:.3f},{e}\n" for a, b, c, d, e in lines)
    path.write_text(f"patient,day,size,price,kind\n{rows}")
    return str(path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"folds": 1}, "--folds=1: out of range: give a whole number from 2"),
        ({"folds": -3}, "--folds=-3: out of range"),
        ({"folds": 5, "target": "kind"}, "5 folds, and class 'rare' has 3 training and validation rows, one a fold"),
        ({"folds": 200, "target": "price"}, "200 folds of 96 rows"),
        ({"folds": 9, "target": "price", "group": "patient"}, "9 folds of 8 groups: give at most one fold a group"),
        ({"folds": 3, "target": "price", "gap": 2.0}, "a gap without times"),
        ({"folds": 3, "target": "price", "time": "kind"}, "--time=kind: not all numbers or dates"),
        ({"folds": 3, "target": "price", "batch_size": 65}, "batch_size = 65 is larger than the 64 training rows"),
        ({"folds": 3, "dataset": "digits", "group": "patient"}, "--group and --time are for your own tables"),
        ({"refit": "maybe"}, "--refit"),
        ({"folds": 9, "refit": True, "dataset": "digits", "hidden": [30000, 30000]}, "× 9 folds"),
    ],
)
def test_a_mistake_is_refused_in_one_line_and_leaves_nothing(own, tmp_path, settings, message):
    with refused_in_one_line(message):
        optimizer_race.run(workdir=str(tmp_path / "w"), **{**TINY, "dataset": own, **settings})
    assert not (tmp_path / "w").exists()


@pytest.mark.slow
def test_groups_and_folds_of_an_own_table_end_to_end(own, tmp_path, capsys):
    """The published params are the refitted ones, with preprocessing by all rows but the test rows."""
    measured = optimizer_race.run(
        workdir=str(tmp_path), folds=3, refit=True, group="patient", target="price", drop=["kind", "day"], dataset=own,
        **{**TINY, "optimizers": ["adam"], "model": "linear", "hidden": None, "epochs": 20},
    )  # fmt: skip
    shown = " ".join(capsys.readouterr().out.split())
    assert f"Refitted on all 96 training and validation rows for {measured.refits['adam'].epochs} epoch" in shown
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["folds_described"] == "3 folds of disjoint groups"
    assert summary["dataset"]["rows"] == {"choosing": 96, "test": 24}
    page = (tmp_path / "report.html").read_text()
    for text in ("3 folds of disjoint groups", "no early stopping", "96 to train and to choose, 24 to report"):
        assert text in page, text
    records = records_of(tmp_path)
    assert {record.get("fold") for record in records if "refit" not in record} == {1, 2, 3}
    refits = [record for record in records if "refit" in record]
    assert len(refits) == 2 * measured.refits["adam"].epochs
    assert not any("validation_loss" in record for record in refits)
    model = table_models.load_table_model(tmp_path / "params.safetensors")
    table = readers.read(own)
    groups, values = (readers.raw_column(table, name) for name in ("patient", "price"))
    _, test = Scheme(seed=0, groups=groups.astype(str)).holdout(np.arange(120), 0.2)
    error = np.sqrt(np.mean((model.values(model.schema.read(table).columns) - values)[test] ** 2))
    assert error == pytest.approx(measured.optimizers[0].test_by_seed["rmse"][0], rel=1e-3)


FLAGS = [
    "--optimizers=momentum,adam", "--learning_rates=1e-3:3:3", "--seeds=2", "--epochs=8", "--hidden=24", "--folds=3",
    "--refit", "--checkpoint_seconds=0", "--devices=2",
]  # fmt: skip
