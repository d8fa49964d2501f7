"""Train character-level language models by truncated backpropagation through time, score them, and let them write."""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from experiments.char_parts import Streams, repeated
from experiments.rate_choice import TrainedLanes
from mllab import devices, memory, optimizers, rows, sweep, text_models, training
from mllab.averaging import evaluation_params
from mllab.models.base import Model, in_precision, parameter_count
from mllab.models.recurrent import CELLS, sampling
from mllab.types import Array, Examples, Losses, Metrics, Params, Rows


def objective(model: Model) -> Callable:
    """Return the loss of each character in nats, `Losses` [B, T], and the carry after the window, if there is one."""

    def losses(hyper: Any, params: Params, extra: Any, batch: Examples, key: Any) -> tuple[Losses, Any]:
        inputs = batch["tokens"]
        if extra is not None:
            inputs = {"tokens": inputs, "reset": batch["begins"][:, 0]}
        logits, extra = model.apply(params, extra, inputs, key)
        values = optax.softmax_cross_entropy_with_integer_labels(logits, batch["targets"])
        return Losses(values, batch["weights"]), extra

    return losses


def make_run(model: Model, optimizer: Callable[[Mapping[str, Array]], Any], window: int) -> training.Run:
    """Return the run that trains a language model on windows of a text; its one metric is the loss in nats."""
    loss = objective(model)

    def metrics(hyper: Any, params: Params, extra: Any, batch: Examples) -> tuple[dict[str, Losses], Any]:
        values, extra = loss(hyper, params, extra, batch, None)
        return {"loss": values}, extra

    return training.supervised(
        model.init, loss, optimizer, metrics,
        gather=functools.partial(rows.windows, size=window),
        evaluate=lambda state: evaluation_params(state.optimizer, state.params),
    )  # fmt: skip


class Writing(NamedTuple):
    """How a model writes."""

    prime: np.ndarray  # ids [P] of the characters before, P of 1 or more
    length: int  # characters
    filters: Mapping[str, Any]  # temperature, top_k and top_p of `sampling.sample`


def with_samples(run: training.Run, model: Model, writing: Writing) -> training.Run:
    """Return a run whose score has what the model writes as well: `sample`, int [length].

    Its key is that of the run's step, so that a run that is resumed has the same samples.
    """

    def score(hyper: Any, state: training.State, examples: Examples, rows: Rows) -> Metrics:
        params = evaluation_params(state.optimizer, state.params)
        key = jax.random.fold_in(state.key, state.step)
        carry, prime = text_models.begin(params, jnp.asarray(writing.prime)[None])
        tokens = sampling.sample(model, params, carry, key, prime, length=writing.length, **writing.filters)
        return {**run.score(hyper, state, examples, rows), "sample": tokens[0]}

    return run._replace(score=score)


@dataclass(frozen=True, kw_only=True)
class Trained(TrainedLanes):
    """One cell, trained with every learning rate and seed; losses are in nats per character."""

    cell: str
    arguments: dict[str, Any]  # of the model
    parameters: int
    test: np.ndarray  # [R, G] losses of the kept params, which no choice depends on


