"""Train recurrent forecasters of a series by walking forward: blocks, learning rates and seeds are lanes.

Each lane trains on windows whose targets end before its block, with inputs and targets standardised by the values
before it alone. First every learning rate trains for the blocks of the validation part, whose errors choose the rate
and the step to stop at; then that setting trains anew for the blocks of both parts, and forecasts them.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from mllab import memory, optimizers, rows, sweep, training
from mllab.averaging import evaluation_params
from mllab.errors import UserError
from mllab.forecasting import Block, Transform, Walk, season_waves
from mllab.models.base import Model, in_precision, parameter_count
from mllab.models.recurrent import CELLS, forecaster
from mllab.types import Array, Examples, Hyper, Losses, Params, Rows

CHOICE, FINAL = "choice", "final"  # the two drives of a cell
MIN_WINDOWS = 8  # to train on
SCORED_WINDOWS = 256  # forecast at once


@dataclass(frozen=True)
class Plan:
    """What all lanes share: a series as examples, and how it is read."""

    walk: Walk
    window: int  # T
    first: int  # position of the first input
    examples: dict[str, np.ndarray]  # inputs [N, D], targets [N, H], known [N] and position [N]
    spread: np.ndarray  # [H] of the targets in the unit of the levels
    centre: np.ndarray  # [H] of the targets

    @property
    def features(self) -> int:
        """D: the series, and the waves of its season."""
        return self.examples["inputs"].shape[1]


def plan(values: np.ndarray, transform: Transform, walk: Walk, window: int, period: int, pairs: int) -> Plan:
    """Return a series as examples; inputs and targets are centred by what comes before all blocks.

    Args:
        values: [N].
        transform: the scale to forecast on.
        walk: the origins.
        window: T, steps that a forecast reads.
        period: steps of a season.
        pairs: of sines and cosines of the season.

    Raises:
        UserError: fewer values before the first block than windows need, or of one value only.
    """
    end, horizon = walk.validation[0].end, walk.horizon
    needed = transform.first + window + horizon + MIN_WINDOWS - 1
    if end < needed:
        raise UserError(
            f"{end:,} values before the first forecast are fewer than {MIN_WINDOWS} windows of {window:,} steps with "
            f"{horizon:,} steps ahead need ({needed:,}): give a smaller --window or --horizon, or a longer series"
        )
    inputs, targets = transform.inputs(values), transform.targets(values, horizon)
    read = inputs[transform.first : end]
    goals = targets[transform.first : end - horizon]
    scale, spread = read.std(), goals.std(axis=0)
    if not (scale > 0 and (spread > 0).all()):
        raise UserError(f"the first {end:,} values do not vary on the chosen scale: give another --transform")
    waves = season_waves(len(values), period, pairs)
    examples = {
        "inputs": np.column_stack([(inputs - read.mean()) / scale, waves]).astype(np.float32),
        "targets": np.nan_to_num((targets - goals.mean(axis=0)) / spread).astype(np.float32),
        "known": (np.arange(len(values)) < len(values) - horizon).astype(np.float32),
        "position": np.arange(len(values), dtype=np.int32),
    }
    return Plan(walk, window, transform.first, examples, spread, goals.mean(axis=0))


def block_hyper(plan: Plan, blocks: Sequence[Block], scored: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Return what depends on the block of a lane, by name, [blocks, ...].

    Mean and scale of its training part standardise the series and the targets; waves stay as they are. The first and
    the last of the origins that are scored are bounds.
    """
    horizon, blocks_rows = plan.walk.horizon, []
    for block, origins in zip(blocks, scored, strict=True):
        read = plan.examples["inputs"][plan.first : block.end, 0].astype(np.float64)
        goals = plan.examples["targets"][plan.first : block.end - horizon].astype(np.float64)
        statistics = read.mean(), read.std(), goals.mean(axis=0), goals.std(axis=0)
        blocks_rows.append((*statistics, origins[0], origins[-1]))
    names = ("input_mean", "input_scale", "target_mean", "target_scale", "first_origin", "last_origin")
    return {
        name: np.stack([np.asarray(row[place], np.float32 if place < 4 else np.int32) for row in blocks_rows])
        for place, name in enumerate(names)
    }


def training_windows(plan: Plan, blocks: Sequence[Block], seeds: int, batch_size: int, steps: int) -> Rows:
    """Return the windows of each block's lanes, [blocks · seeds, S, B], drawn with replacement from those before it."""
    schedules = []
    for number, block in enumerate(blocks):
        last = block.end - plan.walk.horizon - plan.window  # whose targets end before the block
        for seed in range(seeds):
            draw = np.random.default_rng([seed, number])
            schedules.append(draw.integers(plan.first, last + 1, (steps, batch_size)))
    ids = np.stack(schedules).astype(np.int32)
    return Rows(ids, np.ones(ids.shape, np.float32))


def scaled(hyper: Hyper, inputs: Array) -> Array:
    """Return windows of inputs [..., D] with the series standardised by a lane's training part."""
    series = (inputs[..., :1] - hyper["input_mean"]) / hyper["input_scale"]
    return jnp.concatenate([series, inputs[..., 1:]], axis=-1)


