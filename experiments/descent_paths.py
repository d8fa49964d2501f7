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
import optax

from mllab import losses
from mllab.data import synthetic
from mllab.models import linear
from mllab.optimizers import OPTIMIZERS, build, evaluation_params
from mllab.types import Array

START = (8.0, 75.0)  # a and b
NEAR = 1.01  # a loss is near the least one within 1%
WINDOW_SIDE = 97  # points on a side of `window`


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
    return Problem(
        *synthetic.line(np.random.default_rng(noise_seed)),
        Labels("x", "y", "slope a", "intercept b", "mean squared error"),
        {name: entry.line_rate for name, entry in OPTIMIZERS.items()},
    )


def houses(noise_seed: int) -> Problem:
    """Return the price of six houses by their area."""
    del noise_seed
    return Problem(
        *synthetic.houses(),
        Labels(
            "area (square feet)", "price (k$)", "slope a (k$ per square foot)", "intercept b (k$)",
            "mean squared error (k$²)",
        ),
        {name: entry.houses_rate for name, entry in OPTIMIZERS.items()},
    )  # fmt: skip


PROBLEMS: Mapping[str, Callable[[int], Problem]] = {"line": line, "houses": houses}


class Path(NamedTuple):
    """The path of one optimizer: entry s is the state before step s, and the change that step s makes."""

    a: Array  # [S + 1]
    b: Array  # [S + 1]
    loss: Array  # [S + 1]
    gradient_a: Array  # [S + 1]
    gradient_b: Array  # [S + 1]
    velocity_a: Array  # [S + 1]
    velocity_b: Array  # [S + 1]


def mean_squared_error(params: linear.Linear, x: Array, y: Array) -> Array:
    """Return the loss of a line on data [N, 1] and [N]."""
    return jnp.mean(losses.squared_error(linear.values(params, x), y))


@partial(jax.jit, static_argnames=("optimizer", "steps"))
def path(x: Array, y: Array, rate: Array, start: Array, *, optimizer: str, steps: int) -> Path:
    """Return the path of one optimizer; every step uses the full batch.

    The path of a schedule-free optimizer is that of its averaged params; its gradients are taken at other params.

    Args:
        x: inputs [N].
        y: targets [N].
        rate: learning rate.
        start: a and b before the first step, [2].
        optimizer: a key of `OPTIMIZERS`.
        steps: number of steps S.
    """
    loss_of = partial(mean_squared_error, x=x[:, None], y=y)
    update = optax.with_extra_args_support(build(optimizer, rate))

    def step(carry: tuple[linear.Linear, optax.OptState], _: None) -> tuple[Any, Path]:
        params, state = carry
        loss, gradient = jax.value_and_grad(loss_of)(params)
        changes, new_state = update.update(gradient, state, params, value=loss, grad=gradient, value_fn=loss_of)
        new_params = optax.apply_updates(params, changes)
        here, there = evaluation_params(state, params), evaluation_params(new_state, new_params)
        velocity = jax.tree.map(jnp.subtract, there, here)
        a, b, loss = here.w[0, 0], here.b[0], loss_of(here)
        at_step = Path(a, b, loss, gradient.w[0, 0], gradient.b[0], velocity.w[0, 0], velocity.b[0])
        return (new_params, new_state), at_step

    params = linear.Linear(w=start[:1, None], b=start[1:])
    return jax.lax.scan(step, (params, update.init(params)), length=steps + 1)[1]


def paths(
    problem: Problem,
    rates: Mapping[str, float],
    *,
    steps: int,
    observe: Callable[[str], None] = lambda optimizer: None,
) -> dict[str, Path]:
    """Return the path of each optimizer of `rates`, from START; `observe` is called after each."""
    data = jnp.asarray(problem.x, float), jnp.asarray(problem.y, float)
    made = {}
    for optimizer, rate in rates.items():
        followed = path(*data, jnp.asarray(rate, float), jnp.asarray(START), optimizer=optimizer, steps=steps)
        made[optimizer] = jax.device_get(followed)
        observe(optimizer)
    return made


def loss_grid(problem: Problem, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the loss [B, A] at every pair of slopes [A] and intercepts [B]."""
    residual = problem.y[None, None] - b[:, None, None] - a[None, :, None] * problem.x[None, None]
    return np.mean(residual**2, axis=-1)


def hessian_eigenvalues(x: np.ndarray) -> np.ndarray:
    """Return the smallest and the largest eigenvalue of the loss's Hessian, [2]; it is the same everywhere."""
    columns = np.stack([x, np.ones_like(x)], axis=1)
    return np.linalg.eigvalsh(2 * columns.T @ columns / len(x))


def steps_to_near(loss: np.ndarray, least: float) -> int | None:
    """Return the steps after which a loss [S + 1] stays within 1% of the least one; None if it does not."""
    far = np.flatnonzero(~(loss <= NEAR * least))
    arrival = int(far[-1]) + 1 if far.size else 0
    return arrival if arrival < len(loss) else None


def first_nonfinite_step(followed: Path) -> int | None:
    """Return the first step whose numbers are not all finite; None if all are."""
    nonfinite = ~np.isfinite(np.stack(followed)).all(axis=0)
    return int(nonfinite.argmax()) if nonfinite.any() else None


def window(followed: Iterable[Path], minimum: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Return slopes and intercepts [WINDOW_SIDE] each, around the paths where these stay near START and the minimum."""
    followed, sides = list(followed), []
    for name, start, least in zip(("a", "b"), START, minimum, strict=True):
        reach = 2 * abs(start - least) or 1.0
        visited = np.concatenate([[start, least], *(getattr(each, name) for each in followed)])
        visited = np.clip(visited[np.isfinite(visited)], min(start, least) - reach, max(start, least) + reach)
        margin = 0.08 * np.ptp(visited)
        sides.append(np.linspace(visited.min() - margin, visited.max() + margin, WINDOW_SIDE))
    return sides[0], sides[1]
