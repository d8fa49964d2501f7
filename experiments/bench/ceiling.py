r"""This machine's matrix product: the rate against which the arithmetic of a race is weighed.

python -m experiments.bench.ceiling
"""

import time
from collections.abc import Sequence
from statistics import median

import jax
from absl import flags

from experiments.bench import timing
from experiments.workdir import launch

SIZE, PRODUCTS = 2048, 20

flags.declare_key_flag(timing.REPORT.name)


def main(argv: Sequence[str]) -> None:
    """Measure and report."""
    timing.write({"flops_per_second": rate(SIZE, PRODUCTS)}, timing.REPORT.value)


def rate(size: int, products: int) -> float:
    """Return the median rate of float32 products of random [size, size] matrices, in operations a second."""
    left, right = (jax.random.normal(jax.random.key(seed), (size, size)) for seed in (0, 1))
    product = jax.jit(lambda a, b: a @ b)
    product(left, right).block_until_ready()
    times = []
    for _ in range(products):
        began = time.perf_counter()
        product(left, right).block_until_ready()
        times.append(time.perf_counter() - began)
    return 2 * size**3 / median(times)


if __name__ == "__main__":
    launch(main)
