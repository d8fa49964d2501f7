"""Names that users give, in headers, cells, folders and arrays: printable text of one line from the reader on."""

import csv
import io
import os
import string

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mllab.data import load, names
from mllab.errors import UserError
from support.figures import NASTY
from support.mistakes import refused_in_one_line

ODD = [*NASTY, "ok\x01bad", "a\r\nb", "\u202eevil", "\ud800", "a\u2028b", "\x1b[31mred", " ", "\t", "é", "a\xa0b", "🙂"]
odd_names = st.one_of(
    st.sampled_from(ODD), st.text(max_size=8), st.text(alphabet="ab\x00\x01\n\t\u202e \\", max_size=6),
    st.integers(1, 10_000).map(lambda length: "n" * length),
)  # fmt: skip
SLOW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def check(*texts):
    """Check that texts are printable, of one line, and can be encoded."""
    for text in texts:
        assert text.isprintable(), text
        assert text.strip()
        assert text.encode("utf-8").decode() == text


@settings(max_examples=150, deadline=None)
@given(name=odd_names)
def test_a_printable_name_stays_and_any_other_becomes_one(name):
    form = names.printable(name)
    check(form)
    assert names.printable(form) == form
    if name.isprintable() and name.strip():
        assert form == name
    assert len(form) >= len(name)


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("ok\x01bad", r"ok\x01bad"),
        ("a\nb", r"a\nb"),
        ("caf\udce9", r"caf\udce9"),
        ("\u202eevil", r"\u202eevil"),
        ("a\xa0b", "a b"),
        ("", "(empty)"),
        (" ", "(empty)"),
        ("x" * 10_000, "x" * 10_000),
    ],
)
def test_the_form_of_a_name(name, form):
    assert names.printable(name) == form


def test_names_that_look_the_same_are_refused():
    assert names.distinct(["a\x01", "b"], "t.csv") == {"a\x01": r"a\x01", "b": "b"}
    with refused_in_one_line(r"t.csv: 'a\\\\x01' and 'a\\x01' look the same|look the same when printed; rename one"):
        names.distinct([r"a\x01", "a\x01"], "t.csv")


def written(path, header, rows):
    """Write a CSV file, also of characters that UTF-8 does not have."""
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(header)
    writer.writerows(rows)
    path.write_bytes(stream.getvalue().encode("utf-8", "replace"))
    return path


@SLOW
@given(column=odd_names, target=odd_names, classes=st.lists(odd_names, min_size=2, max_size=3, unique=True))
def test_columns_and_classes_of_a_table(tmp_path_factory, column, target, classes):
    rows = [[i % 7, classes[i % len(classes)], classes[i // 2 % len(classes)]] for i in range(30)]
    path = written(tmp_path_factory.getbasetemp() / "t.csv", [column, "kind", target], rows)
    try:
        data = load(path, target=target)
    except UserError as error:
        check(str(error))
    else:
        check(data.name, data.target, *data.features, *data.classes, *data.notes)


@SLOW
@given(classes=st.lists(odd_names, min_size=2, max_size=3, unique=True), key=odd_names)
def test_classes_and_keys_of_arrays(tmp_path_factory, classes, key):
    path = tmp_path_factory.getbasetemp() / "t.npz"
    labels = np.array([classes[i % len(classes)] for i in range(12)])
    keys = key.translate({ord(letter): "" for letter in "\x00/\\"}).encode("utf-8", "replace").decode()[:100]
    np.savez(path, images=np.zeros((12, 4, 4), np.uint8), labels=labels, **{keys or "k": labels})
    try:
        data = load(path)
    except UserError as error:
        check(str(error))
    else:
        check(data.name, *data.classes, *data.notes)


@SLOW
@given(classes=st.lists(odd_names, min_size=2, max_size=3, unique=True), number=st.integers(0, 10**9))
def test_folders_of_classes(tmp_path_factory, classes, number):
    root = tmp_path_factory.mktemp(f"odd{number}")
    for name in classes:
        encoded = os.fsencode(
            "".join(letter for letter in name if letter not in "/\0" and not "\ud800" <= letter < "\udc80")
        )
        folder = os.path.join(os.fsencode(root), encoded[:200] or b"e")
        os.makedirs(folder, exist_ok=True)
        for i in range(3):
            with open(os.path.join(folder, b"%d.png" % i), "wb") as file:
                Image.fromarray(np.zeros((2, 2), np.uint8)).save(file, "PNG")
    try:
        data = load(root)
    except UserError as error:
        check(str(error))
    else:
        check(data.name, *data.classes, *data.notes, *data.sha256)


@pytest.mark.parametrize("name", [b"caf\xe9", b"a\nb", "\u202ex".encode(), b"\x1b[31m"])
def test_files_with_odd_names(tmp_path, name):
    path = os.fsdecode(os.path.join(os.fsencode(tmp_path), name + b".csv"))
    with open(path, "w") as file:
        file.write("x,y\n" + "".join(f"{i},{i % 3}\n" for i in range(30)))
    data = load(path, target="y")
    check(data.name, *data.sha256)
    with refused_in_one_line("unknown column") as caught:
        load(path, target="z")
    check(str(caught.value))


@pytest.mark.parametrize("text", ["a\nb\x1b[31m", "x" * 10_000, "\u202e" * 99])
def test_errors_that_repeat_a_cell_are_one_short_line(tmp_path, text):
    rows = [[i, i % 5] for i in range(40)]
    rows[7][0] = text
    path = written(tmp_path / "t.csv", ["x", "y"], rows)
    with refused_in_one_line("row 9, column 'x': .* is not a number") as caught:
        load(path, target="y")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


def test_a_column_is_found_by_the_name_in_the_file_and_by_the_printed_one(tmp_path):
    path = written(tmp_path / "t.csv", ["x", "ok\x01\n bad"], [[i, i % 3] for i in range(30)])
    assert load(path, target="ok\x01\n bad").target == load(path, target=r"ok\x01 bad").target == r"ok\x01 bad"


def test_blank_cells_are_missing(tmp_path):
    rows = [[i, "abc"[i % 3], i % 2] for i in range(30)]
    rows[4][1] = "   "
    path = written(tmp_path / "t.csv", ["x", "kind", "y"], rows)
    assert "1 missing value in 'kind' became the category 'missing'" in " ".join(load(path, target="y").notes)
    with refused_in_one_line("row 6, column 'kind' is missing"):
        load(path, target="kind")


def test_letters_of_all_languages_stay(tmp_path):
    kinds = ["Größe", "中文", "naïve", "a 🙂", string.punctuation.replace('"', "")]
    path = written(tmp_path / "t.csv", ["x", "y"], [[i, kinds[i % 5]] for i in range(40)])
    assert set(load(path, target="y").classes) == set(kinds)
