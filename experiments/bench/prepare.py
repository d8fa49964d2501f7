r"""Write what every peer of a benchmark is given, as mllab itself would draw it: data, split, batches, initial weights.

  python -m experiments.bench.prepare --sizes=64,128,128,10 --seeds=3 --epochs=20 --output=race.npz

Peers read arrays, so that none of them pays for JAX or for parsing data; making the file is not timed.
"""

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from absl import flags

from experiments import flags as shared
from experiments.bench import model
from experiments.workdir import launch
from mllab import optimizers, racing
from mllab.data import catalog
from mllab.rows import minibatches

for flag in (model.SIZES, shared.SEEDS, shared.EPOCHS, shared.BATCH_SIZE):
    flags.declare_key_flag(flag.name)
OUTPUT = flags.DEFINE_string("output", "race.npz", ".npz file to write.")


def main(argv: Sequence[str]) -> None:
    """Read the flags and write the file."""
    prepare(Path(OUTPUT.value), model.sizes(), range(shared.SEEDS.value), shared.EPOCHS.value, shared.BATCH_SIZE.value)


def prepare(output: Path, sizes: Sequence[int], seeds: Sequence[int], epochs: int, batch_size: int) -> None:
    """Write one .npz of the digits: M training rows, G seeds, E epochs.

    train_x [M, 64], train_y [M], validation_x, validation_y; orders [G, E, M] into the training rows; batch_size;
    w0, b0, w1, b1, ...: the weights [G, D_in, D_out] and biases [G, D_out] that each seed starts from.
    """
    data = catalog.load("digits", split_seed=0)
    inputs = data.inputs.reshape(len(data.inputs), -1)
    train, validation = data.split.train, data.split.validation
    # Positions among the training rows are permuted just as the rows themselves are; padding ends each epoch.
    schedule = minibatches(np.arange(len(train)), batch_size, epochs, seeds)
    orders = schedule.ids.reshape(len(seeds), epochs, -1)[..., : len(train)]
    start = racing.problem(model.build(sizes), "classification")(lambda hyper: optimizers.build("sgd", 0.1)).start
    starts = jax.vmap(lambda seed: start({}, jax.random.key(seed)).params)(np.asarray(seeds))
    layers = starts if isinstance(starts, tuple) else (starts,)
    weights = {f"{name}{depth}": array for depth, layer in enumerate(layers) for name, array in vars(layer).items()}
    np.savez(
        output,
        train_x=inputs[train],
        train_y=data.targets[train].astype(np.int64),
        validation_x=inputs[validation],
        validation_y=data.targets[validation].astype(np.int64),
        orders=orders.astype(np.int64),
        batch_size=batch_size,
        **weights,
    )


if __name__ == "__main__":
    launch(main)
