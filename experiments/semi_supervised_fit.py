"""Gaussian mixtures fitted to few labels: every fit of a setting in one program, and the choice of settings."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from experiments.frame import unsaved
from experiments.mixture_bic import EM, Setting
from mllab import devices, selection, sweep
from mllab.data.dataset import Dataset
from mllab.data.split import stratified_order
from mllab.errors import UserError
from mllab.metrics import Interval, interval
from mllab.models import mixture, pca
from mllab.report import draw
from mllab.report.report import Drawing
from mllab.types import Array, Key

MAX_COLUMNS = 16  # that mixtures are fitted to as they are; of more, as many principal components
ALONE, BOTH, EVERY = "alone", "both", "every"  # fitted to labelled rows; to all rows; to all rows, all labelled


@dataclass(frozen=True)
class Method(Setting):
    """The setting chosen for a method and a number of labels (components per class), and its accuracy."""

    validation: float  # mean over the draws
    test: Interval  # over the draws
    test_by_draw: list[float]
    fits: mixture.Fit = unsaved()  # one for each draw, [S]

    def history(self) -> list[float]:
        """Return the mean log-likelihood of a row after each step of EM, in the first draw."""
        return np.asarray(self.fits.history[0])[: int(self.fits.steps[0])].tolist()


@dataclass(frozen=True)
class Count:
    """Both methods with one number of labels."""

    labels: int
    alone: Method
    both: Method
    gain: Interval  # test accuracy of both less that of alone, draw by draw, in points

    @property
    def effect(self) -> str:
        """What unlabelled rows do to the accuracy, as far as the interval tells."""
        return "help" if self.gain.low > 0 else "hurt" if self.gain.high < 0 else "unclear"


@dataclass(frozen=True)
class Supervised(Setting):
    """The mixture fitted to all training rows with their labels (components per class)."""

    labels: int
    test: float


@dataclass(frozen=True)
class Climb:
    """Mean log-likelihood of a row after each step of EM on all rows, in the first draw of labels."""

    labels: int
    history: list[float]


@dataclass(frozen=True)
class Columns:
    """The columns that mixtures are fitted to."""

    given: int  # in the data set
    kept: int
    variance: float  # share of the training rows' variance that is kept
    points: np.ndarray = unsaved()  # [N, kept]


class Lane(NamedTuple):
    """One of the fits of a setting."""

    method: str
    labels: int
    seed: int  # of the draw of labels, and of the starts


class Lanes(NamedTuple):
    """What differs between the fits of a setting."""

    key: Key  # [L]
    labels: Array  # class of each training row, -1 for none, [L, N]
    weight: Array  # 0 for rows that a fit does not see, [L, N]


class Part(NamedTuple):
    """The rows of one part of the split."""

    points: Array  # [M, D]
    targets: Array  # [M]


def arrange(targets: np.ndarray, counts: Sequence[int], draws: int) -> tuple[list[Lane], Lanes]:
    """Return the fits of a setting: both methods with each number of labels and draw, and last one with all labels.

    Args:
        targets: class of each training row, [N].
        counts: numbers of labelled rows; each draw is stratified, and fewer rows are part of more.
        draws: by seeds 0, 1, ...
    """
    lanes = [Lane(method, count, seed) for method in (ALONE, BOTH) for count in counts for seed in range(draws)]
    lanes.append(Lane(EVERY, len(targets), 0))
    orders = [stratified_order(targets, seed) for seed in range(draws)]
    labels = np.full((len(lanes), len(targets)), -1, np.int32)
    for row, lane in zip(labels, lanes, strict=True):
        labelled = orders[lane.seed][: lane.labels]
        row[labelled] = targets[labelled]
    seen = (labels >= 0) | np.array([[lane.method != ALONE] for lane in lanes])
    key = jax.vmap(jax.random.key)(np.array([lane.seed for lane in lanes]))
    return lanes, Lanes(key, jnp.asarray(labels), jnp.asarray(seen, jnp.float32))


def fit(lanes: Lanes, points: Array, setting: Setting, classes: int, restarts: int, mesh: Mesh) -> mixture.Fit:
    """Fit every lane to points [N, D] in one program, spread over devices, on each in groups; leading axis [L]."""
    count, components = len(lanes.labels), classes * setting.components
    lane_bytes = restarts * components * points.size * points.dtype.itemsize
    total, size, _ = sweep.arrange(np.arange(count), mesh.size, devices.lanes_in_cache(mesh, lane_bytes) or count)
    options = {"covariance": setting.covariance, "classes": classes, "restarts": restarts, **EM}

    def one(lane: Lanes, points: Array) -> mixture.Fit:
        return mixture.fit(lane.key, points, components, labels=lane.labels, weight=lane.weight, **options)

    def local(lanes: Lanes, points: Array) -> mixture.Fit:
        groups = jax.tree.map(lambda a: a.reshape(-1, size, *a.shape[1:]), lanes)
        fits = jax.lax.map(lambda group: jax.vmap(one, (0, None))(group, points), groups)
        return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), fits)

    padded = jax.tree.map(lambda a: a[np.minimum(np.arange(total), count - 1)], lanes)  # repeats the last lane
    fits = jax.jit(sweep.spread(local, mesh, (0, None)))(padded, points)
    return jax.tree.map(lambda a: a[:count], fits)


@partial(jax.jit, static_argnames="classes")
def accuracies(params: mixture.Mixture, part: Part, classes: int) -> Array:
    """Return the accuracy of each mixture, [L]; params have the leading axis [L]."""

    def one(params: mixture.Mixture) -> Array:
        return jnp.mean(jnp.argmax(mixture.apply(params, part.points, classes), axis=1) == part.targets)

    return jax.lax.map(one, params)


def choose(
    fits: Mapping[Setting, mixture.Fit],
    validation: np.ndarray,
    lanes: Sequence[Lane],
    bic: Sequence[float],
    parts: Mapping[str, Part],
    classes: int,
) -> dict[tuple[str, int], Method]:
    """Choose a setting for each method and number of labels on validation rows, and score it on the test rows.

    It is the least BIC within one standard error of the best validation accuracy. All lanes share the validation rows,
    so a smaller lead may be due to these rows; BIC takes all training rows and no label.

    Args:
        fits: of each setting, [L].
        validation: accuracy of each setting and lane, [G, L].
        lanes: [L].
        bic: of each setting, [G].
        parts: the validation and test rows.
        classes: C.
    """
    settings, chosen = list(fits), {}
    select = selection.simplest(np.array(bic), selection.proportion_error(len(parts["validation"].targets)))
    for group in dict.fromkeys(lane[:2] for lane in lanes):
        ids = np.array([index for index, lane in enumerate(lanes) if lane[:2] == group])
        (best,) = select(validation[:, ids])
        kept = jax.tree.map(lambda a, ids=ids: a[ids], fits[settings[best]])
        test = accuracies(kept.params, parts["test"], classes).tolist()
        mean = float(validation[best, ids].mean())
        chosen[group] = Method(
            **asdict(settings[best]), validation=mean, test=interval(test), test_by_draw=test, fits=kept
        )
    return chosen


def compare(labels: int, chosen: Mapping[tuple[str, int], Method]) -> Count:
    """Return both methods with one number of labels."""
    alone, both = chosen[ALONE, labels], chosen[BOTH, labels]
    gain = interval(100 * (np.array(both.test_by_draw) - np.array(alone.test_by_draw)))
    return Count(labels, alone, both, gain)


def reduced(data: Dataset, dimensions: int | None) -> Columns:
    """Return the columns of a data set, or their principal components in units of one deviation for all.

    Raises:
        UserError: more components than columns.
    """
    inputs = data.inputs.reshape(len(data.inputs), -1)
    given = inputs.shape[1]
    if dimensions is not None and dimensions > given:
        raise UserError(f"--dimensions={dimensions}: {data.name} has {given} columns: give {given} or fewer")
    if dimensions is None and given <= MAX_COLUMNS:
        return Columns(given, given, 1.0, inputs)
    count = dimensions or MAX_COLUMNS
    axes = pca.fit(inputs[data.split.train], count)
    deviation = np.sqrt(axes.variances[:count].mean()) or 1.0
    points = (pca.transform(axes, inputs) / deviation).astype(np.float32)
    return Columns(given, count, float(axes.variances[:count].sum() / (axes.variances.sum() or 1.0)), points)


def in_the_plane(
    data: Dataset, columns: Columns, chosen: Mapping[tuple[str, int], Method], labels: int, seed: int
) -> Drawing:
    """Draw one draw of labels and the mixtures fitted to it; rows of more than two columns in their principal plane."""
    points, targets, width = columns.points[data.split.train], data.targets[data.split.train], columns.kept
    plane = np.eye(width, 2) if width <= 2 else pca.fit(points, 2).axes
    labelled, shown = stratified_order(targets, seed)[:labels], np.full(len(targets), -1)
    shown[labelled] = targets[labelled]
    mesh, classes, mixtures = draw.mesh(points @ plane), len(data.classes), []
    for name, title in ((ALONE, "fitted to the labelled rows"), (BOTH, "fitted to all rows")):
        method, leads = chosen[name, labels], None
        params = jax.tree.map(lambda a: a[seed], method.fits.params)
        if width == 2:
            outputs = np.asarray(mixture.apply(params, jnp.asarray(mesh.places, jnp.float32), classes), float)
            leads = draw.leads(outputs.T.reshape(classes, *mesh.shape))
        means, covariances = np.asarray(params.means) @ plane, plane.T @ np.asarray(mixture.covariances(params)) @ plane
        heading, owners = f"{title}: {method.test_by_draw[seed]:.1%}", np.asarray(mixture.owners(params, classes))
        mixtures.append(draw.Mixture(heading, means, covariances, owners, leads))
    named = columns.given == width <= 2 and data.features
    x, y = (*data.features, "")[:2] if named else ("1st principal component", "2nd principal component")
    title = f"{labels:,} labels, and what unlabelled rows add to them"
    figure = draw.semi_supervised(
        mesh, points @ plane, shown, data.classes, tuple(mixtures), title=title, x_label=x, y_label=y
    )
    alt = "Labelled rows; labelled and unlabelled rows; and the mixtures fitted to each"
    return Drawing(
        "four_panels", figure, alt, f"Draw {seed} of {labels:,} labels. The percentages are test accuracies."
    )
