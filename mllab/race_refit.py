"""The refit of a race: each optimizer at its chosen rate, trained again on all training and validation rows.

No rows are left to choose a step by. So a refit takes as many epochs as the search kept at the chosen rate, the mean
over folds and seeds, and its params are those at the end. A schedule of the learning rate is that of all epochs, and
stops with them.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from mllab import race_rows, rows, sweep, training
from mllab.averaging import evaluation_params
from mllab.training import Result, Run
from mllab.types import Examples, Params, Rows

REFIT = "refit"  # in the name of its checkpoints, after that of the optimizer


class Refit(NamedTuple):
    """The last training of an optimizer, of G seeds; its params are those of `result.state`."""

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
    """What all refits of a race share."""

    ids: np.ndarray  # of the rows, [M]
    examples: Examples  # on the devices
    batch_size: int
    epochs: int  # of the search
    seeds: Sequence[int]
    shared_batches: bool
    monitored: Rows  # rows of `ids` that are scored after each epoch; of the shape of the test rows
    fingerprint: str

    @property
    def per_epoch(self) -> int:
        """Steps of a pass over the rows."""
        return -(-len(self.ids) // self.batch_size)

    @property
    def steps(self) -> int:
        """Steps over which the learning rate is scheduled."""
        return self.epochs * self.per_epoch

    def schedule(self, epochs: int) -> Rows:
        """Return the minibatches of some epochs, [G, S, B] or [S, B]."""
        made = rows.minibatches(
            self.ids, self.batch_size, epochs, self.seeds[:1] if self.shared_batches else self.seeds
        )
        return jax.tree.map(lambda a: a[0], made) if self.shared_batches else made

    def compile_ahead(self, run: Run, grid: sweep.Grid) -> None:
        """Compile what `train` runs, for a grid of one rate."""
        training.compile_ahead(
            run, grid.hyper, grid.key, self.examples, self.schedule(1), held_out=self.monitored,
            segment=self.per_epoch,
        )  # fmt: skip

    def train(
        self, name: str, run: Run, grid: sweep.Grid, epochs: int, observers: Iterable[Callable], **drive: Any
    ) -> Refit:
        """Train the lanes of a grid of one rate, [G], for some epochs; `drive` are arguments of `training.drive`."""
        schedule = self.schedule(epochs)
        result = training.drive(
            run, grid.hyper, grid.key, self.examples, schedule, held_out=self.monitored, segment=self.per_epoch,
            observers=observers, name=f"{name} {REFIT}", fingerprint=f"{self.fingerprint} {REFIT} {self.steps}",
            **drive,
        )  # fmt: skip
        return Refit(result, epochs, epochs * self.per_epoch)


def plan(split: race_rows.Split, examples: Examples, test: Rows, fingerprint: str, **shared: Any) -> Plan:
    """Return the plan of the refits on all training and validation rows.

    Args:
        split: of the race.
        examples: with inputs preprocessed by these rows, on the devices.
        test: the test rows [S, B], whose shape `monitored` takes: one program scores both.
        fingerprint: of the race.
        **shared: batch_size, epochs, seeds and shared_batches of the race.
    """
    ids, (count, size) = race_rows.choosing(split), test.ids.shape
    monitored = rows.blocks(ids[: count * size], size, count)
    return Plan(ids, examples, monitored=monitored, fingerprint=fingerprint, **shared)


def epochs_of(kept_epoch: np.ndarray) -> int:
    """Return the epochs of a refit: the mean of the epochs whose params were kept, over folds and seeds, rounded."""
    return max(1, int(np.floor(np.mean(kept_epoch) + 0.5)))


def scored(run: Run, grid: sweep.Grid, refit: Refit, examples: Examples, test: Rows) -> dict[str, np.ndarray]:
    """Return the mean metrics of the refitted params on test rows, [G] each; NaN where a seed went non-finite."""
    metrics = jax.jit(run.score)(grid.hyper, refit.result.state, examples, test)
    return {name: np.where(refit.nonfinite_step < 0, values, np.nan) for name, values in metrics.items()}
