"""The flags of a user's own table reach the reader, and what an experiment cannot score is refused."""

import numpy as np
import pytest

from experiments import frame, optimizer_race
from experiments.frame import settings
from mllab.data import load
from support.mistakes import refused_in_one_line


def test_lists_of_names_go_through_flags_and_back():
    words = ['--drop=a,"b, c"', "--column_types=zip=category,when=date"]
    values, _ = settings.parse(frame.Table, words, {})
    made = frame.Table.make(values)
    assert made.drop == ("a", "b, c")
    assert made.table_options(["g"])._asdict() == {
        "task": None, "test": None, "split_column": None, "drop": ("a", "b, c"), "query": None,
        "column_types": {"zip": "category", "when": "date"}, "target_transform": "none", "extra": ("g",),
    }  # fmt: skip
    again, _ = settings.parse(frame.Table, made.flagfile().splitlines(), {})
    assert frame.Table.make(again) == made == frame.Table.make({**values, "column_types": made.column_types})
    assert frame.Table.make({"column_types": {"zip": "category"}}).column_types == ("zip=category",)
    with refused_in_one_line("--column_types: 'zip' is not COLUMN=KIND"):
        frame.Table.make({"column_types": ["zip"]}).table_options()
    with refused_in_one_line("--drop="):
        frame.Table.make({"drop": ["a", "a"]})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target_transform": "log"}, "--target_transform=log: optimizer_race scores on the scale that is learned"),
        ({"drop": "size,kind"}, "no usable input column"),
        ({"drop": "sizes"}, "unknown column 'sizes': did you mean 'size'"),
        ({"split_column": "kind"}, "row 2, column 'kind': 'a' is no part of the split"),
        ({"query": "DROP TABLE data"}, "query: 'DROP' does not read"),
        ({"test": "absent.csv"}, "absent.csv"),
        ({"test": "homes.csv", "split_column": "kind"}, "test and split_column both name the test rows"),
    ],
)
def test_the_race_passes_the_flags_on(tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"{i % 13},{'ab'[i % 2]},{i}\n" for i in range(60))
    (tmp_path / "homes.csv").write_text(f"size,kind,price\n{rows}")
    with refused_in_one_line(words):
        optimizer_race.run(workdir=str(tmp_path / "w"), dataset="homes.csv", target="price", **options)
    assert not (tmp_path / "w").exists()


def test_options_of_tables_are_refused_for_other_data():
    options = frame.Table.make({"drop": "a"}).table_options()
    with refused_in_one_line("drop: only for your own data, and 'digits' is a set of the catalog"):
        load("digits", table_options=options)
    assert len(load("moons", table_options=frame.Table.make({}).table_options()).targets) == np.int64(600)
