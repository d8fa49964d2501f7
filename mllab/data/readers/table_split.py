"""Which rows of a table are for training, validation and test, where a column names it."""

import numpy as np

from mllab.data.dataset import Split
from mllab.data.readers.columns import Table
from mllab.data.split import Fractions, shuffled, stratified
from mllab.errors import UserError, shortened

PARTS = ("train", "validation", "test")
SPELLINGS = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "tst", "holdout"), "test"),
}
IS_TEST = {"0": "train", "1": "test", "false": "train", "true": "test"}
THREE_TO_ONE: Fractions = (0.75, 0.25, 0.0)  # 60/20 without test rows


def parts_of(table: Table, name: str) -> np.ndarray:
    """Return the part of each row, [N] of str, from a column of train, validation and test, or of two of them.

    Raises:
        UserError: a cell that names no part, or a part without rows.
    """
    column = table.columns[name].as_text()
    assert column.codes is not None
    known = IS_TEST if {value.lower() for value in column.values} == {"0", "1"} else SPELLINGS
    if {value.lower() for value in column.values} == {"false", "true"}:
        known = IS_TEST
    parts = np.array([*(known.get(value.strip().lower(), "") for value in column.values), ""], object)[column.codes]
    wrong = np.flatnonzero(parts == "")
    if len(wrong):
        cell = shortened(column.text(int(wrong[0])))
        raise UserError(
            f"{table.cell(name, wrong[0])}: {cell!r} is no part of the split; write train, validation or test"
        )
    lacking = [part for part in ("train", "test") if not (parts == part).any()]
    if lacking:
        raise UserError(
            f"{table.path}: column {shortened(name)!r} names no {lacking[0]} rows; mark some as {lacking[0]}"
        )
    return parts


def split(
    rows: int,
    codes: np.ndarray | None,
    seed: int,
    *,
    parts: np.ndarray | None,
    own_test: bool,
    classes: tuple[str, ...] = (),
) -> Split:
    """Split rows at random where nothing says how; by class where there are classes.

    Args:
        rows: N.
        codes: class of each row, [N]; None for a quantity.
        seed: of the random order.
        parts: see `parts_of`; None for a random split.
        own_test: whether the test rows are in another file; no row here is one then.
        classes: names, for the error message.
    """
    if parts is None:
        fractions = THREE_TO_ONE if own_test else None
        return _random(np.arange(rows), codes, seed, fractions, classes)
    test = np.flatnonzero(parts == "test").astype(np.int32)
    train, validation = (np.flatnonzero(parts == part).astype(np.int32) for part in PARTS[:2])
    if not len(validation):
        drawn = _random(train, codes, seed, THREE_TO_ONE, classes)
        train, validation = drawn.train, drawn.validation
    return Split(train, validation, test)


def _random(
    ids: np.ndarray, codes: np.ndarray | None, seed: int, fractions: Fractions | None, classes: tuple[str, ...]
) -> Split:
    given = {} if fractions is None else {"fractions": fractions}
    if codes is None:
        drawn = shuffled(len(ids), seed, **given)
    else:
        drawn = stratified(codes[ids], seed, classes=classes, **given)
    return Split(*(ids[part].astype(np.int32) for part in (drawn.train, drawn.validation, drawn.test)))
