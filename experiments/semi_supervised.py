r"""Gaussian mixtures with few labels: does EM on unlabelled points as well improve the classifier?

  python -m experiments.semi_supervised
  python -m experiments.semi_supervised --dataset=moons --components=1,2,4
  python -m experiments.semi_supervised --dataset=mine.csv --target=species --labels=10,20,50

A few training rows keep their label, drawn stratified by class; the others hide theirs. A mixture with components for
each class is fitted to the labelled rows alone, and to all rows, where EM estimates the responsibilities of the
unlabelled. Validation rows choose the covariance for each method and number of labels; the test rows are scored once,
with the chosen one. BIC, which uses no labels, shows how many components the points have: where that disagrees with
the classifiers, unlabelled points may reduce the accuracy, and the page says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from experiments import frame
from experiments import semi_supervised_fit as fitting
from experiments.semi_supervised_fit import ALONE, BOTH, EVERY, Bic, Count, Lane, Part, Setting
from mllab.data.dataset import Dataset
from mllab.errors import UserError
from mllab.models import mixture, pca
from mllab.report import draw, style, table
from mllab.report.report import Bullets, Drawing, Report, Section

MAX_COLUMNS = 16  # fitted as they are; of more, so many principal components
DOUBLINGS = 6  # numbers of labels by default
TITLES = {ALONE: "labelled only", BOTH: "labelled and unlabelled", EVERY: "all rows labelled"}


@dataclass(frozen=True, kw_only=True)
class Settings(frame.Table, frame.Restarts, frame.Devices):
    """What can be set."""

    dataset: str = frame.Data.with_default("dataset", "stretched")
    labels: tuple[int, ...] | None = frame.wholes(
        None, help="Numbers of labelled rows in all. Default: one per class, then doubled, up to 32 per class."
    )
    draws: int = frame.whole(20, help="Draws of the labelled rows, by seeds 0, 1, ...; an interval needs 2.", low=1)
    covariances: tuple[str, ...] = frame.choices(
        mixture.COVARIANCES, ("spherical", "tied", "diagonal", "full"), help="Covariances to choose from.",
        kind="covariance",
    )  # fmt: skip
    components: tuple[int, ...] = frame.wholes((1,), help="Numbers of components per class to choose from.")
    most_components: int | None = frame.whole(
        None, help="Most components in all to compare BIC of. Default: twice the classes, and at least 8.", low=1
    )
    dimensions: int | None = frame.whole(
        None, help="Principal components to replace the columns by. Default: 16, of more than 16 columns.", low=1
    )


@dataclass(frozen=True)
class Columns:
    """The columns that mixtures are fitted to."""

    given: int  # of the data set
    kept: int
    variance: float  # the share that is kept, over the training rows


@dataclass(frozen=True)
class Panels:
    """The draw of labels that is shown, in the plane."""

    labels: int
    seed: int
    points: np.ndarray = frame.unsaved()  # training rows, [N, 2]
    classes: np.ndarray = frame.unsaved()  # [N], -1 for none
    mixtures: tuple[draw.Mixture, draw.Mixture] = frame.unsaved()  # alone, both
    axes: tuple[str, str] = frame.unsaved()


@dataclass(frozen=True)
class Measurement:
    """Accuracy by number of labels, and BIC by number of components."""

    dataset: frame.DatasetFacts
    columns: Columns
    counts: list[Count]
    every: fitting.Supervised
    bic: Bic
    panels: Panels
    climbs: list[fitting.Climb]
    fits: fitting.Convergence


def measure(run: frame.Context, settings: Settings) -> Measurement:
    """Fit every setting to every draw of labels; validation rows choose, test rows score the chosen."""
    with run.timed("data"):
        data = run.load(classes=1)
        classes, seeds = len(data.classes), range(settings.draws)
        counts = label_counts(settings.labels, data)
        columns, points = reduce(data, settings.dimensions)
        train, validation, test = (
            Part(jnp.asarray(points[ids]), jnp.asarray(data.targets[ids])) for ids in vars(data.split).values()
        )
        most = most_components(settings, classes, len(train.targets))
        mesh = run.mesh()
    with run.timed("BIC"):
        bic = fitting.compare_bic(jax.random.key(0), train.points, most, settings.covariances, settings.restarts)
    run.record(
        {"components": count, "covariance": covariance, "bic": value}
        for covariance, values in bic.values.items()
        for count, value in zip(bic.components, values, strict=True)
    )
    lanes, stacked = fitting.arrange(np.asarray(train.targets), counts, seeds)
    options = [Setting(covariance, count) for count in settings.components for covariance in settings.covariances]
    run.progress.task("mixtures", len(options), lanes=len(lanes))
    fits, accuracy, best = {}, {}, 0.0
    for setting in options:
        with run.timed(setting.covariance):
            fits[setting] = fitting.fit(stacked, train.points, setting, classes, settings.restarts, mesh)
            accuracy[setting] = np.asarray(fitting.accuracies(fits[setting].params, validation, classes), float)
        best = max(best, accuracy[setting].max())
        run.progress.advance(best=best)
        run.record(fitting.records(setting, lanes, fits[setting], accuracy[setting]))
    least = {each: bic.values[each.covariance][classes * each.components - 1] for each in options}
    chosen = fitting.choose(accuracy, lanes, len(validation.targets), least)
    ...
