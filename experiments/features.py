r"""What a net's features are worth: to a linear probe and to nearest neighbours, beside pixels and an untrained net's.

  python -m experiments.features
  python -m experiments.features --dataset=fashion_mnist --params=runs/image_classifier/TIME/params.safetensors

Features are what the net's last layer sees. Each way to represent the images is tried with 1%, 10% and all of the
training rows, drawn by class. The linear probe is softmax regression at its optimum. Validation rows choose its penalty
and the number of neighbours; test rows are looked at once, with what was chosen.
"""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments import flags as shared
from experiments import predict as publications
from experiments.workdir import Lines, Workdir, default_path, finite, flagfile, launch, process_seconds
from mllab import devices, weights
from mllab.data import catalog
from mllab.data.dataset import Dataset
from mllab.data.split import stratified
from mllab.errors import UserError
from mllab.metrics import Interval, interval
from mllab.models import convnet, linear, neighbors, softmax
from mllab.models import table as models
from mllab.models.base import predict
from mllab.report import console
from mllab.report import features as report
from mllab.types import Array, Key, Params

for name in ("dataset", "params", "seeds", "split_seed", "workdir", "data_dir"):
    flags.declare_key_flag(name)
FRACTIONS = flags.DEFINE_list(
    "fractions", ["0.01", "0.1", "1"], "Shares of the training rows that are fitted to, above 0 and up to 1."
)

L2 = (1.0, 10.0, 100.0, 1000.0)  # penalties of the linear probe, on the sum over its training rows
K = (1, 3, 5, 10, 20)  # how many neighbours vote
TOLERANCE = 1e-4  # of the linear probe's optimum; see `softmax.fit`


class Part(NamedTuple):
    """Some rows in one representation, with their labels."""

    inputs: Array  # [M, D]
    targets: Array  # [M]


class Cell(NamedTuple):
    """What one draw of training rows gave."""

    validation: Mapping[Any, float]  # accuracy with each setting, l2 or k
    chosen: float  # the setting of the best validation accuracy, of equal ones the first
    test: float  # accuracy with that one
    short: int  # fits that stopped short of the optimum


def linear_probe(train: Part, validation: Part, test: Part, classes: int) -> Cell:
    """Fit softmax regression to its optimum with each penalty; validation rows choose one, test rows score that one."""
    fits = {l2: softmax.fit(train.inputs, train.targets, classes, l2=l2, tolerance=TOLERANCE) for l2 in L2}
    scores = {l2: _accuracy(linear.apply(fit.params, validation.inputs), validation) for l2, fit in fits.items()}
    chosen = max(scores, key=scores.__getitem__)
    reached = _accuracy(linear.apply(fits[chosen].params, test.inputs), test)
    return Cell(scores, chosen, reached, short=sum(not fit.gradient <= TOLERANCE for fit in fits.values()))


def nearest_neighbors(train: Part, validation: Part, test: Part, classes: int) -> Cell:
    """Let each number of neighbours vote; validation rows choose one, test rows score that one."""
    most = max(k for k in K if k <= len(train.targets))

    def votes(part: Part) -> Callable[[int], Array]:
        labels = train.targets[neighbors.nearest(train.inputs, part.inputs, most).ids]
        return lambda k: neighbors.log_probabilities(labels, jnp.ones(labels.shape), k, classes)

    voted = votes(validation)
    scores = {k: _accuracy(voted(k), validation) for k in K if k <= most}
    chosen = max(scores, key=scores.__getitem__)
    return Cell(scores, chosen, _accuracy(votes(test)(chosen), test), short=0)


def _accuracy(outputs: Array, part: Part) -> float:
    return float(np.mean(np.asarray(outputs).argmax(axis=1) == part.targets))


PROBES: Mapping[str, Callable[[Part, Part, Part, int], Cell]] = {
    report.PROBE: linear_probe,
    report.NEIGHBORS: nearest_neighbors,
}
SETTINGS: Mapping[str, tuple[str, Sequence[float]]] = {report.PROBE: ("l2", L2), report.NEIGHBORS: ("k", K)}

Cells = dict[tuple[str, str, float], list[Cell]]  # by representation, probe and fraction: a cell a draw


