"""Parallel text: dates whose held-out styles are made of seen parts, published sets, and files of one's own."""

import datetime
import gzip
import re

import pytest

from mllab.data import pairs
from mllab.data.readers import parallel
from mllab.data.sets import dates
from support.mistakes import refused_in_one_line


def test_dates_are_the_same_again_and_mean_their_iso_form():
    parts, groups = dates.dates()
    assert (parts, groups) == dates.dates()
    assert {part: len(each) for part, each in parts.items()} == dates.COUNTS
    english = re.compile(r"(\d+)(?:st|nd|rd|th)? ([A-Z][a-z]+) (\d{4})")
    seen = 0
    for written, iso in parts["train"] + parts["test"]:
        date = datetime.date.fromisoformat(iso)
        assert f"{date.year % 100:02d}" in written
        assert f"{date.day}" in written
        if (found := english.search(written)) and found[2] in dates.LOCALES["English"].months:
            read = datetime.datetime.strptime(f"{found[1]} {found[2]} {found[3]}", "%d %B %Y").date()
            assert read == date
            seen += 1
    assert seen > 100


def test_no_date_and_no_held_out_style_is_in_training_and_all_its_parts_are():
    parts, groups = dates.dates()
    days = {part: {iso for _, iso in each} for part, each in parts.items()}
    assert not days["train"] & days["test"]
    assert not days["train"] & days["validation"]
    assert not days["validation"] & days["test"]
    count = len(dates.ARRANGEMENTS)
    styles = {
        (place, each): dates.held_out(place, each) for place in range(len(dates.LOCALES)) for each in range(count)
    }
    assert sum(styles.values()) == 2 * len(dates.LOCALES)
    for each in range(count):  # other locales train each arrangement
        assert sum(not styles[place, each] for place in range(len(dates.LOCALES))) >= 6
    for place in range(len(dates.LOCALES)):  # other arrangements train each kind of name of a locale
        for name in ("{month}", "{short}", "{weekday}", "{ordinal}"):
            uses = [each for each, text in enumerate(dates.ARRANGEMENTS) if name in text]
            assert any(not styles[place, each] for each in uses)
    train = {written for written, _ in parts["train"]}
    held_out = [written for (written, _), group in zip(parts["test"], groups, strict=True) if group == dates.HELD_OUT]
    assert not train & set(held_out)
    assert any(re.fullmatch(r"\d+ [a-z]+ \d{4}", each) for each in held_out)


def test_no_text_means_two_dates():
    meanings: dict[str, str] = {}
    draw = [datetime.date(year, month, day) for year in (1950, 2049) for month in range(1, 13) for day in (1, 2, 3, 12)]
    for date in draw:
        for locale in dates.LOCALES.values():
            for arrangement in (*dates.ARRANGEMENTS, *dates.NUMERIC):
                text = dates.written(date, locale, arrangement)
                assert meanings.setdefault(text, date.isoformat()) == date.isoformat(), text
    written = dates.written
    assert (
        written(datetime.date(1998, 3, 3), dates.LOCALES["German"], dates.ARRANGEMENTS[1]) == "Dienstag, 3. März 1998"
    )
    assert written(datetime.date(1998, 3, 3), dates.LOCALES["English"], dates.ARRANGEMENTS[2]) == "March 3rd, 1998"
    assert written(datetime.date(1998, 3, 11), dates.LOCALES["English"], dates.ARRANGEMENTS[0]) == "11th March 1998"
    assert written(datetime.date(1998, 3, 3), dates.LOCALES["Spanish"], dates.ARRANGEMENTS[0]) == "3 de marzo de 1998"


ROWS = "".join(f"quelle {n}\tgoal {n // 2}\tnote\r\n" for n in range(40))


def test_a_table_is_read_and_split_by_target(tmp_path):
    path = tmp_path / "own.tsv"
    raw = b"\xef\xbb\xbf" + ("\n \t \n" + ROWS + "a\t\n").encode()
    for content in (raw, gzip.compress(raw)):
        path.write_bytes(content)
        loaded = pairs.load(path, source="x")
        assert (loaded.skipped, loaded.source, loaded.target) == (3, "x", "target")
        targets = {part: {target for _, target in each} for part, each in loaded.parts.items()}
        assert targets["train"] | targets["validation"] | targets["test"] == {f"goal {n}" for n in range(20)}
        assert sum(map(len, targets.values())) == 20
        assert ("quelle 7", "goal 3") in [pair for each in loaded.parts.values() for pair in each]
        assert loaded.parts == pairs.load(path).parts != pairs.load(path, split_seed=1).parts


def test_paired_files_are_read(tmp_path):
    source, target = tmp_path / "a.de", tmp_path / "a.en"
    source.write_text("eins\n\nzwei\ndrei\nvier")
    target.write_text("one\nnothing\ntwo\nthree\nfour\n")
    loaded = pairs.load(f"{source},{target}")
    assert loaded.skipped == 1
    assert sorted(pair for each in loaded.parts.values() for pair in each)[0] == ("drei", "three")
    target.write_text("one\n")
    with refused_in_one_line(r"a\.de has 5 lines and .*a\.en 1"):
        pairs.load(f"{source},{target}")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "no pair of sentences"),
        (b"\t\n \t x\n", "no pair of sentences"),
        (b"a\tb\nc d\n", "line 2: no tab"),
        (b"a\tb\n\xe4\tb\n", "line 2: no UTF-8 .*byte 0 of the line, 0xe4"),
        (b"a\tb\nc\tb\0\n", "line 2: a NUL byte"),
        (b"a\tb\nc\td\n", "2 distinct target sentences: give three"),
    ],
)
def test_a_malformed_table_is_refused_in_one_line(raw, message, tmp_path):
    path = tmp_path / "own.tsv"
    path.write_bytes(raw)
    with refused_in_one_line(message):
        pairs.load(path)


def test_what_leads_nowhere_is_refused(tmp_path):
    with refused_in_one_line("unknown parallel text 'multi30': did you mean 'multi30k'"):
        pairs.load("multi30")
    with refused_in_one_line("no file .*none.tsv"):
        pairs.load("none.tsv")
    with refused_in_one_line("3 files"):
        pairs.load("a,b,c")
    with refused_in_one_line("unknown language of multi30k 'dee': did you mean 'de'"):
        pairs.load("multi30k", source="dee")
    with refused_in_one_line("are both 'en'"):
        pairs.load("multi30k", source="en", target="en")
    path = tmp_path / "no.zip"
    path.write_bytes(b"PK\3\4 no archive")
    with refused_in_one_line("no zip archive"):
        parallel.read_member(path, "fra.txt")


def test_published_sets_have_the_published_sizes(data_dir):
    loaded = pairs.load("multi30k", data_dir=data_dir, download=False)
    assert {part: len(each) for part, each in loaded.parts.items()} == {
        "train": 29000,
        "validation": 1014,
        "test": 1000,
    }
    assert loaded.parts["test"][0][1] == "A man in an orange hat starring at something."
    french = pairs.load("tatoeba", source="en", data_dir=data_dir, download=False)
    english = {part: {source for source, _ in each} for part, each in french.parts.items()}
    assert len(english["test"]) == len(french.parts["test"]) == 2000
    assert not english["train"] & (english["test"] | english["validation"])
    assert not english["validation"] & english["test"]
