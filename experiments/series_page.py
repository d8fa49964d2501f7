"""The answer, table and drawings of forecasts of a series."""

from collections.abc import Sequence

import numpy as np

from experiments import answers
from experiments.series_scores import AUTOREGRESSION, Measurement, bounds
from mllab import forecasting, metrics
from mllab.data.series import DAYS_OF_A_YEAR
from mllab.report import draw, style
from mllab.report.draw import Series
from mllab.report.report import Bullets, Drawing, Section
from mllab.report.style import DASH_DOT, DASHED, DOTTED, LONG_SHORT, SOLID, Style
from mllab.report.table import Table, interval, legible, number, points, share, short, significant

FANS = 8  # forecasts that are drawn, at most
BEFORE = 2  # horizons of values drawn before the first of them
LISTED = 24  # steps of the table of what comes next
FEW_YEARS = 3.0  # a shorter stretch is drawn in days
LOOKS = {
    "last value": Style(style.BLACK, DASHED, "o"),
    "mean": Style(style.BLACK, LONG_SHORT, "v"),
    "seasonal": Style(style.BLACK, DOTTED, "s"),
    "drift": Style(style.BLACK, DASH_DOT, "^"),
    AUTOREGRESSION: Style(style.PURPLE, SOLID, "P"),
    **style.CELLS,
}


def answer(measured: Measurement) -> str:
    """Return the verdict: whether a model beats every naive forecast on the test part."""
    best, chosen = measured.best_naive, measured.chosen
    standing = {each.name: each for each in measured.comparisons}
    beating = [each.name for each in measured.comparisons if each.beats]
    scores = f"MASE {interval(chosen.test)} against {interval(best.test)} of {best.name}"
    count = answers.counted(measured.origins["test"], "origin")
    if standing[chosen.name].beats:
        less = 1 - chosen.test.mean / best.test.mean
        text = f"{chosen.name} beats every naive forecast: {scores}, the best of them, {share(less, 0)} less ({count})."
        others = [name for name in beating if name != chosen.name]
        text += f" So {'do' if len(others) > 1 else 'does'} {answers.joined(others)}." if others else ""
        return text + _among_models(measured)
    if beating:
        text = f"{chosen.name}, the best on the validation part, does not clearly beat the naive forecasts: {scores} "
        return f"{text}({count}). {answers.joined(beating)} would have, which only the test part shows."
    names = answers.joined(each.name for each in measured.models)
    text = (
        f"Nothing beats {best.name}: its MASE is {interval(best.test)}, and {_not_better(measured, names)} ({count})."
    )
    return f"{text} {chosen.name}, the best on the validation part, has {interval(chosen.test)}."


def _not_better(measured: Measurement, names: str) -> str:
    if len(measured.models) == 1:
        return f"{names} is not clearly better than every naive forecast"
    return f"none of {names} is clearly better than every naive forecast"


def _among_models(measured: Measurement) -> str:
    """Return whether the chosen model is clearly better than the others."""
    chosen = measured.chosen
    tests = {
        each.name: metrics.diebold_mariano(each.losses, chosen.losses, measured.horizon)
        for each in measured.models
        if each.name != chosen.name
    }
    adjusted = metrics.holm(np.array([test.p_value for test in tests.values()]))
    tied = [
        name
        for (name, test), p in zip(tests.items(), adjusted, strict=True)
        if not (p < 0.05 and test.difference.mean > 0)
    ]
    if not tied:
        return f" It is clearly better than {answers.joined(tests)}, too." if tests else ""
    return f" It is not clearly better than {answers.joined(tied)}."


def result_table(measured: Measurement) -> Table:
    """Return a row for each way to forecast, the naive ones first."""
    unit = f" ({legible(measured.series.unit)})" if measured.series.unit else ""
    columns = [
        "forecast", "chosen", "MASE, validation", "MASE, test", f"RMSE{unit}", "gain on the best naive", "p", "inside",
    ]  # fmt: skip
    standing = {each.name: each for each in measured.comparisons}
    rows = []
    for each in (*measured.naive, *measured.models):
        beside = standing.get(each.name)
        rows.append([
            each.name, each.settings or "—", interval(each.validation), interval(each.test), significant(each.rmse),
            None if beside is None else points(beside.gain),
            None if beside is None else p_value(beside.adjusted), share(each.coverage, 0),
        ])  # fmt: skip
    names = [each.name for each in (*measured.naive, *measured.models)]
    caption = (
        f"* {'chosen on the validation part' if measured.winner in measured.models else 'nothing beats it'}; errors of "
        f"1 to {measured.horizon} steps ahead, in units of {number(measured.mase_scale)}{unit}; ± 95% interval over "
        f"{measured.origins['test']:,} overlapping origins; p: of being no better than every naive forecast (Diebold "
        f"and Mariano 1995), adjusted for {answers.counted(len(measured.models), 'model')}; inside: of intervals that "
        f"aim at {share(measured.coverage, 0)}; first row: the baseline that nothing changes"
    )
    return Table(columns, rows, names.index(measured.winner.name), caption)


