r"""The peer: scikit-learn's k-means by Lloyd's steps, from the same starts.

python -m experiments.bench.kmeans_peers --data=points.npz --report=report.json
"""

import argparse
import json
import time
import warnings
from pathlib import Path
from statistics import median

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning


def main() -> None:
    """Fit from each start, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help=".npz file of points [N, D] and starts [S, K, D]")
    parser.add_argument("--steps", type=int, default=300, help="the most of Lloyd's steps")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="on the moves of the centres")
    parser.add_argument("--calls", type=int, default=1, help="how often the fit is repeated; its median counts")
    parser.add_argument("--report", type=Path, required=True, help="JSON file to write")
    args = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    with np.load(args.data) as file:
        points, starts = file["points"], file["starts"]
    starts = centred(starts, points)
    KMeans(3, n_init=1, max_iter=2).fit(points[:1000])  # imports and threads are there before the clock starts
    times = []
    for _ in range(args.calls):
        began = time.perf_counter()
        found = fit(points, starts, args.steps, args.tolerance)
        times.append(time.perf_counter() - began)
    figures = {"inertia": float(found.inertia_), "steps": found.n_iter_}
    args.report.write_text(json.dumps({"seconds": median(times), **figures}))


def centred(starts: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return starts [S, K, D] less the mean of the points, as scikit-learn takes them from a function."""
    return starts - points.mean(axis=0)


def fit(points: np.ndarray, starts: np.ndarray, steps: int, tolerance: float) -> KMeans:
    """Return the best of scikit-learn's restarts from centred starts; `n_iter_` is that of this one alone."""
    given = iter(starts)
    return KMeans(
        starts.shape[1],
        init=lambda points, count, random_state: next(given),
        n_init=len(starts),
        max_iter=steps,
        tol=tolerance,
        algorithm="lloyd",
    ).fit(points)


if __name__ == "__main__":
    main()
