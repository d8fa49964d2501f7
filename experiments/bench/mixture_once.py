r"""mllab's EM on one file of points, once compiled.

  python -m experiments.bench.mixture_once --data=points.npz --steps=20 --report=report.json

The file holds points [N, D] and means [K, D]; shares start equal, covariances as the identity.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import median

import jax
import jax.numpy as jnp
import numpy as np

from mllab.models import mixture


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help=".npz file of points and means")
    parser.add_argument("--steps", type=int, default=20, help="iterations of EM")
    parser.add_argument("--calls", type=int, default=3, help="how often EM is repeated; its median counts")
    parser.add_argument("--report", type=Path, required=True, help="JSON file to write")
    args = parser.parse_args()
    with np.load(args.data) as file:
        points, means = jnp.asarray(file["points"]), jnp.asarray(file["means"], jnp.float32)
    count, features = means.shape
    identity = jnp.broadcast_to(jnp.eye(features), (count, features, features))
    start = mixture.Mixture(jnp.full(count, -jnp.log(count)), means, identity, "full")
    times = []
    for _ in range(args.calls + 1):
        began = time.perf_counter()
        found = jax.block_until_ready(mixture.em(start, points, steps=args.steps, tolerance=-jnp.inf))
        times.append(time.perf_counter() - began)
    likelihood = float(mixture.score(found.params, points))
    report = {"first_seconds": times[0], "seconds": median(times[1:]), "log_likelihood": likelihood}
    args.report.write_text(json.dumps(report))


if __name__ == "__main__":
    main()
