r"""Paths of optimizers over the loss of a line: full-batch steps on two parameters, from one start.

$$ L(a, b) = \frac{1}{N} \sum_i (a x_i + b - y_i)^2 $$
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mllab import losses, paths
from mllab.data.sets import synthetic
from mllab.models import linear
from mllab.optimizers import OPTIMIZERS, build
from mllab.report import draw
from mllab.report.table import short
from mllab.types import Array

START = (8.0, 75.0)  # a and b
NEAR = 0.01  # a loss or line within 1% of the closed form's counts as near
WINDOW_SIDE = 97  # points on a side of `window`
MIN_SHOWN = 1e-6  # gradients and velocities below this share of the first are rounding error
MAX_SHOWN = 1000.0  # losses above this many times the first are left out of curves
LEFT_OUT = (
    "Gradients and velocities below a millionth of the first are left out, as rounding error, and so are steps whose "
    "loss exceeds 1,000 times the first."
)


@dataclass(frozen=True)
class Labels:
    """Names of a problem's quantities, with units."""

    x: str
    y: str
    a: str
    b: str
    loss: str


class Problem(NamedTuple):
    """Data to fit a line to, and a learning rate for each optimizer."""

    x: np.ndarray  # [N]
    y: np.ndarray  # [N]
    labels: Labels
    rates: Mapping[str, float]


def line(noise_seed: int) -> Problem:
    """Return y = 2x + 25 with normal noise of sigma 0.5."""
    x, y = synthetic.line(np.random.default_rng(noise_seed))
    labels = Labels("x", "y", "slope a", "intercept b", "mean squared error")
    return Problem(x, y, labels, {name: entry.line_rate for name, entry in OPTIMIZERS.items()})


def houses(noise_seed: int) -> Problem:
    """Return the price of six houses by their area."""
    del noise_seed
    units = "slope a (k$ per square foot)", "intercept b (k$)", "mean squared error (k$²)"
    labels = Labels("area (square feet)", "price (k$)", *units)
    return Problem(*synthetic.houses(), labels, {name: entry.houses_rate for name, entry in OPTIMIZERS.items()})


PROBLEMS: Mapping[str, Callable[[int], Problem]] = {"line": line, "houses": houses}


class Path(NamedTuple):
    """The path of one optimizer, [S + 1] each: entry s is the state before step s, and the change that step s makes."""

    a: Array
    b: Array
    loss: Array
    gradient_a: Array
    gradient_b: Array
    velocity_a: Array
    velocity_b: Array


def mean_squared_error(params: linear.Linear, x: Array, y: Array) -> Array:
    """Return the loss of a line on data [N, 1] and [N]."""
    return jnp.mean(losses.squared_error(linear.values(params, x), y))


@partial(jax.jit, static_argnames=("optimizer", "steps"))
def follow(x: Array, y: Array, rate: Array, start: Array, *, optimizer: str, steps: int) -> Path:
    """Return the path of one optimizer on data [N] from `start`, [2]; see `paths.follow`."""
    loss = partial(mean_squared_error, x=x[:, None], y=y)
    path = paths.follow(loss, build(optimizer, rate), linear.Linear(w=start[:1, None], b=start[1:]), steps)
    a, b, *changes = (
        side for each in (path.params, path.gradient, path.velocity) for side in (each.w[:, 0, 0], each.b[:, 0])
    )
    return Path(a, b, path.loss, *changes)


def follow_each(
    problem: Problem, rates: Mapping[str, float], *, steps: int, observe: Callable[[int], None] = lambda steps: None
) -> dict[str, Path]:
    """Return the path of each optimizer of `rates`, from START; `observe` is called with its steps."""
    x, y, start = (jnp.asarray(values, float) for values in (problem.x, problem.y, START))
    paths = {}
    for optimizer, rate in rates.items():
        path = follow(x, y, jnp.asarray(rate, float), start, optimizer=optimizer, steps=steps)
        paths[optimizer] = jax.device_get(path)
        observe(steps)
    return paths


