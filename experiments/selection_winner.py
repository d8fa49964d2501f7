"""The winner of a model selection: a look into it on rows that it has not seen."""

from collections.abc import Sequence

import numpy as np

from experiments.selection_problem import Problem, in_unit
from experiments.selection_results import Fitted
from experiments.winner import HeldOut, InputColumn, Target, Winner, look
from mllab.nested import Nested


def look_into(problem: Problem, result: Nested, fitted: Fitted, label: str, seed: int) -> Winner | None:
    """Return what the winner does on the test rows; None where there are none."""
    if not len(problem.test):
        return None
    data, learner = problem.data, result.variants[result.final.variant].learner
    rows = problem.rows(problem.test)
    numbers = problem.test + 1 if data.file_rows is None else data.file_rows[problem.test]
    inverse = None if data.classes else in_unit(data)
    return look(
        label,
        lambda columns: learner.predict(fitted.params, columns),
        HeldOut(rows["inputs"], rows["targets"], np.asarray(numbers)),
        input_columns(problem),
        Target(data.target, data.classes, data.unit, inverse),
        problem.criterion,
        data.targets[problem.choosing],
        seed=seed,
    )


def input_columns(problem: Problem) -> Sequence[InputColumn]:
    """Return the columns of the file, and where `Columns` hold each."""
    schema = problem.data.schema
    if schema is None:
        return [InputColumn(name, (place,)) for place, name in enumerate(problem.column_names)]
    made, number = {}, 0
    for column in schema.numeric:
        places = tuple(range(number, number + len(column.number_names)))
        number += len(places)
        made[column.name] = InputColumn(
            column.name, places, offset=column.offset, scale=2.0**column.exponent, is_date=column.kind == "date"
        )
    for code, column in enumerate(schema.categorical):
        made[column.name] = InputColumn(column.name, codes=(code,), categories=column.categories)
    return [made[column.name] for column in schema.columns]
