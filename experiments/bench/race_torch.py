r"""A peer of the race: PyTorch, as a loop over runs or with all runs of an optimizer in one batched program.

  python -m experiments.bench.race_torch --data=race.npz --learning_rates=0.01,0.1 --form=loop --report=torch.json

It computes on a CUDA GPU where there is one, and imports nothing of mllab, so that only PyTorch's own start counts. The
data are tensors, and batches are index tensors without a `DataLoader`, which would be several times slower.
"""

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

from experiments.bench import torch_start

FORMS = {
    "loop": "one run after another, by torch.optim",
    "fused": "the same with fused optimizers, where PyTorch has them",
    "func": "all runs of an optimizer at once, by torch.func",
}
OPTIMIZERS: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "sgd": (torch.optim.SGD, {}),
    "momentum": (torch.optim.SGD, {"momentum": 0.9}),
    # optax divides by sqrt(v + 1e-8), PyTorch by sqrt(v) + eps: 1e-4 is the same floor.
    "rmsprop": (torch.optim.RMSprop, {"alpha": 0.9, "eps": 1e-4}),
    "adam": (torch.optim.Adam, {}),
}

Tensors = dict[str, Tensor]
Update = Callable[[Tensors, Tensors, Tensors], None]  # (params, gradients, rates), by name; writes in place
Curves = tuple[list[float], list[float]]  # validation loss and accuracy after each epoch


def build(data: Tensors, seed: int) -> nn.Sequential:
    """Return the MLP with the initial weights of a seed."""
    layers: list[nn.Module] = []
    for depth in range(sum(name.startswith("w") for name in data)):
        w, b = data[f"w{depth}"][seed], data[f"b{depth}"][seed]
        layer = nn.Linear(*w.shape)
        with torch.no_grad():
            layer.weight.copy_(w.T)
            layer.bias.copy_(b)
        layers += [nn.ReLU(), layer] if layers else [layer]
    return nn.Sequential(*layers)


# ── A loop over runs ────────────────────────────────────────────────────────────────────────────────────────────────


def loop(data: Tensors, grid: list[tuple[str, float, int]], epochs: int | None, fused: bool) -> Iterator[Curves]:
    """Train the runs (optimizer, rate, seed) one after another."""
    for name, rate, seed in grid:
        model = build(data, seed)
        optimizer, options = OPTIMIZERS[name]
        if fused and name != "rmsprop":
            options = options | {"fused": True}
        yield train(model, optimizer(model.parameters(), lr=rate, **options), data, data["orders"][seed, :epochs])


def train(model: nn.Module, optimizer: torch.optim.Optimizer, data: Tensors, order: Tensor) -> Curves:
    """Train over `order` [E, M]; return validation loss and accuracy after each epoch."""
    x, y, batch_size = data["train_x"], data["train_y"], int(data["batch_size"])
    losses, accuracies = [], []
    for epoch in order:
        for batch in epoch.split(batch_size):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
        with torch.no_grad():
            logits = model(data["validation_x"])
            losses.append(nn.functional.cross_entropy(logits, data["validation_y"]).item())
            accuracies.append((logits.argmax(dim=1) == data["validation_y"]).float().mean().item())
    return losses, accuracies


# ── All runs at once: torch.optim has one rate for all lanes, so the updates are written out over stacked params ────


def sgd(params: Tensors) -> Update:
    """Return gradient descent."""

    def update(params: Tensors, gradients: Tensors, rates: Tensors) -> None:
        for name, param in params.items():
            param.sub_(rates[name] * gradients[name])

    return update


def momentum(params: Tensors) -> Update:
    """Return SGD with momentum 0.9."""
    velocity = {name: torch.zeros_like(param) for name, param in params.items()}

    def update(params: Tensors, gradients: Tensors, rates: Tensors) -> None:
        for name, param in params.items():
            velocity[name].mul_(0.9).add_(gradients[name])
            param.sub_(rates[name] * velocity[name])

    return update


def rmsprop(params: Tensors) -> Update:
    """Return RMSProp with decay 0.9, as in optax."""
    square = {name: torch.zeros_like(param) for name, param in params.items()}

    def update(params: Tensors, gradients: Tensors, rates: Tensors) -> None:
        for name, param in params.items():
            square[name].mul_(0.9).addcmul_(gradients[name], gradients[name], value=0.1)
            param.sub_(rates[name] * gradients[name] * (square[name] + 1e-8).rsqrt_())

    return update


