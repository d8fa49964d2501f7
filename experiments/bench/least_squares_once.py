r"""One solver's least squares on one file of rows.

python -m experiments.bench.least_squares_once --solver=mllab --data=rows.npz --report=report.json
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

Solve = Callable[[], np.ndarray]  # gives the weights [D]


def mllab(x: np.ndarray, y: np.ndarray) -> Solve:
    import jax.numpy as jnp

    from mllab.models import linear

    inputs, targets = jnp.asarray(x), jnp.asarray(y)
    return lambda: np.asarray(linear.fit(inputs, targets, method="cholesky_qr").w[:, 0])


def sklearn(x: np.ndarray, y: np.ndarray) -> Solve:
    from sklearn.linear_model import LinearRegression

    return lambda: LinearRegression().fit(x, y).coef_


def numpy(x: np.ndarray, y: np.ndarray) -> Solve:
    return lambda: np.linalg.lstsq(x - x.mean(0), y - y.mean(), rcond=None)[0]


SOLVERS: dict[str, Callable[[np.ndarray, np.ndarray], Solve]] = {"mllab": mllab, "sklearn": sklearn, "numpy": numpy}


def main() -> None:
    """Solve, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--solver", choices=SOLVERS, required=True)
    parser.add_argument(
        "--data", type=Path, required=True, help=".npz file of x [N, D], y [N] and the true weights [D]"
    )
    parser.add_argument("--calls", type=int, default=3, help="how often it is solved; the median counts")
    parser.add_argument("--report", type=Path, required=True, help="JSON file to write")
    args = parser.parse_args()
    with np.load(args.data) as file:
        x, y, truth = file["x"], file["y"], file["weights"]
    solve = SOLVERS[args.solver](x, y)
    weights = solve()  # compiles, or wakes the threads
    times = []
    for _ in range(args.calls):
        began = time.perf_counter()
        weights = solve()
        times.append(time.perf_counter() - began)
    error = float(np.linalg.norm(weights - truth) / np.linalg.norm(truth))
    args.report.write_text(json.dumps({"seconds": median(times), "error": error}))


if __name__ == "__main__":
    main()
