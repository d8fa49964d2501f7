r"""Choosing a model of mllab's pool beside single models of scikit-learn, on 13 small tables of the KEEL repository.

  python -m experiments.bench.keel --data_dir=data
  python -m experiments.bench.keel --tables=iris,wine --folds=3

Reads TABLE.csv of the folder `keel`, whose last column is the class. On each of the stratified outer folds mllab
searches the pool of `model_selection`: settings and model are those with the best accuracy on inner folds of the
training rows, and the held-out rows score that choice alone. scikit-learn's models have their default settings, longer
training where that may not suffice, and inputs that are standardised and one-hot encoded inside the fold.
"""

import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments import frame
from experiments.bench import harness
from experiments.bench.harness import Arrays, Samples, Solver
from experiments.bench.keel_tables import OURS, accuracies, means_of, ranks, searches
from mllab import pool
from mllab.data import catalog
from mllab.data.readers import table as table_reader
from mllab.report.report import Report
from mllab.tasks import CLASSIFICATION

TABLES = (
    "banana", "german", "ionosphere", "iris", "mammographic", "phoneme", "pima", "segment", "sonar", "tic-tac-toe",
    "vehicle", "wdbc", "wine",
)  # fmt: skip
MODELS = tuple(name for name, member in pool.POOL.items() if CLASSIFICATION.name in member.tasks)


@dataclass(frozen=True, kw_only=True)
class Settings(harness.DataSettings):
    """What to measure."""

    repeats: int = harness.Settings.with_default("repeats", 1)
    tables: tuple[str, ...] = frame.choices(TABLES, list(TABLES), help="Tables, separated by commas.", kind="table")
    models: tuple[str, ...] = frame.choices(MODELS, list(MODELS), help="Models of mllab's pool.", kind="model")
    folds: int = frame.whole(5, help="Outer folds, which score.", low=2, high=100)
    inner_folds: int = frame.whole(3, help="Inner folds, which choose.", low=2, high=100)
    split_seed: int = frame.whole(0, help="Seed of the folds.")


def problems(settings: Settings) -> Iterator[tuple[str, Arrays]]:
    """Yield the numbers [N, D], codes [N, C], category counts [C] and labels [N] of each table, and the folds."""
    folder = harness.data_folder(settings.data_dir, "keel")
    for name in settings.tables:
        yield name, {**arrays(folder / f"{name}.csv"), "folds": np.array([settings.folds, settings.inner_folds]),
                     "seed": np.array(settings.split_seed), "models": np.array(settings.models)}  # fmt: skip


def arrays(path: Path) -> Arrays:
    """Return the arrays of a table."""
    data = catalog.load(path, target="class", table_options=table_reader.Options(task="classification"))
    assert data.schema
    assert data.columns is not None
    return {
        "numbers": np.asarray(data.columns.numbers),
        "codes": np.asarray(data.columns.codes),
        "indicators": np.array(data.schema.layout.indicators, int),
        "categories": np.array(data.schema.layout.categories, int),
        "labels": data.targets,
    }


def _plan(problem: Arrays) -> Any:
    from mllab.nested import plan_folds
    from mllab.schemes import Scheme

    labels, (outer, inner) = problem["labels"], problem["folds"].tolist()
    scheme = Scheme(int(problem["seed"]), labels)
    return plan_folds(scheme.folds(np.arange(len(labels)), outer), lambda ids: scheme.folds(ids, inner))


