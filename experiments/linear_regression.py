r"""Linear regression: the lecture's line, or its houses, fitted in closed form and by every optimizer.

  python -m experiments.linear_regression
  python -m experiments.linear_regression --dataset=houses --optimizers=sgd,adam,lbfgs --rates=adam=0.5,sgd=3e-7

Data keep their raw units, and the whole of them is one batch: every optimizer walks down

    $$ L(a, b) = \frac{1}{N} \sum_i (a x_i + b - y_i)^2 $$

from (a, b) = (8, 75), a path of two numbers that one can look at. How fast gradient descent may go is bounded by the
largest eigenvalue of the Hessian (its rate must stay below 2 / λ_max), how far it gets by the smallest: the condition
number is 133 on the line, where x is centred, and 3e7 on the houses, whose areas are far from 0.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags

from experiments import flags as shared
from experiments.workdir import Lines, Workdir, default_path, flagfile, launch
from mllab import devices, losses, weights
from mllab.averaging import evaluation_params
from mllab.data import synthetic
from mllab.errors import UserError, unknown
from mllab.models import linear
from mllab.optimizers import OPTIMIZERS
from mllab.report import console
from mllab.report import regression as report
from mllab.types import Array

flags.declare_key_flag("dataset")
flags.declare_key_flag("optimizers")
flags.declare_key_flag("workdir")
RATES = flags.DEFINE_list(
    "rates",
    [],
    "Learning rates that differ from the data set's own: NAME=RATE, separated by commas (adam=0.5,sgd=1e-3).",
)
STEPS = flags.DEFINE_integer("steps", 500, "Steps that every optimizer takes.", lower_bound=1)
NOISE_SEED = flags.DEFINE_integer("noise_seed", 0, "Seed of the line's noise.", lower_bound=0)

START = (8.0, 75.0)  # the lecture's a and b


class Problem(NamedTuple):
    """Data to fit, what they are, and a learning rate for each optimizer."""

    name: str
    x: np.ndarray  # [N]
    y: np.ndarray  # [N]
    labels: Mapping[str, str]  # of x, y, a, b and the loss, with their units
    rates: Mapping[str, float]  # found by trial: a small loss at the end, and a path that stays in sight


def line(noise_seed: int) -> Problem:
    """Return the line y = 2x + 25 with noise of sigma 0.5."""
    return Problem(
        "line",
        *synthetic.line(np.random.default_rng(noise_seed)),
        labels={"x": "x", "y": "y", "a": "slope a", "b": "intercept b", "loss": "mean squared error"},
        rates={name: entry.line_rate for name, entry in OPTIMIZERS.items()},
    )


def houses(noise_seed: int) -> Problem:
    """Return the price of six houses by their area."""
    del noise_seed
    return Problem(
        "houses",
        *synthetic.houses(),
        labels={
            "x": "area (square feet)",
            "y": "price (k$)",
            "a": "slope a (k$ per square foot)",
            "b": "intercept b (k$)",
            "loss": "mean squared error (k$²)",
        },
        rates={name: entry.houses_rate for name, entry in OPTIMIZERS.items()},
    )


PROBLEMS: Mapping[str, Callable[[int], Problem]] = {"line": line, "houses": houses}


class Trajectory(NamedTuple):
    """What one optimizer did: entry s is what held before step s, and the change that step s then made."""

    a: Array  # [S + 1]
    b: Array  # [S + 1]
    loss: Array  # [S + 1]
    gradient_a: Array  # [S + 1]
    gradient_b: Array  # [S + 1]
    velocity_a: Array  # [S + 1] a after the step less a before it
    velocity_b: Array  # [S + 1]


def mean_squared_error(params: linear.Linear, x: Array, y: Array) -> Array:
    """Return the loss of a line on data [N, 1] and [N]."""
    return jnp.mean(losses.squared_error(linear.values(params, x), y))


@partial(jax.jit, static_argnames=("optimizer", "steps"))
def trajectory(x: Array, y: Array, rate: Array, start: Array, *, optimizer: str, steps: int) -> Trajectory:
    """Follow one optimizer, every step on the full batch.

    Schedule-free's path is that of its averaged params, which are what it proposes; its gradients are taken elsewhere.

    Args:
        x: inputs [N].
        y: targets [N].
        rate: learning rate.
        start: first a and b, [2].
        optimizer: a key of `OPTIMIZERS`.
        steps: how many.
    """
    loss_of = partial(mean_squared_error, x=x[:, None], y=y)
    update = optax.with_extra_args_support(OPTIMIZERS[optimizer].make(rate))

    def step(carry: tuple[linear.Linear, optax.OptState], _: None) -> tuple[Any, Trajectory]:
        params, state = carry
        loss, gradient = jax.value_and_grad(loss_of)(params)
        changes, new_state = update.update(gradient, state, params, value=loss, grad=gradient, value_fn=loss_of)
        new_params = optax.apply_updates(params, changes)
        here, there = evaluation_params(state, params), evaluation_params(new_state, new_params)
        velocity = jax.tree.map(jnp.subtract, there, here)
        a, b, loss = here.w[0, 0], here.b[0], loss_of(here)
        seen = Trajectory(a, b, loss, gradient.w[0, 0], gradient.b[0], velocity.w[0, 0], velocity.b[0])
        return (new_params, new_state), seen

    params = linear.Linear(w=start[:1, None], b=start[1:])
    return jax.lax.scan(step, (params, update.init(params)), length=steps + 1)[1]


def trajectories(
    x: np.ndarray,
    y: np.ndarray,
    rates: Mapping[str, float],
    *,
    steps: int,
    start: tuple[float, float] = START,
    observe: Callable[[str], None] = lambda optimizer: None,
) -> dict[str, Trajectory]:
    """Follow each optimizer of `rates` at its rate; tell `observe` as each arrives."""
    data = jnp.asarray(x, float), jnp.asarray(y, float)
    paths = {}
    for optimizer, rate in rates.items():
        followed = trajectory(*data, jnp.asarray(rate, float), jnp.asarray(start), optimizer=optimizer, steps=steps)
        paths[optimizer] = jax.device_get(followed)
        observe(optimizer)
    return paths


def loss_grid(problem: Problem, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the loss [B, A] at every pair of slopes [A] and intercepts [B]."""
    residual = problem.y[None, None] - b[:, None, None] - a[None, :, None] * problem.x[None, None]
    return np.mean(residual**2, axis=-1)


