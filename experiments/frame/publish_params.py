"""The winner of a race as params.safetensors, to be loaded by `weights.load_model` and `experiments.predict`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.frame.program import Context
from experiments.frame.summary import to_json
from mllab import racing, weights
from mllab.data.dataset import Dataset


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
    about = {"plan": plan, "dataset": data.name, "classes": data.classes, **header}
    params, extra = racing.published(raced.winner)
    return run.write("params.safetensors", weights.encode(params, to_json(about), extra))