def features(params: Params, extra: Any, images: Array, key: Key | None) -> tuple[Array, Any]:
    """Return `convnet.features` in the form of a model's `apply`."""
    del key
    return convnet.features(params, images, extra), extra


def drawn(data: Dataset, fraction: float, seed: int) -> np.ndarray:
    """Return the ids of a fraction of the training rows, each class in proportion and with one row at least.

    What a seed draws at a small fraction is part of what it draws at a larger one.
    """
    train = data.split.train
    return train[stratified(data.targets[train], seed, (0.0, fraction, 0.0)).validation]


def parts(inputs: np.ndarray, targets: np.ndarray, *rows: np.ndarray) -> list[Part]:
    """Return rows of inputs [N, D], centred and in units of one deviation for all columns, both of the first rows'.

    One deviation, not one a column: the columns have a unit in common, and a pixel that has ink in few training rows
    would drown all others, were it stretched.
    """
    first = inputs[rows[0]]
    mean = first.mean(axis=0, dtype=np.float64).astype(np.float32)
    deviation = np.sqrt(np.mean((first - mean) ** 2, dtype=np.float64)).astype(np.float32) or np.float32(1)
    return [Part(*map(jnp.asarray, ((inputs[ids] - mean) / deviation, targets[ids]))) for ids in rows]


def measure(
    net: weights.Published,
    data: Dataset,
    fractions: Sequence[float],
    seeds: Sequence[int],
    observe: Callable[[str, str, float, int, Cell], None] = lambda *cell: None,
) -> Cells:
    """Try each representation with each probe, at each fraction of the training rows, over the seeds' draws.

    Args:
        net: whose features are tried.
        data: images and classes.
        fractions: of the training rows.
        seeds: see `draws`.
        observe: told representation, probe, fraction, seed and cell as each arrives.
    """
    split, classes = data.split, len(data.classes)
    model = net.model._replace(apply=features)
    represent: Mapping[str, Callable[[int], np.ndarray]] = {
        report.PIXELS: lambda seed: data.inputs.reshape(len(data.inputs), -1),
        report.TRAINED: lambda seed: predict(model, net.params, net.extra, data.inputs),
        report.UNTRAINED: lambda seed: predict(model, *net.model.init(jax.random.key(seed)), data.inputs),
    }
    cells: Cells = {}
    for representation, inputs_of in represent.items():
        for position, seed in enumerate(seeds):
            if position == 0 or representation == report.UNTRAINED:
                inputs = inputs_of(seed)
            for fraction in fractions:
                if seed not in draws(representation, fraction, seeds):
                    continue
                train = drawn(data, fraction, seed)
                fit_to, choose_by, report_on = parts(inputs, data.targets, train, split.validation, split.test)
                for probe, fitted in PROBES.items():
                    cell = fitted(fit_to, choose_by, report_on, classes)
                    cells.setdefault((representation, probe, fraction), []).append(cell)
                    observe(representation, probe, fraction, seed, cell)
    return cells


def draws(representation: str, fraction: float, seeds: Sequence[int]) -> Sequence[int]:
    """Return the seeds that differ: all training rows can be drawn once only, but every seed has an untrained net."""
    return seeds if fraction < 1 or representation == report.UNTRAINED else seeds[:1]


def main(argv: Sequence[str]) -> None:
    """Read the flags and run."""
    devices.cache_compilations()
    path = Path(shared.WORKDIR.value) if shared.WORKDIR.value else default_path("features")
    run(
        Workdir(path, "features", flagfile("__main__")),
        dataset=shared.DATASET.value,
        data_dir=shared.DATA_DIR.value,
        split_seed=shared.SPLIT_SEED.value,
        params=publications.PARAMS.value,
        fractions=parse_fractions(FRACTIONS.value),
        seeds=range(shared.SEEDS.value),
    )


def parse_fractions(texts: Sequence[str]) -> list[float]:
    """Return the numbers of a flag's list."""
    try:
        return [float(text) for text in texts]
    except ValueError:
        raise UserError(f"--fractions={','.join(texts)}: give numbers, such as 0.01,0.1,1") from None


