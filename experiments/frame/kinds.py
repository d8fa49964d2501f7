"""Kinds of settings: how the values of a flag are read, checked, printed and compared.

Each function returns a dataclass field. A check takes any object of Python, and returns the value that is stored or
raises; `Setting.stored` turns whatever it raises into one line.
"""

import csv
import dataclasses
import io
import itertools
import math
import numbers
import operator
import os
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from typing import Any

from mllab.errors import UserError, shortened, unknown

MAX_WHOLE = 2**31 - 1  # by default: sizes and ids are int32
MAX_NUMBERS = 100_000  # of a list
MAX_TEXT = 4096  # characters, the longest path of Linux
MAX_SIDE = 4096  # pixels of an image
LEAST_FLOAT, MOST_FLOAT = 2.0**-126, 2.0**127  # sizes of a number that float32 holds, beside 0


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is known of one setting beside its name and default."""

    help: str
    read: Callable[[str], Any]  # text of a flag -> value; ValueError where it is malformed
    check: Callable[[Any], Any]  # value -> the value as it is stored; ValueError where it is out of range
    show: Callable[[Any], str]  # value -> text that `read` takes
    hint: str  # what to give instead of a malformed or refused value
    switch: bool = False  # a flag without a value: --name and --noname
    # False: where a run happens, not what it computes; a workdir may be resumed with others.
    affects_result: bool = True
    record: Callable[[Any], str] | None = None  # value -> its text in flags.cfg, if not that of `show`
    same: Callable[[Any, Any], bool] = operator.eq  # whether results of one value are those of another

    def stored(self, name: str, value: Any) -> Any:
        """Return the value to store under this name, from a flag's text or from Python.

        Raises:
            UserError: a malformed or refused value.
        """
        try:
            return self.check(self.read(value) if isinstance(value, str) else value)
        except UserError as error:
            raise UserError(f"--{name}: {error}") from None
        except (ValueError, TypeError, OverflowError) as error:
            reason = f"{error}: " if isinstance(error, Refused) else ""
            raise UserError(f"--{name}={self.shown(value)}: {reason}{self.hint}") from None

    def shown(self, value: Any) -> str:
        """Return any value, refused ones too, as a message shows it."""
        try:
            text = value if isinstance(value, str) else self.show(_bounded(value))
        except Exception:  # a value of another kind
            text = _Summary().repr(value)
        return shortened(text)


class Refused(ValueError):
    """A value out of range; its text says why."""


class _Summary(reprlib.Repr):
    """The representation of any object, in a few words where it is large or cannot be printed."""

    def repr_int(self, value: int, level: int) -> str:
        # Python refuses to print more than 4300 digits.
        return super().repr_int(value, level) if value.bit_length() < 10_000 else f"{value.bit_length()}-bit integer"


def with_default(setting: Setting, default: Any) -> Any:
    """Return the field of a setting with this default."""
    return dataclasses.field(default=default, metadata={"setting": setting})


def text(default: str | None, *, help: str, affects_result: bool = True) -> Any:
    """Return a field of text, such as the name of a column."""
    return with_default(Setting(help, str, _text, str, "give a text", affects_result=affects_result), default)


def texts(*, help: str) -> Any:
    """Return a field of texts, such as names of columns, each once; none by default.

    A text that contains a comma is quoted: a,"b, c". From Python, a mapping is taken as texts KEY=VALUE, and a path as
    its text.
    """

    def check(value: Any) -> tuple[str, ...]:
        pairs = [f"{_text(key)}={_text(of)}" for key, of in value.items()] if isinstance(value, Mapping) else value
        items = [os.fspath(each) if isinstance(each, os.PathLike) else each for each in _items(pairs)]
        return _distinct(tuple(_text(each.strip() if isinstance(each, str) else each) for each in items))

    return with_default(Setting(help, _read_row, check, _show_row, "give texts separated by commas, each once"), ())


def path(default: str | None, *, help: str, names: Iterable[str] = (), affects_result: bool = True) -> Any:
    """Return a field of a path, or of one of `names`, which are no paths.

    flags.cfg holds the absolute path of what exists, so that the run can be repeated in another folder.
    """
    built_in = frozenset(names)

    def check(value: Any) -> str:
        return os.path.expanduser(_path_text(value))

    def record(value: str) -> str:
        absolute = os.path.abspath(value)
        return value if value in built_in or not os.path.exists(value) or not absolute.isprintable() else absolute

    def same(one: str | None, other: str | None) -> bool:
        if one == other or one is None or other is None or built_in & {one, other}:
            return one == other
        return os.path.realpath(one) == os.path.realpath(other)

    setting = Setting(
        help, str, check, str, "give a path", affects_result=affects_result, record=record, same=same
    )  # fmt: skip
    return with_default(setting, default)


def switch(default: bool = False, *, help: str) -> Any:
    """Return a field that is on or off: `--name` or `--noname`."""

    def read(value: str) -> bool:
        if value.lower() not in ("true", "false"):
            raise ValueError
        return value.lower() == "true"

    def check(value: Any) -> bool:
        if not isinstance(value, bool):
            raise Refused("neither true nor false")
        return value

    return with_default(
        Setting(help, read, check, lambda value: str(value).lower(), "give true or false", True), default
    )


def whole(
    default: int | None, *, help: str, low: int = -MAX_WHOLE, high: int = MAX_WHOLE, affects_result: bool = True
) -> Any:
    """Return a field of one whole number from `low` to `high`."""
    hint = f"give a whole number {_span(low, high)}"
    setting = Setting(help, int, lambda value: _whole(value, low, high), str, hint, affects_result=affects_result)
    return with_default(setting, default)


def number(
    default: float | None, *, help: str, low: float = -math.inf, high: float = math.inf, affects_result: bool = True
) -> Any:
    """Return a field of one finite number from `low` to `high`."""

    def check(value: Any) -> float:
        checked = float(_real(value))
        if not math.isfinite(checked):
            raise Refused("not a finite number")
        return _within(_held(checked), low, high)

    hint = f"give a number{_range(low, high)}"
    return with_default(Setting(help, float, check, _shortest, hint, affects_result=affects_result), default)


def choice(
    options: Iterable[str], default: str | None, *, help: str, kind: str = "name", affects_result: bool = True
) -> Any:
    """Return a field of one name among `options`; `kind` is what an unknown one is called in the message."""
    names = list(options)
    hint = f"give one of {', '.join(names)}"
    setting = Setting(
        _listing(help, names), str, lambda value: _named(value, names, kind), str, hint, affects_result=affects_result
    )
    return with_default(setting, default)


def choices(
    options: Iterable[str], default: Sequence[str] | str | None = "all", *, help: str, kind: str = "name"
) -> Any:
    """Return a field of one or more names among `options`, each once; `all` stands for all of them."""
    names = list(options)

    def read(value: str) -> tuple[str, ...]:
        return tuple(names) if value == "all" else tuple(part.strip() for part in value.split(",") if part.strip())

    def check(value: Any) -> tuple[str, ...]:
        chosen = tuple(_named(name, names, kind) for name in _items(value))
        if not chosen or len(set(chosen)) < len(chosen):
            raise Refused("none, or one twice")
        return chosen

    hint = f"give one or more of {', '.join(names)}, each once, or all"
    preset = tuple(names) if default == "all" else default if default is None else tuple(default)
    return with_default(Setting(_listing(help, names), read, check, ",".join, hint), preset)


def grid(default: str | None, *, help: str, low: float = 0.0, high: float = math.inf) -> Any:
    """Return a field of numbers above `low` and up to `high`, each once: LOW:HIGH:COUNT on a log scale, or A,B,C.

    The stored value is a tuple in ascending order.
    """

    def check(value: Any) -> tuple[float, ...]:
        values = tuple(sorted(float(_real(each)) for each in _items(value)))
        if not values or not all(math.isfinite(each) and low < each <= high for each in values):
            raise Refused("empty, or a number out of range")
        return _distinct(tuple(map(_held, values)))

    span = f"above {low:g}" + ("" if math.isinf(high) else f" and up to {high:g}")
    hint = f"give LOW:HIGH:COUNT, such as 0.01:100:5, or numbers {span}, such as 0.1,1, each once"
    return with_default(Setting(help, read_grid, check, show_grid, hint), default and read_grid(default))


def wholes(
    default: Sequence[int] | None,
    *,
    help: str,
    low: int = 1,
    high: int = MAX_WHOLE,
    ordered: bool = False,
    most: int = MAX_NUMBERS,
) -> Any:
    """Return a field of whole numbers from `low` to `high`: LOW:HIGH for all from LOW to HIGH, or A,B,C.

    `ordered` numbers keep their order and may repeat (sizes of layers); otherwise they are sorted, each given once.
    There are `most` of them or fewer.
    """

    def read(value: str) -> Sequence[int]:
        first, colon, last = value.partition(":")
        if not colon:
            return tuple(int(part) for part in value.split(","))
        return range(int(first), int(last) + 1)

    def check(value: Any) -> tuple[int, ...]:
        values = tuple(_whole(each, low, high) for each in _items(value, most))
        if not values:
            raise Refused("empty")
        return values if ordered else tuple(sorted(_distinct(values)))

    def show(value: Sequence[int]) -> str:
        consecutive = len(value) > 2 and tuple(value) == tuple(range(value[0], value[-1] + 1))
        return f"{value[0]}:{value[-1]}" if consecutive else ",".join(map(str, value))

    hint = f"give LOW:HIGH, such as {low}:10, or whole numbers {_span(low, high)}, such as {low},{low + 2}"
    return with_default(Setting(help, read, check, show, hint), default and check(default))


def size(default: tuple[int, int] | None, *, help: str, high: int = MAX_SIDE) -> Any:
    """Return a field of HEIGHTxWIDTH in pixels, each from 1 to `high`."""

    def read(value: str) -> tuple[int, int]:
        height, width = (int(part) for part in value.lower().split("x"))
        return height, width

    def check(value: Any) -> tuple[int, int]:
        height, width = (_whole(each, 1, high) for each in _items(value))
        return height, width

    hint = f"give HEIGHTxWIDTH in pixels, each up to {high:,}, such as 32x32"
    return with_default(Setting(help, read, check, lambda value: f"{value[0]}x{value[1]}", hint), default)


def mesh(*, help: str) -> Any:
    """Return a field of the sizes of a mesh, "lanes:4,batch:2"; None by default."""

    def check(value: Any) -> str:
        text = _text(value)
        read_mesh(text)
        return text

    hint = "give sizes such as lanes:4,batch:2"
    return with_default(Setting(help, str, check, str, hint, affects_result=False), None)


def read_mesh(value: str) -> dict[str, int]:
    """Return the sizes of a mesh by axis; ValueError for an axis that is unknown or given twice, or no size."""
    sizes: dict[str, int] = {}
    for entry in value.split(","):
        axis, _, size = entry.strip().partition(":")
        if axis not in ("lanes", "batch") or axis in sizes:
            raise Refused(f"{shortened(axis)!r} is no axis, or is given twice")
        sizes[axis] = _whole(int(size), 1, 4096)
    return sizes


def rates(options: Iterable[str], *, help: str, kind: str = "name") -> Any:
    """Return a field of positive numbers by name: NAME=NUMBER, separated by commas; empty by default."""
    names = list(options)

    def read(value: str) -> tuple[tuple[str, float], ...]:
        pairs = [part.partition("=") for part in value.split(",") if part]
        return tuple((name.strip(), float(rate)) for name, _, rate in pairs)

    def check(value: Any) -> tuple[tuple[str, float], ...]:
        pairs = [_items(pair) for pair in (value.items() if isinstance(value, Mapping) else _items(value))]
        checked = tuple((_named(name, names, kind), float(_real(rate))) for name, rate in pairs)
        if not all(math.isfinite(rate) and rate > 0 for _, rate in checked):
            raise Refused("a rate is a positive number")
        for _, rate in checked:
            _held(rate)
        if len({name for name, _ in checked}) < len(checked):
            raise Refused("a name is given twice")
        return checked

    def show(value: Any) -> str:
        return ",".join(f"{name}={_shortest(rate)}" for name, rate in dict(value).items())

    return with_default(Setting(help, read, check, show, "give NAME=RATE, such as adam=0.5, separated by commas"), ())


def paths(*, help: str, optional: bool = False) -> Any:
    """Return a field of one or more paths (or none): the words of the command line that are no flags."""

    def check(value: Any) -> tuple[str, ...]:
        chosen = tuple(_path_text(each) for each in _items(value))
        if not chosen and not optional:
            raise Refused("none")
        return chosen

    return with_default(Setting(help, lambda value: (value,), check, " ".join, "name one or more"), ())


def folders(*, help: str) -> Any:
    """Return a field of one or more folders, each once: words of the command line that are no flags.

    With the flag they are separated by commas, and one that contains a comma is quoted. flags.cfg holds absolute paths.
    """

    def check(value: Any) -> tuple[str, ...]:
        chosen = [value] if isinstance(value, os.PathLike) else _items(value)
        names = [_path_text(each) for each in chosen]
        if not names:
            raise Refused("none")
        places = [os.path.realpath(os.path.expanduser(name)) for name in names]
        if len({*places}) < len(places):
            raise Refused("a folder is named twice")
        return tuple(names)

    def record(value: Sequence[str]) -> str:
        return _show_row([os.path.abspath(os.path.expanduser(name)) for name in value])

    def same(one: Sequence[str], other: Sequence[str]) -> bool:
        return [*map(os.path.realpath, one)] == [*map(os.path.realpath, other)]

    setting = Setting(help, _read_row, check, _show_row, "name folders, each once", record=record, same=same)
    return with_default(setting, ())


# ── Lists and grids as text ───────────────────────────────────────────────────────────────────────────────────────────


def _read_row(value: str) -> tuple[str, ...]:
    """Return the texts of a line of CSV, but for blank ones."""
    try:
        return tuple(text for text in next(csv.reader([value], skipinitialspace=True), []) if text.strip())
    except csv.Error:  # a line break, or a field of more than 128 KiB
        raise Refused("not printable, or too long") from None


def _show_row(value: Iterable[str]) -> str:
    """Return texts as a line of CSV."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="").writerow(value)
    return stream.getvalue()


