r"""Peers: scikit-learn's and faiss's nearest neighbours by brute force, and the lecture's two loops in NumPy.

python -m experiments.bench.neighbors_peers --peer=sklearn --data=points.npz --count=10 --report=report.json
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

LOOP_QUERIES = 10  # the two loops are run for so many; what all queries would take is reckoned from them

Found = tuple[np.ndarray, np.ndarray]  # distances and ids, [M, count]


def sklearn(train: np.ndarray, queries: np.ndarray, count: int) -> Found:
    from sklearn.neighbors import NearestNeighbors

    return NearestNeighbors(n_neighbors=count, algorithm="brute").fit(train).kneighbors(queries)


def faiss(train: np.ndarray, queries: np.ndarray, count: int) -> Found:
    from faiss import IndexFlatL2

    index = IndexFlatL2(train.shape[1])
    index.add(train)
    squares, ids = index.search(queries, count)
    return np.sqrt(squares), ids


def loops(train: np.ndarray, queries: np.ndarray, count: int) -> Found:
    distances = np.zeros((len(queries), len(train)), np.float32)
    for i in range(len(queries)):
        for j in range(len(train)):
            distances[i, j] = np.sqrt(np.sum((queries[i] - train[j]) ** 2))
    ids = np.argsort(distances, axis=1)[:, :count]
    return np.take_along_axis(distances, ids, axis=1), ids


PEERS: dict[str, Callable[[np.ndarray, np.ndarray, int], Found]] = {"sklearn": sklearn, "faiss": faiss, "loops": loops}


def main() -> None:
    """Search, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", choices=PEERS, required=True)
    parser.add_argument("--data", type=Path, required=True, help=".npz file of train [N, D] and queries [M, D]")
    parser.add_argument("--count", type=int, default=10, help="how many neighbours")
    parser.add_argument("--calls", type=int, default=3, help="how often the search is repeated; its median counts")
    parser.add_argument("--neighbors", type=Path, help=".npz file to write the distances and ids to")
    parser.add_argument("--report", type=Path, required=True, help="JSON file to write")
    args = parser.parse_args()
    with np.load(args.data) as file:
        train, queries = file["train"], file["queries"]
    share = 1.0
    if args.peer == "loops":
        share = min(1.0, LOOP_QUERIES / len(queries))
        queries = queries[:LOOP_QUERIES]
    search = PEERS[args.peer]
    search(train[:100], queries[:100], min(args.count, 100))  # imports and threads are there before the clock starts
    times = []
    for _ in range(args.calls):
        began = time.perf_counter()
        distances, ids = search(train, queries, args.count)
        times.append(time.perf_counter() - began)
    if args.neighbors:
        np.savez(args.neighbors, distances=distances, ids=ids)
    args.report.write_text(json.dumps({"seconds": median(times) / share}))


if __name__ == "__main__":
    main()
