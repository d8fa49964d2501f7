"""The scores of the benchmark `published_splits`: ensembles with their density, and the tables."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from experiments.bench import harness
from mllab.nested import Variant
from mllab.report.table import Table, fixed
from mllab.types import Examples, Key
from mllab.validation import Axes, Folds, held_out_outputs


class Published(NamedTuple):
    """Mean and standard error over the splits."""

    rmse: float
    rmse_error: float
    log_likelihood: float  # nats
    log_likelihood_error: float


@dataclass(frozen=True)
class Result:
    """The scores on the splits of a set, K of them, in the target's unit."""

    published: Published
    rmse: np.ndarray  # of the ensembles on test rows, [K]
    log_likelihood: np.ndarray  # of the ensembles on test rows, [K], nats
    inner: np.ndarray  # mean squared errors of single nets on the inner folds, for each setting, [S, K]
    test: np.ndarray  # mean squared errors of single nets on the test rows, [S, K]
    seconds: float


def ensemble_scores(variant: Variant, axes: Axes, key: Key, examples: Examples, part: Folds) -> tuple[float, float]:
    """Return the RMSE and the mean log density of an ensemble on the rows that the last of the folds holds out.

    Args:
        variant: a single net.
        axes: its setting, and the members' seeds as the last axis.
        key: shared by all.
        examples: `{"inputs", "targets"}`.
        part: the inner folds, on which the density's variance is fitted, and the split itself.
    """
    outputs = np.asarray(held_out_outputs(variant.learner, axes, key, examples, part, restrict=False), np.float64)
    outputs = outputs.reshape(-1, *outputs.shape[-2:])  # [E, I + 1, M]
    mean, spread = outputs.mean(axis=0), outputs.var(axis=0, ddof=1)
    errors = mean - np.asarray(examples["targets"])[part.held_out.ids]
    present = np.asarray(part.held_out.weight) > 0
    inner, test = present.copy(), present.copy()
    inner[-1], test[:-1] = False, False
    noise, factor = density_variance(errors[inner], spread[inner])
    densities = _log_density(errors[test] ** 2, noise + factor * spread[test])
    return float(np.sqrt(np.mean(errors[test] ** 2))), float(densities.mean())


def density_variance(errors: np.ndarray, spread: np.ndarray) -> tuple[float, float]:
    """Return a and c for which errors [M] are likeliest as draws of N(0, a + c * spread), with spread [M]."""
    from scipy.optimize import minimize

    def loss(logarithms: np.ndarray) -> float:
        noise, factor = np.exp(logarithms)
        return -float(_log_density(errors**2, noise + factor * spread).mean())

    scale = max(float(np.mean(errors**2)), 1e-12)
    found = minimize(loss, [np.log(scale) - 0.3, 0.0], method="Nelder-Mead", bounds=[(np.log(scale) - 12, None)] * 2)
    noise, factor = np.exp(found.x)
    return float(noise), float(factor)


def _log_density(squares: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Return Gaussian log densities of squared errors; in float64, unlike `metrics.gaussian_log_density`."""
    return -0.5 * (np.log(2 * np.pi * variance) + squares / variance)


def scores(measured: Mapping[str, Result]) -> Table:
    """Return the table of scores; a target is met within one published standard error, or better."""
    rows = []
    for name, result in measured.items():
        published = result.published
        close = result.rmse.mean() <= published.rmse + published.rmse_error
        likely = result.log_likelihood.mean() >= published.log_likelihood - published.log_likelihood_error
        rows.append(
            [
                name, len(result.rmse),
                _with_error(result.rmse), f"{published.rmse:.2f} ± {published.rmse_error:.2f}", harness.verdict(close),
                _with_error(result.log_likelihood),
                f"{fixed(published.log_likelihood, 2)} ± {published.log_likelihood_error:.2f}", harness.verdict(likely),
                f"{result.seconds:.0f}",
            ]
        )  # fmt: skip
    columns = ["ensembles", "splits", "test RMSE", "published", "met", "log likelihood", "published", "met", "s"]
    return Table(columns, rows)


def protocols(measured: Mapping[str, Result]) -> Table:
    """Return the table of single nets by how their setting is chosen; all but the first let test rows choose too.

    The log likelihood is of a constant variance, the setting's inner mean squared error on the split.
    """
    rows = []
    for name, result in measured.items():
        splits = np.arange(result.test.shape[1])
        likelihoods = _log_density(result.test, result.inner)
        inside = result.inner.argmin(axis=0)
        ways = {
            "inside each split": (inside, inside),
            "once for all splits, by all inner folds": (result.inner.mean(axis=1).argmin(),) * 2,
            "once for all splits, by the test rows": (
                np.sqrt(result.test).mean(axis=1).argmin(), likelihoods.mean(axis=1).argmax(),
            ),
            "for each split, by its test rows": (result.test.argmin(axis=0), likelihoods.argmax(axis=0)),
        }  # fmt: skip
        rmses = {way: np.sqrt(result.test[each, splits]) for way, (each, _) in ways.items()}
        densities = {way: likelihoods[each, splits] for way, (_, each) in ways.items()}
        honest, *others = ways
        rows.append([name, honest, _with_error(rmses[honest]), None, _with_error(densities[honest]), None])
        rows += [
            [
                name, way, _with_error(rmses[way]), _with_error(rmses[honest] - rmses[way]),
                _with_error(densities[way]), _with_error(densities[way] - densities[honest]),
            ]
            for way in others
        ]  # fmt: skip
    return Table(["single nets", "setting chosen", "test RMSE", "better by", "log likelihood", "better by"], rows)


def _with_error(values: np.ndarray) -> str:
    """Return the mean and the standard error over splits."""
    return f"{fixed(float(values.mean()), 3)} ± {values.std(ddof=1) / np.sqrt(len(values)):.3f}"
