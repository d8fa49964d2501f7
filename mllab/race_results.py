"""The results of a race: chosen rates, test scores, steps to a target, sensitivity to the rate, and diverged lanes.

raced = mllab.race(model, examples, split)
for result in results(raced, examples["targets"][split.test], target=0.95):
    print(result.optimizer, result.learning_rate, result.test["accuracy"].mean, result.steps_to_target)

Scores on validation rows choose the learning rates and the winner, and decide which optimizers are tied with it
(`standing`); scores on test rows are only reported. With K folds, arrays over G seeds have an entry for each of
the K times G lanes of a rate, fold by fold, and intervals are over folds (`Race.interval`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mllab.metrics import Interval, Lead, Ranking, expected_best, interval, paired, tied
from mllab.models.base import Model, predict
from mllab.race_rows import Source
from mllab.racing import Entry, Race, published
from mllab.rows import gather
from mllab.types import Examples

SCORE_TOLERANCE = 0.01  # a learning rate with a score this close to the best counts as equally good

PREDICTED_ROWS = 256  # at once: one shape, and so one program, for validation and test rows


@dataclass(frozen=True)
class Lane:
    """A lane that diverged."""

    learning_rate: float
    seed: int
    step: int | None  # the first non-finite one; None if the lane failed
    kept_loss: float  # validation loss of the kept params
    fold: int | None = None  # 1 to K; None without folds


@dataclass(frozen=True)
class Width:
    """How sensitive an optimizer is to its learning rate: the range of rates about as good as the best."""

    decades: float  # from the lowest to the highest rate of the range, which has no gaps
    open_low: bool  # the range reaches the lowest rate of the grid, so it may be wider
    open_high: bool  # likewise at the highest rate


@dataclass(frozen=True)
class Result:
    """The result of one optimizer over R rates and G seeds; it is tested at the chosen rate."""

    optimizer: str
    steps: int  # taken, which early stopping may cut
    learning_rate: float | None  # the chosen one; None if every rate has a non-finite lane
    validation: Interval | None  # headline score at the chosen rate
    test: Mapping[str, Interval]  # by the name of the score, in its unit; empty without a chosen rate
    test_by_seed: Mapping[str, np.ndarray]  # [G] each
    steps_to_target: np.ndarray  # [G] NaN where never; empty without a target
    width: Width | None
    nonfinite: list[Lane]
    failed: list[Lane]
    validation_by_rate: np.ndarray  # [R, G]


def lanes_by_rate(diverged: Sequence[Lane], learning_rates: np.ndarray) -> np.ndarray:
    """Return how many of some lanes have each rate, [R]."""
    rates = [lane.learning_rate for lane in diverged]
    return np.array([rates.count(rate) for rate in learning_rates])


def results(
    raced: Race, targets: np.ndarray, *, target_scale: float = 1.0, target: float | None = None
) -> list[Result]:
    """Return the result of each optimizer, in the order of the race.

    Args:
        raced: the race.
        targets: of the test rows, [M].
        target_scale: what a standardised target is multiplied by to have its unit.
        target: the validation score to count the steps to.
    """
    return [_result(raced, entry, targets, target_scale, target) for entry in raced.entries]


def _result(raced: Race, entry: Entry, targets: np.ndarray, target_scale: float, target: float | None) -> Result:
    best = entry.best
    test = {} if best is None else raced.task.report(entry.test, targets, target_scale)
    taken = np.flatnonzero(np.isfinite(entry.result.history.seconds))
    return Result(
        optimizer=entry.optimizer,
        steps=int(raced.steps[taken[-1]]),
        learning_rate=None if best is None else float(raced.learning_rates[best]),
        validation=None if best is None else raced.interval(entry.score[best]),
        test={name: raced.test_interval(values) for name, values in test.items()},
        test_by_seed=test,
        steps_to_target=np.array([]) if target is None else steps_to(entry, raced.steps, target),
        width=width(entry, raced.learning_rates),
        nonfinite=lanes(raced, entry, entry.nonfinite_step >= 0),
        failed=lanes(raced, entry, entry.failed),
        validation_by_rate=entry.score,
    )


def lanes(raced: Race, entry: Entry, where: np.ndarray) -> list[Lane]:
    """Return the lanes of an entry that are True in `where`, [R, G]."""
    return [
        Lane(
            learning_rate=float(raced.learning_rates[rate]),
            seed=int(raced.seeds[lane % raced.seeds.size]),
            step=int(entry.nonfinite_step[rate, lane]) if entry.nonfinite_step[rate, lane] >= 0 else None,
            kept_loss=float(entry.kept_loss[rate, lane]),
            fold=int(lane // raced.seeds.size) + 1 if raced.folds > 1 else None,
        )
        for rate, lane in np.argwhere(where)
    ]


def leads(raced: Race, tested: Sequence[Result]) -> tuple[Lead | None, Lead | None]:
    """Return the winner's lead over the next by validation, paired by seed or fold: on validation and on test rows.

    None without a next, and with one seed (of a split, or after a refit), on which nothing is compared.
    """
    if len(raced.ranked) < 2:
        return None, None
    first, second = raced.ranked[:2]
    headline = raced.task.headline

    def lead(pair: Sequence[np.ndarray], over: Callable[[np.ndarray], Interval]) -> Lead:
        return Lead(second.optimizer, over(100 * paired(pair[0], pair[1])), headline.points)

    by_validation = by_test = None
    if raced.repeats > 1:
        by_validation = lead([raced.repeated(each.score[each.best]) for each in (first, second)], raced.over)
    test = {result.optimizer: result.test_by_seed for result in tested}
    pair = [test[each.optimizer][headline.name] for each in (first, second)] if tested else []
    if pair and raced.refit_ids is not None and raced.seeds.size > 1:
        by_test = lead(pair, interval)
    if pair and raced.refit_ids is None and raced.repeats > 1:
        by_test = lead([raced.repeated(scores) for scores in pair], raced.over)
    return by_validation, by_test


def standing(raced: Race, model: Model, examples: Examples, ids: np.ndarray) -> Ranking[str] | None:
    """Return the optimizers by validation score, and those tied with the best; None without a valid rate.

    Validation rows decide, so that a tie is a matter of choice and the test rows stay for the report. Tied is whose
    paired difference from the best has an interval that includes 0, over the seeds or over the rows. Folds hold out
    different rows, so that their spread is that of seeds and rows, and decides alone.

    Args:
        raced: the race.
        model: that was raced.
        examples: `{"inputs", "targets"}`, with inputs as the split's training rows preprocess them.
        ids: of the validation rows, [M].
    """
    if raced.winner is None or raced.folds > 1:
        return raced.standing
    targets = np.asarray(examples["targets"])[ids]
    by_row = {
        entry.optimizer: raced.task.by_row(
            row_metrics(raced, entry._replace(refit=None), model, examples, ids), targets
        )
        for entry in raced.entries
        if entry.best is not None
    }
    names = [entry.optimizer for entry in raced.ranked]
    return Ranking(names, tied(names[0], by_row), raced.seeds.size)


def row_metrics(raced: Race, entry: Entry, model: Model, examples: Source, ids: np.ndarray) -> dict[str, np.ndarray]:
    """Return the metrics of an entry's published params on rows, [G, M] each: seed by seed, row by row.

    Args:
        raced: the race.
        entry: one of its entries, with a chosen rate.
        model: that was raced.
        examples: `{"inputs", "targets"}`, or the function of training rows that returns them; see `racing.race`.
        ids: of the rows, [M].
    """
    by_seed, rows, loaded = [], None, None
    for position in range(entry.score.shape[1] if entry.refit is None else raced.seeds.size):
        fold = None if entry.refit else position // raced.seeds.size
        if rows is None or fold != loaded:
            trained_on = raced.refit_ids if fold is None else raced.parts[fold].train
            assert trained_on is not None
            rows, loaded = gather(examples(trained_on) if callable(examples) else examples, ids), fold
        outputs = predict(model, *published(entry, position), rows["inputs"], block=PREDICTED_ROWS)
        by_seed.append(raced.task.metrics(outputs, rows["targets"]))
    return {name: np.stack([np.asarray(each[name]) for each in by_seed]) for name in by_seed[0]}


def width(entry: Entry, learning_rates: np.ndarray) -> Width | None:
    """Return the range of learning rates around the best one whose scores are within `SCORE_TOLERANCE` of its score."""
    if entry.best is None:
        return None
    mean = entry.score.mean(axis=1)
    close = mean >= mean[entry.best] - SCORE_TOLERANCE  # False for NaN
    low = high = entry.best
    while low > 0 and close[low - 1]:
        low -= 1
    while high < len(close) - 1 and close[high + 1]:
        high += 1
    decades = float(np.log10(learning_rates[high] / learning_rates[low]))
    return Width(decades, low == 0, high == len(close) - 1)


def steps_to(entry: Entry, steps: np.ndarray, target: float) -> np.ndarray:
    """Return the steps until each seed [G] first reaches a validation score at the chosen rate; NaN if it never does.

    The resolution is one segment.
    """
    if entry.best is None:
        return np.full(entry.score.shape[1], np.nan)
    reached = entry.curve[:, entry.best] >= target
    return np.where(reached.any(axis=0), steps[reached.argmax(axis=0)], np.nan)


def expected_test_scores(entry: Entry, folds: int = 1) -> np.ndarray:
    """Return the expected test score of the best of n trials, by validation score, for n = 1 to R G, [R G].

    A trial is a rate with a seed, and with folds its mean over them. Trials are drawn at random with replacement; see
    `metrics.expected_best`. Empty where no rate was chosen, and after a refit.
    """
    if entry.test_by_lane is None:
        return np.empty(0)
    pair = (entry.test_by_lane, entry.score)
    tested, scores = (np.asarray(each, np.float64).reshape(len(each), folds, -1).mean(axis=1).ravel() for each in pair)
    usable = np.isfinite(scores) & np.isfinite(tested)
    return expected_best(np.where(usable, scores, -np.inf), tested)
