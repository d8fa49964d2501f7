"""The model interface: two pure functions. Also prediction in blocks, saliency and precision of the arithmetic."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from mllab import checks
from mllab.errors import unknown
from mllab.types import Array, Inputs, Key, Outputs, Params


class Model(NamedTuple):
    """A model with params and extra state, such as batch statistics; `plain` makes one without extra state."""

    init: Callable[[Key], tuple[Params, Any]]  # key -> (params, extra)
    # (params, extra, inputs, key) -> (outputs, extra); training mode with a key, evaluation mode with None
    apply: Callable[[Params, Any, Inputs, Key | None], tuple[Outputs, Any]]


M = TypeVar("M", bound=Any)  # a Model, or a tuple with its two functions and others


def plain(init: Callable[[Key], Params], apply: Callable[[Params, Inputs], Outputs]) -> Model:
    """Return the model of an `init`/`apply` pair without extra state or randomness."""
    return Model(lambda key: (init(key), None), lambda params, extra, inputs, key: (apply(params, inputs), extra))


def predict(model: Model, params: Params, extra: Any, inputs: Inputs, block: int = 1024) -> np.ndarray:
    """Return the model's outputs [N, ...] in evaluation mode, on the host, computed `block` rows at a time.

    Raises:
        UserError: no rows, or inputs that the model does not take.
    """
    inputs = checks.check_examples(inputs, names=())
    checks.check_whole(1, block=block)
    count = len(jax.tree.leaves(inputs)[0])
    block = min(block, count)
    outputs: list[np.ndarray] = []
    for end in [*range(block, count, block), count]:  # the last block overlaps the one before: one shape, one program
        part = jax.tree.map(lambda a, end=end: a[end - block : end], inputs)
        outputs.append(np.asarray(_evaluated(model.apply, params, extra, part))[len(outputs) * block - end :])
    return np.concatenate(outputs)


def saliency(model: Model, params: Params, extra: Any, inputs: Inputs, labels: Array) -> Array:
    """Return the gradient of the logit of each row's label [N] by its inputs [N, ...] (Simonyan et al. 2014, eq. 4).

    Raises:
        UserError: inputs that are not finite, or labels that are not one class for each row.
    """
    inputs = checks.check_examples(inputs, names=())
    count = len(jax.tree.leaves(inputs)[0])
    logits, _ = jax.eval_shape(model.apply, params, extra, inputs, None)
    labels = checks.check_labels(labels, count, logits.shape[-1], "labels")
    return _gradient(model.apply, params, extra, inputs, labels)


# Compiled once for each model, with params as arguments rather than constants of the program.
@functools.partial(jax.jit, static_argnums=0)
def _evaluated(apply: Callable, params: Params, extra: Any, inputs: Inputs) -> Outputs:
    return apply(params, extra, inputs, None)[0]


@functools.partial(jax.jit, static_argnums=0)
def _gradient(apply: Callable, params: Params, extra: Any, inputs: Inputs, labels: Array) -> Array:
    def logits(inputs: Inputs) -> Array:
        outputs, _ = apply(params, extra, inputs, None)
        return jnp.take_along_axis(outputs, labels[:, None], axis=1).sum()

    return jax.grad(logits)(inputs)


def parameter_count(model: Model) -> int:
    """Return the number of a model's parameters, without allocating them."""
    params, _ = jax.eval_shape(model.init, jax.random.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(params))


PRECISIONS = ("float32", "bf16", "tf32")


def in_precision(model: M, precision: str) -> M:
    """Return the model, a `Model` or a tuple with its functions, that computes in a precision of PRECISIONS.

    tf32 is a setting of matrix products, `jax_default_matmul_precision`, not of a model, which is returned as it is.

    Raises:
        UserError: another precision.
    """
    if precision not in PRECISIONS:
        raise unknown("precision", str(precision), PRECISIONS)
    return in_bfloat16(model) if precision == "bf16" else model


def in_bfloat16(model: M) -> M:
    """Return the model with bfloat16 arithmetic; params, outputs and extra state stay in float32."""

    def lower(tree: Any) -> Any:
        return _cast(tree, jnp.bfloat16)

    def apply(params, extra, inputs, key):
        outputs, updated = model.apply(lower(params), extra, lower(inputs), key)
        updated = jax.tree.map(
            lambda new, old: new if new.dtype == old.dtype else new.astype(old.dtype), updated, extra
        )
        return _cast(outputs, jnp.float32), updated

    return model._replace(apply=apply)


def _cast(tree: Any, dtype: Any) -> Any:
    """Return a tree whose floating-point arrays have another dtype."""
    return jax.tree.map(lambda a: jnp.asarray(a, dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a, tree)
