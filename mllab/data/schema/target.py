"""The target of a table: classes by name, or a quantity, standardised and perhaps on a log scale."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mllab.data.readers.columns import Column


class Transform(NamedTuple):
    """A scale on which a quantity is learned."""

    forward: Callable[[np.ndarray], np.ndarray]
    inverse: Callable[[np.ndarray], np.ndarray]


def _same(values: np.ndarray) -> np.ndarray:
    return values


TRANSFORMS: Mapping[str, Transform] = {"none": Transform(_same, _same), "log": Transform(np.log, np.exp)}


@dataclass(frozen=True)
class TargetSchema:
    """How the column of the target becomes classes [N] int32 or standardised values [N] float32."""

    name: str  # empty for a table without a target
    classes: tuple[str, ...] = ()  # none for a quantity
    form: str = "plain"  # of `forms.FORMS`: how the text of a quantity is read
    mean: float = 0.0  # of the training rows, of transformed values
    scale: float = 1.0
    transform: str = "none"  # of TRANSFORMS

    def inverse(self, outputs: np.ndarray) -> np.ndarray:
        """Return standardised outputs [...] in the target's unit, float64."""
        return TRANSFORMS[self.transform].inverse(self.mean + self.scale * np.asarray(outputs, np.float64))

    def standardised(self, values: np.ndarray) -> np.ndarray:
        """Return values in the target's unit [N] float64 as float32; infinite where it overflows, NaN where missing."""
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            moved = TRANSFORMS[self.transform].forward(values)
            return ((moved - self.mean) / self.scale).astype(np.float32)

    def codes(self, column: Column) -> np.ndarray:
        """Return which class each cell is, [N] int32, -1 for none; labels may differ as `label_key` says."""
        column = column.as_text()
        assert column.codes is not None
        place = {name: i for i, name in enumerate(self.classes)}
        by_key = {label_key(name): i for i, name in enumerate(self.classes)}
        if len(by_key) < len(place):
            by_key = {}
        table = [place.get(each, by_key.get(label_key(each), -1)) for each in column.values]
        return np.array([*table, -1], np.int32)[column.codes]


NO_TARGET = TargetSchema("")  # of a table whose columns are all inputs


def label_key(name: str) -> str:
    """Return what labels have in common that differ only by case, spaces or a final full stop."""
    return " ".join(name.casefold().split()).removesuffix(".").rstrip()
