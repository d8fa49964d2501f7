"""The rows, model and lanes of an optimizer race, checked before anything is written, and the race itself."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments import frame, row_separation
from experiments.frame import observers
from mllab import race_rows, racing, sweep
from mllab.data import refitted
from mllab.data.dataset import Dataset
from mllab.models import table as models
from mllab.models.base import Model, in_precision
from mllab.race_rows import Part, Source
from mllab.tasks import TASKS, Task
from mllab.validation import Folds


@dataclass(frozen=True)
class Problem:
    """What is raced."""

    data: Dataset
    task: Task
    plan: dict[str, Any]  # of the model
    model: Model
    source: Source  # the examples, preprocessed by the rows of each fold where there are statistics
    folds: Folds | None
    folds_described: str  # in words; empty for a random split
    parts: list[Part]
    optimizer_settings: dict[str, Any]

    @property
    def train_rows(self) -> int:
        """Training rows of the largest fold, or of the split."""
        return max(len(part.train) for part in self.parts)


def problem(run: frame.Context, settings: Any) -> Problem:
    """Load the data and check that a race can be run on it; see `optimizer_race.Settings`.

    Raises:
        UserError: data, settings or sizes that do not go together, before anything is written.
    """
    with run.timed("data"):
        data = run.load(extra=row_separation.columns(settings))
        data = row_separation.separated(data, settings, has_folds=settings.folds is not None)
    task = TASKS[data.task]
    folds, described = _folds(data, settings)
    parts = race_rows.parts_of(data.split, folds)
    plan = models.plan(settings.model, data.inputs.shape[1:], len(data.classes), **settings.options())
    model = in_precision(models.build(plan), settings.precision)
    of_optimizers = settings.values("schedule", "clip_norm", "weight_decay", "average")
    source: Source = data.examples
    if folds is not None or settings.refit:
        refitted.inputs_by(data, parts[0].train)  # refuses inputs that cannot be preprocessed anew
        source = refitted.source(data)
    made = Problem(data, task, plan, model, source, folds, described, parts, of_optimizers)
    rates, names = settings.learning_rates, settings.optimizers
    racing.check(rates, names, settings.batch_size, min(len(part.train) for part in parts), of_optimizers)
    racing.check_memory(
        model, data.examples, names, rates=len(rates), count=made.train_rows, settings=of_optimizers,
        mesh=run.mesh(all_hosts=True),
        folds=len(parts), refit=len(race_rows.choosing(data.split)) if settings.refit else 0, copies=callable(source),
        **settings.values("epochs", "batch_size", "seeds", "shared_batches"),
    )  # fmt: skip
    racing.check_examples(model, data.examples, data.split, task, has_folds=folds is not None)
    return made


def _folds(data: Dataset, settings: Any) -> tuple[Folds | None, str]:
    """Return the folds of the training and validation rows that the settings ask for, and how rows are held out."""
    by, ids = row_separation.scheme(data, settings), race_rows.choosing(data.split)
    is_random = by.groups is None and by.times is None
    if settings.folds is None:
        return None, "" if is_random else "none; one split" + by.described(1).removeprefix("1 folds")
    if is_random:
        race_rows.check_classes(settings.folds, ids, by.labels, data.classes)
    return by.folds(ids, settings.folds), by.described(settings.folds)


def train(run: frame.Context, settings: Any, posed: Problem) -> racing.Race:
    """Run the race, with progress and records."""
    steps = settings.epochs * -(-posed.train_rows // settings.batch_size)
    observe, observe_refit = _observers(run, posed, steps)
    with observers.timed_race(run):
        return racing.race(
            posed.model, posed.source, posed.data.split, folds=posed.folds, refit=settings.refit, task=posed.task,
            names=settings.optimizers, learning_rates=settings.learning_rates, seeds=range(settings.seeds),
            settings=posed.optimizer_settings, mesh=run.mesh(all_hosts=True), workdir=run.path, observe=observe,
            observe_refit=observe_refit,
            **settings.values("epochs", "batch_size", "shared_batches", "patience", "checkpoint_seconds"),
        )  # fmt: skip


def _observers(run: frame.Context, posed: Problem, steps: int) -> tuple[Callable, Callable]:
    """Return what observes the drives of a race, and those of its refits."""
    headline, targets = posed.task.headline, [posed.data.targets[part.held_out] for part in posed.parts]

    def score(held_out: dict[str, np.ndarray]) -> np.ndarray:
        by_fold = {name: np.split(values, len(targets)) for name, values in held_out.items()}
        return np.concatenate([
            headline.value({name: values[fold] for name, values in by_fold.items()}, of_fold, 1.0)
            for fold, of_fold in enumerate(targets)
        ])  # fmt: skip

    def observe(name: str, grid: sweep.Grid) -> list:
        return [observers.observer(run, name, grid, steps, score)]

    def observe_refit(name: str, grid: sweep.Grid, refit_steps: int) -> list:
        return [observers.observer(run, name, grid, refit_steps, score, title=f"{name}, refit", refit=True)]

    return observe, observe_refit
