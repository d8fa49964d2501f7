"""The measurement of nearest neighbours, and its answer and tables."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments import answers, distance_demo, frame
from mllab.metrics import Interval
from mllab.report.table import Table, legible, percent, percent_bounds, ranged, share

LISTED = 12  # k in the table, about
CONSTANT = "predicting the most frequent class"


@dataclass(frozen=True)
class Score:
    """The accuracy of one k over folds."""

    k: int
    accuracy: Interval
    by_fold: list[float]


@dataclass(frozen=True)
class Measurement:
    """The accuracy of every k over folds, and of the chosen one on the test rows."""

    dataset: frame.DatasetFacts
    scarce: list[str]  # classes with fewer rows than folds
    k: list[Score]
    chosen: int  # of the tied, the one with the greatest mean held-out accuracy
    tied: list[int]  # k that are tied with the chosen one, by paired held-out accuracies; that one included
    held_out: Interval
    test: Interval
    baseline: tuple[str, Interval, Interval]  # the most frequent class, and its accuracy, held out and on test rows
    beats_baseline: bool  # whether the test accuracy is clearly above that
    loops: distance_demo.Demonstration | None
    images: Mapping[str, Mapping[str, Any]] = frame.unsaved()  # by kind, for `draw.neighbours`


def answer(measured: Measurement) -> str:
    """Return the chosen k, those tied with it, the accuracy, and what loops cost."""
    rows, test, ks = measured.dataset.rows, measured.test, [score.k for score in measured.k]
    others = [k for k in measured.tied if k != measured.chosen]
    tied = f" Tied with it, on the same folds: k = {answers.ranges(others)}." if others else ""
    of = f"the highest held-out accuracy of {ranged(ks)}" if len(ks) > 1 else "a held-out accuracy"
    gain = test.mean - measured.baseline[2].mean
    return (
        f"{answers.below_baseline(measured.beats_baseline, gain, CONSTANT)}{measured.dataset.name} with "
        f"k = {measured.chosen} has a test accuracy of {share(test.mean, 2)} on {rows['test']:,} rows (95% interval "
        f"{percent_bounds(test.low, test.high)}); {CONSTANT}: {share(measured.baseline[2].mean, 2)}. It has {of}, "
        f"{percent(measured.held_out)} on {rows['choosing']:,} training and validation rows.{tied}"
        f"{distance_demo.answer(measured.loops)}"
    )


def result_table(measured: Measurement, over: str) -> Table:
    """Return held-out and test accuracy of the chosen k and of the baseline; `over` are the folds in words."""
    frequent, held_out, baseline = measured.baseline
    result: list[tuple[str, int | None, Interval, Interval]] = [
        ("nearest neighbours", measured.chosen, measured.held_out, measured.test),
        (f"always '{legible(frequent)}', the most frequent", None, held_out, baseline),
    ]
    return Table(
        ["prediction", "k", "held-out accuracy", "test accuracy", "95% interval"],
        [
            [name, k, percent(folds), share(each.mean, 2), percent_bounds(each.low, each.high)]
            for name, k, folds, each in result
        ],
        best=0 if measured.beats_baseline else None,
        caption=f"held out: {_mean(over)}; test: {measured.dataset.rows['test']:,} rows, interval over the sampling of "
        f"rows{'; * clearly better than the baseline' * measured.beats_baseline}",
    )


def by_k(measured: Measurement, over: str) -> Table:
    """Return the held-out accuracy of some k, those tied with the chosen one marked."""
    ks = [score.k for score in measured.k]
    listed = sorted({*(np.geomspace(1, len(ks), LISTED).round().astype(int) - 1).tolist(), ks.index(measured.chosen)})
    marked = [row for row, place in enumerate(listed) if ks[place] in measured.tied]
    return Table(
        ["k", "held-out accuracy"],
        [[ks[place], percent(measured.k[place].accuracy)] for place in listed],
        marked if len(ks) > 1 else None,
        f"{_mean(over)}{'; * highest and those tied with it' * (len(ks) > 1)}; {len(listed)} of {len(ks)} k: all are "
        "in summary.json",
    )


def _mean(over: str) -> str:
    return f"mean over {over} ± corrected 95% interval"
