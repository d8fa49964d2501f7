"""What a linear regression says: its table, its figures and its page, from the plain summary that summary.json holds.

A path is a mapping of arrays [S + 1]: `a`, `b`, `loss`, `gradient_a`, `gradient_b`, `velocity_a`, `velocity_b`.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mllab.report import figures as draw
from mllab.report import landscape
from mllab.report.page import Code, Definitions, Figure, Page, Section
from mllab.report.table import Table

Summary = Mapping[str, Any]
Paths = Mapping[str, Mapping[str, np.ndarray]]

GRID = 97  # points on a side of the loss surface
MISSES = 4  # lines that stand apart from the closed form's, at most
DEEP = 1e-6  # how far below the first ones gradients and velocities are drawn
FAR = 1000.0  # steps whose loss exceeds the first so many times are left out of curves

# A figure holds five paths; more cannot be told apart.
FAMILIES: Mapping[str, Sequence[str]] = {
    "plain": ("sgd", "momentum", "nesterov", "schedule_free_sgd", "lbfgs"),
    "adaptive": ("adagrad", "adadelta", "rmsprop", "adam", "adamax"),
    "later": ("nadam", "adamw", "schedule_free_adam", "lion", "muon"),
}
TITLES = {
    "plain": "Gradient descent, its momenta, and L-BFGS",
    "adaptive": "A rate for each parameter",
    "later": "Adam's and sign descent's heirs",
}


def regression_table(summary: Summary) -> Table:
    """Return a row a closed form, then a row an optimizer: where it ends, how far off, how soon near."""
    columns = ["fitted by", "rate", "a", "b", "loss", "distance", "steps to 1%", "diverged"]
    best = summary["closed_form"][0]
    rows: list[list[object]] = [
        [f"closed form ({fit['method']})", None, *_digits(fit), _distance(fit, best), None, None]
        for fit in summary["closed_form"]
    ]
    names = [entry["optimizer"] for entry in summary["optimizers"]]
    rows += [
        [entry["optimizer"], f"{entry['rate']:g}", *_digits(entry), _short(entry["distance"]), entry["steps"], lost]
        for entry in summary["optimizers"]
        for lost in [diverged(entry)]
    ]
    mark = len(summary["closed_form"]) + names.index(summary["winner"]) if summary["winner"] else None
    caption = (
        f"{'* soonest; ' if summary['winner'] else ''}steps to 1%: after which the loss stays within 1% of the closed "
        f"form's; distance: from the closed form's (a, b), in raw units; all from a = {summary['start'][0]:g}, "
        f"b = {summary['start'][1]:g}, {summary['steps']:,} steps"
    )
    return Table(columns, rows, mark, caption)


def diverged(entry: Mapping[str, Any]) -> str | None:
    """Return how an optimizer was lost, if it was."""
    if entry["nonfinite_step"] is not None:
        return f"non-finite from step {entry['nonfinite_step']:,}"
    return "failed: no better than the mean" if entry["failed"] else None


def _digits(fit: Mapping[str, Any]) -> list[str | None]:
    return [_short(fit[name], 5) for name in ("a", "b", "loss")]


def _distance(fit: Mapping[str, Any], best: Mapping[str, Any]) -> str | None:
    return _short(float(np.hypot(fit["a"] - best["a"], fit["b"] - best["b"])))


def _short(value: float, digits: int = 2) -> str | None:
    return f"{value:.{digits}g}" if np.isfinite(value) else None


def answer(summary: Summary) -> str:
    """Return in a few sentences what the best line is and who found it."""
    best, entries = summary["closed_form"][0], summary["optimizers"]
    near = sorted((entry for entry in entries if entry["steps"] is not None), key=lambda entry: entry["steps"])
    said = f"The least squares line is y = {best['a']:.4g} x + {best['b']:.4g}, in closed form. "
    if not near:
        return said + f"None of {len(entries)} optimizers stays within 1% of its loss after {summary['steps']:,} steps."
    soonest = f"{near[0]['optimizer']} stays within 1% of its loss after {near[0]['steps']:,} steps"
    if len(near) > 1:
        soonest += f", {near[1]['optimizer']} next after {near[1]['steps']:,}"
    missing = len(entries) - len(near)
    return f"{said}{soonest}; {missing} of {len(entries)} optimizers do not in {summary['steps']:,}."


def frame(paths: Paths, summary: Summary) -> tuple[np.ndarray, np.ndarray]:
    """Return slopes and intercepts [GRID] that hold all paths, as far as these stay near the start and the minimum."""
    sides = []
    for name, start in zip(("a", "b"), summary["start"], strict=True):
        minimum = summary["closed_form"][0][name]
        reach = 2 * abs(start - minimum) or 1.0
        low, high = min(start, minimum) - reach, max(start, minimum) + reach
        seen = np.concatenate([[start, minimum], *(path[name] for path in paths.values())])
        seen = np.clip(seen[np.isfinite(seen)], low, high)
        margin = 0.08 * np.ptp(seen)
        sides.append(np.linspace(seen.min() - margin, seen.max() + margin, GRID))
    return sides[0], sides[1]


def figures(
    summary: Summary,
    paths: Paths,
    data: tuple[np.ndarray, np.ndarray],
    surface: tuple[np.ndarray, np.ndarray, np.ndarray],
    folder: Path,
) -> dict[str, list[Path]]:
    """Draw all figures and return their files: that of the lines, then three of each family of optimizers.

    Args:
        summary: see `regression_table`.
        paths: by optimizer.
        data: x and y, [N] each.
        surface: slopes [A], intercepts [B], and the loss at each pair [B, A].
        folder: where to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {"line": [draw.save(_lines(summary, paths, *data), folder / "line.svg")]}
    for family, members in FAMILIES.items():
        shown = {name: paths[name] for name in members if name in paths}
        if shown:
            made = {
                "contours": _landscape(landscape.loss_contours, summary, shown, surface, TITLES[family]),
                "surface": _landscape(
                    landscape.loss_surface,
                    summary,
                    shown,
                    surface,
                    TITLES[family],
                    log_loss=True,
                    note="Height on a log scale.",
                ),
                "steps": _steps(summary, shown, TITLES[family]),
            }
            drawn[family] = [draw.save(figure, folder / f"{kind}_{family}.svg") for kind, figure in made.items()]
    return drawn


