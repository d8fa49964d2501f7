"""User errors: one line that names what is wrong, where, and how to mend it."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake that the user can mend. Experiments print its one line and exit, without a traceback."""


def unknown(kind: str, name: str, names: Iterable[str]) -> UserError:
    """Return the error for a name that is missing from a table; it suggests the nearest valid name.

    >>> unknown("optimizer", "adm", ["adam", "sgd"])
    UserError("unknown optimizer 'adm': did you mean 'adam'? (known: adam, sgd)")
    """
    valid = list(names)
    near = difflib.get_close_matches(str(name), valid, n=1, cutoff=0.5)
    hint = f": did you mean {near[0]!r}?" if near else ""
    return UserError(f"unknown {kind} {name!r}{hint} (known: {', '.join(valid)})")
