"""A table's schema: kinds and forms of columns, new files, test rows from elsewhere, and what is pointed out."""

import json

import numpy as np
import pandas as pd
import pytest

from mllab.data import load
from mllab.data.readers import table
from mllab.data.readers.csv_parquet import read
from mllab.data.schema import Schema
from support.mistakes import refused_in_one_line

ROWS = 60
RNG = np.random.default_rng(0)


def frame_of(**columns):
    base = {"x": RNG.normal(size=ROWS), "y": [f"c{i % 2}" for i in range(ROWS)]}
    return pd.DataFrame(base | {name: [cell(i) for i in range(ROWS)] for name, cell in columns.items()})


def loaded(folder, frame, target="y", name="t.csv", **options):
    frame.to_csv(folder / name, index=False)
    return load(folder / name, target=target, table_options=table.Options(**options))


def numbers(data, name):
    """The values of a column in its own unit, from what preprocessing receives."""
    place = 0
    for column in data.schema.numeric:
        if column.name == name:
            return np.ldexp(data.columns.numbers[:, place].astype(float), column.exponent) + column.offset
        place += len(column.number_names)
    raise KeyError(name)


@pytest.mark.parametrize(
    ("cell", "expected", "form"),
    [
        (lambda i: f"${1000 + 7 * i:,}", lambda i: 1000 + 7 * i, "currency"),
        (lambda i: f"({i},000.50)" if i else "0", lambda i: -(1000 * i + 0.5) if i else 0, "currency"),
        (lambda i: f"{i}.5%", lambda i: i + 0.5, "percent"),
        (lambda i: f"1.{i:03},25", lambda i: 1000 + i + 0.25, "decimal comma"),
        (lambda i: f" {i}e3" if i % 9 else "n/a", lambda i: i * 1e3 if i % 9 else np.nan, "plain"),
        (lambda i: 1_700_000_000 + i, lambda i: 1_700_000_000 + i, "plain"),  # float32 alone has steps of 128 here
        (lambda i: f"2020-01-{i % 28 + 1:02} 0{i % 9}:30", None, "YYYY-MM-DD"),
        (lambda i: f"2020-{i % 12 + 1}-{i % 28 + 1}", None, "YYYY-M-D"),
        (lambda i: f"{i % 28 + 1:02}.03.2021", None, "DD.MM.YYYY"),
        (lambda i: f"{i % 12 + 1}/{i % 28 + 1}/2021", None, "MM/DD/YYYY"),
        (lambda i: f"{i % 28 + 1}/{i % 12 + 1}/2021", None, "DD/MM/YYYY"),
    ],
)
def test_texts_of_numbers_and_dates_are_read(tmp_path, cell, expected, form):
    frame = frame_of(v=cell)
    data = loaded(tmp_path, frame)
    assert next(column.form for column in data.schema.columns if column.name == "v") == form
    if expected is None:
        day_first = form.startswith("DD")
        parsed = pd.to_datetime(frame["v"], dayfirst=day_first, format=None if form[0] == "Y" else "mixed")
        wanted = (parsed - pd.Timestamp("1970-01-01")) / pd.Timedelta(days=1)
        waves = [name for name in data.schema.groups if name == "v"]
        assert len(waves) == sum(name.startswith("v") for name in data.features) >= 3
    else:
        wanted = np.array([expected(i) for i in range(ROWS)])
    np.testing.assert_allclose(numbers(data, "v"), wanted, atol=1e-2, rtol=1e-6)


def test_cyclic_parts_follow_the_calendar(tmp_path):
    frame = frame_of(day=lambda i: f"2020-{i % 12 + 1:02}-{i % 28 + 1:02} {i % 24:02}:00:00")
    data = loaded(tmp_path, frame)
    days, columns = pd.to_datetime(frame["day"]), data.columns.numbers
    places = {name: i for i, name in enumerate(data.features)}
    parts = {"month": ((days.dt.month - 1), 12), "weekday": (days.dt.day_of_week, 7), "hour": (days.dt.hour, 24)}
    for part, (place, period) in parts.items():
        for wave, function in (("sin", np.sin), ("cos", np.cos)):
            expected = function(2 * np.pi * place / period)
            np.testing.assert_allclose(columns[:, places[f"day ({part}, {wave})"]], expected, atol=1e-4)


