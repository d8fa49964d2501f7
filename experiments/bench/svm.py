r"""Kernel support vector machines beside scikit-learn's, which are LIBSVM's.

  python -m experiments.bench.svm

Two classes of 10,000 images of Fashion-MNIST (classes 0 to 4 against 5 to 9; RBF kernel, gamma = `scale`) at C = 1 and
10; and grids of 5 C × 5 gamma × 5 folds, on 5,000 of these images and on all digits (45 pairs of classes), where
scikit-learn uses all cores. The data are in memory; imports and compilation are not timed.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from experiments.bench import harness
from experiments.bench.harness import Arrays, Samples, Solver
from mllab import validation
from mllab.data import catalog
from mllab.report.table import Table

FOLDS = 5
GRID_C = np.logspace(-1, 3, 5)
GRID_GAMMA = np.logspace(-1, 1, 5)  # in multiples of `scale`
OBJECTIVE_TOLERANCE = 1e-5  # relative difference of the dual objectives
ACCURACY_TOLERANCE = 0.002  # difference of a setting's held-out accuracy
LIBSVM_CACHE = 1000  # MB of kernel rows for each fit; the default of 200 is slower


class Case(NamedTuple):
    """A problem, and the least ratio of scikit-learn's seconds to mllab's."""

    dataset: str
    rows: int | None  # all by default
    c: np.ndarray  # several: a grid
    target: float


CASES: Mapping[str, Case] = {
    "10,000 images, C = 1": Case("fashion_mnist", 10_000, np.ones(1), 5.0),
    "10,000 images, C = 10": Case("fashion_mnist", 10_000, np.full(1, 10.0), 5.0),
    "5,000 images, grid": Case("fashion_mnist", 5_000, GRID_C, 8.0),
    "digits, grid": Case("digits", None, GRID_C, 1.0),
}


def problems(settings: harness.DataSettings) -> Iterator[tuple[str, Arrays]]:
    """Yield each case: inputs [N, D], labels [N], c [A], gamma [G], and held_out [K, N]; K = 0 for a single fit."""
    for name, case in CASES.items():
        data = catalog.load(case.dataset, data_dir=settings.data_dir)
        inputs = data.inputs[: case.rows].reshape(len(data.inputs[: case.rows]), -1)
        labels = data.targets[: case.rows]
        labels = labels >= 5 if case.dataset == "fashion_mnist" else labels
        scale, grid = 1 / (inputs.shape[1] * inputs.var(dtype=np.float64)), len(case.c) > 1
        yield (
            name,
            {
                "inputs": inputs,
                "labels": labels.astype(np.int32),
                "c": case.c,
                "gamma": scale * GRID_GAMMA if grid else np.array([scale]),
                "held_out": held_out_rows(labels) if grid else np.zeros((0, len(labels)), bool),
            },
        )


def held_out_rows(labels: np.ndarray) -> np.ndarray:
    """Return which rows each fold holds out, [K, N]."""
    folds = validation.folds(np.arange(len(labels)), FOLDS, 0, labels).held_out
    held_out = np.zeros((FOLDS, len(labels)), bool)
    for mask, ids, weight in zip(held_out, np.asarray(folds.ids), np.asarray(folds.weight), strict=True):
        mask[ids[weight > 0]] = True
    return held_out


def mllab(problem: Arrays) -> Solver:
    """Return mllab's fit, which reports the dual objective; or its grid, which reports accuracies [G, A, K]."""
    import jax
    import jax.numpy as jnp

    from mllab import devices, sweep
    from mllab.models import svm

    data = {name: jnp.asarray(array) for name, array in problem.items()}
    inputs, labels, held_out = data["inputs"], data["labels"], data["held_out"]
    classes = int(labels.max()) + 1
    if not len(held_out):

        def fit() -> Any:
            return jax.block_until_ready(svm.fit(inputs, labels, classes, c=data["c"][0], gamma=data["gamma"][0]))

        return Solver(fit, lambda fitted: {"objective": objective(problem, np.asarray(fitted.coefficients[0]))})
    spread = sweep.over_tasks(svm.solve_tasks, devices.mesh())

    def grid() -> jax.Array:
        scores = svm.grid(inputs, labels, classes, ~held_out, c=data["c"], gamma=data["gamma"], solve=spread)
        correct = jnp.argmax(scores, axis=-1) == labels[None, None, None]  # [G, A, K, N]
        return jax.block_until_ready(jnp.mean(correct, axis=-1, where=held_out[None, None]))

    return Solver(grid, lambda accuracy: {"accuracy": accuracy.tolist()})


