"""Series: the generated one against SciPy, real ones, a column of a table, and mistakes in it."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from mllab.data import series
from mllab.data.sets import mackey_glass
from support.mistakes import refused_in_one_line


def months(rows, first=1990):
    return [f"{first + i // 12}-{i % 12 + 1:02d}" for i in range(rows)]


def write(folder, rows, header="when,sales"):
    path = folder / "sales.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_mackey_glass_obeys_its_equation():
    """Between 0 and the delay the equation is an ordinary one, and later it holds for differences of the values."""
    fine = mackey_glass.SPACING, mackey_glass.SKIPPED
    mackey_glass.SPACING, mackey_glass.SKIPPED = 0.5, 0.0
    try:
        x = mackey_glass.mackey_glass(400)
    finally:
        mackey_glass.SPACING, mackey_glass.SKIPPED = fine
    constant = 0.2 * 1.2 / (1 + 1.2**10)
    peer = solve_ivp(lambda _, y: constant - 0.1 * y, (0, 17), [1.2], t_eval=np.arange(0, 17, 0.5), rtol=1e-9)
    np.testing.assert_allclose(x[:34], peer.y[0], rtol=1e-6)
    slope = (x[102:] - x[100:-2]) / 1.0
    delayed = x[101 - 34 : -1 - 34]
    expected = 0.2 * delayed / (1 + delayed**10) - 0.1 * x[101:-1]
    np.testing.assert_allclose(slope, expected, atol=2e-3)


def test_the_generated_series_is_the_same_each_time():
    loaded = series.load("mackey_glass")
    assert (len(loaded.values), loaded.period, loaded.times) == (1500, 1, None)
    np.testing.assert_array_equal(loaded.values, series.load("mackey_glass").values)
    assert 0.4 < loaded.values.min() < loaded.values.max() < 1.4


@pytest.mark.parametrize(
    ("name", "count", "ends"),
    [
        ("sp500", 1866, (4.44, 7450.03)), ("vix", 9235, (17.24, None)), ("sunspots", 2820, (58.0, 33.4)),
        ("air_passengers", 144, (112, 432)), ("min_temperatures", 3650, (20.7, 13.0)),
    ],
)  # fmt: skip
def test_real_series_are_read(name, count, ends, data_dir):
    if not (data_dir / series.FOLDER).is_dir():
        pytest.skip(f"no real series at {data_dir / series.FOLDER}")
    loaded = series.load(name, data_dir=data_dir)
    assert (len(loaded.values), loaded.values[0]) == (count, ends[0])
    assert ends[1] is None or loaded.values[-1] == ends[1]
    assert loaded.has_dates
    assert loaded.licence
    with refused_in_one_line("column: only for your own table"):
        series.load(name, column="x", data_dir=data_dir)


def test_a_known_series_that_is_not_here_says_where_to_put_it(tmp_path, monkeypatch):
    monkeypatch.setenv("MLLAB_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with refused_in_one_line(r"stock_series needs vix_daily.csv: download it from https://github.com/.*"):
        series.load("vix")


def test_a_column_of_a_table_with_its_times(tmp_path):
    rows = [f"{month},x,{i * i}" for i, month in enumerate(months(30))]
    path = write(tmp_path, rows, "when,kind,sales")
    loaded = series.load(path)
    assert (loaded.column, loaded.period, loaded.fixed_season, loaded.has_dates) == ("sales", 12, True, True)
    np.testing.assert_array_equal(loaded.values, np.arange(30) ** 2)
    assert loaded.times[1] - loaded.times[0] == 31
    daily = [f"2020-01-{day:02d},{day % 7}" for day in range(1, 29) if day % 7 not in (4, 5)]  # no weekends
    loaded = series.load(write(tmp_path, [*daily, "2020-02-03,1"]))
    assert (loaded.period, len(loaded.notes)) == (1, 1)
    untimed = series.load(write(tmp_path, [str(i % 4) for i in range(25)], "sales"))
    assert untimed.times is None


GOOD = [f"{month},{i % 5}" for i, month in enumerate(months(30))]


def changed(place, row):
    return [*GOOD[:place], row, *GOOD[place + 1 :]]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (changed(4, "1990-05,"), r"row 6, column 'sales' is missing: a series has no gaps; fill it in"),
        (changed(4, "1990-05,NaN"), r"row 6, column 'sales' is missing"),
        (changed(4, "1990-05,inf"), r"row 6, column 'sales'.*infinite"),
        (changed(4, "1990-05,four"), r"row 6, column 'sales': 'four' is not a number"),
        (changed(4, "1990-05,1e200"), r"magnitudes above 1e\+30"),
        (changed(4, "1990-04,4"), r"row 6, column 'when' is the time of the row before, too"),
        (changed(4, "1990-03,4"), r"row 6, column 'when' is before the row above; sort the rows by time"),
        (changed(4, ",4"), r"row 6, column 'when' is missing, and it is the time"),
        (changed(4, "soon,4"), r"row 6, column 'when': 'soon' is no date or number"),
        ([*GOOD[:4], *GOOD[5:]], r"row 6, column 'when' comes 61 days after the row above, where 31 are usual"),
        ([f"{month},7" for month in months(30)], r"'sales' is 7 in every row; there is nothing to forecast"),
        (GOOD[:19], r"has 19 values: a series to forecast needs 20 or more"),
        ([f"{month},{'ab'[i % 2]}" for i, month in enumerate(months(30))], r"holds category values, not numbers"),
    ],
)
def test_mistakes_in_a_series_are_named(tmp_path, rows, words):
    with refused_in_one_line(words):
        series.load(write(tmp_path, rows), time="when", column="sales")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"column": "sale"}, "unknown column 'sale': did you mean 'sales'"),
        ({"time": "whem"}, "unknown column 'whem': did you mean 'when'"),
        ({"column": "when", "time": "when"}, "column 'when' is the time"),
        ({}, r"2 columns of numbers \('sales', 'more'\): name the series to forecast \(--column=COLUMN\)"),
    ],
)
def test_mistaken_columns_are_named(tmp_path, options, words):
    path = write(tmp_path, [f"{row},{i}" for i, row in enumerate(GOOD)], "when,sales,more")
    with refused_in_one_line(words):
        series.load(path, **options)


@pytest.mark.parametrize(
    ("name", "words"), [("sunspot", "did you mean 'sunspots'"), ("absent.csv", "no file absent.csv: check the path")]
)
def test_mistaken_names_are_refused(name, words):
    with refused_in_one_line(words):
        series.load(name)
