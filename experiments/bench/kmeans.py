r"""K-means beside scikit-learn, on the 60,000 training images of MNIST, 784 pixels each.

  python -m experiments.bench.kmeans

One start each of k = 10 and k = 100 with the same number of Lloyd's steps, and 10 restarts of k = 10, each until it has
converged. Both start from the same images, with the data in memory; imports and compilation are not timed.
"""

import functools
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from experiments.bench import harness
from experiments.bench.harness import Arrays, Samples, Solver
from mllab.data import catalog
from mllab.report.table import Table


class Case(NamedTuple):
    """Settings of k-means, and the least ratio of scikit-learn's seconds to mllab's."""

    restarts: int
    k: int
    steps: int
    tolerance: float
    target: float


CASES = {
    "k = 10, 20 steps": Case(1, 10, 20, 0.0, 1.0),
    "k = 100, 20 steps": Case(1, 100, 20, 0.0, 1.0),
    "k = 10, 10 restarts": Case(10, 10, 300, 1e-4, 1.5),
}
INERTIA_TOLERANCE = 1e-3  # relative: rounding assigns a point between two centres either way


def problems(settings: harness.DataSettings) -> Iterator[tuple[str, Arrays]]:
    """Yield each case: points [N, D], starts [S, K, D], steps and tolerance."""
    mnist = catalog.load("mnist", data_dir=settings.data_dir)
    train = np.concatenate([mnist.split.train, mnist.split.validation])
    points = mnist.inputs[train].reshape(len(train), -1)
    rng = np.random.default_rng(0)
    for name, case in CASES.items():
        starts = np.stack([points[rng.choice(len(points), case.k, replace=False)] for _ in range(case.restarts)])
        yield (
            name,
            {"points": points, "starts": starts, "steps": np.array(case.steps), "tolerance": np.array(case.tolerance)},
        )


def mllab(problem: Arrays) -> Solver:
    """Return mllab's k-means, with the points spread over all devices."""
    import jax
    import jax.numpy as jnp

    from mllab import devices, sweep
    from mllab.models import kmeans

    points, starts = jnp.asarray(problem["points"]), jnp.asarray(problem["starts"])
    steps, tolerance = int(problem["steps"]), float(problem["tolerance"])
    fit = functools.partial(kmeans.fit, count=starts.shape[1], steps=steps, tolerance=tolerance)
    spread = sweep.over_points(fit, devices.mesh(), kmeans.POINT_AXES)

    def solve() -> kmeans.KMeans:
        return jax.block_until_ready(spread(points, key=jax.random.key(0), start=starts))

    def figures(fitted: kmeans.KMeans) -> dict[str, Any]:
        return {"inertia": float(fitted.inertia), "steps": int(fitted.steps[jnp.argmin(fitted.inertias)])}

    return Solver(solve, figures)


def sklearn(problem: Arrays) -> Solver:
    """Return scikit-learn's k-means, the best of its restarts; its steps are those of the best restart."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    points = problem["points"]
    starts = problem["starts"] - points.mean(axis=0)  # starts from a function are in centred coordinates

    def solve() -> KMeans:
        remaining = iter(starts)
        estimator = KMeans(
            starts.shape[1],
            init=lambda points, count, random_state: next(remaining),
            n_init=len(starts),
            max_iter=int(problem["steps"]),
            tol=float(problem["tolerance"]),
            algorithm="lloyd",
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the number of steps is the case's
            return estimator.fit(points)

    return Solver(
        solve,
        lambda fitted: {"inertia": float(fitted.inertia_), "steps": fitted.n_iter_},
        warm_up=lambda: KMeans(3, n_init=1, max_iter=2).fit(points[:1000]),
    )


SOLVERS = {"mllab": mllab, "sklearn": sklearn}


def table(case: str, samples: Samples) -> Table:
    """Return the table of one case."""
    inertia = {name: harness.figure(each, "inertia") for name, each in samples.items()}
    return harness.comparison(
        case,
        samples,
        {"sklearn": CASES[case].target},
        {
            "inertia": lambda name: f"{inertia[name]:.6g}",
            "steps": lambda name: f"{harness.figure(samples[name], 'steps'):.0f}",
        },
        lambda name: inertia["mllab"] <= inertia[name] * (1 + INERTIA_TOLERANCE),
    )


main, run = harness.solver_program("kmeans", harness.DataSettings, problems, SOLVERS, table)

if __name__ == "__main__":
    harness.start(main, **harness.solving(SOLVERS, all_cores=True))
