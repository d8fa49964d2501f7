"""A data set in memory: encoded arrays, their names, and the split."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mllab.models.preprocessing import Columns


@dataclass(frozen=True)
class Split:
    """Row ids of the training, validation and test rows; the three are disjoint."""

    train: np.ndarray  # [M] int32
    validation: np.ndarray  # [M] int32
    test: np.ndarray  # [M] int32


@dataclass(frozen=True)
class Dataset:
    """Examples in memory, encoded and ready to train on.

    Means, scales, medians and categories that encode them are computed from the training rows alone.
    """

    name: str
    task: str  # a key of `tasks.TASKS`; "" without a target
    inputs: np.ndarray  # [N, D] float32; images [N, height, width, channels] in [0, 1]
    targets: np.ndarray  # [N] int32 classes, or [N] float32 standardised values; [N, 0] without a target
    split: Split
    features: tuple[str, ...] = ()  # names of the input columns, for inputs [N, D]
    classes: tuple[str, ...] = ()  # names of the classes; classification only
    target: str = "target"  # name of the target; "" without one
    unit: str = ""  # of the target; regression only
    target_mean: float = 0.0  # regression: target_mean + target_scale * targets has the target's unit
    target_scale: float = 1.0
    sha256: dict[str, str] = field(default_factory=dict)  # of each file that was read, by file name
    licence: str = ""
    citation: str = ""
    notes: tuple[str, ...] = ()  # how the data were prepared, one sentence each ("3 missing values in age: ...")
    standardised: bool = (
        False  # inputs [N, D] have mean 0 and deviation 1 over the training rows, nothing else is fitted
    )
    warnings: tuple[str, ...] = ()  # what to look at before trusting a result, one sentence each
    # Of a table of the user's own:
    columns: Columns | None = None  # [N] what `inputs` are made of, without any statistic of the rows
    schema: Any = None  # a `data.schema.Schema`, which imports this module: how the file's columns became `columns`
    file_rows: np.ndarray | None = None  # [N] number of each row in its file
    extra_columns: Mapping[str, np.ndarray] = field(default_factory=dict)  # [N] raw columns that are not inputs

    @property
    def target_transform(self) -> str:
        """The scale on which the target is learned: "none" or "log"."""
        return self.schema.target.transform if self.schema else "none"

    def inverse(self, outputs: np.ndarray) -> np.ndarray:
        """Return standardised outputs or targets [...] of a regression in the target's unit, float64."""
        if self.schema:
            return self.schema.target.inverse(outputs)
        return self.target_mean + self.target_scale * np.asarray(outputs, np.float64)

    @property
    def examples(self) -> dict[str, np.ndarray]:
        """The arrays from which training gathers rows."""
        return {"inputs": self.inputs, "targets": self.targets}
