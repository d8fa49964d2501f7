"""The user's own folder of images: one subfolder a class, which gives the class its name.

- The folder may be parted into `train/` and `test/`, and `validation/` or `val/` too, each with the same class
  folders; validation rows are a sixth of the training rows, by class, where it has none of its own. A folder without
  parts is split 60/20/20, by class.
- Images (see `picture`) come out in one size: the one asked for, else the one that all have, else the median height
  and width, each 64 at most. They have 1 channel if all are grey, else 3.
- Classes, and the files of each, stand in natural order (2.png before 10.png), whatever the file system's is.
- Hidden files, and files whose name does not end like an image's, are left out and counted. A file whose name does is
  never left out: one that cannot be read is refused, so that no row is lost unseen.
"""

import contextlib
import hashlib
import os
import re
from collections import Counter
from collections.abc import Sized
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mllab.data import picture
from mllab.data.dataset import Dataset, Split
from mllab.data.picture import Size, Stored
from mllab.data.split import stratified
from mllab.errors import UserError

PARTS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}  # folder -> its rows' part
LARGEST_SIDE = 64  # of images of different sizes, where no size is asked for
MOST_BYTES = 4 * 2**30  # of the array: data stay in memory whole


def load(folder: Path, *, size: Size | None, split_seed: int) -> Dataset:
    """Read a folder of images.

    Args:
        folder: that holds a folder for each class, or the parts `train/`, `test/` (and `validation/`) that do.
        size: height and width to resize to, where the rule above should not decide.
        split_seed: of the split, or of the validation rows where the folder brings its own test rows.

    Raises:
        UserError: naming folder or file, where a class has no image, a file cannot be read, or the folders make no
            sense.
    """
    found = _find(folder)
    split = _split(found, split_seed)  # first: a class of too few images should not wait for all to be read
    inputs, stored = _read(folder, found.files, size or _common_size(found.files))
    name = folder.resolve().name
    return Dataset(
        name=name,
        task="classification",
        inputs=inputs,
        targets=found.targets,
        split=split,
        classes=found.classes,
        target="class",
        sha256={f"{name}/": _sha256(folder, found.files, stored)},
        notes=(*_notes(found, stored, inputs.shape[1:3], asked=size is not None), *found.notes),
    )


def natural_order(name: str) -> tuple[list[str | int], str]:
    """Return what to sort names by so that numbers in them count: a2 before a10."""
    parts = re.split(r"(\d+)", name)
    return [int(part) if i % 2 else part.casefold() for i, part in enumerate(parts)], name


class _Entries(NamedTuple):
    """What stands directly in a folder, each in natural order."""

    folders: list[Path]
    images: list[Path]
    others: list[Path]  # hidden, or no image by its name


def _entries(folder: Path) -> _Entries:
    entries = _Entries([], [], [])
    try:
        for path in sorted(folder.iterdir(), key=lambda path: natural_order(path.name)):
            if _hidden(path):
                entries.others.append(path)
            elif path.is_dir():
                entries.folders.append(path)
            elif not path.is_file():
                raise UserError(f"{path} is neither a file nor a folder; a link that leads nowhere? mend or remove it")
            else:
                (entries.images if path.suffix.lower() in picture.ENDINGS else entries.others).append(path)
    except OSError as error:
        raise UserError(f"cannot read {error.filename or folder}: {error.strerror}") from None
    return entries


def _hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.name == "__MACOSX"


class _Found(NamedTuple):
    """The files to read, none of them opened yet."""

    classes: tuple[str, ...]
    files: list[Path]  # [N] part by part, class by class
    targets: np.ndarray  # [N] int32
    rows: dict[str, int]  # of each part, in the order of the files: train, validation, test; or all
    notes: tuple[str, ...]


