"""The bytes of a user's file: of a regular file only, up to a limit of memory, decompressed if it is gzipped.

Every reader opens files here, so that a folder, a named pipe or a device is refused instead of read without an end, and
a file that unpacks to more than the memory holds is refused while it is unpacked.
"""

import errno
import gzip
import io
import os
import stat
import zlib
from pathlib import Path
from typing import BinaryIO, Protocol

from mllab import memory
from mllab.errors import UserError

GZIP_MAGIC = b"\x1f\x8b"
CHUNK_BYTES = 2**20  # read at once
MEMORY_SHARE = 4  # one file may take a quarter of the free memory: its arrays need the rest
LEAST_BYTES = 2**26  # a file of this size is always read
MOST_BYTES = 2**40  # where the free memory is not known
KINDS = (
    (stat.S_ISREG, "file"),
    (stat.S_ISDIR, "folder"),
    (stat.S_ISFIFO, "named pipe"),
    (stat.S_ISSOCK, "socket"),
)


def default_limit() -> int:
    """Return how many bytes the content of one file may take: a share of the memory that is free."""
    return max(LEAST_BYTES, int(min(memory.available(), MOST_BYTES)) // MEMORY_SHARE)


def kind(path: str | Path) -> str:
    """Return what is at a path: "file", "folder", "named pipe", "socket" or "device"; "" if there is nothing.

    Raises:
        UserError: the path cannot be looked up: a folder on the way is not readable, or the name is too long.
    """
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        if error.errno == errno.ELOOP:  # links in a circle lead nowhere
            return ""
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    except ValueError as error:  # a NUL, or a character that no file name has
        raise UserError(f"cannot read {path}: not the path of a file ({error})") from None
    return next((name for is_kind, name in KINDS if is_kind(mode)), "device")


def open_file(path: str | Path) -> BinaryIO:
    """Open a regular file to read its bytes.

    Raises:
        UserError: no such file, no permission, or no regular file: the size of a pipe or a device is not known.
    """
    actual = kind(path)
    if actual not in ("file", ""):
        raise UserError(f"cannot read {path}: it is a {actual}; give the path of a file")
    try:
        return open(path, "rb")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None


def read(path: str | Path, *, limit: int | None = None) -> bytes:
    """Return the bytes of a regular file as they are.

    Args:
        path: of the file.
        limit: on its bytes; a share of the memory by default.

    Raises:
        UserError: the file cannot be read, or is larger than the limit.
    """
    with open_file(path) as file:
        try:
            return read_up_to(file, path, limit)
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror or error}") from None


class Stream(Protocol):
    """An open file or a decompressor."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, none at the end."""


def read_up_to(file: Stream, path: str | Path, limit: int | None = None, *, verb: str = "holds") -> bytes:
    """Return the rest of an open file, counted while it is read.

    Args:
        file: plain, or a decompressor.
        path: of the file, for the message.
        limit: on the bytes; a share of the memory by default.
        verb: how the file comes to the bytes, for the message.

    Raises:
        UserError: more bytes than the limit.
    """
    limit = default_limit() if limit is None else limit
    chunks, count = [], 0
    while chunk := file.read(CHUNK_BYTES):
        chunks.append(chunk)
        count += len(chunk)
        if count > limit:
            chunks.clear()
            raise too_large(path, f"{verb} more than {size_text(limit)}")
    return b"".join(chunks)


def too_large(path: str | Path, what: str) -> UserError:
    """Return the error for a file whose content does not fit in memory; `what` says what it does."""
    return UserError(f"{path} {what}, which is more than this machine's memory allows for one file: make it smaller")


def size_text(size: int) -> str:
    """Return a number of bytes in GiB, MiB or KiB."""
    for unit, bytes_in_unit in (("GiB", 2**30), ("MiB", 2**20)):
        if size >= bytes_in_unit:
            return f"{size / bytes_in_unit:,.1f} {unit}"
    return f"{size / 2**10:.1f} KiB"


def unpack(path: Path, content: bytes, *, limit: int | None = None) -> bytes:
    """Decompress the gzipped content of the file `path`, all of it, so that its checksum is verified.

    Args:
        path: of the file, for messages.
        content: of the file.
        limit: on the decompressed bytes; a share of the memory by default.

    Raises:
        UserError: it is truncated or damaged, or decompresses to more than the limit.
    """
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            return read_up_to(file, path, limit, verb="unpacks to")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path} is truncated or damaged ({error}): replace the file") from None


def unpacked(path: Path, content: bytes, *, limit: int | None = None) -> bytes:
    """Return the content of the file `path`, decompressed if it is gzipped; see `unpack`."""
    return unpack(path, content, limit=limit) if content.startswith(GZIP_MAGIC) else content


def read_unpacked(path: Path, *, limit: int | None = None) -> bytes:
    """Return the bytes of a plain or gzipped file, decompressed.

    Raises:
        UserError: the file cannot be read, is truncated or damaged, or takes more bytes than the limit.
    """
    return unpacked(path, read(path, limit=limit), limit=limit)
