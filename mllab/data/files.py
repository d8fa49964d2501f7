"""Published files: found on this machine or downloaded, and verified by size and SHA-256."""

import gzip
import hashlib
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mllab.devices import user_cache
from mllab.errors import UserError


@dataclass(frozen=True)
class File:
    """A published file. A local copy may be gzipped, as NAME.gz."""

    name: str
    url: str
    size: int  # bytes
    sha256: str
    repacked: str = ""  # SHA-256 of an accepted archive with the same content, packed again


def locate(
    dataset: str,
    file: File,
    *,
    data_dir: str | Path | None = None,
    download: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Return the verified local path of a data set's file, downloaded to the user's cache if necessary.

    The file is looked for in `data_dir`, then in $MLLAB_DATA (as DATASET/FILE or as FILE), then in the user's cache.

    Args:
        dataset: name of the data set.
        file: the file.
        data_dir: the folder to look in first.
        download: whether a missing file may be downloaded.
        progress: see `download.fetch`.

    Raises:
        UserError: a folder does not exist, the local file differs from the published one, or the download failed.
    """
    for setting, source in ((data_dir, "data_dir"), (os.environ.get("MLLAB_DATA"), "$MLLAB_DATA")):
        if not setting:
            continue
        folder = Path(setting).expanduser()
        if not folder.is_dir():
            raise UserError(f"{source}: no folder {folder}: create it, or leave {source} unset to use the user's cache")
        for path in _copies(folder / dataset / file.name, folder / file.name):
            if fault := _fault(path, file):
                raise UserError(
                    f"{path} is not the file that {dataset} publishes: {fault}; replace it, or remove it to download it"
                )
            return path
    cached = user_cache() / "data" / dataset / file.name
    if cached.is_file() and not _fault(cached, file):
        return cached
    if not download:
        raise UserError(f"{dataset} needs {file.name}: download it from {file.url} into data_dir")
    from mllab.data.download import fetch  # imports the network's modules, which are rarely needed

    fetch(file.url, cached, sha256=file.sha256, size=file.size, progress=progress)
    return cached


def _copies(*paths: Path) -> list[Path]:
    """Return those of the paths that exist, plain or gzipped."""
    candidates = [copy for path in paths for copy in (path, path.with_name(f"{path.name}.gz"))]
    return [path for path in candidates if path.is_file()]


def _fault(path: Path, file: File) -> str:
    """Return how the file at `path` differs from the published one; empty if it does not."""
    gzipped = path.name != file.name
    try:
        with gzip.open(path) if gzipped else open(path, "rb") as content:
            sha256 = hashlib.file_digest(content, "sha256").hexdigest()
            size = content.tell()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        return f"it is truncated or damaged ({error})"
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    if sha256 == file.repacked:
        return ""
    if size != file.size:
        return f"it has {size:,} bytes, expected {file.size:,}"
    if sha256 != file.sha256:
        return f"its SHA-256 is {sha256[:12]}…, expected {file.sha256[:12]}…"
    return ""
