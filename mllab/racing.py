"""The optimizer race: optimizers × learning rates × seeds of one model on one data set.

Learning rates are chosen by the mean validation score over seeds. Test rows are scored once, after every choice is
made, with the params that each lane kept: those with its least validation loss. `mllab.race_results` condenses a race
to the numbers to report.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from mllab import checks, devices, memory, optimizers, rows, sweep, training
from mllab.averaging import evaluation_params
from mllab.errors import UserError, unknown
from mllab.metrics import Ranking, greatest, interval, ranking
from mllab.models.base import Model
from mllab.report import table as text
from mllab.tasks import Task, named
from mllab.training import Result, Run
from mllab.types import Examples, Objective, Params

CLASSIC = ("sgd", "momentum", "rmsprop", "adam")
RATES = tuple(np.logspace(-4, 0, 8))
DRIVE_OPTIONS = ("patience", "workdir", "checkpoint_seconds")  # arguments of `training.drive` that a race passes on

Names = str | Sequence[str] | Mapping[str, str | Callable[..., optax.GradientTransformation]]


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
    # On test rows at the chosen rate, [G]: mean metrics and the task's scores, such as RMSE in the unit of the targets;
    # empty if there is none.
    test: dict[str, np.ndarray]
    learning_rate: float | None  # the chosen rate
    # [R, G] score of every lane on test rows, NaN where it went non-finite; None if there is no chosen rate. No choice
    # depends on it: it says what a smaller search would have led to.
    test_by_lane: np.ndarray | None = None

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
    chance_loss: float  # validation loss of the best constant prediction

    @property
    def ranked(self) -> list[Entry]:
        """The entries with a chosen rate, by mean validation score at it, best first."""
        chosen = {entry.optimizer: entry for entry in self.entries}
        return [chosen[name] for name in self.standing.names] if self.standing else []

    @property
    def standing(self) -> Ranking[str] | None:
        """The optimizers by validation score and, over the seeds, those tied with the best; None without a valid rate.

        `race_results.standing` compares row by row too.
        """
        scores = {entry.optimizer: entry.score[entry.best] for entry in self.entries if entry.best is not None}
        return ranking(scores) if scores else None

    @property
    def winner(self) -> Entry | None:
        """The first of `ranked`, or None; see `standing` for the others that are tied with it."""
        return next(iter(self.ranked), None)

    def __repr__(self) -> str:
        """Return the winner and the size of the race."""
        names = ", ".join(entry.optimizer for entry in self.entries)
        size = f"{len(self.learning_rates)} learning rates × {len(self.seeds)} seeds"
        return f"Race({names}; {size}; winner: {self.winner})"

    def table(self) -> str:
        """Return the results as a table in plain text: chosen rates, test scores, and lanes that diverged."""
        lanes = len(self.learning_rates) * len(self.seeds)
        rows = []
        for entry in self.entries:
            tested = [interval(entry.test[each.name]) if entry.test else None for each in self.task.reported]
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
        several = len(self.seeds) > 1
        seeds = f"± 95% interval over {len(self.seeds)} seeds" if several else "1 seed: no interval, no comparison"
        highest = "* highest mean validation score" + " and those tied with it" * several
        caption = "; ".join([highest] * bool(best) + [seeds]) if self.standing else "every rate has a non-finite lane"
        columns = ["optimizer", "best rate", *scores, "non-finite", "failed"]
        return "\n".join(text.Table(columns, rows, best, caption).lines())


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
    **drive: Any,
) -> Race:
    """Race optimizers on a model: every optimizer × learning rate × seed, one compiled program per optimizer.

        race = mllab.race(model, examples, split, names={"adam": "adam", "adabelief": optax.adabelief})
        print(race.table())

    Args:
        model: see `models.base.Model` and `plain`.
        examples: `{"inputs": [N, ...], "targets": [N]}`, or targets [N, T] for regression of T outputs.
        split: row ids for training, for choosing the learning rate (validation) and for reporting (test).
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
            (default: if there are fewer lanes than devices).
        observe: (optimizer, grid) -> observers for its drive.
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
    examples, split = check_examples(model, examples, split, task)
    if objective is None:
        training.check_unweighted(examples)
    checks.check_whole(1, epochs=epochs, **{name: drive[name] for name in ("patience",) if drive.get(name) is not None})
    makers = by_name(names)
    rates = check(learning_rates, makers, batch_size, len(split.train), settings)
    mesh = mesh or devices.mesh(1)
    seeds = rows.seed_list(seeds)
    check_memory(
        model, examples, makers, rates=rates.size, seeds=len(seeds), shared_batches=shared_batches, epochs=epochs,
        batch_size=batch_size, count=len(split.train), settings=settings, mesh=mesh,
    )  # fmt: skip
    grid = sweep.grid({"learning_rate": rates}, seeds)
    schedule = rows.minibatches(split.train, batch_size, epochs, seeds[:1] if shared_batches else seeds)
    if shared_batches:
        schedule = jax.tree.map(lambda a: a[0], schedule)
    steps = schedule.ids.shape[-2]
    # One shape for both, so that one program scores validation rows and, at the end, test rows.
    most = max(len(split.validation), len(split.test))
    block = min(rows.SCORED_ROWS, most)
    validation, test = (rows.blocks(ids, block, -(-most // block)) for ids in (split.validation, split.test))

    placed = devices.replicate(mesh, examples)
    targets = np.asarray(examples["targets"])
    fingerprint = f"{task.name} {sorted(settings.items())}"
    chance = task.chance(targets, split.train, split.validation)
    make = problem(model, task, objective)
    spread_lanes = split_batches is False or (split_batches is None and len(grid.seed) >= mesh.size)

    def optimizer(name: str) -> Callable:
        return lambda hyper: optimizers.build(makers[name], hyper["learning_rate"], steps=steps, **settings)

    def many(run: Run) -> Run:
        if spread_lanes:
            return sweep.lanes(run, grid.schedule, mesh=mesh, group=group)
        return sweep.batches(run, grid.schedule, mesh=mesh)

    runs = {name: many(make(optimizer(name))) for name in makers}
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
            entries.append(judge(name, result, grid, chance, targets[split.validation], task))
    finally:
        pool.shutdown(cancel_futures=True)  # after an error or interrupt, compile no further program

    for position, entry in enumerate(entries):  # every choice is made: score the test rows, once
        if entry.best is not None:
            metrics = jax.jit(runs[entry.optimizer].score)(grid.hyper, entry.result.kept, placed, test)
            lanes = {name: grid.by_axis(values) for name, values in metrics.items()}
            means = {name: values[entry.best] for name, values in lanes.items()}
            scores = np.where(entry.nonfinite_step < 0, task.headline.value(lanes, targets[split.test], 1.0), np.nan)
            entries[position] = entry._replace(
                test={**means, **task.report(means, targets[split.test])}, test_by_lane=scores
            )
    return Race(entries, task, rates, np.asarray(seeds), result.history.step, chance)


def by_name(names: Names) -> dict[str, str | Callable]:
    """Return optimizers by the name to record, each a key of `optimizers.OPTIMIZERS` or a function of a learning rate.

    Raises:
        UserError: no names, a repeated one, or one that is no text or cannot name a folder.
    """
    if isinstance(names, str):
        names = [names]
    if not isinstance(names, Mapping | Sequence):
        raise UserError(f"names: {type(names).__name__}, expected names of optimizers, or a mapping to functions")
    for name in names:
        if not isinstance(name, str):
            raise UserError(
                f"names: {name!r} is no name: give functions as a mapping, {{'adabelief': optax.adabelief}}"
            )
        if not name or "/" in name or "\\" in name or name.startswith("."):
            raise UserError(f"names: {name!r} cannot name a folder of checkpoints: give a plain word")
    if not names or len(set(names)) != len(names):
        raise UserError(f"optimizers {', '.join(names) or '(none)'}: name one or more, each once")
    return dict(names) if isinstance(names, Mapping) else {name: name for name in names}


def check(
    learning_rates: float | Sequence[float] | np.ndarray,
    names: Names,
    batch_size: int,
    count: int,
    settings: Mapping[str, Any],
) -> np.ndarray:
    """Return the learning rates [R], ascending.

    Raises:
        UserError: a rate that is repeated or not positive and finite; no, unknown or repeated optimizers; settings that
            `optimizers.build` refuses; or a batch larger than the `count` training rows.
    """
    rates = np.sort(np.asarray(checks.as_numbers(learning_rates, "learning rates"), np.float64).reshape(-1))
    if rates.size == 0 or not (np.isfinite(rates).all() and rates[0] > 0) or len(np.unique(rates)) != rates.size:
        raise UserError(f"learning rates {', '.join(f'{rate:g}' for rate in rates)}: give positive numbers, each once")
    for value in settings.values():
        if isinstance(value, float) and not np.isfinite(value):
            raise UserError(f"settings {dict(settings)}: give finite numbers")
    for make in by_name(names).values():
        optimizers.build(make, 1.0, steps=1, **settings)
    rows.check_batch(batch_size, count)
    return rates


def check_memory(
    model: Model,
    examples: Examples,
    names: Names,
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
        names: see `race`.
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
    makers = by_name(names).values()
    states = [jax.eval_shape(optimizers.build(make, 1.0, steps=1, **settings).init, params) for make in makers]
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


class Ids(NamedTuple):
    """A `Split` whose parts are arrays."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def check_examples(model: Model, examples: Examples, split: Split, task: str | Task) -> tuple[Examples, Ids]:
    """Check that examples, split, model and task fit together, before anything is compiled.

    Returns:
        The examples and the split as arrays.

    Raises:
        UserError: what does not fit, and where.
    """
    task = named(task)
    if not isinstance(model, Model):
        raise UserError(f"model: {type(model).__name__}, expected a Model: see mllab.plain and the modules of models")
    examples = checks.check_examples(examples)
    count = len(examples["targets"])
    parts = []
    for part in Ids._fields:
        if not hasattr(split, part):
            raise UserError(
                f"split: {type(split).__name__} has no {part!r}: give row ids as train, validation and test"
            )
        name = "training" if part == "train" else part
        parts.append(rows.as_ids(getattr(split, part), f"{name} rows", count))
    everything = np.concatenate(parts)
    if len(np.unique(everything)) != len(everything):
        raise UserError("a row is in two parts of the split, or twice in one part: give each row once")

    def outputs(key: Any, inputs: Any) -> Any:
        return model.apply(*model.init(key), inputs, None)[0]

    row = jax.tree.map(lambda a: np.asarray(a[:1]), examples["inputs"])
    task.check(np.asarray(examples["targets"]), jax.eval_shape(outputs, jax.random.key(0), row).shape)
    return examples, Ids(*parts)


def judge(name: str, result: Result, grid: sweep.Grid, chance: float, targets: np.ndarray, task: Task) -> Entry:
    """Return an optimizer's entry with its chosen learning rate; a rate with a non-finite lane is not eligible.

    Args:
        name: the optimizer.
        result: of its drive.
        grid: its lanes, with one axis, `learning_rate`.
        chance: the loss of the best constant prediction; a lane that does not beat it has failed.
        targets: of the validation rows, [M].
        task: defines the score.
    """
    history = result.history
    loss = grid.by_axis(history.held_out["loss"], -1)
    curve = grid.by_axis(task.headline.value(history.held_out, targets, 1.0), -1)
    kept_loss, nonfinite = grid.by_axis(result.kept_loss), grid.by_axis(result.nonfinite_step)
    # The kept params are those of the first segment with the least loss.
    kept_at = np.argmin(np.where(np.isfinite(loss), loss, np.inf), axis=0)
    kept_score = np.where(nonfinite < 0, np.take_along_axis(curve, kept_at[None], axis=0)[0], np.nan)
    mean = kept_score.mean(axis=1)
    best = None if np.isnan(mean).all() else greatest(mean)  # of equal means, the least rate
    rate = None if best is None else float(grid.axes["learning_rate"][best])
    failed = (nonfinite < 0) & ~(kept_loss < chance)
    train_loss = grid.by_axis(history.train_loss, -1)
    return Entry(name, result, train_loss, loss, curve, kept_score, nonfinite, kept_loss, failed, best, {}, rate)


def published(entry: Entry, position: int | None = None) -> tuple[Params, Any]:
    """Return the params to publish and the `extra` of one seed at the chosen rate.

    Args:
        entry: an optimizer with a chosen rate.
        position: index of the seed (default: the one with the best validation score).

    Raises:
        UserError: no rate was chosen, since each has a non-finite lane; or no such seed.
    """
    if not isinstance(entry, Entry):
        raise UserError(f"entry: {type(entry).__name__}, expected an entry of a race, such as race.winner")
    if entry.best is None:
        raise UserError(f"{entry.optimizer} has no params to publish: every learning rate has a non-finite lane")
    (rates, seeds), best = entry.score.shape, entry.best
    if position is not None and not 0 <= position < seeds:
        raise UserError(f"position = {position}: expected the index of a seed, 0 to {seeds - 1}")
    lane = int(entry.score[best].argmax() if position is None else position) * rates + best
    kept = (entry.result.kept.optimizer, entry.result.kept.params, entry.result.kept.extra)
    optimizer, params, extra = jax.tree.map(lambda leaf: np.asarray(leaf)[lane], kept)
    return evaluation_params(optimizer, params), extra
