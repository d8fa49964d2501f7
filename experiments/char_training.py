"""Train character-level language models by truncated backpropagation through time, and score them by position.

The text is split by position: 81% to train, 9% to choose, the last 10% to report. Each part is divided among the rows
of a batch (`rows.streams`), whose carries flow from window to window and are reset where a row begins.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from mllab import memory, optimizers, rows, sweep, text_models, training
from mllab.averaging import evaluation_params
from mllab.data.readers.characters import Characters
from mllab.errors import UserError
from mllab.models.base import Model
from mllab.models.recurrent import CELLS
from mllab.training import Result
from mllab.types import Array, Examples, Losses, Params, Rows

TRAIN, CHOOSE = 0.81, 0.9  # where the training and the validation part end
PARTS = ("train", "validation", "test")


class Streams(NamedTuple):
    """A text laid out in parts, and the windows of each part."""

    examples: dict[str, np.ndarray]  # tokens, targets, weights and begins, [N] each
    rows: dict[str, Rows]  # by part: one pass over it, [S, B]
    counts: dict[str, int]  # by part: characters that are predicted


def lay_out(text: Characters, batch_size: int, window: int) -> Streams:
    """Return the parts of a text one after another, each followed by `window` positions of weight 0.

    In a part of M characters, the M - 1 from the second on are predicted, each once.

    Raises:
        UserError: a part that is shorter than one window and the character after it.
    """
    count = len(text.ids)
    bounds = [0, round(TRAIN * count), round(CHOOSE * count), count]
    parts = dict(zip(PARTS, np.split(text.ids, bounds[1:-1]), strict=True))
    shortest = min(parts, key=lambda part: len(parts[part]))
    if len(parts[shortest]) < window + 1:
        raise UserError(
            f"{text.name} has {count:,} characters, of which {len(parts[shortest]):,} are the {shortest} part: fewer "
            f"than a window and the character after it ({window + 1:,}); give a longer text or a smaller --window"
        )
    arrays: dict[str, list[np.ndarray]] = {"tokens": [], "targets": [], "weights": [], "begins": []}
    schedules, counts, first = {}, {}, 0
    for part, ids in parts.items():
        length = len(ids) - 1
        counts[part] = length
        schedules[part] = rows.streams(length, batch_size, window, first)
        begins = np.zeros(length + window, np.float32)
        begins[np.minimum(schedules[part].ids[0] - first, length)] = 1  # of rows without a window: in the padding
        gap = np.zeros(window, np.int32)
        for name, values in (
            ("tokens", np.concatenate([ids[:-1], gap])),
            ("targets", np.concatenate([ids[1:], gap])),
            ("weights", np.concatenate([np.ones(length), np.zeros(window)]).astype(np.float32)),
            ("begins", begins),
        ):
            arrays[name].append(values)
        first += length + window
    return Streams({name: np.concatenate(values) for name, values in arrays.items()}, schedules, counts)


def repeated(one_pass: Rows, steps: int) -> Rows:
    """Return the first `steps` steps of passes over a part, one after another."""
    index = np.arange(steps) % len(one_pass.ids)
    return Rows(one_pass.ids[index], one_pass.weight[index])


def objective(model: Model) -> Callable:
    """Return the loss of each character in nats, `Losses` [B, T], and the carry after the window."""

    def losses(hyper: Any, params: Params, extra: Any, batch: Examples, key: Any) -> tuple[Losses, Any]:
        inputs = {"tokens": batch["tokens"], "reset": batch["begins"][:, 0]}
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


class Trained(NamedTuple):
    """One cell, trained with every learning rate and seed."""

    cell: str
    arguments: dict[str, Any]  # of the model
    parameters: int
    result: Result
    grid: sweep.Grid
    validation: np.ndarray  # [R, G] nats of the kept params; NaN where a lane went non-finite
    test: np.ndarray  # [R, G] nats of the kept params, which no choice depends on
    best: int | None  # index of the rate with the least mean validation loss; None if each has a non-finite lane

    def params(self, seed: int) -> Params:
        """Return the kept params of a seed, by position, at the chosen rate."""
        lane = seed * self.validation.shape[0] + (self.best or 0)
        kept = self.result.kept
        state, params = jax.tree.map(lambda leaf: np.asarray(leaf)[lane], (kept.optimizer, kept.params))
        return jax.tree.map(jnp.asarray, evaluation_params(state, params))

    @property
    def seed(self) -> int:
        """The position of the seed with the least validation loss at the chosen rate."""
        return int(np.nanargmin(self.validation[self.best or 0]))


def train(
    streams: Streams, vocabulary: str, arguments: Mapping[str, Any], *, regularisation: Mapping[str, float],
    rates: tuple[float, ...], seeds: int, steps: int, segments: int, window: int, optimizer: str,
    settings: Mapping[str, Any], mesh: Mesh, observe: Callable[[sweep.Grid], list], **drive: Any,
) -> Trained:  # fmt: skip
    """Train one cell with every learning rate and seed; choose the rate on the validation part, score the test part.

    Args:
        streams: the text.
        vocabulary: its characters.
        arguments: of `language.model`: cell, hidden, layers, ...
        regularisation: its rates of dropout.
        rates: learning rates, [R].
        seeds: G.
        steps: of training.
        segments: how often the validation part is scored.
        window: characters a step.
        optimizer: a key of `optimizers.OPTIMIZERS`.
        settings: of `optimizers.build`.
        mesh: devices to spread the lanes over.
        observe: grid -> observers of the drive.
        **drive: further arguments of `training.drive`: workdir, checkpoint_seconds.

    Raises:
        UserError: sizes that do not fit in memory, or settings that the model or the optimizer refuses.
    """
    one_pass = streams.rows["train"]
    batch_size = one_pass.ids.shape[1]
    model = text_models.make(vocabulary, arguments, **regularisation, batch_size=batch_size)
    lanes = len(rates) * seeds
    parameters = check_memory(model, arguments, len(vocabulary), lanes, batch_size, window, steps)
    grid = sweep.grid({"learning_rate": np.asarray(rates)}, seeds)

    def build(hyper: Mapping[str, Array]) -> Any:
        return optimizers.build(optimizer, hyper["learning_rate"], steps=steps, **settings)

    # One lane at a time on each device: activations of a window, not a lane's state, fill the cache.
    run = sweep.lanes(make_run(model, build, window), grid.schedule, mesh=mesh, group=1)
    result = training.drive(
        run, grid.hyper, grid.key, streams.examples, repeated(one_pass, steps),
        held_out=streams.rows["validation"], segment=-(-steps // segments), observers=observe(grid),
        name=str(arguments["cell"]),
        fingerprint=f"{sorted({**arguments, **regularisation, **settings, 'optimizer': optimizer}.items())}",
        **drive,
    )  # fmt: skip
    finite = grid.by_axis(result.nonfinite_step) < 0
    validation = np.where(finite, grid.by_axis(result.kept_loss), np.nan)
    mean = validation.mean(axis=1)
    best = None if np.isnan(mean).all() else int(np.nanargmin(mean))
    tested = jax.jit(run.score)(grid.hyper, result.kept, streams.examples, streams.rows["test"])["loss"]
    test = np.where(finite, grid.by_axis(tested), np.nan)
    return Trained(str(arguments["cell"]), dict(arguments), parameters, result, grid, validation, test, best)


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
    cell, hidden, width = CELLS[arguments["cell"]], arguments["hidden"], arguments["embedding"]
    gates = cell.gate_count * hidden
    count = float(vocabulary * (width + hidden) + (width + hidden * (2 * arguments["layers"] - 1)) * gates)
    what = f"the params and optimizer states of {lanes:,} lanes"
    remedy = "lower --hidden, --embedding, --layers, --seeds or the number of --learning_rates"
    memory.check(4.0 * 5 * count * lanes, what, remedy)  # params, two moments, the kept params, gradients
    arrays = 4.0 * batch_size * window * (2 * vocabulary + arguments["layers"] * (gates + hidden))
    memory.check(arrays, "the states and outputs of a batch", "lower --batch_size, --window, --hidden or --layers")
    shapes, _ = jax.eval_shape(model.init, jax.random.key(0))
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))


def surprise(model: Model, params: Params, ids: np.ndarray) -> np.ndarray:
    """Return the surprise -log2 P of each character after the first, in bits, [N - 1]; the carry begins there."""
    logits, _ = jax.jit(model.apply, static_argnums=3)(params, None, jnp.asarray(ids)[None, :-1], None)
    logs = jax.nn.log_softmax(logits[0])[jnp.arange(len(ids) - 1), ids[1:]]
    return -np.asarray(logs) / math.log(2)


# ── Baselines ───────────────────────────────────────────────────────────────────────────────────────────────────────


def baselines(train: np.ndarray, test: np.ndarray, vocabulary: int) -> dict[str, float]:
    """Return nats per character of test ids [M] after the first, by frequencies counted in the training ids.

    Of single characters, and of pairs: the next character given the one before, mixed with the single characters'
    frequencies as one further count would (Witten and Bell 1991 without their count of types). Every character has one
    count more than it was seen, so that none is impossible.
    """
    single = np.bincount(train, minlength=vocabulary) + 1.0
    single /= single.sum()
    pairs = np.zeros((vocabulary, vocabulary))
    np.add.at(pairs, (train[:-1], train[1:]), 1.0)
    conditional = (pairs + single) / (pairs.sum(axis=1, keepdims=True) + 1)
    before, after = test[:-1], test[1:]
    return {
        "frequencies of characters": float(-np.log(single[after]).mean()),
        "frequencies of pairs": float(-np.log(conditional[before, after]).mean()),
    }
