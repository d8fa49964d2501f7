"""Learners and their params as plain values and named arrays, for files without pickle.

`pack` takes params apart into arrays by name and a structure that JSON holds; `unpack` puts them together again. A
plan, `{"learner": name, **arguments}`, describes a learner, and `rebuild` makes it:

    about = plan("preprocessed", of=plan("ridge"), layout=layout)
    arrays, structure = pack(params)
    outputs = rebuild(about).predict(unpack(arrays, structure), columns)

Classes and learners are those of two tables in this module: a file cannot name anything else.
"""

import inspect
import itertools
import math
import types
import typing
from collections import abc
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mllab import checks
from mllab.errors import UserError, shortened, unknown
from mllab.learners import ensembles, nets
from mllab.learners.boosted import boosted_trees
from mllab.learners.clusters_and_mixtures import kmeans, mixture
from mllab.learners.constant import mean, most_frequent
from mllab.learners.kernel_machines import svm
from mllab.learners.kernel_regression import kernel_ridge, support_vector_regression
from mllab.learners.linear_models import linear, ridge, softmax_regression
from mllab.learners.nearest import nearest_neighbors
from mllab.learners.pipelines import Pipeline, preprocessed
from mllab.learners.trained_elsewhere import published
from mllab.models import kernel_ridge as ridges
from mllab.models import kmeans as clusters
from mllab.models import linear as linear_model
from mllab.models import mixture as mixtures
from mllab.models import mlp as perceptron
from mllab.models import neighbors, trees
from mllab.models import preprocessing as tables
from mllab.models import svm as machines
from mllab.models.svm import kernels, regression
from mllab.types import Array, Params
from mllab.validation import Learner

Plan = Mapping[str, Any]

MAX_DEPTH = 30  # of structures and plans
MAX_NODES = 100_000  # of a structure
MAX_SIZE = 2**31 - 1  # of a whole number
KINDS = {"f": "f", "i": "iu", "b": "b", "n": "iuf"}  # kinds of NumPy's dtypes, by the letter in `Stored.arrays`


# ── Params ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Stored(NamedTuple):
    """A class of params."""

    of: type
    # The kind (see `KINDS`) and axes of its arrays, such as "f ND": the sizes of axes with the same letter are equal.
    # An asterisk stands for no axis, or for that of an ensemble's members.
    arrays: Mapping[str, str] = types.MappingProxyType({})
    check: Callable[[Any], Any] | None = None  # raises UserError for values that do not fit
    code: Mapping[str, Any] = types.MappingProxyType({})  # fields that are functions, which no file holds


def _check_kernel(params: Any) -> None:
    reads = kernels.named(params.kernel).reads
    if set(params.hyper) != set(reads) or any(np.shape(value) for value in params.hyper.values()):
        raise UserError(f"the {params.kernel} kernel reads {', '.join(reads) or 'nothing'}, one number each")


def _check_svm(params: machines.SVM) -> None:
    _check_kernel(params)
    count = len(params.bias)
    if params.classes > 2 * count + 1 or len(machines.pairs(params.classes, params.scheme)) != count:
        raise UserError(f"{count} problems of two classes do not make {params.classes} classes")


def _check_mixture(params: mixtures.Mixture) -> None:
    if params.covariance not in mixtures.COVARIANCES:
        raise unknown("covariance", params.covariance, mixtures.COVARIANCES)
    count, size = params.means.shape
    shapes = {"full": (count, size, size), "tied": (size, size), "diagonal": (count, size), "spherical": (count,)}
    checks.check_shape(params.cholesky, shapes[params.covariance], "cholesky")


def _check_layout(layout: tables.Layout) -> None:
    least = min((layout.numbers, *layout.indicators, *layout.categories))
    if least < 0 or max(layout.indicators, default=-1) >= layout.numbers or layout.size > MAX_SIZE:
        raise UserError(f"layout: {shortened(str(tuple(layout)))}, expected sizes of 0 or more")


def _check_preprocessing(params: tables.Preprocessing) -> None:
    if params.transform not in tables.TRANSFORMS:
        raise unknown("transform", params.transform, tables.TRANSFORMS)
    checks_out = len(params.median) == params.layout.numbers and len(params.known) == sum(params.layout.categories)
    if not checks_out or (params.transform == "quantile") != (len(params.quantiles) > 0):
        raise UserError("the statistics of the columns do not fit their layout")


