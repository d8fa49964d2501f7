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
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import frame, mixture_bic
from experiments import semi_supervised_fit as fitting
from experiments import semi_supervised_results as results
from experiments.mixture_bic import Bic, Setting
from experiments.semi_supervised_fit import EVERY, Columns, Part
from experiments.semi_supervised_results import Count, Draw, Supervised
from mllab.errors import UserError
from mllab.report.report import Bullets, Report, Section
from mllab.report.table import listed, percent, points, ranged

DOUBLINGS = 6  # numbers of labels by default


@dataclass(frozen=True, kw_only=True)
class Settings(frame.Table, frame.Restarts, frame.Devices):
    """What can be set."""

    dataset: str = frame.Data.with_default("dataset", "stretched")
    labels: tuple[int, ...] | None = frame.wholes(
        None, help="Numbers of labelled rows in all. Default: one per class, then doubled, up to 32 per class."
    )
    draws: int = frame.whole(20, help="Draws of the labelled rows, by seeds 0, 1, ...; an interval needs 2.", low=1)
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
        most = self.most_components or min(rows, max(8, 2 * classes, needed))
        if not needed <= most <= rows:
            raise UserError(
                f"--most_components={most}: the classifiers have up to {needed} components, and there are {rows:,} "
                f"training rows: give {needed} to {rows:,}"
            )
        return most


@dataclass(frozen=True)
class Measurement:
    """Accuracy by number of labels, and BIC by number of components."""

    dataset: frame.DatasetFacts
    columns: Columns
    counts: list[Count]
    every: Supervised
    bic: Bic
    panels: Draw
    climbs: list[dict[str, Any]]  # labels, and history: mean log-likelihood of a row after each step of EM in draw 0
    fits: dict[str, int]  # all, and short: those that ended before EM had converged


def measure(run: frame.Context, settings: Settings) -> Measurement:
    """Fit every setting to every draw of labels; validation rows choose, and test rows score the choice."""
    with run.timed("data"):
        data = run.load(classes=1)
        split, classes, rows = vars(data.split), len(data.classes), len(data.split.train)
        labels, most = settings.label_counts(classes, rows), settings.bic_components(classes, rows)
        columns = fitting.reduced(data, settings.dimensions)
        train, validation, test = (
            Part(jnp.asarray(columns.points[ids]), jnp.asarray(data.targets[ids])) for ids in split.values()
        )
        mesh = run.mesh()
    with run.timed("BIC"):
        bic = mixture_bic.compare(jax.random.key(0), train.points, most, settings.covariances, settings.restarts)
    for name, values in bic.values.items():
        run.record({"components": i, "covariance": name, "bic": value} for i, value in enumerate(values, 1))
    lanes, arrays = fitting.arrange(data.targets[split["train"]], labels, settings.draws)
    options = [Setting(covariance, count) for count, covariance in product(settings.components, settings.covariances)]
    run.progress.task("mixtures", len(options), lanes=len(lanes))
    fits, accuracy = {}, {}
    for option in options:
        with run.timed(option.covariance):
            fits[option] = found = fitting.fit(arrays, train.points, option, classes, settings.restarts, mesh)
            accuracy[option] = np.asarray(fitting.accuracies(found.params, validation, classes), float)
        scores = {"validation_accuracy": accuracy[option]}
        scores |= {name: np.asarray(getattr(found, name)) for name in ("log_likelihood", "steps", "converged")}
        for i, lane in enumerate(lanes):
            run.record([lane._asdict() | asdict(option) | {name: values[i] for name, values in scores.items()}])
        run.progress.advance(best=max(map(np.max, accuracy.values())))
    chosen = fitting.choose(fits, accuracy, lanes, len(validation.targets), bic, test, classes)
    tested = [accuracy for method in chosen.values() for accuracy in method.test_by_draw]
    run.record(lane._asdict() | {"test_accuracy": value} for lane, value in zip(lanes, tested, strict=True))
    counts, every = [fitting.compared(count, chosen) for count in labels], chosen[EVERY, rows]
    shown = next((count for count in labels if count >= 2 * classes), labels[0])
    targets = fitting.labelled(data.targets[split["train"]], shown, 0)
    converged = np.concatenate([each.converged for each in fits.values()])
    return Measurement(
        dataset=frame.DatasetFacts.of(data),
        columns=columns,
        counts=counts,
        every=Supervised(every.covariance, every.components, rows, every.test.mean),
        bic=bic,
        panels=Draw(shown, 0, np.asarray(train.points), targets),
        climbs=[{"labels": count.labels, "history": count.both.history} for count in counts],
        fits={"all": converged.size, "short": int(np.sum(~converged))},
    )


