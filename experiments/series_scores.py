"""Forecasts of every kind from the same origins, their scores, and the verdict: does anything beat the naive ones?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from experiments import frame
from experiments.series_training import Trained
from mllab import forecasting, metrics
from mllab.data.series import Series
from mllab.forecasting import Setting, Transform, Walk
from mllab.metrics import Interval

LEVEL = 0.05  # of the tests
AUTOREGRESSION = "autoregression"


class Forecasts(NamedTuple):
    """Forecasts in the unit of the series."""

    validation: np.ndarray  # [M, H]
    test: np.ndarray  # [M, H]
    future: np.ndarray  # [H] after the end of the series


@dataclass(frozen=True)
class Scores:
    """One way to forecast, on the origins of both parts."""

    name: str
    settings: str  # what was chosen on the validation part, in words
    validation: Interval  # MASE over origins
    test: Interval
    rmse: float  # on the test part, in the unit of the series
    by_horizon: list[Interval]  # MASE of the test part for each step ahead, [H]
    coverage: float  # share of the test values inside their prediction intervals; NaN without intervals
    coverage_by_horizon: list[float]  # [H]
    width: float  # mean width of the finite prediction intervals, in the unit of the series
    by_seed: list[float]  # test MASE of single seeds; empty where there are none
    losses: np.ndarray = frame.unsaved()  # [M] MASE of the test part by origin
    forecasts: Forecasts = frame.unsaved()
    half_width: np.ndarray = frame.unsaved()  # [H] of the prediction intervals, on the scale of the levels


@dataclass(frozen=True)
class Comparison:
    """One model beside the naive forecasts, on the test part."""

    name: str
    gain: Interval  # MASE of the best naive forecast less its own, over origins
    p_value: float  # of the test of Diebold and Mariano against every naive forecast: the greatest; 1 where behind one
    adjusted: float  # the same, adjusted for the number of models

    @property
    def beats(self) -> bool:
        """Whether it has a clearly smaller error than every naive forecast."""
        return self.adjusted < LEVEL


# ── Forecasts ───────────────────────────────────────────────────────────────────────────────────────────────────────


def naive_forecasts(values: np.ndarray, transform: Transform, walk: Walk, period: int) -> dict[str, Forecasts]:
    """Return the naive forecasts by name; the seasonal one where there is a season.

    They are made on the scale of the levels, so that the drift of logarithms is a rate of growth.
    """
    names = [name for name in forecasting.NAIVE if name != "seasonal" or period > 1]
    origins = [walk.origins("validation"), walk.origins("test"), np.array([walk.count - 1])]
    levels = transform.levels(values)

    def each(name: str) -> Forecasts:
        parts = [transform.values(forecasting.naive(name, levels, origin, walk.horizon, period)) for origin in origins]
        return Forecasts(parts[0], parts[1], parts[2][0])

    return {name: each(name) for name in names}


def autoregression(
    values: np.ndarray, transform: Transform, walk: Walk, period: int, pairs: int
) -> tuple[Setting, Forecasts]:
    """Return the setting with the least mean absolute error on the validation part, and its forecasts of both parts."""
    inputs, targets = transform.inputs(values), transform.targets(values, walk.horizon)
    waves, first = forecasting.season_waves(len(values), period, pairs), transform.first
    settings = forecasting.settings_of(walk.validation[0].end - walk.horizon - first, period)
    errors = np.zeros(len(settings))
    for block in walk.validation:
        fits = forecasting.fit_regressions(inputs, waves, targets, first, block.end, settings)
        for place, fit in enumerate(fits):
            missed = fit.outputs(inputs, waves, block.origins) - targets[block.origins]
            errors[place] += np.abs(missed).sum()
    chosen = settings[int(np.argmin(errors))]
    outputs = []
    for block in walk.final:
        (fit,) = forecasting.fit_regressions(inputs, waves, targets, first, block.end, [chosen])
        outputs.append(fit.outputs(inputs, waves, block.origins))
    return chosen, in_unit(values, transform, walk, outputs)


def in_unit(values: np.ndarray, transform: Transform, walk: Walk, outputs: Sequence[np.ndarray]) -> Forecasts:
    """Return outputs of the blocks of `Walk.final`, [M, H] each, as forecasts in the unit of the series."""
    origins = np.concatenate([block.origins for block in walk.final])
    forecasts = transform.forecasts(values, origins, np.concatenate(outputs))
    count = len(walk.origins("validation"))
    return Forecasts(forecasts[:count], forecasts[count:-1], forecasts[-1])


def of_cell(values: np.ndarray, transform: Transform, walk: Walk, trained: Trained) -> tuple[Forecasts, np.ndarray]:
    """Return the forecasts of a cell by the mean of its seeds' outputs, and those of the test part by seed, [G, M, H].

    Seeds that went non-finite are left out.
    """
    assert trained.outputs is not None
    every = np.concatenate(trained.outputs, axis=1)  # [G, M, H]
    every = every[np.isfinite(every).all(axis=(1, 2))]
    sizes = np.cumsum([len(block.origins) for block in walk.final])[:-1]

    def forecasts(outputs: np.ndarray) -> Forecasts:
        return in_unit(values, transform, walk, np.split(outputs, sizes))

    return forecasts(every.mean(axis=0)), np.stack([forecasts(each).test for each in every])


# ── Scores ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def bounds(transform: Transform, forecasts: np.ndarray, half_width: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the bounds of prediction intervals of forecasts [..., H], in their unit."""
    levels = transform.levels(forecasts)
    return transform.values(levels - half_width), transform.values(levels + half_width)