def _check_mlp(params: nets.MLP) -> None:
    perceptron.activation_of(params.net.activation)
    shapes = [layer.w.shape[-2:] for layer in params.layers]
    widths = *params.net.hidden, params.net.classes or params.net.outputs
    follows = all(after[0] == before[1] for before, after in itertools.pairwise(shapes))
    leads = {layer.w.shape[:-2] for layer in params.layers} | {params.centre.shape[: len(params.layers[0].w.shape) - 2]}
    if tuple(shape[1] for shape in shapes) != widths or not follows or len(leads) > 1:
        raise UserError("the layers of the mlp do not fit one another")
    if params.centre.shape != params.scale.shape:
        raise UserError("the targets' mean and deviation in the mlp have different shapes")


def _check_ensemble(params: ensembles.Ensemble) -> None:
    if not isinstance(params.members, nets.MLP) or params.members.layers[0].w.ndim != 3:
        raise UserError("the members of the ensemble are no mlp")


CLASSES: Mapping[str, Stored] = {
    "Linear": Stored(linear_model.Linear, {"w": "f *DC", "b": "f *C"}),
    "Net": Stored(nets.Net),
    "MLP": Stored(nets.MLP, check=_check_mlp),
    "Ensemble": Stored(ensembles.Ensemble, check=_check_ensemble, code={"predict": nets.predict}),
    "Neighbors": Stored(neighbors.Neighbors, {"inputs": "f ND", "targets": "n N", "weight": "f N", "k": "n "}),
    "SVM": Stored(
        machines.SVM,
        {
            "inputs": "f ND", "origin": "f D", "coefficients": "f PN", "bias": "f P", "slope": "f ", "gap": "f P",
            "steps": "i P",
        },
        _check_svm,
    ),
    "SupportVectorRegression": Stored(
        regression.SupportVectorRegression,
        {
            "inputs": "f ND", "origin": "f D", "coefficients": "f N", "bias": "f ", "objective": "f ", "gap": "f ",
            "steps": "i ",
        },
        _check_kernel,
    ),
    "KernelRidge": Stored(
        ridges.KernelRidge, {"inputs": "f ND", "coefficients": "f N", "bias": "f "}, _check_kernel
    ),
    "KMeans": Stored(
        clusters.KMeans,
        {
            "centres": "f KD", "k": "i ", "origin": "f D", "labels": "i N", "inertia": "f ", "inertias": "f S",
            "steps": "i S",
        },
    ),
    "Mixture": Stored(mixtures.Mixture, {"log_weights": "f K", "means": "f KD"}, _check_mixture),
    "Trees": Stored(
        trees.Trees,
        {
            "feature": "i TM", "threshold": "f TM", "left": "i TM", "right": "i TM", "missing_left": "b TM",
            "bitset": "i TM", "bitsets": "i BW", "values": "f TM", "outputs": "i T", "bias": "f C", "codes": "i QS",
        },
        trees.check,
    ),
    "Layout": Stored(tables.Layout, check=_check_layout),
    "Preprocessing": Stored(
        tables.Preprocessing,
        {"median": "f P", "centre": "f P", "scale": "f P", "quantiles": "f RP", "known": "f F"},
        _check_preprocessing,
    ),
    "Pipeline": Stored(Pipeline),
}  # fmt: skip


