r"""Peer: scikit-learn's SVC, once or in a grid search with all cores.

python -m experiments.bench.svm_peers --data=rows.npz --found=found.npz --report=report.json
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

CACHE = 1000  # MB of kernel rows that each LIBSVM may keep; its default of 200 is slower


def main() -> None:
    """Fit, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help=".npz file of the rows; see svm_once")
    parser.add_argument("--found", type=Path, required=True, help=".npz file to write what was found to")
    parser.add_argument("--report", type=Path, required=True, help="JSON file to write")
    args = parser.parse_args()
    with np.load(args.data) as file:
        data = {name: file[name] for name in file.files}
    seconds, found = (grid if len(data["held_out"]) else fit)(data)
    np.savez(args.found, allow_pickle=False, **found)
    args.report.write_text(json.dumps({"seconds": seconds}))


def fit(data: dict[str, np.ndarray]) -> tuple[float, dict[str, np.ndarray]]:
    """Return the seconds of one fit, and its coefficients [N]."""
    from sklearn.svm import SVC

    began = time.perf_counter()
    machine = SVC(C=data["c"][0], gamma=data["gamma"][0], cache_size=CACHE).fit(data["inputs"], data["labels"])
    seconds = time.perf_counter() - began
    coefficients = np.zeros(len(data["labels"]))
    coefficients[machine.support_] = machine.dual_coef_[0]
    return seconds, {"coefficients": coefficients}


def grid(data: dict[str, np.ndarray]) -> tuple[float, dict[str, np.ndarray]]:
    """Return the seconds of the search, and the accuracy [G, A, K] on held-out rows; ties are broken as mllab does."""
    from sklearn.model_selection import GridSearchCV
    from sklearn.svm import SVC

    folds = [(np.flatnonzero(~held), np.flatnonzero(held)) for held in data["held_out"]]
    several = len(np.unique(data["labels"])) > 2
    settings = {"C": data["c"], "gamma": data["gamma"]}
    search = GridSearchCV(SVC(cache_size=CACHE, break_ties=several), settings, cv=folds, n_jobs=-1, refit=False)
    few = np.concatenate([np.flatnonzero(data["labels"] == label)[:20] for label in np.unique(data["labels"])])
    # The workers have started, and imported what they need, before the clock starts.
    GridSearchCV(SVC(), {"C": [1.0, 2.0]}, cv=2, n_jobs=-1).fit(data["inputs"][few], data["labels"][few])
    began = time.perf_counter()
    search.fit(data["inputs"], data["labels"])
    seconds = time.perf_counter() - began
    accuracy = np.stack([search.cv_results_[f"split{fold}_test_score"] for fold in range(len(folds))], axis=-1)
    # Settings come C by C.
    accuracy = accuracy.reshape(len(data["c"]), len(data["gamma"]), -1).swapaxes(0, 1)
    return seconds, {"accuracy": accuracy}


if __name__ == "__main__":
    main()
