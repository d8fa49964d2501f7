"""The search for a model: every one of a pool tuned and scored by nested cross-validation, within a budget of time.

    found = search(candidates, key, examples, plan, score, budget=Budget(120))

`found["svm"].nested.outer` are its scores [K], or `found["svm"].left_out` says why there are none.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from mllab import growth, memory
from mllab.errors import UserError
from mllab.nested import Nested, Plan, Variant, nested, with_chosen_settings
from mllab.power_law import Exponents
from mllab.types import Examples, Key
from mllab.validation import Score

PILOT_ROWS = 500, 2000  # of a larger table, the rows that a model is timed on before it is fitted to all
SHARED_WORK = 3.0  # settings and folds share work: together they take about a third of what single fits take, or less
SEARCH_SHARE = 0.8  # of the budget: the rest is for the final fits and the look into the winner


@dataclass
class Budget:
    """Seconds to spend, counted from when it is made; None: no limit."""

    seconds: float | None = None
    clock: Callable[[], float] = time.perf_counter
    start: float = field(init=False)

    def __post_init__(self):
        if self.seconds is not None and not self.seconds > 0:
            raise UserError(f"budget = {self.seconds:g} s: give more than 0")
        self.start = self.clock()

    @property
    def left(self) -> float:
        """Seconds that the search may still take."""
        return np.inf if self.seconds is None else SEARCH_SHARE * self.seconds - (self.clock() - self.start)


@dataclass(frozen=True)
class Candidate:
    """A model to search: its variants, and how its cost grows."""

    label: str
    variants: Sequence[Variant]
    exponents: tuple[float, float] = (1.0, 1.0)  # of the time of a fit in rows and in columns, in theory
    base: str = ""  # the candidate whose chosen settings it uses, instead of settings of its own


@dataclass(frozen=True)
class Found:
    """What the search found of a model."""

    label: str
    nested: Nested | None
    seconds: float  # of the search
    left_out: str = ""  # why there is no result


class _Late(Exception):
    """The budget does not allow for what is left of a model's search."""


def search(
    candidates: Mapping[str, Candidate],
    key: Key,
    examples: Examples,
    plan: Plan,
    score: Score,
    *,
    budget: Budget | None = None,
    observe: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> dict[str, Found]:
    """Tune and score every candidate; one that the budget, the memory or the data forbid is left out, with the reason.

    Candidates are searched in their order: put the cheap ones first. Where there are many rows, each is first timed on
    a few of them, and the time of the whole is extrapolated. A search that turns out to take longer than what is left
    ends at the next fold.

    Args:
        candidates: by name.
        key: shared by all.
        examples: `{"inputs", "targets"}`.
        plan: see `nested.plan_folds`.
        score: see `validation.Score`; greater is better.
        budget: the time to spend.
        observe: called with a candidate's name, and how many of how many parts are done.

    Raises:
        UserError: every candidate is left out.
    """
    budget = budget or Budget()
    found: dict[str, Found] = {}
    for name, candidate in candidates.items():
        start = budget.clock()
        watch = _Watch(budget, len(plan.parts) * len(candidate.variants), partial(observe, name))
        observe(name, 0, watch.total)
        result, left_out = None, ""
        try:
            if candidate.base:
                base = found[candidate.base].nested
                if base is None:
                    raise UserError(f"{candidates[candidate.base].label} was left out, whose settings it uses")
                watch.total = len(plan.parts)
                result = with_chosen_settings(base, candidate.variants, key, examples, plan, score, observe=watch)
            else:
                if np.isfinite(budget.left):
                    _check_forecast(candidate, key, examples, plan, budget)
                result = nested(candidate.variants, key, examples, plan, score, observe=watch)
        except UserError as error:
            left_out = str(error)
        except _Late as late:
            left_out = str(late)
        found[name] = Found(candidate.label, result, budget.clock() - start, left_out)
    if all(each.nested is None for each in found.values()):
        name, first = next(iter(found.items()))
        raise UserError(f"no model is left: {name}: {first.left_out}")
    return found


class _Watch:
    """Follows one candidate's search; raises `_Late` where what is left of it would exceed the budget."""

    def __init__(self, budget: Budget, total: int, observe: Callable[[int, int], None]):
        self.total = total
        self._budget, self._observe = budget, observe
        self._times = [budget.clock()]

    def __call__(self, fold: int, variant: int) -> None:
        self._times.append(self._budget.clock())
        done = len(self._times) - 1
        self._observe(done, self.total)
        # The parts of the first fold compile; the later ones tell how long a part takes.
        parts = np.diff(self._times)
        usual = float(np.median(parts[parts.size // 2 :])) if fold else 0.0
        left = self._budget.left
        if done < self.total and (self.total - done) * usual > left:
            spent = self._times[-1] - self._times[0]
            raise _Late(
                f"stopped after {spent:.0f} s and {done} of {self.total} parts: the rest would take about "
                f"{(self.total - done) * usual:.0f} s, and {max(left, 0):.0f} s of the budget for the search were left"
            )


def _check_forecast(candidate: Candidate, key: Key, examples: Examples, plan: Plan, budget: Budget) -> None:
    """Raise `_Late` if the search of a candidate, extrapolated from fits to a few rows, exceeds budget or memory."""
    if budget.left <= 0:
        raise _Late("the budget was spent")
    folds, variant = plan.parts[0], candidate.variants[-1]  # the last variant is the largest
    rows = np.asarray(folds.train.ids[-1])[np.asarray(folds.train.weight[-1]) > 0]
    if len(rows) <= 2 * PILOT_ROWS[-1]:
        return
    settings = sum(int(np.prod([len(axis) for axis in each.axes.values()])) for each in candidate.variants)
    hyper = {name: np.asarray(values).ravel()[-1] for name, values in variant.axes.items()}
    made = growth.forecast(
        variant.learner, hyper, examples, rows, sizes=PILOT_ROWS, exponents=Exponents(*candidate.exponents),
        repeats=1, key=key, clock=budget.clock,
    )  # fmt: skip
    if made.refused:
        raise _Late(made.refused)
    if made.bytes is not None and made.bytes > memory.available():
        raise _Late(
            f"would take about {made.bytes / 1e9:.3g} GB for a fit to {len(rows):,} rows, and "
            f"{memory.available() / 1e9:.3g} GB are free"
        )
    seconds = made.seconds.mean * settings * len(plan.parts) * len(folds.train.ids)
    if seconds > SHARED_WORK * budget.left:
        sizes = " and ".join(f"{cost.rows:,}" for cost in made.costs)
        raise _Late(
            f"would take about {seconds:,.0f} s, by fits to {sizes} of {len(rows):,} rows, and "
            f"{max(budget.left, 0):.0f} s of the budget for the search were left"
        )
