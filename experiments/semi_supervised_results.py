"""What unlabelled rows add to few labels: results by number of labels, their tables and drawings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import jax.numpy as jnp
import numpy as np

from experiments import answers
from experiments.frame import DatasetFacts, unsaved
from mllab.metrics import Interval, interval, is_clear, paired
from mllab.models import mixture, pca
from mllab.report import draw
from mllab.report.report import Drawing
from mllab.report.style import BLACK, DASH_DOT, Style, class_style
from mllab.report.table import Table, listed, percent, points, share
from mllab.semi_supervised import Choice
from mllab.tasks import Baseline

METHODS = ("labelled only", "labelled and unlabelled")


@dataclass(frozen=True)
class Count:
    """Both methods with one number of labels."""

    labels: int
    alone: Choice
    both: Choice
    gain: Interval  # test accuracy of both less that of alone, draw by draw, in points
    beats_baseline: bool  # whether that of both is clearly above the baseline's

    @classmethod
    def of(cls, labels: int, alone: Choice, both: Choice, baseline: Baseline) -> Self:
        """Return both methods with their gain."""
        gain = interval(100 * paired(both.test_by_draw, alone.test_by_draw))
        beats = is_clear(paired(both.test_by_draw, baseline.scores["accuracy"]))
        return cls(labels, alone, both, gain, beats)

    @property
    def effect(self) -> str:
        """What unlabelled rows do to the accuracy, as far as the interval tells; one draw tells nothing."""
        if self.gain.seeds < 2:
            return "1 draw: no comparison"
        return {1: "help", -1: "hurt", 0: "unclear"}[self.gain.sign]


@dataclass(frozen=True)
class Supervised(mixture.Setting):
    """The mixture fitted to all training rows with their labels (components per class)."""

    labels: int
    test: float


@dataclass(frozen=True)
class Climb:
    """EM on all rows, with some number of labels, in the first draw."""

    labels: int
    history: list[float]  # mean log-likelihood of a row after each step

    @classmethod
    def of(cls, labels: int, fit: mixture.Fit) -> Self:
        """Return the steps that a fit took."""
        return cls(labels, fit.history[: int(fit.steps)].tolist())


@dataclass(frozen=True)
class Draw:
    """The draw of labels that is shown in the plane."""

    labels: int
    seed: int
    points: np.ndarray = unsaved()  # training rows, [N, D]
    targets: np.ndarray = unsaved()  # class of each, -1 for none, [N]
    alone: mixture.Mixture = unsaved()  # fitted to the labelled rows
    both: mixture.Mixture = unsaved()  # fitted to all rows


def findings(
    counts: Sequence[Count], baseline: Baseline, data: DatasetFacts, fits: Mapping[str, int], conclusion: str
) -> tuple[str, list[str]]:
    """Return the answer, and how it is to be read."""
    rows, few, many = data.rows, counts[0], counts[-1]
    below = [count.labels for count in counts if not count.beats_baseline]
    constant, draws = f"predicting {baseline.name}", f" ({answers.counted(few.gain.seeds, 'draw')})"
    gain = max(count.both.test.mean for count in counts) - baseline.scores["accuracy"]
    answer = (
        f"{answers.below_baseline(len(below) < len(counts), gain, constant)}with {few.labels:,} labels the test "
        f"accuracy on {data.name} is {percent(few.alone.test)} from the labelled rows alone, and "
        f"{percent(few.both.test)} with {rows['train'] - few.labels:,} unlabelled rows as well: "
        f"{points(few.gain)} points{draws}; {constant}: {share(baseline.scores['accuracy'], 2)}."
    )
    answer = answer[0].upper() + answer[1:]
    if many is not few:
        answer += f" With {many.labels:,} labels: {points(many.gain)} points."
    caveats = [
        f"Labelled rows are drawn stratified by class, at least one for each of the {len(data.classes)} classes; with "
        "one seed, fewer labelled rows are part of more.",
        f"Settings are chosen for each number of labels and each method by the accuracy on {rows['validation']:,} "
        f"labelled validation rows{', more than a user would have' * (rows['validation'] > few.labels)}, and within "
        "one standard error by BIC.",
        f"The test rows were scored once, with the chosen settings. {conclusion}",
    ]
    if 0 < len(below) < len(counts):
        answer += f" With {listed(below)} labels and unlabelled rows it is not clearly better than {constant}."
    if hurt := [count for count in counts if count.effect == "hurt"]:
        worst = min(hurt, key=lambda count: count.gain.mean)
        harm = f"Unlabelled rows reduce the accuracy with {listed(count.labels for count in hurt)} labels"
        answer += f" {harm}: {'at worst ' * (len(hurt) > 1)}{points(worst.gain)} points."
        caveats.append(
            f"{harm}, yet increase the likelihood: a mixture may describe rows better and classify them worse."
        )
    if unclear := [count.labels for count in counts if count.effect == "unclear"]:
        caveats.append(f"With {listed(unclear)} labels the interval of the gain contains 0.")
    if fits["short"]:
        caveats.append(f"{fits['short']:,} of {fits['all']:,} fits ended before EM had converged.")
    return answer, caveats


def gain_table(counts: Sequence[Count], every: Supervised, baseline: Baseline, draws: int) -> Table:
    """Return a row for each number of labels: the accuracy of both methods, and the gain."""
    over = answers.over(draws, "draw", " of the labels, one split", comparison=True)
    rows = [
        [
            *(f"{n.labels:,}", percent(n.alone.test), percent(n.both.test), points(n.gain)),
            n.effect + ", not clearly better than the baseline" * (not n.beats_baseline),
        ]
        for n in counts
    ]
    caption = (
        f"test accuracy; {over}; gain: draw by draw; baseline: predicting {baseline.name}, "
        f"{share(baseline.scores['accuracy'], 2)}; all rows labelled: {every.test:.2%} ({every.covariance})"
    )
    return Table(["labels in all", *METHODS, "gain (points)", "unlabelled rows"], rows, caption=caption)


def choice_table(counts: Sequence[Count], options: str) -> Table:
    """Return a row for each number of labels: the setting chosen for both methods, and its validation accuracy."""
    rows = []
    for n in counts:
        cells = [[one.covariance, str(one.components), share(one.validation)] for one in (n.alone, n.both)]
        rows.append([f"{n.labels:,}", *cells[0], *cells[1]])
    columns = [column for method in METHODS for column in (method, "per class", "accuracy")]
    caption = f"of {options}: the least BIC within one standard error of the best accuracy on validation rows"
    return Table(["labels in all", *columns], rows, caption=caption)


def accuracy_by_labels(counts: Sequence[Count], every: Supervised, draws: int) -> Drawing:
    """Draw the test accuracy of both methods against the number of labels, and that of all labels."""
    labels, few, series = np.array([n.labels for n in counts], float), counts[0], []
    for i, intervals in enumerate(([n.alone.test for n in counts], [n.both.test for n in counts])):
        style, limits = class_style(i), (0, 100)
        series.append(draw.Series.of_intervals(METHODS[i], labels, intervals, scale=100, limits=limits, style=style))
    level = np.full(len(labels), 100 * every.test)
    series.append(draw.Series("all rows labelled", labels, level, style=Style(BLACK, DASH_DOT, "")))
    figure = draw.curves(
        series, log_x=True, x_label="labelled rows in all, log scale", y_label="test accuracy (%)",
        title=f"With {few.labels:,} labels, unlabelled rows change the accuracy by {points(few.gain)} points",
        over=f"{draws} draws of the labels",
    )  # fmt: skip
    caption = "All rows labelled: one fit, in which EM has nothing to estimate."
    return Drawing("accuracy_by_labels", figure, "Test accuracy against the number of labels", caption)


def likelihood_by_step(climbs: Sequence[Climb]) -> Drawing:
    """Draw the likelihood against the step of EM, a line for each number of labels."""
    series = []
    for i, n in enumerate(climbs):
        steps = np.arange(1.0, len(n.history) + 1)
        series.append(draw.Series(f"{n.labels:,} labels", steps, np.array(n.history), style=class_style(i)))
    figure = draw.curves(
        series, x_label="step of EM", y_label="mean log-likelihood of a row (nats)", integer_x=True, markers=False,
        title="EM never decreases the likelihood", note="Fitted to all rows, the chosen setting, draw 0.",
    )  # fmt: skip
    caption = (
        "The more labels, the fewer responsibilities EM estimates; a labelled row's likelihood is that of its class."
    )
    return Drawing("likelihood_by_step", figure, "Mean log-likelihood after each step of EM", caption)


def kept_columns(columns: pca.Reduction) -> str:
    """Return the number of columns, and of the principal components that replaced them."""
    if columns.kept == columns.given:
        return f"{columns.given:,}"
    share = f"{columns.variance:.0%} of the variance"
    return f"the first {columns.kept} principal components of {columns.given:,}, {share}"


def in_the_plane(shown: Draw, counts: Sequence[Count], data: DatasetFacts) -> Drawing:
    """Draw labelled rows, all rows, and the mixtures fitted to each; more than two columns in their principal plane."""
    width, classes = shown.points.shape[1], len(data.classes)
    plane = np.eye(width, 2) if width <= 2 else pca.fit(shown.points, 2).axes
    count = next(count for count in counts if count.labels == shown.labels)
    mesh, drawn = draw.mesh(shown.points @ plane), []
    for name, choice, params in (("labelled", count.alone, shown.alone), ("all rows", count.both, shown.both)):
        leads = None
        if width == 2:
            outputs = mixture.apply(params, jnp.asarray(mesh.places, jnp.float32), classes)
            leads = draw.leads(np.asarray(outputs, float).T.reshape(classes, *mesh.shape))
        means, covariances = np.asarray(params.means) @ plane, plane.T @ np.asarray(mixture.covariances(params)) @ plane
        heading, owners = f"{name}: {choice.test_by_draw[shown.seed]:.1%}", np.asarray(mixture.owners(params, classes))
        drawn.append(draw.Mixture(heading, means, covariances, owners, leads))
    named = len(data.features) == width <= 2
    x, y = (*data.features, "")[:2] if named else ("1st principal component", "2nd principal component")
    figure = draw.semi_supervised(
        mesh, shown.points @ plane, shown.targets, data.classes, (drawn[0], drawn[1]), x_label=x, y_label=y,
        title=f"{shown.labels:,} labels, and what unlabelled rows add to them",
    )  # fmt: skip
    alt = "Labelled rows, all rows, and below them the mixtures fitted to each"
    caption = f"Draw {shown.seed} of {shown.labels:,} labels. The percentages are test accuracies of the mixtures."
    return Drawing("four_panels", figure, alt, caption)
