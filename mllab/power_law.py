r"""Power laws $a + b\,n^p d^q$ of a cost in the numbers of rows n and of columns d, fitted to measured costs.

The fixed overhead a matters at small sizes. `mllab.growth` measures the costs.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from mllab import checks
from mllab.errors import UserError
from mllab.metrics import Interval

PRIOR_ERROR = 0.25  # standard deviation of a measured exponent around the theoretical one
PRIOR_NOISE, PRIOR_FREEDOM = 0.15, 4  # of log costs, and how many degrees of freedom that guess is worth
MOST_ROWS = 1e15  # beyond which a limit counts as none


class Exponents(NamedTuple):
    """The exponents of a power law in n and in d."""

    rows: float  # p
    columns: float  # q


class Exponent(NamedTuple):
    """An exponent with its standard error and 95% interval; NaN where the sizes cannot tell it."""

    value: float
    error: float
    low: float
    high: float


@dataclass(frozen=True)
class PowerLaw:
    r"""The law $a + b\,n^p d^q$, with noise of its logarithm."""

    rows: Exponent  # p
    columns: Exponent  # q
    constant: float  # b
    overhead: float  # a
    noise: float  # standard deviation of the logarithm of one value
    sizes: int  # M
    centre: tuple[float, float]  # log n and log d that the fit is centred at
    params: tuple[float, ...]  # a, log of the power at the centre, p, q; 0 for an unknown exponent
    covariance: np.ndarray  # [4, 4] of these
    quantile: float  # of Student's t, for 95% intervals

    def predict(self, n: float, d: float) -> Interval:
        """Return the value at n rows and d columns, with its 95% prediction interval.

        Raises:
            UserError: a size that is not positive, or one that differs from all measured ones along an axis whose
                exponent is unknown.
        """
        checks.check_positive(n=n, d=d)
        value, deviation = self._at(np.array([math.log(n)]), math.log(d))
        spread = math.exp(min(self.quantile * float(deviation[0]), 700.0))
        mean = float(value[0])
        return Interval(mean, mean / spread, mean * spread, self.sizes)

    def limit(self, *, d: float, seconds: float | None = None, bytes: float | None = None) -> Interval:
        """Return the rows at which the law reaches a number of seconds, or of bytes, with a 95% interval.

        Args:
            d: columns.
            seconds: the limit, for a law of times.
            bytes: the limit, for a law of memory, such as `mllab.memory.available()`.

        Returns:
            n, not rounded: 0 where a single row takes longer, infinity where no number of rows reaches the limit.

        Raises:
            UserError: not exactly one limit, or one that is not positive.
        """
        limits = [each for each in (seconds, bytes) if each is not None]
        if len(limits) != 1:
            raise UserError("a limit: give seconds for a law of times, or bytes for a law of memory")
        checks.check_positive(limit=limits[0], d=d)
        log_n = np.linspace(0.0, math.log(MOST_ROWS), 2001)
        value, deviation = self._at(log_n, math.log(d))
        spread = self.quantile * deviation
        logs = np.log(value)
        limit, curves = math.log(limits[0]), (logs, logs + spread, logs - spread)
        mean, low, high = (_crossing(log_n, curve, limit, self.centre[0]) for curve in curves)
        return Interval(mean, low, high, self.sizes)

    def _at(self, log_n: np.ndarray, log_d: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the values [G] and the standard deviations of the logarithm of a new value there."""
        overhead, level, p, q = self.params
        x, z = log_n - self.centre[0], log_d - self.centre[1]
        for exponent, away, axis in ((self.rows, np.abs(x).max(), "rows"), (self.columns, abs(z), "columns")):
            if math.isnan(exponent.value) and away > 1e-9:
                raise UserError(
                    f"all sizes have the same {axis}: measure others, or give the exponents that theory has"
                )
        power = np.exp(np.minimum(level + p * x + q * z, 700.0))
        value = overhead + power
        slopes = np.stack([np.ones_like(x), power, power * x, power * z]) / value
        return value, np.sqrt(np.einsum("ig,ij,jg->g", slopes, self.covariance, slopes) + self.noise**2)


def _crossing(log_n: np.ndarray, logs: np.ndarray, limit: float, centre: float) -> float:
    """Return where a curve crosses the limit upwards, as seen from the centre of what was measured."""
    start = int(np.clip(np.searchsorted(log_n, centre), 0, len(log_n) - 1))
    if logs[start] > limit:
        below = np.flatnonzero(logs[:start] <= limit)
        if not below.size:
            return 0.0
        place = int(below[-1]) + 1
    else:
        above = np.flatnonzero(logs[start:] > limit)
        if not above.size:
            return math.inf
        place = start + int(above[0])
    share = (limit - logs[place - 1]) / (logs[place] - logs[place - 1])
    return float(np.exp(log_n[place - 1] + share * (log_n[place] - log_n[place - 1])))


