r"""Kernel machines: linear, polynomial and RBF kernels raced over C and gamma, judged on rows that they have not seen.

  python -m experiments.kernel_svm
  python -m experiments.kernel_svm --dataset=circles --c=0.01:1e4:7 --gamma=0.01:100:9
  python -m experiments.kernel_svm --dataset=fashion_mnist --rows=4000 --folds=3

Training and validation rows together are dealt into folds; C and gamma are chosen for each kernel by the accuracy on
the rows held out. Each kernel's choice is then fitted to all of those rows, and test rows are looked at once. Of data
with two columns the decision boundary, the margins and the support vectors are drawn.
"""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments import flags as shared
from experiments import kernel_race as racing
from experiments.kernel_race import Entry, Machines
from experiments.workdir import Lines, Workdir, default_path, finite, flagfile, launch, process_seconds
from mllab import devices, metrics, validation
from mllab.data import catalog
from mllab.data.dataset import Dataset
from mllab.data.split import stratified
from mllab.errors import UserError, unknown
from mllab.models import svm
from mllab.models.svm import kernels
from mllab.report import console
from mllab.report import svm as report
from mllab.report.classifier import per_class

for name in ("dataset", "target", "task", "rows", "folds", "rounds", "split_seed", "workdir", "data_dir"):
    flags.declare_key_flag(name)
KERNELS = flags.DEFINE_list("kernels", list(kernels.KERNELS), "Kernels by name, separated by commas.")
C = flags.DEFINE_string(
    "c",
    "0.01:100:5",
    "Costs of a point within the margin: LOW:HIGH:COUNT, evenly spaced on a log scale, or numbers separated by commas.",
)
GAMMA = flags.DEFINE_string(
    "gamma",
    "0.1:10:5",
    "Gammas, in multiples of 1 / (columns × variance of the inputs), which is scikit-learn's 'scale'; as --c.",
)
DEGREE = flags.DEFINE_integer("degree", 3, "Degree of the polynomial kernel.", lower_bound=1)
COEF0 = flags.DEFINE_float("coef0", 1.0, "What the polynomial kernel adds before it takes the power.", lower_bound=0)
SCHEME = flags.DEFINE_enum(
    "scheme", "one_vs_one", list(report.SCHEMES), "How machines of two classes tell more than two apart."
)

ROWS = 2000  # to choose on and to fit to, where --rows does not say otherwise


def main(argv: Sequence[str]) -> None:
    """Read the flags and run."""
    devices.use_cores()
    devices.cache_compilations()
    path = Path(shared.WORKDIR.value) if shared.WORKDIR.value else default_path("kernel_svm")
    run(
        Workdir(path, "kernel_svm", flagfile("__main__")),
        dataset=shared.DATASET.value or "moons",
        data_dir=shared.DATA_DIR.value,
        target=shared.TARGET.value,
        task=shared.TASK.value,
        split_seed=shared.SPLIT_SEED.value,
        rows=ROWS if shared.ROWS.value is None else shared.ROWS.value,
        names=KERNELS.value,
        c=shared.numbers(C.value, "c"),
        gamma=shared.numbers(GAMMA.value, "gamma"),
        degree=DEGREE.value,
        coef0=COEF0.value,
        scheme=SCHEME.value,
        folds=shared.FOLDS.value,
        rounds=shared.ROUNDS.value,
    )


