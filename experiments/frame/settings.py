"""Settings: a dataclass field is a flag, its default, its check, its line of `--help`, and a keyword of `run`.

A class of settings inherits the groups that it shares with other experiments and adds fields of its own:

    @dataclass(frozen=True, kw_only=True)
    class Settings(shared_flags.Data, shared_flags.Folds):
        dataset: str = shared_flags.Data.with_default("dataset", "moons")
        kernels: tuple[str, ...] = settings.choices(KERNELS, help="Kernels to compare.")
        c: tuple[float, ...] = settings.grid("0.01:100:5", help="Cost of a point inside the margin.")

Every value is checked when the settings are made, from flags and from Python alike, before anything is written.
"""

import dataclasses
import inspect
import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

from absl import flags

from mllab.errors import UserError, unknown


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is known of one setting beside its name and default."""

    help: str
    read: Callable[[str], Any]  # text of a flag -> value; ValueError where it is malformed
    check: Callable[[Any], Any]  # value -> the value as it is stored; ValueError where it is out of range
    show: Callable[[Any], str]  # value -> text that `read` takes
    hint: str  # what to give instead of a malformed or refused value
    switch: bool = False  # a flag without a value: --name and --noname
    affects_result: bool = (
        True  # False: where a run happens, not what it computes; a workdir may be resumed with others
    )

    def stored(self, name: str, value: Any) -> Any:
        """Return the value to store under this name, from a flag's text or from Python.

        Raises:
            UserError: a malformed or refused value.
        """
        if value is None:
            return None
        try:
            return self.check(self.read(value) if isinstance(value, str) else value)
        except UserError as error:
            raise UserError(f"--{name}: {error}") from None
        except (ValueError, TypeError, OverflowError) as error:
            reason = f"{error}: " if isinstance(error, Refused) else ""
            raise UserError(f"--{name}={self._text(value)}: {reason}{self.hint}") from None

    def _text(self, value: Any) -> str:
        if isinstance(value, str):
            return value
        try:
            return self.show(value)
        except (ValueError, TypeError, OverflowError, AttributeError):
            return str(value)


class Refused(ValueError):
    """A value out of range; its text says why."""


def _field(default: Any, setting: Setting) -> Any:
    return dataclasses.field(default=default, metadata={"setting": setting})


# ── Kinds of settings ───────────────────────────────────────────────────────────────────────────────────────────────


def text(default: str | None, *, help: str, affects_result: bool = True) -> Any:
    """Return a field of text, such as a path or a name that is looked up later."""

    def check(value: Any) -> str:
        if not str(value).isprintable() or not str(value):
            raise Refused("empty or not printable")
        return str(value)

    return _field(default, Setting(help, str, check, str, "give a text", affects_result=affects_result))


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

    return _field(default, Setting(help, read, check, lambda value: str(value).lower(), "give true or false", True))


def whole(
    default: int | None, *, help: str, low: float = -math.inf, high: float = math.inf, affects_result: bool = True
) -> Any:
    """Return a field of one whole number from `low` to `high`."""

    def check(value: Any) -> int:
        if isinstance(value, bool) or int(value) != value:
            raise ValueError
        return int(_within(value, low, high))

    hint = f"give a whole number{_range(low, high)}"
    return _field(default, Setting(help, int, check, str, hint, affects_result=affects_result))


def number(
    default: float | None, *, help: str, low: float = -math.inf, high: float = math.inf, affects_result: bool = True
) -> Any:
    """Return a field of one finite number from `low` to `high`."""

    def check(value: Any) -> float:
        if not math.isfinite(value):
            raise Refused("not a finite number")
        return float(_within(value, low, high))

    hint = f"give a number{_range(low, high)}"
    return _field(default, Setting(help, float, check, _shortest, hint, affects_result=affects_result))


def choice(options: Iterable[str], default: str | None, *, help: str, kind: str = "name") -> Any:
    """Return a field of one name among `options`; `kind` is what an unknown one is called in the message."""
    names = list(options)
    hint = f"give one of {', '.join(names)}"
    return _field(default, Setting(_listing(help, names), str, lambda value: _named(value, names, kind), str, hint))


def choices(
    options: Iterable[str], default: Sequence[str] | str | None = "all", *, help: str, kind: str = "name"
) -> Any:
    """Return a field of one or more names among `options`, each once; `all` stands for all of them."""
    names = list(options)

    def read(value: str) -> tuple[str, ...]:
        return tuple(names) if value == "all" else tuple(part.strip() for part in value.split(",") if part.strip())

    def check(value: Any) -> tuple[str, ...]:
        chosen = tuple(_named(name, names, kind) for name in value)
        if not chosen or len(set(chosen)) < len(chosen):
            raise Refused("none, or one twice")
        return chosen

    hint = f"give one or more of {', '.join(names)}, each once, or all"
    preset = tuple(names) if default == "all" else default if default is None else tuple(default)
    return _field(preset, Setting(_listing(help, names), read, check, ",".join, hint))


def grid(default: str | None, *, help: str, low: float = 0.0, high: float = math.inf) -> Any:
    """Return a field of numbers above `low` and up to `high`, each once: LOW:HIGH:COUNT on a log scale, or A,B,C.

    The stored value is a tuple in ascending order.
    """

    def check(value: Any) -> tuple[float, ...]:
        values = tuple(sorted(float(each) for each in ([value] if isinstance(value, int | float) else value)))
        if not values or not all(math.isfinite(each) and low < each <= high for each in values):
            raise Refused("empty, or a number out of range")
        return _distinct(values)

    span = f"above {low:g}" + ("" if math.isinf(high) else f" and up to {high:g}")
    hint = f"give LOW:HIGH:COUNT, such as 0.01:100:5, or numbers {span}, such as 0.1,1, each once"
    return _field(default and read_grid(default), Setting(help, read_grid, check, show_grid, hint))


def wholes(default: Sequence[int] | None, *, help: str, low: int = 1, ordered: bool = False) -> Any:
    """Return a field of whole numbers of `low` or more: LOW:HIGH for all from LOW to HIGH, or A,B,C.

    `ordered` numbers keep their order and may repeat (sizes of layers); otherwise they are sorted, each given once.
    """

    def read(value: str) -> tuple[int, ...]:
        first, colon, last = value.partition(":")
        if not colon:
            return tuple(int(part) for part in value.split(","))
        if int(last) - int(first) > 10_000_000:
            raise Refused("more than 10,000,000 numbers")
        return tuple(range(int(first), int(last) + 1))

    def check(value: Any) -> tuple[int, ...]:
        values = tuple(value) if isinstance(value, Iterable) else (value,)
        if not values or not all(int(each) == each and each >= low for each in values):
            raise Refused(f"empty, or a number below {low}")
        return tuple(int(each) for each in (values if ordered else sorted(_distinct(values))))

    def show(value: Sequence[int]) -> str:
        consecutive = len(value) > 2 and tuple(value) == tuple(range(value[0], value[-1] + 1))
        return f"{value[0]}:{value[-1]}" if consecutive else ",".join(map(str, value))

    hint = f"give LOW:HIGH, such as {low}:10, or whole numbers of {low} or more, such as {low},{low + 2}"
    return _field(default and check(default), Setting(help, read, check, show, hint))


def size(default: tuple[int, int] | None, *, help: str) -> Any:
    """Return a field of HEIGHTxWIDTH in pixels."""

    def read(value: str) -> tuple[int, int]:
        height, width = (int(part) for part in value.lower().split("x"))
        return height, width

    def check(value: Any) -> tuple[int, int]:
        height, width = value
        return int(_within(height, 1)), int(_within(width, 1))

    hint = "give HEIGHTxWIDTH in pixels, such as 32x32"
    return _field(default, Setting(help, read, check, lambda value: f"{value[0]}x{value[1]}", hint))


def rates(options: Iterable[str], *, help: str, kind: str = "name") -> Any:
    """Return a field of positive numbers by name: NAME=NUMBER, separated by commas; empty by default."""
    names = list(options)

    def read(value: str) -> tuple[tuple[str, float], ...]:
        pairs = [part.partition("=") for part in value.split(",") if part]
        return tuple((name.strip(), float(rate)) for name, _, rate in pairs)

    def check(value: Any) -> tuple[tuple[str, float], ...]:
        pairs = value.items() if isinstance(value, Mapping) else value
        checked = tuple((_named(name, names, kind), float(rate)) for name, rate in pairs)
        if not all(math.isfinite(rate) and rate > 0 for _, rate in checked):
            raise Refused("a rate is a positive number")
        if len({name for name, _ in checked}) < len(checked):
            raise Refused("a name is given twice")
        return checked

    def show(value: Any) -> str:
        return ",".join(f"{name}={_shortest(rate)}" for name, rate in dict(value).items())

    return _field((), Setting(help, read, check, show, "give NAME=RATE, such as adam=0.5, separated by commas"))


def paths(*, help: str) -> Any:
    """Return a field of one or more paths: the words of the command line that are no flags."""

    def check(value: Any) -> tuple[str, ...]:
        chosen = tuple(str(path) for path in value)
        if not chosen or not all(chosen):
            raise Refused("none")
        return chosen

    return _field((), Setting(help, lambda value: (value,), check, " ".join, "name one or more"))


def read_grid(value: str) -> tuple[float, ...]:
    """Return the numbers of LOW:HIGH:COUNT, evenly spaced on a log scale, or of A,B,C."""
    if ":" not in value:
        return tuple(float(part) for part in value.split(","))
    first, last, count = value.split(":")
    low, high, steps = float(first), float(last), int(count) - 1
    if not (0 < low < high < math.inf and 1 <= steps < 1_000_000):
        if low == high > 0 and steps == 0:
            return (low,)
        raise Refused("LOW must be positive and below HIGH, and COUNT from 2 to 1,000,000")
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


def _listing(help: str, names: Sequence[str]) -> str:
    """Return the help with the names to choose from, unless it has them."""
    return help if all(name in help for name in names) else f"{help} Of: {', '.join(names)}."


def _named(name: Any, names: Sequence[str], kind: str) -> str:
    if name not in names:
        raise unknown(kind, str(name), names)
    return str(name)


def _distinct(values: tuple) -> tuple:
    if len(set(values)) < len(values):
        raise Refused("a number is given twice")
    return values


def _within(value: float, low: float, high: float = math.inf) -> float:
    if not low <= value <= high:
        raise Refused("out of range")
    return value


def _range(low: float, high: float) -> str:
    if math.isinf(high):
        return "" if math.isinf(low) else f" of {low:g} or more"
    return f" up to {high:g}" if math.isinf(low) else f" from {low:g} to {high:g}"


# ── Settings as a whole ─────────────────────────────────────────────────────────────────────────────────────────────


@dataclasses.dataclass(frozen=True, kw_only=True)
class Base:
    """What all classes of settings share: checks, and the way to and from flags."""

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            UserError: a value that is malformed or out of range.
        """
        for name, setting in self.table().items():
            object.__setattr__(self, name, setting.stored(name, getattr(self, name)))

    @classmethod
    def table(cls) -> dict[str, Setting]:
        """Return the settings by name, those of the class itself first."""
        groups = {name for base in cls.__mro__[1:] for name in inspect.get_annotations(base)}
        fields = sorted(dataclasses.fields(cls), key=lambda field: field.name in groups)
        return {field.name: field.metadata["setting"] for field in fields}

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Return the defaults by name."""
        return {field.name: field.default for field in dataclasses.fields(cls)}

    @classmethod
    def with_default(cls, name: str, default: Any, *, help: str | None = None) -> Any:
        """Return the group's field with another default, and another help where given."""
        setting = cls.table()[name]
        return _field(default, setting if help is None else dataclasses.replace(setting, help=help))

    @classmethod
    def make(cls, overrides: Mapping[str, Any]) -> Self:
        """Return the settings that differ from the defaults by `overrides`.

        Raises:
            UserError: an unknown name, or a refused value.
        """
        for name in overrides:
            if name not in cls.table():
                raise unknown("setting", name, cls.table())
        return cls(**overrides)

    def flagfile(self) -> str:
        """Return the settings as an absl flagfile, but for `workdir` and those that are None."""
        lines = []
        for name, setting in sorted(self.table().items()):
            value = getattr(self, name)
            if value is not None and name != "workdir" and not (value == () and self.defaults()[name] == ()):
                lines.append(f"--{name}={setting.show(value)}\n")
        return "".join(lines)

    def result_flags(self) -> list[str]:
        """Return the lines of the flagfile that results depend on."""
        known = self.table()
        lines = self.flagfile().splitlines()
        return [line for line in lines if known[line.removeprefix("--").partition("=")[0]].affects_result]


