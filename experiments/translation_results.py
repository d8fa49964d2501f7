"""The measurement of translation models, and its answer, tables and drawings."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from experiments import answers, frame
from experiments.translation_quality import ByLength, Quality
from experiments.translation_training import Trained, perplexity
from mllab import metrics
from mllab.data.sets.dates import HELD_OUT
from mllab.data.vocabulary import SPACE
from mllab.metrics import Interval, interval
from mllab.metrics import translation as bleu
from mllab.report import draw, style
from mllab.report.report import Alignment, Bullets, Drawing, Section
from mllab.report.style import DASH_DOT, DASHED, SOLID, Style
from mllab.report.table import Table, legible, percent, printable, short, significant
from mllab.report.table import interval as shown

STYLES = {
    "gru": Style(style.GREEN, SOLID, "D"),
    "gru_without_attention": Style(style.BLACK, DASHED, "o"),
    "transformer": Style(style.VERMILLION, DASH_DOT, "s"),
}


@dataclass(frozen=True)
class Scores:
    """One model at its chosen learning rate; perplexities per target token, over seeds."""

    model: str
    parameters: int
    learning_rate: float | None  # None if every rate has a lane that went non-finite
    nonfinite: int  # lanes
    lanes: int
    validation_nats: np.ndarray  # [G]
    validation: Interval
    test: Interval
    step: np.ndarray = frame.unsaved()  # [E]
    curve: np.ndarray = frame.unsaved()  # perplexity of the validation part, [E, 3]: mean, low and high over seeds

    @classmethod
    def of(cls, trained: Trained, rates: Sequence[float]) -> "Scores":
        """Return the scores of a trained model."""
        validation, test = (trained.at_rate(each) for each in (trained.validation, trained.test))
        losses = trained.result.history.held_out["loss"]
        return cls(
            model=trained.name, parameters=trained.parameters, learning_rate=trained.rate(rates),
            nonfinite=trained.nonfinite, lanes=trained.validation.size,
            validation_nats=validation, validation=interval(np.exp(validation)), test=interval(np.exp(test)),
            step=trained.steps, curve=trained.band(losses, perplexity),
        )  # fmt: skip


@dataclass(frozen=True)
class System:
    """What translates the test part: a baseline, the seed of a model with the least validation loss, or all seeds."""

    name: str
    model: str  # empty for a baseline
    votes: int  # seeds whose probabilities are averaged; 0 for a baseline
    quality: Quality
    by_length: ByLength = frame.unsaved()
    lead: Interval | None = None  # BLEU less that of the first model, over the same sentences


@dataclass(frozen=True)
class Example:
    """A sentence of the test part, its reference, and its translation with the weights it was made with."""

    source: str
    reference: str
    translation: str
    source_tokens: list[str] = frame.unsaved()
    target_tokens: list[str] = frame.unsaved()
    weights: np.ndarray = frame.unsaved()  # [T, S]; zeros without attention


@dataclass(frozen=True)
class Measurement:
    """Scores of all models, and the quality of what they translate."""

    dataset: str
    languages: tuple[str, str]
    counts: Mapping[str, int]  # pairs by part
    left_out: Mapping[str, int]  # by part: pairs that are too long for training and losses
    skipped: int  # pairs with an empty side
    tokens: str
    vocabularies: tuple[int, int]
    seeds: int
    epochs: int
    beam: int
    unit: str  # of lengths: words or characters
    scores: list[Scores]
    systems: list[System]
    published: str | None  # the model of params.safetensors
    examples: list[Example]
    during: list[str] = frame.unsaved()  # what a sentence was translated to during training

    @property
    def headline(self) -> System | None:
        """The system that the answer is about: the published model, all its seeds where there are several."""
        of_model = [each for each in self.systems if each.model == self.published and each.votes]
        return of_model[-1] if of_model else None

    @property
    def by_bleu(self) -> bool:
        """Whether translations are judged by BLEU; otherwise by exact matches."""
        return self.systems[0].quality.bleu is not None

    def is_clear(self, system: System) -> bool:
        """Return whether a system is clearly better than every baseline, over sentences."""
        for each in self.systems:
            if not each.model:
                one, other = system.quality, each.quality
                if one.statistics is not None and other.statistics is not None:
                    if bleu.difference(one.statistics, other.statistics).sign <= 0:
                        return False
                elif interval(metrics.paired(one.correct, other.correct)).sign <= 0:
                    return False
        return True


def answer(measured: Measurement) -> str:
    """Return how well the best model translates the test part, beside the baselines."""
    system = measured.headline
    if system is None:
        return "Every learning rate has a seed that went non-finite, so nothing is published: try smaller ones."
    score = next(each for each in measured.scores if each.model == system.model)
    baselines = [each for each in measured.systems if not each.model]
    count, over = f"{measured.counts['test']:,}", answers.counted(measured.seeds, "seed")
    clear = "" if measured.is_clear(system) else "Not clearly better than a baseline. "
    who = system.model if system.votes == 1 else f"The vote of {system.votes} seeds of {system.model}"
    if measured.by_bleu:
        assert system.quality.bleu is not None
        figure = shown(system.quality.bleu) if measured.seeds > 1 else short(system.quality.bleu.mean)
        text = f"{clear}{who} translates the {count} sentences of the test part at BLEU {figure} ({over})"
        others = [f"{each.name}: {short(each.quality.bleu.mean)}" for each in baselines if each.quality.bleu]
    else:
        groups = system.quality.exact_by_group
        of = groups.get(HELD_OUT, system.quality.exact)
        where = (
            f"{of.seeds:,} test dates in {HELD_OUT} of training" if HELD_OUT in groups else f"{count} test sentences"
        )
        figure = percent(of) if measured.seeds > 1 else f"{short(100 * of.mean)}%"
        text = f"{clear}{who} writes {figure} of the {where} exactly as their references ({over})"
        others = [
            f"{each.name}: {short(100 * each.quality.exact_by_group.get(HELD_OUT, each.quality.exact).mean)}%"
            for each in baselines
        ]
    text += f"; {'; '.join(others)}. Perplexity per token: {short(score.test.mean)}."
    return text + _of_attention(measured)


def _of_attention(measured: Measurement) -> str:
    """Return a sentence on the longest sentences with and without attention; empty without the two models."""
    with_attention, without = (
        next((each for each in measured.systems if each.model == name), None)
        for name in ("gru", "gru_without_attention")
    )
    if with_attention is None or without is None:
        return ""
    unit = " BLEU" if measured.by_bleu else "% exact"
    ends = [each.by_length.quality[-1, 0] for each in (with_attention, without)]
    length = with_attention.by_length.length[-1]
    return (
        f" On the longest sentences (about {length:.0f} {measured.unit}) the GRU reaches {ends[0]:.0f}{unit}, without "
        f"attention {ends[1]:.0f}{unit}."
    )


def result_table(measured: Measurement) -> Table:
    """Return one row per baseline, then the chosen seed and the vote of the seeds of each model."""
    groups = list(measured.systems[0].quality.exact_by_group)
    scores = {each.model: each for each in measured.scores}
    led = any(each.lead for each in measured.systems)
    rows: list[list[object]] = []
    for each in measured.systems:
        quality, score = each.quality, scores.get(each.model)
        row: list[object] = [each.name, None, None, None]
        if score is not None:
            row[1] = f"{score.parameters * each.votes:,}"
            if each.votes == 1:
                row[2:] = [significant(score.learning_rate), shown(score.test)]
        if measured.by_bleu:
            row += [shown(quality.bleu), shown(quality.bleu_lowercase)]
            row += [each.lead and shown(each.lead)] if led else []
        row += [percent(quality.exact_by_group[group]) for group in groups] or [percent(quality.exact)]
        rows.append(row)
    best = [place for place, each in enumerate(measured.systems) if each is measured.headline]
    caption = (
        f"perplexity per token: {answers.over(measured.seeds, 'seed', comparison=len(measured.scores) > 1)}; "
        f"translations by a beam of {measured.beam}, ± 95% interval over test sentences; of each model the seed with "
        "the least validation loss, and the average of all seeds' probabilities; first rows: the baselines"
    )
    if best:
        caption = f"* the published model, least validation loss; {caption}"
    columns = ["system", "parameters", "rate", "perplexity"]
    columns += ["BLEU", "BLEU, lower case"] if measured.by_bleu else []
    columns += ["BLEU less the first model's"] if led else []
    columns += [f"exact, {group}" for group in groups] or ["exact match"]
    return Table(columns, rows, best, caption)


def sections(measured: Measurement) -> list[Section]:
    """Return alignments, learning curves, quality against length, translations and diverged lanes."""
    lost = [
        f"{each.model}: {each.nonfinite} of {answers.counted(each.lanes, 'lane')} went non-finite"
        for each in measured.scores
        if each.nonfinite
    ]
    aligned = [each for each in measured.examples if each.weights.any()]
    shown_alignments: list[str | Drawing | Alignment] = [
        "Point at a word of a translation, or tap it: the words of its source light up by their weights."
    ]
    for place, each in enumerate(aligned):
        source, target = (_visible(tokens, measured.tokens) for tokens in (each.source_tokens, each.target_tokens))
        shown_alignments.append(Alignment(source, target, each.weights.tolist(), f"reference: {each.reference}"))
        if place < 2:
            figure = draw.alignment(source, target, each.weights, title="What was read for each word")
            alt = f"Weights of the words of {legible(each.source)} for each word of {legible(each.translation)}"
            shown_alignments.append(Drawing(f"alignment_{place + 1}", figure, alt))
    rows = [[each.source, each.reference, each.translation] for each in measured.examples]
    table = Table(["source", "reference", "translation"], rows, caption="from the test part") if rows else None
    return [
        Section("What it reads", shown_alignments if aligned else []),
        Section("Translations", [table, Bullets(measured.during)]),
        Section("Quality and length", [against_length(measured)] if measured.scores else []),
        Section("Training", [learning_curves(measured)]),
        Section("Diverged lanes", [Bullets(lost)] if lost else []),
    ]


def _visible(tokens: Sequence[str], kind: str) -> list[str]:
    """Return tokens as a figure names them: a space as ␣, a subword that continues a word after ·."""
    if kind == "subwords":
        tokens = [
            each[1:] or each if each[0] == SPACE else f"·{each}" if each[0].isalnum() else each for each in tokens
        ]
    return [printable(each) if each.strip() else "␣" for each in tokens]


def against_length(measured: Measurement) -> Drawing | None:
    """Draw the quality of each model's chosen seed against the length of the source (the paper's figure 2)."""
    quantity = "BLEU" if measured.by_bleu else "exact matches (%)"
    series = [
        draw.Series.of_intervals(
            each.model, each.by_length.length, each.by_length.quality, limits=(0, 100), style=STYLES.get(each.model)
        )
        for each in measured.systems
        if each.votes == 1
    ]
    if not series:
        return None
    figure = draw.curves(
        series, title=f"{quantity} and the length of the source", x_label=f"length of the source ({measured.unit})",
        y_label=quantity, bands="Bands: 95% intervals over test sentences.", whole=True,
    )  # fmt: skip
    return Drawing("length", figure, f"{quantity} against the length of the source, a curve for each model")


def learning_curves(measured: Measurement) -> Drawing:
    """Draw the validation perplexity of each model."""
    series = [
        draw.Series.of_intervals(each.model, each.step, each.curve, limits=(1, math.inf), style=STYLES.get(each.model))
        for each in measured.scores
    ]
    figure = draw.curves(
        series, title="Validation perplexity", x_label="step", y_label="perplexity per token", log_y=True,
        integer_x=True, over=f"{measured.seeds} seeds",
    )  # fmt: skip
    return Drawing("perplexity", figure, "Perplexity per target token against the step, a curve for each model")


def facts(measured: Measurement, flags: Sequence[str]) -> dict[str, str | list[str]]:
    """Return how the models were trained and scored."""
    counts = ", ".join(
        f"{count:,} to {use}"
        for use, count in zip(("train", "choose", "report"), measured.counts.values(), strict=True)
    )
    left = [f"{count:,} of {part}" for part, count in measured.left_out.items() if count]
    skipped = f"{measured.skipped:,} pairs with an empty side are skipped" if measured.skipped else ""
    signature = next((each.quality.signature for each in measured.systems), "")
    return {
        "pairs": f"{legible(measured.dataset)}, {' to '.join(map(legible, measured.languages))}: {counts}",
        "left out": "; ".join([*filter(None, [skipped]), *([f"too long: {', '.join(left)}"] if left else [])]),
        "vocabulary": f"{measured.tokens}: {measured.vocabularies[0]:,} of the source, {measured.vocabularies[1]:,} of "
        "the target",
        "training": f"{answers.counted(measured.epochs, 'epoch')}; batches of similar length; each seed with the "
        "params of its least validation loss",
        "sacreBLEU": signature,
        "flags": [line for line in flags if line.isprintable()],
    }
