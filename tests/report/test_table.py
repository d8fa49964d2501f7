import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mllab.report import table
from mllab.report.table import BLANK, Table, number


@pytest.mark.parametrize(
    ("mean", "low", "high", "shown"),
    [
        (0.97213, 0.96820, 0.97606, "0.972 ± 0.004"),
        (0.9832869080779943, 0.983286908077994, 0.9832869080779946, "0.9833 ± 0"),
        (0.97213, 0.95213, 0.99213, "0.97 ± 0.02"),
        (0.97213, 0.95830, 0.98596, "0.972 ± 0.014"),  # 0.01 would lose a third of 0.0138
        (1234.5, 1100, 1369, "1230 ± 130"),
        (10.0, 9.02, 10.98, "10.0 ± 1.0"),  # 0.98 rounds to 1.0, which needs its second digit
        (0.0, -0.3, 0.3, "0.0 ± 0.3"),
        (-3.21, -3.5, -2.92, "-3.2 ± 0.3"),
        (2.31e-5, 2.27e-5, 2.35e-5, "(2.31 ± 0.04)e-5"),
        (3.2e8, 3.0e8, 3.4e8, "(3.2 ± 0.2)e8"),
        (0.95, 0.95, 0.95, "0.95 ± 0"),
        (0.12345, math.nan, math.nan, "0.123"),
        (math.nan, 0.0, 1.0, BLANK),
        (math.inf, 0.0, 1.0, BLANK),
        (0.5, -math.inf, math.inf, "0.5"),
    ],
)
def test_a_number_has_the_digits_that_its_interval_supports(mean, low, high, shown):
    assert number(mean, low, high) == shown


@given(
    st.floats(-1e12, 1e12),
    st.floats(1e-12, 1e12),
)
def test_what_a_number_shows_is_near_what_it_stands_for(mean, half_width):
    shown = number(mean, mean - half_width, mean + half_width)
    true_half = mean + half_width - mean  # as far as float64 kept it
    if true_half <= 1e-12 * abs(mean):
        return  # shown as 0
    inside, _, exponent = shown.partition(")e")
    scale = float(f"1e{exponent or 0}")
    shown_mean, shown_half = (float(part) * scale for part in inside.lstrip("(").split(" ± "))
    # Float64 holds 1e-16 of the larger; a half-width keeps one digit of at least 2, or two.
    assert abs(shown_half - true_half) <= 0.26 * true_half + 1e-14 * abs(mean)
    assert abs(shown_mean - mean) <= 0.5 * shown_half + 1e-14 * abs(mean)


RACE = Table(
    ["optimizer", "best rate", "test accuracy", "steps", "non-finite"],
    [
        ["sgd", "0.3", number(0.9721, 0.968, 0.976), 440, "0/24"],
        ["momentum", "0.1", number(0.97, 0.95, 0.99), "1200 (2/3 seeds)", "10/24"],
        ["schedule_free_adam", None, math.nan, None, "3/24"],
        ["adam", np.float32(0.0003), "≥0.9", 88, "2/24"],
    ],
    best=1,
    caption="95% intervals",
)


def test_decimal_points_stand_in_line():
    lines = RACE.lines()
    header, body = lines[0], lines[2:6]
    rates = [re.search(r"(?<= )0\.\d+", line) for line in body]
    assert len({match.start() for match in rates if match}) == 1
    scores = [body[row].index("0.9", header.index("best rate") + 9) + 1 for row in (0, 1, 3)]
    assert len(set(scores)) == 1
    assert len({line.rindex("/") for line in body}) == 1
    assert {len(line) for line in body} == {len(header)}


def test_the_best_row_is_marked_and_missing_figures_are_dashes():
    lines = RACE.lines()
    assert [line.startswith("* ") for line in lines] == [False, False, False, True, False, False, False]
    assert lines[4].split() == ["schedule_free_adam", BLANK, BLANK, BLANK, "3/24"]
    assert lines[-1] == "95% intervals"


