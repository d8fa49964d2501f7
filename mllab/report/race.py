"""What a race says: its table, its figures and its page, from the plain summary that summary.json holds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mllab.report.table import Table, number

Summary = Mapping[str, Any]


def race_table(summary: Summary) -> Table:
    """Return a row an optimizer: chosen rate, test score, speed, forgiveness, and lanes lost."""
    score = summary["score"]
    target = summary["target"]
    columns = [
        "optimizer",
        "best rate",
        *(f"test {measure['label']}" for measure in score["reported"]),
        f"steps to {target:.3g}",
        "decades",
        "non-finite",
        "failed",
    ]
    rows = [
        [
            entry["optimizer"],
            f"{entry['learning_rate']:.2g}" if entry["learning_rate"] else None,
            *(_interval(entry["test"].get(measure["name"])) for measure in score["reported"]),
            _steps(entry["steps_to_target"]),
            _decades(entry["width"]),
            f"{len(entry['nonfinite'])}/{summary['lanes_each']}",
            f"{len(entry['failed'])}/{summary['lanes_each']}",
        ]
        for entry in summary["optimizers"]
    ]
    names = [entry["optimizer"] for entry in summary["optimizers"]]
    best = names.index(summary["winner"]) if summary["winner"] else None
    return Table(columns, rows, best, caption(summary))


def caption(summary: Summary) -> str:
    """Return how the table is to be read."""
    seeds = len(summary["seeds"])
    marks = [
        "* best mean validation score" if summary["winner"] else "no optimizer kept all its lanes finite at any rate",
        f"± 95% interval over {seeds} seeds, one split" if seeds > 1 else "one seed: no interval",
        f"steps: to a validation {summary['score']['label']} of {summary['target']:.3g}, mean over seeds",
        "decades: range of rates within one point of the best, ≥ where it reaches an end of the grid",
    ]
    return "; ".join(marks)


def _interval(value: Sequence[float] | None) -> str | None:
    return number(*value[:3]) if value else None


def _steps(steps: Sequence[float | None]) -> str | None:
    reached = [step for step in steps if step is not None and np.isfinite(step)]
    if not reached:
        return None
    text = f"{np.mean(reached):.0f}"
    return text if len(reached) == len(steps) else f"{text} ({len(reached)}/{len(steps)} seeds)"


def _decades(width: Mapping[str, Any] | None) -> str | None:
    if width is None:
        return None
    return f"{'≥' if width['open_low'] or width['open_high'] else ''}{width['decades']:.1f}"


def lost_lanes(summary: Summary) -> list[str]:
    """Return a line for each optimizer and rate that lost lanes: which seeds, how, and when."""
    lines = []
    for entry in summary["optimizers"]:
        by_rate: dict[float, list[str]] = {}
        for lane in entry["nonfinite"]:
            by_rate.setdefault(lane["learning_rate"], []).append(
                f"seed {lane['seed']} non-finite from step {lane['step']}"
            )
        for lane in entry["failed"]:
            by_rate.setdefault(lane["learning_rate"], []).append(f"seed {lane['seed']} failed")
        lines += [f"{entry['optimizer']} at {rate:.2g}: {', '.join(how)}" for rate, how in sorted(by_rate.items())]
    return lines


def answer(summary: Summary) -> str:
    """Return in a sentence or two what won, and by how much."""
    if summary["winner"] is None:
        return "No optimizer kept all its lanes finite at any learning rate: try smaller ones."
    entries = {entry["optimizer"]: entry for entry in summary["optimizers"]}
    won, measure = entries[summary["winner"]], summary["score"]["reported"][0]
    said = (
        f"{summary['winner']} at learning rate {won['learning_rate']:.2g}: test {measure['label']} "
        f"{_interval(won['test'][measure['name']])} ({len(summary['seeds'])} seeds)."
    )
    ahead = summary["ahead"]
    if ahead is None:
        return said
    margin = number(*ahead["by"][:3])
    clear = ahead["by"][1] > 0
    verdict = "ahead of" if clear else "not clearly ahead of"
    return f"{said} On the same seeds it is {verdict} {ahead['of']}, the next by validation: {margin} {ahead['unit']}."


def figures(summary: Summary, curves: Mapping[str, Mapping[str, np.ndarray]], folder: Path) -> list[Path]:
    """Draw the race's figures and return their paths.

    Args:
        summary: see `race_table`.
        curves: by optimizer, the means and 95% bounds over seeds: `steps` [E], `loss` [3, E] at the chosen rate, and
            `score` [3, R] and `diverged` [R] by learning rate.
        folder: where to.
    """
    from mllab.report import figures as draw

    seeds, score = len(summary["seeds"]), summary["score"]
    rates = np.asarray(summary["learning_rates"])
    shown = [entry for entry in summary["optimizers"] if entry["learning_rate"]]
    loss = draw.curves(
        [
            draw.Series(entry["optimizer"], one["steps"], *one["loss"])
            for entry in shown
            for one in [curves[entry["optimizer"]]]
        ],
        title=f"Validation loss of {summary['model']} on {summary['dataset']['name']}, each at its best learning rate",
        x_label="step",
        y_label=f"validation loss ({score['loss_unit']}, log scale)",
        log_y=True,
        seeds=seeds,
    )
    by_rate = draw.against_rate(
        [
            draw.Series(
                entry["optimizer"],
                rates,
                *curves[entry["optimizer"]]["score"],
                best=entry["learning_rate"],
                diverged=curves[entry["optimizer"]]["diverged"],
            )
            for entry in summary["optimizers"]
        ],
        title=f"Which learning rates work? {summary['model']} on {summary['dataset']['name']}",
        y_label=f"validation {score['label']}",
        seeds=seeds,
    )
    folder.mkdir(parents=True, exist_ok=True)
    return [
        draw.save(by_rate, folder / "score_by_learning_rate.svg"),
        draw.save(loss, folder / "loss_by_step.svg"),
    ]
