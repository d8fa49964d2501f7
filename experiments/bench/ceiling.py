r"""The machine's matrix product: the rate that bounds the arithmetic of other benchmarks.

python -m experiments.bench.ceiling
"""

from dataclasses import dataclass

import jax

from experiments import frame
from experiments.bench import harness
from mllab.report.report import Report
from mllab.report.table import Table


@dataclass(frozen=True, kw_only=True)
class Settings(frame.settings.Base):
    """The product."""

    size: int = frame.whole(2048, help="Rows and columns of each matrix.", low=1)
    products: int = frame.whole(20, help="Number of products; the median counts.", low=1)


def measure(run: frame.Context, settings: Settings) -> float:
    """Return the rate in operations per second."""
    del run
    return rate(settings.size, settings.products)


def report(run: frame.Context, settings: Settings, measured: float) -> Report:
    """Report the rate."""
    del run
    return harness.report("ceiling", [Table(["size", "GFLOP/s"], [[settings.size, f"{measured / 1e9:.0f}"]])])


def rate(size: int, products: int) -> float:
    """Return the median rate of float32 products of random [size, size] matrices, in operations per second."""
    left, right = (jax.random.normal(jax.random.key(seed), (size, size)) for seed in (0, 1))
    product = jax.jit(lambda a, b: a @ b)
    solver = harness.Solver(lambda: product(left, right).block_until_ready(), lambda result: {}, calls=products)
    return 2 * size**3 / harness.solved(solver)["seconds"]


def measured_rate() -> dict[str, float]:
    """Return the rate at the default size, as a role of other cases."""
    return {"flops_per_second": rate(**Settings.defaults())}


main, run = frame.program(Settings, measure, report)

if __name__ == "__main__":
    harness.start(main, rate=measured_rate)
