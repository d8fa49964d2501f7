"""A user's own folder of images as a data set: one subfolder a class, named after the class.

- The folder may have the parts `train/` and `test/`, and `validation/` or `val/`, each with the same class folders.
  Without validation folders, a sixth of the training rows, stratified by class, is for validation. A folder without
  parts is split 60/20/20, stratified by class.
- All images (see `image_file`) get one size: the requested one, otherwise their common one, otherwise the median height
  and width, each at most 64. They have 1 channel if all are grey, otherwise 3.
- Classes, and the files of each, are in natural order (2.png before 10.png), on every file system.
- Hidden files, and files without an image's ending, are skipped and counted. A file with an image's ending that cannot
  be read is an error, so that no row is lost unnoticed.
"""

import contextlib
import hashlib
import os
from collections import Counter
from collections.abc import Sized
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mllab import tasks
from mllab.data import names as user_names
from mllab.data.dataset import Dataset, Split
from mllab.data.readers import content, image_file
from mllab.data.readers.image_dataset import natural_order
from mllab.data.readers.image_file import Size, Stored
from mllab.data.readers.image_memory import check_memory
from mllab.data.split import VALIDATION_SIXTH_NOTE, stratified, with_own_test_rows
from mllab.errors import UserError

PARTS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}  # folder name: part
MAX_DEFAULT_SIDE = 64  # of images with different sizes, if no size is requested


def load(folder: Path, *, size: Size | None, split_seed: int) -> Dataset:
    """Read a folder of images.

    Args:
        folder: of class folders, or of the parts `train/`, `test/` (and `validation/`) that have them.
        size: height and width to resize to, to override the rule above.
        split_seed: seed of the split, or of the validation rows if the folder has its own test rows.

    Raises:
        UserError: a class has no image, a file cannot be read, or the folders do not fit the layout; the message names
            folder or file.
    """
    listing = _list(folder)
    split = _split(listing, split_seed)  # before the images are read, so that a class that is too small fails at once
    inputs, stored = _read(folder, listing.files, size or _common_size(listing.files))
    name = user_names.printable(folder.resolve().name)
    return Dataset(
        name=name,
        task=tasks.CLASSIFICATION.name,
        inputs=inputs,
        targets=listing.targets,
        split=split,
        classes=listing.classes,
        target="class",
        sha256={f"{name}/": _sha256(folder, listing.files, stored)},
        notes=(*_notes(listing, stored, inputs.shape[1:3], requested=size is not None), *listing.notes),
    )


class _Entries(NamedTuple):
    """The entries of a folder, each kind in natural order."""

    folders: list[Path]
    images: list[Path]
    others: list[Path]  # hidden, or without an image's ending


def _entries(folder: Path) -> _Entries:
    entries = _Entries([], [], [])
    try:
        for path in sorted(folder.iterdir(), key=lambda path: natural_order(path.name)):
            if _hidden(path):
                entries.others.append(path)
            elif (kind := content.kind(path)) == "folder":
                entries.folders.append(path)
            elif kind != "file":
                raise UserError(f"{path} is neither a file nor a folder: remove it, or correct the link if it is one")
            else:
                (entries.images if path.suffix.lower() in image_file.ENDINGS else entries.others).append(path)
    except OSError as error:
        raise UserError(f"cannot read {error.filename or folder}: {error.strerror}") from None
    return entries


def _hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.name == "__MACOSX"


class _Listing(NamedTuple):
    """The image files of a folder, none of them opened yet."""

    classes: tuple[str, ...]
    files: list[Path]  # [N] part by part, class by class
    targets: np.ndarray  # [N] int32
    rows: dict[str, int]  # number in each part, in the order of the files: train, validation, test; or all
    notes: tuple[str, ...]


