r"""k nearest neighbours: k is chosen by cross-validation, and its accuracy reported on held-out test rows.

  python -m experiments.nearest_neighbors
  python -m experiments.nearest_neighbors --dataset=mnist --rows=10000 --k=1:20

All k are scored on every fold of the training and validation rows from one computation of the distances. The k of the
best mean accuracy then classifies the test rows by all of those rows, beside the baseline of the most frequent class.
Last, the lecture's demonstration of vectorization: the cost of loops in a search for neighbours.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from experiments import distance_demo, frame
from mllab import learners, metrics, selection, validation
from mllab.data.dataset import Dataset
from mllab.errors import UserError
from mllab.metrics import Interval
from mllab.models import neighbors
from mllab.report import draw
from mllab.report.report import Bullets, Drawing, Report, Section
from mllab.report.table import Table, legible, percent, percent_bounds, ranged, share

MAX_K = 50  # by default
SHOWN, EXAMPLES, LISTED = 7, 6, 12  # on the page: neighbours of an image, images of each kind, k in the table (about)
KINDS = {"mistakes": "misclassified images", "hits": "correctly classified images"}


@dataclass(frozen=True, kw_only=True)
class Settings(frame.Table, frame.Rows, frame.Folds):
    """What can be set."""

    dataset: str = frame.Data.with_default("dataset", "digits")
    k: tuple[int, ...] | None = frame.wholes(
        None,
        help="Numbers of neighbours to choose from: LOW:HIGH or A,B,C. Default: 1:50, or up to a fold's training rows.",
    )
    loops: int = frame.whole(5000, help="Training rows of the demonstration of loops; 0 leaves it out.", low=0)


@dataclass(frozen=True)
class Score:
    """The accuracy of one k over folds."""

    k: int
    accuracy: Interval
    by_fold: list[float]


@dataclass(frozen=True)
class Baseline:
    """The accuracy of predicting the most frequent class."""

    name: str
    held_out: Interval
    test: Interval


@dataclass(frozen=True)
class Measurement:
    """The accuracy of every k over folds, and of the chosen one on the test rows."""

    dataset: frame.DatasetFacts
    split_seed: int
    folds: int
    rounds: int
    scarce: list[str]  # classes with fewer rows than folds
    k: list[Score]
    chosen: int
    held_out: Interval
    test: Interval
    baseline: Baseline
    loops: distance_demo.Demonstration | None
    images: Mapping[str, tuple[np.ndarray, ...]] = frame.unsaved()  # by kind, for `draw.neighbours`


def measure(run: frame.Context, settings: Settings) -> Measurement:
    """Choose k by cross-validation, test it, and run the demonstration."""
    distance_demo.check(settings.loops)
    with run.timed("data"):
        data = run.load(classes=1)
        ids = settings.draw(data)
        folds = settings.split(data.targets[ids])
        ks = checked_k(settings.k, int(folds.train.weight.sum(axis=1).min()))
    with run.timed("choosing k"):
        run.progress.task(f"{len(ks)} k on folds", total=len(folds.train.ids))

        def observe(fold: int, accuracy: np.ndarray) -> None:
            run.progress.advance(best=float(accuracy.max()))
            place = {"round": fold // settings.folds, "fold": fold % settings.folds}
            run.record(place | {"k": k, "accuracy": float(value)} for k, value in zip(ks, accuracy, strict=True))

        examples = {"inputs": jnp.asarray(data.inputs[ids]), "targets": jnp.asarray(data.targets[ids])}
        arguments = (jax.random.key(0), examples, folds, validation.accuracy)
        learner = learners.nearest_neighbors(len(data.classes), max(ks))
        choice = selection.choose(learner, {"k": ks}, *arguments, observe=observe)
        baseline = validation.cross_validate(learners.most_frequent(len(data.classes)), {}, *arguments)
        k = int(choice.setting["k"])
    with run.timed("test rows"):
        test, frequent = data.split.test, metrics.most_frequent(data.targets[ids])
        truth = data.targets[test]
        nearest, predicted, probability = classify(data, ids, k)
        run.record([{"k": k, "test_accuracy": float(np.mean(predicted == truth))}])
    loops = None
    if settings.loops:
        with run.timed("loops"):
            run.progress.task("loops", total=len(distance_demo.METHODS))
            loops = distance_demo.demonstrate(settings.loops, lambda method: run.progress.advance())
    shown = {
        "mistakes": metrics.confident_mistakes(truth, predicted, probability)[:EXAMPLES],
        "hits": metrics.first_correct(truth, predicted)[:EXAMPLES],
    }
    return Measurement(
        frame.DatasetFacts.of(data, settings.counts(data, ids, "learned from")),
        settings.split_seed,
        settings.folds,
        settings.rounds,
        [data.classes[c] for c, rows in enumerate(np.bincount(data.targets[ids])) if 0 < rows < settings.folds],
        [
            Score(int(each), validation.interval(scores, settings.folds), scores.tolist())
            for each, scores in zip(ks, choice.scores, strict=True)
        ],
        k,
        choice.interval,
        metrics.proportion(predicted == truth),
        Baseline(
            data.classes[frequent],
            validation.interval(baseline, settings.folds),
            metrics.proportion(truth == frequent),
        ),
        loops,
        {
            kind: (data.inputs[test[rows]], truth[rows], predicted[rows], data.inputs[near], data.targets[near])
            for kind, rows in shown.items()
            if data.inputs.ndim == 4 and len(rows)
            for near in [nearest[rows, :SHOWN]]
        },
    )


def checked_k(ks: tuple[int, ...] | None, most: int) -> tuple[int, ...]:
    """Return the k to choose from: by default up to MAX_K, or to the `most` rows that every fold trains on."""
    ks = ks or tuple(range(1, min(MAX_K, most) + 1))
    if ks[-1] > most:
        raise UserError(f"--k: {ks[-1]} neighbours, and a fold trains on {most} rows: give {most} or fewer")
    return ks


def classify(data: Dataset, ids: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return, for each test row, its nearest rows among `ids` [M, >= k], its predicted class, and the probability."""
    train, queries = (jnp.asarray(data.inputs[rows]).reshape(len(rows), -1) for rows in (ids, data.split.test))
    nearest = neighbors.nearest(train, queries, min(max(k, SHOWN), len(ids))).ids
    labels = jnp.asarray(data.targets[ids])[nearest]
    outputs = np.asarray(neighbors.log_probabilities(labels, jnp.ones(labels.shape), k, len(data.classes)))
    return ids[np.asarray(nearest)], outputs.argmax(axis=1), np.exp(outputs.max(axis=1))


