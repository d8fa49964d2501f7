"""The measurement of models of polyphonic music, and its answer, tables and drawings.

The two output models are never compared: each has its own table, curves and sample.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from experiments import answers, frame
from experiments.music_training import Trained
from mllab import metrics
from mllab.metrics import Interval, interval
from mllab.report import draw, style, wave
from mllab.report.report import Audio, Bullets, Drawing, Section
from mllab.report.style import DASHED, Style
from mllab.report.table import Table, fixed, fraction, legible, number, short, significant
from mllab.report.table import interval as shown

OUTPUTS = {"bernoulli": "independent keys", "autoregressive": "keys that depend on the lower ones"}
PUBLISHED = {  # test nats per frame with independent keys: Bai et al. 2018, arXiv:1803.01271, Table 1
    "jsb_chorales": "tanh RNN 8.91, LSTM 8.45, GRU 8.43, TCN 8.10 nats per frame with independent keys, none "
    "transposed in training (arXiv:1803.01271, Table 1; its code leaves first frames out, too)"
}


@dataclass(frozen=True)
class Scores:
    """One output model with one cell at its chosen learning rate, over seeds; losses in nats per frame."""

    output: str
    cell: str
    parameters: int
    learning_rate: float | None  # None if every rate has a lane that went non-finite
    nonfinite: int  # lanes
    lanes: int
    validation: Interval
    test: Interval
    test_with_first: Interval  # the first frame of each piece counted, too
    validation_by_seed: np.ndarray  # [G]
    test_by_seed: np.ndarray  # [G]
    step: np.ndarray = frame.unsaved()  # [E]
    curves: Mapping[str, np.ndarray] = frame.unsaved()  # nats, [E, 3] each: mean, low and high over seeds

    @classmethod
    def of(cls, trained: Trained, rates: Sequence[float]) -> "Scores":
        """Return the scores of a trained model."""
        history = trained.result.history
        validation, test, with_first = (
            trained.at_rate(each) for each in (trained.validation, trained.test["loss"], trained.test["with_first"])
        )
        return cls(
            output=trained.arguments["output"], cell=trained.arguments["cell"], parameters=trained.parameters,
            learning_rate=trained.rate(rates), nonfinite=trained.nonfinite, lanes=trained.validation.size,
            validation=interval(validation), test=interval(test), test_with_first=interval(with_first),
            validation_by_seed=validation, test_by_seed=test, step=trained.steps,
            curves={
                "validation": trained.band(history.held_out["loss"]), "training": trained.band(history.train_loss),
            },
        )  # fmt: skip


@dataclass(frozen=True)
class Sample:
    """What a published model plays after the beginning of a piece of the test part."""

    output: str
    temperature: float
    primed: int  # frames of the beginning
    file: str  # the MIDI file in the workdir
    lowest: int  # MIDI number of the first key
    roll: np.ndarray = frame.unsaved()  # [T, K], the beginning included
    original: np.ndarray = frame.unsaved()  # [T', K], the piece that begins so


@dataclass(frozen=True)
class Measurement:
    """Scores of all models, and what the best one of each output plays."""

    music: str
    pieces: Mapping[str, int]  # by part
    frames: Mapping[str, int]  # that are predicted from frames, by part
    voices: int  # the most keys that sound at once
    seeds: int
    epochs: int
    transposed: float  # share of the rows in a training step
    transpositions: tuple[int, int]  # the least and the greatest, semitones
    baselines: Mapping[str, Mapping[str, float]]  # nats on the test part, by output
    scores: list[Scores]
    samples: list[Sample]

    @property
    def outputs(self) -> list[str]:
        """The output models, in order."""
        return list(dict.fromkeys(each.output for each in self.scores))

    def of_output(self, output: str) -> list[Scores]:
        """Return the scores of an output model."""
        return [each for each in self.scores if each.output == output]

    def best(self, output: str) -> Scores | None:
        """Return the scores of the cell with the least mean validation loss; None if none has any."""
        finite = [each for each in self.of_output(output) if each.learning_rate is not None]
        return min(finite, key=lambda each: each.validation.mean, default=None)

    def standing(self, output: str) -> metrics.Ranking[str] | None:
        """Return the cells by validation loss, and those tied with the best over the same seeds."""
        finite = {each.cell: -each.validation_by_seed for each in self.of_output(output) if each.learning_rate}
        return metrics.ranking(finite) if finite else None


def answer(measured: Measurement) -> str:
    """Return the best cell's loss on the test part beside the baselines', a sentence for each output model."""
    return " ".join(_sentence(measured, output) for output in measured.outputs)


def _sentence(measured: Measurement, output: str) -> str:
    best = measured.best(output)
    if best is None:
        return f"With {OUTPUTS[output]} every learning rate has a seed that went non-finite: try smaller ones."
    simple, (name, nats) = measured.baselines[output].items()
    clear = metrics.is_clear(metrics.paired(np.full(measured.seeds, nats), best.test_by_seed))
    text = (
        f"With {OUTPUTS[output]}: {answers.below_baseline(clear, nats - best.test.mean, name)}{best.cell} predicts the "
        f"{measured.frames['test']:,} frames of the test part at {shown(best.test)} nats per frame "
        f"({answers.counted(measured.seeds, 'seed')}); {name}: {short(nats)}, {simple[0]}: {short(simple[1])}."
    )
    standing = measured.standing(output)
    if standing is not None and standing.is_compared and len(standing.tied) > 1:
        text += f" {answers.joined(standing.tied)} are tied on the validation part."
    return text


def result_table(measured: Measurement, output: str) -> Table:
    """Return one row per baseline of an output model, then one per cell."""
    transposed = ", transposed in training" if measured.transposed else ""
    rows: list[list[object]] = [
        [name, None, None, None, number(nats), None] for name, nats in measured.baselines[output].items()
    ]
    standing = measured.standing(output)
    marked = []
    for each in measured.of_output(output):
        if standing and each.cell in standing.marked:
            marked.append(len(rows))
        losses = map(shown, (each.validation, each.test, each.test_with_first))
        rows.append([each.cell + transposed, f"{each.parameters:,}", significant(each.learning_rate), *losses])
    caption = (
        f"{OUTPUTS[output]}; nats per frame, without the first frame of each piece but for the last column; "
        f"{answers.over(measured.seeds, 'seed', ', the split of the data', len(measured.of_output(output)) > 1)}; each "
        "seed with the params of its least validation loss; first row: the baseline, which knows no past"
    )
    if marked:
        caption = f"* least validation loss{' and those tied with it' * (len(marked) > 1)}; {caption}"
    columns = ["model", "parameters", "rate", "validation (nats)", "test (nats)", "test, first frames too"]
    return Table(columns, rows, marked, caption)


def sections(measured: Measurement, frame_seconds: float) -> list[Section]:
    """Return for each output model its table, learning curves and sample; then diverged lanes."""
    lost = [
        f"{each.output}, {each.cell}: {each.nonfinite} of {answers.counted(each.lanes, 'lane')} went non-finite"
        for each in measured.scores
        if each.nonfinite
    ]
    made = []
    for place, output in enumerate(measured.outputs):
        heading = OUTPUTS[output].capitalize()
        table = [result_table(measured, output)] if place else []  # the first one's is the result of the page
        made.append(Section(heading, [*table, learning_curves(measured, output)]))
        made += [
            Section(f"What it plays: {OUTPUTS[output]}", played(sample, frame_seconds))
            for sample in measured.samples
            if sample.output == output
        ]
    return [*made, Section("Diverged lanes", [Bullets(lost)] if lost else [])]


def learning_curves(measured: Measurement, output: str) -> Drawing:
    """Draw the validation loss of each cell with an output model; of a single cell its training loss, too."""
    scores = measured.of_output(output)
    series = [
        draw.Series.of_intervals(each.cell, each.step, each.curves["validation"], style=style.CELLS[each.cell])
        for each in scores
    ]
    if len(series) == 1:
        look = Style(style.BLACK, DASHED, "")
        series.append(draw.Series.of_intervals("training", scores[0].step, scores[0].curves["training"], style=look))
    best = measured.best(output)
    title = "Validation loss" + (f": {shown(best.validation)} nats per frame for {best.cell}" if best else "")
    figure = draw.curves(
        series, title=title, x_label="step", y_label="loss (nats per frame)", integer_x=True,
        over=f"{measured.seeds} seeds",
        note="Training loss, where it is drawn, is the mean over the steps since the last score, with dropout.",
    )  # fmt: skip
    alt = f"Loss in nats per frame against the step, {OUTPUTS[output]}, a curve for each cell"
    return Drawing(f"loss_{output}", figure, alt)


def played(sample: Sample, frame_seconds: float) -> list[str | Drawing | Audio]:
    """Return a sample as a sound, as a piano roll beside the piece that begins so, and where its MIDI file is."""
    length = len(sample.roll)
    how = f"Sampled at temperature {short(sample.temperature)}"
    if sample.primed:
        how += f" after the first {answers.counted(sample.primed, 'frame')} of a piece of the test part"
    rolls = [("Sampled", sample.roll)]
    if sample.primed:
        rolls.append(("The piece that begins so", sample.original[:length]))
    figure = draw.piano_roll(
        rolls, title=how, x_label="frame", given=sample.primed, lowest=sample.lowest,
        notes=["The dashed line ends the given beginning."] if sample.primed else [],
    )  # fmt: skip
    sound = wave.encode(wave.samples(sample.roll, frame_seconds=frame_seconds, lowest=sample.lowest))
    seconds = short(length * frame_seconds)
    return [
        Audio(sound, f"{how}: {seconds} s of music", f"{how}: {seconds} s, synthesised. As MIDI: {sample.file}."),
        Drawing(f"piano_roll_{sample.output}", figure, f"{how}: the keys that sound in each frame"),
    ]


def facts(measured: Measurement, flags: Sequence[str]) -> dict[str, str | list[str]]:
    """Return how the models were trained and scored."""
    pieces, frames = (
        ", ".join(f"{counts[part]:,} {use}" for part, use in zip(counts, ("train", "choose", "report"), strict=True))
        for counts in (measured.pieces, measured.frames)
    )
    low, high = measured.transpositions
    keys = "no piece is transposed"
    if measured.transposed:
        keys = (
            f"a step transposes {fraction(measured.transposed)} of its rows, drawn at random, by {fixed(low, 0)} to "
            f"+{high} semitones; no score does"
        )
    return {
        "music": f"{legible(measured.music)}: pieces: {pieces}; at most {measured.voices} keys at once",
        "scores": f"frames: {frames}; all but the first of each piece, each given all before it; the mean over frames "
        "of the sum over 88 keys",
        "training": f"{answers.counted(measured.epochs, 'epoch')}; {keys}",
        "published": PUBLISHED.get(measured.music, ""),
        "flags": [line for line in flags if line.isprintable()],
    }
