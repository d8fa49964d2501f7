r"""A training run as three pure functions, and the one host loop that drives them.

$\theta_{s+1}, o_{s+1} = \mathrm{update}\big(\theta_s, o_s, \nabla_\theta \sum_i w_i \ell_i(\theta_s) / \sum_i w_i\big)$
over the rows $i$ of step $s$, with weights $w$.

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

from mllab.checkpoints import Checkpoints
from mllab.errors import UserError
from mllab.models.base import Model
from mllab.rows import gather, mean
from mllab.types import Array, Examples, Hyper, Key, Metrics, Outputs, Params, Rows


class State(NamedTuple):
    """All that a run is at a step: what a checkpoint holds."""

    step: Array  # [] int32: steps taken
    key: Key  # each step draws from fold_in(key, step)
    params: Params
    extra: Any  # batch statistics, averaged params, a recurrent carry; None where there is none
    optimizer: optax.OptState


class Run(NamedTuple):
    """A training run as three pure functions; rows are always blocks `[S, B]`."""

    start: Callable[[Hyper, Key], State]
    advance: Callable[[Hyper, State, Examples, Rows], tuple[State, Array]]  # one scan over S steps -> losses [S]
    score: Callable[[Hyper, State, Examples, Rows], Metrics]  # weighted means over any rows


Objective = Callable[[Hyper, Params, Any, Examples, Key], tuple[Array, Any]]
Measure = Callable[[Hyper, Params, Any, Examples], Mapping[str, Array]]


def objective(model: Model, loss: Callable[[Outputs, Any], Array]) -> Objective:
    """Return `loss(outputs, targets)` of each example of `{"inputs", "targets"}`, in training mode."""

    def losses(hyper, params, extra, examples, key):
        outputs, extra = model.apply(params, extra, examples["inputs"], key)
        return loss(outputs, examples["targets"]), extra

    return losses


def measure(model: Model, metrics: Callable[[Outputs, Any], Mapping[str, Array]]) -> Measure:
    """Return `metrics(outputs, targets)` of each example of `{"inputs", "targets"}`, as published."""

    def values(hyper, params, extra, examples):
        outputs, _ = model.apply(params, extra, examples["inputs"], None)
        return metrics(outputs, examples["targets"])

    return values


def supervised(
    init: Callable[[Key], tuple[Params, Any]],
    objective: Objective,
    optimizer: Callable[[Hyper], optax.GradientTransformation],
    metrics: Measure,
    *,
    evaluate: Callable[[State], Params] = lambda state: state.params,
) -> Run:
    """Return the run that trains a model by gradients.

    Args:
        init: key -> (params, extra); extra is None where the objective keeps nothing beside params.
        objective: (hyper, params, extra, examples, key) -> (losses [B], extra).
        optimizer: hyper -> gradient transformation. It is built inside the program, so every hyper is traced.
        metrics: (hyper, params, extra, examples) -> {name: values [B]}; means are taken here.
        evaluate: state -> the params to score, where these are not the trained ones (averaged, schedule-free).
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

        def block(row: Rows) -> dict[str, Array]:
            values = metrics(hyper, params, state.extra, gather(examples, row.ids))
            return {name: mean(value, row.weight) * row.weight.sum() for name, value in values.items()}

        sums = jax.lax.map(block, rows)
        return {name: value.sum() / rows.weight.sum() for name, value in sums.items()}

    return Run(start, advance, score)


class Segment(NamedTuple):
    """What observers are told after each segment of the schedule; arrays have the lanes' leading axes, if any."""

    number: int  # 0, 1, ...
    step: int  # steps taken by its end
    steps: int  # of the whole schedule
    train_loss: np.ndarray  # mean over the segment's steps
    held_out: dict[str, np.ndarray]  # metrics on the held-out rows at its end
    seconds: float  # wall time of the segment
    restored: bool  # told again, from a checkpoint


class Notice(NamedTuple):
    """A line for whoever watches: a checkpoint that could not be read, say."""

    text: str


class History(NamedTuple):
    """What was seen, segment by segment: [E, ...] with the lanes' axes, if any; NaN past an early stop."""

    step: np.ndarray  # [E] steps taken
    train_loss: np.ndarray  # [E, ...]
    held_out: dict[str, np.ndarray]  # [E, ...] each
    seconds: np.ndarray  # [E]


class Result(NamedTuple):
    """What a drive ends with."""

    state: State  # at the end of the schedule
    kept: State  # where the held-out loss was least: early stopping's choice
    kept_loss: np.ndarray  # [...]
    nonfinite_step: np.ndarray  # [...] first step whose loss was not finite; -1 where all were
    history: History


