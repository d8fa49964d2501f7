"""The results of a model selection: the scores and costs of each model, and the winner."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import frame
from experiments.selection_problem import Problem
from experiments.winner import Winner
from mllab import metrics, validation
from mllab.group_leakage import Flattered
from mllab.metrics import Interval, Lead, McNemar, Ranking
from mllab.model_search import Found
from mllab.nested import Nested, Setting
from mllab.report.table import short
from mllab.types import Outputs, Params, Rows

REPEATED_BELOW = 20.0  # seconds: what took less is timed once more, without compilation
NAMES = {"l2": "l2", "c": "C", "learning_rate": "learning rate", "weight_decay": "weight decay"}


@dataclass(frozen=True)
class Model:
    """A model of the pool, tuned; scores are in the criterion's own unit and direction."""

    name: str
    label: str
    held_out: Interval | None  # of the whole procedure, over the outer folds; None for one that was left out
    by_fold: list[float]
    inner: float | None  # mean score by which settings were chosen
    optimism: Interval | None  # by how much that is better than the held-out score, paired by outer fold; in points
    test: Interval | None  # on test rows, over their sampling
    log_likelihood: Interval | None  # regression: mean log density of held-out rows, nats, over the outer folds
    setting: str
    search_seconds: float
    fit_seconds: float | None  # on all rows to choose by, with the chosen setting; None if the budget was spent
    predict_seconds: float | None  # for a thousand rows
    left_out: str  # why there is no result


@dataclass(frozen=True)
class Fitted:
    """A model that is fitted to all rows to choose by."""

    setting: Setting
    params: Params
    outputs: Outputs  # on the test rows
    seconds: float
    predict_seconds: float  # for a thousand rows


@dataclass(frozen=True)
class Measurement:
    """What a model selection found."""

    dataset: frame.DatasetFacts
    criterion: str
    folds: str  # in words
    models: list[Model]
    winner: str
    tied: list[str]
    ahead: Lead | None  # of the winner over the next, on the outer folds
    on_test: Interval | None  # the winner's score less the next one's, on test rows
    mcnemar: McNemar | None  # of the winner and the next, on test rows
    beats_constant: bool | None  # on the outer folds
    warnings: list[str]
    flattered: dict[str, Flattered]  # by the name of the column
    budget: float | None
    search: Mapping[str, Mapping[str, list[float]]]  # expected held-out score of the best of n settings, by model
    look: Winner | None = None  # what the winner does on the test rows
    standing: Ranking[str] = frame.unsaved(default=None)

    @property
    def won(self) -> Model:
        """The winner."""
        return next(model for model in self.models if model.name == self.winner)


def setting_text(result: Nested, setting: Setting) -> str:
    """Return a setting in words: 'full covariance, floor 0.1'."""
    parts = [result.variants[setting.variant].name] * bool(result.variants[setting.variant].name)
    return ", ".join(parts + [f"{NAMES.get(name, name.replace('_', ' '))} {short(value)}" for name, value in
                              result.values(setting).items()])  # fmt: skip


def fit(problem: Problem, result: Nested, key: Any) -> Fitted:
    """Fit the final setting to all rows to choose by, and predict the test rows; both are timed without compilation."""
    learner = result.variants[result.final.variant].learner
    hyper, examples = result.values(result.final), problem.examples
    count = len(problem.choosing)
    rows = Rows(np.arange(count, dtype=np.int32), np.ones(count, np.float32))
    inputs = problem.rows(problem.test if len(problem.test) else problem.choosing)["inputs"]
    params, fit_seconds = _timed(lambda: learner.fit(hyper, key, examples, rows))
    outputs, predict_seconds = _timed(lambda: learner.predict(params, inputs))
    return Fitted(result.final, params, np.asarray(outputs), fit_seconds, predict_seconds * 1000 / len(inputs.numbers))


def _timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """Return a result and the seconds it takes, without compilation where that is not much of a repetition."""
    for _ in range(2):
        start = time.perf_counter()
        result = jax.block_until_ready(function())
        seconds = time.perf_counter() - start
        if seconds > REPEATED_BELOW:
            break
    return result, seconds


