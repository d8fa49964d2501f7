r"""Nearest neighbours beside scikit-learn, faiss and two loops in NumPy.

  python -m experiments.bench.neighbors

5,000 training rows, 500 queries and 3,072 features (random); and MNIST (60,000 × 10,000 × 784). Then the votes for
every k from 1 to 100 on 5 folds of the first problem, against one k. The data are in memory; imports and compilation
are not timed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from experiments import frame
from experiments.bench import harness
from experiments.bench.harness import Arrays, Samples, Solver
from mllab.data import catalog
from mllab.report.report import Report
from mllab.report.table import Table

CLASSES = 10
FOLDS = 5
GRID_K = 100  # the greatest k of the grid
GRID_RATIO = 3.0  # greatest ratio of the grid's seconds to those of one k
LOOP_QUERIES = 10  # of the two loops, whose seconds are extrapolated to all queries
DISTANCE_TOLERANCE = 1e-4  # relative; below a distance of 1, absolute


class Case(NamedTuple):
    """A problem, and the least ratio of each peer's seconds to mllab's."""

    neighbours: int
    calls: int
    targets: Mapping[str, float]


CASES = {
    "5,000 × 500 × 3,072": Case(10, 3, {"sklearn": 2.0, "faiss": 1.0, "loops": 150.0}),
    "60,000 × 10,000 × 784": Case(5, 1, {"sklearn": 1.7, "faiss": 1.0}),
}


@dataclass(frozen=True, kw_only=True)
class Settings(harness.DataSettings):
    """What to measure."""


def measure(run: frame.Context, settings: Settings) -> dict[str, Samples]:
    """Measure all libraries on both problems, and the grid."""
    del run
    harness.require("sklearn")
    measured: dict[str, Samples] = {}
    for name, problem in problems(settings.data_dir):
        # faiss is optional, since few have it installed.
        solvers = ["mllab", *(peer for peer in CASES[name].targets if peer != "faiss" or find_spec("faiss"))]
        measured |= harness.solve_in_turn("neighbors", [(name, problem)], solvers, settings.repeats)
        if not any(each.startswith("k = ") for each in measured):  # the first problem
            grids = [(f"k = 1 to {most}", {**problem, "most": np.array(most)}) for most in (1, GRID_K)]
            measured |= harness.solve_in_turn("neighbors", grids, ["votes"], settings.repeats)
    return measured


def report(run: frame.Context, settings: Settings, measured: dict[str, Samples]) -> Report:
    """Report a table a problem, and one of the grid."""
    del run, settings
    tables = [table(name, measured[name]) for name in CASES]
    return harness.report("Nearest neighbours", [*tables, grid_table(measured)])


def problems(data_dir: str | None) -> Iterator[tuple[str, Arrays]]:
    """Yield each problem: train [N, D], labels [N], queries [M, D], and the numbers of neighbours and of calls."""
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {
        "train": rng.random((5000, 3072), np.float32),
        "labels": rng.integers(0, CLASSES, 5000),
        "queries": rng.random((500, 3072), np.float32),
    }
    lecture, images = CASES.items()
    yield lecture[0], arrays | _options(lecture[1])
    mnist = catalog.load("mnist", data_dir=data_dir)
    inputs, train = mnist.inputs.reshape(len(mnist.inputs), -1), np.union1d(mnist.split.train, mnist.split.validation)
    arrays = {"train": inputs[train], "labels": mnist.targets[train], "queries": inputs[mnist.split.test]}
    yield images[0], arrays | _options(images[1])


def _options(case: Case) -> dict[str, np.ndarray]:
    return {"count": np.array(case.neighbours), "calls": np.array(case.calls)}


def mllab(problem: Arrays) -> Solver:
    """Return mllab's search."""
    import jax
    import jax.numpy as jnp

    from mllab.models import neighbors

    train, queries, count = jnp.asarray(problem["train"]), jnp.asarray(problem["queries"]), int(problem["count"])
    return Solver(
        lambda: jax.block_until_ready(neighbors.nearest(train, queries, count)),
        lambda nearest: {"distances": nearest.distances.tolist(), "ids": nearest.ids.tolist()},
        calls=int(problem["calls"]),
    )


