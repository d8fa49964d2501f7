"""The costs of one approach within a limit of time, the laws fitted to them, and where time and memory run out."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from experiments import frame
from experiments.growth_models import APPROACHES
from mllab import growth
from mllab.errors import UserError
from mllab.growth import Cost, Make
from mllab.metrics import Interval
from mllab.power_law import PRIOR_NOISE, Exponent, PowerLaw, fit_power_law

REPEATS = 7  # fewer of long runs, see `growth.measured`
PLANNED = (16, 256)  # times the largest number of rows measured: where XLA plans the memory of a program
PLAN_NOISE = 0.02  # of log bytes: plans are exact, the law is not
NEVER = Interval(math.inf, math.inf, math.inf, 0)


@dataclass(frozen=True)
class Law:
    """A fitted law, and the exponents that theory has."""

    rows: Exponent
    columns: Exponent
    overhead: float  # seconds, or bytes
    noise: float  # standard deviation of the logarithm
    theory: growth.Exponents
    law: PowerLaw = frame.unsaved()

    @classmethod
    def of(cls, law: PowerLaw, theory: growth.Exponents) -> "Law":
        """Return the facts of a law."""
        return cls(law.rows, law.columns, law.overhead, law.noise, theory, law)


@dataclass(frozen=True)
class Growing:
    """What one approach costs."""

    model: str
    label: str
    formula: str  # of theory
    costs: list[Cost]
    left_out: int  # sizes that the limit of time did not allow
    fit: Law
    predict: Law
    memory: Law | None  # at the usual columns; None where unknown
    memory_points: list[tuple[int, int]]  # rows, bytes
    memory_by: str  # "program" or "process", see `growth.Cost`
    fit_at_full: Interval  # seconds
    predict_at_full: Interval  # seconds for `growth.QUERIES` rows
    bytes_at_full: Interval
    rows_in_seconds: Interval  # the most
    rows_in_memory: Interval  # the most; those that it refuses are more than `refuses_above`
    refuses_above: int | None  # rows, by a limit of its own

    @property
    def first_limit(self) -> tuple[float, str]:
        """The rows at which something first runs out, and what."""
        limits = [(self.rows_in_seconds.mean, "time"), (self.rows_in_memory.mean, "memory")]
        if self.refuses_above is not None:
            limits.append((float(self.refuses_above), "its own limit"))
        return min(limits)


def sizes_of(rows: Sequence[int], columns: Sequence[int], usual: int) -> list[tuple[int, int]]:
    """Return the sizes to measure, what tells most first: the least and most rows, other columns, the rows between."""
    middle = rows[(len(rows) - 1) // 2]
    ends = dict.fromkeys((rows[0], rows[-1]))
    return [
        *((n, usual) for n in ends),
        *((middle, d) for d in columns if d != usual),
        *((n, usual) for n in reversed(rows) if n not in ends),
    ]


def costs_within(
    learner: Any, setting: dict[str, Any], make: Make, sizes: Sequence[tuple[int, int]], seconds: float, theory: Any,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[Cost]:  # fmt: skip
    """Yield costs until the next one would take longer than is left; the first is measured in any case."""
    began, last = clock(), 0.0
    done: list[Cost] = []
    for n, d in sizes:
        if done:
            near = min(done, key=lambda cost: abs(math.log(n / cost.rows)) + abs(math.log(d / cost.columns)))
            fit = near.fit.median * (n / near.rows) ** theory.rows * (d / near.columns) ** theory.columns
            runs = 2 if fit > growth.LONG else 5
            if clock() - began + last + runs * fit > seconds:
                continue
        start = clock()
        done += growth.measure(learner, setting, make, [(n, d)], REPEATS)
        last = (
            clock()
            - start
            - sum(seconds_of.median * seconds_of.runs for seconds_of in (done[-1].fit, done[-1].predict))
        )
        yield done[-1]


def grown(
    name: str, classes: int, make: Make, sizes: Sequence[tuple[int, int]], *, full: int, usual: int, limit: float,
    memory: float, seconds: float, task: str, observe: Callable[[Cost], None],
) -> Growing:  # fmt: skip
    """Measure one approach and fit its laws.

    Args:
        name: a key of `APPROACHES`.
        classes: C.
        make: makes examples of a size.
        sizes: (n, d) each.
        full: rows of the full job.
        usual: columns of the full job.
        limit: seconds that a fit may take.
        memory: bytes that it may take.
        seconds: that measuring may take, about.
        task: the name of the task.
        observe: called with each cost.
    """
    began = time.perf_counter()
    approach, theory = APPROACHES[name], growth.THEORY[APPROACHES[name].theory]
    learner, setting = approach.make[task](classes), approach.setting(usual)
    costs = []
    for cost in costs_within(learner, setting, make, sizes, seconds, theory.fit):
        costs.append(cost)
        observe(cost)
    measured = [cost.size for cost in costs]
    fit = fit_power_law(measured, [cost.fit.median for cost in costs], prior=theory.fit)
    predict = fit_power_law(measured, [cost.predict.median for cost in costs], prior=theory.predict)
    by, most = costs[-1].bytes_by, max(cost.rows for cost in costs)
    top = PLANNED[-1] * most
    accepted = growth.most_accepted(learner, setting, make(most, usual), top)
    points = sorted((cost.rows, cost.bytes) for cost in costs if cost.columns == usual and cost.bytes)
    if by == "program":
        for times in PLANNED:
            n = min(times * most, accepted)
            late = time.perf_counter() - began + costs[-1].compile_seconds > seconds
            if n > points[-1][0] and not (late and len(points) > 3):
                planned = growth.planned_bytes(learner, setting, make(2, usual), n)
                points += [(n, planned)] if planned else []
    held = None
    if points:
        last = points[-3:]  # small programs hold buffers of a fixed size
        held = fit_power_law([(n, usual) for n, _ in last], [each for _, each in last], prior=theory.memory,
                             prior_noise=PLAN_NOISE if by == "program" else PRIOR_NOISE)  # fmt: skip
    unknown = Interval(math.nan, math.nan, math.nan, 0)
    return Growing(
        model=name,
        label=approach.label,
        formula=theory.formula,
        costs=costs,
        left_out=len(sizes) - len(costs),
        fit=Law.of(fit, theory.fit),
        predict=Law.of(predict, theory.predict),
        memory=Law.of(held, theory.memory) if held else None,
        memory_points=points,
        memory_by=by,
        fit_at_full=fit.predict(full, usual),
        predict_at_full=predict.predict(full, usual),
        bytes_at_full=held.predict(full, usual) if held else unknown,
        rows_in_seconds=fit.limit(seconds=limit, d=usual),
        rows_in_memory=held.limit(bytes=memory, d=usual) if held and math.isfinite(memory) else NEVER,
        refuses_above=accepted if accepted < top else None,
    )


def checked(rows: Sequence[int], columns: Sequence[int], classes: int, free: float) -> None:
    """Raise UserError for sizes that have fewer rows than classes, or whose examples do not fit in memory."""
    if rows[0] < max(2, classes):
        raise UserError(f"--rows={rows[0]}: give {max(2, classes)} or more, at least one a class")
    n, d = max(rows), max(columns)
    if 12 * n * d > free:
        raise UserError(f"--rows={n}, --columns={d}: examples of {n:,} rows and {d:,} columns take more than the "
                        "free memory; give fewer")  # fmt: skip
