r"""Linear regression: a line fitted in closed form and by every optimizer, to synthetic data or to prices of houses.

  python -m experiments.linear_regression
  python -m experiments.linear_regression --dataset=houses --optimizers=sgd,adam,lbfgs --rates=adam=0.5,sgd=3e-7

Data keep their raw units, and every step uses the full batch. Each optimizer minimises

    $$ L(a, b) = \frac{1}{N} \sum_i (a x_i + b - y_i)^2 $$

from (a, b) = (8, 75). Gradient descent is stable below a learning rate of 2 / λ_max, the largest eigenvalue of the
Hessian. The condition number is 133 for the line, where x is centred, and 3e7 for the houses, whose areas are not.
"""

import hashlib
from dataclasses import dataclass

import numpy as np

from experiments import descent_paths as descent
from experiments import frame
from experiments.line_answer import Measurement, answer, result_table
from mllab import weights
from mllab.errors import UserError
from mllab.models import linear
from mllab.optimizers import OPTIMIZERS
from mllab.report import draw, events
from mllab.report.report import Drawing, Report, Section
from mllab.report.table import equation

FAMILIES = {
    "plain": "Gradient descent, its momenta, and L-BFGS",
    "adaptive": "A learning rate for each parameter",
    "later": "Successors of Adam, and sign descent",
}
MAX_LINES = 4  # fitted lines drawn beside the closed form's


@dataclass(frozen=True, kw_only=True)
class Settings(frame.Output, frame.Optimizers):
    """The problem, the optimizers and their learning rates."""

    dataset: str = frame.choice(descent.PROBLEMS, "line", help="Problem: line or houses.", kind="dataset")
    optimizers: tuple[str, ...] = frame.Optimizers.with_default("optimizers", tuple(OPTIMIZERS))
    rates: tuple[tuple[str, float], ...] = frame.rates(
        OPTIMIZERS, kind="optimizer", help="Learning rates other than the defaults, such as adam=0.5,sgd=1e-3."
    )
    steps: int = frame.whole(500, help="Steps of every optimizer.", low=1, high=100_000)
    noise_seed: int = frame.whole(0, help="Seed of the line's noise.", low=0, high=2**32 - 1)


def measure(run: frame.Context, settings: Settings) -> Measurement:
    """Fit the line in closed form and by every optimizer; write the paths and the line of least squares."""
    problem = descent.PROBLEMS[settings.dataset](settings.noise_seed)
    for name, rate in settings.rates:
        if name not in settings.optimizers:
            raise UserError(f"--rates={name}={rate:g}: {name} does not run; add it to --optimizers")
    rates = {name: dict(settings.rates).get(name, problem.rates[name]) for name in settings.optimizers}
    run.read({settings.dataset: hashlib.sha256(problem.x.tobytes() + problem.y.tobytes()).hexdigest()})
    run.progress.task(f"{len(rates)} optimizers", settings.steps * len(rates))
    with run.timed("closed form"):
        lines = {method: linear.fit(problem.x[:, None], problem.y, method=method) for method in linear.METHODS}
        fits = descent.closed_forms(lines, problem)
    with run.timed("descent"):
        paths = descent.follow_each(problem, rates, steps=settings.steps, observe=run.progress.advance)
    results = [descent.result(name, rates[name], path, fits[0], problem.y.var()) for name, path in paths.items()]
    soonest = descent.soonest(results)
    smallest, largest = descent.hessian_eigenvalues(problem.x)
    with run.timed("records and events"):
        steps = np.arange(settings.steps + 1)
        for name, path in paths.items():
            values = path._asdict()
            run.record({"optimizer": name, "step": step} | {key: values[key][step] for key in values} for step in steps)
            events.write(run.path / "events" / name, {key.replace("_", "/"): (steps, values[key]) for key in values})
        header = {"model": "linear 1-1", "dataset": settings.dataset, "features": [problem.labels.x]}
        run.write("params.safetensors", weights.encode(lines["qr"], header))
    return Measurement(
        dataset=settings.dataset, rows=len(problem.x), labels=problem.labels, start=descent.START, steps=settings.steps,
        condition_number=float(largest / smallest), stable_rate=float(2 / largest), closed_form=fits,
        mean=descent.mean_line(problem, fits[0]), winner=next(iter(soonest), None), tied=soonest, optimizers=results,
        problem=problem, paths=paths,
    )  # fmt: skip


