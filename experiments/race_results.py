"""The results of an optimizer race: scores at each chosen rate, sensitivity to the rate, and diverged lanes."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from experiments import frame
from mllab import racing
from mllab.data.dataset import Dataset
from mllab.metrics import Interval, interval
from mllab.report import table
from mllab.tasks import Task


@dataclass(frozen=True)
class ReportedScore:
    """A score on test rows."""

    name: str
    label: str  # with its unit


@dataclass(frozen=True)
class ScoreNames:
    """What optimizers are judged by."""

    label: str  # of the score that learning rates are chosen by
    loss_unit: str
    reported: list[ReportedScore]
    limits: tuple[float, float] = frame.unsaved()  # of that score

    @classmethod
    def of(cls, task: Task, data: Dataset) -> Self:
        """Return those of a task."""
        lowest = -math.inf if task.headline.lowest is None else task.headline.lowest
        reported = [ReportedScore(score.name, score.label_in(data.unit)) for score in task.reported]
        return cls(task.headline.label, task.loss_unit, reported, (lowest, 1.0))


@dataclass(frozen=True)
class Lane:
    """A lane that diverged."""

    learning_rate: float
    seed: int
    step: int | None  # the first non-finite one; None if the lane failed
    kept_loss: float  # validation loss of the kept params


@dataclass(frozen=True)
class Result:
    """The result of one optimizer, with E segments, R rates and G seeds; tested at the chosen rate."""

    optimizer: str
    steps: int  # taken, which early stopping may cut
    learning_rate: float | None  # the chosen one; None if every rate has a non-finite lane
    validation: Interval | None
    test: Mapping[str, Interval]  # by the name of the score
    test_by_seed: Mapping[str, np.ndarray]  # [G] each
    steps_to_target: np.ndarray  # [G] NaN where never; empty without a target
    width: racing.Width | None
    nonfinite: list[Lane]
    failed: list[Lane]
    validation_by_rate: np.ndarray  # [R, G]
    loss: list[Interval] = frame.unsaved()  # [E] validation loss
    score: list[Interval] = frame.unsaved()  # [R] validation score of the kept params

    def diverged(self, learning_rates: np.ndarray) -> np.ndarray:
        """Return the number of lanes that diverged at each rate, [R]."""
        lost = [lane.learning_rate for lane in (*self.nonfinite, *self.failed)]
        return np.array([lost.count(rate) for rate in learning_rates])

    def steps_cell(self) -> str:
        """Return the mean steps to the target, and by how many seeds it was reached if not by all."""
        reached = self.steps_to_target[np.isfinite(self.steps_to_target)]
        if not reached.size:
            return table.BLANK
        partly = (
            "" if reached.size == self.steps_to_target.size else f" ({reached.size}/{len(self.steps_to_target)} seeds)"
        )
        return f"{reached.mean():.0f}{partly}"

    def width_cell(self) -> str:
        """Return the decades of learning rate that are about as good as the chosen one."""
        if self.width is None:
            return table.BLANK
        return f"{'≥' if self.width.open_low or self.width.open_high else ''}{self.width.decades:.1f}"


@dataclass(frozen=True)
class Lead:
    """The difference in test score between the winner and the next by validation, paired by seed."""

    of: str  # the next
    by: Interval
    unit: str

    def described(self) -> str:
        """Return the difference in a sentence."""
        verdict = "ahead of" if self.by.low > 0 else "behind" if self.by.high < 0 else "not clearly ahead of"
        by = f"{table.interval(self.by)} {self.unit}"
        return f"On the same seeds it is {verdict} {self.of}, the next by validation: {by}."


@dataclass(frozen=True)
class Measurement:
    """The results of a race."""

    dataset: frame.DatasetFacts
    model: str
    score: ScoreNames
    learning_rates: np.ndarray  # [R]
    seeds: np.ndarray  # [G]
    epochs: int
    batch_size: int
    steps: int
    lanes_each: int  # of each optimizer
    chance_loss: float
    target: float | None  # validation score to count the steps to
    winner: str | None
    ahead: Lead | None
    optimizers: list[Result]
    settings: Mapping[str, object]
    segments: np.ndarray = frame.unsaved()  # [E] steps by the end of each

    @classmethod
    def of(
        cls, raced: racing.Race, data: Dataset, model: str, epochs: int, batch_size: int, steps: int,
        target: float | None, settings: Mapping[str, object],
    ) -> Self:  # fmt: skip
        """Return the results of a race; the target is two points below the best mean validation score by default."""
        winner = raced.winner
        if target is None and winner:
            target = round(float(winner.score[winner.best].mean()) - 0.02, 2)
        return cls(
            dataset=frame.DatasetFacts.of(data),
            model=model,
            score=ScoreNames.of(raced.task, data),
            learning_rates=raced.learning_rates,
            seeds=raced.seeds,
            epochs=epochs,
            batch_size=batch_size,
            steps=steps,
            lanes_each=raced.learning_rates.size * raced.seeds.size,
            chance_loss=raced.chance_loss,
            target=target,
            winner=winner and winner.optimizer,
            ahead=_lead(raced, data),
            optimizers=[_result(raced, entry, data, target) for entry in raced.entries],
            settings=settings,
            segments=raced.steps,
        )


def diverged_lanes(results: Sequence[Result], learning_rates: np.ndarray, seeds: int) -> list[str]:
    """Return a line for each optimizer and rate with diverged lanes: how, when, and which seeds."""
    lines = []
    for result in results:
        for rate in learning_rates:
            parts = []
            nonfinite = [lane for lane in result.nonfinite if lane.learning_rate == rate]
            failed = [lane for lane in result.failed if lane.learning_rate == rate]
            if nonfinite:
                steps = table.listed(lane.step for lane in nonfinite)
                parts.append(f"non-finite from step {steps} ({_which(nonfinite, seeds)})")
            if failed:
                parts.append(f"failed: no better than chance ({_which(failed, seeds)})")
            if parts:
                lines.append(f"{result.optimizer} at {table.short(rate)}: {'; '.join(parts)}")
    return lines


def _which(lanes: Sequence[Lane], seeds: int) -> str:
    if len(lanes) == seeds:
        return "every seed" if seeds > 1 else "its seed"
    return f"seed{'s' if len(lanes) > 1 else ''} {table.listed(lane.seed for lane in lanes)}"


def _lead(raced: racing.Race, data: Dataset) -> Lead | None:
    """Return by how much the winner leads on test rows; None if it is the only one with a valid rate."""
    if len(raced.ranked) < 2:
        return None
    headline = raced.task.headline
    first, second = (_test_scores(raced, entry, data)[headline.name] for entry in raced.ranked[:2])
    return Lead(raced.ranked[1].optimizer, interval(100 * (first - second)), headline.points)


def _result(raced: racing.Race, entry: racing.Entry, data: Dataset, target: float | None) -> Result:
    best = entry.best
    test = _test_scores(raced, entry, data)
    taken = np.flatnonzero(np.isfinite(entry.result.history.seconds))
    return Result(
        optimizer=entry.optimizer,
        steps=int(raced.steps[taken[-1]]),
        learning_rate=None if best is None else float(raced.learning_rates[best]),
        validation=None if best is None else interval(entry.score[best]),
        test={name: interval(values) for name, values in test.items()},
        test_by_seed=test,
        steps_to_target=np.array([]) if target is None else racing.steps_to(entry, raced.steps, target),
        width=racing.width(entry, raced.learning_rates),
        nonfinite=list(lanes(raced, entry, entry.nonfinite_step >= 0)),
        failed=list(lanes(raced, entry, entry.failed)),
        validation_by_rate=entry.score,
        loss=[interval(losses) for losses in entry.loss[:, best or 0]],
        score=[interval(scores) for scores in entry.score],
    )


def lanes(raced: racing.Race, entry: racing.Entry, where: np.ndarray) -> Iterator[Lane]:
    """Yield the lanes of an entry that are True in `where`, [R, G]."""
    for rate, seed in np.argwhere(where):
        step = int(entry.nonfinite_step[rate, seed])
        yield Lane(
            learning_rate=float(raced.learning_rates[rate]),
            seed=int(raced.seeds[seed]),
            step=step if step >= 0 else None,
            kept_loss=float(entry.kept_loss[rate, seed]),
        )


def _test_scores(raced: racing.Race, entry: racing.Entry, data: Dataset) -> dict[str, np.ndarray]:
    """Return the reported scores of each seed, [G], by name; empty without a chosen rate."""
    if entry.best is None:
        return {}
    return raced.task.report(entry.test, data.targets[data.split.test], data.target_scale)
