"""What to look at in a table before trusting a result on it, a line each."""

import numpy as np

from mllab.data.dataset import Split
from mllab.data.schema import NO_TARGET, Schema
from mllab.errors import shortened
from mllab.models.preprocessing import Columns

FAR = 20  # standard deviations
MOST_ROWS = 20_000  # of a part, looked at for a column that predicts the target
BINS = 64
LEAST_ROWS = 20  # below, anything may happen by chance
NEARLY_ALL = 0.95  # distinct, of an identifier
EXPLAINED = 0.99  # share of the variance that one column alone explains
ERRORS_LEFT = 0.05  # share of the baseline's errors that one column alone leaves


def of(schema: Schema, columns: Columns, targets: np.ndarray, split: Split, is_split_chosen: bool) -> tuple[str, ...]:
    """Return the lines.

    Args:
        schema: of the columns.
        columns: of all rows, [N].
        targets: classes or values, [N]; [N, 0] without a target.
        split: of the rows; only training and validation rows are compared with the target.
        is_split_chosen: whether the user's file names the parts.
    """
    return (
        *_identifiers(schema, columns, split),
        *(_leaks(schema, columns, targets, split) if schema.target != NO_TARGET else ()),
        *_far(schema, columns, split),
        *_repeated(columns, targets, split, is_split_chosen),
    )


def _identifiers(schema: Schema, columns: Columns, split: Split) -> list[str]:
    """Point out columns of whole numbers, nearly all distinct, that count through the rows."""
    known = np.sort(np.concatenate([split.train, split.validation]))
    if len(known) < LEAST_ROWS:
        return []
    lines, place = [], 0
    for column in schema.numeric:
        values = np.asarray(columns.numbers)[known, place]
        place += len(column.number_names)
        if column.kind != "number":
            continue
        whole = np.ldexp(values.astype(np.float64), column.exponent) + column.offset
        whole = whole[~np.isnan(whole)]
        head = whole[:MOST_ROWS]
        if (
            len(whole) < LEAST_ROWS
            or not np.array_equal(head, np.round(head))
            or not np.array_equal(whole, np.round(whole))
        ):
            continue
        distinct = len(np.unique(whole))
        dense = np.ptp(whole) < 3 * len(np.asarray(columns.numbers))
        named = column.name.lower() in ("id", "index", "row") or column.name.lower().endswith(("_id", " id", "-id"))
        named = named or (column.name.endswith(("Id", "ID")) and len(column.name) > 2)
        if distinct >= NEARLY_ALL * len(whole) and (dense or named):
            lines.append(
                f"{column.name!r} looks like an identifier ({distinct:,} distinct whole numbers in {len(whole):,} "
                f"rows) and is an input: --drop={shortened(column.name)} leaves it out"
            )
    return lines


def _leaks(schema: Schema, columns: Columns, targets: np.ndarray, split: Split) -> list[str]:
    """Point out columns that predict the target nearly perfectly by themselves, judged on validation rows."""
    rng = np.random.default_rng(0)
    train, validation = (
        rows if len(rows) <= MOST_ROWS else np.sort(rng.choice(rows, MOST_ROWS, replace=False))
        for rows in (split.train, split.validation)
    )
    if len(validation) < LEAST_ROWS or len(train) < LEAST_ROWS:
        return []
    classes = len(schema.target.classes)
    lines, place = [], 0
    for column in schema.columns:
        if column.is_numeric:
            values = np.asarray(columns.numbers)[:, place]
            place += len(column.number_names)
            fitted, judged = _bins(values[train], values[validation])
            count = int(max(fitted.max(), judged.max())) + 1
        else:
            codes = np.asarray(columns.codes)[:, schema.categorical.index(column)]
            fitted, judged, count = codes[train] + 1, codes[validation] + 1, len(column.categories) + 1
            if len(np.unique(fitted)) > len(train) / 4:
                continue  # a category of few rows each
        what = _predicts(fitted, judged, count, targets[train], targets[validation], classes)
        if what:
            lines.append(
                f"{column.name!r} alone predicts {schema.target.name!r} nearly perfectly ({what} on validation rows): "
                f"a copy of it? --drop={shortened(column.name)} leaves it out"
            )
    return lines


