"""The optimizer race: optimizers × learning rates × seeds of one model on one data set.

Learning rates are chosen by the mean validation score over seeds. Test rows are scored once, after every choice is
made, with the params that each lane kept: those with its least validation loss. `mllab.race_results` condenses a race
to the numbers to report.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from jax.sharding import Mesh

from mllab import devices, memory, optimizers, rows, sweep, training
from mllab.averaging import evaluation_params
from mllab.errors import UserError
from mllab.models.base import Model
from mllab.tasks import Task, named
from mllab.training import Result, Run
from mllab.types import Examples, Objective, Params

CLASSIC = ("sgd", "momentum", "rmsprop", "adam")
SCORED_ROWS = 1024  # rows scored at once: bounds the memory of their outputs


class Split(Protocol):
    """Row ids [M] for training, for choosing and for reporting."""

    @property
    def train(self) -> np.ndarray: ...  # noqa: D102
    @property
    def validation(self) -> np.ndarray: ...  # noqa: D102
    @property
    def test(self) -> np.ndarray: ...  # noqa: D102


class Entry(NamedTuple):
    """The results of one optimizer. Scores are the task's headline; E segments, R rates, G seeds."""

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
    test: dict[str, np.ndarray]  # mean metrics [G] on test rows at the chosen rate; empty if there is none


