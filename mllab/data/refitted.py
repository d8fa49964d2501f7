"""A data set whose inputs are preprocessed by the statistics of other rows than the training rows of its split."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from mllab.data.dataset import Dataset, Split
from mllab.data.scaling import standardise
from mllab.data.schema.inputs import standard_inputs
from mllab.errors import UserError
from mllab.types import Examples


def inputs_by(data: Dataset, rows: np.ndarray) -> np.ndarray:
    """Return the inputs [N, D] of all rows by the statistics of some rows, [M], alone.

    Those of a table are made from its columns. Standardised ones are standardised anew, which undoes the shift and the
    scale of before; images have no statistics.

    Raises:
        UserError: inputs by statistics that cannot be computed anew.
    """
    if data.columns is not None and data.schema is not None:
        return standard_inputs(data.columns, data.schema.layout, rows)
    if data.inputs.ndim != 2:
        return data.inputs
    if not data.standardised:
        raise UserError(
            f"the inputs of {data.name} are fitted to the training rows of its split, and not anew to those of each "
            "fold, which would hold out rows that they have seen: leave --folds and --refit out"
        )
    return standardise(np.asarray(data.inputs, np.float64), rows)[0]


def has_statistics(data: Dataset) -> bool:
    """Return whether the inputs depend on statistics of rows."""
    return data.columns is not None or data.inputs.ndim == 2


def source(data: Dataset) -> Examples | Callable[[np.ndarray], Examples]:
    """Return the examples, or, where inputs depend on statistics, the function of training rows that returns them."""
    if not has_statistics(data):
        return data.examples
    return lambda rows: {"inputs": inputs_by(data, rows), "targets": data.targets}


def with_split(data: Dataset, split: Split) -> Dataset:
    """Return the data set with another split: inputs and the unit of the target by its training rows."""
    data = replace(data, split=split, inputs=inputs_by(data, split.train))
    if data.classes:
        return data
    targets, shift, factor = standardise(np.asarray(data.targets, np.float64), split.train)
    mean, scale = data.target_mean + data.target_scale * float(shift), data.target_scale * float(factor)
    schema = data.schema
    if schema is not None:
        schema = replace(schema, target=replace(schema.target, mean=mean, scale=scale))
    return replace(data, targets=targets, target_mean=mean, target_scale=scale, schema=schema)
