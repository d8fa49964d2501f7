"""Train models of polyphonic music, and score them by frame.

Pieces of a part are packed one after another into rows of equal length, whose carries begin anew with each piece: that
takes half the steps of a row for each piece.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from experiments.rate_choice import TrainedLanes
from mllab import devices, memory, optimizers, rows, sweep, training
from mllab.averaging import evaluation_params
from mllab.models.base import Model, in_precision, parameter_count
from mllab.models.recurrent import CELLS, polyphony
from mllab.types import Array, Examples, Losses, Params

PARTS = ("train", "validation", "test")
KEYS = 88  # of a piano
SCORED_ROWS = 16  # rows scored at once: bounds the memory of their logits
DOWN, UP = -5, 6  # semitones of transposition: the twelve keys around a piece's own


class Pieces(NamedTuple):
    """Pieces of music packed into rows, and which rows are of which part."""

    examples: dict[str, np.ndarray]  # frames [N, W, K], begins and weights [N, W]
    rows: dict[str, np.ndarray]  # ids by part
    predicted: dict[str, int]  # by part: frames that are predicted from frames, all but each piece's first
    keys: int  # K
    voices: int  # the most keys that sound at once
    transpositions: tuple[int, int]  # the least and the greatest that leave all keys of the training part on the piano


def lay_out(parts: Mapping[str, Sequence[np.ndarray]]) -> Pieces:
    """Return pieces [T, K] of the parts packed into rows as long as the longest piece.

    Longer pieces are packed first, each into the first row with room (first-fit decreasing).

    Raises:
        UserError: rows that do not fit in memory.
    """
    pieces = [piece for part in parts.values() for piece in part]
    keys, width = pieces[0].shape[1], max(map(len, pieces))
    groups: list[list[np.ndarray]] = []
    ids = {}
    for part in PARTS:
        first = len(groups)
        room: list[int] = []
        for piece in sorted(parts[part], key=len, reverse=True):
            place = next((place for place, free in enumerate(room) if free >= len(piece)), len(room))
            if place == len(room):
                groups.append([])
                room.append(width)
            groups[first + place].append(piece)
            room[place] -= len(piece)
        ids[part] = np.arange(first, len(groups))
    memory.check(5.0 * len(groups) * width * keys, "the frames of all pieces", "give fewer or shorter pieces")
    frames = np.zeros((len(groups), width, keys), np.uint8)
    begins, weights = np.zeros((2, len(groups), width), np.float32)
    for row, group in enumerate(groups):
        at = 0
        for piece in group:
            end = at + len(piece)
            frames[row, at:end], begins[row, at], weights[row, at:end] = piece, 1, 1
            at = end
    sounding = np.flatnonzero(np.any([piece.any(axis=0) for piece in parts["train"]], axis=0))
    lowest, highest = (int(sounding[0]), int(sounding[-1])) if sounding.size else (0, keys - 1)
    return Pieces(
        {"frames": frames, "begins": begins, "weights": weights},
        ids,
        {part: sum(len(piece) - 1 for piece in parts[part]) for part in PARTS},
        keys,
        max(1, int(frames.sum(axis=2).max())),
        (max(DOWN, -lowest), min(UP, keys - 1 - highest)),
    )


def transpose(frames: Array, semitones: Array) -> Array:
    """Return frames [B, T, K] moved up by a number of keys for each row, [B]; no key may leave the piano."""
    return jax.vmap(lambda row, by: jnp.roll(row, by, axis=-1))(frames, semitones)


def make_run(
    model: Model, optimizer: Callable[[Mapping[str, Array]], Any], share: float, transpositions: tuple[int, int]
) -> training.Run:
    """Return the run that trains a model of music.

    Its metric `loss` is the mean over the frames that have one before them, in nats; `with_first` counts the first
    frame of each piece, too. Training minimises the latter.

    Args:
        model: see `polyphony.model`.
        optimizer: hyper -> gradient transformation.
        share: probability that a row of a batch is transposed; drawn anew in each step.
        transpositions: the least and the greatest number of semitones to transpose by.
    """

    def objective(hyper: Any, params: Params, extra: Any, batch: Examples, key: Any) -> tuple[Losses, Any]:
        share_key, shift_key, drop_key = jax.random.split(key, 3)
        if share > 0:
            rows, (low, high) = batch["frames"].shape[:1], transpositions
            by = jax.random.randint(shift_key, rows, low, high + 1) * jax.random.bernoulli(share_key, share, rows)
            batch = {**batch, "frames": transpose(batch["frames"], by)}
        logs, extra = model.apply(params, extra, batch, drop_key)
        return Losses(-logs, batch["weights"]), extra

    def metrics(hyper: Any, params: Params, extra: Any, batch: Examples) -> tuple[dict[str, Losses], Any]:
        logs, extra = model.apply(params, extra, batch, None)
        weights = batch["weights"]
        return {"loss": Losses(-logs, weights - batch["begins"]), "with_first": Losses(-logs, weights)}, extra

    return training.supervised(
        model.init, objective, optimizer, metrics,
        evaluate=lambda state: evaluation_params(state.optimizer, state.params),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Trained(TrainedLanes):
    """One output model with one cell, trained with every learning rate and seed; losses are in nats per frame."""

    arguments: dict[str, Any]  # of the model
    parameters: int
    test: dict[str, np.ndarray]  # `loss` and `with_first` of the kept params, [R, G] each; no choice depends on them

    @property
    def named(self) -> tuple[str, str]:
        """The names of the output model and of the cell."""
        return self.arguments["output"], self.arguments["cell"]


def train(
    pieces: Pieces, arguments: Mapping[str, Any], *, regularisation: Mapping[str, Any], transposed: float,
    rates: tuple[float, ...], seeds: int, epochs: int, batch_size: int, segments: int, patience: int | None,
    optimizer: str, precision: str = "float32", settings: Mapping[str, Any], mesh: Mesh,
    observe: Callable[[sweep.Grid, int], list], **drive: Any,
) -> Trained:  # fmt: skip
    """Train a model with every learning rate and seed; choose the rate on the validation part, score the test part.

    Args:
        pieces: the music.
        arguments: of `polyphony.model`: output, cell, hidden, ...
        regularisation: its rates of dropout.
        transposed: probability that a row is transposed in a step.
        rates: learning rates, [R].
        seeds: G.
        epochs: passes over the training rows.
        batch_size: rows in a batch.
        segments: how often the validation part is scored.
        patience: see `training.drive`.
        optimizer: a key of `optimizers.OPTIMIZERS`.
        precision: see `base.in_precision`.
        settings: of `optimizers.build`.
        mesh: devices to spread the lanes over.
        observe: (grid, steps) -> observers of the drive.
        **drive: further arguments of `training.drive`: workdir, checkpoint_seconds.

    Raises:
        UserError: sizes that do not fit in memory, or settings that the model or the optimizer refuses.
    """
    model = in_precision(polyphony.model(**arguments, voices=pieces.voices, **regularisation), precision)
    batch_size = min(batch_size, len(pieces.rows["train"]))
    parameters = check_memory(model, pieces, arguments, len(rates) * seeds, batch_size, seeds, epochs)
    grid = sweep.grid({"learning_rate": np.asarray(rates)}, seeds)
    schedule = rows.minibatches(pieces.rows["train"], batch_size, epochs, seeds)
    steps = schedule.ids.shape[1]

    def build(hyper: Mapping[str, Array]) -> Any:
        return optimizers.build(optimizer, hyper["learning_rate"], steps=steps, **settings)

    one, group = make_run(model, build, transposed, pieces.transpositions), devices.lanes_of_long_steps(mesh)
    run = sweep.lanes(one, grid.schedule, mesh=mesh, group=group)
    scored = {part: rows.blocks(ids, min(SCORED_ROWS, len(ids))) for part, ids in pieces.rows.items()}
    name = f"{arguments['output']}_{arguments['cell']}"
    chosen = {**arguments, **regularisation, **settings, "optimizer": optimizer, "transposed": transposed}
    result = training.drive(
        run, grid.hyper, grid.key, pieces.examples, schedule, held_out=scored["validation"],
        segment=-(-steps // segments), patience=patience, observers=observe(grid, steps), name=name,
        fingerprint=f"{sorted(chosen.items())}", **drive,
    )  # fmt: skip
    tested = jax.jit(run.score)(grid.hyper, result.kept, pieces.examples, scored["test"])
    scored_lanes = TrainedLanes(result=result, grid=grid)
    return Trained(
        result=result, grid=grid, arguments=dict(arguments), parameters=parameters,
        test={name: scored_lanes.finite(values) for name, values in tested.items()},
    )  # fmt: skip


def check_memory(
    model: Model, pieces: Pieces, arguments: Mapping[str, Any], lanes: int, batch_size: int, seeds: int, epochs: int
) -> int:
    """Return the number of parameters, after a check that a training fits in memory.

    Raises:
        UserError: it does not.
    """
    count = -(-len(pieces.rows["train"]) // batch_size) * batch_size
    memory.check(8.0 * count * seeds * epochs, f"the minibatches of {epochs:,} epochs", "lower --epochs or --seeds")
    hidden, units, layers = arguments["hidden"], arguments["units"], arguments["layers"]
    gates = CELLS[arguments["cell"]].gate_count * hidden
    parameters = float((pieces.keys + hidden * (2 * layers - 1)) * gates + (hidden + 2 * pieces.keys) * units)
    what = f"the params and optimizer states of {lanes:,} lanes"
    remedy = "lower --hidden, --units, --layers, --seeds or the number of --learning_rates"
    memory.check(4.0 * 5 * parameters * lanes, what, remedy)  # params, two moments, the kept params, gradients
    frames = batch_size * pieces.examples["frames"].shape[1]
    of_output = (pieces.voices + 1) * (2 * pieces.keys + units)
    arrays = 4.0 * frames * (layers * (gates + hidden) + of_output)
    memory.check(arrays, "the states and outputs of a batch", "lower --batch_size, --hidden, --units or --layers")
    return parameter_count(model)


# ── Baselines ───────────────────────────────────────────────────────────────────────────────────────────────────────


def baselines(parts: Mapping[str, Sequence[np.ndarray]]) -> dict[str, dict[str, float]]:
    """Return nats per frame of the test part, the first frame of each piece left out, by counts of the training part.

    For independent keys, by their frequencies, alone or given the same key one frame before. For whole frames, by the
    frequencies of chords, alone or given the chord before, each mixed with the next simpler model by the number of
    distinct chords (Witten and Bell 1991), so that none is impossible.
    """
    before, after = (np.concatenate([piece[part] for piece in parts["train"]]) for part in (slice(-1), slice(1, None)))
    test_before, test = (
        np.concatenate([piece[part] for piece in parts["test"]]) for part in (slice(-1), slice(1, None))
    )

    def nats(probability: np.ndarray) -> np.ndarray:
        return -np.log(np.where(test, probability, 1 - probability)).sum(axis=1)

    alone = nats((after.sum(axis=0) + 1) / (len(after) + 2))
    held = ((after * before).sum(axis=0) + 1) / (before.sum(axis=0) + 2)
    struck = ((after * (1 - before)).sum(axis=0) + 1) / ((1 - before).sum(axis=0) + 2)
    after_key = nats(np.where(test_before, held, struck))

    pairs: dict[bytes, dict[bytes, int]] = {}
    single: dict[bytes, int] = {}
    for one, other in zip(map(bytes, before), map(bytes, after), strict=True):
        single[other] = single.get(other, 0) + 1
        follows = pairs.setdefault(one, {})
        follows[other] = follows.get(other, 0) + 1
    types, count = len(single), len(after)
    chords, after_chord = [], []
    for one, other, independent in zip(map(bytes, test_before), map(bytes, test), np.exp(-alone), strict=True):
        chord = (single.get(other, 0) + types * independent) / (count + types)
        follows = pairs.get(one, {})
        seen = len(follows)
        given = (follows.get(other, 0) + (seen or 1) * chord) / (sum(follows.values()) + (seen or 1))
        chords.append(-math.log(chord))
        after_chord.append(-math.log(given))
    mean = functools.partial(np.mean, dtype=np.float64)
    return {
        "bernoulli": {"frequencies of keys": float(mean(alone)), "given the key before": float(mean(after_key))},
        "autoregressive": {
            "frequencies of chords": float(mean(chords)), "given the chord before": float(mean(after_chord)),
        },
    }  # fmt: skip