def _lines(summary: Summary, paths: Paths, x: np.ndarray, y: np.ndarray):
    """Draw the data, the closed form's line, and the optimizers' lines that one can tell from it."""
    ends, best = np.array([x.min(), x.max()]), summary["closed_form"][0]
    least = best["a"] * ends + best["b"]
    fitted = {name: path["a"][-1] * ends + path["b"][-1] for name, path in paths.items()}
    miss = {name: np.abs(line - least).max() / np.ptp(y) for name, line in fitted.items() if np.isfinite(line).all()}
    apart = sorted((name for name in miss if miss[name] >= 0.01), key=lambda name: -miss[name])
    series = [draw.Series("closed form", ends, least, name="closed_form")]
    series += [draw.Series(name, ends, fitted[name]) for name in apart[:MISSES]]
    note = f"{len(miss) - len(apart)} of {len(paths)} optimizers' lines lie within 1% of the closed form's"
    note += f"; of the {len(apart)} others the {MISSES} worst are drawn" if len(apart) > MISSES else ""
    note += f"; {len(paths) - len(miss)} went non-finite." if len(miss) < len(paths) else "."
    return draw.fitted_line(
        x,
        y,
        series,
        title=f"y = {best['a']:.4g} x + {best['b']:.4g}: the line of least squares",
        x_label=summary["labels"]["x"],
        y_label=summary["labels"]["y"],
        note=note,
    )


def _things(summary: Summary) -> str:
    return "houses" if summary["dataset"] == "houses" else "points"


def _landscape(function, summary: Summary, paths: Paths, surface, title: str, **how):
    """Draw paths over the loss, as contours or as a surface."""
    best, labels = summary["closed_form"][0], summary["labels"]
    return function(
        *surface,
        [landscape.Path(name, path["a"], path["b"]) for name, path in paths.items()],
        title=f"{title}: {summary['steps']:,} steps",
        a_label=labels["a"],
        b_label=labels["b"],
        loss_label=labels["loss"],
        optimum=(best["a"], best["b"]),
        **how,
    )


