"""Ways in which an argument of a library function may be wrong, and the check that each is refused or harmless."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mllab import validation
from mllab.errors import UserError


def numbers(array: np.ndarray) -> bool:
    return array.dtype.kind == "f"


def place(value: float) -> Callable[[np.ndarray], np.ndarray | None]:
    """Return a function that puts a number into the middle of an array of floats; None for other arrays."""

    def wrong(array: np.ndarray) -> np.ndarray | None:
        if not numbers(array):
            return None
        changed = array.copy()
        changed.flat[array.size // 2] = value
        return changed

    return wrong


WRONG: dict[str, Callable[[np.ndarray], Any]] = {
    "NaN": place(np.nan),
    "infinite": place(-np.inf),
    "huge": lambda array: array * np.float32(1e30) if numbers(array) else None,
    "negative": lambda array: None if array.dtype == bool else -array - 1,
    "empty": lambda array: array[:0],
    "list": lambda array: array.tolist(),
    "half": lambda array: array.astype(np.float16),
    "text": lambda array: array.astype(str),
    "nothing": lambda array: None if array.ndim == 0 else [],
    "ragged": lambda array: [[1.0], [1.0, 2.0]],
    "one row more": lambda array: np.concatenate([array, array[-1:]]),
    "an axis more": lambda array: array[..., None],
    "a number": lambda array: 1.5,
}


class Case(NamedTuple):
    call: Callable[..., Any]
    arguments: tuple[str, ...]  # of `call`, by the names of ARRAYS
    # What is not tried, since it is valid: more rows of the only array, say, or NaN where it stands for a lost lane.
    skipped: tuple[str, ...] = ()


ACCEPTED = ("list", "half")  # by what compiles anew for each call; see test_racing for these


def outcome(case: Case, arguments: list[Any]) -> str | None:
    """Return the message of a refusal, or None after a check that results are finite."""
    try:
        result = case.call(*arguments)
    except UserError as error:
        return str(error)
    for leaf in jax.tree.leaves(None if isinstance(result, validation.Learner) else result):
        array = np.asarray(leaf) if not jnp.issubdtype(jnp.asarray(leaf).dtype, jax.dtypes.prng_key) else np.zeros(1)
        assert np.isfinite(np.asarray(array, np.float64)).all(), result
    return None


def check_arrays(case: Case, arrays: Mapping[str, np.ndarray]) -> None:
    """Check that a function refuses each wrong array in one line, or returns finite results.

    Args:
        case: the function.
        arrays: good ones, by name.
    """
    failures = []
    good = [arrays[argument] for argument in case.arguments]
    if not set(ACCEPTED) <= set(case.skipped):
        assert outcome(case, good) is None
    for index, argument in enumerate(case.arguments):
        for kind, wrong in WRONG.items():
            changed = wrong(arrays[argument])
            if kind in case.skipped or changed is None:
                continue
            try:
                message = outcome(case, [*good[:index], changed, *good[index + 1 :]])
                if message and "\n" in message:
                    failures.append(f"{argument} {kind}: more than one line: {message}")
                must_be_refused = kind in ("NaN", "infinite", "text", "ragged", "empty")
                if message is None and must_be_refused and argument not in ("any_labels", "groups"):
                    failures.append(f"{argument} {kind}: accepted")
            except Exception as error:
                failures.append(f"{argument} {kind}: {type(error).__name__} {str(error)[:150]}")
    assert not failures, "\n".join(failures)
