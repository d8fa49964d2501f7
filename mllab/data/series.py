"""Series in time: those known by name, or a column of a table of your own.

A series is evenly spaced values in the order of time. Like texts, series are split by position, so they have a table of
their own beside the catalog.
"""

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mllab.data import names as user_names
from mllab.data.files import File, locate
from mllab.data.readers import content, table
from mllab.data.readers.columns import Table
from mllab.data.schema.inference import checked_numbers, kind_of
from mllab.data.sets.mackey_glass import mackey_glass
from mllab.errors import UserError, shortened, unknown
from mllab.folders import expand

LEAST = 20  # values
GAP = 10  # times the usual step between two rows
LARGEST = 1e30  # magnitude of a value: squares of larger ones overflow float32
FOLDER = "stock_series"  # of the files below, in a data folder
DAYS_OF_A_YEAR = 365.2425
MONTHS_WIDE = (27, 32)  # days between the rows of a monthly series


@dataclass(frozen=True)
class Series:
    """A series."""

    name: str
    values: np.ndarray  # [N] float64
    column: str = "value"
    unit: str = ""
    period: int = 1  # steps of a season; 1 where there is none
    fixed_season: bool = False  # whether the period is the calendar's, and not only usual
    transform: str = "none"  # the scale to forecast on where nothing else is chosen; of `forecasting.TRANSFORMS`
    times: np.ndarray | None = None  # [N] days since 1970, or numbers; None where rows have no time
    has_dates: bool = False
    notes: tuple[str, ...] = ()
    caveat: str = ""  # what its source makes of it, in a sentence
    licence: str = ""
    citation: str = ""
    sha256: dict[str, str] = field(default_factory=dict)  # of the file that was read, by its name


@dataclass(frozen=True)
class Entry:
    """A series known by name."""

    licence: str
    citation: str
    file: File | None = None  # None for a generated one
    column: str = "x"
    time: str = ""
    unit: str = ""
    period: int = 1
    fixed_season: bool = False
    transform: str = "none"
    caveat: str = ""


_BROWNLEE = "https://github.com/jbrownlee/Datasets/blob/d20fcb6402ae34e653d4513b00f39257bb37ed7f"

SERIES: Mapping[str, Entry] = {
    "mackey_glass": Entry(
        licence="generated",
        citation="the Mackey-Glass equation with a delay of 17, every 6 time units: 1,500 values without noise",
    ),
    "sp500": Entry(
        licence="PDDL",
        citation="S&P 500, monthly means since 1871: R. J. Shiller's data, as github.com/datasets/s-and-p-500 has them",
        file=File(
            "sp500_monthly_shiller.csv",
            "https://github.com/datasets/s-and-p-500/blob/f2389866/data/data.csv",
            123_698,
            "28d16941c581bda9bdcae4e0f9e3cc4b61204f8484e8c2249abdde2efe2cc3c4",
        ),
        column="SP500",
        time="Date",
        unit="index points",
        transform="log_difference",
        caveat="Its values are means of a month's days: even of a random walk such means are correlated from one "
        "change to the next (Working 1960), so a small gain on the last value is no sign that prices can be forecast.",
    ),
    "vix": Entry(
        licence="PDDL",
        citation="CBOE volatility index VIX, daily closes since 1990, as github.com/datasets/finance-vix has them",
        file=File(
            "vix_daily.csv",
            "https://github.com/datasets/finance-vix/blob/6f56e276/data/vix-daily.csv",
            479_964,
            "fa8f8119bb2fa785bb408bcae541a1e630fef97f3acb160b94ed3115c1318db5",
        ),
        column="CLOSE",
        time="DATE",
        unit="index points",
        transform="log",
    ),
    "sunspots": Entry(
        licence="none stated (SILSO's current version: CC BY-NC 4.0)",
        citation="Zürich monthly mean sunspot numbers, 1749 to 1983",
        file=File(
            "monthly-sunspots.csv",
            f"{_BROWNLEE}/monthly-sunspots.csv",
            45_039,
            "c4ec8cc57d9f6fb6ecdb3e1f37f25b6f4badd5124c55931052b0cd2fc3bc71f3",
        ),
        column="Sunspots",
        time="Month",
        unit="sunspots",
        period=132,  # eleven years: cycles take 9 to 14
    ),
    "air_passengers": Entry(
        licence="none stated",
        citation="international airline passengers in thousands, 1949 to 1960: Box and Jenkins, Time series analysis, "
        "1976, series G",
        file=File(
            "airline-passengers.csv",
            f"{_BROWNLEE}/airline-passengers.csv",
            2_180,
            "8cb51be753a718d9be5d76d7e238cc224792754676adc21faa59e954b0201621",
        ),
        column="Passengers",
        time="Month",
        unit="thousand passengers",
        period=12,
        fixed_season=True,
        transform="log_difference",
    ),
    "min_temperatures": Entry(
        licence="none stated",
        citation="daily minimum temperatures in Melbourne, 1981 to 1990: Australian Bureau of Meteorology",
        file=File(
            "daily-min-temperatures.csv",
            f"{_BROWNLEE}/daily-min-temperatures.csv",
            67_921,
            "8b9de63ed6789492bf497625e7f9beb96a63d367b4b0a21754006f749fa5e5da",
        ),
        column="Temp",
        time="Date",
        unit="°C",
        period=365,
        fixed_season=True,
    ),
}
GENERATED = 1500  # values