def read_grid(value: str) -> tuple[float, ...]:
    """Return the numbers of LOW:HIGH:COUNT, evenly spaced on a log scale, or of A,B,C."""
    if ":" not in value:
        return tuple(float(part) for part in value.split(","))
    first, last, count = value.split(":")
    low, high, steps = float(first), float(last), int(count) - 1
    if not (0 < low < high < math.inf and 1 <= steps < MAX_NUMBERS):
        if low == high > 0 and steps == 0:
            return (low,)
        raise Refused(f"LOW must be positive and below HIGH, and COUNT from 2 to {MAX_NUMBERS:,}")
    step = math.log(high / low) / steps
    return (*(low * math.exp(step * position) for position in range(steps)), high)


def show_grid(values: Any) -> str:
    """Return the text that `read_grid` takes, in its short form where the numbers are evenly spaced on a log scale."""
    values = tuple(values)
    if len(values) > 2:
        short = f"{_shortest(values[0])}:{_shortest(values[-1])}:{len(values)}"
        if 0 < values[0] < values[-1] and read_grid(short) == values:
            return short
    return ",".join(map(_shortest, values))


def _shortest(value: float) -> str:
    """Return the shortest text that reads back as the same number."""
    short = f"{value:g}"
    return short if float(short) == value else repr(float(value))