def adam(params: Tensors) -> Update:
    """Return Adam with its default constants."""
    mean = {name: torch.zeros_like(param) for name, param in params.items()}
    square = {name: torch.zeros_like(param) for name, param in params.items()}
    steps = 0

    def update(params: Tensors, gradients: Tensors, rates: Tensors) -> None:
        nonlocal steps
        steps += 1
        first, second = 1 - 0.9**steps, math.sqrt(1 - 0.999**steps)
        for name, param in params.items():
            mean[name].mul_(0.9).add_(gradients[name], alpha=0.1)
            square[name].mul_(0.999).addcmul_(gradients[name], gradients[name], value=0.001)
            param.sub_(rates[name] / first * mean[name] / (square[name].sqrt().div_(second).add_(1e-8)))

    return update


UPDATES = {"sgd": sgd, "momentum": momentum, "rmsprop": rmsprop, "adam": adam}


def at_once(data: Tensors, grid: list[tuple[str, float, int]], epochs: int | None) -> Iterator[Curves]:
    """Train the runs (optimizer, rate, seed), all of one optimizer at once."""
    for name in dict.fromkeys(name for name, _, _ in grid):
        losses, accuracies = train_lanes(
            name, data, [(rate, seed) for each, rate, seed in grid if each == name], epochs
        )
        yield from zip(losses.T.tolist(), accuracies.T.tolist(), strict=True)


def train_lanes(name: str, data: Tensors, lanes: list[tuple[float, int]], epochs: int | None) -> tuple[Tensor, Tensor]:
    """Train lanes (rate, seed) of one optimizer; return validation loss and accuracy [E, L]."""
    seeds = [seed for _, seed in lanes]
    models = [build(data, seed) for seed in seeds]
    params, _ = stack_module_state(models)
    params = {layer: param.detach() for layer, param in params.items()}
    lane_rates = torch.tensor([rate for rate, _ in lanes])
    rates = {layer: lane_rates.reshape(-1, *[1] * (param.ndim - 1)) for layer, param in params.items()}

    def mean_loss(params: Tensors, x: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(functional_call(models[0], params, (x,)), y)

    gradients = vmap(grad(mean_loss))
    outputs = vmap(lambda params, x: functional_call(models[0], params, (x,)), in_dims=(0, None))
    update = UPDATES[name](params)
    orders = data["orders"][seeds, :epochs]  # [L, E, M]
    targets = data["validation_y"]
    losses, accuracies = [], []
    for epoch in orders.unbind(dim=1):
        for batch in epoch.split(int(data["batch_size"]), dim=1):
            update(params, gradients(params, data["train_x"][batch], data["train_y"][batch]), rates)
        logits = outputs(params, data["validation_x"])  # [L, M, C]
        each = nn.functional.cross_entropy(logits.transpose(1, 2), targets.expand(len(seeds), -1), reduction="none")
        losses.append(each.mean(dim=1))
        accuracies.append((logits.argmax(dim=2) == targets).float().mean(dim=1))
    return torch.stack(losses), torch.stack(accuracies)


def main() -> None:
    """Train every run of this part and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="file written by race_problem")
    parser.add_argument("--report", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--form", choices=list(FORMS), default="loop", help=str(FORMS))
    parser.add_argument("--optimizers", default=",".join(OPTIMIZERS), help="names, separated by commas")
    parser.add_argument("--learning_rates", required=True, help="numbers, separated by commas")
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch")
    parser.add_argument("--epochs", type=int, help="epochs (default: all in the file)")
    parser.add_argument("--part", type=int, default=0, help="which part of the runs, of --parts")
    parser.add_argument("--parts", type=int, default=1, help="number of processes that share the runs")
    args = parser.parse_args()
    device = torch_start.start(args.threads)
    with np.load(args.data) as file:
        data = {name: torch.from_numpy(file[name]).to(device) for name in file.files}
    rates = [float(rate) for rate in args.learning_rates.split(",")]
    seeds, names = range(len(data["orders"])), args.optimizers.split(",")
    grid = [(name, rate, seed) for name in names for seed in seeds for rate in rates][args.part :: args.parts]
    curves = (
        at_once(data, grid, args.epochs) if args.form == "func" else loop(data, grid, args.epochs, args.form == "fused")
    )
    runs, began = [], time.perf_counter()
    previous = began
    for (name, rate, seed), (losses, accuracies) in zip(grid, curves, strict=True):
        now = time.perf_counter()
        runs.append(
            {
                "optimizer": name,
                "learning_rate": rate,
                "seed": seed,
                "validation_loss": [loss if math.isfinite(loss) else None for loss in losses],
                "validation_accuracy": accuracies,
                "seconds": now - previous,  # of the loop; all runs at once have no seconds of their own
            }
        )
        previous = now
    report = {"runs": runs, "seconds": time.perf_counter() - began, "threads": args.threads}
    args.report.write_text(json.dumps(report))


if __name__ == "__main__":
    main()