def pack(params: Params) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return params as arrays by name, and their structure in values that JSON holds.

    Raises:
        UserError: something that cannot be saved without pickle, such as an estimator of scikit-learn.
    """
    arrays: dict[str, np.ndarray] = {}

    def packed(value: Any, path: str) -> dict[str, Any]:
        if isinstance(value, float) and not math.isfinite(value):
            return {"float": str(value)}
        if value is None or type(value) in (bool, int, float, str):
            return {"value": value}
        if isinstance(value, jax.Array | np.ndarray | np.generic) and np.asarray(value).dtype.kind in "biuf":
            name = path or "params"
            while name in arrays:
                name += "_"
            arrays[name] = np.asarray(value)
            return {"array": name}

        def parts(each: Mapping[str, Any]) -> dict[str, Any]:
            return {key: packed(part, f"{path}.{key}".strip(".")) for key, part in each.items()}

        for name, stored in CLASSES.items():
            if type(value) is stored.of:
                return {"class": name, "fields": parts({key: getattr(value, key) for key in _fields(stored)})}
        if type(value) in (tuple, list):
            kept = parts({str(place): part for place, part in enumerate(value)})
            return {type(value).__name__: list(kept.values())}
        if type(value) is dict and all(isinstance(key, str) for key in value):
            return {"dict": parts(value)}
        raise UserError(f"params hold a {type(value).__name__}, which cannot be saved without pickle")

    structure = packed(params, "")
    return arrays, structure


def unpack(arrays: Mapping[str, Any], structure: Any) -> Params:
    """Return the params of arrays and a structure that `pack` made.

    Raises:
        UserError: anything else: a class that is not in `CLASSES`, missing or unknown fields, an array that is missing,
            used twice or not at all, of another kind or shape, or values that do not fit together.
    """
    if not isinstance(arrays, Mapping):
        raise UserError("the arrays of the params: expected arrays by name")
    left, nodes = dict(arrays), 0

    def unpacked(node: Any, depth: int) -> Any:
        nonlocal nodes
        nodes += 1
        if depth > MAX_DEPTH or nodes > MAX_NODES:
            raise UserError("the structure of the params is nested too deeply, or too large")
        kind = _kind(node)
        content = node[kind]
        if kind == "value" and (content is None or isinstance(content, bool | int | float | str)):
            return content
        if kind == "float" and content in ("nan", "inf", "-inf"):
            return float(content)
        if kind == "array" and isinstance(content, str):
            if content not in left:
                raise UserError(f"the params lack the array {shortened(content)!r}, or use it twice")
            array = np.asarray(left.pop(content))
            if array.dtype.kind not in "biuf":
                raise UserError(f"the array {shortened(content)!r} holds {array.dtype}, expected numbers")
            return jnp.asarray(array)
        if kind in ("tuple", "list") and isinstance(content, list):
            parts = [unpacked(each, depth + 1) for each in content]
            return tuple(parts) if kind == "tuple" else parts
        if kind == "dict" and isinstance(content, dict):
            return {key: unpacked(each, depth + 1) for key, each in content.items()}
        if kind == "class" and isinstance(content, str) and isinstance(node["fields"], dict):
            return _made(content, {key: unpacked(each, depth + 1) for key, each in node["fields"].items()})
        raise UserError(f"the structure of the params has {shortened(str(node))}: expected what pack makes")

    params = unpacked(structure, 0)
    if left:
        raise UserError(f"the params do not use the array {shortened(str(next(iter(left))))!r}")
    return params


def _kind(node: Any) -> str:
    """Return the one key of a node of a structure that says what it is."""
    for kind in ("value", "float", "array", "tuple", "list", "dict", "class"):
        if isinstance(node, dict) and node.keys() == ({"class", "fields"} if kind == "class" else {kind}):
            return kind
    raise UserError(f"the structure of the params has {shortened(str(node)[:1000])}: expected what pack makes")


def _fields(stored: Stored) -> list[str]:
    of: Any = stored.of
    names = [field.name for field in fields(of)] if is_dataclass(of) else of._fields
    return [name for name in names if name not in stored.code]


def _made(name: str, parts: dict[str, Any]) -> Any:
    """Return an object of a class in `CLASSES`, after a check of its parts."""
    if name not in CLASSES:
        raise unknown("class of params", name, CLASSES)
    stored = CLASSES[name]
    if sorted(parts) != sorted(_fields(stored)):
        raise UserError(f"{name} has the fields {', '.join(_fields(stored))}, not {shortened(', '.join(parts))}")
    for key, hint in typing.get_type_hints(stored.of).items():
        if key in parts and not _fits(parts[key], hint):
            raise UserError(f"{name}.{key} is {_shown(parts[key])}, which it cannot be")
    sizes: dict[str, int] = {}
    starred = [parts[key].ndim == len(spec) - 2 for key, spec in stored.arrays.items() if "*" in spec]
    for key, spec in stored.arrays.items():
        letter, axes = spec.split(" ")
        array = parts[key]
        axes = axes if all(starred) else axes.replace("*", "")
        expected = [sizes.get(axis, axis) for axis in axes]
        fits = len(array.shape) == len(axes) and all(
            sizes.setdefault(axis, size) == size for axis, size in zip(axes, array.shape, strict=True)
        )
        if not fits or array.dtype.kind not in KINDS[letter]:
            raise UserError(f"{name}.{key} is {_shown(array)}, expected {expected} of kind {letter!r}")
    made = stored.of(**parts, **stored.code)
    if stored.check is not None:
        stored.check(made)
    return made


def _fits(value: Any, hint: Any) -> bool:
    """Return whether a value is of an annotated type; classes that are not known here take anything."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if hint is None or hint is type(None):
        return value is None
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, each) for each in arguments)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if arguments[-1:] == (...,):
            return all(_fits(each, arguments[0]) for each in value)
        return len(value) == len(arguments) and all(map(_fits, value, arguments))
    if origin is abc.Sequence:
        return isinstance(value, list | tuple) and all(_fits(each, arguments[0]) for each in value)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(each, arguments[1]) for each in value.values())
    if hint is Array:
        return isinstance(value, jax.Array)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MAX_SIZE
    return not isinstance(hint, type) or isinstance(value, hint)


def _shown(value: Any) -> str:
    if isinstance(value, jax.Array):
        return f"{value.dtype}{list(value.shape)}"
    return shortened(str(value)[:1000])


# ── Learners ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _ensemble(of: Learner, members: int, classes: int | None = None) -> Learner:
    return ensembles.ensemble(of, members, classes=classes)