def _find(folder: Path) -> _Found:
    top = _entries(folder)
    named = _parts(folder, top.folders)
    parts = {part: _entries(path) for part, path in named.items()} if named else {"all": top}
    above = [top, *parts.values()] if named else [top]  # the listings of folders that hold folders
    classes = _classes(folder, named, parts)
    files: list[Path] = []
    targets: list[int] = []
    rows = {}
    others = [path for entries in above for path in entries.others]
    for part, entries in parts.items():
        before = len(files)
        for target, path in enumerate(entries.folders):
            inside = _class_entries(path)
            files += inside.images
            targets += [target] * len(inside.images)
            others += inside.others
        rows[part] = len(files) - before
    if len(classes) == 1:
        raise UserError(f"{folder} holds one class, {classes[0]!r}: a classifier needs at least two")
    loose = [path for entries in above for path in entries.images]
    return _Found(classes, files, np.array(targets, np.int32), rows, _left_out(others, loose))


def _left_out(others: list[Path], loose: list[Path]) -> tuple[str, ...]:
    """Say which files were not meant to be read: what is no image by its name, and images in no class's folder."""
    notes = []
    if others:
        kinds = Counter("hidden" if _hidden(path) else path.suffix.lower() or "without ending" for path in others)
        listed = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        notes.append(f"left out what is no image by its name: {listed}")
    if loose:
        notes.append(f"left out {_count(loose, 'image')} beside the folders of the classes, such as {loose[0].name}")
    return tuple(notes)


def _parts(folder: Path, folders: list[Path]) -> dict[str, Path]:
    """Return the folders of training, validation and test rows, in that order; none where the folder has no parts."""
    # A class may be called "test"; a part holds folders.
    if not any(path.name.lower() in PARTS and _entries(path).folders for path in folders):
        return {}
    parts: dict[str, Path] = {}
    for path in folders:
        part = PARTS.get(path.name.lower())
        if part is None:
            raise UserError(f"{path} is none of {', '.join(PARTS)}, as the folders beside it are: rename or move it")
        if part in parts:
            raise UserError(f"{parts[part]} and {path} are both for {part}: join them")
        parts[part] = path
    for part in ("train", "test"):
        if part not in parts:
            raise UserError(
                f"{folder} has {' and '.join(path.name for path in parts.values())} but no folder {part}: add it, or "
                "put all classes into one folder without parts"
            )
    return {part: parts[part] for part in ("train", "validation", "test") if part in parts}


def _classes(folder: Path, named: dict[str, Path], parts: dict[str, _Entries]) -> tuple[str, ...]:
    """Return the names of the classes, which every part must agree on."""
    names = {part: [path.name for path in entries.folders] for part, entries in parts.items()}
    classes = names.get("train", names.get("all", []))
    for part, path in named.items():
        for one, other, where in ((classes, names[part], path), (names[part], classes, named["train"])):
            if absent := [name for name in one if name not in other]:
                raise UserError(f"{where} has no class folder {absent[0]!r}, but another part of {folder} has: add it")
    if not classes and parts[next(iter(parts))].images:
        raise UserError(f"{folder} holds images but no folders: put those of each class into a folder of its name")
    if not classes:
        raise UserError(f"{folder} holds no folders of images: put the images of each class into one of its name")
    return tuple(classes)


def _class_entries(folder: Path) -> _Entries:
    """Return what a class's folder holds: images, and no folders."""
    entries = _entries(folder)
    if entries.folders:
        raise UserError(
            f"{folder} holds a folder, {entries.folders[0].name}: images stand directly in the folder of their class"
        )
    if not entries.images:
        raise UserError(
            f"{folder} holds no image ({', '.join(picture.FORMATS)}): add some, or remove the folder of that class"
        )
    return entries


def _common_size(files: list[Path]) -> Size:
    """Return the size that all images have, or their median height and width, capped."""
    sizes = []
    for path in files:
        with contextlib.suppress(UserError):  # which is raised when all are read
            sizes.append(picture.stored_size(path))
    if len(set(sizes)) == 1:
        return sizes[0]
    if not sizes:
        return LARGEST_SIDE, LARGEST_SIDE
    height, width = np.minimum(np.median(sizes, axis=0), LARGEST_SIDE).astype(int)
    return int(height), int(width)


