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
    """Three classes of Gaussian points in six dimensions."""
    draw = np.random.default_rng(seed)
    targets = np.arange(count, dtype=np.int32) % 3
    centres = draw.normal(size=(3, 6)) * 1.5
    return {"inputs": (centres[targets] + draw.normal(size=(count, 6))).astype(dtype), "targets": targets}


def model() -> Model:
    return plain(lambda key: mlp.init(key, SIZES), mlp.apply)


def run(optimizer=optax.adam) -> training.Run:
    """A run of the small MLP, its learning rate traced."""
    return training.supervised(
        model().init,
        training.objective(model(), losses.cross_entropy),
        lambda hyper: optimizer(hyper["learning_rate"]),
        training.measure(model(), metrics.classification),
    )


def rows(count: int = 60, batch: int = 8, epochs: int = 4, seeds=(0,)) -> tuple:
    """(schedule [P, S, B] over the first two thirds, held-out rows over the rest)."""
    cut = count * 2 // 3
    return (
        minibatches(np.arange(cut), batch, epochs, seeds),
        blocks(np.arange(cut, count), 10),
    )


def equal(a, b) -> bool:
    """Whether two pytrees are equal to the bit, NaN included; typed keys too."""

    def bits(leaf):
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        return np.asarray(leaf)

    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(bits(x).tobytes() == bits(y).tobytes() for x, y in pairs)
