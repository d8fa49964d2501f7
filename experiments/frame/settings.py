"""Settings: a dataclass field is a flag, its default, its check, its line of `--help`, and a keyword of `run`.

A class of settings inherits the groups that it shares with other experiments and adds fields of its own:

    @dataclass(frozen=True, kw_only=True)
    class Settings(shared_flags.Data, shared_flags.Folds):
        dataset: str = shared_flags.dataset("moons", classes=2)
        kernels: tuple[str, ...] = kinds.choices(KERNELS, help="Kernels to compare.")
        c: tuple[float, ...] = kinds.grid("0.01:100:5", help="Cost of a point inside the margin.")

Every value is checked when the settings are made, from flags and from Python alike, before anything is written.
"""

import dataclasses
import inspect
import itertools
import os
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Self

from absl import flags

from experiments.frame.kinds import Setting, with_default
from mllab.errors import UserError, shortened, unknown

Known = Mapping[str, tuple[Setting, Any]]  # flags by name: what is known of each, and its default
NOT_RECORDED = ("workdir", "coordinator", "num_processes", "process_id")  # of one process, not of the run
MAX_FLAGFILE = 1_000_000  # characters
MAX_NAME = 200  # characters of a flag's name


@dataclasses.dataclass(frozen=True, kw_only=True)
class Base:
    """What all classes of settings share: checks, and the way to and from flags."""

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            UserError: a value that is malformed or out of range.
        """
        defaults = self.defaults()
        for name, setting in self.table().items():
            value = getattr(self, name)
            if value is None:
                if defaults[name] is not None:
                    raise UserError(f"--{name}=None: {setting.hint}")
                continue
            object.__setattr__(self, name, setting.stored(name, value))

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
        return with_default(setting if help is None else dataclasses.replace(setting, help=help), default)

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

    def refuse_unread(self, names: Iterable[str], reason: str) -> None:
        """Raise UserError for the first of these settings that was changed, although nothing reads it in this run.

        Args:
            names: settings.
            reason: why not, or what to do about it.
        """
        defaults, known = self.defaults(), self.table()
        for name in names:
            if getattr(self, name) != defaults[name]:
                raise UserError(f"--{name}={known[name].shown(getattr(self, name))}: {reason}")

    def flagfile(self) -> str:
        """Return the settings as an absl flagfile, but for those of one process and those that are None."""
        lines = []
        for name, setting in sorted(self.table().items()):
            value = getattr(self, name)
            if value is not None and name not in NOT_RECORDED and not (value == () and self.defaults()[name] == ()):
                lines.append(f"--{name}={(setting.record or setting.show)(value)}\n")
        return "".join(lines)

    def result_flags(self) -> list[str]:
        """Return the lines of the flagfile that results depend on."""
        known = self.table()
        lines = self.flagfile().splitlines()
        return [line for line in lines if known[line.removeprefix("--").partition("=")[0]].affects_result]

    def differences(self, flagfile: str, others: Known) -> list[str]:
        """Return how the settings of a flagfile differ from these, as far as results depend on them, a phrase each.

        Args:
            flagfile: its text. Of a flag that it lacks, as a file of an earlier version may, it means the default.
            others: flags of other experiments, which a file of an earlier version may hold at their defaults.
        """
        defaults, differ = self.defaults(), []
        before = dict(_assignments(flagfile.splitlines()))
        for name, setting in self.table().items():
            then, now = defaults[name], getattr(self, name)
            if name in before:
                try:
                    then = setting.stored(name, before[name])
                except UserError:
                    then = before[name]
            if setting.affects_result and not setting.same(then, now):
                was = shortened(before[name]) if name in before else _shown(setting, then)
                differ.append(f"--{name} ({was}, now {_shown(setting, now)})")
        foreign = sorted(before.keys() - defaults.keys())
        unread = [f"--{shortened(name)}" for name in foreign if not _is_default(name, before[name], others)]
        return sorted(differ) + [f"{name} (this experiment does not read it)" for name in unread]


def _shown(setting: Setting, value: Any) -> str:
    return "unset" if value is None else setting.shown(value)


def parse(cls: type[Base], words: Sequence[str], others: Known) -> tuple[dict[str, Any], list[str]]:
    """Return what command-line words set, by name, and the words that are not flags.

    Args:
        cls: the class of settings.
        words: the command line, without the program's name.
        others: flags of other experiments. A flagfile may hold them at their defaults, as flags.cfg of earlier versions
            does; on the command line they are unknown.

    Raises:
        UserError: an unknown flag, one without a value, or a flagfile that cannot be read.
    """
    values = flags.FlagValues()
    for name, setting in cls.table().items():
        define = flags.DEFINE_boolean if setting.switch else flags.DEFINE_string
        define(name, None, setting.help, flag_values=values)
    expanded = list(_expanded(cls, words, others))
    try:
        for word in itertools.takewhile(lambda word: word != "--", expanded):
            name = word.partition("=")[0].lstrip("-")
            # absl's own flag hides unknown ones; and absl fails where it looks for names similar to a long one.
            if word.startswith("-") and (name == "undefok" or len(name) > MAX_NAME):
                raise flags.UnrecognizedFlagError(name)
        rest = values(["", *expanded])[1:]
    except flags.UnrecognizedFlagError as error:
        raise unknown("flag", f"--{error.flagname}", [f"--{known}" for known in [*cls.table(), "flagfile"]]) from None
    except flags.Error as error:
        raise UserError(shortened(str(error).removeprefix("ERROR:: "), 200)) from None
    return {name: values[name].value for name in cls.table() if values[name].value is not None}, rest


def _expanded(cls: type[Base], words: Sequence[str], others: Known, files: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield words with the lines of flagfiles in place of `--flagfile`, without flags of others at their defaults."""
    rest = iter(words)
    for word in rest:
        if word == "--":
            yield word
            yield from rest
            return
        name, equals, text = word.partition("=")
        if name not in ("--flagfile", "-flagfile"):
            yield word
            continue
        path = os.path.expanduser(text if equals else next(rest, ""))
        lines = _flagfile_lines(path)
        if os.path.realpath(path) in files:
            raise UserError(f"--flagfile={path}: it names itself; remove the line --flagfile from it")
        for line in _expanded(cls, lines, others, (*files, os.path.realpath(path))):
            other, value = next(_assignments([line]), ("", ""))
            if other in cls.table() or other not in others:
                yield line
            elif not _is_default(other, value, others):
                raise UserError(f"{shortened(line)} in {path}: this experiment does not read it; remove the line")