def test_kinds_can_be_overridden(tmp_path):
    frame = frame_of(zip=lambda i: f"0{i % 3}", size=lambda i: i % 5)
    data = loaded(tmp_path, frame, column_types={"zip": "category"})
    assert [name for name in data.features if name.startswith("zip")] == ["zip=00", "zip=01", "zip=02"]
    assert [column.kind for column in data.schema.columns] == ["number", "category", "number"]
    data = loaded(tmp_path, frame_of(name=lambda i: f"n{i}"), column_types={"name": "category"})
    assert sum(name.startswith("name=") for name in data.features) == 48
    with refused_in_one_line("unknown kind of column 'zip' 'text'"):
        loaded(tmp_path, frame, column_types={"zip": "text"})
    with refused_in_one_line("unknown column of column_types 'zap': did you mean 'zip'"):
        loaded(tmp_path, frame, column_types={"zap": "number"})


def test_a_schema_survives_json_and_reads_new_files(tmp_path):
    frame = frame_of(kind=lambda i: "abc"[i % 3], code=lambda i: f"0{i % 4}", n=lambda i: i if i % 7 else None)
    data = loaded(tmp_path, frame, column_types={"code": "category"}, drop=["x"])
    schema = Schema.from_json(data.schema.to_json())
    assert schema == data.schema
    assert len(schema.features) == len(schema.groups) == schema.layout.size == data.inputs.shape[1]
    assert schema.groups == ("n", "n", *["kind"] * 3, *["code"] * 4)
    new = frame[["n", "code", "kind"]].assign(other=1, kind=frame["kind"].replace("c", "unseen")).astype(object)
    new.loc[4, "n"], new.loc[9, "n"] = "many", "1e999"
    new.to_csv(tmp_path / "new.csv", index=False)
    rows = schema.read(read(tmp_path / "new.csv", text=schema.text_columns))
    assert [(each.row, each.column, each.why) for each in rows.unread] == [
        (6, "n", "'many' is not a number"), (11, "n", "is infinite or beyond 1e+300"),
    ]  # fmt: skip
    assert rows.notes == ("ignored 1 columns that were not learned from: 'other'",)
    np.testing.assert_array_equal(rows.rows, np.delete(np.arange(ROWS), [4, 9]))
    np.testing.assert_array_equal(rows.columns.numbers, data.columns.numbers[rows.rows])
    codes = data.columns.codes[rows.rows]
    np.testing.assert_array_equal(rows.columns.codes[:, 1], codes[:, 1])
    np.testing.assert_array_equal(rows.columns.codes[:, 0], np.where(codes[:, 0] == 2, -1, codes[:, 0]))
    with refused_in_one_line("row 6, column 'n': 'many' is not a number .as are 1 other rows"):
        schema.encode(read(tmp_path / "new.csv"))
    new.drop(columns=["kind", "n"]).to_csv(tmp_path / "new.csv", index=False)
    with refused_in_one_line("lacks columns 'kind', 'n', which the model was trained on"):
        schema.read(read(tmp_path / "new.csv"))


HOSTILE = {
    "no JSON": lambda content: "{",
    "nested": lambda content: "[" * 100_000,
    "a list": lambda content: [],
    "another version": lambda content: content | {"version": 9},
    "no columns": lambda content: content | {"columns": []},
    "no target": lambda content: content | {"target": None},
    "a kind": lambda content: content | {"columns": [content["columns"][0] | {"kind": "__import__"}]},
    "a form": lambda content: content | {"columns": [content["columns"][0] | {"form": "YYYY-MM-DD"}]},
    "not finite": lambda content: content | {"columns": [content["columns"][0] | {"offset": float("nan")}]},
    "a huge exponent": lambda content: content | {"columns": [content["columns"][0] | {"exponent": 10**30}]},
    "a field more": lambda content: content | {"columns": [content["columns"][0] | {"more": 1}]},
    "a name twice": lambda content: content | {"columns": [content["columns"][0]] * 2},
    "a control character": lambda content: content | {"columns": [content["columns"][0] | {"name": "a\x1b[2J"}]},
    "a truth value": lambda content: content | {"columns": [content["columns"][0] | {"offset": True}]},
    "a scale of 0": lambda content: content | {"target": content["target"] | {"scale": 0.0}},
    "no class": lambda content: content | {"target": content["target"] | {"classes": ["one"]}},
}


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_hostile_schema_is_refused(tmp_path, hostile):
    content = HOSTILE[hostile](json.loads(loaded(tmp_path, frame_of()).schema.to_json()))
    with refused_in_one_line("not a schema of a table"):
        Schema.from_json(content if isinstance(content, str) else json.dumps(content))


