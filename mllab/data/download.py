"""Downloads: streamed, verified, and moved into place whole or not at all."""

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

Progress = Callable[[int, int], None]  # (bytes downloaded, bytes in total)

CHUNK_BYTES = 1 << 18
TIMEOUT_S = 30  # without a byte


def fetch(url: str, destination: Path, *, sha256: str, size: int, progress: Progress | None = None) -> None:
    """Download `url` to `destination`, which appears only after its size and checksum are verified.

    Args:
        url: http or https.
        destination: the file to write; its folder is created.
        sha256: expected hash of the content, in hexadecimal.
        size: expected size in bytes.
        progress: called after every chunk with the bytes downloaded and the bytes in total.

    Raises:
        UserError: no network, no such file, a broken connection, unexpected content, or no space on the disk.
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
        os.chmod(partial, 0o644)  # mkstemp makes it private; a cache may be shared
        os.replace(partial, destination)
    except OSError as error:
        raise UserError(f"cannot write {destination}: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)


def _stream(url: str, file: BinaryIO, size: int, sha256: str, progress: Progress | None) -> None:
    """Copy the content of `url` to `file` and verify it."""
    digest, done = hashlib.sha256(), 0
    for chunk in _chunks(url):
        done += len(chunk)
        if done > size:
            raise UserError(
                f"{url} is longer than the expected {size:,} bytes: it has changed upstream; put the old file in "
                "--data_dir"
            )
        digest.update(chunk)
        file.write(chunk)
        if progress is not None:
            progress(done, size)
    if done < size:
        raise UserError(f"{url} broke off after {done:,} of {size:,} bytes: try again, or put the file in --data_dir")
    if digest.hexdigest() != sha256:
        raise UserError(
            f"{url} has SHA-256 {digest.hexdigest()[:12]}…, expected {sha256[:12]}…: it has changed upstream or was "
            "damaged in transit; try again, or put the file in --data_dir"
        )


def _chunks(url: str) -> Iterator[bytes]:
    """Yield the content of `url` in chunks; network errors become a `UserError`."""
    request = urllib.request.Request(url, headers={"User-Agent": "mllab"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            while chunk := response.read(CHUNK_BYTES):
                yield chunk
    except urllib.error.HTTPError as error:
        with error:
            raise UserError(
                f"{url} answered {error.code} {error.reason}: get the file elsewhere and put it in --data_dir"
            ) from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(f"cannot download {url} ({reason}): check the network, or put the file in --data_dir") from None
