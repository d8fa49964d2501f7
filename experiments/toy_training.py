"""Train recurrent cells on toy problems: lengths, learning rates and seeds are lanes of one program."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from mllab import memory, optimizers, rows, sweep, training
from mllab.data.sets import toy_sequences
from mllab.data.sets.toy_sequences import Problem, Sequence
from mllab.errors import UserError
from mllab.models.base import Model, in_precision, parameter_count
from mllab.models.recurrent import CELLS, readout
from mllab.training import Result, Run
from mllab.types import Array, Examples, Hyper, Losses, Params, Rows

SOURCE = 7  # seed of the key that all sequences are drawn from
MAX_NUMBERS = 2**31 - 1  # of sequences: they are int32
SCORED = 256  # sequences scored at once


class Streams(NamedTuple):
    """The numbers of all sequences: a sequence is a pure function of its number."""

    examples: dict[str, np.ndarray]  # number [N]
    train: Rows  # [G, S, B]: each seed trains on sequences of its own, each of them once
    validation: Rows  # [S', B']
    test: Rows  # [S', B']


def lay_out(seeds: int, steps: int, batch_size: int, held_out: int) -> Streams:
    """Return numbers of sequences to train on, none twice, and of as many `held_out` for validation and for the test.

    Raises:
        UserError: more of them than fit in memory.
    """
    count = seeds * steps * batch_size
    remedy = "lower --steps, --batch_size, --seeds or --held_out"
    memory.check(24.0 * (count + 2 * held_out), f"the numbers of {count:,} sequences", remedy)
    if count + 2 * held_out > MAX_NUMBERS:
        raise UserError(f"{count + 2 * held_out:,} sequences are more than can be numbered: {remedy}")
    numbers = np.arange(count + 2 * held_out, dtype=np.int32)
    train = numbers[:count].reshape(seeds, steps, batch_size)
    size = min(held_out, SCORED)
    return Streams(
        {"number": numbers},
        Rows(train, np.ones(train.shape, np.float32)),
        rows.blocks(numbers[count : count + held_out], size),
        rows.blocks(numbers[count + held_out :], size),
    )


def sequences(problem: Problem, numbers: Array, length: Array, longest: int, beyond: bool = False) -> Sequence:
    """Return the sequences [B, ...] with these numbers [B]; see `toy_sequences.draw`."""
    source = jax.random.key(SOURCE)

    def one(number: Array) -> Sequence:
        return toy_sequences.draw(problem, jax.random.fold_in(source, number), length, longest, beyond)

    return jax.vmap(one)(numbers)


def make_run(problem: Problem, model: Model, optimizer: Callable[[Hyper], Any], longest: int, beyond: bool) -> Run:
    """Return the run that trains a model on a problem of the length `hyper["length"]`, and scores its loss and error.

    Args:
        problem: what to learn.
        model: of its inputs.
        optimizer: hyper -> gradient transformation.
        longest: static size of the arrays.
        beyond: score longer sequences than those of the training, where the problem has such.
    """

    def batch_of(hyper: Hyper, batch: Examples, beyond: bool) -> Sequence:
        return sequences(problem, batch["number"], hyper["length"].astype(jnp.int32), longest, beyond)

    def outputs_of(params: Params, batch: Sequence) -> Array:
        return model.apply(params, None, {"inputs": batch.inputs, "lengths": batch.steps}, None)[0]

    def objective(hyper: Hyper, params: Params, extra: Any, batch: Examples, key: Any) -> tuple[Losses, Any]:
        drawn = batch_of(hyper, batch, False)
        return Losses(losses(problem, outputs_of(params, drawn), drawn.targets), drawn.weights), extra

    def metrics(hyper: Hyper, params: Params, extra: Any, batch: Examples) -> tuple[Mapping[str, Losses], Any]:
        drawn = batch_of(hyper, batch, beyond)
        outputs = outputs_of(params, drawn)
        answers = readout.continued(params, drawn.inputs, drawn.steps // 2) if problem.feedback else outputs
        return {
            "loss": Losses(losses(problem, outputs, drawn.targets), drawn.weights),
            "error": Losses(errors(problem, answers, drawn.targets), drawn.scored),
        }, extra

    return training.supervised(model.init, objective, optimizer, metrics)


def losses(problem: Problem, outputs: Array, targets: Array) -> Array:
    """Return the loss of each step, [B, T]: the squared error of a value, or the cross entropy of a class."""
    if problem.is_value:
        return jnp.square(outputs[..., 0] - targets)
    return optax.softmax_cross_entropy_with_integer_labels(outputs, targets)


def errors(problem: Problem, outputs: Array, targets: Array) -> Array:
    """Return the error of each step, [B, T]: the squared error of a value, or 1 for a wrong class."""
    if problem.is_value:
        return jnp.square(outputs[..., 0] - targets)
    return (jnp.argmax(outputs, axis=-1) != targets).astype(outputs.dtype)


class Trained(NamedTuple):
    """One cell, trained on one problem at every learning rate, length and seed."""

    problem: str
    cell: str
    parameters: int
    result: Result
    grid: sweep.Grid
    validation: np.ndarray  # [R, N, G] errors of the kept params; NaN where a lane went non-finite
    test: np.ndarray  # [R, N, G] errors on held-out sequences, which no choice depends on
    best: list[int | None]  # [N] rate with the least mean validation error; None if each has a non-finite lane

    def params(self, length: int, seed: int) -> Params:
        """Return the kept params at the chosen rate, by positions of length and seed."""
        rates, lengths, _ = self.validation.shape
        lane = (seed * rates + (self.best[length] or 0)) * lengths + length
        return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)[lane]), self.result.kept.params)


def train(
    name: str, problem: Problem, streams: Streams, arguments: Mapping[str, Any], *, rates: tuple[float, ...],
    lengths: tuple[int, ...], seeds: int, steps: int, segments: int, optimizer: str, precision: str = "float32",
    settings: Mapping[str, Any], mesh: Mesh, observe: Callable[[sweep.Grid], list], **drive: Any,
) -> Trained:  # fmt: skip
    """Train one cell on a problem; choose the rate of each length on validation sequences, score the test ones once.

    Args:
        name: of the problem.
        problem: what to learn.
        streams: the numbers of its sequences.
        arguments: of `readout.model` beside features and outputs: cell, hidden, layers.
        rates: learning rates, [R].
        lengths: [N].
        seeds: G.
        steps: of training.
        segments: how often the validation sequences are scored.
        optimizer: a key of `optimizers.OPTIMIZERS`.
        precision: see `base.in_precision`.
        settings: of `optimizers.build`.
        mesh: devices to spread the lanes over.
        observe: grid -> observers of the drive.
        **drive: further arguments of `training.drive`: workdir, checkpoint_seconds.
    """
    model = in_precision(model_of(problem, arguments), precision)
    grid = sweep.grid({"learning_rate": np.asarray(rates), "length": np.asarray(lengths)}, seeds)

    def build(hyper: Hyper) -> Any:
        return optimizers.build(optimizer, hyper["learning_rate"], steps=steps, **settings)

    longest = max(lengths)
    run = sweep.lanes(make_run(problem, model, build, longest, beyond=False), grid.schedule, mesh=mesh)
    result = training.drive(
        run, grid.hyper, grid.key, streams.examples, streams.train, held_out=streams.validation,
        segment=-(-steps // segments), observers=observe(grid), name=f"{name}_{arguments['cell']}",
        fingerprint=f"{problem.total(0)} {sorted({**arguments, **settings, 'optimizer': optimizer}.items())}", **drive,
    )  # fmt: skip
    finite = grid.by_axis(result.nonfinite_step) < 0
    kept = np.argmin(np.nan_to_num(result.history.held_out["loss"], nan=np.inf), axis=0)  # [L] segment
    errors_kept = np.take_along_axis(result.history.held_out["error"], kept[None], axis=0)[0]
    validation = np.where(finite, grid.by_axis(errors_kept), np.nan)
    means = validation.mean(axis=2)  # [R, N]
    best = [None if np.isnan(each).all() else int(np.nanargmin(each)) for each in means.T]
    final = make_run(problem, model, build, longest * (1 + problem.longer), beyond=True)
    scored = jax.jit(sweep.lanes(final, grid.schedule, mesh=mesh).score)
    tested = scored(grid.hyper, result.kept, streams.examples, streams.test)["error"]
    test = np.where(finite, grid.by_axis(tested), np.nan)
    return Trained(name, str(arguments["cell"]), parameter_count(model), result, grid, validation, test, best)


def model_of(problem: Problem, arguments: Mapping[str, Any]) -> Model:
    """Return the model of a problem's inputs and outputs."""
    return readout.model(problem.features, problem.outputs, **arguments)


def check_memory(
    problem: Problem, arguments: Mapping[str, Any], lanes: int, batch_size: int, held_out: int, longest: int
) -> None:
    """Raise UserError for a training of more lanes, or longer sequences, than fit in memory."""
    hidden, layers, cell = arguments["hidden"], arguments["layers"], CELLS[arguments["cell"]]
    gates = cell.gate_count * hidden
    count = float(layers * gates * hidden + gates * problem.features + hidden * hidden)
    what = f"the params and optimizer states of {lanes:,} lanes"
    memory.check(20.0 * count * lanes, what, "lower --hidden, --layers, --seeds, --lengths or --learning_rates")
    steps = problem.total(longest * (1 + problem.longer))
    width = problem.features + layers * (gates + hidden)
    arrays = 4.0 * steps * width * max(batch_size, min(held_out, SCORED))
    memory.check(arrays, "the states of a batch", "lower --lengths, --hidden, --layers, --batch_size or --held_out")
