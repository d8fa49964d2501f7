"""The conv net in mllab: its problem, written for the peers too, and the measurement of its training.

All programs read the same arrays, so that none of them parses data; writing the file is not timed.
"""

import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from experiments.bench.race_problem import initial_weights
from mllab import devices, optimizers, racing, sweep
from mllab.data import catalog
from mllab.models import table
from mllab.models.base import Model, in_bfloat16
from mllab.rows import check_batch, minibatches
from mllab.tasks import CLASSIFICATION
from mllab.types import Rows

CHANNELS = (32, 64)  # of the reference net


def net(channels: Sequence[int], shape: Sequence[int], classes: int) -> Model:
    """Return the conv net: for each of `channels` a 3 × 3 convolution, pooling by 2 and ReLU; 128 units; classes."""
    return table.build(table.plan("convnet", tuple(shape), classes, channels=tuple(channels), hidden=(128,)))


def write(
    output: str,
    dataset: str,
    seeds: int,
    timed_steps: int,
    batch_size: int,
    channels: Sequence[int] = CHANNELS,
    data_dir: str | None = None,
) -> dict[str, Any]:
    """Write the problem as an .npz file: M training rows of the data set, G seeds, S = 2 × `timed_steps`.

    The file has images [M, height, width, C] and labels [M]; orders [G, S, B] of them; channels and classes; w0, b0,
    w1, b1, ..., the initial weights and biases [G, ...] of each seed, in mllab's layouts; and the platform that JAX
    computes on here, on which its peers compute too.

    Returns:
        The shape of an image, and those of the weights.
    """
    data = catalog.load(dataset, data_dir=data_dir)
    train, shape, classes = data.split.train, data.inputs.shape[1:], len(data.classes)
    check_batch(batch_size, len(train))
    whole = len(train) // batch_size  # batches of an epoch; the remainder is dropped, so that nothing is padded
    schedule = minibatches(np.arange(whole * batch_size), batch_size, -(-2 * timed_steps // whole), range(seeds))
    weights = initial_weights(net(channels, shape, classes), seeds)
    np.savez(
        output,
        images=data.inputs[train],
        labels=data.targets[train].astype(np.int64),
        orders=schedule.ids[:, : 2 * timed_steps].astype(np.int64),
        channels=np.asarray(channels),
        classes=classes,
        platform=jax.default_backend(),
        **weights,
    )
    return {"shape": list(shape), "weights": [list(each.shape[1:]) for name, each in weights.items() if name[0] == "w"]}


def train(data: str, learning_rates: Sequence[float], precision: str) -> dict[str, Any]:
    """Return the seconds of compiling, the training rate in images per second, and the losses [L, S] of all steps.

    Lanes are all rates of the first seed, then of the next, and train by Adam; if there are fewer lanes than devices,
    the batch is spread over the devices. The first half of the steps warms up and the second is timed, each in one call
    of a compiled scan.
    """
    with np.load(data) as file:
        problem = dict(file)
    model = net(problem["channels"].tolist(), problem["images"].shape[1:], int(problem["classes"]))
    make = racing.problem(in_bfloat16(model) if precision == "bf16" else model, CLASSIFICATION)
    mesh = devices.mesh()
    grid = sweep.grid({"learning_rate": learning_rates}, range(len(problem["orders"])))
    spread = sweep.lanes if len(grid.seed) >= mesh.size else sweep.batches  # as a race chooses
    run = spread(make(lambda hyper: optimizers.build("adam", hyper["learning_rate"])), grid.schedule, mesh=mesh)
    examples = devices.replicate(mesh, {"inputs": problem["images"], "targets": problem["labels"].astype(np.int32)})
    halves = np.split(problem["orders"].astype(np.int32), 2, axis=1)
    warm_up, timed = (Rows(ids, np.ones(ids.shape, np.float32)) for ids in halves)

    advance = jax.jit(run.advance, donate_argnums=1)
    state = jax.jit(run.start)(grid.hyper, grid.key)
    began = time.perf_counter()
    advance.lower(grid.hyper, state, examples, warm_up).compile()  # the calls below find it
    compiled = time.perf_counter() - began
    state, before = jax.block_until_ready(advance(grid.hyper, state, examples, warm_up))
    began = time.perf_counter()
    state, after = jax.block_until_ready(advance(grid.hyper, state, examples, timed))
    seconds = time.perf_counter() - began
    return {
        "compile_seconds": compiled,
        "images_per_second": len(learning_rates) * timed.ids.size / seconds,
        "losses": np.concatenate([before, after], axis=1).tolist(),
    }


def train_on_all_cores(**arguments: Any) -> dict[str, Any]:
    """Return `train` on as many CPU devices as cores, in a process of its own."""
    devices.use_cores()
    return train(**arguments)