def mllab(problem: Arrays) -> Solver:
    """Return the search of the pool, which reports the accuracy of the choice and of each model by fold."""
    import jax

    from mllab import criteria, devices
    from mllab.model_search import Found, search
    from mllab.models.preprocessing import Columns, Layout
    from mllab.validation import Folds

    classes, plan = int(problem["labels"].max()) + 1, _plan(problem)
    layout = Layout(
        problem["numbers"].shape[1], tuple(problem["indicators"].tolist()), tuple(problem["categories"].tolist())
    )
    fewest = int(min(part.train.weight.sum(axis=1).min() for part in plan.parts))
    candidates = pool.candidates_of(
        problem["models"].tolist(), pool.Problem("classification", classes, layout, fewest, devices.mesh())
    )  # fmt: skip
    examples = {"inputs": Columns(problem["numbers"], problem["codes"]), "targets": problem["labels"]}
    score = criteria.named("accuracy", "classification").score()

    def searched(parts: tuple[Folds, ...]) -> tuple[Mapping[str, Found], float]:
        began = time.process_time()
        found = search(candidates, jax.random.key(0), examples, plan._replace(parts=parts), score)
        return found, time.process_time() - began

    def report(result: tuple[Mapping[str, Found], float]) -> dict[str, Any]:
        found, cpu_seconds = result
        results = {name: each.nested for name, each in found.items() if each.nested}
        # An ensemble has the inner scores of its single net, and stands for it.
        bases = {candidates[name].base for name in results}
        names = [name for name in results if name not in bases]
        chosen = np.stack([results[name].inner for name in names]).argmax(axis=0)
        return {
            "chosen": [names[each] for each in chosen],
            "scores": {
                OURS: [results[names[each]].outer[k].item() for k, each in enumerate(chosen)],
                **{name: result.outer.tolist() for name, result in results.items()},
            },
            "model_seconds": {name: each.seconds for name, each in found.items()},
            "cpu_seconds": cpu_seconds,
            "left_out": {name: each.left_out for name, each in found.items() if each.left_out},
        }

    # Folds are padded to one shape: the first one compiles what all of them run.
    return Solver(lambda: searched(plan.parts), report, warm_up=lambda: searched(plan.parts[:1]))


def sklearn(problem: Arrays) -> Solver:
    """Return single models of scikit-learn, which report their accuracies by fold."""
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler
    from sklearn.svm import SVC

    numbers, codes, labels, plan = problem["numbers"], problem["codes"], problem["labels"], _plan(problem)
    inputs = np.concatenate([numbers, codes.astype(np.float32)], axis=1)
    encoded = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), [*range(numbers.shape[1])]),
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), [*range(numbers.shape[1], inputs.shape[1])]),
    )
    models = {
        "logistic regression": LogisticRegression(max_iter=1000),
        "nearest neighbours": KNeighborsClassifier(),
        "SVC": SVC(),
        "random forest": RandomForestClassifier(random_state=0, n_jobs=-1),
        "boosted trees": HistGradientBoostingClassifier(random_state=0),
        "MLP": MLPClassifier(max_iter=1000, random_state=0),
    }

    def held_out(model: Any, train: np.ndarray, test: np.ndarray) -> float:
        fitted = make_pipeline(encoded, model).fit(inputs[train], labels[train])
        return float(fitted.score(inputs[test], labels[test]))

    def scores() -> dict[str, list[float]]:
        folds = list(zip(plan.train, plan.outer, strict=True))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a training that ends early, a category that is new
            return {name: [held_out(model, *fold) for fold in folds] for name, model in models.items()}

    return Solver(scores, lambda found: {"scores": found}, warm_up=lambda: None)


SOLVERS: Mapping[str, Callable[[Arrays], Solver]] = {"mllab": mllab, "sklearn": sklearn}


def measure(run: frame.Context, settings: Settings) -> Mapping[str, Samples]:
    """Measure both on one table after another."""
    del run
    harness.require("sklearn")
    measured: dict[str, Samples] = {}
    for problem in problems(settings):
        measured |= harness.solve_in_turn("keel", [problem], SOLVERS, settings.repeats)
        means = means_of(measured[problem[0]])
        print("  ".join(f"{name} {100 * mean:.2f}%" for name, mean in means.items()), file=sys.stderr, flush=True)
    return measured


def report(run: frame.Context, settings: Settings, measured: Mapping[str, Samples]) -> Report:
    """Report accuracies, ranks, and the seconds of each search."""
    del run, settings
    return harness.report("keel", [accuracies(measured), ranks(measured), searches(measured)])


main, run = frame.program(Settings, measure, report)

if __name__ == "__main__":
    harness.start(main, **harness.solving(SOLVERS, all_cores=True))
