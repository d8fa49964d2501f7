r"""A training run as three pure functions, and the one host loop that drives them.

$\theta_{s+1}, o_{s+1} = \mathrm{update}\big(\theta_s, o_s, \nabla_\theta \sum_i w_i \ell_i(\theta_s) / \sum_i w_i\big)$
over the losses $\ell_i$ of step $s$, one per example or per token, with weights $w_i$.

`supervised` builds a `Run` from a model, a loss and an optimizer; `drive` walks a schedule segment by segment and
knows neither how many lanes it drives nor over how many devices they are spread.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax.stages import Wrapped

from mllab import checks, hosts
from mllab.checkpoints import Checkpoints
from mllab.errors import UserError
from mllab.losses import per_example
from mllab.models.base import Model
from mllab.rows import SCORED_ROWS, as_ids, as_rows, blocks, gather, mean, weighted
from mllab.types import (
    Array,
    Examples,
    Hyper,
    Key,
    Losses,
    Measure,
    Metrics,
    Objective,
    OptimizerState,
    Outputs,
    Params,
    Rows,
)

WEIGHT_NAMES = ("weight", "weights", "sample_weight")  # of examples: what users call weights of the loss


class State(NamedTuple):
    """The complete state of a run at a step: what a checkpoint holds."""

    step: Array  # [] int32: steps taken
    key: Key  # each step draws from fold_in(key, step)
    params: Params
    extra: Any  # batch statistics, a recurrent carry; None if there is none
    optimizer: OptimizerState


class Run(NamedTuple):
    """A training run as three pure functions; rows are always blocks `[S, B]`."""

    start: Callable[[Hyper, Key], State]
    advance: Callable[[Hyper, State, Examples, Rows], tuple[State, Array]]  # one scan over S steps -> losses [S]
    score: Callable[[Hyper, State, Examples, Rows], Metrics]  # weighted means over any rows


def objective(model: Model, loss: Callable[[Outputs, Any], Losses | Array]) -> Objective:
    """Return the objective of a model on batches `{"inputs", "targets"}`, in training mode.

    Args:
        model: applied with the step's key.
        loss: (outputs, targets) -> losses [B], or `Losses` to weight tokens.

    Raises:
        UserError: batches with weights, when the result is called: it would ignore them.
    """

    def losses(hyper, params, extra, batch, key):
        check_unweighted(batch)
        outputs, extra = model.apply(params, extra, batch["inputs"], key)
        return per_example(loss(outputs, batch["targets"])), extra

    return losses


def measure(model: Model, metrics: Callable[[Outputs, Any], Mapping[str, Losses | Array]]) -> Measure:
    """Return the metrics of a model on batches `{"inputs", "targets"}`, in evaluation mode (no key).

    Args:
        model: applied without a key; the `extra` that it returns goes on to the next block of rows.
        metrics: (outputs, targets) -> {name: values [B], or `Losses` to weight tokens}.
    """

    def values(hyper, params, extra, batch):
        outputs, extra = model.apply(params, extra, batch["inputs"], None)
        return metrics(outputs, batch["targets"]), extra

    return values


def check_unweighted(batch: Examples) -> None:
    """Raise UserError for weights of the examples, which a loss of outputs and targets would ignore."""
    for name in WEIGHT_NAMES:
        if isinstance(batch, Mapping) and name in batch:
            raise UserError(
                f"examples[{name!r}] would be ignored: give an objective that returns Losses(values, weights), or put "
                "them into the weight of Rows"
            )


def supervised(
    init: Callable[[Key], tuple[Params, Any]],
    objective: Objective,
    optimizer: Callable[[Hyper], optax.GradientTransformation],
    metrics: Measure,
    *,
    gather: Callable[[Examples, Array | np.ndarray], Examples] = gather,
    evaluate: Callable[[State], Params] = lambda state: state.params,
) -> Run:
    """Return the run that trains a model by gradient descent.

    `score` reads its rows block by block, in order, and passes `extra` from each block to the next, beginning with the
    state's. So a recurrent carry flows through a sequence; a model without one returns `extra` as it is.

    Args:
        init: key -> (params, extra); extra is None if the objective needs nothing beside params.
        objective: (hyper, params, extra, batch, key) -> (losses, extra). A step's loss is their weighted mean, see
            `types.Losses`.
        optimizer: hyper -> gradient transformation, built inside the program so that every hyper is traced.
        metrics: (hyper, params, extra, batch) -> ({name: losses or values}, extra); their weighted means are returned
            by `score`.
        gather: (examples, ids [B]) -> batch; for windows of one long sequence see `rows.windows`.
        evaluate: state -> the params to score, if these are not the trained ones (averages, schedule-free).
    """

    def transformation(hyper: Hyper) -> optax.GradientTransformationExtraArgs:
        return optax.with_extra_args_support(optimizer(hyper))

    def start(hyper: Hyper, key: Key) -> State:
        init_key, run_key = jax.random.split(key)
        params, extra = init(init_key)
        return State(jnp.zeros((), jnp.int32), run_key, params, extra, transformation(hyper).init(params))

    def advance(hyper: Hyper, state: State, examples: Examples, rows: Rows) -> tuple[State, Array]:
        update = transformation(hyper).update

        def step(state: State, row: Rows) -> tuple[State, Array]:
            batch = gather(examples, row.ids)
            key = jax.random.fold_in(state.key, state.step)

            def mean_loss(params: Params) -> tuple[Array, Any]:
                losses, extra = objective(hyper, params, state.extra, batch, key)
                return mean(losses, row.weight), extra

            (loss, extra), grads = jax.value_and_grad(mean_loss, has_aux=True)(state.params)
            updates, optimizer_state = update(
                grads,
                state.optimizer,
                state.params,
                value=loss,
                grad=grads,
                value_fn=lambda params: mean_loss(params)[0],
            )
            params = optax.apply_updates(state.params, updates)
            return State(state.step + 1, state.key, params, extra, optimizer_state), loss

        return jax.lax.scan(step, state, rows)

    def score(hyper: Hyper, state: State, examples: Examples, rows: Rows) -> Metrics:
        params = evaluate(state)

        def block(extra: Any, row: Rows) -> tuple[Any, tuple[dict[str, Array], dict[str, Array]]]:
            values, extra = metrics(hyper, params, extra, gather(examples, row.ids))
            sums, totals = {}, {}
            for name, value in values.items():
                total = weighted(value, row.weight).weights.sum()
                sums[name] = mean(value, row.weight) * total
                if isinstance(value, Losses):  # otherwise the total is that of `rows.weight`
                    totals[name] = total
            return extra, (sums, totals)

        _, (sums, totals) = jax.lax.scan(block, state.extra, rows)
        return {name: value.sum() / totals.get(name, rows.weight).sum() for name, value in sums.items()}

    return Run(start, advance, score)


class Segment(NamedTuple):
    """The event after each segment of the schedule; arrays have the leading lane axis, if any."""

    number: int  # 0, 1, ...
    step: int  # steps taken by its end
    steps: int  # steps of the whole schedule
    train_loss: np.ndarray  # mean over the segment's steps
    held_out: dict[str, np.ndarray]  # metrics on the held-out rows at its end
    seconds: float  # wall time of the segment
    restored: bool  # replayed from a checkpoint


class Notice(NamedTuple):
    """An event with one line for the user, such as a damaged checkpoint."""

    text: str


class History(NamedTuple):
    """Measurements of each of E segments, [E, ...] with the lane axis, if any; NaN after an early stop."""

    step: np.ndarray  # [E] steps taken
    train_loss: np.ndarray  # [E, ...]
    held_out: dict[str, np.ndarray]  # [E, ...] each; what is no number of each lane has further axes
    seconds: np.ndarray  # [E]


class Result(NamedTuple):
    """The result of a drive."""

    state: State  # at the end of the schedule
    kept: State  # after the segment with the least held-out loss, as early stopping selects
    kept_loss: np.ndarray  # [...]
    nonfinite_step: np.ndarray  # [...] first step whose loss was not finite; -1 if all were finite
    history: History


def drive(
    run: Run,
    hyper: Hyper,
    key: Key,
    examples: Examples,
    schedule: Rows,
    *,
    held_out: Rows | np.ndarray,
    segment: int,
    patience: int | None = None,
    observers: Iterable[Callable[[Segment | Notice], None]] = (),
    workdir: Path | str | None = None,
    name: str = "",
    fingerprint: str = "",
    checkpoint_seconds: float = 10.0,
) -> Result:
    """Run the schedule to its end, segment by segment: the one host loop.

    Args:
        run: one run, or many (`sweep.lanes`); the metric named `loss` selects the params to keep.
        hyper: the run's settings.
        key: the run's key.
        examples: data, gathered by rows inside the program: a tree of arrays with leading N.
        schedule: rows [S, B] or [P, S, B]; a single run, with a single key, reads the one schedule of [1, S, B].
        held_out: rows [S', B'] or row ids [M] to score after each segment, or rows [P, S', B'] of lanes that read the
            schedules [P, S, B] in the same order; never test rows.
        segment: steps per segment (the last may be shorter).
        patience: stop when no lane's held-out loss has improved for this many segments (None: never).
        observers: callables that receive every event, a `Segment` or a `Notice`. A method `begin` of one is called
            first, with a function that returns the jaxprs of `advance` over a segment and of `score`.
        workdir: folder for `checkpoints/<name>`; a checkpoint found there is resumed, to the same bits.
        name: distinguishes the drives of one workdir.
        fingerprint: extra text hashed into the checkpoint's identity; a checkpoint with another one is refused.
        checkpoint_seconds: wall time between checkpoints.

    Raises:
        UserError: arguments of another type or shape, or out of range; metrics without a `loss` of each lane; the
            workdir holds a checkpoint of another drive, or a checkpoint could not be written.
    """
    examples, schedule, held_out = _checked(key, examples, schedule, held_out)
    checks.check_whole(1, segment=segment, **({} if patience is None else {"patience": patience}))
    start, advance, score, keep = _compiled(run)
    observers = tuple(observers)

    def notify(event: Segment | Notice) -> None:
        for observer in observers:
            observer(event)

    steps = schedule.ids.shape[-2]
    ends = [*range(segment, steps, segment), steps]

    if hosts.several():  # a key lies on one device of its host, where programs of all hosts cannot read it
        key = hosts.place(key, hosts.everywhere())
    state = start(hyper, key)
    scored = jax.eval_shape(score, hyper, state, examples, held_out)
    if "loss" not in scored:
        names = ", ".join(map(repr, scored)) or "nothing"
        raise UserError(f"metrics return {names}, not 'loss', which selects the params to keep: add it")
    # `kept` needs buffers of its own, hence a second start: `state` is donated to `advance`.
    kept, record = start(hyper, key), Record.empty(len(ends), scored)
    # The names of these entries are hashed too: renaming one would orphan the checkpoints that exist.
    inputs = {"hyper": hyper, "key": key, "examples": examples, "rows": (schedule, held_out), "ends": np.asarray(ends)}
    inputs["about"] = np.frombuffer(fingerprint.encode(), np.uint8)
    checkpoints = Checkpoints(Path(workdir) / "checkpoints" / name, inputs) if workdir else None
    if hosts.several():
        hosts.check_alike("data, rows or settings", (checkpoints or Checkpoints(Path(), inputs)).identity)
    lanes = scored["loss"].shape

    def remembered() -> Memory:
        return Memory(_without_padding(state, lanes), _without_padding(kept, lanes), record)

    # The first process reads and writes checkpoints, so that several hosts need no common folder.
    reads = checkpoints is not None and hosts.is_first() and bool(checkpoints.steps())
    if hosts.from_first(np.array(reads)):
        template = remembered()
        memory = template
        if checkpoints and hosts.is_first():
            memory = checkpoints.restore(template, lambda text: notify(Notice(text)))
        if hosts.from_first(np.array(memory is not template)):
            memory = hosts.from_first(memory)
            state, kept, record = _padded(memory.state, state), _padded(memory.kept, kept), memory.record

    def save() -> None:
        if checkpoints is None:
            return
        memory = remembered()
        if hosts.is_first():
            checkpoints.save(int(record.done), memory)

    for number in range(int(record.done)):
        notify(record.segment(number, ends, restored=True))

    def programs() -> tuple[Any, Any]:
        of_segment = Rows(*(array[..., : ends[0], :] for array in schedule))
        return (
            jax.make_jaxpr(run.advance)(hyper, state, examples, of_segment),
            jax.make_jaxpr(run.score)(hyper, state, examples, held_out),
        )

    for observer in observers:
        if begin := getattr(observer, "begin", None):
            begin(programs)
    began_drive = last_save = time.monotonic()
    while record.done < len(ends) and not (patience is not None and np.all(record.stale >= patience)):
        began_segment = time.perf_counter()
        number = int(record.done)
        first = ends[number - 1] if number else 0
        rows = Rows(*(array[..., first : ends[number], :] for array in schedule))
        state, losses = advance(hyper, state, examples, rows)
        metrics = score(hyper, state, examples, held_out)
        # A copy: JAX may read the host array in place, even after another device has delivered its part of the result.
        kept, better = keep(metrics["loss"], record.kept_loss.copy(), state, kept)
        losses, metrics, better = hosts.fetch((losses, metrics, better))
        record.add(first, losses, metrics, better, time.perf_counter() - began_segment)
        notify(record.segment(number, ends, restored=False))
        is_due = hosts.from_first(np.array(time.monotonic() - last_save >= checkpoint_seconds))
        is_preempted = hosts.preempted()
        if is_due or is_preempted:
            save()
            last_save = time.monotonic()
        if is_preempted:
            saved = f"saved after step {ends[number]:,}; the same command resumes there"
            raise UserError(f"a host is taken away: {saved if checkpoints else 'without a workdir nothing is saved'}")
    # Save the end of a long drive: repeating many such drives could take longer than the interval.
    took_long = time.monotonic() - began_drive > checkpoint_seconds / 4
    newest = checkpoints.steps()[-1:] if checkpoints and hosts.is_first() else []
    if checkpoints and hosts.from_first(np.array(newest != [record.done] and took_long)):
        save()
    if hosts.several():
        state, kept = hosts.fetch((state, kept))

    history = History(np.asarray(ends), record.train_loss, record.held_out, record.seconds)
    return Result(state, kept, record.kept_loss, record.nonfinite_step, history)


def _checked(key: Key, examples: Examples, schedule: Rows, held_out: Rows | np.ndarray) -> tuple[Examples, Rows, Rows]:
    """Return the examples and rows of a drive as arrays; see there."""
    checks.check_key(key)
    examples = checks.check_examples(examples, names=())
    count = len(jax.tree.leaves(examples)[0])
    schedule = as_rows(schedule, ("[S, B]", "[P, S, B]"), "schedule", count)
    is_single = key.shape == () if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key.ndim == 1
    if is_single and schedule.ids.ndim == 3:
        if len(schedule.ids) > 1:
            raise UserError(f"schedule: {len(schedule.ids)} schedules for a single run: give one, or `sweep.lanes`")
        schedule = Rows(schedule.ids[0], schedule.weight[0])
    if not isinstance(held_out, Rows):
        ids = as_ids(held_out, "held_out", count)
        held_out = blocks(ids, min(SCORED_ROWS, len(ids)))
    axes = ("[S, B]", "[P, S, B]") if schedule.ids.ndim == 3 else ("[S, B]",)
    held_out = as_rows(held_out, axes, "held_out", count)
    if held_out.ids.ndim == 3 and len(held_out.ids) != len(schedule.ids):
        raise UserError(f"held_out: {len(held_out.ids)} sets of rows for {len(schedule.ids)} schedules: give as many")
    return examples, schedule, held_out


@struct.dataclass
class Record:
    """The host's record of a drive, as a pytree of NumPy arrays that are written in place."""

    done: np.ndarray  # [] segments done
    kept_loss: np.ndarray  # [...] least held-out loss so far
    stale: np.ndarray  # [...] segments since it last improved
    nonfinite_step: np.ndarray  # [...] first step with a non-finite loss, or -1
    train_loss: np.ndarray  # [E, ...] mean over each segment
    held_out: dict[str, np.ndarray]  # [E, ...] each
    seconds: np.ndarray  # [E]

    @classmethod
    def empty(cls, segments: int, scored: Metrics) -> "Record":
        """Return the record before the first segment of `segments`; `scored` has the shapes of the metrics."""
        lanes, dtype = scored["loss"].shape, scored["loss"].dtype
        return cls(
            done=np.zeros((), np.int32),
            kept_loss=np.full(lanes, np.inf, dtype),
            stale=np.zeros(lanes, np.int32),
            nonfinite_step=np.full(lanes, -1, np.int32),
            train_loss=np.full((segments, *lanes), np.nan, dtype),
            held_out={
                name: np.full((segments, *each.shape), _missing(each), each.dtype) for name, each in scored.items()
            },
            seconds=np.full(segments, np.nan),
        )

    def add(self, first: int, losses: np.ndarray, metrics: Metrics, better: np.ndarray, seconds: float) -> None:
        """Add the next segment, which began after step `first` and had losses [..., S]."""
        number = int(self.done)
        self.kept_loss[...] = np.where(better, metrics["loss"], self.kept_loss)
        self.stale[...] = np.where(better, 0, self.stale + 1)
        bad = ~np.isfinite(losses)
        diverged = bad.any(axis=-1) | ~np.isfinite(metrics["loss"])
        # If only the held-out loss is not finite, the segment's last update caused it.
        step = first + np.where(bad.any(axis=-1), bad.argmax(axis=-1), losses.shape[-1] - 1)
        self.nonfinite_step[...] = np.where((self.nonfinite_step < 0) & diverged, step, self.nonfinite_step)
        self.train_loss[number] = losses.mean(axis=-1)
        for name, values in metrics.items():
            self.held_out[name][number] = values
        self.seconds[number] = seconds
        self.done[...] = number + 1

    def segment(self, number: int, ends: list[int], restored: bool) -> Segment:
        """Return the event of a segment that is done."""
        held_out = {name: values[number] for name, values in self.held_out.items()}
        seconds = float(self.seconds[number])
        return Segment(number, ends[number], ends[-1], self.train_loss[number], held_out, seconds, restored)