def votes(problem: Arrays) -> Solver:
    """Return mllab's log-probabilities [most, K, M, C] on held-out rows for k = 1 to `most` on every fold."""
    import jax
    import jax.numpy as jnp

    from mllab import learners, validation

    most = int(problem["most"])
    folds = validation.folds(np.arange(len(problem["train"])), FOLDS, seed=0)
    learner = learners.nearest_neighbors(int(problem["labels"].max()) + 1, most)
    examples = {"inputs": jnp.asarray(problem["train"]), "targets": jnp.asarray(problem["labels"])}
    axes, grid = {"k": jnp.arange(1, most + 1)}, learner.grid
    assert grid is not None

    def solve() -> Any:
        return jax.block_until_ready(grid(axes, jax.random.key(0), examples, folds.train, folds.held_out))

    return Solver(solve, lambda outputs: {"shape": list(outputs.shape)}, calls=int(problem["calls"]))


def sklearn(problem: Arrays) -> Solver:
    """Return scikit-learn's search by brute force."""
    from sklearn.neighbors import NearestNeighbors

    def search(train: np.ndarray, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        return NearestNeighbors(n_neighbors=count, algorithm="brute").fit(train).kneighbors(queries)

    return _peer(problem, search)


def faiss(problem: Arrays) -> Solver:
    """Return faiss's search by brute force."""
    from faiss import IndexFlatL2

    def search(train: np.ndarray, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        index = IndexFlatL2(train.shape[1])
        index.add(train)
        squares, ids = index.search(queries, count)
        return np.sqrt(squares), ids

    return _peer(problem, search)


def loops(problem: Arrays) -> Solver:
    """Return a search by two loops in NumPy, for the first `LOOP_QUERIES` queries."""
    from experiments.distance_demo import two_loops

    def search(train: np.ndarray, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        distances = two_loops(train, queries)
        ids = np.argsort(distances, axis=1)[:, :count]
        return np.take_along_axis(distances, ids, axis=1), ids

    few = {**problem, "queries": problem["queries"][:LOOP_QUERIES]}
    return _peer(few, search)._replace(share=len(few["queries"]) / len(problem["queries"]))


def _peer(problem: Arrays, search: Any) -> Solver:
    train, queries, count = problem["train"], problem["queries"], int(problem["count"])
    return Solver(
        lambda: search(train, queries, count),
        lambda nearest: {"distances": nearest[0].tolist(), "ids": nearest[1].tolist()},
        warm_up=lambda: search(train[:100], queries[:100], min(count, 100)),
        calls=int(problem["calls"]),
    )


SOLVERS = {"mllab": mllab, "votes": votes, "sklearn": sklearn, "faiss": faiss, "loops": loops}


def agreement(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> float:
    """Return the share of neighbours that are equally distant in both results."""
    peers = np.asarray(theirs["distances"])
    apart = np.abs(np.asarray(ours["distances"])[: len(peers)] - peers)
    return float(np.mean(apart <= DISTANCE_TOLERANCE * np.maximum(peers, 1)))


def table(case: str, samples: Samples) -> Table:
    """Return the table of one problem."""
    ours = samples["mllab"][0].report
    same = {name: f"{100 * agreement(ours, each[0].report):.3f}" for name, each in samples.items()}
    return harness.comparison(
        case, samples, CASES[case].targets, {"neighbours as mllab's %": lambda name: same[name]}, lambda name: True
    )


def grid_table(measured: Mapping[str, Samples]) -> Table:
    """Return the table of the grid: the seconds of every k against those of one."""
    one, every = (harness.figure(measured[f"k = 1 to {most}"]["votes"], "seconds") for most in (1, GRID_K))
    ratio = every / one
    row = [f"{one:.2f}", f"{every:.2f}", f"{ratio:.2f}", GRID_RATIO, harness.verdict(ratio < GRID_RATIO)]
    return Table(["k = 1 s", f"k = 1 to {GRID_K} s", "×", "target", "met"], [row])


main, run = frame.program(Settings, measure, report)

if __name__ == "__main__":
    harness.start(main, **harness.solving(SOLVERS))