def score(
    name: str, settings: str, forecasts: Forecasts, values: np.ndarray, transform: Transform, walk: Walk, scale: float,
    coverage: float, by_seed: np.ndarray | None = None,
) -> Scores:  # fmt: skip
    """Return the scores of forecasts.

    Args:
        name: of the way to forecast.
        settings: in words.
        forecasts: of both parts.
        values: the series, [N].
        transform: the scale on which prediction intervals are symmetric: of values, or of logarithms.
        walk: the origins.
        scale: see `forecasting.mase_scale`.
        coverage: that prediction intervals aim at.
        by_seed: forecasts of the test part by single seeds, [G, M, H].
    """
    horizon = walk.horizon
    goals = {part: forecasting.truth(values, walk.origins(part), horizon) for part in walk.parts}
    errors = {part: np.abs(getattr(forecasts, part) - goal) / scale for part, goal in goals.items()}
    missed = transform.levels(forecasts.validation) - transform.levels(goals["validation"])
    half_width = forecasting.half_widths(missed, coverage)
    low, high = bounds(transform, forecasts.test, half_width)
    inside = (low <= goals["test"]) & (goals["test"] <= high)
    finite = np.isfinite(half_width)
    widths = (high - low)[:, finite]
    return Scores(
        name=name, settings=settings, losses=errors["test"].mean(axis=1), forecasts=forecasts, half_width=half_width,
        validation=metrics.over_origins(errors["validation"].mean(axis=1), horizon),
        test=metrics.over_origins(errors["test"].mean(axis=1), horizon),
        rmse=float(np.sqrt(np.mean((forecasts.test - goals["test"]) ** 2))),
        by_horizon=[metrics.over_origins(errors["test"][:, h], h + 1) for h in range(horizon)],
        coverage=float(inside[:, finite].mean()) if finite.any() else float("nan"),
        coverage_by_horizon=np.where(finite, inside.mean(axis=0), np.nan).tolist(),
        width=float(np.nanmean(widths)) if widths.size else float("nan"),
        by_seed=[] if by_seed is None else (np.abs(by_seed - goals["test"]).mean(axis=(1, 2)) / scale).tolist(),
    )  # fmt: skip


def compare(naive: Sequence[Scores], models: Sequence[Scores], horizon: int) -> list[Comparison]:
    """Return each model beside the naive forecasts, by their errors on the test part.

    A model beats them where it is clearly better than each (an intersection-union test, which needs no correction); the
    p-values of several models are adjusted (Holm 1979).
    """
    best = min(naive, key=lambda each: each.test.mean)
    gains, p_values = [], []
    for model in models:
        gains.append(metrics.diebold_mariano(best.losses, model.losses, horizon).difference)
        against = [metrics.diebold_mariano(each.losses, model.losses, horizon) for each in naive]
        p_values.append(max(test.p_value if test.difference.mean > 0 else 1.0 for test in against))
    adjusted = metrics.holm(np.array(p_values))
    return [
        Comparison(model.name, gain, float(p), float(q))
        for model, gain, p, q in zip(models, gains, p_values, adjusted, strict=True)
    ]


@dataclass(frozen=True)
class SeriesFacts:
    """What a summary records of a series."""

    name: str
    column: str
    unit: str
    count: int
    period: int
    transform: str
    notes: tuple[str, ...]  # how it was read
    caveat: str  # what its source makes of it
    values: np.ndarray = frame.unsaved()  # [N]
    times: np.ndarray | None = frame.unsaved()  # [N]
    has_dates: bool = False

    @classmethod
    def of(cls, series: Series, period: int, transform: str) -> "SeriesFacts":
        """Return the facts of a series that is forecast on this scale."""
        return cls(
            series.name, series.column, series.unit, len(series.values), period, transform, series.notes, series.caveat,
            series.values, series.times, series.has_dates,
        )  # fmt: skip


@dataclass(frozen=True)
class Measurement:
    """The scores of all ways to forecast a series."""

    series: SeriesFacts
    horizon: int
    window: int
    origins: Mapping[str, int]  # by part
    blocks: int  # of each part
    seeds: int
    coverage: float  # that prediction intervals aim at
    mase_scale: float  # in the unit of the series
    naive: list[Scores]
    models: list[Scores]  # the autoregression, then the cells
    comparisons: list[Comparison]  # of the models
    diverged: list[str]
    walk: Walk = frame.unsaved()
    trained: list[Trained] = frame.unsaved()

    @property
    def best_naive(self) -> Scores:
        """The naive forecast with the least error on the test part: the hardest one to beat."""
        return min(self.naive, key=lambda each: each.test.mean)

    @property
    def chosen(self) -> Scores:
        """The model with the least error on the validation part."""
        return min(self.models, key=lambda each: each.validation.mean)

    @property
    def winner(self) -> Scores:
        """What to forecast with: the chosen model if it beats the naive forecasts, otherwise the best of these."""
        chosen = self.chosen
        beats = any(each.beats for each in self.comparisons if each.name == chosen.name)
        return chosen if beats else self.best_naive