def unscaled(hyper: Hyper, outputs: Array) -> Array:
    """Return outputs [B, H] of a lane's model as those of the plan's targets."""
    return outputs * hyper["target_scale"][None] + hyper["target_mean"][None]


def make_run(plan: Plan, model: Model, optimizer: Callable[[Mapping[str, Array]], Any]) -> training.Run:
    """Return the run that trains a forecaster on windows; its metric is the mean absolute error of the lane's block.

    Every step in the second half of a window is trained, so that each has read half a window or more; a forecast is the
    last step's. Squared errors of standardised targets are averaged over the steps ahead.
    """

    def objective(hyper: Hyper, params: Params, extra: Any, batch: Examples, key: Any) -> tuple[Losses, Any]:
        outputs, extra = model.apply(params, extra, scaled(hyper, batch["inputs"]), key)
        goals = (batch["targets"] - hyper["target_mean"][None, None]) / hyper["target_scale"][None, None]
        late = jnp.arange(plan.window)[None] >= plan.window // 2
        return Losses(jnp.square(outputs - goals).mean(axis=-1), batch["known"] * late), extra

    def metrics(hyper: Hyper, params: Params, extra: Any, batch: Examples) -> tuple[dict[str, Losses], Any]:
        outputs, extra = model.apply(params, extra, scaled(hyper, batch["inputs"]), None)
        missed = jnp.abs(unscaled(hyper, outputs[:, -1]) - batch["targets"][:, -1])
        error = (missed * jnp.asarray(plan.spread, jnp.float32)[None]).mean(axis=-1)
        origin = batch["position"][:, -1]
        inside = (origin >= hyper["first_origin"]) & (origin <= hyper["last_origin"])
        return {"loss": Losses(error, inside.astype(error.dtype))}, extra

    return training.supervised(
        model.init, objective, optimizer, metrics,
        gather=functools.partial(rows.windows, size=plan.window),
        evaluate=lambda state: evaluation_params(state.optimizer, state.params),
    )  # fmt: skip


class Trained(NamedTuple):
    """One cell."""

    cell: str
    parameters: int
    rates: tuple[float, ...]
    steps: np.ndarray  # [E] at which the validation part was scored
    curves: np.ndarray  # [E, R, blocks, G] mean absolute errors in the levels' unit; NaN of a lane that went non-finite
    learning_rate: float | None  # chosen; None if each has a non-finite lane
    stop: int | None  # step chosen
    nonfinite: int  # lanes
    outputs: list[np.ndarray] | None  # [G, M, H] of each block of `Walk.final`, in the targets' unit


