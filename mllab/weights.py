"""Params as safetensors files: named arrays and a JSON header, no pickle."""

import json
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from mllab.data.readers import content
from mllab.errors import UserError, shortened
from mllab.folders import expand
from mllab.models import table
from mllab.models.base import Model
from mllab.types import Key, Params


class Initialised(Protocol):
    """What has an `init` as a model's."""

    @property
    def init(self) -> Callable[[Key], tuple[Params, Any]]:
        """Key -> (params, extra)."""


M = TypeVar("M", bound=Initialised)
HEADER_SIZE_BYTES = 8  # at the start of a safetensors file
DTYPES = {  # of arrays in a safetensors file
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip


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


def load(
    path: str | Path, like: Params, like_extra: Any = None, *, limit: int | None = None
) -> tuple[Params, Any, dict[str, Any]]:
    """Return (params, extra, about) in the structure of `like` and `like_extra`, from `init` or `jax.eval_shape` of it.

    Args:
        path: of the file.
        like: params of the expected structure, shapes and kinds of numbers.
        like_extra: the same for the extra state.
        limit: on the bytes of the file; a share of the memory by default.

    Raises:
        UserError: no such file, not a safetensors file, or arrays of other names, shapes or kinds, or not finite.
    """
    stored, about = read(path, limit)
    return *_unflatten(path, stored, like, like_extra), about


class Published(NamedTuple):
    """A model with the params and metadata of a file."""

    model: Model
    params: Params
    extra: Any
    about: dict[str, Any]


def load_model(path: str | Path, *, limit: int | None = None) -> Published:
    """Return the model in a file, built from the plan in its header.

    The plan is checked against the arrays before anything of its size is allocated.

    Args:
        path: of the file.
        limit: on the bytes of the file; a share of the memory by default.

    Raises:
        UserError: no such file, not a safetensors file, no plan in it, or one that does not match its arrays.
    """
    stored, about = read(path, limit)
    if about.get("kind") == "table":
        raise UserError(f"{path} holds a model of a table: give experiments.predict a table, --input=FILE")
    if about.get("kind") == "characters":
        raise UserError(f"{path} holds a language model: give it to experiments.sample")
    if about.get("kind") == "agent":
        raise UserError(f"{path} holds an agent: give it to experiments.play")
    if "plan" not in about:
        raise UserError(f"{path} does not say what model it is of: give params that an mllab experiment published")
    try:
        model = table.build(about["plan"])
        like, like_extra = jax.eval_shape(model.init, jax.random.key(0))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except RecursionError:
        raise UserError(f"{path}: the plan in its header is nested too deeply") from None
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, NotImplementedError) as error:
        fault = shortened(str(error).partition("\n")[0], 200)
        raise UserError(f"{path}: the plan in its header describes no model that can be built: {fault}") from None
    return Published(model, *_unflatten(path, stored, like, like_extra), about)


def restore(path: str | Path, stored: dict[str, np.ndarray], make: Callable[[], M]) -> tuple[M, Params]:
    """Return the model that the header of a file describes, and its params.

    Args:
        path: of the file.
        stored: its arrays, see `read`.
        make: builds the model, which has an `init`, from what the header says; its mistakes are reported with the path.

    Raises:
        UserError: the header describes no model, or one that the arrays do not fit.
    """
    try:
        model = make()
        like, _ = jax.eval_shape(model.init, jax.random.key(0))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    params, _ = _unflatten(path, stored, like, None)
    return model, jax.tree.map(jnp.asarray, params)


