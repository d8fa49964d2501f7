r"""Deep ensembles on five UCI regression sets with their 20 published splits, beside the published figures.

  python -m experiments.bench.published_splits --data_dir=data
  python -m experiments.bench.published_splits --sets=yacht,energy --splits=5

Reads SET.csv and SET.test_rows.txt of the folder `uci_regression` (Hernández-Lobato and Adams 2015; a line of held-out
row ids a split). The settings of the nets are chosen by inner folds of each split's training rows, as by
`model_selection --folds_file`. The predictive density is Gaussian; its variance is a + c times the members' variance,
with a and c that maximise the likelihood of the rows that the inner folds hold out. Published: the readme of
github.com/yaringal/DropoutUncertaintyExps, one hidden layer with dropout, a grid search inside each split.

A second table has what other ways to choose would have made of the same single nets: once for all splits, and by the
test rows. The grids themselves were set by hand on training rows of the first three splits, the inputs and the grid of
wine-quality-red after a first result on its test rows had been seen.
"""

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from experiments import frame, selection_problem
from experiments.bench import harness
from mllab import criteria, learners, schemes
from mllab.data import catalog
from mllab.data.dataset import Dataset
from mllab.data.readers import table as table_reader
from mllab.nested import Plan, Variant, nested, plan_folds
from mllab.report.report import Report
from mllab.report.table import Table, fixed
from mllab.schemes import Scheme
from mllab.types import Examples, Key
from mllab.validation import Axes, Folds, held_out_outputs

HIDDEN = 64, 64
FOLDER = "uci_regression"


class Published(NamedTuple):
    """Mean and standard error over the splits."""

    rmse: float
    rmse_error: float
    log_likelihood: float  # nats
    log_likelihood_error: float


class Case(NamedTuple):
    """A set, what to choose from, and what was published."""

    target: str
    published: Published
    axes: Axes
    activations: tuple[str, ...] = ("relu", "silu")
    transforms: tuple[str, ...] = ("standard",)
    steps: int = 3000
    batch_size: int = 32
    inner_folds: int = 5


SMALL = {"dropout": [0.0, 0.05], "weight_decay": [0.03, 0.3], "learning_rate": [0.01, 0.03]}
LARGE = {**SMALL, "dropout": [0.0]}
NOISY = {"dropout": [0.05, 0.15], "weight_decay": [0.1, 0.3, 1.0], "learning_rate": [0.003, 0.01]}
CASES: Mapping[str, Case] = {
    "yacht": Case("resistance", Published(0.67, 0.05, -1.25, 0.01), SMALL),
    "energy": Case("heating_load", Published(0.54, 0.06, -1.21, 0.01), SMALL),
    "concrete": Case("strength_mpa", Published(4.82, 0.16, -2.93, 0.02), SMALL),
    "wine-quality-red": Case(
        "quality", Published(0.62, 0.01, -0.93, 0.01), NOISY, ("relu",), ("standard", "quantile"), 800
    ),
    "power-plant": Case(
        "power_mw", Published(4.01, 0.04, -2.80, 0.01), LARGE, steps=2000, batch_size=128, inner_folds=3
    ),
}


@dataclass(frozen=True, kw_only=True)
class Settings(frame.settings.Base):
    """What to measure."""

    data_dir: str | None = frame.Data.with_default("data_dir", None)
    sets: tuple[str, ...] = frame.choices(CASES, list(CASES), help="Sets, separated by commas.", kind="set")
    splits: int = frame.whole(20, help="Splits: the first ones of the published 20.", low=2)
    members: int = frame.whole(10, help="Nets of an ensemble.", low=2)
    steps: int | None = frame.whole(None, help="Updates of each net. Default: those set for each data set.", low=1)


@dataclass(frozen=True)
class Result:
    """The scores on the splits of a set, K of them, in the target's unit."""

    rmse: np.ndarray  # of the ensembles on test rows, [K]
    log_likelihood: np.ndarray  # of the ensembles on test rows, [K], nats
    inner: np.ndarray  # mean squared errors of single nets on the inner folds, for each setting, [S, K]
    test: np.ndarray  # mean squared errors of single nets on the test rows, [S, K]
    seconds: float


def measure(run: frame.Context, settings: Settings) -> dict[str, Result]:
    """Measure all sets."""
    folder = harness.data_folder(settings.data_dir, FOLDER)
    return {name: measured(run, folder, name, settings) for name in settings.sets}