def run(
    workdir: Workdir,
    *,
    dataset: str = "moons",
    data_dir: str | None = None,
    target: str | None = None,
    task: str | None = None,
    split_seed: int = 0,
    rows: int = ROWS,
    names: Sequence[str] = tuple(kernels.KERNELS),
    c: Sequence[float] = (0.01, 0.1, 1.0, 10.0, 100.0),
    gamma: Sequence[float] = (0.1, 0.3, 1.0, 3.0, 10.0),
    degree: int = 3,
    coef0: float = 1.0,
    scheme: str = "one_vs_one",
    folds: int = 5,
    rounds: int = 1,
) -> dict[str, Any]:
    """Race the kernels, write the workdir, show the table; return the summary that summary.json holds.

    There is nothing to resume: the same workdir again repeats the seconds, to the same bits.

    Args:
        workdir: where to write.
        dataset: a name of the catalog, or the path of your own table or images; with classes.
        data_dir: where to look for it first.
        target: the column to predict, of your own table.
        task: "classification", where a table's target should not decide.
        split_seed: of the split, where the set brings none; of the rows drawn, and of the folds.
        rows: to choose on and to fit to, at most.
        names: of the kernels.
        c: costs of a point within the margin.
        gamma: in multiples of `kernels.gamma_scale`.
        degree: of the polynomial kernel.
        coef0: what that adds before it takes the power.
        scheme: of machines of two classes, "one_vs_one" or "one_vs_rest".
        folds: of those rows.
        rounds: how often they are dealt anew.
    """
    seconds = {"start and imports": process_seconds()}
    began = time.perf_counter()
    check_names(names)
    costs, multiples = checked(c, "c"), checked(gamma, "gamma")
    if not np.isfinite(coef0):
        raise UserError(f"--coef0={coef0:g}: give a finite number, 0 or more")
    machines = Machines(degree, coef0, scheme)
    data = load(dataset, data_dir, target, task, split_seed)
    ids = drawn(data, rows, split_seed)
    dealt = validation.folds(np.arange(len(ids)), folds, split_seed, data.targets[ids], rounds=rounds)
    unit = float(kernels.gamma_scale(jnp.asarray(data.inputs[ids].reshape(len(ids), -1))))
    seconds["data"] = time.perf_counter() - began
    with workdir.opened():
        environment = workdir.write_environment(data.sha256, jax.device_count())
        with Lines(workdir.path / "metrics.jsonl") as lines, console.Progress() as progress:
            told = observer(data, lines, progress, seconds)
            entries = racing.race(data, ids, dealt, names, costs, unit * multiples, machines, told)
        summary = finite(summarise(data, ids, entries, machines, unit, folds, rounds, split_seed))
        shown = arrays(data, ids, entries, summary["winner"])
        write_report(workdir, summary, shown, environment, seconds)
    console.show(report.kernel_table(summary))
    for line in report.edges(summary):
        print(f"  {line}")
    print(f"\n{report.answer(summary)}\nReport: {workdir.path / 'report.html'}")
    return summary


# ── What is learned from ────────────────────────────────────────────────────────────────────────────────────────────


def check_names(names: Sequence[str]) -> None:
    """Raise UserError where there is no kernel, one that is not known, or one given twice."""
    for name in names:
        if name not in kernels.KERNELS:
            raise unknown("kernel", name, kernels.KERNELS)
    if not names or len(set(names)) != len(names):
        raise UserError(f"--kernels={','.join(names)}: give one or more of {', '.join(kernels.KERNELS)}, each once")


def checked(values: Sequence[float], flag: str) -> np.ndarray:
    """Return settings, ascending.

    Raises:
        UserError: none, one that is not positive and finite, or one given twice.
    """
    given = f"--{flag}={','.join(f'{value:g}' for value in values)}"
    if not values or not all(0 < value < float("inf") for value in values):
        raise UserError(f"{given}: give positive numbers, such as 0.01:100:5")
    if len(set(values)) != len(values):
        raise UserError(f"{given}: give each once")
    return np.sort(np.asarray(values, np.float64))


def load(dataset: str, data_dir: str | None, target: str | None, task: str | None, split_seed: int) -> Dataset:
    """Return a data set of two classes or more.

    Raises:
        UserError: see `catalog.load`; or no classes.
    """
    data = catalog.load(dataset, data_dir=data_dir, target=target, task=task, split_seed=split_seed)
    if data.task != "classification":
        raise UserError(f"{dataset} has values to predict, not classes: try moons, digits or a table with classes")
    if len(data.classes) < 2:
        raise UserError(f"{dataset} has one class, {data.classes[0]!r}: there is nothing to tell apart")
    return data


def drawn(data: Dataset, most: int, seed: int) -> np.ndarray:
    """Return the ids of the training and validation rows, or of `most` of them, each class in proportion.

    Raises:
        UserError: so few that a class has no two rows, one to fit to and one to hold out.
    """
    ids = np.union1d(data.split.train, data.split.validation)
    if len(ids) > most:
        ids = ids[stratified(data.targets[ids], seed, (0.0, most / len(ids), 0.0)).validation]
    counts = np.bincount(data.targets[ids], minlength=len(data.classes))
    if counts.min() < 2:
        name = data.classes[counts.argmin()]
        raise UserError(
            f"--rows={most}: class {name!r} has {counts.min()} of them, and folds need 2 or more: give more"
        )
    return ids


# ── What is told ────────────────────────────────────────────────────────────────────────────────────────────────────


def observer(
    data: Dataset, lines: Lines, progress: console.Progress, seconds: dict[str, float]
) -> Callable[[str, Entry | None], None]:
    """Return what `race` tells its entries to: the bar moves, each setting has its record, and seconds are told."""
    began = time.perf_counter()

    def seen(kernel: str, entry: Entry | None) -> None:
        nonlocal began
        if entry is None:
            progress.task(report.NAMES[kernel], total=1)
            began = time.perf_counter()
            return
        seconds[report.NAMES[kernel]] = time.perf_counter() - began
        progress.advance(best=float(entry.held_out[entry.chosen].mean()))
        lines.add(records(entry, data))

    return seen


