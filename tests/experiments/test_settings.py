"""Settings: one declaration is flag, default, check, help and keyword; text and values go both ways."""

import itertools
import math
import re
import tracemalloc
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from experiments import frame, predict
from experiments.frame import kinds, settings, shared_flags
from mllab.errors import UserError
from support.mistakes import refused_in_one_line


@dataclass(frozen=True, kw_only=True)
class Settings(frame.Table, frame.Folds):
    """All kinds."""

    dataset: str = frame.Data.with_default("dataset", "moons")
    name: str | None = frame.text(None, help="A name.")
    count: int = frame.whole(3, help="A count.", low=1, high=9)
    share: float = frame.number(0.5, help="A share.", low=0, high=1)
    loud: bool = frame.switch(help="Loud.")
    kind: str | None = frame.choice(["round", "square"], None, help="A kind.", kind="shape")
    kinds: tuple[str, ...] = frame.choices(["round", "square"], help="Kinds.", kind="shape")
    c: tuple[float, ...] = frame.grid("0.01:100:5", help="Costs.")
    ks: tuple[int, ...] | None = frame.wholes(None, help="Counts.", low=2)
    hidden: tuple[int, ...] = frame.wholes((8, 8), help="Sizes.", ordered=True, most=100)
    size: tuple[int, int] | None = frame.size(None, help="Size.")
    rates: tuple[tuple[str, float], ...] = frame.rates(["adam", "sgd"], help="Rates.")


def test_defaults_values_and_text_give_the_same_settings():
    made = Settings()
    assert (made.dataset, made.count, made.kinds, made.folds) == ("moons", 3, ("round", "square"), 5)
    np.testing.assert_allclose(made.c, np.logspace(-2, 2, 5), rtol=1e-12)
    by_value = Settings.make(
        {"c": [10, 1], "ks": range(2, 6), "size": (3, 4), "rates": {"adam": 0.5}, "kinds": ["round"]}
    )
    by_text = Settings.make({"c": "1,10", "ks": "2:5", "size": "3x4", "rates": "adam=0.5", "kinds": "round"})
    assert by_value == by_text
    assert by_value.c == (1.0, 10.0)
    assert by_value.ks == (2, 3, 4, 5)
    assert Settings(c=2.0).c == (2.0,)
    assert Settings(kinds="all").kinds == ("round", "square")


def parsed(*words):
    values, rest = settings.parse(Settings, words, shared_flags.SHARED)
    return Settings.make(values), rest


def test_the_flagfile_repeats_the_settings(tmp_path):
    made = Settings.make(
        {"c": "1e-3:7:4", "hidden": (5, 3, 5), "loud": True, "share": 0.1, "size": "2x3", "name": "a b"}
    )
    path = tmp_path / "flags.cfg"
    path.write_text(made.flagfile())
    assert parsed(f"--flagfile={path}") == (made, [])
    assert "--c=0.001:7:4\n" in made.flagfile()
    assert "workdir" not in made.flagfile()


def test_a_flagfile_of_an_earlier_version_may_hold_flags_of_other_experiments_at_their_defaults(tmp_path):
    path = tmp_path / "flags.cfg"
    path.write_text("--count=4\n--epochs=20\n--restarts=10\n")
    assert parsed(f"--flagfile={path}")[0].count == 4
    path.write_text("--count=4\n--epochs=21\n")
    with refused_in_one_line("--epochs=21 in .*flags.cfg: this experiment does not read it; remove the line"):
        parsed(f"--flagfile={path}")


