r"""k nearest neighbours: k is chosen by cross-validation, and its accuracy reported on held-out test rows.

  python -m experiments.nearest_neighbors
  python -m experiments.nearest_neighbors --dataset=mnist --rows=10000 --k=1:20

All k are scored on every fold of the training and validation rows from one computation of the distances. The k of the
best mean accuracy then classifies the test rows by all of those rows, beside the baseline of the most frequent class.
Last, the lecture's demonstration of vectorization: the cost of loops in a search for neighbours.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import distance_demo, frame
from mllab import learners, metrics, selection, validation
from mllab.errors import UserError
from mllab.metrics import Interval
from mllab.models import neighbors
from mllab.report import draw
from mllab.report.report import Bullets, Drawing, Report, Section
from mllab.report.table import Table, legible, percent, percent_bounds, ranged, share

MAX_K = 50  # by default
SHOWN, EXAMPLES, LISTED = 7, 6, 12  # on the page: neighbours of an image, images of each kind, k in the table (about)
KINDS = {"mistakes": "misclassified", "hits": "correctly classified"}
CAVEATS = (
    "Ties between classes go to the first class, ties between distances to the first row.",
    "Distances are Euclidean: over pixels in [0, 1], or over columns standardised by the training rows of the split.",
)


@dataclass(frozen=True, kw_only=True)
class Settings(frame.Table, frame.Rows, frame.Folds):
    """What can be set."""

    dataset: str = frame.dataset("digits", classes=1)
    k: tuple[int, ...] | None = frame.wholes(
        None, help="Numbers of neighbours: LOW:HIGH or A,B,C. Default: 1:50, or up to a fold's training rows."
    )
    loops: int = frame.whole(5000, help="Rows of the demonstration of loops, 100 or more; 0: none.", low=0, high=10**7)


@dataclass(frozen=True)
class Score:
    """The accuracy of one k over folds."""

    k: int
    accuracy: Interval
    by_fold: list[float]


@dataclass(frozen=True)
class Measurement:
    """The accuracy of every k over folds, and of the chosen one on the test rows."""

    dataset: frame.DatasetFacts
    scarce: list[str]  # classes with fewer rows than folds
    k: list[Score]
    chosen: int
    held_out: Interval
    test: Interval
    baseline: tuple[str, Interval, Interval]  # the most frequent class, and its accuracy, held out and on test rows
    loops: distance_demo.Demonstration | None
    images: Mapping[str, Mapping[str, Any]] = frame.unsaved()  # by kind, for `draw.neighbours`


def measure(run: frame.Context, settings: Settings) -> Measurement:
    """Choose k by cross-validation, test it, and run the demonstration."""
    distance_demo.check(settings.loops)
    with run.timed("data"):
        data = run.load()
        ids, test = settings.draw(data), data.split.test
        folds = settings.split(data.targets[ids])
        fewest = int(folds.train.weight.sum(axis=1).min())
        ks = settings.k or tuple(range(1, min(MAX_K, fewest) + 1))
        if ks[-1] > fewest:
            raise UserError(f"--k: {ks[-1]} neighbours, and a fold trains on {fewest} rows: give {fewest} or fewer")
        learners.check_votes(folds.held_out.ids.shape[1], ks, len(data.classes))
    with run.timed("choosing k"):
        run.progress.task(f"{len(ks)} k on folds", total=len(folds.train.ids))

        def observe(fold: int, accuracy: np.ndarray) -> None:
            run.progress.advance(best=float(accuracy.max()))
            place = {"round": fold // settings.folds, "fold": fold % settings.folds}
            run.record(place | {"k": k, "accuracy": float(value)} for k, value in zip(ks, accuracy, strict=True))

        inputs, queries = (jnp.asarray(data.inputs[rows]).reshape(len(rows), -1) for rows in (ids, test))
        examples = {"inputs": inputs, "targets": jnp.asarray(data.targets[ids])}
        arguments = (jax.random.key(0), examples, folds, validation.accuracy)
        learner = learners.nearest_neighbors(len(data.classes), max(ks))
        choice = selection.choose(learner, {"k": ks}, *arguments, observe=observe)
        baseline = validation.cross_validate(learners.most_frequent(len(data.classes)), {}, *arguments)
    with run.timed("test rows"):
        k, truth, frequent = int(choice.setting["k"]), data.targets[test], metrics.most_frequent(data.targets[ids])
        outputs = np.asarray(
            neighbors.apply(neighbors.fit(inputs, examples["targets"], k), queries, len(data.classes), k)
        )
        predicted = outputs.argmax(axis=1)
        run.record([{"k": k, "test_accuracy": float(np.mean(predicted == truth))}])
        images = {}
        for kind, rows in metrics.example_rows(truth, predicted, outputs.max(axis=1)).items():
            if data.inputs.ndim == 4 and len(rows := rows[:EXAMPLES]):
                near = ids[np.asarray(neighbors.nearest(inputs, queries[rows], min(SHOWN, len(ids))).ids)]
                shown = {"images": data.inputs[test[rows]], "true": truth[rows], "predicted": predicted[rows]}
                images[kind] = shown | {"nearest": data.inputs[near], "labels": data.targets[near]}
    with run.timed("loops"):
        loops = distance_demo.demonstrate(settings.loops, run.progress) if settings.loops else None
    over_folds = lambda scores: validation.interval(scores, settings.folds)  # noqa: E731
    return Measurement(
        dataset=frame.DatasetFacts.of(data, settings.counts(data, ids)),
        scarce=[data.classes[c] for c, n in enumerate(np.bincount(data.targets[ids])) if 0 < n < settings.folds],
        k=[Score(k, over_folds(row), row.tolist()) for k, row in zip(ks, choice.scores, strict=True)],
        chosen=k,
        held_out=choice.interval,
        test=metrics.proportion(predicted == truth),
        baseline=(data.classes[frequent], over_folds(baseline), metrics.proportion(truth == frequent)),
        loops=loops,
        images=images,
    )


def report(run: frame.Context, settings: Settings, measured: Measurement) -> Report:
    """Report accuracy by k, the nearest neighbours of some test images, and the cost of loops."""
    data, test, loops = measured.dataset, measured.test, measured.loops
    rows, over = data.rows, settings.described()
    ks, accuracy = [score.k for score in measured.k], [score.accuracy for score in measured.k]
    mean, (frequent, held_out, baseline) = f"mean over {over} ± corrected 95% interval", measured.baseline
    result: list[tuple[str, int | None, Interval, Interval]] = [
        ("nearest neighbours", measured.chosen, measured.held_out, test),
        (f"always '{legible(frequent)}', the most frequent", None, held_out, baseline),
    ]
    table = Table(
        ["prediction", "k", "held-out accuracy", "test accuracy", "95% interval"],
        [
            [name, k, percent(folds), share(each.mean, 2), percent_bounds(each.low, each.high)]
            for name, k, folds, each in result
        ],
        best=0,
        caption=f"held out: {mean}; test: {rows['test']:,} rows, interval over the sampling of rows",
    )
    chosen = ks.index(measured.chosen)
    listed = sorted({*(np.geomspace(1, len(ks), LISTED).round().astype(int) - 1).tolist(), chosen})
    by_k = Table(
        ["k", "held-out accuracy"],
        [[ks[place], percent(accuracy[place])] for place in listed],
        listed.index(chosen),
        f"{mean}; {len(listed)} of {len(ks)} k: all are in summary.json",
    )
    curve = draw.curves(
        [draw.Series.of_intervals("", ks, accuracy, scale=100, limits=(0, 100), name="knn", best=measured.chosen)],
        title=f"{legible(data.name)}: held-out accuracy {percent(measured.held_out)} at k = {measured.chosen}",
        x_label="k, the number of neighbours",
        y_label="held-out accuracy (%)",
        integer_x=True,
        markers=False,
        over=over,
        note="The interval is corrected for the rows that folds share. Marker: the chosen k.",
    )
    neighbours = [
        Drawing(f"neighbors_of_{kind}", draw.neighbours(**shown, classes=data.classes, title=title), alt=title)
        for kind, shown in measured.images.items()
        for title in [f"Nearest neighbours of {KINDS[kind]} images"]
    ]
    scarce = measured.scarce and f"Classes with fewer rows than folds: {', '.join(map(legible, measured.scarce))}."
    return Report(
        f"Nearest neighbours on {data.name}",
        f"How many nearest neighbours should vote on {data.name}, and how accurate is their vote?",
        f"On {data.name}, k = {measured.chosen} has a test accuracy of {share(test.mean, 2)} on {rows['test']:,} rows "
        f"(95% interval {percent_bounds(test.low, test.high)}); predicting the most frequent class, "
        f"{share(baseline.mean, 2)}. k was chosen from {ranged(ks)} on {rows['choosing']:,} training and "
        f"validation rows, by a held-out accuracy of {percent(measured.held_out)}."
        f"{distance_demo.answer(loops)}",
        table,
        [
            Section("Accuracy by k", [Drawing("accuracy_by_k", curve, "Held-out accuracy against k"), by_k]),
            Section("Neighbours", neighbours),
            Section("The cost of loops", [distance_demo.table(loops), distance_demo.note(loops)] if loops else []),
            Section("How to read it", [Bullets([*settings.caveats(), *CAVEATS, scarce or ""])]),
        ],
        {
            "data set": data.described(),
            "rows": f"{rows['choosing']:,} to choose k and to vote, {rows['test']:,} held-out test rows",
            "k": ranged(ks),
            "folds": f"{over}, stratified by class, seed {settings.split_seed}",
            "nearest neighbours": "by brute force, exact, one vote each",
        },
        tables=[distance_demo.table(loops)] if loops else [],
    )


main, run = frame.program(Settings, measure, report)

if __name__ == "__main__":
    main()
