"""Settings: one declaration is flag, default, check, help and keyword; text and values go both ways."""

import math
import re
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from experiments import frame
from experiments.frame import settings, shared_flags
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
    hidden: tuple[int, ...] = frame.wholes((8, 8), help="Sizes.", ordered=True)
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
    st.lists(st.floats(1e-300, 1e300), min_size=1, max_size=5, unique=True),
    st.floats(0, 1),
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
        ("--ks=1:3", "--ks=1:3: out of range: give LOW:HIGH, such as 2:10, or whole numbers from 2 to"),
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