def report(run: frame.Context, settings: Settings, measured: Measurement) -> Report:
    """Report the accuracy with and without unlabelled rows, what was chosen, and what BIC prefers."""
    del run
    data, counts, bic, columns = measured.dataset, measured.counts, measured.bic, measured.columns
    rows, few, many, classes, draws = data.rows, counts[0], counts[-1], len(data.classes), settings.draws
    conclusion = bic.conclusion(classes, settings.components)
    answer = (
        f"With {few.labels:,} labels the test accuracy on {data.name} is {percent(few.alone.test)} from the labelled "
        f"rows alone, and {percent(few.both.test)} with {rows['train'] - few.labels:,} unlabelled rows as well: "
        f"{points(few.gain)} points."
    )
    if many is not few:
        answer += f" With {many.labels:,} labels: {points(many.gain)} points."
    caveats = [
        f"Labelled rows are drawn stratified by class, at least one for each of the {classes} classes; with one seed, "
        "fewer labelled rows are part of more.",
        f"Settings are chosen for each number of labels and each method by the accuracy on {rows['validation']:,} "
        f"labelled validation rows{', more than a user would have' * (rows['validation'] > few.labels)}, and within "
        "one standard error by BIC.",
        f"The test rows were scored once, with the chosen settings. {conclusion}",
    ]
    if hurt := [count for count in counts if count.effect == "hurt"]:
        worst = min(hurt, key=lambda count: count.gain.mean)
        harm = f"Unlabelled rows reduce the accuracy with {listed(count.labels for count in hurt)} labels"
        answer += f" {harm}: {'at worst ' * (len(hurt) > 1)}{points(worst.gain)} points."
        caveats.append(
            f"{harm}, yet increase the likelihood: a mixture may describe rows better and classify them worse."
        )
    if unclear := [count.labels for count in counts if count.effect == "unclear"]:
        caveats.append(f"With {listed(unclear)} labels the interval of the gain contains 0.")
    if short := measured.fits["short"]:
        caveats.append(f"{short:,} of {measured.fits['all']:,} fits ended before EM had converged.")
    options = f"{listed(settings.covariances)} covariance, {listed(settings.components)} component(s) per class"
    reduced = (
        f"the first {columns.kept} principal components of {columns.given:,}, {columns.variance:.0%} of the variance"
    )
    figures = [results.in_the_plane(measured.panels, counts, data), *results.curves(counts, measured.every, draws)]
    return Report(
        f"Gaussian mixtures with few labels: {data.name}",
        f"Do unlabelled rows improve a Gaussian mixture classifier of {data.name}, with few labels and with many?",
        answer,
        results.gain_table(counts, measured.every, draws),
        [
            Section("The fits", figures),
            Section("How to read it", [Bullets(caveats)]),
            Section("What was chosen", [results.choice_table(counts, options)]),
            Section("How many components", [conclusion, bic.drawing(classes), bic.table(rows["train"])]),
        ],
        {
            "data set": data.described(),
            "columns": reduced if columns.kept < columns.given else f"{columns.given:,}",
            "rows": "{train:,} to fit, {validation:,} to choose, {test:,} to report".format(**rows),
            "model": f"a Gaussian mixture by EM, {options}; a labelled row belongs to the components of its class",
            "seeds": f"{ranged(range(draws))} for the draws of labels; {settings.split_seed} for the split",
            "restarts": f"{settings.restarts} for each fit",
        },
    )


main, run = frame.program(Settings, measure, report, all_cores=True)

if __name__ == "__main__":
    main()
