"""The answer, tables and figures of `growth`."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from experiments import answers, frame
from experiments.growth_measurement import REPEATS, Growing, Law
from experiments.growth_models import APPROACHES
from mllab.growth import QUERIES, Cost
from mllab.metrics import Interval
from mllab.report import draw, style
from mllab.report.draw import Series
from mllab.report.report import Bullets, Drawing
from mllab.report.style import DOTTED, Style
from mllab.report.table import BLANK, Table, byte_size, duration, number, short

FAR = 1e9  # rows: limits beyond are not told
NEAR = 100  # times the rows of the job: limits beyond are not in the answer
LAW_POINTS = 40
SIGHT = 30  # times a limit: laws are not drawn beyond
LIMIT = Style(style.BLACK, DOTTED, "")


@dataclass(frozen=True)
class Measurement:
    """What every approach costs, the first to run out first."""

    dataset: frame.DatasetFacts | None  # None: the synthetic problem
    task: str
    classes: int
    columns: int  # of the job
    job_rows: int
    seconds_limit: float
    memory_limit: float  # bytes that were free
    rows: tuple[int, ...]  # measured
    other_columns: tuple[int, ...]  # measured, at a middle number of rows
    models: list[Growing]


def count_text(rows: float) -> str:
    """Return a number of rows in two digits: '31,000', '2.4 million'."""
    if not rows < FAR:
        return f"over {short(FAR / 1e9)} billion"
    return f"{short(rows / 1e6, 2)} million" if rows >= 1e6 else short(rows, 2)


def rows_text(limit: Interval) -> str:
    """Return a limit of rows with its interval: '31,000 (25,000 to 39,000)'."""
    if not limit.mean < FAR:
        return count_text(limit.mean)
    if limit.mean < 1:
        return "none"
    text, low, high = map(count_text, limit[:3])
    low = low.removesuffix(" million") if high.endswith(" million") and low.endswith(" million") else low
    return text if text == low == high else f"{text} ({low} to {high})"


def time_text(seconds: Interval) -> str:
    """Return a time with its prediction interval: '3.2 min (2.1 min to 4.9 min)'."""
    if not math.isfinite(seconds.mean):
        return BLANK
    low, high = duration(seconds.low), duration(seconds.high)
    unit = low.rpartition(" ")[2]
    low = low.rpartition(" ")[0] if high.endswith(f" {unit}") else low
    return f"{duration(seconds.mean)} ({low} to {high})"


def exponent_text(law: Law, axis: str) -> str:
    """Return an exponent with its interval, and that of theory in brackets."""
    exponent = getattr(law, axis)
    return f"{number(exponent.value, exponent.low, exponent.high)} ({getattr(law.theory, axis):g})"


def reached(each: Growing, measured: Measurement) -> str:
    """Return in words where an approach first runs out, and of what."""
    seconds, free = duration(measured.seconds_limit), byte_size(measured.memory_limit)
    texts = {
        "time": f"n = {rows_text(each.rows_in_seconds)} takes the {seconds}",
        "memory": f"at n = {count_text(each.rows_in_memory.mean)} it no longer fits in {free}",
        "its own limit": f"it refuses more than {count_text(each.refuses_above or 0)} rows",
    }
    return f"{each.label}: {texts[each.first_limit[1]]}"


def answer(measured: Measurement) -> str:
    """Return where each approach runs out of time or memory, and which the job's rows forbid."""
    job, models = measured.job_rows, measured.models
    forbidden = [one.label for one in models if one.first_limit[0] < job]
    nothing = f"Nothing is prohibitive at {job:,} rows"
    near = [one for one in models if one.first_limit[0] < NEAR * job] or models[:1]
    verdict = f"{f'Prohibitive at {job:,} rows: {answers.joined(forbidden)}' if forbidden else nothing}."
    far = [one.label for one in models if one not in near]
    rest = f" Beyond {count_text(NEAR * job)} rows: {answers.joined(far)}." if far else ""
    each = "; ".join(reached(one, measured) for one in near)
    return f"{verdict} One fit on {measured.columns:,} columns: {each}.{rest}"


