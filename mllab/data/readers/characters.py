"""Text files as sequences of characters: ids, and the vocabulary that they are positions in."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mllab.data.readers import content
from mllab.errors import UserError

SEEN = 12  # characters on each side of a mistake that a message shows


@dataclass(frozen=True)
class Characters:
    """A text as a sequence of characters."""

    name: str
    ids: np.ndarray  # int32 [N], positions in the vocabulary
    vocabulary: str  # the distinct characters, by code point
    licence: str = ""
    citation: str = ""
    sha256: str = ""  # of the file's bytes, or of the text in UTF-8

    def __repr__(self) -> str:
        """Return the name and the sizes."""
        return f"Characters({self.name}: {len(self.ids):,} characters, {len(self.vocabulary)} distinct)"


def read(path: Path, *, limit: int | None = None) -> str:
    """Return the text of a UTF-8 file, plain or gzipped; a byte order mark at its start is left out.

    Raises:
        UserError: a file that cannot be read or is too large for the memory; bytes that are no UTF-8, or NUL bytes.
    """
    return decode(content.read_unpacked(path, limit=limit), str(path))


def decode(raw: bytes, name: str) -> str:
    """Return the text of UTF-8 bytes; see `read`."""
    if (place := raw.find(b"\0")) >= 0:
        raise UserError(f"{name} is no text: byte {place:,} is NUL; give a text file in UTF-8")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{name} is no UTF-8: {error.reason} at byte {error.start:,} (0x{raw[error.start]:02x}); convert it, "
            "such as by iconv -f latin1 -t utf-8"
        ) from None


def vocabulary(text: str) -> str:
    """Return the distinct characters of a text, sorted by code point."""
    return "".join(sorted(set(text)))


def encode(text: str, known: str, name: str = "the text") -> np.ndarray:
    """Return the positions of characters in a vocabulary, int32 [N].

    Args:
        text: the characters, one or more.
        known: the vocabulary, sorted by code point.
        name: of the text, for messages.

    Raises:
        UserError: an empty text, or a character that the vocabulary lacks.
    """
    if not text:
        raise UserError(f"{name} is empty: give one character or more")
    codes, points = _codes(text), _codes(known)
    ids = np.searchsorted(points, codes).astype(np.int32)
    unknown = np.flatnonzero(points[np.minimum(ids, len(points) - 1)] != codes)
    if unknown.size:
        place = int(unknown[0])
        near = text[max(0, place - SEEN) : place + SEEN]
        raise UserError(
            f"{name}: the character {text[place]!r} (U+{ord(text[place]):04X}) in {near!r} is not among the "
            f"{len(known)} characters of the training text: leave it out"
        )
    return ids


def decoded(ids: np.ndarray, known: str) -> str:
    """Return the characters at positions [N] of a vocabulary."""
    return "".join(known[index] for index in np.asarray(ids).tolist())


def _codes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
