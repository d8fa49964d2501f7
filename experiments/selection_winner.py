"""The winner of a model selection: a look into it on rows that it has not seen, and its file."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments import frame
from experiments.frame.summary import to_json
from experiments.selection_problem import Problem, in_unit
from experiments.selection_results import Fitted, Model
from experiments.winner import HeldOut, InputColumn, Target, Winner, look
from mllab import table_models
from mllab.nested import Nested

FOLDS = 5  # of the models for prediction intervals


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


def save(run: frame.Context, problem: Problem, result: Nested, fitted: Fitted, won: Model, key: Any) -> str:
    """Write the winner's params.safetensors; return why not, or nothing.

    In regression the models that leave out one fold each are stored too, from which prediction intervals are computed;
    not with folds forward in time, whose rows are not exchangeable.
    """
    data, variant = problem.data, result.variants[result.final.variant]
    if data.schema is None:
        return "Params are saved for tables of your own; this data set is of the catalog."
    if variant.plan is None:
        return f"{won.label} cannot be saved without pickle."
    hyper, folds = result.values(result.final), None
    if not data.classes and problem.scheme.times is None:
        apart = problem.scheme.folds(np.arange(len(problem.choosing)), FOLDS)
        folds = table_models.fold_models(variant.learner, hyper, key, problem.examples, apart)
    about = {
        "dataset": data.name,
        "model": won.label,
        "setting": won.setting,
        "criterion": problem.criterion.name,
        "rows": len(problem.choosing),
        "held_out": won.held_out,
        "test": won.test,
    }
    encoded = table_models.encode_table_model(
        variant.plan, fitted.params, data.schema, folds=folds, about=to_json(about)
    )
    run.write("params.safetensors", encoded)
    return ""