def result_table(measured: Measurement) -> Table:
    """Return one row an approach, what is prohibitive first."""
    job, seconds, free = measured.job_rows, duration(measured.seconds_limit), byte_size(measured.memory_limit)
    rows = []
    for each in measured.models:
        refused = each.refuses_above
        rows.append([
            each.label,
            each.first_limit[1] if each.first_limit[0] < FAR else "nothing",
            exponent_text(each.fit, "rows"),
            exponent_text(each.fit, "columns"),
            time_text(each.fit_at_full),
            rows_text(each.rows_in_seconds),
            rows_text(each.rows_in_memory) if refused is None else f"refuses over {count_text(refused)}",
        ])  # fmt: skip
    columns = [
        "model",
        "runs out first",
        "time: exponent of n",
        "of d",
        f"fit of {job:,} rows",
        f"rows in {seconds}",
        f"rows in {free}",
    ]
    return Table(
        columns,
        rows,
        caption=f"{measured.columns:,} columns; what is prohibitive first; ± and (… to …): 95% intervals of the fitted "
        "law a + b n^p d^q, to which the exponent of theory (in brackets) counts as one observation with an interval "
        "of ± 0.5; times without compiling; wall times and free memory of this machine, which differ from run to run",
    )


def other_table(measured: Measurement) -> Table:
    """Return the time of predictions, and the memory, with their exponents."""
    return Table(
        [
            "model", f"prediction at {measured.job_rows:,} rows", "exponent of n", "of d",
            f"memory at {measured.job_rows:,} rows", "exponent of n (memory)",
        ],
        [
            [
                one.label, time_text(one.predict_at_full), exponent_text(one.predict, "rows"),
                exponent_text(one.predict, "columns"), byte_size(one.bytes_at_full.mean),
                exponent_text(one.memory, "rows") if one.memory else BLANK,
            ]
            for one in measured.models
        ],
        caption=f"predictions of m = {QUERIES:,} rows; memory of both with their data; in brackets: theory",
    )  # fmt: skip


def theory(measured: Measurement) -> Bullets:
    """Return what the algorithms imply."""
    where = "C classes, H hidden units; the leading term rules where n is large"
    return Bullets(
        [*(f"{one.label}: {one.formula}." for one in measured.models), f"Here m rows are predicted; {where}."]
    )


def sizes_table(measured: Measurement) -> Table:
    """Return every time that was measured."""
    return Table(
        ["model", "rows", "columns", "fit", "least to greatest", "prediction", "compiling", "memory"],
        [
            [one.label, cost.rows, cost.columns, duration(cost.fit.median),
             f"{duration(cost.fit.least)} to {duration(cost.fit.greatest)}", duration(cost.predict.median),
             duration(cost.compile_seconds), byte_size(cost.bytes) if cost.bytes else BLANK]
            for one in measured.models
            for cost in one.costs
        ],
        caption=f"fit and prediction of {QUERIES:,} rows: medians of {REPEATS} runs, fewer of "
        "long ones; compiling: of both programs, or what the first run on the host took longer",
    )  # fmt: skip


def time_figure(measured: Measurement, part: str) -> Drawing:
    """Draw the times of fits or predictions against the rows, with the laws and the limits."""
    far = _far(measured)
    grid = np.geomspace(min(measured.rows), far, LAW_POINTS)
    series = []
    for one in measured.models:
        law, look = getattr(one, part).law, APPROACHES[one.model]
        means = _in_sight([law.predict(n, measured.columns).mean for n in grid], measured.seconds_limit)
        costs = [cost for cost in one.costs if cost.columns == measured.columns]
        series += _pair(one.label, look, costs, "rows", lambda cost: getattr(cost, part).median, grid, means)
    what = "one fit" if part == "fit" else f"predicting {QUERIES:,} rows"
    if part == "fit":
        series.append(Series(duration(measured.seconds_limit), grid, np.full(LAW_POINTS, measured.seconds_limit),
                             style=LIMIT))  # fmt: skip
    series.append(_upright(measured.job_rows, series))
    figure = draw.curves(
        series, title=f"{what[0].upper()}{what[1:]} on {measured.columns:,} columns", x_label="training rows n",
        y_label=f"seconds of {what}", log_x=True, log_y=True, whole=True,
        note=f"Markers: measured. Dashed: the fitted law. Dotted: {_limits(measured, part == 'fit')}.",
    )  # fmt: skip
    return Drawing(f"{part}_by_rows", figure, f"Seconds of {what} against the number of training rows, log scales")


