r"""Recurrent cells beside PyTorch's native ones: forward and backward of a loss of all hidden states, float32.

  python -m experiments.bench.recurrent

LSTM, GRU and tanh cell, for 64 sequences of 128 steps, 128 features and 256 units, and for 32 sequences of 64 steps and
512 units. Both compute the gradients of the weights and of the inputs from the same weights; compilation is not timed.
mllab splits the batch over as many CPU devices as cores, PyTorch uses a thread a core. On a machine with a CUDA GPU
both use that, PyTorch by cuDNN.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from experiments.bench import harness
from experiments.bench.harness import Arrays, Samples, Solver
from mllab.report.table import Table

SHAPES = ((64, 128, 128, 256), (32, 64, 128, 512))  # B, T, D, H
GATES = {"lstm": 4, "gru": 3, "tanh": 1}
TARGETS = {"lstm": 1.0, "gru": 1.5, "tanh": 1.5}  # least ratio of PyTorch's seconds to mllab's
CALLS = 15
TOLERANCE = 1e-3  # relative, of the loss and of the gradients' norms


def problems(settings: harness.Settings) -> Iterator[tuple[str, Arrays]]:
    """Yield the problem of each cell and shape."""
    del settings
    for cell in GATES:
        for shape in SHAPES:
            batch, steps, features, hidden = shape
            yield f"{cell}: batch {batch}, {steps} steps, {features} features, {hidden} units", problem(cell, *shape)


def problem(cell: str, batch: int, steps: int, features: int, hidden: int) -> Arrays:
    """Return the cell's name and weights, inputs [B, T, D], and the weights [B, T, H] of hidden states in the loss."""
    rng, gates = np.random.default_rng(0), GATES[cell]
    scale = hidden**-0.5
    arrays = {
        "inputs": rng.standard_normal((batch, steps, features)),
        "weights": rng.standard_normal((batch, steps, hidden)),
        "w_x": rng.uniform(-scale, scale, (features, gates * hidden)),
        "w_h": rng.uniform(-scale, scale, (hidden, gates * hidden)),
        "b": rng.uniform(-scale, scale, gates * hidden),
        "b_n": rng.uniform(-scale, scale, hidden),  # of a GRU
    }
    return {"cell": np.asarray(cell)} | {name: array.astype(np.float32) for name, array in arrays.items()}


def mllab(problem: Arrays) -> Solver:
    """Return mllab's fast form, the batch split over all devices."""
    import jax
    import jax.numpy as jnp
    from jax.sharding import NamedSharding, PartitionSpec

    from mllab import devices, sweep
    from mllab.models.recurrent import CELLS, unroll

    cell, mesh = CELLS[str(problem["cell"])], devices.mesh()
    names = [field.name for field in dataclasses.fields(cell.params)]
    params = devices.replicate(mesh, cell.params(**{name: jnp.asarray(problem[name]) for name in names}))
    split = NamedSharding(mesh, PartitionSpec(devices.AXIS))
    x, weights = (jax.device_put(problem[name], split) for name in ("inputs", "weights"))

    def part(params, x, weights):
        def loss(params, x):
            return jnp.vdot(unroll(cell, params, None, x)[1], weights)

        value, (d_params, d_x) = jax.value_and_grad(loss, (0, 1))(params, x)
        return *jax.lax.psum((value, d_params), devices.AXIS), d_x

    step = jax.jit(sweep.spread(part, mesh, (None, 0, 0), (None, None, 0)))

    def report(result):
        loss, d_params, d_x = result
        return figures(loss, d_params.w_x, d_params.w_h, d_x)

    return Solver(lambda: jax.block_until_ready(step(params, x, weights)), report, calls=CALLS)


def torch(problem: Arrays) -> Solver:
    """Return PyTorch's native module, with a thread a core, or on a CUDA GPU."""
    import torch as pytorch

    from experiments.bench import torch_start
    from mllab import devices

    device = torch_start.start(devices.cores())
    cell = str(problem["cell"])
    features, hidden = problem["inputs"].shape[-1], problem["w_h"].shape[0]
    kinds = {"lstm": pytorch.nn.LSTM, "gru": pytorch.nn.GRU, "tanh": pytorch.nn.RNN}
    module = kinds[cell](features, hidden, batch_first=True)
    recurrent_bias = np.zeros_like(problem["b"])
    if cell == "gru":
        recurrent_bias[-hidden:] = problem["b_n"]
    values = (problem["w_x"].T, problem["w_h"].T, problem["b"], recurrent_bias)
    with pytorch.no_grad():
        for parameter, value in zip(module.parameters(), values, strict=True):
            parameter.copy_(pytorch.from_numpy(np.ascontiguousarray(value)))
    x = pytorch.from_numpy(problem["inputs"]).to(device).requires_grad_()
    weights = pytorch.from_numpy(problem["weights"]).to(device)

    def solve():
        module.zero_grad()
        x.grad = None
        loss = (module(x)[0] * weights).sum()
        loss.backward()
        if device.type == "cuda":
            pytorch.cuda.synchronize()
        return loss

    def report(loss):
        gradients = (module.weight_ih_l0.grad, module.weight_hh_l0.grad, x.grad)
        return figures(loss.item(), *(gradient.cpu() for gradient in gradients))

    return Solver(solve, report, calls=CALLS)


def figures(loss: float, *gradients: Any) -> dict[str, float]:
    """Return the loss, and the norms of the gradients of input weights, recurrent weights and inputs."""
    names = ("input weights", "recurrent weights", "inputs")
    norms = {name: float(np.linalg.norm(each)) for name, each in zip(names, gradients, strict=True)}
    return {"loss": float(loss)} | norms


SOLVERS = {"mllab": mllab, "torch": torch}


def table(name: str, samples: Samples) -> Table:
    """Return the table of one cell and shape."""
    reports = {solver: each[0].report for solver, each in samples.items()}
    ours, theirs = (reports.get(solver, reports["mllab"]) for solver in ("mllab", "torch"))
    apart = max(
        abs(ours[key] - theirs[key]) / abs(theirs[key]) for key in ("input weights", "recurrent weights", "inputs")
    )
    return harness.comparison(
        name,
        samples,
        {"torch": TARGETS[name.split(":")[0]]},
        {"gradients apart": lambda solver: None if solver == "mllab" else f"{apart:.0e}"},
        lambda solver: apart <= TOLERANCE,
    )


main, run = harness.solver_program("recurrent", harness.Settings, problems, SOLVERS, table)

if __name__ == "__main__":
    harness.start(main, **harness.solving(SOLVERS, all_cores=True))
