r"""Peer: scikit-learn's GaussianMixture.

python -m experiments.bench.mixture_peers --data=points.npz --steps=20 --report=report.json
"""

import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np


def main() -> None:
    """Fit, and write the report."""
    from sklearn.mixture import GaussianMixture

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help=".npz file of points [N, D] and means [K, D]")
    parser.add_argument("--steps", type=int, default=20, help="iterations of EM")
    parser.add_argument("--report", type=Path, required=True, help="JSON file to write")
    args = parser.parse_args()
    with np.load(args.data) as file:
        points, means = file["points"], file["means"].astype(np.float32)
    count, features = means.shape
    estimator = GaussianMixture(
        count,
        tol=0,
        max_iter=args.steps,
        weights_init=np.full(count, 1 / count),
        means_init=means,
        precisions_init=np.tile(np.eye(features, dtype=np.float32), (count, 1, 1)),
    )
    warnings.simplefilter("ignore")  # it is stopped before it converges
    began = time.perf_counter()
    estimator.fit(points)
    seconds = time.perf_counter() - began
    args.report.write_text(json.dumps({"seconds": seconds, "log_likelihood": float(estimator.score(points))}))


if __name__ == "__main__":
    main()
