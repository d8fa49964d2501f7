"""The winner of a race as params.safetensors, to be loaded by `weights.load_model` and `experiments.predict`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments.frame.program import Context
from experiments.frame.summary import to_json
from mllab import racing, table_models, weights
from mllab.data.dataset import Dataset
from mllab.learners import storage
from mllab.learners.pipelines import Pipeline
from mllab.models import preprocessing
from mllab.types import Params


def winner(run: Context, raced: racing.Race, plan: Mapping[str, Any], data: Dataset, **header: Any) -> Path | None:
    """Write the params of the winner's best seed; return the file's path, or None where no optimizer has a valid rate.

    Args:
        run: the run.
        raced: its race.
        plan: of the model, so that the file alone rebuilds it.
        data: what it was trained on; its name and classes are recorded.
        **header: further values for the file's header, as JSON holds them: settings, test scores, ...
    """
    if raced.winner is None:
        return None
    params, extra = racing.published(raced.winner)
    if data.schema is not None and data.columns is not None:
        rows = racing.published_rows(raced, raced.winner)
        return run.write("params.safetensors", _of_table(params, to_json(plan), data, rows, to_json(header)))
    about = {"plan": plan, "dataset": data.name, "classes": data.classes, **header}
    return run.write("params.safetensors", weights.encode(params, to_json(about), extra))


def _of_table(
    params: Params, plan: Mapping[str, Any], data: Dataset, rows: np.ndarray, header: Mapping[str, Any]
) -> bytes:
    """Return the file of a model of a table, with what encodes its columns: it predicts new tables.

    Its preprocessing is fitted to the rows that the model was trained on, [M].
    """
    assert data.schema is not None
    assert data.columns is not None
    layout, used = data.schema.layout, np.zeros(len(data.targets), np.float32)
    used[rows] = 1
    fitted = Pipeline(preprocessing.fit(data.columns, jnp.asarray(used), layout=layout), params)
    of = storage.plan("published", architecture=plan, classes=len(data.classes) or None)
    about = {name: value for name, value in header.items() if name not in table_models.RESERVED}
    return table_models.encode_table_model(
        storage.plan("preprocessed", of=of, layout=layout), fitted, data.schema, about={"dataset": data.name, **about}
    )