@pytest.mark.parametrize(
    ("cells", "is_numeric"),
    [
        (["1", "2.5", BLANK], True),
        (["0.97 ± 0.01", "(2.31 ± 0.04)e-5"], True),
        (["≥1.7", "0/24", "97%", "1e-5", "−3"], True),
        (["1200 (2/3 seeds)"], True),
        (["adam", "1"], False),
        (["1 of 3 lanes"], False),
        (["", BLANK], False),
        ([], False),
    ],
)
def test_numbers_stand_to_the_right_and_words_to_the_left(cells, is_numeric):
    assert Table(["column"], [[cell] for cell in cells]).numeric() == [is_numeric]


@settings(max_examples=50)
@given(st.lists(st.lists(st.text(max_size=8), min_size=2, max_size=2), max_size=4))
def test_no_cell_breaks_the_table(rows):
    lines = Table(["a", "b"], rows).lines()
    assert len(lines) == len(rows) + 2
    assert all(line.isprintable() for line in lines)


def test_a_long_caption_is_as_wide_as_its_table():
    lines = Table(["name", "value"], [["x" * 70, 1]], caption="many words " * 30).lines()
    assert len(lines) > 6
    assert max(map(len, lines[3:])) <= len(lines[1])
    assert " ".join(lines[3:]) == ("many words " * 30).strip()


def test_a_short_row_is_refused():
    with pytest.raises(ValueError, match="row 1 has 1 cells for 2 columns"):
        Table(["a", "b"], [[1, 2], [3]])


NAN = math.nan


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (table.interval((0.97213, 0.96820, 0.97606, 5)), "0.972 ± 0.004"),
        (table.interval(np.array([0.97213, NAN, NAN])), "0.972"),
        (table.interval((0.5, None, None)), "0.5"),
        (table.interval(None), BLANK),
        (table.percent((0.97213, 0.96820, 0.97606)), "97.2 ± 0.4%"),
        (table.percent(np.array([0.97213, NAN, NAN])), "97.21%"),
        (table.percent((None, None, None)), BLANK),
        (table.percent_bounds(0.9719, 0.9964), "97.2–99.6%"),
        (table.points((3.14, 2.84, 3.44, 5)), "+3.1 ± 0.3"),
        (table.points((-3.14, -3.44, -2.84)), "−3.1 ± 0.3"),
        (table.points((-3.14, None, None)), "−3.1"),
        (table.points((0.0, NAN, NAN)), "+0.0"),
        (table.points((NAN, NAN, NAN)), BLANK),
        (table.share(0.1234), "12.3%"),
        (table.share(0.1234, 0), "12%"),
        (table.share(0.98765, 2), "98.77%"),
        (table.share(1.0), "100.0%"),
        (table.share(None), BLANK),
        (table.fraction(0.005), "0.5%"),
        (table.fraction(1.0), "100%"),
        (table.fraction(1 / 3), "33.3%"),
        (table.probability(0.994), "99%"),
        (table.probability(0.995), ">99%"),
        (table.significant(14.4123), "14.4"),
        (table.significant(12345.678, 5), "12346"),
        (table.significant(0.00012345, 2), "0.00012"),
        (table.significant(NAN), BLANK),
        (table.significant(None), BLANK),
        (table.short(0.000123456), "0.000123"),
        (table.short(112.3, 2), "110"),
        (table.short(123456.0), "123,000"),
        (table.short(2.345e-9, 2), "2.3e-9"),
        (table.listed([1, 2, 3]), "1, 2, 3"),
        (table.listed([0.001, 0.1], "g"), "0.001, 0.1"),
        (table.ranged(range(1, 51)), "1 to 50"),
        (table.ranged([1, 2]), "1, 2"),
        (table.ranged([1, 3, 9]), "1, 3, 9"),
        (table.printable("a\nb\x1b[0m"), "a b [0m"),
        (table.legible("short\tname"), "short name"),
    ],
)
def test_each_kind_of_number_and_name_has_one_text(shown, expected):
    assert shown == expected


def test_a_long_name_keeps_both_its_ends():
    name = table.legible("a_very_long_name_of_a_column_2")
    assert len(name) == 24
    assert name.startswith("a_very_long_")
    assert name.endswith("_a_column_2")


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.0, "0"),
        (0.001, "0.001"),
        (1e-5, "1e-5"),
        (-1e-5, "−1e-5"),
        (20_000, "20,000"),
        (1e6, "1e6"),
        (2.5e7, "2.5e7"),
    ],
)
def test_ticks_are_plain_numbers(value, written):
    assert table.plain(value) == written