@examples(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(1e-37, 1e38), min_size=1, max_size=5, unique=True),
    st.just(0.0) | st.floats(1e-37, 1),
    st.lists(st.integers(2, 99), min_size=1, unique=True),
)
def test_any_value_survives_its_text(c, share, ks):
    made = Settings(c=c, share=share, ks=ks)
    lines = [line.removeprefix("--").partition("=") for line in made.flagfile().splitlines()]
    assert Settings.make({name: value for name, _, value in lines}) == made


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("--c=", "--c=: give LOW:HIGH:COUNT"),
        ("--c=wide", "--c=wide: give LOW:HIGH:COUNT"),
        ("--c=1e-4:1", "--c=1e-4:1: give LOW:HIGH:COUNT"),
        ("--c=1:1e400:3", "--c=1:1e400:3: LOW must be positive and below HIGH"),
        ("--c=5:1:3", "LOW must be positive and below HIGH"),
        ("--c=1:2:1000000000", "COUNT from 2 to"),
        ("--c=1,-1", "a number out of range"),
        ("--c=1,nan", "a number out of range"),
        ("--c=1,inf", "a number out of range"),
        ("--c=1,1e308", "--c=1,1e308: beyond float32"),
        ("--c=1e-308", "beyond float32"),
        ("--c=2,2", "a number is given twice"),
        ("--count=0", "--count=0: out of range: give a whole number from 1 to 9"),
        ("--count=1.5", "--count=1.5: give a whole number from 1 to 9"),
        ("--count=99999999999999999999999999", "out of range"),
        ("--share=nan", "--share=nan: not a finite number"),
        ("--share=2", "--share=2: out of range"),
        ("--loud=maybe", "maybe"),
        ("--kind=rond", "--kind: unknown shape 'rond': did you mean 'round'?"),
        ("--kinds=round,round", "each once"),
        ("--kinds=", "give one or more of round, square"),
        ("--ks=1:3", "--ks=1:3: out of range: give LOW:HIGH, such as 2:10, or whole numbers of 2 or more"),
        ("--ks=5:2", "give LOW:HIGH"),
        ("--ks=2:99999999999", "more than 100,000"),
        ("--ks=2,2", "given twice"),
        ("--hidden=12,x", "--hidden=12,x"),
        ("--size=3", "give HEIGHTxWIDTH"),
        ("--size=0x4", "give HEIGHTxWIDTH"),
        ("--rates=adam", "give NAME=RATE"),
        ("--rates=adam=0", "a rate is a positive number"),
        ("--rates=adam=1,adam=2", "given twice"),
        ("--name=", "--name=: empty"),
        ("--folds=1", "--folds=1: out of range"),
        ("--epochs=3", "unknown flag '--epochs'"),
        ("--nme=x", "unknown flag '--nme': did you mean '--name'?"),
        ("--dataset", "Missing value for flag --dataset"),
        ("--flagfile=/nowhere", "--flagfile=/nowhere: cannot read it: No such file or directory; name a flags.cfg"),
    ],
)
def test_a_bad_flag_is_one_line(word, message):
    with refused_in_one_line(re.escape(message)):
        parsed(word)


@pytest.mark.parametrize(
    "overrides",
    [{"c": ()}, {"c": None}, {"count": "x"}, {"count": True}, {"count": math.inf}, {"share": "half"}, {"ks": [2.5]},
     {"size": (1, 2, 3)}, {"rates": {"adam": "fast"}}, {"loud": 1}, {"kinds": ()}, {"epochs": 3}],
)  # fmt: skip
def test_a_bad_keyword_is_one_line(overrides):
    name = next(iter(overrides))
    with refused_in_one_line(name):
        Settings.make(overrides)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0.1,0.01", [0.01, 0.1]), ("1e-4:1:5", [1e-4, 1e-3, 1e-2, 1e-1, 1.0]), ("0.5", [0.5]), ("2:2:1", [2.0])],
)
def test_grids_by_text(text, expected):
    np.testing.assert_allclose(Settings(c=text).c, expected)


@pytest.mark.parametrize("text", ["1:2", "1:2:3:4", "0", "-1", "1:2:0", "1:2:1", "1:2:x", "1,,2", ":"])
def test_malformed_grids_are_one_line(text):
    with refused_in_one_line(f"^--c={text}: "):
        Settings(c=text)