def _missing(values: Array | jax.ShapeDtypeStruct) -> float:
    """Return what stands for values that were not measured: NaN, or 0 among whole numbers."""
    return np.nan if jnp.issubdtype(values.dtype, jnp.inexact) else 0


class Memory(NamedTuple):
    """What a checkpoint of a drive holds."""

    state: State
    kept: State
    record: Record


def compile_ahead(
    run: Run, hyper: Hyper, key: Key, examples: Examples, schedule: Rows, *, held_out: Rows, segment: int
) -> None:
    """Compile the programs that `drive` with the same arguments calls, without running them; thread-safe."""
    start, advance, score, keep = _compiled(run)
    placed = start.lower(hyper, key).compile().output_shardings
    state = jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        jax.eval_shape(start, hyper, key),
        placed,
    )
    rows = Rows(*(array[..., :segment, :] for array in schedule))
    advance.lower(hyper, state, examples, rows).compile()
    metrics = score.lower(hyper, state, examples, held_out)
    least = metrics.out_info["loss"]
    loss = jax.ShapeDtypeStruct(least.shape, least.dtype, sharding=metrics.compile().output_shardings["loss"])
    keep.lower(loss, least, state, state).compile()


def _compiled(run: Run) -> tuple[Wrapped, Wrapped, Wrapped, Wrapped]:
    """Return the run's functions under `jit`, which caches programs by function: a second drive compiles nothing."""
    return (
        jax.jit(run.start),
        jax.jit(run.advance, donate_argnums=1),
        jax.jit(run.score),
        jax.jit(_keep, donate_argnums=3),
    )


