"""Which rows are held out: at random, by group, forward in time, or by published splits.

A `Scheme` says how the rows of one data set may be separated; the test rows, the outer folds and the inner folds of a
nested cross-validation all follow it.

    scheme = Scheme(seed=0, groups=patients, times=dates, gap=7.0)
    choosing, test = scheme.holdout(np.arange(1000), 0.2)
    folds = scheme.folds(choosing, 5)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mllab import checks
from mllab.errors import UserError
from mllab.rows import as_ids
from mllab.validation import Folds, folds, padded


@dataclass(frozen=True)
class Scheme:
    """How rows are held out.

    With `groups`, all rows of a group are on one side. With `times`, the training rows of a fold are earlier than its
    held-out rows, by more than `gap`; rows of one time are on one side. With both, the training rows are earlier *and*
    of other groups. Otherwise rows are dealt at random, stratified by `labels` where these are given.
    """

    seed: int
    labels: np.ndarray | None = None  # classes of all examples, [N]
    groups: np.ndarray | None = None  # of all examples, [N]
    times: np.ndarray | None = None  # of all examples, [N], finite numbers
    gap: float = 0.0  # in the unit of `times`

    def __post_init__(self):
        if self.times is not None:
            checks.check_finite(np.asarray(self.times, np.float64), "times")
        elif self.gap:
            raise UserError("a gap without times: name the column of times, or leave the gap out")
        if not self.gap >= 0:
            raise UserError(f"gap = {self.gap:g}: give 0 or more, in the unit of the times")

    def folds(self, ids: np.ndarray, count: int, rounds: int = 1) -> Folds:
        """Return `count` folds of the rows `ids`, [M], for each round; those forward in time have one round.

        Raises:
            UserError: see `validation.folds` and `forward`.
        """
        if self.times is None:
            return folds(ids, count, self.seed, self.labels, self.groups, rounds)
        if rounds > 1:
            raise UserError(f"{rounds} rounds of folds forward in time would be the same: give 1")
        return forward(ids, count, self.times, self.groups, self.gap)

    def holdout(self, ids: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows to choose by and the test rows, of which there are about `share`; ascending.

        The test rows are the latest ones where there are times, else whole groups where there are groups.

        Raises:
            UserError: too few rows, groups or times.
        """
        count = max(2, round(1 / share))
        if self.times is None:
            parts = folds(ids, count, self.seed, self.labels, self.groups)
            train, test = (rows.ids[0][rows.weight[0] > 0] for rows in parts)
            return np.sort(train), np.sort(test)
        times = np.asarray(self.times)[ids]
        start = np.sort(times)[min(round(len(ids) * (1 - share)), len(ids) - 1)]
        test = ids[times >= start]
        train = _earlier(ids, np.asarray(self.times), start - self.gap, self.groups, test)
        if not len(train):
            reason = "" if self.groups is None else "every group of the earlier rows is among the latest rows too, or "
            raise UserError(f"no rows are left to train on: {reason}the gap is too long: give test rows of your own")
        return np.sort(train), np.sort(test)

    def described(self, count: int, rounds: int = 1) -> str:
        """Return the folds in words: "5 folds forward in time of disjoint groups"."""
        kind = " forward in time" if self.times is not None else ""
        kind += " of disjoint groups" if self.groups is not None else ""
        if not kind:
            kind = ", stratified by class" if self.labels is not None else ", at random"
        return f"{count} folds" + (f" × {rounds} rounds" if rounds > 1 else "") + kind


def forward(
    ids: np.ndarray, count: int, times: np.ndarray, groups: np.ndarray | None = None, gap: float = 0.0
) -> Folds:
    """Return `count` folds forward in time: each holds out a span of times and trains on all that is earlier.

    The rows are cut into `count` + 1 spans of about equal numbers of rows, as scikit-learn's `TimeSeriesSplit` does;
    the first one only trains. Rows of one time are in one span.

    Args:
        ids: row ids, [M].
        count: K.
        times: of all examples, [N].
        groups: of all examples, [N]; training rows of a group that a fold holds out are left out.
        gap: training rows are earlier than the first held-out row by more than this, in the unit of `times`.

    Raises:
        UserError: fewer than K + 1 times, or a fold without training rows.
    """
    ids, times = as_ids(ids, "ids"), np.asarray(times)
    checks.check_whole(2, count=count)
    distinct, rows = np.unique(times[ids], return_counts=True)
    if len(distinct) < count + 1:
        raise UserError(f"{count} folds forward in time of {len(distinct)} distinct times: give at most one less")
    # The first time of each span: where the rows before it reach k / (K + 1) of all.
    before = np.concatenate([[0], np.cumsum(rows)[:-1]])
    starts = [int(np.argmin(np.abs(before - len(ids) * k / (count + 1)))) for k in range(1, count + 1)]
    for k in range(count):  # each span has a time of its own
        starts[k] = min(max(starts[k], starts[k - 1] + 1 if k else 1), len(distinct) - count + k)
    train, held_out = [], []
    for k, start in enumerate(starts):
        stop = starts[k + 1] if k + 1 < count else len(distinct)
        inside = ids[(times[ids] >= distinct[start]) & (times[ids] <= distinct[stop - 1])]
        earlier = _earlier(ids, times, distinct[start] - gap, groups, inside)
        if not len(earlier):
            mend = "give fewer folds, or a smaller gap"
            if groups is not None:
                mend += "; where groups last all the time, separate by time or by group, not by both"
            raise UserError(
                f"fold {k + 1} of {count} forward in time has no training row earlier than its held-out rows"
                f"{'' if groups is None else ', of another group'}{' and before the gap' if gap else ''}: {mend}"
            )
        train.append(earlier)
        held_out.append(inside)
    return Folds(padded(train), padded(held_out))


def published(held_out: Sequence[np.ndarray], rows: int) -> Folds:
    """Return the folds of published splits: each holds out the given rows and trains on all others of `rows` rows.

    Raises:
        UserError: no splits; or one with a row twice or out of range, without rows, or without training rows.
    """
    if not len(held_out):
        raise UserError("no splits: give the held-out rows of one or more")
    everything, train, checked = np.arange(rows), [], []
    for number, each in enumerate(held_out, 1):
        ids = as_ids(each, f"split {number}", rows)
        if len(np.unique(ids)) < len(ids):
            raise UserError(f"split {number} holds a row out twice: name each row once")
        if len(ids) == rows:
            raise UserError(f"split {number} holds all {rows} rows out: leave some to train on")
        train.append(np.setdiff1d(everything, ids))
        checked.append(np.sort(ids))
    return Folds(padded(train), padded(checked))


def _earlier(
    ids: np.ndarray, times: np.ndarray, limit: float, groups: np.ndarray | None, held_out: np.ndarray
) -> np.ndarray:
    """Return the rows before a limit of time, of other groups than the held-out ones."""
    chosen = times[ids] < limit
    if groups is not None:
        chosen &= ~np.isin(np.asarray(groups)[ids], np.unique(np.asarray(groups)[held_out]))
    return ids[chosen]
