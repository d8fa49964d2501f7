r"""The peer of the conv net: PyTorch, one run after another.

  python -m experiments.bench.convnet_torch --data=convnet.npz --form=best --threads=2 --report=torch.json

It imports nothing of mllab. Images are tensors, and batches are index tensors without a `DataLoader`, which would be
several times slower. As in mllab, the first half of the file's steps warms up and the second half is timed. It trains
on a GPU where mllab does.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

FORMS = {
    "plain": "as usually written",
    "best": "channels-last, fused Adam, ReLU after pooling",
    "compiled": "the best form under torch.compile",
}


def parsed() -> argparse.Namespace:
    """Return the flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="file written by convnet_mllab")
    parser.add_argument("--report", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--form", choices=list(FORMS), default="plain", help=str(FORMS))
    parser.add_argument("--learning_rates", default="0.001", help="numbers, separated by commas")
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch")
    parser.add_argument("--precision", choices=["float32", "bf16"], default="float32", help="bf16: by autocast")
    parser.add_argument("--steps", type=int, help="steps, warm-up included (default: all in the file)")
    return parser.parse_args()


def build(data: dict[str, np.ndarray], seed: int, form: str) -> nn.Sequential:
    """Return the conv net with the initial weights of a seed, converted from mllab's layouts to PyTorch's.

    mllab's images are [B, height, width, C] and PyTorch's [B, C, height, width]. The inputs of the first dense layer
    are in that order too, so the rows of its weights are permuted.
    """
    layers: list[nn.Module] = []
    depths = sum(name[0] == "w" for name in data)
    for depth in range(depths):
        w, b = (torch.from_numpy(data[f"{name}{depth}"][seed]) for name in "wb")
        layer: nn.Conv2d | nn.Linear
        if w.ndim == 4:  # [window, window, C_in, C_out]
            window, _, before, after = w.shape
            layer = nn.Conv2d(before, after, window, padding=window // 2)
            weight = w.permute(3, 2, 0, 1)
            relu_and_pool = [nn.ReLU(), nn.MaxPool2d(2)]
            layers += [layer, *(relu_and_pool if form == "plain" else reversed(relu_and_pool))]
        else:  # [D_in, D_out]
            if data[f"w{depth - 1}"].ndim == 5:  # of a convolution, [G, ...]: this layer is the first dense one
                layers.append(nn.Flatten())
                w = w.unflatten(0, (-1, data[f"w{depth - 1}"].shape[-1])).transpose(0, 1).flatten(0, 1)
            layer = nn.Linear(*w.shape)
            weight = w.T
            layers += [layer, nn.ReLU()] if depth < depths - 1 else [layer]
        with torch.no_grad():
            layer.weight.copy_(weight)
            layer.bias.copy_(b)
    return nn.Sequential(*layers)


def train(
    model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor, order: Tensor, precision: str
) -> Tensor:
    """Train over the batches of `order` [S, B]; return each step's loss [S]."""
    lower = torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bf16")
    losses = []
    for batch in order:
        optimizer.zero_grad(set_to_none=True)
        with lower:
            loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses)


def timed(*arguments) -> tuple[float, list[float]]:
    """Return the seconds that `train` takes with these arguments, and its losses."""
    began = time.perf_counter()
    losses = train(*arguments).tolist()  # waits for a GPU
    return time.perf_counter() - began, losses


def device_of(platform: str) -> torch.device:
    """Return the device for PyTorch, given the platform that JAX computes on."""
    if platform == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise SystemExit(f"JAX computes on the {platform} here, but this PyTorch has no CUDA")
    return torch.device("cuda")


def main() -> None:
    """Train every run and write the report."""
    args = parsed()
    torch.set_num_threads(args.threads)
    with np.load(args.data) as file:
        data = dict(file)
    device = device_of(str(data["platform"]))
    if args.form != "plain":  # these matter on a GPU
        torch.backends.cudnn.benchmark = True
        torch.backends.cuda.matmul.allow_tf32 = True  # as in JAX by default
    layout = torch.contiguous_format if args.form == "plain" else torch.channels_last
    images = torch.from_numpy(data["images"]).permute(0, 3, 1, 2).to(device).contiguous(memory_format=layout)
    labels, orders = (torch.from_numpy(data[name]).to(device) for name in ("labels", "orders"))
    rates = [float(rate) for rate in args.learning_rates.split(",")]
    warm_up, seconds, losses = 0.0, 0.0, []
    for seed, order in enumerate(orders[:, : args.steps]):
        for rate in rates:
            model: nn.Module = build(data, seed, args.form).to(device, memory_format=layout)
            optimizer = torch.optim.Adam(model.parameters(), lr=rate, fused=args.form != "plain" or None)
            if args.form == "compiled":
                model = torch.compile(model)
            halves = [timed(model, optimizer, images, labels, half, args.precision) for half in order.chunk(2)]
            warm_up += halves[0][0]
            seconds += halves[1][0]
            losses.append([loss for _, half in halves for loss in half])
    report = {
        "compile_seconds": max(0.0, warm_up - seconds) if args.form == "compiled" else None,
        "images_per_second": len(rates) * orders[:, : args.steps].numel() / 2 / seconds,
        "losses": losses,
    }
    args.report.write_text(json.dumps(report))


if __name__ == "__main__":
    main()
