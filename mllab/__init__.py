"""mllab: a laboratory for machine learning in JAX, where a training run is a pure function.

`race` runs optimizers × learning rates × seeds of a model side by side; `supervised`, `lanes` and `drive` are what it
is made of. Models live in `mllab.models`, data sets in `mllab.data`.
"""

from mllab.errors import UserError
from mllab.models.base import Model, plain
from mllab.optimizers import OPTIMIZERS
from mllab.racing import Race, published, race
from mllab.rows import minibatches
from mllab.sweep import grid, lanes
from mllab.training import Result, Run, State, drive, supervised
from mllab.types import Rows

__all__ = [
    "OPTIMIZERS",
    "Model",
    "Race",
    "Result",
    "Rows",
    "Run",
    "State",
    "UserError",
    "drive",
    "grid",
    "lanes",
    "minibatches",
    "plain",
    "published",
    "race",
    "supervised",
]
