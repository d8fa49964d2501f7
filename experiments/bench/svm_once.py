r"""mllab's support vector machine of one file of rows, once compiled; or a whole grid of them.

  python -m experiments.bench.svm_once --data=rows.npz --found=found.npz --report=report.json

The file holds inputs [N, D], labels [N], c [A], gamma [G], and held_out [K, N], K = 0 for one fit of all rows.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import median

import jax
import jax.numpy as jnp
import numpy as np

from mllab import devices, sweep
from mllab.models import svm


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help=".npz file of the rows")
    parser.add_argument("--calls", type=int, default=1, help="how often it is repeated; the median counts")
    parser.add_argument("--found", type=Path, required=True, help=".npz file to write what was found to")
    parser.add_argument("--report", type=Path, required=True, help="JSON file to write")
    args = parser.parse_args()
    devices.use_cores()
    with np.load(args.data) as file:
        data = {name: jnp.asarray(file[name]) for name in file.files}
    times = []
    for _ in range(args.calls + 1):
        began = time.perf_counter()
        found = jax.block_until_ready(solved(data))
        times.append(time.perf_counter() - began)
    np.savez(args.found, allow_pickle=False, **found)
    args.report.write_text(json.dumps({"first_seconds": times[0], "seconds": median(times[1:])}))


def solved(data: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Return coefficients [N] of one fit, or the accuracy [G, A, K] of a grid on held-out rows."""
    inputs, labels = data["inputs"], data["labels"]
    classes = int(labels.max()) + 1
    if not len(data["held_out"]):
        return {
            "coefficients": svm.fit(inputs, labels, classes, c=data["c"][0], gamma=data["gamma"][0]).coefficients[0]
        }
    solve = sweep.over_tasks(svm.solve_tasks, devices.mesh())
    scores = svm.grid(inputs, labels, classes, ~data["held_out"], c=data["c"], gamma=data["gamma"], solve=solve)
    right = jnp.argmax(scores, axis=-1) == labels[None, None, None]  # [G, A, K, N]
    return {"accuracy": jnp.mean(right, axis=-1, where=data["held_out"][None, None])}


if __name__ == "__main__":
    main()