def test_test_rows_of_another_file(tmp_path):
    frame = frame_of(kind=lambda i: "ab"[i % 2])
    other = frame_of(kind=lambda i: "abz"[i % 3])[["y", "kind", "x"]]  # another order
    other.to_csv(tmp_path / "test.csv", index=False)
    data = loaded(tmp_path, frame, test=tmp_path / "test.csv")
    assert [len(part) for part in (data.split.train, data.split.validation, data.split.test)] == [45, 15, ROWS]
    np.testing.assert_array_equal(data.split.test, np.arange(ROWS, 2 * ROWS))
    assert list(data.sha256) == ["t.csv", "test.csv"]
    np.testing.assert_array_equal(data.file_rows, [*range(2, ROWS + 2)] * 2)
    np.testing.assert_allclose(numbers(data, "x")[ROWS:], other["x"], rtol=1e-6)
    np.testing.assert_array_equal(data.columns.codes[ROWS:, 0], np.resize([0, 1, -1], ROWS))
    other.assign(y="c9").to_csv(tmp_path / "test.csv", index=False)
    with refused_in_one_line("test.csv: row 2, column 'y': 'c9' is no class of the rows learned from"):
        loaded(tmp_path, frame, test=tmp_path / "test.csv")
    other.drop(columns="kind").to_csv(tmp_path / "test.csv", index=False)
    with refused_in_one_line("test.csv lacks column 'kind'"):
        loaded(tmp_path, frame, test=tmp_path / "test.csv")


def test_near_identical_labels_are_merged(tmp_path):
    frame = frame_of().assign(y=np.resize(["<=50K", ">50K", "<=50K", ">50k "], ROWS))
    other = frame_of().assign(y=np.resize(["<=50K.", ">50K."], ROWS))
    other.to_csv(tmp_path / "test.csv", index=False)
    data = loaded(tmp_path, frame, test=tmp_path / "test.csv")
    assert data.classes in (("<=50K", ">50K"), ("<=50K", ">50k "))
    np.testing.assert_array_equal(data.targets, np.resize([0, 1], 2 * ROWS))
    assert sum("near-identical labels" in line for line in data.warnings) == 3


def test_a_column_names_the_split(tmp_path):
    parts = np.resize(["Train", "train", "val", "TEST"], ROWS)
    data = loaded(tmp_path, frame_of().assign(part=parts), split_column="part")
    assert data.features == ("x",)
    np.testing.assert_array_equal(data.split.test, np.arange(3, ROWS, 4))
    np.testing.assert_array_equal(data.split.validation, np.arange(2, ROWS, 4))
    data = loaded(tmp_path, frame_of().assign(part=np.arange(ROWS) % 3 == 0), split_column="part")
    np.testing.assert_array_equal(data.split.test, np.arange(0, ROWS, 3))
    assert len(data.split.validation) == 10
    for cells, words in ((["train", "tess"], "row 3, column 'part': 'tess' is no part"), (["train"], "names no test")):
        with refused_in_one_line(words):
            loaded(tmp_path, frame_of().assign(part=np.resize(cells, ROWS)), split_column="part")


def test_columns_asked_for_are_raw_and_no_inputs(tmp_path):
    frame = frame_of(group=lambda i: f"g{i % 9}", day=lambda i: f"2020-01-{i % 28 + 1:02}", id=lambda i: i)
    data = loaded(tmp_path, frame, extra=["group", "day"], drop=["id"])
    assert data.features == ("x",)
    assert data.extra_columns["group"].tolist() == frame["group"].tolist()
    assert data.extra_columns["day"][:2].tolist() == [18262.0, 18263.0]
    for option in ("drop", "extra"):
        with refused_in_one_line("unknown column 'groop': did you mean 'group'"):
            loaded(tmp_path, frame, **{option: ["groop"]})
        with refused_in_one_line(f"{option}: 'y' is the target"):
            loaded(tmp_path, frame, **{option: ["y"]})