def _flagfile_lines(path: str) -> list[str]:
    """Return the lines of a flagfile, without comments.

    Raises:
        UserError: it cannot be read, is no text, or is far too long.
    """
    name = f"--flagfile={shortened(path)}"
    try:
        with open(path, encoding="utf-8") as file:
            content = file.read(MAX_FLAGFILE + 1)
    except OSError as error:
        raise UserError(f"{name}: cannot read it: {error.strerror}; name a flags.cfg") from None
    except ValueError:
        raise UserError(f"{name}: it is no text; name a flags.cfg") from None
    if len(content) > MAX_FLAGFILE:
        raise UserError(f"{name}: longer than {MAX_FLAGFILE:,} characters; name a flags.cfg")
    lines = [line.lstrip() for line in content.split("\n")]
    return [line for line in lines if line and not line.startswith(("#", "//"))]


def _assignments(lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each flag of a flagfile; of switches, "true" or "false"."""
    for line in lines:
        if line.startswith("--"):
            name, equals, text = line.removeprefix("--").partition("=")
            if equals:
                yield name, text
            else:
                yield (name.removeprefix("no"), "false") if name.startswith("no") else (name, "true")


def _is_default(name: str, text: str, others: Known) -> bool:
    """Return whether a text is the default of a flag of other experiments."""
    if name not in others:
        return False
    setting, default = others[name]
    try:
        return setting.stored(name, text) == default
    except UserError:
        return False


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
