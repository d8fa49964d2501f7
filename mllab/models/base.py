"""What a model is to the rest of the house: two pure functions."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mllab.errors import UserError
from mllab.types import Array, Inputs, Key, Outputs, Params


class Model(NamedTuple):
    """A model that may keep something beside its params; `plain` makes one of an `init`/`apply` pair."""

    init: Callable[[Key], tuple[Params, Any]]  # key -> (params, extra)
    apply: Callable[[Params, Any, Inputs, Key | None], tuple[Outputs, Any]]  # a key when training; None: as published


def plain(init: Callable[[Key], Params], apply: Callable[[Params, Inputs], Outputs]) -> Model:
    """Return the model of a pure pair, with nothing beside its params and nothing random."""
    return Model(lambda key: (init(key), None), lambda params, extra, inputs, key: (apply(params, inputs), extra))


def predict(model: Model, params: Params, extra: Any, inputs: Inputs, block: int = 1024) -> np.ndarray:
    """Return the published model's outputs [N, ...] on the host, computed a block of rows at a time.

    Raises:
        UserError: no rows, or inputs that the model does not take.
    """
    count = len(jax.tree.leaves(inputs)[0])
    if count == 0:
        raise UserError("no inputs to predict from: give one row or more")
    block = min(block, count)
    made: list[np.ndarray] = []
    for end in [*range(block, count, block), count]:  # the last block overlaps the one before: one shape, one program
        part = jax.tree.map(lambda a, end=end: a[end - block : end], inputs)
        made.append(np.asarray(_scored(model.apply, params, extra, part))[len(made) * block - end :])
    return np.concatenate(made)


def saliency(model: Model, params: Params, extra: Any, inputs: Inputs, labels: Array) -> Array:
    """Return each row's gradient of its label's [N] logit by its inputs, [N, ...] (Simonyan et al. 2014, eq. 4)."""
    return _gradient(model.apply, params, extra, inputs, labels)


# Under `jit` by themselves, so that asking again compiles nothing, and params are no constants of the program.
@functools.partial(jax.jit, static_argnums=0)
def _scored(apply: Callable, params: Params, extra: Any, inputs: Inputs) -> Outputs:
    return apply(params, extra, inputs, None)[0]


@functools.partial(jax.jit, static_argnums=0)
def _gradient(apply: Callable, params: Params, extra: Any, inputs: Inputs, labels: Array) -> Array:
    def logits(inputs: Inputs) -> Array:
        outputs, _ = apply(params, extra, inputs, None)
        return jnp.take_along_axis(outputs, labels[:, None], axis=1).sum()

    return jax.grad(logits)(inputs)


def in_bfloat16(model: Model) -> Model:
    """Return the model computing in bfloat16; params, outputs and whatever it keeps beside stay in float32."""

    def lower(tree: Any) -> Any:
        return jax.tree.map(lambda a: a.astype(jnp.bfloat16) if jnp.issubdtype(a.dtype, jnp.floating) else a, tree)

    def apply(params, extra, inputs, key):
        outputs, kept = model.apply(lower(params), extra, lower(inputs), key)
        kept = jax.tree.map(lambda new, old: new if new.dtype == old.dtype else new.astype(old.dtype), kept, extra)
        return outputs.astype(jnp.float32), kept

    return Model(model.init, apply)