def drive(
    run: Run,
    hyper: Hyper,
    key: Key,
    examples: Examples,
    schedule: Rows,
    *,
    held_out: Rows,
    segment: int,
    patience: int | None = None,
    observe: Iterable[Callable[[Segment | Notice], None]] = (),
    workdir: Path | None = None,
    name: str = "",
    about: str = "",
    checkpoint_seconds: float = 10.0,
) -> Result:
    """Run the schedule to its end, segment by segment: the one host loop.

    Args:
        run: one run, or many (`sweep.lanes`); one of its metrics is called `loss`, and is to be least.
        hyper: the run's settings.
        key: the run's key.
        examples: data, gathered by rows inside the program.
        schedule: rows [S, B] or [P, S, B].
        held_out: rows [S', B'] scored after each segment; never test rows.
        segment: steps a segment (the last may be shorter).
        patience: stop when no lane's held-out loss has improved for so many segments (None: never).
        observe: each is told every `Segment` and `Notice`.
        workdir: where `checkpoints/<name>` goes; what stands there is resumed, to the same bits.
        name: this drive's name among those of the workdir.
        about: what else tells this drive from another; a checkpoint is resumed only if it, too, is the same.
        checkpoint_seconds: wall time between checkpoints.

    Raises:
        UserError: the workdir's checkpoint was made by another drive, or could not be written.
    """
    if segment < 1:
        raise UserError(f"segment = {segment}: a segment has 1 step or more")
    start, advance, score, keep = _compiled(run)
    tell = _teller(observe)
    steps = schedule.ids.shape[-2]
    ends = [*range(segment, steps, segment), steps]

    state = start(hyper, key)
    scored = jax.eval_shape(score, hyper, state, examples, held_out)
    # The first of `kept` is a start of its own, not a copy: `advance` takes over the buffers that it is given.
    kept, record = start(hyper, key), Record.empty(len(ends), scored)
    of = {"hyper": hyper, "key": key, "examples": examples, "rows": (schedule, held_out), "ends": np.asarray(ends)}
    of["about"] = np.frombuffer(about.encode(), np.uint8)
    saved = Checkpoints(workdir / "checkpoints" / name, of) if workdir else None
    lanes = scored["loss"].shape
    if saved and saved.steps():
        template = Memory(_cut(state, lanes), _cut(kept, lanes), record)
        memory = saved.restore(template, lambda text: tell(Notice(text)))
        if memory is not template:
            state, kept, record = _stretched(memory.state, state), _stretched(memory.kept, kept), memory.record

    def save() -> None:
        if saved:
            saved.save(int(record.done), Memory(_cut(state, lanes), _cut(kept, lanes), record))

    for number in range(int(record.done)):
        tell(record.segment(number, ends, restored=True))

    began_drive = written = time.monotonic()
    while record.done < len(ends) and not (patience and np.all(record.stale >= patience)):
        began = time.perf_counter()
        number = int(record.done)
        first = ends[number - 1] if number else 0
        rows = Rows(*(array[..., first : ends[number], :] for array in schedule))
        state, losses = advance(hyper, state, examples, rows)
        metrics = score(hyper, state, examples, held_out)
        # A copy: JAX may read the host's own memory, and on one device still do so when another is done.
        kept, better = keep(metrics["loss"], record.kept_loss.copy(), state, kept)
        losses, metrics, better = jax.device_get((losses, metrics, better))
        record.add(first, losses, metrics, better, time.perf_counter() - began)
        tell(record.segment(number, ends, restored=False))
        if time.monotonic() - written >= checkpoint_seconds:
            save()
            written = time.monotonic()
    # An ended drive is worth keeping if it took long: many in a row would add up to more than the interval.
    if saved and saved.steps()[-1:] != [record.done] and time.monotonic() - began_drive > checkpoint_seconds / 4:
        save()

    history = History(np.asarray(ends), record.train_loss, record.held_out, record.seconds)
    return Result(state, kept, record.kept_loss, record.nonfinite_step, history)


