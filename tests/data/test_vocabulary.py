"""Vocabularies: tokens and sentences that come back, and headers that describe none."""

import json
import sys

import pytest

from mllab.data import vocabulary
from mllab.special_tokens import END, FIRST_WORD, UNKNOWN
from support.mistakes import refused_in_one_line

SENTENCES = ["Ein Hund schläft.", "Ein Hund läuft, und ein Hund schläft!", "Der Hund 'Rex' läuft."] * 3


def made(kind):
    if kind == "subwords":
        pytest.importorskip("tokenizers")
        return vocabulary.subwords(SENTENCES, 60)
    return {"characters": vocabulary.characters, "words": vocabulary.words}[kind](SENTENCES)


@pytest.mark.parametrize("kind", vocabulary.KINDS)
def test_sentences_come_back_and_so_does_the_vocabulary(kind):
    known = made(kind)
    assert known.words[:FIRST_WORD] == vocabulary.SPECIALS
    for sentence in SENTENCES[:2]:
        ids = known.encode(sentence)
        assert ids[-1] == END
        assert min(ids[:-1]) >= FIRST_WORD
        assert known.join(known.named([*ids, 0, 0])) == sentence
    ids = known.encode("Ein 中 Hund")
    assert ids.count(UNKNOWN) == 1
    assert known.tokens("Ein 中 Hund")[ids.index(UNKNOWN)] == "中"
    assert known.encode(" \t ") == [END]
    again = vocabulary.from_header(json.loads(json.dumps(known.header())))
    assert again == known
    assert again.encode(SENTENCES[1]) == known.encode(SENTENCES[1])


def test_subwords_are_the_most_frequent_merges():
    """The first merges of a corpus of three words, by hand (Sennrich et al. 2016, Algorithm 1)."""
    pytest.importorskip("tokenizers")
    known = vocabulary.subwords(["low low low lower", "new new"], 30)
    assert known.merges[0] == ("l", "o")  # 4 times, as (o, w) and (▁, l): the library takes the first by its ids
    assert known.tokens("low new") == ["▁low", "▁new"]
    assert "".join(known.tokens("lower")) == "▁lower"
    assert known.tokens("low.")[-1] == "."


def test_words_are_counted_and_lower_case_is_kept():
    known = vocabulary.words(["b B a", "b c c"], lowercase=True, minimum=2)
    assert known.words[FIRST_WORD:] == ("b", "c")
    assert known.encode("C a") == [known.ids["c"], UNKNOWN, END]
    assert vocabulary.words(["It's 3.5 (or so), she said."], minimum=1).tokens("It's 3.5 (so), A!") == [
        "It's", "3.5", "(", "so", ")", ",", "A", "!",
    ]  # fmt: skip
    with refused_in_one_line("none of the 1 words occurs 2 times"):
        vocabulary.words(["one"])


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "bytes"},
        {"words": "abc"},
        {"words": []},
        {"words": [*vocabulary.SPECIALS, 3]},
        {"words": ["a", *vocabulary.SPECIALS]},
        {"words": [*vocabulary.SPECIALS, "a", "a"]},
        {"words": [*vocabulary.SPECIALS, "ab"]},
        {"lowercase": "yes"},
        {"merges": None},
        {"merges": [["a", "b"]]},
        {"kind": "subwords", "merges": [["a", "b"]]},
        {"kind": "subwords", "merges": [["a"]]},
        {"kind": "subwords", "merges": [[["a"], "b"]]},
    ],
)
def test_a_header_without_a_vocabulary_is_refused_in_one_line(change):
    header = vocabulary.characters(["ba"]).header()
    assert vocabulary.from_header(header).words[FIRST_WORD:] == ("a", "b")
    with refused_in_one_line("in its header .*publish it again"):
        vocabulary.from_header(header | change)
    with refused_in_one_line("publish it again"):
        vocabulary.from_header([header])


def test_the_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with refused_in_one_line(r"pip install 'mllab\[translation\]'"):
        vocabulary.subwords(SENTENCES, 60)
