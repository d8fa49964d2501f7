"""Measurements: dataclasses of plain values and arrays; `summary.json` is written from them."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Self

from mllab.data.dataset import Dataset


def unsaved(**options: Any) -> Any:
    """Return a dataclass field that the report draws from and `summary.json` leaves out: images, meshes, curves."""
    return dataclasses.field(metadata={"summary": False}, repr=False, **options)


@dataclasses.dataclass(frozen=True)
class DatasetFacts:
    """What a summary records of a data set."""

    name: str
    task: str  # "" without a target, as is `target`
    target: str
    rows: Mapping[str, int]  # by use: train, validation, test, ...
    classes: tuple[str, ...]
    features: tuple[str, ...]
    shape: tuple[int, ...]  # of one input row
    licence: str
    citation: str
    notes: tuple[str, ...]

    @classmethod
    def of(cls, data: Dataset, rows: Mapping[str, int] | None = None) -> Self:
        """Return the facts of a data set; `rows` where they are not those of its split."""
        return cls(
            name=data.name,
            task=data.task,
            target=data.target,
            rows=rows or {part: len(getattr(data.split, part)) for part in ("train", "validation", "test")},
            classes=tuple(data.classes),
            features=tuple(data.features),
            shape=tuple(data.inputs.shape[1:]),
            licence=data.licence,
            citation=data.citation,
            notes=tuple(data.notes),
        )

    def described(self) -> list[str]:
        """Return the data set in a line, and what was done to it, for the facts of a report."""
        columns = " × ".join(f"{length:,}" for length in self.shape) + f" column{'s' * (self.shape != (1,))}"
        if len(self.shape) == 3:
            height, width, channels = self.shape
            colours = {1: "grey", 3: "RGB"}.get(channels, f"{channels} channels")
            columns = f"{height} × {width} pixels, {colours}"
        kind = f"{self.task} of {self.target}" if self.target else "no target"
        kind = f"{len(self.classes)} classes" if self.classes else kind
        drawn = ""
        if self.rows.get("choosing", 0) < self.rows.get("available", 0):
            drawn = (
                f"; {self.rows['choosing']:,} of {self.rows['available']:,} rows, drawn stratified by class (--rows)"
            )
        return [f"{self.name}: {kind}, {columns}{drawn}", *self.notes]


def to_json(value: Any) -> Any:
    """Return a value as JSON holds it.

    Dataclasses and mappings become objects, without fields that are `unsaved`; tuples and arrays, lists; numbers that
    are not finite, null.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        saved = [field.name for field in dataclasses.fields(value) if field.metadata.get("summary", True)]
        return {name: to_json(getattr(value, name)) for name in saved}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
