"""The measurement of an optimizer race, and its figures in words."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from experiments import frame
from experiments.race_training import Problem
from mllab import race_results, race_rows, racing
from mllab.data.dataset import Dataset
from mllab.metrics import Lead, Ranking, interval
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
class RefitFacts:
    """The refit of an optimizer on all training and validation rows."""

    rows: int
    epochs: int
    steps: int
    nonfinite: list[int]  # seeds whose loss was not finite


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
    folds: int = 1  # of the training and validation rows; 1: the split
    folds_described: str = ""
    refits: Mapping[str, RefitFacts] = field(default_factory=dict)  # by optimizer; empty without a refit
    race: racing.Race = frame.unsaved(default=None)
    standing: Ranking[str] | None = frame.unsaved(default=None)

    @property
    def lanes_per_rate(self) -> int:
        """Seeds, times folds."""
        return len(self.seeds) * self.folds

    @property
    def is_published(self) -> bool:
        """Whether there are params to publish."""
        refit = self.refits.get(self.winner or "")
        return self.winner is not None and (refit is None or len(refit.nonfinite) < len(self.seeds))

    @classmethod
    def of(cls, raced: racing.Race, posed: Problem, target: float | None, model_name: str, **fields: Any) -> Self:
        """Return the results of a race; the target is two points below the best mean validation score by default."""
        data, model, winner, test, beats = posed.data, posed.model, raced.winner, posed.data.split.test, None
        train = data.split.train
        if raced.folds > 1 or raced.refit_ids is not None:
            train = race_rows.choosing(data.split)
        standing = race_results.standing(raced, model, data.examples, data.split.validation)
        if winner:
            if target is None:
                target = round(float(winner.score[winner.best].mean()) - TARGET_BELOW, 3)
            if winner.refit is None or (winner.refit.nonfinite_step < 0).all():
                tested = race_results.row_metrics(raced, winner, model, posed.source, test)
                if winner.refit is None:
                    tested = {name: raced.repeated(values) for name, values in tested.items()}
                over = interval if winner.refit else raced.over
                beats = raced.task.beats_baseline(tested, data.targets, train, test, over)
        results = race_results.results(raced, data.targets[test], target_scale=data.target_scale, target=target)
        by_validation, by_test = race_results.leads(raced, results)
        rows = None
        if raced.folds > 1:
            rows = {"choosing": len(train), "test": len(test)}
        return cls(
            dataset=frame.DatasetFacts.of(data, rows),
            model=model_name,
            score=ScoreNames.of(raced.task, data),
            learning_rates=raced.learning_rates,
            seeds=raced.seeds,
            lanes_each=raced.learning_rates.size * raced.seeds.size * raced.folds,
            chance_loss=raced.chance_loss,
            target=target,
            winner=winner and winner.optimizer,
            tied=standing.tied if standing else [],
            ahead=by_test,
            ahead_by_validation=by_validation,
            baseline=raced.task.baseline(data.targets, train, test, data.target_scale),
            beats_baseline=beats,
            optimizers=results,
            expected_test={
                entry.optimizer: race_results.expected_test_scores(entry, raced.folds) for entry in raced.entries
            },
            folds=raced.folds,
            folds_described=posed.folds_described,
            refits=_refits(raced),
            race=raced,
            standing=standing,
            **fields,
        )


def _refits(raced: racing.Race) -> dict[str, RefitFacts]:
    """Return the refits of a race by optimizer."""
    facts = {}
    for entry in raced.entries:
        if entry.refit is not None and raced.refit_ids is not None:
            lost = raced.seeds[entry.refit.nonfinite_step >= 0].tolist()
            facts[entry.optimizer] = RefitFacts(len(raced.refit_ids), entry.refit.epochs, entry.refit.steps, lost)
    return facts


def steps_cell(result: Result, noun: str = "seed") -> str:
    """Return the mean steps to the target, and by how many seeds (or lanes) it was reached if not by all."""
    steps, lanes = result.steps_to_target, result.steps_to_target.size
    reached = steps[np.isfinite(steps)]
    if not reached.size:
        return table.BLANK
    return table.fixed(reached.mean(), 0) + (f" ({reached.size}/{lanes} {noun}s)" if reached.size < lanes else "")


def width_cell(width: Width | None) -> str:
    """Return the decades of learning rate that are about as good as the chosen one."""
    if width is None:
        return table.BLANK
    return f"{'≥' if width.open_low or width.open_high else ''}{width.decades:.1f}"


def diverged_lanes(results: Sequence[Result], learning_rates: np.ndarray, count: int) -> list[str]:
    """Return a line for each optimizer and rate with diverged lanes, of `count` each: how, when, and which seeds."""
    lines = []
    for result, rate in itertools.product(results, learning_rates):
        nonfinite, failed = (
            [lane for lane in lanes if lane.learning_rate == rate] for lanes in (result.nonfinite, result.failed)
        )
        parts = []
        if nonfinite:
            steps = table.listed(lane.step for lane in nonfinite)
            parts.append(f"non-finite from step {steps} ({_which(nonfinite, count)})")
        if failed:
            parts.append(f"failed: no better than chance ({_which(failed, count)})")
        if parts:
            lines.append(f"{result.optimizer} at {table.short(rate)}: {'; '.join(parts)}")
    return lines


def _which(lanes: Sequence[Lane], count: int) -> str:
    """Return which of the `count` lanes of a rate are listed."""
    if any(lane.fold is not None for lane in lanes):
        if len(lanes) == count:
            return "every fold and seed"
        by_fold: dict[int | None, list[int]] = {}
        for lane in lanes:
            by_fold.setdefault(lane.fold, []).append(lane.seed)
        return "; ".join(f"fold {fold} seed {table.listed(seeds)}" for fold, seeds in by_fold.items())
    if len(lanes) == count:
        return "every seed" if count > 1 else "its seed"
    return f"seed{'s' if len(lanes) > 1 else ''} {table.listed(lane.seed for lane in lanes)}"


def nonfinite_refits(measured: Measurement) -> list[str]:
    """Return a line for each optimizer whose refit went non-finite."""
    return [
        f"{name}, refitted: non-finite with seed{'s' * (len(each.nonfinite) > 1)} {table.listed(each.nonfinite)}"
        for name, each in measured.refits.items()
        if each.nonfinite
    ]
