"""mllab: a laboratory for machine learning in JAX, where a training run is a pure function.

`race` compares optimizers × learning rates × seeds of a model. It is built from `supervised`, which takes an
`objective`, an optimizer and what to `measure`, from `lanes` and from `drive`. `minibatches` makes the schedule of a
run, `blocks` the rows to score. Models are in `mllab.models`, data sets in `mllab.data`.
"""

from mllab.errors import UserError
from mllab.models.base import Model, plain
from mllab.optimizers import OPTIMIZERS
from mllab.racing import Entry, Race, published, race
from mllab.rows import blocks, minibatches
from mllab.sweep import Grid, grid, lanes
from mllab.tasks import TASKS, Task
from mllab.training import Result, Run, State, drive, measure, objective, supervised
from mllab.types import Losses, Rows

__all__ = [
    "OPTIMIZERS",
    "TASKS",
    "Entry",
    "Grid",
    "Losses",
    "Model",
    "Race",
    "Result",
    "Rows",
    "Run",
    "State",
    "Task",
    "UserError",
    "blocks",
    "drive",
    "grid",
    "lanes",
    "measure",
    "minibatches",
    "objective",
    "plain",
    "published",
    "race",
    "supervised",
]
