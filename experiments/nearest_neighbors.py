r"""Nearest neighbours: how many should vote is chosen on folds, and the choice is reported on untouched rows.

  python -m experiments.nearest_neighbors
  python -m experiments.nearest_neighbors --dataset=mnist --rows=10000 --k=1:20

Training and validation rows together are dealt into folds; every number of neighbours k votes on every fold, all from
one computation of the distances. The k of the best mean accuracy then votes on the test rows, with all those rows to
ask. Beside it: the most frequent class. Then the lecture's demonstration of what loops cost (experiments/loops.py).
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments import flags as shared
from experiments import loops
from experiments.workdir import Lines, Workdir, default_path, finite, flagfile, launch, process_seconds
from mllab import devices, learners, metrics, validation
from mllab.data import catalog
from mllab.data.dataset import Dataset
from mllab.data.split import stratified
from mllab.errors import UserError
from mllab.models import neighbors
from mllab.report import console
from mllab.report import neighbors as report
from mllab.types import Array, Outputs

for name in ("dataset", "target", "task", "rows", "folds", "rounds", "split_seed", "workdir", "data_dir"):
    flags.declare_key_flag(name)
K = flags.DEFINE_string(
    "k",
    None,
    "Numbers of neighbours to choose among: LOW:HIGH or A,B,C. Default: 1:50, or up to a fold's training rows.",
)
LOOPS = flags.DEFINE_integer(
    "loops", 5000, "Training rows of the demonstration of what loops cost; 0 leaves it out.", lower_bound=0
)

MOST = 50  # neighbours, by default
SHOWN = 7  # neighbours of a test image, on the page
EXAMPLES = 6  # test images of each kind whose neighbours are shown


class Choice(NamedTuple):
    """How every k did on every fold."""

    ks: tuple[int, ...]  # ascending
    accuracy: np.ndarray  # [L, rounds * K], on held-out rows
    baseline: np.ndarray  # [rounds * K], of the most frequent class among a fold's training rows

    @property
    def best(self) -> int:
        """The place of the k of best mean accuracy, of equal ones the least."""
        return int(self.accuracy.mean(axis=1).argmax())


class Verdict(NamedTuple):
    """What the test rows said, looked at once."""

    predicted: np.ndarray  # [M] classes
    probability: np.ndarray  # [M] of those classes
    ids: np.ndarray  # [M, >= 1] the nearest of the rows learned from, nearest first


def hit(outputs: Outputs, targets: Array) -> Array:
    """Return 1 where the most probable class is the right one, [M]."""
    return metrics.classification(outputs, targets)["accuracy"]


def choose(
    inputs: np.ndarray,
    targets: np.ndarray,
    classes: int,
    made: validation.Folds,
    ks: Sequence[int],
    observe: Callable[[int, np.ndarray], None] = lambda fold, accuracy: None,
) -> Choice:
    """Let every k vote on every fold; one compiled program, fold after fold.

    Args:
        inputs: rows to learn from, [N, ...].
        targets: their classes, [N].
        classes: C.
        made: folds of them.
        ks: numbers of neighbours.
        observe: told each fold and the accuracy of each k on it, [L].
    """
    learner = learners.nearest_neighbors(classes, max(ks))
    examples = {"inputs": jnp.asarray(inputs), "targets": jnp.asarray(targets)}
    accuracy, baseline = [], []
    for fold in range(len(made.train.ids)):
        this = jax.tree.map(lambda array, at=fold: array[at : at + 1], made)
        scores = validation.cross_validate(learner, {"k": jnp.asarray(ks)}, jax.random.key(0), examples, this, hit)
        accuracy.append(np.asarray(scores, np.float64)[:, 0])
        train, held_out = (targets[rows.ids[0][rows.weight[0] > 0]] for rows in this)
        baseline.append(np.mean(held_out == metrics.most_frequent(train)))
        observe(fold, accuracy[-1])
    return Choice(tuple(ks), np.stack(accuracy, axis=1), np.array(baseline))


def judge(data: Dataset, pool: np.ndarray, k: int) -> Verdict:
    """Let the k nearest of the pool's rows vote on each test row."""
    learned, asked = (jnp.asarray(data.inputs[rows]).reshape(len(rows), -1) for rows in (pool, data.split.test))
    ids = neighbors.nearest(learned, asked, min(max(k, SHOWN), len(pool))).ids
    labels = jnp.asarray(data.targets[pool])[ids]
    outputs = np.asarray(neighbors.log_probabilities(labels, jnp.ones(labels.shape), k, len(data.classes)))
    return Verdict(outputs.argmax(axis=1), np.exp(outputs.max(axis=1)), pool[np.asarray(ids)])


