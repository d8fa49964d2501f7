"""Probes of a representation: classifiers fitted to some training rows, tuned on validation rows, tested once."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from experiments import answers
from mllab import learners, selection, validation
from mllab.data.dataset import Dataset
from mllab.data.split import sample
from mllab.metrics import Interval, interval, paired
from mllab.models import linear, softmax
from mllab.report import style
from mllab.report.table import Table, fraction, listed, percent, share
from mllab.rows import gather
from mllab.tasks import Baseline
from mllab.types import Examples, Hyper, Inputs, Key, Outputs, Rows
from mllab.validation import Learner

LINEAR, NEIGHBORS = "linear probe", "nearest neighbours"
SHAPES = {LINEAR: (style.SOLID, "s"), NEIGHBORS: (style.DOTTED, "h")}  # dash and marker
TOLERANCE = 1e-4  # of the linear probe's optimum; see `softmax.fit`


@dataclass(frozen=True)
class Setting:
    """The setting of a probe that is chosen on validation rows."""

    name: str
    grid: tuple[float, ...]


SETTINGS: Mapping[str, Setting] = {
    LINEAR: Setting("l2", (1.0, 10.0, 100.0, 1000.0)),  # penalty on the sum of the losses
    NEIGHBORS: Setting("k", (1, 3, 5, 10, 20)),
}


@dataclass(frozen=True)
class Outcome:
    """A probe fitted to one draw of training rows."""

    validation: Mapping[float, float]  # accuracy by setting
    chosen: float  # the setting with the best validation accuracy, in a tie the first
    test: float  # accuracy with the chosen setting
    converged: bool  # whether its fit is at the optimum

    def records(self, setting: str) -> Iterator[dict[str, float]]:
        """Yield one record for each value of the setting, for metrics.jsonl."""
        for value, accuracy in self.validation.items():
            test = {"test_accuracy": self.test} if value == self.chosen else {}
            yield {setting: value, "validation_accuracy": accuracy, **test}


@dataclass(frozen=True)
class Fraction:
    """A fraction of the training rows, and their number."""

    fraction: float
    rows: int

    def __str__(self) -> str:
        """Return the number, then the fraction."""
        return f"{self.rows:,} rows ({fraction(self.fraction)})"


@dataclass(frozen=True)
class Cell:
    """A probe of a representation, over draws of a fraction of the training rows."""

    representation: str
    probe: str
    fraction: float
    test: Interval
    test_by_draw: list[float]
    ahead: Interval  # test accuracy less that of the baseline representation, paired by draw, in points
    chosen: list[float]  # the setting of each draw
    short: int  # fits that stopped short of the optimum

    @classmethod
    def of(
        cls, representation: str, probe: str, share: float, outcomes: Sequence[Outcome], baseline: Sequence[Outcome]
    ) -> "Cell":
        """Return the cell of some outcomes; a baseline of one draw, which is of all rows, is paired with every draw."""
        test, other = (np.array([one.test for one in each]) for each in (outcomes, baseline))
        chosen, short = [one.chosen for one in outcomes], sum(not one.converged for one in outcomes)
        ahead = interval(100 * paired(test, other))
        return cls(representation, probe, share, interval(test), test.tolist(), ahead, chosen, short)


def draw(data: Dataset, fraction: float, seed: int) -> np.ndarray:
    """Return the ids of a fraction of the training rows, stratified by class, each class with at least one row.

    The draws of a seed are nested: that of a smaller fraction is part of that of a larger one.
    """
    return sample(data.split.train, data.targets, fraction, seed)


def standardise(inputs: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Return inputs [N, D] with each column centred and all divided by one standard deviation, of the training rows.

    Columns share a unit. With a deviation for each, a pixel with ink in few training rows would outweigh all others.
    """
    mean = inputs[train].mean(axis=0, dtype=np.float64).astype(np.float32)
    deviation = np.sqrt(np.mean((inputs[train] - mean) ** 2, dtype=np.float64)).astype(np.float32) or np.float32(1)
    return (inputs - mean) / deviation


def tune(probe: str, inputs: np.ndarray, data: Dataset, train: np.ndarray) -> Outcome:
    """Fit a probe to training rows, choose its setting on validation rows, and score that on test rows.

    Args:
        probe: LINEAR or NEIGHBORS.
        inputs: of all rows of the data set, [N, D].
        data: the data set.
        train: ids of the training rows, [M].
    """
    setting, split, key = SETTINGS[probe], data.split, jax.random.key(0)  # no probe is random
    grid = [value for value in setting.grid if probe != NEIGHBORS or value <= len(train)]
    learner = _learner(probe, len(data.classes), int(grid[-1]))
    examples = {"inputs": standardise(inputs, train), "targets": data.targets}
    folds = validation.holdout(train, split.validation)
    choice = selection.choose(learner, {setting.name: grid}, key, examples, folds, validation.accuracy)
    fit = learner.fit(choice.setting, key, examples, Rows(train, np.ones(len(train), np.float32)))
    outputs = np.asarray(learner.predict(fit, examples["inputs"][split.test]))
    return Outcome(
        validation=dict(zip(grid, choice.means.tolist(), strict=True)),
        chosen=choice.setting[setting.name],
        test=float(np.mean(outputs.argmax(axis=1) == data.targets[split.test])),
        converged=not isinstance(fit, softmax.Fit) or bool(fit.gradient <= TOLERANCE),
    )


