"""A text by its parts: characters to train, to choose and to report, laid out in windows, and what counts predict.

The text is split by position: its last tenth to report, a share before that to choose, the rest to train. Each part is
divided among the rows of a batch (`rows.streams`), whose carries flow from window to window and are reset where a row
begins.
"""

from typing import NamedTuple

import numpy as np

from mllab import rows
from mllab.data.readers.characters import Characters
from mllab.errors import UserError
from mllab.types import Rows

TEST = 0.1  # share of the text, its end
PARTS = ("train", "validation", "test")


class Streams(NamedTuple):
    """A text laid out in parts, and the windows of each part."""

    examples: dict[str, np.ndarray]  # tokens, targets, weights and begins, [N] each
    rows: dict[str, Rows]  # by part: one pass over it, [S, B]
    counts: dict[str, int]  # by part: characters that are predicted


def split(ids: np.ndarray, validation: float) -> list[np.ndarray]:
    """Return the training, the validation and the test part of ids [N], by position."""
    ends = [round((1 - TEST - validation) * len(ids)), round((1 - TEST) * len(ids))]
    return np.split(ids, ends)


def lay_out(text: Characters, batch_size: int, window: int, validation: float = 0.09) -> Streams:
    """Return the parts of a text one after another, each followed by `window` positions of weight 0.

    In a part of M characters, the M - 1 from the second on are predicted, each once.

    Args:
        text: the whole text.
        batch_size: places of a part that are read side by side.
        window: characters a step.
        validation: share of the text between the training and the test part.

    Raises:
        UserError: a part that is shorter than one window and the character after it.
    """
    parts = dict(zip(PARTS, split(text.ids, validation), strict=True))
    shortest = min(parts, key=lambda part: len(parts[part]))
    if len(parts[shortest]) < window + 1:
        raise UserError(
            f"{text.name} has {len(text.ids):,} characters, of which {len(parts[shortest]):,} are the {shortest} part: "
            f"fewer than a window and the character after it ({window + 1:,}); give a longer text, "
            "a smaller --window or another --validation_share"
        )
    arrays: dict[str, list[np.ndarray]] = {"tokens": [], "targets": [], "weights": [], "begins": []}
    schedules, counts, first = {}, {}, 0
    for part, ids in parts.items():
        length = len(ids) - 1
        counts[part] = length
        schedules[part] = rows.streams(length, batch_size, window, first)
        begins = np.zeros(length + window, np.float32)
        begins[np.minimum(schedules[part].ids[0] - first, length)] = 1  # of rows without a window: in the padding
        gap = np.zeros(window, np.int32)
        for name, values in (
            ("tokens", np.concatenate([ids[:-1], gap])),
            ("targets", np.concatenate([ids[1:], gap])),
            ("weights", np.concatenate([np.ones(length), np.zeros(window)]).astype(np.float32)),
            ("begins", begins),
        ):
            arrays[name].append(values)
        first += length + window
    return Streams({name: np.concatenate(values) for name, values in arrays.items()}, schedules, counts)


def repeated(one_pass: Rows, steps: int) -> Rows:
    """Return the first `steps` steps of passes over a part, one after another."""
    index = np.arange(steps) % len(one_pass.ids)
    return Rows(one_pass.ids[index], one_pass.weight[index])


def baselines(train: np.ndarray, test: np.ndarray, vocabulary: int) -> dict[str, float]:
    """Return nats per character of test ids [M] after the first, by frequencies counted in the training ids.

    Of single characters, and of pairs: the next character given the one before, mixed with the single characters'
    frequencies as one further count would (Witten and Bell 1991 without their count of types). Every character has one
    count more than it was seen, so that none is impossible.
    """
    single = np.bincount(train, minlength=vocabulary) + 1.0
    single /= single.sum()
    pairs = np.zeros((vocabulary, vocabulary))
    np.add.at(pairs, (train[:-1], train[1:]), 1.0)
    conditional = (pairs + single) / (pairs.sum(axis=1, keepdims=True) + 1)
    before, after = test[:-1], test[1:]
    return {
        "frequencies of characters": float(-np.log(single[after]).mean()),
        "frequencies of pairs": float(-np.log(conditional[before, after]).mean()),
    }
