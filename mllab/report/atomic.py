"""A file is there whole or not at all."""

import os
from pathlib import Path


def write_bytes(path: str | Path, content: bytes) -> Path:
    """Write `content` beside `path` and rename it into place, making folders as needed; return the path.

    A reader never sees half a file, and a failure (a full disk, a kill) leaves what was there before.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        aside.write_bytes(content)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    return path
