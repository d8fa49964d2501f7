"""Translation models as files, and translation by beam search: one model, or an ensemble whose probabilities average.

The header of a params file holds `kind` "translation", the `model` (a key of MODELS) with its `arguments`, and both
vocabularies, so that the file alone translates.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from mllab import beam, checks, devices, rows, sweep, weights
from mllab.data import vocabulary
from mllab.data.vocabulary import Vocabulary
from mllab.errors import UserError, shortened
from mllab.models import seq2seq, transformer
from mllab.models.encoder_decoder import EncoderDecoder
from mllab.special_tokens import PADDING, UNKNOWN
from mllab.types import Array, Params

KIND = "translation"
ROUNDED = 8  # padded lengths are multiples of this, so that few programs are compiled
SHAPES = 4  # padded lengths of one call, at most
MOST_WORDS = 1_000  # tokens of a source that is translated


class Entry(NamedTuple):
    """A translation model."""

    make: Callable[..., EncoderDecoder]  # (source_vocabulary, target_vocabulary, **arguments, dropout=...)
    sizes: Mapping[str, int]  # arguments that are whole numbers, and the greatest value of each
    switches: Sequence[str]


_OF_GRU = ({"hidden": 100_000, "embedding": 100_000}, ("tied",))
MODELS: Mapping[str, Entry] = {
    "gru": Entry(seq2seq.model, *_OF_GRU),
    "gru_without_attention": Entry(functools.partial(seq2seq.model, attention="none"), *_OF_GRU),
    "transformer": Entry(
        transformer.translator, {"width": 100_000, "layers": 100, "heads": 1_000, "feedforward": 1_000_000},
        ("tied", "joint"),
    ),
}  # fmt: skip


class TranslationModel(NamedTuple):
    """A translation model with its vocabularies."""

    model: EncoderDecoder
    params: Params
    source: Vocabulary
    target: Vocabulary
    about: Mapping[str, Any]  # the header of its file


def make(
    name: str, source_vocabulary: int, target_vocabulary: int, arguments: Mapping[str, Any], **others: Any
) -> EncoderDecoder:
    """Return the model of this name and these arguments; `others` matter in training alone: dropout."""
    return MODELS[name].make(source_vocabulary, target_vocabulary, **arguments, **others)


def encode(
    params: Params, name: str, arguments: Mapping[str, Any], source: Vocabulary, target: Vocabulary,
    about: Mapping[str, Any],
) -> bytes:  # fmt: skip
    """Return the file of a model; `about` are further values of the header, as JSON holds them."""
    header = {**about, "kind": KIND, "model": name, "arguments": dict(arguments), "source_vocabulary": source.header()}
    header["target_vocabulary"] = None if target == source else target.header()  # a joint one stands there once
    return weights.encode(params, header)


def load(path: str | Path, *, limit: int | None = None) -> TranslationModel:
    """Return the model of a file that `encode` made.

    Args:
        path: of the file.
        limit: on the bytes of the file; a share of the memory by default.

    Raises:
        UserError: no such file, one of another kind, a header that does not match its arrays, or vocabularies that do
            not fit; or subwords without the `tokenizers` package.
    """
    stored, about = weights.read_kind(path, limit, KIND, "translation model", "experiments.translation")
    name = about.get("model")
    if not isinstance(name, str) or name not in MODELS:
        raise UserError(f"{path}: the header says model = {shortened(str(name))}: publish it again")
    try:
        source = vocabulary.from_header(about.get("source_vocabulary"))
        target = about.get("target_vocabulary")
        target = source if target is None else vocabulary.from_header(target)
        arguments = weights.checked_arguments(about.get("arguments"), {}, MODELS[name].sizes, MODELS[name].switches)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    restored = weights.restore(path, stored, lambda: make(name, len(source), len(target), arguments))
    return TranslationModel(*restored, source, target, about)


def check_ensemble(members: Sequence[TranslationModel], names: Sequence[str]) -> None:
    """Raise UserError for models whose vocabularies differ: their probabilities cannot be averaged."""
    for member, name in zip(members[1:], names[1:], strict=True):
        for side in ("source", "target"):
            if getattr(member, side) != getattr(members[0], side):
                raise UserError(
                    f"{name} has another {side} vocabulary than {names[0]}: an ensemble is of models that one run "
                    "published"
                )


# ── Translation ─────────────────────────────────────────────────────────────────────────────────────────────────────


class Translation(NamedTuple):
    """A target sentence that was found for a source sentence."""

    ids: np.ndarray  # [T] of the target vocabulary, END included unless the search was cut
    score: float  # log-probability divided by the length to the power of the penalty
    attention: np.ndarray  # [T, S] over the source's tokens, END included; zeros where the model has none


def translate(
    members: Sequence[tuple[EncoderDecoder, Params]],
    sources: Sequence[Sequence[int]],
    *,
    width: int = 5,
    n_best: int = 1,
    penalty: float = 1.0,
    batch_size: int = 64,
    mesh: Mesh | None = None,
) -> list[list[Translation]]:
    """Return the best translations of each source, best first.

    Sources are sorted into batches of similar length. The search stops at twice a source's padded length.

    Args:
        members: models with their params; the probabilities of several are averaged, word by word.
        sources: ids of each sentence, END included.
        width: of the beam; 1 is greedy.
        n_best: translations of each source, up to `width`.
        penalty: see `beam.search`.
        batch_size: sentences that are translated at once.
        mesh: devices to split each batch over.

    Raises:
        UserError: a source of more than MOST_WORDS tokens, or an argument out of range.
    """
    checks.check_whole(1, batch_size=batch_size)
    if not len(sources):
        return []
    lengths = np.array([len(each) for each in sources])
    if lengths.max() > MOST_WORDS:
        raise UserError(
            f"sentence {int(lengths.argmax()) + 1:,} has {int(lengths.max()):,} tokens, more than {MOST_WORDS:,}: "
            "split it into sentences"
        )
    mesh = None if mesh is None else devices.flat(mesh)
    parts = 1 if mesh is None else mesh.size
    batch_size = -(-min(batch_size, len(sources)) // parts) * parts
    models, params = zip(*members, strict=True)
    power = jnp.asarray(penalty, jnp.float32)
    translations: list[list[Translation]] = [[] for _ in sources]
    for bucket in rows.buckets(lengths, batch_size, SHAPES):
        size = -(-bucket.length // ROUNDED) * ROUNDED
        search = _searcher(tuple(models), width, n_best, 2 * size, mesh)
        for ids, weight in zip(*bucket.rows, strict=True):
            batch = padded([sources[index] for index in ids], size)
            hypotheses = jax.device_get(search(params, batch, power))
            for row, index in enumerate(ids):
                if weight[row]:
                    translations[index] = _ranked(hypotheses, row, lengths[index])
    return translations


def padded(sentences: Sequence[Sequence[int]], length: int) -> np.ndarray:
    """Return ids of sentences as an array, int32 [N, length]."""
    array = np.full((len(sentences), length), PADDING, np.int32)
    for row, ids in enumerate(sentences):
        array[row, : len(ids)] = ids
    return array


def _ranked(hypotheses: Any, row: int, length: int) -> list[Translation]:
    """Return the translations of a row of `beam.Hypotheses` on the host, best first."""
    made = []
    for place, count in enumerate(hypotheses.lengths[row]):
        if count:
            ids, attention = hypotheses.tokens[row, place], hypotheses.attention[row, place]
            made.append(Translation(ids[:count], float(hypotheses.scores[row, place]), attention[:count, :length]))
    return made


@functools.cache  # one function for the same arguments, so that what is compiled for it is compiled once
def _searcher(
    models: tuple[EncoderDecoder, ...], width: int, n_best: int, length: int, mesh: Mesh | None
) -> Callable[[Any, np.ndarray, Array], beam.Hypotheses]:
    """Return the compiled search: (params of each model, sources [B, S], penalty) -> hypotheses."""

    def search(params: Sequence[Params], sources: Array, penalty: Array) -> beam.Hypotheses:
        return hypotheses_of(models, params, sources, penalty=penalty, width=width, n_best=n_best, length=length)

    return jax.jit(search if mesh is None else sweep.spread(search, mesh, (None, 0, None)))


def hypotheses_of(
    models: Sequence[EncoderDecoder], params: Sequence[Params], sources: Array, **options: Any
) -> beam.Hypotheses:
    """Return what a beam search finds for sources [B, S] with an ensemble; `options` are those of `beam.search`."""
    width = options["width"]
    each = list(zip(models, params, strict=True))
    memories = [beam.repeat(model.encode(of, sources), width) for model, of in each]
    caches = tuple(
        model.start(of, memory, options["length"]) for (model, of), memory in zip(each, memories, strict=True)
    )

    def step(caches: Any, tokens: Array, position: Array) -> tuple[Array, Any, Array]:
        results = [
            model.step(of, memory, cache, tokens, position)
            for (model, of), memory, cache in zip(each, memories, caches, strict=True)
        ]
        logits, caches, attention = zip(*results, strict=True)
        logs = jnp.stack([jax.nn.log_softmax(one) for one in logits])
        attention = sum(attention)  # those without attention have zeros
        attention = attention / jnp.maximum(attention.sum(axis=1, keepdims=True), 1e-30)
        return jax.nn.logsumexp(logs, axis=0) - math.log(len(models)), caches, attention

    return beam.search(step, caches, batch=len(sources), **options)


def sentence(translation: Translation, target: Vocabulary, source_tokens: Sequence[str] | None = None) -> str:
    """Return a translation as text.

    Args:
        translation: see `translate`.
        target: its vocabulary.
        source_tokens: of the source; an unknown word is then replaced by the one with the greatest attention.
    """
    return target.join(tokens(translation, target, source_tokens))


def tokens(translation: Translation, target: Vocabulary, source_tokens: Sequence[str] | None = None) -> list[str]:
    """Return the tokens of a translation, without END; see `sentence`."""
    made = target.named(translation.ids.tolist())
    source_tokens = source_tokens or ()
    for place in np.flatnonzero(translation.ids[: len(made)] == UNKNOWN):
        attention = translation.attention[place, : len(source_tokens)]
        if attention.any():
            made[place] = source_tokens[int(attention.argmax())]
    return made
