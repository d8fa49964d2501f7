"""BIC of Gaussian mixtures: how many components rows have, without their labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax
import numpy as np

from mllab.models import mixture
from mllab.report import draw
from mllab.report.report import Drawing
from mllab.report.style import class_style
from mllab.report.table import Table
from mllab.types import Array, Key

STEPS, TOLERANCE = 200, 1e-3  # of EM; see `mixture.fit`


@dataclass(frozen=True)
class Setting:
    """A kind of covariance, and a number of components."""

    covariance: str
    components: int


@dataclass(frozen=True)
class Bic:
    """BIC by covariance and number of components."""

    components: list[int]  # 1 to K
    values: Mapping[str, list[float]]  # of each covariance, [K]
    chosen: Setting  # of the least BIC

    def conclusion(self, classes: int, per_class: Sequence[int]) -> str:
        """Return whether BIC prefers as many components as the classifiers have: `per_class` for each class."""
        chosen, counts = self.chosen, [classes * count for count in per_class]
        text = f"BIC, which uses no labels, prefers {chosen.components} components of {chosen.covariance} covariance"
        if chosen.components == self.components[-1] > 1:
            text += ", the most that were tried"
        if chosen.components in counts:
            return f"{text}: as many as {'there are classes' if chosen.components == classes else 'could be chosen'}."
        return (
            f"{text}; the classifiers have {' or '.join(map(str, counts))}. The components that describe the rows best "
            "are not the classes, so unlabelled rows may draw components away from their classes."
        )

    def table(self, rows: int) -> Table:
        """Return a row for each number of components: by how much the BIC of each covariance exceeds the least."""
        least = min(map(min, self.values.values()))
        cells = [
            [f"{value - least:,.1f}{' (least)' * (value == least)}" for value in values]
            for values in zip(*self.values.values(), strict=True)
        ]
        return Table(
            ["components", *self.values],
            [[count, *texts] for count, texts in zip(self.components, cells, strict=True)],
            self.components.index(self.chosen.components),
            f"BIC less the least of all, {least:,.1f}: −2 log-likelihood + parameters × log rows, of {rows:,} training "
            "rows without their labels; smaller is better",
        )

    def drawing(self, classes: int) -> Drawing:
        """Draw BIC against the number of components, a line for each covariance."""
        best, x = {self.chosen.covariance: self.chosen.components}, np.array(self.components, float)
        figure = draw.curves(
            [
                draw.Series(name, x, np.array(values), style=class_style(i), best=best.get(name))
                for i, (name, values) in enumerate(self.values.items())
            ],
            title=f"BIC prefers {self.chosen.components} components; there are {classes} classes",
            x_label="components",
            y_label="BIC (nats); smaller is better",
            integer_x=True,
            note="Large marker: the least. Training rows without their labels.",
        )
        caption = "The least BIC is the best trade-off between fit and number of parameters."
        return Drawing("bic_by_components", figure, "BIC against the number of components", caption)


def compare(key: Key, points: Array, most: int, covariances: Sequence[str], restarts: int) -> Bic:
    """Return the BIC of 1 to `most` components with each covariance, fitted to points [N, D]."""
    counts, values = list(range(1, most + 1)), {}
    for covariance in covariances:
        fits = mixture.sweep(
            key, points, counts, covariance=covariance, restarts=restarts, steps=STEPS, tolerance=TOLERANCE
        )
        values[covariance] = jax.vmap(mixture.bic, (0, None))(fits.params, points).tolist()
    least = min((value, count, name) for name in values for count, value in zip(counts, values[name], strict=True))
    return Bic(counts, values, Setting(least[2], least[1]))
