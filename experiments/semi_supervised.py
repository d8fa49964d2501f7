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

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np

from experiments import frame, mixture_bic
from experiments import semi_supervised_fit as fitting
from experiments.mixture_bic import Bic, Setting
from experiments.semi_supervised_fit import ALONE, BOTH, EVERY, Climb, Columns, Count, Method, Part, Supervised
from mllab.data.dataset import Dataset
from mllab.errors import UserError
from mllab.models import mixture
from mllab.report import draw, table
from mllab.report.report import Bullets, Drawing, Report, Section
from mllab.report.style import BLACK, DASH_DOT, Style, class_style

DOUBLINGS = 6  # numbers of labels by default
LABELLED, BOTH_KINDS = "labelled only", "labelled and unlabelled"  # titles of the methods


@dataclass(frozen=True, kw_only=True)
class Settings(frame.Table, frame.Restarts, frame.Devices):
    """What can be set."""

    dataset: str = frame.Data.with_default("dataset", "stretched")
    labels: tuple[int, ...] | None = frame.wholes(
        None, help="Numbers of labelled rows in all. Default: one per class, then doubled, up to 32 per class."
    )
    draws: int = frame.whole(20, help="Draws of the labelled rows, by seeds 0, 1, ...; an interval needs 2.", low=1)
    covariances: tuple[str, ...] = frame.choices(
        mixture.COVARIANCES,
        ("spherical", "tied", "diagonal", "full"),
        help="Covariances to choose from.",
        kind="covariance",
    )
    components: tuple[int, ...] = frame.wholes((1,), help="Numbers of components per class to choose from.")
    most_components: int | None = frame.whole(
        None, help="Greatest number of components for BIC. Default: twice the classes, and at least 8.", low=1
    )
    dimensions: int | None = frame.whole(
        None, help="Principal components to replace the columns by. Default: 16 for more than 16 columns.", low=1
    )

    def label_counts(self, classes: int, rows: int) -> list[int]:
        """Return the numbers of labelled rows, ascending, of so many training rows."""
        doubled = [classes * 2**power for power in range(DOUBLINGS)]
        counts = self.labels or [count for count in doubled if 2 * count <= rows] or [classes]
        if counts[0] < classes:
            raise UserError(
                f"--labels: {counts[0]} labels for {classes} classes of {self.dataset}: give {classes} or more"
            )
        if counts[-1] >= rows:
            raise UserError(
                f"--labels: {counts[-1]} of the {rows:,} training rows of {self.dataset}: some must be unlabelled; give fewer"
            )
        return list(counts)

    def components_for_bic(self, classes: int, rows: int) -> int:
        """Return up to how many components BIC is compared."""
        needed = classes * max(self.components)
        most = self.most_components or min(rows, max(8, 2 * classes, needed))
        if not needed <= most <= rows:
            raise UserError(
                f"--most_components={most}: the classifiers have up to {needed} components, and there are {rows:,} training rows: give {needed} to {rows:,}"
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
    panels: Mapping[str, int]  # the draw that is shown: labels and seed
    climbs: list[Climb]
    fits: Mapping[str, int]  # all of them, and those that ended before EM had converged: short
    chosen: Mapping[tuple[str, int], Method] = frame.unsaved()
    data: Dataset = frame.unsaved()


def measure(run: frame.Context, settings: Settings) -> Measurement:
    """Fit every setting to every draw of labels; validation rows choose, and test rows score the choice."""
    with run.timed("data"):
        data = run.load(classes=1)
        split, classes, rows = vars(data.split), len(data.classes), len(data.split.train)
        counts, most = settings.label_counts(classes, rows), settings.components_for_bic(classes, rows)
        columns = fitting.reduced(data, settings.dimensions)
        parts = {
            name: Part(jnp.asarray(columns.points[ids]), jnp.asarray(data.targets[ids])) for name, ids in split.items()
        }
        mesh = run.mesh()
    train = parts["train"].points
    with run.timed("BIC"):
        bic = mixture_bic.compare(jax.random.key(0), train, most, settings.covariances, settings.restarts)
    for name, values in bic.values.items():
        run.record({"components": i, "covariance": name, "bic": value} for i, value in enumerate(values, 1))
    lanes, arrays = fitting.arrange(data.targets[split["train"]], counts, settings.draws)
    fits, validation = {}, []
    run.progress.task("mixtures", len(settings.components) * len(settings.covariances), lanes=len(lanes))
    for components, covariance in product(settings.components, settings.covariances):
        setting = Setting(covariance, components)
        with run.timed(covariance):
            fits[setting] = found = fitting.fit(arrays, train, setting, classes, settings.restarts, mesh)
            validation.append(np.asarray(fitting.accuracies(found.params, parts["validation"], classes), float))
        values = {name: np.asarray(getattr(found, name)) for name in ("log_likelihood", "steps", "converged")}
        values = {"validation_accuracy": validation[-1]} | values
        run.record(
            lane._asdict() | asdict(setting) | {name: value[i] for name, value in values.items()}
            for i, lane in enumerate(lanes)
        )
        run.progress.advance(best=max(map(max, validation)))
    criteria = [bic.of(setting, classes) for setting in fits]
    chosen = fitting.choose(fits, np.stack(validation), lanes, criteria, parts, classes)
    tested = [accuracy for method in chosen.values() for accuracy in method.test_by_draw]
    run.record(lane._asdict() | {"test_accuracy": accuracy} for lane, accuracy in zip(lanes, tested, strict=True))
    every, converged = chosen[EVERY, rows], np.concatenate([each.converged for each in fits.values()])
    shown = next((count for count in counts if count >= 2 * classes), counts[0])
    return Measurement(
        dataset=frame.DatasetFacts.of(data),
        columns=columns,
        counts=[fitting.compare(count, chosen) for count in counts],
        every=Supervised(every.covariance, every.components, rows, every.test.mean),
        bic=bic,
        panels={"labels": shown, "seed": 0},
        climbs=[Climb(count, chosen[BOTH, count].history()) for count in counts],
        fits={"all": converged.size, "short": int(np.sum(~converged))},
        chosen=chosen,
        data=data,
    )


def report(run: frame.Context, settings: Settings, measured: Measurement) -> Report:
    """Report the accuracy with and without unlabelled rows, what was chosen, and what BIC prefers."""
    del run
    data, counts, bic, columns, draws = (
        measured.dataset,
        measured.counts,
        measured.bic,
        measured.columns,
        settings.draws,
    )
    few, many, rows, classes = counts[0], counts[-1], data.rows, len(data.classes)
    over, conclusion = f"{draws} draws of the labels", bic.conclusion(classes, settings.components)
    hurt = [count for count in counts if count.effect == "hurt"]
    harm = f"Unlabelled rows reduce the accuracy with {table.listed(count.labels for count in hurt)} labels."
    answer = (
        f"On {data.name} with {few.labels:,} labels, the test accuracy is {table.percent(few.alone.test)} from the "
        f"labelled rows alone, and {table.percent(few.both.test)} with {rows['train'] - few.labels:,} unlabelled rows as "
        f"well: {table.points(few.gain)} points."
    )
    if many is not few:
        answer += f" With {many.labels:,} labels: {table.points(many.gain)} points."
    caveats = [
        f"Each draw takes the labelled rows stratified by class, with one row of each of the {classes} classes at least. "
        "Draws of one seed are nested.",
        "The covariance was chosen for each number of labels and each method, by the labels of "
        f"{rows['validation']:,} validation rows; within one standard error, by the BIC of the unlabelled rows.",
        "Test rows were scored once, with the chosen settings.",
    ]
    if hurt:
        caveats.insert(
            0,
            f"{harm} The likelihood increases all the same: a mixture may fit the rows better and separate the classes worse. {conclusion}",
        )
    if unclear := [count.labels for count in counts if count.effect == "unclear"]:
        caveats.append(f"With {table.listed(unclear)} labels the interval of the gain contains 0.")
    if short := measured.fits["short"]:
        caveats.append(f"{short:,} of {measured.fits['all']:,} fits ended before EM had converged.")
    reduced = f"the first {columns.kept} principal components of {columns.given:,} columns, by the training rows: {columns.variance:.0%} of the variance"
    return Report(
        title=f"Few labels: Gaussian mixtures on {data.name}",
        question=f"How much do unlabelled rows improve Gaussian mixtures that classify {data.name}, with few labels and with many?",
        answer=f"{answer} {harm}" if hurt else answer,
        table=gain_table(measured, over if draws > 1 else ""),
        sections=[
            Section(
                "The fits",
                [
                    fitting.in_the_plane(measured.data, columns, measured.chosen, **measured.panels),
                    *curves(measured, over if draws > 1 else ""),
                ],
            ),
            Section("How to read it", [Bullets(caveats)]),
            Section("What was chosen", [choice_table(measured, settings)]),
            Section("How many components", [conclusion, bic.drawing(classes), bic.table(rows["train"])]),
        ],
        facts={
            "data set": data.described(),
            "columns": reduced if columns.kept < columns.given else f"{columns.given:,}",
            "rows": "{train:,} to fit, {validation:,} to choose, {test:,} to report".format(**rows),
            "model": f"a Gaussian mixture, {table.listed(settings.components)} component(s) per class, by EM; a labelled row belongs to the components of its class",
            "covariances": table.listed(settings.covariances),
            "restarts": f"{settings.restarts} for each fit",
            "draws of labels": f"seeds {table.ranged(range(draws))}",
            "split seed": str(settings.split_seed),
        },
    )


def gain_table(measured: Measurement, over: str) -> table.Table:
    """Return a row for each number of labels: the accuracy of both methods, and the gain."""
    every = measured.every
    return table.Table(
        ["labels in all", LABELLED, BOTH_KINDS, "gain (points)", "unlabelled rows"],
        [
            [
                f"{count.labels:,}",
                *map(table.percent, (count.alone.test, count.both.test)),
                table.points(count.gain),
                count.effect,
            ]
            for count in measured.counts
        ],
        caption=f"test accuracy; {f'± 95% interval over {over}, one split' if over else 'one draw: no interval'}; gain: draw by draw; "
        f"all rows labelled: {every.test:.2%} ({every.covariance})",
    )


def choice_table(measured: Measurement, settings: Settings) -> table.Table:
    """Return a row for each number of labels: the chosen setting of both methods, and its validation accuracy."""

    def cells(method: Method) -> tuple[str, str]:
        per_class = f", {method.components} per class" if len(settings.components) > 1 else ""
        return method.covariance + per_class, table.share(method.validation)

    options = (
        f"{table.listed(settings.covariances)} covariance, {table.listed(settings.components)} component(s) per class"
    )
    return table.Table(
        ["labels in all", LABELLED, "accuracy", BOTH_KINDS, "accuracy"],
        [[f"{count.labels:,}", *cells(count.alone), *cells(count.both)] for count in measured.counts],
        caption=f"of {options}: the least BIC within one standard error of the best accuracy on validation rows",
    )


def curves(measured: Measurement, over: str) -> list[Drawing]:
    """Draw the accuracy against the number of labels, and the likelihood against the step of EM."""
    counts, few = measured.counts, measured.counts[0]
    labels = [count.labels for count in counts]
    series = [
        draw.Series.of_intervals(
            title,
            labels,
            [getattr(count, method).test for count in counts],
            scale=100,
            limits=(-np.inf, 100),
            style=class_style(i),
        )
        for i, (method, title) in enumerate(((ALONE, LABELLED), (BOTH, BOTH_KINDS)))
    ]
    supervised = draw.Series(
        "all rows labelled", labels, np.full(len(labels), 100 * measured.every.test), style=Style(BLACK, DASH_DOT, "")
    )
    accuracy = draw.curves(
        [*series, supervised],
        title=f"With {few.labels:,} labels, unlabelled rows change the accuracy by {table.points(few.gain)} points",
        x_label="labelled rows in all, log scale",
        y_label="test accuracy (%)",
        log_x=True,
        over=over,
    )
    likelihood = draw.curves(
        [
            draw.Series(
                f"{climb.labels:,} labels", np.arange(1, len(climb.history) + 1), climb.history, style=class_style(i)
            )
            for i, climb in enumerate(measured.climbs)
        ],
        title="EM never decreases the likelihood",
        x_label="step of EM",
        y_label="mean log-likelihood of a row (nats)",
        integer_x=True,
        markers=False,
        note="Fitted to all rows: draw 0, the chosen setting.",
    )
    return [
        Drawing(
            "accuracy_by_labels",
            accuracy,
            "Test accuracy against the number of labels",
            "All rows labelled: one fit, where nothing is left to estimate.",
        ),
        Drawing(
            "likelihood_by_step",
            likelihood,
            "Mean log-likelihood of a row after each step of EM",
            "The more labels, the fewer responsibilities EM estimates; a labelled row's likelihood is that of its class.",
        ),
    ]


main, run = frame.program(Settings, measure, report, all_cores=True)

if __name__ == "__main__":
    main()
