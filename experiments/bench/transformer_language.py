r"""A Transformer trained on tinyshakespeare with nanoGPT's setting for a CPU, beside PyTorch running the same.

  python -m experiments.bench.transformer_language --data_dir=FOLDER

4 layers, 4 heads, 128 features, a context of 64, batches of 12 random windows, 2,000 steps; AdamW (0.9, 0.99), weight
decay 0.1 of matrices, gradients clipped to norm 1, a learning rate of 1e-3 after 100 steps of warm-up, then a cosine to
1e-4 (github.com/karpathy/nanoGPT, README, "I only have a macbook": validation loss 1.88). The first 90% of the text
train; the loss is that of all windows of the rest, side by side. Both begin from the same weights and read the same
windows. PyTorch's model is written as nanoGPT's, with a thread a core; mllab splits each batch over a device a core.
Compilation is not timed.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments import frame
from experiments.bench import harness
from experiments.bench.harness import Arrays, Samples, Solver
from mllab.report.table import Table

WIDTH, LAYERS, HEADS, CONTEXT, BATCH = 128, 4, 4, 64, 12
RATE, LEAST_RATE, WARM_UP, DECAY, CLIP, BETAS = 1e-3, 1e-4, 100, 0.1, 1.0, (0.9, 0.99)
TRAIN = 0.9  # share of the text
PUBLISHED, TOLERANCE = 1.88, 0.02  # validation loss, in nats
TARGET = 1.0  # least ratio of PyTorch's seconds to mllab's


@dataclass(frozen=True, kw_only=True)
class Settings(harness.DataSettings):
    """Where the text is, and how long to train."""

    steps: int = frame.whole(2000, help="Steps of training; fewer do not reach the published loss.", low=1)


def problems(settings: Settings) -> Iterator[tuple[str, Arrays]]:
    """Yield the one problem."""
    from mllab.data import texts

    text = texts.load("tinyshakespeare", data_dir=settings.data_dir)
    yield f"{settings.steps:,} steps", problem(text.ids, len(text.vocabulary), settings.steps)


def problem(ids: np.ndarray, vocabulary: int, steps: int) -> Arrays:
    """Return the text, the windows of each step and of the validation part, and the initial weights."""
    import jax

    end = int(TRAIN * len(ids))
    starts = np.random.default_rng(0).integers(0, end - CONTEXT, (steps, BATCH)).astype(np.int32)
    held_out = np.arange(end, len(ids) - CONTEXT, CONTEXT).astype(np.int32)
    params, _ = language_model(vocabulary).init(jax.random.split(jax.random.key(0))[0])
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    weights = {jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf) for path, leaf in leaves}
    return {"text": ids.astype(np.int32), "starts": starts, "held_out": held_out, **weights}


def language_model(vocabulary: int) -> Any:
    """Return the model."""
    from mllab.models import transformer

    return transformer.language(vocabulary, width=WIDTH, layers=LAYERS, heads=HEADS, context=CONTEXT)


def rate(step: Any, steps: int, cos: Any, where: Any) -> Any:
    """Return nanoGPT's learning rate of a step, counted from 0."""
    passed = (step - WARM_UP) / max(1, steps - WARM_UP)
    return where(
        step < WARM_UP,
        RATE * (step + 1) / (WARM_UP + 1),
        LEAST_RATE + 0.5 * (1 + cos(np.pi * passed)) * (RATE - LEAST_RATE),
    )