def _list(folder: Path) -> _Listing:
    top = _entries(folder)
    part_folders = _parts(folder, top.folders)
    parts = {part: _entries(path) for part, path in part_folders.items()} if part_folders else {"all": top}
    above = [top, *parts.values()] if part_folders else [top]  # the entries of folders above the class folders
    classes = _classes(folder, part_folders, parts)
    files: list[Path] = []
    targets: list[int] = []
    rows = {}
    others = [path for entries in above for path in entries.others]
    for part, entries in parts.items():
        before = len(files)
        for target, path in enumerate(entries.folders):
            entries_of_class = _class_entries(path)
            files += entries_of_class.images
            targets += [target] * len(entries_of_class.images)
            others += entries_of_class.others
        rows[part] = len(files) - before
    if len(classes) == 1:
        raise UserError(f"{folder} has only the class {classes[0]!r}: add the folder of another class")
    outside = [path for entries in above for path in entries.images]
    return _Listing(classes, files, np.array(targets, np.int32), rows, _skipped(others, outside))


def _skipped(others: list[Path], outside: list[Path]) -> tuple[str, ...]:
    """Return notes on the files that are not read: those without an image's ending, and images outside of classes."""
    notes = []
    if others:
        kinds = Counter("hidden" if _hidden(path) else path.suffix.lower() or "without ending" for path in others)
        listed = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        notes.append(f"skipped files that are not images by their names: {listed}")
    if outside:
        notes.append(f"skipped {_count(outside, 'image')} outside of the class folders, such as {outside[0].name}")
    return tuple(map(user_names.printable, notes))


def _parts(folder: Path, folders: list[Path]) -> dict[str, Path]:
    """Return the folders of training, validation and test rows, in that order; empty if the folder has no parts."""
    # A class may be called "test", but only a part contains folders.
    if not any(path.name.lower() in PARTS and _entries(path).folders for path in folders):
        return {}
    parts: dict[str, Path] = {}
    for path in folders:
        part = PARTS.get(path.name.lower())
        if part is None:
            raise UserError(f"{path} is not one of {', '.join(PARTS)}, like the folders beside it: rename or move it")
        if part in parts:
            raise UserError(f"{parts[part]} and {path} are both for {part}: merge them")
        parts[part] = path
    for part in ("train", "test"):
        if part not in parts:
            raise UserError(
                f"{folder} has the folder {' and '.join(path.name for path in parts.values())} but no {part}: add it, "
                "or put the class folders of all parts together"
            )
    return {part: parts[part] for part in ("train", "validation", "test") if part in parts}


def _classes(folder: Path, part_folders: dict[str, Path], parts: dict[str, _Entries]) -> tuple[str, ...]:
    """Return the names of the classes, which must be the same in every part."""
    names = {part: [path.name for path in entries.folders] for part, entries in parts.items()}
    classes = names.get("train", names.get("all", []))
    for part, path in part_folders.items():
        for one, other, where in ((classes, names[part], path), (names[part], classes, part_folders["train"])):
            if absent := [name for name in one if name not in other]:
                raise UserError(f"{where} has no class folder {absent[0]!r}, but another part of {folder} has: add it")
    if not classes:
        holds = "images but no class folders" if parts[next(iter(parts))].images else "no class folders"
        raise UserError(f"{folder} has {holds}: put the images of each class into a folder named after the class")
    return tuple(user_names.distinct(classes, str(folder)).values())


def _class_entries(folder: Path) -> _Entries:
    """Return the entries of a class folder, which has images and no folders."""
    entries = _entries(folder)
    if entries.folders:
        raise UserError(
            f"{folder} has the subfolder {entries.folders[0].name}: put images directly into the folder of their class"
        )
    if not entries.images:
        raise UserError(f"{folder} has no image ({', '.join(image_file.FORMATS)}): add some, or remove the folder")
    return entries


