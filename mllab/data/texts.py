"""Texts to model character by character: those known by name, or a file of your own.

A `Dataset` of the catalog is rows with targets and a random split. A text is one sequence, which is split by position
and stored once; so texts have a table of their own, with the catalog's files, folders and checks.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mllab.data.files import File, locate
from mllab.data.readers import characters, content
from mllab.data.readers.characters import Characters
from mllab.errors import UserError, unknown
from mllab.folders import expand

LEAST = 3  # characters: one to read, one to predict, in the shortest part


@dataclass(frozen=True)
class Entry:
    """A text known by name."""

    licence: str
    citation: str
    file: File | None = None  # None for the text that Python brings


TEXTS: Mapping[str, Entry] = {
    "python_reference": Entry(
        licence="PSF-2.0",
        citation="The Python Language Reference, as the running Python ships it (pydoc_data.topics): it differs "
        "between versions",
    ),
    "tinyshakespeare": Entry(
        licence="public domain; the repository's Readme says MIT",
        citation="A. Karpathy, char-rnn, 2015: about 40,000 lines of Shakespeare's plays",
        file=File(
            "input.txt",
            "https://raw.githubusercontent.com/karpathy/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e"
            "/data/tinyshakespeare/input.txt",
            1_115_394,
            "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        ),
    ),
}


def load(
    name_or_path: str | Path,
    *,
    data_dir: str | Path | None = None,
    download: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Characters:
    """Load a text by name, or a text file of your own by path.

    Args:
        name_or_path: a name in `TEXTS`, or the path of a UTF-8 file, plain or gzipped.
        data_dir: the folder to look for files in first; see `files.locate`.
        download: whether a missing file may be downloaded.
        progress: called during a download with the bytes downloaded and the bytes in total.

    Raises:
        UserError: an unknown name, a missing or damaged file, a file that is no UTF-8 text, or an empty one.
    """
    name = str(name_or_path)
    if name in TEXTS:
        entry = TEXTS[name]
        if entry.file is None:
            text = python_reference()
        else:
            path = locate(name, entry.file, data_dir=data_dir, download=download, progress=progress)
            text = characters.read(path)
        return of_text(text, name, licence=entry.licence, citation=entry.citation)
    path = expand(name)
    if not content.kind(path):
        if path.name == name:  # a word: as likely a name as a file
            raise unknown("text", name, [*TEXTS, "FILE.txt"])
        raise UserError(f"no file {path}: check the path")
    return of_text(characters.read(path), path.name)


def of_text(text: str, name: str, *, licence: str = "", citation: str = "") -> Characters:
    """Return a text as a sequence of characters.

    Raises:
        UserError: fewer than `LEAST` characters.
    """
    if len(text) < LEAST:
        raise UserError(f"{name} has {len(text)} characters: give a text of {LEAST} or more")
    known = characters.vocabulary(text)
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return Characters(name, characters.encode(text, known, name), known, licence, citation, digest)


def python_reference() -> str:
    """Return the topics of Python's own reference in alphabetical order, about 460,000 characters."""
    from pydoc_data.topics import topics  # half a megabyte of text

    return "\n\n".join(topics[name] for name in sorted(topics))
