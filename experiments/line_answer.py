"""The measurement of a linear regression, and its answer and table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from experiments import answers, frame
from experiments import descent_paths as descent
from mllab.report.table import Table, equation, significant


@dataclass(frozen=True)
class Measurement:
    """Lines in closed form and by descent."""

    dataset: str
    rows: int
    labels: descent.Labels
    start: tuple[float, float]
    steps: int
    condition_number: float  # of the Hessian
    stable_rate: float  # gradient descent is stable below it
    closed_form: list[descent.Fit]
    mean: descent.Fit  # the baseline: the flat line through the mean
    winner: str | None  # the first of the tied
    tied: list[str]  # the optimizers that are near the closed form soonest, after the same number of steps
    optimizers: list[descent.Descent]
    problem: descent.Problem = frame.unsaved()
    paths: Mapping[str, descent.Path] = frame.unsaved()


def answer(measured: Measurement) -> str:
    """Return the line of least squares, and which optimizers are near it soonest."""
    least, count, steps = measured.closed_form[0], len(measured.optimizers), f"{measured.steps:,}"
    near = descent.soonest_first(measured.optimizers)
    line = (
        f"The least-squares line, in closed form, is {equation(least.a, least.b)}: a loss of "
        f"{significant(least.loss, 5)}; predicting the mean: {significant(measured.mean.loss, 5)}."
    )
    if not near:
        return f"{line} None of {count} optimizers stays within 1% of its loss after {steps} steps."
    first, later = measured.tied, near[len(measured.tied) :]
    second = f", {later[0].optimizer} next after {later[0].steps:,}" if later else ""
    return (
        f"{line} {answers.joined(first)} stay{'s' * (len(first) == 1)} within 1% of its loss after "
        f"{answers.counted(near[0].steps or 0, 'step')}{' alike' * (len(first) > 1)}{second}; {count - len(near)} of "
        f"{answers.counted(count, 'optimizer')} do not within {steps}."
    )


def result_table(measured: Measurement) -> Table:
    """Return one row per closed form, one for the baseline, then one per optimizer."""

    def cells(fit: descent.Fit | descent.Descent) -> list[str]:
        return [*(significant(value, 5) for value in (fit.a, fit.b, fit.loss)), significant(fit.distance, 2)]

    rows: list[Sequence[object]] = [
        *([f"closed form ({fit.method})", None, *cells(fit), None, None] for fit in measured.closed_form),
        ["predicting the mean", None, *cells(measured.mean), None, None],
        *([each.optimizer, each.rate, *cells(each), each.steps, each.diverged] for each in measured.optimizers),
    ]
    start = f"a = {measured.start[0]:g}, b = {measured.start[1]:g}"
    caption = (
        f"{'* soonest; ' if measured.tied else ''}steps to 1%: after which the loss stays within 1% of the closed "
        f"form's; distance: to the closed form's (a, b), in raw units; all from {start}, {measured.steps:,} steps"
    )
    columns = ["fitted by", "rate", "a", "b", "loss", "distance", "steps to 1%", "diverged"]
    return Table(columns, rows, [place for place, row in enumerate(rows) if row[0] in measured.tied], caption)
