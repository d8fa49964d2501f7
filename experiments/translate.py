r"""Translate sentences with a published model, or with several whose probabilities are averaged.

  python -m experiments.translate --params=runs/translation/TIME/params.safetensors "Ein Mann fährt Rad."
  python -m experiments.translate --params=gru_0.safetensors,gru_1.safetensors --output=english.txt < german.txt

Sentences are plain arguments, or the lines of standard input.
"""

import math
import sys
from dataclasses import dataclass

from experiments import frame
from mllab import translation_models
from mllab.data.readers import content, parallel
from mllab.errors import UserError, escaped
from mllab.folders import expand
from mllab.report.atomic import write_bytes
from mllab.report.report import Report
from mllab.report.table import Table, number

SHOWN = 100  # sentences on the terminal
MOST_BYTES = 2**30  # of standard input


@dataclass(frozen=True, kw_only=True)
class Settings(frame.BeamSearch):
    """The models, and how they translate."""

    params: tuple[str, ...] = frame.texts(
        help="params.safetensors that experiments.translation published; several files, separated by commas, are an "
        "ensemble."
    )
    sentences: tuple[str, ...] = frame.paths(
        help="Sentences, given as plain arguments or with this flag. Default: the lines of standard input.",
        optional=True,
    )
    n_best: int = frame.whole(1, help="Translations of each sentence, up to --beam.", low=1, high=1_000)
    replace_unknown: bool = frame.BeamSearch.with_default("replace_unknown", True)
    output: str | None = frame.path(None, help="File to write the best translation of each sentence to, a line each.")


@dataclass(frozen=True)
class Translated:
    """Sentences, and the best translations of each with their scores."""

    model: str
    sentences: list[str]
    translations: list[list[tuple[str, float]]]


def measure(run: frame.Context, settings: Settings) -> Translated:
    """Translate each sentence.

    Raises:
        UserError: no params, or of something else; models whose vocabularies differ; no sentence.
    """
    if not settings.params:
        raise UserError("params: name the file that experiments.translation published (--params=FILE)")
    if settings.n_best > settings.beam:
        raise UserError(f"--n_best={settings.n_best} of --beam={settings.beam}: raise the beam")
    if settings.output is not None and content.kind(expand(settings.output)) not in ("", "file"):
        raise UserError(f"--output={settings.output}: no regular file; name a file")
    members = [translation_models.load(path) for path in settings.params]
    translation_models.check_ensemble(members, settings.params)
    sentences = list(settings.sentences) or standard_input()
    source, target = members[0].source, members[0].target
    ids = [source.encode(sentence) for sentence in sentences]
    filled = [place for place, each in enumerate(ids) if len(each) > 1]  # others are END alone: nothing to translate
    with run.timed("translating"):
        translated = translation_models.translate(
            [(each.model, each.params) for each in members], [ids[place] for place in filled], width=settings.beam,
            n_best=settings.n_best, penalty=settings.penalty,
        )  # fmt: skip
    translations: list[list[tuple[str, float]]] = [[("", math.nan)] for _ in sentences]
    for place, best in zip(filled, translated, strict=True):
        tokens = source.tokens(sentences[place]) if settings.replace_unknown else None
        translations[place] = [(translation_models.sentence(each, target, tokens), each.score) for each in best]
    if settings.output is not None:
        lines = "".join(f"{' '.join(best[0][0].split())}\n" for best in translations)
        write_bytes(expand(settings.output), lines.encode())
    names = [str(each.about["model"]) for each in members]
    trained_on = members[0].about.get("dataset") or "unnamed text"
    return Translated(f"{', '.join(names)}, trained on {trained_on}", sentences, translations)


def standard_input() -> list[str]:
    """Return the lines of standard input; empty ones stay, so that lines of the output belong to those of the input.

    Raises:
        UserError: a terminal, no line, or bytes that are no UTF-8.
    """
    if sys.stdin is None or sys.stdin.isatty():
        raise UserError('sentences: give one or more ("Ein Mann ..."), or lines on standard input')
    raw = sys.stdin.buffer.read(MOST_BYTES + 1)
    if len(raw) > MOST_BYTES:
        raise UserError(f"standard input has more than {MOST_BYTES:,} bytes: give fewer sentences at once")
    sentences = parallel.lines(raw, "standard input")
    if not any(sentences):
        raise UserError("standard input has no sentence: give one or more lines")
    return sentences


def report(run: frame.Context, settings: Settings, measured: Translated) -> Report:
    """Report the translations of each sentence, with their scores."""
    del run
    rows = [
        [escaped(sentence) if place == 0 else "", escaped(text), number(score)]
        for sentence, best in list(zip(measured.sentences, measured.translations, strict=True))[:SHOWN]
        for place, (text, score) in enumerate(best)
    ]
    caption = f"{escaped(measured.model)}; beam {settings.beam}; score: log-probability / length^{settings.penalty:g}"
    if (rest := len(measured.sentences) - SHOWN) > 0:
        caption += f"; {rest:,} more sentences, which --output=FILE writes"
    table = Table(["sentence", "translation", "score"], rows, caption=caption)
    return Report("Translations", "What do the sentences mean?", "", table)


main, run = frame.program(Settings, measure, report, words="sentences", needs_words=False)

if __name__ == "__main__":
    main()
