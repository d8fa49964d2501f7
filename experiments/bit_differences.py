"""How the files of two runs differ, figure by figure; wall times are left out."""

import heapq
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, Self

import numpy as np

from experiments.recorded_run import records
from mllab import weights
from mllab.data.readers import content

ABSENT = "(absent)"
MAX_KEPT = 10  # differences of a file, the greatest
WALL_TIME = re.compile(r"(^|[_ ])seconds?($|[_ ])")  # in the name of a figure: seconds, images_per_second


@dataclass(frozen=True)
class Difference:
    """A figure that differs."""

    place: str  # in its file, such as optimizers[0].validation[1]
    recorded: Any
    replayed: Any
    relative: float  # difference by the greater size; infinite unless both are finite numbers

    @property
    def is_absent(self) -> bool:
        """Whether only one of the two runs has the figure, as runs of other versions may."""
        return ABSENT in (self.recorded, self.replayed)


@dataclass(frozen=True)
class FileComparison:
    """The figures of one file of two runs."""

    name: str
    figures: int
    differing: int
    absent: int  # those of them that only one of the two has
    differences: list[Difference]  # MAX_KEPT of them, the greatest first
    greatest_present: float  # relative difference of a figure that both have; 0 where all are equal

    @classmethod
    def of(cls, name: str, figures: int, differences: Sequence[Difference], unlisted: int = 0) -> Self:
        """Return the comparison of a file; `unlisted` differences are counted only."""
        present = [each.relative for each in differences if not each.is_absent]
        kept = heapq.nlargest(MAX_KEPT, differences, key=lambda each: each.relative)
        absent = len(differences) - len(present)
        return cls(name, figures, len(differences) + unlisted, absent, kept, max(present, default=0.0))

    def greatest(self, *, absent: bool = True) -> float:
        """Return the greatest relative difference, 0 where all are equal; with figures that are absent or without."""
        return max((each.relative for each in self.differences), default=0.0) if absent else self.greatest_present


def json_differences(recorded: Any, replayed: Any, place: str = "") -> tuple[int, list[Difference]]:
    """Return the number of figures of two JSON values, and those that differ.

    Args:
        recorded: as `json` reads it.
        replayed: the same of the other run.
        place: where the values stand.
    """
    one, other = ({} if value == {} else dict(_leaves(value, place)) for value in (recorded, replayed))
    pairs = {where: (one.get(where, ABSENT), other.get(where, ABSENT)) for where in {**one, **other}}
    differ = [Difference(where, *pair, _relative(*pair)) for where, pair in pairs.items() if not _is_equal(*pair)]
    return len(pairs), differ


def compare_objects(name: str, recorded: Mapping[str, Any], replayed: Mapping[str, Any]) -> FileComparison:
    """Return the comparison of two JSON objects."""
    return FileComparison.of(name, *json_differences(recorded, replayed))


def compare_records(name: str, recorded: Path, replayed: Path) -> FileComparison:
    """Return the comparison of two files of records, record by record.

    Raises:
        UserError: a damaged line.
    """
    no_record: dict[str, Any] = {}
    count, differences = 0, list[Difference]()
    for number, (one, other) in enumerate(
        zip_longest(records(recorded), records(replayed), fillvalue=no_record), start=1
    ):
        figures, differ = json_differences(one, other, f"record {number}")
        count, differences = count + figures, differences + differ
    return FileComparison.of(name, count, differences)


def compare_params(recorded: Path, replayed: Path) -> FileComparison:
    """Return the comparison of two safetensors files: numbers of arrays, and what their headers say.

    Of an array the entry with the greatest difference counts, relative to the greatest size in it.

    Raises:
        UserError: a file that is damaged.
    """
    files = [path if path.is_file() else None for path in (recorded, replayed)]
    (one, about), (other, about_other) = (weights.read(path) if path else ({}, {}) for path in files)
    unlisted, (count, differences) = 0, json_differences(about, about_other, "header")
    for name in {**one, **other}:
        before, now = one.get(name), other.get(name)
        count += int(max(array.size for array in (before, now) if array is not None))
        if before is None or now is None or before.shape != now.shape or before.dtype != now.dtype:
            differences.append(Difference(name, _described(before), _described(now), math.inf))
        elif before.tobytes() != now.tobytes():
            differing, greatest = _array_differences(name, before, now)
            differences, unlisted = differences + greatest, unlisted + differing - len(greatest)
    if not differences and about == about_other:
        whole = [content.read(path) if path else b"" for path in files]
        if whole[0] != whole[1]:
            differences.append(Difference("order of bytes", len(whole[0]), len(whole[1]), math.inf))
    return FileComparison.of(recorded.name, count, differences, unlisted)


def _array_differences(name: str, recorded: np.ndarray, replayed: np.ndarray) -> tuple[int, list[Difference]]:
    """Return how many entries differ, and the greatest differences, relative to the greatest size in the array."""
    one, other = (np.ascontiguousarray(each).reshape(-1) for each in (recorded, replayed))
    ids = np.flatnonzero(one.view(f"u{one.itemsize}") != other.view(f"u{one.itemsize}"))
    sizes = (np.abs(each.astype(float)) for each in (one, other))
    scale = max(np.max(each, where=np.isfinite(each), initial=0.0) for each in sizes) or 1.0
    before, now = one[ids].astype(float), other[ids].astype(float)
    with np.errstate(invalid="ignore"):
        relative = np.nan_to_num(np.abs(before - now) / scale, nan=math.inf)
    order = np.argsort(-relative)[:MAX_KEPT]
    places = [np.unravel_index(index, recorded.shape) for index in ids[order]]
    named = [f"{name}{[int(axis) for axis in place]}" for place in places]
    columns = (each[order].tolist() for each in (before, now, relative))
    return len(ids), [Difference(*each) for each in zip(named, *columns, strict=True)]


def _described(array: np.ndarray | None) -> str:
    return ABSENT if array is None else f"{array.dtype}{list(array.shape)}"


def _leaves(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Yield the figures of a JSON value with their places, but for wall times."""
    inside: Iterable[tuple[str, Any]] = ()
    if isinstance(value, dict) and value:
        inside = (
            (f"{place}.{name}" if place else name, item) for name, item in value.items() if not WALL_TIME.search(name)
        )
    elif isinstance(value, list) and value:
        inside = ((f"{place}[{index}]", item) for index, item in enumerate(value))
    else:
        yield place, value
    for where, item in inside:
        yield from _leaves(item, where)


def _is_equal(one: Any, other: Any) -> bool:
    """Return whether two figures have the same bits: −0 is not 0, nor is true 1."""
    if isinstance(one, float) and isinstance(other, float):
        return one == other and math.copysign(1, one) == math.copysign(1, other)
    return type(one) is type(other) and one == other


def _relative(one: Any, other: Any) -> float:
    """Return the difference of two figures relative to the greater; infinite unless both are finite numbers."""
    if not all(isinstance(each, int | float) and not isinstance(each, bool) for each in (one, other)):
        return math.inf
    try:
        size = max(abs(float(one)), abs(float(other)))
        return abs(one - other) / size if math.isfinite(size) and size else 0.0 if size == 0 else math.inf
    except OverflowError:  # integers beyond floats
        return math.inf
