"""Shared by the readers of images: classes from labels, and one size."""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mllab.data import names as user_names
from mllab.data.dataset import Dataset
from mllab.data.readers import image_file
from mllab.data.readers.image_file import Size
from mllab.data.readers.image_memory import check_memory
from mllab.errors import UserError, shortened


def natural_order(name: str) -> tuple[list[str | int], str]:
    """Return a sort key that orders the numbers in names by value: a2 before a10."""
    parts = re.split(r"(\d+)", name)
    return [int(part) if i % 2 else part.casefold() for i, part in enumerate(parts)], name


def classes_of(where: Path, labels: Mapping[str, np.ndarray]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return targets [N] int32 and the names of the classes, in natural order.

    Args:
        where: the file or folder, for messages.
        labels: arrays of labels by name, training rows first; whole numbers 0 to C - 1, or strings. The first array
            has every class.

    Raises:
        UserError: other labels, or a single class.
    """
    (first, training), *_ = labels.items()
    for name, array in labels.items():
        if array.dtype.kind not in "iuU" or (array.dtype.kind == "U") != (training.dtype.kind == "U"):
            raise UserError(f"{where}: {name} holds {array.dtype}, expected whole numbers or strings: convert it")
    values = sorted(set(training.tolist()), key=lambda value: natural_order(str(value)))
    if len(values) < 2:
        raise UserError(f"{where}: all labels of {first} are {_shown(values[0])}; add rows of another class")
    if training.dtype.kind != "U" and values != list(range(len(values))):
        raise UserError(
            f"{where}: {first} holds {len(values)} distinct labels, {min(values)} to {max(values)}: number the classes "
            f"0 to {len(values) - 1}, as numpy.unique(..., return_inverse=True) does"
        )
    forms = user_names.distinct(map(str, values), f"{where}: {first}")
    code = {value: target for target, value in enumerate(values)}
    targets = []
    for name, array in labels.items():
        for row, label in enumerate(array.tolist()):
            if label not in code:
                raise UserError(
                    f"{where}: label {_shown(label)} of image {row} of {name} is not in {first}: add it there, or "
                    "remove it"
                )
            targets.append(code[label])
    return np.array(targets, np.int32), tuple(forms[str(value)] for value in values)


def _shown(label: str | int) -> str:
    return repr(shortened(label)) if isinstance(label, str) else str(label)


def resized(dataset: Dataset, size: Size | None) -> Dataset:
    """Return the data set with images of this size; None leaves them unchanged.

    Raises:
        UserError: see `check_memory`.
    """
    before = dataset.inputs.shape[1:3]
    if size is None or size == before:
        return dataset
    note = f"resized images of {before[0]} × {before[1]} to {size[0]} × {size[1]} (height × width)"
    check_memory(dataset.name, len(dataset.inputs), size)
    inputs = np.stack([image_file.resize(pixels, size) for pixels in dataset.inputs])
    return dataclasses.replace(dataset, inputs=inputs, notes=(*dataset.notes, note))
