"""Observers of a race: progress, wall time, records in metrics.jsonl, and TensorBoard events."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from experiments.frame.program import Context
from mllab import racing, sweep, training

EVENT_LANES = 32  # TensorBoard shows no more at once; all lanes are in metrics.jsonl


@contextmanager
def timed_race(context: Context) -> Iterator[None]:
    """Add a race's wall time to two parts: `training`, which its observers measure, and the rest."""
    with context.timed("compiling and test scores"):
        yield
    context.seconds["compiling and test scores"] -= context.seconds.get("training", 0.0)


def observer(
    context: Context,
    name: str,
    grid: sweep.Grid,
    steps: int,
    score: Callable[[dict[str, np.ndarray]], np.ndarray],
    title: str = "",
    kind: str = "optimizer",
    refit: bool = False,
) -> Callable[[training.Segment | training.Notice], None]:
    """Return the observer of one optimizer's drive: it advances the progress bar and records every lane's segments.

    Args:
        context: the run.
        name: the optimizer.
        grid: its lanes.
        steps: of the whole schedule.
        score: held-out metrics -> the score of each lane, [L], whose best is shown.
        title: of the progress bar; the optimizer's name where empty.
        kind: what the name is of, in the records.
        refit: whether the lanes are trained on the validation rows too, and so have no held-out metrics.
    """
    progress = context.progress
    progress.task(title or name, steps, lanes=len(grid.seed))
    best, done, restored = -math.inf, 0, False

    def observe(event: training.Segment | training.Notice) -> None:
        nonlocal best, done, restored
        if isinstance(event, training.Notice):
            progress.say(event.text)
            return
        context.record(records(name, grid, event, kind, refit))
        if not refit:
            best = max(best, float(np.nanmax(score(event.held_out), initial=-math.inf)))
        if (restored and not event.restored) or (event.restored and event.step == event.steps):
            progress.resume(event.step if event.restored else done)
        if not event.restored:
            context.seconds["training"] = context.seconds.get("training", 0.0) + event.seconds
            progress.advance(event.step - done, best=best if math.isfinite(best) else None)
        done, restored = event.step, event.restored

    return context.profiled(observe)


def records(
    name: str, grid: sweep.Grid, event: training.Segment, kind: str = "optimizer", refit: bool = False
) -> Iterator[dict[str, Any]]:
    """Yield one record a lane for metrics.jsonl."""
    folds = grid.folds
    for lane, seed in enumerate(grid.seed):
        metrics = {} if refit else {name: each for name, each in event.held_out.items() if each.ndim == 1}
        yield {
            kind: name,
            **{axis: float(grid.hyper[axis][lane]) for axis in grid.axes},  # "learning_rate" first
            "seed": int(seed),
            **({"fold": lane * folds // len(grid.seed) + 1} if folds > 1 else {}),
            **({"refit": True} if refit else {}),
            "step": event.step,
            "train_loss": float(event.train_loss[lane]),
            **{f"validation_{name}": float(each[lane]) for name, each in metrics.items()},
            "seconds": event.seconds,
        }


def write_events(raced: racing.Race, folder: Path) -> None:
    """Write TensorBoard events of every seed, and fold, at each optimizer's best rate, the best optimizers first."""
    from mllab.report import events

    lanes = [(entry, position) for entry in raced.ranked for position in range(raced.seeds.size * raced.folds)]
    for entry, position in lanes[:EVENT_LANES]:
        done = np.isfinite(entry.result.history.seconds)
        fold, seed = divmod(position, raced.seeds.size)
        lane = f"{entry.optimizer} rate {raced.learning_rates[entry.best]:.3g} seed {raced.seeds[seed]}"
        lane += f" fold {fold + 1}" if raced.folds > 1 else ""
        tags = {
            "loss/train": entry.train_loss,
            "loss/validation": entry.loss,
            f"{raced.task.headline.name}/validation": entry.curve,
        }
        curves = {tag: (raced.steps[done], values[done, entry.best, position]) for tag, values in tags.items()}
        events.write(folder / lane, curves)
