r"""Gaussian mixtures with few labels: does EM on unlabelled rows as well improve the classifier?

  python -m experiments.semi_supervised
  python -m experiments.semi_supervised --dataset=moons --components=1,2,4
  python -m experiments.semi_supervised --dataset=mine.csv --target=species --labels=10,20,50

A few training rows keep their label, drawn stratified by class; the others hide theirs. A mixture with components for
each class is fitted to the labelled rows alone, and to all rows, where EM estimates the responsibilities of the
unlabelled. Validation rows choose the covariance for each method and number of labels; the test rows are scored once,
with the chosen one. BIC, which uses no labels, shows how many components the rows have: where that disagrees with the
classifiers, unlabelled rows may reduce the accuracy, and the page says so.
"""

from dataclasses import asdict, dataclass
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np

from experiments import frame, mixture_bic
from experiments import semi_supervised_results as results
from experiments.semi_supervised_results import Climb, Count, Draw, Supervised
from mllab import semi_supervised as fitting
from mllab.errors import UserError
from mllab.models import mixture, pca
from mllab.report.report import Block, Bullets, Report, Section
from mllab.report.table import listed, ranged
from mllab.semi_supervised import ALONE, BOTH, EVERY
from mllab.tasks import CLASSIFICATION, Baseline

MAX_COLUMNS = 16  # that mixtures are fitted to as they are; of more, as many principal components
DOUBLINGS = 6  # numbers of labels by default


@dataclass(frozen=True, kw_only=True)
class Settings(frame.Table, frame.Restarts, frame.Devices):
    """What can be set."""

    dataset: str = frame.dataset("stretched", classes=1)
    labels: tuple[int, ...] | None = frame.wholes(
        None, help="Numbers of labelled rows in all. Default: one per class, then doubled, up to 32 per class."
    )
    draws: int = frame.whole(20, help="Draws of the labelled rows; an interval needs 2.", low=1, high=10_000)
    covariances: tuple[str, ...] = frame.choices(
        ("spherical", "tied", "diagonal", "full"), help="Covariances to choose from.", kind="covariance"
    )
    components: tuple[int, ...] = frame.wholes((1,), help="Numbers of components per class to choose from.")
    most_components: int | None = frame.whole(
        None, help="Greatest number of components for BIC. Default: twice the classes, and at least 8.", low=1
    )
    dimensions: int | None = frame.whole(
        None, help="Principal components to replace the columns by. Default: 16 for more than 16 columns.", low=1
    )

    def label_counts(self, classes: int, rows: int) -> list[int]:
        """Return the numbers of labelled rows, ascending, for this many classes and training rows."""
        doubled = [classes * 2**power for power in range(DOUBLINGS)]
        counts = self.labels or [count for count in doubled if 2 * count <= rows] or [classes]
        if counts[0] < classes:
            raise UserError(f"--labels={listed(counts)}: {classes} classes need a label each: give {classes} or more")
        if counts[-1] >= rows:
            raise UserError(f"--labels={listed(counts)}: of {rows:,} training rows some must be unlabelled: give fewer")
        return list(counts)

    def bic_components(self, classes: int, rows: int) -> int:
        """Return the greatest number of components for BIC, for this many classes and training rows."""
        needed = classes * max(self.components)
        if needed > rows:
            limit = f"{rows:,} training rows of {classes} classes: give {rows // classes:,} or fewer"
            raise UserError(f"--components={listed(self.components)}: {limit}")
        most = self.most_components or min(rows, max(8, 2 * classes, needed))
        if not needed <= most <= rows:
            raise UserError(
                f"--most_components={most}: the classifiers have up to {needed} components, and there are {rows:,} "
                f"training rows: give {needed} to {rows:,}"
            )
        return most

    def components_kept(self, name: str, columns: int) -> int | None:
        """Return the number of principal components for a data set of this many columns; None to keep the columns."""
        if self.dimensions is not None and self.dimensions > columns:
            raise UserError(f"--dimensions={self.dimensions}: {name} has {columns} columns: give {columns} or fewer")
        return self.dimensions or (MAX_COLUMNS if columns > MAX_COLUMNS else None)


@dataclass(frozen=True)
class Measurement:
    """Accuracy by number of labels, and BIC by number of components."""

    dataset: frame.DatasetFacts
    columns: pca.Reduction
    counts: list[Count]
    every: Supervised
    baseline: Baseline  # on test rows
    bic: mixture.Selection
    panels: Draw
    climbs: list[Climb]
    fits: dict[str, int]  # all, and short: those that ended before EM had converged