def checked_arguments(
    arguments: Any, choices: Mapping[str, Container[str]], sizes: Mapping[str, int], switches: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the arguments of a header, each of its kind and size.

    Args:
        arguments: what the header has as such.
        choices: arguments that are names, and the names that each may be.
        sizes: arguments that are whole numbers of 1 or more, and the greatest value of each.
        switches: arguments that are true or false.

    Raises:
        UserError: another argument, or another value.
    """
    if not isinstance(arguments, dict):
        raise UserError("the arguments in its header are no named values: publish it again")
    for name, value in arguments.items():
        whole = isinstance(value, int) and not isinstance(value, bool)
        valid = (
            (name in choices and isinstance(value, str) and value in choices[name])
            or (name in sizes and whole and 1 <= value <= sizes[name])
            or (name in switches and isinstance(value, bool))
        )
        if not valid:
            raise UserError(f"the header says {shortened(str(name))} = {shortened(str(value))}: publish it again")
    return arguments


def read(path: str | Path, limit: int | None = None) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return a file's arrays by name, and the metadata in its header.

    Args:
        path: of the file.
        limit: on the bytes of the file; a share of the memory by default.

    Raises:
        UserError: no such file, not a safetensors file, or a header that `encode` did not write.
    """
    from safetensors import SafetensorError, deserialize

    path = expand(path)
    if not content.kind(path):
        raise UserError(f"no file {path}: check the path")
    packed = content.read(path, limit=limit)
    try:
        entries = deserialize(packed)  # checks that the header describes the content
    except SafetensorError as error:
        raise UserError(f"{path} is not a whole safetensors file: {error}") from None
    stored = {}
    for name, entry in entries:
        if entry["dtype"] not in DTYPES:
            raise UserError(f"{path}: {name} holds {entry['dtype']}, expected one of {', '.join(DTYPES)}: convert it")
        array = np.frombuffer(entry["data"], DTYPES[entry["dtype"]]).reshape(entry["shape"])
        stored[name] = array.astype(array.dtype.newbyteorder("="), copy=False)
    return stored, _metadata(path, packed)


def read_kind(
    path: str | Path, limit: int | None, kind: str, contents: str, experiment: str
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return `read` of a file of one kind.

    Args:
        path: of the file.
        limit: on its bytes.
        kind: that its header must name.
        contents: of such files, for messages: "model of music".
        experiment: that publishes such files.

    Raises:
        UserError: as `read`, or a file of another kind.
    """
    stored, about = read(path, limit)
    if about.get("kind") != kind:
        raise UserError(f"{path} holds no {contents}: give params that {experiment} published")
    return stored, about


def _metadata(path: str | Path, packed: bytes) -> dict[str, Any]:
    """Return what `encode` wrote as `about` in the header of a safetensors file; empty where there is none."""
    try:
        header = json.loads(packed[HEADER_SIZE_BYTES : HEADER_SIZE_BYTES + int.from_bytes(packed[:8], "little")])
        about = json.loads(header.get("__metadata__", {}).get("mllab", "{}"))
    except (ValueError, RecursionError) as error:
        fault = "nested too deeply" if isinstance(error, RecursionError) else error
        raise UserError(f"{path}: its header cannot be read: {fault}") from None
    if not isinstance(about, dict):
        raise UserError(f"{path}: its header holds {type(about).__name__} instead of named values: publish it again")
    dataset, classes = about.get("dataset"), about.get("classes")
    if dataset is not None and not isinstance(dataset, str):
        raise UserError(f"{path}: dataset = {shortened(str(dataset))} in its header, expected a name")
    if classes is not None and not (isinstance(classes, list) and all(isinstance(name, str) for name in classes)):
        raise UserError(f"{path}: the classes in its header are no list of names: publish it again")
    return about


def _unflatten(path: str | Path, stored: dict[str, np.ndarray], like: Params, like_extra: Any) -> tuple[Params, Any]:
    """Return the arrays of a file in the structure of `like` and `like_extra`; see `load`."""
    expected = _all_named(like, like_extra)
    for name in sorted(expected.keys() | stored.keys()):
        shapes = [getattr(side.get(name), "shape", "no such array") for side in (stored, expected)]
        if shapes[0] != shapes[1]:
            raise UserError(f"{path} does not fit the model: {name} is {shapes[0]} there, {shapes[1]} in the model")
    return jax.tree.unflatten(
        jax.tree.structure((like, like_extra)), [_as(path, name, stored[name], leaf) for name, leaf in expected.items()]
    )


def _as(path: str | Path, name: str, array: np.ndarray, like: Any) -> np.ndarray:
    """Return an array of a file with the dtype of the model's, all of its entries finite.

    Raises:
        UserError: an array of another kind of numbers, or a NaN or an infinity.
    """
    dtype = np.dtype(like.dtype)
    if array.dtype.kind != dtype.kind:
        raise UserError(f"{path} does not fit the model: {name} holds {array.dtype} there, {dtype} in the model")
    with np.errstate(over="ignore"):
        array = array.astype(dtype, copy=False)
    if dtype.kind == "f" and not np.isfinite(array).all():
        place = np.argwhere(~np.isfinite(array))[0].tolist()
        raise UserError(f"{path}: {name} is {array[tuple(place)]} at {place}: publish params of a run that converged")
    return array


def _all_named(params: Params, extra: Any) -> dict[str, Any]:
    """Return the leaves by name, in the order of the pytree (params, extra)."""
    return _named(params) | {f"extra.{name}": leaf for name, leaf in _named(extra).items()}


def _named(tree: Any) -> dict[str, Any]:
    paths = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in paths}
