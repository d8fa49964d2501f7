r"""Least squares beside scikit-learn's LinearRegression and NumPy's lstsq: 1,000,000 rows of 32 columns, float32.

  python -m experiments.bench.least_squares

Condition numbers of 10 and 10,000, with the data in memory; imports and compilation are not timed. The error is the
relative error of the weights against lstsq of the same numbers in float64.
"""

from collections.abc import Callable, Iterator

import numpy as np

from experiments.bench import harness
from experiments.bench.harness import Arrays, Samples, Solver
from mllab.report.table import Table

ROWS, FEATURES = 1_000_000, 32
CONDITIONS = (10.0, 1e4)
CALLS = 3
TARGET = 10.0  # least ratio of LinearRegression's seconds to mllab's


def problems(settings: harness.Settings) -> Iterator[tuple[str, Arrays]]:
    """Yield a problem for each condition number."""
    del settings
    for condition in CONDITIONS:
        yield f"condition {condition:g}", problem(ROWS, condition)


def problem(rows: int, condition: float) -> Arrays:
    """Return inputs [N, D] with a mean of 3, targets [N], and the exact weights [D]."""
    rng = np.random.default_rng(0)
    rotation, _ = np.linalg.qr(rng.standard_normal((FEATURES, FEATURES)))
    x = rng.standard_normal((rows, FEATURES)) * np.geomspace(1, 1 / condition, FEATURES) @ rotation.T + 3
    x = x.astype(np.float32)
    y = (x @ rng.standard_normal(FEATURES) + 3 + 0.01 * rng.standard_normal(rows)).astype(np.float32)
    x64, y64 = x.astype(float), y.astype(float)
    weights = np.linalg.lstsq(x64 - x64.mean(0), y64 - y64.mean(), rcond=None)[0]
    return {"x": x, "y": y, "weights": weights}


def _solver(problem: Arrays, solve: Callable[[], np.ndarray]) -> Solver:
    """Return the solver whose `solve` returns weights [D]."""
    exact = problem["weights"]
    return Solver(solve, lambda w: {"error": float(np.linalg.norm(w - exact) / np.linalg.norm(exact))}, calls=CALLS)


def mllab(problem: Arrays) -> Solver:
    """Return mllab's shifted CholeskyQR2."""
    import jax.numpy as jnp

    from mllab.models import linear

    x, y = jnp.asarray(problem["x"]), jnp.asarray(problem["y"])
    return _solver(problem, lambda: np.asarray(linear.fit(x, y, method="cholesky_qr").w[:, 0]))


def sklearn(problem: Arrays) -> Solver:
    """Return scikit-learn's LinearRegression."""
    from sklearn.linear_model import LinearRegression

    return _solver(problem, lambda: LinearRegression().fit(problem["x"], problem["y"]).coef_)


def numpy(problem: Arrays) -> Solver:
    """Return NumPy's lstsq of the centred columns."""
    x, y = problem["x"], problem["y"]
    return _solver(problem, lambda: np.linalg.lstsq(x - x.mean(0), y - y.mean(), rcond=None)[0])


SOLVERS = {"mllab": mllab, "sklearn": sklearn, "numpy": numpy}


def table(name: str, samples: Samples) -> Table:
    """Return the table of one condition number."""
    error = {solver: harness.figure(each, "error") for solver, each in samples.items()}
    return harness.comparison(
        name,
        samples,
        {"sklearn": TARGET},
        {"error": lambda solver: f"{error[solver]:.1e}"},
        lambda solver: error["mllab"] <= error[solver],
    )


main, run = harness.solver_program("least_squares", harness.Settings, problems, SOLVERS, table)

if __name__ == "__main__":
    harness.start(main, **harness.solving(SOLVERS))
