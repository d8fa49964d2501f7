"""Which cell solves which toy problem at which length: the measurement, its answer and tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from experiments import answers, frame
from experiments.toy_gradients import Gradients
from experiments.toy_training import Trained
from mllab.data.sets.toy_sequences import Problem
from mllab.metrics import Interval, bands, interval
from mllab.report import draw
from mllab.report.table import Table, number, short, significant
from mllab.report.table import interval as shown

NONE = Interval(float("nan"), float("nan"), float("nan"), 0)


@dataclass(frozen=True)
class Solved:
    """One cell on one problem at one length, at the rate with the least mean validation error, over seeds."""

    cell: str
    length: int
    learning_rate: float | None  # None if every rate has a lane that went non-finite
    solved: int  # seeds whose error on the held-out test sequences is at most the goal
    nonfinite: int  # lanes, of all rates
    lanes: int
    error: Interval  # on the test sequences
    steps: (
        Interval  # until the validation error is at most the goal, of the seeds that come there; its `seeds` are they
    )
    error_by_seed: np.ndarray  # [G]
    step: np.ndarray = frame.unsaved()  # [E]
    curve: np.ndarray = frame.unsaved()  # [E, 3] validation error: mean, low and high over seeds

    @classmethod
    def of(cls, trained: Trained, place: int, goal: float) -> "Solved":
        """Return the scores of a trained cell at the length with this position."""
        rate, history = trained.best[place], trained.result.history
        lost = trained.grid.by_axis(trained.result.nonfinite_step)[:, place] >= 0
        errors = np.full(lost.shape[1], np.nan) if rate is None else trained.test[rate, place]
        curve = trained.grid.by_axis(history.held_out["error"], -1)[:, rate or 0, place]  # [E, G]
        reached = curve <= goal
        steps = history.step[reached.argmax(axis=0)][reached.any(axis=0)]
        return cls(
            cell=trained.cell, length=int(trained.grid.axes["length"][place]),
            learning_rate=None if rate is None else float(trained.grid.axes["learning_rate"][rate]),
            solved=int((errors <= goal).sum()), nonfinite=int(lost.sum()), lanes=lost.size, error=interval(errors),
            steps=NONE if rate is None or not steps.size else interval(steps.astype(float)), error_by_seed=errors,
            step=history.step, curve=bands(curve),
        )  # fmt: skip


@dataclass(frozen=True)
class ProblemScores:
    """All cells on one problem."""

    name: str
    help: str
    length_name: str
    goal: float
    baseline_name: str
    baseline: float
    is_value: bool
    longer: bool
    parameters: Mapping[str, int]  # by cell
    scores: list[Solved]  # cell by cell, each at all lengths

    @classmethod
    def of(cls, name: str, problem: Problem, trained: Sequence[Trained], lengths: Sequence[int]) -> "ProblemScores":
        """Return the scores of all cells that were trained on a problem."""
        scores = [Solved.of(one, place, problem.goal) for one in trained for place in range(len(lengths))]
        return cls(
            name=name, help=problem.help, length_name=problem.length_name, goal=problem.goal,
            baseline_name=problem.baseline_name, baseline=problem.baseline,
            is_value=problem.is_value, longer=problem.longer,
            parameters={one.cell: one.parameters for one in trained}, scores=scores,
        )  # fmt: skip

    def of_cell(self, cell: str) -> list[Solved]:
        """Return the scores of a cell by length."""
        return [each for each in self.scores if each.cell == cell]

    def best(self) -> Solved | None:
        """Return the scores at the greatest length of the cell with the least validation error there at the end."""
        longest = max(each.length for each in self.scores)
        finite = [each for each in self.scores if each.length == longest and each.learning_rate is not None]
        return min(finite, key=lambda each: each.curve[-1, 0], default=None)

    @property
    def criterion(self) -> str:
        """What counts as solved."""
        kind = "mean squared error" if self.is_value else "share of wrong symbols"
        where = " on held-out sequences of up to twice the length" if self.longer else " on held-out sequences"
        return f"{self.name} ({self.help}): a {kind} of at most {short(self.goal)}{where}"


@dataclass(frozen=True)
class Example:
    """A held-out sequence and what a cell makes of it."""

    problem: str
    cell: str
    length: int
    trace: draw.Trace = frame.unsaved()


@dataclass(frozen=True)
class Ones:
    """P(odd) of 1, 2, ... ones, by a cell trained on parity."""

    cell: str
    odd: np.ndarray = frame.unsaved()  # [T]


@dataclass(frozen=True)
class Measurement:
    """Scores of all cells on all problems, their gradients, and examples."""

    lengths: tuple[int, ...]
    seeds: int
    steps: int
    problems: list[ProblemScores]
    gradients: Gradients
    examples: list[Example]
    ones: list[Ones]


def answer(measured: Measurement) -> str:
    """Return for each problem the lengths at which each cell solves it with every seed."""
    every = [each for problem in measured.problems for each in problem.scores]
    if all(each.nonfinite == each.lanes for each in every):
        return "Every run went non-finite: try smaller learning rates."
    sentences = []
    for problem in measured.problems:
        groups: dict[tuple[int, ...], list[str]] = {}
        for cell in problem.parameters:
            solved = tuple(each.length for each in problem.of_cell(cell) if each.solved == measured.seeds)
            groups.setdefault(solved, []).append(cell)
        parts = [
            f"{answers.joined(cells)} at {_lengths(solved, measured.lengths)}"
            for solved, cells in sorted(groups.items(), reverse=True, key=lambda group: (len(group[0]), group[0]))
        ]
        sentences.append(f"{problem.name}: {'; '.join(parts)}.")
    return f"Solved with every seed ({answers.counted(measured.seeds, 'seed')}), {' '.join(sentences)}"


def _lengths(solved: tuple[int, ...], lengths: tuple[int, ...]) -> str:
    """Return the lengths that are solved in words."""
    if len(solved) == len(lengths) > 1:
        return "all lengths"
    return (
        f"length{'s' * (len(solved) > 1)} {answers.joined(f'{length:,}' for length in solved)}"
        if solved
        else "no length"
    )


def result_table(measured: Measurement) -> Table:
    """Return a row for the baseline of each problem and for each cell, with the seeds that solve each length."""
    rows: list[list[object]] = []
    longest = len(measured.lengths) - 1
    for problem in measured.problems:
        none = [f"0/{measured.seeds}"] * len(measured.lengths)
        rows.append([problem.name, problem.baseline_name, None, *none, number(problem.baseline), None, None])
        for cell, parameters in problem.parameters.items():
            every = problem.of_cell(cell)
            last = every[longest]
            counts = [f"{each.solved}/{measured.seeds}" for each in every]
            rate = significant(last.learning_rate)
            cells = [shown(last.error), shown(last.steps), rate]
            rows.append([problem.name, cell, f"{parameters:,}", *counts, *cells])
    greatest = f"length {measured.lengths[longest]:,}"
    columns = ["problem", "model", "parameters", *(f"solved, length {length:,}" for length in measured.lengths)]
    columns += [f"test error, {greatest}", "steps to solution", "rate"]
    over = answers.over(measured.seeds, "seed", comparison=len(measured.problems[0].parameters) > 1)
    caption = (
        f"{over}; solved: seeds of which the test error is at most the goal; steps to solution: of the seeds that come "
        f"there on the validation sequences; of each problem, first row: the baseline, a constant prediction"
    )
    return Table(columns, rows, caption=caption)


def table_by_length(problem: ProblemScores, seeds: int) -> Table:
    """Return one row for each cell and length of a problem."""
    rows = [
        [
            each.cell, f"{each.length:,}", f"{each.solved}/{seeds}", shown(each.error), number(problem.baseline),
            f"{each.steps.seeds}/{seeds}", shown(each.steps), significant(each.learning_rate),
        ]
        for cell in problem.parameters
        for each in problem.of_cell(cell)
    ]  # fmt: skip
    columns = ["cell", "length", "solved", "test error", "baseline", "reached", "steps to solution", "rate"]
    caption = (
        f"length: {problem.length_name}; {answers.over(seeds, 'seed')}; reached: seeds whose validation error came to "
        f"{short(problem.goal)}, over which the steps are"
    )
    return Table(columns, rows, caption=caption)