class Race(NamedTuple):
    """The results of a race."""

    entries: list[Entry]
    task: Task
    learning_rates: np.ndarray  # [R] ascending
    seeds: np.ndarray  # [G]
    steps: np.ndarray  # [E] steps taken by the end of each segment
    chance_loss: float  # validation loss of the best constant prediction

    @property
    def ranked(self) -> list[Entry]:
        """The entries with a chosen rate, by mean validation score at it, best first."""
        chosen = [entry for entry in self.entries if entry.best is not None]
        return sorted(chosen, key=lambda entry: -entry.score[entry.best].mean())

    @property
    def winner(self) -> Entry | None:
        """The first of `ranked`, or None."""
        return next(iter(self.ranked), None)


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
    examples: Examples,
    split: Split,
    *,
    task: str | Task = "classification",
    names: Sequence[str] = CLASSIC,
    learning_rates: Sequence[float] = tuple(np.logspace(-4, 0, 8)),
    seeds: Sequence[int] = (0, 1, 2),
    epochs: int = 20,
    batch_size: int = 32,
    shared_batches: bool = False,
    settings: Mapping[str, Any] | None = None,
    objective: Objective | None = None,
    mesh: Mesh | None = None,
    group: int | None = None,
    split_batches: bool | None = None,
    observe: Callable[[str, sweep.Grid], Iterable[Callable]] = lambda name, grid: (),
    **drive: Any,
) -> Race:
    """Race optimizers on a model: every optimizer × learning rate × seed, one compiled program per optimizer.

    Args:
        model: see `models.base.Model` and `plain`.
        examples: `{"inputs": [N, ...], "targets": [N]}`.
        split: row ids for training, for choosing the learning rate (validation) and for reporting (test).
        task: a task or its name: "classification" (targets are class numbers) or "regression" (targets are values).
        names: optimizers, keys of `optimizers.OPTIMIZERS`.
        learning_rates: rates for every optimizer.
        seeds: each draws initial params and an order of minibatches.
        epochs: passes over the training rows.
        batch_size: rows per step; with all training rows, sgd is gradient descent.
        shared_batches: use the first seed's minibatches for all seeds.
        settings: other arguments of `optimizers.build`: schedule, clip_norm, weight_decay, average, options.
        objective: what is minimised, if not the task's loss (see `problem`).
        mesh: devices to spread the lanes over (default: the first one alone).
        group: lanes that a device runs at once (default: as many as its cache holds).
        split_batches: run lane after lane with each batch split over the devices, instead of spreading the lanes
            (default: if there are fewer lanes than devices).
        observe: (optimizer, grid) -> observers for its drive.
        drive: other arguments of `training.drive`: patience, workdir, checkpoint_seconds.

    Raises:
        UserError: invalid settings or examples, or too little memory; see `check`, `check_memory` and
            `check_examples`.
    """
    task = named(task)
    settings = dict(settings or {})
    rates = check(learning_rates, names, batch_size, len(split.train), settings)
    check_examples(model, examples, split, task)
    mesh = mesh or devices.mesh(1)
    check_memory(
        model, examples, names, rates=rates.size, seeds=len(seeds), shared_batches=shared_batches, epochs=epochs,
        batch_size=batch_size, count=len(split.train), settings=settings, mesh=mesh,
    )  # fmt: skip
    grid = sweep.grid({"learning_rate": rates}, seeds)
    schedule = rows.minibatches(split.train, batch_size, epochs, seeds[:1] if shared_batches else seeds)
    if shared_batches:
        schedule = jax.tree.map(lambda a: a[0], schedule)
    steps = schedule.ids.shape[-2]
    # One shape for both, so that one program scores validation rows and, at the end, test rows.
    most = max(len(split.validation), len(split.test))
    block = min(SCORED_ROWS, most)
    validation, test = (rows.blocks(ids, block, -(-most // block)) for ids in (split.validation, split.test))
    placed = devices.replicate(mesh, examples)
    targets = np.asarray(examples["targets"])
    fingerprint = f"{task.name} {sorted(settings.items())}"
    chance = task.chance(targets, split.train, split.validation)
    make = problem(model, task, objective)
    spread_lanes = split_batches is False or (split_batches is None and len(grid.seed) >= mesh.size)

    def optimizer(name: str) -> Callable:
        return lambda hyper: optimizers.build(name, hyper["learning_rate"], steps=steps, **settings)

    def many(run: Run) -> Run:
        if spread_lanes:
            return sweep.lanes(run, grid.schedule, mesh=mesh, group=group)
        return sweep.batches(run, grid.schedule, mesh=mesh)

    runs = {name: many(make(optimizer(name))) for name in names}
    entries = []
    segments: dict[str, Any] = {"held_out": validation, "segment": steps // epochs}
    pool = ThreadPoolExecutor(devices.cores())  # the next programs compile while the first ones run
    try:
        compiled = {
            name: pool.submit(training.compile_ahead, run, grid.hyper, grid.key, placed, schedule, **segments)
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
                **segments,
                observers=observers,
                name=name,
                fingerprint=fingerprint,
                **drive,
            )
            entries.append(judge(name, result, rates.size, chance, targets[split.validation], task))
    finally:
        pool.shutdown(cancel_futures=True)  # after an error or interrupt, compile no further program

    for position, entry in enumerate(entries):  # every choice is made: score the test rows, once
        if entry.best is not None:
            metrics = jax.jit(runs[entry.optimizer].score)(grid.hyper, entry.result.kept, placed, test)
            chosen = {name: _by_rate(np.asarray(values), rates.size)[entry.best] for name, values in metrics.items()}
            entries[position] = entry._replace(test=chosen)
    return Race(entries, task, rates, np.asarray(seeds), result.history.step, chance)


def check(
    learning_rates: Sequence[float], names: Sequence[str], batch_size: int, count: int, settings: Mapping[str, Any]
) -> np.ndarray:
    """Return the learning rates [R], ascending.

    Raises:
        UserError: a rate that is repeated or not positive and finite; no, unknown or repeated optimizers; settings that
            `optimizers.build` refuses; or a batch larger than the `count` training rows.
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


def check_memory(
    model: Model,
    examples: Examples,
    names: Sequence[str],
    *,
    rates: int,
    seeds: int,
    epochs: int,
    batch_size: int,
    count: int,
    settings: Mapping[str, Any],
    shared_batches: bool = False,
    mesh: Mesh | None = None,
) -> None:
    """Check that a race fits in memory, before anything is compiled.

    Three sizes are estimated: the final and the kept state (params and optimizer state) of every lane of all
    optimizers; the minibatches [P, S, B], 8 bytes a row, with one number for each epoch and lane; and the largest array
    of a forward pass over a batch.

    Args:
        model: see `race`.
        examples: see `race`.
        names: of the optimizers.
        rates: number of learning rates.
        seeds: number of seeds.
        epochs: passes over the training rows.
        batch_size: B.
        count: training rows.
        settings: of `optimizers.build`.
        shared_batches: see `race`.
        mesh: the devices.

    Raises:
        UserError: one that does not fit.
    """
    held_by: Iterable[Any] = [] if mesh is None else mesh.devices.flat
    steps, lanes, schedules = epochs * -(-count // batch_size), rates * seeds, 1 if shared_batches else seeds
    schedule = schedules * steps * batch_size * 8 + len(names) * epochs * lanes * 4
    what = f"the minibatches of {epochs:,} epochs, and the losses of {len(names) * lanes:,} lanes,"
    memory.check(schedule, what, "lower --epochs, --seeds or the number of --learning_rates")

    params, extra = jax.eval_shape(model.init, jax.random.key(0))
    states = [jax.eval_shape(optimizers.build(name, 1.0, steps=1, **settings).init, params) for name in names]
    state = sum(_bytes((params, extra, optimizer)) for optimizer in states)
    product = f"{len(names)} optimizers × {rates:,} rates × {seeds:,} seeds"
    what = f"the params and optimizer states of {len(names) * lanes:,} lanes ({product})"
    remedy = "lower the sizes of the layers (--hidden, --channels), --seeds or the number of --learning_rates"
    memory.check(2 * lanes * state, what, remedy, held_by)

    inputs = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct((batch_size, *a.shape[1:]), jax.numpy.result_type(a)),
        examples["inputs"],
    )
    forward = jax.make_jaxpr(lambda *each: model.apply(each[0], each[1], each[2], None)[0])(params, extra, inputs)
    what = f"the largest arrays of a forward pass over {batch_size:,} rows"
    memory.check(_largest(forward.jaxpr), what, "lower --batch_size, --hidden or --channels", held_by)


def _bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree) if hasattr(leaf, "dtype"))


def _largest(jaxpr: Any) -> int:
    """Return the bytes of the largest array that a program computes, those of its inner programs included."""
    sizes = [0]
    for equation in jaxpr.eqns:
        sizes += [_bytes(output.aval) for output in equation.outvars]
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda each: hasattr(each, "eqns")):
            if hasattr(inner, "eqns"):
                sizes.append(_largest(inner))
    return max(sizes)


def check_examples(model: Model, examples: Examples, split: Split, task: str | Task) -> None:
    """Check that examples, split, model and task fit together, before anything is compiled.

    Raises:
        UserError: what does not fit, and where.
    """
    task = named(task)
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
            raise UserError(f"no {name} rows: a race needs training, validation and test rows")
        if np.min(ids) < 0 or np.max(ids) >= count:
            raise UserError(f"{name} rows from {np.min(ids)} to {np.max(ids)}: there are rows 0 to {count - 1}")
    everything = np.concatenate([split.train, split.validation, split.test])
    if len(np.unique(everything)) != len(everything):
        raise UserError("a row is in two parts of the split, or twice in one part: give each row once")

    def outputs(key: Any, inputs: Any) -> Any:
        return model.apply(*model.init(key), inputs, None)[0]

    row = jax.tree.map(lambda a: np.asarray(a[:1]), examples["inputs"])
    task.check(np.asarray(examples["targets"]), jax.eval_shape(outputs, jax.random.key(0), row).shape)


def _by_rate(lanes: np.ndarray, rates: int) -> np.ndarray:
    """Return values [..., R, G] of lanes [..., L], which are ordered seed by seed."""
    return np.swapaxes(lanes.reshape(*lanes.shape[:-1], -1, rates), -1, -2)


def judge(name: str, result: Result, rates: int, chance: float, targets: np.ndarray, task: Task) -> Entry:
    """Return an optimizer's entry with its chosen learning rate; a rate with a non-finite lane is not eligible.

    Args:
        name: the optimizer.
        result: of its drive, lanes seed by seed.
        rates: R.
        chance: the loss of the best constant prediction; a lane that does not beat it has failed.
        targets: of the validation rows, [M].
        task: defines the score.
    """
    history = result.history
    loss = _by_rate(history.held_out["loss"], rates)
    curve = _by_rate(task.headline.value(history.held_out, targets, 1.0), rates)
    kept_loss, nonfinite = _by_rate(result.kept_loss, rates), _by_rate(result.nonfinite_step, rates)
    # The kept params are those of the first segment with the least loss.
    kept_at = np.argmin(np.where(np.isfinite(loss), loss, np.inf), axis=0)
    kept_score = np.where(nonfinite < 0, np.take_along_axis(curve, kept_at[None], axis=0)[0], np.nan)
    mean = kept_score.mean(axis=1)
    best = None if np.isnan(mean).all() else int(np.nanargmax(mean))
    failed = (nonfinite < 0) & ~(kept_loss < chance)
    train_loss = _by_rate(history.train_loss, rates)
    return Entry(name, result, train_loss, loss, curve, kept_score, nonfinite, kept_loss, failed, best, {})


def published(entry: Entry, position: int | None = None) -> tuple[Params, Any]:
    """Return the params to publish and the `extra` of one seed at the chosen rate.

    Args:
        entry: an optimizer with a chosen rate.
        position: index of the seed (default: the one with the best validation score).
    """
    rates, best = entry.score.shape[0], entry.best
    lane = int(entry.score[best].argmax() if position is None else position) * rates + best
    kept = (entry.result.kept.optimizer, entry.result.kept.params, entry.result.kept.extra)
    optimizer, params, extra = jax.tree.map(lambda leaf: np.asarray(leaf)[lane], kept)
    return evaluation_params(optimizer, params), extra
