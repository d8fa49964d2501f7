r"""A peer: the race as a loop over runs in PyTorch.

  python -m experiments.bench.torch_loop --data=race.npz --threads=1 --report=torch.json

It imports nothing of mllab, so that it pays for PyTorch alone. Data are tensors already, batches are index tensors
and no `DataLoader`, which would be several times slower.
"""

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

OPTIMIZERS = {
    "sgd": (torch.optim.SGD, {}),
    "momentum": (torch.optim.SGD, {"momentum": 0.9}),
    # optax divides by sqrt(v + 1e-8), PyTorch by sqrt(v) + eps: 1e-4 is the same floor.
    "rmsprop": (torch.optim.RMSprop, {"alpha": 0.9, "eps": 1e-4}),
    "adam": (torch.optim.Adam, {}),
}


def parsed() -> argparse.Namespace:
    """Return the flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="file that experiments.bench.prepare wrote")
    parser.add_argument("--report", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--optimizers", default="sgd,momentum,rmsprop,adam", help="names, separated by commas")
    parser.add_argument("--learning_rates", required=True, help="numbers, separated by commas")
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch")
    parser.add_argument("--fused", type=int, default=0, help="1: fused optimizers, where PyTorch has them")
    parser.add_argument("--epochs", type=int, help="epochs (default: as many as the file holds)")
    parser.add_argument("--part", type=int, default=0, help="which part of the runs, of --parts")
    parser.add_argument("--parts", type=int, default=1, help="processes that share the runs")
    return parser.parse_args()


def build(data: dict[str, torch.Tensor], seed: int) -> nn.Sequential:
    """Return the MLP with its seed's starting weights."""
    layers: list[nn.Module] = []
    for depth in range(sum(name.startswith("w") for name in data)):
        w, b = data[f"w{depth}"][seed], data[f"b{depth}"][seed]
        layer = nn.Linear(*w.shape)
        with torch.no_grad():
            layer.weight.copy_(w.T)
            layer.bias.copy_(b)
        layers += [nn.ReLU(), layer] if layers else [layer]
    return nn.Sequential(*layers)


def train(
    model: nn.Module, optimizer: torch.optim.Optimizer, data: dict[str, torch.Tensor], order: torch.Tensor
) -> tuple[list[float], list[float]]:
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


def main() -> None:
    """Train every run of this part and write the report."""
    args = parsed()
    torch.set_num_threads(args.threads)
    with np.load(args.data) as file:
        data = {name: torch.from_numpy(file[name]) for name in file.files}
    rates = [float(rate) for rate in args.learning_rates.split(",")]
    grid = [
        (name, rate, seed)
        for name in args.optimizers.split(",")
        for seed in range(len(data["orders"]))
        for rate in rates
    ]
    runs = []
    for name, rate, seed in grid[args.part :: args.parts]:
        began = time.perf_counter()
        model = build(data, seed)
        optimizer, options = OPTIMIZERS[name]
        if args.fused and name != "rmsprop":
            options = options | {"fused": True}
        made = optimizer(model.parameters(), lr=rate, **options)
        losses, accuracies = train(model, made, data, data["orders"][seed, : args.epochs])
        runs.append(
            {
                "optimizer": name,
                "learning_rate": rate,
                "seed": seed,
                "validation_loss": [loss if math.isfinite(loss) else None for loss in losses],
                "validation_accuracy": accuracies,
                "seconds": time.perf_counter() - began,
            }
        )
    report = {"runs": runs, "seconds": sum(run["seconds"] for run in runs), "threads": args.threads}
    args.report.write_text(json.dumps(report))


if __name__ == "__main__":
    main()
