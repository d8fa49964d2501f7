"""Models of polyphonic music as files: params, and the arguments of the model.

The header of a params file holds `kind` "music" and `arguments` of `models.recurrent.polyphony.model`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mllab import weights
from mllab.models.base import Model
from mllab.models.recurrent import CELLS, polyphony
from mllab.types import Params

KIND = "music"
NAMES = {"cell": CELLS, "output": polyphony.OUTPUTS}
SIZES = {"keys": 1000, "hidden": 100_000, "layers": 100, "units": 100_000}  # arguments, and their greatest values


class MusicModel(NamedTuple):
    """A model of polyphonic music."""

    model: Model
    params: Params
    about: Mapping[str, Any]  # the header of its file


def encode(params: Params, arguments: Mapping[str, Any], about: Mapping[str, Any]) -> bytes:
    """Return the file of a model; `about` are further values of the header, as JSON holds them."""
    return weights.encode(params, {**about, "kind": KIND, "arguments": dict(arguments)})


def load(path: str | Path, *, limit: int | None = None) -> MusicModel:
    """Return the model of a file that `encode` made.

    Args:
        path: of the file.
        limit: on the bytes of the file; a share of the memory by default.

    Raises:
        UserError: no such file, one of another kind, or a header that does not match its arrays.
    """
    stored, about = weights.read_kind(path, limit, KIND, "model of music", "experiments.music")

    def make() -> Model:
        return polyphony.model(**weights.checked_arguments(about.get("arguments"), NAMES, SIZES))

    return MusicModel(*weights.restore(path, stored, make), about)
