"""Files from the network: streamed, checked, and put in place whole or not at all."""

import hashlib
import http.client
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from mllab.errors import UserError

Progress = Callable[[int, int], None]  # (bytes done, bytes in all)

CHUNK = 1 << 18  # bytes between two reports of progress
TIMEOUT = 30  # seconds without a byte


def fetch(url: str, destination: Path, *, sha256: str, size: int, progress: Progress | None = None) -> None:
    """Download `url` to `destination`, which appears only when its size and checksum are right.

    Args:
        url: http or https.
        destination: the file to write; its folder is made.
        sha256: what the content must hash to, in hexadecimal.
        size: what the content must measure, in bytes.
        progress: called with the bytes done and the bytes in all, after every chunk.

    Raises:
        UserError: no network, no such file there, a connection cut half-way, another content, no room here.
    """
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=destination.parent, prefix=f".{destination.name}.", suffix=".part")
    except OSError as error:
        raise UserError(f"cannot write {destination}: {error.strerror}") from None
    partial = Path(name)
    try:
        with open(handle, "wb") as file:
            _stream(url, file, size, sha256, progress)
        os.chmod(partial, 0o644)  # mkstemp keeps others out; a cache may be shared
        os.replace(partial, destination)
    except OSError as error:
        raise UserError(f"cannot write {destination}: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)


def _stream(url: str, file: BinaryIO, size: int, sha256: str, progress: Progress | None) -> None:
    """Copy the content of `url` to `file` and check it."""
    digest, done = hashlib.sha256(), 0
    for chunk in _chunks(url):
        done += len(chunk)
        if done > size:
            raise UserError(f"{url} is longer than the {size:,} bytes expected: it has changed upstream")
        digest.update(chunk)
        file.write(chunk)
        if progress is not None:
            progress(done, size)
    if done < size:
        raise UserError(f"{url} broke off after {done:,} of {size:,} bytes: try again, or put the file in --data_dir")
    if digest.hexdigest() != sha256:
        raise UserError(
            f"{url} has sha256 {digest.hexdigest()[:12]}… where {sha256[:12]}… was expected: it has changed upstream, "
            "or was damaged on the way"
        )


def _chunks(url: str) -> Iterator[bytes]:
    """Yield the content of `url`, in chunks; network trouble ends in one line."""
    request = urllib.request.Request(url, headers={"User-Agent": "mllab"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            while chunk := response.read(CHUNK):
                yield chunk
    except urllib.error.HTTPError as error:
        with error:
            raise UserError(
                f"{url} answered {error.code} {error.reason}: get the file elsewhere and put it in --data_dir"
            ) from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(f"cannot download {url} ({reason}): check the network, or put the file in --data_dir") from None
