"""The target of a table: its task, its classes or its scale, and the split of the rows, which depends on it."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mllab import tasks
from mllab.data.dataset import Split
from mllab.data.readers import table_split
from mllab.data.readers.columns import Column, Table
from mllab.data.scaling import standardise
from mllab.data.schema import NO_TARGET, TargetSchema
from mllab.data.schema.inference import checked_numbers, kind_of
from mllab.data.schema.target import TRANSFORMS, label_key
from mllab.errors import UserError, shortened, unknown

if TYPE_CHECKING:
    from mllab.data.readers.table import Options

MAX_CLASSES = 20  # whole numbers with more distinct values are a quantity
SKEWED = 1.0  # skewness above which `auto` takes the logarithm


class Target(NamedTuple):
    """The encoded target, and the split."""

    values: np.ndarray  # [N] int32 classes, or float32 standardised values; [N, 0] without a target
    schema: TargetSchema
    split: Split
    task: str  # "" without a target
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Other(NamedTuple):
    """The target of another file's rows."""

    values: np.ndarray
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def encode(table: Table, target: str | None, options: "Options", parts: np.ndarray | None, split_seed: int) -> Target:
    """Return the target's values; the task is inferred unless the options name it.

    Args:
        table: the file.
        target: the column's name; None if all columns are inputs.
        options: the task, the transform, and whether another file has the test rows.
        parts: see `table_split.parts_of`; None where no column names them.
        split_seed: seed of the split.

    Raises:
        UserError: the target cannot be predicted; the message says why.
    """
    if options.target_transform not in (*TRANSFORMS, "auto"):
        raise unknown("target_transform", options.target_transform, [*TRANSFORMS, "auto"])
    if target is None:
        return _none(table, options, parts, split_seed)
    kind, form = kind_of(table.columns[target], np.arange(len(table.rows)))
    task = options.task or _inferred_task(table, target, kind, form)
    if task == tasks.CLASSIFICATION.name and options.target_transform == "log":
        raise UserError(
            f"target_transform=log: {target!r} has classes, and a logarithm is for quantities; leave it out"
        )
    return _TARGETS[task](table, target, form, options, parts, split_seed)


def of_other_file(table: Table, schema: TargetSchema) -> Other:
    """Return the target of a file of test rows; values [N, 0] without a target.

    Raises:
        UserError: a class that no row learned from has, or a value that cannot be read.
    """
    if schema == NO_TARGET:
        return Other(np.zeros((len(table.rows), 0), np.float32))
    column = table.columns[schema.name]
    if not schema.classes:
        values = checked_numbers(table, schema.name, schema.form if column.codes is not None else "plain")
        return Other(_check_float32(table, schema, values))
    codes = schema.codes(column)
    unknown_rows = np.flatnonzero(codes < 0)
    if len(unknown_rows):
        raise UserError(
            f"{table.cell(schema.name, unknown_rows[0])}: {shortened(column.text(int(unknown_rows[0])))!r} is no class "
            f"of the rows learned from ({', '.join(map(shortened, schema.classes[:5]))}); correct it or remove the row"
        )
    text = column.as_text()
    present, first = np.unique(np.asarray(text.codes), return_index=True)
    merged = [
        (schema.classes[codes[row]], text.values[i])
        for i, row in zip(present, first, strict=True)
        if text.values[i] not in schema.classes
    ]
    lines = tuple(_merged_text(schema.name, [kept, each]) for kept, each in merged)
    return Other(codes, lines, lines)


def _none(table: Table, options: "Options", parts: np.ndarray | None, split_seed: int) -> Target:
    """Return the absence of a target: rows are split as those with a quantity are."""
    for option in ("task", "target_transform"):
        if option in options.chosen():
            raise UserError(f"{option}: {table.path} is read without a target; name one, or leave {option} out")
    split = _unstratified(table, options, parts, split_seed)
    note = f"took the columns of {table.path.name} as inputs, without a target"
    return Target(np.zeros((len(table.rows), 0), np.float32), NO_TARGET, split, "", (note,))


def _unstratified(table: Table, options: "Options", parts: np.ndarray | None, split_seed: int) -> Split:
    try:
        return table_split.split(len(table.rows), None, split_seed, parts=parts, own_test=options.test is not None)
    except UserError as error:
        raise UserError(f"{table.path}: {error}") from None


def _inferred_task(table: Table, target: str, kind: str, form: str) -> str:
    if kind != "number":
        return tasks.CLASSIFICATION.name
    values = checked_numbers(table, target, form)
    few = len(np.unique(values[:1000])) <= MAX_CLASSES and len(np.unique(values)) <= MAX_CLASSES
    return (tasks.CLASSIFICATION if few and np.array_equal(values, np.floor(values)) else tasks.REGRESSION).name


