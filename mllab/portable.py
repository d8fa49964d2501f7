r"""Published models as portable programs: `jax.export` artifacts that predict without mllab, and their descriptions.

An artifact is the lowered program with its params as constants. It takes any number of rows, and of characters. Plain
JAX, of the same version or up to six months newer, runs it:

    import json, pathlib
    from jax import export

    program = export.deserialize(bytearray(pathlib.Path("model.jaxexport").read_bytes()))
    about = json.loads(pathlib.Path("model.jaxexport.json").read_text())
    outputs = program.call(*inputs)  # as about["inputs"] says

Source: https://docs.jax.dev/en/latest/export/export.html
"""

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from mllab import table_models, text_models, weights
from mllab.data.schema import ColumnSchema, Schema, TargetSchema
from mllab.errors import UserError, shortened
from mllab.models.preprocessing import Columns
from mllab.models.recurrent import language
from mllab.types import Array, Inputs, Outputs, Params

PLATFORMS = ("cpu", "cuda", "tpu")
ROWS, STEPS = "b", "t"  # the axes of any size: rows or texts, and characters
MAX_BYTES = 2**30  # of params: a serialized program cannot exceed 2 GiB


class Portable(NamedTuple):
    """A program that predicts, and what its inputs and outputs are."""

    program: bytes  # for `jax.export.deserialize`
    description: dict[str, Any]  # as JSON holds it


class _Array(NamedTuple):
    """An input or an output."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]  # sizes, ROWS or STEPS
    help: str


class _Prediction(NamedTuple):
    """A function of arrays, and of groups of arrays, to export."""

    function: Callable[..., Any]
    inputs: Sequence[_Array | tuple[_Array, ...]]
    outputs: Sequence[_Array | tuple[_Array, ...]]
    params: Params
    about: Mapping[str, Any]
    constraint: str | None = None  # on the axes of any size


def make(path: str | Path, platforms: Sequence[str] = PLATFORMS) -> Portable:
    """Return the program of the model in a params file.

    Args:
        path: of images or rows (`weights.load_model`), of a table (`table_models.load_table_model`) or of characters
            (`text_models.load`).
        platforms: to run on, of PLATFORMS; none of them needs to be present.

    Raises:
        UserError: the package flatbuffers is absent; no such file, one of another kind, or one that is damaged; params
            that are too large for one program.
    """
    if find_spec("flatbuffers") is None:
        raise UserError("an artifact needs the package flatbuffers: pip install flatbuffers")
    prediction = _prediction(path)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(prediction.params) if hasattr(leaf, "nbytes"))
    if size > MAX_BYTES:
        raise UserError(f"{path}: {size / 2**30:.1f} GiB of params, and one program holds at most 1 GiB")
    try:
        program = bytes(_exported(prediction, platforms).serialize())
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    described = {
        "format": "jax.export",
        "jax": jax.__version__,
        "platforms": list(platforms),
        **prediction.about,
        "inputs": [_described(each) for each in prediction.inputs],
        "outputs": [_described(each) for each in prediction.outputs],
    }
    return Portable(program, described)


def _exported(prediction: _Prediction, platforms: Sequence[str]) -> export.Exported:
    constraints = [prediction.constraint] if prediction.constraint else []
    rows, steps = export.symbolic_shape(f"{ROWS}, {STEPS}", constraints=constraints)
    sizes = {ROWS: rows, STEPS: steps}

    def spec(array: _Array) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(
            [sizes[each] if isinstance(each, str) else each for each in array.shape], array.dtype
        )

    specs = [spec(each) if isinstance(each, _Array) else tuple(map(spec, each)) for each in prediction.inputs]
    return export.export(jax.jit(prediction.function), platforms=platforms)(*specs)


def _described(part: _Array | tuple[_Array, ...]) -> Any:
    if isinstance(part, _Array):
        return {"name": part.name, "dtype": part.dtype, "shape": list(part.shape), "help": part.help}
    return [_described(each) for each in part]


# ── Kinds of models ─────────────────────────────────────────────────────────────────────────────────────────────────


def _prediction(path: str | Path) -> _Prediction:
    """Return what is to be exported of a params file."""
    _, about = weights.read(path)
    kind = about.get("kind")
    if kind == table_models.KIND:
        return _of_table(table_models.load_table_model(path))
    if kind == text_models.KIND:
        return _of_text(text_models.load(path))
    if kind is not None:
        raise UserError(f"{path} holds a model of kind {shortened(str(kind))!r}: models of images, rows, tables and "
                        "characters are exported")  # fmt: skip
    return _of_rows(path, weights.load_model(path))


def _about(kind: str, model: Any, header: Mapping[str, Any]) -> dict[str, Any]:
    return {"kind": kind, "model": str(model), "dataset": header.get("dataset")}


def _of_rows(path: str | Path, published: weights.Published) -> _Prediction:
    """Return the outputs of a model of the table of models, from its inputs."""
    params, extra = jax.tree.map(jnp.asarray, (published.params, published.extra))
    header, plan = published.about, published.about["plan"]
    shape, classes = _shape(path, plan), header.get("classes") or []

    def outputs_of(inputs: Array) -> Array:
        return published.model.apply(params, extra, inputs, None)[0]

    try:
        outputs = jax.eval_shape(outputs_of, jax.ShapeDtypeStruct((1, *shape), np.float32))
    except UserError as error:
        raise UserError(f"{path} does not take rows of its own shape {list(shape)}: {error}") from None
    if classes and outputs.shape != (1, len(classes)):
        raise UserError(f"{path} names {len(classes)} classes, and its model has {outputs.shape[-1]} outputs")
    is_image = len(shape) == 3
    what = "pixels from 0 to 1, height × width × channels" if is_image else "features as the model was trained on"
    meaning = "softmax of them are the probabilities of the classes" if classes else "as the model was trained on"
    return _Prediction(
        outputs_of,
        [_Array("inputs", "float32", (ROWS, *shape), what)],
        [_Array("logits" if classes else "values", "float32", (ROWS, *outputs.shape[1:]), meaning)],
        (params, extra),
        {
            **_about("images" if is_image else "rows", plan["model"], header),
            "classes": classes, "border": header.get("border"),
        },
    )  # fmt: skip


def _shape(path: str | Path, plan: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the shape of one input row; plans of older files have the sizes of the layers instead."""
    shape = plan.get("shape") or plan.get("sizes", [])[:1]
    if not shape:
        raise UserError(f"{path}: its plan does not say the shape of an input row: publish it again")
    return tuple(shape)