def model(problem: Problem, name: str, found: Found, fitted: Fitted | None) -> Model:
    """Return the results of a model."""
    result, criterion = found.nested, problem.criterion
    if result is None:
        nothing = dict.fromkeys(("held_out", "inner", "optimism", "test", "log_likelihood", "fit_seconds"))
        return Model(name, found.label, by_fold=[], setting="", search_seconds=found.seconds, predict_seconds=None,
                     left_out=found.left_out, **nothing)  # fmt: skip
    outer = criterion.shown(result.outer) * problem.unit
    inner = criterion.shown(result.inner) * problem.unit
    better = criterion.utility(result.inner) - criterion.utility(result.outer)
    test = None
    if fitted is not None and len(problem.test):
        test = test_score(problem, by_row(problem, fitted.outputs, problem.test))
    return Model(
        name=name,
        label=found.label,
        held_out=validation.interval(outer, result.per_round),
        by_fold=outer.tolist(),
        inner=float(inner.mean()),
        optimism=None if len(result.chosen) < 2 or not result.values(result.final) else validation.interval(
            better * problem.difference_unit, result.per_round
        ),
        test=test,
        log_likelihood=log_likelihood(problem, result),
        setting=setting_text(result, result.final),
        search_seconds=found.seconds,
        fit_seconds=fitted.seconds if fitted else None,
        predict_seconds=fitted.predict_seconds if fitted else None,
        left_out="",
    )  # fmt: skip


def by_row(problem: Problem, outputs: Outputs, ids: np.ndarray) -> np.ndarray:
    """Return the criterion of each row, [M] float64, greater is better."""
    score = problem.criterion.score(problem.inverse)
    return np.asarray(score(jnp.asarray(outputs), jnp.asarray(problem.data.targets[ids])), np.float64)


def test_score(problem: Problem, rows: np.ndarray) -> Interval:
    """Return the score of test rows and its 95% interval over their sampling: Wilson's for a share, else bootstrap."""
    if problem.criterion.name == "accuracy":
        return metrics.proportion(rows)
    return _scaled(metrics.bootstrap(problem.criterion.shown, rows), problem.unit)


def difference_on_test(problem: Problem, first: np.ndarray, second: np.ndarray) -> Interval:
    """Return by how much the first score is better on the same test rows, with its bootstrap interval."""
    rows = np.stack([first, second], axis=1)
    utility = problem.criterion.utility
    by = metrics.bootstrap(lambda means: utility(means[..., 0]) - utility(means[..., 1]), rows)
    return _scaled(by, problem.difference_unit)


def _scaled(values: Interval, unit: float) -> Interval:
    return Interval(values.mean * unit, values.low * unit, values.high * unit, values.seeds)


def log_likelihood(problem: Problem, result: Nested) -> Interval | None:
    """Return the mean log density of held-out rows over the outer folds, in nats per unit of the target.

    The density is Gaussian around the prediction; its variance is the mean squared error on the inner folds of the
    training rows. None where the criterion is another one, or the target is transformed.
    """
    if problem.criterion.name != "rmse" or problem.inverse is not None:
        return None
    densities = []
    for ids, outputs, inner in zip(problem.plan.outer, result.outputs, result.inner, strict=True):
        targets = jnp.asarray(problem.data.targets[problem.choosing[ids]])
        variance = max(-float(inner), 1e-12)
        density = metrics.gaussian_log_density(
            jnp.asarray(outputs).reshape(targets.shape), jnp.asarray(variance), targets
        )
        densities.append(float(jnp.mean(density)) - float(np.log(problem.data.target_scale)))
    return validation.interval(np.array(densities), result.per_round)


def expected_scores(problem: Problem, result: Nested) -> list[float]:
    """Return the expected held-out score of the best of n of the model's settings, by inner score, for n = 1, 2, ..."""
    inner, outer = result.all_scores()
    curves = []
    for k in range(inner.shape[1]):
        scores = np.where(np.isfinite(inner[:, k]) & np.isfinite(outer[:, k]), inner[:, k], -np.inf)
        curves.append(metrics.expected_best(scores, outer[:, k]))
    return (problem.criterion.shown(np.mean(curves, axis=0)) * problem.unit).tolist()


def standing(problem: Problem, found: Mapping[str, Found]) -> Ranking[str]:
    """Return the models by their held-out score, and those that are tied with the best."""
    results = {name: each.nested for name, each in found.items() if each.nested is not None}
    scores = {name: problem.criterion.utility(result.outer) for name, result in results.items()}
    per_round = problem.plan.per_round
    return metrics.ranking(scores, lambda differences: validation.interval(differences, per_round))


def lead(problem: Problem, found: Mapping[str, Found], first: str, second: str) -> Interval:
    """Return by how much the first model is better than the second on the outer folds, paired."""
    one, other = found[first].nested, found[second].nested
    assert one
    assert other
    utility = problem.criterion.utility
    differences = metrics.paired(utility(one.outer), utility(other.outer)) * problem.difference_unit
    return validation.interval(differences, problem.plan.per_round)