def _classes(
    table: Table, target: str, form: str, options: "Options", parts: np.ndarray | None, split_seed: int
) -> Target:
    column = table.columns[target]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    is_number = kind_of(column, np.arange(len(table.rows)))[0] == "number"
    if is_number:
        values, codes = np.unique(checked_numbers(table, target, form), return_inverse=True)
        column = Column(values[codes], rounded=column.rounded)
        if np.any((np.abs(values) >= 2**53) & (values == np.floor(values))):
            raise UserError(
                f"{table.path}: column {target!r} has whole numbers beyond 2^53, which floats do not tell apart: "
                "replace them by names or small numbers"
            )
        classes = tuple(Column(values).text(i) for i in range(len(values)))
        notes = (f"took the {len(classes)} distinct numbers of {target!r} as classes",)
    else:
        assert column.codes is not None
        classes, codes, warnings = _merged(target, column)
        notes = warnings
    if len(classes) == 1:
        raise UserError(
            f"{table.path}: column {target!r} is {shortened(classes[0])!r} in every row; choose a target that varies"
        )
    try:
        split = table_split.split(
            len(codes), codes, split_seed, parts=parts, own_test=options.test is not None, classes=classes
        )
    except UserError as error:
        hint = f", or predict a quantity (task={tasks.REGRESSION.name!r})" if is_number else ""
        raise UserError(f"{table.path}: column {target!r}: {error}{hint}") from None
    unlearned = np.setdiff1d(np.arange(len(classes)), codes[split.train])
    if len(unlearned):
        name = shortened(classes[unlearned[0]])
        raise UserError(f"{table.path}: column {target!r}: class {name!r} has no training row; mark some as train")
    schema = TargetSchema(target, classes, form)
    return Target(codes.astype(np.int32), schema, split, tasks.CLASSIFICATION.name, notes, warnings)


def _merged(target: str, column: Column) -> tuple[tuple[str, ...], np.ndarray, tuple[str, ...]]:
    """Return classes, codes [N] and what was merged: labels that differ by case, spaces or a final full stop."""
    assert column.codes is not None
    counts = np.bincount(column.codes, minlength=len(column.values))
    groups: dict[str, list[int]] = {}
    for i in np.flatnonzero(counts).tolist():
        groups.setdefault(label_key(column.values[i]) or column.values[i], []).append(i)
    kept = {key: column.values[max(group, key=lambda i: counts[i])] for key, group in groups.items()}
    classes = tuple(sorted(kept.values()))
    place = {name: i for i, name in enumerate(classes)}
    table = np.zeros(len(column.values), np.int32)
    for key, group in groups.items():
        table[group] = place[kept[key]]
    lines = tuple(
        _merged_text(target, [kept[key], *(column.values[i] for i in group if column.values[i] != kept[key])])
        for key, group in groups.items()
        if len(group) > 1
    )
    return classes, table[column.codes], lines


def _merged_text(target: str, labels: list[str]) -> str:
    shown = [repr(shortened(label)) for label in labels]
    return (
        f"took {', '.join(shown[1:])} of {target!r} for {shown[0]}: near-identical labels; correct the file if they "
        "differ"
    )


def _values(
    table: Table, target: str, form: str, options: "Options", parts: np.ndarray | None, split_seed: int
) -> Target:
    values = checked_numbers(table, target, form)
    split = _unstratified(table, options, parts, split_seed)
    if np.ptp(values[split.train]) == 0:
        if table.columns[target].rounded:
            raise UserError(
                f"{table.path}: column {target!r} has whole numbers beyond 2^53 that differ too little: subtract the "
                "least"
            )
        raise UserError(
            f"{table.path}: column {target!r} is {values[0]:g} in every training row; choose a target that varies"
        )
    transform, notes = _transform(table, target, values, split, options.target_transform)
    forward = TRANSFORMS[transform].forward
    _, mean, scale = standardise(forward(values), split.train)
    schema = TargetSchema(target, form=form, mean=float(mean), scale=float(scale), transform=transform)
    return Target(_check_float32(table, schema, values), schema, split, tasks.REGRESSION.name, notes)


def _transform(table: Table, target: str, values: np.ndarray, split: Split, asked: str) -> tuple[str, tuple[str, ...]]:
    """Return the transform to take, and a note of it."""
    positive = bool((values > 0).all())
    if asked == "log" and not positive:
        row = np.flatnonzero(values <= 0)[0]
        raise UserError(
            f"{table.cell(target, row)} is {values[row]:g}, which has no logarithm: leave target_transform=log out"
        )
    if asked == "auto":
        skewed = positive and _skewness(values[split.train]) > SKEWED
        asked = "log" if skewed and abs(_skewness(np.log(values[split.train]))) < SKEWED else "none"
        if asked == "none":
            return asked, (f"learned {target!r} as it is: its logarithm would not be less skewed",)
    return asked, ((f"learned the logarithm of {target!r}; scores are in its own unit",) if asked == "log" else ())


def _skewness(values: np.ndarray) -> float:
    unit = values / np.abs(values).max()
    deviation = unit - unit.mean()
    return float((deviation**3).mean() / max((deviation**2).mean() ** 1.5, 1e-300))


def _check_float32(table: Table, schema: TargetSchema, values: np.ndarray) -> np.ndarray:
    """Return standardised values [N], all of them finite.

    Raises:
        UserError: a value overflowed float32, or has no logarithm; the message names its cell.
    """
    standardised = schema.standardised(values)
    outside = np.flatnonzero(~np.isfinite(standardised))
    if len(outside):
        value = values[outside[0]]
        why = (
            "has no logarithm"
            if schema.transform == "log" and value <= 0
            else ("is too far from the training rows for float32")
        )
        raise UserError(f"{table.cell(schema.name, outside[0])}: {value:g} {why}; correct it, or remove the row")
    return standardised


_TARGETS: Mapping[str, Callable[..., Target]] = {
    tasks.CLASSIFICATION.name: _classes,
    tasks.REGRESSION.name: _values,
}