def records(entry: Entry, data: Dataset) -> Iterator[dict[str, Any]]:
    """Return a record for each setting; the one of the setting chosen also has the accuracy on test rows."""
    for place in itertools.product(range(len(entry.gamma)), range(len(entry.c))):
        yield {
            "kernel": entry.kernel,
            **entry.setting(place),
            "held_out_accuracy": entry.held_out[place].mean(),
            "held_out_accuracy_by_fold": entry.held_out[place],
            **({"test_accuracy": racing.test_accuracy(entry, data)} if place == entry.chosen else {}),
        }


def summarise(
    data: Dataset,
    ids: np.ndarray,
    entries: Sequence[Entry],
    machines: Machines,
    unit: float,
    folds: int,
    rounds: int,
    split_seed: int,
) -> dict[str, Any]:
    """Return the final figures as plain values, ready for JSON."""
    ranked = sorted(entries, key=lambda entry: -entry.held_out[entry.chosen].mean().round(9))  # of equal ones the first
    test = data.split.test
    return {
        "experiment": "kernel_svm",
        "dataset": {
            "name": data.name,
            "rows": {
                "choosing": len(ids),
                "available": len(data.split.train) + len(data.split.validation),
                "test": len(test),
            },
            "classes": list(data.classes),
            "features": list(data.features),
            "shape": list(data.inputs.shape[1:]),
            "licence": data.licence,
            "citation": data.citation,
            "notes": list(data.notes),
        },
        "folds": folds,
        "rounds": rounds,
        "split_seed": split_seed,
        **machines._asdict(),
        "tolerance": {"choosing": racing.TOLERANCE, "reported": racing.FINE},
        "most_steps": racing.STEPS,
        "c": entries[-1].c.tolist(),
        "gamma": max((entry.gamma for entry in entries), key=len).tolist(),
        "scale": unit,
        "kernels": [
            {
                "kernel": entry.kernel,
                **entry.setting(entry.chosen),
                "held_out": validation.interval(entry.held_out[entry.chosen], folds),
                "held_out_by_fold": entry.held_out[entry.chosen].tolist(),
                "test": racing.test_accuracy(entry, data),
                "test_interval": metrics.proportion(entry.predicted == data.targets[test])[1:3],
                "support_vectors": int(np.sum(svm.support(entry.params))),
                "problems": int(np.size(entry.params.gap)),
                "short": int(np.sum(np.asarray(entry.params.steps) >= racing.STEPS)),
                "gap": float(np.max(entry.params.gap)),
                "steps": int(np.sum(entry.params.steps)),
                "grid": entry.held_out.mean(axis=2).tolist(),
            }
            for entry in entries
        ],
        "winner": ranked[0].kernel,
        "baseline": float(np.mean(data.targets[test] == metrics.most_frequent(data.targets[ids]))),
        "ahead": racing.lead(ranked[0], ranked[1], folds) if len(ranked) > 1 else None,
        "per_class": per_class(racing.confusion(ranked[0], data), data.classes) if len(data.classes) > 2 else [],
    }


def arrays(data: Dataset, ids: np.ndarray, entries: Sequence[Entry], winner: str) -> dict[str, Any]:
    """Return what the figures need beside the summary; see `report`."""
    made: dict[str, Any] = {}
    if len(data.classes) > 2:
        made["confusion"] = racing.confusion(next(entry for entry in entries if entry.kernel == winner), data)
    if data.inputs.shape[1:] == (2,):
        made["plane"] = plane = racing.plane_of(data.inputs[ids], data.targets[ids])
        made["machines"] = {entry.kernel: racing.machine(entry.params, plane) for entry in entries}
    return made


def write_report(
    workdir: Workdir,
    summary: dict[str, Any],
    arrays: Mapping[str, Any],
    environment: Mapping[str, Any],
    seconds: dict[str, float],
) -> None:
    """Write the figures, the page and summary.json."""
    from mllab.report import page

    began = time.perf_counter()
    drawn = report.figures(summary, arrays, workdir.path / "figures")
    seconds["figures"] = time.perf_counter() - began
    summary["seconds"] = seconds | {"total": process_seconds()}
    page.write(workdir.path / "report.html", report.page(summary, drawn, environment, workdir.command))
    workdir.write_json("summary.json", summary)


if __name__ == "__main__":
    launch(main)
