r"""The conv net in mllab: the compile time, the training rate and the losses of one run, or of many lanes at once.

  python -m experiments.bench.convnet_once --data=convnet.npz --learning_rates=0.001 --report=mllab.json

The batch, or the lanes where they are as many as the devices, is spread over all devices. The first half of the
file's steps warms up, the second half is timed; each half is one call of one compiled scan.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

from experiments import flags as shared
from experiments.bench import convnet_prepare, timing
from experiments.workdir import launch
from mllab import devices, optimizers, racing, sweep
from mllab.models.base import in_bfloat16
from mllab.types import Rows

for flag in (timing.REPORT, shared.LEARNING_RATES, shared.PRECISION):
    flags.declare_key_flag(flag.name)
DATA = flags.DEFINE_string("data", "convnet.npz", "File that experiments.bench.convnet_prepare wrote.")


def main(argv: Sequence[str]) -> None:
    """Read the flags, measure and report."""
    devices.use_cores()
    rates = shared.numbers(shared.LEARNING_RATES.value, "learning_rates")
    timing.write(measure(Path(DATA.value), rates, shared.PRECISION.value), timing.REPORT.value)


def measure(path: Path, rates: Sequence[float], precision: str) -> dict[str, Any]:
    """Return the seconds of compiling, the images a second while training, and the losses [L, S] of all steps.

    Lanes are all rates of the first seed, then of the next, and train by Adam.
    """
    with np.load(path) as file:
        data = dict(file)
    net = convnet_prepare.net(data["channels"].tolist(), data["images"].shape[1:], int(data["classes"]))
    make = racing.problem(in_bfloat16(net) if precision == "bf16" else net, "classification")
    mesh = devices.mesh()
    grid = sweep.grid({"learning_rate": rates}, range(len(data["orders"])))
    many = sweep.lanes if len(grid.seed) >= mesh.size else sweep.batches  # as a race chooses
    run = many(make(lambda hyper: optimizers.build("adam", hyper["learning_rate"])), grid.schedule, mesh=mesh)
    examples = devices.replicate(mesh, {"inputs": data["images"], "targets": data["labels"].astype(np.int32)})
    halves = np.split(data["orders"].astype(np.int32), 2, axis=1)
    warm, timed = (Rows(ids, np.ones(ids.shape, np.float32)) for ids in halves)

    advance = jax.jit(run.advance, donate_argnums=1)
    state = jax.jit(run.start)(grid.hyper, grid.key)
    began = time.perf_counter()
    advance.lower(grid.hyper, state, examples, warm).compile()  # which the calls below find
    compiled = time.perf_counter() - began
    state, before = jax.block_until_ready(advance(grid.hyper, state, examples, warm))
    began = time.perf_counter()
    state, after = jax.block_until_ready(advance(grid.hyper, state, examples, timed))
    seconds = time.perf_counter() - began
    return {
        "compile_seconds": compiled,
        "images_per_second": len(rates) * timed.ids.size / seconds,
        "losses": np.concatenate([before, after], axis=1).tolist(),
    }


if __name__ == "__main__":
    launch(main)