def test_a_skewed_target_is_learned_on_a_log_scale(tmp_path):
    frame = frame_of().assign(y=np.exp(RNG.normal(3, 1.5, ROWS)))
    data = loaded(tmp_path, frame, target_transform="auto")
    assert data.target_transform == "log"
    np.testing.assert_allclose(data.inverse(data.targets), frame["y"], rtol=1e-5)
    assert data.targets[data.split.train].mean() == pytest.approx(0, abs=1e-6)
    assert (
        loaded(tmp_path, frame_of().assign(y=RNG.normal(size=ROWS)), target_transform="auto").target_transform == "none"
    )
    with refused_in_one_line("row 2, column 'y' is -1, which has no logarithm"):
        loaded(tmp_path, frame.assign(y=frame["y"].where(frame.index > 0, -1)), target_transform="log")
    with refused_in_one_line("'y' has classes, and a logarithm is for quantities"):
        loaded(tmp_path, frame_of(), target_transform="log")


WARNINGS = {
    "identifier": ({"id": lambda i: 1000 + i}, "'id' looks like an identifier .48 distinct whole numbers in 48 rows"),
    "copy": ({"copy": lambda i: f"k{i % 2}"}, "'copy' alone predicts 'y' nearly perfectly .accuracy 1.000"),
    "text": ({"name": lambda i: f"n{i}"}, "dropped 'name': its text has .*; --column_types=name=category keeps it"),
    "constant": ({"v": lambda i: 7}, "dropped 'v': it is 7 in every row but test rows"),
    "decimal comma": ({"v": lambda i: f"{i},5"}, "'v' was read with decimal commas"),
    "ambiguous date": ({"v": lambda i: f"{i % 9 + 1}/{i % 7 + 1}/2020"}, "'v' was read as MM/DD/YYYY, and could be"),
}


@pytest.mark.parametrize("warning", WARNINGS)
def test_what_is_suspicious_is_pointed_out(tmp_path, warning):
    columns, words = WARNINGS[warning]
    rows = frame_of(**columns)
    rows = pd.concat([rows, rows.assign(x=RNG.normal(size=ROWS))], ignore_index=True) if warning == "copy" else rows
    found = [line for line in loaded(tmp_path, rows).warnings if pd.Series([line]).str.contains(words)[0]]
    assert len(found) == 1
    assert found[0].isprintable()


def test_nothing_is_pointed_out_without_a_cause(tmp_path):
    frame = pd.DataFrame({"x": RNG.normal(size=500), "k": RNG.choice(list("abc"), 500), "n": RNG.integers(0, 9, 500)})
    assert loaded(tmp_path, frame.assign(y=RNG.choice(["p", "q"], 500))).warnings == ()


def test_leaks_and_outliers_of_a_quantity_are_pointed_out(tmp_path):
    y, wide = RNG.normal(size=1000), RNG.normal(size=1000)
    wide[7] = 1e6
    frame = pd.DataFrame({"x": y + RNG.normal(size=1000), "copy": 3 * y + 1, "wide": wide, "y": y})
    copied, far = loaded(tmp_path, frame).warnings
    assert copied.startswith("'copy' alone predicts 'y' nearly perfectly (R² 0.99")
    assert far.startswith("'wide' has 1 value beyond 20 standard deviations")


def test_rows_repeated_across_the_split_are_pointed_out(tmp_path):
    parts = np.repeat(["train", "validation", "test"], [100, 50, 50])
    frame = pd.DataFrame({"x": RNG.normal(size=200), "y": RNG.normal(size=200), "part": parts})
    frame.loc[150:152, ["x", "y"]] = frame.loc[0:2, ["x", "y"]].to_numpy()
    (line,) = loaded(tmp_path, frame, split_column="part").warnings
    assert line.startswith("3 test rows equal a training row")


def test_more_inputs_than_the_limit_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "MAX_INPUTS", 3)
    with refused_in_one_line("has 4 inputs, and at most 3 are taken"):
        loaded(tmp_path, frame_of(kind=lambda i: "abc"[i % 3]))
