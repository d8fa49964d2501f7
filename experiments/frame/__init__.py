"""The frame that all experiments share: settings, the program around a measurement, and its workdir.

`from experiments import frame` is all that an experiment needs: groups of settings (`frame.Data`), kinds of settings
(`frame.grid`), `frame.Context`, `frame.DatasetFacts` and `frame.program`.
"""

from experiments.frame.datasets import dataset
from experiments.frame.kinds import (
    choice,
    choices,
    folders,
    grid,
    number,
    path,
    paths,
    rates,
    size,
    switch,
    text,
    texts,
    whole,
    wholes,
)
from experiments.frame.program import Context, program
from experiments.frame.shared_flags import (
    BeamSearch,
    Data,
    Devices,
    Folds,
    LearningRates,
    Network,
    Optimizers,
    Output,
    Restarts,
    Rows,
    Sampling,
    Seeds,
    Separation,
    Steps,
    Table,
    Training,
    check_clip_norm,
)
from experiments.frame.summary import DatasetFacts, to_json, unsaved

__all__ = [
    "BeamSearch",
    "Context",
    "Data",
    "DatasetFacts",
    "Devices",
    "Folds",
    "LearningRates",
    "Network",
    "Optimizers",
    "Output",
    "Restarts",
    "Rows",
    "Sampling",
    "Seeds",
    "Separation",
    "Steps",
    "Table",
    "Training",
    "check_clip_norm",
    "choice",
    "choices",
    "dataset",
    "folders",
    "grid",
    "number",
    "path",
    "paths",
    "program",
    "rates",
    "size",
    "switch",
    "text",
    "texts",
    "to_json",
    "unsaved",
    "whole",
    "wholes",
]