def test_words_that_are_no_flags_are_left_over():
    made, rest = parsed("a.png", "--count=4", "b.png", "--noloud")
    assert rest == ["a.png", "b.png"]
    assert made.count == 4
    assert made.loud is False


def test_help_names_every_flag_with_its_default():
    text = settings.help_text(Settings, "experiments.x", "What it does.")
    assert text.startswith("usage: python -m experiments.x [--flag=value ...]\n\nWhat it does.\n")
    for name in Settings.table():
        assert f"--{name}\n" in text.replace("[no]", ""), name
    assert "Costs. (default: 0.01:100:5)" in text
    assert text.index("--count") < text.index("--folds")  # an experiment's own flags come first


# ── Values from Python ──────────────────────────────────────────────────────────────────────────────────────────────

DIGITS = "9" * 5000  # more than Python's int() takes
SCALARS = st.one_of(
    st.none(), st.booleans(), st.text(st.characters(), max_size=20), st.integers(), st.floats(), st.binary(max_size=5),
    st.decimals(), st.fractions(), st.complex_numbers(), st.dates(),
    st.sampled_from([1, -1]).map(lambda sign: sign * 10**5000), st.sampled_from([10**20, 2**31]),
    st.sampled_from([DIGITS, f"1:{DIGITS}", "a\nb", "\x1b[0m", "x" * 9999]),
    st.sampled_from([np.int64(3), np.uint8(4), np.float32(0.5), np.bool_(True), np.str_("round")]),
    st.sampled_from([np.array(3), np.array([2, 3]), np.zeros((2, 2)), np.array(["round"]), np.array([])]),
    st.sampled_from([object(), int, range(3, 6), range(10**12), itertools.count(), Path("a"), Path("a\n")]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=2)
)


@pytest.mark.parametrize("name", [*Settings.table(), "pictures"])
@examples(max_examples=60, deadline=None)
@given(VALUES)
def test_any_value_is_refused_in_one_line_or_survives_its_text(name, value):
    cls = predict.Settings if name == "pictures" else Settings
    try:
        made = cls.make({name: value})
    except UserError as error:
        assert str(error).isprintable()  # noqa: PT017 - and one line
        assert len(str(error)) < 500  # noqa: PT017
        assert name in str(error)  # noqa: PT017
        return
    stored, setting = getattr(made, name), cls.table()[name]
    if stored is None:
        assert cls.defaults()[name] is None
    elif name != "pictures" or len(stored) == 1:  # of the command line: each is a word of its own
        assert setting.stored(name, setting.show(stored)) == stored
        lines = made.flagfile().splitlines()
        assert len([line for line in lines if line.startswith(f"--{name}=")]) == (name != "workdir" and stored != ())


@pytest.mark.parametrize("name", [*Settings.table(), "pictures"])
@pytest.mark.parametrize(
    "endless", [itertools.count(), range(10**9), [itertools.count()], {"a": [range(10**9)]}], ids=str
)
def test_an_endless_value_is_refused_without_being_collected(name, endless, monkeypatch):
    monkeypatch.setattr(kinds, "MAX_NUMBERS", 100)
    cls = predict.Settings if name == "pictures" else Settings
    tracemalloc.start()
    with refused_in_one_line(f"^--{name}[=:]"):
        cls.make({name: endless})
    assert tracemalloc.get_traced_memory()[1] < 10**7
    tracemalloc.stop()


@pytest.mark.parametrize("name", [name for name, value in Settings.defaults().items() if value is not None])
def test_none_is_refused_where_the_default_is_a_value(name):
    with refused_in_one_line(f"^--{name}=None: (give|name)"):
        Settings.make({name: None})


@pytest.mark.parametrize(
    "word",
    [f"--count={DIGITS}", f"--c={DIGITS}", f"--ks=1:{DIGITS}", "--name=a\nb", "--dataset=a\nb",
     "--data_dir=\x1b[0m", "--workdir=a\x00b", "--target=x\u2028y", f"--loud={DIGITS}", f"--{DIGITS}=1",
     "--flagfile=" + "x" * 5000, "--flagfile=/", "--flagfile=", "--flagfile", "--hidden=1:1000", "--undefok=x"],
)  # fmt: skip
def test_hostile_words_are_one_short_line(word):
    with refused_in_one_line("^(--|unknown flag|flag --loud)") as caught:
        parsed(word)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


