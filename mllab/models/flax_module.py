"""Flax modules, linen or NNX, as models.

Other collections than params, such as batch statistics, are the model's `extra`; random draws, such as dropout's, use
the key of the step.
"""

import inspect
from collections.abc import Callable
from typing import Any

import jax

from mllab.models.base import Model
from mllab.types import Inputs, Params

TRAINING = {"train": True, "training": True, "deterministic": False, "use_running_average": False}


def linen(module: Any, sample: Inputs) -> Model:
    """Return the model of a `flax.linen.Module` called on inputs [B, ...].

    Args:
        module: its `__call__(inputs)` may take one of `train`, `training`, `deterministic`, `use_running_average`.
        sample: inputs [B, ...] of the right shape, such as one row.
    """
    accepted = inspect.signature(type(module).__call__).parameters
    switches = {name: value for name, value in TRAINING.items() if name in accepted}

    def init(key):
        variables = module.init(key, sample, **{name: not value for name, value in switches.items()})
        return variables["params"], {name: values for name, values in variables.items() if name != "params"}

    def apply(params, extra, inputs, key):
        variables = {"params": params, **extra}
        if key is None:
            return module.apply(variables, inputs, **{name: not value for name, value in switches.items()}), extra
        return module.apply(variables, inputs, mutable=list(extra), rngs=key, **switches)

    return Model(init, apply)


def nnx(make: Callable[[Any], Any]) -> Model:
    """Return the model of a `flax.nnx.Module` called on inputs [B, ...].

    Args:
        make: `nnx.Rngs -> module`, called for each `init`, so that every lane draws its own params. Dropout uses the
            stream `default` or `dropout`.
    """
    from flax import nnx as flax_nnx  # deferred: it takes longer to import than all of mllab

    graph = flax_nnx.graphdef(flax_nnx.eval_shape(lambda: make(flax_nnx.Rngs(0))))

    def parts(module: Any) -> tuple[Params, Any]:
        return flax_nnx.state(module, flax_nnx.Param), flax_nnx.state(module, flax_nnx.Not(flax_nnx.Param))

    def init(key):
        return parts(make(flax_nnx.Rngs(key)))

    def apply(params, extra, inputs, key):
        module = flax_nnx.merge(graph, params, extra, copy=True)  # NNX writes in place
        if key is None:
            module.eval()
            return module(inputs), extra
        module.train()
        flax_nnx.reseed(module, default=jax.random.fold_in(key, 0), dropout=jax.random.fold_in(key, 1))
        outputs = module(inputs)
        return outputs, parts(module)[1]

    return Model(init, apply)
