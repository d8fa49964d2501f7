r"""A peer of the race: scikit-learn's `MLPClassifier`, in parallel by joblib.

  python -m experiments.bench.race_sklearn --data=race.npz --learning_rates=0.01,0.1 --report=sklearn.json

It has no RMSProp, draws its own weights and batches from the seed, and scores the validation rows only at the end.
"""

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

SOLVERS: dict[str, dict[str, Any]] = {
    "sgd": {"solver": "sgd", "momentum": 0.0},
    "momentum": {"solver": "sgd", "momentum": 0.9, "nesterovs_momentum": False},
    "adam": {"solver": "adam"},
}


def fit(data: dict[str, np.ndarray], name: str, rate: float, seed: int, epochs: int) -> dict[str, Any]:
    """Train one run; return its final validation accuracy, None if the weights overflowed."""
    hidden = [data[f"b{depth}"].shape[1] for depth in range(sum(key.startswith("w") for key in data) - 1)]
    model = MLPClassifier(
        hidden,
        alpha=0.0,
        batch_size=int(data["batch_size"]),
        learning_rate_init=rate,
        max_iter=epochs,
        n_iter_no_change=epochs,
        random_state=seed,
        **SOLVERS[name],
    )
    accuracy = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is the race's
        warnings.simplefilter("ignore", RuntimeWarning)  # and so are rates that overflow
        try:
            fitted = model.fit(data["train_x"], data["train_y"])
            accuracy = float(fitted.score(data["validation_x"], data["validation_y"]))
        except ValueError as error:
            if "non-finite" not in str(error):
                raise
    return {"optimizer": name, "learning_rate": rate, "seed": seed, "validation_accuracy": [accuracy]}


def main() -> None:
    """Train every run and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="file written by race_problem")
    parser.add_argument("--report", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--learning_rates", required=True, help="numbers, separated by commas")
    parser.add_argument("--jobs", type=int, default=2, help="number of processes")
    args = parser.parse_args()
    with np.load(args.data) as file:
        data = dict(file)
    seeds, epochs = data["orders"].shape[:2]
    rates = [float(rate) for rate in args.learning_rates.split(",")]
    grid = [(name, rate, seed) for name in SOLVERS for seed in range(seeds) for rate in rates]
    began = time.perf_counter()
    runs = Parallel(n_jobs=args.jobs)(delayed(fit)(data, *each, epochs) for each in grid)
    args.report.write_text(json.dumps({"runs": runs, "seconds": time.perf_counter() - began}))


if __name__ == "__main__":
    main()
