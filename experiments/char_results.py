"""The measurement of character-level language models, and its answer, table and drawings."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from experiments import answers, frame
from experiments.char_cells import Tracker
from experiments.char_training import Trained
from mllab import metrics
from mllab.metrics import Interval, interval
from mllab.report import draw, style
from mllab.report.report import Bullets, Drawing, Section
from mllab.report.style import DASHED, Style
from mllab.report.table import Table, legible, number, printable, short, significant
from mllab.report.table import interval as shown

HIGHEST = 8.0  # bits of the darkest colour
TRACKERS = 3  # units by which a text is coloured


@dataclass(frozen=True)
class CellScores:
    """One cell at its chosen learning rate, over seeds; losses in nats or bits per character."""

    cell: str
    parameters: int
    learning_rate: float | None  # None if every rate has a lane that went non-finite
    nonfinite: int  # lanes
    lanes: int
    validation: Interval
    test: Interval
    test_bits: Interval
    validation_by_seed: np.ndarray  # [G]
    test_by_seed: np.ndarray  # [G]
    step: np.ndarray = frame.unsaved()  # [E]
    curves: Mapping[str, np.ndarray] = frame.unsaved()  # bits, [E, 3] each: mean, low and high over seeds

    @classmethod
    def of(cls, trained: Trained, rates: Sequence[float]) -> "CellScores":
        """Return the scores of a trained cell."""
        validation, test = (trained.at_rate(each) for each in (trained.validation, trained.test))
        curves = {"validation": trained.result.history.held_out["loss"], "training": trained.result.history.train_loss}
        return cls(
            cell=trained.cell, parameters=trained.parameters, learning_rate=trained.rate(rates),
            nonfinite=trained.nonfinite, lanes=trained.validation.size,
            validation=interval(validation), test=interval(test), test_bits=interval(test / math.log(2)),
            validation_by_seed=validation, test_by_seed=test, step=trained.steps,
            curves={name: trained.band(each, lambda row: row / math.log(2)) for name, each in curves.items()},
        )  # fmt: skip


@dataclass(frozen=True)
class Sample:
    """What a model wrote during its training."""

    step: int
    bits: float  # validation loss per character
    text: str


@dataclass(frozen=True)
class Writing:
    """What the best model writes, and how it reads the test part."""

    prime: str
    temperature: float
    written: str
    greedy: str
    read: str = frame.unsaved()  # N characters from the beginning of the test part
    bits: np.ndarray = frame.unsaved()  # [N] surprise of each
    trackers: list[Tracker] = frame.unsaved()
    samples: list[Sample] = frame.unsaved()

    def remarks(self) -> list[str]:
        """Return the written text in lines for the terminal."""
        lines = [printable(line) for line in (self.prime + self.written).split("\n") if line.strip()]
        return [f"written at temperature {short(self.temperature)}:", *lines[:7]]


@dataclass(frozen=True)
class Measurement:
    """Scores of all cells, and what the best one writes."""

    text: str
    characters: int
    vocabulary: int
    parts: Mapping[str, int]  # characters predicted in each
    seeds: int
    steps: int
    passes: float  # over the training part
    baselines: Mapping[str, float]  # nats on the test part
    cells: list[CellScores]
    best: str | None  # the cell with the least mean validation loss
    writing: Writing | None = None

    @property
    def winner(self) -> CellScores | None:
        """The scores of the best cell."""
        return next((each for each in self.cells if each.cell == self.best), None)

    @property
    def standing(self) -> metrics.Ranking[str] | None:
        """The cells by validation loss, and those tied with the best over the same seeds."""
        scores = {each.cell: -each.validation_by_seed for each in self.cells if each.learning_rate is not None}
        return metrics.ranking(scores) if scores else None


def answer(measured: Measurement) -> str:
    """Return the best cell's loss on the test part beside the baselines'."""
    best = measured.winner
    if best is None:
        return "Every learning rate has a seed that went non-finite, so nothing is published: try smaller ones."
    (_, single), (pairs_name, pairs) = measured.baselines.items()
    gain = pairs - best.test.mean
    clear = metrics.is_clear(metrics.paired(np.full(measured.seeds, pairs), best.test_by_seed))
    text = (
        f"{answers.below_baseline(clear, gain, pairs_name)}{best.cell} predicts the {measured.parts['test']:,} "
        f"characters of the test part at {shown(best.test)} nats, {shown(best.test_bits)} bits, per character "
        f"({answers.counted(measured.seeds, 'seed')}); {pairs_name}: {short(pairs)} nats, of single characters: "
        f"{short(single)} nats."
    )
    standing = measured.standing
    if standing is not None and standing.is_compared and len(standing.tied) > 1:
        text += f" {answers.joined(standing.tied)} are tied on the validation part."
    return text


def result_table(measured: Measurement) -> Table:
    """Return one row per baseline, then one per cell."""
    rows: list[list[object]] = [
        [name, None, None, None, number(nats), number(nats / math.log(2))] for name, nats in measured.baselines.items()
    ]
    for each in measured.cells:
        rate = significant(each.learning_rate)
        rows.append(
            [each.cell, f"{each.parameters:,}", rate, *map(shown, (each.validation, each.test, each.test_bits))]
        )
    standing = measured.standing
    marked = standing.marked if standing else []
    caption = (
        f"{answers.over(measured.seeds, 'seed', ', one split by position', len(measured.cells) > 1)}; each seed with "
        "the params of its least validation loss; first row: the baseline, which knows no context"
    )
    if marked:
        caption = f"* least validation loss{' and those tied with it' * (len(marked) > 1)}; {caption}"
    columns = ["model", "parameters", "rate", "validation (nats)", "test (nats)", "test (bits)"]
    return Table(columns, rows, [place for place, row in enumerate(rows) if row[0] in marked], caption)


def sections(measured: Measurement) -> list[Section]:
    """Return learning curves, written texts, the coloured test part, and diverged lanes."""
    lost = [
        f"{each.cell}: {each.nonfinite} of {answers.counted(each.lanes, 'lane')} went non-finite"
        for each in measured.cells
        if each.nonfinite
    ]
    return [
        Section("Training", [learning_curves(measured)]),
        *(written(measured.writing) if measured.writing else ()),
        Section("Diverged lanes", [Bullets(lost)] if lost else []),
    ]


def learning_curves(measured: Measurement) -> Drawing:
    """Draw the validation loss of each cell; of a single cell its training loss, too."""
    series = [
        draw.Series.of_intervals(each.cell, each.step, each.curves["validation"], style=style.CELLS[each.cell])
        for each in measured.cells
    ]
    if len(series) == 1:
        only = measured.cells[0]
        look = Style(style.BLACK, DASHED, "")
        series.append(draw.Series.of_intervals("training", only.step, only.curves["training"], style=look))
    best = measured.winner
    title = "Validation loss"
    if best is not None:
        title = f"Validation loss: {shown(interval(best.validation_by_seed / math.log(2)))} bits for {best.cell}"
    figure = draw.curves(
        series, title=title, x_label="step", y_label="loss (bits per character)", integer_x=True,
        over=f"{measured.seeds} seeds",
        note="Training loss, where it is drawn, is the mean over the steps since the last score, with dropout.",
    )  # fmt: skip
    return Drawing("loss", figure, "Loss in bits per character against the step, a curve for each cell")


def written(writing: Writing) -> list[Section]:
    """Return the texts that the best model writes, and the test part coloured by surprise."""
    texts = [
        ("written", f"Written at temperature {short(writing.temperature)}", writing.written),
        ("greedy", "Written greedily: always the most probable character", writing.greedy),
    ]
    drawings: list[Drawing] = []
    for name, title, text in texts:
        whole = writing.prime + text
        values = np.where(np.arange(len(whole)) < len(writing.prime), 1.0, 0.0)
        figure = draw.coloured_text(whole, values, title=title, label="", high=HIGHEST, notes=["Coloured: the prime."])
        drawings.append(Drawing(name, figure, f"{title}, after the prime {legible(writing.prime)}"))
    surprise = draw.coloured_text(
        writing.read, writing.bits, title=f"The test part begins with {short(float(writing.bits.mean()))} bits a "
        "character", label="surprise of each character (bits)", high=HIGHEST,
        notes=[f"Darkest: {HIGHEST:g} bits or more. The model begins here without what stands before."],
    )  # fmt: skip
    alt = "The first characters of the test part, each coloured by its surprise"
    return [
        Section("What it writes", [during_training(writing), *drawings]),
        Section("What surprises it", [Drawing("surprise", surprise, alt)]),
        Section("What its units track", tracked(writing.trackers)),
    ]


def during_training(writing: Writing) -> Bullets:
    """Return what the model wrote during its training, a line a sample."""
    return Bullets(
        [
            f"step {each.step:,}, {short(each.bits)} bits: {' '.join(printable(each.text).split())}"
            for each in writing.samples
        ]
    )


def tracked(trackers: Sequence[Tracker]) -> list[Table | Drawing | str]:
    """Return a table of the units that track properties of the text, and texts coloured by the best ones."""
    if not trackers:
        return [
            "None is shown: the text varies in no such property, or the best model is a Transformer, whose units "
            "hold no state from character to character."
        ]
    rows = [
        [each.property, each.layer, each.unit, number(each.correlation), number(each.all_units)] for each in trackers
    ]
    caption = (
        "the unit whose activation correlates most with each property over half of the characters read; correlations "
        "over the other half, of that unit and of a linear probe of all units"
    )
    columns = ["property", "layer", "unit", "correlation", "all units"]
    drawings = []
    for place, each in enumerate(trackers[:TRACKERS]):
        title = f"Unit {each.unit} of layer {each.layer}, correlation {short(each.correlation, 2)}: {each.property}"
        figure = draw.coloured_text(
            each.text, each.values, title=title, low=-1.0, high=1.0,
            label="activation, with the sign of its correlation",
        )  # fmt: skip
        drawings.append(Drawing(f"unit_{place + 1}", figure, f"A text coloured by a unit that tracks: {each.property}"))
    return [Table(columns, rows, caption=caption), *drawings]


def facts(measured: Measurement, batch_size: int, window: int, flags: Sequence[str]) -> dict[str, str | list[str]]:
    """Return how the models were trained."""
    parts = ", ".join(
        f"{count:,} to {use}" for use, count in zip(("train", "choose", "report"), measured.parts.values(), strict=True)
    )
    return {
        "text": f"{legible(measured.text)}: {measured.characters:,} characters, {measured.vocabulary} distinct",
        "characters": f"{parts}, split by position",
        "training": f"{answers.counted(measured.steps, 'step')} of {batch_size} × {window} characters, "
        f"{short(measured.passes)} passes; carries of recurrent cells flow from window to window, gradients do not",
        "scores": f"the parts are read in {batch_size} stretches side by side, each from an empty carry; a Transformer "
        "reads each window alone, its first characters with little before them",
        "flags": [line for line in flags if line.isprintable()],
    }
