r"""Scores of forecasts whose errors are correlated from one origin to the next: intervals, and tests of two forecasts.

Errors of forecasts h steps ahead from neighbouring origins share h - 1 of the steps that they are about, so their
autocovariances up to lag h - 1 do not vanish even where a forecast is the best possible one. The variance of a mean
over n origins is therefore the long-run variance

    $$ \widehat V = \hat\gamma_0 + 2 \sum_{k=1}^{h-1} \hat\gamma_k, \qquad
       \hat\gamma_k = \frac1n \sum_{t=k+1}^{n} (d_t - \bar d)(d_{t-k} - \bar d), $$

over n. Where this estimate is not positive, Bartlett's weights $1 - k / h$ on the autocovariances make it so.
"""

import math
from typing import NamedTuple

import numpy as np

from mllab import checks
from mllab.errors import UserError
from mllab.metrics.intervals import Interval


class DieboldMariano(NamedTuple):
    """The difference in loss of two forecasts of the same values, and the p-value of there being none."""

    difference: Interval  # mean loss of the first less that of the second
    statistic: float  # NaN where there is no test
    p_value: float  # two-sided; NaN where there is no test


def diebold_mariano(first: np.ndarray, second: np.ndarray, horizon: int) -> DieboldMariano:
    r"""Return the test of Diebold and Mariano of equal expected loss, with the correction for small samples.

    With $d_t$ the loss of the first forecast less that of the second,

        $$ S = \frac{\bar d}{\sqrt{\widehat V / n}} \sqrt{\frac{n + 1 - 2 h + h (h - 1) / n}{n}}, $$

    which is compared with Student's t of n - 1 degrees of freedom.

    Args:
        first: losses of the first forecast by origin, [n], in the order of time.
        second: those of the second.
        horizon: h, the steps ahead; the greatest where a loss is a mean over several.

    Returns:
        No test, and no bounds, where n is at most h or the losses differ by a constant.

    Raises:
        UserError: losses of different shapes, or not finite, or a horizon below 1.

    Source: Diebold and Mariano, *Comparing predictive accuracy*, Journal of Business and Economic Statistics 13 (1995);
    Harvey, Leybourne and Newbold, *Testing the equality of prediction mean squared errors*, International Journal of
    Forecasting 13 (1997), equations 8 and 9.
    """
    from scipy.special import stdtr  # deferred: it would slow down `import mllab`

    one, other = _losses(first), _losses(second)
    if one.shape != other.shape:
        raise UserError(f"losses: {len(one)} origins of one forecast and {len(other)} of the other: give the same ones")
    interval, error = _mean(one - other, horizon)
    if not error > 0:
        return DieboldMariano(interval, math.nan, math.nan)
    statistic = interval.mean / error
    return DieboldMariano(interval, statistic, float(2 * stdtr(len(one) - 1, -abs(statistic))))


def over_origins(values: np.ndarray, horizon: int) -> Interval:
    """Return the mean of values over forecast origins, [n], and its 95% interval by the long-run variance.

    The interval is the one whose bounds the test of `diebold_mariano` would just not reject.

    Args:
        values: such as losses, in the order of time.
        horizon: steps ahead; see `diebold_mariano`.

    Raises:
        UserError: no values, or not finite ones, or a horizon below 1.
    """
    return _mean(_losses(values), horizon)[0]


def _losses(values: np.ndarray) -> np.ndarray:
    values = np.asarray(checks.as_numbers(values, "losses"), np.float64)
    if values.ndim != 1 or values.size == 0:
        raise UserError(f"losses: shape {list(values.shape)}, expected [n], one an origin")
    checks.check_finite(values, "losses")
    return values


def _mean(values: np.ndarray, horizon: int) -> tuple[Interval, float]:
    """Return the mean with its interval, and its standard error: 0 or NaN where there is no test."""
    from scipy.special import stdtrit  # deferred: as above

    checks.check_whole(1, horizon=horizon)
    count, mean = len(values), float(values.mean())
    if count <= horizon or count < 2:
        return Interval(mean, math.nan, math.nan, count), math.nan
    shrink = (count + 1 - 2 * horizon + horizon * (horizon - 1) / count) / count
    # A constant has rounding errors for deviations.
    variance = 0.0 if np.ptp(values) == 0 else long_run_variance(values, horizon - 1)
    error = math.sqrt(variance / count / shrink)
    half = float(stdtrit(count - 1, 0.975)) * error
    return Interval(mean, mean - half, mean + half, count), error


def long_run_variance(values: np.ndarray, lags: int) -> float:
    """Return the long-run variance of values [n] from their autocovariances up to a lag; see the module."""
    deviation = values - values.mean()
    count = len(values)
    covariance = np.array([deviation[k:] @ deviation[: count - k] / count for k in range(min(lags, count - 1) + 1)])
    variance = covariance[0] + 2 * covariance[1:].sum()
    if variance <= 0:  # as Diebold and Mariano advise; Newey and West (1987)
        weight = 1 - np.arange(1, len(covariance)) / len(covariance)
        variance = covariance[0] + 2 * (weight * covariance[1:]).sum()
    return float(variance)


def holm(p_values: np.ndarray) -> np.ndarray:
    """Return p-values [K] of K tests, adjusted so that one of them all is below a level by chance only as often.

    The i-th smallest is multiplied by K + 1 - i, and none falls below a smaller one's. NaN counts as 1.

    Source: Holm, *A simple sequentially rejective multiple test procedure*, Scandinavian J. Statistics 6 (1979).

    Raises:
        UserError: another shape, or a number that is no probability.
    """
    p = np.nan_to_num(np.asarray(checks.as_numbers(p_values, "p_values"), np.float64), nan=1.0)
    if p.ndim != 1 or ((p < 0) | (p > 1)).any():
        raise UserError(f"p_values: shape {list(p.shape)}, expected [K] numbers from 0 to 1")
    order = np.argsort(p, kind="stable")
    scaled = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    adjusted = np.empty_like(p)
    adjusted[order] = scaled
    return adjusted
