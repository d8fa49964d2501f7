"""The refit of a race: each optimizer at its chosen rate, trained again on all training and validation rows.

No rows are left to choose a step by. So a refit takes as many epochs as the search kept at the chosen rate, the mean
over folds and seeds, and its params are those at the end. A schedule of the learning rate is that of all epochs, and
stops with them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from mllab import race_rows, rows, sweep, training
from mllab.averaging import evaluation_params
from mllab.training import Result, Run
from mllab.types import Examples, Params, Rows

SUFFIX = "refit"  # of the name of its checkpoints, after that of the optimizer


class Refit(NamedTuple):
    """The last training of an optimizer, of G seeds; its params are those of `result.state`."""

    grid: sweep.Grid  # its lanes: the chosen rate
    result: Result
    epochs: int
    steps: int

    @property
    def nonfinite_step(self) -> np.ndarray:
        """The first step with a non-finite loss of each seed, or -1, [G]."""
        return self.result.nonfinite_step

    def published(self, position: int) -> tuple[Params, Any]:
        """Return the params and `extra` of a seed."""
        state = self.result.state
        parts = (state.optimizer, state.params, state.extra)
        optimizer, params, extra = jax.tree.map(lambda leaf: np.asarray(leaf)[position], parts)
        return evaluation_params(optimizer, params), extra


class Plan(NamedTuple):
    """The refits of a race, one compiled program an optimizer."""

    ids: np.ndarray  # of the rows, [M]
    examples: Examples  # preprocessed by these rows, on the devices
    test: Rows  # [S, B]
    batch_size: int
    epochs: int  # of the search
    seeds: Sequence[int]
    shared_batches: bool
    fingerprint: str

    @property
    def per_epoch(self) -> int:
        """Steps of a pass over the rows."""
        return race_rows.steps_of(self.ids, self.batch_size)

    @property
    def steps(self) -> int:
        """Steps over which the learning rate is scheduled."""
        return self.epochs * self.per_epoch

    @property
    def monitored(self) -> Rows:
        """Some training rows, scored after each epoch; of the shape of the test rows, so that one program does both."""
        count, size = self.test.ids.shape
        return rows.blocks(self.ids[: count * size], size, count)

    def grid(self, learning_rate: float) -> sweep.Grid:
        """Return the lanes of a refit, [G]."""
        return sweep.grid({"learning_rate": learning_rate}, self.seeds)

    def schedule(self, epochs: int) -> Rows:
        """Return the minibatches of some epochs, [G, S, B], or [S, B] if all seeds share them."""
        seeds = self.seeds[:1] if self.shared_batches else self.seeds
        made = rows.minibatches(self.ids, self.batch_size, epochs, seeds)
        return jax.tree.map(lambda a: a[0], made) if self.shared_batches else made

    def compile_ahead(self, run: Run) -> None:
        """Compile what `train` runs, which depends on neither the rate nor the epochs."""
        grid = self.grid(1.0)
        training.compile_ahead(
            run, grid.hyper, grid.key, self.examples, self.schedule(1), held_out=self.monitored, segment=self.per_epoch
        )

    def train(
        self,
        name: str,
        run: Run,
        learning_rate: float,
        epochs: int,
        observe: Callable[[str, sweep.Grid, int], Iterable[Callable]],
        drive: Mapping[str, Any],
    ) -> Refit:
        """Train all seeds of an optimizer for some epochs.

        Args:
            name: of the optimizer.
            run: its lanes.
            learning_rate: the chosen one.
            epochs: see `epochs_of`.
            observe: see `racing.race`.
            drive: further arguments of `training.drive`.
        """
        grid, steps = self.grid(learning_rate), epochs * self.per_epoch
        result = training.drive(
            run, grid.hyper, grid.key, self.examples, self.schedule(epochs), held_out=self.monitored,
            segment=self.per_epoch, observers=observe(name, grid, steps), name=f"{name} {SUFFIX}",
            fingerprint=f"{self.fingerprint} {SUFFIX} {self.steps}", **drive,
        )  # fmt: skip
        return Refit(grid, result, epochs, steps)

    def scored(self, run: Run, refit: Refit) -> dict[str, np.ndarray]:
        """Return the mean metrics of the refitted params on test rows, [G]; NaN where a seed went non-finite."""
        metrics = jax.jit(run.score)(refit.grid.hyper, refit.result.state, self.examples, self.test)
        return {name: np.where(refit.nonfinite_step < 0, values, np.nan) for name, values in metrics.items()}


def epochs_of(kept_epoch: np.ndarray) -> int:
    """Return the epochs of a refit: the mean of the epochs whose params were kept, over folds and seeds, rounded."""
    return max(1, int(np.floor(np.mean(kept_epoch) + 0.5)))