def _common_size(files: list[Path]) -> Size:
    """Return the common size of all images, or their median height and width, capped."""
    sizes = []
    for path in files:
        with contextlib.suppress(UserError):  # raised when the images are read
            sizes.append(image_file.stored_size(path))
    if len(set(sizes)) == 1:
        return sizes[0]
    if not sizes:
        return MAX_DEFAULT_SIDE, MAX_DEFAULT_SIDE
    height, width = np.minimum(np.median(sizes, axis=0), MAX_DEFAULT_SIDE).astype(int)
    return int(height), int(width)


def _read(folder: Path, files: list[Path], size: Size) -> tuple[np.ndarray, list[Stored]]:
    """Return all images, [N, height, width, 1 or 3], and how each was stored."""
    check_memory(str(folder), len(files), size)
    inputs = np.empty((len(files), *size, 3), np.float32)
    stored, faults = [], []
    for row, path in enumerate(files):
        try:
            inputs[row], how = image_file.decode(path, size)  # in one thread: two were no faster
        except UserError as fault:
            faults.append(fault)
        else:
            stored.append(how)
    if faults:
        more = f"; {_count(faults[1:], 'other file')} of {folder} cannot be read either" if len(faults) > 1 else ""
        raise UserError(f"{faults[0]}{more}")
    return np.ascontiguousarray(inputs[..., :1]) if all(how.grey for how in stored) else inputs, stored


def _split(listing: _Listing, split_seed: int) -> Split:
    if "all" in listing.rows:
        return stratified(listing.targets, split_seed, classes=listing.classes)
    train, validation = listing.rows["train"], listing.rows.get("validation", 0)
    if not validation:
        return with_own_test_rows(listing.targets, train, split_seed, listing.classes)
    ids = np.arange(len(listing.targets), dtype=np.int32)
    return Split(ids[:train], ids[train : train + validation], ids[train + validation :])


def _sha256(folder: Path, files: list[Path], stored: list[Stored]) -> str:
    """Return one digest of the paths and contents of all files."""
    digests = sorted(
        (os.fsencode(path.relative_to(folder).as_posix()), how.sha256) for path, how in zip(files, stored, strict=True)
    )
    return hashlib.sha256(b"".join(name + b"\0" + digest for name, digest in digests)).hexdigest()


def _notes(listing: _Listing, stored: list[Stored], size: tuple[int, ...], requested: bool) -> list[str]:
    """Return how the images were prepared, one sentence each."""
    height, width = size
    notes = []
    if resized := [how for how in stored if how.size != size]:
        squeezed = sum(abs(how.size[0] * width / (how.size[1] * height) - 1) > 0.01 for how in resized)
        rule = "" if requested else f", the medians, each at most {MAX_DEFAULT_SIDE}"
        notes.append(
            f"resized {_count(resized, 'image')} of {len(stored):,} to {height} × {width} (height × width{rule}), "
            f"{f'{squeezed:,} of them' if squeezed else 'none'} squeezed to another aspect ratio"
        )
    grey = [how for how in stored if how.grey]
    if 0 < len(grey) < len(stored):
        notes.append(f"repeated {_count(grey, 'grey image')} in three channels, since others have colours")
    if transparent := [how for how in stored if how.transparent]:
        notes.append(f"composited {_count(transparent, 'image')} with transparency on white")
    if deep := [how for how in stored if how.deep]:
        notes.append(f"divided {_count(deep, 'image')} of 16 bits by 65,535")
    misnamed = [
        (path, how.format)
        for path, how in zip(listing.files, stored, strict=True)
        if image_file.ENDINGS[path.suffix.lower()] != how.format
    ]
    if misnamed:
        path, actual = misnamed[0]
        notes.append(f"read {_count(misnamed, 'file')} of another format than their names suggest: {path} is {actual}")
    if "train" in listing.rows and "validation" not in listing.rows:
        notes.append(VALIDATION_SIXTH_NOTE)
    return list(map(user_names.printable, notes))


def _count(things: Sized, noun: str) -> str:
    return f"{len(things):,} {noun}{'' if len(things) == 1 else 's'}"
