"""The measurement of kernels, and its answer and table."""

from dataclasses import dataclass

import numpy as np

from experiments import answers, frame, kernel_tuning
from experiments.kernel_tuning import NAMES, Tuned
from mllab.metrics import Lead, Ranking
from mllab.report import draw
from mllab.report.class_tables import ClassRow
from mllab.report.table import Table, interval, percent, percent_bounds, share, short
from mllab.tasks import Baseline


@dataclass(frozen=True)
class Measurement:
    """All kernels, and the one of the best held-out accuracy."""

    dataset: frame.DatasetFacts
    scale: float  # gamma is in multiples of this
    c: tuple[float, ...]
    gamma: list[float]
    kernels: list[Tuned]
    winner: str  # of the tied, the one with the greatest mean held-out accuracy
    tied: list[str]  # with the winner, by paired held-out accuracies; the winner included
    baseline: Baseline  # on test rows
    beats_baseline: bool  # whether the winner's test accuracy is clearly above the baseline's
    ahead: Lead | None  # of the winner over the next, on held-out rows
    per_class: list[ClassRow]  # of the winner, for more than two classes
    confusion: np.ndarray = frame.unsaved()
    plane: tuple[draw.Mesh, list[draw.Plane]] | None = frame.unsaved()  # for two columns
    standing: Ranking[str] = frame.unsaved()

    @property
    def won(self) -> Tuned:
        """The winner."""
        return next(entry for entry in self.kernels if entry.kernel == self.winner)


def answer(measured: Measurement, over: str) -> str:
    """Return which kernel is best or which are tied, and its accuracy; `over` are the folds in words."""
    won, rows, baseline = measured.won, measured.dataset.rows["test"], measured.baseline
    constant = f"predicting {baseline.name}"
    text = answers.below_baseline(measured.beats_baseline, won.test - baseline.scores["accuracy"], constant)
    if len(measured.tied) > 1:
        text += answers.tie([NAMES[name] for name in measured.tied], NAMES[won.kernel], "held-out accuracy", "folds")
        text += " "
    text += (
        f"The {NAMES[won.kernel]} kernel with {won.setting()}: test accuracy {share(won.test, 2)} on {rows:,} "
        f"rows of {measured.dataset.name} (95% interval {percent_bounds(*won.test_interval)}); {constant}: "
        f"{share(baseline.scores['accuracy'], 2)}. Held-out accuracy {percent(won.held_out)} (95% interval over "
        f"{over})."
    )
    if lead := measured.ahead:
        by = f"{interval(lead.by)} {lead.unit}"
        text += f" On the same folds it is {lead.verdict} {NAMES[lead.of]}, the next: {by}."
    return f"{text} {kernel_tuning.duality_gaps(measured.kernels)}"


def result_table(measured: Measurement, over: str) -> Table:
    """Return one row per kernel, and the baseline: chosen setting, accuracies, support vectors, and duality gap."""
    rows, baseline = measured.dataset.rows, measured.baseline
    cells: list[list[object]] = [
        [
            *(NAMES[entry.kernel], short(entry.c), entry.gamma and short(entry.gamma), percent(entry.held_out)),
            *(share(entry.test, 2), percent_bounds(*entry.test_interval)),
            f"{entry.support_vectors:,} ({entry.support_vectors / rows['choosing']:.0%})",
            short(entry.gap, 2),
        ]
        for entry in measured.kernels
    ]
    accuracy = share(baseline.scores["accuracy"], 2)
    cells.append([answers.constant_row(baseline), None, None, None, accuracy, None, None, None])
    caption = [
        answers.marks(measured.standing, "held-out accuracy", "fold"),
        f"± corrected 95% interval over {over} of {rows['choosing']:,} rows",
        f"test: {rows['test']:,} rows, interval over the sampling of rows",
        "gap: the largest duality gap, primal less dual, as a share of the primal",
        answers.LAST_ROW,
    ]
    return Table(
        ["kernel", "C", "gamma", "held-out accuracy", "test accuracy", "95% interval", "support vectors", "gap"],
        cells,
        [place for place, entry in enumerate(measured.kernels) if entry.kernel in measured.standing.marked],
        "; ".join(filter(None, caption)),
    )
