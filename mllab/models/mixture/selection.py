"""The number of components and the kind of covariance, chosen by BIC, which needs no labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax

from mllab.models.mixture.gaussians import COVARIANCES
from mllab.models.mixture.mixture import bic, sweep
from mllab.types import Array, Key


@dataclass(frozen=True)
class Setting:
    """A kind of covariance, and a number of components."""

    covariance: str  # one of COVARIANCES
    components: int


@dataclass(frozen=True)
class Selection:
    """BIC by covariance and number of components; smaller is better."""

    components: list[int]  # numbers of components, [K]
    values: Mapping[str, list[float]]  # BIC of each covariance, [K]
    chosen: Setting  # of the least BIC


def select_components(
    key: Key,
    points: Array,
    counts: Sequence[int],
    covariances: Sequence[str] = COVARIANCES,
    *,
    restarts: int = 10,
    steps: int = 100,
    tolerance: float = 1e-3,
) -> Selection:
    """Return the BIC of mixtures fitted to points [N, D], and the setting of the least: of ties, the fewest components.

    Args:
        key: for the starts, shared by all covariances.
        points: [N, D].
        counts: numbers of components to try, [K].
        covariances: kinds of covariance to try.
        restarts: see `fit`.
        steps: see `fit`.
        tolerance: see `fit`.

    Raises:
        UserError: see `fit`.

    Source: Schwarz, *Estimating the dimension of a model*, Annals of Statistics 6 (1978).
    """
    values = {}
    for covariance in covariances:
        fits = sweep(key, points, counts, covariance=covariance, restarts=restarts, steps=steps, tolerance=tolerance)
        values[covariance] = jax.vmap(bic, (0, None))(fits.params, points).tolist()
    least = min((value, count, name) for name in values for count, value in zip(counts, values[name], strict=True))
    return Selection(list(counts), values, Setting(least[2], least[1]))