def run(
    workdir: Workdir,
    *,
    dataset: str | None = None,
    data_dir: str | None = None,
    split_seed: int = 0,
    params: str | Path | None = None,
    fractions: Sequence[float] = (0.01, 0.1, 1.0),
    seeds: Sequence[int] = (0, 1, 2),
) -> dict[str, Any]:
    """Measure, write the workdir, show the table; return the summary that summary.json holds.

    There is nothing to resume: the same workdir again repeats the minutes, to the same bits.

    Args:
        workdir: where to write.
        dataset: images with classes (default: what the net was trained on).
        data_dir: where to look for them first.
        split_seed: of the split, where the set brings none; for honest figures the one that the net was trained with.
        params: of a conv net that the image classifier published (default: the small one that comes with mllab).
        fractions: of the training rows.
        seeds: each draws its own rows, and its own untrained net.
    """
    seconds = {"start and imports": process_seconds()}
    began = time.perf_counter()
    fractions = checked_fractions(fractions)
    path = Path(params or publications.pretrained())
    net = load_net(path)
    data = load_images(dataset, data_dir, split_seed, net, path)
    seconds["data"] = time.perf_counter() - began
    with workdir.opened():
        digest = {path.name: hashlib.sha256(path.read_bytes()).hexdigest()}
        environment = workdir.write_environment(data.sha256 | digest, count=1)
        with Lines(workdir.path / "metrics.jsonl") as lines, console.Progress() as progress:
            told = observer(fractions, seeds, lines, progress, seconds)
            cells = measure(net, data, fractions, seeds, told)
        summary = summarise(net, path, data, split_seed, fractions, seeds, cells)
        write_report(workdir, summary, environment, seconds)
    console.show(report.worth_table(summary))
    print(f"\n{report.answer(summary)}\nReport: {workdir.path / 'report.html'}")
    return summary


def checked_fractions(fractions: Sequence[float]) -> list[float]:
    """Return fractions, ascending.

    Raises:
        UserError: none, one that is not above 0 and up to 1, or one given twice.
    """
    if not fractions or not all(0 < fraction <= 1 for fraction in fractions):
        raise UserError(
            f"--fractions={','.join(f'{fraction:g}' for fraction in fractions)}: give numbers above 0 and up to 1, "
            "such as 0.01,0.1,1"
        )
    if len(set(fractions)) != len(fractions):
        raise UserError(f"--fractions={','.join(f'{fraction:g}' for fraction in fractions)}: give each once")
    return sorted(fractions)


def load_net(path: Path) -> weights.Published:
    """Return the conv net that a file holds.

    Raises:
        UserError: see `weights.load_model`; or another model, which has no features.
    """
    net = weights.load_model(path)
    if not isinstance(net.params, convnet.Params):
        raise UserError(
            f"{path} is of the model {net.about['plan']['model']}, and features are a conv net's: give params that the "
            "image classifier published with --model=convnet, lenet or residual"
        )
    return net


def load_images(
    dataset: str | None, data_dir: str | None, split_seed: int, net: weights.Published, path: Path
) -> Dataset:
    """Return the data set, a user's own images resized to what the net takes.

    Raises:
        UserError: see `catalog.load`; or no images with classes, or images that do not fit the net.
    """
    dataset = dataset or net.about.get("dataset")
    if not dataset:
        raise UserError(f"{path} does not say what it was trained on: name images with --dataset")
    if dataset.lower().endswith(catalog.TABLE_ENDINGS):
        raise UserError(f"--dataset={dataset} is a table: features are of images")
    height, width, channels = net.about["plan"]["shape"]
    size = None if dataset in catalog.CATALOG else (height, width)
    data = catalog.load(dataset, data_dir=data_dir, split_seed=split_seed, size=size)
    if data.task != "classification" or data.inputs.ndim != 4:
        raise UserError(f"{dataset} holds no pictures with classes: try digits, mnist, fashion_mnist or a folder")
    if data.inputs.shape[1:] != (height, width, channels):
        theirs = " × ".join(map(str, data.inputs.shape[1:]))
        raise UserError(
            f"{path} takes images of {height} × {width} × {channels}, and those of {dataset} are {theirs}: "
            "give --params of a net for such images, or another --dataset"
        )
    return data


