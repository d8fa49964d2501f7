"""Hyperparameter selection by cross-validation, nested cross-validation, and comparisons of learners.

    folds = validation.folds(np.arange(len(targets)), 5, seed=0, targets=targets)
    choice = choose(learners.svm(2), {"c": [1.0, 10.0], "gamma": [0.1, 1.0]}, key, examples, folds, accuracy)
    choice.setting, choice.interval  # {"c": 10.0, "gamma": 1.0} and its mean score with a 95% interval

A greater score is better: negate a loss. Rules are deterministic: means are compared to `DIGITS` digits, and of equal
ones the first in the order of the axes is chosen. List the values of an axis from simple to complex, and the axis
along which simplicity matters most first.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np

from mllab import checks
from mllab.errors import UserError, unknown
from mllab.metrics import Interval, Ranking, paired, ranking
from mllab.metrics.comparisons import DIGITS
from mllab.rows import gather
from mllab.types import Examples, Hyper, Inputs, Key, Outputs, Params, Rows
from mllab.validation import Axes, Folds, Learner, Score, checked_axes, cross_validate, interval, one_by_one

Select = Callable[[np.ndarray], tuple[int, ...]]  # scores [*axes, K] -> the index of a setting


# ── Rules ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def best(scores: np.ndarray) -> tuple[int, ...]:
    """Return the index in [*axes] of the greatest mean score, the first of equal ones; scores are [*axes, K].

    Settings with a score that is not finite are excluded.

    Raises:
        UserError: no setting has finite scores.
    """
    means = _means(scores)
    return _index(_near_best(means).argmax(), means.shape)


def simplest(complexity: np.ndarray, error: Callable[[np.ndarray], float] | None = None) -> Select:
    """Return the one-standard-error rule: the least complex setting within one standard error of the best mean.

        choose(learner, {"k": [1, 3, 5]}, ..., select=simplest(np.array([-1, -3, -5])))  # more neighbours are simpler

    Args:
        complexity: of each setting, [*axes], such as the number of parameters, or BIC. Ties go to the first.
        error: returns the standard error of the best setting's mean from its scores [K]; by default s / sqrt(K). See
            also `proportion_error`.

    Source: Breiman et al., *Classification and regression trees* (1984), section 3.4.3.
    """
    complexity = np.asarray(complexity)

    def select(scores: np.ndarray) -> tuple[int, ...]:
        means = _means(scores)
        if complexity.shape != means.shape or np.isnan(complexity).any():
            raise UserError(f"complexity of shape {complexity.shape} for settings {means.shape}: give each a number")
        top = scores[np.unravel_index(means.argmax(), means.shape)]
        near = np.flatnonzero(_near_best(means, (error or _fold_error)(top)))
        return _index(near[complexity.ravel()[near].argmin()], means.shape)

    return select


def proportion_error(rows: int) -> Callable[[np.ndarray], float]:
    """Return the standard error of an accuracy p, measured by all scores on the same rows: sqrt(p (1 - p) / rows)."""

    def error(scores: np.ndarray) -> float:
        mean = scores.mean()
        return float(np.sqrt(mean * (1 - mean) / rows))

    return error


def _fold_error(scores: np.ndarray) -> float:
    if scores.size < 2:
        raise UserError("one fold has no standard error: give more folds, or error=proportion_error(rows)")
    return float(scores.std(ddof=1) / np.sqrt(scores.size))


def _index(place: np.intp, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(index) for index in np.unravel_index(place, shape))


def _means(scores: np.ndarray) -> np.ndarray:
    """Return the mean scores [*axes], minus infinity where one is not finite."""
    scores = np.asarray(checks.as_numbers(scores, "scores"))
    if scores.ndim == 0 or scores.size == 0:
        raise UserError(f"scores: shape {list(scores.shape)}, expected [*axes, K], each at least 1")
    finite = np.isfinite(scores).all(axis=-1)
    if not finite.any():
        raise UserError("every setting has scores that are not finite: give other settings")
    return np.where(finite, np.where(finite[..., None], scores, 0).mean(axis=-1), -np.inf)


def _near_best(means: np.ndarray, error: float = 0.0) -> np.ndarray:
    """Return which means are within `error`, or equal up to rounding, of the greatest."""
    return means >= means.max() - error - 10.0**-DIGITS * abs(means.max())


# ── One learner ─────────────────────────────────────────────────────────────────────────────────────────────────────


class Edge(NamedTuple):
    """An axis whose chosen value is the least or greatest while the score still rises: extend the axis."""

    axis: str
    value: float  # the chosen one
    end: str  # "least" or "greatest" of the axis
    rise: float  # of the mean score, from the neighbouring value to this one


@dataclass(frozen=True)
class Choice:
    """The chosen setting and the scores of all."""

    axes: dict[str, np.ndarray]
    scores: np.ndarray  # [*axes, K] on the held-out rows
    index: tuple[int, ...]  # of the chosen setting
    per_round: float  # folds in a round; see `validation.interval`

    @property
    def setting(self) -> dict[str, float]:
        """The chosen value of each axis."""
        return {name: values[place].item() for (name, values), place in zip(self.axes.items(), self.index, strict=True)}

    @property
    def means(self) -> np.ndarray:
        """The mean score of each setting, [*axes]."""
        return self.scores.mean(axis=-1)

    @property
    def by_fold(self) -> np.ndarray:
        """The scores of the chosen setting, [K]."""
        return self.scores[self.index]

    @property
    def interval(self) -> Interval:
        """The mean score of the chosen setting and its 95% interval over folds; the bounds are NaN for one fold."""
        return interval(self.by_fold, self.per_round)

    @property
    def tied(self) -> np.ndarray:
        """Which settings are tied with the chosen one, itself included, [*axes] of bool.

        The paired difference over folds, chosen less other, has an interval that includes 0, or is below it. With one
        fold there are no intervals, and all settings with finite scores are tied.
        """
        differences = paired(self.by_fold, self.scores)  # NaN, and not tied, where a score is not finite
        by_setting = differences.reshape(-1, differences.shape[-1])
        tied = [np.isfinite(each).all() and interval(each, self.per_round).sign <= 0 for each in by_setting]
        return np.array(tied).reshape(self.scores.shape[:-1])

    def edges(self, rise: float) -> list[Edge]:
        """Return the axes with the choice at an end, towards which the mean score rises by `rise` or more."""
        edges = []
        for axis, (name, values) in enumerate(self.axes.items()):
            order = np.argsort(values, kind="stable")
            means = self.means[(*self.index[:axis], order, *self.index[axis + 1 :])]  # along the axis, ascending
            place = int(np.flatnonzero(order == self.index[axis])[0])
            if len(means) < 2 or place not in (0, len(means) - 1):
                continue
            gain = float(means[place] - means[1 if place == 0 else -2])
            if gain >= rise:
                edges.append(Edge(name, values[self.index[axis]].item(), "greatest" if place else "least", gain))
        return edges


def choose(
    learner: Learner,
    axes: Axes,
    key: Key,
    examples: Examples,
    folds: Folds,
    score: Score,
    *,
    select: Select = best,
    observe: Callable[[int, np.ndarray], None] | None = None,
) -> Choice:
    """Return the setting that is selected by the scores on held-out rows.

    Args:
        learner: the algorithm.
        axes: the settings to choose from.
        key: shared by all settings and folds.
        examples: `{"inputs", "targets"}`.
        folds: see `validation.folds`; `validation.holdout` makes the one fold of a fixed set of validation rows.
        score: see `validation.Score`; greater is better.
        select: the rule; see `best` and `simplest`.
        observe: called with the number of each fold and its scores [*axes]. The folds then run one after another, and
            work that the learner could share between folds is repeated.

    Raises:
        UserError: see `validation.cross_validate` and the rule.
    """
    if observe is None:
        scores = cross_validate(learner, axes, key, examples, folds, score)
    else:
        by_fold = []
        for fold in range(len(folds.train.ids)):
            one = jax.tree.map(lambda array, fold=fold: array[fold : fold + 1], folds)
            by_fold.append(cross_validate(learner, axes, key, examples, one, score)[..., 0])
            observe(fold, by_fold[-1])
        scores = np.stack(by_fold, axis=-1)
    return Choice(checked_axes(axes), scores, select(scores), folds.per_round)


class Tuned(NamedTuple):
    """What a tuned learner's `fit` returns."""

    params: Params
    choice: Choice


