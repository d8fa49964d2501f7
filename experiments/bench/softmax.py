r"""Softmax regression beside scikit-learn, on the 60,000 training images of Fashion-MNIST, 784 pixels each.

  python -m experiments.bench.softmax

Both minimise the sum of cross entropies plus half the squared weights (C = 1). scikit-learn takes its default of 100
iterations of L-BFGS, and mllab must reach an objective as low. The data are in memory; imports and compilation are not
timed.
"""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from experiments.bench import harness
from experiments.bench.harness import Arrays, Samples, Solver
from mllab.data import catalog
from mllab.report.table import Table

TARGET = 2.0  # least ratio of scikit-learn's seconds to mllab's
TOLERANCE = 1e-3  # of mllab's gradient: lower than scikit-learn reaches in 100 iterations


def problems(settings: harness.DataSettings) -> Iterator[tuple[str, Arrays]]:
    """Yield the one problem: inputs [N, D] and labels [N]."""
    fashion = catalog.load("fashion_mnist", data_dir=settings.data_dir)
    train = np.concatenate([fashion.split.train, fashion.split.validation])
    inputs, labels = fashion.inputs[train].reshape(len(train), -1), fashion.targets[train]
    yield "Fashion-MNIST", {"inputs": inputs, "labels": labels}


def mllab(problem: Arrays) -> Solver:
    """Return mllab's softmax regression."""
    import jax
    import jax.numpy as jnp

    from mllab.models import softmax

    inputs, labels = jnp.asarray(problem["inputs"]), jnp.asarray(problem["labels"])
    classes = int(labels.max()) + 1

    def solve() -> Any:
        return jax.block_until_ready(softmax.fit(inputs, labels, classes, l2=1.0, tolerance=TOLERANCE))

    def figures(fitted: Any) -> dict[str, float]:
        return {"objective": objective(np.asarray(fitted.params.w), np.asarray(fitted.params.b), problem)}

    return Solver(solve, figures)


def sklearn(problem: Arrays) -> Solver:
    """Return scikit-learn's logistic regression."""
    from sklearn.linear_model import LogisticRegression

    def fit(rows: slice) -> LogisticRegression:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its default number of iterations is below its tolerance
            return LogisticRegression(C=1.0).fit(problem["inputs"][rows], problem["labels"][rows])

    return Solver(
        lambda: fit(slice(None)),
        lambda fitted: {"objective": objective(fitted.coef_.T, fitted.intercept_, problem)},
        warm_up=lambda: fit(slice(500)),
    )


SOLVERS = {"mllab": mllab, "sklearn": sklearn}


def objective(w: np.ndarray, b: np.ndarray, problem: Arrays) -> float:
    """Return the objective per row of weights [D, C] and biases [C], in float64."""
    labels = problem["labels"]
    logits = problem["inputs"] @ w.astype(float) + b
    top = logits.max(1)
    losses = np.log(np.exp(logits - top[:, None]).sum(1)) + top - logits[np.arange(len(labels)), labels]
    return float(losses.mean() + (w.astype(float) ** 2).sum() / 2 / len(labels))


def table(name: str, samples: Samples) -> Table:
    """Return the table of the samples."""
    lowest = {solver: harness.figure(each, "objective") for solver, each in samples.items()}
    return harness.comparison(
        name,
        samples,
        {"sklearn": TARGET},
        {"objective a row": lambda solver: f"{lowest[solver]:.5f}"},
        lambda solver: lowest["mllab"] <= lowest[solver],
    )


main, run = harness.solver_program("softmax", harness.DataSettings, problems, SOLVERS, table)

if __name__ == "__main__":
    harness.start(main, **harness.solving(SOLVERS))
