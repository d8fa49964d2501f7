"""Texts as characters: ids and vocabulary, texts by name, and files that are no text."""

import gzip
import hashlib

import numpy as np
import pytest

from mllab.data import texts
from mllab.data.readers import characters
from support.mistakes import refused_in_one_line


def test_ids_are_positions_in_the_sorted_distinct_characters(tmp_path):
    path = tmp_path / "t.txt"
    text = "banana ☃\r\n𝔘\tb"
    for raw in (text.encode(), b"\xef\xbb\xbf" + text.encode(), gzip.compress(text.encode())):
        path.write_bytes(raw)
        read = texts.load(path)
        assert read.vocabulary == "".join(sorted(set(text)))
        assert read.ids.dtype == np.int32
        assert [read.vocabulary[index] for index in read.ids] == list(text)
        assert characters.decoded(read.ids, read.vocabulary) == text
        assert read.sha256 == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", r"t\.txt has 0 characters"),
        (b"ab", r"has 2 characters"),
        (b"abc\0d", r"byte 3 is NUL"),
        ("größe".encode("latin1"), r"no UTF-8: .* at byte 2 \(0xf6\)"),
        (b"abc" + "ß".encode()[:1], r"at byte 3 \(0xc3\)"),
        (gzip.compress(b"abcdef")[:-3], "truncated or damaged"),
    ],
    ids=["empty", "short", "NUL", "latin1", "cut", "gzip"],
)
def test_a_file_that_is_no_text_is_refused_in_one_line(raw, message, tmp_path):
    path = tmp_path / "t.txt"
    path.write_bytes(raw)
    with refused_in_one_line(message):
        texts.load(path)


def test_names_and_paths_that_lead_nowhere_are_refused(tmp_path):
    with refused_in_one_line("unknown text 'tinyshakespear': did you mean 'tinyshakespeare'"):
        texts.load("tinyshakespear")
    with refused_in_one_line("no file"):
        texts.load(tmp_path / "none.txt")
    with refused_in_one_line("it is a folder"):
        texts.load(tmp_path)


def test_a_character_that_was_never_seen_is_named():
    with refused_in_one_line(r"prime: the character '中' \(U\+4E2D\) in 'ab中' is not among the 2 characters"):
        characters.encode("ab中", "ab", "prime")
    with refused_in_one_line("prime is empty"):
        characters.encode("", "ab", "prime")


def test_the_embedded_text_needs_no_network():
    read = texts.load("python_reference")
    assert 200_000 < len(read.ids) < 2_000_000
    assert "yield" in texts.python_reference()
    assert read.licence
    assert "characters" in repr(read)