@struct.dataclass
class Record:
    """What the host remembers of a drive, as a pytree of NumPy arrays that are written in place."""

    done: np.ndarray  # [] segments done
    kept_loss: np.ndarray  # [...] least held-out loss so far
    stale: np.ndarray  # [...] segments since it last improved
    nonfinite_step: np.ndarray  # [...] -1 while all is finite
    train_loss: np.ndarray  # [E, ...] mean over each segment
    held_out: dict[str, np.ndarray]  # [E, ...] each
    seconds: np.ndarray  # [E]

    @classmethod
    def empty(cls, segments: int, scored: Metrics) -> "Record":
        """Return the record before the first of so many segments."""
        lanes, dtype = scored["loss"].shape, scored["loss"].dtype
        return cls(
            done=np.zeros((), np.int32),
            kept_loss=np.full(lanes, np.inf, dtype),
            stale=np.zeros(lanes, np.int32),
            nonfinite_step=np.full(lanes, -1, np.int32),
            train_loss=np.full((segments, *lanes), np.nan, dtype),
            held_out={name: np.full((segments, *lanes), np.nan, dtype) for name in scored},
            seconds=np.full(segments, np.nan),
        )

    def add(self, first: int, losses: np.ndarray, metrics: Metrics, better: np.ndarray, seconds: float) -> None:
        """Write down the next segment, which began after step `first` and had losses [..., S]."""
        number = int(self.done)
        self.kept_loss[...] = np.where(better, metrics["loss"], self.kept_loss)
        self.stale[...] = np.where(better, 0, self.stale + 1)
        bad = ~np.isfinite(losses)
        lost = bad.any(axis=-1) | ~np.isfinite(metrics["loss"])
        # A segment that its held-out loss alone betrays went wrong in its last update.
        step = first + np.where(bad.any(axis=-1), bad.argmax(axis=-1), losses.shape[-1] - 1)
        self.nonfinite_step[...] = np.where((self.nonfinite_step < 0) & lost, step, self.nonfinite_step)
        self.train_loss[number] = losses.mean(axis=-1)
        for name, values in metrics.items():
            self.held_out[name][number] = values
        self.seconds[number] = seconds
        self.done[...] = number + 1

    def segment(self, number: int, ends: list[int], restored: bool) -> Segment:
        """Return what observers are told of a segment that is done."""
        held_out = {name: values[number] for name, values in self.held_out.items()}
        seconds = float(self.seconds[number])
        return Segment(number, ends[number], ends[-1], self.train_loss[number], held_out, seconds, restored)


class Memory(NamedTuple):
    """All that a drive needs to go on: what its checkpoints hold."""

    state: State
    kept: State
    record: Record


def compile_ahead(
    run: Run, hyper: Hyper, key: Key, examples: Examples, schedule: Rows, *, held_out: Rows, segment: int
) -> None:
    """Compile what `drive` with the same arguments will call, and run nothing; XLA lets threads do so side by side."""
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
    """Return the run's functions under jit, which remembers programs by the function: a second drive compiles none."""
    return (
        jax.jit(run.start),
        jax.jit(run.advance, donate_argnums=1),
        jax.jit(run.score),
        jax.jit(_keep, donate_argnums=3),
    )


def _cut(state: State, lanes: tuple[int, ...]) -> State:
    """Return the state on the host without the padding of a spread sweep, which depends on the devices."""
    host = jax.tree.map(lambda leaf: leaf if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else np.array(leaf), state)
    return jax.tree.map(lambda leaf: leaf[: lanes[0]], host) if lanes else host


def _stretched(state: State, like: State) -> State:
    """Return a state that was cut, padded by its last lane and placed as another is."""

    def place(leaf: Any, like: Array) -> Array:
        missing = like.shape[0] - leaf.shape[0] if like.ndim else 0
        return jax.device_put(jnp.concatenate([leaf, *[leaf[-1:]] * missing]) if missing else leaf, like.sharding)

    return jax.tree.map(place, state, like)


def _keep(loss: Array, least: Array, state: State, kept: State) -> tuple[State, Array]:
    """Return `state` for the lanes whose loss is less than the least so far, `kept` for the others; and which."""
    better = loss < least  # never for NaN

    def choose(new: Array, old: Array) -> Array:
        # Padding lanes of a spread sweep, past the end of `better`, go as the last lane, which they repeat.
        mask = better if better.ndim == 0 else jnp.pad(better, (0, new.shape[0] - better.shape[0]), mode="edge")
        return jnp.where(mask.reshape(mask.shape + (1,) * (new.ndim - mask.ndim)), new, old)

    return jax.tree.map(choose, state, kept), better


def _teller(observers: Iterable[Callable[[Segment | Notice], None]]) -> Callable[[Segment | Notice], None]:
    observers = tuple(observers)

    def tell(event: Segment | Notice) -> None:
        for observer in observers:
            observer(event)

    return tell
