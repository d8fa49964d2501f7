r"""Nested cross-validation of a pool of models beside scikit-learn's nested GridSearchCV.

  python -m experiments.bench.selection
  python -m experiments.bench.selection --cases=digits

Ridge or softmax regression, nearest neighbours, an RBF support vector machine and an MLP, with the same settings, five
outer and three inner folds; inputs are standardised inside each fold. scikit-learn uses all cores, and
computes one of the five outer folds, from which its seconds are extrapolated. mllab compiles within its time.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from experiments import frame
from experiments.bench import harness
from experiments.bench.harness import Arrays, Samples, Solver
from mllab.data import catalog
from mllab.report.table import Table

OUTER, INNER, EPOCHS, BATCH, HIDDEN = 5, 3, 20, 128, 64
PENALTIES, NEIGHBOURS = [0.1, 1.0, 10.0, 100.0], [1, 5, 15]
COSTS, GAMMAS = [1.0, 10.0], [0.3, 1.0]  # gamma in multiples of 1 / D
RATES, DECAYS = [0.003, 0.01], [1e-4, 1e-2]
SPEED_UP = 5.0  # target


class Case(NamedTuple):
    """A data set, or a generator of scikit-learn, and how many rows."""

    dataset: str
    rows: int | None = None


GENERATED = "make_classification", "make_friedman1"
CASES: Mapping[str, Case] = {
    "digits": Case("digits"),
    "classes": Case("make_classification", 10_000),
    "friedman": Case("make_friedman1", 5_000),
    "california_housing": Case("california_housing"),
    "fashion_mnist": Case("fashion_mnist", 10_000),
}


@dataclass(frozen=True, kw_only=True)
class Settings(harness.DataSettings):
    """What to measure."""

    repeats: int = harness.Settings.with_default("repeats", 3)
    cases: tuple[str, ...] = frame.choices(CASES, ["digits"], help="Data sets, separated by commas.", kind="data set")


def problems(settings: Settings) -> Iterator[tuple[str, Arrays]]:
    """Yield inputs [N, D], targets [N], the number of classes, and each model's name."""
    for name in settings.cases:
        if CASES[name].dataset in GENERATED:
            yield name, generated(*CASES[name])
            continue
        data = catalog.load(CASES[name].dataset, data_dir=settings.data_dir)
        rows = slice(CASES[name].rows)
        inputs = data.inputs[rows].reshape(len(data.inputs[rows]), -1)
        yield name, {"inputs": inputs, "targets": data.targets[rows], "classes": np.array(len(data.classes))}


def generated(kind: str, rows: int | None) -> Arrays:
    """Return a problem that scikit-learn generates."""
    from sklearn import datasets

    if kind == "make_classification":
        inputs, targets = datasets.make_classification(rows, 20, n_informative=10, random_state=0)
        return {"inputs": inputs.astype(np.float32), "targets": targets.astype(np.int32), "classes": np.array(2)}
    inputs, targets = datasets.make_friedman1(rows, noise=1.0, random_state=0)
    standardised = (targets - targets.mean()) / targets.std()
    return {"inputs": inputs.astype(np.float32), "targets": standardised.astype(np.float32), "classes": np.array(0)}


def mllab(problem: Arrays) -> Solver:
    """Return mllab's search, which reports the held-out scores by model."""
    import jax

    from mllab import criteria, devices, learners
    from mllab.models.preprocessing import Columns, Layout
    from mllab.nested import Variant, nested
    from mllab.validation import Axes, Learner

    inputs, targets, classes = problem["inputs"], problem["targets"], int(problem["classes"]) or None
    layout = Layout(inputs.shape[1])
    examples = {"inputs": Columns(inputs, np.zeros((len(inputs), 0), np.int32)), "targets": targets}
    criterion = criteria.named(None, "classification" if classes else "regression")
    mesh, plan = devices.mesh(), folds_of(problem)
    gamma = np.array(GAMMAS) / inputs.shape[1]
    epsilon = {} if classes else {"epsilon": [0.1]}
    net = learners.mlp(classes, hidden=(HIDDEN, HIDDEN), epochs=EPOCHS, batch_size=BATCH, mesh=mesh)
    machine = (
        learners.svm(classes, mesh=mesh, calibrated=False) if classes else learners.support_vector_regression(mesh=mesh)
    )
    pool: dict[str, tuple[Learner, Axes]] = {
        "linear": (learners.softmax_regression(classes) if classes else learners.ridge(), {"l2": PENALTIES[::-1]}),
        "knn": (learners.nearest_neighbors(classes, max(NEIGHBOURS)), {"k": NEIGHBOURS}),
        "svm": (machine, {"c": COSTS, "gamma": gamma, **epsilon}),
        "mlp": (net, {"learning_rate": RATES, "weight_decay": DECAYS}),
    }

    def search() -> dict[str, Any]:
        scores = {}
        for name, (learner, axes) in pool.items():
            variant = Variant(learners.preprocessed(learner, layout), axes)
            result = nested([variant], jax.random.key(0), examples, plan, criterion.score())
            scores[name] = criterion.shown(result.outer).tolist()
        return scores

    return Solver(search, lambda scores: {"scores": scores}, warm_up=lambda: None)