def train(
    streams: Streams, vocabulary: str, arguments: Mapping[str, Any], *, regularisation: Mapping[str, float | bool],
    rates: tuple[float, ...], seeds: int, steps: int, segments: int, window: int, optimizer: str,
    settings: Mapping[str, Any], writing: Writing, mesh: Mesh, observe: Callable[[sweep.Grid], list],
    precision: str = "float32", **drive: Any,
) -> Trained:  # fmt: skip
    """Train one cell with every learning rate and seed; choose the rate on the validation part, score the test part.

    Args:
        streams: the text.
        vocabulary: its characters.
        arguments: of `text_models.make`: cell, hidden, layers, ...
        regularisation: what its training alone depends on: rates of dropout, initialisation.
        rates: learning rates, [R].
        seeds: G.
        steps: of training.
        segments: how often the validation part is scored.
        window: characters a step.
        optimizer: a key of `optimizers.OPTIMIZERS`.
        precision: see `base.in_precision`.
        settings: of `optimizers.build`.
        writing: what each lane writes after each segment.
        mesh: devices to spread the lanes over.
        observe: grid -> observers of the drive.
        **drive: further arguments of `training.drive`: workdir, checkpoint_seconds.

    Raises:
        UserError: sizes that do not fit in memory, or settings that the model or the optimizer refuses.
    """
    one_pass = streams.rows["train"]
    batch_size = one_pass.ids.shape[1]
    carried = {} if arguments["cell"] == text_models.TRANSFORMER else {"batch_size": batch_size}
    model = in_precision(text_models.make(vocabulary, arguments, **regularisation, **carried), precision)
    lanes = len(rates) * seeds
    parameters = check_memory(model, arguments, len(vocabulary), lanes, batch_size, window, steps)
    grid = sweep.grid({"learning_rate": np.asarray(rates)}, seeds)

    def build(hyper: Mapping[str, Array]) -> Any:
        return optimizers.build(optimizer, hyper["learning_rate"], steps=steps, **settings)

    # The activations of a window, not a lane's state, fill the cache. Where lanes leave devices idle, the rows of each
    # batch are spread instead.
    one = with_samples(make_run(model, build, window), model, writing)
    if sweep.leaves_idle(lanes, mesh, uneven=True):
        run = sweep.batches(one, grid.schedule, mesh=mesh)
    else:
        run = sweep.lanes(one, grid.schedule, mesh=mesh, group=devices.lanes_of_long_steps(mesh))
    result = training.drive(
        run, grid.hyper, grid.key, streams.examples, repeated(one_pass, steps),
        held_out=streams.rows["validation"], segment=-(-steps // segments), observers=observe(grid),
        name=str(arguments["cell"]),
        fingerprint=f"{sorted({**arguments, **regularisation, **settings, 'optimizer': optimizer}.items())}"
        f"{writing.prime.tolist()} {writing.length} {sorted(writing.filters.items())}",
        **drive,
    )  # fmt: skip
    tested = jax.jit(lambda *arguments: run.score(*arguments)["loss"])(  # without samples
        grid.hyper, result.kept, streams.examples, streams.rows["test"]
    )
    scored_lanes = TrainedLanes(result=result, grid=grid)
    return Trained(
        result=result, grid=grid, cell=str(arguments["cell"]), arguments=dict(arguments), parameters=parameters,
        test=scored_lanes.finite(tested),
    )  # fmt: skip


def check_memory(
    model: Model, arguments: Mapping[str, Any], vocabulary: int, lanes: int, batch_size: int, window: int, steps: int
) -> int:
    """Return the number of parameters, after a check that a training fits in memory.

    Raises:
        UserError: it does not.
    """
    schedule = 8.0 * batch_size * steps
    memory.check(schedule, f"the windows of {steps:,} steps", "lower --steps or --batch_size")
    memory.check(16.0 * batch_size * window, "the characters of a batch", "lower --batch_size or --window")
    count, states = sizes(arguments, vocabulary, window)
    what = f"the params and optimizer states of {lanes:,} lanes"
    remedy = "lower --hidden, --embedding, --layers, --seeds or the number of --learning_rates"
    memory.check(4.0 * 5 * count * lanes, what, remedy)  # params, two moments, the kept params, gradients
    arrays = 4.0 * batch_size * window * (2 * vocabulary + states)
    memory.check(arrays, "the states and outputs of a batch", "lower --batch_size, --window, --hidden or --layers")
    return parameter_count(model)


def sizes(arguments: Mapping[str, Any], vocabulary: int, window: int) -> tuple[float, float]:
    """Return the numbers of a model's params, nearly, and of what is kept of each character for the gradient."""
    layers = arguments["layers"]
    if arguments["cell"] == text_models.TRANSFORMER:
        width = arguments["width"]
        return float(width * (vocabulary + window + 12 * width * layers)), layers * (
            16.0 * width + 3.0 * arguments["heads"] * window
        )
    hidden, width = arguments["hidden"], arguments["embedding"]
    gates = CELLS[arguments["cell"]].gate_count * hidden
    count = float(vocabulary * (width + hidden) + (width + hidden * (2 * layers - 1)) * gates)
    return count, float(layers * (gates + hidden))


def surprise(model: Model, params: Params, ids: np.ndarray) -> np.ndarray:
    """Return the surprise -log2 P of each character after the first, in bits, [N - 1].

    Nothing is carried from before. A Transformer reads windows that overlap by half, so that each character after the
    first window is predicted from half a context or more.
    """
    count, context = len(ids) - 1, text_models.context_of(params) or len(ids) - 1
    size, step = min(context, count), max(1, min(context, count) // 2)
    starts = np.minimum(np.arange(0, max(1, count - size + step), step), count - size)
    windows = starts[:, None] + np.arange(size)
    logits, _ = jax.jit(model.apply, static_argnums=3)(params, None, jnp.asarray(ids[windows]), None)
    logs = np.asarray(jax.nn.log_softmax(logits))
    bits = np.empty(count)
    for start, of_window in zip(starts[::-1], logs[::-1], strict=True):  # the first window that has it all counts
        fresh = 0 if start == 0 else size - step
        places = np.arange(start + fresh, start + size)
        bits[places] = -of_window[places - start, ids[places + 1]] / math.log(2)
    return bits
