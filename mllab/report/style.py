"""One fixed colour, dash and marker for each optimizer, model, split and class, in every figure.

The colours are Okabe and Ito's, distinguishable with colour blindness (https://jfly.uni-koeln.de/color/). Their yellow
is left out: a thin yellow line is invisible on white. Seven colours cannot distinguish twenty curves, nor can a print
in grey, so the entries of a table differ in marker, and in colour and dash together. Adam and its descendants, often
compared, differ in colour too.
"""

import zlib
from typing import NamedTuple

BLACK = "#000000"
ORANGE = "#E69F00"
SKY = "#56B4E9"
GREEN = "#009E73"
BLUE = "#0072B2"
VERMILLION = "#D55E00"
PURPLE = "#CC79A7"
COLOURS = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, BLACK)
MARKERS = "osD^vPX"

Dash = tuple[float, tuple[float, ...] | None]  # matplotlib's (offset, on and off lengths in line widths)
SOLID: Dash = (0, None)
DASHED: Dash = (0, (5, 1.6))
DOTTED: Dash = (0, (1.2, 1.2))
DASH_DOT: Dash = (0, (6, 1.4, 1.4, 1.4))
DASH_DOT_DOT: Dash = (0, (6, 1.2, 1.2, 1.2, 1.2, 1.2))  # for names in none of the tables
LONG_SHORT: Dash = (0, (8, 1.4, 3, 1.4))  # for names in none of the tables


class Style(NamedTuple):
    """Colour, dash and marker of a curve; colour and marker of points."""

    colour: str
    dash: Dash
    marker: str | tuple[int, int, int]  # as matplotlib takes it; a tuple is a star


OPTIMIZERS: dict[str, Style] = {
    "sgd": Style(BLACK, SOLID, "o"),
    "momentum": Style(BLUE, DASHED, "s"),
    "rmsprop": Style(GREEN, DASH_DOT, "^"),
    "adam": Style(VERMILLION, SOLID, "D"),
    "gradient_descent": Style(BLACK, DOTTED, "h"),
    "nesterov": Style(PURPLE, DASHED, "P"),
    "adagrad": Style(ORANGE, DASH_DOT, "v"),
    "adadelta": Style(PURPLE, DASH_DOT, "X"),
    "adamax": Style(GREEN, DASHED, "<"),
    "nadam": Style(ORANGE, SOLID, ">"),
    "adamw": Style(SKY, SOLID, "p"),
    "lion": Style(PURPLE, SOLID, "*"),
    "muon": Style(BLUE, SOLID, "H"),
    "schedule_free_adam": Style(GREEN, SOLID, "d"),
    "schedule_free_sgd": Style(VERMILLION, DASHED, "8"),
    "lbfgs": Style(SKY, DASHED, (4, 1, 0)),
    "newton": Style(ORANGE, DASHED, (6, 1, 0)),
    "closed_form": Style(BLACK, DASHED, (8, 1, 0)),
}

MODELS: dict[str, Style] = {
    "linear": Style(BLACK, SOLID, "o"),
    "softmax": Style(BLUE, DASHED, "s"),
    "mlp": Style(VERMILLION, SOLID, "D"),
    "lenet": Style(GREEN, DASH_DOT, "^"),
    "convnet": Style(SKY, SOLID, "v"),
    "residual": Style(PURPLE, SOLID, "P"),
    "knn": Style(BLACK, DOTTED, "h"),
    "svm": Style(BLUE, SOLID, "p"),
    "kmeans": Style(ORANGE, DOTTED, "8"),
    "mixture": Style(GREEN, DOTTED, "X"),
}

CELLS: dict[str, Style] = {  # of networks for sequences
    "tanh": Style(BLUE, SOLID, "o"),
    "lstm": Style(VERMILLION, SOLID, "s"),
    "gru": Style(GREEN, SOLID, "D"),
    "mingru": Style(ORANGE, SOLID, "^"),
    "transformer": Style(PURPLE, SOLID, "P"),
}

AGENTS: dict[str, Style] = {  # of reinforcement learning, and what they are compared with
    "reinforce": Style(GREEN, DASHED, "^"),
    "actor_critic": Style(ORANGE, SOLID, "s"),
    "ppo": Style(BLUE, SOLID, "o"),
    "q_learning": Style(VERMILLION, SOLID, "D"),
    "dqn": Style(PURPLE, DASH_DOT, "P"),
    "random actions": Style(BLACK, DOTTED, "X"),
    "value iteration": Style(BLACK, DASHED, "*"),
}

PARTS: dict[str, Style] = {  # of the split
    "training": Style(BLUE, DASHED, "s"),
    "validation": Style(VERMILLION, SOLID, "o"),
}

TABLES = (OPTIMIZERS, MODELS, CELLS, AGENTS, PARTS)

_OTHERS = tuple(
    Style(colour, dash, marker)
    for marker in "osD^vP"
    for dash in (DASH_DOT_DOT, LONG_SHORT)
    for colour in (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK)
)


def style(name: str) -> Style:
    """Return the style of an optimizer, model or part of the split; any other name hashes to one outside the tables."""
    fixed = next((table[name] for table in TABLES if name in table), None)
    return fixed or _OTHERS[zlib.crc32(name.encode(errors="surrogatepass")) % len(_OTHERS)]


def class_style(index: int) -> Style:
    """Return the style of a class or cluster by its index; the first 49 are distinct in colour and marker together."""
    turn, place = divmod(index, len(COLOURS))
    return Style(COLOURS[place], SOLID, MARKERS[(place + turn) % len(MARKERS)])
