"""Params to publish and to load again, as safetensors: named arrays and a header, no pickle."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mllab.errors import UserError
from mllab.types import Params


def _named(params: Params) -> dict[str, Any]:
    paths = jax.tree_util.tree_flatten_with_path(params)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in paths}


def encode(params: Params, about: Mapping[str, Any]) -> bytes:
    """Return a safetensors file of the params' arrays (`0.w`, `0.b`, ...) with `about` in its header, as JSON."""
    from safetensors.numpy import save

    arrays = {name: np.asarray(leaf, order="C") for name, leaf in _named(params).items()}
    return save(arrays, {"mllab": json.dumps(about)})


def load(path: str | Path, like: Params) -> tuple[Params, dict[str, Any]]:
    """Return params in the structure of `like` (from `init`, or `jax.eval_shape` of it), and what is told about them.

    Raises:
        UserError: no such file, not a safetensors file, or arrays that do not fit.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise UserError(f"no file {path}: check the path")
    try:
        with safe_open(str(path), framework="numpy") as file:
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            about = json.loads((file.metadata() or {}).get("mllab", "{}"))
    except (SafetensorError, ValueError) as error:
        raise UserError(f"{path} is not a whole safetensors file: {error}") from error
    expected = _named(like)
    for name in sorted(expected.keys() | stored.keys()):
        shapes = [getattr(side.get(name), "shape", "no such array") for side in (stored, expected)]
        if shapes[0] != shapes[1]:
            raise UserError(f"{path} does not fit the model: {name} is {shapes[0]} there, {shapes[1]} in the model")
    return jax.tree.unflatten(jax.tree.structure(like), [stored[name] for name in expected]), about