def loss_grid(problem: Problem, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the loss [B, A] at every pair of slopes [A] and intercepts [B]."""
    residual = problem.y[None, None] - b[:, None, None] - a[None, :, None] * problem.x[None, None]
    return np.mean(residual**2, axis=-1)


def hessian_eigenvalues(x: np.ndarray) -> np.ndarray:
    """Return the smallest and the largest eigenvalue of the loss's Hessian, [2]; it is the same everywhere."""
    columns = np.stack([x, np.ones_like(x)], axis=1)
    return np.linalg.eigvalsh(2 * columns.T @ columns / len(x))


def conditioning(condition: float, stable_rate: float) -> str:
    """Return what the curvature of the loss means for gradient descent."""
    return (
        f"The loss curves {short(condition)} times more along its steepest direction than along its flattest (the "
        f"condition number of its Hessian). Gradient descent is stable below a learning rate of {short(stable_rate)}, "
        f"2 / λ_max; near that rate it still needs in the order of {short(condition, 2)} steps to shrink the error "
        "along the flattest direction by a constant factor. L-BFGS estimates the curvature as it goes; the closed form "
        "needs no steps, and centring or standardising x brings the condition number near 1."
    )


@dataclass(frozen=True)
class Fit:
    """A line in closed form."""

    method: str
    a: float
    b: float
    loss: float
    distance: float  # to (a, b) of the first method, in raw units


@dataclass(frozen=True)
class Descent:
    """The result of one optimizer."""

    optimizer: str
    rate: float
    a: float
    b: float
    loss: float
    distance: float  # to the closed form's (a, b), in raw units
    steps: int | None  # after which the loss stays within 1% of the closed form's; None if it does not
    nonfinite_step: int | None  # the first; None if all numbers are finite
    failed: bool  # finite, but no better than predicting the mean

    @property
    def diverged(self) -> str | None:
        """How the optimizer diverged; None if it did not."""
        if self.nonfinite_step is not None:
            return f"non-finite from step {self.nonfinite_step:,}"
        return "failed: no better than the mean" if self.failed else None


def closed_forms(lines: Mapping[str, linear.Linear], problem: Problem) -> list[Fit]:
    """Return the closed-form lines, by method, with their losses and their distances to the first."""
    x, y = jnp.asarray(problem.x, float)[:, None], jnp.asarray(problem.y, float)
    fits: list[Fit] = []
    for method, params in lines.items():
        a, b = float(params.w[0, 0]), float(params.b[0])
        distance = np.hypot(a - fits[0].a, b - fits[0].b) if fits else 0.0
        fits.append(Fit(method, a, b, float(mean_squared_error(params, x, y)), float(distance)))
    return fits


def result(optimizer: str, rate: float, path: Path, closed: Fit, variance: float) -> Descent:
    """Return where a path ends, how soon it is near the closed form, and whether it diverged.

    `variance` is that of the targets: the loss of predicting their mean.
    """
    nonfinite = ~np.isfinite(np.stack(path)).all(axis=0)
    far = np.flatnonzero(~(path.loss <= (1 + NEAR) * closed.loss))
    arrival = int(far[-1]) + 1 if far.size else 0
    a, b, loss = (float(values[-1]) for values in (path.a, path.b, path.loss))
    return Descent(
        optimizer, rate, a, b, loss,
        distance=float(np.hypot(path.a[-1] - closed.a, path.b[-1] - closed.b)),
        steps=arrival if arrival < len(path.loss) else None,
        nonfinite_step=int(nonfinite.argmax()) if nonfinite.any() else None,
        failed=bool(not nonfinite.any() and loss >= variance),
    )  # fmt: skip


def soonest_first(results: Iterable[Descent]) -> list[Descent]:
    """Return the results that end near the closed form, sorted by the steps that this takes."""
    return sorted((each for each in results if each.steps is not None), key=lambda each: each.steps or 0)


def soonest(results: Iterable[Descent]) -> list[str]:
    """Return the optimizers that are near the closed form after the fewest steps: several if they take as many."""
    near = soonest_first(results)
    return [each.optimizer for each in near if each.steps == near[0].steps]


def mean_line(problem: Problem, closed: Fit) -> Fit:
    """Return the flat line through the mean of the targets: the baseline."""
    mean, variance = float(problem.y.mean()), float(problem.y.var())
    return Fit("mean", 0.0, mean, variance, float(np.hypot(closed.a, mean - closed.b)))


def window(paths: Iterable[Path], minimum: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Return slopes and intercepts [WINDOW_SIDE] each, around the paths where these stay near START and the minimum."""
    ends = np.array([START, minimum])
    visited = np.concatenate([ends, *(np.stack([path.a, path.b], axis=1) for path in paths)])
    visited = np.where(np.isfinite(visited), visited, START)
    reach = 2 * np.ptp(ends, axis=0)
    reach[reach == 0] = 1.0
    visited = np.clip(visited, ends.min(axis=0) - reach, ends.max(axis=0) + reach)
    margin = 0.08 * np.ptp(visited, axis=0)
    a, b = np.linspace(visited.min(axis=0) - margin, visited.max(axis=0) + margin, WINDOW_SIDE, axis=1)
    return a, b


def panels(paths: Mapping[str, Path], labels: Labels, closed: Fit) -> list[draw.Panel]:
    """Return params, sizes of gradients and velocities, losses and distances to the closed form, step by step."""

    def panel(label: str, of: Callable[[Path], Any], *, log: bool = True, floor: float | None = None):
        values = {name: of(path) for name, path in paths.items()}
        least = -np.inf if floor is None else floor * max(each[0] for each in values.values())
        series = []
        for name, path in paths.items():
            shown = (path.loss <= MAX_SHOWN * path.loss[0]) & (values[name] >= least)
            series.append(draw.Series(name, np.arange(float(len(shown))), np.where(shown, values[name], np.nan)))
        return draw.Panel(f"{label}, log scale" if log else label, series, log)

    return [
        panel(labels.a, lambda path: path.a, log=False),
        panel(labels.b, lambda path: path.b, log=False),
        panel("gradient |∂L/∂a|", lambda path: np.abs(path.gradient_a), floor=MIN_SHOWN),
        panel("gradient |∂L/∂b|", lambda path: np.abs(path.gradient_b), floor=MIN_SHOWN),
        panel("velocity |Δa| of a step", lambda path: np.abs(path.velocity_a), floor=MIN_SHOWN),
        panel("velocity |Δb| of a step", lambda path: np.abs(path.velocity_b), floor=MIN_SHOWN),
        panel(labels.loss, lambda path: path.loss),
        panel("distance to the closed form", lambda path: np.hypot(path.a - closed.a, path.b - closed.b)),
    ]


def farthest_first(results: Iterable[Descent], closed: Fit, problem: Problem) -> list[Descent]:
    """Return the results whose line is not within 1% of the closed form's, the farthest first.

    The distance is the largest vertical one over the data, as a share of the range of y.
    """
    ends = np.array([problem.x.min(), problem.x.max()])

    def distance(each: Descent) -> float:
        return float(np.abs((each.a - closed.a) * ends + each.b - closed.b).max() / np.ptp(problem.y))

    return sorted((each for each in results if distance(each) >= NEAR), key=distance, reverse=True)
