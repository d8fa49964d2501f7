r"""Eight trainings of an LSTM language model in one program, beside eight of PyTorch one after another.

  python -m experiments.bench.language_lanes

4 learning rates × 2 seeds: an embedding, an LSTM and a softmax over 65 characters, trained by Adam on windows whose
carries flow on, gradients cut at each window. Both begin from the same weights and read the same windows of the same
random text. Compilation is not timed. mllab spreads the lanes over as many CPU devices as cores; PyTorch's native LSTM
uses a thread a core.
"""

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from experiments.bench import harness
from experiments.bench.harness import Arrays, Samples, Solver
from mllab.report.table import Table

RATES = (0.001, 0.002, 0.005, 0.01)
SEEDS = 2
SHAPES = ((32, 64, 128), (32, 64, 256))  # windows side by side, characters each, units
VOCABULARY, EMBEDDING = 65, 64
STEPS, CALLS = 20, 3
TARGET = 1.5  # least ratio of PyTorch's seconds to mllab's
TOLERANCE = 1e-3  # relative, of the losses of the last step


def problems(settings: harness.Settings) -> Iterator[tuple[str, Arrays]]:
    """Yield the problem of each shape."""
    del settings
    for shape in SHAPES:
        batch, window, hidden = shape
        yield f"{hidden} units, {batch} windows of {window}", problem(*shape, STEPS)


def problem(batch: int, window: int, hidden: int, steps: int) -> Arrays:
    """Return the text, its windows [S, B], and the weights of each seed."""
    import jax

    from mllab import rows

    length = batch * window * steps
    text = np.random.default_rng(0).integers(0, VOCABULARY, length + 1).astype(np.int32)
    arrays = {"text": text, "starts": np.asarray(rows.streams(length, batch, window).ids), "window": np.asarray(window)}
    for seed in range(SEEDS):
        params, _ = language_model(hidden, batch).init(jax.random.split(jax.random.key(seed))[0])
        named = {"embedding": params.embedding, "w_out": params.w_out, **vars(params.layers[0])}
        arrays |= {f"{name} {seed}": np.asarray(value) for name, value in named.items()}
    return arrays


def language_model(hidden: int, batch: int) -> Any:
    """Return mllab's model."""
    from mllab.models.recurrent import language

    return language.model(VOCABULARY, hidden=hidden, embedding=EMBEDDING, cell="lstm", batch_size=batch)


def mllab(problem: Arrays) -> Solver:
    """Return mllab's lanes, spread over all devices."""
    import jax
    import jax.numpy as jnp
    import optax

    from mllab import devices, rows, sweep, training
    from mllab.types import Losses, Rows

    starts, window = problem["starts"], int(problem["window"])
    model = language_model(problem["w_h 0"].shape[0], starts.shape[1])

    def objective(hyper, params, extra, batch, key):
        logits, extra = model.apply(params, extra, batch["tokens"], None)
        values = optax.softmax_cross_entropy_with_integer_labels(logits, batch["targets"])
        return Losses(values, jnp.ones_like(values)), extra

    run = training.supervised(
        model.init, objective, lambda hyper: optax.adam(hyper["learning_rate"]),
        lambda hyper, params, extra, batch: ({}, extra), gather=functools.partial(rows.windows, size=window),
    )  # fmt: skip
    mesh, grid = devices.mesh(), sweep.grid({"learning_rate": RATES}, SEEDS)
    many = sweep.lanes(run, grid.schedule, mesh=mesh, group=1)
    examples = {"tokens": problem["text"][:-1], "targets": problem["text"][1:]}
    schedule = Rows(starts, np.ones(starts.shape, np.float32))
    state, advance = jax.jit(many.start)(grid.hyper, grid.key), jax.jit(many.advance)

    def solve():
        return jax.block_until_ready(advance(grid.hyper, state, examples, schedule)[1])

    return Solver(solve, lambda losses: {"losses": np.asarray(losses)[:, -1].tolist()}, calls=CALLS)


def torch(problem: Arrays) -> Solver:
    """Return PyTorch's trainings one after another, with a thread a core, or on a CUDA GPU."""
    import torch as pytorch

    from experiments.bench import torch_start
    from mllab import devices

    device = torch_start.start(devices.cores())
    starts, window = problem["starts"], int(problem["window"])
    text = pytorch.from_numpy(problem["text"].astype(np.int64)).to(device)
    windows = pytorch.from_numpy(starts[..., None] + np.arange(window)).to(device)  # [S, B, T]

    def network(seed):
        weights = {name: problem[f"{name} {seed}"] for name in ("embedding", "w_x", "w_h", "b", "w_out")}
        modules = pytorch.nn.ModuleList([
            pytorch.nn.Embedding(VOCABULARY, EMBEDDING),
            pytorch.nn.LSTM(EMBEDDING, weights["w_h"].shape[0], batch_first=True),
            pytorch.nn.Linear(weights["w_h"].shape[0], VOCABULARY),
        ])  # fmt: skip
        zeros = np.zeros_like(weights["b"])
        values = (weights["embedding"], weights["w_x"].T, weights["w_h"].T, weights["b"], zeros, weights["w_out"].T)
        with pytorch.no_grad():
            for parameter, value in zip(modules.parameters(), (*values, np.zeros(VOCABULARY)), strict=True):
                parameter.copy_(pytorch.from_numpy(np.ascontiguousarray(value)))
        modules[1].bias_hh_l0.requires_grad_(False)  # mllab's LSTM has one bias
        return modules

    def train(seed, rate):
        modules = network(seed)
        embedding, lstm, out = modules
        learned = [parameter for parameter in modules.parameters() if parameter.requires_grad]
        optimizer, carry = pytorch.optim.Adam(learned, rate), None
        for places in windows:
            states, carry = lstm(embedding(text[places]), carry)
            carry = tuple(each.detach() for each in carry)
            logits = out(states).reshape(-1, VOCABULARY)
            loss = pytorch.nn.functional.cross_entropy(logits, text[places + 1].reshape(-1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return loss.item()

    return Solver(
        lambda: [train(seed, rate) for seed in range(SEEDS) for rate in RATES],
        lambda losses: {"losses": losses}, warm_up=lambda: train(0, RATES[0]), calls=CALLS,
    )  # fmt: skip


SOLVERS = {"mllab": mllab, "torch": torch}


def table(name: str, samples: Samples) -> Table:
    """Return the table of one shape."""
    losses = {solver: np.array(each[0].report["losses"]) for solver, each in samples.items()}
    apart = np.abs(losses["torch"] / losses["mllab"] - 1).max()
    return harness.comparison(
        f"eight trainings, {name}",
        samples,
        {"torch": TARGET},
        {"last losses apart": lambda solver: None if solver == "mllab" else f"{apart:.0e}"},
        lambda solver: bool(apart <= TOLERANCE),
    )


main, run = harness.solver_program("language_lanes", harness.Settings, problems, SOLVERS, table)

if __name__ == "__main__":
    harness.start(main, **harness.solving(SOLVERS, all_cores=True))
