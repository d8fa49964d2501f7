import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from mllab.report import table
from mllab.report.table import BLANK, Table, number

NAN = math.nan


@pytest.mark.parametrize(
    ("mean", "low", "high", "shown"),
    [
        (0.97213, 0.96820, 0.97606, "0.972 ± 0.004"),
        (0.9832869080779943, 0.983286908077994, 0.9832869080779946, "0.9833 ± 0"),
        (0.97213, 0.95213, 0.99213, "0.97 ± 0.02"),
        (0.97213, 0.95830, 0.98596, "0.972 ± 0.014"),  # 0.01 would lose a third of 0.0138
        (1234.5, 1100, 1369, "1,230 ± 130"),
        (10.0, 9.02, 10.98, "10.0 ± 1.0"),  # 0.98 rounds to 1.0, which needs its second digit
        (0.0, -0.3, 0.3, "0.0 ± 0.3"),
        (-3.21, -3.5, -2.92, "−3.2 ± 0.3"),
        (-0.04, -1.24, 1.16, "0.0 ± 1.2"),
        (-21_340, math.nan, math.nan, "−21,300"),
        (0.5, 0.4, math.nan, "0.5"),
        (2.31e-5, 2.27e-5, 2.35e-5, "(2.31 ± 0.04)e-5"),
        (3.2e8, 3.0e8, 3.4e8, "320,000,000 ± 20,000,000"),
        (-3.2e9, -3.4e9, -3.0e9, "(−3.2 ± 0.2)e9"),
        (0.95, 0.95, 0.95, "0.95 ± 0"),
        (0.12345, math.nan, math.nan, "0.123"),
        (math.nan, 0.0, 1.0, BLANK),
        (math.inf, 0.0, 1.0, BLANK),
        (0.5, -math.inf, math.inf, "0.5"),
    ],
)
def test_a_number_has_the_digits_that_its_interval_supports(mean, low, high, shown):
    assert number(mean, low, high) == shown


def read_back(text):
    """The number that a text shows, and its half-width if it has one."""
    assert "nan" not in text
    assert "-" not in text.replace("e-", "")
    text = text.replace("−", "-").replace(",", "").rstrip("%")
    inside, _, exponent = text.rpartition("e") if "e" in text else (text, "", "0")
    parts = []
    for part in inside.strip("()").split(" ± "):
        parts.append(float(f"{part}e{exponent}"))
        assert float(part) or not part.startswith(("-", "+"))  # no -0
    return parts


@given(st.floats(-1e12, 1e12), st.floats(1e-12, 1e12))
def test_what_a_number_shows_is_near_what_it_stands_for(mean, half_width):
    shown = number(mean, mean - half_width, mean + half_width)
    true_half = mean + half_width - mean  # as far as float64 kept it
    if true_half <= 1e-12 * abs(mean):
        assert shown.endswith(" ± 0")
        return
    shown_mean, shown_half = read_back(shown)
    # Float64 holds 1e-16 of the larger; a half-width keeps one digit of at least 2, or two.
    assert abs(shown_half - true_half) <= 0.26 * true_half + 1e-14 * abs(mean)
    assert abs(shown_mean - mean) <= 0.5 * shown_half + 1e-14 * abs(mean)


@settings(max_examples=300)
@given(st.floats(), st.integers(0, 6))
def test_every_text_of_a_number_reads_back_to_it_within_its_digits(value, digits):
    texts = {
        table.number(value): abs(value) * 0.006,
        table.significant(value, digits + 1): abs(value) * 10.0**-digits,
        table.short(value, digits + 1): abs(value) * 10.0**-digits,
        table.plain(value): abs(value) * 1e-6,
        Table(["x"], [[value]]).aligned()[0][0].strip(): abs(value) * 1e-5,
    }
    if abs(value) < 1e12:
        texts[table.fixed(value, digits)] = 10.0**-digits
        texts[table.points((value, NAN, NAN)).lstrip("+")] = 0.1
    for text, error in texts.items():
        if not math.isfinite(value):
            assert text == BLANK
            continue
        (shown,) = read_back(text)
        assert abs(shown - value) <= error + 1e-300


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


WIDE = Table(
    [
        "optimizer",
        "best learning rate",
        "test accuracy",
        "steps to 0.95",
        "decades",
        "non-finite",
        "no better than chance",
    ],
    [["schedule_free_adam", "0.0316", "0.9677 ± 0.0019", "136 (3/5 seeds)", "0.8", "0/35", "9/35"]] * 3,
    best=1,
    caption="a caption of several words",
)
NAMES = st.text("ab 中😀-±", max_size=30)


