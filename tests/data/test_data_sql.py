"""Queries: answers equal the tables that they ask for, and nothing but reading is let through."""

import sqlite3
import sys

import numpy as np
import pandas as pd
import pytest

from mllab.data import load
from mllab.data.readers import sql
from mllab.data.readers.table import Options
from support.mistakes import refused_in_one_line

FRAME = pd.DataFrame(
    {
        "id": range(40),
        "size": np.arange(40) / 3,
        "kind": list("ab") * 20,
        "note": [None, "x"] * 20,
        "y": np.arange(40) % 2,
    }
)
QUERY = "SELECT size, kind, note, y FROM houses WHERE id >= 10 ORDER BY id"


@pytest.fixture
def database(tmp_path):
    with sqlite3.connect(tmp_path / "d.db") as connection:
        FRAME.to_sql("houses", connection, index=False)
    connection.close()
    return tmp_path / "d.db"


@pytest.fixture
def duck(tmp_path):
    duckdb = pytest.importorskip("duckdb")
    with duckdb.connect(str(tmp_path / "d.duckdb")) as connection:
        connection.from_df(FRAME).create("houses")
    return tmp_path / "d.duckdb"


def asked(path, query):
    return load(path, target="y", table_options=Options(query=query))


def test_the_answer_of_a_query_is_a_table(tmp_path, database, duck):
    FRAME[FRAME["id"] >= 10].drop(columns="id").to_csv(tmp_path / "t.csv", index=False)
    expected = load(tmp_path / "t.csv", target="y")
    FRAME.to_csv(tmp_path / "whole.csv", index=False)
    FRAME.to_parquet(tmp_path / "whole.parquet")
    of_file = QUERY.replace("houses", "data")
    for path, query in (
        (database, QUERY), (duck, QUERY), (tmp_path / "whole.csv", of_file), (tmp_path / "whole.parquet", of_file),
    ):  # fmt: skip
        data = asked(path, query)
        assert data.features == expected.features
        np.testing.assert_array_equal(data.inputs, expected.inputs)
        np.testing.assert_array_equal(data.targets, expected.targets)
        assert data.classes == ("0", "1")
        np.testing.assert_array_equal(data.file_rows, np.arange(1, 31))


WRITING = [
    "DELETE FROM houses", "DROP TABLE houses", "INSERT INTO houses VALUES (1)", "ATTACH 'x.db' AS x", "",
    "SELECT 1; DROP TABLE houses", "WITH a AS (SELECT 1) DELETE FROM houses", "PRAGMA writable_schema = 1",
    "CREATE TABLE t AS SELECT 1", "COPY houses TO 'stolen.csv'", "VACUUM INTO 'x.db'", "-- SELECT\nDELETE FROM houses",
]  # fmt: skip


def test_a_query_that_does_more_than_read_is_refused(database, duck):
    for path in (database, duck):
        before = path.read_bytes()
        for query in WRITING:
            with refused_in_one_line("query: "):
                sql.read(path, query)
        assert path.read_bytes() == before
        assert sorted(each.name for each in path.parent.iterdir()) == ["d.db", "d.duckdb"]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        (None, r"is a database: ask for a table by a query, such as --query=.SELECT \* FROM houses. .tables: houses"),
        ("SELECT * FROM house", "house"),
        ("SELECT * FROM houses WHERE id < 0", "answers with no rows"),
        ("SELECT size, size, y FROM houses", "two columns are called 'size'"),
        ("SELECT * FROM", "."),
    ],
)
def test_mistakes_in_a_query_are_named(database, query, words):
    with refused_in_one_line(words):
        asked(database, query)


def test_duckdb_reads_no_other_file(duck, tmp_path):
    FRAME.to_csv(tmp_path / "other.csv", index=False)
    with refused_in_one_line("d.duckdb: .*(disabled|does not exist)"):
        asked(duck, f"SELECT * FROM read_csv('{tmp_path}/other.csv')")
    with refused_in_one_line("tables: houses"):
        asked(duck, None)


def test_without_duckdb_the_message_says_which_extra(tmp_path, monkeypatch):
    FRAME.to_csv(tmp_path / "t.csv")
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with refused_in_one_line(r"needs duckdb, which is not installed: pip install 'mllab\[sql\]'"):
        asked(tmp_path / "t.csv", "SELECT * FROM data")


def test_no_database_is_refused(tmp_path):
    for name in ("a.db", "a.duckdb"):
        (tmp_path / name).write_bytes(b"no database at all" * 99)
        with refused_in_one_line(name):
            asked(tmp_path / name, "SELECT 1")


def test_columns_of_mixed_types_are_text(tmp_path):
    with sqlite3.connect(tmp_path / "m.db") as connection:
        connection.execute("CREATE TABLE t (a, b, y)")
        rows = [(i if i % 2 else float(i), "s" if i % 2 else i % 3, i % 2) for i in range(40)]
        connection.executemany("INSERT INTO t VALUES (?, ?, ?)", rows)
    connection.close()
    read = sql.read(tmp_path / "m.db", "SELECT * FROM t")
    assert read.columns["a"].numbers.tolist() == [float(a) for a, _, _ in rows]
    assert read.columns["b"].values == ("0", "1", "2", "s")