@functools.cache  # one learner, so that its programs are compiled once
def _learner(probe: str, classes: int, most: int) -> Learner:
    return learners.nearest_neighbors(classes, most) if probe == NEIGHBORS else softmax_regression(classes)


def softmax_regression(classes: int) -> Learner:
    """Return softmax regression at its optimum; it reads `l2`, and its fit is a `softmax.Fit`.

    Its settings are fitted one by one: mapped over, as by `learners.softmax_regression`, they take twice as long.
    """

    def fit(hyper: Hyper, key: Key, examples: Examples, rows: Rows) -> softmax.Fit:
        del key
        inputs, targets = (gather(examples[name], rows.ids) for name in ("inputs", "targets"))
        return softmax.fit(inputs, targets, classes, l2=hyper["l2"], tolerance=TOLERANCE)

    def predict(params: softmax.Fit, inputs: Inputs) -> Outputs:
        return jax.nn.log_softmax(linear.apply(params.params, inputs))

    return Learner(fit, predict, validation.one_by_one(fit, predict))


def accuracy_table(cells: Sequence[Cell], fractions: Sequence[Fraction], baseline: Baseline, caption: str) -> Table:
    """Return a row for each representation and probe, and the baseline: test accuracy by number of training rows."""
    rows: list[list[object]] = [
        [*pair, *(percent(cell.test) for cell in each)] for pair, each in by_pair(cells).items()
    ]
    accuracy = share(baseline.scores["accuracy"], 2)
    rows.append([answers.constant_row(baseline), None, *[accuracy] * len(fractions)])
    return Table(["representation", "fitted to it", *map(str, fractions)], rows, caption=caption)


def setting_table(cells: Sequence[Cell], fractions: Sequence[Fraction]) -> Table:
    """Return a row for each representation and probe: the chosen settings, of each draw where they differ."""
    rows = [
        [
            representation,
            SETTINGS[probe].name,
            *(listed(cell.chosen[:1] if len(set(cell.chosen)) == 1 else cell.chosen, "g") for cell in each),
        ]
        for (representation, probe), each in by_pair(cells).items()
    ]
    grids = "; ".join(f"{setting.name} of {listed(setting.grid, 'g')}" for setting in SETTINGS.values())
    caption = f"chosen on validation rows, {grids}; k is at most the number of rows; draw by draw where they differ"
    return Table(["representation", "setting", *map(str, fractions)], rows, caption=caption)


def accuracy_figure(
    cells: Sequence[Cell],
    fractions: Sequence[Fraction],
    colours: Mapping[str, str],
    *,
    title: str,
    level: tuple[str, float | None] = ("", None),
) -> Any:
    """Draw test accuracy against the number of training rows, a curve for each representation and probe.

    Args:
        cells: the accuracies.
        fractions: of the training rows.
        colours: of the representations.
        title: the message.
        level: a name and an accuracy to compare with, drawn as a horizontal line if there is one.
    """
    from mllab.report import draw  # brings matplotlib

    x, pairs = np.array([each.rows for each in fractions], float), by_pair(cells)
    lines = [
        draw.Series.of_intervals(
            f"{representation.removesuffix(' net')}, {'kNN' if probe == NEIGHBORS else 'linear'}",
            x,
            [cell.test for cell in each],
            scale=100,
            limits=(0, 100),
            style=style.Style(colours[representation], *SHAPES[probe]),
        )
        for (representation, probe), each in pairs.items()
    ]
    name, accuracy = level
    if accuracy is not None:
        lines.append(
            draw.Series(name, x, np.full(len(x), 100 * accuracy), style=style.Style(style.BLACK, style.DASH_DOT, ""))
        )
    draws = max(len(cell.test_by_draw) for cell in cells)
    return draw.curves(
        lines,
        title=title,
        x_label="training rows, log scale",
        y_label="test accuracy (%)",
        log_x=True,
        over=f"{draws} draws",
    )


def by_pair(cells: Sequence[Cell]) -> dict[tuple[str, str], list[Cell]]:
    """Return the cells of each representation and probe, by ascending fraction."""
    pairs: dict[tuple[str, str], list[Cell]] = {}
    for cell in sorted(cells, key=lambda cell: cell.fraction):
        pairs.setdefault((cell.representation, cell.probe), []).append(cell)
    return pairs
