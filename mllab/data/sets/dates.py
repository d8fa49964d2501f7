"""Generated dates as people write them, to translate into ISO form: character by character, without a download.

A style is a locale and an arrangement: the order of day, month and year, what separates them, and whether the weekday
stands before. Two arrangements of each locale are held out of training, other ones in each locale. So every held-out
style is made of parts that were seen: the names of its locale in other arrangements, its arrangement in other locales.
Arrangements are used in all locales, also in those where few people write so. Dates are split, too: a day of the test
part is in no other part.

Nothing is ambiguous. In digits alone the day stands before the month (03/04/1998 is 3 April), or the year before both.
Two digits of a year stand for 1950 to 2049.
"""

import datetime
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

FIRST, LAST = datetime.date(1950, 1, 1), datetime.date(2049, 12, 31)
COUNTS = {"train": 16_000, "validation": 500, "test": 1_500}
NUMERIC_SHARE = 0.1  # of the dates of a part are in digits alone in seen styles
HELD_OUT_SHARE = 2 / 3  # of the test part is in held-out styles
SEEN, HELD_OUT = "styles of the training part", "styles held out"


class Locale(NamedTuple):
    """How a language names days."""

    months: tuple[str, ...]
    short_months: tuple[str, ...]
    weekdays: tuple[str, ...]  # from Monday
    of: str = " "  # between day, month and year
    ordinal: str = ""  # after the number of a day


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


LOCALES: Mapping[str, Locale] = {
    "English": Locale(
        _names("January February March April May June July August September October November December"),
        _names("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec"),
        _names("Monday Tuesday Wednesday Thursday Friday Saturday Sunday"),
        ordinal="st nd rd th",
    ),
    "German": Locale(
        _names("Januar Februar März April Mai Juni Juli August September Oktober November Dezember"),
        _names("Jan. Feb. März Apr. Mai Juni Juli Aug. Sept. Okt. Nov. Dez."),
        _names("Montag Dienstag Mittwoch Donnerstag Freitag Samstag Sonntag"),
        ordinal=".",
    ),
    "French": Locale(
        _names("janvier février mars avril mai juin juillet août septembre octobre novembre décembre"),
        _names("janv. févr. mars avr. mai juin juil. août sept. oct. nov. déc."),
        _names("lundi mardi mercredi jeudi vendredi samedi dimanche"),
    ),
    "Spanish": Locale(
        _names("enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre"),
        _names("ene feb mar abr may jun jul ago sept oct nov dic"),
        _names("lunes martes miércoles jueves viernes sábado domingo"),
        of=" de ",
    ),
    "Italian": Locale(
        _names("gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre"),
        _names("gen feb mar apr mag giu lug ago set ott nov dic"),
        _names("lunedì martedì mercoledì giovedì venerdì sabato domenica"),
    ),
    "Portuguese": Locale(
        _names("janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro"),
        _names("jan fev mar abr mai jun jul ago set out nov dez"),
        _names("segunda-feira terça-feira quarta-feira quinta-feira sexta-feira sábado domingo"),
        of=" de ",
    ),
    "Dutch": Locale(
        _names("januari februari maart april mei juni juli augustus september oktober november december"),
        _names("jan feb mrt apr mei jun jul aug sep okt nov dec"),
        _names("maandag dinsdag woensdag donderdag vrijdag zaterdag zondag"),
    ),
    "Danish": Locale(
        _names("januar februar marts april maj juni juli august september oktober november december"),
        _names("jan. feb. mar. apr. maj juni juli aug. sep. okt. nov. dec."),
        _names("mandag tirsdag onsdag torsdag fredag lørdag søndag"),
        ordinal=".",
    ),
}

ARRANGEMENTS = (  # 3 March 1998, as English has it
    "{ordinal}{of}{month}{of}{year}",  # 3rd March 1998
    "{weekday}, {ordinal}{of}{month}{of}{year}",  # Tuesday, 3rd March 1998
    "{month} {ordinal}, {year}",  # March 3rd, 1998
    "{day}-{short}-{year}",  # 3-Mar-1998
    "{year} {month} {day}",  # 1998 March 3
    "{ordinal}{of}{month} '{century_year}",  # 3rd March '98
    "{day:02d} {short} {year}",  # 03 Mar 1998
    "{weekday} {day} {short} {year}",  # Tuesday 3 Mar 1998
)
NUMERIC = (
    "{day:02d}/{number:02d}/{year}",  # 03/03/1998
    "{day:02d}/{number:02d}/{century_year}",  # 03/03/98
    "{day}.{number}.{year}",  # 3.3.1998
    "{year}/{number:02d}/{day:02d}",  # 1998/03/03
    "{year}{number:02d}{day:02d}",  # 19980303
)


def held_out(locale: int, arrangement: int) -> bool:
    """Return whether a locale's arrangement, each by position, is held out of training: two of each locale's are."""
    return arrangement % (len(ARRANGEMENTS) // 2) == locale % (len(ARRANGEMENTS) // 2)


def written(date: datetime.date, locale: Locale, arrangement: str) -> str:
    """Return a date in a style."""
    ordinal = locale.ordinal
    if " " in ordinal:
        endings = ordinal.split()
        ordinal = endings[min(date.day % 10 - 1, 3)] if date.day % 10 and date.day // 10 != 1 else endings[-1]
    return arrangement.format(
        ordinal=f"{date.day}{ordinal}", day=date.day, number=date.month, year=date.year, of=locale.of,
        century_year=f"{date.year % 100:02d}", month=locale.months[date.month - 1],
        short=locale.short_months[date.month - 1], weekday=locale.weekdays[date.weekday()],
    )  # fmt: skip


def dates() -> tuple[dict[str, list[tuple[str, str]]], list[str]]:
    """Return pairs (date as written, ISO form) of each part, always the same, and the group of each of the test part.

    Groups are SEEN and HELD_OUT: styles of the training part, and styles held out of it.
    """
    draw = np.random.default_rng(0)
    days = draw.permutation((LAST - FIRST).days + 1)
    ends = np.cumsum([0.8 * len(days), 0.05 * len(days)]).astype(int)
    styles = [(place, arrangement) for place in range(len(LOCALES)) for arrangement in range(len(ARRANGEMENTS))]
    by_group = {
        group: [each for each in styles if held_out(*each) == (group == HELD_OUT)] for group in (SEEN, HELD_OUT)
    }
    locales = list(LOCALES.values())
    parts, groups = {}, []
    for (part, count), choice in zip(COUNTS.items(), np.split(days, ends), strict=True):
        pairs = []
        for place, day in enumerate(draw.choice(choice, count, replace=count > len(choice))):
            date = FIRST + datetime.timedelta(days=int(day))
            group = HELD_OUT if part == "test" and place < HELD_OUT_SHARE * count else SEEN
            if group == SEEN and draw.random() < NUMERIC_SHARE:
                locale, arrangement = locales[0], NUMERIC[draw.integers(len(NUMERIC))]
            else:
                chosen = by_group[group][draw.integers(len(by_group[group]))]
                locale, arrangement = locales[chosen[0]], ARRANGEMENTS[chosen[1]]
            pairs.append((written(date, locale, arrangement), date.isoformat()))
            if part == "test":
                groups.append(group)
        parts[part] = pairs
    return parts, groups
