r"""mllab's k-means of one file of points from given starts, once compiled, on as many CPU devices as cores.

  python -m experiments.bench.kmeans_once --data=points.npz --report=report.json

The file holds points [N, D] and starts [S, K, D].
"""

import argparse
import functools
import json
import time
from pathlib import Path
from statistics import median

import jax
import jax.numpy as jnp
import numpy as np

from mllab import devices, sweep
from mllab.models import kmeans


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help=".npz file of points and starts")
    parser.add_argument("--steps", type=int, default=300, help="the most of Lloyd's steps")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="on the moves of the centres")
    parser.add_argument("--calls", type=int, default=1, help="how often the fit is repeated; its median counts")
    parser.add_argument("--report", type=Path, required=True, help="JSON file to write")
    args = parser.parse_args()
    devices.use_cores()
    devices.cache_compilations()
    with np.load(args.data) as file:
        points, starts = jnp.asarray(file["points"]), jnp.asarray(file["starts"])
    settings = {"count": starts.shape[1], "steps": args.steps, "tolerance": args.tolerance}
    fit = sweep.over_points(functools.partial(kmeans.fit, **settings), devices.mesh(), kmeans.POINT_AXES)
    times = []
    for _ in range(args.calls + 1):
        began = time.perf_counter()
        found = fit(points, key=jax.random.key(0), start=starts)
        jax.block_until_ready(found)
        times.append(time.perf_counter() - began)
    figures = {"inertia": float(found.inertia), "steps": int(found.steps[jnp.argmin(found.inertias)])}
    args.report.write_text(json.dumps({"first_seconds": times[0], "seconds": median(times[1:]), **figures}))


if __name__ == "__main__":
    main()
