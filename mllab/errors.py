"""User errors: one line that names what is wrong, where, and how to mend it."""

import difflib
from collections.abc import Iterable

SHOWN_LENGTH = 60  # characters of a user's value that a message repeats


class UserError(ValueError):
    """A mistake that the user can mend. Experiments print its one line and exit, without a traceback."""

    def __init__(self, message: str):
        """Take the message; line breaks and other characters that do not print are escaped in it."""
        super().__init__(escaped(message))


def unknown(kind: str, name: str, names: Iterable[str]) -> UserError:
    """Return the error for a name that is missing from a table; it suggests the nearest valid name.

    >>> unknown("optimizer", "adm", ["adam", "sgd"])
    UserError("unknown optimizer 'adm': did you mean 'adam'? (known: adam, sgd)")
    """
    valid = list(names)
    bare = {each.lstrip("-"): each for each in valid}  # dashes make all flags alike
    near = difflib.get_close_matches(str(name).lstrip("-")[:SHOWN_LENGTH], bare, n=1, cutoff=0.5)
    hint = f": did you mean {bare[near[0]]!r}?" if near else ""
    return UserError(f"unknown {kind} {shortened(str(name))!r}{hint} (known: {', '.join(valid)})")


def escaped(text: str) -> str:
    r"""Return a text with each character that does not print as its escape sequence.

    >>> escaped("a\nb")
    'a\\nb'
    """
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def shortened(text: str, length: int = SHOWN_LENGTH) -> str:
    """Return a text whose middle is left out if it is longer than `length` characters.

    >>> shortened("0123456789", 7)
    '012...9'
    """
    if len(text) <= length:
        return text
    end = (length - 3) // 4
    return f"{text[: length - 3 - end]}...{text[len(text) - end :]}"
