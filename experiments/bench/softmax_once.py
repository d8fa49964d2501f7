r"""One solver's softmax regression on one file of rows.

python -m experiments.bench.softmax_once --solver=mllab --data=rows.npz --report=report.json
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

CLASSES = 10
TOLERANCE = 1e-3  # of mllab's gradient: lower than scikit-learn comes in its 100 iterations

Found = tuple[np.ndarray, np.ndarray, float]  # W [D, C], b [C], seconds


def mllab(inputs: np.ndarray, labels: np.ndarray) -> Found:
    import jax
    import jax.numpy as jnp

    from mllab.models import softmax

    x, y = jnp.asarray(inputs), jnp.asarray(labels)
    fit = partial(softmax.fit, x, y, CLASSES, l2=1.0, tolerance=TOLERANCE)
    jax.block_until_ready(fit())  # compiles
    began = time.perf_counter()
    found = jax.block_until_ready(fit())
    seconds = time.perf_counter() - began
    return np.asarray(found.params.w), np.asarray(found.params.b), seconds


def sklearn(inputs: np.ndarray, labels: np.ndarray) -> Found:
    from sklearn.linear_model import LogisticRegression

    warnings.simplefilter("ignore")  # its default number of iterations ends before its tolerance
    began = time.perf_counter()
    found = LogisticRegression(C=1.0).fit(inputs, labels)
    return found.coef_.T, found.intercept_, time.perf_counter() - began


SOLVERS: dict[str, Callable[[np.ndarray, np.ndarray], Found]] = {"mllab": mllab, "sklearn": sklearn}


def objective(w: np.ndarray, b: np.ndarray, inputs: np.ndarray, labels: np.ndarray) -> float:
    """Return what both make small, a row, in float64."""
    logits = inputs @ w.astype(float) + b
    top = logits.max(1)
    losses = np.log(np.exp(logits - top[:, None]).sum(1)) + top - logits[np.arange(len(labels)), labels]
    return float(losses.mean() + (w.astype(float) ** 2).sum() / 2 / len(labels))


def main() -> None:
    """Fit, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--solver", choices=SOLVERS, required=True)
    parser.add_argument("--data", type=Path, required=True, help=".npz file of inputs [N, D] and labels [N]")
    parser.add_argument("--report", type=Path, required=True, help="JSON file to write")
    args = parser.parse_args()
    with np.load(args.data) as file:
        inputs, labels = file["inputs"], file["labels"]
    w, b, seconds = SOLVERS[args.solver](inputs, labels)
    args.report.write_text(json.dumps({"seconds": seconds, "objective": objective(w, b, inputs, labels)}))


if __name__ == "__main__":
    main()
