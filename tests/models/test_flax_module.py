"""Flax modules, linen and NNX, train through the same race and give Flax's own numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import mllab
from mllab.data.dataset import Split
from mllab.models import flax_module
from support import problems

SPLIT = Split(np.arange(36), np.arange(36, 48), np.arange(48, 60))


class Linen(linen.Module):
    @linen.compact
    def __call__(self, x, train):
        x = linen.relu(linen.BatchNorm(use_running_average=not train)(linen.Dense(8)(x)))
        return linen.Dense(3)(linen.Dropout(0.2, deterministic=not train)(x))


class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.first, self.last = nnx.Linear(6, 8, rngs=rngs), nnx.Linear(8, 3, rngs=rngs)
        self.norm, self.dropout = nnx.BatchNorm(8, rngs=rngs), nnx.Dropout(0.2, rngs=rngs)

    def __call__(self, x):
        return self.last(self.dropout(nnx.relu(self.norm(self.first(x)))))


MODELS = {
    "linen": lambda: flax_module.linen(Linen(), jnp.ones((1, 6))),
    "nnx": lambda: flax_module.nnx(Nnx),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.slow
def test_a_flax_module_races_like_any_other_model(name, tmp_path):
    raced = mllab.race(
        MODELS[name](), problems.examples(60), SPLIT, names=["adam"], learning_rates=[1e-5, 0.03], seeds=[0, 1],
        epochs=20, batch_size=9, workdir=tmp_path, checkpoint_seconds=0,
    )  # fmt: skip
    (entry,) = raced.entries
    assert entry.best == 1
    assert entry.test["accuracy"].min() > 0.7
    resumed = mllab.race(
        MODELS[name](), problems.examples(60), SPLIT, names=["adam"], learning_rates=[1e-5, 0.03], seeds=[0, 1],
        epochs=20, batch_size=9, workdir=tmp_path, checkpoint_seconds=0,
    )  # fmt: skip
    assert problems.equal(entry.result.kept, resumed.entries[0].result.kept)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_dropout_and_updates_of_the_statistics_happen_in_training_only(name):
    model, x = MODELS[name](), problems.examples(20)["inputs"]
    params, extra = model.init(jax.random.key(0))
    published, same = model.apply(params, extra, x, None)
    assert problems.equal(extra, same)
    one, moved = model.apply(params, extra, x, jax.random.key(1))
    two, _ = model.apply(params, extra, x, jax.random.key(2))
    again, _ = model.apply(params, extra, x, jax.random.key(1))
    assert not np.array_equal(one, two)
    assert not np.array_equal(one, published)
    np.testing.assert_array_equal(one, again)
    assert not problems.equal(extra, moved)


def test_outputs_match_flax():
    x, key = problems.examples(20)["inputs"], jax.random.key(4)
    model = MODELS["linen"]()
    params, extra = model.init(key)
    theirs = Linen().apply({"params": params, **extra}, x, train=False)
    np.testing.assert_array_equal(model.apply(params, extra, x, None)[0], theirs)

    module = Nnx(nnx.Rngs(key))
    module.eval()
    model = MODELS["nnx"]()
    np.testing.assert_array_equal(model.apply(*model.init(key), x, None)[0], module(x))


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_every_lane_draws_its_own_params(name):
    model = MODELS[name]()
    params, _ = jax.vmap(model.init)(jax.random.split(jax.random.key(0), 3))
    kernel = next(leaf for leaf in jax.tree.leaves(params) if leaf.ndim == 3)
    assert len(np.unique(np.asarray(kernel)[:, 0, 0])) == 3