# ── Checks of values from Python ────────────────────────────────────────────────────────────────────────────────────


def _items(value: Any, most: int = MAX_NUMBERS) -> list[Any]:
    """Return the entries of a list, or the value itself; of an endless iterator no more than are refused."""
    if not isinstance(value, Iterable) or isinstance(value, str | bytes | Mapping):
        return [value]
    entries = list(itertools.islice(value, most + 1))
    if len(entries) > most:
        raise Refused(f"more than {most:,} numbers")
    return entries


def _bounded(value: Any) -> Any:
    """Return the value, unless it, or an entry of it, is an iterable without an end or with too many entries."""
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        if not (isinstance(value, Sized) and len(value) <= MAX_NUMBERS):
            raise Refused("too many entries")
        for entry in value.values() if isinstance(value, Mapping) else value:
            _bounded(entry)
    return value


def _real(value: Any) -> Any:
    """Return a number of Python, NumPy or JAX that is neither a bool nor an array."""
    value = value.item() if getattr(value, "ndim", None) == 0 else value
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise Refused("not a number")
    return value


def _held(value: float) -> float:
    """Return a number that float32, in which runs compute, does not turn into infinity or 0."""
    if value and not LEAST_FLOAT <= abs(value) <= MOST_FLOAT:
        raise Refused(f"beyond float32, whose numbers have sizes from {LEAST_FLOAT:g} to {MOST_FLOAT:g}")
    return value