def tuned(
    learner: Learner,
    axes: Axes,
    folds: Callable[[Examples], Folds],
    score: Score,
    *,
    select: Select = best,
    observe: Callable[[Choice], None] = lambda choice: None,
) -> Learner:
    """Return the learner that chooses its setting by cross-validation within its training rows.

    To cross-validate it is nested cross-validation, which scores the whole procedure, selection included.

        def inner(examples):
            return validation.folds(np.arange(len(examples["targets"])), 5, seed=1, targets=examples["targets"])

        scores = cross_validate(tuned(learner, axes, inner, accuracy), {}, key, examples, outer, accuracy)  # [K]

    Outer folds run one after another on the host. Each fit copies its training rows, without the padding, so no other
    row can influence the choice. The rows must be concrete, not traced. The values of outer axes are passed on to the
    learner.

    Args:
        learner: the learner to tune.
        axes: the settings to choose from.
        folds: returns the inner folds of the rows 0..M-1 from the M training examples. The examples may contain more
            than inputs and targets for this purpose, such as groups.
        score: see `validation.Score`; greater is better.
        select: the rule; see `best` and `simplest`.
        observe: called with the choice of each fit.
    """

    def fit(hyper: Hyper, key: Key, examples: Examples, rows: Rows) -> Tuned:
        if clash := sorted(set(hyper) & set(axes)):
            raise UserError(f"{', '.join(clash)} is tuned inside: leave it out of the outer axes")
        tune_key, fit_key = jax.random.split(key)
        present = np.asarray(rows.weight) > 0
        ids, place = np.unique(np.asarray(rows.ids)[present], return_inverse=True)
        weight = np.bincount(place, np.asarray(rows.weight)[present]).astype(np.float32)
        examples = gather(examples, ids)
        inner = Folds(*(Rows(part.ids, part.weight * weight[part.ids]) for part in folds(examples)))
        fixed = {name: np.asarray(value)[None] for name, value in hyper.items()}
        choice = choose(learner, {**fixed, **axes}, tune_key, examples, inner, score, select=select)
        observe(choice)
        return Tuned(learner.fit(choice.setting, fit_key, examples, Rows(np.arange(len(ids)), weight)), choice)

    def predict(params: Tuned, inputs: Inputs) -> Outputs:
        return learner.predict(params.params, inputs)

    return Learner(fit, predict, one_by_one(fit, predict), learner.check, takes_missing=learner.takes_missing)