def sklearn(problem: Arrays) -> Solver:
    """Return scikit-learn's fit or grid search; ties of votes are broken as in mllab."""
    from sklearn.model_selection import GridSearchCV
    from sklearn.svm import SVC

    inputs, labels, held_out = problem["inputs"], problem["labels"], problem["held_out"]
    if not len(held_out):

        def fit() -> SVC:
            return SVC(C=problem["c"][0], gamma=problem["gamma"][0], cache_size=LIBSVM_CACHE).fit(inputs, labels)

        def dual(fitted: SVC) -> dict[str, float]:
            coefficients = np.zeros(len(labels))
            coefficients[fitted.support_] = fitted.dual_coef_[0]
            return {"objective": objective(problem, coefficients)}

        return Solver(fit, dual, warm_up=lambda: None)
    folds = [(np.flatnonzero(~mask), np.flatnonzero(mask)) for mask in held_out]
    estimator = SVC(cache_size=LIBSVM_CACHE, break_ties=len(np.unique(labels)) > 2)
    settings = {"C": problem["c"], "gamma": problem["gamma"]}

    def search() -> GridSearchCV:
        return GridSearchCV(estimator, settings, cv=folds, n_jobs=-1, refit=False).fit(inputs, labels)

    def start_workers() -> None:
        few = np.concatenate([np.flatnonzero(labels == label)[:20] for label in np.unique(labels)])
        GridSearchCV(SVC(), {"C": [1.0, 2.0]}, cv=2, n_jobs=-1).fit(inputs[few], labels[few])

    def accuracies(searched: GridSearchCV) -> dict[str, Any]:
        by_fold = [searched.cv_results_[f"split{fold}_test_score"] for fold in range(len(folds))]
        by_setting = np.stack(by_fold, axis=-1).reshape(len(problem["c"]), len(problem["gamma"]), -1)  # [A, G, K]
        return {"accuracy": by_setting.swapaxes(0, 1).tolist()}

    return Solver(search, accuracies, warm_up=start_workers)


SOLVERS = {"mllab": mllab, "sklearn": sklearn}


def objective(problem: Arrays, coefficients: np.ndarray) -> float:
    """Return the dual objective of coefficients [N], alpha × sign, for the first gamma, in float64."""
    inputs, beta = problem["inputs"].astype(np.float64), coefficients.astype(np.float64)
    squares = np.sum(inputs**2, axis=1)
    distances = np.maximum(squares[:, None] + squares[None] - 2 * inputs @ inputs.T, 0)
    return float(np.abs(beta).sum() - beta @ np.exp(-problem["gamma"][0] * distances) @ beta / 2)


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Return the relative difference of the dual objectives; or the greatest difference of a setting's accuracy."""
    if "objective" in ours:
        return abs(ours["objective"] / theirs["objective"] - 1), None
    return None, float(np.abs(np.subtract(ours["accuracy"], theirs["accuracy"])).mean(axis=2).max())


def table(case: str, samples: Samples) -> Table:
    """Return the table of one case; results are compared with mllab's."""
    apart = {name: differences(samples["mllab"][0].report, each[0].report) for name, each in samples.items()}

    def cell(difference: float | None, form: str) -> str | None:
        return None if difference is None else format(difference, form)

    def agrees(name: str) -> bool:
        return (apart[name][0] or 0.0) <= OBJECTIVE_TOLERANCE and (apart[name][1] or 0.0) <= ACCURACY_TOLERANCE

    figures = {
        "objective off": lambda name: cell(apart[name][0], ".1e"),
        "accuracy off": lambda name: cell(apart[name][1], ".2%"),
    }
    return harness.comparison(case, samples, {"sklearn": CASES[case].target}, figures, agrees)


main, run = harness.solver_program("svm", harness.DataSettings, problems, SOLVERS, table)

if __name__ == "__main__":
    harness.start(main, **harness.solving(SOLVERS, all_cores=True))
