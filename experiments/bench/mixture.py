r"""EM for Gaussian mixtures beside scikit-learn.

  python -m experiments.bench.mixture

50,000 points in 16 dimensions, 8 full covariances, 20 iterations from the same start, with the data in memory; imports
and compilation are not timed.
"""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from experiments.bench import harness
from experiments.bench.harness import Arrays, Samples, Solver
from mllab.report.table import Table

POINTS, FEATURES, COMPONENTS, STEPS = 50_000, 16, 8, 20
CALLS = 3
TARGET = 5.0  # least ratio of scikit-learn's seconds to mllab's
LIKELIHOOD_TOLERANCE = 1e-4  # of the mean log-likelihood


def problems(settings: harness.Settings) -> Iterator[tuple[str, Arrays]]:
    """Yield the one problem."""
    del settings
    yield f"{STEPS} iterations", problem(POINTS)


def problem(count: int) -> Arrays:
    """Return points [N, D] of overlapping Gaussians, and means [K, D] to start from."""
    rng = np.random.default_rng(0)
    shapes = rng.standard_normal((COMPONENTS, FEATURES, FEATURES)) / np.sqrt(FEATURES)
    component = rng.integers(0, COMPONENTS, count)
    centres = rng.standard_normal((COMPONENTS, FEATURES))
    points = np.einsum("nd,nde->ne", rng.standard_normal((count, FEATURES)), shapes[component]) + centres[component]
    means = points[rng.choice(count, COMPONENTS, replace=False)]
    return {"points": points.astype(np.float32), "means": means.astype(np.float32)}


def mllab(problem: Arrays) -> Solver:
    """Return mllab's EM, from equal shares and identity covariances."""
    import jax
    import jax.numpy as jnp

    from mllab.models import mixture

    points, means = jnp.asarray(problem["points"]), jnp.asarray(problem["means"])
    count, features = means.shape
    identity = jnp.broadcast_to(jnp.eye(features), (count, features, features))
    start = mixture.Mixture(jnp.full(count, -jnp.log(count)), means, identity, "full")

    def solve() -> Any:
        return jax.block_until_ready(mixture.em(start, points, steps=STEPS, tolerance=-jnp.inf))

    return Solver(solve, lambda fitted: {"log_likelihood": float(mixture.score(fitted.params, points))}, calls=CALLS)


def sklearn(problem: Arrays) -> Solver:
    """Return scikit-learn's EM, from equal shares and identity precisions."""
    from sklearn.mixture import GaussianMixture

    points, means = problem["points"], problem["means"]
    count, features = means.shape

    def fit(points: np.ndarray) -> GaussianMixture:
        estimator = GaussianMixture(
            count,
            tol=0,
            max_iter=STEPS,
            weights_init=np.full(count, 1 / count),
            means_init=means,
            precisions_init=np.tile(np.eye(features, dtype=np.float32), (count, 1, 1)),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is stopped before it converges
            return estimator.fit(points)

    return Solver(
        lambda: fit(points),
        lambda fitted: {"log_likelihood": float(fitted.score(points))},
        warm_up=lambda: fit(points[:1000]),
        calls=CALLS,
    )


SOLVERS = {"mllab": mllab, "sklearn": sklearn}


def table(name: str, samples: Samples) -> Table:
    """Return the table of the samples."""
    likelihood = {solver: harness.figure(each, "log_likelihood") for solver, each in samples.items()}
    return harness.comparison(
        name,
        samples,
        {"sklearn": TARGET},
        {"log-likelihood": lambda solver: f"{likelihood[solver]:.5f}"},
        lambda solver: abs(likelihood[solver] - likelihood["mllab"]) < LIKELIHOOD_TOLERANCE,
    )


main, run = harness.solver_program("mixture", harness.Settings, problems, SOLVERS, table)

if __name__ == "__main__":
    harness.start(main, **harness.solving(SOLVERS))