def _predicts(
    fitted: np.ndarray, judged: np.ndarray, bins: int, targets: np.ndarray, held_out: np.ndarray, classes: int
) -> str:
    """Return how well the bin of a value predicts the target, in words; "" unless nearly perfectly."""
    counts = np.bincount(fitted, minlength=bins)
    if classes:
        table = np.bincount(fitted * classes + targets, minlength=bins * classes).reshape(bins, classes)
        common = np.bincount(targets, minlength=classes).argmax()
        predicted = np.where(counts > 0, table.argmax(axis=1), common)[judged]
        errors, baseline = np.mean(predicted != held_out), np.mean(common != held_out)
        return f"accuracy {1 - errors:.3f}" if baseline > 0 and errors <= ERRORS_LEFT * baseline else ""
    means = np.bincount(fitted, targets, minlength=bins) / np.maximum(counts, 1)
    predicted = np.where(counts > 0, means, targets.mean())[judged]
    spread = np.mean((held_out - targets.mean()) ** 2)
    explained = 1 - np.mean((predicted - held_out) ** 2) / spread if spread > 0 else 0.0
    return f"R² {explained:.3f}" if explained >= EXPLAINED else ""


def _bins(fitted: np.ndarray, judged: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the quantile bins of numbers, by the first ones; missing numbers have a bin of their own, 0."""
    present = fitted[~np.isnan(fitted)]
    distinct = np.unique(present)
    count = max(2, min(BINS, len(fitted) // 5))
    edges = (
        (distinct[1:] + distinct[:-1]) / 2
        if len(distinct) <= count
        else np.unique(np.quantile(present, np.linspace(0, 1, count + 1)[1:-1]))
    )
    return tuple(  # type: ignore[return-value]
        np.where(np.isnan(values), 0, 1 + np.searchsorted(edges, values)) for values in (fitted, judged)
    )


def _far(schema: Schema, columns: Columns, split: Split) -> list[str]:
    """Point out numbers that are many standard deviations from the mean of the training rows."""
    lines, place = [], 0
    for column in schema.numeric:
        values = np.asarray(columns.numbers)[:, place]
        place += len(column.number_names)
        fitted = values[split.train]
        fitted = fitted[~np.isnan(fitted)]
        if not len(fitted):
            continue
        mean, deviation = fitted.mean(dtype=np.float64), fitted.std(dtype=np.float64)
        farthest = max(np.nanmax(values) - mean, mean - np.nanmin(values))
        if not farthest > FAR * deviation > 0:
            continue
        count = int(np.count_nonzero(np.abs(values - mean) > FAR * deviation))
        lines.append(
            f"{column.name!r} has {count:,} value{'s' * (count > 1)} beyond {FAR} standard deviations: check "
            f"{'them' if count > 1 else 'it'}, or clip (the transforms clipped and quantile)"
        )
    return lines


def _repeated(columns: Columns, targets: np.ndarray, split: Split, is_split_chosen: bool) -> list[str]:
    """Point out held-out rows that equal a training row, unless rows repeat by their nature."""
    keys = _keys(columns, targets)
    trained = np.sort(keys[split.train])
    if np.count_nonzero(trained[1:] == trained[:-1]) > 0.1 * len(trained):
        return []
    counts = {}
    for part in ("validation", "test"):
        held_out = keys[getattr(split, part)]
        place = np.minimum(np.searchsorted(trained, np.sort(held_out)), len(trained) - 1)
        counts[part] = int(np.count_nonzero(trained[place] == np.sort(held_out)))
    if not any(counts.values()):
        return []
    shown = " and ".join(f"{count:,} {part} row{'s' * (count > 1)}" for part, count in counts.items() if count)
    mend = (
        "remove the duplicates from the file"
        if is_split_chosen
        else ("remove the duplicates, or keep them together by a split column")
    )
    return [f"{shown} equal a training row, so scores may be too good: {mend}"]


def _keys(columns: Columns, targets: np.ndarray) -> np.ndarray:
    """Return a hash of each row, [N] uint64."""
    keys = np.zeros(len(targets), np.uint64)
    with np.errstate(over="ignore"):
        for part in map(np.asarray, (columns.numbers, columns.codes, targets.reshape(len(targets), -1))):
            for j in range(part.shape[1]):
                keys ^= np.ascontiguousarray(part[:, j]).view(np.uint32)
                keys *= np.uint64(0x9E3779B97F4A7C15)
                keys ^= keys >> np.uint64(29)
    return keys