def load(
    name_or_path: str | Path,
    *,
    column: str | None = None,
    time: str | None = None,
    data_dir: str | Path | None = None,
) -> Series:
    """Load a series by name, or a column of a table of your own by path.

    Args:
        name_or_path: a name in `SERIES`, or the path of a table (.csv, .csv.gz, .parquet).
        column: of the values; by default the only column of numbers. For your own table alone.
        time: column of times; by default the only column of dates, if there is one. For your own table alone.
        data_dir: the folder to look for files in first; see `files.locate`.

    Raises:
        UserError: an unknown name, a missing or damaged file, an unknown column, a value that is missing, infinite or
            no number, times that are not ascending or have a gap, or values that are all equal or too few.
    """
    name = str(name_or_path)
    if name in SERIES:
        chosen = [flag for flag, value in {"column": column, "time": time}.items() if value is not None]
        if chosen:
            raise UserError(f"{', '.join(chosen)}: only for your own table, and {name!r} is a known series; leave out")
        return _load_entry(name, SERIES[name], data_dir)
    path = expand(name)
    if not content.kind(path):
        if path.name == name and "." not in name:  # a word: as likely a name as a file
            raise unknown("series", name, [*SERIES, "FILE.csv"])
        raise UserError(f"no file {path}: check the path")
    read = table.read(path)
    if time is not None and user_names.title(time) not in read.columns:
        raise UserError(f"{path}: {unknown('column', user_names.title(time), read.columns)}")
    dates = [each for each in read.columns if _kind(read, each) == "date"]
    time_column = user_names.title(time) if time is not None else dates[0] if len(dates) == 1 else ""
    values_column = _value_column(read, column, time_column)
    series = of_table(read, values_column, time_column)
    return check(series, str(path))


def of_table(read: Table, column: str, time: str) -> Series:
    """Return a column of a table as a series; `time` is empty where rows have no time.

    Raises:
        UserError: a value that is missing, infinite or no number, or times that are not ascending or have a gap.
    """
    kind, form = kind_of(read.columns[column], np.arange(len(read.rows)))
    if kind != "number":
        raise UserError(f"{read.path}: column {shortened(column)!r} holds {kind} values, not numbers: name another one")
    missing = np.flatnonzero(read.columns[column].missing)
    if len(missing):
        more = f" (as are {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise UserError(f"{read.cell(column, missing[0])} is missing{more}: a series has no gaps; fill it in")
    values = checked_numbers(read, column, form)
    times, has_dates, monthly = None, False, False
    notes: tuple[str, ...] = ()
    if time:
        times, has_dates = _times(read, time)
        notes, monthly = _check_times(read, time, times, has_dates)
    return Series(
        user_names.printable(read.path.name), values, column, times=times, has_dates=has_dates, notes=notes,
        period=12 if monthly else 1, fixed_season=monthly, transform="difference",
        sha256={user_names.printable(read.path.name): read.sha256},
    )  # fmt: skip


def check(series: Series, source: str) -> Series:
    """Return a series after a check of its values.

    Raises:
        UserError: too few values, values that are all equal, or too large ones.
    """
    values = series.values
    if len(values) < LEAST:
        raise UserError(f"{source} has {len(values)} values: a series to forecast needs {LEAST} or more")
    if np.ptp(values) == 0:
        raise UserError(f"{source}: {series.column!r} is {values[0]:g} in every row; there is nothing to forecast")
    if np.abs(values).max() > LARGEST:
        raise UserError(f"{source}: {series.column!r} has magnitudes above {LARGEST:g}: divide it by a constant")
    return series


