"""The race: optimizers × learning rates × seeds of one model on one data set, judged honestly.

Learning rates are chosen by the mean validation score over seeds. Test rows are scored once, after every choice is
made, with the params that each lane kept: those of its least validation loss.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from jax.sharding import Mesh

from mllab import devices, losses, metrics, optimizers, rows, sweep, training
from mllab.errors import UserError, unknown
from mllab.models.base import Model
from mllab.training import Result, Run
from mllab.types import Examples, Params

CLASSIC = ("sgd", "momentum", "rmsprop", "adam")
SCORE_BLOCK = 1024  # rows scored at once: bounds the memory that their outputs take
CLOSE = 0.01  # a learning rate is close to the best within one percentage point of score


class Split(Protocol):
    """Row ids [M] for training, choosing and reporting."""

    @property
    def train(self) -> np.ndarray: ...  # noqa: D102
    @property
    def validation(self) -> np.ndarray: ...  # noqa: D102
    @property
    def test(self) -> np.ndarray: ...  # noqa: D102


class Entry(NamedTuple):
    """One optimizer of the race. A score is accuracy, or R² in regression. E segments, R rates, G seeds."""

    optimizer: str
    result: Result
    train_loss: np.ndarray  # [E, R, G] mean over each segment
    loss: np.ndarray  # [E, R, G] validation loss after each segment
    curve: np.ndarray  # [E, R, G] validation score after each segment
    score: np.ndarray  # [R, G] validation score of the kept params; NaN where the lane went non-finite
    nonfinite_step: np.ndarray  # [R, G] first step that was not finite, or -1
    kept_loss: np.ndarray  # [R, G] validation loss of the kept params
    failed: np.ndarray  # [R, G] finite, but its kept validation loss is no better than chance
    best: int | None  # the chosen rate's index; None where every rate lost a lane
    test: dict[str, np.ndarray]  # metrics [G] on test rows at the chosen rate; empty where there is none


class Race(NamedTuple):
    """A race that was run."""

    entries: list[Entry]
    task: str
    learning_rates: np.ndarray  # [R] ascending
    seeds: np.ndarray  # [G]
    steps: np.ndarray  # [E] steps taken by the end of each segment
    chance_loss: float  # validation loss of predicting the class frequencies or the mean

    @property
    def ranked(self) -> list[Entry]:
        """The entries that have a chosen rate, by the mean validation score there, best first."""
        chosen = [entry for entry in self.entries if entry.best is not None]
        return sorted(chosen, key=lambda entry: -entry.score[entry.best].mean())

    @property
    def winner(self) -> Entry | None:
        """The entry with the best mean validation score at its chosen rate."""
        return next(iter(self.ranked), None)


TASKS = {
    "classification": (losses.cross_entropy, metrics.classification),
    "regression": (losses.squared_error, metrics.regression),
}


def problem(model: Model, task: str, objective: training.Objective | None = None) -> Callable[[Callable], Run]:
    """Return `optimizer -> Run` for a model and a task, "classification" or "regression".

    The objective that is trained on, where it is another than the task's loss (smoothed labels, augmented inputs),
    changes nothing of what is scored.
    """
    loss, values = TASKS[task]

    def run(optimizer: Callable) -> Run:
        return training.supervised(
            model.init,
            objective or training.objective(model, loss),
            optimizer,
            training.measure(model, values),
            evaluate=lambda state: optimizers.evaluation_params(state.optimizer, state.params),
        )

    return run


def race(
    model: Model,
    examples: Examples,
    split: Split,
    *,
    task: str = "classification",
    names: Sequence[str] = CLASSIC,
    learning_rates: Sequence[float] = tuple(np.logspace(-4, 0, 8)),
    seeds: Sequence[int] = (0, 1, 2),
    epochs: int = 20,
    batch_size: int = 32,
    shared_batches: bool = False,
    settings: Mapping[str, Any] | None = None,
    objective: training.Objective | None = None,
    mesh: Mesh | None = None,
    group: int | None = None,
    split_batches: bool | None = None,
    observe: Callable[[str, sweep.Grid], Iterable[Callable]] = lambda name, grid: (),
    **drive: Any,
) -> Race:
    """Race optimizers on a model: every optimizer × learning rate × seed, one compiled program an optimizer.

    Args:
        model: see `models.base.Model` and `plain`.
        examples: `{"inputs": [N, ...], "targets": [N]}`.
        split: row ids; training rows train, validation rows choose, test rows report.
        task: "classification" (targets are class numbers) or "regression" (targets are values).
        names: optimizers, keys of `optimizers.OPTIMIZERS`.
        learning_rates: the rates of every optimizer.
        seeds: each draws its own starting params and its own order of minibatches.
        epochs: times that each lane sees every training row.
        batch_size: rows a step; all training rows make it gradient descent proper.
        shared_batches: let all seeds share the first one's minibatches.
        settings: what else `optimizers.build` takes: schedule, clip_norm, weight_decay, options.
        objective: what is trained on, where that is not the task's loss (see `problem`).
        mesh: devices to spread the lanes over (default: the first alone).
        group: lanes that a device runs at once (default: what its cache holds).
        split_batches: run lane after lane, each batch split over the devices, rather than spread the lanes (default:
            where there are fewer lanes than devices).
        observe: (optimizer, grid) -> observers of its drive.
        drive: what else `training.drive` takes: patience, workdir, checkpoint_seconds.

    Raises:
        UserError: settings or examples that make no sense; see `check` and `check_examples`.
    """
    settings = dict(settings or {})
    rates = check(learning_rates, names, batch_size, len(split.train), settings)
    check_examples(model, examples, split, task)
    mesh = mesh or devices.mesh(1)
    grid = sweep.grid({"learning_rate": rates}, seeds)
    schedule = rows.minibatches(split.train, batch_size, epochs, seeds[:1] if shared_batches else seeds)
    if shared_batches:
        schedule = jax.tree.map(lambda a: a[0], schedule)
    steps = schedule.ids.shape[-2]
    # One shape for both, so that one program scores validation rows and, at the end, test rows.
    most = max(len(split.validation), len(split.test))
    validation, test = (
        rows.blocks(ids, min(SCORE_BLOCK, most), -(-most // min(SCORE_BLOCK, most)))
        for ids in (split.validation, split.test)
    )
    placed = devices.replicate(mesh, examples)
    targets = np.asarray(examples["targets"])
    about = f"{task} {sorted(settings.items())}"
    chance = metrics.chance_loss(targets, split.train, split.validation, task)
    make = problem(model, task, objective)
    split_lanes = split_batches is False or (split_batches is None and len(grid.seed) >= mesh.size)

    def optimizer(name: str) -> Callable:
        return lambda hyper: optimizers.build(name, hyper["learning_rate"], steps=steps, **settings)

    def many(run: Run) -> Run:
        if split_lanes:
            return sweep.lanes(run, grid.schedule, mesh=mesh, group=group)
        return sweep.batches(run, grid.schedule, mesh=mesh)

    runs = {name: many(make(optimizer(name))) for name in names}
    entries = []
    given: dict[str, Any] = {"held_out": validation, "segment": steps // epochs}
    pool = ThreadPoolExecutor(devices.cores())  # the next programs compile while the first ones run
    try:
        compiled = {
            name: pool.submit(training.compile_ahead, run, grid.hyper, grid.key, placed, schedule, **given)
            for name, run in runs.items()
        }
        for name, run in runs.items():
            observers = observe(name, grid)
            compiled[name].result()
            result = training.drive(
                run,
                grid.hyper,
                grid.key,
                placed,
                schedule,
                **given,
                observe=observers,
                name=name,
                about=about,
                **drive,
            )
            entries.append(judge(name, result, rates.size, chance, targets[split.validation], task))
    finally:
        pool.shutdown(cancel_futures=True)  # a mistake or an interrupt waits for no program that is not begun

    for position, entry in enumerate(entries):  # every choice is made: now, once, the test rows
        if entry.best is not None:
            scores = jax.jit(runs[entry.optimizer].score)(grid.hyper, entry.result.kept, placed, test)
            chosen = {name: _by_rate(np.asarray(values), rates.size)[entry.best] for name, values in scores.items()}
            entries[position] = entry._replace(test=chosen)
    return Race(entries, task, rates, np.asarray(seeds), result.history.step, chance)


def check(
    learning_rates: Sequence[float], names: Sequence[str], batch_size: int, count: int, settings: Mapping[str, Any]
) -> np.ndarray:
    """Return the rates [R], ascending.

    Raises:
        UserError: a rate that is not positive and finite or is given twice, no optimizer or an unknown one or one
            given twice, what `optimizers.build` refuses, or a batch larger than the `count` training rows.
    """
    rates = np.sort(np.asarray(learning_rates, np.float64))
    if rates.size == 0 or not (np.isfinite(rates).all() and rates[0] > 0) or len(np.unique(rates)) != rates.size:
        raise UserError(f"learning rates {', '.join(f'{rate:g}' for rate in rates)}: give positive numbers, each once")
    if not names or len(set(names)) != len(names):
        raise UserError(f"optimizers {', '.join(names) or '(none)'}: name one or more, each once")
    for value in settings.values():
        if isinstance(value, float) and not np.isfinite(value):
            raise UserError(f"settings {dict(settings)}: give finite numbers")
    for name in names:
        optimizers.build(name, 1.0, steps=1, **settings)
    rows.check_batch(batch_size, count)
    return rates


def check_examples(model: Model, examples: Examples, split: Split, task: str) -> None:
    """Check that examples, split and model fit together, before anything is compiled.

    Raises:
        UserError: what does not fit, and where.
    """
    if task not in TASKS:
        raise unknown("task", task, TASKS)
    count = len(examples["targets"])
    for path, array in jax.tree_util.tree_flatten_with_path(examples)[0]:
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        if not hasattr(array, "shape") or array.shape[:1] != (count,):
            raise UserError(f"{name} are not an array of {count} rows, one for each target")
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            row = np.argwhere(~np.isfinite(np.asarray(array)))[0][0]
            raise UserError(f"{name} hold a number that is not finite, first in row {row}: impute or drop it")
    for name, ids in (("training", split.train), ("validation", split.validation), ("test", split.test)):
        if len(ids) == 0:
            raise UserError(f"no {name} rows: a race needs rows to train on, to choose by and to report")
        if np.min(ids) < 0 or np.max(ids) >= count:
            raise UserError(f"{name} rows from {np.min(ids)} to {np.max(ids)}: there are rows 0 to {count - 1}")
    everything = np.concatenate([split.train, split.validation, split.test])
    if len(np.unique(everything)) != len(everything):
        raise UserError("a row stands in two parts of the split, or twice in one: validation would not be honest")

    def outputs(key: Any, inputs: Any) -> Any:
        return model.apply(*model.init(key), inputs, None)[0]

    row = jax.tree.map(lambda a: np.asarray(a[:1]), examples["inputs"])
    shape = jax.eval_shape(outputs, jax.random.key(0), row).shape
    targets = np.asarray(examples["targets"])
    if task == "regression":
        if targets.shape != (count,) or shape not in ((1,), (1, 1)):
            raise UserError(f"regression has targets [N] and one output a row; here {targets.shape} and {shape[1:]}")
    elif not np.issubdtype(targets.dtype, np.integer) or targets.ndim != 1:
        raise UserError(f"classes are whole numbers [N] from 0 up, not {targets.dtype}{list(targets.shape)}")
    elif len(shape) != 2 or targets.min() < 0 or targets.max() >= shape[1]:
        raise UserError(
            f"targets are classes {targets.min()} to {targets.max()}; the model gives {shape[1:]} logits, of 0 to C-1"
        )


def _by_rate(lanes: np.ndarray, rates: int) -> np.ndarray:
    """Return [..., R, G] of lanes [..., L], which are seed by seed."""
    return np.swapaxes(lanes.reshape(*lanes.shape[:-1], -1, rates), -1, -2)


def judge(name: str, result: Result, rates: int, chance: float, targets: np.ndarray, task: str) -> Entry:
    """Return an optimizer's entry, its learning rate chosen; a rate that lost a lane is not eligible.

    Args:
        name: the optimizer.
        result: of its drive, lanes seed by seed.
        rates: R.
        chance: the loss that a lane must be better than, or it has failed.
        targets: of the validation rows.
        task: "classification" or "regression".
    """
    history = result.history
    loss = _by_rate(history.held_out["loss"], rates)
    curve = _by_rate(score(history.held_out, targets, task), rates)
    kept_loss, nonfinite = _by_rate(result.kept_loss, rates), _by_rate(result.nonfinite_step, rates)
    # The kept params are those of the first segment with the least loss.
    kept_at = np.argmin(np.where(np.isfinite(loss), loss, np.inf), axis=0)
    kept_score = np.where(nonfinite < 0, np.take_along_axis(curve, kept_at[None], axis=0)[0], np.nan)
    mean = kept_score.mean(axis=1)
    best = None if np.isnan(mean).all() else int(np.nanargmax(mean))
    failed = (nonfinite < 0) & ~(kept_loss < chance)
    train_loss = _by_rate(history.train_loss, rates)
    return Entry(name, result, train_loss, loss, curve, kept_score, nonfinite, kept_loss, failed, best, {})


def score(held_out: Mapping[str, np.ndarray], targets: np.ndarray, task: str) -> np.ndarray:
    """Return accuracy, or R² in regression, from metrics on rows with these targets."""
    return metrics.r_squared(held_out["loss"], targets) if task == "regression" else held_out["accuracy"]


class Width(NamedTuple):
    """How forgiving an optimizer is of its learning rate."""

    decades: float  # from the least to the greatest rate close to the best, all between them close too
    open_low: bool  # the range reaches the grid's least rate: it may be wider
    open_high: bool  # or its greatest


def width(entry: Entry, learning_rates: np.ndarray) -> Width | None:
    """Return how many decades of learning rate around the best come within one percentage point of its score."""
    if entry.best is None:
        return None
    mean = entry.score.mean(axis=1)
    close = mean >= mean[entry.best] - CLOSE  # False for NaN
    low = high = entry.best
    while low > 0 and close[low - 1]:
        low -= 1
    while high < len(close) - 1 and close[high + 1]:
        high += 1
    decades = float(np.log10(learning_rates[high] / learning_rates[low]))
    return Width(decades, low == 0, high == len(close) - 1)


def steps_to(entry: Entry, steps: np.ndarray, target: float) -> np.ndarray:
    """Return, for each seed [G] at the chosen rate, the steps to a validation score, to the segment; NaN if never."""
    if entry.best is None:
        return np.full(entry.score.shape[1], np.nan)
    reached = entry.curve[:, entry.best] >= target
    return np.where(reached.any(axis=0), steps[reached.argmax(axis=0)], np.nan)


def published(entry: Entry, position: int | None = None) -> tuple[Params, Any]:
    """Return the params, and what is kept beside them, of one seed at the chosen rate.

    Args:
        entry: an optimizer that has a chosen rate.
        position: of the seed (default: the one with the best validation score).
    """
    rates, best = entry.score.shape[0], entry.best
    lane = int(entry.score[best].argmax() if position is None else position) * rates + best
    kept = (entry.result.kept.optimizer, entry.result.kept.params, entry.result.kept.extra)
    optimizer, params, extra = jax.tree.map(lambda leaf: np.asarray(leaf)[lane], kept)
    return optimizers.evaluation_params(optimizer, params), extra
