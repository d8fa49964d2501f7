"""What a fitted model's predictions on held-out rows depend on, and the rows it gets most wrong.

    importances = permutation_importance(predict, columns, targets, accuracy)  # of every column
    curve = partial_dependence(predict, columns, importances[0].group[0])

All of it is of one fitted model: it says what that model uses, not what causes the target.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from mllab import checks
from mllab.errors import UserError
from mllab.metrics import Interval, interval, paired
from mllab.models.preprocessing import Columns
from mllab.row_blocks import even_size
from mllab.types import Outputs
from mllab.validation import Score

NUMBER, CODE = "number", "code"
BLOCK_ROWS = 8192  # predicted at once
BAND = 10.0, 90.0  # percentiles of the curves of single rows

Predict = Callable[[Columns], Outputs]  # log-probabilities [M, C] or standardised values [M]


class Column(NamedTuple):
    """A column of `Columns`."""

    kind: str  # NUMBER or CODE
    place: int  # in `numbers` or `codes`


class Importance(NamedTuple):
    """How much worse the score is with a group of columns shuffled among the rows."""

    group: tuple[Column, ...]
    drop: Interval  # of the reported score, over held-out rows and shuffles; `seeds` is the number of rows


class Dependence(NamedTuple):
    """The mean prediction with one column set to each value of a grid, in all rows."""

    column: Column
    grid: np.ndarray  # [G] ascending numbers, or codes
    mean: np.ndarray  # [G] or [G, C]
    low: np.ndarray  # as `mean`: 10% of the rows have a lower prediction
    high: np.ndarray  # as `mean`: 10% of the rows have a higher prediction


class Running(NamedTuple):
    """The mean and the spread of values along another quantity, in bins of equally many rows."""

    x: np.ndarray  # [B] mean of the quantity, ascending
    mean: np.ndarray  # [B]
    low: np.ndarray  # [B] 10% of the rows of a bin are lower
    high: np.ndarray  # [B] 10% of the rows of a bin are higher


def single_columns(columns: Columns) -> list[tuple[Column, ...]]:
    """Return every column as a group by itself: the numbers, then the codes."""
    numbers: list[tuple[Column, ...]] = [(Column(NUMBER, place),) for place in range(columns.numbers.shape[1])]
    return numbers + [(Column(CODE, place),) for place in range(columns.codes.shape[1])]


def permutation_importance(
    predict: Predict,
    columns: Columns,
    targets: np.ndarray,
    score: Score,
    groups: Sequence[Sequence[Column]] | None = None,
    *,
    repeats: int = 10,
    seed: int = 0,
    utility: Callable[[np.ndarray], np.ndarray] = np.asarray,
    block_rows: int = BLOCK_ROWS,
) -> list[Importance]:
    r"""Return the drop of the score with each group of columns shuffled among the held-out rows.

    In each repeat every row receives the values, missing ones too, of another row, whose values go to a third: the rows
    form one random cycle. The interval covers the sampling of the rows and the randomness of the shuffles, and not that
    of the training rows; see `drop_interval`.

    Args:
        predict: outputs of any number of rows; it is always called with the same number.
        columns: of rows that the model has not seen, [M].
        targets: of these rows, [M].
        score: of each row; greater is better.
        groups: columns that are shuffled together, such as the parts of one date. Default: each by itself.
        repeats: number of shuffles R; all groups are shuffled alike.
        seed: of the shuffles.
        utility: from mean scores the values whose drop is reported; greater is better. See `Criterion.utility`.
        block_rows: rows that are predicted at once.

    Returns:
        One for each group, in their order.

    Raises:
        UserError: fewer than two rows, another number of targets, a column that does not exist, or scores that are not
            finite.

    Source: Breiman, *Random forests*, Machine Learning 45 (2001), section 10; Fisher, Rudin and Dominici, *All models
    are wrong, but many are useful*, JMLR 20 (2019), section 3, for pairs of different rows.
    """
    columns, rows = _checked(columns)
    targets = np.asarray(checks.as_numbers(targets, "targets"))
    checks.check_whole(1, repeats=repeats)
    if rows < 2 or targets.shape[:1] != (rows,):
        raise UserError(f"{rows} rows and targets {list(targets.shape)}: give two rows or more, and a target for each")
    chosen = [tuple(group) for group in (single_columns(columns) if groups is None else groups)]
    for column in (column for group in chosen for column in group):
        _check_column(columns, column)
    draw = np.random.default_rng(seed)
    donors = np.empty((repeats, rows), np.int64)
    for repeat in range(repeats):
        cycle = draw.permutation(rows)
        donors[repeat, cycle] = np.roll(cycle, 1)

    def edit(part: Columns, version: int, ids: np.ndarray) -> None:  # version 0 is not shuffled
        group, repeat = divmod(version - 1, repeats)
        for kind, place in chosen[group] if version else ():
            of_kind = part.numbers if kind == NUMBER else part.codes
            source = columns.numbers if kind == NUMBER else columns.codes
            of_kind[:, place] = source[donors[repeat, ids], place]  # type: ignore[index]

    by_row = jax.jit(score)
    parts = [
        np.asarray(by_row(outputs, targets[ids]), np.float64)[:count]
        for outputs, ids, count in _predicted(predict, columns, 1 + len(chosen) * repeats, edit, block_rows)
    ]
    scores = np.concatenate(parts)
    checks.check_finite(scores, "scores of held-out rows")
    base, shuffled = scores[:rows], scores[rows:].reshape(len(chosen), repeats, rows)
    return [
        Importance(group, drop_interval(base, each, donors, utility))
        for group, each in zip(chosen, shuffled, strict=True)
    ]


def drop_interval(
    base: np.ndarray,
    shuffled: np.ndarray,
    donors: np.ndarray,
    utility: Callable[[np.ndarray], np.ndarray] = np.asarray,
) -> Interval:
    r"""Return the drop of a score under shuffles, and its 95% interval over draws of the rows and of the shuffles.

    The drop is a mean of $h_{ij}$ over pairs of a row i and the row j that it receives values from. A row counts in
    both roles, so its influence is $h_{i \cdot} + h_{\cdot i} - 2 h_{\cdot \cdot}$ with dots for means, and the
    variance of the drop is that of the influences over M (Hájek's projection of a U-statistic). The means are taken
    over R shuffles, the second of $h_{ij} - h_{i \cdot}$, so that a column that changes nothing has an interval of
    width 0; the variance of the shuffles is contained in theirs, so that the interval is a little wide for few
    shuffles. A utility that is no mean, such as the RMSE, enters by its derivative (the delta method).

    Args:
        base: scores without shuffling, [M].
        shuffled: scores after each shuffle, [R, M].
        donors: the row that each row received its values from, [R, M]; a permutation for each shuffle.
        utility: see `permutation_importance`.

    Source: Hoeffding, *A class of statistics with asymptotically normal distribution*, Annals of Mathematical
    Statistics 19 (1948), section 5; van der Vaart, *Asymptotic statistics* (1998), chapters 3 and 12.
    """
    repeats = len(shuffled)
    differences = paired(base, shuffled)  # without the rounding of scores, which would look like a clear difference
    before = float(base.mean())
    after = before - float(differences.mean())
    drop = float(utility(np.array(before)) - utility(np.array(after)))
    pairs = _slope(utility, before) * (base - before) - _slope(utility, after) * (base - differences - after)  # [R, M]
    as_row = pairs.mean(axis=0)
    as_donor = np.empty_like(pairs)
    # A row's mean includes the pair itself, which makes differences from it smaller by 1 - 1 / R.
    apart = (pairs - as_row) * repeats / (repeats - 1) if repeats > 1 else pairs
    np.put_along_axis(as_donor, donors, apart, axis=1)
    influence = as_row + as_donor.mean(axis=0)
    _, low, high, rows = interval(influence)
    return Interval(drop, drop + low, drop + high, rows)


def partial_dependence(
    predict: Predict,
    columns: Columns,
    column: Column,
    grid: np.ndarray | None = None,
    *,
    points: int = 20,
    value: Callable[[Outputs], Any] = np.asarray,
    block_rows: int = BLOCK_ROWS,
) -> Dependence:
    """Return the mean prediction of the rows with one column set to each value of a grid, and its spread over rows.

    Args:
        predict: outputs of any number of rows; it is always called with the same number.
        columns: of rows that the model has not seen, [M]; the other columns keep their values.
        column: to set; a number is set in rows where it is missing, too.
        grid: values or codes, [G]. Default: at most `points` quantiles of the numbers, from 2.5% to 97.5%, or all
            numbers where they are as few; of categories the most frequent ones, by code.
        points: see `grid`.
        value: from outputs [B, ...] what is averaged: probabilities, or values in their unit, [B] or [B, C].
        block_rows: rows that are predicted at once.

    Raises:
        UserError: no rows, no such column, or a grid that is empty or holds no values of the column's kind.

    Source: Friedman, *Greedy function approximation: a gradient boosting machine*, Annals of Statistics 29 (2001),
    section 8.2; Goldstein, Kapelner, Bleich and Pitkin, *Peeking inside the black box*, Journal of Computational and
    Graphical Statistics 24 (2015), for the curves of single rows.
    """
    columns, rows = _checked(columns)
    _check_column(columns, column)
    checks.check_whole(1, points=points)
    source = np.asarray(columns.numbers if column.kind == NUMBER else columns.codes)[:, column.place]
    values = _grid(source, column.kind, points) if grid is None else np.asarray(checks.as_numbers(grid, "grid"))
    if values.ndim != 1 or values.size == 0 or (column.kind == CODE and values.dtype.kind not in "iu"):
        raise UserError(f"grid: {values.dtype}{list(values.shape)}, expected one or more values of a {column.kind}")

    def edit(part: Columns, version: int, ids: np.ndarray) -> None:
        of_kind = part.numbers if column.kind == NUMBER else part.codes
        of_kind[:, column.place] = values[version]  # type: ignore[index]

    parts = [
        np.asarray(value(outputs), np.float64)[:count]
        for outputs, _, count in _predicted(predict, columns, len(values), edit, block_rows)
    ]
    joined = np.concatenate(parts)
    curves = joined.reshape(len(values), rows, *joined.shape[1:])
    low, high = np.percentile(curves, BAND, axis=1)
    return Dependence(column, values, curves.mean(axis=1), low, high)


def most_wrong(scores: np.ndarray, count: int = 10) -> np.ndarray:
    """Return the ids of the rows with the lowest scores [M], the lowest first; NaN is lowest, equal ones in order.

    Raises:
        UserError: scores of another shape.
    """
    scores = np.asarray(checks.as_numbers(scores, "scores"), np.float64)
    checks.check_whole(0, count=count)
    if scores.ndim != 1:
        raise UserError(f"scores: shape {list(scores.shape)}, expected one a row, [M]")
    return np.argsort(np.where(np.isnan(scores), -np.inf, scores), kind="stable")[:count]


def running(x: np.ndarray, values: np.ndarray, bins: int = 20) -> Running:
    """Return the mean and the spread of values [M] along x [M], such as residuals along predictions.

    Args:
        x: rows of equal x share a bin.
        values: of the rows.
        bins: at most, and at most one for 20 rows.

    Raises:
        UserError: no rows, or other shapes.
    """
    x, values = (np.asarray(checks.as_numbers(each, name), np.float64) for each, name in ((x, "x"), (values, "values")))
    checks.check_whole(1, bins=bins)
    if x.ndim != 1 or x.shape != values.shape or x.size == 0:
        raise UserError(f"x {list(x.shape)} and values {list(values.shape)}: expected [M] of both")
    shares = np.linspace(0, 1, min(bins, max(1, len(x) // 20)) + 1)[1:-1]
    place = np.searchsorted(np.unique(np.quantile(x, shares, method="inverted_cdf")), x, side="left")
    parts = [place == each for each in np.unique(place)]
    low, high = np.transpose([np.percentile(values[part], BAND) for part in parts])
    middle, mean = (np.array([each[part].mean() for part in parts]) for each in (x, values))
    return Running(middle, mean, low, high)


def _grid(source: np.ndarray, kind: str, points: int) -> np.ndarray:
    if kind == CODE:
        codes, counts = np.unique(source[source >= 0], return_counts=True)
        return np.sort(codes[np.argsort(-counts, kind="stable")[:points]])
    present = source[~np.isnan(source)]
    distinct = np.unique(present)
    if len(distinct) <= points:
        return distinct
    return np.unique(np.quantile(present, np.linspace(0.025, 0.975, points), method="inverted_cdf"))


def _slope(utility: Callable[[np.ndarray], np.ndarray], mean: float) -> float:
    """Return the derivative of a utility at a mean; 0 at 0, where scores without a mistake have no spread."""
    step = 1e-4 * abs(mean)
    return 0.0 if step == 0 else float(utility(np.array(mean + step)) - utility(np.array(mean - step))) / (2 * step)


def _predicted(
    predict: Predict,
    columns: Columns,
    versions: int,
    edit: Callable[[Columns, int, np.ndarray], None],
    block_rows: int,
) -> Iterator[tuple[Outputs, np.ndarray, int]]:
    """Yield the outputs of all rows in each version, one version after another, in blocks of one size.

    Args:
        predict: of a block.
        columns: [M], NumPy arrays.
        versions: number of versions of the rows.
        edit: changes the columns of some rows in place: (columns [B], version, row ids [B]).
        block_rows: at most, in a block.

    Yields:
        Outputs [B, ...], row ids [B], and how many of them count: the last block is padded.
    """
    checks.check_whole(1, block_rows=block_rows)
    rows = len(columns.numbers)
    total = versions * rows
    size = even_size(total, block_rows)
    for start in range(0, total, size):
        place = np.minimum(np.arange(start, start + size), total - 1)
        of_version, ids = np.divmod(place, rows)
        block = Columns(*(np.asarray(part)[ids] for part in columns))
        for version in np.unique(of_version):
            low, high = np.searchsorted(of_version, [version, version + 1])
            edit(Columns(block.numbers[low:high], block.codes[low:high]), int(version), ids[low:high])
        yield predict(block), ids, min(size, total - start)


def _checked(columns: Columns) -> tuple[Columns, int]:
    if not isinstance(columns, Columns):
        raise UserError(f"columns: {type(columns).__name__}, expected Columns: see mllab.models.preprocessing")
    numbers, codes = np.asarray(columns.numbers), np.asarray(columns.codes)
    if numbers.ndim != 2 or codes.ndim != 2 or len(numbers) != len(codes) or len(numbers) == 0:
        raise UserError(
            f"numbers {list(numbers.shape)} and codes {list(codes.shape)}: expected [M, P] and [M, Q] of the same rows"
        )
    return Columns(numbers, codes), len(numbers)


def _check_column(columns: Columns, column: Column) -> None:
    kind, place = column
    if kind not in (NUMBER, CODE):
        raise UserError(f"column {kind!r}: expected one of {NUMBER}, {CODE}")
    count = (columns.numbers if kind == NUMBER else columns.codes).shape[1]
    if not 0 <= place < count:
        raise UserError(f"column {kind} {place}: there are {count}, 0 to {count - 1}")
