"""The text of a user error: one printable line, whatever the user's own names and values hold."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mllab.errors import UserError, escaped, shortened, unknown


@given(st.text(st.characters()))
def test_a_message_is_one_printable_line(text):
    for error in (UserError(text), unknown("column", text, ["a", "b"])):
        assert str(error).isprintable()
    assert str(pickle.loads(pickle.dumps(UserError(text)))) == str(UserError(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("naïve 東京 - 'quoted' \\", "naïve 東京 - 'quoted' \\"),
        ("right\u202eleft", r"right\u202eleft"),
        ("caf\udce9.csv", r"caf\udce9.csv"),  # a file name that is no UTF-8
    ],
)
def test_characters_that_do_not_print_are_escaped(text, expected):
    assert escaped(text) == expected
    assert str(UserError(text)) == expected


@given(st.text(), st.integers(4, 80))
def test_long_values_are_shortened_in_the_middle(text, length):
    short = shortened(text, length)
    assert len(short) <= max(length, 0)
    assert short == text or (len(text) > length and "..." in short and text.startswith(short.partition("...")[0]))


def test_a_long_unknown_name_is_shortened():
    assert len(str(unknown("flag", "9" * 5000, ["rows"]))) < 120