# ── Paths and flagfiles ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_path_is_recorded_so_that_it_replays_in_another_folder(tmp_path, monkeypatch):
    (tmp_path / "own.csv").write_text("a\n1\n")
    monkeypatch.chdir(tmp_path)
    made = Settings(dataset="own.csv", data_dir=".", name="own.csv")
    assert made.dataset == "own.csv"  # as reports show it
    lines = made.flagfile().splitlines()
    assert f"--dataset={tmp_path / 'own.csv'}" in lines
    assert f"--data_dir={tmp_path}" in lines
    assert "--name=own.csv" in lines  # a text, not a path
    (tmp_path / "flags.cfg").write_text(made.flagfile())
    (tmp_path / "moons").mkdir()
    assert "--dataset=moons" in Settings().flagfile().splitlines()  # a set of the catalog, whatever folders there are
    assert f"--dataset={tmp_path / 'moons'}" in Settings(dataset="moons/").flagfile().splitlines()
    earlier = made.flagfile().replace(f"{tmp_path}/own.csv", "own.csv")
    assert made.differences(earlier, shared_flags.SHARED) == []
    absolute = Settings(dataset=str(tmp_path / "own.csv"), data_dir=".", name="own.csv")
    assert absolute.differences(earlier, shared_flags.SHARED) == []
    other = Settings(dataset="other.csv", data_dir=".", name="own.csv")
    assert other.differences(earlier, shared_flags.SHARED) == ["--dataset (own.csv, now other.csv)"]
    inner = tmp_path / "inner"
    inner.mkdir()
    monkeypatch.chdir(inner)
    assert parsed("--flagfile=../flags.cfg")[0].dataset == str(tmp_path / "own.csv")
    assert absolute.differences((tmp_path / "flags.cfg").read_text(), shared_flags.SHARED) == []


def test_a_path_may_begin_at_home_and_may_be_a_path_object(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Settings(data_dir="~/data").data_dir == f"{tmp_path}/data"
    assert Settings(dataset=tmp_path / "own.csv").dataset == str(tmp_path / "own.csv")


def test_flags_that_an_earlier_version_lacked_mean_their_defaults():
    made = Settings(count=4)
    lines = [line for line in made.flagfile().splitlines() if not line.startswith(("--share=", "--loud="))]
    assert made.differences("\n".join([*lines, "--noloud"]), shared_flags.SHARED) == []
    assert Settings(count=4, share=0.25).differences("\n".join(lines), shared_flags.SHARED) == [
        "--share (0.5, now 0.25)"
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"--count=4\n--flagfile={path}\n", "it names itself"),
        (b"\xff\xfe\x00", "it is no text"),
        (b"x" * 1_000_001, "longer than 1,000,000 characters"),
        (b"--count=4\n--cuont=3\n", "unknown flag '--cuont': did you mean '--count'"),
        (b"--epochs=21\n", "--epochs=21 in .*: this experiment does not read it; remove the line"),
    ],
)
def test_a_flagfile_that_cannot_be_used_is_one_line(content, message, tmp_path):
    path = tmp_path / "flags.cfg"
    path.write_bytes(content.replace(b"{path}", bytes(path)))
    with refused_in_one_line(message):
        parsed(f"--flagfile={path}")


def test_a_flagfile_may_have_comments_and_flags_after_it_count(tmp_path):
    path = tmp_path / "flags.cfg"
    path.write_text("# of a run\n\n  --count=4\n// as absl has them\n--name=a b \n--noloud\n")
    made, rest = parsed("--flagfile", str(path), "--count=5", "--", "--word")
    assert (made.count, made.name, made.loud, rest) == (5, "a b ", False, ["--word"])