def report(run: frame.Context, settings: Settings, measured: Measurement) -> Report:
    """Report accuracy by k, the nearest neighbours of some test images, and the cost of loops."""
    data, rows, over, loops = measured.dataset, measured.dataset.rows, settings.described(), measured.loops
    ks, test, baseline = ranged([score.k for score in measured.k]), measured.test, measured.baseline
    answer = (
        f"On {data.name}, k = {measured.chosen} has a test accuracy of {share(test.mean, 2)} on {rows['test']:,} rows "
        f"(95% interval {percent_bounds(test.low, test.high)}); predicting the most frequent class, "
        f"{share(baseline.test.mean, 2)}. k was chosen from {ks} on {rows['learned from']:,} training and validation "
        f"rows, by a held-out accuracy of {percent(measured.held_out)}."
    )
    result = [
        ["nearest neighbours", measured.chosen, measured.held_out, test],
        [f"always '{legible(baseline.name)}', the most frequent", None, baseline.held_out, baseline.test],
    ]
    table = Table(
        ["prediction", "k", "held-out accuracy", "test accuracy", "95% interval"],
        [[*name, percent(held), share(tested.mean, 2), percent_bounds(*tested[1:3])] for *name, held, tested in result],
        best=0,
        caption=f"held out: mean over {over} ± corrected 95% interval; test: {rows['test']:,} rows, interval over the "
        "sampling of rows",
    )
    places = np.geomspace(1, len(measured.k), LISTED).round().astype(int) - 1
    chosen = [score.k for score in measured.k].index(measured.chosen)
    listed = sorted({*places.tolist(), chosen})
    mean, low, high = 100 * np.array([score.accuracy[:3] for score in measured.k]).T
    series = draw.Series(
        "",
        [score.k for score in measured.k],
        mean,
        np.maximum(low, 0),
        np.minimum(high, 100),
        "knn",
        best=measured.chosen,
    )
    curve = draw.curves(
        [series],
        title=f"{legible(data.name)}: held-out accuracy {percent(measured.held_out)} at k = {measured.chosen}",
        x_label="k, the number of neighbours",
        y_label="held-out accuracy (%)",
        integer_x=True,
        markers=False,
        over=over,
        note="The interval is corrected for the training rows that folds share. Marker: the chosen k.",
    )
    caveats = [
        f"Training and validation rows were split into {over}, stratified by class, and each fold was predicted from the "
        "others. The held-out test rows were classified once, by all of those rows with the chosen k.",
        "The held-out accuracy of the chosen k is optimistic, since it is the best of all; the test accuracy is not.",
        "Folds share most of their training rows: the interval over folds is widened for that (Nadeau and Bengio 2003).",
        "The interval of the test accuracy is over the sampling of test rows (Wilson 1927).",
        "Ties between classes go to the first class, ties between distances to the first row.",
        "Distances are Euclidean, over "
        + ("pixels in [0, 1]." if len(data.shape) == 3 else "columns standardised by the training rows of the split."),
        *settings.sampled(rows["learned from"], rows["available"]),
        *(
            [f"Classes with fewer rows than folds: {', '.join(map(legible, measured.scarce))}."]
            if measured.scarce
            else []
        ),
    ]
    return Report(
        f"Nearest neighbours on {data.name}",
        f"How many nearest neighbours should vote on {data.name}, and how accurate is their vote?",
        answer + (distance_demo.answer(loops) if loops else ""),
        table,
        [
            Section(
                "Accuracy by k",
                [
                    Drawing("accuracy_by_k", curve, alt="Held-out accuracy against k, with its interval"),
                    Table(
                        ["k", "held-out accuracy"],
                        [[measured.k[place].k, percent(measured.k[place].accuracy)] for place in listed],
                        listed.index(chosen),
                        f"mean over {over} ± corrected 95% interval; {len(listed)} of {len(measured.k)} k: all are in "
                        "summary.json",
                    ),
                ],
            ),
            Section(
                "Neighbours",
                [
                    Drawing(
                        f"neighbors_of_{kind}",
                        draw.neighbours(*images, data.classes, title=f"Nearest neighbours of {KINDS[kind]}"),
                        alt=f"Nearest neighbours of {KINDS[kind]}, a row for each test image",
                    )
                    for kind, images in measured.images.items()
                ],
            ),
            Section("The cost of loops", [distance_demo.table(loops), distance_demo.note(loops)] if loops else []),
            Section("How to read it", [Bullets(caveats)]),
        ],
        {
            "data set": data.described(),
            "rows": f"{rows['learned from']:,} to choose k and to vote, {rows['test']:,} held-out test rows",
            "k": ks,
            "folds": f"{over}, stratified by class, seed {settings.split_seed}",
            "nearest neighbours": "by brute force, exact, one vote each",
        },
        tables=[distance_demo.table(loops)] if loops else [],
    )


main, run = frame.program(Settings, measure, report)

if __name__ == "__main__":
    main()