@pytest.mark.parametrize("width", [*range(1, 130, 7), 80])
def test_a_narrow_terminal_breaks_no_word_and_every_block_names_its_rows(width):
    lines = WIDE.lines(width)
    words = [*" ".join(WIDE.columns).split(), *" ".join(WIDE.rows[0]).split()]
    shown = " ".join(lines).split()
    for word in words:
        assert shown.count(word) >= max(words.count(word), 3 * " ".join(WIDE.rows[0]).split().count(word))
    if width > 40:  # as wide as the first column and the widest of the others
        assert max(map(len, lines)) <= width
    blocks = "\n".join(lines).split("\n\n")
    assert all(block.count("schedule_free_adam") == 3 for block in blocks)
    assert all(sum(line.startswith("* ") for line in block.splitlines()) == 1 for block in blocks)
    assert len(blocks) == 1 or max(map(len, WIDE.lines())) > width


@settings(max_examples=60, deadline=None)
@given(st.lists(NAMES, min_size=1, max_size=5).flatmap(
    lambda columns: st.tuples(
        st.just(columns), st.lists(st.lists(NAMES, min_size=len(columns), max_size=len(columns)), max_size=3)
    )
), st.integers(1, 60))  # fmt: skip
def test_any_table_keeps_its_words_whole_and_within_the_terminal(cells, width):
    columns, rows = cells
    lines = Table(columns, rows).lines(width)
    words = {word for row in (columns, *rows) for cell in row for word in cell.split()}
    assert words <= {word for line in lines for word in line.split()}
    longest = [
        max(cell_len(word) for text in column for word in (text.split() or [""]))
        for column in zip(columns, *rows, strict=True)
    ]
    if 2 * max(longest) + 2 <= width and not any(len(cell.split()) > 3 for row in (columns, *rows) for cell in row):
        assert max(map(cell_len, lines), default=0) <= width


@pytest.mark.parametrize("width", [1, 9, 12, 30])
def test_an_interval_stays_on_one_line(width):
    lines = table.wrapped("ahead by 0.9 ± 0.8 points, −1 ± 2", width)
    assert "0.9 ± 0.8" in "\n".join(lines)
    assert "−1 ± 2" in "\n".join(lines)
    assert " ".join(lines) == "ahead by 0.9 ± 0.8 points, −1 ± 2"


@pytest.mark.parametrize(("best", "marked"), [(None, []), (0, [0]), ((0, 2), [0, 2]), ((), [])])
def test_tied_rows_are_all_marked(best, marked):
    lines = Table(["a"], [[1], [2], [3]], best).layout()
    assert [index for index, line in enumerate(lines[2:]) if line.text.startswith("* ")] == marked
    assert [index for index, line in enumerate(lines[2:]) if line.is_bold] == marked


def test_a_short_row_is_refused():
    with pytest.raises(ValueError, match="row 1 has 1 cells for 2 columns"):
        Table(["a", "b"], [[1, 2], [3]])


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
        (table.points((0.0, NAN, NAN)), "0.0"),
        (table.points((-0.04, NAN, NAN)), "0.0"),
        (table.points((-0.04, -1.24, 1.16)), "0.0 ± 1.2"),
        (table.points((0.04, -1.16, 1.24)), "0.0 ± 1.2"),
        (table.points((20.0, 19.5, 20.5)), "+20.0 ± 0.5"),
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
        (table.significant(12345.678, 5), "12,346"),
        (table.significant(1_234_567.0), "1,230,000"),
        (table.significant(-1.2e9, 2), "−1.2e9"),
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
        (table.probability(NAN), BLANK),
        (table.percent_bounds(NAN, 0.5), BLANK),
        (table.share(math.inf), BLANK),
        (table.share(-0.0001), "0.0%"),
        (table.share(-12.5), "−1,250.0%"),
        (table.fraction(2e-7), "2e-5%"),
        (table.short(NAN), BLANK),
        (table.equation(-2.0, -25.5), "y = −2 x − 25.5"),
        (table.equation(1999.3, 24.99), "y = 1,999 x + 24.99"),
        (table.plain(-0.0), "0"),
        (table.plain(12345.6), "12,345.6"),
        (table.fixed(-0.04, 1), "0.0"),
        (table.fixed(-1234.56, 1), "−1,234.6"),
        (table.legible(""), table.UNNAMED),
        (table.legible(" \n\u200e"), table.UNNAMED),
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