# ── Several learners ────────────────────────────────────────────────────────────────────────────────────────────────


class Candidate(NamedTuple):
    """A learner with the settings to choose from, and the rule."""

    learner: Learner
    axes: Axes
    select: Select = best


@dataclass(frozen=True)
class Comparison:
    """The choices of several learners on the same folds."""

    choices: dict[str, Choice]  # by name, in the order of the pool

    @property
    def standing(self) -> Ranking[str]:
        """The names by mean score, and those that are tied with the best; see `metrics.ranking`."""
        scores = {name: choice.by_fold for name, choice in self.choices.items()}
        per_round = next(iter(self.choices.values())).per_round
        return ranking(scores, lambda differences: interval(differences, per_round))

    @property
    def ranking(self) -> list[str]:
        """The names in descending order of the mean score; equal ones are in the order of the pool."""
        return self.standing.names

    def difference(self, first: str, second: str) -> Interval:
        """Return the mean of the paired differences over folds, first minus second, and its corrected 95% interval.

        The scores of a choice are optimistically biased, the more so the more settings there are; those of `tuned`
        learners are not. Intervals are not corrected for the number of comparisons. See `validation.interval`.

        Raises:
            UserError: a name that is not in the pool.
        """
        for name in (first, second):
            if name not in self.choices:
                raise unknown("learner", name, self.choices)
        one, other = self.choices[first], self.choices[second]
        return interval(paired(one.by_fold, other.by_fold), one.per_round)

    @property
    def ties(self) -> list[str]:
        """The names whose difference from the best has an interval that includes 0, in the order of the ranking.

        With one fold there are no intervals, and all other names are ties.
        """
        standing = self.standing
        return [name for name in standing.names[1:] if name in standing.tied]


def compare(
    pool: Mapping[str, Candidate],
    key: Key,
    examples: Examples,
    folds: Folds,
    score: Score,
    *,
    observe: Callable[[str, Choice | None], None] = lambda name, choice: None,
) -> Comparison:
    """Return the comparison of learners, each with the setting chosen on the same folds.

        comparison = compare(
            {
                "svm": Candidate(learners.svm(3), {"c": [1.0, 10.0], "gamma": [0.1, 1.0]}),
                "neighbours": Candidate(learners.nearest_neighbors(3, most=9), {"k": [1, 3, 9]}),
                "most frequent": Candidate(learners.most_frequent(3), {}),
            },
            key, examples, folds, accuracy,
        )
        comparison.ranking[0], comparison.ties, comparison.difference("svm", "most frequent")

    Args:
        pool: the learners by name.
        key: shared by all.
        examples: `{"inputs", "targets"}`.
        folds: see `validation.folds`.
        score: see `validation.Score`; greater is better.
        observe: called with each name and None at its start, and with the name and its choice at its end.

    Raises:
        UserError: an empty pool; see also `choose`.
    """
    if not pool:
        raise UserError("an empty pool: give one or more learners")
    choices = {}
    for name, (learner, axes, select) in pool.items():
        observe(name, None)
        choices[name] = choose(learner, axes, key, examples, folds, score, select=select)
        observe(name, choices[name])
    return Comparison(choices)
