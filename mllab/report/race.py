"""What a race says: its table, its figures and its page, from the plain summary that summary.json holds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mllab.report.page import Bullets, Code, Definitions, Figure, Page, Section
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
        f"steps to {target:.3g}" if target is not None else "steps",
        "decades",
        "non-finite",
        "failed",
    ]
    rows = [
        [
            entry["optimizer"],
            f"{entry['learning_rate']:.3g}" if entry["learning_rate"] else None,
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
        *(
            [f"steps: to a validation {summary['score']['label']} of {summary['target']:.3g}, mean over seeds"]
            if summary["target"] is not None
            else []
        ),
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
    seeds = len(summary["seeds"])
    for entry in summary["optimizers"]:
        for rate in summary["learning_rates"]:
            parts = []
            gone = [lane for lane in entry["nonfinite"] if lane["learning_rate"] == rate]
            failed = [lane for lane in entry["failed"] if lane["learning_rate"] == rate]
            if gone:
                steps = ", ".join(str(lane["step"]) for lane in gone)
                parts.append(f"non-finite from step {steps} ({_which(gone, seeds)})")
            if failed:
                parts.append(f"failed: no better than chance ({_which(failed, seeds)})")
            if parts:
                lines.append(f"{entry['optimizer']} at {rate:.3g}: {'; '.join(parts)}")
    return lines


def _which(lanes: Sequence[Mapping[str, Any]], seeds: int) -> str:
    if len(lanes) == seeds:
        return "every seed" if seeds > 1 else "its seed"
    return f"seed{'s' if len(lanes) > 1 else ''} {', '.join(str(lane['seed']) for lane in lanes)}"


def answer(summary: Summary) -> str:
    """Return in a sentence or two what won, and by how much."""
    if summary["winner"] is None:
        return "No optimizer kept all its lanes finite at any learning rate: try smaller ones."
    entries = {entry["optimizer"]: entry for entry in summary["optimizers"]}
    won, measure = entries[summary["winner"]], summary["score"]["reported"][0]
    said = (
        f"{summary['winner']} at learning rate {won['learning_rate']:.3g}: test {measure['label']} "
        f"{_interval(won['test'][measure['name']])} ({len(summary['seeds'])} seed{'s' * (len(summary['seeds']) > 1)})."
    )
    if [lane["learning_rate"] for lane in won["failed"]].count(won["learning_rate"]) == len(summary["seeds"]):
        said += " Even so it is no better than chance."
    ahead = summary["ahead"]
    if ahead is None:
        return said
    margin = number(*ahead["by"][:3])
    low, high = ahead["by"][1:3]
    verdict = "ahead of" if low > 0 else "behind" if high < 0 else "not clearly ahead of"
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
    shown = [(entry, curves[entry["optimizer"]]) for entry in summary["optimizers"] if entry["learning_rate"]]
    loss = draw.curves(
        [draw.Series(entry["optimizer"], one["steps"], **_band(one["loss"])) for entry, one in shown],
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
                **_band(curves[entry["optimizer"]]["score"]),
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


def _band(bounds: np.ndarray) -> dict[str, Any]:
    return dict(zip(("mean", "low", "high"), bounds, strict=True))


def page(summary: Summary, drawn: Sequence[Path], environment: Mapping[str, Any], command: str) -> Page:
    """Return the race's page.

    Args:
        summary: see `race_table`.
        drawn: what `figures` returned.
        environment: what environment.json holds.
        command: what repeats the run.
    """
    data, rows = summary["dataset"], summary["dataset"]["rows"]
    seeds, rates = len(summary["seeds"]), summary["learning_rates"]
    by_rate, by_step = drawn
    lost = lost_lanes(summary)
    how = {
        "data set": [
            f"{data['name']}: {data['task']} of {data['target']}",
            *([f"{len(data['classes'])} classes"] if data["classes"] else []),
            *data["notes"],
        ],
        "rows": f"{rows['train']:,} to train, {rows['validation']:,} to choose, {rows['test']:,} to report",
        "source": [
            line for line in (data["citation"], f"licence: {data['licence']}" if data["licence"] else "") if line
        ],
        "sha256": [f"{name} {digest}" for name, digest in environment["data"].items()],
        "model": summary["model"],
        "training": f"{summary['epochs']} epochs, batch {summary['batch_size']}: {summary['steps']:,} steps a lane",
        "lanes": f"{len(summary['optimizers'])} optimizers × {len(rates)} learning rates "
        f"({rates[0]:.2g} to {rates[-1]:.2g}) × {seeds} seeds",
        "settings": [f"{name} = {value}" for name, value in summary["settings"].items()],
        "stopped early": [
            f"{entry['optimizer']} after {entry['steps']:,} steps"
            for entry in summary["optimizers"]
            if entry["steps"] < summary["steps"]
        ],
        "chosen by": f"mean validation {summary['score']['label']} over seeds; a rate that lost a lane is not eligible",
        "kept params": "those of each lane's least validation loss",
        "chance": f"a validation loss of {summary['chance_loss']:.3g}: a lane that keeps no better has failed",
        "versions": ", ".join(f"{name} {version}" for name, version in environment["versions"].items()),
        "devices": f"{environment['devices']['count']} × {environment['devices']['kind']} "
        f"({environment['devices']['platform']})",
        "code": environment["git_commit"] or "not a git checkout",
    }
    return Page(
        title=f"Optimizer race: {summary['model']} on {data['name']}",
        question=f"Which optimizer, at which learning rate, trains {summary['model']} best on {data['name']}, "
        "and how much does the rate matter?",
        answer=answer(summary),
        sections=[
            Section("The result", [race_table(summary)]),
            Section(
                "Learning rates",
                [
                    Figure(
                        by_rate,
                        alt=f"Validation {summary['score']['label']} against learning rate, one curve an optimizer",
                        caption="A wide plateau forgives a wrong guess; a peak does not.",
                    )
                ],
            ),
            Section(
                "Training",
                [Figure(by_step, alt="Validation loss against the step, one curve an optimizer at its best rate")],
            ),
            Section("Lanes that were lost", [Bullets(lost) if lost else "None: every lane stayed finite and learned."]),
            Section("How it was run", [Definitions({name: value for name, value in how.items() if value})]),
            Section("Repeat it", [Code(command), "On the same versions and devices it ends with the same bits."]),
        ],
    )