def _without_padding(state: State, lanes: tuple[int, ...]) -> State:
    """Return the state on the host without the padding lanes of a sweep, whose number depends on the devices."""
    host = jax.tree.map(lambda leaf: leaf if hosts.is_key(leaf) else np.array(leaf), hosts.fetch(state))
    return jax.tree.map(lambda leaf: leaf[: lanes[0]], host) if lanes else host


def _padded(state: State, like: State) -> State:
    """Return a state without padding lanes, padded by its last lane to the shapes and shardings of `like`."""

    def place(leaf: Any, like: Array) -> Array:
        missing = like.shape[0] - leaf.shape[0] if like.ndim else 0
        return hosts.place(jnp.concatenate([leaf, *[leaf[-1:]] * missing]) if missing else leaf, like.sharding)

    return jax.tree.map(place, state, like)


def _keep(loss: Array, least: Array, state: State, kept: State) -> tuple[State, Array]:
    """Return `state` for the lanes whose loss is below `least`, `kept` for the others; and the mask of the former."""
    better = loss < least  # False for NaN

    def choose(new: Array, old: Array) -> Array:
        # Padding lanes of a sweep are past the end of `better`; they follow the last lane, which they repeat.
        mask = better if better.ndim == 0 else jnp.pad(better, (0, new.shape[0] - better.shape[0]), mode="edge")
        return jnp.where(mask.reshape(mask.shape + (1,) * (new.ndim - mask.ndim)), new, old)

    return jax.tree.map(choose, state, kept), better
