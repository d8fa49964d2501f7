"""Files that are whole or absent."""

import os
from pathlib import Path


def write_bytes(path: str | Path, content: bytes, *, durable: bool = False) -> Path:
    """Write `content` beside `path` and rename it into place, making folders as needed; return the path.

    A reader never sees half a file, and a failure (a full disk, a kill) leaves what was there before, as does a loss
    of power if the write is durable.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.partial")  # one name, so that the next write replaces what a kill leaves
    try:
        with aside.open("wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    return path
