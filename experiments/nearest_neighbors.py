r"""k nearest neighbours: k is chosen by cross-validation, and its accuracy reported on held-out test rows.

  python -m experiments.nearest_neighbors
  python -m experiments.nearest_neighbors --dataset=mnist --rows=10000 --k=1:20

All k are scored on every fold of the training and validation rows from one computation of the distances. The k of the best
mean accuracy then classifies the test rows by all of those rows, beside the baseline of the most frequent class. Last,
the lecture's demonstration of vectorization: the cost of loops in a search for neighbours.
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
SHOWN, EXAMPLES = 7, 6  # neighbours of a test image, and images of each kind, on the page
LISTED = 12  # k in the table, about


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
    images: Mapping[str, draw.Neighbours] = frame.unsaved()  # `mistakes`, the most probable first, and `hits`


def measure(run: frame.Context, settings: Settings) -> Measurement:
    """Choose k by cross-validation, test it, and run the demonstration."""
    distance_demo.check(settings.loops)
    with run.timed("data"):
        data = run.load(classes=1)
        ids = frame.choosing_rows(data, settings)
        folds = frame.folds(data, ids, settings)
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
    truth, guess = data.targets[data.split.test], metrics.most_frequent(data.targets[ids])
    with run.timed("test rows"):
        nearest, predicted, probability = classify(data, ids, k)
        run.record([{"k": k, "test_accuracy": float(np.mean(predicted == truth))}])
    with run.timed("loops"):
        run.progress.task("loops", total=len(distance_demo.METHODS) if settings.loops else 0)
        loops = distance_demo.demonstrate(settings.loops, lambda method: run.progress.advance())
    chosen_images = {
        "mistakes": metrics.confident_mistakes(truth, predicted, probability)[:EXAMPLES],
        "hits": metrics.first_correct(truth, predicted)[:EXAMPLES],
    }
    return Measurement(
        dataset=frame.DatasetFacts.of(data, frame.row_counts(data, ids)),
        split_seed=settings.split_seed,
        folds=settings.folds,
        rounds=settings.rounds,
        scarce=[data.classes[c] for c, rows in enumerate(np.bincount(data.targets[ids])) if 0 < rows < settings.folds],
        k=[
            Score(int(each), validation.interval(scores, settings.folds), scores.tolist())
            for each, scores in zip(ks, choice.scores, strict=True)
        ],
        chosen=k,
        held_out=choice.interval,
        test=metrics.proportion(predicted == truth),
        baseline=Baseline(
            data.classes[guess], validation.interval(baseline, settings.folds), metrics.proportion(truth == guess)
        ),
        loops=loops,
        images={
            kind: draw.Neighbours(
                data.inputs[data.split.test[rows]], truth[rows], predicted[rows],
                data.inputs[nearest[rows, :SHOWN]], data.targets[nearest[rows, :SHOWN]],
            )
            for kind, rows in chosen_images.items()
            if data.inputs.ndim == 4 and len(rows)
        },
    )  # fmt: skip
