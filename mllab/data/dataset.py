"""A data set as the library sees it: arrays, names, and which rows are for what."""

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Split:
    """Row ids for training, choosing and reporting; the three are disjoint."""

    train: np.ndarray  # [M] int32
    validation: np.ndarray  # [M] int32
    test: np.ndarray  # [M] int32


@dataclass(frozen=True)
class Dataset:
    """Examples in memory, encoded and ready to train on.

    Whatever was learned from data to encode it (means, scales, categories, medians) was learned from the training
    rows alone.
    """

    name: str
    task: str  # a key of `tasks.TASKS`
    inputs: np.ndarray  # [N, D] float32; images [N, height, width, channels] in [0, 1]
    targets: np.ndarray  # [N] int32 classes, or [N] float32 values, standardised
    split: Split
    features: tuple[str, ...] = ()  # name of each input column, where inputs are [N, D]
    classes: tuple[str, ...] = ()  # name of each class, classification only
    target: str = "target"  # what is predicted
    unit: str = ""  # the target's unit, regression only
    target_mean: float = 0.0  # regression: value in the target's unit = target_mean + target_scale * targets
    target_scale: float = 1.0
    sha256: dict[str, str] = field(default_factory=dict)  # of each file read, by file name
    licence: str = ""
    citation: str = ""
    notes: tuple[str, ...] = ()  # what was done to the data, one plain sentence each ("3 missing values in age: ...")

    @property
    def examples(self) -> dict[str, np.ndarray]:
        """The arrays that training gathers rows from."""
        return {"inputs": self.inputs, "targets": self.targets}
