r"""A peer: the race by `torch.func`, all runs of an optimizer in one batched program.

  python -m experiments.bench.torch_func --data=race.npz --learning_rates=0.01,0.1 --report=func.json

`torch.optim` knows nothing of lanes with rates of their own, so the updates are written out over stacked params.
"""

import json
import math
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

from experiments.bench.torch_loop import build, parsed

Tensors = dict[str, Tensor]
Update = Callable[[Tensors, Tensors, Tensors], None]  # (params, gradients, rates), by name; writes in place


def sgd(params: Tensors) -> Update:
    """Return gradient descent over stacked params."""

    def update(params, gradients, rates):
        for name, param in params.items():
            param.sub_(rates[name] * gradients[name])

    return update


def momentum(params: Tensors) -> Update:
    """Return SGD with momentum 0.9."""
    velocity = {name: torch.zeros_like(param) for name, param in params.items()}

    def update(params, gradients, rates):
        for name, param in params.items():
            velocity[name].mul_(0.9).add_(gradients[name])
            param.sub_(rates[name] * velocity[name])

    return update


def rmsprop(params: Tensors) -> Update:
    """Return RMSProp, decay 0.9, as optax has it."""
    square = {name: torch.zeros_like(param) for name, param in params.items()}

    def update(params, gradients, rates):
        for name, param in params.items():
            square[name].mul_(0.9).addcmul_(gradients[name], gradients[name], value=0.1)
            param.sub_(rates[name] * gradients[name] * (square[name] + 1e-8).rsqrt_())

    return update


def adam(params: Tensors) -> Update:
    """Return Adam with its usual constants."""
    mean = {name: torch.zeros_like(param) for name, param in params.items()}
    square = {name: torch.zeros_like(param) for name, param in params.items()}
    steps = 0

    def update(params, gradients, rates):
        nonlocal steps
        steps += 1
        first, second = 1 - 0.9**steps, math.sqrt(1 - 0.999**steps)
        for name, param in params.items():
            mean[name].mul_(0.9).add_(gradients[name], alpha=0.1)
            square[name].mul_(0.999).addcmul_(gradients[name], gradients[name], value=0.001)
            param.sub_(rates[name] / first * mean[name] / (square[name].sqrt().div_(second).add_(1e-8)))

    return update


UPDATES = {"sgd": sgd, "momentum": momentum, "rmsprop": rmsprop, "adam": adam}


def train(name: str, data: Tensors, rates: list[float], epochs: int | None) -> tuple[Tensor, Tensor]:
    """Train all rates × seeds of one optimizer; return validation loss and accuracy [E, L], seed by seed."""
    seeds = [seed for seed in range(len(data["orders"])) for _ in rates]
    models = [build(data, seed) for seed in seeds]
    params, _ = stack_module_state(models)
    params = {layer: param.detach() for layer, param in params.items()}
    lane_rates = torch.tensor(rates * len(data["orders"]))
    rate_of = {layer: lane_rates.reshape(-1, *[1] * (param.ndim - 1)) for layer, param in params.items()}

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
            update(params, gradients(params, data["train_x"][batch], data["train_y"][batch]), rate_of)
        logits = outputs(params, data["validation_x"])  # [L, M, C]
        each = nn.functional.cross_entropy(logits.transpose(1, 2), targets.expand(len(seeds), -1), reduction="none")
        losses.append(each.mean(dim=1))
        accuracies.append((logits.argmax(dim=2) == targets).float().mean(dim=1))
    return torch.stack(losses), torch.stack(accuracies)


def main() -> None:
    """Train every run and write the report."""
    args = parsed()
    torch.set_num_threads(args.threads)
    with np.load(args.data) as file:
        data = {name: torch.from_numpy(file[name]) for name in file.files}
    rates = [float(rate) for rate in args.learning_rates.split(",")]
    began, runs = time.perf_counter(), []
    for name in args.optimizers.split(","):
        losses, accuracies = train(name, data, rates, args.epochs)
        for lane in range(losses.shape[1]):
            runs.append(
                {
                    "optimizer": name,
                    "learning_rate": rates[lane % len(rates)],
                    "seed": lane // len(rates),
                    "validation_loss": [loss if math.isfinite(loss) else None for loss in losses[:, lane].tolist()],
                    "validation_accuracy": accuracies[:, lane].tolist(),
                }
            )
    report = {"runs": runs, "seconds": time.perf_counter() - began, "threads": args.threads}
    args.report.write_text(json.dumps(report))


if __name__ == "__main__":
    main()