def _whole(value: Any, low: int, high: int) -> int:
    exact = _real(value)
    if int(exact) != exact:
        raise Refused("not a whole number")
    return _within(int(exact), low, high)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise Refused("empty, or not a printable text")
    if len(value) > MAX_TEXT:
        raise Refused(f"longer than {MAX_TEXT:,} characters")
    return str(value)


def _path_text(value: Any) -> str:
    return _text(os.fspath(value) if isinstance(value, os.PathLike) else value)


def _listing(help: str, names: Sequence[str]) -> str:
    """Return the help with the names to choose from, unless it has them."""
    return help if all(name in help for name in names) else f"{help} Of: {', '.join(names)}."


def _named(name: Any, names: Sequence[str], kind: str) -> str:
    if not isinstance(name, str):
        raise Refused(f"not the name of a known {kind}")
    if name not in names:
        raise unknown(kind, name, names)
    return str(name)


def _distinct(values: tuple) -> tuple:
    if len(set(values)) < len(values):
        raise Refused("a number is given twice")
    return values


def _within(value: Any, low: float, high: float) -> Any:
    if not low <= value <= high:
        raise Refused(f"above {high:,}" if high == MAX_WHOLE and value > high else "out of range")
    return value


def _span(low: int, high: int) -> str:
    return f"of {low:,} or more" if high == MAX_WHOLE else f"from {low:,} to {high:,}"


def _range(low: float, high: float) -> str:
    if math.isinf(high):
        return "" if math.isinf(low) else f" of {low:g} or more"
    return f" up to {high:g}" if math.isinf(low) else f" from {low:g} to {high:g}"
