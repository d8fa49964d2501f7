"""What a model is to the rest of the house: two pure functions."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mllab.types import Inputs, Key, Outputs, Params


class Model(NamedTuple):
    """A model that may keep something beside its params; `plain` makes one of an `init`/`apply` pair."""

    init: Callable[[Key], tuple[Params, Any]]  # key -> (params, extra)
    apply: Callable[[Params, Any, Inputs, Key | None], tuple[Outputs, Any]]  # a key when training; None: as published


def plain(init: Callable[[Key], Params], apply: Callable[[Params, Inputs], Outputs]) -> Model:
    """Return the model of a pure pair, with nothing beside its params and nothing random."""
    return Model(lambda key: (init(key), None), lambda params, extra, inputs, key: (apply(params, inputs), extra))


def in_bfloat16(model: Model) -> Model:
    """Return the model computing in bfloat16; params, outputs and whatever it keeps beside stay in float32."""

    def lower(tree: Any) -> Any:
        return jax.tree.map(lambda a: a.astype(jnp.bfloat16) if jnp.issubdtype(a.dtype, jnp.floating) else a, tree)

    def apply(params, extra, inputs, key):
        outputs, kept = model.apply(lower(params), extra, lower(inputs), key)
        kept = jax.tree.map(lambda new, old: new if new.dtype == old.dtype else new.astype(old.dtype), kept, extra)
        return outputs.astype(jnp.float32), kept

    return Model(model.init, apply)