def hessian_eigenvalues(x: np.ndarray) -> np.ndarray:
    """Return the smallest and the largest curvature of the loss, [2]: it is a paraboloid, the same everywhere."""
    columns = np.stack([x, np.ones_like(x)], axis=1)
    return np.linalg.eigvalsh(2 * columns.T @ columns / len(x))


def main(argv: Sequence[str]) -> None:
    """Read the flags and run."""
    devices.cache_compilations()
    path = Path(shared.WORKDIR.value) if shared.WORKDIR.value else default_path("linear_regression")
    names = shared.OPTIMIZERS.value
    run(
        Workdir(path, "linear_regression", flagfile("__main__")),
        dataset=shared.DATASET.value or "line",
        optimizers=list(OPTIMIZERS) if names == ["all"] else names,
        rates=parse_rates(RATES.value),
        steps=STEPS.value,
        noise_seed=NOISE_SEED.value,
    )


def parse_rates(texts: Sequence[str]) -> dict[str, float]:
    """Return rates by optimizer from NAME=RATE.

    Raises:
        UserError: another form, or no number.
    """
    rates = {}
    for text in texts:
        name, _, number = text.partition("=")
        try:
            rates[name] = float(number)
        except ValueError:
            raise UserError(f"--rates={text}: give NAME=RATE, such as adam=0.5") from None
    return rates


def choose_rates(problem: Problem, optimizers: Sequence[str], rates: Mapping[str, float]) -> dict[str, float]:
    """Return the rate of each optimizer: the user's, or else the problem's own.

    Raises:
        UserError: an optimizer that is unknown, named twice, or given a rate and not run; a rate that is not positive.
    """
    for name in (*optimizers, *rates):
        if name not in OPTIMIZERS:
            raise unknown("optimizer", name, OPTIMIZERS)
    if len(set(optimizers)) != len(optimizers):
        raise UserError(f"--optimizers={','.join(optimizers)}: name each once")
    for name, rate in rates.items():
        if name not in optimizers:
            raise UserError(f"--rates={name}={rate:g}: {name} does not run; add it to --optimizers")
        if not (np.isfinite(rate) and rate > 0):
            raise UserError(f"--rates={name}={rate:g}: a learning rate is a positive number")
    return {name: rates.get(name, problem.rates[name]) for name in optimizers}


