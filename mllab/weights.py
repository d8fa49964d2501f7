"""Params as safetensors files: named arrays and a JSON header, no pickle."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from mllab.errors import UserError
from mllab.models import table
from mllab.models.base import Model
from mllab.types import Params


def encode(params: Params, about: Mapping[str, Any], extra: Any = None) -> bytes:
    """Return a safetensors file of the params' arrays (`0.w`, `0.b`, ...), with `about` as JSON in its header.

    Args:
        params: a pytree of arrays.
        about: metadata, plain values; `load_model` needs the model's plan (`mllab.models.table`) as `about["plan"]`.
        extra: the model's extra state, stored as `extra.…`.
    """
    from safetensors.numpy import save

    arrays = {name: np.asarray(leaf, order="C") for name, leaf in _all_named(params, extra).items()}
    return save(arrays, {"mllab": json.dumps(about)})


def load(path: str | Path, like: Params, like_extra: Any = None) -> tuple[Params, Any, dict[str, Any]]:
    """Return (params, extra, about) in the structure of `like` and `like_extra`, from `init` or `jax.eval_shape` of it.

    Raises:
        UserError: no such file, not a safetensors file, or arrays of other names or shapes.
    """
    stored, about = _read(path)
    return *_unflatten(path, stored, like, like_extra), about


class Published(NamedTuple):
    """A model with the params and metadata of a file."""

    model: Model
    params: Params
    extra: Any
    about: dict[str, Any]


def load_model(path: str | Path) -> Published:
    """Return the model in a file, built from the plan in its header.

    Raises:
        UserError: no such file, not a safetensors file, no plan in it, or one that does not match its arrays.
    """
    stored, about = _read(path)
    if "plan" not in about:
        raise UserError(f"{path} does not say what model it is of: give params that an mllab experiment published")
    model = table.build(about["plan"])
    return Published(model, *_unflatten(path, stored, *jax.eval_shape(model.init, jax.random.key(0))), about)


def _read(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return a file's arrays by name, and the metadata in its header."""
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise UserError(f"no file {path}: check the path")
    try:
        with safe_open(str(path), framework="numpy") as file:
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            return stored, json.loads((file.metadata() or {}).get("mllab", "{}"))
    except (SafetensorError, ValueError) as error:
        raise UserError(f"{path} is not a whole safetensors file: {error}") from error


def _unflatten(path: str | Path, stored: dict[str, np.ndarray], like: Params, like_extra: Any) -> tuple[Params, Any]:
    """Return the arrays of a file in the structure of `like` and `like_extra`; see `load`."""
    expected = _all_named(like, like_extra)
    for name in sorted(expected.keys() | stored.keys()):
        shapes = [getattr(side.get(name), "shape", "no such array") for side in (stored, expected)]
        if shapes[0] != shapes[1]:
            raise UserError(f"{path} does not fit the model: {name} is {shapes[0]} there, {shapes[1]} in the model")
    leaves = [stored[name] for name in expected]
    return jax.tree.unflatten(jax.tree.structure((like, like_extra)), leaves)


def _all_named(params: Params, extra: Any) -> dict[str, Any]:
    """Return the leaves by name, in the order of the pytree (params, extra)."""
    return _named(params) | {f"extra.{name}": leaf for name, leaf in _named(extra).items()}


def _named(tree: Any) -> dict[str, Any]:
    paths = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in paths}
