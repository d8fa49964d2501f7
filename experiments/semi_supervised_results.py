"""What unlabelled rows add to few labels: results by number of labels, their tables and drawings."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from experiments.frame import DatasetFacts, unsaved
from experiments.mixture_bic import Setting
from mllab.metrics import Interval
from mllab.models import mixture, pca
from mllab.report import draw
from mllab.report.report import Drawing
from mllab.report.style import BLACK, DASH_DOT, Style, class_style
from mllab.report.table import Table, percent, points, share

METHODS = ("labelled only", "labelled and unlabelled")


@dataclass(frozen=True)
class Method(Setting):
    """The setting chosen for a method and a number of labels (components per class), and its accuracy."""

    validation: float  # mean over the draws
    test: Interval  # over the draws
    test_by_draw: list[float]
    fits: mixture.Fit = unsaved()  # of each draw, [S]

    @property
    def history(self) -> list[float]:
        """Mean log-likelihood of a row after each step of EM, in the first draw."""
        return np.asarray(self.fits.history[0])[: int(self.fits.steps[0])].tolist()


@dataclass(frozen=True)
class Count:
    """Both methods with one number of labels."""

    labels: int
    alone: Method
    both: Method
    gain: Interval  # test accuracy of both less that of alone, draw by draw, in points

    @property
    def effect(self) -> str:
        """What unlabelled rows do to the accuracy, as far as the interval tells."""
        return "help" if self.gain.low > 0 else "hurt" if self.gain.high < 0 else "unclear"


@dataclass(frozen=True)
class Supervised(Setting):
    """The mixture fitted to all training rows with their labels (components per class)."""

    labels: int
    test: float


@dataclass(frozen=True)
class Draw:
    """The draw of labels that is shown in the plane."""

    labels: int
    seed: int
    points: np.ndarray = unsaved()  # training rows, [N, D]
    targets: np.ndarray = unsaved()  # class of each, -1 for none, [N]


def gain_table(counts: Sequence[Count], every: Supervised, draws: int) -> Table:
    """Return a row for each number of labels: the accuracy of both methods, and the gain."""
    over = f"± 95% interval over {draws} draws of the labels, one split" if draws > 1 else "one draw: no interval"
    rows = [[f"{n.labels:,}", percent(n.alone.test), percent(n.both.test), points(n.gain), n.effect] for n in counts]
    caption = f"test accuracy; {over}; gain: draw by draw; all rows labelled: {every.test:.2%} ({every.covariance})"
    return Table(["labels in all", *METHODS, "gain (points)", "unlabelled rows"], rows, caption=caption)


def choice_table(counts: Sequence[Count], options: str) -> Table:
    """Return a row for each number of labels: the setting chosen for both methods, and its validation accuracy."""
    rows = []
    for n in counts:
        cells = [(one.covariance, str(one.components), share(one.validation)) for one in (n.alone, n.both)]
        rows.append([f"{n.labels:,}", *cells[0], *cells[1]])
    columns = [column for method in METHODS for column in (method, "per class", "accuracy")]
    caption = f"of {options}: the least BIC within one standard error of the best accuracy on validation rows"
    return Table(["labels in all", *columns], rows, caption=caption)


def curves(counts: Sequence[Count], every: Supervised, draws: int) -> list[Drawing]:
    """Draw the test accuracy against the number of labels, and the likelihood against the step of EM."""
    labels, few, series = [n.labels for n in counts], counts[0], []
    for i, (method, values) in enumerate(
        zip(METHODS, ([n.alone for n in counts], [n.both for n in counts]), strict=True)
    ):
        intervals = [each.test for each in values]
        series.append(
            draw.Series.of_intervals(method, labels, intervals, scale=100, limits=(-np.inf, 100), style=class_style(i))
        )
    level = np.full(len(labels), 100 * every.test)
    accuracy = draw.curves(
        [*series, draw.Series("all rows labelled", np.array(labels, float), level, style=Style(BLACK, DASH_DOT, ""))],
        title=f"With {few.labels:,} labels, unlabelled rows change the accuracy by {points(few.gain)} points",
        x_label="labelled rows in all, log scale",
        y_label="test accuracy (%)",
        log_x=True,
        over=f"{draws} draws of the labels" if draws > 1 else "",
    )
    climbs = []
    for i, n in enumerate(counts):
        history = np.array(n.both.history)
        climbs.append(
            draw.Series(f"{n.labels:,} labels", np.arange(1.0, len(history) + 1), history, style=class_style(i))
        )
    likelihood = draw.curves(
        climbs,
        title="EM never decreases the likelihood",
        x_label="step of EM",
        y_label="mean log-likelihood of a row (nats)",
        integer_x=True,
        markers=False,
        note="Fitted to all rows, the chosen setting, draw 0.",
    )
    alone = "All rows labelled: one fit, in which EM has nothing to estimate."
    climb = (
        "The more labels, the fewer responsibilities EM estimates; a labelled row's likelihood is that of its class."
    )
    return [
        Drawing("accuracy_by_labels", accuracy, "Test accuracy against the number of labels", alone),
        Drawing("likelihood_by_step", likelihood, "Mean log-likelihood after each step of EM", climb),
    ]


def in_the_plane(shown: Draw, counts: Sequence[Count], data: DatasetFacts) -> Drawing:
    """Draw labelled rows, all rows, and the mixtures fitted to each; more than two columns in their principal plane."""
    width, classes = shown.points.shape[1], len(data.classes)
    plane = np.eye(width, 2) if width <= 2 else pca.fit(shown.points, 2).axes
    count = next(count for count in counts if count.labels == shown.labels)
    mesh, mixtures = draw.mesh(shown.points @ plane), []
    for name, method in zip(("labelled", "all rows"), (count.alone, count.both), strict=True):
        params, leads = jax.tree.map(lambda a: a[shown.seed], method.fits.params), None
        if width == 2:
            outputs = mixture.apply(params, jnp.asarray(mesh.places, jnp.float32), classes)
            leads = draw.leads(np.asarray(outputs, float).T.reshape(classes, *mesh.shape))
        means, covariances = np.asarray(params.means) @ plane, plane.T @ np.asarray(mixture.covariances(params)) @ plane
        heading, owners = f"{name}: {method.test_by_draw[shown.seed]:.1%}", np.asarray(mixture.owners(params, classes))
        mixtures.append(draw.Mixture(heading, means, covariances, owners, leads))
    named = len(data.features) == width <= 2
    x, y = (*data.features, "")[:2] if named else ("1st principal component", "2nd principal component")
    texts = {"title": f"{shown.labels:,} labels, and what unlabelled rows add to them", "x_label": x, "y_label": y}
    pair = mixtures[0], mixtures[1]
    figure = draw.semi_supervised(mesh, shown.points @ plane, shown.targets, data.classes, pair, **texts)
    alt = "Labelled rows, all rows, and below them the mixtures fitted to each"
    caption = f"Draw {shown.seed} of {shown.labels:,} labels. The percentages are test accuracies of the mixtures."
    return Drawing("four_panels", figure, alt, caption)
