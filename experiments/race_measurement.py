"""The measurement of an optimizer race, and its figures in words."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from experiments import frame
from mllab import race_results, racing
from mllab.data.dataset import Dataset
from mllab.metrics import Lead, Ranking
from mllab.models.base import Model
from mllab.race_results import Lane, Result, Width
from mllab.report import table
from mllab.tasks import Baseline, Task

TARGET_BELOW = 0.02  # the best mean validation score: the default target to count the steps to


@dataclass(frozen=True)
class ReportedScore:
    """A score on test rows."""

    name: str
    label: str  # with its unit


@dataclass(frozen=True)
class ScoreNames:
    """What optimizers are judged by."""

    label: str  # of the score that learning rates are chosen by
    headline: str  # its name
    loss_unit: str
    reported: list[ReportedScore]

    @classmethod
    def of(cls, task: Task, data: Dataset) -> Self:
        """Return those of a task."""
        reported = [ReportedScore(score.name, score.label_in(data.unit, data.target)) for score in task.reported]
        return cls(task.headline.label, task.headline.name, task.loss_unit, reported)


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
    winner: str | None  # of the tied, the one with the greatest mean validation score
    tied: list[str]  # with the winner, by paired validation scores; the winner included; all on one seed
    ahead: Lead | None  # of the winner over the next by validation, on test rows; None on one seed
    ahead_by_validation: Lead | None  # the same on validation rows
    baseline: Baseline  # on test rows
    beats_baseline: bool | None  # whether the winner's test score is clearly above the baseline's
    optimizers: list[Result]
    settings: Mapping[str, object]
    expected_test: Mapping[str, np.ndarray]  # by optimizer: expected test score of the best of n lanes, [R G]
    race: racing.Race = frame.unsaved()
    standing: Ranking[str] | None = frame.unsaved()

    @classmethod
    def of(
        cls, raced: racing.Race, data: Dataset, model: Model, target: float | None, model_name: str, **fields: Any
    ) -> Self:
        """Return the results of a race; the target is two points below the best mean validation score by default."""
        winner, train, test, beats = raced.winner, data.split.train, data.split.test, None
        standing = race_results.standing(raced, model, data.examples, data.split.validation)
        if winner:
            if target is None:
                target = round(float(winner.score[winner.best].mean()) - TARGET_BELOW, 3)
            tested = race_results.row_metrics(raced, winner, model, data.examples, test)
            beats = raced.task.beats_baseline(tested, data.targets, train, test)
        results = race_results.results(raced, data.targets[test], target_scale=data.target_scale, target=target)
        by_validation, by_test = race_results.leads(raced, results)
        return cls(
            dataset=frame.DatasetFacts.of(data),
            model=model_name,
            score=ScoreNames.of(raced.task, data),
            learning_rates=raced.learning_rates,
            seeds=raced.seeds,
            lanes_each=raced.learning_rates.size * raced.seeds.size,
            chance_loss=raced.chance_loss,
            target=target,
            winner=winner and winner.optimizer,
            tied=standing.tied if standing else [],
            ahead=by_test,
            ahead_by_validation=by_validation,
            baseline=raced.task.baseline(data.targets, train, test, data.target_scale),
            beats_baseline=beats,
            optimizers=results,
            expected_test={entry.optimizer: race_results.expected_test_scores(entry) for entry in raced.entries},
            race=raced,
            standing=standing,
            **fields,
        )


def steps_cell(result: Result) -> str:
    """Return the mean steps to the target, and by how many seeds it was reached if not by all."""
    steps, seeds = result.steps_to_target, result.steps_to_target.size
    reached = steps[np.isfinite(steps)]
    if not reached.size:
        return table.BLANK
    return table.fixed(reached.mean(), 0) + (f" ({reached.size}/{seeds} seeds)" if reached.size < seeds else "")


def width_cell(width: Width | None) -> str:
    """Return the decades of learning rate that are about as good as the chosen one."""
    if width is None:
        return table.BLANK
    return f"{'≥' if width.open_low or width.open_high else ''}{width.decades:.1f}"


def diverged_lanes(results: Sequence[Result], learning_rates: np.ndarray, seeds: int) -> list[str]:
    """Return a line for each optimizer and rate with diverged lanes: how, when, and which seeds."""
    lines = []
    for result, rate in itertools.product(results, learning_rates):
        nonfinite, failed = (
            [lane for lane in lanes if lane.learning_rate == rate] for lanes in (result.nonfinite, result.failed)
        )
        parts = []
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
