"""How the text of a cell is read: as a number with separators and signs, or as a date."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import numpy as np

SAMPLE = 1000  # distinct values by which forms that do not fit are ruled out
SIGNS = "$€£¥₹"  # of currencies

_UNSIGNED = r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_PLAIN = re.compile(rf"\s*([+-]?(?:{_UNSIGNED}|inf(?:inity)?))\s*", re.ASCII | re.IGNORECASE)
_GROUPED = re.compile(
    rf"\s*(\(?)([+-]?)\s*[{SIGNS}]?\s*([+-]?)(\d{{1,3}}(?:,\d{{3}})+(?:\.\d*)?|{_UNSIGNED})\s*[{SIGNS}]?(\)?)\s*",
    re.ASCII,
)
_PERCENT = re.compile(rf"\s*([+-]?{_UNSIGNED})\s*%\s*", re.ASCII)
_DECIMAL_COMMA = re.compile(
    rf"\s*[{SIGNS}]?\s*([+-]?)(\d{{1,3}}(?:\.\d{{3}})+|\d+)(?:,(\d+))?\s*[{SIGNS}]?\s*", re.ASCII
)
_ISO_DATE = re.compile(r"\s*(\d{4}-\d\d-\d\d(?:[T ]\d.*)?)\s*", re.ASCII)
_EPOCH = datetime(1970, 1, 1)


def _plain(text: str) -> float:
    match = _PLAIN.fullmatch(text)
    return float(match[1]) if match else np.nan


def _currency(text: str) -> float:
    match = _GROUPED.fullmatch(text)
    if not match or bool(match[1]) != bool(match[5]) or (match[2] and match[3]):
        return np.nan
    negative = match[1] or "-" in (match[2], match[3])
    value = float(match[4].replace(",", ""))
    return -value if negative else value


def _percent(text: str) -> float:
    match = _PERCENT.fullmatch(text)
    return float(match[1]) if match else np.nan


def _decimal_comma(text: str) -> float:
    match = _DECIMAL_COMMA.fullmatch(text)
    return float(f"{match[1]}{match[2].replace('.', '')}.{match[3] or 0}") if match else np.nan


def _iso_date(text: str) -> float:
    match = _ISO_DATE.fullmatch(text)
    try:
        return _days(datetime.fromisoformat(match[1])) if match else np.nan
    except ValueError:
        return np.nan


def _date(form: str) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            return _days(datetime.strptime(text.strip(), form))
        except ValueError:
            return np.nan

    return read


def _days(date: datetime) -> float:
    """Return the days since 1970, in UTC where the time zone is known."""
    if date.tzinfo is not None:
        try:
            date = date.astimezone(UTC).replace(tzinfo=None)
        except OverflowError:  # the first or last day of all
            return np.nan
    return (date - _EPOCH).total_seconds() / 86400


Form = Callable[[str], float]  # NaN where a text does not have it

NUMBERS: Mapping[str, Form] = {
    "plain": _plain,
    "currency": _currency,  # "$1,200", "1,200.50", "(35 €)"
    "percent": _percent,  # "45.1%", as 45.1
    "decimal comma": _decimal_comma,  # "1.200,5"
}
# Where several fit all values, the first is taken: of 01/02/2020, month first.
DATES: Mapping[str, Form] = {
    "YYYY-MM-DD": _iso_date,
    **{
        name: _date(form)
        for name, form in {
            "YYYY-M-D": "%Y-%m-%d",
            "YYYY/MM/DD": "%Y/%m/%d",
            "DD.MM.YYYY": "%d.%m.%Y",
            "MM/DD/YYYY": "%m/%d/%Y",
            "DD/MM/YYYY": "%d/%m/%Y",
            "MM-DD-YYYY": "%m-%d-%Y",
            "DD-MM-YYYY": "%d-%m-%Y",
            "MM/DD/YYYY HH:MM": "%m/%d/%Y %H:%M",
            "DD/MM/YYYY HH:MM": "%d/%m/%Y %H:%M",
            "DD.MM.YYYY HH:MM": "%d.%m.%Y %H:%M",
            "D Mon YYYY": "%d %b %Y",
            "Mon D, YYYY": "%b %d, %Y",
        }.items()
    },
}
FORMS: Mapping[str, Form] = {**NUMBERS, **DATES}
TRUTH = {"true": "True", "false": "False"}


def read(values: Sequence[str], form: str) -> np.ndarray:
    """Return texts [V] as numbers, or as dates in days since 1970, float64; NaN where one is neither."""
    reader = FORMS[form]
    return np.fromiter((reader(text) for text in values), np.float64, len(values))


def best(values: Sequence[str], counts: np.ndarray, forms: Mapping[str, Form]) -> tuple[str, float]:
    """Return the form that most cells have, and their share of all; the first of equals.

    Args:
        values: the distinct texts, [V].
        counts: of the cells that hold each, [V].
        forms: to choose among, by name.
    """
    total = counts.sum()
    if not len(values) or not total:
        return next(iter(forms)), 0.0
    picked = np.unique(np.linspace(0, len(values) - 1, SAMPLE).astype(int))
    sample = [values[i] for i in picked]
    chosen, share = next(iter(forms)), 0.0
    for form in forms:
        if len(picked) < len(values) and np.isnan(read(sample, form)).mean() > 0.5:
            continue
        fits = ~np.isnan(read(values, form))
        if (now := float(counts[fits].sum() / total)) > share:
            chosen, share = form, now
        if share == 1:
            break
    return chosen, share
