r"""Forecasts of a series by walking forward: origins, scales, naive forecasts, a linear autoregression, and intervals.

From an origin t, at which $y_0, \dots, y_t$ are known, all of $y_{t+1}, \dots, y_{t+H}$ are forecast: arrays of
forecasts are [M, H]. Origins come in blocks, and whatever forecasts a block is fitted to what was known at its first
origin alone (an expanding window, fitted again for each block: Tashman, *Out-of-sample tests of forecasting accuracy*,
International Journal of Forecasting 16, 2000).

Forecasts are direct: one output for each step ahead, rather than one step fed back into itself. A model is then trained
for what it is judged by, and errors of early steps are not fed into late ones (Ben Taieb et al., *A review and
comparison of strategies for multi-step ahead time series forecasting*, Expert Systems with Applications 39, 2012).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mllab import checks
from mllab.errors import UserError, unknown

NAIVE = ("last value", "mean", "seasonal", "drift")
PENALTIES = (1e-6, 1e-4, 1e-2, 1e-1, 1.0)
LAGS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
ROWS_PER_LAG = 3  # a regression has at least as many rows for each of its lags


# ── Origins ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class Block(NamedTuple):
    """Neighbouring origins whose forecasts come from one fit, to what was known at the first of them."""

    origins: np.ndarray  # [M] ascending

    @property
    def end(self) -> int:
        """The number of values to fit to: those before and at the first origin."""
        return int(self.origins[0]) + 1


@dataclass(frozen=True)
class Walk:
    """The origins of a series, and what they are for."""

    count: int  # N values
    horizon: int  # H
    validation: tuple[Block, ...]
    test: tuple[Block, ...]

    @property
    def parts(self) -> dict[str, tuple[Block, ...]]:
        """The blocks by part."""
        return {"validation": self.validation, "test": self.test}

    @property
    def final(self) -> tuple[Block, ...]:
        """The blocks of both parts, the last one with the end of the series as a further origin."""
        *others, last = (*self.validation, *self.test)
        return (*others, Block(np.append(last.origins, self.count - 1)))

    @property
    def test_start(self) -> int:
        """The position of the first value of the test part."""
        return self.test[0].end

    def origins(self, part: str) -> np.ndarray:
        """Return the origins of a part, [M]."""
        return np.concatenate([block.origins for block in self.parts[part]])


def walk(count: int, horizon: int, *, share: float = 0.2, blocks: int = 3) -> Walk:
    """Return the origins whose H values lie in the last `share` of a series, and those of as many values before.

    Args:
        count: N.
        horizon: H.
        share: of the values that are the test part; as many before them are the validation part.
        blocks: of each part.

    Raises:
        UserError: parts too short for the horizon and the blocks.
    """
    checks.check_whole(1, horizon=horizon, blocks=blocks)
    if not 0 < share < 0.5:
        raise UserError(f"share = {share}: give a number above 0 and below 0.5; validation and test part take it each")
    length = round(share * count)
    needed = max(2 * horizon + 1, horizon + blocks)  # more origins than steps ahead, as the test of forecasts needs
    if length < needed:
        raise UserError(
            f"{count:,} values have a test part of {length:,}, and a horizon of {horizon:,} with {blocks} blocks needs "
            f"{needed:,}: give a smaller horizon, or a longer series"
        )
    starts = {"validation": count - 2 * length, "test": count - length}
    parts = {}
    for part, start in starts.items():
        origins = np.arange(start - 1, start + length - horizon)
        parts[part] = tuple(Block(each) for each in np.array_split(origins, blocks))
    return Walk(count, horizon, **parts)


def truth(values: np.ndarray, origins: np.ndarray, horizon: int) -> np.ndarray:
    """Return the values that are forecast from each origin, [M, H].

    Raises:
        UserError: values that are not finite, or origins with fewer than H values behind them.
    """
    checks.check_whole(1, horizon=horizon)
    values = check_values(values)
    return values[_check_origins(origins, len(values) - horizon)[:, None] + np.arange(1, horizon + 1)]


def check_values(values: np.ndarray) -> np.ndarray:
    """Return the values of a series, [N] float64.

    Raises:
        UserError: another shape, or the first value that is missing, infinite or no number.
    """
    array = np.asarray(checks.as_numbers(values, "values"), np.float64)
    if array.ndim != 1 or not len(array):
        raise UserError(f"values: shape {list(array.shape)}, expected [N], one value or more")
    wrong = np.flatnonzero(~np.isfinite(array))
    if len(wrong):
        raise UserError(f"values: index {wrong[0]} is {array[wrong[0]]}; a series has no gaps, fill it in")
    return array


def _check_origins(origins: np.ndarray, count: int) -> np.ndarray:
    """Return origins [M], which must be whole numbers in 0..count-1."""
    array = np.asarray(checks.as_numbers(origins, "origins"))
    if array.ndim != 1 or not len(array) or not np.issubdtype(array.dtype, np.integer):
        raise UserError(f"origins: {array.dtype}{list(array.shape)}, expected [M] whole numbers, one or more")
    wrong = np.flatnonzero((array < 0) | (array >= count))
    if len(wrong):
        raise UserError(f"origins: index {wrong[0]} is {array[wrong[0]]}, expected 0 to {count - 1}")
    return array


# ── Scales ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Transform:
    """The scale on which a series is forecast: of its values or their logarithms, or of the changes of either."""

    log: bool
    difference: bool

    def levels(self, values: np.ndarray) -> np.ndarray:
        """Return values [...] or their logarithms."""
        return np.log(values) if self.log else np.asarray(values, np.float64)

    def values(self, levels: np.ndarray) -> np.ndarray:
        """Return what has these levels [...]; a logarithm that overflows is infinite."""
        with np.errstate(over="ignore"):
            return np.exp(levels) if self.log else np.asarray(levels)

    @property
    def first(self) -> int:
        """The position of the first input."""
        return int(self.difference)

    def inputs(self, values: np.ndarray) -> np.ndarray:
        """Return what a model reads at each position, [N]: levels, or their changes since the step before."""
        levels = self.levels(values)
        return np.diff(levels, prepend=levels[0]) if self.difference else levels

    def targets(self, values: np.ndarray, horizon: int) -> np.ndarray:
        """Return what a model predicts at each position, [N, H]: later levels, or their changes since the position.

        NaN where the series ends before.
        """
        levels = self.levels(values)
        padded = np.append(levels, np.full(horizon, np.nan))
        later = np.lib.stride_tricks.sliding_window_view(padded[1:], horizon)
        return later - levels[:, None] if self.difference else later.copy()

    def forecasts(self, values: np.ndarray, origins: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """Return outputs [M, H] at origins [M] in the unit of the series."""
        if self.difference:
            outputs = self.levels(np.asarray(values)[origins])[:, None] + outputs
        return self.values(outputs)


TRANSFORMS: Mapping[str, Transform] = {
    "none": Transform(log=False, difference=False),
    "log": Transform(log=True, difference=False),
    "difference": Transform(log=False, difference=True),
    "log_difference": Transform(log=True, difference=True),
}


def transform_of(name: str, values: np.ndarray, source: str) -> Transform:
    """Return a transform by name.

    Raises:
        UserError: an unknown name, values that are not finite, or a logarithm of values that are not positive.
    """
    if name not in TRANSFORMS:
        raise unknown("transform", name, TRANSFORMS)
    values = check_values(values)
    if TRANSFORMS[name].log and np.min(values) <= 0:
        place = int(np.flatnonzero(values <= 0)[0])
        raise UserError(
            f"transform={name}: value {place + 1:,} of {source} is {values[place]:g}, which has no logarithm: give "
            "none or difference"
        )
    return TRANSFORMS[name]


def season_waves(count: int, period: int, pairs: int) -> np.ndarray:
    """Return sines and cosines of the season at each position, [N, W], of up to `pairs` whole frequencies."""
    if period < 2 or pairs < 1:
        return np.zeros((count, 0))
    waves = []
    for k in range(1, min(pairs, period // 2) + 1):
        angle = 2 * np.pi * k / period * np.arange(count)
        waves += [np.cos(angle)] + [np.sin(angle)] * (2 * k < period)  # the sine of the highest frequency is 0
    return np.stack(waves, axis=1)


# ── Naive forecasts ─────────────────────────────────────────────────────────────────────────────────────────────────


def naive(name: str, values: np.ndarray, origins: np.ndarray, horizon: int, period: int) -> np.ndarray:
    r"""Return the forecasts [M, H] of one of `NAIVE`.

    - last value: $\hat y_{t+h} = y_t$;
    - mean: $\hat y_{t+h} = (y_0 + \dots + y_t) / (t + 1)$;
    - seasonal: $\hat y_{t+h} = y_{t+h-m\lceil h/m \rceil}$, the last value of the same season of m steps;
    - drift: $\hat y_{t+h} = y_t + h (y_t - y_0) / t$, the line through the first and the last value.

    Source: Hyndman and Athanasopoulos, *Forecasting: principles and practice*, 3rd edition, 2021, section 5.2.

    Raises:
        UserError: an unknown name, values that are not finite, an origin that is not among them, or one before the end
            of the first season.
    """
    checks.check_whole(1, horizon=horizon, period=period)
    values = check_values(values)
    origins = _check_origins(origins, len(values))
    steps = np.arange(1, horizon + 1)
    if name == "last value":
        return np.repeat(values[origins][:, None], horizon, axis=1)
    if name == "mean":
        means = np.cumsum(values) / np.arange(1, len(values) + 1)
        return np.repeat(means[origins][:, None], horizon, axis=1)
    if name == "seasonal":
        if origins.min() + 1 < period:
            raise UserError(f"{origins.min() + 1:,} values before the first forecast are fewer than a season: {period}")
        return values[origins[:, None] + (steps - period * -(-steps // period))[None]]
    if name == "drift":
        slope = (values[origins] - values[0]) / np.maximum(origins, 1)
        return values[origins][:, None] + slope[:, None] * steps[None]
    raise unknown("naive forecast", name, NAIVE)


def mase_scale(values: np.ndarray, period: int) -> float:
    """Return the mean absolute error of seasonal naive forecasts one season ahead inside some values, [N].

    An absolute error divided by it has no unit, and 1 is as good as those forecasts (Hyndman and Koehler, *Another look
    at measures of forecast accuracy*, International Journal of Forecasting 22, 2006). NaN where it is 0.

    Raises:
        UserError: fewer than two values, or one that is not finite.
    """
    checks.check_whole(1, period=period)
    values = check_values(values)
    if len(values) < 2:
        raise UserError("values: one value has no error to scale by; give two or more")
    step = period if period < len(values) else 1
    scale = float(np.abs(values[step:] - values[:-step]).mean())
    return scale if scale > 0 else math.nan


# ── Linear autoregression ───────────────────────────────────────────────────────────────────────────────────────────


class Setting(NamedTuple):
    """What is chosen of an autoregression."""

    lags: int
    penalty: float  # relative to the variance of the inputs


@dataclass(frozen=True)
class Regression:
    r"""Ridge regressions on lags, one for each step ahead.

    $$ \hat z_{t+h} = b_h + \sum_{i=0}^{p-1} w_{hi}\, x_{t-i} + \sum_k v_{hk}\, s_{tk}, \qquad
       \min \frac1n \sum_t (z_{t+h} - \hat z_{t+h})^2 + \lambda \bar\sigma^2 \lVert (w_h, v_h) \rVert^2, $$

    with x the inputs, s the waves of the season, and $\bar\sigma^2$ the mean variance of both.
    """

    setting: Setting
    weights: np.ndarray  # [p + W, H]
    offset: np.ndarray  # [H]

    def outputs(self, inputs: np.ndarray, waves: np.ndarray, origins: np.ndarray) -> np.ndarray:
        """Return the outputs [M, H] at origins."""
        return design(inputs, waves, origins, self.setting.lags) @ self.weights + self.offset


def design(inputs: np.ndarray, waves: np.ndarray, positions: np.ndarray, lags: int) -> np.ndarray:
    """Return the last inputs, the latest first, and the waves at each position, [M, p + W]."""
    return np.hstack([inputs[positions[:, None] - np.arange(lags)[None]], waves[positions]])


def fit_regressions(
    inputs: np.ndarray, waves: np.ndarray, targets: np.ndarray, first: int, end: int, settings: Sequence[Setting]
) -> Iterator[Regression]:
    """Yield the regression of each setting, fitted to values before `end` alone.

    Args:
        inputs: [N]; read from `first` to `end`.
        waves: [N, W].
        targets: [N, H]; read where all H values come before `end`.
        first: position of the first input.
        end: number of values to fit to.
        settings: those of equal lags share a product.
    """
    horizon, lags, products = targets.shape[1], 0, None
    for setting in settings:
        if setting.lags != lags or products is None:
            lags = setting.lags
            positions = np.arange(first + lags - 1, end - horizon)
            x, z = design(inputs, waves, positions, lags), targets[positions]
            x_mean, z_mean = x.mean(axis=0), z.mean(axis=0)
            x = x - x_mean
            products = x.T @ x / len(x), x.T @ (z - z_mean) / len(x), x_mean, z_mean
        square, cross, x_mean, z_mean = products
        ridge = (setting.penalty * np.trace(square) / len(square) + 1e-300) * np.eye(len(square))
        weights = np.linalg.solve(square + ridge, cross)
        yield Regression(setting, weights, z_mean - x_mean @ weights)


def settings_of(rows: int, period: int, most: int = LAGS[-1]) -> list[Setting]:
    """Return the settings to choose among: lags up to a third of the rows, the season's among them.

    Args:
        rows: to fit to, in the shortest training part.
        period: of the season; 1 for none.
        most: lags.
    """
    limit = max(1, min(most, rows // (ROWS_PER_LAG + 1)))
    lags = {each for each in (*LAGS, period, period + 1) if each <= limit}
    return [Setting(each, penalty) for each in sorted(lags) for penalty in PENALTIES]


# ── Prediction intervals ────────────────────────────────────────────────────────────────────────────────────────────


def half_widths(errors: np.ndarray, coverage: float) -> np.ndarray:
    """Return half the width of prediction intervals for each step ahead, [H], from errors [M, H] of other origins.

    The smallest that holds a share of `coverage` of M + 1 errors, if they were exchangeable (split conformal
    prediction: Lei et al., *Distribution-free predictive inference for regression*, JASA 113, 2018). Errors of a series
    are not, so the coverage is to be measured. Infinite where M is too small.

    Raises:
        UserError: no errors, or a coverage that is not between 0 and 1.
    """
    if not 0 < coverage < 1:
        raise UserError(f"coverage = {coverage}: give a number between 0 and 1")
    errors = np.asarray(checks.as_numbers(errors, "errors"), np.float64)
    if errors.ndim != 2 or not len(errors):
        raise UserError(f"errors: shape {list(errors.shape)}, expected [M, H]")
    rank = math.ceil(coverage * (len(errors) + 1) - 1e-9)
    if rank > len(errors):
        return np.full(errors.shape[1], np.inf)
    return np.sort(np.abs(errors), axis=0)[rank - 1]
