"""Models of a table in safetensors files: the learner, its params, and the schema by which new files are read.

    path.write_bytes(encode_table_model(plan, params, data.schema, about={"dataset": "houses.csv"}))
    model = load_table_model(path)
    rows = model.schema.read(table)  # of a new file
    outputs = model.predict(rows.columns)

In regression the models of a cross-validation may be stored too, from which prediction intervals are computed.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from mllab import conformal, weights
from mllab.data.schema import Schema
from mllab.errors import UserError, shortened
from mllab.learners import storage
from mllab.learners.pipelines import Pipeline
from mllab.models.preprocessing import Columns
from mllab.row_blocks import even_size
from mllab.rows import gather
from mllab.tasks import CLASSIFICATION, REGRESSION
from mllab.types import Examples, Hyper, Key, Params, Rows
from mllab.validation import Folds, Learner

KIND = "table"
BLOCK_ROWS = 8192  # predicted at once
MAX_RESIDUALS = 5000  # a random sample of more is stored: it bounds the time that intervals take
RESERVED = ("kind", "plan", "structure", "schema", "task", "classes", "target")  # names of the header


class FoldModels(NamedTuple):
    """The models of a cross-validation of a regression, and their errors on the rows that they left out."""

    params: Sequence[Params]  # K, of the same learner
    residuals: np.ndarray  # [n] absolute, in standardised units, of each row by the model that left it out
    fold: np.ndarray  # [n] 0..K-1


@dataclass(frozen=True)
class TableModel:
    """A model that predicts the rows of a table."""

    schema: Schema
    plan: Mapping[str, Any]  # of the learner; see `learners.storage`
    params: Params = field(repr=False)
    folds: FoldModels | None = field(default=None, repr=False)
    about: Mapping[str, Any] = field(default_factory=dict)  # dataset, criterion, scores, ... as they were stored

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes; none in regression."""
        return self.schema.target.classes

    @property
    def learner(self) -> Learner:
        """The learner."""
        return storage.rebuild(self.plan)

    def predict(self, columns: Columns) -> np.ndarray:
        """Return log-probabilities [M, C], or values [M] in standardised units; see `values`.

        Raises:
            UserError: outputs that are not finite.
        """
        return self._outputs(self.params, columns)

    def values(self, columns: Columns) -> np.ndarray:
        """Return the predictions [M] of a regression in the target's unit."""
        return self.schema.target.inverse(self.predict(columns))

    def interval(self, columns: Columns, coverage: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Return the lower and upper bounds [M] of prediction intervals in the target's unit; see `conformal.cv_plus`.

        Raises:
            UserError: no models of folds were stored.
        """
        if self.folds is None:
            raise UserError("the model has no prediction intervals: the models of its folds are not stored")
        predictions = np.stack([self._outputs(each, columns) for each in self.folds.params])
        low, high = conformal.cv_plus(predictions, self.folds.residuals, self.folds.fold, coverage)
        return self.schema.target.inverse(low), self.schema.target.inverse(high)

    def _outputs(self, params: Params, columns: Columns) -> np.ndarray:
        """Return the outputs of all rows, in blocks of one size, so that one program is compiled."""
        predict, rows = self.learner.predict, len(columns.numbers)
        if rows == 0:
            return np.zeros((0, len(self.classes)) if self.classes else 0, np.float32)
        parts = []
        for start in range(0, rows, size := even_size(rows, BLOCK_ROWS)):
            ids = np.minimum(np.arange(start, start + size), rows - 1)
            parts.append(np.asarray(predict(params, Columns(*(np.asarray(part)[ids] for part in columns)))))
        outputs = np.concatenate(parts)[:rows]
        usable = ~np.isnan(outputs) & (outputs < np.inf) if self.classes else np.isfinite(outputs)
        if not usable.all():
            raise UserError("the model's outputs are not finite: its params are too large, or damaged")
        return outputs


def fold_models(learner: Learner, hyper: Hyper, key: Key, examples: Examples, folds: Folds) -> FoldModels:
    """Return the models of a regression that leave out one fold each, and their errors on the rows left out.

    Args:
        learner: of `Columns`.
        hyper: the setting of the model that is published.
        key: shared by all folds.
        examples: `{"inputs", "targets"}`, the targets standardised.
        folds: those of one cross-validation.
    """
    params, residuals, fold = [], [], []
    for k in range(len(folds.train.ids)):
        train, held_out = (Rows(part.ids[k], part.weight[k]) for part in folds)
        params.append(learner.fit(hyper, key, examples, train))
        outputs = np.asarray(learner.predict(params[k], gather(examples["inputs"], held_out.ids)))
        errors = np.abs(outputs - np.asarray(gather(examples["targets"], held_out.ids)))
        residuals.append(errors[np.asarray(held_out.weight) > 0])
        fold.append(np.full(len(residuals[k]), k, np.int32))
    return FoldModels(params, np.concatenate(residuals), np.concatenate(fold))


def encode_table_model(
    plan: Mapping[str, Any],
    params: Params,
    schema: Schema,
    *,
    folds: FoldModels | None = None,
    about: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> bytes:
    """Return a safetensors file of a model of a table.

    Args:
        plan: of the learner of `Columns`, from `learners.storage.plan`.
        params: what its `fit` returned.
        schema: of the table that it was fitted to.
        folds: models of a cross-validation of the same learner, for prediction intervals; of regression.
        about: further metadata, values that JSON holds: dataset, criterion, scores, ...
        seed: of the sample of residuals, where these are more than MAX_RESIDUALS.

    Raises:
        UserError: params that cannot be stored without pickle or do not fit the plan and the schema, or metadata of a
            reserved name.
    """
    for name in about or ():
        if name in RESERVED:
            raise UserError(f"about: {name!r} is set by the model itself; use another name")
    if folds is not None and len(folds.residuals) > MAX_RESIDUALS:
        kept = np.sort(np.random.default_rng(seed).permutation(len(folds.residuals))[:MAX_RESIDUALS])
        folds = folds._replace(residuals=np.asarray(folds.residuals)[kept], fold=np.asarray(folds.fold)[kept])
    model = TableModel(schema, plan, params, folds, about or {})
    _check(model)
    parts: dict[str, Any] = {"params": params}
    if folds is not None:
        residuals, fold = np.asarray(folds.residuals, np.float64), np.asarray(folds.fold, np.int32)
        parts |= {"folds": list(folds.params), "residuals": residuals, "fold": fold}
    arrays, structure = storage.pack(parts)
    target = schema.target
    header = {
        "kind": KIND,
        "plan": dict(plan),
        "structure": structure,
        "schema": schema.to_json(),
        "task": (CLASSIFICATION if target.classes else REGRESSION).name,
        "classes": list(target.classes),
        "target": {
            "name": target.name, "mean": target.mean, "scale": target.scale, "transform": target.transform,
        },
    }  # fmt: skip
    return weights.encode(arrays, {**(about or {}), **header})


def load_table_model(path: str | Path, *, limit: int | None = None) -> TableModel:
    """Return the model of a table in a file.

    Args:
        path: of the file.
        limit: on the bytes of the file; a share of the memory by default.

    Raises:
        UserError: no such file, not a safetensors file, one of something else, or parts that do not fit together.
    """
    arrays, about = weights.read_kind(path, limit, KIND, "model of a table", "experiments.model_selection")
    with _of_file(path):
        schema = Schema.from_json(about.get("schema", ""))
        parts = storage.unpack(arrays, about.get("structure"))
        known = {"params"}, {"params", "folds", "residuals", "fold"}
        if not isinstance(parts, dict) or set(parts) not in known:
            raise UserError("the structure of the params has no 'params': expected what encode_table_model writes")
        folds = _folds(parts) if "folds" in parts else None
        plan: Any = about.get("plan")
        storage.rebuild(plan)  # refuses what is no plan
        rest = {name: value for name, value in about.items() if name not in RESERVED}
        model = TableModel(schema, plan, parts["params"], folds, rest)
        _check(model)
    return model


def _folds(parts: Mapping[str, Any]) -> FoldModels:
    params, residuals, fold = (parts[name] for name in ("folds", "residuals", "fold"))
    if not isinstance(params, list) or not params or not all(hasattr(each, "shape") for each in (residuals, fold)):
        raise UserError("the models of the folds are no list, or their residuals no arrays")
    return FoldModels(params, np.asarray(residuals), np.asarray(fold))


def _check(model: TableModel) -> None:
    """Raise UserError for a learner, params and a schema that do not fit together, before anything is computed."""
    layout, predict = model.schema.layout, model.learner.predict
    sizes = {"numbers": layout.numbers, "indicators": [*layout.indicators], "categories": [*layout.categories]}
    if model.plan.get("layout") != json.loads(json.dumps(sizes)):
        raise UserError("the plan's layout is not that of the schema's columns")
    row = Columns(
        jax.ShapeDtypeStruct((1, layout.numbers), np.float32),  # type: ignore[arg-type]
        jax.ShapeDtypeStruct((1, len(layout.categories)), np.int32),  # type: ignore[arg-type]
    )
    expected = (1, len(model.classes)) if model.classes else (1,)
    if model.folds is not None and model.classes:
        raise UserError("models of folds are for the intervals of a regression, and this is a classifier")
    for params in (model.params, *(model.folds.params if model.folds else ())):
        if isinstance(params, Pipeline) and getattr(params.preprocessing, "layout", None) != layout:
            raise UserError("the preprocessing's layout is not that of the schema's columns")
        outputs = jax.eval_shape(predict, params, row)
        if getattr(outputs, "shape", None) != expected or outputs.dtype.kind != "f":
            raise UserError(f"the model returns {shortened(str(outputs))} for a row, expected numbers {list(expected)}")
    if model.folds is not None:
        count = len(model.folds.params)
        conformal.cv_plus(np.zeros((count, 1)), model.folds.residuals, model.folds.fold)  # checks its arguments


@contextmanager
def _of_file(path: str | Path) -> Iterator[None]:
    """Turn whatever an edited header or array leads to into one line that names the file."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except RecursionError:
        raise UserError(f"{path}: its header is nested too deeply") from None
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, NotImplementedError) as error:
        fault = shortened(str(error).partition("\n")[0], 200)
        raise UserError(f"{path}: its header describes no model that can be built: {fault}") from None
