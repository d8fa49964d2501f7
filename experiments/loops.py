"""The lecture's demonstration: one search for neighbours, by two loops, by one, by none, by JAX and by scikit-learn.

The lecture has 5,000 training rows and 500 queries of 3,072 features, pictures of 32 × 32 pixels in three colours, and
claims 50 s for two loops and 0.5 s for none. The points are random here: the time does not depend on them.
"""

import time
from collections.abc import Callable, Mapping
from functools import partial
from statistics import median
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from mllab.errors import UserError
from mllab.models import neighbors

FEATURES = 3072
NEIGHBORS = 10
QUERY_SHARE = 10  # training rows a query
FEWEST = 100  # training rows
REPEATS = 3  # of the ways that take well under a second; their median counts
ROUNDING = 1e-6  # rows are equally near whose distances are in proportion so near to 1


def two_loops(train: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Return the distances [M, N], one after the other."""
    distances = np.empty((len(queries), len(train)), train.dtype)
    for i in range(len(queries)):
        for j in range(len(train)):
            distances[i, j] = np.sqrt(np.sum((queries[i] - train[j]) ** 2))
    return distances


def one_loop(train: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Return the distances [M, N], a query after the other."""
    distances = np.empty((len(queries), len(train)), train.dtype)
    for i in range(len(queries)):
        distances[i] = np.sqrt(np.sum((train - queries[i]) ** 2, axis=1))
    return distances


def no_loop(train: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Return the distances [M, N], all from one matrix product."""
    norms = np.sum(queries**2, axis=1)[:, None] + np.sum(train**2, axis=1)[None]
    return np.sqrt(np.maximum(norms - 2 * queries @ train.T, 0))


def least(distances: Callable[[np.ndarray, np.ndarray], np.ndarray], train: np.ndarray, queries: np.ndarray):
    """Return the ids [M, NEIGHBORS] of the nearest rows, nearest first."""
    every = distances(train, queries)
    ids = np.argpartition(every, NEIGHBORS, axis=1)[:, :NEIGHBORS]
    return np.take_along_axis(ids, np.argsort(np.take_along_axis(every, ids, axis=1), axis=1), axis=1)


def by_jax(train: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Return the ids as mllab finds them."""
    return np.asarray(neighbors.nearest(jnp.asarray(train), jnp.asarray(queries), NEIGHBORS).ids)


def by_sklearn(train: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Return the ids as scikit-learn finds them, by brute force too."""
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=NEIGHBORS, algorithm="brute").fit(train)
    return search.kneighbors(queries, return_distance=False)


class Way(NamedTuple):
    """A way to search."""

    search: Callable[[np.ndarray, np.ndarray], np.ndarray]  # (train [N, D], queries [M, D]) -> ids [M, NEIGHBORS]
    asked: int | None = None  # how many queries it is given; None: all


WAYS: Mapping[str, Way] = {
    "two loops (NumPy)": Way(partial(least, two_loops), asked=5),
    "one loop (NumPy)": Way(partial(least, one_loop), asked=20),
    "no loop (NumPy)": Way(partial(least, no_loop)),
    "scikit-learn": Way(by_sklearn),
    "mllab (JAX)": Way(by_jax),
}
REFERENCE = "scikit-learn"  # whose neighbours the others' are compared with


def check(rows: int) -> None:
    """Raise UserError where there are too few training rows for a demonstration; 0 is none."""
    if rows and rows < FEWEST:
        raise UserError(f"--loops={rows}: give {FEWEST} training rows or more, or 0 to leave the demonstration out")


def demonstrate(rows: int, observe: Callable[[str], None] = lambda way: None) -> dict[str, Any]:
    """Search in every way, and return the times as plain values.

    Args:
        rows: training rows; there is one query for every QUERY_SHARE of them.
        observe: told each way as it ends.

    Returns:
        `rows`, `queries`, `features`, `neighbors`; and `ways` [{way, asked, seconds, reckoned, places, same}]: the
        queries that it was given, the seconds of all queries, whether these were reckoned from fewer, and at how many
        of its places it found the REFERENCE's row, or one equally near to within rounding.
    """
    check(rows)
    draw = np.random.default_rng(0)
    train, queries = (draw.random((count, FEATURES), np.float32) for count in (rows, rows // QUERY_SHARE))
    found, seconds = {}, {}
    for name, way in WAYS.items():
        asked = queries[: way.asked]
        repeats = 1 if way.asked else REPEATS
        if repeats > 1:
            way.search(train, asked)  # threads are there, modules imported, programs compiled before the clock starts
        times = []
        for _ in range(repeats):
            began = time.perf_counter()
            found[name] = way.search(train, asked)
            times.append(time.perf_counter() - began)
        seconds[name] = median(times) * len(queries) / len(asked)
        observe(name)
    return {
        "rows": rows,
        "queries": len(queries),
        "features": FEATURES,
        "neighbors": NEIGHBORS,
        "ways": [
            {
                "way": name,
                "asked": len(ids),
                "seconds": seconds[name],
                "reckoned": len(ids) < len(queries),
                "places": ids.size,
                "same": same(train, queries, ids, found[REFERENCE][: len(ids)]),
            }
            for name, ids in found.items()
        ],
    }


def same(train: np.ndarray, queries: np.ndarray, ids: np.ndarray, wanted: np.ndarray) -> int:
    """Return at how many places ids [M, K] are those wanted, or rows equally near to within rounding."""
    query, rank = np.nonzero(ids != wanted)

    def distance(of: np.ndarray) -> np.ndarray:
        return np.linalg.norm(train[of[query, rank]].astype(float) - queries[query], axis=1)

    near = np.isclose(distance(ids), distance(wanted), rtol=ROUNDING, atol=0)
    return int(ids.size - np.sum(~near))