def mllab(problem: Arrays) -> Solver:
    """Return mllab's training, each batch split over all devices."""
    import jax
    import jax.numpy as jnp
    import optax

    from mllab import devices, rows, sweep, training
    from mllab.types import Losses, Rows

    starts, steps = problem["starts"], len(problem["starts"])
    model = language_model(len(problem["embedding"]))

    def objective(hyper, params, extra, batch, key):
        logits, extra = model.apply(params, extra, batch["tokens"], None)
        values = optax.softmax_cross_entropy_with_integer_labels(logits, batch["targets"])
        return Losses(values, jnp.ones_like(values)), extra

    def optimizer(hyper):
        schedule = functools.partial(rate, steps=steps, cos=jnp.cos, where=jnp.where)
        decayed = functools.partial(jax.tree.map, lambda leaf: leaf.ndim > 1)
        adam = optax.adamw(schedule, *BETAS, weight_decay=DECAY, mask=decayed)
        return optax.chain(optax.clip_by_global_norm(CLIP), adam)

    def metrics(hyper, params, extra, batch):
        losses, extra = objective(hyper, params, extra, batch, None)
        return {"loss": losses}, extra

    gather = functools.partial(rows.windows, size=CONTEXT)
    grid = sweep.grid({"unused": 0.0}, 1)
    run = training.supervised(model.init, objective, optimizer, metrics, gather=gather)
    run = sweep.batches(run, grid.schedule, mesh=devices.mesh())
    examples = {"tokens": problem["text"][:-1], "targets": problem["text"][1:]}
    hyper, keys = grid.hyper, jax.vmap(jax.random.key)(jnp.zeros(1, jnp.int32))
    state = jax.jit(run.start)(hyper, keys)
    schedule = Rows(starts, np.ones(starts.shape, np.float32))
    advance = jax.jit(run.advance).lower(hyper, state, examples, schedule).compile()

    def solve():
        return jax.block_until_ready(advance(hyper, state, examples, schedule))

    def report(result):
        after, losses = result
        held_out = problem["held_out"][: len(problem["held_out"]) // BATCH * BATCH].reshape(-1, BATCH)
        scored = Rows(held_out, np.ones(held_out.shape, np.float32))
        loss = jax.jit(run.score)(hyper, after, examples, scored)["loss"]
        return {"validation": float(loss[0]), "losses": np.asarray(losses)[0].tolist()}

    return Solver(solve, report, warm_up=lambda: None)


def torch(problem: Arrays) -> Solver:
    """Return PyTorch's training, as nanoGPT writes it, with a thread a core, or on a CUDA GPU."""
    import torch as pytorch
    from torch import nn

    from experiments.bench import torch_start
    from mllab import devices

    device = torch_start.start(devices.cores())
    functional, starts = nn.functional, problem["starts"]
    text = pytorch.from_numpy(problem["text"].astype(np.int64)).to(device)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.ln_1, self.ln_2 = (nn.LayerNorm(WIDTH, bias=False) for _ in range(2))
            self.attention, self.projection = (nn.Linear(WIDTH, n * WIDTH, bias=False) for n in (3, 1))
            self.wide, self.narrow = nn.Linear(WIDTH, 4 * WIDTH, bias=False), nn.Linear(4 * WIDTH, WIDTH, bias=False)

        def forward(self, x):
            b, t, c = x.shape
            parts = self.attention(self.ln_1(x)).split(c, dim=2)
            q, k, v = (part.view(b, t, HEADS, c // HEADS).transpose(1, 2) for part in parts)
            y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.projection(y.transpose(1, 2).contiguous().view(b, t, c))
            return x + self.narrow(functional.gelu(self.wide(self.ln_2(x))))

    class GPT(nn.Module):
        def __init__(self):
            super().__init__()
            vocabulary = len(problem["embedding"])
            self.embedding, self.positions = nn.Embedding(vocabulary, WIDTH), nn.Embedding(CONTEXT, WIDTH)
            self.blocks, self.norm = nn.ModuleList(Block() for _ in range(LAYERS)), nn.LayerNorm(WIDTH, bias=False)

        def forward(self, tokens, targets):
            x = self.embedding(tokens) + self.positions(pytorch.arange(tokens.shape[1]))
            for block in self.blocks:
                x = block(x)
            logits = functional.linear(self.norm(x), self.embedding.weight)
            return functional.cross_entropy(logits.view(-1, logits.shape[-1]), targets.reshape(-1))

    def network():
        model = GPT()
        tensors = {"embedding": model.embedding.weight, "positions": model.positions.weight}
        tensors["norm.scale"] = model.norm.weight
        for place, block in enumerate(model.blocks):
            named = {
                "attention_norm.scale": block.ln_1, "feed_forward_norm.scale": block.ln_2,
                "attention.w_in": block.attention, "attention.w_out": block.projection,
                "feed_forward.w_1": block.wide, "feed_forward.w_2": block.narrow,
            }  # fmt: skip
            tensors |= {f"layers.{place}.{name}": part.weight for name, part in named.items()}
        with pytorch.no_grad():
            for name, tensor in tensors.items():
                value = pytorch.from_numpy(problem[name].copy())
                # A dense layer's weights are [out, in] there, [in, ..., out] here; w_out's inputs are [N, D].
                is_dense = name.endswith((".w_in", ".w_out", ".w_1", ".w_2"))
                tensor.copy_(value.reshape(tensor.shape[1], tensor.shape[0]).T if is_dense else value)
        return model

    def windows(places):
        index = pytorch.from_numpy(places[:, None] + np.arange(CONTEXT + 1)).to(device)
        return text[index[:, :-1]], text[index[:, 1:]]

    def solve():
        model, losses = network(), []
        groups = [
            {"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": DECAY},
            {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
        ]
        optimizer = pytorch.optim.AdamW(groups, lr=RATE, betas=BETAS)
        for step, places in enumerate(starts):
            for group in optimizer.param_groups:
                group["lr"] = float(rate(step, len(starts), np.cos, np.where))
            loss = model(*windows(places))
            loss.backward()
            pytorch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(loss.detach())
        return model, [loss.item() for loss in losses]

    def report(result):
        model, losses = result
        held_out = problem["held_out"][: len(problem["held_out"]) // BATCH * BATCH].reshape(-1, BATCH)
        with pytorch.no_grad():
            loss = np.mean([model(*windows(places)).item() for places in held_out])
        return {"validation": float(loss), "losses": losses}

    def warm_up():
        model = network()
        model(*windows(starts[0])).backward()

    return Solver(solve, report, warm_up=warm_up)


SOLVERS = {"mllab": mllab, "torch": torch}


def table(name: str, samples: Samples) -> Table:
    """Return the seconds of a training and the validation loss after it."""
    steps = len(samples["mllab"][0].report["losses"])
    loss = harness.figure(samples["mllab"], "validation")
    return harness.comparison(
        name,
        samples,
        {"torch": TARGET},
        {
            "ms a step": lambda solver: f"{1000 * harness.figure(samples[solver], 'seconds') / steps:.1f}",
            "validation loss": lambda solver: f"{harness.figure(samples[solver], 'validation'):.3f}",
        },
        lambda solver: bool(loss <= PUBLISHED + TOLERANCE),
    )


main, run = harness.solver_program("transformer_language", Settings, problems, SOLVERS, table)

if __name__ == "__main__":
    harness.start(main, **harness.solving(SOLVERS, all_cores=True))
