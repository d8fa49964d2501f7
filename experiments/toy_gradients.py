"""Gradient norms against distance in time, what clipping does where they explode, and answers to ones alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from experiments import frame, toy_training
from experiments.toy_training import Trained
from mllab import memory, optimizers, sweep, training
from mllab.data.sets.toy_sequences import Problem
from mllab.errors import UserError
from mllab.models.base import Model, in_precision
from mllab.models.recurrent import CELLS, jacobians, readout
from mllab.types import Array, Hyper, Key

SEQUENCES = 8  # that norms are averaged over
UNCLIPPED = 1e30  # norm that no gradient reaches
DELAY, RADIUS, RATE = 20, 1.5, 0.5  # of the runs with and without clipping: measured, see `clipping`


@dataclass(frozen=True)
class Norms:
    """How one network's gradient changes with distance."""

    name: str
    change: float  # from distance 0 to the greatest one
    by_distance: np.ndarray = frame.unsaved()  # [T] geometric means; 0 where the gradient is


@dataclass(frozen=True)
class Clipping:
    """Training losses of the same runs with and without clipping."""

    clip_norm: float
    final: dict[str, float]  # mean loss over the last steps
    step: np.ndarray = frame.unsaved()  # [E]
    clipped: np.ndarray = frame.unsaved()  # [E, G]
    unclipped: np.ndarray = frame.unsaved()  # [E, G]


@dataclass(frozen=True)
class Gradients:
    """All that was measured of gradients."""

    problem: str  # whose sequences the cells read
    distance: int
    by_radius: list[Norms]  # tanh cells at initialisation
    at_start: list[Norms]  # by cell
    trained: list[Norms]  # by cell; those that have params
    clipping: Clipping


def check(distance: int, hidden: int) -> None:
    """Raise UserError where Jacobians over this distance do not fit in memory."""
    what = f"the Jacobians of {hidden:,} units and states over {distance:,} steps"
    memory.check(4.0 * SEQUENCES * hidden * (hidden + 4.0 * distance), what, "lower --distance or --hidden")


def by_radius(hidden: int, radii: Sequence[float], problem: Problem, distance: int, seeds: int) -> list[Norms]:
    """Return the norms of tanh cells at initialisation, for each spectral radius of their recurrent matrix."""
    cell, inputs = CELLS["tanh"], _inputs(problem, distance)

    @jax.jit
    def norms(key: Key, radius: Array) -> Array:
        params = cell.init(key, problem.features, hidden)
        return jacobians.norms_by_distance(cell, jacobians.with_spectral_radius(params, radius), inputs)

    return [
        _summary(f"radius {radius:g}", [norms(jax.random.key(seed), radius) for seed in range(seeds)], distance)
        for radius in radii
    ]


def of_cell(trained: Trained, problem: Problem, arguments: dict[str, Any], distance: int) -> tuple[Norms, Norms | None]:
    """Return the norms of a cell's first layer at initialisation, and after training for the greatest length."""
    cell, inputs = CELLS[trained.cell], _inputs(problem, distance)
    model = toy_training.model_of(problem, arguments)
    norms = jax.jit(lambda params: jacobians.norms_by_distance(cell, params, inputs))
    seeds = range(trained.validation.shape[2])
    # The key that `training.supervised` initialises a run by.
    keys = [jax.random.split(jax.random.key(seed))[0] for seed in seeds]
    before = [norms(jax.jit(model.init)(key)[0].layers[0]) for key in keys]
    start = _summary(trained.cell, before, distance)
    if trained.best[-1] is None:
        return start, None
    after = [norms(trained.params(len(trained.best) - 1, seed).layers[0]) for seed in seeds]
    return start, _summary(trained.cell, after, distance)


def clipping(
    problem: Problem, hidden: int, clip_norm: float, seeds: int, steps: int, batch_size: int, mesh: Mesh,
    observe: Callable[[sweep.Grid], list], *, precision: str = "float32", **drive: Any,
) -> Clipping:  # fmt: skip
    """Train tanh cells on copy memory by SGD from a radius at which gradients explode, with and without clipping.

    A delay of 20 steps, radius 1.5 and rate 0.5: there clipped runs learn to repeat blanks and begin to copy, and
    unclipped ones are thrown back by single steps.
    """
    plain = readout.model(problem.features, problem.outputs, hidden=hidden, cell="tanh")

    def init(key: Key) -> tuple[Any, None]:
        params, _ = plain.init(key)
        return params.replace(layers=(jacobians.with_spectral_radius(params.layers[0], RADIUS),)), None

    def build(hyper: Hyper) -> Any:
        return optimizers.build("sgd", hyper["learning_rate"], steps=steps, clip_norm=hyper["clip_norm"])

    streams = toy_training.lay_out(seeds, steps, batch_size, toy_training.SCORED)
    clips = np.array([clip_norm, UNCLIPPED])
    grid = sweep.grid({"learning_rate": [RATE], "clip_norm": clips, "length": [DELAY]}, seeds)
    model = in_precision(Model(init, plain.apply), precision)
    run = toy_training.make_run(problem, model, build, DELAY, beyond=False)
    result = training.drive(
        sweep.lanes(run, grid.schedule, mesh=mesh), grid.hyper, grid.key, streams.examples, streams.train,
        held_out=streams.validation, segment=-(-steps // 30), observers=observe(grid), name="clipping",
        fingerprint=f"{problem.total(0)} {hidden}", **drive,
    )  # fmt: skip
    losses = grid.by_axis(result.history.train_loss, -1)[:, 0, :, 0]  # [E, 2, G]
    final = {name: float(losses[-1, place].mean()) for place, name in enumerate(("clipped", "unclipped"))}
    return Clipping(clip_norm, final, result.history.step, losses[:, 0], losses[:, 1])


def _inputs(problem: Problem, distance: int) -> Array:
    """Return inputs [B, T, D] of sequences of `distance` steps or more."""
    if distance < problem.least:
        raise UserError(f"--distance={distance}: sequences of this problem have {problem.least} steps or more")
    uniforms = jax.random.uniform(jax.random.key(toy_training.SOURCE), (SEQUENCES, problem.draws(distance)))
    return jax.vmap(lambda each: problem.make(each, distance, distance).inputs)(uniforms)


def _summary(name: str, norms: Sequence[Array], distance: int) -> Norms:
    """Return the geometric mean over seeds and sequences."""
    every = np.stack([np.asarray(each, np.float64) for each in norms])[..., :distance]  # [G, B, T]
    with np.errstate(divide="ignore", over="ignore"):
        means = np.exp(np.log(every).mean(axis=(0, 1)))
        return Norms(name, float(means[-1] / means[0]), means)
