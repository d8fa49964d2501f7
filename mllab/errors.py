"""Mistakes of the user's: one line that says what is wrong, where, and how to mend it."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake that a user can mend; experiments print its one line and exit, without a traceback."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """Return the error for a name that is not in the table, with the nearest that is.

    >>> unknown("optimizer", "adm", ["adam", "sgd"])
    UserError("unknown optimizer 'adm': did you mean 'adam'? (known: adam, sgd)")
    """
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f": did you mean {near[0]!r}?" if near else ""
    return UserError(f"unknown {kind} {name!r}{hint} (known: {', '.join(names)})")