def folds_of(problem: Arrays) -> Any:
    """Return the plan of the folds, the same for both."""
    from mllab.nested import plan_folds
    from mllab.schemes import Scheme

    targets = problem["targets"]
    scheme = Scheme(0, targets if int(problem["classes"]) else None)
    return plan_folds(scheme.folds(np.arange(len(targets)), OUTER), lambda ids: scheme.folds(ids, INNER))


def sklearn(problem: Arrays) -> Solver:
    """Return scikit-learn's search of the first outer fold."""
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.model_selection import GridSearchCV
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC, SVR

    inputs, targets, classes = problem["inputs"], problem["targets"], int(problem["classes"])
    part = folds_of(problem).parts[0]
    sides = [[np.asarray(rows.ids[i])[np.asarray(rows.weight[i]) > 0] for i in range(INNER + 1)] for rows in part]
    train, test = sides[0][-1], sides[1][-1]
    place = np.full(len(targets), -1)
    place[train] = np.arange(len(train))
    inner = [(place[one], place[other]) for one, other in zip(sides[0][:-1], sides[1][:-1], strict=True)]
    gamma = np.array(GAMMAS) / inputs.shape[1]
    net = MLPClassifier if classes else MLPRegressor
    never = {"max_iter": EPOCHS, "tol": 0.0, "n_iter_no_change": 10**6}
    linear: tuple[Any, Mapping[str, Any]] = (Ridge(), {"ridge__alpha": PENALTIES})
    if classes:
        linear = LogisticRegression(max_iter=1000), {"logisticregression__C": 1 / np.array(PENALTIES)}
    machine = SVC() if classes else SVR(epsilon=0.1)
    neighbours = KNeighborsClassifier() if classes else KNeighborsRegressor()
    mlp = net((HIDDEN, HIDDEN), batch_size=BATCH, random_state=0, **never)

    def named(estimator: Any, grid: Mapping[str, Any]) -> dict[str, Any]:
        return {f"{type(estimator).__name__.lower()}__{name}": values for name, values in grid.items()}

    pool = {
        "linear": linear,
        "knn": (neighbours, named(neighbours, {"n_neighbors": NEIGHBOURS})),
        "svm": (machine, named(machine, {"C": COSTS, "gamma": gamma})),
        "mlp": (mlp, named(mlp, {"learning_rate_init": RATES, "alpha": DECAYS})),
    }
    scoring = "accuracy" if classes else "neg_root_mean_squared_error"

    def search() -> dict[str, Any]:
        scores = {}
        for name, (estimator, grid) in pool.items():
            pipeline = make_pipeline(StandardScaler(), estimator)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the nets stop after their epochs
                found = GridSearchCV(pipeline, grid, cv=inner, n_jobs=-1, scoring=scoring)
                found.fit(inputs[train], targets[train])
                scores[name] = [abs(float(found.score(inputs[test], targets[test])))]
        return scores

    return Solver(search, lambda scores: {"scores": scores}, warm_up=lambda: None, share=1 / OUTER)


SOLVERS: Mapping[str, Callable[[Arrays], Solver]] = {"mllab": mllab, "sklearn": sklearn}


def table(case: str, samples: Samples) -> Table:
    """Return the table of one data set: seconds, and the scores of the first outer fold by model."""
    scores = {name: each[0].report["scores"] for name, each in samples.items()}
    figures = {
        model: (lambda name, model=model: f"{scores[name][model][0]:.4f}") for model in scores["mllab"]
    }  # fmt: skip
    spread = {model: 2.5 * float(np.std(values, ddof=1)) for model, values in scores["mllab"].items()}

    def agrees(name: str) -> bool:
        return all(abs(scores[name][m][0] - scores["mllab"][m][0]) <= max(spread[m], 1e-3) for m in spread)

    return harness.comparison(case, samples, {"sklearn": SPEED_UP}, figures, agrees)


main, run = harness.solver_program("selection", Settings, problems, SOLVERS, table)

if __name__ == "__main__":
    harness.start(main, **harness.solving(SOLVERS, all_cores=True))
