"""Names that users give to columns, classes, categories and files, made printable where they are read.

Everything downstream (reports, file headers, terminals) then gets text of one line without control characters, marks
that reverse the writing direction, or parts of characters that no encoding has.
"""

from collections.abc import Iterable

from mllab.errors import UserError, escaped, shortened

EMPTY = "(empty)"  # stands for a name without any visible character


def printable(name: str) -> str:
    r"""Return a name whose characters all print: others become escape sequences, special spaces plain ones.

    >>> printable("ok\x01\nbad")
    'ok\\x01\\nbad'
    """
    if not name.isprintable():
        name = escaped("".join(" " if not letter.isprintable() and _is_space(letter) else letter for letter in name))
    return name if name.strip() else EMPTY


def title(name: str) -> str:
    """Return the printable name of a column: one line, without spaces around it; empty if there is none."""
    words = " ".join(name.split())
    return printable(words) if words else ""


def distinct(names: Iterable[str], what: str) -> dict[str, str]:
    """Return the printable form of each of several distinct names.

    Args:
        names: as in the file.
        what: whose names these are, for the message: file, and column or folder.

    Raises:
        UserError: two names have the same printable form.
    """
    forms: dict[str, str] = {}
    for name in names:
        form = printable(name)
        other = forms.setdefault(form, name)
        if other != name:
            raise UserError(
                f"{what}: {shortened(ascii(other))} and {shortened(ascii(name))} look the same when printed; rename one"
            )
    return {name: form for form, name in forms.items()}


def _is_space(letter: str) -> bool:
    """Return whether a character is a space of some width, and not a line break or a tab."""
    return letter.isspace() and letter not in "\t\n\r\v\f\x1c\x1d\x1e\x1f\x85\u2028\u2029"