def main(argv: Sequence[str]) -> None:
    """Read the flags and run."""
    devices.cache_compilations()
    path = Path(shared.WORKDIR.value) if shared.WORKDIR.value else default_path("nearest_neighbors")
    run(
        Workdir(path, "nearest_neighbors", flagfile("__main__")),
        dataset=shared.DATASET.value or "digits",
        target=shared.TARGET.value,
        task=shared.TASK.value,
        data_dir=shared.DATA_DIR.value,
        split_seed=shared.SPLIT_SEED.value,
        ks=None if K.value is None else parse_ks(K.value),
        folds=shared.FOLDS.value,
        rounds=shared.ROUNDS.value,
        rows=shared.ROWS.value,
        loop_rows=LOOPS.value,
    )


def parse_ks(text: str) -> list[int]:
    """Return the numbers of `LOW:HIGH` or `A,B,C`.

    Raises:
        UserError: it is neither, or LOW exceeds HIGH.
    """
    low, colon, high = text.partition(":")
    try:
        numbers = list(range(int(low), int(high) + 1)) if colon else [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers:
        raise UserError(f"--k={text}: give LOW:HIGH, such as 1:50, or numbers, such as 1,3,5")
    return numbers


def run(
    workdir: Workdir,
    *,
    dataset: str = "digits",
    target: str | None = None,
    task: str | None = None,
    data_dir: str | None = None,
    split_seed: int = 0,
    ks: Sequence[int] | None = None,
    folds: int = 5,
    rounds: int = 1,
    rows: int | None = None,
    loop_rows: int = 5000,
) -> dict[str, Any]:
    """Choose k, test it, write the workdir, show the tables; return the summary that summary.json holds.

    There is nothing to resume: the same workdir again repeats the seconds or minutes, to the same bits but for times.

    Args:
        workdir: where to write.
        dataset: classes to tell apart.
        target: the column to predict, of a table of your own.
        task: "classification", where such a column looks like a quantity.
        data_dir: where to look for the data first.
        split_seed: of the split, of the rows drawn, and of the folds.
        ks: numbers of neighbours to choose among.
        folds: K.
        rounds: how often the rows are dealt into folds anew.
        rows: use at most so many to learn from.
        loop_rows: training rows of the demonstration of what loops cost; 0 leaves it out.
    """
    seconds = {"start and imports": process_seconds()}
    began = time.perf_counter()

    def took(part: str) -> None:
        nonlocal began
        now = time.perf_counter()
        seconds[part], began = now - began, now

    loops.check(loop_rows)
    data = load_data(dataset, data_dir, split_seed, target, task)
    pool = drawn(data, rows, split_seed)
    inputs, targets = data.inputs[pool], data.targets[pool]
    made = validation.folds(np.arange(len(pool)), folds, split_seed, targets, rounds=rounds)
    ks = checked_ks(ks, int(made.train.weight.sum(axis=1).min()))
    took("data")
    with workdir.opened():
        environment = workdir.write_environment(data.sha256, count=1)
        with Lines(workdir.path / "metrics.jsonl") as lines, console.Progress() as progress:
            progress.task(f"{len(ks)} k on folds", total=folds * rounds)

            def seen(fold: int, accuracy: np.ndarray) -> None:
                progress.advance(best=float(accuracy.max()))
                lines.add(
                    {"round": fold // folds, "fold": fold % folds, "k": k, "accuracy": float(value)}
                    for k, value in zip(ks, accuracy, strict=True)
                )

            choice = choose(inputs, targets, len(data.classes), made, ks, seen)
            took("choosing k")
            verdict = judge(data, pool, ks[choice.best])
            right = verdict.predicted == data.targets[data.split.test]
            lines.add([{"k": ks[choice.best], "test_accuracy": float(np.mean(right))}])
            took("test rows")
            shown = None
            if loop_rows:
                progress.task("loops", total=len(loops.WAYS))
                shown = loops.demonstrate(loop_rows, lambda way: progress.advance())
                took("loops")
        summary = summarise(data, pool, choice, verdict, split_seed, folds, rounds) | {"loops": shown}
        drawings = report.figures(summary, pictures(data, verdict), workdir.path / "figures")
        took("figures")
        write_report(workdir, summary, drawings, environment, seconds)
    console.show(report.accuracy_table(summary))
    if shown:
        print()
        console.show(report.loops_table(summary))
    print(f"\n{report.answer(summary)}\nReport: {workdir.path / 'report.html'}")
    return summary


def load_data(
    dataset: str, data_dir: str | None, split_seed: int, target: str | None = None, task: str | None = None
) -> Dataset:
    """Return the data set.

    Raises:
        UserError: see `catalog.load`; or it has no classes.
    """
    data = catalog.load(dataset, data_dir=data_dir, split_seed=split_seed, target=target, task=task)
    if data.task != "classification":
        mend = "name another --target, or give --task=classification" if target else "try digits, moons or mnist"
        raise UserError(f"{data.target} of {data.name} is a quantity, and neighbours vote for classes: {mend}")
    return data


def drawn(data: Dataset, rows: int | None, seed: int) -> np.ndarray:
    """Return the ids of training and validation rows, or of so many of them, each class in proportion."""
    pool = np.sort(np.concatenate([data.split.train, data.split.validation]))
    if rows is None or rows >= len(pool):
        return pool
    part = (0.0, rows / len(pool), 0.0)
    return pool[stratified(data.targets[pool], seed, part, data.classes).validation]


def checked_ks(ks: Sequence[int] | None, most: int) -> tuple[int, ...]:
    """Return numbers of neighbours, ascending; by default all up to MOST or what every fold can train on.

    Raises:
        UserError: none, one below 1 or beyond `most`, or one given twice.
    """
    if ks is None:
        return tuple(range(1, min(MOST, most) + 1))
    told = ",".join(map(str, ks)) if len(ks) < 5 else f"{ks[0]},...,{ks[-1]}"
    if not ks or min(ks) < 1 or len(set(ks)) < len(ks):
        raise UserError(f"--k={told}: give numbers from 1, each once, such as 1:50 or 1,3,5")
    if max(ks) > most:
        raise UserError(
            f"--k={told}: {max(ks)} neighbours, and a fold trains on {most} rows: ask for no more than that"
        )
    return tuple(sorted(ks))


def summarise(
    data: Dataset, pool: np.ndarray, choice: Choice, verdict: Verdict, split_seed: int, folds: int, rounds: int
) -> dict[str, Any]:
    """Return the final figures as plain values, ready for JSON; see `mllab.report.neighbors`."""
    targets, truth = data.targets[pool], data.targets[data.split.test]
    guess = metrics.most_frequent(targets)
    return {
        "experiment": "nearest_neighbors",
        "dataset": {
            "name": data.name,
            "rows": {
                "learned from": len(pool),
                "available": len(data.split.train) + len(data.split.validation),
                "test": len(truth),
            },
            "classes": list(data.classes),
            "shape": list(data.inputs.shape[1:]),
            "licence": data.licence,
            "citation": data.citation,
            "notes": list(data.notes),
        },
        "split_seed": split_seed,
        "folds": folds,
        "rounds": rounds,
        "scarce": [data.classes[c] for c, rows in enumerate(np.bincount(targets)) if 0 < rows < folds],
        "k": [
            {"k": k, "accuracy": validation.interval(scores, folds), "by_fold": scores}
            for k, scores in zip(choice.ks, choice.accuracy, strict=True)
        ],
        "chosen": choice.ks[choice.best],
        "held_out": validation.interval(choice.accuracy[choice.best], folds),
        "test": metrics.proportion(verdict.predicted == truth),
        "baseline": {
            "class": data.classes[guess],
            "held_out": validation.interval(choice.baseline, folds),
            "test": metrics.proportion(truth == guess),
        },
    }


def pictures(data: Dataset, verdict: Verdict) -> dict[str, dict[str, np.ndarray]]:
    """Return test images and their neighbours, of `mistakes` (the surest first) and of `hits` (a class each).

    Empty where the data are no images, or where there is no mistake or no hit.
    """
    if data.inputs.ndim != 4:
        return {}
    truth = data.targets[data.split.test]
    right = verdict.predicted == truth
    wrong = np.flatnonzero(~right)
    hits = np.flatnonzero(right)
    chosen = {
        "mistakes": wrong[np.argsort(-verdict.probability[wrong], kind="stable")],
        "hits": hits[np.sort(np.unique(truth[hits], return_index=True)[1])],
    }
    return {
        kind: {
            "images": data.inputs[data.split.test[rows]],
            "true": truth[rows],
            "predicted": verdict.predicted[rows],
            "neighbors": data.inputs[verdict.ids[rows, :SHOWN]],
            "labels": data.targets[verdict.ids[rows, :SHOWN]],
        }
        for kind, every in chosen.items()
        if len(rows := every[:EXAMPLES])
    }


def write_report(
    workdir: Workdir,
    summary: dict[str, Any],
    drawings: dict[str, Path],
    environment: dict[str, Any],
    seconds: dict[str, float],
) -> None:
    """Write the page and summary.json."""
    from mllab.report import page

    summary["seconds"] = seconds | {"total": process_seconds()}
    page.write(workdir.path / "report.html", report.page(finite(summary), drawings, environment, workdir.command))
    workdir.write_json("summary.json", summary)


if __name__ == "__main__":
    launch(main)
