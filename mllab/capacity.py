r"""Under- and overfitting: training and validation errors against capacity, and against the number of examples.

`curve` scores a learner on repeated samples along one axis, all of them in one program where the learner allows, and
`judge` tells the chosen value, and whether the ends under- or overfit. A difference counts where its 95% interval over
the samples, paired, excludes 0.

Sources: Hastie, Tibshirani and Friedman, *The Elements of Statistical Learning*, 2nd ed., section 7.2; Belkin et al.,
*Reconciling modern machine-learning practice and the classical bias-variance trade-off*, PNAS 116 (2019), for double
descent; Nadeau and Bengio (2003) for intervals over samples of one table (`validation.interval`).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mllab import checks, metrics, validation
from mllab.errors import UserError
from mllab.metrics import Interval
from mllab.rows import as_ids
from mllab.types import Examples, Key, Rows
from mllab.validation import Folds, Learner, Score

LEAST_SHARE = 0.02  # of the error: a smaller fall with a doubling of the rows is none that is worth the rows
LEAST_GAP = 0.1  # of the error: a smaller gap between training and validation error is none to speak of


class Samples(NamedTuple):
    """Repeated samples: each has training rows, in an order whose beginnings are samples too, and validation rows."""

    train: np.ndarray  # [R, M] ids
    held_out: np.ndarray  # [R, M'] ids
    independent: bool  # whether samples share no rows

    def interval(self, values: np.ndarray) -> Interval:
        """Return the mean [R] with its 95% interval, wider where samples share rows."""
        if self.independent or len(values) < 2:
            return metrics.interval(values)
        return validation.interval(values, 1 + self.train.shape[1] / self.held_out.shape[1])

    def folds(self, rows: Sequence[int] | None = None) -> Folds:
        """Return folds [R], or [len(rows) * R] that train on the first rows only; training rows are held out, too."""
        sizes = [self.train.shape[1]] if rows is None else list(rows)
        places = np.arange(self.train.shape[1])
        repeat = len(sizes)
        train = Rows(
            np.tile(self.train, (repeat, 1)).astype(np.int32),
            np.concatenate([np.tile(places < n, (len(self.train), 1)) for n in sizes]).astype(np.float32),
        )
        ids = np.concatenate([train.ids, np.tile(self.held_out, (repeat, 1)).astype(np.int32)], axis=1)
        return Folds(train, Rows(ids, np.ones(ids.shape, np.float32)))


def resampled(ids: np.ndarray, train: int, held_out: int, count: int, seed: int, targets: np.ndarray) -> Samples:
    """Return random samples of the rows of one table.

    Args:
        ids: of the rows to draw from, [N].
        train: training rows of a sample.
        held_out: validation rows of a sample.
        count: R.
        seed: of the draws.
        targets: of all examples; of classes, each sample begins with a row of each.

    Raises:
        UserError: fewer rows than a sample takes, or numbers that are not whole numbers of 1 or more.
    """
    ids = as_ids(ids, "ids")
    checks.check_whole(1, train=train, held_out=held_out, count=count)
    if train + held_out > len(ids):
        raise UserError(f"{train:,} training and {held_out:,} validation rows of {len(ids):,}: give fewer")
    drawn = []
    for number in range(count):
        order = np.random.default_rng([seed, number]).permutation(ids)
        if np.issubdtype(targets.dtype, np.integer):
            first = np.sort(np.unique(targets[order], return_index=True)[1])
            order = np.concatenate([order[first], np.delete(order, first)])
        drawn.append(order[: train + held_out])
    array = np.stack(drawn)
    return Samples(array[:, :train], array[:, train:], independent=False)


def fresh(train: int, held_out: int, count: int) -> Samples:
    """Return samples of examples that are drawn anew for each: rows 0, 1, ... of `count` * (train + held_out)."""
    checks.check_whole(1, train=train, held_out=held_out, count=count)
    array = np.arange(count * (train + held_out)).reshape(count, -1)
    return Samples(array[:, :train], array[:, train:], independent=True)


class Errors(NamedTuple):
    """Errors along an axis, for each sample."""

    training: np.ndarray  # [A, R]
    validation: np.ndarray  # [A, R]


def along_axis(
    learner: Learner, axis: str, values: Sequence[float], fixed: Mapping[str, float], key: Key, examples: Examples,
    samples: Samples, error: Score, shown: Callable[[np.ndarray], np.ndarray] = np.asarray, *, apart: bool = False,
) -> Errors:  # fmt: skip
    """Return the errors for each value of a hyperparameter.

    Args:
        learner: the algorithm.
        axis: name of the hyperparameter.
        values: [A].
        fixed: other hyperparameters.
        key: shared by all.
        examples: `{"inputs", "targets"}`.
        samples: R of them.
        error: of a row, such as the squared error; smaller is better.
        shown: of a mean error, such as its square root.
        apart: one sample after another, for a learner whose memory grows with the square of all rows that it is given.
    """
    axes = {axis: values} | {name: [value] for name, value in fixed.items()}
    return _errors(learner, axes, key, examples, samples, samples.folds(), len(values), (error, shown), apart)


def along_rows(
    learner: Learner, rows: Sequence[int], setting: Mapping[str, float], key: Key, examples: Examples,
    samples: Samples, error: Score, shown: Callable[[np.ndarray], np.ndarray] = np.asarray, *, apart: bool = False,
) -> Errors:  # fmt: skip
    """Return the errors for each number of training rows: the learning curve.

    Args:
        learner: see `along_axis`, as for the other arguments.
        rows: [A] numbers of training rows.
        setting: the hyperparameters.
        key: shared by all.
        examples: `{"inputs", "targets"}`.
        samples: R of them.
        error: of a row.
        shown: of a mean error.
        apart: one sample after another.
    """
    axes = {name: [value] for name, value in setting.items()}
    return _errors(learner, axes, key, examples, samples, samples.folds(rows), len(rows), (error, shown), apart)


def _errors(
    learner: Learner, axes: Mapping[str, Sequence[float]], key: Key, examples: Examples, samples: Samples, folds: Folds,
    places: int, measure: tuple[Score, Callable[[np.ndarray], np.ndarray]], apart: bool,
) -> Errors:  # fmt: skip
    """Return the errors on the training and the validation rows of folds, [places, R]."""
    count, split = len(samples.train), samples.train.shape[1]
    error, shown = measure
    parts: list[list[np.ndarray]] = [[], []]
    every = np.arange(len(folds.train.ids))
    for chosen in [every[number::count] for number in range(count)] if apart else [every]:
        train, held_out = (Rows(rows.ids[chosen], rows.weight[chosen]) for rows in folds)
        outputs = validation.held_out_outputs(learner, axes, key, examples, Folds(train, held_out))
        for place, part in enumerate((slice(None, split), slice(split, None))):
            weight = train.weight if place == 0 else held_out.weight[:, part]
            each = Folds(train, Rows(held_out.ids[:, part], weight))
            some = outputs[(slice(None),) * (len(axes) + 1) + (part,)]
            means = validation.mean_scores(some, len(axes), examples, each, error)
            parts[place].append(means.reshape(places, -1))
    return Errors(*(shown(np.concatenate(each, axis=1)) for each in parts))


# ── Verdicts ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Verdict:
    """What a curve says; places are along an axis of ascending capacity."""

    chosen: int  # of least mean validation error
    tied: list[int]  # not clearly worse than the chosen one, itself included
    underfits: list[int]  # clearly worse, of less capacity
    overfits: list[int]  # clearly worse, of more capacity, with no greater training error
    others: list[int]  # clearly worse, of more capacity, with a greater training error: it is not fitted well
    peak: int | None  # where the validation error peaks beyond the chosen capacity, to fall clearly again
    gap: Interval  # validation less training error, at the chosen place


def judge(
    errors: Errors,
    over: Callable[[np.ndarray], Interval],
    compared: Callable[[np.ndarray], np.ndarray] = np.asarray,
) -> Verdict:
    """Return the verdict on errors along an axis of ascending capacity.

    Args:
        errors: of each place and sample.
        over: values of the samples [R] -> their mean with an interval.
        compared: of errors before they are compared; the logarithm, where some samples have errors far above others'.

    Raises:
        UserError: no place has finite validation errors.
    """
    means = np.where(np.isfinite(errors.validation).all(axis=1), errors.validation.mean(axis=1), np.inf)
    if not np.isfinite(means).any():
        raise UserError("no value of the axis has finite validation errors: give others")
    chosen = int(np.argmin(means))

    def is_worse(place: int, than: int) -> bool:
        if not np.isfinite(means[place]):
            return True
        return over(compared(errors.validation[place]) - compared(errors.validation[than])).sign > 0

    worse = [place for place in range(len(means)) if place != chosen and is_worse(place, chosen)]
    beyond = [place for place in worse if place > chosen]
    training = errors.training.mean(axis=1)
    overfits = [place for place in beyond if training[place] <= training[chosen] * (1 + 1e-6) + 1e-12]
    peak = None
    if overfits and chosen < len(means) - 2:
        top = chosen + 1 + int(np.argmax(means[chosen + 1 :]))
        after = means[top + 1 :]
        if after.size and is_worse(top, top + 1 + int(np.argmin(after))):
            peak = top
    return Verdict(
        chosen,
        [place for place in range(len(means)) if place not in worse],
        [place for place in worse if place < chosen],
        overfits,
        [place for place in beyond if place not in overfits],
        peak,
        over(errors.validation[chosen] - errors.training[chosen]),
    )


@dataclass(frozen=True)
class Trend:
    """Where a learning curve is heading."""

    gap: Interval  # validation less training error, with all rows
    last_fall: Interval  # of the validation error, from the number of rows before the last to the last
    doublings: float  # from one to the other
    share: float  # of the validation error by which it falls with a doubling
    helps: str  # "likely", "unclear" or "hardly": whether more rows will lower the validation error


def trend(rows: Sequence[int], errors: Errors, over: Callable[[np.ndarray], Interval]) -> Trend:
    """Return whether more examples would help, cautiously: judged by the last stretch of the curve and the gap."""
    gap = over(errors.validation[-1] - errors.training[-1])
    fall = (
        over(errors.validation[-2] - errors.validation[-1])
        if len(rows) > 1
        else Interval(math.nan, math.nan, math.nan, 0)
    )
    doublings = math.log2(rows[-1] / rows[-2]) if len(rows) > 1 else math.nan
    error = max(float(errors.validation[-1].mean()), 1e-12)
    share = fall.mean / doublings / error if len(rows) > 1 else math.nan
    if fall.sign > 0 and share >= LEAST_SHARE:
        helps = "likely"
    elif fall.sign > 0 or gap.mean < LEAST_GAP * error:
        helps = "hardly"
    else:
        helps = "unclear"
    return Trend(gap, fall, doublings, share, helps)
