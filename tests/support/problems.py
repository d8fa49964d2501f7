"""Small problems that several test modules train on."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mllab import losses, metrics, training
from mllab.models import mlp
from mllab.models.base import Model, plain
from mllab.rows import blocks, minibatches

SIZES = (6, 8, 3)


def examples(count: int = 60, seed: int = 0, dtype=np.float32) -> dict:
    """Return points of three Gaussian classes in six dimensions."""
    draw = np.random.default_rng(seed)
    targets = np.arange(count, dtype=np.int32) % 3
    centres = draw.normal(size=(3, 6)) * 1.5
    return {"inputs": (centres[targets] + draw.normal(size=(count, 6))).astype(dtype), "targets": targets}


def model() -> Model:
    return plain(lambda key: mlp.init(key, SIZES), mlp.apply)


def run(optimizer=optax.adam) -> training.Run:
    """Return a run of the small MLP with a traced learning rate."""
    return training.supervised(
        model().init,
        training.objective(model(), losses.cross_entropy),
        lambda hyper: optimizer(hyper["learning_rate"]),
        training.measure(model(), metrics.classification),
    )


def rows(count: int = 60, batch: int = 8, epochs: int = 4, seeds=(0,)) -> tuple:
    """Return a schedule [P, S, B] of the first two thirds of the rows, and the others as held-out rows."""
    cut = count * 2 // 3
    return (
        minibatches(np.arange(cut), batch, epochs, seeds),
        blocks(np.arange(cut, count), 10),
    )


def equal(a, b) -> bool:
    """Return whether two pytrees are equal to the bit; NaNs are compared by their bits, keys by their data."""

    def bits(leaf):
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        return np.asarray(leaf)

    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(bits(x).tobytes() == bits(y).tobytes() for x, y in pairs)