def _steps(summary: Summary, paths: Paths, title: str):
    """Draw parameters, gradients, velocities, loss and distance against the step."""
    labels, best = summary["labels"], summary["closed_form"][0]
    steps = np.arange(summary["steps"] + 1)
    near = {name: path["loss"] <= FAR * path["loss"][0] for name, path in paths.items()}

    def panel(label: str, of: Callable[[Mapping[str, np.ndarray]], np.ndarray], *, log: bool = False) -> draw.Panel:
        curves = {name: np.where(near[name], of(path), np.nan) for name, path in paths.items()}
        return draw.Panel(label, [draw.Series(name, steps, curve) for name, curve in curves.items()], log)

    def size(label: str, quantity: str) -> draw.Panel:
        """Show how large a quantity is, as far down as it means something."""
        floor = DEEP * max(np.abs(path[quantity][0]) for path in paths.values())

        def seen(path: Mapping[str, np.ndarray]) -> np.ndarray:
            values = np.abs(path[quantity])
            return np.where(values >= floor, values, np.nan)

        return panel(f"{label}, log scale", seen, log=True)

    lost = (
        ""
        if all(each.all() for each in near.values())
        else f" So are steps whose loss is above {FAR:,g} times the first."
    )
    return draw.against_step(
        [
            panel(labels["a"], lambda path: path["a"]),
            panel(labels["b"], lambda path: path["b"]),
            size("gradient |∂L/∂a|", "gradient_a"),
            size("gradient |∂L/∂b|", "gradient_b"),
            size("velocity |Δa| of a step", "velocity_a"),
            size("velocity |Δb| of a step", "velocity_b"),
            panel(f"{labels['loss']}, log scale", lambda path: path["loss"], log=True),
            panel(
                "distance to the closed form, log scale",
                lambda path: np.hypot(path["a"] - best["a"], path["b"] - best["b"]),
                log=True,
            ),
        ],
        title=f"{title}, step by step",
        note=f"Gradients and velocities below a millionth of the first are left out: there, rounding shows.{lost}",
    )


def page(summary: Summary, drawn: Mapping[str, Sequence[Path]], environment: Mapping[str, Any], command: str) -> Page:
    """Return the regression's page.

    Args:
        summary: see `regression_table`.
        drawn: what `figures` returned.
        environment: what environment.json holds.
        command: what repeats the run.
    """
    alts = {
        "contours": "Contours of the loss over slope and intercept, with the path of each optimizer",
        "surface": "The loss as a surface over slope and intercept, with the path of each optimizer",
        "steps": "Parameters, gradients, velocities and loss against the step, one curve an optimizer",
    }
    families = [
        Section(
            TITLES[family],
            [Figure(path, alt=alt) for path, alt in zip(drawn[family], alts.values(), strict=True)],
        )
        for family in FAMILIES
        if family in drawn
    ]
    how = {
        "data set": f"{summary['dataset']}: {summary['rows']:,} {_things(summary)}, in raw units",
        "sha256": [f"{name} {digest}" for name, digest in environment["data"].items()],
        "loss": f"{summary['labels']['loss']}, all examples in every step",
        "start": f"a = {summary['start'][0]:g}, b = {summary['start'][1]:g}",
        "rates": ", ".join(f"{entry['optimizer']} {entry['rate']:g}" for entry in summary["optimizers"]),
        "versions": ", ".join(f"{name} {version}" for name, version in environment["versions"].items()),
        "devices": f"{environment['devices']['kind']} ({environment['devices']['platform']})",
        "code": environment["git_commit"] or "not a git checkout",
    }
    return Page(
        title=f"Linear regression on {summary['dataset']}",
        question="Which line fits best, and how does each optimizer walk to it?",
        answer=answer(summary),
        sections=[
            Section("The result", [regression_table(summary), Figure(drawn["line"][0], alt="Data and fitted lines")]),
            Section("Why it is hard, or easy", [conditioning(summary)]),
            *families,
            Section("How it was run", [Definitions(how)]),
            Section("Repeat it", [Code(command), "On the same versions and devices it ends with the same bits."]),
        ],
    )


def conditioning(summary: Summary) -> str:
    """Return what the curvature of the loss says about gradient descent on it."""
    condition = summary["condition_number"]
    return (
        f"The loss curves {condition:,.3g} times more along its steepest direction than along its flattest (the "
        f"condition number of its Hessian). Gradient descent is stable below a rate of {summary['stable_rate']:.3g}, "
        f"2 / λ_max; near that rate it still needs in the order of {condition:,.2g} steps to shrink the error along "
        "the flattest direction by a constant factor. L-BFGS learns the curvature as it goes; the closed form needs "
        "no steps, and centring x, or standardising it, brings the condition number near 1."
    )