def _of_table(model: table_models.TableModel) -> _Prediction:
    """Return the predictions of a model of a table, from its encoded columns; each row goes alone through the model."""
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf, model.params)
    predict, target, layout = model.learner.predict, model.schema.target, model.schema.layout

    def outputs_of(numbers: Array, codes: Array) -> Array:
        outputs = by_row(predict, params, Columns(numbers, codes))
        return outputs if target.classes else _in_unit(target, outputs)

    classes = list(model.classes)
    output = (
        _Array("log_probabilities", "float32", (ROWS, len(classes)), "of the classes; exp of them sum to 1")
        if classes
        else _Array("values", "float32", (ROWS,), f"of {target.name}, in its unit")
    )
    return _Prediction(
        outputs_of,
        [
            _Array("numbers", "float32", (ROWS, layout.numbers), "as `numbers` says, in that order"),
            _Array("codes", "int32", (ROWS, len(layout.categories)), "as `codes` says, in that order"),
        ],
        [output],
        params,
        {
            **_about("table", model.about.get("model") or model.plan["learner"], model.about),
            "target": target.name, "classes": classes, **_columns(model.schema),
        },
    )  # fmt: skip


def by_row(predict: Callable[[Params, Inputs], Outputs], params: Params, inputs: Inputs) -> Outputs:
    """Return a learner's predictions, each row's by itself: the number of rows may then be symbolic.

    Learners choose the sizes of blocks from the number of rows.
    """
    return jax.vmap(lambda row: predict(params, jax.tree.map(lambda leaf: leaf[None], row))[0])(inputs)


def _in_unit(target: TargetSchema, output: Array) -> Array:
    """Return standardised outputs in the target's unit, float32; as `TargetSchema.inverse`."""
    value = jnp.float32(target.mean) + jnp.float32(target.scale) * output
    return jnp.exp(value) if target.transform == "log" else value


def _columns(schema: Schema) -> dict[str, Any]:
    """Return how the columns of a table become the two inputs of its model."""

    def number(column: ColumnSchema) -> dict[str, Any]:
        return {
            "column": column.name, "kind": column.kind, "offset": column.offset, "scale": 2.0**column.exponent,
            "missing": "NaN" if column.indicator else column.median, "parts": list(column.parts),
        }  # fmt: skip

    return {
        "numbers": [number(column) for column in schema.numeric],
        "numbers_help": "(x - offset) / scale, computed in float64; a date is x = days since 1970-01-01 UTC; missing: "
        "NaN, or where `missing` is a number, that as x. After it, for each of `parts`, the sine and the cosine of "
        "2 pi p / P: month p = 0 to 11 of P = 12, weekday p = 0 (Monday) to 6 of 7, hour p = 0 to 24 of 24.",
        "codes": [{"column": column.name, "categories": list(column.categories)} for column in schema.categorical],
        "codes_help": "the place of the cell's text among the categories, from 0, and -1 of any other text; a truth "
        'value is True or False, and a missing cell "missing", where there is such a category.',
    }


def _of_text(text: text_models.TextModel) -> _Prediction:
    """Return the logits of the next characters from tokens, and states from call to call where the model carries them.

    A Transformer reads a window from its beginning.
    """
    model, params, size = text.model, text.params, len(text.vocabulary)
    context = text_models.context_of(params)
    leaves, tree = jax.tree.flatten(language.initial_carry(params, 1)) if context is None else ([], None)

    def of_window(tokens: Array) -> Array:
        return model.apply(params, None, tokens, None)[0]

    def of_stream(tokens: Array, states: tuple[Array, ...]) -> tuple[Array, tuple[Array, ...]]:
        logits, carry = model.apply(params, jax.tree.unflatten(tree, states), tokens, None)
        return logits, tuple(jax.tree.leaves(carry))

    def states(help: str) -> list[tuple[_Array, ...]]:
        parts = [
            _Array(f"state {place}", str(leaf.dtype), (ROWS, *leaf.shape[1:]), help)
            for place, leaf in enumerate(leaves)
        ]
        return [tuple(parts)] if parts else []

    limit = f"; up to {context:,} of them" if context else ""
    tokens = _Array("tokens", "int32", (ROWS, STEPS), f"places of characters in `vocabulary`, from 0{limit}")
    logits = _Array("logits", "float32", (ROWS, STEPS, size), "softmax of them: probabilities of the character after")
    before = "before the first token: zeros at the beginning of a text, or what the last call returned"
    return _Prediction(
        of_window if context else of_stream,
        [tokens, *states(before)],
        [logits, *states("after the last token")],
        params,
        {
            **_about("characters", text.about["arguments"].get("cell"), text.about), "vocabulary": text.vocabulary,
            "context": context,
        },
        f"{STEPS} <= {context}" if context else None,
    )  # fmt: skip