def run(
    workdir: Workdir,
    *,
    dataset: str = "line",
    optimizers: Sequence[str] = tuple(OPTIMIZERS),
    rates: Mapping[str, float] | None = None,
    steps: int = 500,
    noise_seed: int = 0,
) -> dict[str, Any]:
    """Fit, write the workdir, show the table; return the summary that summary.json holds.

    There is nothing to resume: the same workdir again repeats the few seconds, to the same bits.
    """
    if dataset not in PROBLEMS:
        raise unknown("dataset", dataset, PROBLEMS)
    problem = PROBLEMS[dataset](noise_seed)
    chosen = choose_rates(problem, optimizers, rates or {})
    with workdir.opened(), console.Progress() as progress:
        digest = hashlib.sha256(problem.x.tobytes() + problem.y.tobytes()).hexdigest()
        environment = workdir.write_environment({dataset: digest}, count=1)
        progress.task(f"{len(chosen)} optimizers", total=steps * len(chosen))
        fits = {method: linear.fit(problem.x[:, None], problem.y, method=method) for method in linear.METHODS}
        paths = trajectories(
            problem.x, problem.y, chosen, steps=steps, observe=lambda optimizer: progress.advance(steps)
        )
        summary = summarise(problem, fits, paths, chosen, steps)
        write_report(workdir, problem, summary, fits["qr"], paths, environment)
        workdir.write_json("summary.json", summary)
    console.show(report.regression_table(summary))
    print(f"\n{report.answer(summary)}\nReport: {workdir.path / 'report.html'}")
    return summary


def summarise(
    problem: Problem,
    fits: Mapping[str, linear.Linear],
    paths: Mapping[str, Trajectory],
    rates: Mapping[str, float],
    steps: int,
) -> dict[str, Any]:
    """Return the final figures as plain values, ready for JSON."""
    x, y = jnp.asarray(problem.x, float)[:, None], jnp.asarray(problem.y, float)
    closed = [
        {"method": method, "a": float(fit.w[0, 0]), "b": float(fit.b[0]), "loss": float(mean_squared_error(fit, x, y))}
        for method, fit in fits.items()
    ]
    smallest, largest = hessian_eigenvalues(problem.x)
    entries: list[dict[str, Any]] = [
        {"optimizer": name, "rate": rates[name]} | verdict(path, closed[0], float(problem.y.var()))
        for name, path in paths.items()
    ]
    arrived = sorted((e for e in entries if e["steps"] is not None), key=lambda e: e["steps"])
    return {
        "experiment": "linear_regression",
        "dataset": problem.name,
        "rows": len(problem.x),
        "labels": problem.labels,
        "start": START,
        "steps": steps,
        "condition_number": float(largest / smallest),
        "stable_rate": float(2 / largest),
        "closed_form": closed,
        "winner": arrived[0]["optimizer"] if arrived else None,
        "optimizers": entries,
    }


def verdict(path: Trajectory, closed: Mapping[str, Any], variance: float) -> dict[str, Any]:
    """Return where a path ends, how soon it stays within 1% of the least loss, and whether it diverged."""
    numbers = np.stack(path)
    lost = ~np.isfinite(numbers).all(axis=0)
    far = np.flatnonzero(~(path.loss <= 1.01 * closed["loss"]))
    arrival = int(far[-1]) + 1 if far.size else 0
    return {
        "a": float(path.a[-1]),
        "b": float(path.b[-1]),
        "loss": float(path.loss[-1]),
        "distance": float(np.hypot(path.a[-1] - closed["a"], path.b[-1] - closed["b"])),
        "steps": arrival if arrival < len(path.loss) else None,
        "nonfinite_step": int(lost.argmax()) if lost.any() else None,
        "failed": bool(not lost.any() and path.loss[-1] >= variance),  # no better than predicting the mean
    }


def write_report(
    workdir: Workdir,
    problem: Problem,
    summary: dict[str, Any],
    fit: linear.Linear,
    paths: Mapping[str, Trajectory],
    environment: dict[str, Any],
) -> None:
    """Write every step, the figures, TensorBoard events, the closed form's params and the page."""
    from mllab.report import events, page

    by_name = {name: path._asdict() for name, path in paths.items()}
    steps = np.arange(summary["steps"] + 1)
    with Lines(workdir.path / "metrics.jsonl") as lines:
        for name, path in by_name.items():
            lines.add(
                {"optimizer": name, "step": step} | {quantity: values[step] for quantity, values in path.items()}
                for step in steps
            )
            tags = {quantity.replace("_", "/"): (steps, values) for quantity, values in path.items()}
            events.write(workdir.path / "events" / name, tags)
    a, b = report.frame(by_name, summary)
    figures = report.figures(
        summary, by_name, (problem.x, problem.y), (a, b, loss_grid(problem, a, b)), workdir.path / "figures"
    )
    about = {"model": "linear 1-1", "dataset": problem.name, "features": [problem.labels["x"]]}
    workdir.write("params.safetensors", weights.encode(fit, about))
    page.write(workdir.path / "report.html", report.page(summary, figures, environment, workdir.command))


if __name__ == "__main__":
    flags.set_default(shared.OPTIMIZERS, ["all"])  # here, and not where another program imports this one
    launch(main)