def check_memory(where: str, count: int, size: Size) -> None:
    """Refuse images that would take more than `MOST_BYTES` as float32 in three channels."""
    height, width = size
    if (needed := count * height * width * 3 * 4) > MOST_BYTES:
        raise UserError(
            f"{where}: {count:,} images of {height} × {width} would take {needed / 2**30:,.1f} GiB of memory, and "
            f"{MOST_BYTES / 2**30:g} are the most: ask for a smaller size"
        )


def _read(folder: Path, files: list[Path], size: Size) -> tuple[np.ndarray, list[Stored]]:
    """Return all images, [N, height, width, 1 or 3], and how each was stored."""
    check_memory(str(folder), len(files), size)
    inputs = np.empty((len(files), *size, 3), np.float32)
    stored, faults = [], []
    for row, path in enumerate(files):
        try:
            inputs[row], how = picture.decode(path, size)  # one thread: two were no faster
        except UserError as fault:
            faults.append(fault)
        else:
            stored.append(how)
    if faults:
        more = f"; {_count(faults[1:], 'more file')} of {folder} cannot be read either" if len(faults) > 1 else ""
        raise UserError(f"{faults[0]}{more}")
    return np.ascontiguousarray(inputs[..., :1]) if all(how.grey for how in stored) else inputs, stored


def _split(found: _Found, split_seed: int) -> Split:
    if "all" in found.rows:
        return stratified(found.targets, split_seed, classes=found.classes)
    train, validation, test = (found.rows.get(part, 0) for part in ("train", "validation", "test"))
    ids = np.arange(train + validation + test, dtype=np.int32)
    if validation:
        return Split(ids[:train], ids[train : train + validation], ids[train + validation :])
    chosen = stratified(found.targets[:train], split_seed, (5 / 6, 1 / 6, 0), classes=found.classes)
    return Split(chosen.train, chosen.validation, ids[train:])


def _sha256(folder: Path, files: list[Path], stored: list[Stored]) -> str:
    """Return one digest of all files, by path and content."""
    digests = sorted(
        (os.fsencode(path.relative_to(folder).as_posix()), how.sha256) for path, how in zip(files, stored, strict=True)
    )
    return hashlib.sha256(b"".join(name + b"\0" + digest for name, digest in digests)).hexdigest()


def _notes(found: _Found, stored: list[Stored], size: tuple[int, ...], asked: bool) -> list[str]:
    """Say what was done to the images, one sentence each."""
    height, width = size
    notes = []
    if resized := [how for how in stored if how.size != size]:
        squeezed = sum(abs(how.size[0] * width / (how.size[1] * height) - 1) > 0.01 for how in resized)
        rule = "" if asked else f", the medians, each {LARGEST_SIDE} at most"
        notes.append(
            f"resized {_count(resized, 'image')} of {len(stored):,} to {height} × {width} (height × width{rule}), "
            f"{f'{squeezed:,} of them' if squeezed else 'none'} squeezed to another aspect ratio"
        )
    grey = [how for how in stored if how.grey]
    if 0 < len(grey) < len(stored):
        notes.append(f"{_count(grey, 'grey image')} among coloured ones became red, green and blue")
    if transparent := [how for how in stored if how.transparent]:
        notes.append(f"laid {_count(transparent, 'image')} with transparency on white")
    if deep := [how for how in stored if how.deep]:
        notes.append(f"divided {_count(deep, 'image')} of 16 bits by 65,535")
    mislabelled = [
        (path, how.format)
        for path, how in zip(found.files, stored, strict=True)
        if picture.ENDINGS[path.suffix.lower()] != how.format
    ]
    if mislabelled:
        path, held = mislabelled[0]
        notes.append(
            f"read {_count(mislabelled, 'file')} by content, which is not what the name says: {path} holds {held}"
        )
    if "train" in found.rows and "validation" not in found.rows:
        notes.append("took a sixth of the training rows for validation, by class")
    return notes


def _count(things: Sized, noun: str) -> str:
    return f"{len(things):,} {noun}{'' if len(things) == 1 else 's'}"
