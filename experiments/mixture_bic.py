"""BIC of Gaussian mixtures: how many components rows have without their labels, in words, as a table and drawn."""

from collections.abc import Sequence

import numpy as np

from mllab.models import mixture
from mllab.report import draw
from mllab.report.report import Drawing
from mllab.report.style import class_style
from mllab.report.table import Table, fixed


def conclusion(bic: mixture.Selection, classes: int, per_class: Sequence[int]) -> str:
    """Return whether BIC prefers as many components as the classifiers have: `per_class` for each class."""
    chosen, counts = bic.chosen, [classes * count for count in per_class]
    text = f"BIC, which uses no labels, prefers {chosen.components} components of {chosen.covariance} covariance"
    if chosen.components == bic.components[-1] > 1:
        text += ", the most that were tried"
    if chosen.components in counts:
        return f"{text}: as many as {'there are classes' if chosen.components == classes else 'could be chosen'}."
    return (
        f"{text}; the classifiers have {' or '.join(map(str, counts))}. The components that describe the rows best "
        "are not the classes, so unlabelled rows may draw components away from their classes."
    )


def table(bic: mixture.Selection, rows: int) -> Table:
    """Return a row for each number of components: by how much the BIC of each covariance exceeds the least."""
    values = np.array(list(bic.values.values())).T  # [K, covariances]
    least = values.min()
    cells = [[f"{value - least:,.1f}{' (least)' * bool(value == least)}" for value in row] for row in values]
    caption = (
        f"BIC less the least of all, {fixed(least, 1)}: −2 log-likelihood + parameters × log rows, of {rows:,} "
        "training rows without their labels; smaller is better"
    )
    lines = [[count, *texts] for count, texts in zip(bic.components, cells, strict=True)]
    return Table(["components", *bic.values], lines, bic.components.index(bic.chosen.components), caption)


def drawing(bic: mixture.Selection, classes: int) -> Drawing:
    """Draw BIC against the number of components, a line for each covariance."""
    best = {bic.chosen.covariance: bic.chosen.components}
    series = [
        draw.Series(name, np.array(bic.components, float), np.array(values), style=class_style(i), best=best.get(name))
        for i, (name, values) in enumerate(bic.values.items())
    ]
    figure = draw.curves(
        series, x_label="components", y_label="BIC (nats); smaller is better", integer_x=True,
        title=f"BIC prefers {bic.chosen.components} components; there are {classes} classes",
        note="Large marker: the least. Training rows without their labels.",
    )  # fmt: skip
    caption = "The least BIC is the best trade-off between fit and number of parameters."
    return Drawing("bic_by_components", figure, "BIC against the number of components", caption)
