r"""What each approach costs as the data grow, and the number of rows at which time or this machine's memory runs out.

  python -m experiments.growth
  python -m experiments.growth --task=regression --models=ridge,kernel_ridge,mlp --seconds=10 --job_rows=1000000
  python -m experiments.growth --dataset=homes.csv --target=price --rows=250,500,1000,2000

Every approach is fitted with one typical setting at several numbers of rows n and columns d, and the law

    $$ t = a + b\, n^p d^q $$

is fitted to the times. The law tells what a larger job will take, with an interval, and the n at which --seconds or the
free memory run out. The memory is what XLA plans for the program, also at numbers of rows that are not run.
Times and memory are measured, so that two runs of the same flags differ in them.
"""

import time
from dataclasses import dataclass

import jax

from experiments import frame
from experiments import growth_measurement as measurement
from experiments import growth_models as models
from experiments import growth_results as results
from experiments.growth_results import Measurement
from mllab import memory
from mllab.growth import Cost
from mllab.report.report import Bullets, Report, Section
from mllab.report.table import byte_size, duration, legible, listed
from mllab.tasks import CLASSIFICATION

DEFAULT_JOB = 100_000  # rows, of the synthetic problem
CAVEATS = (
    "One fit with one setting: a search over settings and folds costs as many fits, less what they share.",
    "The laws are extrapolated from small sizes: caches, memory bandwidth and harder problems (support vectors, "
    "convergence) can bend them, which the intervals do not contain.",
    "The exponent of a small fit is below that of theory, as its fixed costs and its lower terms still count.",
    "Wall times of a machine that others may use at the same time.",
)


@dataclass(frozen=True, kw_only=True)
class Settings(frame.Table):
    """What can be set."""

    dataset: str | None = frame.dataset(
        None, note="Its rows and columns are sampled, or repeated where more are asked for. Default: a synthetic one."
    )
    task: str | None = frame.choice(
        ["classification", "regression"],
        None,
        help="Task of the synthetic problem (default: classification), or of your own table (default: inferred).",
    )
    models: tuple[str, ...] | None = frame.choices(
        models.APPROACHES, None, help="Approaches, separated by commas. Default: all of the task.", kind="model"
    )
    rows: tuple[int, ...] = frame.wholes(
        (500, 2000, 8000), help="Numbers of rows to measure.", low=4, high=10**7, most=100
    )
    columns: tuple[int, ...] | None = frame.wholes(
        None,
        help="Numbers of columns to measure, at a middle number of rows. Default: half and twice those of the data.",
        high=10**5,
        most=100,
    )
    job_rows: int | None = frame.whole(
        None, help="Rows of the job to forecast. Default: those of the data set; of the synthetic problem 100,000.",
        low=4, high=10**8,
    )  # fmt: skip
    seconds: float = frame.number(60.0, help="Seconds that one fit may take.", low=1e-3, high=1e9)
    max_seconds: float = frame.number(
        45.0, help="Seconds that measuring may take, about, compiling included; larger sizes are left out.", low=1,
        high=1e6,
    )  # fmt: skip


def measure(run: frame.Context, settings: Settings) -> Measurement:
    """Measure every approach, smallest sizes first, within its share of the time."""
    began = time.perf_counter()
    with run.timed("data"):
        if settings.dataset is None:
            settings.refuse_table("name the table, too (--dataset=TABLE.csv)")
            data, task = None, settings.task or CLASSIFICATION.name
            make, usual, classes = models.synthetic(task), models.COLUMNS, 2
            job = settings.job_rows or DEFAULT_JOB
            run.read({})
        else:
            data = run.load()
            task, make, usual = data.task, models.resized(data), data.inputs[0].size
            classes, job = len(data.classes), settings.job_rows or len(data.inputs)
    columns = settings.columns or tuple(sorted({max(1, usual // 2), 2 * usual}))
    names, free = models.chosen(settings.models, task), memory.available(jax.devices())
    measurement.checked(settings.rows, (*columns, usual), classes, free)
    sizes, grown = measurement.sizes_of(settings.rows, columns, usual), []
    for place, name in enumerate(names):
        left = settings.max_seconds - (time.perf_counter() - began)
        run.progress.task(models.APPROACHES[name].label, total=len(sizes))

        def observe(cost: Cost, name: str = name) -> None:
            run.progress.advance()
            run.record([{"model": name, **frame.to_json(cost)}])

        with run.timed(models.APPROACHES[name].label):
            one = measurement.grown(
                name, classes, make, sizes, full=job, usual=usual, limit=settings.seconds, memory=free,
                seconds=max(left, 0) / (len(names) - place), task=task, observe=observe,
            )  # fmt: skip
        grown.append(one)
    return Measurement(
        dataset=None if data is None else frame.DatasetFacts.of(data),
        task=task,
        classes=classes,
        columns=usual,
        job_rows=job,
        seconds_limit=settings.seconds,
        memory_limit=free,
        rows=settings.rows,
        other_columns=columns,
        models=sorted(grown, key=lambda each: each.first_limit[0]),
    )


def report(run: frame.Context, settings: Settings, measured: Measurement) -> Report:
    """Report where each approach runs out, its laws, and what was measured."""
    del run
    data, task = measured.dataset, measured.task
    name = f"a synthetic problem of {task}" if data is None else legible(data.name)
    left_out = [
        f"{each.label}: {each.left_out} of {each.left_out + len(each.costs)} sizes left out (--max_seconds)."
        for each in measured.models
        if each.left_out
    ]
    described = [f"{one.label}: {models.APPROACHES[one.model].described}" for one in measured.models]
    return Report(
        f"Growth: what {len(measured.models)} approaches cost on {name}",
        f"What does a fit cost as the rows grow, and at which n does {duration(measured.seconds_limit)} or "
        f"{byte_size(measured.memory_limit)} of memory run out?",
        results.answer(measured),
        results.result_table(measured),
        [
            Section("Time of a fit", [results.time_figure(measured, "fit"), results.columns_figure(measured)]),
            Section("Time of a prediction", [results.time_figure(measured, "predict")]),
            Section("Memory", [results.memory_figure(measured)]),
            Section("Predictions and memory", [results.other_table(measured)]),
            Section("Theory", [results.theory(measured)]),
            Section("How to read it", [Bullets([*left_out, *CAVEATS])]),
            Section("What was measured", [results.sizes_table(measured)]),
        ],
        {
            "data set": f"synthetic: {task}, normal columns" if data is None else data.described(),
            "rows": f"{listed(measured.rows, ',')} measured on {measured.columns:,} columns, also "
            f"{listed(measured.other_columns, ',')} columns at a middle number of rows; "
            f"{measured.job_rows:,} for the job",
            "models": described,
            "limits": f"{duration(measured.seconds_limit)} for a fit (--seconds), "
            f"{byte_size(measured.memory_limit)} of memory free at the start",
            "measuring": f"about {duration(settings.max_seconds)} at most (--max_seconds)",
        },
        remarks=left_out,
    )


main, run = frame.program(Settings, measure, report)

if __name__ == "__main__":
    main()
