"""Lanes of learning rates × seeds after their training: the rate that the validation part chooses, and its seeds."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from mllab import sweep
from mllab.averaging import evaluation_params
from mllab.metrics import bands
from mllab.training import Result
from mllab.types import Params


@dataclass(frozen=True, kw_only=True)
class TrainedLanes:
    """The lanes of one model, trained with every learning rate (R) and seed (G)."""

    result: Result
    grid: sweep.Grid

    @cached_property
    def validation(self) -> np.ndarray:
        """The loss of the kept params on the validation part, [R, G]; NaN where a lane went non-finite."""
        return self.finite(self.result.kept_loss)

    @cached_property
    def best(self) -> int | None:
        """The index of the rate with the least mean validation loss; None if each has a non-finite lane."""
        mean = self.validation.mean(axis=1)
        return None if np.isnan(mean).all() else int(np.nanargmin(mean))

    @property
    def seed(self) -> int:
        """The position of the seed with the least validation loss at the chosen rate."""
        return int(np.nanargmin(self.validation[self.best or 0]))

    @property
    def nonfinite(self) -> int:
        """The number of lanes that went non-finite."""
        return int((self.result.nonfinite_step >= 0).sum())

    def finite(self, values: Any) -> np.ndarray:
        """Return values of the lanes [L] as [R, G]; NaN where a lane went non-finite."""
        return np.where(self.grid.by_axis(self.result.nonfinite_step) < 0, self.grid.by_axis(values), np.nan)

    def lane(self, seed: int) -> int:
        """Return the lane of a seed, by position, at the chosen rate."""
        return seed * self.validation.shape[0] + (self.best or 0)

    def params(self, seed: int) -> Params:
        """Return the kept params of a seed, by position, at the chosen rate."""
        kept, lane = self.result.kept, self.lane(seed)
        state, params = jax.tree.map(lambda leaf: np.asarray(leaf)[lane], (kept.optimizer, kept.params))
        return jax.tree.map(jnp.asarray, evaluation_params(state, params))

    def rate(self, rates: Sequence[float]) -> float | None:
        """Return the chosen one of the rates; None if there is none."""
        return None if self.best is None else rates[self.best]

    def at_rate(self, values: np.ndarray) -> np.ndarray:
        """Return values [R, G] at the chosen rate, [G]; NaN if there is none."""
        return np.full(values.shape[1], np.nan) if self.best is None else values[self.best]

    @property
    def steps(self) -> np.ndarray:
        """The steps taken before each score, [E], up to an early stop."""
        return self.result.history.step[self.scored]

    def band(self, values: np.ndarray, scale: Callable[[np.ndarray], np.ndarray] = lambda row: row) -> np.ndarray:
        """Return mean, low and high over seeds, [E, 3], of values of the lanes [E, L] at the chosen rate.

        Args:
            values: after each segment.
            scale: values of the seeds [G] -> values in another unit.
        """
        at_rate = self.grid.by_axis(values[self.scored], -1)[:, self.best or 0]  # [E, G]
        return bands(scale(row) for row in at_rate)

    @property
    def scored(self) -> np.ndarray:
        """Whether each segment was reached, [E]; some are not after an early stop."""
        return np.isfinite(self.result.history.seconds)


T = TypeVar("T", bound=TrainedLanes)


def least(trained: Iterable[T]) -> T | None:
    """Return the model with the least mean validation loss at its rate; None if none has a rate."""
    finite = [each for each in trained if each.best is not None]
    return min(finite, key=lambda each: each.validation[each.best or 0].mean(), default=None)