def p_value(value: float) -> str:
    """Return a p-value: '0.03', '<0.001'."""
    return "<0.001" if value < 0.001 else f"{value:.2g}" if value < 0.1 else f"{value:.1f}"


def sections(measured: Measurement) -> list[Section]:
    """Return forecasts, errors by steps ahead, what comes next, the choices, and how to read it."""
    return [
        Section("Forecasts of the test part", [forecasts(measured)]),
        Section("Error by steps ahead", [by_horizon(measured)]),
        Section("What comes next", [next_values(measured)]),
        Section("Training", [training_curves(measured)] if any(one.stop for one in measured.trained) else []),
        Section("Diverged lanes", [Bullets(measured.diverged)] if measured.diverged else []),
        Section("How to read it", [Bullets(caveats(measured))]),
    ]


def positions(measured: Measurement) -> tuple[np.ndarray, str]:
    """Return the time of each value and of the horizon after the last, [N + H], and the label of the axis."""
    series, horizon = measured.series, measured.horizon
    if series.times is None:
        return np.arange(1.0, series.count + horizon + 1), "step"
    usual = float(np.median(np.diff(series.times)))
    times = np.append(series.times, series.times[-1] + usual * np.arange(1, horizon + 1))
    if not series.has_dates:
        return times, "time"
    return 1970 + times / DAYS_OF_A_YEAR, "year"


def forecasts(measured: Measurement) -> Drawing:
    """Draw the last values of the test part, and forecasts of the winner from origins one horizon apart."""
    horizon, winner, walk = measured.horizon, measured.winner, measured.walk
    time, x_label = positions(measured)
    origins = walk.origins("test")
    last = np.arange(len(origins) - 1, -1, -horizon)[:FANS][::-1]
    start = max(0, int(origins[last[0]]) - BEFORE * horizon)
    values, unit = measured.series.values, measured.series.unit
    x = time
    if x_label == "year":
        x, x_label = _since(time, start)
    look = LOOKS.get(winner.name)
    transform = forecasting.TRANSFORMS[measured.series.transform]
    ranges = [(int(origins[i]), winner.forecasts.test[i]) for i in last] + [(walk.count - 1, winner.forecasts.future)]
    drawn = [Series("observed", x[start : walk.count], values[start:], style=Style(style.ORANGE, SOLID, ""))]
    for place, (origin, forecast) in enumerate(ranges):
        low, high = bounds(transform, forecast, winner.half_width)
        at = x[origin : origin + horizon + 1]
        mean, below, above = (np.concatenate([[values[origin]], each]) for each in (forecast, low, high))
        label = winner.name if place == len(ranges) - 1 else ""
        drawn.append(Series(label, at, mean, below, above, name=winner.name, style=look))
    held = share(winner.coverage, 0)
    aim = share(measured.coverage, 0)
    figure = draw.curves(
        drawn, title=f"{legible(measured.series.name)}: forecasts by {winner.name} from origins {horizon} steps apart",
        x_label=x_label, y_label=f"{legible(measured.series.column)}{f' ({legible(unit)})' if unit else ''}",
        markers=False, bands=f"Bands: prediction intervals for {aim}, which hold {held} of the test part.",
        note="The last forecast lies after the end of the series.",
    )  # fmt: skip
    return Drawing("forecasts", figure, "The last values of the series, and forecasts of them with their intervals")


def _since(years: np.ndarray, start: int) -> tuple[np.ndarray, str]:
    """Return years as time since the one at `start`, or as days where few years are drawn, and the label."""
    if years[-1] - years[start] < FEW_YEARS:
        day = np.datetime64("1970-01-01") + round((years[start] - 1970) * DAYS_OF_A_YEAR)
        return (years - years[start]) * DAYS_OF_A_YEAR, f"days since {day}"
    first = int(years[start])
    return years - first, f"years since {first}"


def by_horizon(measured: Measurement) -> Drawing:
    """Draw the error against the steps ahead, with intervals of the winner and of its best rival."""
    steps = np.arange(1.0, measured.horizon + 1)
    banded = {measured.winner.name, measured.best_naive.name, measured.chosen.name}
    drawn = []
    for each in (*measured.naive, *measured.models):
        look = LOOKS.get(each.name)
        if each.name in banded:
            drawn.append(Series.of_intervals(each.name, steps, each.by_horizon, limits=(0, np.inf), style=look))
        else:
            drawn.append(Series(each.name, steps, np.array([one.mean for one in each.by_horizon]), style=look))
    figure = draw.curves(
        drawn, title=f"Error of {legible(measured.series.name)} by steps ahead", x_label="steps ahead", integer_x=True,
        y_label="mean absolute error (MASE)", over=f"{measured.origins['test']:,} test origins", whole=True,
    )  # fmt: skip
    return Drawing("errors", figure, "Mean absolute error of the test part against the steps ahead, a curve a forecast")


