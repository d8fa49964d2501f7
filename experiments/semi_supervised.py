r"""What points without a label are worth: Gaussian mixtures by EM, from labelled points alone and from all together.

  python -m experiments.semi_supervised
  python -m experiments.semi_supervised --dataset=moons --components=1,2,4
  python -m experiments.semi_supervised --dataset=mine.csv --target=species --labels=10,20,50

Of the training rows a few keep their label, drawn by class; the others hide theirs. A mixture with components for each
class is learned from the labelled rows alone, where every responsibility is known, and from all rows, where EM fills in
those of the others. Each way to learn, at each number of labels, has the covariance that validation rows prefer;
test rows are looked at once, with what was chosen. Beside it BIC says, without any label, how many components the
points fall into: where that is not what the classifiers have, unlabelled points may hurt, and the page says so.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments import flags as shared
from experiments.labelling import ALONE, BOTH, EVERY, Measured, Part, Place, Setting, compare, drawn, measure
from experiments.workdir import Lines, Workdir, default_path, finite, flagfile, launch, process_seconds
from mllab import devices
from mllab.data import catalog
from mllab.data.dataset import Dataset
from mllab.errors import UserError, unknown
from mllab.metrics import interval
from mllab.models import mixture, pca
from mllab.report import console, figures, mixture_panels
from mllab.report import semi_supervised as report

for name in ("dataset", "target", "task", "restarts", "split_seed", "workdir", "data_dir", "devices"):
    flags.declare_key_flag(name)
LABELS = flags.DEFINE_list(
    "labels",
    None,
    "Numbers of labelled rows, of all classes together. Default: one a class, then twice as many, up to 32 a class.",
)
DRAWS = flags.DEFINE_integer(
    "draws", 20, "How many draws of the labelled rows, by seeds 0, 1, ... Intervals want at least 3.", lower_bound=1
)
COVARIANCES = flags.DEFINE_list(
    "covariances", ["spherical", "tied", "diagonal", "full"], "Covariances that validation rows choose from."
)
COMPONENTS = flags.DEFINE_list("components", ["1"], "Numbers of components a class that validation rows choose from.")
MOST_COMPONENTS = flags.DEFINE_integer(
    "most_components", None, "BIC is compared up to so many. Default: twice the classes, and at least 8.", lower_bound=1
)
DIMENSIONS = flags.DEFINE_integer(
    "dimensions",
    None,
    "Principal components that replace the columns. Default: the columns as they are up to 16, else 16 components.",
    lower_bound=1,
)

WHOLE = 16  # columns that a mixture takes as they are; see --dimensions
DOUBLINGS = 6  # numbers of labels by default
MESH = 160  # columns of places at which a boundary is looked for


class Columns(NamedTuple):
    """The inputs of a data set as few columns."""

    points: np.ndarray  # [N, D] float32
    given: int  # columns before
    variance: float  # the share of theirs, over the training rows, that is kept


def reduced(data: Dataset, dimensions: int | None) -> Columns:
    """Return the inputs as they are, or as their principal components in units of one deviation for all.

    Raises:
        UserError: more components than columns.
    """
    inputs = data.inputs.reshape(len(data.inputs), -1)
    given = inputs.shape[1]
    if dimensions is not None and dimensions > given:
        raise UserError(f"--dimensions={dimensions}: {data.name} has {given} columns: give {given} or fewer")
    if dimensions is None and given <= WHOLE:
        return Columns(inputs, given, 1.0)
    count = dimensions or WHOLE
    axes = pca.fit(inputs[data.split.train], count)
    deviation = np.sqrt(axes.variances[:count].mean()) or 1.0
    points = (pca.transform(axes, inputs) / deviation).astype(np.float32)
    return Columns(points, given, float(axes.variances[:count].sum() / (axes.variances.sum() or 1.0)))


def main(argv: Sequence[str]) -> None:
    """Read the flags and run."""
    devices.use_cores(shared.DEVICES.value)
    devices.cache_compilations()
    path = Path(shared.WORKDIR.value) if shared.WORKDIR.value else default_path("semi_supervised")
    run(
        Workdir(path, "semi_supervised", flagfile("__main__")),
        dataset=shared.DATASET.value or "stretched",
        data_dir=shared.DATA_DIR.value,
        target=shared.TARGET.value,
        task=shared.TASK.value,
        split_seed=shared.SPLIT_SEED.value,
        dimensions=DIMENSIONS.value,
        labels=None if LABELS.value is None else shared.whole_numbers(LABELS.value, "labels"),
        seeds=range(DRAWS.value),
        covariances=COVARIANCES.value,
        components=shared.whole_numbers(COMPONENTS.value, "components"),
        most_components=MOST_COMPONENTS.value,
        restarts=shared.RESTARTS.value,
        device_count=shared.DEVICES.value,
    )


def run(
    workdir: Workdir,
    *,
    dataset: str = "stretched",
    data_dir: str | None = None,
    target: str | None = None,
    task: str | None = None,
    split_seed: int = 0,
    dimensions: int | None = None,
    labels: Sequence[int] | None = None,
    seeds: Sequence[int] = range(20),
    covariances: Sequence[str] = ("spherical", "tied", "diagonal", "full"),
    components: Sequence[int] = (1,),
    most_components: int | None = None,
    restarts: int = 10,
    device_count: int | None = None,
) -> dict[str, Any]:
    """Measure, write the workdir, show the table; return the summary that summary.json holds.

    There is nothing to resume: the same workdir again repeats the seconds, to the same bits.

    Args:
        workdir: where to write.
        dataset: rows with classes.
        data_dir: where to look for them first.
        target: column to predict, of a table of your own.
        task: what a table's target is, where its values should not decide.
        split_seed: of the split, where the set brings none.
        dimensions: principal components instead of the columns (default: of more than WHOLE columns so many).
        labels: numbers of labelled rows, of all classes together.
        seeds: each draws its own labelled rows.
        covariances: to choose from.
        components: numbers of components a class to choose from.
        most_components: BIC is compared up to so many.
        restarts: starts of each fit.
        device_count: devices to spread the fits over (default: all).
    """
    seconds = {"start and imports": process_seconds()}
    began = time.perf_counter()
    data = load_classes(dataset, data_dir, target, task, split_seed)
    settings = checked_settings(covariances, components)
    counts = checked_labels(labels, data)
    columns = reduced(data, dimensions)
    train, validation, test = (
        Part(jnp.asarray(columns.points[rows]), jnp.asarray(data.targets[rows]))
        for rows in (data.split.train, data.split.validation, data.split.test)
    )
    classes = len(data.classes)
    most = checked_most(most_components, classes, components, len(data.split.train))
    mesh = devices.mesh(device_count)
    seconds["data"] = time.perf_counter() - began
    with workdir.opened():
        environment = workdir.write_environment(data.sha256, mesh.size)
        with Lines(workdir.path / "metrics.jsonl") as lines, console.Progress() as progress:
            began = time.perf_counter()
            bic = compare(jax.random.key(seeds[0]), train.points, most, covariances, restarts)
            lines.add(
                {"components": count, "covariance": covariance, "bic": value}
                for covariance, values in bic["values"].items()
                for count, value in zip(bic["components"], values, strict=True)
            )
            seconds["BIC"] = time.perf_counter() - began
            progress.task("mixtures", len(settings), lanes=2 * len(counts) * len(seeds) + 1)
            measured = measure(
                train,
                validation,
                test,
                classes,
                counts=counts,
                seeds=seeds,
                bic={each: bic["values"][each.covariance][classes * each.components - 1] for each in settings},
                restarts=restarts,
                mesh=mesh,
                observe=observer(lines, progress, seconds),
            )
            lines.add(place._asdict() | {"test_accuracy": accuracy} for place, accuracy in measured.test.items())
        summary = summarise(data, columns, measured, bic, settings=settings, counts=counts, seeds=seeds)
        summary |= {"split_seed": split_seed, "restarts": restarts}
        shown = panels(data, columns, measured, summary["panels"])
        write_report(workdir, finite(summary), shown, environment, seconds)
    console.show(report.gain_table(summary))
    print(f"\n{report.answer(summary)}\nReport: {workdir.path / 'report.html'}")
    return summary


def load_classes(dataset: str, data_dir: str | None, target: str | None, task: str | None, split_seed: int) -> Dataset:
    """Return the data set.

    Raises:
        UserError: see `catalog.load`; or values where there should be classes.
    """
    data = catalog.load(dataset, data_dir=data_dir, split_seed=split_seed, target=target, task=task)
    if data.task != "classification":
        raise UserError(
            f"{data.name} has values to predict, and here classes are: try stretched, moons or digits, or a table with "
            "--task=classification"
        )
    return data


def checked_settings(covariances: Sequence[str], components: Sequence[int]) -> list[Setting]:
    """Return every pair, in their order.

    Raises:
        UserError: none, an unknown covariance, or one given twice.
    """
    for name in covariances:
        if name not in mixture.COVARIANCES:
            raise unknown("covariance", name, mixture.COVARIANCES)
    for flag, values in (("covariances", covariances), ("components", components)):
        if not values or len(set(values)) != len(values):
            raise UserError(f"--{flag}={','.join(map(str, values))}: give one or more, each once")
    return [Setting(covariance, count) for count in components for covariance in covariances]


def checked_most(most: int | None, classes: int, components: Sequence[int], rows: int) -> int:
    """Return up to how many components BIC is compared.

    Raises:
        UserError: fewer than the classifiers have, or more than training rows.
    """
    needed = classes * max(components)
    most = min(rows, max(8, 2 * classes, needed)) if most is None else most
    if not needed <= most <= rows:
        raise UserError(
            f"--most_components={most}: the classifiers have up to {needed} components, and there are {rows:,} "
            f"training rows: give {needed} to {rows:,}"
        )
    return most


def checked_labels(labels: Sequence[int] | None, data: Dataset) -> list[int]:
    """Return numbers of labelled rows, ascending.

    Raises:
        UserError: one given twice, fewer than classes, or so many that no row is left without a label.
    """
    rows, classes = len(data.split.train), len(data.classes)
    if labels is None:
        doubled = [classes * 2**power for power in range(DOUBLINGS)]
        labels = [count for count in doubled if 2 * count <= rows] or [classes]
    given = f"--labels={','.join(map(str, labels))}"
    if not labels or len(set(labels)) != len(labels):
        raise UserError(f"{given}: give one or more, each once")
    if min(labels) < classes:
        raise UserError(f"{given}: {data.name} has {classes} classes, and each needs a label: give {classes} or more")
    if max(labels) >= rows:
        raise UserError(f"{given}: {data.name} has {rows:,} training rows, and some must hide their label: give fewer")
    return sorted(labels)


def observer(
    lines: Lines, progress: console.Progress, seconds: dict[str, float]
) -> Callable[[Setting, Sequence[Place], mixture.Fit, np.ndarray], None]:
    """Return what `measure` tells its settings to: the bar moves, each fit has its record, seconds are told by part."""
    began, best = time.perf_counter(), 0.0

    def seen(setting: Setting, places: Sequence[Place], fits: mixture.Fit, validation: np.ndarray) -> None:
        nonlocal began, best
        best = max(best, validation.max())
        progress.advance(best=best)
        values = {
            "validation_accuracy": validation,
            "log_likelihood": fits.log_likelihood,
            "steps": fits.steps,
            "converged": fits.converged,
        }
        columns = {name: np.asarray(each).tolist() for name, each in values.items()}
        lines.add(
            place._asdict() | setting._asdict() | {name: each[lane] for name, each in columns.items()}
            for lane, place in enumerate(places)
        )
        now = time.perf_counter()
        seconds[setting.covariance] = seconds.get(setting.covariance, 0.0) + now - began
        began = now

    return seen


def summarise(
    data: Dataset,
    columns: Columns,
    measured: Measured,
    bic: Mapping[str, Any],
    *,
    settings: Sequence[Setting],
    counts: Sequence[int],
    seeds: Sequence[int],
) -> dict[str, Any]:
    """Return the final figures as plain values, ready for JSON."""
    chosen, places = measured.chosen, measured.places
    rows = {part: len(getattr(data.split, part)) for part in ("train", "validation", "test")}

    def tested(method: str, count: int) -> np.ndarray:
        return np.array([measured.test[Place(method, count, seed)] for seed in seeds])

    def of(method: str, count: int) -> dict[str, Any]:
        setting = chosen[method, count]
        own = [(place.method, place.labels) == (method, count) for place in places]
        return setting._asdict() | {
            "validation": measured.validation[setting][own].mean(),
            "test": interval(tested(method, count)),
            "test_by_draw": tested(method, count).tolist(),
        }

    every = Place(EVERY, rows["train"], seeds[0])
    settled = np.concatenate([np.asarray(fits.converged) for fits in measured.fits.values()])
    return {
        "experiment": "semi_supervised",
        "dataset": {
            "name": data.name,
            "rows": rows,
            "classes": list(data.classes),
            "licence": data.licence,
            "citation": data.citation,
            "notes": list(data.notes),
        },
        "columns": {"given": columns.given, "kept": columns.points.shape[1], "variance": columns.variance},
        "draws": list(seeds),
        "covariances": list(dict.fromkeys(setting.covariance for setting in settings)),
        "components": list(dict.fromkeys(setting.components for setting in settings)),
        "counts": [
            {
                "labels": count,
                ALONE: of(ALONE, count),
                BOTH: of(BOTH, count),
                "gain": interval(100 * (tested(BOTH, count) - tested(ALONE, count))),
            }
            for count in counts
        ],
        EVERY: chosen[EVERY, every.labels]._asdict() | {"labels": every.labels, "test": measured.test[every]},
        "bic": bic,
        "panels": {
            "labels": next((each for each in counts if each >= 2 * len(data.classes)), counts[0]),
            "seed": seeds[0],
        },
        "climbs": [{"labels": count, "history": climb(measured, Place(BOTH, count, seeds[0]))} for count in counts],
        "fits": {"all": settled.size, "short": int(np.sum(~settled))},
    }


def fit_of(measured: Measured, place: Place) -> mixture.Fit:
    """Return one fit with the setting that was chosen for it."""
    lane = measured.places.index(place)
    return jax.tree.map(lambda a: a[lane], measured.fits[measured.chosen[place.method, place.labels]])


def climb(measured: Measured, place: Place) -> list[float]:
    """Return the likelihood after each step of a fit."""
    fit = fit_of(measured, place)
    return np.asarray(fit.history)[: int(fit.steps)].tolist()


def panels(
    data: Dataset, columns: Columns, measured: Measured, shown: Mapping[str, int]
) -> tuple[mixture_panels.Points, mixture_panels.Learned, mixture_panels.Learned]:
    """Return the points of one draw and what was learned from them, in the plane."""
    train, width = data.split.train, columns.points.shape[1]
    if width <= 2:
        plane = np.eye(width, 2)
        named = (*data.features, "")[:2] if columns.given == width and data.features else ()
    else:
        plane = pca.fit(columns.points[train], 2).axes
        named = ()
    points = columns.points[train]
    told = np.full(len(train), -1)
    rows = drawn(data.targets[train], shown["labels"], shown["seed"])
    told[rows] = data.targets[train][rows]
    places = points @ plane
    axes = named or ("1st principal component", "2nd principal component")

    def learned_from(method: str, said: str) -> mixture_panels.Learned:
        place = Place(method, shown["labels"], shown["seed"])
        params = fit_of(measured, place).params
        margins = None
        if width == 2:
            x, y = mixture_panels.mesh(places, MESH)
            grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2).astype(np.float32)
            outputs = np.asarray(mixture.apply(params, jnp.asarray(grid), len(data.classes)), float)
            margins = leads(outputs).reshape(len(y), len(x), -1)
        return mixture_panels.Learned(
            f"{said}: {measured.test[place]:.1%}",
            np.asarray(params.means) @ plane,
            plane.T @ np.asarray(mixture.covariances(params)) @ plane,
            np.asarray(mixture.owners(params, len(data.classes))),
            margins,
        )

    return (
        mixture_panels.Points(places, told, data.classes, axes),
        learned_from(ALONE, "learned from the labelled"),
        learned_from(BOTH, "learned from both"),
    )


def leads(outputs: np.ndarray) -> np.ndarray:
    """Return by how much each class's log-probability exceeds that of its best rival, [N, C]."""
    best_two = np.sort(outputs, axis=1)[:, -2:]
    rival = np.where(outputs == best_two[:, 1:], best_two[:, :1], best_two[:, 1:])
    return outputs - rival


def write_report(
    workdir: Workdir,
    summary: dict[str, Any],
    shown: tuple[mixture_panels.Points, mixture_panels.Learned, mixture_panels.Learned],
    environment: Mapping[str, Any],
    seconds: dict[str, float],
) -> None:
    """Write the figures, the page and summary.json."""
    from mllab.report import page

    began = time.perf_counter()
    folder = workdir.path / "figures"
    drawn = report.figures(summary, folder)
    title = f"{summary['panels']['labels']:,} labels, and what the other points add to them"
    four = figures.save(mixture_panels.four_panels(*shown, title=title), folder / "four_panels.svg")
    seconds["figures"] = time.perf_counter() - began
    summary["seconds"] = seconds | {"total": process_seconds()}
    page.write(workdir.path / "report.html", report.page(summary, four, drawn, environment, workdir.command))
    workdir.write_json("summary.json", summary)


if __name__ == "__main__":
    launch(main)
