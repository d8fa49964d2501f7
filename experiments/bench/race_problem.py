"""The problem of the race: data, split, minibatches and initial weights, drawn as mllab draws them.

Peers read arrays, so that none of them needs JAX or parses data; writing the file is not timed.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from mllab import optimizers, racing
from mllab.data import catalog
from mllab.models import table
from mllab.models.base import Model
from mllab.rows import minibatches
from mllab.tasks import CLASSIFICATION


def build(sizes: Sequence[int]) -> Model:
    """Return the MLP with these layer sizes, inputs and classes included; softmax regression if there are only two."""
    if len(sizes) == 2:
        return table.build(table.plan("softmax", sizes[:1], sizes[1]))
    return table.build(table.plan("mlp", sizes[:1], sizes[-1], hidden=tuple(sizes[1:-1])))


def initial_weights(model: Model, seeds: int) -> dict[str, Any]:
    """Return w0, b0, w1, b1, ...: the weights and biases [G, ...] of each seed, from the first layer to the last."""
    run = racing.problem(model, CLASSIFICATION)(lambda hyper: optimizers.build("sgd", 0.1))
    params = jax.vmap(lambda seed: run.start({}, jax.random.key(seed)).params)(np.arange(seeds))
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(params)]  # weights and biases in turn
    return {f"{'wb'[number % 2]}{number // 2}": leaf for number, leaf in enumerate(leaves)}


def write(output: str, sizes: Sequence[int], seeds: int, epochs: int, batch_size: int) -> dict[str, Any]:
    """Write the problem of the digits as an .npz file: M training rows, G seeds, E epochs.

    The file has train_x [M, 64], train_y [M], validation_x and validation_y; orders [G, E, M] of the training rows;
    batch_size; and w0, b0, w1, b1, ..., the initial weights [G, D_in, D_out] and biases [G, D_out] of each seed.

    Returns:
        The numbers of rows.
    """
    data = catalog.load("digits", split_seed=0)
    inputs = data.inputs.reshape(len(data.inputs), -1)
    train, validation = data.split.train, data.split.validation
    # Positions among the training rows are permuted like the rows themselves; padding is at the end of each epoch.
    schedule = minibatches(np.arange(len(train)), batch_size, epochs, range(seeds))
    orders = schedule.ids.reshape(seeds, epochs, -1)[..., : len(train)]
    np.savez(
        output,
        train_x=inputs[train],
        train_y=data.targets[train].astype(np.int64),
        validation_x=inputs[validation],
        validation_y=data.targets[validation].astype(np.int64),
        orders=orders.astype(np.int64),
        batch_size=batch_size,
        **initial_weights(build(sizes), seeds),
    )
    return {"train_rows": len(train), "validation_rows": len(validation)}