def _load_entry(name: str, entry: Entry, data_dir: str | Path | None) -> Series:
    if entry.file is None:
        values = mackey_glass(GENERATED)
        series = Series(name, values, entry.column, sha256={name: hashlib.sha256(values.tobytes()).hexdigest()})
    else:
        path = locate(FOLDER, entry.file, data_dir=data_dir, download=False)
        series = of_table(table.read(path), entry.column, entry.time)
    return dataclasses.replace(
        series, name=name, unit=entry.unit, period=entry.period, fixed_season=entry.fixed_season,
        transform=entry.transform, caveat=entry.caveat, licence=entry.licence, citation=entry.citation,
    )  # fmt: skip


def _kind(read: Table, name: str) -> str:
    kind = kind_of(read.columns[name], np.arange(len(read.rows)))[0]
    return "date" if kind == "category" and not np.isnan(_months(read, name)).any() else kind


def _value_column(read: Table, column: str | None, time: str) -> str:
    if column is not None:
        name = user_names.title(column)
        if name not in read.columns:
            raise UserError(f"{read.path}: {unknown('column', name, read.columns)}")
        if name == time:
            raise UserError(f"{read.path}: column {shortened(name)!r} is the time: name the column of the values")
        return name
    numbers = [name for name in read.columns if name != time and _kind(read, name) == "number"]
    if len(numbers) != 1:
        listed = ", ".join(repr(shortened(name)) for name in (numbers or read.columns))
        what = f"{len(numbers)} columns of numbers ({listed})" if numbers else f"no column of numbers ({listed})"
        raise UserError(f"{read.path} has {what}: name the series to forecast (--column=COLUMN)")
    return numbers[0]


def _months(read: Table, name: str) -> np.ndarray:
    """Return the first days of texts YYYY-MM, in days since 1970, [N]; NaN where a cell is none."""
    column = read.columns[name]
    if column.codes is None:
        return np.full(len(read.rows), np.nan)

    def day(text: str) -> float:
        year, dash, month = text.strip().partition("-")
        if not (dash and len(year) == 4 and len(month) == 2 and (year + month).isascii() and (year + month).isdigit()):
            return np.nan
        valid = int(year) > 0 and 1 <= int(month) <= 12
        return float(np.datetime64(f"{year}-{month}-01", "D").astype(int)) if valid else np.nan

    return np.array([*map(day, column.values), np.nan])[column.codes]


def _times(read: Table, name: str) -> tuple[np.ndarray, bool]:
    """Return times [N], and whether they are days since 1970."""
    kind, form = kind_of(read.columns[name], np.arange(len(read.rows)))
    missing = np.flatnonzero(read.columns[name].missing)
    if len(missing):
        raise UserError(f"{read.cell(name, missing[0])} is missing, and it is the time; fill it in")
    if kind in ("number", "date"):
        return checked_numbers(read, name, form), kind == "date"
    months = _months(read, name)
    wrong = np.flatnonzero(np.isnan(months))
    if len(wrong):
        text = shortened(read.columns[name].text(int(wrong[0])))
        raise UserError(f"{read.cell(name, wrong[0])}: {text!r} is no date or number; write YYYY-MM-DD or YYYY-MM")
    return months, True


def _check_times(read: Table, name: str, times: np.ndarray, has_dates: bool) -> tuple[tuple[str, ...], bool]:
    """Return notes on the spacing, and whether rows are months; refuse times that are not ascending, and gaps."""
    steps = np.diff(times)
    if not len(steps):
        return (), False
    equal, back = np.flatnonzero(steps == 0), np.flatnonzero(steps < 0)
    if len(equal) and (not len(back) or equal[0] < back[0]):
        raise UserError(f"{read.cell(name, equal[0] + 1)} is the time of the row before, too; keep one of the two rows")
    if len(back):
        raise UserError(f"{read.cell(name, back[0] + 1)} is before the row above; sort the rows by time")
    usual = float(np.median(steps))
    monthly = has_dates and MONTHS_WIDE[0] <= usual <= MONTHS_WIDE[1]
    if monthly:
        dates = np.round(times).astype("datetime64[D]").astype("datetime64[M]").astype(int)
        wide = np.flatnonzero(np.diff(dates) > 1)
    else:
        wide = np.flatnonzero(steps > GAP * usual)
    if len(wide):
        size = f"{steps[wide[0]]:g}{' days' if has_dates else ''}"
        raise UserError(
            f"{read.cell(name, wide[0] + 1)} comes {size} after the row above, where {usual:g} are usual: "
            "fill the gap, or keep the rows on one side of it"
        )
    uneven = 0 if monthly else int(np.count_nonzero(np.abs(steps - usual) > 0.01 * usual))
    unit = " days" if has_dates else ""
    note = f"took rows as evenly spaced; {uneven:,} of {len(steps):,} steps are not {usual:g}{unit}"
    return ((note,) if uneven else ()), monthly
