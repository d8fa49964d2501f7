"""The answer, table and figures of `capacity`."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from experiments import answers, frame
from experiments.capacity_axes import Axis
from mllab.capacity import Errors, Trend, Verdict
from mllab.metrics import Interval
from mllab.report import draw, style
from mllab.report.report import Drawing, Section
from mllab.report.table import Table, interval, legible, share, short
from mllab.report.table import percent as percentage

WIDE = 8  # times the least validation error: a greater one asks for a log scale


@dataclass(frozen=True)
class Panel:
    """One axis: errors at each value, and what they say."""

    name: str
    model: str
    values: list[float]  # by ascending capacity
    training: list[Interval]
    validation: list[Interval]
    verdict: Verdict
    axis: Axis = frame.unsaved()


@dataclass(frozen=True)
class Learning:
    """One learning curve."""

    model: str
    rows: list[int]
    training: list[Interval]
    validation: list[Interval]
    trend: Trend


@dataclass(frozen=True)
class Fits:
    """Fitted curves of one sample."""

    x: np.ndarray  # [M] training rows
    y: np.ndarray
    grid: np.ndarray  # [G]
    degrees: list[float]
    values: list[np.ndarray]  # [G] each
    truth: np.ndarray | None  # [G] without noise


@dataclass(frozen=True)
class Measurement:
    """Errors along every axis, and learning curves."""

    dataset: frame.DatasetFacts | None  # None: a generated problem
    problem: str
    task: str
    error: str  # what errors are
    training_rows: int
    validation_rows: int
    samples: int
    independent: bool
    baseline: Interval  # of the best constant prediction
    panels: list[Panel]
    learning: list[Learning]
    fits: Fits | None = frame.unsaved()

    @property
    def is_share(self) -> bool:
        """Whether errors are shares of the rows."""
        return self.error == "error rate"

    def text(self, value: Interval) -> str:
        """Return an error with its interval."""
        return percentage(value) if self.is_share else interval(value)

    @property
    def over(self) -> str:
        """What intervals are over."""
        return answers.counted(self.samples, "sample")


def spread(errors: np.ndarray, over: Callable[[np.ndarray], Interval]) -> list[Interval]:
    """Return the mean of each place with its interval."""
    return [over(row) for row in errors]


def panel_of(axis: Axis, errors: Errors, verdict: Verdict, over: Callable[[np.ndarray], Interval]) -> Panel:
    """Return the facts of an axis."""
    return Panel(
        axis.name, axis.model, list(axis.values), spread(errors.training, over), spread(errors.validation, over),
        verdict, axis,
    )  # fmt: skip


def underfitting(panel: Panel) -> str:
    """Return where an axis underfits, in words."""
    places = panel.verdict.underfits
    return f"underfits at {panel.axis.span(places)}" if places else "no sign of underfitting"


def overfitting(panel: Panel) -> str:
    """Return where an axis overfits, in words."""
    verdict, axis = panel.verdict, panel.axis
    if not verdict.overfits:
        beyond = f" (at {axis.span(verdict.others)} both errors are greater)" if verdict.others else ""
        return f"no sign of overfitting{beyond}"
    peak = ""
    if verdict.peak is not None:
        peak = f"; beyond {axis.shown(verdict.peak)} the validation error falls again (double descent)"
    return f"overfits at {axis.span(verdict.overfits)}{peak}"


def more_data(learning: Learning, measured: Measurement) -> str:
    """Return whether more examples would help, in words."""
    trend = learning.trend
    last = f"{learning.rows[-1]:,} rows"
    if trend.helps == "likely":
        fall = measured.text(trend.last_fall)
        return f"more examples are likely to help: from {learning.rows[-2]:,} to {last} the error still fell by {fall}"
    if trend.helps == "unclear":
        return f"the last rows brought no clear gain; a gap of {measured.text(trend.gap)} is left at {last}, so that " \
            "more examples may help, or less capacity"  # fmt: skip
    if trend.last_fall.sign > 0:
        return f"more examples will hardly help: a doubling of the rows lowers the error by {share(trend.share)} of it"
    return f"more examples will hardly help alone: at {last} training and validation error have nearly met"


def answer(measured: Measurement) -> str:
    """Return the best capacity, where the axes overfit, and whether more examples would help."""
    parts = []
    constant = "the most frequent class" if measured.is_share else "the mean"
    if measured.panels:
        best = min(measured.panels, key=lambda panel: panel.validation[panel.verdict.chosen].mean)
        place = best.verdict.chosen
        parts.append(
            f"With {measured.training_rows:,} training rows of {measured.problem}, {best.model} with "
            f"{best.axis.shown(place)} has the least validation {measured.error}, "
            f"{measured.text(best.validation[place])} (predicting {constant}: {measured.text(measured.baseline)})."
        )
        over = [panel for panel in measured.panels if panel.verdict.overfits]
        none = [panel for panel in measured.panels if not panel.verdict.overfits]
        if over:
            spans = (panel.axis.span(panel.verdict.overfits) for panel in over)
            parts.append(f"Overfitting: {'; '.join(spans)}.")
        if none:
            parts.append(f"No sign of overfitting along {answers.joined(panel.axis.letter for panel in none)}.")
    if measured.learning:
        one = min(measured.learning, key=lambda each: each.validation[-1].mean)
        parts.append(f"{one.model[0].upper()}{one.model[1:]}: {more_data(one, measured)}.")
    return " ".join(parts)


def result_table(measured: Measurement) -> Table:
    """Return one row an axis, and the baseline."""
    rows: list[list[object]] = []
    for panel in measured.panels:
        verdict = panel.verdict
        tied = [place for place in verdict.tied if place != verdict.chosen]
        rows.append([
            panel.model, panel.axis.shown(verdict.chosen),
            answers.joined(short(panel.values[place]) for place in tied) if tied else "none",
            measured.text(panel.training[verdict.chosen]), measured.text(panel.validation[verdict.chosen]),
            panel.axis.span(verdict.underfits) if verdict.underfits else "no sign",
            panel.axis.span(verdict.overfits) if verdict.overfits else "no sign",
        ])  # fmt: skip
    constant = "most frequent class" if measured.is_share else "predicting the mean"
    rows.append([constant, None, None, None, measured.text(measured.baseline), None, None])
    error = measured.error
    shared = "" if measured.independent else ", corrected for the rows that samples share"
    return Table(
        [
            "model", "chosen", "tied with it", f"training {error}", f"validation {error}", "underfits", "overfits",
        ],
        rows,
        caption=f"± 95% interval over {measured.over}{shared}; chosen: the least mean validation error, which is "
        "therefore optimistic; under- and overfitting: where the validation error is clearly above that of the chosen "
        f"capacity, on the same samples; {answers.LAST_ROW}",
    )  # fmt: skip


def mirrored(value: Interval) -> Interval:
    """Return an interval that is as wide below as above on a log scale, where the lower bound may be negative."""
    return value._replace(low=value.mean**2 / value.high) if value.low <= 0 < value.mean else value


def panel_section(panel: Panel, measured: Measurement) -> Section:
    """Return the curves of an axis and what they say."""
    x, axis, chosen = np.array(panel.values), panel.axis, panel.verdict.chosen
    scale = 100 if measured.is_share else 1
    means = np.array([each.mean for each in panel.validation])
    wide = not measured.is_share and bool(np.nanmax(means) > WIDE * np.nanmin(means))
    series = [
        draw.Series.of_intervals(
            part, x, [mirrored(each) for each in values] if wide else values, scale=scale, limits=(0, math.inf),
            name=part, best=x[chosen] if part == "validation" else None,
        )
        for part, values in (("training", panel.training), ("validation", panel.validation))
    ]  # fmt: skip
    title = f"{panel.model[0].upper()}{panel.model[1:]}: least at {axis.shown(chosen)}"
    if len(x) > 1 and x[0] > x[-1]:
        note = "More capacity to the left. Larger marker: the chosen value."
    else:
        note = "More capacity to the right. Larger marker: the chosen value."
    if wide:
        note += " A band that would reach below 0 is drawn as wide below as above."
    figure = draw.curves(
        series, title=title, x_label=axis.label, y_label=y_label(measured), log_x=True,
        log_y=wide, whole=wide, over=measured.over, note=note,
    )  # fmt: skip
    words = f"{underfitting(panel)}; {overfitting(panel)}."
    return Section(
        f"{axis.letter[0].upper()}{axis.letter[1:]}: {panel.model}",
        [Drawing(f"by_{panel.name}", figure, f"Training and validation error against {axis.label}"),
         words[0].upper() + words[1:]],
    )  # fmt: skip


def learning_section(measured: Measurement) -> Section:
    """Return the learning curves and whether more examples would help."""
    blocks: list[Drawing | str] = []
    scale = 100 if measured.is_share else 1
    for number, one in enumerate(measured.learning):
        series = [
            draw.Series.of_intervals(part, one.rows, values, scale=scale, limits=(0, math.inf), name=part)
            for part, values in (("training", one.training), ("validation", one.validation))
        ]
        figure = draw.curves(
            series, title=f"{one.model[0].upper()}{one.model[1:]}", x_label="training rows", y_label=y_label(measured),
            log_x=True, over=measured.over,
        )  # fmt: skip
        blocks += [
            Drawing(f"learning_{number + 1}", figure, f"Training and validation error of {one.model} against rows"),
            f"{one.model[0].upper()}{one.model[1:]}: {more_data(one, measured)}.",
        ]
    return Section("Number of examples", blocks)


def fits_drawing(measured: Measurement) -> Drawing | None:
    """Draw the curves of three degrees over the training rows of one sample."""
    fits = measured.fits
    if fits is None:
        return None
    colours = (style.GREEN, style.BLUE, style.VERMILLION)
    lines = [
        draw.Series(f"degree {short(degree)}", fits.grid, values, style=style.Style(colour, style.SOLID, ""))
        for degree, values, colour in zip(fits.degrees, fits.values, colours, strict=False)
    ]
    if fits.truth is not None:
        lines.append(
            draw.Series("without noise", fits.grid, fits.truth, style=style.Style(style.BLACK, style.DOTTED, ""))
        )
    label = legible(measured.dataset.features[0]) if measured.dataset and measured.dataset.features else "x"
    target = legible(measured.dataset.target) if measured.dataset else "y"
    figure = draw.fitted_line(
        fits.x, fits.y, lines, title="One sample, fitted by polynomials of three degrees", x_label=label,
        y_label=target, note="A curve may leave the frame.",
    )  # fmt: skip
    return Drawing("fits", figure, "Training rows of one sample, and polynomials of three degrees fitted to them")


def y_label(measured: Measurement) -> str:
    """Return what errors are, with their unit."""
    if measured.is_share:
        return "error rate (%)"
    return "RMSE" + (" (standard deviations of the target)" if measured.dataset else "")
