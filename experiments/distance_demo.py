"""The lecture's demonstration of vectorization: one search for neighbours by two loops, by one, and by none.

The lecture has 5,000 training rows and 500 queries of 3,072 features (images of 32 × 32 pixels in three colours), and
claims 50 s for two loops and 0.5 s for none. The points are random here: the time does not depend on them.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import median

import jax.numpy as jnp
import numpy as np

from mllab import memory
from mllab.errors import UserError
from mllab.models import neighbors
from mllab.report.console import Progress
from mllab.report.table import Table, listed, significant

FEATURES = 3072
NEIGHBORS = 10
QUERY_SHARE = 10  # training rows a query
MIN_ROWS = 100
REPEATS = 3  # of the methods that take well under a second; the median counts
ROUNDING = 1e-6  # rows whose distances differ by less, relatively, are equally near


def two_loops(train: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Return the distances [M, N], computed one by one."""
    distances = np.empty((len(queries), len(train)), train.dtype)
    for i in range(len(queries)):
        for j in range(len(train)):
            distances[i, j] = np.sqrt(np.sum((queries[i] - train[j]) ** 2))
    return distances


def one_loop(train: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Return the distances [M, N], computed query by query."""
    return np.array([np.sqrt(np.sum((train - query) ** 2, axis=1)) for query in queries])


def no_loop(train: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Return the distances [M, N], computed from one matrix product."""
    norms = np.sum(queries**2, axis=1)[:, None] + np.sum(train**2, axis=1)[None]
    return np.sqrt(np.maximum(norms - 2 * queries @ train.T, 0))


def nearest(distances: Callable[[np.ndarray, np.ndarray], np.ndarray], train: np.ndarray, queries: np.ndarray):
    """Return the ids [M, NEIGHBORS] of the nearest rows, nearest first."""
    matrix = distances(train, queries)
    ids = np.argpartition(matrix, NEIGHBORS, axis=1)[:, :NEIGHBORS]
    return np.take_along_axis(ids, np.argsort(np.take_along_axis(matrix, ids, axis=1), axis=1), axis=1)


def by_jax(train: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Return the ids of the nearest rows by mllab."""
    return np.asarray(neighbors.nearest(jnp.asarray(train), jnp.asarray(queries), NEIGHBORS).ids)


def by_sklearn(train: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Return the ids of the nearest rows by scikit-learn, by brute force too."""
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=NEIGHBORS, algorithm="brute").fit(train)
    return search.kneighbors(queries, return_distance=False)


Search = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (train [N, D], queries [M, D]) -> ids [M, NEIGHBORS]
METHODS: Mapping[str, tuple[Search, int | None]] = {  # and the number of queries that it gets; None: all
    "two loops (NumPy)": (partial(nearest, two_loops), 5),
    "one loop (NumPy)": (partial(nearest, one_loop), 20),
    "no loop (NumPy)": (partial(nearest, no_loop), None),
    "scikit-learn": (by_sklearn, None),
    "mllab (JAX)": (by_jax, None),
}
REFERENCE = "scikit-learn"  # whose neighbours the others are compared with


@dataclass(frozen=True)
class Timing:
    """The time of one method."""

    way: str
    asked: int  # queries that it got
    seconds: float  # of all queries
    reckoned: bool  # whether that was extrapolated from fewer queries
    places: int  # neighbours that it found
    same: int  # of these, equal to the REFERENCE's, or equally near to within rounding


@dataclass(frozen=True)
class Demonstration:
    """The times of all methods on one problem."""

    rows: int
    queries: int
    features: int
    neighbors: int
    ways: list[Timing]


def check(rows: int) -> None:
    """Raise UserError for too few training rows, or too many for the memory; 0 leaves the demonstration out."""
    if rows and rows < MIN_ROWS:
        raise UserError(f"--loops={rows}: give {MIN_ROWS} training rows or more, or 0 to leave the demonstration out")
    # The training rows, their differences to a query, and the distances of all queries.
    needed = 4 * rows * (2 * FEATURES + rows // QUERY_SHARE)
    memory.check(needed, f"the points and distances of --loops={rows}", "lower --loops, or 0 to leave it out")


def demonstrate(rows: int, progress: Progress) -> Demonstration:
    """Search `rows` training rows by every method, with a query for every QUERY_SHARE of them; return the times."""
    progress.task("loops", total=len(METHODS))
    draw = np.random.default_rng(0)
    train, queries = (draw.random((count, FEATURES), np.float32) for count in (rows, rows // QUERY_SHARE))
    ids, seconds = {}, {}
    for name, (search, count) in METHODS.items():
        asked, times = queries[:count], []
        if count is None:
            search(train, asked)  # threads started, modules imported, programs compiled before the clock starts
        for _ in range(REPEATS if count is None else 1):
            began = time.perf_counter()
            ids[name] = search(train, asked)
            times.append(time.perf_counter() - began)
        seconds[name] = median(times) * len(queries) / len(asked)
        progress.advance()
    timings = []
    for name, each in ids.items():
        same = equally_near(train, queries, each, ids[REFERENCE][: len(each)])
        timings.append(Timing(name, len(each), seconds[name], len(each) < len(queries), each.size, same))
    return Demonstration(rows, len(queries), FEATURES, NEIGHBORS, timings)


def equally_near(train: np.ndarray, queries: np.ndarray, ids: np.ndarray, expected: np.ndarray) -> int:
    """Return at how many places ids [M, K] are the expected ones, or rows equally near to within rounding."""
    query, rank = np.nonzero(ids != expected)

    def distance(of: np.ndarray) -> np.ndarray:
        return np.linalg.norm(train[of[query, rank]].astype(float) - queries[query], axis=1)

    near = np.isclose(distance(ids), distance(expected), rtol=ROUNDING, atol=0)
    return int(ids.size - np.sum(~near))


# ── What is reported ────────────────────────────────────────────────────────────────────────────────────────────────


def table(loops: Demonstration) -> Table:
    """Return a row for each method: seconds, the ratio to two loops, and how many neighbours are the reference's."""
    rows = []
    for timing in loops.ways:
        seconds = f"{'≈ ' if timing.reckoned else ''}{significant(timing.seconds)}"
        ratio, agreement = _ratio(loops.ways[0].seconds / timing.seconds), f"{timing.same:,}/{timing.places:,}"
        rows.append([timing.way, seconds, ratio, f"{timing.asked:,}", agreement])
    caption = (
        f"the {loops.neighbors} nearest of {loops.rows:,} random rows to each of {loops.queries:,} queries, "
        f"{loops.features:,} features; ≈ extrapolated from fewer queries; without compilation; agreement: "
        f"neighbours equal to those of {REFERENCE}, or equally near to within rounding"
    )
    fastest = min(range(len(rows)), key=lambda place: loops.ways[place].seconds)
    return Table(["search", "seconds", "× two loops", "queries", "agreement"], rows, fastest, caption)


def note(loops: Demonstration) -> str:
    """Return how the times are to be read."""
    fewer = listed(f"{timing.asked:,} by {timing.way}" for timing in loops.ways if timing.reckoned)
    extrapolated = f"Times of methods that got fewer queries ({fewer}) are extrapolated to all. " if fewer else ""
    return (
        f"{extrapolated}All methods ran in this process, one after the other, on float32: the times are an order of "
        "magnitude. python -m experiments.bench.neighbors gives each method a process of its own."
    )


def answer(loops: Demonstration | None) -> str:
    """Return the cost of loops in a sentence; "" without a demonstration."""
    if loops is None:
        return ""
    first, last = loops.ways[0], loops.ways[-1]
    return (
        f" A search of {loops.rows:,} rows takes about {significant(first.seconds)} s by {first.way} and "
        f"{significant(last.seconds)} s by {last.way}: {_ratio(first.seconds / last.seconds)} times as fast."
    )


def _ratio(value: float) -> str:
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"