def fit_power_law(
    sizes: Iterable[Sequence[float]],
    values: Any,
    intercept: bool = True,
    *,
    prior: Exponents | None = None,
    prior_noise: float = PRIOR_NOISE,
) -> PowerLaw:
    r"""Return the law $a + b\,n^p d^q$ of least squared errors of the logarithm, $a \ge 0$.

    Noise of times is relative, so logarithms are compared; the overhead is inside of them. Intervals are those of the
    linearised problem, by Student's t. An exponent whose sizes are all equal is unknown, unless there is a prior.

    Args:
        sizes: (n, d) each, [M, 2].
        values: seconds or bytes, [M].
        intercept: whether there is an overhead a.
        prior: the exponents that theory has; each is one more observation of the exponent, with a standard error of
            `PRIOR_ERROR`, and noise is pooled with a guess. Then a single size suffices.
        prior_noise: the guess, a standard deviation of the logarithm; it is used beside `prior` alone.

    Raises:
        UserError: sizes or values that are not positive, or of other shapes; fewer sizes than params and no prior.

    Source: Seber and Wild, *Nonlinear Regression* (1989), sections 2.1 and 5.1.
    """
    from scipy.optimize import least_squares  # deferred: they would slow down `import mllab`
    from scipy.special import stdtrit

    logs, values = _checked_law(sizes, values)
    count, guess = len(values), values.min()
    differs = [bool(np.ptp(axis) > 1e-9) for axis in logs.T]
    free = [True, *(each or prior is not None for each in differs)]  # of level, p, q
    intercept = intercept and (prior is None or any(differs))
    params = sum(free) + intercept
    freedom = count - params + (0 if prior is None else sum(free[1:]))
    if prior is None and freedom < 1:
        raise UserError(
            f"{count} sizes for a law of {params} params: measure {params + 1} or more, or give the exponents of theory"
        )
    centre = logs.mean(axis=0)
    design = np.column_stack([np.ones(count), logs - centre])[:, free]
    known = np.array([0.0, *(prior or (0.0, 0.0))])[free]
    targets = np.log(values)

    def fitted(noise: float) -> Any:
        def residuals(theta: np.ndarray) -> np.ndarray:
            power = np.exp(np.clip(design @ theta[1:], -700, 700))
            errors = (np.log(guess * theta[0] + power) - targets) / noise
            return errors if prior is None else np.append(errors, (theta[2:] - known[1:]) / PRIOR_ERROR)

        def jacobian(theta: np.ndarray) -> np.ndarray:
            power = np.exp(np.clip(design @ theta[1:], -700, 700))
            value = guess * theta[0] + power
            slopes = np.column_stack([guess / value, design * (power / value)[:, None]]) / noise
            if prior is None:
                return slopes
            return np.vstack([slopes, np.eye(len(theta))[2:] / PRIOR_ERROR])

        best = None
        for share in (0.0, 0.5, 0.9) if intercept else (0.0,):
            rest = np.log(np.maximum(values - 0.99 * share * guess, 0.01 * values))
            start = np.linalg.lstsq(design, rest, rcond=None)[0] if prior is None else known.copy()
            start[0] = np.mean(rest - design[:, 1:] @ start[1:])
            upper = [np.inf if intercept else 1e-12, *[np.inf] * len(start)]
            bounds = ([0.0, *[-np.inf] * len(start)], upper)
            one = least_squares(
                residuals, [share if intercept else 5e-13, *start], jacobian, bounds=bounds, x_scale="jac", xtol=1e-12
            )
            best = one if best is None or one.cost < best.cost * (1 - 1e-9) else best
        return best

    checks.check_positive(prior_noise=prior_noise)
    noise = 1.0 if prior is None else prior_noise
    solution = fitted(noise)
    squares = float(np.sum((noise * solution.fun[:count]) ** 2))
    if prior is None:
        noise = math.sqrt(squares / freedom)
        whitened = solution.jac / max(noise, 1e-12)
    else:
        freedom = max(count - 1 - intercept, 0) + PRIOR_FREEDOM
        noise = math.sqrt((squares + PRIOR_FREEDOM * prior_noise**2) / freedom)
        solution = fitted(noise)
        whitened = solution.jac
    theta = solution.x.copy()
    theta[0] = theta[0] if intercept else 0.0
    kept = np.array([intercept, *[True] * len(theta[1:])])
    inverse = np.linalg.pinv(whitened[:, kept].T @ whitened[:, kept])
    places = [0, *(1 + np.flatnonzero(free))]
    scale = np.array([guess, *[1.0] * (len(theta) - 1)])
    all_params, covariance = np.zeros(4), np.zeros((4, 4))
    all_params[places] = theta * scale
    used = np.array(places)[kept]
    covariance[np.ix_(used, used)] = inverse * np.outer(scale[kept], scale[kept])
    quantile = float(stdtrit(freedom, 0.975))

    def exponent(place: int) -> Exponent:
        if not free[place - 1]:
            return Exponent(*[math.nan] * 4)
        value, error = float(all_params[place]), float(np.sqrt(covariance[place, place]))
        return Exponent(value, error, value - quantile * error, value + quantile * error)

    level = all_params[1] - all_params[2:] @ centre
    return PowerLaw(
        exponent(2), exponent(3), float(np.exp(np.clip(level, -700, 700))), float(all_params[0]), float(noise), count,
        (float(centre[0]), float(centre[1])), tuple(map(float, all_params)), covariance, quantile,
    )  # fmt: skip


def _checked_law(sizes: Iterable[Sequence[float]], values: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return log n and log d [M, 2], and the values [M] float64."""
    array = np.asarray(checks.as_numbers(list(sizes), "sizes"), np.float64)
    values = np.asarray(checks.as_numbers(values, "values"), np.float64)
    if array.ndim != 2 or array.shape[1] != 2 or not len(array):
        raise UserError(f"sizes: shape {list(array.shape)}, expected (n, d) each, [M, 2]")
    if values.shape != (len(array),):
        raise UserError(f"values: shape {list(values.shape)}, expected one for each of {len(array)} sizes")
    for name, numbers in {"sizes": array, "values": values}.items():
        checks.check_positive(**{name: numbers})
    return np.log(array), values
