r"""mllab's nearest neighbours of one file of points, once compiled; and votes for every k on every fold of it.

  python -m experiments.bench.neighbors_once --data=points.npz --count=10 --report=report.json

The file holds train [N, D], labels [N] and queries [M, D].
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mllab import learners, validation
from mllab.models import neighbors

FOLDS = 5


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help=".npz file of the points")
    parser.add_argument("--count", type=int, default=10, help="how many neighbours")
    parser.add_argument("--calls", type=int, default=3, help="how often the search is repeated; its median counts")
    parser.add_argument("--grid", type=int, help=f"instead: the votes for k of 1 to this, on {FOLDS} folds")
    parser.add_argument("--neighbors", type=Path, help=".npz file to write the distances and ids to")
    parser.add_argument("--report", type=Path, required=True, help="JSON file to write")
    args = parser.parse_args()
    with np.load(args.data) as file:
        data = {name: jnp.asarray(file[name]) for name in file.files}
    call: Callable[[], Any]
    call = (
        votes(data, args.grid) if args.grid else partial(neighbors.nearest, data["train"], data["queries"], args.count)
    )
    first, later = seconds(call, args.calls)
    if args.neighbors:
        found = call()
        np.savez(args.neighbors, distances=found.distances, ids=found.ids)
    args.report.write_text(json.dumps({"first_seconds": first, "seconds": later}))


def votes(data: dict[str, jax.Array], most: int) -> Callable[[], Any]:
    """Return the call that gives log-probabilities [most, K, M, C] for k of 1 to `most` on every fold."""
    rows = np.arange(len(data["train"]))
    folds = validation.folds(rows, FOLDS, seed=0)
    learner = learners.nearest_neighbors(int(data["labels"].max()) + 1, most)
    assert learner.grid is not None
    grid = jax.jit(learner.grid)
    examples = {"inputs": data["train"], "targets": data["labels"]}
    hyper = {"k": jnp.arange(1, most + 1)}
    return lambda: grid(hyper, jax.random.key(0), examples, folds.train, folds.held_out)


def seconds(call: Callable[[], Any], calls: int) -> tuple[float, float]:
    """Return the wall seconds of the first call, which compiles, and the median of `calls` more."""
    times = []
    for _ in range(calls + 1):
        began = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - began)
    return times[0], median(times[1:])


if __name__ == "__main__":
    main()
