"""Folders of the user: the home folder in paths, and the cache."""

import os
from pathlib import Path

from mllab.errors import UserError, shortened


def expand(path: str | Path) -> Path:
    """Return a path with `~` and `~user` replaced by home folders.

    Raises:
        UserError: no path at all, no such user, or a user without a home folder.
    """
    try:
        return Path(path).expanduser()
    except TypeError:
        raise UserError(f"{shortened(repr(path))} is no path: give a text or a Path") from None
    except RuntimeError:
        user = Path(path).parts[0]
        raise UserError(f"{path}: cannot determine the home folder {user}: give the path without ~") from None


def user_cache() -> Path:
    """Return the user's cache folder for mllab: compiled programs and downloads.

    Raises:
        UserError: the user has no home folder.
    """
    if folder := os.environ.get("XDG_CACHE_HOME"):
        return Path(folder) / "mllab"
    try:
        return Path.home() / ".cache" / "mllab"
    except RuntimeError:
        raise UserError("cannot determine your home folder: set HOME or XDG_CACHE_HOME") from None