def parse(cls: type[Base], words: Sequence[str], others: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return what command-line words set, by name, and the words that are not flags.

    Args:
        cls: the class of settings.
        words: the command line, without the program's name.
        others: flags that other experiments have, with their defaults. A flagfile may hold them at their defaults, as
            flags.cfg of earlier versions does.

    Raises:
        UserError: an unknown flag, one without a value, or a flagfile that cannot be read.
    """
    values = flags.FlagValues()
    for name, setting in cls.table().items():
        define = flags.DEFINE_boolean if setting.switch else flags.DEFINE_string
        define(name, None, setting.help, flag_values=values)
    foreign = {name: str(default) for name, default in others.items() if name not in cls.table()}
    for name in foreign:
        flags.DEFINE_string(name, None, "", flag_values=values)
    try:
        rest = values(["", *words])[1:]
    except flags.UnrecognizedFlagError as error:
        raise unknown("flag", f"--{error.flagname}", [f"--{known}" for known in cls.table()]) from None
    except flags.Error as error:
        raise UserError(str(error).removeprefix("ERROR:: ").replace("\n", " ")) from None
    direct = {word.lstrip("-").partition("=")[0] for word in words if word.startswith("-")}
    for name, default in foreign.items():
        if name in direct or values[name].value not in (None, default):
            raise UserError(f"--{name} means nothing to this experiment: see --help for its flags")
    return {name: values[name].value for name in cls.table() if values[name].value is not None}, rest


def help_text(cls: type[Base], module: str, about: str, usage: str = "[--flag=value ...]", width: int = 100) -> str:
    """Return what `--help` shows: usage, what the experiment does, and every flag with its default.

    Args:
        cls: the class of settings.
        module: as in `python -m module`.
        about: the experiment's docstring.
        usage: what follows the module's name.
        width: characters a line.
    """
    defaults = cls.defaults()
    lines = [f"usage: python -m {module} {usage}", "", about.strip(), "", "flags:"]
    for name, setting in cls.table().items():
        default = defaults[name]
        implied = default is None or default == () or "efault:" in setting.help
        lines.append(f"  --[no]{name}" if setting.switch else f"  --{name}")
        about_default = "" if implied else f" (default: {setting.show(default)})"
        lines += textwrap.wrap(
            setting.help + about_default,
            width,
            initial_indent=" " * 6,
            subsequent_indent=" " * 6,
            break_on_hyphens=False,
        )
    lines += [
        "  --flagfile",
        *textwrap.wrap("File of flags, one a line, as flags.cfg in a workdir.", width, initial_indent=" " * 6),
    ]
    return "\n".join(lines) + "\n"
