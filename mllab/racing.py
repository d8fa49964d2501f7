"""The optimizer race: optimizers × learning rates × seeds of one model on one data set.

Learning rates are chosen by the mean validation score over seeds, and over folds where there are any: folds × rates ×
seeds are lanes of one program. Test rows are scored once, after every choice is made, with the params that each lane
kept, those with its least validation loss; or, with a refit, with those of `race_refit`. `mllab.race_results` condenses
a race to the numbers to report.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from mllab import checks, devices, optimizers, race_refit, race_rows, rows, sweep, training, validation
from mllab.averaging import evaluation_params
from mllab.errors import UserError, unknown
from mllab.metrics import Interval, Ranking, greatest, interval, ranking
from mllab.models.base import Model
from mllab.race_checks import Names, by_name, check, check_examples, check_memory
from mllab.race_refit import Refit
from mllab.race_rows import Part, Source, Split
from mllab.report import table as text
from mllab.tasks import Task, named
from mllab.training import Result, Run
from mllab.types import Objective, Params
from mllab.validation import Folds

CLASSIC = ("sgd", "momentum", "rmsprop", "adam")
RATES = tuple(np.logspace(-4, 0, 8))
DRIVE_OPTIONS = ("patience", "workdir", "checkpoint_seconds")  # arguments of `training.drive` that a race passes on


class Entry(NamedTuple):
    """The results of one optimizer. Scores are the task's headline; E segments, R rates, G seeds.

    With K folds, G stands for the K times G lanes of a rate, fold by fold.
    """

    optimizer: str
    result: Result
    train_loss: np.ndarray  # [E, R, G] mean over each segment
    loss: np.ndarray  # [E, R, G] validation loss after each segment
    curve: np.ndarray  # [E, R, G] validation score after each segment
    score: np.ndarray  # [R, G] validation score of the kept params; NaN if the lane went non-finite
    nonfinite_step: np.ndarray  # [R, G] first step with a non-finite loss, or -1
    kept_loss: np.ndarray  # [R, G] validation loss of the kept params
    failed: np.ndarray  # [R, G] finite, but the kept validation loss is no better than chance
    best: int | None  # index of the chosen rate; None if every rate has a non-finite lane
    # On test rows at the chosen rate, [G]: mean metrics and the task's scores, such as RMSE in the unit of the targets;
    # empty if there is none. After a refit those of the refitted params, of G seeds with folds too.
    test: dict[str, np.ndarray]
    learning_rate: float | None  # the chosen rate
    # [R, G] score of every lane on test rows, NaN where it went non-finite; None if there is no chosen rate, or after a
    # refit. No choice depends on it: it says what a smaller search would have led to.
    test_by_lane: np.ndarray | None = None
    kept_epoch: np.ndarray = np.empty((0, 0))  # [R, G] epochs, or segments, after which the params were kept
    refit: Refit | None = None  # at the chosen rate

    def __repr__(self) -> str:
        """Return the optimizer, its chosen rate and its mean scores on test rows."""
        if self.learning_rate is None:
            return f"Entry({self.optimizer}: no learning rate without a non-finite lane)"
        scores = ", ".join(f"test {name} {text.short(values.mean())}" for name, values in self.test.items())
        return f"Entry({self.optimizer} at learning rate {text.short(self.learning_rate)}: {scores})"


class Race(NamedTuple):
    """The results of a race."""

    entries: list[Entry]
    task: Task
    learning_rates: np.ndarray  # [R] ascending
    seeds: np.ndarray  # [G]
    steps: np.ndarray  # [E] steps taken by the end of each segment
    chance_loss: float  # validation loss of the best constant prediction, the mean over folds
    parts: Sequence[Part] = ()  # the rows of the split or of each fold
    refit_ids: np.ndarray | None = None  # ids of the training and validation rows of the refits; None without one

    @property
    def folds(self) -> int:
        """K; 1 for a single split."""
        return max(1, len(self.parts))

    @property
    def repeats(self) -> int:
        """How many scores are compared: one a fold where there are folds, else one a seed."""
        return self.folds if self.folds > 1 else self.seeds.size

    def repeated(self, scores: np.ndarray) -> np.ndarray:
        """Return what is compared of scores [K * G, ...] by lane: means over the seeds of each fold [K, ...]."""
        if self.folds == 1:
            return scores
        return scores.reshape(self.folds, -1, *scores.shape[1:]).mean(axis=1)

    def over(self, scores: np.ndarray) -> Interval:
        """Return the interval of what `repeated` returns: over folds corrected as in `validation.interval`."""
        return interval(scores) if self.folds == 1 else validation.interval(scores, race_rows.per_round(self.parts))

    def interval(self, scores: np.ndarray) -> Interval:
        """Return the mean of scores by lane, [K * G] or [G], and its interval over folds or over seeds."""
        return self.over(self.repeated(scores))

    def test_interval(self, scores: np.ndarray) -> Interval:
        """Return the mean of test scores and its interval: over seeds after a refit, else as `interval`."""
        return interval(scores) if self.refit_ids is not None else self.interval(scores)

    @property
    def ranked(self) -> list[Entry]:
        """The entries with a chosen rate, by mean validation score at it, best first."""
        chosen = {entry.optimizer: entry for entry in self.entries}
        return [chosen[name] for name in self.standing.names] if self.standing else []

    @property
    def standing(self) -> Ranking[str] | None:
        """The optimizers by validation score and, over seeds or folds, those tied with the best; None without a rate.

        `race_results.standing` compares row by row too.
        """
        scores = {
            entry.optimizer: self.repeated(entry.score[entry.best]) for entry in self.entries if entry.best is not None
        }
        return ranking(scores, self.over) if scores else None

    @property
    def winner(self) -> Entry | None:
        """The first of `ranked`, or None; see `standing` for the others that are tied with it."""
        return next(iter(self.ranked), None)

    def __repr__(self) -> str:
        """Return the winner and the size of the race."""
        names = ", ".join(entry.optimizer for entry in self.entries)
        size = f"{len(self.learning_rates)} learning rates × {len(self.seeds)} seeds"
        size += f" × {self.folds} folds" if self.folds > 1 else ""
        return f"Race({names}; {size}; winner: {self.winner})"

    def table(self) -> str:
        """Return the results as a table in plain text: chosen rates, test scores, and lanes that diverged."""
        lanes = len(self.learning_rates) * len(self.seeds) * self.folds
        rows = []
        for entry in self.entries:
            tested = [self.test_interval(entry.test[each.name]) if entry.test else None for each in self.task.reported]
            lost = (np.sum(entry.nonfinite_step >= 0), np.sum(entry.failed))
            rows.append([
                entry.optimizer,
                text.significant(entry.learning_rate),
                *map(text.interval, tested),
                *(f"{count}/{lanes}" for count in lost),
            ])  # fmt: skip
        scores = [f"test {score.label}" for score in self.task.reported]
        marked = self.standing.marked if self.standing else []
        best = [place for place, row in enumerate(rows) if row[0] in marked]
        highest = "* highest mean validation score" + " and those tied with it" * (self.repeats > 1)
        caption = "; ".join([highest] * bool(best) + [self._over()])
        caption = caption if self.standing else "every rate has a non-finite lane"
        columns = ["optimizer", "best rate", *scores, "non-finite", "failed"]
        return "\n".join(text.Table(columns, rows, best, caption).lines())

    def _over(self) -> str:
        """Return in words what the intervals of test scores are over."""
        seeds = len(self.seeds)
        if self.refit_ids is None and self.folds > 1:
            return f"± 95% interval over {self.folds} folds, the mean of {seeds} seed{'s' * (seeds > 1)} each"
        refitted = "" if self.refit_ids is None else ", refitted to all training and validation rows"
        if seeds > 1:
            return f"± 95% interval over {seeds} seeds{refitted}"
        return f"1 seed{refitted}: no interval" + ", no comparison" * (self.folds == 1)


def problem(model: Model, task: str | Task, objective: Objective | None = None) -> Callable[[Callable], Run]:
    """Return `optimizer -> Run` for a model and a task.

    Args:
        model: see `models.base.Model`.
        task: a task or its name.
        objective: what is minimised, if not the task's loss: smoothed labels, augmented inputs. Scores do not use it.
    """
    task = named(task)
    objective = objective or training.objective(model, task.loss)
    measure = training.measure(model, task.metrics)

    def run(optimizer: Callable) -> Run:
        return training.supervised(
            model.init,
            objective,
            optimizer,
            measure,
            evaluate=lambda state: evaluation_params(state.optimizer, state.params),
        )

    return run


def race(
    model: Model,
    examples: Source,
    split: Split,
    *,
    folds: int | Folds | None = None,
    refit: bool = False,
    task: str | Task = "classification",
    names: Names = CLASSIC,
    learning_rates: float | Sequence[float] | np.ndarray = RATES,
    seeds: int | Sequence[int] = (0, 1, 2),
    epochs: int = 20,
    batch_size: int = 32,
    shared_batches: bool = False,
    settings: Mapping[str, Any] | None = None,
    objective: Objective | None = None,
    mesh: Mesh | None = None,
    group: int | None = None,
    split_batches: bool | None = None,
    observe: Callable[[str, sweep.Grid], Iterable[Callable]] = lambda name, grid: (),
    observe_refit: Callable[[str, sweep.Grid, int], Iterable[Callable]] = lambda name, grid, steps: (),
    **drive: Any,
) -> Race:
    """Race optimizers on a model: every optimizer × learning rate × seed, one compiled program per optimizer.

        race = mllab.race(model, examples, split, names={"adam": "adam", "adabelief": optax.adabelief})
        print(race.table())

    Args:
        model: see `models.base.Model` and `plain`.
        examples: `{"inputs": [N, ...], "targets": [N]}`, or targets [N, T] for regression of T outputs; or a function
            of the ids of training rows [M] that returns them with all inputs preprocessed by the statistics of these
            rows alone, which is called for each fold. Targets are in the same unit for all.
        split: row ids for training, for choosing the learning rate (validation) and for reporting (test).
        folds: choose the learning rates by the mean validation score over folds of the training and validation rows:
            a number K, stratified by class in classification and dealt by the first seed; or folds of these rows, see
            `validation.folds` and `schemes.Scheme`. The test scores are those of all K times as many lanes.
        refit: train each optimizer once more at its chosen rate, on all training and validation rows, for as many
            epochs as its kept params had on average, rounded; these params are tested and published.
        task: a task or its name: "classification" (targets are class numbers) or "regression" (targets are values).
        names: optimizers: one or several keys of `optimizers.OPTIMIZERS`, or a mapping from the name to record to such
            a key or to a function of the learning rate, such as `optax.adabelief`. A checkpoint knows a function by its
            name alone.
        learning_rates: rates for every optimizer.
        seeds: each draws initial params and an order of minibatches; a number n stands for the seeds 0 to n - 1.
        epochs: passes over the training rows.
        batch_size: rows per step; with all training rows, sgd is gradient descent.
        shared_batches: use the first seed's minibatches for all seeds.
        settings: other arguments of `optimizers.build`: schedule, clip_norm, weight_decay, average, options.
        objective: what is minimised, if not the task's loss (see `problem`).
        mesh: devices to spread the lanes over (default: the first one alone).
        group: lanes that a device runs at once (default: as many as its cache holds).
        split_batches: run lane after lane with each batch split over the devices, instead of spreading the lanes
            (default: if there are fewer lanes than devices, and the mesh names none for batches).
        observe: (optimizer, grid) -> observers for its drive.
        observe_refit: (optimizer, grid, steps) -> observers for the drive of its refit; what it has as held-out metrics
            are those of some training rows.
        drive: other arguments of `training.drive`: patience, workdir, checkpoint_seconds.

    Raises:
        UserError: invalid settings or examples, or too little memory; see `check`, `check_memory` and
            `check_examples`.
    """
    for option in drive:
        if option == "optimizers":  # what users write for names
            raise UserError("race takes optimizers as names: names=['adam'], or names={'mine': optax.adabelief}")
        if option not in DRIVE_OPTIONS:
            known = [*inspect.signature(race).parameters][3:-1]
            raise unknown("argument of race", option, [*known, *DRIVE_OPTIONS])
    task = named(task)
    settings = dict(settings or {})
    seeds = rows.seed_list(seeds)
    examples, first, split = _checked(model, examples, split, task, has_folds=folds is not None)
    if objective is None:
        training.check_unweighted(first)
    checks.check_whole(1, epochs=epochs, **{name: drive[name] for name in ("patience",) if drive.get(name) is not None})
    makers = by_name(names)
    labels = first["targets"] if np.asarray(first["targets"]).dtype.kind in "iu" else None
    parts = race_rows.parts_of(split, folds, seed=seeds[0], labels=labels)
    rates = check(learning_rates, makers, batch_size, min(len(part.train) for part in parts), settings)
    mesh = mesh or devices.mesh(1)
    check_memory(
        model, first, makers, rates=rates.size, seeds=len(seeds), shared_batches=shared_batches, epochs=epochs,
        batch_size=batch_size, count=max(len(part.train) for part in parts), settings=settings, mesh=mesh,
        folds=len(parts), refit=len(race_rows.choosing(split)) if refit else 0, copies=callable(examples),
    )  # fmt: skip
    encoded = race_rows.encoded(examples if len(parts) > 1 else first, parts)
    schedule = race_rows.minibatches(
        parts, encoded.offsets, batch_size, epochs, seeds[:1] if shared_batches else seeds
    )  # fmt: skip
    grid = sweep.grid({"learning_rate": rates}, seeds)
    if len(parts) > 1:
        grid = sweep.repeated(grid, len(parts))
    if shared_batches:
        grid = grid._replace(schedule=grid.schedule // len(seeds))
        schedule = jax.tree.map(lambda a: a[0], schedule) if len(parts) == 1 else schedule
    steps = schedule.ids.shape[-2]
    # One shape for both, so that one program scores validation rows and, at the end, test rows.
    most = max(len(split.test), *(len(part.held_out) for part in parts))
    held_out, test = (
        race_rows.scored(sets, encoded.offsets, most, 1 if shared_batches else len(seeds))
        for sets in ([part.held_out for part in parts], [split.test] * len(parts))
    )

    placed = devices.replicate(mesh, encoded.examples)
    targets = np.asarray(first["targets"])
    fingerprint = f"{task.name} {sorted(settings.items())}"
    chance = np.array([task.chance(targets, part.train, part.held_out) for part in parts])
    make = problem(model, task, objective)

    def optimizer(name: str, steps: int) -> Callable:
        return lambda hyper: optimizers.build(makers[name], hyper["learning_rate"], steps=steps, **settings)

    def many(run: Run, grid: sweep.Grid) -> Run:
        if sweep.leaves_idle(len(grid.seed), mesh) if split_batches is None else split_batches:
            return sweep.batches(run, grid.schedule, mesh=mesh)
        return sweep.lanes(run, grid.schedule, mesh=mesh, group=group)

    runs = {name: many(make(optimizer(name, steps)), grid) for name in makers}
    entries = []
    segments: dict[str, Any] = {"held_out": held_out, "segment": steps // epochs}
    refits: dict[str, Run] = {}
    if refit:
        ids = race_rows.choosing(split)
        again = race_refit.Plan(
            ids, devices.replicate(mesh, examples(ids)) if callable(examples) else placed,
            rows.blocks(split.test, min(rows.SCORED_ROWS, len(split.test))), batch_size, epochs, seeds, shared_batches,
            fingerprint,
        )  # fmt: skip
        refits = {name: many(make(optimizer(name, again.steps)), again.grid(1.0)) for name in makers}
    pool = ThreadPoolExecutor(devices.cores())  # the next programs compile while the first ones run
    try:
        compiled = {
            name: pool.submit(training.compile_ahead, run, grid.hyper, grid.key, placed, schedule, **segments)
            for name, run in runs.items()
        }
        compiled_refits = {name: pool.submit(again.compile_ahead, run) for name, run in refits.items()}
        for name, run in runs.items():
            observers = observe(name, grid)
            compiled[name].result()
            result = training.drive(
                run,
                grid.hyper,
                grid.key,
                placed,
                schedule,
                **segments,
                observers=observers,
                name=name,
                fingerprint=fingerprint,
                **drive,
            )
            entries.append(judge(name, result, grid, chance, [targets[part.held_out] for part in parts], task))
        drive.pop("patience", None)
        for position, entry in enumerate(entries):
            if refit and entry.learning_rate is not None and entry.best is not None:
                name, length = entry.optimizer, race_refit.epochs_of(entry.kept_epoch[entry.best])
                compiled_refits[name].result()
                trained = again.train(name, refits[name], entry.learning_rate, length, observe_refit, drive)
                entries[position] = entry._replace(refit=trained)
    finally:
        pool.shutdown(cancel_futures=True)  # after an error or interrupt, compile no further program

    for position, entry in enumerate(entries):  # every choice is made: score the test rows, once
        if entry.best is not None:
            scores = None
            if entry.refit is not None:
                means = again.scored(refits[entry.optimizer], entry.refit)
            else:
                metrics = jax.jit(runs[entry.optimizer].score)(grid.hyper, entry.result.kept, placed, test)
                lanes = {metric: grid.by_axis(values) for metric, values in metrics.items()}
                means = {name: values[entry.best] for name, values in lanes.items()}
                scores = task.headline.value(lanes, targets[split.test], 1.0)
                scores = np.where(entry.nonfinite_step < 0, scores, np.nan)
            entries[position] = entry._replace(
                test={**means, **task.report(means, targets[split.test])}, test_by_lane=scores
            )
    return Race(
        entries, task, rates, np.asarray(seeds), result.history.step, float(chance.mean()), parts,
        again.ids if refit else None,
    )  # fmt: skip


def _checked(model: Model, examples: Source, split: Split, task: Task, has_folds: bool) -> tuple[Source, Any, Split]:
    """Return the examples, those that are preprocessed by the training rows, and the split; see `check_examples`."""
    if not callable(examples):
        checked, split = check_examples(model, examples, split, task, has_folds=has_folds)
        return checked, checked, split
    if not hasattr(split, "train"):
        check_examples(model, {"inputs": np.zeros((1, 1)), "targets": np.zeros(1)}, split, task)  # refuses it
    first, split = check_examples(model, examples(np.asarray(split.train)), split, task, has_folds=has_folds)
    return examples, first, split


def judge(
    name: str,
    result: Result,
    grid: sweep.Grid,
    chance: np.ndarray,
    targets: Sequence[np.ndarray],
    task: Task,
) -> Entry:
    """Return an optimizer's entry with its chosen learning rate; a rate with a non-finite lane is not eligible.

    Args:
        name: the optimizer.
        result: of its drive.
        grid: its lanes, with one axis, `learning_rate`.
        chance: of each fold [K], the loss of the best constant prediction; a lane that does not beat it has failed.
        targets: of the validation rows of each fold, [M].
        task: defines the score.
    """
    history = result.history
    loss = grid.by_axis(history.held_out["loss"], -1)
    by_lane = {name: grid.by_axis(values, -1) for name, values in history.held_out.items()}
    by_fold = [
        {name: np.split(values, len(targets), axis=-1)[fold] for name, values in by_lane.items()}
        for fold in range(len(targets))
    ]
    curve = np.concatenate(
        [task.headline.value(each, of, 1.0) for each, of in zip(by_fold, targets, strict=True)], axis=-1
    )
    kept_loss, nonfinite = grid.by_axis(result.kept_loss), grid.by_axis(result.nonfinite_step)
    # The kept params are those of the first segment with the least loss.
    kept_at = np.argmin(np.where(np.isfinite(loss), loss, np.inf), axis=0)
    kept_score = np.where(nonfinite < 0, np.take_along_axis(curve, kept_at[None], axis=0)[0], np.nan)
    mean = kept_score.mean(axis=1)
    best = None if np.isnan(mean).all() else greatest(mean)  # of equal means, the least rate
    rate = None if best is None else float(grid.axes["learning_rate"][best])
    failed = (nonfinite < 0) & ~(kept_loss < np.repeat(chance, kept_loss.shape[1] // len(targets)))
    train_loss = grid.by_axis(history.train_loss, -1)
    return Entry(
        name, result, train_loss, loss, curve, kept_score, nonfinite, kept_loss, failed, best, {}, rate,
        kept_epoch=kept_at + 1,
    )  # fmt: skip


def published(entry: Entry, position: int | None = None) -> tuple[Params, Any]:
    """Return the params to publish and the `extra` of one seed at the chosen rate.

    Args:
        entry: an optimizer with a chosen rate.
        position: index of the seed, of K folds among K times as many lanes, fold by fold; see `published_position`.

    Raises:
        UserError: no rate was chosen, since each has a non-finite lane; or no such seed.
    """
    if not isinstance(entry, Entry):
        raise UserError(f"entry: {type(entry).__name__}, expected an entry of a race, such as race.winner")
    if entry.best is None:
        raise UserError(f"{entry.optimizer} has no params to publish: every learning rate has a non-finite lane")
    (rates, seeds), best = entry.score.shape, entry.best
    seeds = seeds if entry.refit is None else entry.refit.nonfinite_step.size
    if entry.refit is not None and not (entry.refit.nonfinite_step < 0).any():
        raise UserError(f"{entry.optimizer} has no params to publish: its refit went non-finite with every seed")
    if position is not None and not 0 <= position < seeds:
        raise UserError(f"position = {position}: expected the index of a seed, 0 to {seeds - 1}")
    position = published_position(entry) if position is None else position
    if entry.refit is not None:
        return entry.refit.published(position)
    lane = position * rates + best
    kept = (entry.result.kept.optimizer, entry.result.kept.params, entry.result.kept.extra)
    optimizer, params, extra = jax.tree.map(lambda leaf: np.asarray(leaf)[lane], kept)
    return evaluation_params(optimizer, params), extra


def published_rows(raced: Race, entry: Entry) -> np.ndarray:
    """Return the ids of the rows [M] that the params which `published` returns by default were trained on."""
    if entry.refit is not None and raced.refit_ids is not None:
        return raced.refit_ids
    return raced.parts[published_position(entry) // raced.seeds.size].train


def published_position(entry: Entry) -> int:
    """Return which params are published by default, an index of seeds (or of folds and seeds).

    Those with the best validation score; after a refit those of the first finite seed, as no rows are left to choose
    one by.
    """
    if entry.refit is not None:
        return int(np.argmax(entry.refit.nonfinite_step < 0))
    return int(entry.score[entry.best].argmax())
