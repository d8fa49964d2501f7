"""Predicting the rows of a new table: the file of predictions, rows that cannot be read, and mistakes."""

import csv

import numpy as np
import pyarrow.parquet
import pytest

from experiments import predict
from mllab.table_models import encode_table_model, load_table_model
from support.mistakes import refused_in_one_line
from support.table_problems import HEAD, fitted, folds_of, lines, loaded


@pytest.fixture(scope="module")
def houses(tmp_path_factory):
    """The params file of a regression with intervals, and its data set."""
    folder = tmp_path_factory.mktemp("houses")
    data = loaded(folder / "houses.csv", "price")
    plan, params = fitted(data, "ridge", {"l2": 1.0})
    about = {"dataset": "houses.csv", "model": "ridge regression"}
    content = encode_table_model(plan, params, data.schema, folds=folds_of(data, plan, {"l2": 1.0}), about=about)
    (folder / "params.safetensors").write_bytes(content)
    return str(folder / "params.safetensors"), data


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    """The params file of a classifier, and its data set."""
    folder = tmp_path_factory.mktemp("kinds")
    data = loaded(folder / "kinds.csv", "kind")
    plan, params = fitted(data, "most_frequent", {}, classes=2)
    (folder / "params.safetensors").write_bytes(encode_table_model(plan, params, data.schema))
    return str(folder / "params.safetensors"), data


def new_table(path, edit=lambda rows: rows, head=HEAD):
    path.write_text("\n".join([head, *edit(lines(8, seed=1))]) + "\n")
    return str(path)


def read_csv(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_a_regression_is_written_with_intervals_row_by_row(tmp_path, capsys, houses):
    params, _ = houses
    new, out = new_table(tmp_path / "new.csv"), tmp_path / "made" / "predictions.csv"
    made = predict.run(params=params, input=new, output=str(out))
    rows = read_csv(out)
    assert list(rows[0]) == ["row", "prediction", "low", "high", "reason"]
    model = load_table_model(params)
    with open(new) as file:
        prices = [float(line.split(",")[2]) for line in file.read().splitlines()[1:]]
    predictions = np.array([float(row["prediction"]) for row in rows])
    assert np.abs(predictions - prices).max() < 6
    assert all(float(row["low"]) < float(row["prediction"]) < float(row["high"]) for row in rows)
    assert [row["row"] for row in rows] == list(map(str, range(2, 10)))
    assert made.model == "ridge regression"
    assert made.coverage == 0.95
    assert model.folds is not None
    shown = capsys.readouterr().out
    assert f"Predicted price for 8 of 8 rows of {new} (written to {out})." in shown
    assert "model: ridge regression, trained on houses.csv" in shown
    narrow = predict.run(params=params, input=new, coverage=0.5)
    assert all(a > float(row["low"]) for a, row in zip(narrow.columns["low"], rows, strict=True))
    assert "--output=FILE writes them all" in capsys.readouterr().out


def test_a_classifier_is_written_with_probabilities_as_csv_and_as_parquet(tmp_path, kinds):
    params, data = kinds
    new = new_table(tmp_path / "new.csv")
    for name in ("a.csv", "a.parquet"):
        predict.run(params=params, input=new, output=str(tmp_path / name))
    rows = read_csv(tmp_path / "a.csv")
    table = pyarrow.parquet.read_table(tmp_path / "a.parquet").to_pydict()
    names = ["probability of large", "probability of small"]
    assert list(rows[0]) == list(table) == ["row", "prediction", *names, "reason"]
    ids = np.union1d(data.split.train, data.split.validation)
    share = (np.mean(data.targets[ids] == 0) * len(ids) + 1) / (len(ids) + 2)
    np.testing.assert_allclose(table[names[0]], share, rtol=1e-5)
    assert [row["prediction"] for row in rows] == table["prediction"]
    np.testing.assert_allclose([float(row[names[1]]) for row in rows], table[names[1]], rtol=1e-6)
    assert table["reason"] == [None] * 8


def test_rows_that_cannot_be_read_are_named_and_the_others_predicted(tmp_path, capsys, houses):
    def edit(rows):
        return [f"x{row}" if i in (1, 4) else row for i, row in enumerate(rows)]

    out = tmp_path / "predictions.csv"
    new = new_table(tmp_path / "new.csv", edit)
    predict.run(params=houses[0], input=new, output=str(out))
    rows = read_csv(out)
    assert len(rows) == 8
    assert [row["prediction"] == "" for row in rows] == [i in (1, 4) for i in range(8)]
    assert "column 'size': 'x" in rows[1]["reason"]
    assert rows[0]["reason"] == ""
    shown = capsys.readouterr().out
    assert "for 6 of 8 rows" in shown
    assert "2 rows could not be read: row 3, column 'size': 'x" in " ".join(shown.split())
    every = new_table(tmp_path / "none.csv", lambda rows: [f"x{row}" for row in rows])
    made = predict.run(params=houses[0], input=every, output=str(out))
    assert [row["prediction"] for row in read_csv(out)] == [""] * 8
    assert len(made.unread) == 8


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"input": "{new}"}, "--input needs --params"),
        ({"input": "{new}", "params": "{params}", "pictures": ["a.png"]}, "pictures and --input"),
        ({"output": "a.csv", "pictures": ["a.png"]}, "give --input, too"),
        ({"input": "{new}", "params": "{params}", "output": "a.txt"}, "must end in .csv or .parquet"),
        ({"input": "{new}", "params": "{params}", "output": "{new}"}, "would replace an input"),
        ({"input": "{less}", "params": "{params}"}, "lacks column 'size', which the model was trained on"),
        ({"input": "{absent}", "params": "{params}"}, "absent.csv"),
        ({"input": "{new}", "params": str(predict.pretrained())}, "holds no model of a table"),
        ({"pictures": ["a.png"], "params": "{params}"}, "holds a model of a table: give .* --input"),
    ],
)
def test_a_mistake_is_refused_in_one_line_and_nothing_is_written(tmp_path, houses, settings, message):
    files = {
        "new": new_table(tmp_path / "new.csv"),
        "less": new_table(tmp_path / "less.csv", head=HEAD.replace("size", "width")),
        "absent": str(tmp_path / "absent.csv"),
        "params": houses[0],
    }
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    named = {key: value.format(**files) if isinstance(value, str) else value for key, value in settings.items()}
    with refused_in_one_line(message):
        predict.run(**named)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_program_takes_a_table_instead_of_pictures(tmp_path, capsys, monkeypatch, kinds):
    monkeypatch.chdir(tmp_path)
    new_table(tmp_path / "new.csv")
    with pytest.raises(SystemExit) as caught:
        predict.main(["predict", "--input=new.csv"])
    assert caught.value.code == 1
    assert capsys.readouterr().err == "error: --input needs --params: give the params of a model of a table\n"
    predict.main(["predict", f"--params={kinds[0]}", "--input=new.csv", "--output=made.csv"])
    assert len(read_csv("made.csv")) == 8
