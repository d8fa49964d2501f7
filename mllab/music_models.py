"""Models of polyphonic music as files: params, and the arguments of the model.

The header of a params file holds `kind` "music" and `arguments` of `models.recurrent.polyphony.model`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mllab import weights
from mllab.errors import UserError, shortened
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
    _, about = weights.read(path, limit)
    if about.get("kind") != KIND:
        raise UserError(f"{path} holds no model of music: give params that experiments.music published")
    try:
        model = polyphony.model(**_checked(about.get("arguments")))
        like, _ = jax.eval_shape(model.init, jax.random.key(0))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    params, _, _ = weights.load(path, like, limit=limit)
    return MusicModel(model, jax.tree.map(jnp.asarray, params), about)


def _checked(arguments: Any) -> dict[str, Any]:
    """Return the arguments of a header, each of its kind and size."""
    if not isinstance(arguments, dict):
        raise UserError("the arguments in its header are no named values: publish it again")
    for name, value in arguments.items():
        whole = isinstance(value, int) and not isinstance(value, bool)
        valid = (name in NAMES and isinstance(value, str) and value in NAMES[name]) or (
            name in SIZES and whole and 1 <= value <= SIZES[name]
        )
        if not valid:
            raise UserError(f"the header says {shortened(str(name))} = {shortened(str(value))}: publish it again")
    return arguments