def train(
    plan: Plan, arguments: Mapping[str, Any], *, rates: tuple[float, ...], seeds: int, steps: int, segments: int,
    batch_size: int, optimizer: str, precision: str = "float32", settings: Mapping[str, Any], mesh: Mesh,
    observe: Callable[[str, sweep.Grid, int], list], **drive: Any,
) -> Trained:  # fmt: skip
    """Train one cell: choose a learning rate and a step on the validation part, then forecast both parts.

    Args:
        plan: the series.
        arguments: of `forecaster.model`.
        rates: learning rates, [R].
        seeds: G.
        steps: of training, at most.
        segments: how often the validation part is scored.
        batch_size: windows a step.
        optimizer: a key of `optimizers.OPTIMIZERS`.
        precision: see `base.in_precision`.
        settings: of `optimizers.build`.
        mesh: devices to spread the lanes over.
        observe: (name, grid, steps) -> observers of a drive.
        **drive: further arguments of `training.drive`: workdir, checkpoint_seconds.

    Raises:
        UserError: sizes that do not fit in memory, or settings that the model or the optimizer refuses.
    """
    model = in_precision(forecaster.model(plan.features, plan.walk.horizon, **arguments), precision)
    blocks, horizon = plan.walk.validation, plan.walk.horizon
    parameters = check_memory(plan, model, arguments, len(rates) * len(blocks) * seeds, batch_size, steps, seeds)

    def build(hyper: Mapping[str, Array]) -> Any:
        return optimizers.build(optimizer, hyper["learning_rate"], steps=steps, **settings)

    run = make_run(plan, model, build)

    def drive_lanes(
        name: str, blocks: Sequence[Block], scored: Sequence[np.ndarray], rates: Sequence[float], stop: int
    ) -> tuple[sweep.Grid, dict[str, np.ndarray], training.Result]:
        """Return the lanes of every rate, block and seed, their hypers, and the result of a drive."""
        grid = sweep.grid({"learning_rate": np.asarray(rates), "block": np.arange(len(blocks))}, seeds)
        block = grid.hyper["block"].astype(int)
        grid = grid._replace(schedule=(block * seeds + grid.seed).astype(np.int32))
        statistics = {key: value[block] for key, value in block_hyper(plan, blocks, scored).items()}
        hyper = {"learning_rate": grid.hyper["learning_rate"], **statistics}
        ends = np.unique(np.concatenate(scored))
        held_out = rows.blocks(ends - plan.window + 1, min(SCORED_WINDOWS, len(ends)))
        schedule = training_windows(plan, blocks, seeds, batch_size, steps)
        result = training.drive(
            sweep.lanes(run, grid.schedule, mesh=mesh), hyper, grid.key, plan.examples,
            Rows(schedule.ids[:, :stop], schedule.weight[:, :stop]), held_out=held_out,
            segment=-(-steps // segments), observers=observe(name, grid, stop), name=name.replace(" ", "_"),
            fingerprint=f"{sorted({**arguments, **settings, 'optimizer': optimizer, 'window': plan.window}.items())}",
            **drive,
        )  # fmt: skip
        return grid, hyper, result

    cell = str(arguments["cell"])
    grid, _, result = drive_lanes(f"{cell} {CHOICE}", blocks, [block.origins for block in blocks], rates, steps)
    finite = grid.by_axis(result.nonfinite_step) < 0  # [R, blocks, G]
    curves = np.where(finite, grid.by_axis(result.history.held_out["loss"], -1), np.nan)
    mean = curves.mean(axis=(2, 3))  # [E, R]
    lost = int((~finite).sum())
    if np.isnan(mean).all():
        return Trained(cell, parameters, rates, result.history.step, curves, None, None, lost, None)
    place, rate = np.unravel_index(np.nanargmin(mean), mean.shape)
    stop = int(result.history.step[place])
    blocks = plan.walk.final
    recent = [
        np.arange(max(plan.first + plan.window - 1, each.end - 2 * horizon), each.end - horizon) for each in blocks
    ]
    grid, hyper, final = drive_lanes(f"{cell} {FINAL}", blocks, recent, rates[rate : rate + 1], stop)
    outputs = forecast(plan, model, final, hyper, grid.schedule // seeds, blocks)
    return Trained(cell, parameters, rates, result.history.step, curves, rates[rate], stop, lost, outputs)


def forecast(
    plan: Plan, model: Model, result: training.Result, hyper: Hyper, block: np.ndarray, blocks: Sequence[Block]
) -> list[np.ndarray]:
    """Return the outputs of each block by its lanes, [G, M, H] each, NaN of a lane that went non-finite.

    Args:
        plan: the series.
        model: the forecaster.
        result: of the drive of the lanes, [L].
        hyper: of the lanes.
        block: of each lane, [L].
        blocks: whose origins are forecast.
    """
    lanes, most = len(block), max(len(each.origins) for each in blocks)
    size = min(SCORED_WINDOWS, most)
    padded = -(-most // size) * size
    ids = np.stack([np.resize(blocks[each].origins, padded) for each in block]) - plan.window + 1
    chunks = ids.reshape(lanes, -1, size).astype(np.int32)
    state = jax.tree.map(lambda leaf: np.asarray(leaf)[:lanes], (result.state.optimizer, result.state.params))

    def one_lane(lane: Any, inputs: Array) -> Array:
        (optimizer, params), hyper, chunks = lane
        weights = evaluation_params(optimizer, params)

        def chunk(ids: Array) -> Array:
            windows = scaled(hyper, rows.windows(inputs, ids, plan.window))
            outputs, _ = model.apply(weights, None, windows, None)
            return unscaled(hyper, outputs[:, -1])

        return jax.lax.map(chunk, chunks)

    every = jax.jit(lambda lanes, inputs: jax.lax.map(lambda lane: one_lane(lane, inputs), lanes))
    outputs = np.asarray(every((state, hyper, chunks), plan.examples["inputs"]), np.float64)
    outputs = outputs.reshape(lanes, padded, -1) * plan.spread + plan.centre
    outputs[np.asarray(result.nonfinite_step) >= 0] = np.nan
    return [outputs[block == number][:, : len(each.origins)] for number, each in enumerate(blocks)]


def check_memory(
    plan: Plan, model: Model, arguments: Mapping[str, Any], lanes: int, batch_size: int, steps: int, seeds: int
) -> int:
    """Return the number of parameters, after a check that a training fits in memory.

    Raises:
        UserError: it does not.
    """
    hidden, layers, horizon = arguments["hidden"], arguments["layers"], plan.walk.horizon
    schedules = 2 * len(plan.walk.validation) * seeds
    size = 8.0 * batch_size * steps * schedules
    memory.check(size, f"the windows of {steps:,} steps", "lower --steps, --batch_size or --seeds")
    gates = CELLS[arguments["cell"]].gate_count * hidden
    count = float((plan.features + hidden * (2 * layers - 1)) * gates + hidden * horizon)
    what = f"the params and optimizer states of {lanes:,} lanes"
    memory.check(20.0 * count * lanes, what, "lower --hidden, --layers, --seeds or the number of --learning_rates")
    arrays = 4.0 * max(batch_size, 1) * plan.window * (layers * (gates + hidden) + 2 * horizon)
    memory.check(arrays, "the states and outputs of a batch", "lower --batch_size, --window, --hidden or --layers")
    return parameter_count(model)
