"""The bytes of a file, decompressed if it is gzipped."""

import gzip
import zlib
from pathlib import Path

from mllab.errors import UserError

GZIP_MAGIC = b"\x1f\x8b"


def read(path: Path) -> bytes:
    """Return the bytes of a file as they are.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None


def unpack(path: Path, content: bytes) -> bytes:
    """Decompress the gzipped content of the file `path`, all of it, so that its checksum is verified.

    Raises:
        UserError: it is truncated or damaged.
    """
    try:
        return gzip.decompress(content)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path} is truncated or damaged ({error}): replace the file") from None


def unpacked(path: Path, content: bytes) -> bytes:
    """Return the content of the file `path`, decompressed if it is gzipped; see `unpack`."""
    return unpack(path, content) if content.startswith(GZIP_MAGIC) else content


def read_unpacked(path: Path) -> bytes:
    """Return the bytes of a plain or gzipped file, decompressed.

    Raises:
        UserError: the file cannot be read, or is truncated or damaged.
    """
    return unpacked(path, read(path))
