r"""Under- and overfitting: training and validation error against capacity, and against the number of examples.

  python -m experiments.capacity
  python -m experiments.capacity --task=classification --axes=width,k,gamma
  python -m experiments.capacity --dataset=homes.csv --target=price --rows=200 --samples=10

Capacity is the degree of a polynomial, the width of an MLP, a penalty, the number of neighbours, or C and gamma of a
support vector machine. Each is varied on repeated samples: fresh ones of a noisy curve or of the moons, or random ones
of the training and validation rows of a data set, whose test rows are not used. All values and samples are lanes of one
program.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import capacity_axes, frame
from experiments import capacity_results as results
from experiments.capacity_results import Learning, Measurement
from mllab import capacity
from mllab.errors import UserError
from mllab.models.svm import kernels
from mllab.report.report import Bullets, Report, Section
from mllab.report.table import legible, listed, ranged, short
from mllab.tasks import CLASSIFICATION, REGRESSION

GENERATED = {REGRESSION.name: "a noisy curve", CLASSIFICATION.name: "the moons"}
ROWS, MOST_HELD_OUT = {REGRESSION.name: 30, CLASSIFICATION.name: 100}, 300
SHOWN_CLASSES = 20
CAVEATS = (
    "A difference counts where its 95% interval over the samples, paired, excludes 0; several are looked at, so that "
    "one in twenty may count by chance.",
    "The capacity at which the validation error is least depends on the number of rows: more rows allow more.",
    "Whether more examples would help is judged from the end of the curve. A curve may bend beyond it.",
    "Training rows of kNN are among their own neighbours: at k = 1 the training error is 0.",
)


@dataclass(frozen=True, kw_only=True)
class Settings(frame.Table):
    """What can be set."""

    dataset: str | None = frame.dataset(None, note="Default: a noisy curve, or the moons.")
    task: str | None = frame.choice(
        ["classification", "regression"],
        None,
        help="Task without a data set (default: regression), or of your own table (default: inferred).",
    )
    axes: tuple[str, ...] = frame.choices(
        capacity_axes.NAMES, help="Axes of capacity, separated by commas, or all.", kind="axis"
    )
    degrees: tuple[int, ...] | None = frame.wholes(
        None,
        help="Degrees of the polynomials. Default: 1 to 60 of one column, 1 to 8 of several, fewer of many.",
        high=capacity_axes.MOST_DEGREE,
        most=100,
    )
    learning: tuple[str, ...] = frame.choices(
        capacity_axes.LEARNING, help="Learners of the learning curves, separated by commas, or all.", kind="learner"
    )
    rows: int | None = frame.whole(
        None,
        help="Training rows of a sample. Default: 30 of the curve, 100 of the moons, and of a data set up to 200.",
        low=4, high=20_000,
    )  # fmt: skip
    most_rows: int = frame.whole(
        1000,
        help="Training rows at the end of the learning curves, at most 4 of 5 of a data set's.",
        low=10,
        high=20_000,
    )
    samples: int = frame.whole(10, help="Repeated samples, for the intervals.", low=2, high=200)


def measure(run: frame.Context, settings: Settings) -> Measurement:
    """Score every axis, then every learning curve, on repeated samples."""
    if "degree" not in settings.axes:
        settings.refuse_unread(["degrees"], "of the axis degree; add it to --axes, or leave them out")
    capacity_axes.check_memory(settings.samples, settings.rows or 0, settings.most_rows)
    with run.timed("data"):
        data = None
        examples: dict[str, Any]
        if settings.dataset is not None:
            data = run.load()
            pool = np.union1d(data.split.train, data.split.validation)
            task, classes, count = data.task, len(data.classes), len(pool)
            rows = settings.rows or min(200, count // 2)
            held_out = min(MOST_HELD_OUT, count - rows)
            if held_out < 2 or rows <= classes:
                raise UserError(
                    f"--rows={rows}: {count:,} training and validation rows; give {classes + 1} to {count - 2}"
                )
            examples = {"inputs": jnp.asarray(data.inputs.reshape(len(data.inputs), -1)), "targets": data.targets}
            samples = capacity.resampled(pool, rows, held_out, settings.samples, settings.split_seed, data.targets)
            most = min(settings.most_rows, count * 4 // 5)
            held = min(MOST_HELD_OUT, count - most)
            longer = capacity.resampled(pool, most, held, settings.samples, settings.split_seed, data.targets)
            more, problem = examples, legible(data.name)
        else:
            settings.refuse_table("name the table, too (--dataset=TABLE.csv)")
            task, classes = settings.task or REGRESSION.name, 2
            rows, held_out, most = settings.rows or ROWS[task], MOST_HELD_OUT, settings.most_rows
            drawn = settings.samples, settings.split_seed
            examples, samples = capacity_axes.generated(task, rows, held_out, *drawn)
            more, longer = capacity_axes.generated(task, most, held_out, *drawn)
            problem = GENERATED[task]
            run.read({})
    columns, error = examples["inputs"].shape[1], capacity_axes.MEASURES[task]
    scale = float(kernels.gamma_scale(jnp.asarray(examples["inputs"][samples.train[0]])))
    chosen = capacity_axes.axes_of(settings.axes, task, classes, columns, rows, scale, settings.degrees)
    key, panels, learning, fits = jax.random.key(settings.split_seed), [], [], None
    run.progress.task("axes of capacity", len(chosen))
    for axis in chosen:
        with run.timed(axis.name):
            made, judged_on = axis.make(), (key, examples, samples, error.error, error.shown)
            errors = capacity.along_axis(made, axis.parameter, axis.values, axis.fixed, *judged_on, apart=axis.apart)
            verdict = capacity.judge(errors, samples.interval, error.compared)
            panels.append(results.panel_of(axis, errors, verdict, samples.interval))
            run.record(
                {"axis": axis.name, "value": value, "training": one.tolist(), "validation": other.tolist()}
                for value, one, other in zip(axis.values, errors.training, errors.validation, strict=True)
            )
            if axis.name == "degree" and columns == 1 and task == REGRESSION.name:
                fits = fitted(axis, verdict.chosen, examples, samples.train[0], data is None)
        run.progress.advance()
    sizes = sorted({round(n) for n in np.geomspace(min(most, max(10, 3 * classes)), most, 6)})
    run.progress.task("learning curves", len(settings.learning))
    for name in settings.learning:
        with run.timed("learning curves"):
            model, made, setting = capacity_axes.learning_learner(name, task, classes, sizes[0])
            judged_on = (key, more, longer, error.error, error.shown)
            errors = capacity.along_rows(made, sizes, setting, *judged_on, apart=name == "svm")
            training, validation = (results.spread(part, longer.interval) for part in errors)
            learning.append(
                Learning(model, sizes, training, validation, capacity.trend(sizes, errors, longer.interval))
            )
            run.record(
                {"learner": name, "rows": n, "training": one.tolist(), "validation": other.tolist()}
                for n, one, other in zip(sizes, errors.training, errors.validation, strict=True)
            )
        run.progress.advance()
    return Measurement(
        dataset=None if data is None else frame.DatasetFacts.of(data),
        problem=problem, task=task, error=error.label, training_rows=rows, validation_rows=held_out,
        samples=settings.samples, independent=samples.independent,
        baseline=samples.interval(capacity_axes.constant_errors(samples, np.asarray(examples["targets"]), task)),
        panels=panels, learning=learning, fits=fits,
    )  # fmt: skip


def fitted(
    axis: capacity_axes.Axis, chosen: int, examples: dict, train: np.ndarray, is_generated: bool
) -> results.Fits:
    """Return the polynomials of the least, the chosen and a high degree, fitted to one sample."""
    high = [place for place, degree in enumerate(axis.values) if degree <= len(train) / 2]
    places = sorted({0, chosen, max([chosen + 1, *high]) if chosen + 1 < len(axis.values) else chosen})
    x, y = (np.asarray(examples[name])[train] for name in ("inputs", "targets"))
    grid = np.linspace(float(x.min()), float(x.max()), 300)
    degrees = [axis.values[place] for place in places]
    values = capacity_axes.curves_at(axis.make(), degrees, axis.fixed, axis.parameter, examples, train, grid)
    return results.Fits(x[:, 0], y, grid, degrees, values, capacity_axes.curve(grid) if is_generated else None)


def report(run: frame.Context, settings: Settings, measured: Measurement) -> Report:
    """Report each axis with what it says, the learning curves, and a closing table."""
    del run
    data = measured.dataset
    drawn = "drawn anew for each sample" if measured.independent else "random samples of training and validation rows"
    return Report(
        f"Capacity: under- and overfitting on {measured.problem}",
        f"Which capacity generalises best from {measured.training_rows:,} rows, and would more rows help?",
        results.answer(measured),
        results.result_table(measured),
        [
            Section("Fitted curves", [results.fits_drawing(measured)]),
            *(results.panel_section(panel, measured) for panel in measured.panels),
            results.learning_section(measured),
            Section("How to read it", [Bullets(CAVEATS)]),
        ],
        {
            "data set": data.described() if data else f"{measured.problem}, generated",
            "classes": listed(map(legible, data.classes[:SHOWN_CLASSES])) if data else "",
            "rows": f"{measured.training_rows:,} training and {measured.validation_rows:,} validation rows, {drawn}",
            "samples": f"{measured.samples}, seed {settings.split_seed}",
            "axes": [f"{one.model}: {one.axis.letter} = {listed(map(short, one.values))}" for one in measured.panels],
            "learning curves": f"{ranged(measured.learning[0].rows)} training rows" if measured.learning else "",
        },
    )  # fmt: skip


main, run = frame.program(Settings, measure, report)

if __name__ == "__main__":
    main()
