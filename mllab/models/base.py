"""What a model is to the rest of the house: two pure functions."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mllab.types import Inputs, Key, Outputs, Params


class Model(NamedTuple):
    """A model that may keep something beside its params; `plain` makes one of an `init`/`apply` pair."""

    init: Callable[[Key], tuple[Params, Any]]  # key -> (params, extra)
    apply: Callable[[Params, Any, Inputs, Key | None], tuple[Outputs, Any]]  # a key when training; None: as published


def plain(init: Callable[[Key], Params], apply: Callable[[Params, Inputs], Outputs]) -> Model:
    """Return the model of a pure pair, with nothing beside its params and nothing random."""
    return Model(lambda key: (init(key), None), lambda params, extra, inputs, key: (apply(params, inputs), extra))


def predict(model: Model, params: Params, extra: Any, inputs: Inputs, block: int = 1024) -> np.ndarray:
    """Return the published model's outputs [N, ...] on the host, computed a block of rows at a time."""

    @jax.jit
    def outputs(inputs: Inputs) -> Outputs:
        return model.apply(params, extra, inputs, None)[0]

    count = len(jax.tree.leaves(inputs)[0])
    block = min(block, count)
    made = []
    for first in range(0, count, block):  # the last block goes back into the one before it: one shape, one program
        first = min(first, count - block)
        part = outputs(jax.tree.map(lambda a: a[first : first + block], inputs))  # noqa: B023 - called at once
        made.append(np.asarray(part)[sum(map(len, made)) - first :])
    return np.concatenate(made)


def in_bfloat16(model: Model) -> Model:
    """Return the model computing in bfloat16; params, outputs and whatever it keeps beside stay in float32."""

    def lower(tree: Any) -> Any:
        return jax.tree.map(lambda a: a.astype(jnp.bfloat16) if jnp.issubdtype(a.dtype, jnp.floating) else a, tree)

    def apply(params, extra, inputs, key):
        outputs, kept = model.apply(lower(params), extra, lower(inputs), key)
        kept = jax.tree.map(lambda new, old: new if new.dtype == old.dtype else new.astype(old.dtype), kept, extra)
        return outputs.astype(jnp.float32), kept

    return Model(model.init, apply)