def report(run: frame.Context, settings: Settings, measured: Measurement) -> Report:
    """Report the lines, the conditioning of the problem, and the path of every optimizer."""
    del run, settings
    labels, least = measured.labels, measured.closed_form[0]
    a, b = descent.window(measured.paths.values(), (least.a, least.b))
    loss = descent.loss_grid(measured.problem, a, b)
    landscape = draw.Landscape(a, b, loss, labels.a, labels.b, labels.loss, (least.a, least.b))
    return Report(
        title=f"Linear regression on {measured.dataset}",
        question="Which line fits best, and along which path does each optimizer approach it?",
        answer=answer(measured),
        table=result_table(measured),
        sections=[
            Section("Data and lines", [fitted_lines(measured)]),
            Section("Conditioning", [descent.conditioning(measured.condition_number, measured.stable_rate)]),
            *(Section(title, drawings(measured, family, landscape)) for family, title in FAMILIES.items()),
        ],
        facts={
            "data set": f"{measured.dataset}: {measured.rows:,} examples, in raw units",
            "loss": f"{labels.loss}; every step uses all examples",
            "learning rates": ", ".join(f"{each.optimizer} {each.rate:g}" for each in measured.optimizers),
        },
    )


def fitted_lines(measured: Measurement) -> Drawing:
    """Draw the data, the line of the closed form, and those of the optimizers that are visibly different."""
    problem, least = measured.problem, measured.closed_form[0]
    finite = [each for each in measured.optimizers if np.isfinite([each.a, each.b]).all()]
    apart = descent.farthest_first(finite, least, problem)
    near, closer, lost = len(finite) - len(apart), len(apart[MAX_LINES:]), len(measured.optimizers) - len(finite)
    note = f"Not drawn: lines within 1% of it ({near}), closer than those drawn ({closer}), not finite ({lost})."
    ends = np.array([problem.x.min(), problem.x.max()])
    series = [draw.Series("closed form", ends, least.a * ends + least.b, name="closed_form")]
    series += [draw.Series(each.optimizer, ends, each.a * ends + each.b) for each in apart[:MAX_LINES]]
    title = f"{equation(least.a, least.b)}: the line of least squares"
    axes = {"x_label": problem.labels.x, "y_label": problem.labels.y}
    figure = draw.fitted_line(problem.x, problem.y, series, title=title, note=note, **axes)
    return Drawing("line", figure, "Data and fitted lines")


def drawings(measured: Measurement, family: str, landscape: draw.Landscape) -> list[Drawing]:
    """Draw the paths of one family of optimizers over the loss, and their quantities step by step."""
    paths = {name: path for name, path in measured.paths.items() if OPTIMIZERS[name].family == family}
    if not paths:
        return []
    title = f"{FAMILIES[family]}: {measured.steps:,} steps"
    drawn = [draw.Path(name, path.a, path.b) for name, path in paths.items()]
    panels = descent.panels(paths, measured.labels, measured.closed_form[0])
    contours = draw.loss_contours(landscape, drawn, title=title)
    height = draw.loss_surface(landscape, drawn, title=title, log_loss=True, note="Height on a log scale.")
    by_step = draw.panels(panels, title=f"{FAMILIES[family]}, step by step", note=descent.LEFT_OUT)
    return [
        Drawing(f"contours_{family}", contours, "Contours of the loss over slope and intercept, with every path"),
        Drawing(f"surface_{family}", height, "The loss as a surface over slope and intercept, with every path"),
        Drawing(f"steps_{family}", by_step, "Parameters, gradients, velocities and loss against the step"),
    ]


main, run = frame.program(Settings, measure, report)

if __name__ == "__main__":
    main()