def observer(
    fractions: Sequence[float],
    seeds: Sequence[int],
    lines: Lines,
    progress: console.Progress,
    seconds: dict[str, float],
) -> Callable[[str, str, float, int, Cell], None]:
    """Return what `measure` tells its cells to: the bar moves, each has its record, and seconds are told by part."""
    began, before, best = time.perf_counter(), "", 0.0

    def seen(representation: str, probe: str, fraction: float, seed: int, cell: Cell) -> None:
        nonlocal began, before, best
        if representation != before:
            total = len(PROBES) * sum(len(draws(representation, each, seeds)) for each in fractions)
            progress.task(representation, total)
            before, best = representation, 0.0
        best = max(best, max(cell.validation.values()))
        progress.advance(best=best)
        setting, _ = SETTINGS[probe]
        lines.add(
            {
                "representation": representation,
                "probe": probe,
                "fraction": fraction,
                "seed": seed,
                setting: value,
                "validation_accuracy": accuracy,
                **({"test_accuracy": cell.test} if value == cell.chosen else {}),
            }
            for value, accuracy in cell.validation.items()
        )
        now = time.perf_counter()
        part = f"{representation}, {probe}"
        seconds[part] = seconds.get(part, 0.0) + now - began
        began = now

    return seen


def summarise(
    net: weights.Published,
    path: Path,
    data: Dataset,
    split_seed: int,
    fractions: Sequence[float],
    seeds: Sequence[int],
    cells: Cells,
) -> dict[str, Any]:
    """Return the final figures as plain values, ready for JSON."""
    about, test = net.about, data.split.test
    at_home = about.get("dataset") == data.name and about.get("classes") == list(data.classes)
    own = None
    if at_home:
        logits = predict(net.model, net.params, net.extra, data.inputs[test])
        own = float(np.mean(logits.argmax(axis=1) == data.targets[test]))
    size = jax.eval_shape(convnet.features, net.params, data.inputs[:1], net.extra).shape[1]
    return {
        "experiment": "features",
        "dataset": {
            "name": data.name,
            "rows": {part: len(getattr(data.split, part)) for part in ("train", "validation", "test")},
            "classes": list(data.classes),
            "shape": list(data.inputs.shape[1:]),
            "licence": data.licence,
            "citation": data.citation,
            "notes": list(data.notes),
        },
        "net": {
            "params": str(path),
            "model": models.describe(about["plan"]),
            "dataset": about.get("dataset"),
            "at_home": at_home,
            "features": size,
            "accuracy": own,
        },
        "split_seed": split_seed,
        "seeds": list(seeds),
        "fractions": [{"fraction": each, "rows": len(drawn(data, each, seeds[0]))} for each in fractions],
        "settings": {probe: {"name": setting, "grid": list(grid)} for probe, (setting, grid) in SETTINGS.items()},
        "cells": [
            {
                "representation": representation,
                "probe": probe,
                "fraction": fraction,
                "test": interval(np.array([cell.test for cell in each])),
                "test_by_draw": [cell.test for cell in each],
                "ahead": ahead(each, cells[report.PIXELS, probe, fraction]),
                "chosen": [cell.chosen for cell in each],
                "short": sum(cell.short for cell in each),
            }
            for (representation, probe, fraction), each in cells.items()
        ],
    }


def ahead(cells: Sequence[Cell], pixels: Sequence[Cell]) -> Interval:
    """Return the points of test accuracy by which cells lead those of pixels, draw by draw."""
    here, there = (np.array([cell.test for cell in each]) for each in (cells, pixels))
    return interval(100 * (here - there))  # where pixels have one draw, it is of all rows, and so of every draw


def write_report(
    workdir: Workdir, summary: dict[str, Any], environment: Mapping[str, Any], seconds: dict[str, float]
) -> None:
    """Write the figure, the page and summary.json."""
    from mllab.report import page

    began = time.perf_counter()
    figure = report.figure(summary, workdir.path / "figures")
    seconds["figure"] = time.perf_counter() - began
    summary["seconds"] = seconds | {"total": process_seconds()}
    page.write(workdir.path / "report.html", report.page(finite(summary), figure, environment, workdir.command))
    workdir.write_json("summary.json", summary)


if __name__ == "__main__":
    launch(main)
