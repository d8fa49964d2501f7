"""What tabular Q-learning learns, beside the optimum: values and policies, distances, and episodes step by step."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments import answers, frame
from mllab.report import draw, style
from mllab.report.report import Drawing, Section
from mllab.report.table import Table, fixed, short

LECTURE = (  # the five steps of an agent
    "1 observe the state", "2 choose an action by the policy", "3 perform it", "4 receive the reward",
    "5 record what was learned",
)  # fmt: skip
MOST_SHOWN = 10  # interactions of an episode; of more those in the middle are left out
TIE = 1e-4  # actions whose values differ by less are equally good


@dataclass(frozen=True)
class Step:
    """The five steps once."""

    state: str
    action: str
    explored: bool  # whether the action was drawn at random, not the best one known
    reached: str
    reward: float
    before: float  # Q(s, a)
    best_next: float  # max Q(s', ·); 0 in a terminal state
    after: float  # Q(s, a)
    rate: float  # alpha


@dataclass(frozen=True)
class Episode:
    """An episode of training, or several short ones."""

    first: int  # 1, 2, ...
    last: int
    steps: list[Step]

    @property
    def value(self) -> float:
        """Its return."""
        return round(sum(each.reward for each in self.steps), 5)  # beyond lie errors of rounding


@dataclass(frozen=True)
class Moment:
    """Values at a moment of training."""

    episodes: int  # before it
    action_values: np.ndarray  # [S, A]


@dataclass(frozen=True)
class Lesson:
    """Tabular Q-learning watched from the first episode on, beside the optimum."""

    environment: str
    actions: tuple[str, ...]
    rate: float
    discount: float
    episodes: int
    error: float  # of the values of actions at the end, root mean square
    agreement: float  # share of the states in which the greedy action is an optimal one
    moments: list[Moment] = frame.unsaved()
    optimum: np.ndarray = frame.unsaved()  # [S, A]
    acting: np.ndarray = frame.unsaved()  # [S] bool: whether an agent can act in the state
    cells: tuple[str, ...] = frame.unsaved()  # rows of a map; empty for another environment
    distance_episode: np.ndarray = frame.unsaved()  # [E]
    distances: dict[str, np.ndarray] = frame.unsaved()  # [E] each
    watched: list[Episode] = frame.unsaved()


def sections(lesson: Lesson) -> list[Section]:
    """Return the section on values, and that on the five steps."""
    values = maps(lesson) if lesson.cells else arms(lesson)
    return [
        Section("What Q-learning learns", [values, distances(lesson)]),
        Section(
            "The five steps of an agent",
            [
                "Each row is one interaction. Recording is the update of Q-learning: Q(s, a) moves towards r + γ max "
                f"Q(s', ·) by the learning rate α, which falls from {short(lesson.rate)} to 0, with the discount "
                f"γ = {short(lesson.discount)}; max Q is 0 in a terminal state.",
                *(steps(each, lesson) for each in lesson.watched),
            ],
        ),
    ]


def maps(lesson: Lesson) -> Drawing:
    """Draw the values and the greedy policy of each moment on the map, and the optimum."""
    shape = len(lesson.cells), len(lesson.cells[0])
    kinds = np.array([list(row) for row in lesson.cells])

    def on_map(heading: str, action_values: np.ndarray) -> draw.Map:
        best = action_values.max(axis=1)
        arrows = action_values >= best[:, None] - TIE
        walls = np.where(kinds == "#", np.nan, best.reshape(shape))
        return draw.Map(heading, walls, arrows.reshape(*shape, -1))

    drawn = [on_map(moment(each), each.action_values) for each in lesson.moments]
    marks = [[kind if kind in "SGP" else "" for kind in row] for row in lesson.cells]
    figure = draw.policies(
        [*drawn, on_map("the optimum, by value iteration", lesson.optimum)], marks,
        title=f"Values and greedy actions: optimal in {100 * lesson.agreement:.0f}% of the cells after "
        f"{answers.counted(lesson.episodes, 'episode')}",
        notes=["S: start, G: goal, P: pit. Four arrows: all actions are still worth the same."],
    )  # fmt: skip
    return Drawing("values", figure, "The map with the value and the greedy action of each cell, at several moments")


def moment(each: Moment) -> str:
    """Return a moment in words."""
    return f"after {answers.counted(each.episodes, 'episode')}" if each.episodes else "before the first episode"


def arms(lesson: Lesson) -> Table:
    """Return the values of the actions of the only state at each moment, beside the optimum."""
    columns = [*(moment(each) for each in lesson.moments), "optimum"]
    values = [*(each.action_values[0] for each in lesson.moments), lesson.optimum[0]]
    rows = [[name, *(fixed(float(each[place]), 2) for each in values)] for place, name in enumerate(lesson.actions)]
    best = int(np.argmax(lesson.optimum[0]))
    return Table(["action", *columns], rows, best, "* the best action; its value is its mean reward")


def distances(lesson: Lesson) -> Drawing:
    """Draw how far the values are from the optimum, against the episodes."""
    looks = (style.Style(style.BLUE, style.SOLID, ""), style.Style(style.VERMILLION, style.DASHED, ""))
    series = [
        draw.Series(name, lesson.distance_episode, values, style=look)
        for (name, values), look in zip(lesson.distances.items(), looks, strict=True)
    ]
    figure = draw.curves(
        series, title="Distance of Q from the optimum Q*", x_label="episode", y_label="distance", log_y=True,
        markers=False, integer_x=True, whole=True,
        note="All actions: root mean square over all states; the start's value: |max Q − max Q*| in it. States that "
        "are rarely visited are learned last.",
    )  # fmt: skip
    return Drawing("distance", figure, "The distance of the learned values from the optimal ones against the episode")


def steps(episode: Episode, lesson: Lesson) -> Table:
    """Return an episode with the five steps of the lecture as columns."""
    every = list(enumerate(episode.steps, start=1))
    half = MOST_SHOWN // 2
    shown: Sequence[tuple[int, Step] | None] = every
    if len(every) > MOST_SHOWN:
        shown = [*every[:half], None, *every[-half:]]
    rows: list[list[object]] = []
    for each in shown:
        if each is None:
            rows.append(["…", *["…"] * len(LECTURE)])
            continue
        number, step = each
        choice = f"{step.action} ({'at random' if step.explored else 'best known'})"
        rows.append([number, step.state, choice, f"→ {step.reached}", short(step.reward), update(step, lesson)])
    which = f"episode {episode.first:,}" if episode.first == episode.last else f"episodes {episode.first:,} to "
    which += "" if episode.first == episode.last else f"{episode.last:,}"
    caption = f"{which} of {lesson.episodes:,}: {answers.counted(len(every), 'step')}"
    if episode.first == episode.last:
        caption += f", a return of {short(episode.value, 4)}"
    return Table(["step", *LECTURE], rows, caption=caption)


def update(step: Step, lesson: Lesson) -> str:
    """Return the update in numbers: 'Q = 0.12 + 0.1 · (−0.02 + 0.99 · 0.3 − 0.12) = 0.136'."""
    before, best_next, after, reward = (
        short(value, 3) for value in (step.before, step.best_next, step.after, step.reward)
    )
    less = f"{'−' if step.before >= 0 else '+'} {short(abs(step.before), 3)}"
    times = f"({best_next})" if step.best_next < 0 else best_next
    target = f"({reward} + {short(lesson.discount)} · {times} {less})"
    return f"Q = {before} + {short(step.rate, 3)} · {target} = {after}"
