"""A user's own tables: encoded as by scikit-learn, from training rows alone; every mistake ends in one line."""

import contextlib
import csv
import gzip
import io
import sys
from collections.abc import Callable

import jax
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mllab.data import load
from mllab.data.readers import csv_parquet
from mllab.data.readers.table import Options, check_size
from mllab.data.schema.inputs import standard_inputs
from mllab.errors import UserError
from mllab.models import preprocessing
from support.mistakes import refused_in_one_line


def lines(header: str, rows: int, row: Callable[[int], str]) -> str:
    return "\n".join([header, *map(row, range(rows))]) + "\n"


PARTS = ("train", "validation", "test", "train", "train")
GOOD = lines("size,age,kind,price", 30, lambda i: f"{i},{i * i % 7},{'ab'[i % 2]},{i * 1.5}")


def write(folder, text, name="t.csv"):
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


tables = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 99),
        "rows": st.integers(20, 60),
        "missing": st.sampled_from([0.0, 0.1, 0.5]),
        "classification": st.booleans(),
    }
)


def frame_of(seed, rows, missing, classification) -> pd.DataFrame:
    """Draw a table with two numeric and two text columns, some cells missing."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "x": rng.normal(1e3, 10, rows),
            "n": rng.integers(-5, 6, rows).astype(float),
            "kind": rng.choice(["a", 'quoted "b"', "c, with comma", "d\nover lines"], rows),
            "rare": rng.choice(["usual", "rare"], rows, p=[0.9, 0.1]),
        }
    )
    frame = frame.mask(rng.random(frame.shape) < missing)
    frame["y"] = np.arange(rows) % 3 if classification else rng.normal(-4, 3, rows)
    return frame


def encoded_by_scikit_learn(frame: pd.DataFrame, train: np.ndarray, known: np.ndarray) -> dict[str, np.ndarray]:
    """Encode with scikit-learn, the categories from the known rows; return each input column by its name."""
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    columns = {}
    for name in ("x", "n"):
        pipeline = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
        columns[name] = pipeline.fit(frame[[name]].iloc[train]).transform(frame[[name]])[:, 0]
    for name in ("x", "n"):
        if frame[name].iloc[known].isna().any():
            columns[f"{name} is missing"] = frame[name].isna().to_numpy(float)
    for name in ("kind", "rare"):
        text = frame[[name]].astype(object).fillna("missing")
        encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(text.iloc[known])
        if len(encoder.categories_[0]) == 1:  # constant
            continue
        trained = set(text[name].iloc[train])
        for category, column in zip(encoder.categories_[0], encoder.transform(text).T, strict=True):
            form = category.replace("\n", "\\n")  # names are printable
            columns[f"{name}={form}"] = column * (category in trained)
    return columns


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(table=tables, split_seed=st.integers(0, 3), ending=st.sampled_from([".csv", ".csv.gz", ".parquet"]))
def test_inputs_are_encoded_as_by_scikit_learn(tmp_path_factory, table, split_seed, ending):
    frame = frame_of(**table)
    path = tmp_path_factory.getbasetemp() / f"table{ending}"
    frame.to_parquet(path) if ending == ".parquet" else frame.to_csv(path, index=False)
    dataset = load(path, target="y", split_seed=split_seed)
    known = np.union1d(dataset.split.train, dataset.split.validation)
    expected = encoded_by_scikit_learn(frame, dataset.split.train, known)
    assert dataset.features == tuple(expected)
    assert dataset.inputs.dtype == np.float32
    assert dataset.inputs.flags.c_contiguous
    assert dataset.inputs.shape[1] == dataset.schema.layout.size == len(dataset.schema.groups)
    np.testing.assert_allclose(dataset.inputs, np.stack(list(expected.values()), axis=1), rtol=1e-5, atol=1e-6)
    if table["classification"]:
        assert dataset.task == "classification"
        assert dataset.classes == ("0", "1", "2")
        np.testing.assert_array_equal(dataset.targets, frame["y"])
    else:
        assert dataset.task == "regression"
        train = frame["y"].to_numpy()[dataset.split.train]
        assert dataset.target_mean == pytest.approx(train.mean())
        assert dataset.target_scale == pytest.approx(train.std())
        restored = dataset.targets * dataset.target_scale + dataset.target_mean
        np.testing.assert_allclose(restored, frame["y"], rtol=1e-4, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(table=tables, number=st.floats(-1e30, 1e30), text=st.sampled_from(["a", "new", None]))
def test_held_out_rows_do_not_affect_the_encoding(tmp_path_factory, table, number, text):
    frame = frame_of(**table)
    path = tmp_path_factory.getbasetemp() / "leak.csv"
    frame.to_csv(path, index=False)
    before = load(path, target="y")
    held_out = np.concatenate([before.split.validation, before.split.test])
    numbers = frame.loc[held_out, ["x", "n"]]
    frame.loc[held_out, ["x", "n"]] = numbers.mask(numbers.notna(), number)
    frame.loc[before.split.test, ["kind", "rare"]] = text  # validation rows tell which categories there are
    if before.task == "regression":
        frame.loc[held_out, "y"] = number
    frame.to_csv(path, index=False)
    after = load(path, target="y", task=before.task)
    train = before.split.train
    np.testing.assert_array_equal(after.split.train, train)
    np.testing.assert_array_equal(after.inputs[train], before.inputs[train])
    np.testing.assert_array_equal(after.targets[train], before.targets[train])
    assert after.features == before.features
    assert (after.target_mean, after.target_scale) == (before.target_mean, before.target_scale)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_damage_raises_only_user_errors(tmp_path_factory, data):
    content = bytearray(GOOD.encode())
    for _ in range(data.draw(st.integers(0, 4))):
        damage = data.draw(st.sampled_from([b'"', b",", b"\n", b"\r", b"\x00", b"\xff", b"-", b"1e999", b" "]))
        at = data.draw(st.integers(0, len(content)))
        content[at : at + data.draw(st.integers(0, 3))] = damage
    path = write(tmp_path_factory.getbasetemp(), bytes(content), "damaged.csv")
    with contextlib.suppress(UserError):
        load(path, target="price")


@pytest.mark.parametrize(
    ("text", "target", "words"),
    [
        ("", "y", "t.csv is empty"),
        ("\n \n", "y", "t.csv is empty"),
        ("\n" + GOOD, "price", "row 1 is blank; put the column names there"),
        ("size,price\n", "price", "has a header but no rows"),
        ("size,price\n1,2\n3,4.5\n", "price", r"t.csv: too few rows \(2\)"),
        (GOOD, "prise", "unknown column 'prise': did you mean 'price'"),
        ('x,"two\nlines",y\n1,2,3\n', "price", "unknown column 'price' .*known: x, two lines, y"),
        (GOOD + "1,2,a\n", "price", "row 32 has 3 cells, and the header names 4"),
        (GOOD + "\n\n1,2,a,3,4\n", "price", "row 34 has 5 cells, and the header names 4"),
        (GOOD.replace("\n2,", '\n"2,'), "price", "row 4 has 1 cell, and the header names 4"),
        ('size,price\n1,2\n1,"2\n1,3\n', "price", "row 3 opens a quote that is never closed"),
        ("size,size,price\n1,2,3\n", "price", "two columns are called 'size'"),
        (GOOD + "1,2,a,\n", "price", "row 32, column 'price' is missing, and it is the target"),
        (GOOD + "1,2,a,nan\n1,2,b,NA\n", "price", r"row 32, column 'price' is missing \(as are 1 more\)"),
        (GOOD + "1,2,a,dear\n", "price", "row 32, column 'price': 'dear' is not a number"),
        (GOOD.replace("\n4,", "\nfour,"), "price", "row 6, column 'size': 'four' is not a number; correct it"),
        (GOOD.replace("\n4,", "\n\nfour,"), "price", "row 7, column 'size': 'four' is not a number"),
        (GOOD + '"1,0,0",2,a,3\n', "price", "row 32, column 'size': '1,0,0' is not a number"),
        (GOOD + "inf,2,a,3\n", "price", r"row 32, column 'size' is infinite or beyond 1e\+300"),
        (GOOD + "1,2,a,-1e400\n", "price", "row 32, column 'price' is infinite or beyond"),
        (lines("x,y", 9, lambda i: f"1,{i}"), "y", "class '0' has too few rows.*task='regression'"),
        (lines("x,y", 9, lambda i: f"{i},{'aab'[i // 4]}"), "y", r"column 'y': class 'b' has too few rows \(1\)"),
        (lines("x,y", 9, lambda i: f"{i},a"), "y", "column 'y' is 'a' in every row; choose a target that varies"),
        (lines("x,y", 9, lambda i: f"{i},1"), "y", "column 'y' is '1' in every row"),
        (lines("x,y", 9, lambda i: f"{i},1.5"), "y", "column 'y' is 1.5 in every training row"),
        (lines("x,y", 9, lambda i: f",{i % 2}"), "y", r"no usable input column \(dropped 'x': it is empty"),
        (lines("y", 9, lambda i: f"{i % 2}"), "y", "no usable input column: add one"),
        (GOOD.encode() + b"1,2,\xe9,4\n", "price", r"line 32 is not UTF-8 \(byte 0xe9\); save the file as UTF-8"),
        (GOOD.encode("utf-16"), "price", "line 1 is not UTF-8"),
        ("x,y\n" + "a" * 200_000 + ",1\n", "y", "row 2, column 'x' has 200,000 characters, and at most 131,072"),
    ],
)  # fmt: skip
def test_mistakes_in_a_csv_file_are_named(tmp_path, text, target, words):
    path = write(tmp_path, text)
    with refused_in_one_line(words) as caught:
        load(path, target=target)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.csv.gz", gzip.compress(GOOD.encode(), mtime=0)[:-20], "is truncated or damaged"),
        ("t.parquet", GOOD.encode(), "is not a Parquet file"),
        ("t.parquet", b"PAR1" + b"\x00" * 50 + b"PAR1", "t.parquet cannot be read as Parquet"),
    ],
)
def test_damaged_files_are_named(tmp_path, name, content, words):
    with pytest.raises(UserError, match=words):
        load(write(tmp_path, content, name), target="price")


def test_a_number_too_far_for_float32_is_named(tmp_path):
    text = lines("x,tiny,y", 30, lambda i: f"{i},{1e-30 * i},{i * 1.5}")
    row = load(write(tmp_path, text), target="y").split.test[0]
    cells = text.split("\n")
    cells[row + 1] = f"{row},1e200,3"
    with pytest.raises(UserError, match=rf"row {row + 2}, column 'tiny': 1e\+200 is too far"):
        load(write(tmp_path, "\n".join(cells)), target="y")


def test_a_mistaken_task_is_refused(tmp_path):
    path = write(tmp_path, GOOD)
    with pytest.raises(UserError, match="unknown task 'classify': did you mean 'classification'"):
        load(path, target="price", task="classify")
    with pytest.raises(UserError, match=r"row 2, column 'kind': 'a' is not a number \(nor are 29 more\)"):
        load(path, target="kind", task="regression")


@pytest.mark.parametrize(
    ("value", "task", "classes"),
    [
        (lambda i: "pn"[i % 2], "classification", ("n", "p")),
        (lambda i: i % 2 == 0, "classification", ("False", "True")),
        (lambda i: i % 3, "classification", ("0", "1", "2")),
        (lambda i: float(i % 3 * 5 - 5), "classification", ("-5", "0", "5")),
        (lambda i: i % 20, "classification", tuple(str(i) for i in range(20))),
        (lambda i: i % 21, "regression", ()),
        (lambda i: i % 3 + 0.5, "regression", ()),
    ],
)
def test_the_task_is_inferred_from_the_target(tmp_path, value, task, classes):
    dataset = load(write(tmp_path, lines("x,y", 63, lambda i: f"{i},{value(i)}")), target="y")
    assert (dataset.task, dataset.classes) == (task, classes)
    assert dataset.target == "y"


def test_a_task_overrides_the_inferred_one(tmp_path):
    path = write(tmp_path, lines("x,halves,whole", 30, lambda i: f"{i},{i % 3 + 0.5},{i % 2}"))
    assert load(path, target="whole", task="regression").task == "regression"
    dataset = load(path, target="halves", task="classification")
    assert dataset.classes == ("0.5", "1.5", "2.5")
    assert dataset.notes == ("took the 3 distinct numbers of 'halves' as classes",)


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + GOOD,
        GOOD.replace(",", ";"),
        GOOD.replace(",", "\t"),
        GOOD.replace(",", ", "),
        GOOD.replace("\n", "\r\n"),
        GOOD.replace("\n", "\r"),
        GOOD.replace("\n1,", "\n\n1,") + "\n \n",
        "".join(",".join(f'"{cell}"' for cell in row.split(",")) + "\n" for row in GOOD.splitlines()),
    ],
    ids=["BOM", "semicolons", "tabs", "spaces", "CRLF", "CR", "blank lines", "quotes"],
)
def test_all_spellings_of_one_table_are_equal(tmp_path, text):
    plain, other = load(write(tmp_path, GOOD), target="price"), load(write(tmp_path, text), target="price")
    np.testing.assert_array_equal(plain.inputs, other.inputs)
    np.testing.assert_array_equal(plain.targets, other.targets)
    assert plain.features == other.features


def test_the_preparation_is_noted(tmp_path):
    def cells(i):
        return [i, i if i % 10 else "?", "", 7, f"name {i}", "" if i == 3 else "ab"[i % 2], "only", i % 2]

    text = io.StringIO()
    csv.writer(text).writerows(
        [["", "some missing", "empty", "constant", "id", "kind", "one", "y"], *(cells(i) for i in range(40))]
    )
    path = write(tmp_path, text.getvalue())
    dataset = load(path, target="y")
    train = dataset.split.train
    median = np.median(train[train % 10 > 0])
    assert dataset.features[:2] == ("some missing", "some missing is missing")
    assert set(dataset.features[2:]) - {"kind=missing"} == {"kind=a", "kind=b"}
    notes = [note for note in dataset.notes if "no other row" not in note]
    assert notes == [
        "dropped column 1: it has no name",
        "took the 2 distinct numbers of 'y' as classes",
        f"4 missing values in 'some missing' became the median of the training rows, {median:g}, and an input tells "
        "which",
        "dropped 'empty': it is empty in every row but test rows",
        "dropped 'constant': it is 7 in every row but test rows",
        "dropped 'id': its text has 32 distinct values in 32 rows",
        "1 missing value in 'kind' became the category 'missing'",
        "dropped 'one': it is 'only' in every row but test rows",
    ]
    assert list(dataset.sha256) == ["t.csv"]
    assert dataset.name == "t.csv"


def test_columns_that_are_constant_but_for_test_rows_are_dropped(tmp_path):
    test = set(load(write(tmp_path, lines("x,y", 30, lambda i: f"{i},{i / 4}")), target="y").split.test.tolist())
    table = lines(
        "x,same,same_text,empty,y",
        30,
        lambda i: f"{i},{i},{'pq'[i % 2]},{i},{i / 4}" if i in test else f"{i},7,only,,{i / 4}",
    )
    dataset = load(write(tmp_path, table), target="y")
    assert dataset.features == ("x",)
    assert dataset.notes == (
        "dropped 'same': it is 7 in every row but test rows",
        "dropped 'same_text': it is 'only' in every row but test rows",
        "dropped 'empty': it is empty in every row but test rows",
    )


def test_two_categories_are_kept_even_with_few_rows(tmp_path):
    dataset = load(write(tmp_path, lines("kind,y", 5, lambda i: f"{'ab'[i // 3]},{i / 4}")), target="y")
    assert dataset.features == ("kind=a", "kind=b")


def test_without_pyarrow_the_message_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"needs pyarrow, which is not installed: pip install 'mllab\[experiments\]'"):
        load(write(tmp_path, GOOD), target="price")


def test_huge_numbers_are_standardised(tmp_path):
    dataset = load(write(tmp_path, lines("x,y", 30, lambda i: f"{i}e298,{i * 1.5}")), target="y")
    assert dataset.inputs[dataset.split.train].std() == pytest.approx(1, rel=1e-5)


def test_all_parquet_types_are_read(tmp_path):
    rows = np.arange(30)
    frame = pd.DataFrame(
        {
            "small": rows.astype(np.int8),
            "nullable": pd.array([None if i == 4 else i for i in rows], dtype="Int64"),
            "truth": pd.array([None if i == 4 else i % 2 == 0 for i in rows], dtype="boolean"),
            "grade": pd.Categorical(np.array(["1", "2", "3"])[rows % 3]),
            "day": pd.date_range("2020-01-01", periods=30),
            "list": [[int(i)] for i in rows],
            "y": rows / 4,
        }
    )
    path = tmp_path / "t.parquet"
    frame[rows > 0].to_parquet(path)  # with an index that is not a column
    dataset = load(path, target="y")
    names = [name for name in dataset.features if name != "truth=missing" and not name.startswith("day (")]
    assert names[:3] == ["small", "nullable", "day"]
    assert names[-5:] == ["truth=False", "truth=True", "grade=1", "grade=2", "grade=3"]
    assert sum("'day'" in note or "'list'" in note for note in dataset.notes) == 2
    frame.loc[5, "y"] = np.nan
    frame.to_parquet(path)
    with pytest.raises(UserError, match="row 6, column 'y' is missing"):
        load(path, target="y")


def test_california_housing_as_a_table(data_dir):
    path = data_dir / "california_housing" / "housing_handson.csv.gz"
    if not path.is_file():
        pytest.skip(f"no real data set at {path}")
    dataset = load(path, target="median_house_value")
    assert dataset.inputs.shape == (20_640, 14)  # eight numbers, an indicator and five categories
    assert dataset.task == "regression"
    assert "207 missing values in 'total_bedrooms'" in dataset.notes[0]


ODD_CELLS = [
    "", "NaN", "nan", "None", "?", "inf", "-inf", "1e300", "-1e300", "1e301", "1e999", "1e-320", "True", "1_000",
    "0x10", "12%", "$5", "1 000", "2020-01-01", "9" * 25, "9" * 400, "-" + "9" * 20, str(2**53 + 1), str(2**63),
    str(2**64), '"a\nb"', '"  "', "\x00", "1e5e5", "++1", "٣", "½", "1d5", '"1,5"', "x" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("column", ["size", "kind", "price"])
@pytest.mark.parametrize("target", ["kind", "price", "age"])
def test_an_odd_cell_is_refused_or_encoded(tmp_path, column, target):
    for cell in ODD_CELLS:
        rows = [line.split(",") for line in GOOD.splitlines()]
        rows[5][rows[0].index(column)] = cell
        path = write(tmp_path, "\n".join(map(",".join, rows)) + "\n")
        message = f"column {column!r}"
        try:
            data = load(path, target=target)
        except UserError as error:
            message = str(error)
        else:
            assert np.isfinite(data.inputs).all(), cell
            assert np.isfinite(data.targets).all(), cell
        assert message.isprintable(), cell
        assert f"column {column!r}" in message, cell


def of_rows(count, y, x=lambda i: i, k=lambda i: "ab"[i % 2]):
    return lines("x,k,y", count, lambda i: f"{x(i)},{k(i)},{y(i)}")


@pytest.mark.parametrize(
    ("text", "task", "words"),
    [
        (of_rows(30, lambda i: ""), None, "row 2, column 'y' is missing .as are 29 more"),
        (of_rows(30, lambda i: "a"), None, "column 'y' is 'a' in every row"),
        (of_rows(30, lambda i: f"c{i}"), None, "class 'c0' has too few rows"),
        (of_rows(30, lambda i: 2**60 + i % 3), None, "has whole numbers beyond 2.53, which floats do not tell apart"),
        (of_rows(30, lambda i: 2**60 + i), "regression", "beyond 2.53 that differ too little"),
        (of_rows(30, lambda i: i * 1e299), None, "row 13, column 'y' is infinite or beyond 1e.300"),
        (of_rows(30, lambda i: i % 3, x=lambda i: 7, k=lambda i: "a"), None, "no usable input column"),
        (of_rows(1, lambda i: i), "regression", "too few rows .1."),
        (of_rows(2, lambda i: i), "regression", "too few rows .2."),
        (of_rows(1, lambda i: i), None, "column 'y' is '0' in every row"),
        (of_rows(2, lambda i: i), None, "class '0' has too few rows"),
        (of_rows(0, lambda i: i), None, "has a header but no rows"),
    ],
)
def test_tables_that_cannot_be_learned_from_are_refused(tmp_path, text, task, words):
    with refused_in_one_line(words):
        load(write(tmp_path, text), target="y", task=task)


@pytest.mark.parametrize(
    ("text", "classes", "note"),
    [
        (of_rows(3000, lambda i: f"c{i % 1000}"), 1000, ""),
        (of_rows(30, lambda i: i % 2 == 0), 2, ""),
        (
            of_rows(30, lambda i: i % 3, k=lambda i: f"2020-01-{i + 1:02}"),
            3,
            "read 'k' as dates (YYYY-MM-DD): days, weekday",
        ),
        (of_rows(30, lambda i: i % 3, x=lambda i: 2**60 + i), 3, "dropped 'x': its whole numbers beyond 2^53 differ"),
        (of_rows(30, lambda i: i % 3, x=lambda i: 2**58 * i), 3, "rounded the whole numbers of 'x' beyond 2^53"),
        (of_rows(30, lambda i: i % 3).replace("x,", '"x;1;2;3",', 1), 3, ""),
    ],
)
def test_unusual_tables_are_read(tmp_path, text, classes, note):
    data = load(write(tmp_path, text), target="y")
    assert len(data.classes) == classes
    assert note in " ".join(data.notes)
    assert np.isfinite(data.inputs).all()


def test_inputs_that_take_too_much_memory_are_refused(tmp_path):
    path = write(tmp_path, GOOD)
    schema = load(path, target="price").schema
    check_size(path, schema, 30, limit=30 * 4 * 4)
    with refused_in_one_line("which is more than this machine's memory allows"):
        check_size(path, schema, 30, limit=30 * 4 * 4 - 1)


@pytest.mark.slow
def test_inputs_equal_those_of_the_preprocessing_in_folds():
    rng = np.random.default_rng(0)
    numbers = rng.normal(3, 2, (24, 3)).astype(np.float32)
    numbers[rng.random(numbers.shape) < 0.2] = np.nan
    numbers[:, 1], numbers[:18, 2] = np.nan_to_num(numbers[:, 1]), 7  # without missing ones; constant in training
    columns = preprocessing.Columns(numbers, rng.integers(-1, 3, (24, 2)).astype(np.int32))
    columns.codes[:18, 1] %= 2  # the last category is in no training row
    layout, train = preprocessing.Layout(3, (0,), (3, 3)), np.arange(18)
    with jax.numpy_rank_promotion("allow"):
        fitted = preprocessing.fit(columns, np.arange(24) < 18, layout=layout)
        expected = preprocessing.apply(fitted, columns)
    np.testing.assert_allclose(standard_inputs(columns, layout, train), expected, rtol=1e-5, atol=1e-5)


BIG = "".join(f'{i},{i * 7 % 97},"a {i % 3}",{i % 5 / 4}\n' for i in range(60_000))  # more than is looked at first


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("\n59000,", "\n59000.5,"),
        ("\n59000,", '\n59000.5,1e3,"a\nb",0.5\n59000,'),
        ("\n40000,", "\n\n40000,"),
        ("\n40000,", '\n40000, 5, "a, b", 1\n40000,'),
        ("\n40000,", "\nforty,"),
    ],
    ids=["numbers", "quoted lines", "blank line", "spaces", "text"],
)
def test_a_large_file_is_read_as_by_pandas(tmp_path, damage, words):
    text = "n,m,kind,y\n" + BIG.replace(damage, words, 1)
    table = csv_parquet.read(write(tmp_path, text))
    expected = pd.read_csv(io.StringIO(text), skipinitialspace=True, low_memory=False, skip_blank_lines=True)
    assert list(table.columns) == list(expected.columns)
    for name, column in table.columns.items():
        if column.codes is None:
            np.testing.assert_array_equal(column.numbers, expected[name])
        else:
            cells = [column.text(i) for i in (*range(0, 60_000, 97), 39_999, 40_000, 40_001, 59_000, 59_001)]
            rows = expected[name].astype(str).iloc[[*range(0, 60_000, 97), 39_999, 40_000, 40_001, 59_000, 59_001]]
            assert cells == [cell.replace("\n", "\\n") for cell in rows]


def test_a_quoted_cell_may_go_over_blocks_of_the_file(tmp_path):
    cut = BIG.rfind("\n", 0, 2**20 - 1000) + 1
    text = f'n,m,kind,y\n{BIG[:cut]}7,7,"{"b" * 9}{chr(10) * 2000}",1\n{BIG[cut:]}'
    table = csv_parquet.read(write(tmp_path, text))
    np.testing.assert_array_equal(table.columns["n"].numbers, pd.read_csv(io.StringIO(text))["n"])
    assert "b" * 9 + "\\n" * 2000 in table.columns["kind"].values


def test_a_ragged_row_deep_in_a_large_file_is_named(tmp_path):
    path = write(tmp_path, "n,m,kind,y\n" + BIG.replace("\n40000,", "\n7,40000,", 1))
    with refused_in_one_line("row 40002 has 5 cells, and the header names 4 columns"):
        csv_parquet.read(path)


def test_without_a_target_all_columns_are_inputs(tmp_path):
    """Inputs equal those of the same split with a target that is no input; the parts of the rows are as named."""
    rows = lines(
        "size,age,kind,part,price", 40, lambda i: f"{i % 11},{i * i % 7},{'ab'[i % 2]},{PARTS[i % 5]},{i % 9}.5"
    )
    path = write(tmp_path, rows)
    options = Options(split_column="part", drop=["price"])
    data = load(path, needs_target=False, table_options=options)
    assert (data.task, data.target, data.classes, data.targets.shape) == ("", "", (), (40, 0))
    assert data.features == ("size", "age", "kind=a", "kind=b")
    compared = load(path, target="price", table_options=options._replace(drop=()))
    np.testing.assert_array_equal(data.inputs, compared.inputs)
    assert "took the columns of t.csv as inputs, without a target" in data.notes
    test = write(tmp_path, rows, "other.csv")
    both = load(path, needs_target=False, table_options=Options(drop=["part"], test=test))
    assert both.targets.shape == (80, 0)
    np.testing.assert_array_equal(both.split.test, range(40, 80))
    np.testing.assert_array_equal(both.inputs[40:], both.inputs[:40])
    assert any("equal a training row" in line for line in both.warnings)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"task": "regression"}, r"task: .*t.csv is read without a target; name one, or leave task out$"),
        ({"target_transform": "log"}, r"target_transform: .*t.csv is read without a target"),
        ({"drop": ["size", "age", "kind", "price"]}, r"t.csv: no usable input column"),
        ({"test": "short.csv"}, r"short.csv lacks columns 'kind', 'price', which the model was trained on"),
    ],
)
def test_mistakes_without_a_target_are_named(tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, GOOD)
    write(tmp_path, lines("size,age", 9, lambda i: f"{i},{i % 3}"), "short.csv")
    with pytest.raises(UserError, match=words):
        load("t.csv", needs_target=False, table_options=Options(**options))
    write(tmp_path, lines("size,kind", 2, lambda i: f"{i},a"))
    with pytest.raises(UserError, match=r"t.csv: too few rows \(2\): expected 3 or more"):
        load("t.csv", needs_target=False)
