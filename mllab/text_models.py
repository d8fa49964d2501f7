"""Language models of characters as files: params, the arguments of the model, and its vocabulary.

The header of a params file holds `kind` "characters", `arguments` of `models.recurrent.language.model`, or of
`models.transformer.language` beside the cell "transformer", and the `vocabulary` as one text, so that the file alone
reads a prime text and writes on.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from mllab import weights
from mllab.data.readers import characters
from mllab.errors import UserError
from mllab.models import recurrent, transformer
from mllab.models.base import Model
from mllab.models.recurrent import language, sampling
from mllab.types import Array, Key, Params

KIND = "characters"
TRANSFORMER = "transformer"
CELLS = (*recurrent.CELLS, TRANSFORMER)  # what a model may be made of
SIZES = {"hidden": 100_000, "layers": 100, "embedding": 100_000}  # arguments, and their greatest values
SWITCHES = ("tied", "layer_norm")
TRANSFORMER_SIZES = {"width": 100_000, "layers": 100, "heads": 100_000, "context": 1_000_000}
MAX_VOCABULARY = 0x110000


class TextModel(NamedTuple):
    """A language model of characters."""

    model: Model
    params: Params
    vocabulary: str
    about: Mapping[str, Any]  # the header of its file


def make(vocabulary: str, arguments: Mapping[str, Any], **others: Any) -> Model:
    """Return the language model with these arguments; `others` matter in training alone: dropout, batch_size, ..."""
    if arguments.get("cell") != TRANSFORMER:
        return language.model(len(vocabulary), **arguments, **others)
    sizes = {name: value for name, value in arguments.items() if name != "cell"}
    return transformer.language(len(vocabulary), **sizes, **others)


def context_of(params: Params) -> int | None:
    """Return the most characters that a model sees at once; None for recurrent cells, which carry what they read."""
    return params.positions.shape[0] if isinstance(params, transformer.GPT) else None


def begin(params: Params, prime: Array) -> tuple[Any, Array]:
    """Return the state before B texts, and what a model reads of their prime [B, P]: all, or the end of its context."""
    context = context_of(params)
    if context is None:
        return language.initial_carry(params, len(prime)), prime
    return transformer.initial_cache(params, len(prime)), prime[:, -context:]


def encode(params: Params, vocabulary: str, arguments: Mapping[str, Any], about: Mapping[str, Any]) -> bytes:
    """Return the file of a model; `about` are further values of the header, as JSON holds them."""
    return weights.encode(params, {**about, "kind": KIND, "vocabulary": vocabulary, "arguments": dict(arguments)})


def load(path: str | Path, *, limit: int | None = None) -> TextModel:
    """Return the model of a file that `encode` made.

    Args:
        path: of the file.
        limit: on the bytes of the file; a share of the memory by default.

    Raises:
        UserError: no such file, one of another kind, or a header that does not match its arrays.
    """
    stored, about = weights.read_kind(path, limit, KIND, "language model of characters", "experiments.char_rnn")
    vocabulary, arguments = about.get("vocabulary"), about.get("arguments")
    if not isinstance(vocabulary, str) or not 0 < len(vocabulary) <= MAX_VOCABULARY:
        raise UserError(f"{path}: the vocabulary in its header is no text: publish it again")
    if "".join(sorted(set(vocabulary))) != vocabulary:
        raise UserError(f"{path}: the vocabulary in its header is not sorted, or has a character twice: publish again")

    def build() -> Model:
        is_transformer = isinstance(arguments, dict) and arguments.get("cell") == TRANSFORMER
        sizes, switches = (TRANSFORMER_SIZES, ()) if is_transformer else (SIZES, SWITCHES)
        return make(vocabulary, weights.checked_arguments(arguments, {"cell": CELLS}, sizes, switches))

    return TextModel(*weights.restore(path, stored, build), vocabulary, about)


def write_on(
    model: Model, params: Params, vocabulary: str, key: Key, prime: str, *, length: int,
    temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None,
) -> str:  # fmt: skip
    """Return `length` characters that a model writes after a prime text; see `sampling.sample`.

    Raises:
        UserError: an empty prime, or one with a character that the vocabulary lacks; or see `sampling.sample`.
    """
    ids = characters.encode(prime, vocabulary, "prime")
    extra, read = begin(params, jnp.asarray(ids)[None])
    tokens = sampling.sample(
        model, params, extra, key, read,
        length=length, temperature=temperature, top_k=top_k, top_p=top_p,
    )  # fmt: skip
    return characters.decoded(np.asarray(tokens[0]), vocabulary)