def next_values(measured: Measurement) -> Table:
    """Return the winner's forecasts of the values after the end of the series."""
    winner, transform = measured.winner, forecasting.TRANSFORMS[measured.series.transform]
    low, high = bounds(transform, winner.forecasts.future, winner.half_width)
    picked = np.unique(np.linspace(0, measured.horizon - 1, min(LISTED, measured.horizon)).round().astype(int))
    rows = [
        [str(h + 1), *(significant(float(each[h]), 4) for each in (winner.forecasts.future, low, high))] for h in picked
    ]
    unit = f" in {legible(measured.series.unit)}" if measured.series.unit else ""
    caption = (
        f"by {winner.name}, fitted to what lies before the last block of the test part{unit}; bounds: of the "
        f"prediction interval for {share(measured.coverage, 0)}"
    )
    return Table(["steps ahead", "forecast", "low", "high"], rows, caption=caption)


def training_curves(measured: Measurement) -> Drawing:
    """Draw the error on the validation part against the step, at the chosen rate of each cell."""
    drawn = []
    for one in measured.trained:
        if one.learning_rate is None:
            continue
        curves = one.curves[:, one.rates.index(one.learning_rate)].mean(axis=1)  # [E, G]
        bands = [metrics.interval(row) for row in curves]
        drawn.append(
            Series.of_intervals(one.cell, one.steps, bands, best=one.stop, style=LOOKS[one.cell], limits=(0, np.inf))
        )
    scale = "logarithms" if measured.series.transform.startswith("log") else "own unit"
    figure = draw.curves(
        drawn, title="Error on the validation part over the training", x_label="step", integer_x=True,
        y_label=f"mean absolute error ({scale})", over=f"{measured.seeds} seeds", markers=False,
        note="Marked: the step at which training stops.",
    )  # fmt: skip
    return Drawing("training", figure, "Validation error against the training step, a curve for each cell")


def caveats(measured: Measurement) -> list[str]:
    """Return how the figures are to be read."""
    seeds = answers.counted(measured.seeds, "seed")
    spread = [
        f"{each.name}: {interval(metrics.interval(np.array(each.by_seed)))} of single seeds, {interval(each.test)} of "
        "their mean"
        for each in measured.models
        if len(each.by_seed) > 1
    ]
    independent = max(1, measured.origins["test"] // measured.horizon)
    return [
        "MASE 1 is the error of the naive forecast one season (without a season: one step) ahead in the "
        "validation part.",
        measured.series.caveat,
        f"Origins follow each other step by step, so forecasts of {measured.horizon} steps overlap: of "
        f"{measured.origins['test']:,} origins about {independent:,} are independent, and the intervals are as wide "
        "as that makes them (long-run variance; correction of Harvey, Leybourne and Newbold 1997).",
        "A model beats the naive forecasts if its error is clearly below that of each of them, whichever is best on "
        "the test part.",
        f"Forecasts of a cell are the mean of {seeds}. " + "; ".join(spread) if spread else "",
        "Prediction intervals come from the errors on the validation part, as if those of the test part were alike; "
        "the share that they hold is counted.",
        "On a logarithmic scale the forecast is a median of the values rather than their mean."
        if measured.series.transform.startswith("log")
        else "",
    ]


def remarks(measured: Measurement) -> list[str]:
    """Return lines for the terminal: what comes next, and diverged lanes."""
    winner = measured.winner
    ahead = measured.horizon
    value = short(float(winner.forecasts.future[-1]), 4)
    unit = f" {legible(measured.series.unit)}" if measured.series.unit else ""
    low, high = bounds(forecasting.TRANSFORMS[measured.series.transform], winner.forecasts.future, winner.half_width)
    between = f"{short(float(low[-1]), 4)} to {short(float(high[-1]), 4)}"
    lines = [
        f"{ahead} steps after the end: {value}{unit} by {winner.name} ({share(measured.coverage, 0)}: {between})",
        *measured.diverged,
        measured.series.caveat,
    ]
    return [line for line in lines if line]


def facts(measured: Measurement, flags: Sequence[str]) -> dict[str, str | list[str]]:
    """Return how the forecasts were made."""
    series, walk = measured.series, measured.walk
    season = f"a season of {series.period:,} steps" if series.period > 1 else "no season"
    scale = {"none": "its values", "log": "logarithms", "difference": "changes", "log_difference": "log changes"}
    return {
        "series": [
            f"{legible(series.name)}, {legible(series.column)}: {series.count:,} values, {season}", *series.notes
        ],
        "scale": f"{scale[series.transform]}; scores in its own unit",
        "origins": f"{measured.origins['validation']:,} to choose, {measured.origins['test']:,} to report, each in "
        f"{answers.counted(measured.blocks, 'block')}; models are fitted anew before each block, to all values before "
        f"it (the first {walk.validation[0].end:,} to {walk.test[-1].end:,})",
        "strategy": f"direct: one output for each of {measured.horizon} steps ahead",
        "cells": f"read the last {measured.window} values; {answers.counted(measured.seeds, 'seed')}",
        "flags": [line for line in flags if line.isprintable()],
    }  # fmt: skip
