"""Parallel text: pairs of a source and a target sentence, from a tab-separated file or from two files of paired lines.

Lines are UTF-8 and end in a line feed; white space around a sentence is left out. A pair with an empty side is skipped
and counted.
"""

import codecs
import io
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mllab.data.readers import content
from mllab.errors import UserError


class Parallel(NamedTuple):
    """Pairs of sentences."""

    pairs: list[tuple[str, str]]
    skipped: int  # pairs with an empty side


def lines(raw: bytes, name: str) -> list[str]:
    """Return the lines of UTF-8 bytes; `name` is that of the file, for messages.

    Raises:
        UserError: bytes that are no UTF-8, or a NUL byte.
    """
    texts = []
    for number, line in enumerate(raw.removeprefix(codecs.BOM_UTF8).split(b"\n"), start=1):
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(
                f"{name}, line {number:,}: no UTF-8 ({error.reason} at byte {error.start:,} of the line, "
                f"0x{line[error.start]:02x}); convert the file, such as by iconv -f latin1 -t utf-8"
            ) from None
        if "\0" in text:
            raise UserError(f"{name}, line {number:,}: a NUL byte; give a text file in UTF-8")
        texts.append(text.rstrip("\r"))
    return texts[:-1] if texts[-1] == "" else texts  # what follows the last line feed is no line


def read_table(path: Path, *, limit: int | None = None) -> Parallel:
    """Return the pairs of a tab-separated file, plain or gzipped: source, target, and columns that are ignored.

    Raises:
        UserError: see `lines` and `content.read_unpacked`; a line without a tab, or no pair at all.
    """
    return of_table(content.read_unpacked(path, limit=limit), str(path))


def of_table(raw: bytes, name: str) -> Parallel:
    """Return the pairs of a tab-separated text; see `read_table`."""
    sides: tuple[list[str], list[str]] = ([], [])
    for number, line in enumerate(lines(raw, name), start=1):
        columns = line.split("\t")
        if line.strip() and len(columns) < 2:
            raise UserError(f"{name}, line {number:,}: no tab; give SOURCE, a tab and TARGET in each line")
        for side, text in zip(sides, columns if len(columns) > 1 else ("", ""), strict=False):
            side.append(text)
    return _paired(*sides, name)


def read_paired(source: Path, target: Path, *, limit: int | None = None) -> Parallel:
    """Return the pairs of two files, plain or gzipped, whose lines belong together.

    Raises:
        UserError: see `lines` and `content.read_unpacked`; files of different numbers of lines, or no pair at all.
    """
    sides = [lines(content.read_unpacked(path, limit=limit), str(path)) for path in (source, target)]
    if len(sides[0]) != len(sides[1]):
        raise UserError(
            f"{source} has {len(sides[0]):,} lines and {target} {len(sides[1]):,}: give files whose lines belong "
            "together"
        )
    return _paired(sides[0], sides[1], f"{source} and {target}")


def read_member(path: Path, member: str, *, limit: int | None = None) -> Parallel:
    """Return the pairs of a tab-separated file in a zip archive.

    Raises:
        UserError: see `of_table`; no zip archive, one without the file, or one that unpacks to more than the limit.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content.read(path, limit=limit))) as archive, archive.open(member) as file:
            raw = content.read_up_to(file, path, limit, verb="unpacks to")
    except (zipfile.BadZipFile, KeyError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: no zip archive with a whole {member} ({error}): replace the file") from None
    return of_table(raw, f"{path}:{member}")


def _paired(sources: Sequence[str], targets: Sequence[str], name: str) -> Parallel:
    stripped = [(source.strip(), target.strip()) for source, target in zip(sources, targets, strict=True)]
    pairs = [pair for pair in stripped if all(pair)]
    if not pairs:
        raise UserError(f"{name}: no pair of sentences; give a source and a target in one line or more")
    return Parallel(pairs, len(sources) - len(pairs))
