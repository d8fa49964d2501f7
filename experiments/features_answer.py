"""The measurement of a net's features, and its answer, caption and caveats."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from experiments import answers, frame, net_features, probes
from experiments.net_features import TRAINED, UNTRAINED
from experiments.probes import SETTINGS
from mllab import metrics
from mllab.report.table import fraction, share
from mllab.tasks import Baseline

ITSELF = "the net itself"


@dataclass(frozen=True)
class Measurement:
    """Test accuracy by representation, probe and fraction of the training rows."""

    dataset: frame.DatasetFacts
    net: net_features.Net
    split_seed: int
    seeds: list[int]
    fractions: list[probes.Fraction]
    baseline: Baseline  # on test rows
    settings: Mapping[str, probes.Setting]
    cells: list[probes.Cell]


def answer(measured: Measurement) -> str:
    """Return in a few sentences how far features lead pixels, with few training rows and with many."""
    few, many, pairs = measured.fractions[0], measured.fractions[-1], probes.by_pair(measured.cells)

    def leads(representation: str, form: str, unit: str = "") -> str:
        few_rows, many_rows = (
            [answers.difference(pairs[representation, probe][end].ahead, "draw", unit) for probe in SETTINGS]
            for end in (0, -1)
        )
        return form.format(*few_rows) + (f"; with {many.rows:,}, {' and '.join(many_rows)}" if many != few else "")

    constant = f"predicting {measured.baseline.name}"
    accuracy = measured.baseline.scores["accuracy"]
    below = [
        f"{probe}, {cell.representation}, {fraction(cell.fraction)}"
        for (_, probe), cells in pairs.items()
        for cell in cells
        if not metrics.is_clear(metrics.paired(np.array(cell.test_by_draw), accuracy))
    ]
    text = (
        f"On {measured.dataset.name} with {few.rows:,} training rows, the test accuracy with the net's features less "
        f"that with pixels is {leads(TRAINED, '{} by a linear probe and {} by nearest neighbours', ' points')}. An "
        f"untrained net's: {leads(UNTRAINED, '{} and {}')}. {constant.capitalize()}: {share(accuracy, 2)}."
    )
    text += f" Not clearly better than that: {'; '.join(below)}." if below else ""
    return f"{text} {_labels_used(measured)}" if measured.net.at_home else text


def _labels_used(measured: Measurement) -> str:
    few = measured.fractions[0].fraction
    text = "The net was trained on this data set, with the labels of all its training rows"
    return f"{text}: its features at {fraction(few)} rest on more labels than the probes'." if few < 1 else f"{text}."


def caption_of(measured: Measurement) -> str:
    """Return what the table of accuracies shows, and over what its intervals are."""
    draws, net = len(measured.seeds), measured.net
    of_rows = " of the training rows, one split"
    parts = ["test accuracy", answers.over(draws, "draw", of_rows, comparison=True), answers.LAST_ROW]
    if draws > 1 and measured.fractions[-1].fraction == 1:
        parts.append("all rows are a single draw: no interval, except for the untrained nets, one per draw")
    if net.accuracy is not None:
        parts.append(f"{ITSELF}, trained on {measured.dataset.rows['train']:,} rows: {net.accuracy:.2%}")
    return "; ".join(parts)


def caveats(measured: Measurement) -> list[str]:
    """Return how the accuracies are to be read."""
    net, validation, few = measured.net, measured.dataset.rows["validation"], measured.fractions[0]
    unlike = ": with few training rows, better than these alone would allow" if validation > few.rows else ""
    short = sum(cell.short for cell in measured.cells)
    origin = [f"The net was trained on {net.dataset or 'another data set'}: it has seen no label of this one."]
    if net.at_home:
        origin = [
            _labels_used(measured),
            "A data set without test rows of its own is split by --split_seed, here "
            f"{measured.split_seed}: a net that was trained with another has seen test rows.",
        ]
    return [
        *origin,
        "The untrained nets, one per seed, are the control: what the architecture contributes with initial params.",
        f"l2 and k were chosen on {validation:,} validation rows{unlike}.",
        "Test rows were scored once, with what was chosen.",
        "Columns are centred and divided by one standard deviation in common, those of the training rows drawn. A "
        "deviation per column would stretch pixels that have ink in few rows: nearest neighbours on pixels would lose "
        "several points, and features would look better than they are.",
        "Draws of one seed are nested: a smaller one is part of a larger one.",
        *([f"{short} of the chosen linear probes stopped short of the optimum."] if short else []),
    ]