def measured(run: frame.Context, folder: Path, name: str, settings: Settings) -> Result:
    """Measure a set: choose and test inside one split after another."""
    case, key, began = CASES[name], jax.random.key(0), time.perf_counter()
    options = table_reader.Options(task="regression")
    data = catalog.load(folder / f"{name}.csv", target=case.target, table_options=options)
    splits = selection_problem.read_splits(str(folder / f"{name}.test_rows.txt"), run)[: settings.splits]
    scheme = Scheme(0)
    plan = plan_folds(
        schemes.published(splits, len(data.targets)), lambda ids: scheme.folds(ids, case.inner_folds)
    )  # fmt: skip
    assert data.columns is not None
    examples = {"inputs": data.columns, "targets": data.targets}
    score = criteria.named("rmse", "regression").score()
    columns: list[tuple[float, float, np.ndarray, np.ndarray]] = []
    for k, part in enumerate(plan.parts):
        result = nested(_variants(case, data, run, settings), key, examples, Plan((part,), plan.per_round), score)
        setting = result.chosen[0]
        axes = {hyper: [value] for hyper, value in result.values(setting).items()}
        rmse, log_likelihood = ensemble_scores(
            result.variants[setting.variant], {**axes, "seed": np.arange(settings.members)}, key, examples, part
        )
        inner, test = (-scores[:, 0] * data.target_scale**2 for scores in result.all_scores())
        columns.append((rmse * data.target_scale, log_likelihood - np.log(data.target_scale), inner, test))
        chosen = " ".join(f"{hyper}={value[0]:g}" for hyper, value in axes.items())
        print(
            f"{name} {k + 1}/{len(plan.parts)}  RMSE {columns[-1][0]:.3f}, log likelihood {columns[-1][1]:.3f}; "
            f"{result.variants[setting.variant].name} {chosen}; {time.perf_counter() - began:.0f} s",
            file=sys.stderr, flush=True,
        )  # fmt: skip
    rmses, log_likelihoods, inners, tests = zip(*columns, strict=True)
    return Result(
        np.array(rmses), np.array(log_likelihoods), np.stack(inners, axis=1), np.stack(tests, axis=1),
        time.perf_counter() - began,
    )  # fmt: skip


def _variants(case: Case, data: Dataset, run: frame.Context, settings: Settings) -> list[Variant]:
    assert data.schema
    steps = settings.steps or case.steps
    return [
        Variant(
            learners.preprocessed(
                learners.mlp(
                    hidden=HIDDEN, activation=activation, batch_size=case.batch_size, steps=steps, mesh=run.mesh()
                ),
                data.schema.layout,
                transform,
            ),
            case.axes,
            f"{activation} {transform}",
        )
        for transform in case.transforms
        for activation in case.activations
    ]


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
    densities = _log_density(errors[test], noise + factor * spread[test])
    return float(np.sqrt(np.mean(errors[test] ** 2))), float(densities.mean())


def density_variance(errors: np.ndarray, spread: np.ndarray) -> tuple[float, float]:
    """Return a and c for which errors [M] are likeliest as draws of N(0, a + c * spread), with spread [M]."""
    from scipy.optimize import minimize

    def loss(logarithms: np.ndarray) -> float:
        noise, factor = np.exp(logarithms)
        return -float(_log_density(errors, noise + factor * spread).mean())

    scale = max(float(np.mean(errors**2)), 1e-12)
    found = minimize(loss, [np.log(scale) - 0.3, 0.0], method="Nelder-Mead", bounds=[(np.log(scale) - 12, None)] * 2)
    noise, factor = np.exp(found.x)
    return float(noise), float(factor)


def _log_density(errors: np.ndarray, variance: np.ndarray) -> np.ndarray:
    return -0.5 * (np.log(2 * np.pi * variance) + errors**2 / variance)


def report(run: frame.Context, settings: Settings, measured: Mapping[str, Result]) -> Report:
    """Report the scores beside the published ones, and what other protocols would have shown."""
    del run, settings
    return harness.report("published_splits", [scores(measured), protocols(measured)])


def scores(measured: Mapping[str, Result]) -> Table:
    """Return the table of scores; a target is met within one published standard error, or better."""
    rows = []
    for name, result in measured.items():
        published = CASES[name].published
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
        likelihoods = -0.5 * (np.log(2 * np.pi * result.inner) + result.test / result.inner)
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


main, run = frame.program(Settings, measure, report, all_cores=True)

if __name__ == "__main__":
    harness.start(main)
