"""Probes of a representation: classifiers that are fitted to some of its rows and tuned on validation rows."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mllab import learners
from mllab.data.dataset import Split
from mllab.data.split import stratified
from mllab.models import softmax
from mllab.rows import gather
from mllab.selection import choose
from mllab.types import Array, Examples, Rows
from mllab.validation import Learner, accuracy, holdout

LINEAR, NEIGHBORS = "linear probe", "nearest neighbours"
TOLERANCE = 1e-4  # of the linear probe's optimum; see `softmax.fit`


class Setting(NamedTuple):
    """What is tuned of a probe."""

    name: str
    grid: tuple[float, ...]


SETTINGS: Mapping[str, Setting] = {
    LINEAR: Setting("l2", (1.0, 10.0, 100.0, 1000.0)),  # penalty on the sum over the training rows
    NEIGHBORS: Setting("k", (1, 3, 5, 10, 20)),
}
