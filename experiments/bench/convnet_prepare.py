r"""Write what the conv net and its PyTorch twins train on, as mllab itself would draw it: images, batches, weights.

  python -m experiments.bench.convnet_prepare --dataset=mnist --batch_size=128 --timed_steps=60 --output=convnet.npz

Every program reads the same arrays, so that none of them pays for parsing data; making the file is not timed.
"""

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from absl import flags

from experiments import flags as shared
from experiments.bench import prepare
from experiments.workdir import launch
from mllab import optimizers, racing
from mllab.data import catalog
from mllab.data.dataset import Dataset
from mllab.models import convnet
from mllab.models.base import Model
from mllab.rows import check_batch, minibatches

CHANNELS = (32, 64)  # of the reference net; its hidden layer is `convnet.convnet`'s own, of 128

for flag in (prepare.OUTPUT, shared.DATASET, shared.DATA_DIR, shared.SEEDS, shared.BATCH_SIZE):
    flags.declare_key_flag(flag.name)
TIMED_STEPS = flags.DEFINE_integer("timed_steps", 60, "Steps that are timed, after as many to warm up.", lower_bound=1)


def main(argv: Sequence[str]) -> None:
    """Read the flags and write the file."""
    data = catalog.load(shared.DATASET.value or "mnist", data_dir=shared.DATA_DIR.value)
    write(
        Path(prepare.OUTPUT.value),
        data,
        channels=CHANNELS,
        seeds=range(shared.SEEDS.value),
        timed_steps=TIMED_STEPS.value,
        batch_size=shared.BATCH_SIZE.value,
    )


def net(channels: Sequence[int], shape: Sequence[int], classes: int) -> Model:
    """Return the conv net: for each of `channels` a 3 x 3 convolution, pooling by 2 and ReLU; 128 units; classes."""
    return convnet.model(convnet.convnet(classes, channels=channels), tuple(shape))


def write(
    output: Path, data: Dataset, *, channels: Sequence[int], seeds: Sequence[int], timed_steps: int, batch_size: int
) -> None:
    """Write one .npz of the data set's M training rows and G seeds.

    images [M, height, width, C] and labels [M]; orders [G, S, B] into them, S being twice `timed_steps`; channels and
    classes; w0, b0, w1, b1, ...: the weights and biases [G, ...] that each seed starts from, in mllab's layouts;
    platform: what JAX computes on here, and its peers therefore too.
    """
    train = data.split.train
    check_batch(batch_size, len(train))
    whole = len(train) // batch_size  # batches of an epoch: what would be left over is left out, as nothing is padded
    schedule = minibatches(np.arange(whole * batch_size), batch_size, -(-2 * timed_steps // whole), seeds)
    built = net(channels, data.inputs.shape[1:], len(data.classes))
    start = racing.problem(built, "classification")(lambda hyper: optimizers.build("sgd", 0.1)).start
    starts = jax.vmap(lambda seed: start({}, jax.random.key(seed)).params)(np.asarray(seeds))
    leaves = jax.tree.leaves(starts)  # weights and biases in turn, from the first layer to the last
    names = [f"{name}{depth}" for depth in range(len(leaves) // 2) for name in "wb"]
    np.savez(
        output,
        images=data.inputs[train],
        labels=data.targets[train].astype(np.int64),
        orders=schedule.ids[:, : 2 * timed_steps].astype(np.int64),
        channels=np.asarray(channels),
        classes=len(data.classes),
        platform=jax.default_backend(),
        **dict(zip(names, leaves, strict=True)),
    )


if __name__ == "__main__":
    launch(main)