def _preprocessed(of: Learner, layout: tables.Layout, transform: str = "standard") -> Learner:
    if transform not in tables.TRANSFORMS:
        raise unknown("transform", transform, tables.TRANSFORMS)
    return preprocessed(of, layout, transform)


LEARNERS: Mapping[str, Callable[..., Learner]] = {
    "boosted_trees": boosted_trees,
    "ensemble": _ensemble,  # its learner is the plan `of`
    "kernel_ridge": kernel_ridge,
    "kmeans": kmeans,
    "linear": linear,
    "mean": mean,
    "mixture": mixture,
    "mlp": nets.mlp,
    "most_frequent": most_frequent,
    "nearest_neighbors": nearest_neighbors,
    "preprocessed": _preprocessed,  # its learner is the plan `of`
    "published": published,
    "ridge": ridge,
    "softmax_regression": softmax_regression,
    "support_vector_regression": support_vector_regression,
    "svm": svm,
}
NOT_STORED = ("mesh",)  # arguments that say where to compute, not what


def plan(learner: str, **arguments: Any) -> dict[str, Any]:
    """Return the plan of a learner, with the defaults of all arguments that are not given.

    A default that changes later then does not change what a file describes.

    Args:
        learner: a key of `LEARNERS`.
        **arguments: of its function, with a plan for `of`.

    Raises:
        UserError: see `rebuild`.
    """
    if learner not in LEARNERS:
        raise unknown("learner", learner, LEARNERS)
    defaults = {
        name: each.default for name, each in _parameters(learner).items() if each.default is not inspect.Parameter.empty
    }
    made = {"learner": learner, **{name: _plain(value) for name, value in {**defaults, **arguments}.items()}}
    rebuild(made)  # checks the values
    return made


def rebuild(plan: Plan, **elsewhere: Any) -> Learner:
    """Return the learner of a plan.

    Args:
        plan: see `plan`.
        **elsewhere: arguments in NOT_STORED, for the learners that take them, inner ones too.

    Raises:
        UserError: a plan of an unknown learner, or with arguments that are missing, unknown or out of range.
    """
    return _rebuilt(plan, 0, elsewhere)


def _rebuilt(plan: Any, depth: int, elsewhere: Mapping[str, Any]) -> Learner:
    if not isinstance(plan, Mapping) or not isinstance(plan.get("learner"), str):
        raise UserError(f"the plan of a learner is {_shown(plan)}: expected named arguments with 'learner'")
    if depth > MAX_DEPTH:
        raise UserError("the plan of a learner is nested too deeply")
    name = plan["learner"]
    if name not in LEARNERS:
        raise unknown("learner", name, LEARNERS)
    parameters, hints = _parameters(name), typing.get_type_hints(LEARNERS[name])
    arguments = {key: value for key, value in plan.items() if key != "learner"}
    for key in arguments:
        if key not in parameters:
            raise unknown(f"argument of the learner {name}", str(key), parameters)
    for key, each in parameters.items():
        if key not in arguments and each.default is inspect.Parameter.empty:
            raise UserError(f"the plan of the learner {name} lacks {key!r}")
    for key, value in arguments.items():
        if key == "of":
            arguments[key] = _rebuilt(value, depth + 1, elsewhere)
            continue
        arguments[key] = _layout(value) if key == "layout" and value is not None else value
        if not _fits(arguments[key], hints[key]):
            raise UserError(f"the plan of the learner {name} has {key} = {_shown(value)}, which it cannot be")
    taken = inspect.signature(LEARNERS[name]).parameters
    return LEARNERS[name](**arguments, **{key: value for key, value in elsewhere.items() if key in taken})


def _parameters(learner: str) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(LEARNERS[learner]).parameters
    return {name: each for name, each in parameters.items() if name not in NOT_STORED}


def _plain(value: Any) -> Any:
    if isinstance(value, tables.Layout):
        return {"numbers": value.numbers, "indicators": [*value.indicators], "categories": [*value.categories]}
    return [*value] if isinstance(value, tuple) else value


def _layout(value: Any) -> tables.Layout:
    """Return the layout of what `_plain` makes of one."""
    if isinstance(value, Mapping) and set(value) == set(tables.Layout._fields):
        lists = [value[name] for name in ("indicators", "categories")]
        if _fits(value["numbers"], int) and all(isinstance(each, list) for each in lists):
            indicators, categories = map(tuple, lists)
            if _fits(indicators, tuple[int, ...]) and _fits(categories, tuple[int, ...]):
                layout = tables.Layout(value["numbers"], indicators, categories)
                _check_layout(layout)
                return layout
    raise UserError(f"layout: {_shown(value)}, expected numbers, indicators and categories")