def columns_figure(measured: Measurement) -> Drawing | None:
    """Draw the times of fits against the columns, at a middle number of rows."""
    columns = sorted({cost.columns for one in measured.models for cost in one.costs})
    if len(columns) < 2:
        return None
    middle = next(cost.rows for one in measured.models for cost in one.costs if cost.columns != measured.columns)
    grid = np.geomspace(columns[0], columns[-1] * 2, LAW_POINTS)
    series = []
    for one in measured.models:
        values = np.array([one.fit.law.predict(middle, d).mean for d in grid])
        costs = [cost for cost in one.costs if cost.rows == middle]
        series += _pair(
            one.label, APPROACHES[one.model], costs, "columns", lambda cost: cost.fit.median, grid, values
        )  # fmt: skip
    figure = draw.curves(
        series, title=f"One fit to {middle:,} rows", x_label="columns d", y_label="seconds of one fit", log_x=True,
        log_y=True, whole=True, note="Markers: measured. Dashed: the fitted law.",
    )  # fmt: skip
    return Drawing("fit_by_columns", figure, "Seconds of one fit against the number of columns, log scales")


def memory_figure(measured: Measurement) -> Drawing:
    """Draw the memory against the rows, with the laws and the limit."""
    far = _far(measured)
    series = []
    for one in measured.models:
        if one.memory is None:
            continue
        n, held = np.array(one.memory_points, float).T
        look = APPROACHES[one.model]
        series.append(Series("", n, held, style=look.look(law=False)))
        if far > n[-1]:
            grid = np.geomspace(n[-1], far, LAW_POINTS)
            means = [one.memory.law.predict(each, measured.columns).mean for each in grid]
            series.append(Series(one.label, grid, _in_sight(means, measured.memory_limit), style=look.look(law=True)))
        else:
            series[-1] = Series(one.label, n, held, style=look.look(law=False))
    ends = np.array([min(measured.rows), far])
    if math.isfinite(measured.memory_limit):
        free = f"{byte_size(measured.memory_limit)} free"
        series.append(Series(free, ends, np.full(2, measured.memory_limit), style=LIMIT))
    series.append(_upright(measured.job_rows, series))
    figure = draw.curves(
        series, title=f"Memory of a fit and a prediction on {measured.columns:,} columns", x_label="training rows n",
        y_label="bytes", log_x=True, log_y=True, whole=True,
        note="Markers: what XLA plans for the program, without running it beyond the measured rows; of learners on the "
        "host, the growth of the process, a lower bound. Dashed: the fitted law. Dotted: free memory, and the job's "
        "rows.",
    )  # fmt: skip
    return Drawing("memory_by_rows", figure, "Bytes of memory against the number of training rows, log scales")


def _far(measured: Measurement) -> float:
    """Return the rows up to which laws are drawn: the job's, ten times the measured, and the nearer limits."""
    limits = [n for one in measured.models if (n := one.first_limit[0]) < 5 * measured.job_rows]
    return float(max(2 * measured.job_rows, 10 * max(measured.rows), *(1.5 * n for n in limits), 0))


def _in_sight(values: Sequence[float], limit: float) -> np.ndarray:
    """Return values with NaN where they are far beyond a limit."""
    array = np.asarray(values, float)
    return np.where(array <= SIGHT * limit, array, np.nan)


def _pair(
    label: str, look: object, costs: Sequence[Cost], axis: str, value: Callable[[Cost], float], grid: np.ndarray,
    law: np.ndarray,
) -> list[Series]:  # fmt: skip
    """Return what was measured, and the law with the approach's name at its end."""
    costs = sorted(costs, key=lambda cost: cost.size)
    at = np.array([getattr(cost, axis) for cost in costs], float)
    return [
        Series("", at, np.array([value(cost) for cost in costs]), style=look.look(law=False)),  # type: ignore[attr-defined]
        Series(label, grid, np.asarray(law), style=look.look(law=True)),  # type: ignore[attr-defined]
    ]


def _upright(x: float, series: Sequence[Series]) -> Series:
    """Return an upright line at x through the range of the others."""
    values = np.concatenate([one.mean for one in series])
    values = values[np.isfinite(values) & (values > 0)]
    return Series("", np.full(2, float(x)), np.array([values.min(), values.max()]), style=LIMIT)


def _limits(measured: Measurement, with_seconds: bool) -> str:
    job = f"the job's {measured.job_rows:,} rows"
    return f"{duration(measured.seconds_limit)}, and {job}" if with_seconds else job