def measure(run: frame.Context, settings: Settings) -> Measurement:
    """Fit every setting to every draw of labels; validation rows choose, and test rows score the choice."""
    with run.timed("data"):
        data = run.load()
        split, classes, targets = data.split, len(data.classes), data.targets[data.split.train]
        labels = settings.label_counts(classes, len(targets))
        most = settings.bic_components(classes, len(targets))
        inputs = data.inputs.reshape(len(data.inputs), -1)
        kept, mesh = settings.components_kept(data.name, inputs.shape[1]), run.mesh()
        fitting.check_memory(
            (len(targets), kept or inputs.shape[1]), classes, counts=len(labels), draws=settings.draws, most=most,
            components=max(settings.components), settings=len(settings.components) * len(settings.covariances),
            restarts=settings.restarts, mesh=mesh,
        )  # fmt: skip
        run.progress.say(f"{data.name}: {inputs.shape[1]:,} columns, then BIC of 1 to {most} components")
        inputs, columns = pca.reduced(inputs, kept, split.train)
        train = jnp.asarray(inputs[split.train])
        validation, test = (
            (jnp.asarray(inputs[ids]), jnp.asarray(data.targets[ids])) for ids in (split.validation, split.test)
        )
    with run.timed("BIC"):
        bic = mixture.select_components(
            jax.random.key(0), train, range(1, most + 1), settings.covariances, restarts=settings.restarts,
            steps=fitting.STEPS, tolerance=fitting.TOLERANCE,
        )  # fmt: skip
    for name, values in bic.values.items():
        run.record({"components": i, "covariance": name, "bic": value} for i, value in enumerate(values, 1))
    lanes, arrays = fitting.lanes(targets, labels, settings.draws)
    options = [mixture.Setting(name, count) for count, name in product(settings.components, settings.covariances)]
    run.progress.task("mixtures", len(options), lanes=len(lanes))
    fits, accuracy = {}, {}
    for option in options:
        with run.timed(option.covariance):
            fits[option] = fitted = fitting.fit(arrays, train, option, classes, settings.restarts, mesh)
            accuracy[option] = np.asarray(fitting.accuracies(fitted.params, *validation, classes), float)
        scores = {"validation_accuracy": accuracy[option]}
        scores |= {name: np.asarray(getattr(fitted, name)) for name in ("log_likelihood", "steps", "converged")}
        for i, lane in enumerate(lanes):
            run.record([lane._asdict() | asdict(option) | {name: values[i] for name, values in scores.items()}])
        run.progress.advance(best=max(map(np.max, accuracy.values())))
    chosen = fitting.choose(fits, accuracy, lanes, len(split.validation), bic, test, classes)
    tested = [accuracy for choice in chosen.values() for accuracy in choice.test_by_draw]
    run.record(lane._asdict() | {"test_accuracy": value} for lane, value in zip(lanes, tested, strict=True))

    shown = next((count for count in labels if count >= 2 * classes), labels[0])
    first = {lane[:2]: fitting.fit_of(fits, lanes, lane, chosen) for lane in lanes if lane.seed == 0}
    every, hidden = chosen[EVERY, len(targets)], fitting.hide_labels(targets, shown, 0)
    baseline = CLASSIFICATION.baseline(data.targets, split.train, split.test)
    converged = np.concatenate([each.converged for each in fits.values()])
    return Measurement(
        dataset=frame.DatasetFacts.of(data), columns=columns, bic=bic, baseline=baseline,
        counts=[Count.of(n, chosen[ALONE, n], chosen[BOTH, n], baseline) for n in labels],
        every=Supervised(every.covariance, every.components, len(targets), every.test.mean),
        panels=Draw(shown, 0, np.asarray(train), hidden, first[ALONE, shown].params, first[BOTH, shown].params),
        climbs=[Climb.of(n, first[BOTH, n]) for n in labels],
        fits={"all": converged.size, "short": int(np.sum(~converged))},
    )  # fmt: skip


def report(run: frame.Context, settings: Settings, measured: Measurement) -> Report:
    """Report the accuracy with and without unlabelled rows, what was chosen, and what BIC prefers."""
    del run
    data, counts, bic = measured.dataset, measured.counts, measured.bic
    classes, draws = len(data.classes), settings.draws
    conclusion = mixture_bic.conclusion(bic, classes, settings.components)
    answer, caveats = results.findings(counts, measured.baseline, data, measured.fits, conclusion)
    options = f"{listed(settings.covariances)} covariance, {listed(settings.components)} component(s) per class"
    drawings = [
        results.in_the_plane(measured.panels, counts, data),
        results.accuracy_by_labels(counts, measured.every, draws),
        results.likelihood_by_step(measured.climbs),
    ]
    preferred: list[Block] = [conclusion, mixture_bic.drawing(bic, classes), mixture_bic.table(bic, data.rows["train"])]
    return Report(
        f"Gaussian mixtures with few labels: {data.name}",
        f"Do unlabelled rows improve a Gaussian mixture classifier of {data.name}, with few labels and with many?",
        answer,
        results.gain_table(counts, measured.every, measured.baseline, draws),
        [
            Section("The fits", drawings),
            Section("How to read it", [Bullets(caveats)]),
            Section("What was chosen", [results.choice_table(counts, options)]),
            Section("How many components", preferred),
        ],
        {
            "data set": data.described(),
            "columns": results.kept_columns(measured.columns),
            "rows": "{train:,} to fit, {validation:,} to choose, {test:,} to report".format(**data.rows),
            "model": f"a Gaussian mixture by EM, {options}; a labelled row belongs to the components of its class",
            "seeds": f"{ranged(range(draws))} for the draws of labels; {settings.split_seed} for the split",
            "restarts": f"{settings.restarts} for each fit",
        },
    )


main, run = frame.program(Settings, measure, report, all_cores=True)

if __name__ == "__main__":
    main()
