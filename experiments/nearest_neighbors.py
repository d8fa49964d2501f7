r"""k nearest neighbours: k is chosen by cross-validation, and its accuracy reported on held-out test rows.

  python -m experiments.nearest_neighbors
  python -m experiments.nearest_neighbors --dataset=mnist --rows=10000 --k=1:20

All k are scored on every fold of the training and validation rows from one computation of the distances. The k of the
best mean accuracy then classifies the test rows by all of those rows, beside the baseline of the most frequent class.
Last, the lecture's demonstration of vectorization: the cost of loops in a search for neighbours.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from experiments import distance_demo, frame
from experiments.neighbors_answer import Measurement, Score, answer, by_k, result_table
from mllab import learners, metrics, selection, validation
from mllab.errors import UserError
from mllab.models import neighbors
from mllab.report import draw
from mllab.report.report import Bullets, Drawing, Report, Section
from mllab.report.table import legible, percent, ranged
from mllab.tasks import CLASSIFICATION

MAX_K = 50  # by default
SHOWN, EXAMPLES = 7, 6  # on the page: neighbours of an image, images of each kind
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
        tied=[value for value, is_tied in zip(ks, choice.tied, strict=True) if is_tied],
        held_out=choice.interval,
        test=metrics.proportion(predicted == truth),
        baseline=(data.classes[frequent], over_folds(baseline), metrics.proportion(truth == frequent)),
        beats_baseline=CLASSIFICATION.beats_baseline({"accuracy": (predicted == truth)[None]}, data.targets, ids, test),
        loops=loops,
        images=images,
    )


def report(run: frame.Context, settings: Settings, measured: Measurement) -> Report:
    """Report accuracy by k, the nearest neighbours of some test images, and the cost of loops."""
    data, loops, over = measured.dataset, measured.loops, settings.described()
    rows, ks, accuracy = data.rows, [score.k for score in measured.k], [score.accuracy for score in measured.k]
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
        answer(measured),
        result_table(measured, over),
        [
            Section(
                "Accuracy by k", [Drawing("accuracy_by_k", curve, "Held-out accuracy against k"), by_k(measured, over)]
            ),
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
