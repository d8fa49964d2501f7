"""Cells of a recurrent network that track something in a text: whether a quotation is open, how long the line is.

For each property of the text so far, the activations of every unit are correlated with it over half of the characters
read (a linear probe of one unit). The unit with the greatest correlation there is scored on the other half, beside a
linear probe of all units. After Karpathy, Johnson and Fei-Fei, *Visualizing and understanding recurrent networks*
(2015, arXiv:1506.02078), who chose such cells by eye.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import numpy as np

from experiments import frame
from mllab import text_models
from mllab.models import linear
from mllab.models.recurrent import language
from mllab.models.recurrent.cells import cell_of
from mllab.types import Params

READ = 20_000  # characters that are read, at most
ACTIVATIONS = 20_000_000  # of all units over the characters read, at most
SHOWN = 800  # characters that are coloured
RIDGE = 0.01  # penalty of the probe of all units, times the characters it is fitted to


@dataclass(frozen=True)
class Tracker:
    """The unit that tracks a property best."""

    property: str
    layer: int  # from 1
    unit: int  # from 1
    correlation: float  # of its activation with the property, over characters that it was not chosen by
    all_units: float  # the same of a linear probe of all units
    text: str = frame.unsaved()  # where the property varies most, N of those characters
    values: np.ndarray = frame.unsaved()  # [N] activations, by their sign positive where the property is great


def find(params: Params, ids: np.ndarray, vocabulary: str) -> list[Tracker]:
    """Return the unit that tracks each property best, the best first; properties that do not vary are left out.

    Args:
        params: of a `recurrent.language.model`; of a Transformer, whose units hold no state, no units are returned.
        ids: of a text that the params were not trained on, [N].
        vocabulary: its characters.
    """
    if text_models.context_of(params) is not None:
        return []
    units = sum(cell_of(layer).hidden_size(layer) for layer in params.layers)
    ids = ids[: min(READ, ACTIVATIONS // units)]
    text, half = "".join(vocabulary[place] for place in ids), len(ids) // 2
    states = np.asarray(jax.jit(language.hidden_states)(params, ids[None]), np.float64)[:, 0]  # [L, N, H]
    width = states.shape[-1]
    states = states.transpose(1, 0, 2).reshape(len(ids), -1)
    mean, deviation = states[:half].mean(axis=0), states[:half].std(axis=0)
    normal = (states - mean) / np.where(deviation > 0, deviation, 1)
    trackers = []
    for name, measured in PROPERTIES.items():
        values = measured(text)
        if min(values[:half].std(), values[half:].std()) == 0:
            continue
        chosen = int(np.argmax(np.abs(normal[:half].T @ (values[:half] - values[:half].mean()))))
        sign = np.sign(correlation(normal[:half, chosen], values[:half])) or 1.0
        probe = linear.fit(normal[:half], values[:half], ridge=RIDGE * half)
        start = busiest(text[half:], values[half:]) + half
        own = correlation(sign * states[half:, chosen], values[half:])
        of_all = correlation(np.asarray(linear.values(probe, normal[half:])), values[half:])
        shown = slice(start, start + SHOWN)
        layer, unit = divmod(chosen, width)
        trackers.append(Tracker(name, layer + 1, unit + 1, own, of_all, text[shown], sign * states[shown, chosen]))
    return sorted(trackers, key=lambda each: -each.correlation)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Return Pearson's correlation of two arrays [N]; 0 where one of them is constant."""
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale > 0 else 0.0


def busiest(text: str, values: np.ndarray) -> int:
    """Return the beginning of a line after which the property of SHOWN characters varies most."""
    starts = np.array([0, *(at + 1 for at, character in enumerate(text) if character == "\n")])
    starts = starts[starts <= max(len(text) - SHOWN, 0)]
    sums, squares = (np.concatenate([[0.0], np.cumsum(values**power)]) for power in (1, 2))
    ends = np.minimum(starts + SHOWN, len(text))
    means, of_squares = ((each[ends] - each[starts]) / (ends - starts) for each in (sums, squares))
    return int(starts[np.argmax(of_squares - means**2)])


# ── Properties of a text up to each of its characters, [N] ──────────────────────────────────────────────────────────


def _along(text: str, initial: float, step: Callable[[float, str, str], float]) -> np.ndarray:
    """Return what `step(value, character before, character)` makes of a value along a text."""
    values, value, before = np.empty(len(text)), initial, "\n"
    for place, character in enumerate(text):
        values[place] = value = step(value, before, character)
        before = character
    return values


def inside_quotes(text: str) -> np.ndarray:
    """Return 1 where a double quotation mark of the paragraph is open, else 0."""
    return _along(
        text, 0, lambda is_open, before, each: 0 if before == each == "\n" else abs(is_open - (each == '"'))
    )  # fmt: skip


def inside_brackets(text: str) -> np.ndarray:
    """Return 1 where a bracket of the paragraph is open, else 0."""

    def depth(value: float, before: str, each: str) -> float:
        return 0 if before == each == "\n" else max(0, value + (each in "([{") - (each in ")]}"))

    return np.minimum(_along(text, 0, depth), 1)


def line_position(text: str) -> np.ndarray:
    """Return the number of characters since the last line break."""
    return _along(text, 0, lambda count, before, each: 0 if each == "\n" else count + 1)


def indentation(text: str) -> np.ndarray:
    """Return the number of spaces that the line begins with, so far."""
    count, leading = 0.0, True
    values = np.empty(len(text))
    for place, character in enumerate(text):
        leading = character == "\n" or (leading and character == " ")
        count = 0 if character == "\n" else count + leading
        values[place] = count
    return values


def paragraph_line(text: str) -> np.ndarray:
    """Return the number of lines since the last blank one."""
    return _along(text, 0, lambda count, before, each: count + (each == "\n") if before + each != "\n\n" else 0)


PROPERTIES: Mapping[str, Callable[[str], np.ndarray]] = {
    "inside quotes": inside_quotes,
    "inside brackets": inside_brackets,
    "position in the line": line_position,
    "indentation": indentation,
    "line of the paragraph": paragraph_line,
}
