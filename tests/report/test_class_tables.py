"""Tables of a classifier's errors."""

import numpy as np

from mllab.report.class_tables import ClassRow, class_table, pair_table

NAN = float("nan")


def test_classes_by_ascending_recall():
    rows = [
        ClassRow("a", 100, 0.9, 0.98901, 0.942, "b", 7),
        ClassRow("c", 10, 0.9, 0.75, 0.818, "a", 1),
        ClassRow("b", 50, 1.0, 0.877, 0.934, None, 0),
        ClassRow("never predicted", 1234, 0.0, NAN, 0.0, "b\n", 1234),
        ClassRow("no rows", 0, NAN, 0.0, 0.0, None, 0),
    ]
    assert class_table(rows).rows == [
        ["no rows", "0", "—", "0.0%", "0.0%", None],
        ["never predicted", "1,234", "0.0%", "—", "0.0%", "b (1,234×)"],
        ["a", "100", "90.0%", "98.9%", "94.2%", "b (7×)"],
        ["c", "10", "90.0%", "75.0%", "81.8%", "a (1×)"],
        ["b", "50", "100.0%", "87.7%", "93.4%", None],
    ]


def test_pairs_by_number_of_errors():
    confusion = np.array([[90, 7, 3], [0, 50, 0], [1, 0, 9]])
    assert pair_table(confusion, ["a", "b", "c"]).rows == [
        ["a", "b", 7, "63.6%"],
        ["a", "c", 3, "27.3%"],
        ["c", "a", 1, "9.1%"],
    ]
    assert pair_table(np.diag([3, 4, 5]), ["a", "b", "c"]).rows == []


def test_hundreds_of_classes_are_cut_to_those_of_least_recall():
    rows = [ClassRow(f"class {index}", 9, 1.0, 1.0, 1.0, None, 0) for index in range(200)]
    rows[150] = ClassRow("class 150", 14, 9 / 14, 1.0, 0.78, "class 7", 5)
    table = class_table(rows)
    assert (table.rows[0][0], len(table.rows)) == ("class 150", 50)
    assert "the 50 classes of least recall, of 200" in table.caption
    confusion = 9 * np.eye(200, dtype=int)
    confusion[150, 7] = 5
    assert [row[:3] for row in pair_table(confusion, [row.name for row in rows]).rows] == [["class 150", "class 7", 5]]


def test_long_and_odd_names_fit_a_table():
    rows = [ClassRow("x" * 200, 1, 0.0, 0.0, 0.0, "back\x01slash\n", 1)]
    (cells,) = class_table(rows).rows
    assert cells[0] == f"{'x' * 12}…{'x' * 11}"
    assert cells[-1] == "back slash (1×)"
