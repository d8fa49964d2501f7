"""mllab: a laboratory for machine learning in JAX, where a training run is a pure function.

`race` compares optimizers × learning rates × seeds of a model; it is built from `supervised`, `lanes` and `drive`.
Models are in `mllab.models`, data sets in `mllab.data`.
"""

from mllab.errors import UserError
from mllab.models.base import Model, plain
from mllab.optimizers import OPTIMIZERS
from mllab.racing import Race, published, race
from mllab.rows import minibatches
from mllab.sweep import grid, lanes
from mllab.tasks import TASKS, Task
from mllab.training import Result, Run, State, drive, supervised
from mllab.types import Losses, Rows

__all__ = [
    "OPTIMIZERS",
    "TASKS",
    "Losses",
    "Model",
    "Race",
    "Result",
    "Rows",
    "Run",
    "State",
    "Task",
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
