r"""One sweep: many lanes of Adam on the digits; its compile time, running time and memory.

python -m experiments.bench.sweep_once --sizes=64,32,10 --lanes=1000
"""

import resource
import sys
import time
from collections.abc import Sequence

import numpy as np
from absl import flags

from experiments import flags as shared
from experiments.bench import model, timing
from experiments.workdir import launch
from mllab import devices, optimizers, racing, sweep, training
from mllab.data import catalog
from mllab.rows import blocks, minibatches

SEEDS = 10  # lanes are rates × seeds, so that the number of lanes changes nothing else

for flag in (model.SIZES, timing.REPORT, shared.EPOCHS, shared.BATCH_SIZE):
    flags.declare_key_flag(flag.name)
LANES = flags.DEFINE_integer("lanes", 1000, f"Runs side by side; a multiple of {SEEDS}.", lower_bound=SEEDS)


def main(argv: Sequence[str]) -> None:
    """Read the flags, measure and report."""
    devices.use_cores()
    report = measure(model.sizes(), LANES.value, shared.EPOCHS.value, shared.BATCH_SIZE.value)
    timing.write(report, timing.REPORT.value)


def measure(sizes: Sequence[int], lanes: int, epochs: int, batch_size: int) -> dict[str, float]:
    """Return the seconds of compiling, the seconds of running `lanes` runs, and the peak memory of the process."""
    data = catalog.load("digits", split_seed=0)
    mesh = devices.mesh()
    grid = sweep.grid({"learning_rate": np.logspace(-4, -1, lanes // SEEDS)}, range(SEEDS))
    make = racing.problem(model.build(sizes), "classification")
    run = sweep.lanes(make(lambda hyper: optimizers.build("adam", hyper["learning_rate"])), grid.schedule, mesh=mesh)
    inputs = data.inputs.reshape(len(data.inputs), -1)
    examples = devices.replicate(mesh, {"inputs": inputs, "targets": data.targets})
    schedule = minibatches(data.split.train, batch_size, epochs, range(SEEDS))
    steps = schedule.ids.shape[1] // epochs
    validation = blocks(data.split.validation, len(data.split.validation))

    def seconds(steps_taken: int) -> float:
        began = time.perf_counter()
        rows = training.Rows(*(array[:, :steps_taken] for array in schedule))
        training.drive(run, grid.hyper, grid.key, examples, rows, held_out=validation, segment=steps)
        return time.perf_counter() - began

    first_epoch = seconds(steps)  # compiles every program of the whole drive, whose segments are epochs too
    running = seconds(steps * epochs)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"compile_seconds": first_epoch - running / epochs, "running_seconds": running, "peak_bytes": peak}


if __name__ == "__main__":
    launch(main)
